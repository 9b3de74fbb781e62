// Histogram and precision-recall curves. Colours come from page.css, so that the drawings follow
// light and dark.

const WIDTH = 460, HEIGHT = 300;
const LEFT = 52, RIGHT = 448, TOP = 10, BASE = 256;  // edges of the plot within

const drawing = (title) =>
  draw("svg", {viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": title});

// A function from [low, high] to pixels.
const scale = (low, high, from, to) =>
  (value) => from + (value - low) / ((high - low) || 1) * (to - from);

// Round numbers in [low, high], about `count` of them.
function ticks(low, high, count) {
  const rough = (high - low) / count || 1;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((n) => n * power).find((size) => size >= rough);
  const found = [];
  for (let n = Math.ceil(low / step); n * step <= high + step / 1e6; n++) found.push(n * step);
  return found;
}

// Ticks are pairs of a place in pixels and a text.
function axes(svg, xTicks, yTicks, xName, yName) {
  for (const [y, text] of yTicks) {
    svg.append(draw("line", {class: "grid", x1: LEFT, x2: RIGHT, y1: y, y2: y}),
      draw("text", {x: LEFT - 6, y: y + 4, "text-anchor": "end"}, text));
  }
  for (const [x, text] of xTicks) {
    svg.append(draw("text", {x, y: BASE + 17, "text-anchor": "middle"}, text));
  }
  const name = {class: "name", "text-anchor": "middle"};
  const middle = (TOP + BASE) / 2;
  svg.append(draw("line", {class: "axis", x1: LEFT, x2: RIGHT, y1: BASE, y2: BASE}),
    draw("text", {...name, x: (LEFT + RIGHT) / 2, y: HEIGHT - 6}, xName),
    draw("text", {...name, x: 13, y: middle, transform: `rotate(-90 13 ${middle})`}, yName));
}

// Entries are pairs of a class in page.css and a text.
function legend(entries) {
  const key = (style) => style.startsWith("bar") ?
    draw("rect", {class: style, width: 20, height: 10}) :
    draw("line", {class: style, x1: 0, x2: 20, y1: 5, y2: 5});
  return make("p", {class: "legend"}, ...entries.map(([style, text]) => make("span", {},
    draw("svg", {viewBox: "0 0 20 10", class: "key", "aria-hidden": "true"}, key(style)), text)));
}

// Counts are drawn by their logarithm, from half a row on, so that a single row can be seen.
function drawHistogram() {
  const {edges, counts, names, logarithmic} = data.histogram;
  const most = Math.max(...counts.flat(), 1);
  const x = scale(edges[0], edges.at(-1), LEFT, RIGHT);
  const log = scale(Math.log10(0.5), Math.log10(1.3 * most), BASE, TOP);
  const y = (count) => log(Math.log10(count));
  const svg = drawing(`Histogram of the score ${data.score}`);

  let places = ticks(edges[0], edges.at(-1), 5);
  const decades = places.filter(Number.isInteger);
  if (logarithmic && decades.length > 1) places = decades;
  const powers = most < 20 ? [1, 2, 5, 10] : [1, 10, 100, 1e3, 1e4, 1e5, 1e6, 1e7];
  axes(svg, places.map((value) => [x(value), short(logarithmic ? 10 ** value : value)]),
    powers.filter((count) => count <= most).map((count) => [y(count), whole(count)]),
    `${data.score} score, higher = more suspect`, "rows");

  const styles = names.length === 1 ? ["bar-all"] : ["bar-negative", "bar-positive"];
  counts.forEach((bins, series) => bins.forEach((count, bin) => {
    if (!count) return;
    const width = Math.max(x(edges[bin + 1]) - x(edges[bin]) - 0.6, 0.8);
    svg.append(draw("rect", {class: styles[series], x: x(edges[bin]), y: y(count), width,
      height: BASE - y(count)}, draw("title", {}, `${names[series]}: ${whole(count)}`)));
  }));
  byId("histogram-title").append("Histogram of ", data.score);
  byId("histogram").append(svg);
  if (names.length > 1) {
    byId("histogram").append(legend(names.map((name, series) => [styles[series], name])));
  }
}

function drawCurves() {
  byId("curves-panel").hidden = !data.curves.length;
  if (!data.curves.length) return;
  const x = scale(0, 1, LEFT, RIGHT), y = scale(0, 1, BASE, TOP);
  const svg = drawing("Precision against recall");
  const marks = (place) => [0, 0.2, 0.4, 0.6, 0.8, 1].map((value) =>
    [place(value), value.toFixed(1)]);
  axes(svg, marks(x), marks(y), "recall: share of all that is found", "precision");

  // By which rows are listed, and what it is to be compared with; drawn last, over the others.
  const styles = {auto: "curve-auto", loss: "curve-loss", MSP: "curve-loss",
    [data.score]: "curve-listed"};
  const ordered = [...data.curves].sort((a, b) => (a.name in styles) - (b.name in styles));
  for (const {name, recall, precision} of ordered) {
    const points = recall.map((value, n) =>
      `${x(value).toFixed(1)},${y(precision[n]).toFixed(1)}`);
    svg.append(draw("polyline", {class: styles[name] ?? "curve-other", points: points.join(" "),
      "data-score": name}, draw("title", {}, name)));
  }
  const named = ordered.map(({name}) => name).filter((name) => name in styles);
  byId("curves").append(svg, legend([...named.map((name) => [styles[name], name]),
    ...(named.length < ordered.length ? [["curve-other", "the other scores"]] : [])]));
}

// The curve of a score stands out, or none.
function light(name) {
  for (const line of document.querySelectorAll("polyline")) {
    line.classList.toggle("lit", line.dataset.score === name);
  }
}
