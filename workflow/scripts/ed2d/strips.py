"""Strips of a detector that are dead or dark: rows, columns, parts of them, and rectangles of constant pixels."""

import numpy as np
from scipy import ndimage

from .maskshapes import Extent

RUN = 64  # px of a row or column that are looked at together
PROBES = (RUN // 4, RUN // 2, RUN - 1)  # of the pixels that are looked at first
FULL = 0.995  # of a rectangle: constant pixels that make it dead
CRISP = 0.7  # of the signal beside a wide dead rectangle: least signal next to it
COMMON = 0.9  # of the pixels beside: a value that is as frequent there tells nothing
SPARSE, MOST_COMMON = 7, 0.7  # px; of the image: a value that is as frequent is that of pixels without counts
UNLIKELY = -25.0  # logarithm of the probability that so many pixels are alike by chance
SIDE, GAP = 8, 8  # px; width and distance of what lies beside a pixel, to be compared with it
WIDEST = 12  # px; of a dark strip
DARK = 0.6  # of the signal beside a strip: brighter ones are none
DIM, ALONG = 0.2, 9  # share of the rows, those with the dimmest pixels beside; px, smoothed along the strip
OPEN = 0.9  # of the signal beside: where the edge of a strip ends
LEAST_DROP = 0.15  # of the typical signal
BELIEVED = 3.0  # standard deviations below the signal beside: what belongs to a soft edge
STEP = 8  # px; the ends of a dark strip are as exact
SIGNIFICANT = 6.0  # standard deviations of the drop
FEWEST_RUNS = 3  # of a dark strip
MARGIN = 1  # px to each side


def dead_strips(data, saturated):
    """Extents of rectangles of constant pixels that are not `saturated`: rows, columns, tiles, from RUN px on.

    The inside of a shadow is none. They must be alike beyond chance: pixels of the same value make up the share f of
    those beside, at most COMMON, and n ln f is below UNLIKELY for the n pixels.
    """
    boxes = _constant(data)
    boxes += [box[::-1] for box in _constant(data.T)]
    boxes = sorted((box for box in boxes if not saturated[box[0].start, box[1].start]), key=_area, reverse=True)
    kept = []
    for box in boxes:
        if not any(_within(box, other) for other in kept):
            kept.append(box)
    return tuple(_extent(rows, columns) for rows, columns in kept)


def _constant(data):
    """(slice of rows, slice of columns) of the dead rectangles that are RUN rows high or higher."""
    tops = np.arange(0, len(data) - RUN + 1, RUN)
    if len(tops) == 0:
        return []
    constant = np.zeros((len(tops), data.shape[1]), bool)
    for top, row in zip(tops, constant, strict=True):
        some = np.flatnonzero(np.all([data[top] == data[top + step] for step in PROBES], axis=0))
        piece = data[top : top + RUN, some]
        row[some] = (piece == piece[0]).all(axis=0)
    label, _ = ndimage.label(constant)
    return [box for place in ndimage.find_objects(label) for box in _dead(data, *place)]


def _dead(data, runs, columns):
    """Dead rectangles (rows, columns) in a rectangle of runs; where it is none, those of its runs."""
    rows = slice(runs.start * RUN, runs.stop * RUN)
    value = data[rows.start, columns.start]
    if np.mean(data[rows, columns] == value) < FULL:
        return [box for run in range(runs.start, runs.stop) for box in _of_one_run(data, run, columns)]
    if np.mean(data[::SPARSE, ::SPARSE] == value) > MOST_COMMON or not _beyond_chance(data, rows, columns, value):
        return []
    rows = _grown(data, rows, columns, value)
    if columns.stop - columns.start <= WIDEST:
        return [(rows, _with_soft_edges(data, rows, columns, value))]
    return [(rows, columns)] if _crisp(data, rows, columns, value) else []


def _of_one_run(data, run, columns):
    """Dead rectangles of a run, of columns next to each other that are constant."""
    piece = data[run * RUN : (run + 1) * RUN, columns]
    label, _ = ndimage.label((piece == piece[0]).all(axis=0))
    parts = [slice(columns.start + part.start, columns.start + part.stop) for (part,) in ndimage.find_objects(label)]
    alike = [part for part in parts if np.all(data[run * RUN, part] == data[run * RUN, part.start])]
    return [box for part in alike for box in _dead(data, slice(run, run + 1), part)]


def _beyond_chance(data, rows, columns, value):
    """Whether a rectangle has this value alone not by chance, from how frequent it is to either side."""
    left = slice(max(columns.start - GAP - SIDE, 0), max(columns.start - GAP, 0))
    right = slice(columns.stop + GAP, columns.stop + GAP + SIDE)
    sides = [data[rows, side] == value for side in (left, right)]
    share = max(((np.sum(side) + 0.5) / (side.size + 1) for side in sides if side.size), default=1.0)
    number = (rows.stop - rows.start) * (columns.stop - columns.start)
    return share < COMMON and number * np.log(share) < UNLIKELY


def _grown(data, rows, columns, value):
    """The rows, and those above and below them that have the value too."""
    alike = (data[:, columns] == value).all(axis=1)
    above, below = np.flatnonzero(~alike[: rows.start]), np.flatnonzero(~alike[rows.stop :])
    return slice(above[-1] + 1 if len(above) else 0, rows.stop + below[0] if len(below) else len(data))


def _with_soft_edges(data, rows, columns, value):
    """The columns of a dead strip with those beside it that are darker than the ones beyond."""
    wider = _between_spots(data, rows, columns, float(value))
    return columns if wider is None else wider


def _crisp(data, rows, columns, value):
    """Whether the pixels next to a wide rectangle are as bright as those beyond: else it is the inside of a shadow."""
    for side in (-1, 1):
        beside = _next_to(columns, side, data.shape[1])
        near = slice(beside.stop - 2, beside.stop) if side < 0 else slice(beside.start, beside.start + 2)
        signal = [np.nan_to_num(data[rows, some].astype(np.float32) - value) for some in (near, beside)]
        if not abs(signal[0].mean()) >= CRISP * abs(signal[1].mean()):
            return False
    return True


def _area(box):
    return (box[0].stop - box[0].start) * (box[1].stop - box[1].start)


def _within(box, other):
    return all(a.start >= b.start - 1 and a.stop <= b.stop + 1 for a, b in zip(box, other, strict=True))


def _extent(rows, columns):
    """The rectangle of these pixels and a margin."""
    left, right = columns.start - MARGIN, columns.stop - 1 + MARGIN
    return Extent((float(left), float(rows.start - MARGIN)), (float(right), float(rows.stop - 1 + MARGIN)))


def dark_strips(data, hidden, pedestal, typical):
    """Extents of straight strips, along rows or columns, that are darker than the pixels to both sides of them.

    They are at most WIDEST px wide and at least FEWEST_RUNS runs of RUN px long. `hidden` pixels (or None) do not
    count; `pedestal`, `typical`: counts of no signal, and of the typical signal above it.
    """
    upright = _dark(data, hidden, pedestal, typical)
    flat = _dark(data.T, None if hidden is None else hidden.T, pedestal, typical)
    return tuple(_extent(*box) for box in [*upright, *(box[::-1] for box in flat)])


def _dark(data, hidden, pedestal, typical):
    """(slice of rows, slice of columns) of the dark strips along columns."""
    means = _run_means(data, hidden) - pedestal
    if len(means) < FEWEST_RUNS or data.shape[1] < 2 * (GAP + SIDE):
        return []
    beside = _beside(means)
    scatter = np.abs(np.diff(means, n=2, axis=1)) / np.sqrt(6)
    noise = np.maximum(1.48 * np.median(scatter, axis=1), 0.6 * np.mean(scatter, axis=1))[:, None]  # sparse: median 0
    level = np.maximum(np.median(means, axis=1, keepdims=True), 1e-9)
    noise = noise * np.sqrt(np.maximum(beside / level, 1))
    drop = beside - means
    dark = (means < DARK * beside) & (drop > LEAST_DROP * typical) & (drop > SIGNIFICANT * noise)
    label, _ = ndimage.label(dark, np.ones((3, 3)))
    found = []
    for place in ndimage.find_objects(label):
        runs, columns = place
        if runs.stop - runs.start >= FEWEST_RUNS and columns.stop - columns.start <= WIDEST:
            rows = slice(max(runs.start * RUN - RUN // 2, 0), min(runs.stop * RUN + RUN // 2, len(data)))
            wider = _between_spots(data, rows, columns, pedestal)
            if wider is not None:
                found.append((_dark_part(data, rows, columns, wider, pedestal), wider))
    return found


def _run_means(data, hidden):
    """Means of RUN pixels of each column, (runs, columns); the last run may hold more.

    Columns that are hidden take the mean of the one to their left.
    """
    means = []
    for top in range(0, len(data) - RUN + 1, RUN):
        rows = slice(top, top + RUN if top + 2 * RUN <= len(data) else len(data))
        if hidden is None:
            means.append(data[rows].mean(axis=0, dtype=np.float32))
        else:
            seen = ~hidden[rows]
            total, number = np.where(seen, data[rows], 0).sum(axis=0, dtype=np.float32), seen.sum(axis=0)
            last = np.maximum.accumulate(np.where(number > 0, np.arange(len(number)), 0))
            means.append((total / np.maximum(number, 1))[last])
    return np.array(means)


def _beside(means):
    """The lower one of the medians of SIDE columns to the left and to the right; beyond the edge counts for nothing."""
    windows = np.median(np.lib.stride_tricks.sliding_window_view(means, SIDE, axis=1), axis=2)
    reach = GAP + SIDE
    edge = np.full((len(means), reach), np.inf, np.float32)
    return np.minimum(
        np.hstack([edge, windows[:, : -GAP - 1]])[:, : means.shape[1]],
        np.hstack([windows[:, GAP + 1 :], edge])[:, -means.shape[1] :],
    )


def _between_spots(data, rows, columns, pedestal):
    """All columns of a strip with its soft edges, or None where it is not dark in the rows without spots beside it."""
    first, last = max(columns.start - GAP - SIDE, 0), min(columns.stop + GAP + SIDE, data.shape[1])
    piece = np.nan_to_num(data[rows, first:last].astype(np.float32) - pedestal)
    inner = slice(columns.start - first, columns.stop - first)
    sides = np.ones(piece.shape[1], bool)
    sides[max(inner.start - GAP, 0) : inner.stop + GAP] = False
    beside = ndimage.uniform_filter1d(piece[:, sides].mean(axis=1), ALONG)
    piece = piece[beside <= np.quantile(beside, DIM)]
    profile = piece.mean(axis=0)
    level, noise = profile[sides].mean(), profile[sides].std()
    if not profile[inner].mean() < DARK * level:
        return None
    opened = np.flatnonzero(profile > min(OPEN * level, level - BELIEVED * noise))
    left, right = opened[opened < inner.start], opened[opened >= inner.stop]
    return slice(first + (left[-1] + 1 if len(left) else 0), first + (right[0] if len(right) else len(profile)))


def _dark_part(data, rows, columns, wider, pedestal):
    """The rows from the first to the last where a strip is dark, by pieces of STEP rows."""
    tops = np.arange(rows.start, rows.stop, STEP)
    inside, left, right = (
        np.nan_to_num([np.median(data[top : min(top + STEP, rows.stop), some]) for top in tops], nan=np.inf) - pedestal
        for some in (columns, _next_to(wider, -1, data.shape[1]), _next_to(wider, 1, data.shape[1]))
    )
    dark = np.flatnonzero(inside < DARK * np.minimum(left, right))
    if len(dark) == 0:
        return rows
    return slice(int(tops[dark[0]]), int(min(tops[dark[-1]] + STEP, rows.stop)))


def _next_to(columns, side, number):
    """SIDE columns beside others; those themselves where there are none."""
    first = columns.stop if side > 0 else columns.start - SIDE
    beside = slice(max(first, 0), min(first + SIDE, number))
    return beside if beside.stop > beside.start else slice(0, number)
