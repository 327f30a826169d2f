"""One job of the workflow: its log file, its line on the screen, its exit status."""

import logging
import platform
import sys
import warnings

import numpy as np

from . import __version__
from .errors import InputError


def run(step, *, log, **arguments):
    """Run `step(**arguments)`; exit status 1 with one line on stderr when it fails, the traceback in the file `log`."""
    try:
        _open_log(log)
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
    except Exception as error:
        logger.debug("", exc_info=True)
        logger.error("%s: %s: %s; please report this with the log file %s", arguments["name"], *_told(error), log)
        sys.exit(1)
    logger.info("%s", summary)
    print(summary, file=sys.stderr, flush=True)


def _told(error):
    return type(error).__name__, " ".join(str(error).split()) or "no message"


def _open_log(path):
    """Everything goes to the file, warnings and errors also to the screen."""
    logger = logging.getLogger(__package__)
    logger.setLevel(logging.DEBUG)
    file = logging.FileHandler(path, mode="w", encoding="utf-8")
    screen = logging.StreamHandler(sys.stderr)
    screen.setLevel(logging.WARNING)
    for handler in (file, screen):
        handler.setFormatter(logging.Formatter("%(message)s"))
        logger.addHandler(handler)
    logging.captureWarnings(True)
    logging.getLogger("py.warnings").addHandler(file)
    warnings.simplefilter("default")
