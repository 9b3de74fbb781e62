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
