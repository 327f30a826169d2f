"use strict";
(() => {
  const element = id => document.getElementById(id);
  const project = JSON.parse(element("project").textContent);
  const pictures = document.querySelectorAll("script.picture");
  const images = [...document.querySelectorAll("script.image")].map(script => JSON.parse(script.textContent));

  const FAR = 0.03;  // of a cell length or angle from the median: marked
  const MAGNIFIED = 15;  // residuals
  const MOST_POINTS = 1e6;  // that are looked at for one drawing; a lattice of more is not drawn
  const CLICK = 4;  // px the pointer may move in a click
  const LARGEST_ZOOM = 40;  // px on the screen for one of the image
  const COLOURS = { point: "#a6e3a1", on: "#4fb3ff", off: "#ff9040", mask: "#c7a5ff", line: "#fff", residual: "#ffe08a" };

  // ---- the lattice: {offset, first, second, barrel, spiral}; the equations of ed2d/lattice.py

  function vector(lattice, h, k) {
    const { first: a, second: b } = lattice;
    return [h * a[0] + k * b[0], h * a[1] + k * b[1]];
  }

  function position(lattice, h, k) {
    const [x, y] = vector(lattice, h, k), r2 = x * x + y * y;
    const radial = 1 + lattice.barrel * r2, turn = lattice.spiral * r2;
    return [lattice.offset[0] + radial * x + turn * y, lattice.offset[1] + radial * y - turn * x];
  }

  // How fast the position at (h, k) moves with s in the direction of v.
  function derivative(lattice, h, k, v) {
    const [x, y] = vector(lattice, h, k), r2 = x * x + y * y, along = 2 * (x * v[0] + y * v[1]);
    const radial = 1 + lattice.barrel * r2, turn = lattice.spiral * r2;
    return [
      radial * v[0] + turn * v[1] + along * (lattice.barrel * x + lattice.spiral * y),
      radial * v[1] - turn * v[0] + along * (lattice.barrel * y - lattice.spiral * x),
    ];
  }

  function determinant({ first: a, second: b }) {
    return a[0] * b[1] - a[1] * b[0];
  }

  // Fractional (h, k) of a position: inverse of `position` by fixed-point iteration.
  function indexOf(lattice, [px, py]) {
    const tx = px - lattice.offset[0], ty = py - lattice.offset[1];
    let x = tx, y = ty;
    for (let turn = 0; turn < 30; turn++) {
      const r2 = x * x + y * y, u = 1 + lattice.barrel * r2, w = lattice.spiral * r2, norm = u * u + w * w;
      [x, y] = [(u * tx - w * ty) / norm, (u * ty + w * tx) / norm];
    }
    const { first: a, second: b } = lattice, area = determinant(lattice);
    return [(x * b[1] - y * b[0]) / area, (a[0] * y - a[1] * x) / area];
  }

  function nearestNode(lattice, at) {
    return indexOf(lattice, at).map(n => Math.round(n) + 0);  // + 0: no -0
  }

  function fold({ barrel, spiral }) {
    const discriminant = barrel ** 2 - 3 * spiral ** 2;
    return barrel >= 0 || discriminant < 0 ? Infinity : (Math.sqrt(discriminant) - 2 * barrel) ** -0.5;
  }

  // All [h, k, x, y] inside an image of [rows, columns] except the origin; null where they are too many.
  function predict(lattice, [rows, columns]) {
    const { offset: o, first: a, second: b } = lattice, folded = fold(lattice);
    let reach = Math.hypot(Math.max(o[0] + 0.5, columns - 0.5 - o[0]), Math.max(o[1] + 0.5, rows - 0.5 - o[1]));
    if (lattice.barrel < 0) reach = Math.min(reach / Math.max(0.5, 1 + 4 * lattice.barrel * reach ** 2), folded);
    const area = Math.abs(determinant(lattice));
    const hs = Math.ceil(reach * Math.hypot(...b) / area), ks = Math.ceil(reach * Math.hypot(...a) / area);
    if (!((2 * hs + 1) * (2 * ks + 1) < MOST_POINTS)) return null;
    const points = [];
    for (let h = -hs; h <= hs; h++) {
      for (let k = -ks; k <= ks; k++) {
        const [x, y] = position(lattice, h, k);
        if ((h || k) && x >= -0.5 && x < columns - 0.5 && y >= -0.5 && y < rows - 0.5 &&
            Math.hypot(...vector(lattice, h, k)) < folded) points.push([h, k, x, y]);
      }
    }
    return points;
  }

  function cell(lattice) {
    const { first: a, second: b } = lattice;
    const gamma = Math.atan2(Math.abs(determinant(lattice)), a[0] * b[0] + a[1] * b[1]) * 180 / Math.PI;
    return [Math.hypot(...a), Math.hypot(...b), gamma];
  }

  // Each peak as {at, node, residual, on}. What the search says is on its lattice stays so, however that is indexed;
  // of the runner-up it is what lies as near as those do.
  function peaksOf(image, state) {
    const residuals = lattice => image.peaks.map(([x, y, on]) => {
      const [h, k] = nearestNode(lattice, [x, y]), node = position(lattice, h, k);
      return { at: [x, y], node, residual: [x - node[0], y - node[1]], on: Boolean(on) };
    });
    if (!state.lattice) return image.peaks.map(([x, y]) => ({ at: [x, y], node: null, residual: null, on: false }));
    const peaks = residuals(state.lattice);
    if (!state.runnerUp) return peaks;
    const near = residuals(image.lattice).filter(peak => peak.on).map(peak => Math.hypot(...peak.residual));
    const most = near.reduce((one, other) => Math.max(one, other), 0);
    return peaks.map(peak => ({ ...peak, on: Math.hypot(...peak.residual) <= most }));
  }

  // ---- what was decided: a state is never changed, only replaced

  const start = images.map(image => ({ decision: image.rejected ? "reject" : "", lattice: image.lattice, runnerUp: false }));
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

  // ---- drawing

  // Draws one image's overlay; view: {scale, x, y}, px of the screen for one of the image, and where its edge lies.
  // Returns what was drawn, in px of the image.
  function draw(canvas, image, state, view, { labels = false, residuals = false, node = null } = {}) {
    const ratio = window.devicePixelRatio || 1, context = canvas.getContext("2d");
    canvas.width = Math.round(canvas.clientWidth * ratio);
    canvas.height = Math.round(canvas.clientHeight * ratio);
    context.scale(ratio, ratio);
    const drawn = { points: [], peaks: [], outlines: image.outlines, residuals: [] };
    if (!overlay) return drawn;
    const screen = ([x, y]) => toScreen(view, [x, y]);
    drawOutlines(context, image.outlines, screen, view.scale);
    const { lattice } = state;
    const points = lattice ? predict(lattice, image.shape) : [];
    drawn.tooMany = points === null;
    drawn.points = points || [];
    const spacing = lattice ? spacingOf(lattice) * view.scale : 10;
    const strokes = labels ? [["#0008", 3], [COLOURS.point, 1.3]] : [[`${COLOURS.point}b0`, 0.7]];
    drawPoints(context, drawn.points, screen, Math.min(10, 0.3 * spacing), strokes);
    drawn.peaks = peaksOf(image, state);
    drawPeaks(context, drawn.peaks, screen, labels ? 2.2 : 1.1);
    if (residuals) drawn.residuals = drawResiduals(context, drawn.peaks, screen);
    if (!lattice) return drawn;
    const [o, a, b] = [[0, 0], [1, 0], [0, 1]].map(([h, k]) => position(lattice, h, k));
    Object.assign(drawn, { origin: o, a, b });
    drawOrigin(context, screen(o), labels ? 9 : 5);
    drawArrow(context, screen(o), screen(a), labels && "a");
    drawArrow(context, screen(o), screen(b), labels && "b");
    if (node) circle(context, screen(position(lattice, ...node)), 13, COLOURS.residual, 2.5);
    return drawn;
  }

  function toScreen(view, [x, y]) {
    return [view.x + (x + 0.5) * view.scale, view.y + (y + 0.5) * view.scale];
  }

  function toImage(view, [x, y]) {
    return [(x - view.x) / view.scale - 0.5, (y - view.y) / view.scale - 0.5];
  }

  function fitted(width, height, [rows, columns]) {
    const scale = Math.min(width / columns, height / rows);
    return { scale, x: (width - columns * scale) / 2, y: (height - rows * scale) / 2 };
  }

  // Distance to the nearest point: the shortest of the vectors after Gauss's reduction.
  function spacingOf(lattice) {
    let [u, v] = [lattice.first, lattice.second];
    for (let step = 0; step < 100; step++) {
      if (Math.hypot(...u) > Math.hypot(...v)) [u, v] = [v, u];
      const times = Math.round((u[0] * v[0] + u[1] * v[1]) / (u[0] ** 2 + u[1] ** 2));
      if (!times) break;
      v = [v[0] - times * u[0], v[1] - times * u[1]];
    }
    return Math.hypot(...u);
  }

  function circle(context, [x, y], radius, colour, width) {
    context.strokeStyle = colour;
    context.lineWidth = width;
    context.beginPath();
    context.arc(x, y, radius, 0, 2 * Math.PI);
    context.stroke();
  }

  function drawPoints(context, points, screen, radius, strokes) {
    const circles = new Path2D();
    for (const [, , px, py] of points) {
      const [x, y] = screen([px, py]);
      circles.moveTo(x + radius, y);
      circles.arc(x, y, radius, 0, 2 * Math.PI);
    }
    for (const [colour, width] of strokes) {
      context.strokeStyle = colour;
      context.lineWidth = width;
      context.stroke(circles);
    }
  }

  function drawPeaks(context, peaks, screen, size) {
    for (const { at, on } of peaks) {
      const [x, y] = screen(at);
      context.fillStyle = on ? COLOURS.on : COLOURS.off;
      context.beginPath();
      if (on) {
        context.arc(x, y, size, 0, 2 * Math.PI);
      } else {
        const half = 1.8 * size;
        context.moveTo(x - half, y);
        context.lineTo(x, y - half);
        context.lineTo(x + half, y);
        context.lineTo(x, y + half);
      }
      context.fill();
    }
  }

  function drawResiduals(context, peaks, screen) {
    const lines = peaks.filter(peak => peak.on && peak.residual).map(({ node, residual }) =>
      [node, [node[0] + MAGNIFIED * residual[0], node[1] + MAGNIFIED * residual[1]]]);
    context.strokeStyle = COLOURS.residual;
    context.lineWidth = 1.6;
    context.beginPath();
    for (const [from, to] of lines) {
      context.moveTo(...screen(from));
      context.lineTo(...screen(to));
    }
    context.stroke();
    return lines;
  }

  function drawOutlines(context, outlines, screen, scale) {
    context.strokeStyle = COLOURS.mask;
    context.lineWidth = 1.3;
    context.setLineDash([5, 4]);
    for (const { nodes, center, radius } of outlines) {
      context.beginPath();
      if (nodes) nodes.forEach(node => context.lineTo(...screen(node)));
      else context.arc(...screen(center), radius * scale, 0, 2 * Math.PI);
      context.closePath();
      context.stroke();
    }
    context.setLineDash([]);
  }

  function halo(context, path, width) {
    for (const [colour, wide] of [["#000b", width + 2.5], [COLOURS.line, width]]) {
      context.strokeStyle = colour;
      context.lineWidth = wide;
      context.beginPath();
      path();
      context.stroke();
    }
  }

  function drawOrigin(context, [x, y], size) {
    halo(context, () => {
      context.moveTo(x - size, y);
      context.lineTo(x + size, y);
      context.moveTo(x, y - size);
      context.lineTo(x, y + size);
    }, 1.5);
  }

  function drawArrow(context, [x0, y0], [x1, y1], label) {
    const angle = Math.atan2(y1 - y0, x1 - x0), head = Math.min(9, 0.4 * Math.hypot(x1 - x0, y1 - y0));
    const barb = turn => [x1 - head * Math.cos(angle + turn), y1 - head * Math.sin(angle + turn)];
    halo(context, () => {
      context.moveTo(x0, y0);
      context.lineTo(x1, y1);
      context.moveTo(...barb(0.5));
      context.lineTo(x1, y1);
      context.lineTo(...barb(-0.5));
    }, 1.8);
    if (!label) return;
    context.font = "bold 15px system-ui, sans-serif";
    context.textAlign = "center";
    context.textBaseline = "middle";
    context.lineWidth = 4;
    context.strokeStyle = "#000c";
    context.fillStyle = COLOURS.line;
    const at = [x1 + 13 * Math.cos(angle), y1 + 13 * Math.sin(angle)];
    context.strokeText(label, ...at);
    context.fillText(label, ...at);
  }

  // ---- texts

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
    const empty = ["–", "–", "–"], values = state.lattice ? cell(state.lattice) : null;
    const texts = values ? [`${values[0].toFixed(2)} px`, `${values[1].toFixed(2)} px`, `${values[2].toFixed(2)}°`] : empty;
    const rows = ["|a|", "|b|", "γ"].map((name, place) => [name, texts[place], ...deviation(values, place)]);
    const peaks = peaksOf(image, state), on = peaks.filter(peak => peak.on);
    const square = on.reduce((sum, peak) => sum + peak.residual[0] ** 2 + peak.residual[1] ** 2, 0);
    const own = !state.runnerUp;
    const share = own ? image.share : on.length / peaks.length, rms = own ? image.rms : Math.sqrt(square / on.length);
    const known = value => state.lattice && Number.isFinite(value);
    rows.push(["peaks", String(image.peakCount ?? peaks.length), known(share) ? `${(100 * share).toFixed(0)} % on it` : "", false]);
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
      make("div", { class: "line" }, make("span", { class: "who" }, image.image), make("span", { class: kind, title: text }, confidence)),
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
    card.setAttribute("aria-label", [images[number].image, verdict(images[number], states[number])[0], mark.textContent].join(", "));
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
      const details = make("details", project.broken.length <= 3 ? { open: "" } : {}, make("summary", {}, head), make("ul", {}, ...items));
      notices.push(details);
    }
    if (without) {
      const text = `${plural(without, "image stands", "images stand")} first in which no lattice was found. Nothing can be accepted there.`;
      notices.push(make("p", {}, text));
    }
    if (project.remaining) {
      const text = `${project.remaining} more ${project.remaining === 1 ? "image waits" : "images wait"}, of which the search is surer. ` +
        "Decide on these, write the decisions into the project, and make the page again.";
      notices.push(make("p", {}, text));
    }
    if (!images.length) notices.push(make("p", {}, "No image waits for verification."));
    element("notices").replaceChildren(...notices);
  }

  // ---- the large view

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
    element("place").textContent = `${current + 1} of ${images.length}, ${state.lattice ? indexing(image, state) : "nothing to accept"}`;
    element("decision").textContent = { accept: "✓ accepted", reject: "✕ rejected" }[state.decision] || "";
    element("decision").className = { accept: "is-accepted", reject: "is-rejected" }[state.decision] || "";
    [element("verdict").textContent, element("verdict").className] = verdict(image, state);
    element("reason").textContent = reason(image);
    const rows = figures(image, state).map(([name, value, note, far]) =>
      make("tr", {}, make("th", {}, name), make("td", {}, value), make("td", { class: far ? "note far" : "note" }, note)));
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
    for (const [name, value] of Object.entries(pressed)) buttons(name).forEach(one => one.setAttribute("aria-pressed", value));
    for (const [name, value] of Object.entries(lacking)) buttons(name).forEach(one => one.setAttribute("aria-disabled", value));
  }

  function redraw() {
    if (element("large").hidden) return;
    const image = images[current], scale = view.scale * image.factor;
    picture.style.transform = `translate(${view.x}px, ${view.y}px) scale(${scale})`;
    picture.style.filter = `brightness(${element("brightness").value}) contrast(${element("contrast").value}) invert(${Number(inverted)})`;
    picture.classList.toggle("pixels", scale > 3);
    drawn = draw(element("drawing"), image, states[current], view, { labels: true, residuals, node: choosing });
    stage.classList.toggle("choosing", Boolean(choosing));
    const hint = choosing ? `New origin: click a lattice point, or arrows and Enter (now ${choosing.join(", ")}). Esc: leave it.`
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
      if (grabbed && !grabbed.moved && choosing) takeOrigin(nearestNode(states[current].lattice, toImage(view, place(event))));
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
    const { lattice } = states[current], negative = v => v.map(value => 0 - value);  // -value would make -0 of 0
    reindex({ lattice: { ...lattice, first: negative(lattice.first), second: negative(lattice.second) } }, "a and b negated");
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
    const bent = v => derivative(lattice, h, k, v);
    const moved = { offset: position(lattice, h, k), first: bent(lattice.first), second: bent(lattice.second), barrel: 0, spiral: 0 };
    reindex({ lattice: moved }, `the origin is where (${h}, ${k}) was`);
  }

  // The arrow keys go from node to node: sideways along that of a and b which lies flatter, up and down along the other.
  function chooseBeside(key) {
    const { first: a, second: b } = states[current].lattice;
    const flat = ([x, y]) => Math.abs(x) / Math.hypot(x, y), aside = flat(a) >= flat(b);
    const sideways = key === "ArrowLeft" || key === "ArrowRight", forward = key === "ArrowRight" || key === "ArrowDown" ? 1 : -1;
    const alongA = sideways === aside, [x, y] = alongA ? a : b;
    const sign = forward * ((sideways ? x : y) < 0 ? -1 : 1);
    choosing = [choosing[0] + (alongA ? sign : 0), choosing[1] + (alongA ? 0 : sign)];
    redraw();
  }

  // ---- actions: each has a key and a button

  function decide(decision, said) {
    const { image } = images[current];
    change([current, { decision }]);
    say(`${image} ${said}.${advance()}`);
  }

  function acceptSure() {
    const those = images.map((_, number) => number).filter(number => isOpen(number) && images[number].sure);
    if (!those.length) return say("No sure lattice is undecided.");
    const count = plural(those.length, "sure lattice", "sure lattices");
    ask(`Accept ${count} not decided yet, as found or as you have indexed ${those.length === 1 ? "it" : "them"}?`, `Accept ${those.length}`, () => {
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
  const isLarge = () => element("large").hidden ? "Open an image first (Enter)." : "";
  const shownAgain = toggle => () => {
    toggle();
    showLarge();
  };

  // name: key, label, what it does, and why it cannot be done just now ("" where it can)
  const ACTIONS = {
    accept: ["a", "Accept", () => decide("accept", "accepted"), hasLattice],
    reject: ["r", "Reject", () => decide("reject", "rejected"), hasLattice],
    clear: ["c", "Clear", () => change([current, { decision: "" }]), () => states[current]?.decision ? "" : "Nothing is decided here."],
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
        const button = make("button", { type: "button", "data-action": name, "aria-keyshortcuts": key }, label, make("kbd", {}, key));
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
    const forward = key === "ArrowRight" || key === "ArrowDown" ? 1 : -1, sideways = key === "ArrowLeft" || key === "ArrowRight";
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
})();
