"""Runs that something happens to: started in the background, killed, run again, compared with undisturbed ones."""

import json
import os
import signal
import subprocess
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

import runs
from runs import RESULTS, Run, contents, names, without_results

SCRIPTS = ("mask.py", "search.py", "extract.py", "integrate.py")


@dataclass(frozen=True)
class Background:
    """A run that goes on while the test does something; `said` is the file with its output."""

    process: subprocess.Popen
    said: Path
    start: float

    def wait_for(self, found):
        """Waits until `found()` is true, and returns its answer; AssertionError when the run ends before."""
        while not (answer := found()):
            assert self.process.poll() is None, f"the run ended too early\n{self.said.read_text()}"
            time.sleep(0.002)
        return answer

    def go_on(self, seconds):
        """Waits so long, or until the run ends."""
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(seconds)

    def jobs(self, *scripts):
        """The processes that run one of the scripts, each the program itself, not a shell before it."""
        return [child for child in _children(self.process.pid) if _runs(child, scripts or SCRIPTS)]

    def all_stopped(self):
        """The jobs that have stopped themselves."""
        return [job for job in self.jobs() if _is_stopped(job)]

    def stopped(self):
        """Waits for a job that has stopped itself, and returns it."""
        return self.wait_for(self.all_stopped)[0]

    def end(self):
        """The Run, when Snakemake has ended; jobs that it left behind may go on."""
        self.process.wait(runs.TIMEOUT)
        return Run(self.process.returncode, self.said.read_text(), time.monotonic() - self.start)

    def wait_for_orphans(self):
        """Waits until no process of the run is left."""
        while any(_group(self.process.pid)):
            time.sleep(0.01)


@contextmanager
def started(directory, *arguments, stops=(), **keywords):
    """A run as `runs.snakemake` has it, in the background, the leader of its process group.

    stops: where jobs stop themselves, as tests/stops/sitecustomize.py has it. SIGINT has its usual effect, also where
    the tests themselves are run in the background.
    """
    path = directory / "said.txt"
    environment = {"PYTHONPATH": str(runs.CHECKOUT / "tests/stops"), "STOPS": json.dumps(stops)}
    with open(path, "w") as file:
        process = subprocess.Popen(
            runs.command(directory, *arguments, **keywords),
            cwd=directory,
            env=os.environ | (environment if stops else {}),
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
    try:
        yield Background(process, path, time.monotonic())
    finally:  # a test that failed leaves nothing behind
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        for job in _group(process.pid):
            if _runs(job, SCRIPTS):
                job.kill()


def resume(job):
    """Lets a stopped job go on."""
    job.resume()
    while _is_stopped(job):
        time.sleep(0.002)


def assert_same_results(project, reference):
    """Asserts that two projects have the same files, byte for byte but for logs and summary, and no leftovers."""
    found, wanted = contents(project), contents(reference)
    assert found.keys() == wanted.keys()
    assert [path for path in found if found[path] != wanted[path]] == []
    assert_no_leftovers(project)


def assert_no_leftovers(project):
    """Asserts that a project has no hidden file: nothing half written, no lock."""
    assert list(project.rglob(".*")) == []


def assert_all_results(project, images):
    """Asserts that the result files of the images are there."""
    for name in images:
        assert names(project / name, *RESULTS) <= set(os.listdir(project / name))


def written_by_users(project):
    """Bytes of all that users wrote below a project: all but results, logs and summary, info.xml without results."""
    made = {pattern.removeprefix("{0}") for pattern in (*runs.RESULTS, *runs.FOUND, "tmp_integrate3.tif")}
    files = {path: data for path, data in contents(project).items() if not path.endswith(tuple(made))}
    infos = {path: without_results(project / path) for path in files if path.endswith("info.xml")}
    return files | infos


def mounted(*arguments):
    """Runs mount; skips the test where that is not permitted."""
    done = subprocess.run(["mount", *map(str, arguments)], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"mounting is not permitted here: {done.stderr.strip()}")


@contextmanager
def read_only(directory):
    """The directory cannot be written to: by its mode, or for root, whom modes do not stop, by a read-only mount."""
    if os.geteuid():
        directory.chmod(0o555)
        try:
            yield
        finally:
            directory.chmod(0o755)
        return
    mounted("--bind", directory, directory)
    try:
        mounted("-o", "remount,ro,bind", directory)
        yield
    finally:
        subprocess.run(["umount", directory], check=True)


@contextmanager
def small_disk(directory, *, pages):
    """The files of the directory on a file system of its own with so many pages of 4096 bytes left."""
    files = {path.name: path.read_bytes() for path in directory.iterdir()}
    mounted("-t", "tmpfs", "-o", "size=1m", "ed2d-test", directory)
    try:
        for name, content in files.items():
            (directory / name).write_bytes(content)
        disk = os.statvfs(directory)
        (directory / "filling").write_bytes(b"x" * (disk.f_bavail * disk.f_bsize - pages * 4096))
        yield
    finally:
        subprocess.run(["umount", directory], check=True)


def _children(pid):
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.Error:
        return []


def _runs(process, scripts):
    try:
        words = process.cmdline()
    except psutil.Error:
        return False
    return len(words) > 1 and "python" in words[0] and words[1].endswith(tuple(f"/{script}" for script in scripts))


def _is_stopped(process):
    with suppress(psutil.Error):
        return process.status() == psutil.STATUS_STOPPED
    return False


def _group(group):
    """The living processes of a process group."""
    for process in psutil.process_iter():
        try:
            if os.getpgid(process.pid) == group and process.status() != psutil.STATUS_ZOMBIE:
                yield process
        except (OSError, psutil.Error):
            pass
