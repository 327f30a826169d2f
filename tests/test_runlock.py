"""One run at a time on a project: real processes that want the same lock."""

import os
import signal
import subprocess
import sys
from contextlib import contextmanager

import pytest

from ed2d.errors import InputError
from ed2d.runlock import PARTS, RUN, RunLock
from faults import read_only
from runs import CHECKOUT

HOLDER = """
import sys
sys.path.insert(0, sys.argv[1])
from ed2d.runlock import RunLock
lock = RunLock(sys.argv[2])
getattr(lock, sys.argv[3])()
print("taken", flush=True)
sys.stdin.read()
if sys.argv[3] == "take":  # a part of a run has its lock until it ends
    lock.give_back()
"""


@contextmanager
def another(directory, how="take"):
    """Another process that has the lock until its standard input ends."""
    arguments = [sys.executable, "-c", HOLDER, CHECKOUT / "workflow/scripts", directory, how]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "taken\n"
        try:
            yield process
        finally:
            process.stdin.close()


def taken(directory):
    lock = RunLock(directory)
    lock.take()
    return lock


def test_a_second_run_is_refused(tmp_path):
    """In one line with the process that has the lock, and without any change; later it is let in."""
    with another(tmp_path) as process:
        held = (tmp_path / RUN).read_bytes()
        second = RunLock(tmp_path)
        with pytest.raises(InputError) as caught:
            second.take()
        assert second.refused and f"(process {process.pid} on " in str(caught.value)
        assert str(caught.value).endswith("; wait for the end or stop it, then run again")
        second.give_back()
        assert (tmp_path / RUN).read_bytes() == held
    lock = taken(tmp_path)
    assert not lock.refused and f"process {os.getpid()} on " in (tmp_path / RUN).read_text()
    lock.give_back()
    assert os.listdir(tmp_path) == []


def test_the_lock_ends_with_kill_9(tmp_path):
    """What is left is a file, and no lock."""
    with another(tmp_path) as process:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert os.listdir(tmp_path) == [RUN]
    taken(tmp_path).give_back()
    assert os.listdir(tmp_path) == []


def test_a_run_with_nothing_to_do_removes_what_is_left(tmp_path):
    """It never takes the lock, and gives back what it does not have; but the file of a living run stays."""
    for name in (RUN, PARTS):
        (tmp_path / name).touch()
    RunLock(tmp_path).give_back()
    assert os.listdir(tmp_path) == []
    with another(tmp_path):
        RunLock(tmp_path).give_back()
        assert os.listdir(tmp_path) == [RUN]


def test_parts_of_a_run_keep_the_next_run_out(tmp_path):
    """They share a lock, also when their run is over; the last one lets the next run in."""
    with another(tmp_path, "share") as first:
        with another(tmp_path, "share"), pytest.raises(InputError, match="jobs of an earlier run"):
            taken(tmp_path)
        with pytest.raises(InputError, match="jobs of an earlier run"):
            taken(tmp_path)
        first.kill()
        first.wait()
        taken(tmp_path).give_back()
    assert os.listdir(tmp_path) == []


def test_parts_may_begin_while_their_run_has_the_lock(tmp_path):
    lock = taken(tmp_path)
    with another(tmp_path, "share") as part:
        lock.give_back()
        assert part.poll() is None and PARTS in os.listdir(tmp_path)


def test_a_removed_file_is_made_again(tmp_path):
    """Whoever removes the lock file of a run takes its lock away, and no more: a later run has one of its own."""
    with another(tmp_path):
        (tmp_path / RUN).unlink()
        lock = taken(tmp_path)
        with pytest.raises(InputError, match="another run"):
            taken(tmp_path)
    assert f"process {os.getpid()} on " in (tmp_path / RUN).read_text(), "the first one removes only its own file"
    lock.give_back()


def test_many_at_once_let_one_in(tmp_path):
    """Of processes that try again and again each has the lock alone, while files come and go."""
    code = HOLDER.split("lock =")[0] + COUNT
    arguments = [sys.executable, "-c", code, CHECKOUT / "workflow/scripts", tmp_path]
    processes = [subprocess.Popen(arguments) for _ in range(4)]
    assert [process.wait(60) for process in processes] == [0] * 4
    assert (tmp_path / "count").read_text() == "100" and set(os.listdir(tmp_path)) == {"count"}


COUNT = """
from pathlib import Path
from ed2d.errors import InputError
count, mine = Path(sys.argv[2], "count"), 0
while mine < 25:
    lock = RunLock(sys.argv[2])
    try:
        lock.take()
    except InputError:
        continue
    before = int(count.read_text()) if count.exists() else 0
    count.write_text(str(before + 1))
    lock.give_back()
    mine += 1
"""


def test_a_directory_that_cannot_be_written_to(tmp_path):
    """One line with the cure; to give back what was not taken is no failure."""
    directory = tmp_path / "project"
    directory.mkdir()
    with read_only(directory):
        lock = RunLock(directory)
        with pytest.raises(InputError, match=r"cannot be written to \(.*\); make it writable, or measure a copy of it"):
            lock.take()
        assert lock.refused
        lock.give_back()
    assert os.listdir(directory) == []
