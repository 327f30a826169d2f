// Each action has a key and a button. Then all begins.

function decide(decision, said) {
  const { image } = images[current];
  change([current, { decision }]);
  say(`${image} ${said}.${advance()}`);
}

function acceptSure() {
  const those = images.map((_, number) => number).filter(number => isOpen(number) && images[number].sure);
  if (!those.length) return say("No sure lattice is undecided.");
  const count = plural(those.length, "sure lattice", "sure lattices");
  ask(`Accept ${count} not decided yet, as now indexed?`, `Accept ${those.length}`, () => {
    change(...those.map(number => [number, { decision: "accept" }]));
    say(`${count} accepted.`);
  });
}

function undo() {
  const before = undone.pop();
  choosing = null;
  put(before);
  go(before[0][0]);
  say("Undone.");
}

function save() {
  if (!decisions().decisions.length) return say("Nothing is decided yet.");
  const blob = new Blob([`${JSON.stringify(decisions(), null, 1)}\n`], { type: "application/json" });
  const link = make("a", { href: URL.createObjectURL(blob), download: "verified.json" });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
  unsaved = false;
  keep();
  element("saved").showModal();
}

function toggleOverlay() {
  overlay = !overlay;
  buttons("overlay").forEach(button => button.setAttribute("aria-pressed", !overlay));
  visible.forEach(drawCard);
  redraw();
}

function ask(question, yes, action) {
  element("question").textContent = question;
  element("yes").textContent = yes;
  element("yes").onclick = () => {
    element("asking").close();
    action();
  };
  element("asking").showModal();
  element("yes").focus();
}

const hasLattice = () => states[current]?.lattice ? "" : "No lattice was found in this image.";
const isDecided = () => states[current]?.decision ? "" : "Nothing is decided here.";
const isLarge = () => element("large").hidden ? "Open an image first (Enter)." : "";
const shownAgain = toggle => () => {
  toggle();
  showLarge();
};

// name: key, label, what it does, and why it cannot be done just now ("" where it can)
const ACTIONS = {
  accept: ["a", "Accept", () => decide("accept", "accepted"), hasLattice],
  reject: ["r", "Reject", () => decide("reject", "rejected"), hasLattice],
  clear: ["c", "Clear", () => change([current, { decision: "" }]), isDecided],
  swap: ["s", "Swap a, b", swap, hasLattice],
  negate: ["n", "Negate both", negate, hasLattice],
  origin: ["o", "New origin", chooseOrigin, hasLattice],
  runnerUp: ["u", "Runner-up", takeRunnerUp, () => images[current]?.runnerUp ? "" : "There is no runner-up."],
  acceptSure: ["A", "Accept all sure", acceptSure],
  undo: ["z", "Undo", undo, () => undone.length ? "" : "There is nothing to undo."],
  overlay: ["h", "Hide overlay", toggleOverlay],
  residuals: ["m", `Residuals × ${MAGNIFIED}`, shownAgain(() => { residuals = !residuals; }), isLarge],
  invert: ["i", "Invert picture", shownAgain(() => { inverted = !inverted; }), isLarge],
  previous: ["k", "Previous", () => go(current - 1)],
  next: ["j", "Next", () => go(current + 1)],
  open: ["Enter", "Open the image", open],
  grid: ["Esc", "Grid", close, isLarge],
  zoomIn: ["+", "Larger", () => zoom(1.4), isLarge],
  zoomOut: ["-", "Smaller", () => zoom(1 / 1.4), isLarge],
  fit: ["0", "Fit", fit, isLarge],
  save: ["S", "Save decisions", save],
  help: ["?", "Help", () => element("helping").showModal()],
};
const KEYS = new Map(Object.entries(ACTIONS).map(([name, [key]]) => [key, name]));
const buttons = name => document.querySelectorAll(`[data-action="${name}"]`);

function perform(name) {
  const [, , action, hindrance] = ACTIONS[name];
  const lacking = !images.length && name !== "help" ? "No image waits for verification." : hindrance?.();
  if (lacking) say(lacking);
  else action();
}

function makeButtons() {
  for (const group of document.querySelectorAll("[data-actions]")) {
    for (const name of group.dataset.actions.split(" ")) {
      const [key, label] = ACTIONS[name];
      const attributes = { type: "button", "data-action": name, "aria-keyshortcuts": key };
      const button = make("button", attributes, label, make("kbd", {}, key));
      button.addEventListener("click", () => perform(name));
      group.append(button);
    }
  }
  buttons("save").forEach(button => button.classList.add("primary"));
  element("keys").append(...Object.values(ACTIONS).map(([key, label]) => make("li", {}, make("kbd", {}, key), label)));
}

function pressed(event) {
  if (event.ctrlKey || event.altKey || event.metaKey || document.querySelector("dialog[open]")) return;
  const key = { Escape: "Esc", "=": "+" }[event.key] ?? event.key, arrow = key.startsWith("Arrow");
  if (event.target.type === "range" && arrow) return;
  if (event.target.tagName === "BUTTON" && (key === "Enter" || key === " ")) return;
  if (["SUMMARY", "PRE"].includes(event.target.tagName) && !KEYS.has(key)) return;
  if (arrow) pressedArrow(key, event.shiftKey);
  else if (choosing && key === "Enter") takeOrigin(choosing);
  else if (choosing && key === "Esc") chooseOrigin();
  else if (KEYS.has(key)) perform(KEYS.get(key));
  else return;
  event.preventDefault();
}

function pressedArrow(key, shift) {
  const { sideways, forward } = direction(key);
  if (!images.length) return;
  if (element("large").hidden) go(current + forward * (sideways ? 1 : columns()));
  else if (choosing) chooseBeside(key);
  else if (shift) move(sideways ? { x: view.x - 60 * forward } : { y: view.y - 60 * forward });
  else go(current + forward);
}

// ---- beginning

function begin() {
  makeButtons();
  recall();
  element("name").textContent = project.name;
  element("program").textContent = `${project.program}, lattices to verify`;
  showNotices();
  element("cards").append(...cards);
  cards.forEach((_, number) => showCard(number));
  const observer = new IntersectionObserver(appear, { root: element("grid"), rootMargin: "300px" });
  cards.forEach(card => observer.observe(card));
  new ResizeObserver(() => visible.forEach(drawCard)).observe(element("cards"));
  new ResizeObserver(() => element("large").hidden || (isFitted ? fit() : redraw())).observe(stage);
  for (const name of ["brightness", "contrast"]) element(name).addEventListener("input", redraw);
  listenToStage();
  document.addEventListener("keydown", pressed);
  window.addEventListener("beforeunload", event => { if (unsaved) event.preventDefault(); });
  showProgress();
  if (images.length) go(Math.max(0, images.findIndex((_, number) => isOpen(number))));
}

// What is shown, as it was drawn last: for tests and the browser's console.
window.ed2d = {
  names: () => images.map(image => image.image),
  current: () => images[current]?.image,
  state: () => ({ ...states[current], indexing: indexing(images[current], states[current]) }),
  drawn: () => drawn,
  screen: at => {
    const { left, top } = stage.getBoundingClientRect(), [x, y] = toScreen(view, at);
    return [left + x, top + y];
  },
  decisions,
  unsaved: () => unsaved,
};

begin();
