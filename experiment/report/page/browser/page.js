// The page itself: summary, pages of rows, keys, theme.

const PAGE = 50;  // rows at a time
let page = 0;

function fillSummary() {
  const entry = ([name, value]) =>
    make("div", {}, make("dt", {}, name), make("dd", {}, named(value)));
  document.title = `${data.title}: ${data.source}`;
  byId("title").textContent = data.title;
  byId("source").textContent = data.source;
  byId("facts").append(...data.facts.map(entry));
  byId("summary").append(...data.summary.map((text) => make("p", {dir: "auto"}, text)));
  byId("notes").append(...data.notes.map((text) => make("li", {dir: "auto"}, text)));
  byId("notes").hidden = !data.notes.length;
  byId("settings").querySelector("dl").append(...Object.entries(data.settings).map(entry));
  byId("suspects-title").textContent = `Suspects by ${data.score}`;
  byId("suspects-legend").textContent = scope();
  for (const part of document.querySelectorAll(".labelled")) part.hidden = !labelled;
}

// What the list holds, and how much of it is shown in full.
function scope() {
  const shown = data.suspects.length;
  const kind = data.media.map((entry) => Object.keys(entry)[0]).find((word) => word !== "problem");
  const media = {image: "picture and ", text: "text and ", sound: "sound and "}[kind] ?? "";
  return [
    ...(total < data.total ? [`The ${whole(total)} most suspect of ${whole(data.total)} rows; ` +
      "scores.csv has them all."] : []),
    ...(shown < total ? [`The first ${whole(shown)} come with ${media}evidence; the option ` +
      "--show K changes how many."] : []),
    ...(shown ? [data.evidence] : []),
  ].join(" ");
}

const lastPage = () => Math.max(0, Math.ceil(order.length / PAGE) - 1);

function showPage(number) {
  stop();
  page = Math.min(Math.max(number, 0), lastPage());
  const positionsShown = [...order.subarray(page * PAGE, (page + 1) * PAGE)];
  byId("rows").replaceChildren(...positionsShown.map((position) => mark(buildRow(position))));
  byId("rows").firstElementChild?.setAttribute("tabindex", "0");
  for (const item of byId("rows").children) {  // each group of copies begins a line of cards
    const {group} = item.dataset, before = item.previousElementSibling?.dataset.group;
    item.classList.toggle("first-copy", group !== undefined && group !== before);
  }
  byId("nothing").hidden = order.length > 0;
  byId("page").value = page + 1;
  byId("pages").textContent = `of ${whole(lastPage() + 1)}`;
  byId("previous").disabled = page === 0;
  byId("next").disabled = page === lastPage();
  byId("count").textContent = order.length === total ? `${whole(total)} rows` :
    `${whole(order.length)} of ${whole(total)} rows`;
}

function turn(step) {
  if (page + step < 0 || page + step > lastPage()) return;
  showPage(page + step);
  byId("rows").scrollIntoView();
}

function clearFilters() {
  for (const id of ["given", "guess", "decided", "search"]) byId(id).value = "";
}

function applyFilters() {
  order = filtered();
  showPage(0);
}

// Show on a row what was decided about it.
function mark(item) {
  const decided = decisionAt(Number(item.dataset.position));
  for (const button of item.querySelectorAll("[data-decision]")) {
    const pressed = button.dataset.decision === decided?.decision;
    button.setAttribute("aria-pressed", String(pressed));
  }
  item.dataset.decided = decided?.decision ?? "";
  const field = item.querySelector(".new-label");
  if (field) {
    const input = field.querySelector("input");
    field.hidden = decided?.decision !== "relabel";
    input.value = data.classes[decided?.label] ?? decided?.typed ?? "";
    input.setAttribute("aria-invalid", String(decided !== null && !isComplete(decided)));
  }
  return item;
}

// What is decided already stays as it is, with its label.
function choose(item, decision) {
  const position = Number(item.dataset.position);
  if (decisionAt(position)?.decision !== decision) {
    decide(position, decision, decision === "relabel" ? proposal(position) : null);
  }
  mark(item);
}

function takeBack(item) {
  decide(Number(item.dataset.position), null);
  mark(item);
}

// A new label counts when it is the name of a class; until then the field says so.
function relabel(input) {
  const item = input.closest(".row"), typed = input.value.trim();
  const label = data.classes.indexOf(typed);
  decide(Number(item.dataset.position), "relabel", label < 0 ? null : label, typed);
  mark(item);
}

function focusRow(item) {
  if (!item) return;
  byId("rows").querySelector('[tabindex="0"]')?.setAttribute("tabindex", "-1");
  item.setAttribute("tabindex", "0");
  item.focus({preventScroll: true});
  item.scrollIntoView({block: "nearest"});
}

function chooseAndGoOn(item, decision) {
  choose(item, decision);
  if (isComplete(decisionAt(Number(item.dataset.position)))) focusNext(item);
  else item.querySelector(".new-label input").focus();
}

function focusNext(item) {
  if (item.nextElementSibling) focusRow(item.nextElementSibling);
  else if (page < lastPage()) turnAndStay(1);
}

function turnAndStay(step) {
  turn(step);
  focusRow(byId("rows").firstElementChild);
}

function playOrPause(item) {
  const sound = item.querySelector("audio");
  if (!sound) return;
  if (sound.paused) play(sound);
  else sound.pause();
}

const KEYS = {
  ArrowDown: focusNext,
  ArrowUp: (item) => focusRow(item.previousElementSibling),
  ArrowRight: () => turnAndStay(1),
  ArrowLeft: () => turnAndStay(-1),
  k: (item) => chooseAndGoOn(item, "keep"),
  r: (item) => labelled && chooseAndGoOn(item, "relabel"),
  d: (item) => chooseAndGoOn(item, "drop"),
  u: takeBack,
  p: playOrPause,
};

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const item = event.target.closest(".row");
  if (event.target.matches("input, select, audio")) {  // they have keys of their own
    if (event.key === "Escape") focusRow(item);
    return;
  }
  const action = item && KEYS[event.key.length === 1 ? event.key.toLowerCase() : event.key];
  if (event.key === "/") byId("search").focus();
  else if (action) action(item);
  else return;
  event.preventDefault();
}

// Light, dark, or as the system has it; of every report, as far as the browser remembers.
const THEMES = ["system", "light", "dark"];

function nextTheme() {
  const theme = THEMES[(THEMES.indexOf(document.documentElement.dataset.theme) + 1) % 3];
  setTheme(theme);
  try {
    localStorage.setItem("report theme", theme);
  } catch { /* not remembered */ }
}

function rememberedTheme() {
  try {
    const theme = localStorage.getItem("report theme");
    if (THEMES.includes(theme)) return theme;
  } catch { /* not remembered */ }
  return THEMES[0];
}

function setTheme(theme) {
  document.documentElement.dataset.theme = theme;
  document.documentElement.style.colorScheme = theme === "system" ? "" : theme;
  byId("theme").textContent = `Theme: ${theme}`;
}

function listen() {
  byId("theme").addEventListener("click", nextTheme);
  for (const id of ["given", "guess", "decided", "sort"]) {
    byId(id).addEventListener("change", applyFilters);
  }
  byId("search").addEventListener("input", applyFilters);
  byId("clear").addEventListener("click", () => {
    clearFilters();
    applyFilters();
  });
  byId("previous").addEventListener("click", () => turn(-1));
  byId("next").addEventListener("click", () => turn(1));
  byId("page").addEventListener("change", () => showPage((parseInt(byId("page").value) || 1) - 1));
  byId("export").addEventListener("click", exportSheet);
  byId("load").addEventListener("click", () => byId("file").click());
  byId("file").addEventListener("change", loadSheet);
  byId("rows").addEventListener("click", (event) => {
    const button = event.target.closest("[data-decision]");
    if (!button) return;
    if (button.getAttribute("aria-pressed") === "true") takeBack(button.closest(".row"));
    else choose(button.closest(".row"), button.dataset.decision);
  });
  byId("rows").addEventListener("change", (event) => relabel(event.target));
  for (const origin of [document, player]) origin.addEventListener("play", onlyThis, true);
  document.addEventListener("keydown", onKey);
}

setTheme(rememberedTheme());
fillSummary();
drawHistogram();
drawCurves();
fillMetrics();
fillTabs();
fillFilters();
fillConfusion((given, guess) => {
  clearFilters();
  byId("given").value = given;
  byId("guess").value = guess;
  applyFilters();
  byId("suspects").scrollIntoView();
});
fillMaps();
load();
save();
tell();
listen();
applyFilters();
