"""What may happen to a project while or between it is measured; afterwards all is as if it had not happened."""

import os
import re
import shutil
import time

import pytest
import tifffile

from faults import assert_same_results, read_only, resume, started, written_by_users
from runs import IMAGES, contents, copy, edit, info_of, set_origin, set_parameter, snakemake

FIRST, SECOND, THIRD = IMAGES
DAY = 86400  # s


# images that are replaced


def brighter(path):
    """Bytes of another image of the same shape in a file of the same size."""
    pixels = tifffile.imread(path)
    pixels[100:110, 100:110] += 500
    pixels[:64] = 60  # smaller in the file, where the rest is filled up
    other = path.with_name("other.tif")
    tifffile.imwrite(other, pixels, compression="zlib")
    data = other.read_bytes()
    other.unlink()
    assert len(data) < path.stat().st_size
    return data.ljust(path.stat().st_size, b"\0")


def replace(path, data, time_ns):
    path.write_bytes(data)
    os.utime(path, ns=(time_ns, time_ns))


def test_a_replaced_image_is_measured_anew(fresh, first_run, work, tmp_path):
    """Also by one that is older, of the same size, of the same second; and when it is put back."""
    path = {name: work / f"project/{name}/{name}.tif" for name in IMAGES}
    moved = {FIRST: -3 * DAY * 10**9, SECOND: -1000, THIRD: 1}  # ns
    old = {name: (path[name].read_bytes(), path[name].stat().st_mtime_ns) for name in IMAGES}
    new = {name: (brighter(path[name]), old[name][1] + moved[name]) for name in IMAGES}
    other = copy(fresh, tmp_path / "other")
    for name in IMAGES:
        replace(other / f"project/{name}/{name}.tif", *new[name])
    assert snakemake(other).status == 0
    for some in ([FIRST], [SECOND, THIRD]):
        for name in some:
            replace(path[name], *new[name])
        run = snakemake(work)
        assert run.status == 0 and run.measured() == some
    assert_same_results(work / "project", other / "project")
    for name in IMAGES:
        replace(path[name], *old[name])
    assert snakemake(work).measured() == list(IMAGES)
    assert_same_results(work / "project", first_run[0] / "project")


def test_images_that_can_be_read_again(fresh, first_run, tmp_path):
    """Cut short, without permission: these fail; one that is not there is skipped; later all is as it should be."""
    work = copy(fresh, tmp_path / "work")
    short, closed, missing = (work / f"project/{name}/{name}.tif" for name in IMAGES)
    shutil.copy2(short, tmp_path / "whole.tif")
    os.truncate(short, 5000)
    missing.rename(tmp_path / "missing.tif")
    before = written_by_users(work / "project")
    closed.chmod(0)
    run = snakemake(work)
    closed.chmod(0o644)
    assert run.status == 1 and "Traceback" not in run.text
    assert run.line(f"  failed:  {FIRST}: ", "is cut short") and run.line(f"  skipped: {THIRD}: has no image")
    if os.geteuid():  # root may read all
        assert run.line(f"  failed:  {SECOND}: ", "cannot be read")
    assert written_by_users(work / "project") == before
    shutil.copy2(tmp_path / "whole.tif", short)
    (tmp_path / "missing.tif").rename(missing)
    assert snakemake(work).status == 0
    assert_same_results(work / "project", first_run[0] / "project")


# files that are edited during the run


def own_values(info):
    edit(info, "<EMDataInfo>", "<!-- n\u00e4chster -->\n<EMDataInfo>")
    edit(info, "</DiffProcessingResults>", "</DiffProcessingResults><Own><X value='1'/></Own>")


EDITS = {
    FIRST: lambda info: set_parameter(info, "LatticeExtract", BoxSize=4),
    SECOND: lambda info: set_origin(info, 146.1),
    THIRD: own_values,
}


def edit_when_stopped(run, project):
    """Edits info.xml for each job that has stopped itself, and lets it go on."""
    for _ in EDITS:
        job = run.stopped()
        (name,) = (name for name in EDITS if name in " ".join(job.cmdline()))
        EDITS[name](project / name / "info.xml")
        resume(job)


@pytest.mark.parametrize("script", ["extract.py", "integrate.py"])
def test_an_edit_during_the_run_wins(fresh, first_run, tmp_path, script):
    """The job of a changed value writes nothing and says why, that of an unused text goes on; the edit stays.

    After the next run all is as if each edit had been made before that job.
    """
    work = copy(fresh, tmp_path / "work")
    with started(work, stops=[[[script], "open", ".tif"]]) as run:  # info.xml is read before the image
        edit_when_stopped(run, work / "project")
        disturbed = run.end()
    assert disturbed.status == 1 and "Traceback" not in disturbed.text
    for name in (FIRST, SECOND) if script == "extract.py" else (FIRST,):
        assert disturbed.line(f"project/{name}/info.xml: ", "changed during the run", "; run again")
    other = copy(fresh if script == "extract.py" else first_run[0], tmp_path / "other")
    for name, change in EDITS.items():
        change(info_of(other, name))
    assert written_by_users(work / "project") == written_by_users(other / "project")
    again = snakemake(work)
    assert again.status == 0 and again.measured() == [FIRST, SECOND]
    assert snakemake(other).status == 0
    assert_same_results(work / "project", other / "project")


# two at once


def test_a_second_run_leaves_the_first_alone(fresh, first_run, tmp_path):
    """Started in the same or another directory it says one line, with status 1; the first ends well."""
    work = copy(fresh, tmp_path / "work")
    (tmp_path / "elsewhere").mkdir()
    with started(work, stops=[[["extract.py", FIRST], "open", ".tif"]]) as run:
        held = run.stopped()
        seconds = [snakemake(work), snakemake(tmp_path / "elsewhere", project=work / "project")]
        resume(held)
        first = run.end()
    for second in seconds:
        assert second.status == 1 and second.jobs() == [] and "Traceback" not in second.text
        said = [line for line in second.text.splitlines() if "is being measured by another run" in line]
        (line,) = said
        assert f"process {run.process.pid} on " in line and line.endswith(
            "; wait for the end or stop it, then run again"
        )
        assert "images are measured" not in second.text
    assert first.status == 0 and first.report() == ["project: 3 of 3 images are measured"]
    assert_same_results(work / "project", first_run[0] / "project")


# clocks


def test_times_do_not_matter(fresh, first_run, tmp_path):
    """Files of tomorrow and of long ago are measured once, with the same results, however old those look then."""
    work = copy(fresh, tmp_path / "work")
    project, now = work / "project", time.time()
    ages = dict(zip(IMAGES, (now + DAY, 1.0, now - 9 * DAY), strict=True))
    for name, age in ages.items():
        for path in (project / name).iterdir():
            os.utime(path, (age, age))
    os.utime(project / "project.xml", (now + 2 * DAY, now + 2 * DAY))
    assert snakemake(work).status == 0
    assert_same_results(project, first_run[0] / "project")
    before = contents(project)
    for path, age in zip(sorted(project.rglob("*_???.mtz")), (9e8, now + DAY, now + DAY, 9e8, 1.0, now), strict=True):
        os.utime(path, (age, age))
    run = snakemake(work)
    assert run.status == 0 and run.jobs() == []
    assert contents(project) == before


# a project that cannot be written to


def test_a_finished_project_on_a_read_only_medium(work):
    """There is nothing to be done, and that is no failure."""
    with read_only(work / "project"):
        run = snakemake(work)
    assert run.status == 0 and "Nothing to be done" in run.text and "Traceback" not in run.text
    assert run.report() == ["project: 3 of 3 images are measured"] and "cannot be written" not in run.text


def test_a_new_project_on_a_read_only_medium(fresh, tmp_path):
    """One line says what is the matter, and nothing is tried."""
    work = copy(fresh, tmp_path / "work")
    before = contents(work / "project")
    with read_only(work / "project"):
        run = snakemake(work)
    assert run.status == 1 and run.jobs() == [] and "Traceback" not in run.text
    (line,) = (line for line in run.text.splitlines() if "cannot be written to" in line)
    assert re.fullmatch(r"project: cannot be written to \(.*\); make it writable, or measure a copy of it", line)
    assert contents(work / "project") == before
