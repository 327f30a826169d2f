import os

import pytest

from ed2d.atomic import replacing
from ed2d.errors import InputError


def test_success_replaces_the_old_file(tmp_path):
    """What the block wrote is the file's content afterwards, and nothing else is left in the directory."""
    path = tmp_path / "result.mtz"
    path.write_text("old")
    with replacing(path) as temporary:
        assert temporary.parent == tmp_path and temporary.name.startswith(".") and temporary.suffix == ".mtz"
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert os.listdir(tmp_path) == ["result.mtz"]


@pytest.mark.parametrize("failure", [ValueError, KeyboardInterrupt, SystemExit])
def test_failure_leaves_the_old_file(tmp_path, failure):
    """Whatever stops the block, the old file stays as it was, no temporary file stays, and the error goes on."""
    path = tmp_path / "result.mtz"
    path.write_text("old")
    with pytest.raises(failure), replacing(path) as temporary:
        temporary.write_text("half")
        raise failure
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["result.mtz"]


def test_a_full_disk_is_one_line_with_a_cure(tmp_path):
    """An OSError becomes an InputError that names the file, the reason and the cure."""
    path = tmp_path / "result.mtz"
    with pytest.raises(InputError) as caught, replacing(path):
        raise OSError(28, "No space left on device")
    assert str(caught.value) == (
        f"{path}: cannot be written: No space left on device; free space or permission to write there is needed"
    )
    assert os.listdir(tmp_path) == []


def test_a_missing_directory_is_an_input_error(tmp_path):
    """A directory that does not exist is reported before the block runs."""
    with pytest.raises(InputError, match="No such file or directory"), replacing(tmp_path / "none" / "result.mtz"):
        raise AssertionError("the block must not run")


def test_the_umask_decides_who_may_read(tmp_path):
    """A result has the permissions that an ordinarily written file has."""
    ordinary, path = tmp_path / "ordinary", tmp_path / "result"
    ordinary.touch()
    with replacing(path) as temporary:
        temporary.write_text("new")
    assert path.stat().st_mode == ordinary.stat().st_mode


def test_two_writers_do_not_share_a_temporary_file(tmp_path):
    """Each of two writers of one file leaves a whole file: the last one's."""
    path = tmp_path / "result"
    with replacing(path) as first, replacing(path) as second:
        first.write_text("first")
        second.write_text("second")
    assert path.read_text() == "first"
    assert os.listdir(tmp_path) == ["result"]
