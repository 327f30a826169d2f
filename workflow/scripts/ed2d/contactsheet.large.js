// One image large: moving it, and indexing its lattice differently.

const CLICK = 4;  // px the pointer may move in a click
const LARGEST_ZOOM = 40;  // px on the screen for one of the image

const stage = element("stage"), picture = element("picture");
let view = { scale: 1, x: 0, y: 0 };
let isFitted = true;
let choosing = null;  // the node [h, k] that would be the new origin
let residuals = false;
let inverted = false;
let drawn = {};

function open() {
  if (!images.length) return;
  element("large").hidden = false;
  element("grid").inert = true;
  showLarge(true);
  stage.focus({ preventScroll: true });
}

function close() {
  choosing = null;
  element("large").hidden = true;
  element("grid").inert = false;
  cards[current].focus();
}

// Shows the current image; another: its picture too, as a whole.
function showLarge(another = false) {
  if (element("large").hidden) return;
  const image = images[current], state = states[current];
  if (another) {
    picture.src = source(current);
    fit();
  }
  element("image").textContent = image.image;
  const which = state.lattice ? indexing(image, state) : "nothing to accept";
  element("place").textContent = `${current + 1} of ${images.length}, ${which}`;
  element("decision").textContent = { accept: "✓ accepted", reject: "✕ rejected" }[state.decision] || "";
  element("decision").className = { accept: "is-accepted", reject: "is-rejected" }[state.decision] || "";
  [element("verdict").textContent, element("verdict").className] = verdict(image, state);
  element("reason").textContent = reason(image);
  const rows = figures(image, state).map(([name, value, note, far]) =>
    make("tr", {},
      make("th", {}, name),
      make("td", {}, value),
      make("td", { class: far ? "note far" : "note" }, note)));
  element("figures").tBodies[0].replaceChildren(...rows);
  showButtons(image, state);
  redraw();
}

function showButtons(image, state) {
  const pressed = {
    accept: state.decision === "accept", reject: state.decision === "reject", runnerUp: state.runnerUp,
    origin: Boolean(choosing), residuals, invert: inverted, overlay: !overlay,
  };
  const lacking = { runnerUp: !image.runnerUp, clear: !state.decision };
  for (const name of ["accept", "reject", "swap", "negate", "origin"]) lacking[name] = !state.lattice;
  for (const [attribute, values] of [["aria-pressed", pressed], ["aria-disabled", lacking]]) {
    for (const [name, value] of Object.entries(values)) {
      buttons(name).forEach(one => one.setAttribute(attribute, value));
    }
  }
}

function redraw() {
  if (element("large").hidden) return;
  const image = images[current], scale = view.scale * image.factor;
  picture.style.transform = `translate(${view.x}px, ${view.y}px) scale(${scale})`;
  const [brightness, contrast] = ["brightness", "contrast"].map(name => element(name).value);
  picture.style.filter = `brightness(${brightness}) contrast(${contrast}) invert(${Number(inverted)})`;
  picture.classList.toggle("pixels", scale > 3);
  drawn = draw(element("drawing"), image, states[current], view, { labels: true, residuals, node: choosing });
  stage.classList.toggle("choosing", Boolean(choosing));
  const hint = choosing
    ? `New origin: click a lattice point, or arrows and Enter (now ${choosing.join(", ")}). Esc: leave it.`
    : drawn.tooMany ? "The lattice is too dense to be drawn." : "";
  element("hint").textContent = hint;
  element("hint").hidden = !hint;
}

function fit() {
  view = fitted(stage.clientWidth, stage.clientHeight, images[current].shape);
  isFitted = true;
  redraw();
}

function zoom(times, at = [stage.clientWidth / 2, stage.clientHeight / 2]) {
  const least = fitted(stage.clientWidth, stage.clientHeight, images[current].shape).scale / 2;
  const scale = Math.max(least, Math.min(LARGEST_ZOOM, view.scale * times)), ratio = scale / view.scale;
  move({ scale, x: at[0] - ratio * (at[0] - view.x), y: at[1] - ratio * (at[1] - view.y) });
}

function move(changed) {
  view = { ...view, ...changed };
  isFitted = false;
  redraw();
}

function place(event) {
  const box = stage.getBoundingClientRect();
  return [event.clientX - box.left, event.clientY - box.top];
}

function readOut(event) {
  const at = toImage(view, place(event)), { lattice } = states[current];
  const [h, k] = lattice ? indexOf(lattice, at) : [];
  const index = lattice ? `   h ${h.toFixed(2)}  k ${k.toFixed(2)}` : "";
  element("readout").textContent = `x ${at[0].toFixed(1)}  y ${at[1].toFixed(1)}${index}`;
}

function listenToStage() {
  let grabbed = null;
  stage.addEventListener("pointerdown", event => {
    if (event.button !== 0) return;
    grabbed = { from: place(event), view, moved: false };
    stage.setPointerCapture(event.pointerId);
  });
  stage.addEventListener("pointermove", event => {
    readOut(event);
    if (!grabbed) return;
    const [x, y] = place(event), dx = x - grabbed.from[0], dy = y - grabbed.from[1];
    grabbed.moved ||= Math.hypot(dx, dy) > CLICK;
    if (!grabbed.moved) return;
    stage.classList.add("moving");
    move({ x: grabbed.view.x + dx, y: grabbed.view.y + dy });
  });
  stage.addEventListener("pointerup", event => {
    if (grabbed && !grabbed.moved && choosing) {
      takeOrigin(nearestNode(states[current].lattice, toImage(view, place(event))));
    }
    grabbed = null;
    stage.classList.remove("moving");
  });
  stage.addEventListener("pointercancel", () => { grabbed = null; });
  stage.addEventListener("pointerleave", () => { element("readout").textContent = ""; });
  stage.addEventListener("wheel", event => {
    event.preventDefault();
    zoom(Math.exp(-0.0015 * event.deltaY * (event.deltaMode ? 16 : 1)), place(event));
  }, { passive: false });
  picture.addEventListener("dragstart", event => event.preventDefault());
}

// ---- indexing differently; every float that need not change is kept

function reindex(changed, text) {
  const { decision } = states[current];
  change([current, { ...changed, decision: decision === "reject" ? "" : decision }]);
  say(`${images[current].image}: ${text}`);
}

function swap() {
  const { lattice } = states[current];
  reindex({ lattice: { ...lattice, first: lattice.second, second: lattice.first } }, "a and b swapped");
}

function negate() {
  const { lattice } = states[current];
  const [first, second] = [lattice.first, lattice.second].map(v => v.map(value => -value));
  reindex({ lattice: { ...lattice, first, second } }, "a and b negated");
}

function takeRunnerUp() {
  const runnerUp = !states[current].runnerUp;
  reindex({ runnerUp, lattice: base(images[current], runnerUp) }, runnerUp ? "runner-up" : "lattice as found");
}

function chooseOrigin() {
  if (element("large").hidden) open();
  choosing = choosing ? null : [0, 0];
  showLarge();
}

function takeOrigin([h, k]) {
  const { lattice } = states[current];
  choosing = null;
  if (!h && !k) {
    say("This point is the origin already.");
    showLarge();
    return;
  }
  const [first, second] = [lattice.first, lattice.second].map(v => derivative(lattice, h, k, v));
  const moved = { offset: position(lattice, h, k), first, second, barrel: 0, spiral: 0 };
  reindex({ lattice: moved }, `the origin is where (${h}, ${k}) was`);
}

function direction(key) {
  return {
    sideways: key === "ArrowLeft" || key === "ArrowRight",
    forward: key === "ArrowRight" || key === "ArrowDown" ? 1 : -1,
  };
}

// The arrow keys go from node to node: sideways along that of a and b which lies flatter, up and down along the other.
function chooseBeside(key) {
  const { first: a, second: b } = states[current].lattice;
  const flat = ([x, y]) => Math.abs(x) / Math.hypot(x, y), aside = flat(a) >= flat(b);
  const { sideways, forward } = direction(key);
  const alongA = sideways === aside, [x, y] = alongA ? a : b;
  const sign = forward * ((sideways ? x : y) < 0 ? -1 : 1);
  choosing = [choosing[0] + (alongA ? sign : 0), choosing[1] + (alongA ? 0 : sign)];
  redraw();
}
