// The metrics, and which labels get mixed up.

function fillMetrics() {
  byId("metrics-panel").hidden = !data.metrics.length;
  const grouped = new Set(data.metrics.map((row) => row.group)).size > 2;  // else "all" says it all
  const shown = data.metrics.filter((row) => grouped || row.group === "all");
  const figures = ["AUROC", "AP", "TNR95", "FPR95"];
  const head = (text, style = null) => make("th", {scope: "col", class: style}, text);
  const line = (row) => {
    const cells = figures.map((figure) => row[figure.toLowerCase()]).map((value) =>
      make("td", {class: "number"}, value === null ? "–" : value.toFixed(3)));
    const element = make("tr", {class: row.name === data.score && "listed"},
      grouped ? make("td", {}, named(row.group)) : null, make("th", {scope: "row"}, row.name),
      ...cells);
    element.addEventListener("mouseenter", () => light(row.name));
    element.addEventListener("mouseleave", () => light(null));
    return element;
  };
  byId("metrics").append(
    make("thead", {}, make("tr", {}, grouped ? head("set") : null, head("score"),
      ...figures.map((figure) => head(figure, "number")))),
    make("tbody", {}, ...shown.map(line)));
  const [negative, positive] = data.words;
  byId("metrics-legend").textContent = "AP: average precision. " +
    `TNR95: ${negative} rows passed where 95 % of the ${positive} ones are found (higher is ` +
    `better). FPR95: ${positive} rows passed where 95 % of the ${negative} ones pass (lower is ` +
    "better).";
}

// Pairs {given, guess, count} of different labels, the most frequent first.
function mixedUp() {
  const counts = new Map();
  rows.given.forEach((given, n) => {
    if (given === guesses[n]) return;
    const pair = given * data.classes.length + guesses[n];
    counts.set(pair, (counts.get(pair) ?? 0) + 1);
  });
  return [...counts].sort((a, b) => b[1] - a[1]).map(([pair, count]) =>
    ({given: Math.floor(pair / data.classes.length), guess: pair % data.classes.length, count}));
}

// filterBy(given, guess) is called for a pair that is clicked.
function fillConfusion(filterBy) {
  byId("confusion-panel").hidden = !labelled;
  if (!labelled) return;
  const pairs = mixedUp();
  const sum = pairs.reduce((total, pair) => total + pair.count, 0);
  byId("confusion-legend").textContent = sum ?
    `${whole(sum)} rows whose ${guessWord} label is another than the given one. A pair shows its ` +
    "rows below." : `Every ${guessWord} label is the given one.`;
  const button = ({given, guess, count}, ...children) => {
    const element = make("button", {type: "button", title: `given ${data.classes[given]}, ` +
      `${guessWord} ${data.classes[guess]}: ${whole(count)}`}, ...children);
    element.addEventListener("click", () => filterBy(given, guess));
    return element;
  };
  byId("confusion").append(make("ol", {class: "pairs"}, ...pairs.slice(0, 10).map((pair) => {
    const length = make("span", {class: "length"});
    length.style.width = `${100 * pair.count / pairs[0].count}%`;
    return make("li", {}, button(pair,
      make("span", {class: "pair"}, className(pair.given), " → ", className(pair.guess)), length,
      make("span", {class: "number"}, whole(pair.count))));
  })));
  if (sum && data.classes.length <= 20) byId("confusion").append(matrix(pairs, button));
}

// Few classes: all pairs at once, a row for each given label.
function matrix(pairs, button) {
  const found = new Map(pairs.map((pair) => [`${pair.given} ${pair.guess}`, pair]));
  const head = (scope, name) => make("th", {scope, title: name}, named(name));
  const field = (given, guess) => {
    const pair = found.get(`${given} ${guess}`);
    if (!pair) return make("td", {class: given === guess && "same"});
    const element = make("td", {}, button(pair, whole(pair.count)));
    element.style.setProperty("--share", `${Math.round(12 + 68 * pair.count / pairs[0].count)}%`);
    return element;
  };
  return make("div", {class: "scroll"}, make("table", {class: "matrix"},
    make("thead", {}, make("tr", {}, make("th", {}, "given"),
      ...data.classes.map((name) => head("col", name)))),
    make("tbody", {}, ...data.classes.map((name, given) => make("tr", {}, head("row", name),
      ...data.classes.map((_, guess) => field(given, guess)))))));
}
