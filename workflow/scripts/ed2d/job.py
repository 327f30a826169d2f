"""One job of the workflow: its log file, its line on the screen, its exit status."""

import logging
import platform
import sys
import warnings
from contextlib import suppress

import numpy as np

from . import __version__
from .errors import InputError

ERROR = "ERROR: "  # begins the last line of the log of a job that has failed


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
    except KeyboardInterrupt:
        sys.exit(f"{arguments['name']}: stopped")
    except Exception as error:
        logger.debug("", exc_info=True)
        logger.error("%s: %s: %s; please report this with the log file %s", arguments["name"], *_told(error), log)
        sys.exit(1)
    logger.info("%s", summary)
    sys.stderr.write(f"{summary}\n")


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
