"""Outlines of regions: polygons that cover what a bool array marks."""

import numpy as np

from .maskshapes import Polygon

BEYOND = 2.0  # px and a cell: how far the outline of what touches the edge of the image reaches over it
SMALLEST = 9.0  # cells; smaller regions and smaller holes are left out
COARSER = 1.3  # times; the tolerance grows until the nodes are few enough
DIGITS = 1  # of a px


def outlines(marked, *, size, shape, tolerance, most):
    """Polygons (a tuple) round the connected regions of `marked`, cells of `size` px of an image of `shape`.

    They run through the middles of the cells' edges, which they leave by at most `tolerance` px, or by more where they
    would have more than `most` nodes in all. Holes stay open: their rings are joined to the one around by a line that
    runs there and back, so that the even-odd rule leaves them out.
    """
    rings = [_placed(ring, marked.shape, size, shape) for ring in _rings(np.pad(marked, 1))]
    rings = [ring for ring in rings if abs(_area(ring)) > SMALLEST * size**2]
    while True:
        simple = [ring for ring in (_simplified(ring, tolerance) for ring in rings) if len(ring) > 2]
        if sum(map(len, simple)) <= most:
            break
        tolerance *= COARSER
    return _with_holes([np.round(ring, DIGITS) for ring in simple])


def _rings(marked):
    """Closed rings, (n, 2) as (column, row), of the middles of the edges of marked cells, which lie to their right.

    Corners of cells have whole numbers. Cells that touch only at a corner are kept apart.
    """
    steps = {}
    for edges, (x, y), step in (
        (marked[1:] & ~marked[:-1], (0, 1), (1, 0)),
        (marked[:-1] & ~marked[1:], (1, 1), (-1, 0)),
        (marked[:, :-1] & ~marked[:, 1:], (1, 0), (0, 1)),
        (marked[:, 1:] & ~marked[:, :-1], (1, 1), (0, -1)),
    ):
        rows, columns = np.nonzero(edges)
        for corner in zip((columns + x).tolist(), (rows + y).tolist(), strict=True):
            steps.setdefault(corner, []).append(step)
    while steps:
        yield np.array(_followed(steps))


def _followed(steps):
    """The middles of the edges of one ring, which are taken out of `steps`: from each corner the ways to go on."""
    corner = next(iter(steps))
    (dx, dy), middles = steps[corner][0], []
    while corner in steps:
        ways = steps[corner]
        dx, dy = (-dy, dx) if (-dy, dx) in ways else ways[0]  # to the right, round the same cell
        ways.remove((dx, dy))
        if not ways:
            del steps[corner]
        middles.append((corner[0] + 0.5 * dx, corner[1] + 0.5 * dy))
        corner = corner[0] + dx, corner[1] + dy
    return middles


def _placed(ring, cells, size, shape):
    """A ring in px; what lies on the edge of the image goes beyond it. Cells are counted with one around them."""
    placed = (ring - 1) * size - 0.5
    for axis, number in ((0, 1), (1, 0)):
        placed[ring[:, axis] == 1, axis] -= BEYOND + size
        placed[ring[:, axis] == cells[number] + 1, axis] = shape[number] - 0.5 + BEYOND + size
    return placed


def _area(ring):
    """Area, px^2, positive for the ring round a region, negative for that round a hole."""
    x, y = ring.T
    return 0.5 * float(np.sum(x * np.roll(y, -1) - np.roll(x, -1) * y))


def _simplified(ring, tolerance):
    """The nodes of a ring that it needs to be right within the tolerance (Douglas & Peucker, 1973)."""
    ring = np.roll(ring, -int(np.argmin(ring.sum(axis=1))), axis=0)
    far = int(np.argmax(np.sum((ring - ring[0]) ** 2, axis=1)))
    closed = np.concatenate([ring, ring[:1]])
    kept, pieces = {0, far}, [(0, far), (far, len(ring))]
    while pieces:
        first, last = pieces.pop()
        if last - first < 2:
            continue
        away = _off_line(closed[first + 1 : last], closed[first], closed[last])
        worst = int(np.argmax(away))
        if away[worst] > tolerance:
            middle = first + 1 + worst
            kept.add(middle)
            pieces += [(first, middle), (middle, last)]
    return ring[sorted(kept)]


def _off_line(points, start, end):
    """Distances of points from the line between two others."""
    along = (end - start) / max(np.hypot(*(end - start)), 1e-9)
    x, y = (points - start).T
    return np.abs(x * along[1] - y * along[0])


def _with_holes(rings):
    """Polygons of the rings round regions, with those round holes in them joined to the smallest one around."""
    regions = sorted((ring for ring in rings if _area(ring) > 0), key=_area)
    nodes = [ring.tolist() for ring in regions]
    for hole in (ring for ring in rings if _area(ring) < 0):
        around = next((n for n, ring in enumerate(regions) if _inside(hole[0], ring)), None)
        if around is not None:
            first = nodes[around][0]
            nodes[around] += [*([first] if len(nodes[around]) == len(regions[around]) else []), *hole.tolist()]
            nodes[around] += [hole[0].tolist(), first]
    return tuple(Polygon(tuple(map(tuple, some))) for some in nodes)


def _inside(point, ring):
    """Whether a point lies in a ring, by the even-odd rule."""
    (x0, y0), (x1, y1) = ring.T, np.roll(ring, -1, axis=0).T
    crossed = (y0 > point[1]) != (y1 > point[1])
    x = x0 + (point[1] - y0) * (x1 - x0) / np.where(crossed, y1 - y0, 1)
    return bool(np.sum(crossed & (x > point[0])) % 2)
