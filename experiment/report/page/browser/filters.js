// Which rows are listed, and in which order.

const total = rows.index.length;
let order = new Uint32Array(0);  // positions that pass the filters, sorted
let lowerNames = null;  // for the search, made when it is first used
let nameOrder = null;  // place of each row in the order of the names, likewise
let outlying = null;  // and in that of falling outlier scores

function fillFilters() {
  const option = (value, text) => make("option", {value}, text);
  // The classes that occur among the labels, with their numbers of rows.
  const classesOf = (labels) => {
    const found = new Uint32Array(data.classes.length);
    for (const label of labels) found[label] += 1;
    return data.classes.map((name, label) => option(label, `${name} (${whole(found[label])})`))
      .filter((_, label) => found[label]);
  };
  byId("given").closest("label").hidden = !labelled;
  if (labelled) byId("given").append(option("", "any"), ...classesOf(rows.given));
  byId("guess-name").textContent = guessWord[0].toUpperCase() + guessWord.slice(1);
  byId("guess").append(option("", "any"),
    ...(bits ? [option("issue", "estimated wrong")] : []),
    ...(labelled ? [option("other", "other than given")] : []), ...classesOf(guesses));
  byId("sort").append(option("rank", "most suspect"), option("reverse", "least suspect"),
    ...(rows.auto ? [option("auto", "most suspect by auto")] : []),
    ...(findings.outlier ? [option("outlier", "most outlying")] : []),
    ...(findings.copies ? [option("copies", "groups of copies")] : []),
    option("index", "row number"), ...(rows.name ? [option("name", "name")] : []),
    ...(labelled ? [option("given", "given label")] : []), option("guess", `${guessWord} label`));
  byId("classes").append(...data.classes.map((name) => make("option", {value: name})));
}

// The positions that pass all filters, in the chosen order.
function filtered() {
  const given = byId("given").value, guess = byId("guess").value;
  const decided = byId("decided").value, words = byId("search").value.trim().toLowerCase();
  // Only those that are asked for: there may be 100,000 rows.
  const tests = tab?.bit ? [(n) => has(n, tab.bit)] : [];
  if (given) tests.push((n) => rows.given[n] === Number(given));
  if (guess === "other") tests.push((n) => guesses[n] !== rows.given[n]);
  else if (guess === "issue") tests.push((n) => has(n, tabs[0].bit));
  else if (guess) tests.push((n) => guesses[n] === Number(guess));
  if (decided) tests.push((n) => (decisionAt(n)?.decision ?? "open") === decided);
  if (words) {
    lowerNames ??= rows.index.map((_, n) => rowName(n).toLowerCase());
    tests.push((n) => lowerNames[n].includes(words));
  }
  const found = [];
  for (let n = 0; n < total; n++) if (tests.every((passes) => passes(n))) found.push(n);
  const key = SORT_KEYS[byId("sort").value]();
  // Key and rank in one number, since numbers are sorted fastest.
  return key ? Float64Array.from(found, (n) => key(n) * total + n).sort().map((k) => k % total) :
    Uint32Array.from(found);
}

// Each gives a function from a position to a number, or null where positions are in order already.
const SORT_KEYS = {
  rank: () => null,
  reverse: () => (n) => total - 1 - n,
  auto: () => (n) => rows.auto[n],
  outlier: () => (n) => outlierOrder()[n],
  copies: () => (n) => findings.copies[n],
  index: () => (n) => rows.index[n],
  given: () => (n) => rows.given[n],
  guess: () => (n) => guesses[n],
  name: () => {
    if (!nameOrder) {
      nameOrder = new Uint32Array(total);
      const names = rows.name;
      [...names.keys()].sort((a, b) => names[a] < names[b] ? -1 : Number(names[a] > names[b]))
        .forEach((position, place) => { nameOrder[position] = place; });
    }
    return (n) => nameOrder[n];
  },
};

function outlierOrder() {
  if (!outlying) {
    outlying = new Uint32Array(total);
    const scores = findings.outlier;
    [...scores.keys()].sort((a, b) => scores[b] - scores[a])
      .forEach((position, place) => { outlying[position] = place; });
  }
  return outlying;
}
