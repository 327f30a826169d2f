"""One run at a time on a project."""

import errno
import fcntl
import os
import socket
import time
from contextlib import suppress
from pathlib import Path

from .errors import InputError

FILE = ".ed2d.lock"
NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS)  # of file systems without


class RunLock:
    """The lock of a project directory; it ends with the process, whatever ends that."""

    def __init__(self, directory):
        self.path, self._file, self.refused = Path(directory, FILE), None, False

    def take(self):
        """InputError when another run has the lock, or the project cannot be written to."""
        try:
            self.refused = True
            while self._file is None:
                self._file = self._attempt()
            self.refused = False
        except BlockingIOError:
            holder = self.path.read_text(encoding="utf-8", errors="replace").strip() or "unknown"
            problem = f"is being measured by another run ({holder})"
            raise InputError(self.path.parent, problem, "wait for its end or stop it, then run again") from None
        except OSError as error:
            problem = f"cannot be written to ({error.strerror})"
            raise InputError(self.path.parent, problem, "make it writable, or measure a copy of it") from error

    def give_back(self):
        """Ends the lock, if it was taken."""
        if self._file:
            with suppress(OSError):
                self.path.unlink()
            self._file.close()
            self._file = None

    def _attempt(self):
        """The open lock file with its holder in it; None when it was removed by its former holder meanwhile."""
        file = open(self.path, "a", encoding="utf-8")
        try:
            _lock(file)
            if self.path.exists() and os.path.samestat(os.fstat(file.fileno()), self.path.stat()):
                file.truncate(0)
                file.write(f"process {os.getpid()} on {socket.gethostname()}, since {time.strftime('%F %T')}\n")
                file.flush()
                return file
        except OSError:
            file.close()
            raise
        file.close()
        return None


def _lock(file):
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
