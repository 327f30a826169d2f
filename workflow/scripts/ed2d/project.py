"""A project on disk: which image directories there are, which are skipped and why, and what their results depend on."""

import os
import re
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from functools import cache, cached_property, partial
from pathlib import Path

from .emdatainfo import Document, verified_lattice
from .errors import InputError
from .image import read_image
from .job import ERROR
from .lattice import Lattice
from .parameters import describe, described, effective_parameters

NAMES = re.compile(r"[^\x00-\x1f\x7f\ud800-\udfff/\\{}*?\"'$`]+")  # what Snakemake and a shell carry unchanged
PERIODIC = re.compile(r"(.+?)\1{18}$")  # Snakemake takes such an end for a runaway wildcard
STAMPS = ("image", "mask file")
RESULTS = ("_ext.mtz", "_int.mtz", "tmp_integrate1.tif", "tmp_integrate2.tif")
RESIDUALS = ("tmp_integrate3.tif",)  # where they are asked for


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
        """The mask file, or None where there is none; a link to nowhere is one, and fails."""
        path = self.directory / f"{self.name}_mask.tif"
        return path if path.exists() or path.is_symlink() else None

    @property
    def info(self):
        return self.directory / "info.xml"

    @cached_property
    def document(self):
        """info.xml, read once."""
        return Document.read(self.info)

    def reason_to_skip(self):
        """Why the image cannot be measured, or None. A broken info.xml is no reason: that is a failure."""
        if (self.directory / "ignore").exists():
            return "has a file `ignore`"
        if not NAMES.fullmatch(self.name) or PERIODIC.search(self.name):
            return "its name has a character or a repetition that file names in a workflow must not have; rename it"
        if not self.image.is_file():
            return f"has no image {self.image.name}"
        if not self.info.is_file():
            return "has no info.xml, hence no lattice"
        try:
            return None if verified_lattice(self.document) else "info.xml has no VerifiedLattice"
        except InputError:
            return None

    def results(self, *suffixes):
        """Paths of files of the image: NAME/NAME_ext.mtz for `_ext.mtz`, NAME/tmp.tif for `tmp.tif`."""
        return [self.directory / (f"{self.name}{s}" if s.startswith("_") else s) for s in suffixes]

    def check_access(self):
        """InputError when the image cannot be read, or results cannot be written or replaced."""
        if not os.access(self.directory, os.W_OK | os.X_OK):
            raise InputError(self.directory, "cannot be written to", "make the directory writable")
        for path in filter(None, (self.image, self.mask)):
            if not os.access(path, os.R_OK):
                raise InputError(path, "cannot be read", "restore the file, or the permission to read it")
        for path in self.results(*RESULTS, *RESIDUALS):
            if path.exists() and not os.access(path, os.W_OK):
                raise InputError(path, "is write-protected", "make it writable or remove it")

    def check_replaced(self, parameters):
        """InputError when image or mask were replaced after the extraction by what cannot be measured.

        Before a job Snakemake removes the earlier results: a broken copy must not cost them.
        """
        (extracted,) = self.results("_ext.mtz")
        sources = [path for path in (self.image, self.mask) if path]
        if extracted.exists() and any(path.stat().st_mtime > extracted.stat().st_mtime for path in sources):
            read_image(self.image, mask_path=self.mask, shapes=parameters.mask, saturation=parameters.saturation)

    def stamps(self):
        """What identifies image and mask file, by name: size and time of last change."""
        return {"image": _stamp(self.image), "mask file": _stamp(self.mask) if self.mask else "none"}


def one_spelling(directory):
    """The same text for every way to write a directory: relative to the working directory where it lies below that.

    Snakemake remembers parameters by the paths of results: under another spelling it would not know them.
    """
    path, here = Path(directory).expanduser().resolve(), Path.cwd().resolve()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


def _stamp(path):
    status = path.stat()
    return f"{status.st_size} bytes of {datetime.fromtimestamp(status.st_mtime_ns // 10**9, UTC):%F %T} UTC"


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
            cure = "give one that matches the directories, as ABC[0-9]{7}"
            raise InputError(self.document.path, problem, cure) from error
        found = [entry for entry in self.directory.iterdir() if pattern.fullmatch(entry.name) and entry.is_dir()]
        if not found:
            problem = f"no directory has a name that matches the value {text!r} of DiffProcessing/ImageMask"
            raise InputError(self.document.path, problem, "correct it, or give each image a directory of its name")
        return [self.entry(directory.name) for directory in sorted(found)]

    @cache  # noqa: B019 - a project lives as long as the process
    def entry(self, name):
        """The image directory of this name, always the same object: it reads its info.xml once."""
        return ImageDirectory(self.directory / name)

    @cached_property
    def skipped(self):
        """Reasons by name of the images that are skipped."""
        reasons = {entry.name: _readable(entry.reason_to_skip) for entry in self.directories}
        return {name: reason for name, reason in reasons.items() if reason}

    @cached_property
    def refused(self):
        """Reasons by name of the images that are bound to fail: bad XML, files that cannot be read or written."""
        reasons = {entry.name: self._reason_to_refuse(entry) for entry in self.directories}
        return {name: reason for name, reason in reasons.items() if reason and name not in self.skipped}

    def _reason_to_refuse(self, entry):
        try:
            entry.check_access()
            parameters, _ = self._effective(entry.name)
            entry.check_replaced(parameters)
        except InputError as error:
            return str(error)
        except OSError as error:
            return f"{entry.directory}: cannot be read ({error.strerror}); restore the permission to read it"
        return None

    @cached_property
    def images(self):
        """Names of the images to measure."""
        left_out = self.skipped | self.refused
        return [entry.name for entry in self.directories if entry.name not in left_out]

    def image(self, name):
        """Path of an image that may be measured; InputError for one that is skipped or refused, forced or not."""
        reason = self.skipped.get(name) or self.refused.get(name)
        if reason:
            raise InputError(name, "is not measured", reason)
        return str(self.entry(name).image)

    def mask(self, name):
        """Path of the mask file of an image as a list, empty where there is none."""
        mask = self.entry(name).mask
        return [str(mask)] if mask else []

    def dependencies(self, step):
        """Functions of Snakemake's wildcards, one for each thing that the results of a step depend on.

        A changed value reruns the image, and Snakemake's reason shows this one value before and now.
        """
        names = [*described(step), *STAMPS, *(field.name for field in fields(Lattice) if step == "extract")]
        return {re.sub("[/ ]", "_", name): partial(self._dependency, name) for name in names}

    def _dependency(self, name, wildcards):
        try:
            return f"{name} = {self._effective(wildcards.image)[1][name]}"
        except (InputError, OSError) as error:
            return str(error)

    @cache  # noqa: B019 - a project lives as long as the process
    def _effective(self, image):
        """Parameters of an image, and all that its results depend on by name."""
        entry = self.entry(image)
        lattice = verified_lattice(entry.document)
        parameters = effective_parameters(entry.document, self.document, self.config)
        return parameters, describe(parameters, "integrate") | entry.stamps() | (vars(lattice) if lattice else {})

    def results(self, name, *suffixes):
        """Paths of files of an image, as `ImageDirectory.results` gives them."""
        return [str(path) for path in self.entry(name).results(*suffixes)]

    def left_out(self):
        """Lines for the start of a run: which images are not measured, and why."""
        return [f"skipped: {name}: {reason}" for name, reason in self.skipped.items()]

    def report(self, *, whole=False):
        """Lines for the end of a run: how many images are done, and why the others are not.

        whole: everything that was asked for is done; an image without all results is then not a failure.
        """
        failures = {name: self._failure(name) for name in self.images} | self.refused
        unfinished = [name for name in self.images if failures[name]]
        failed = {name: reason for name, reason in sorted(failures.items()) if reason}
        done = len(self.directories) - len(self.skipped) - len(failed)
        if whole:
            failed = {name: reason for name, reason in failed.items() if name not in unfinished}
        lines = [f"{self.directory}: {done} of {len(self.directories)} images are measured"]
        lines += [f"  {line}" for line in self.left_out()]
        return lines + [f"  failed:  {name}: {reason}" for name, reason in failed.items()]

    def _failure(self, name):
        """The error that the log of the first step without a result ends with; None where all steps have one."""
        for step in ("_ext", "_int"):
            result, log = map(Path, self.results(name, f"{step}.mtz", f"{step}.log"))
            if not result.exists():
                return _last_error(log) or "not finished; run again"
        return None


def _last_error(log):
    """The error that a log file ends with, or None."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines() if log.is_file() else None
    if lines == []:
        return f"not finished; {log} is empty: the job was killed or the disk is full; run again"
    return lines[-1].removeprefix(ERROR) if lines and lines[-1].startswith(ERROR) else None


def _readable(question):
    """The answer to a question about a directory; None where the directory cannot be read: that is a failure."""
    try:
        return question()
    except OSError:
        return None
