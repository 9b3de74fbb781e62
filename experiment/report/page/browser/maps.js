// Relation maps: every other row by the mean and variance of its relation to a suspect over the
// epochs. The pointer, or the arrow keys, choose a point; what it is stands beside.

let map = null;  // the one that is drawn
let circles = [];  // of its points, the strongest first
let chosen = 0;  // its place in them

const hasMap = (position) => position < (data.maps?.of.length ?? 0);

function fillMaps() {
  byId("maps").hidden = !hasMap(0);
  if (!hasMap(0)) return;
  const {epochs, of} = data.maps;
  byId("maps-legend").textContent = `The relation of a suspect to other rows over ` +
    `${epochs.length} epochs (${epochs.join(", ")}). Far up: alike and of the same label all ` +
    "along. Far down: alike, but of another label. Far right: it changed while the network was " +
    "trained. Colour: the relation at the last epoch.";
  byId("maps-suspect").append(...of.map((_, position) =>
    make("option", {value: position}, `${position + 1}: ${rowName(position)}`)));
  byId("maps-suspect").addEventListener("change", (event) => drawMap(Number(event.target.value)));
  drawMap(0);
}

// On a suspect's row: leads to its map.
function mapButton(position) {
  const button = make("button", {type: "button", class: "to-map"}, "Relation map");
  button.addEventListener("click", () => {
    byId("maps-suspect").value = position;
    drawMap(position);
    byId("maps").scrollIntoView();
  });
  return button;
}

function drawMap(position) {
  map = data.maps.of[position];
  const svg = drawing(`Relation map of ${rowName(position)}`);
  const widest = Math.max(...map.variance, 1e-6) * 1.04;
  const low = Math.min(...map.mean, 0), high = Math.max(...map.mean, 0);
  const margin = 0.04 * (high - low || 1);
  const x = scale(0, widest, LEFT, RIGHT), y = scale(low - margin, high + margin, BASE, TOP);
  axes(svg, ticks(0, widest, 5).map((value) => [x(value), short(value)]),
    ticks(low - margin, high + margin, 5).map((value) => [y(value), short(value)]),
    "variance over the epochs", "mean relation over the epochs");
  svg.append(draw("line", {class: "axis", x1: LEFT, x2: RIGHT, y1: y(0), y2: y(0)}));
  const span = Math.max(...map.last.map(Math.abs), 1e-6);
  circles = map.mean.map((mean, n) => colour(draw("circle", {
    cx: x(map.variance[n]).toFixed(1), cy: y(mean).toFixed(1), r: 3.2}), map.last[n] / span));
  svg.append(...circles.toReversed());  // the strongest on top
  byId("map").replaceChildren(svg, mapLegend(span));
  const all = circles.length + map.left_out;
  byId("map-suspect").replaceChildren(card(shownAt(position)?.media ?? null,
    rowName(position), rows.given[position], rows.positive?.[position],
    map.left_out ? `${whole(circles.length)} of ${whole(all)} rows, the strongest` : ""));
  chosen = 0;
  if (!circles.length) return;  // a single row
  listenTo(svg);
  choosePoint(0);
}

function listenTo(svg) {
  svg.setAttribute("tabindex", "0");
  for (const happening of ["pointermove", "pointerdown"]) {
    svg.addEventListener(happening, (event) => choosePoint(nearest(svg, event)));
  }
  svg.addEventListener("keydown", (event) => {
    const step = {ArrowRight: 1, ArrowLeft: -1}[event.key];
    if (!step) return;
    choosePoint((chosen + step + circles.length) % circles.length);
    event.preventDefault();
  });
}

// Between -1 and 1: from the colour of what is bad through grey to that of what is good.
function colour(circle, share) {
  const end = share < 0 ? "--bad" : "--good";
  const much = Math.round(100 * Math.abs(share));
  circle.style.fill = `color-mix(in oklab, var(${end}) ${much}%, var(--neutral))`;
  return circle;
}

function mapLegend(span) {
  const key = (share) => draw("svg", {viewBox: "0 0 20 10", class: "key", "aria-hidden": "true"},
    colour(draw("circle", {cx: 10, cy: 5, r: 5}), share));
  return make("p", {class: "legend"}, ...[-1, -0.5, 0, 0.5, 1].map((share) =>
    make("span", {}, key(share), short(share * span))));
}

// The point nearest to the pointer, in the pixels of the drawing.
function nearest(svg, event) {
  const toDrawing = svg.getScreenCTM().inverse();
  const at = new DOMPoint(event.clientX, event.clientY).matrixTransform(toDrawing);
  let best = 0, least = Infinity;
  circles.forEach((circle, n) => {
    const away = (circle.cx.baseVal.value - at.x) ** 2 + (circle.cy.baseVal.value - at.y) ** 2;
    if (away < least) [best, least] = [n, away];
  });
  return best;
}

function choosePoint(n) {
  circles[chosen].classList.remove("chosen");
  chosen = n;
  circles[n].classList.add("chosen");
  const name = map.name?.[n] || `row ${map.others[n]}`;
  byId("map-point").replaceChildren(card(map.media[n], name, map.label[n], map.positive?.[n],
    `mean ${short(map.mean[n])}, variance ${short(map.variance[n])}, last ${short(map.last[n])}`));
}

function card(place, name, label, positive, figures) {
  const media = place === null ? null : data.media[place];
  return make("div", {class: "card"}, media && !media.sound ? large(media, name) : null,
    make("div", {class: "title"}, titled(name)),
    make("div", {}, className(label), positive === undefined ? null :
      make("span", {class: positive ? "truth positive" : "truth"}, data.words[positive])),
    make("div", {class: "dim"}, figures));
}
