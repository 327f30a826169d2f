// What is drawn over a picture.

const MAGNIFIED = 15;  // residuals
const COLOURS = { point: "#a6e3a1", on: "#4fb3ff", off: "#ff9040", mask: "#c7a5ff", line: "#fff", residual: "#ffe08a" };

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
