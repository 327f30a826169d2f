"""Work for a cluster: what is left to do, in portions of many images."""

import csv
import json
import math
import os
import shutil
import subprocess
import time
from contextlib import suppress
from itertools import count
from pathlib import Path

from .errors import InputError
from .project import STEPS

PART = "ED2D_PART"  # the variable that makes a Snakemake a part of a run: the list of its images, "" to plan
CONFIG, WORDS = "config.json", "words.txt"


def plan_batches(directory, command, config, *, target, images, options=()):
    """Names RUN/NUMBER of batches of at most `images` images that take to its end what is left to do for a target.

    directory: where RUN/NUMBER.txt goes, the names of a batch's images, one a line. RUN/config.json, the configuration
    `config`, and RUN/words.txt, the last words of the command, one a line, `options` and target, are for all batches.
    command: the words that run Snakemake on single images. InputError when it cannot plan.
    """
    run = _new(Path(directory))
    words = [*options, "--", target]
    (run / CONFIG).write_text(json.dumps(config), encoding="utf-8")
    (run / WORDS).write_text("".join(f"{word}\n" for word in words), encoding="utf-8")
    try:
        names = _pending([*command, "--configfile", str(run / CONFIG), "--summary", *words])
    except InputError:
        shutil.rmtree(run)
        raise
    if not names:
        shutil.rmtree(run)
    number = math.ceil(len(names) / images)
    for n in range(number):
        (run / f"{n}.txt").write_text("".join(f"{name}\n" for name in names[n::number]), encoding="utf-8")
    return [f"{run.name}/{n}" for n in range(number)]


def images_of(path):
    """The images of a batch; InputError where the batch was retired."""
    try:
        return Path(path).read_text(encoding="utf-8").rstrip("\n").split("\n")
    except FileNotFoundError:
        raise InputError(path, "a newer run has taken over the images of this job", "nothing is to be done") from None


def retire_batches(directory, keep):
    """Removes what all runs have planned but those in `keep`: jobs of theirs that start later find no images."""
    for path in Path(directory).glob("*"):
        if path.name not in keep:
            shutil.rmtree(path, ignore_errors=True)


def _new(directory):
    """A directory for a run that no other has."""
    for number in count():
        path = directory / f"{time.strftime('%FT%H%M%S')}-{number}"
        with suppress(FileExistsError):
            path.mkdir(parents=True)
            return path


def _pending(command):
    """The names of the images that a run would measure, sorted."""
    done = subprocess.run(command, env=os.environ | {PART: ""}, capture_output=True, text=True, check=False)
    rows = list(csv.DictReader(done.stdout.rstrip("\n").split("\n"), delimiter="\t", quoting=csv.QUOTE_NONE))
    if done.returncode or not done.stdout:
        raise InputError("images_per_job", "what is left to do cannot be told", done.stderr.strip() or "run again")
    if any(None in row or None in row.values() for row in rows):
        raise InputError("project", "its path has a tab or a line break", "rename it, or set images_per_job=0")
    pending = (row["output_file"] for row in rows if row["plan"] == "update pending" and row["rule"] in STEPS)
    return sorted({Path(path).parent.name for path in pending})
