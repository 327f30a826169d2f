// What the page was given, and what was decided. A state is never changed, only replaced.

const element = id => document.getElementById(id);
const project = JSON.parse(element("project").textContent);
const pictures = document.querySelectorAll("script.picture");
const images = [...document.querySelectorAll("script.image")].map(script => JSON.parse(script.textContent));

const start = images.map(({ rejected, lattice }) => ({ decision: rejected ? "reject" : "", lattice, runnerUp: false }));
const states = [...start];
const undone = [];  // lists of [number, state before]
const key = `ed2d verify ${project.project}`;
let unsaved = false;

const base = (image, runnerUp) => runnerUp ? image.runnerUp : image.lattice;
const isOpen = number => states[number].lattice && !states[number].decision;
const pair = value => Array.isArray(value) && value.length === 2 && value.every(Number.isFinite);

function isLattice(value) {
  return value && ["offset", "first", "second"].every(name => pair(value[name])) &&
    Number.isFinite(value.barrel) && Number.isFinite(value.spiral);
}

function keep() {
  const kept = {};
  images.forEach((image, number) => {
    if (states[number] !== start[number]) kept[image.image] = { searched: image.searched, ...states[number] };
  });
  try {
    localStorage.setItem(key, JSON.stringify({ unsaved, kept }));
  } catch { /* storage is full or forbidden: decisions live as long as the page */ }
}

function recall() {
  try {
    const known = JSON.parse(localStorage.getItem(key));
    images.forEach((image, number) => {
      const one = Object.hasOwn(known.kept, image.image) ? known.kept[image.image] : null;
      if (!image.lattice || !one || one.searched !== image.searched || !isLattice(one.lattice)) return;
      const runnerUp = Boolean(one.runnerUp && image.runnerUp), from = base(image, runnerUp);
      const same = JSON.stringify(one.lattice) === JSON.stringify(from);
      const decision = ["accept", "reject"].includes(one.decision) ? one.decision : "";
      states[number] = { decision, lattice: same ? from : one.lattice, runnerUp };
    });
    unsaved = Boolean(known.unsaved);
  } catch { /* nothing is kept, or it is none of ours */ }
}

// Takes [number, changes] of some images; remembered as one step of `undo`.
function change(...changes) {
  undone.push(changes.map(([number]) => [number, states[number]]));
  put(changes.map(([number, changed]) => [number, { ...states[number], ...changed }]));
}

function put(entries) {
  for (const [number, state] of entries) {
    unsaved ||= Boolean(state.decision || states[number].decision);
    states[number] = state;
    showCard(number);
  }
  keep();
  showProgress();
  showLarge();
}

function decisions() {
  const made = images.flatMap(({ image, lattice, searched }, number) => {
    const { decision, lattice: chosen } = states[number];
    return decision ? [{ image, decision, lattice: decision === "accept" ? chosen : lattice, searched }] : [];
  });
  return { program: project.program, project: project.project, decisions: made };
}
