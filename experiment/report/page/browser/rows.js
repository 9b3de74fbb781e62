// One suspect as a list item: its media, its labels, what speaks for and against it, and the
// buttons of the review sheet. Only the rows that `shownAt` knows have media and evidence.

const player = new Audio();  // of evidence: one sound at a time
let playing = null;  // its button

const rowName = (position) => rows.name ? rows.name[position] : `row ${rows.index[position]}`;

// Pictures and sounds are files: of a path the last part, as the others are often long and alike.
const areFiles = data.media.some((entry) => entry.image || entry.sound);
const titled = (name) => named(areFiles ? name.split("/").at(-1) : name, {title: name});

function buildRow(position) {
  const shown = shownAt(position);
  const media = shown && data.media[shown.media];
  const styles = ["row", ...(shown ? ["shown"] : []),
    ...(media ? [`with-${Object.keys(media)[0]}`] : [])];
  return make("li", {class: styles.join(" "), tabindex: -1, "data-position": position,
    "data-group": groupOf(position)},
    make("span", {class: "rank", title: "rank"}, whole(position + 1)),
    media ? make("div", {class: "sample"}, large(media, rowName(position))) : null,
    about(position, media), shown ? evidence(shown) : null, review(position));
}

function about(position, media) {
  const differs = (labels) => labelled && labels && labels[position] !== rows.given[position];
  const lines = [["given", rows.given], ["suggested", rows.suggested],
    ["predicted", rows.predicted], ["neighbours", rows.voted]].filter(([, labels]) => labels);
  const disputed = lines.some(([, labels]) => differs(labels));
  const style = (labels) => labels === rows.given ? disputed && "disputed" :
    differs(labels) && "differs";
  const truth = rows.positive?.[position];
  // Where the text is there in full, its beginning as a title says nothing more.
  const start = rowName(position).replace(/…$/, "").slice(0, 30);
  return make("div", {class: "about"},
    media?.text?.startsWith(start) ? null :
      make("div", {class: "title"}, titled(rowName(position))),
    make("dl", {class: "labels"}, ...lines.map(([word, labels]) =>
      make("div", {class: style(labels)}, make("dt", {}, word),
        make("dd", {}, className(labels[position]))))),
    make("div", {class: "score dim"}, rows.name ? `row ${rows.index[position]} · ` : "",
      `${data.score} `, make("b", {}, short(rows.score[position])),
      ...(rows.positive ? [" · ", make("span", {class: truth ? "truth positive" : "truth"},
        data.words[truth])] : [])),
    verdict(position), hasMap(position) ? mapButton(position) : null);
}

// The suspect itself; what it relates to is small.
function large(media, name) {
  if (media.image) return picture(media.image, name);
  if (media.text) return make("p", {class: "text", dir: "auto"}, media.text);
  if (media.sound) {
    return make("audio", {controls: true, preload: "none", src: media.sound, "aria-label": name});
  }
  return make("p", {class: "problem"}, "could not be shown: ", named(media.problem));
}

// A picture of few pixels is enlarged, not blurred.
function picture(source, name) {
  const image = make("img", {alt: name, title: name, decoding: "async", src: source});
  image.addEventListener("load", () => {
    image.classList.toggle("pixels", image.naturalWidth <= 64);
  });
  return image;
}

function evidence({against, support}) {
  const side = (title, style, entries, otherwise) => make("div", {class: `side ${style}`},
    make("h3", {}, title), entries.length ? make("ul", {}, ...entries.map(related)) :
      make("p", {class: "dim"}, otherwise));
  return make("div", {class: "evidence"}, ...(labelled ? [
    side("Contradict it", "against", against, "nothing related has another label"),
    side("Support it", "support", support, "nothing related has this label"),
  ] : [side("Nearest training rows", "support", support, "no training row is related")]));
}

function related({media: number, r, name, label}) {
  const media = data.media[number] ?? {};
  const weak = Math.abs(r) <= data.threshold;  // counts for nothing in the score
  const style = (kind) => weak ? `${kind} weak` : kind;
  const caption = make("span", {class: "caption"}, label === null ? null : className(label),
    make("span", {class: "r", title: weak ? "relation r, too small to count" : "relation r"},
      minus(r.toFixed(Math.abs(r) < 0.1 ? 3 : 2))));
  if (media.image) {
    return make("li", {class: style("tile"), title: name}, picture(media.image, name), caption);
  }
  const text = media.text ?? (media.problem && `could not be shown: ${media.problem}`);
  const sound = media.sound ? playButton(media.sound, name) : null;
  return make("li", {class: style("line")}, sound, caption,
    make("span", {class: media.text ? "excerpt" : "excerpt dim", dir: "auto", title: text ?? name},
      text ?? titled(name)));
}

function playButton(source, name) {
  const button = make("button", {type: "button", class: "play", "aria-label": `play ${name}`},
    "▶");
  button.addEventListener("click", () => {
    const again = playing === button;
    stop();
    if (again) return;
    playing = button;
    button.textContent = "■";
    player.src = source;
    play(player);
  });
  return button;
}

// What another sound interrupts before it has begun is no error.
const play = (sound) => sound.play().catch(() => {});

function stop() {
  player.pause();
  if (playing) playing.textContent = "▶";
  playing = null;
}
player.addEventListener("ended", stop);

// What began to play last is heard, and nothing else.
function onlyThis({target}) {
  if (target !== player) stop();
  for (const other of document.querySelectorAll("audio")) if (other !== target) other.pause();
}

function review(position) {
  const choice = (decision, text) => make("button", {type: "button", "data-decision": decision,
    "aria-pressed": "false"}, text);
  const field = make("label", {class: "new-label", hidden: true}, "as ", make("input",
    {list: "classes", dir: "auto", size: 8, spellcheck: "false", "aria-label": "new label"}));
  return make("div", {class: "review"}, choice("keep", "Keep"),
    labelled ? choice("relabel", "Relabel") : null, choice("drop", "Drop"),
    labelled ? field : null);
}

// What relabelling starts from: the first of these that is not the given label, or null.
function proposal(position) {
  const given = rows.given[position];
  const found = [rows.suggested, rows.voted, rows.predicted].find((labels) =>
    labels && labels[position] !== given);
  return found ? found[position] : null;
}
