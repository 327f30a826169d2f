"""Files that appear whole or not at all."""

import errno
import os
import re
import secrets
from contextlib import contextmanager, suppress
from pathlib import Path

from .errors import InputError

NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK)  # of file systems without
LEFTOVER = re.compile(r"\.ed2d-[0-9a-f]{16}\b.*")  # a file that is not whole yet


def temporary_prefix():
    """How the name of a file begins that is not whole yet; no other begins so."""
    return f".ed2d-{secrets.token_hex(8)}"


@contextmanager
def replacing(path):
    """A temporary path beside `path`: takes its place when the block succeeds, is removed when it fails.

    The block writes the file `Path` it is given; that is flushed to the disk and renamed, so that a reader sees the
    old file or the new one and nothing between. The name is unique: a process left over from a killed run and the
    one that follows it do not write into each other's file. An OSError in the block becomes an InputError.
    """
    path = Path(path)
    temporary = path.with_name(f"{temporary_prefix()}{path.suffix}")
    try:
        # made here, not by tempfile: that would give the result to its owner alone, whatever the umask says
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        yield temporary
        _flush(temporary)
        os.replace(temporary, path)
    except OSError as error:
        problem = f"cannot be written: {error.strerror or error}"
        raise InputError(path, problem, "free space or permission to write there is needed") from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def create(path, content):
    """Writes a new file, whole or not at all; one that is there meanwhile stays. InputError where it cannot."""
    path = Path(path)
    temporary = path.with_name(f"{temporary_prefix()}{path.suffix}")
    try:
        temporary.write_bytes(content)
        _flush(temporary)
        with suppress(FileExistsError):
            _take_free_name(temporary, path)
    except OSError as error:
        problem = f"cannot be made: {error.strerror or error}"
        raise InputError(path, problem, "free space or permission to write there is needed") from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def _take_free_name(temporary, path):
    """Gives a file a name that no other has."""
    try:
        os.link(temporary, path)
    except OSError as error:
        if error.errno not in NO_LINKS:
            raise
        if not os.path.lexists(path):
            os.rename(temporary, path)


def clear_leftovers(directory):
    """Removes what killed jobs have left half written in a directory."""
    for path in Path(directory).glob(".ed2d-*"):
        if LEFTOVER.fullmatch(path.name):
            with suppress(OSError):
                path.unlink()


def _flush(path):
    """Wait until the file's content is on the disk; a full one may say so only here."""
    descriptor = os.open(path, os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
