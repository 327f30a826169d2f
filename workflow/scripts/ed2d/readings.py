"""What each info.xml says, remembered from run to run by the content of the file."""

import hashlib
import json
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from . import __version__
from .atomic import clear_leftovers, replacing
from .dependencies import choice, written_values
from .emdatainfo import EXTRACTED, INTEGRATED, MASKED, SEARCHED, Document, info_bytes
from .errors import InputError
from .parameters import has_mask

MADE = {
    "mask": f"{MASKED}/Inputs",
    "search": f"{SEARCHED}/Inputs",
    "extract": f"{EXTRACTED}/Inputs",
    "integrate": f"{INTEGRATED}/Inputs",
    "reflections": f"{EXTRACTED}/Reflections",
    "integrated": f"{INTEGRATED}/Reflections",
}
FIGURES = {
    "spots": (f"{EXTRACTED}/Predicted", "int"),
    "used": (f"{EXTRACTED}/Used", "int"),
    "rms_px": (f"{EXTRACTED}/RmsPosition", "float"),
    "gain": (f"{EXTRACTED}/Gain", "float"),
    "r_friedel": (f"{INTEGRATED}/RFriedelProfile", "float"),
    "null_width": (f"{INTEGRATED}/NullControl/ProfileFit/Width", "float"),
    "confidence": (f"{SEARCHED}/Confidence", "float"),
}
OF_NO_VALUE = ("project", "images_per_job", "residuals")  # keys of the configuration that no reading depends on


@dataclass(frozen=True)
class Reading:
    """What an info.xml says under a project.xml and a configuration.

    error: why it cannot be used, or None; written: the `written_values`; made: by step, the digest of the values that
    its results were made with, and digests of the reflections of the extraction and of those that were integrated;
    figures: numbers of the results by name, those that are there. verified: whether the user gives the lattice;
    unverified: why there is none in force, or ""; own_mask: whether the user gives a mask of this image.
    """

    error: str | None
    written: dict
    made: dict
    figures: dict
    verified: bool = False
    unverified: str = ""
    own_mask: bool = False

    @property
    def measurable(self):
        """Whether there is a lattice in force; an error is for others to say."""
        return self.error is not None or "origin" in self.written


class Readings:
    """Reads info.xml files; content that is in the JSON file `memory` of an earlier run is not parsed again."""

    def __init__(self, memory, project, config):
        """project: the Document of project.xml; config: nested dict."""
        self.memory, self.project, self.config = Path(memory), project, config
        values = {key: value for key, value in config.items() if key not in OF_NO_VALUE}
        shared = (__version__, values, project.content)
        self._shared = json.dumps(shared, sort_keys=True).encode()
        self._known = _remembered(self.memory)
        self._seen = {}

    def read(self, path, *, mask_file=False):
        """The Reading of a file as it is now, and where there is none, of a document that says nothing.

        mask_file: whether its image has one.
        """
        try:
            data = info_bytes(path)
        except InputError as error:
            return Reading(str(error), {}, {}, {})
        path = str(path)
        content = hashlib.sha256(self._shared + bytes([mask_file]) + data).hexdigest()
        known, reading = self._seen.get(path) or self._known.get(path) or (None, None)
        if known != content:
            reading = self._parsed(data, path, mask_file)
        self._seen[path] = content, reading
        return reading

    def remember(self):
        """Writes what was read for the next run, if there is anything new; without it that one only takes longer."""
        if self._seen == self._known:
            return
        with suppress(OSError, InputError):
            self.memory.parent.mkdir(parents=True, exist_ok=True)
            clear_leftovers(self.memory.parent)
            with replacing(self.memory) as temporary:
                readings = {path: (content, asdict(reading)) for path, (content, reading) in self._seen.items()}
                temporary.write_text(json.dumps(readings), encoding="utf-8")

    def _parsed(self, data, path, mask_file):
        try:
            document = Document.parse(data, path)
            written = written_values(document, self.project, self.config, mask_file=mask_file)
            chosen = choice(document, self.config, written)
        except InputError as error:
            return Reading(str(error), {}, {}, {})
        made = {step: _item(document, item, "string") for step, item in MADE.items()}
        figures = {name: _item(document, *item) for name, item in FIGURES.items()}
        figures = {name: value for name, value in figures.items() if value is not None}
        if chosen.verified:
            figures.pop("confidence", None)  # of another lattice, or no longer in question
        own_mask = mask_file or has_mask(document)
        return Reading(None, written, made, figures, chosen.verified, chosen.reason, own_mask)


def _item(document, path, kind):
    """An item of a result group; None where it is missing or spoilt."""
    try:
        return document.item(path, kind)
    except InputError:
        return None


def _remembered(memory):
    """The readings of an earlier run by path; nothing where they cannot be read."""
    try:
        known = json.loads(memory.read_bytes())
        readings = {path: (content, Reading(**reading)) for path, (content, reading) in known.items()}
        return {path: entry for path, entry in readings.items() if _sound(entry[1])}
    except (OSError, ValueError, TypeError, AttributeError, RecursionError):
        return {}


def _sound(reading):
    """Whether a Reading has the types that every run gives it."""
    error, written, made, figures = (getattr(reading, name) for name in ("error", "written", "made", "figures"))
    return (
        isinstance(error, str | None)
        and all(isinstance(group, dict) for group in (written, made, figures))
        and all(isinstance(value, str) for value in written.values())
        and set(made) == set(() if error else MADE)
        and all(isinstance(value, str | None) for value in made.values())
        and all(name in FIGURES and type(value).__name__ == FIGURES[name][1] for name, value in figures.items())
        and isinstance(reading.unverified, str)
        and {type(reading.verified), type(reading.own_mask)} == {bool}
    )
