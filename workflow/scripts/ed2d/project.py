"""A project on disk: which image directories there are, which are skipped and why, and what their results depend on."""

import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from .emdatainfo import Document, lattice_element, verified_lattice
from .errors import InputError
from .parameters import describe, effective_parameters

NAMES = re.compile(r"[^\x00-\x1f\x7f/\\{}*?\"'$`]+")  # what Snakemake and a shell carry unchanged


@dataclass(frozen=True)
class ImageDirectory:
    """One image directory; `name` is also the base name of its files."""

    directory: Path

    @property
    def name(self):
        return self.directory.name

    @property
    def image(self):
        return self.directory / f"{self.name}.tif"

    @property
    def mask(self):
        """The mask file, or None where there is none."""
        path = self.directory / f"{self.name}_mask.tif"
        return path if path.exists() else None

    @property
    def info(self):
        return self.directory / "info.xml"

    def reason_to_skip(self):
        """Why the image cannot be measured, or None. A broken info.xml is no reason: its job fails and says why."""
        if (self.directory / "ignore").exists():
            return "has a file `ignore`"
        if not NAMES.fullmatch(self.name):
            return "its name has a character that file names in a workflow must not have; rename it"
        if not self.image.is_file():
            return f"has no image {self.image.name}"
        if not self.info.is_file():
            return "has no info.xml, hence no lattice"
        try:
            return None if verified_lattice(Document.read(self.info)) else "info.xml has no VerifiedLattice"
        except InputError:
            return None


class Project:
    """The project directory with the workflow's configuration; looks at the disk once, when first asked."""

    def __init__(self, directory, config):
        self.directory, self.config = Path(directory), config

    @cached_property
    def document(self):
        """project.xml; InputError where it is missing or broken."""
        if not self.directory.is_dir():
            raise InputError(self.directory, "is not a directory", "set `project` to the directory with project.xml")
        return Document.read(self.directory / "project.xml")

    @cached_property
    def directories(self):
        """All image directories, sorted by name: those whose whole name matches DiffProcessing/ImageMask."""
        text = self.document.required("DiffProcessing/ImageMask", "string")
        try:
            pattern = re.compile(text)
        except re.error as error:
            problem = f"the value {text!r} of DiffProcessing/ImageMask is no regular expression ({error})"
            raise InputError(self.document.path, problem, "give one that matches the directories, as ABC[0-9]{7}") from error
        found = [entry for entry in self.directory.iterdir() if pattern.fullmatch(entry.name) and entry.is_dir()]
        return [ImageDirectory(entry) for entry in sorted(found)]

    @cached_property
    def skipped(self):
        """Reasons by name of the images that are skipped."""
        reasons = {entry.name: entry.reason_to_skip() for entry in self.directories}
        return {name: reason for name, reason in reasons.items() if reason}

    @cached_property
    def images(self):
        """Names of the images to measure."""
        return [entry.name for entry in self.directories if entry.name not in self.skipped]

    def mask(self, name):
        """Path of the mask file of an image as a list, empty where there is none."""
        mask = ImageDirectory(self.directory / name).mask
        return [str(mask)] if mask else []

    def parameters(self, name):
        """The effective parameters of an image in one line; what is wrong with them where they cannot be had."""
        try:
            info = Document.read(ImageDirectory(self.directory / name).info)
            found = describe(effective_parameters(info, self.document, self.config))
        except InputError as error:
            return str(error)
        return ", ".join(f"{path.rpartition('/')[2]}={value}" for path, value in found.items() if value != "none")

    def lattice(self, name):
        """The verified lattice of an image in one line; what is wrong with it where it cannot be had."""
        try:
            lattice = verified_lattice(Document.read(ImageDirectory(self.directory / name).info))
        except InputError as error:
            return str(error)
        items = lattice_element("VerifiedLattice", lattice).iter() if lattice else ()
        return " ".join(item.get("value") or item.tag for item in items)

    def results(self, name, *suffixes):
        """Paths of the files of an image: `_ext.mtz` is DIRECTORY/NAME/NAME_ext.mtz, `tmp.tif` DIRECTORY/NAME/tmp.tif."""
        folder = self.directory / name
        return [str(folder / (f"{name}{suffix}" if suffix.startswith("_") else suffix)) for suffix in suffixes]

    def report(self):
        """Lines for the end of a run: how many images are done, and why the others are not."""
        failed = {name: self._last_words(name) for name in self.images if not self._done(name)}
        lines = [f"{self.directory}: {len(self.images) - len(failed)} of {len(self.directories)} images are measured"]
        lines += [f"  skipped: {name}: {reason}" for name, reason in self.skipped.items()]
        return lines + [f"  failed:  {name}: {reason}" for name, reason in failed.items()]

    def _done(self, name):
        return all(Path(path).exists() for path in self.results(name, "_ext.mtz", "_int.mtz"))

    def _last_words(self, name):
        """The last line of the log of the step that failed."""
        for path in self.results(name, "_int.log", "_ext.log"):
            if Path(path).is_file():
                lines = Path(path).read_text(encoding="utf-8", errors="replace").split("\n")
                return next((line for line in reversed(lines) if line.strip()), "broken off")
        return "not measured"
