"""What a command costs: wall and CPU seconds, peak memory, and how busy the machine was otherwise; on Linux."""

import os
import re
import resource
import subprocess
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

LIBRARY = Path(__file__).resolve().parents[1] / "workflow/scripts"
ENVIRONMENT = os.environ | {"PYTHONPATH": str(LIBRARY)}
POLL = 0.02  # s
TICKS = os.sysconf("SC_CLK_TCK")  # a second


class Cost(NamedTuple):
    """Seconds of wall, CPU seconds of a process and of all its descendants, its peak in MB, cores busy with others."""

    wall: float
    main: float
    descendants: float
    peak: float
    others: float

    @property
    def cpu(self):
        return self.main + self.descendants


def watched(command, directory):
    """Runs a command in a directory; its Cost and what it printed. CalledProcessError when it fails."""
    busy, start, peak = _busy(), time.monotonic(), 0.0
    with tempfile.TemporaryFile("w+", encoding="utf-8") as printed:
        streams = {"stdin": subprocess.DEVNULL, "stdout": printed, "stderr": subprocess.STDOUT}
        process = subprocess.Popen([str(part) for part in command], cwd=directory, env=ENVIRONMENT, **streams)
        while not os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG):
            peak = _peak(process.pid) or peak
            time.sleep(POLL)
        wall = time.monotonic() - start
        main, descendants = _spent(process.pid)
        others = (_busy() - busy - main - descendants) / wall
        status = process.wait()
        printed.seek(0)
        text = printed.read()
    if status:
        raise subprocess.CalledProcessError(status, command, text)
    return Cost(wall, main, descendants, peak, others), text


def _peak(pid):
    """The largest memory of a process until now, MB; None when it has ended."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    return int(found[1]) / 1024 if found else None


def _spent(pid):
    """CPU seconds of a process that has ended and is not waited for yet: its own, and those of its descendants."""
    user, system, user_below, system_below = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:15]
    return (int(user) + int(system)) / TICKS, (int(user_below) + int(system_below)) / TICKS


def _busy():
    """CPU seconds of all processes since the machine was started."""
    user, nice, system, _, _, interrupt, soft = map(int, Path("/proc/stat").read_text().split()[1:8])
    return (user + nice + system + interrupt + soft) / TICKS


def cpu_seconds(command, directory):
    """CPU seconds of a short command, to the microsecond. CalledProcessError when it fails."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, cwd=directory, env=ENVIRONMENT, check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
