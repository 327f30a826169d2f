"""What the log file of a job says for others: error, processor time, and which image and mask were measured."""

import json
from dataclasses import dataclass

ERROR = "ERROR: "  # begins the last line of the log of a job that has failed
SECONDS = "CPU seconds = "  # and of one that is done
FILES = "files = "  # begins a line with the `file_values` as JSON


@dataclass(frozen=True)
class JobLog:
    """Each is None where the log does not have it."""

    error: str | None
    seconds: float | None
    files: dict | None


def read_log(path):
    """The JobLog of a file; nothing where that is missing, from another program or not whole."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    last = lines[-1] if lines else ""
    files = [line.removeprefix(FILES) for line in lines if line.startswith(FILES)]
    return JobLog(
        error=last.removeprefix(ERROR) if last.startswith(ERROR) else None,
        seconds=_parsed(float, last.removeprefix(SECONDS)) if last.startswith(SECONDS) else None,
        files=_parsed(json.loads, files[0]) if files else None,
    )


def _parsed(parse, text):
    try:
        return parse(text)
    except (ValueError, RecursionError):
        return None
