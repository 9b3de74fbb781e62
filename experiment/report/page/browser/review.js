// The review sheet: decisions by row number, remembered by the browser for these data, exported
// as CSV and read back.

const STORE = `review ${data.key}`;
// Row number in the data -> {decision, label, typed}; label: the new class, null where what was
// typed is none.
const decisions = new Map();
const unlisted = [];  // decisions on rows that this page does not list, kept for one that does
const positions = new Map(rows.index.map((index, position) => [index, position]));

// A browser may refuse to remember anything for a file; then the page says so.
function load() {
  try {
    for (const [index, decision] of JSON.parse(localStorage.getItem(STORE) ?? "[]")) {
      if (positions.has(index)) decisions.set(index, decision);
      else unlisted.push([index, decision]);
    }
  } catch { /* nothing remembered */ }
}

function save() {
  let kept = true;
  try {
    localStorage.setItem(STORE, JSON.stringify([...decisions, ...unlisted]));
  } catch {
    kept = false;
  }
  byId("storage").textContent = kept ? "Meanwhile this browser remembers them for these data." :
    "This browser remembers nothing for this page: export before you close it.";
}

const decisionAt = (position) => decisions.get(rows.index[position]) ?? null;

// Relabelling needs a new label.
const isComplete = ({decision, label}) => decision !== "relabel" || label !== null;

// decision null: none any more.
function decide(position, decision, label = null, typed = "") {
  if (decision) decisions.set(rows.index[position], {decision, label, typed});
  else decisions.delete(rows.index[position]);
  save();
  tell();
}

function tell() {
  const incomplete = "without a new label (not exported)";
  const count = {keep: 0, relabel: 0, drop: 0, [incomplete]: 0};
  for (const one of decisions.values()) count[isComplete(one) ? one.decision : incomplete] += 1;
  const made = Object.entries(count).filter(([, n]) => n).map(([word, n]) => `${whole(n)} ${word}`);
  byId("progress").textContent = made.join(", ") || "nothing decided yet";
  byId("export").disabled = decisions.size === count[incomplete];
}

// What a spreadsheet takes for the beginning of a formula, as in experiment/command/escaping.py.
const FORMULA = new RegExp("^[\\s\\x00-\\x1f\\x7f\\u200b-\\u200f\\u202a-\\u202e\\u2060-\\u2069]*" +
  "[=+\\-@\\uff1d\\uff0b\\uff0d\\uff20]");

// As RFC 4180 has it; ' stands before what would be computed.
function field(value) {
  let text = String(value ?? "");
  if (FORMULA.test(text) && Number.isNaN(Number(text))) text = `'${text}`;
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

// Labels as numbers, as in scores.csv, and by their names.
function sheet() {
  const heads = ["index", "id", "suspect_rank", "given_label", "given_name", "decision", "new_label",
    "new_name"];
  const complete = [...decisions].filter(([, one]) => isComplete(one));
  const lines = complete.map(([index, {decision, label}]) => {
    const position = positions.get(index);
    const given = labelled ? rows.given[position] : null;
    const id = rows.cut?.[position] ? "" : rows.name?.[position] ?? index;  // whole, or none
    return [index, id, position + 1,
      given, data.classes[given], decision, label, data.classes[label]];
  }).sort((a, b) => a[2] - b[2]);
  for (const [index, id, given, decision, label] of data.reviewed) {  // before this report
    lines.push([index, id, "", given, "", decision, label, ""]);
  }
  return [heads, ...lines].map((line) => `${line.map(field).join(",")}\r\n`).join("");
}

function exportSheet() {
  const address = URL.createObjectURL(new Blob([sheet()], {type: "text/csv"}));
  make("a", {href: address, download: "decisions.csv"}).click();
  setTimeout(() => URL.revokeObjectURL(address), 10000);  // once the browser has read it
}

// A decisions.csv, as review.js exports it or written by hand, read back into the page.

// Records of a CSV file as RFC 4180 has it; blank lines are none.
function recordsOf(text) {
  const records = [[]];
  let cell = "", quoted = false;
  const end = () => { records.at(-1).push(cell); cell = ""; };
  for (let at = 0; at < text.length; at++) {
    const sign = text[at];
    if (quoted) {
      if (sign !== '"') cell += sign;
      else if (text[at + 1] === '"') cell += text[++at];
      else quoted = false;
    } else if (sign === '"' && cell === "") quoted = true;
    else if (sign === ",") end();
    else if (sign === "\n") {
      end();
      records.push([]);
    } else if (sign !== "\r") cell += sign;
  }
  end();
  return records.filter((record) => record.length > 1 || record[0].trim() !== "");
}

// A ' may stand before what a spreadsheet would compute.
const isWritten = (cell, value) => cell === String(value) || cell === `'${value}`;

function classWritten(name, number) {
  const found = data.classes.findIndex((known) => isWritten(name || number, known));
  if (found >= 0) return found;
  return /^\d+$/.test(number) && Number(number) < data.classes.length ? Number(number) : null;
}

// The decision of one line, or null where it is none, or not of this row any more.
function decisionOf(cell) {
  const decision = cell("decision").trim().toLowerCase(), index = Number(cell("index"));
  const word = cell("index").trim(), position = positions.get(index);
  if (!/^\d+$/.test(word) || !["keep", "relabel", "drop"].includes(decision)) return null;
  const label = decision === "relabel" ? classWritten(cell("new_name"), cell("new_label")) : null;
  if (decision === "relabel" && (!labelled || label === null)) return null;
  if (position !== undefined) {
    const name = cell("id") || cell("name");
    const known = rows.cut?.[position] ? null : rows.name?.[position];
    if (name && known && !isWritten(name, known)) return null;
    const given = classWritten(cell("given_name"), cell("given_label"));
    if (labelled && given !== null && given !== rows.given[position]) return null;
  }
  return [index, {decision, label, typed: ""}];
}

async function loadSheet({target}) {
  const [file] = target.files;
  if (!file) return;
  const [heads, ...lines] = recordsOf((await file.text()).replace(/^\ufeff/, ""));
  target.value = "";  // the same file can be chosen again
  const names = (heads ?? []).map((name) => name.trim());
  const missing = ["index", "decision", "new_label"].filter((name) => !names.includes(name));
  if (missing.length) {
    byId("loaded").textContent = `${file.name}: no column ${missing.join(" and ")}`;
    return;
  }
  let loaded = 0;
  for (const line of lines) {
    const found = decisionOf((name) => line[names.indexOf(name)] ?? "");
    if (!found) continue;
    loaded += 1;
    if (positions.has(found[0])) decisions.set(...found);
    else unlisted.push(found);
  }
  save();
  tell();
  const refused = lines.length - loaded;
  byId("loaded").textContent = `${whole(loaded)} loaded` +
    (refused ? `, ${whole(refused)} refused: not of these rows` : "");
  for (const item of byId("rows").children) mark(item);
}
