"""The outcome of a run, one row an image: a table for programs (`summary.tsv`) and some lines for people."""

from collections import Counter
from dataclasses import asdict, dataclass, fields
from statistics import median
from typing import NamedTuple

from .atomic import clear_leftovers, replacing
from .errors import InputError, printable
from .joblog import read_log
from .project import SHOWN

FILE = "summary.tsv"
DONE = ("measured", "unverified", "skipped")  # nothing is left for a run to do
STATUSES = ("measured", "extracted", "unfinished", "outdated", "unverified", "skipped", "failed")


@dataclass(frozen=True)
class Row:
    """One image; numbers are None where nothing was measured.

    status: one of STATUSES; reason: why it is not measured, with the cure. Figures as in `readings.FIGURES`;
    confidence: of the lattice, where the program has found it; seconds: processor time of extract and integrate.
    """

    image: str
    status: str
    reason: str = ""
    spots: int | None = None
    used: int | None = None
    rms_px: float | None = None
    r_friedel: float | None = None
    null_width: float | None = None
    gain: float | None = None
    confidence: float | None = None
    seconds: float | None = None


COLUMNS = tuple(field.name for field in fields(Row))
MEDIANS = {name: max(len(name), 7) for name in COLUMNS[3:] if name != "confidence"}  # widths on the screen


class Summary(NamedTuple):
    """Lines for the screen, and whether all images are measured that are neither skipped nor unverified."""

    lines: list
    complete: bool


def summarise(project):
    """Writes the summary of a project where it is new. InputError where there is no project."""
    present = project.anew()
    rows = [_readable_row(project, present, entry.name) for entry in project.directories]
    measured = [row.image for row in rows if row.status == "measured"]
    path = project.directory / FILE
    said = f"{project.directory}: {len(measured)} of {len(rows)} images are measured; see {path}"
    lines = [*_table(rows), said, *_reasons(rows)]
    present.readings.remember()
    clear_leftovers(project.directory)
    try:
        _write(path, rows)
    except InputError as error:
        lines.append(str(error))
    return Summary(lines, all(row.status in DONE for row in rows))


def _readable_row(project, present, name):
    """The row of an image, also where its directory cannot be read."""
    try:
        return _row(project, present, name)
    except OSError as error:
        return Row(name, "failed", f"cannot be read ({error.strerror}); restore the permission to read it")


def _row(project, present, name):
    """What was decided about an image when the run was planned, else what it has at present."""
    if name in project.skipped:
        return Row(name, "skipped", project.skipped[name])
    if name in project.refused:
        return Row(name, "failed", project.refused[name])
    entry, reading = project.entry(name), present.reading(name)
    if not reading.measurable:
        return _unmeasurable_row(present, entry, reading)
    logs = entry.results("_ext.log", "_int.log")
    for log, result in zip(logs, entry.results("_ext.mtz", "_int.mtz"), strict=True):
        if not result.exists():
            return Row(name, *_unfinished(log))
    if reason := present.outdated(name, reading):
        return Row(name, "outdated", reason)
    seconds = [read_log(log).seconds for log in logs]
    return Row(name, "measured", **reading.figures, seconds=None if None in seconds else sum(seconds))


def _unmeasurable_row(present, entry, reading):
    """The row of an image without a lattice in force."""
    figures = {"confidence": reading.figures.get("confidence")}
    reason = present.outdated_search(entry.name, reading)
    if reason is None:
        return Row(entry.name, "unverified", reading.unverified, **figures)
    logs = entry.results(*([] if reading.own_mask else ["_msk.log"]), "_src.log")
    errors = [error for error in (read_log(log).error for log in logs) if error]
    if errors:
        return Row(entry.name, "failed", errors[0])
    return Row(entry.name, "outdated" if reading.made["search"] else "unfinished", reason)


def _unfinished(log):
    """Status and reason of an image that lacks the result of the step with this log."""
    if error := read_log(log).error:
        return "failed", error
    if log.name.endswith("_int.log") and not log.exists():
        return "extracted", "not integrated; run again"
    if log.exists() and not log.stat().st_size:
        return "unfinished", f"{log} is empty: the job was killed or the disk is full; run again"
    if log.exists():
        return "unfinished", "not finished: the job was stopped or killed, perhaps for lack of memory; run again"
    return "unfinished", "not finished; run again"


def _write(path, rows):
    """The table of all images, tab separated, with a line of column names; empty where there is no number."""
    lines = [COLUMNS, *([_text(value) for value in asdict(row).values()] for row in rows)]
    content = "".join("\t".join(line) + "\n" for line in lines)
    if not path.is_file() or path.read_bytes() != content.encode():
        with replacing(path) as temporary:
            temporary.write_text(content, encoding="utf-8")


def _text(value):
    """A cell on one line: numbers with six digits; what is not printable in texts, also tabs, is escaped."""
    if isinstance(value, float):
        return f"{value:.6g}"
    return printable(str(value)) if value is not None else ""


def _table(rows):
    """How many images there are of each status, and medians of those measured."""
    counts = Counter(row.status for row in rows)
    measured = [row for row in rows if row.status == "measured"]
    lines = [f"{'status':10} {'images':>6} " + " ".join(f"{name:>{width}}" for name, width in MEDIANS.items())]
    for status in filter(counts.get, STATUSES):
        medians = [_median(measured, name) if status == "measured" else "" for name in MEDIANS]
        cells = " ".join(f"{cell:>{width}}" for cell, width in zip(medians, MEDIANS.values(), strict=True))
        lines.append(f"{status:10} {counts[status]:6} {cells}".rstrip())
    return lines


def _reasons(rows):
    """What the images need that are not measured."""
    for status in STATUSES[1:]:
        those = [row for row in rows if row.status == status]
        yield from (printable(f"  {status + ':':8} {row.image}: {row.reason}") for row in those[:SHOWN])
        if len(those) > SHOWN:
            yield f"  {status + ':':8} and {len(those) - SHOWN} more"


def _median(rows, name):
    values = [getattr(row, name) for row in rows if getattr(row, name) is not None]
    if not values:
        return ""
    value = median(values)
    return f"{value:.0f}" if value >= 1000 else f"{value:.3g}"
