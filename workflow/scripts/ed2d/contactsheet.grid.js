// Texts about an image, and the grid of all.

const FAR = 0.03;  // of a cell length or angle from the median: marked

const confidenceText = value =>
  value === null ? "–" : value > 0.9999 ? "> 0.9999" : value.toFixed(value >= 0.99 ? 4 : 2);
const plural = (number, one, many) => `${number} ${number === 1 ? one : many}`;

function verdict(image, state) {
  if (!state.lattice) return ["No lattice was found", "unsure"];
  if (state.runnerUp) return [`Runner-up, confidence ${confidenceText(image.runnerUpConfidence)}`, "unsure"];
  const sure = image.sure ? "sure" : "not sure";
  return [`Confidence ${confidenceText(image.confidence)}, ${sure}`, image.sure ? "sure" : "unsure"];
}

function reason(image) {
  const cure = image.lattice ? "" : "; write its lattice into info.xml by hand";
  return (image.rejected ? "Rejected before. " : "") + (image.reason ? image.reason + cure : cure.slice(2));
}

function indexing(image, state) {
  const from = state.runnerUp ? "runner-up" : "as found";
  return state.lattice === base(image, state.runnerUp) ? from : `${from}, indexed differently`;
}

// Rows [name, value, note, whether it is far off] of the table of an image.
function figures(image, state) {
  const values = state.lattice ? cell(state.lattice) : null;
  const rows = [["|a|", " px"], ["|b|", " px"], ["γ", "°"]].map(([name, unit], place) =>
    [name, values ? values[place].toFixed(2) + unit : "–", ...deviation(values, place)]);
  const peaks = peaksOf(image, state), on = peaks.filter(peak => peak.on);
  const square = on.reduce((sum, peak) => sum + peak.residual[0] ** 2 + peak.residual[1] ** 2, 0);
  const own = !state.runnerUp;
  const share = own ? image.share : on.length / peaks.length, rms = own ? image.rms : Math.sqrt(square / on.length);
  const known = value => state.lattice && Number.isFinite(value);
  const part = known(share) ? `${(100 * share).toFixed(0)} % on it` : "";
  rows.push(["peaks", String(image.peakCount ?? peaks.length), part, false]);
  rows.push(["rms of these", known(rms) ? `${rms.toFixed(2)} px` : "–", "", false]);
  const other = image.runnerUp ? confidenceText(own ? image.runnerUpConfidence : image.confidence) : "none";
  rows.push([own ? "runner-up" : "found first", other, "", false]);
  return rows;
}

function deviation(values, place) {
  if (!values || !project.median) return ["", false];
  const off = values[place] / project.median[place] - 1, far = Math.abs(off) > FAR;
  return [`${far ? "▲ " : ""}${off < 0 ? "−" : "+"}${Math.abs(100 * off).toFixed(1)} %`, far];
}

// ---- the grid

let current = 0;
let overlay = true;
const cards = images.map(makeCard);
const visible = new Set();

function make(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

function makeCard(image, number) {
  const view = make("div", { class: "view" });
  const [text, kind] = verdict(image, start[number]);
  const confidence = image.lattice ? confidenceText(image.confidence) : "none found";
  const buttons = image.lattice ? [["accept", "Accept"], ["reject", "Reject"]].map(([action, label]) => {
    const button = make("button", { type: "button", tabindex: -1, "aria-label": `${label} ${image.image}` }, label);
    button.addEventListener("click", event => {
      event.stopPropagation();
      select(number);
      perform(action);
    });
    return button;
  }) : [];
  const below = make("div", { class: "below" },
    make("div", { class: "line" },
      make("span", { class: "who" }, image.image),
      make("span", { class: kind, title: text }, confidence)),
    make("p", { class: "why" }, reason(image)),
    make("div", { class: "actions" }, ...buttons, make("span", { class: "mark" })));
  const card = make("div", { class: "card", role: "listitem", tabindex: -1, "data-number": number }, view, below);
  card.addEventListener("click", () => {
    select(number);
    open();
  });
  card.addEventListener("focus", () => select(number));
  return card;
}

function showCard(number) {
  const { decision } = states[number], card = cards[number], mark = card.querySelector(".mark");
  card.classList.toggle("accepted", decision === "accept");
  card.classList.toggle("rejected", decision === "reject");
  mark.textContent = { accept: "✓ accepted", reject: "✕ rejected" }[decision] || "";
  const [found] = verdict(images[number], states[number]);
  card.setAttribute("aria-label", [images[number].image, found, mark.textContent].join(", "));
  if (visible.has(number)) drawCard(number);
}

function drawCard(number) {
  const view = cards[number].firstChild, canvas = view.querySelector("canvas");
  draw(canvas, images[number], states[number], fitted(view.clientWidth, view.clientHeight, images[number].shape));
}

const source = number => `data:image/jpeg;base64,${pictures[number].textContent}`;

// Pictures are there only while they are seen: a thousand of them would take gigabytes.
function appear(entries) {
  for (const { target, isIntersecting } of entries) {
    const number = Number(target.dataset.number), view = target.firstChild;
    if (!isIntersecting) {
      visible.delete(number);
      view.replaceChildren();
    } else if (!visible.has(number)) {
      visible.add(number);
      const picture = make("img", { alt: "", decoding: "async" });
      picture.src = source(number);
      view.replaceChildren(picture, make("canvas"));
      drawCard(number);
    }
  }
}

function select(number) {
  cards[current].tabIndex = -1;
  current = number;
  cards[current].tabIndex = 0;
}

function go(number) {
  select(Math.max(0, Math.min(images.length - 1, number)));
  choosing = null;
  say("");
  if (element("large").hidden) cards[current].focus();
  else showLarge(true);
}

// Goes to the next undecided image; what is to be said where there is none.
function advance() {
  const order = images.map((_, step) => (current + 1 + step) % images.length);
  const next = order.find(isOpen);
  if (next !== undefined) go(next);
  return next === undefined ? " All are decided: save the decisions." : "";
}

function columns() {
  return getComputedStyle(element("cards")).gridTemplateColumns.split(" ").length;
}

function showProgress() {
  const some = images.map((_, number) => number).filter(number => states[number].lattice);
  const decided = some.filter(number => states[number].decision).length;
  element("progress").textContent = `${decided} of ${some.length} decided`;
  element("bar").style.width = `${some.length ? 100 * decided / some.length : 0}%`;
  buttons("undo").forEach(button => button.setAttribute("aria-disabled", !undone.length));
}

const say = text => { element("message").textContent = text; };

function showNotices() {
  const notices = [], without = images.filter(image => !image.lattice).length;
  if (project.broken.length) {
    const items = project.broken.map(({ image, reason: why }) => make("li", {}, make("b", {}, image), `: ${why}`));
    const head = `${plural(project.broken.length, "image is", "images are")} not shown, as their files are broken`;
    const unfolded = project.broken.length <= 3 ? { open: "" } : {};
    notices.push(make("details", unfolded, make("summary", {}, head), make("ul", {}, ...items)));
  }
  if (without) {
    const those = plural(without, "image stands", "images stand");
    notices.push(make("p", {}, `${those} first in which no lattice was found. Nothing can be accepted there.`));
  }
  if (project.remaining) {
    const those = plural(project.remaining, "more image waits", "more images wait");
    const cure = "Decide on these, write the decisions into the project, and make the page again.";
    notices.push(make("p", {}, `${those}, of which the search is surer. ${cure}`));
  }
  if (!images.length) notices.push(make("p", {}, "No image waits for verification."));
  element("notices").replaceChildren(...notices);
}
