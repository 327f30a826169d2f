// The lattice, {offset, first, second, barrel, spiral}: the equations of lattice.py.

const MOST_POINTS = 1e6;  // that are looked at for one drawing; a lattice of more is not drawn

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
  return indexOf(lattice, at).map(Math.round);
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
