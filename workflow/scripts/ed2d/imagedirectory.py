"""The directory of one image: which files are in it, and whether they can be read and written."""

import os
from dataclasses import dataclass
from pathlib import Path

from .dependencies import file_values
from .errors import InputError

RESULTS = ("_ext.mtz", "_int.mtz", "tmp_integrate1.tif", "tmp_integrate2.tif")
FOUND = ("tmp_mask.tif", "tmp_search.tif")  # of the mask and the lattice search
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

    def results(self, *suffixes):
        """Paths of files of the image: NAME/NAME_ext.mtz for `_ext.mtz`, NAME/tmp.tif for `tmp.tif`."""
        return [self.directory / (f"{self.name}{s}" if s.startswith("_") else s) for s in suffixes]

    def given(self):
        """What a step is given of the directory, as keywords of `read_inputs`."""
        paths = {"image": self.image, "mask": self.mask, "info": self.info}
        return {"name": self.name} | {key: str(path) if path else None for key, path in paths.items()}

    def check_access(self):
        """InputError when the image cannot be read, or results cannot be written or replaced."""
        if not os.access(self.directory, os.W_OK | os.X_OK):
            raise InputError(self.directory, "cannot be written to", "make the directory writable")
        for path in filter(None, (self.image, self.mask)):
            if not os.access(path, os.R_OK):
                raise InputError(path, "cannot be read", "restore the file, or the permission to read it")
        for path in self.results(*FOUND, *RESULTS, *RESIDUALS):
            if path.exists() and not os.access(path, os.W_OK):
                raise InputError(path, "is write-protected", "make it writable or remove it")

    def check_results(self):
        """InputError when a result is something that Snakemake would stop all images at."""
        for path in self.results(*FOUND, *RESULTS, *RESIDUALS):
            if path.is_symlink() and not path.exists():
                raise InputError(path, "is a link to nowhere", "remove it")
            if path.exists() and not path.is_file():
                raise InputError(path, "is not a file", "remove it")

    def newer_than(self, result):
        """Whether image or mask are newer than a file."""
        return any(path.stat().st_mtime > result.stat().st_mtime for path in (self.image, self.mask) if path)

    def file_values(self):
        """What tells image and mask from others."""
        return file_values(self.image, self.mask)
