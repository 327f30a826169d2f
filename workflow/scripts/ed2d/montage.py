"""Montages of the boxes of an image, for looking at them in ImageJ."""

import json

import numpy as np
import tifffile

from .atomic import replacing

GAP = 1  # px between boxes
CLASSIC_TIFF = 2**32 - 2**25  # bytes; offsets have 32 bits


def montage(boxes, miller):
    """A float32 image of all boxes, and its geometry.

    boxes: (n, side, side), [y, x], NaN where a pixel is ignored; miller: (n, 2), each index at most once. Box (h, k)
    stands in column h - hmin and row k - kmin, that is, its first pixel at x = (h - hmin) (side + gap) and
    y = (k - kmin) (side + gap). Gaps and lattice points without a box are NaN.
    """
    boxes, miller = np.asarray(boxes), np.asarray(miller)
    if len(boxes) == 0:
        raise ValueError("no boxes")
    (hmin, kmin), side = miller.min(axis=0), boxes.shape[-1]
    columns, rows = miller.max(axis=0) - (hmin, kmin) + 1
    step = side + GAP
    canvas = np.full((rows, step, columns, step), np.nan, np.float32)
    canvas[miller[:, 1] - kmin, :side, miller[:, 0] - hmin, :side] = boxes
    image = canvas.reshape(rows * step, columns * step)[:-GAP, :-GAP]
    geometry = {"hmin": hmin, "kmin": kmin, "side": side, "gap": GAP, "columns": columns, "rows": rows}
    return image, {name: int(value) for name, value in geometry.items()}


def write_montage(path, boxes, miller, *, title):
    """Write a montage as TIFF whole or not at all; title and geometry as JSON in the ImageDescription.

    InputError where it cannot be written. Equal input gives equal bytes: no date, no name of a program.
    """
    image, geometry = montage(boxes, miller)
    with replacing(path) as temporary:
        tifffile.imwrite(
            temporary,
            image,
            byteorder="<",
            bigtiff=image.nbytes > CLASSIC_TIFF,
            compression="zlib",  # long runs of NaN where the lattice has no boxes
            compressionargs={"level": 1},
            predictor=False,  # ImageJ reads no other floats
            description=json.dumps({"title": title, **geometry}),
            metadata=None,
            software=False,
        )
