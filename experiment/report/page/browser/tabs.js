// Tabs: every row, or those of one finding, copies side by side; and rows that were left out.

const {bits, words, tabs, left_out: leftOut, ...findings} = data.findings;
let tab = null;  // one of `tabs`, "left out", or null for every row

const has = (position, bit) => bits !== null && (bits[position] & bit) > 0;
const groupOf = (position) => findings.group?.[position] >= 0 ? findings.group[position] : null;
const shownAt = (position) => data.suspects[position] ?? data.also[position];

function fillTabs() {
  const known = [[null, "Every row", data.total], ...tabs.filter(({count}) => count)
    .map((one) => [one, one.name, one.count]),
  ...(leftOut.length ? [["left out", "Left out", leftOut.length]] : [])];
  byId("tabs").hidden = known.length === 1;
  byId("tabs").append(...known.map(([one, name, count]) => {
    const button = make("button", {type: "button", "aria-current": String(one === tab)},
      name, " ", make("span", {class: "number"}, whole(count)));
    button.addEventListener("click", () => openTab(one, button));
    return button;
  }));
  byId("left-out").append(...leftOut.map(([index, name, reason]) => make("li", {},
    make("span", {class: "dim"}, `row ${index} `), named(name), ": ", named(reason))));
}

function openTab(one, button) {
  tab = one;
  for (const other of byId("tabs").children) {
    other.setAttribute("aria-current", String(other === button));
  }
  const listed = tab !== "left out";
  byId("left-out").hidden = listed;
  for (const part of document.querySelectorAll(".of-list")) part.hidden = !listed;
  byId("rows").classList.toggle("grouped", tab?.sort === "copies");
  byId("sort").value = tab?.sort ?? "rank";
  applyFilters();
}

// What is wrong with a row, and what to do about it; null where nothing is.
function verdict(position) {
  const found = Object.entries(words).filter(([bit]) => has(position, Number(bit)))
    .map(([, word]) => word);
  if (has(position, findings.copy)) found.push(`copy of row ${findings.copy_of[position]}`);
  else if (groupOf(position) !== null) found.push("has a copy");
  if (!found.length) return null;
  const action = has(position, findings.drop) ? "drop" : has(position, findings.relabel) ?
    "relabel" : "keep";
  return make("div", {class: "verdict"}, ...found.map((word) => make("span", {}, word)),
    make("span", {class: "dim"}, `suggested: ${action}`));
}
