"""One job of the workflow: its log file, its line on the screen, its exit status."""

import json
import logging
import os
import platform
import sys
import time
import warnings
from contextlib import suppress
from pathlib import Path

import numpy as np

from . import __version__
from .atomic import clear_leftovers
from .errors import InputError
from .imagedirectory import ImageDirectory
from .joblog import ERROR, SECONDS

RUN = "ED2D_RUN"  # the variable with the process number of the Snakemake that a job belongs to

_parent = None


def main(step):
    """Run `step` with the arguments of the command line, `name=value`.

    No value is None, that of `config` is JSON, that of `directory` an image directory with what is in it.
    """
    global _parent
    _parent = int(os.environ.get(RUN, os.getppid()))
    check_wanted()
    arguments = {name: value or None for name, _, value in (given.partition("=") for given in sys.argv[1:])}
    if "config" in arguments:
        arguments["config"] = json.loads(arguments["config"])
    if "directory" in arguments:
        arguments |= ImageDirectory(Path(arguments.pop("directory"))).given()
    run(step, **arguments)


def check_wanted():
    """Ends a job whose Snakemake was killed: the next run may already be at work on the same image."""
    if _parent not in (None, os.getppid()):
        sys.exit("stopped: the run that this job belongs to is gone")


def run(step, *, log, **arguments):
    """Run `step(**arguments)`; exit status 1 with one line on stderr when it fails, the traceback in the file `log`."""
    try:
        _open_log(log)
        clear_leftovers(Path(log).parent)
    except OSError as error:
        sys.exit(f"{log}: cannot be written: {error.strerror}; free space or permission to write there is needed")
    logger = logging.getLogger(__package__)
    logger.info("ed2d %s, Python %s, numpy %s", __version__, platform.python_version(), np.__version__)
    try:
        summary = step(**arguments)
    except InputError as error:
        logger.debug("", exc_info=True)
        logger.error("%s", error)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(f"{arguments.get('name', step.__name__)}: stopped")
    except Exception as error:
        logger.debug("", exc_info=True)
        name = arguments.get("name", step.__name__)
        logger.error("%s: %s: %s; please report this with the log file %s", name, *_told(error), log)
        sys.exit(1)
    logger.info("%s", summary)
    logger.info("%s%.2f", SECONDS, time.process_time())
    with suppress(OSError, AttributeError, ValueError):  # the terminal may be gone: no reason to lose the results
        print(summary, file=sys.stderr, flush=True)


def _told(error):
    return type(error).__name__, " ".join(str(error).split()) or "no message"


def _open_log(path):
    """Everything goes to the file, warnings and errors also to the screen."""
    logger = logging.getLogger(__package__)
    logger.setLevel(logging.DEBUG)
    file, screen = _LogFile(path, mode="w", encoding="utf-8"), logging.StreamHandler(sys.stderr)
    screen.setLevel(logging.WARNING)
    for handler in (file, screen):
        logger.addHandler(handler)
    logging.captureWarnings(True)
    logging.getLogger("py.warnings").addHandler(file)
    warnings.simplefilter("default")


class _LogFile(logging.FileHandler):
    """The log file: errors are marked, and a full disk is said once instead of once a line."""

    def format(self, record):
        return (ERROR if record.levelno >= logging.ERROR else "") + super().format(record)

    def handleError(self, record):
        for name in (__package__, "py.warnings"):
            logging.getLogger(name).removeHandler(self)
        with suppress(OSError):
            self.close()
        error = sys.exc_info()[1]
        problem = f"cannot be written: {getattr(error, 'strerror', None) or error}"
        print(InputError(self.baseFilename, problem, "free space on the disk, then run again"), file=sys.stderr)
