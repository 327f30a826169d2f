"""A project on disk: its image directories, which are skipped or refused and why, what their results depend on."""

import re
from functools import cache, cached_property
from inspect import signature
from pathlib import Path

from .dependencies import digest, lines, names
from .emdatainfo import Document
from .errors import InputError, printable
from .image import read_image
from .imagedirectory import RESULTS, ImageDirectory
from .joblog import read_log
from .parameters import effective_parameters
from .readings import Readings

NAMES = re.compile(r"[^\x00-\x1f\x7f\ud800-\udfff/\\{}<>*?\"'$`]+")  # what Snakemake and a shell carry unchanged
UNFIT = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff{}<>]")  # in a path: Snakemake takes these for wildcards and the like
PERIODIC = re.compile(r"(.+?)\1{18}$")  # Snakemake takes such an end for a runaway wildcard
STEPS = ("mask", "search", "extract", "integrate")
MEASURED = STEPS[2:]
SHOWN = 20  # images of a kind on the screen; the summary has all
AGAIN = "run again; where that does nothing, with --forcerun extract"
SEARCH_AGAIN = "run again; where that does nothing, with --forcerun search"
MASK_AGAIN = "run again; where that does nothing, with --forcerun mask"


def one_spelling(directory):
    """The same text for every way to write a directory: relative to the working directory where it lies below that.

    Snakemake remembers parameters by the paths of results: under another spelling it would not know them. InputError
    for characters that it takes for something else.
    """
    path, here = Path(directory).expanduser().resolve(), Path.cwd().resolve()
    path = str(path.relative_to(here) if path.is_relative_to(here) else path)
    if unfit := UNFIT.search(path):
        raise InputError("config", f"the path {path} of project has {unfit[0]!r} in it", "rename the directory")
    return path


class Project:
    """The project directory with the workflow's configuration; looks at the disk once, when first asked."""

    def __init__(self, directory, config, memory, only=None):
        """memory: a file for what is remembered from run to run; only: the names of some images, all others are none
        of its business.
        """
        self.directory, self.config, self.memory, self.only = Path(directory), config, memory, only

    def anew(self):
        """The same project as it is now."""
        return Project(self.directory, self.config, self.memory, self.only)

    @cached_property
    def document(self):
        """project.xml; InputError where it is missing or broken."""
        if not self.directory.is_dir():
            raise InputError(self.directory, "is not a directory", "set `project` to the directory with project.xml")
        return Document.read(self.directory / "project.xml")

    @cached_property
    def readings(self):
        """Reads info.xml files."""
        return Readings(self.memory, self.document, self.config)

    @cached_property
    def directories(self):
        """All image directories, sorted by name: those whose whole name matches DiffProcessing/ImageMask."""
        if self.only is not None:
            return [entry for entry in map(self.entry, sorted(self.only)) if entry.directory.is_dir()]
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
            raise InputError(self.document.path, problem, self._cure_for_none(pattern))
        return [ImageDirectory(directory) for directory in sorted(found)]

    def _cure_for_none(self, pattern):
        """What to do where no directory is one of an image: there may be images that have none."""
        loose = sorted(p.stem for p in self.directory.glob("*.tif") if pattern.fullmatch(p.stem))
        if not loose:
            return "correct it, or give each image a directory of its name"
        return f"give each image a directory of its name: {loose[0]}.tif becomes {loose[0]}/{loose[0]}.tif"

    @cache  # noqa: B019 - a project lives as long as the process
    def planned(self, name):
        """The Reading of the info.xml of an image as it was when the run was planned."""
        return self.reading(name)

    def reading(self, name):
        """The Reading of the info.xml of an image as it is now."""
        entry = self.entry(name)
        return self.readings.read(entry.info, mask_file=entry.mask is not None)

    def entry(self, name):
        """The image directory of this name."""
        return ImageDirectory(self.directory / name)

    @cached_property
    def skipped(self):
        """Reasons by name of the images that are skipped."""
        reasons = {entry.name: self._reason_to_skip(entry.name) for entry in self.directories}
        return {name: reason for name, reason in reasons.items() if reason}

    @cached_property
    def refused(self):
        """Reasons by name of the images that are bound to fail: bad XML, files that cannot be read or written."""
        names = [entry.name for entry in self.directories if entry.name not in self.skipped]
        reasons = {name: self._reason_to_refuse(name) for name in names}
        return {name: reason for name, reason in reasons.items() if reason}

    @cache  # noqa: B019 - a project lives as long as the process
    def _reason_to_skip(self, name):
        """Why an image is left out, or None. What is broken or cannot be read is no reason: that is a failure."""
        entry = self.entry(name)
        try:
            if (entry.directory / "ignore").exists():
                return "has a file `ignore`"
            if not NAMES.fullmatch(name) or PERIODIC.search(name):
                return "its name has a character or a repetition that file names in a workflow must not have; rename it"
            if not entry.image.is_file():
                return f"has no image {entry.image.name}"
            if self.config.get("search") == "never" and not entry.info.is_file():
                return "has no info.xml, hence no lattice"
            reading = self.planned(name)
        except OSError:
            return None
        if self.config.get("search") == "never" and not reading.measurable:
            return "info.xml has no VerifiedLattice"
        return None

    @cache  # noqa: B019 - a project lives as long as the process
    def _reason_to_refuse(self, name):
        entry = self.entry(name)
        try:
            reading = self.planned(name)
            if reading.error:
                return reading.error
            entry.check_results()
            if self.outdated(name, reading) or self.outdated_search(name, reading):
                entry.check_access()
            if self._replaced(entry):
                self._check_image(entry)
        except InputError as error:
            return str(error)
        except OSError as error:
            return f"{entry.directory}: cannot be read ({error.strerror}); restore the permission to read it"
        return None

    def _replaced(self, entry):
        """Whether image or mask are others than those that the results are of, or may be."""
        (extracted,) = entry.results("_ext.mtz")
        if not extracted.exists():
            return False
        (log,) = entry.results("_ext.log")
        known = read_log(log).files
        return entry.newer_than(extracted) if known is None else known != entry.file_values()

    def _check_image(self, entry):
        """InputError when an image cannot be measured.

        Before a job Snakemake removes the earlier results: a broken copy must not cost them.
        """
        parameters = effective_parameters(Document.read_info(entry.info), self.document, self.config)
        read_image(entry.image, mask_path=entry.mask, shapes=parameters.mask, saturation=parameters.saturation)

    def outdated(self, name, reading):
        """Why the results of an image are not those of what is in force, or None; `reading`: its info.xml as it is."""
        entry = self.entry(name)
        if not all(path.exists() for path in entry.results(*RESULTS)):
            return "not all of its results are there; run again"
        if reading.error:
            return reading.error
        if reason := self.outdated_mask(name, reading):
            return reason
        if any(reading.made[step] != digest(step, reading.written) for step in MEASURED):
            return f"its results were made with other values; {AGAIN}"
        if reading.made["reflections"] != reading.made["integrated"]:
            return f"its intensities are of an earlier extraction; {AGAIN}"
        logged = [read_log(log).files for log in entry.results("_ext.log", "_int.log")]
        if any(files not in (None, entry.file_values()) for files in logged):
            return f"image or mask are no longer those that were measured; {AGAIN}"
        return None

    def outdated_search(self, name, reading):
        """Why the lattice of an image is to be searched, or None; `reading`: its info.xml as it is."""
        entry = self.entry(name)
        if reading.error or reading.verified:
            return None
        if reading.made["search"] != digest("search", reading.written):
            known = "was searched with other values" if reading.made["search"] else "is not searched yet"
            return f"its lattice {known}; {SEARCH_AGAIN}"
        if not all(path.exists() for path in entry.results("tmp_search.tif")):
            return "its lattice is searched, but tmp_search.tif is missing; run again"
        (log,) = entry.results("_src.log")
        if read_log(log).files != entry.file_values():  # without a log too: a lattice of another image looks right
            return f"image or mask are not those in which the lattice was searched; {SEARCH_AGAIN}"
        return None

    def outdated_mask(self, name, reading):
        """Why the found mask that is in force on an image is to be found anew, or None; `reading`: its info.xml."""
        entry = self.entry(name)
        if reading.error or reading.own_mask or not reading.made["mask"]:
            return None
        (log,) = entry.results("_msk.log")
        same = reading.made["mask"] == digest("mask", reading.written) and read_log(log).files == entry.file_values()
        return None if same else f"its mask was found on another image, or with other values; {MASK_AGAIN}"

    @cached_property
    def _in_work(self):
        """Names of the images that are neither skipped nor refused."""
        left_out = self.skipped | self.refused
        return [entry.name for entry in self.directories if entry.name not in left_out]

    @cached_property
    def images(self):
        """Names of the images to measure: their lattice is verified, or searched, sure and up to date."""
        before = self.unsearched | self.unmasked_anew
        return [name for name in self._in_work if self.planned(name).measurable and name not in before]

    @cached_property
    def unverified(self):
        """Names of the images whose lattice the program searches."""
        return [name for name in self._in_work if not self.planned(name).verified]

    @cached_property
    def unsearched(self):
        """Those of them whose search is missing or out of date, and why."""
        reasons = {name: self.outdated_search(name, self.planned(name)) for name in self.unverified}
        return {name: reason for name, reason in reasons.items() if reason}

    @cached_property
    def unmasked_anew(self):
        """Images with a verified lattice whose found mask is out of date, and why."""
        verified = [name for name in self._in_work if self.planned(name).verified]
        reasons = {name: self.outdated_mask(name, self.planned(name)) for name in verified}
        return {name: reason for name, reason in reasons.items() if reason}

    @cached_property
    def unmasked(self):
        """Names of the images that the user gives no mask of their own."""
        return [name for name in self._in_work if not self.planned(name).own_mask]

    def due(self, name):
        """Files that are there and are to be made again, though Snakemake may not see it, before a measurement."""
        reading = self.planned(name)
        mask = not reading.own_mask and (not reading.made["mask"] or self.outdated_mask(name, reading))
        made = ["tmp_mask.tif"] * bool(mask) + ["tmp_search.tif"] * (name in self.unsearched)
        return [path for path in self.results(name, *made) if Path(path).exists()]

    def check_measurable(self, name):
        """No files; InputError for an image that is skipped or refused, forced or not, or has no lattice yet."""
        self.check_searchable(name)
        reading = self.planned(name)
        if self.outdated_search(name, reading):
            (picture,) = self.results(name, "tmp_search.tif")
            raise InputError(name, "its lattice is to be searched first", f"give the target {picture}, then this one")
        if self.outdated_mask(name, reading):
            raise InputError(name, "its mask is to be found first", "give the target mask_all, then this one")
        if reading.unverified:
            raise InputError(name, "is not measured", reading.unverified)
        return []

    def check_searchable(self, name):
        """No files; InputError for an image that is skipped or refused, forced or not."""
        reason = self._reason_to_skip(name) or self._reason_to_refuse(name)
        if reason:
            raise InputError(name, "is not measured", reason)
        return []

    def check_maskable(self, name):
        """No files; InputError for an image that is skipped or refused, or that the user gives a mask."""
        self.check_searchable(name)
        if self.planned(name).own_mask:
            raise InputError(name, "has a mask of its own", "remove that to have one found")
        return []

    def mask_to_find(self, name):
        """The result of the mask step, as a list; none for an image of which the user gives a mask."""
        self.check_searchable(name)
        return [] if self.planned(name).own_mask else self.results(name, "tmp_mask.tif")

    def dependencies(self, step):
        """Functions of Snakemake's wildcards, one for each thing that the results of a step depend on.

        A changed value reruns the image, and Snakemake's reason shows this one value before and now.
        """
        planned = names(step, planned=True)
        texts = {re.sub("[/ ]", "_", name): self._text(step, number) for number, name in enumerate(planned)}
        return texts | {"planned": self._text(step, -1)}

    def _text(self, step, number):
        def text(wildcards):
            return self._texts(step, wildcards.image)[number]

        text.__signature__ = signature(text)  # Snakemake asks for it three times for each of them and each image
        return text

    @cache  # noqa: B019 - a project lives as long as the process
    def _texts(self, step, name):
        """What the results of an image depend on, and at the end a digest of it, with which a job compares."""
        values = self.planned(name).written | self.entry(name).file_values()
        return [*lines(step, values, planned=True), digest(step, values, planned=True)]

    def results(self, name, *suffixes):
        """Paths of files of an image, as `ImageDirectory.results` gives them."""
        return [str(path) for path in self.entry(name).results(*suffixes)]

    def left_out(self):
        """Lines for the start of a run: which images are not measured, and why."""
        said = [printable(f"skipped: {name}: {reason}") for name, reason in self.skipped.items()]
        return said if len(said) <= SHOWN else [*said[:SHOWN], f"skipped: and {len(said) - SHOWN} more"]
