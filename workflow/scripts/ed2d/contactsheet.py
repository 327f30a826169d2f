"""One page of all images that wait for verification: picture, lattice, and what speaks for and against it."""

import base64
import hashlib
import html
import json
import logging
import math
import re
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import imagecodecs
import numpy as np

from . import __version__
from .atomic import replacing
from .emdatainfo import SEARCHED, Document, read_lattice, rejected_lattice, searched_lattice, verified_lattice
from .errors import InputError
from .imagedirectory import ImageDirectory
from .lattice import Lattice
from .latticechoice import same_lattice
from .maskshapes import Circle, Extent, Polygon
from .parameters import masks
from .project import Project
from .tiff import read_page

PICTURE = "tmp_search.tif"
MOST_IMAGES = 1000  # on a page: some 100 MB, which a browser still opens in seconds
MOST_PEAKS = 1000
LARGEST_PICTURE = 2048  # px; the longer side
QUALITIES = (80, 65, 50, 35)  # of JPEG, the best first
MOST_BYTES = 150_000  # of a picture, where a lower quality helps
FEWEST_SURE = 3  # lattices of which a median is taken
SCRIPTS = ("lattice", "drawing", "decisions", "grid", "large", "actions")  # one after the other: one script
AGAIN = "remove it and run again, which makes it anew"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Found:
    """What the info.xml of an image says of its lattice.

    lattice: the VerifiedLattice, else the SearchedLattice or None; sure: whether it counts for the median of the
    project; waits: whether it is to be verified; rejected: whether it was rejected before; shown: what the page is
    given of the image, apart from what stands in its picture.
    """

    entry: ImageDirectory
    lattice: Lattice | None
    sure: bool
    waits: bool = False
    rejected: bool = False
    shown: dict | None = None

    @property
    def doubt(self):
        """Sorts images: those rejected before last, those without a lattice first, then by confidence."""
        confidence = self.shown["confidence"]
        return self.rejected, self.lattice is not None, -1.0 if confidence is None else confidence, self.entry.name


def contact_sheet(*, project, config, memory, output):
    """Writes the page `output` of all images of a project directory that wait for verification; a summary line.

    These have a search result and no VerifiedLattice. The most doubtful come first, MOST_IMAGES at most. An image whose
    files are broken is listed with the reason. `config` and `memory` as in `Project`. InputError where there is no
    project, and where the page cannot be written.
    """
    project = Project(project, config, memory)
    found, broken = _read_all(project)
    waiting = sorted((one for one in found if one.waits), key=lambda one: one.doubt)
    page = waiting[:MOST_IMAGES]
    start, end = _template(project.directory)
    with replacing(output) as temporary, temporary.open("w", encoding="utf-8") as file:
        file.write(start)
        for one in page:
            try:
                image = _image(one)
            except (InputError, OSError) as error:
                broken[one.entry.name] = str(error)
            else:
                file.write(image)
        file.write(_data("project", "json", _json(_about(project, found, len(waiting) - len(page), broken))))
        file.write(end)
    for reason in broken.values():
        log.warning("%s", reason)
    whole = [one for one in waiting if one.entry.name not in broken]
    without = sum(one.lattice is None for one in whole)
    counts = f"{len(whole)} to verify ({without} without a lattice), {len(broken)} broken"
    return f"{project.directory}: {counts}; open {output} in a browser"


def _about(project, found, remaining, broken):
    """What the page is given of the project."""
    return {
        "program": f"ed2d {__version__}",
        "project": str(project.directory.resolve()),
        "name": project.directory.resolve().name,
        "median": _median_cell(one.lattice for one in found if one.sure),
        "remaining": remaining,
        "broken": [{"image": name, "reason": reason} for name, reason in sorted(broken.items())],
    }


def _median_cell(lattices):
    """Medians of |a|, |b|, px, and gamma, degrees; None where too few lattices are sure."""
    cells = [(math.hypot(*lattice.a), math.hypot(*lattice.b), lattice.gamma) for lattice in lattices]
    return [median(column) for column in zip(*cells, strict=True)] if len(cells) >= FEWEST_SURE else None


# ---- info.xml


def _read_all(project):
    """Found of all images that have a lattice or were searched for one, and by name why others cannot be read."""
    found, broken = [], {}
    for entry in project.directories:
        try:
            one = None if (entry.directory / "ignore").exists() else _read(entry, project.document)
        except (InputError, OSError) as error:
            broken[entry.name] = str(error)
        else:
            found += [one] if one else []
    return found, broken


def _read(entry, project):
    """Found of an image, or None where nobody has looked for a lattice yet; `project`: the Document of project.xml."""
    if not entry.info.exists():
        return None
    info = Document.read(entry.info)
    verified = verified_lattice(info)
    if verified is not None:
        return Found(entry, verified, sure=True)
    search = info.group(SEARCHED)
    if search is None:
        return None
    lattice, rejected = searched_lattice(info), rejected_lattice(info)
    given, found = masks(info, project, mask_file=entry.mask is not None)
    shown = _results(info, search, lattice) | {
        "image": entry.name,
        "lattice": _values(lattice),
        "searched": lattice.digest() if lattice else None,
        "rejected": lattice is not None and rejected is not None and same_lattice(lattice, rejected),
        "outlines": [outline for shape in given + found for outline in _outlines(shape)],
    }
    sure = bool(shown["sure"]) and lattice is not None and not shown["rejected"]
    return Found(entry, lattice, sure, True, shown["rejected"], shown)


def _results(info, search, lattice):
    """What the group DiffSearch says, by the names that the page has for it; None where an item is absent."""
    other = info.group("RunnerUp", within=search)
    runner_up = read_lattice(other, info) if lattice and other is not None else None
    share = {"low": 0, "high": 1}
    items = {
        "confidence": ("Confidence", "float", share),
        "sure": ("Sure", "bool", {}),
        "reason": ("Reason", "string", {}),
        "peakCount": ("Peaks", "int", {"low": 0}),
        "share": ("PeaksOnLattice", "float", share),
        "rms": ("RmsPosition", "float", {"low": 0}),
        "runnerUpConfidence": ("RunnerUp/Confidence", "float", share),
    }
    shown = {name: info.item(path, kind, within=search, **limits) for name, (path, kind, limits) in items.items()}
    return shown | {"runnerUp": _values(runner_up)}


def _values(lattice):
    """A Lattice as the page and what it gives back have it."""
    if lattice is None:
        return None
    return {
        "offset": list(lattice.origin),
        "first": list(lattice.a),
        "second": list(lattice.b),
        "barrel": lattice.barrel,
        "spiral": lattice.spiral,
    }


# ---- shapes of the mask


def _outlines(shape):
    """Outlines of a shape of a mask and of those in it: closed polygons {"nodes"} and circles {"center", "radius"}."""
    if isinstance(shape, Polygon):
        yield {"nodes": [_rounded(node) for node in shape.nodes]}
    elif isinstance(shape, Circle):
        yield {"center": _rounded(shape.center), "radius": round(shape.radius, 2)}
    elif isinstance(shape, Extent):
        (x0, y0), (x1, y1) = _rounded(shape.start), _rounded(shape.end)
        yield {"nodes": [[x0, y0], [x1, y0], [x1, y1], [x0, y1]]}
    else:
        for inner in shape.shapes:
            yield from _outlines(inner)


def _rounded(point):
    return [round(value, 2) for value in point]


# ---- the picture


def _image(one):
    """The two elements of an image: its data and its picture. InputError where the picture is missing or broken."""
    jpeg, about = _picture(one.entry.directory / PICTURE)
    return _data("", "json", _json(one.shown | about), "image") + _data("", "plain", jpeg, "picture")


def _picture(path):
    """The picture of an image as JPEG in base64, and what it says of itself: shape, factor, peaks."""
    if not path.exists():
        raise InputError(path, "is missing", "run again, which makes it anew")
    described = []
    array, _ = read_page(path, lambda path, page, *_: described.append(_check_picture(path, page)))
    (description,) = described
    about = _described(path, description)
    factor, sizes = about["factor"], zip(array.shape, about["shape"], strict=True)
    if any(abs(factor * reduced - whole) >= factor for reduced, whole in sizes):
        raise InputError(path, "is not of the size that it says", AGAIN)
    return base64.b64encode(_jpeg(array)).decode(), about


def _jpeg(array):
    """A picture as JPEG of the best quality that is small enough; noise takes most of the bytes."""
    for quality in QUALITIES:
        data = imagecodecs.jpeg8_encode(array, level=quality)
        if len(data) <= MOST_BYTES:
            break
    return data


def _check_picture(path, page):
    """The description of the page of a picture; InputError where it is none of the step `search`."""
    if page.dtype != np.uint8 or max(page.shape) > LARGEST_PICTURE:
        raise InputError(path, "is no picture of the search", AGAIN)
    return page.description


def _described(path, text):
    """Shape, factor and peaks of the description of a picture, checked."""
    try:
        said = json.loads(text)
        shape, factor, peaks = said["shape"], said["factor"], np.array(said["peaks"], float).reshape(-1, 3)
        sound = all(isinstance(n, int) and 0 < n < 2**31 for n in (*shape, factor)) and len(shape) == 2
        if not sound or len(peaks) > MOST_PEAKS or not np.isfinite(peaks).all():
            raise ValueError("values out of range")
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
        raise InputError(path, f"has a description that cannot be used ({type(error).__name__})", AGAIN) from error
    listed = [[round(x, 2), round(y, 2), int(on != 0)] for x, y, on in peaks.tolist()]
    return {"shape": shape, "factor": factor, "peaks": listed}


# ---- the page


def _template(directory):
    """The page before and after its data; its policy allows its own script and style, and nothing from elsewhere."""
    page, style = _part("html"), _part("css")
    script = "\n".join(['"use strict";', "{", *(_part(f"{name}.js") for name in SCRIPTS), "}"])
    policy = {
        "default-src": "'none'",
        "img-src": "data:",
        "style-src": _allowed(style),
        "script-src": _allowed(script),
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    texts = {
        "POLICY": "; ".join(f"{name} {value}" for name, value in policy.items()),
        "TITLE": html.escape(f"ed2d: verify {directory.resolve().name}").encode("ascii", "xmlcharrefreplace").decode(),
        "STYLE": style,
        "SCRIPT": script,
    }
    start, end = (re.sub("@([A-Z]+)@", lambda match: texts[match[1]], part) for part in page.split("@DATA@"))
    return start, end


def _part(name):
    return Path(__file__).with_name(f"contactsheet.{name}").read_text(encoding="utf-8")


def _allowed(text):
    """The source of a policy that stands for this text alone (Content Security Policy Level 3, section 2.3.1)."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _json(value):
    """JSON that can stand in an element of HTML, whatever texts are in it; floats read back exactly."""
    return json.dumps(value, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")


def _data(name, kind, text, group=""):
    """An element of data, which browsers keep as text; `kind`: json or plain."""
    attributes = "".join(f' {key}="{value}"' for key, value in (("id", name), ("class", group)) if value)
    return f'<script type="{"application/json" if kind == "json" else "text/plain"}"{attributes}>{text}</script>\n'
