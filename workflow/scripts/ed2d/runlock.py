"""One run at a time on a project."""

import errno
import fcntl
import os
import socket
import time
from contextlib import suppress
from pathlib import Path

from .errors import InputError

RUN, PARTS = ".ed2d.lock", ".ed2d.parts.lock"
NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS)  # of file systems without


class RunLock:
    """The lock of a project directory, for a run or for the parts of one; it ends with the process, whatever ends that.

    A run has it alone. Its parts, jobs of a cluster, share one of their own: they may outlive the run.
    """

    def __init__(self, directory):
        self.directory, self.refused, self._file = Path(directory), False, None

    def take(self, retire=lambda: None):
        """For a run; InputError when another has the lock, or left parts, or when the project cannot be written to.

        retire: called when no part is at work; parts of earlier runs that start afterwards must find out that they are
        not wanted, once they have the lock. A part that starts meanwhile is found here.
        """
        self.refused = True
        run = self._taken(RUN, fcntl.LOCK_EX, "is being measured by another run")
        try:
            self._end_parts()
            retire()
            self._end_parts()
        except InputError:
            _remove(run)
            raise
        self.refused, self._file = False, run

    def share(self):
        """For a part of a run."""
        self._file = self._taken(PARTS, fcntl.LOCK_SH, "is being measured by another run")

    def give_back(self):
        """Ends the lock of a run, if it was taken; else removes the files that killed runs have left."""
        if not self._file and any((self.directory / name).exists() for name in (RUN, PARTS)):
            with suppress(InputError):
                self.take()
        if self._file:
            with suppress(InputError):
                self._end_parts()
            _remove(self._file)
            self._file = None

    def _end_parts(self):
        _remove(self._taken(PARTS, fcntl.LOCK_EX, "is still being measured by jobs of an earlier run"))

    def _taken(self, name, kind, problem):
        path, file = self.directory / name, None
        try:
            while file is None:
                file = _attempt(path, kind)
        except BlockingIOError:
            holder = _holder(path)
            cure = "wait for the end or stop it, then run again"
            raise InputError(self.directory, f"{problem} ({holder})", cure) from None
        except OSError as error:
            if path.is_symlink() or (path.exists() and not path.is_file()):
                raise InputError(path, "is not the file that ed2d makes", "remove it") from error
            problem = f"cannot be written to ({error.strerror})"
            raise InputError(self.directory, problem, "make it writable, or measure a copy of it") from error
        return file


def _holder(path):
    """Who has a lock, in words."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip() or "unknown"
    except OSError:
        return "that ends now"


def _attempt(path, kind):
    """The open and locked file with its holder in it; None when it was removed by its former holder meanwhile."""
    file = open(path, "a+", encoding="utf-8", opener=_no_link)  # NFS shares locks of readable files only
    try:
        _lock(file, kind)
        if path.exists() and os.path.samestat(os.fstat(file.fileno()), path.stat()):
            file.truncate(0)
            file.write(f"process {os.getpid()} on {socket.gethostname()}, since {time.strftime('%F %T')}\n")
            file.flush()
            return file
    except OSError:
        file.close()
        raise
    file.close()
    return None


def _no_link(path, flags):
    """Opens a file, but nothing that a link of this name leads to, and without waiting."""
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)


def _remove(file):
    """Ends a lock with its file, but for one that another process has made when somebody had removed that."""
    with suppress(OSError):
        if os.path.samestat(os.fstat(file.fileno()), os.stat(file.name)):
            os.unlink(file.name)
    file.close()


def _lock(file, kind):
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
