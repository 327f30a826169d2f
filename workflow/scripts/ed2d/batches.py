"""Work for a cluster: what is left to do, in portions of many images."""

import csv
import json
import math
import os
import subprocess
import tempfile
from itertools import groupby
from pathlib import Path

from .errors import InputError

CONFIG = "config.json"


def plan_batches(directory, command, config, *, target, images, forced=()):
    """Names RUN/NUMBER of batches of about `images` images that take to its end what is left to do for a target.

    directory: where RUN/NUMBER.txt goes, the last words of the batch's command, one a line, and RUN/config.json,
    the configuration `config`. command: the words that run Snakemake on single images. forced: options that force
    it. InputError when it cannot plan.
    """
    Path(directory).mkdir(parents=True, exist_ok=True)
    run = Path(tempfile.mkdtemp(dir=directory, prefix=""))
    (run / CONFIG).write_text(json.dumps(config), encoding="utf-8")
    pending = _pending([*command, "--configfile", str(run / CONFIG), "--summary", *forced, "--", target])
    by_image = [list(files) for _, files in groupby(sorted(pending), key=lambda path: Path(path).parent)]
    number = math.ceil(len(by_image) / images)
    for n in range(number):
        files = [path for one in by_image[n::number] for path in one]
        words = [*(["--forcerun", *files] if forced else []), "--", *files]
        (run / f"{n}.txt").write_text("".join(f"{word}\n" for word in words), encoding="utf-8")
    return [f"{run.name}/{n}" for n in range(number)]


def _pending(command):
    """The files beside images that a run would make."""
    done = subprocess.run(command, env=os.environ | {"ED2D_PART": "1"}, capture_output=True, text=True, check=False)
    if done.returncode:
        raise InputError("batches", "cannot be planned", " ".join(done.stderr.split()) or "run again")
    rows = csv.DictReader(done.stdout.splitlines(), delimiter="\t", quoting=csv.QUOTE_NONE)
    pending = [row["output_file"] for row in rows if row["plan"] == "update pending" and row["rule"] != "refused"]
    return pending
