"""Ways to get wrong or lost results silently, each tried with real runs."""

import os
import shutil

import pytest

from runs import IMAGES, SNAKEFILE, copy, edit, make_project, set_parameter, snakemake

FIRST, SECOND, THIRD = IMAGES


@pytest.mark.parametrize("spelling", ["./project", "project/", "{absolute}", "{link}"])
def test_every_spelling_of_the_project_is_the_same(work, spelling):
    """A parameter changed since a run under another spelling of the path is noticed, by name."""
    edit(work / "project/project.xml", '<BoxSize value="5"', '<BoxSize value="4"')
    (work / "link").symlink_to(work / "project")
    given = spelling.format(absolute=work / "project", link=work / "link")
    run = snakemake(work, "-n", project=given)
    assert "BoxSize = 5" in run.reason("extract", FIRST) and "BoxSize = 4" in run.reason("extract", FIRST)


@pytest.mark.parametrize("file", ["{0}.tif", "{0}_mask.tif"])
def test_an_older_file_in_its_place_is_noticed(work, file):
    """Image or mask replaced by another with an older time stamp: the image is measured anew, the reason says why."""
    path = work / "project" / SECOND / file.format(SECOND)
    os.utime(path, (1.5e9, 1.5e9))
    run = snakemake(work)
    assert run.status == 0 and run.measured() == [SECOND]
    assert ("mask file = " if "mask" in file else "image = ") in run.reason("extract", SECOND)


def test_a_mask_link_to_nowhere_is_no_missing_mask(work):
    """The image fails with the name of the mask instead of being measured without one; its results stay."""
    mask = work / "project" / SECOND / f"{SECOND}_mask.tif"
    mask.unlink()
    mask.symlink_to("../not-mounted/mask.tif")
    results = [mask.with_name(f"{SECOND}{suffix}").read_bytes() for suffix in ("_ext.mtz", "_int.mtz")]
    run = snakemake(work)
    assert run.status == 1 and f"{SECOND}_mask.tif: cannot be read" in run.line("failed:", SECOND)
    assert results == [mask.with_name(f"{SECOND}{suffix}").read_bytes() for suffix in ("_ext.mtz", "_int.mtz")]


def test_a_broken_copy_of_an_image_does_not_cost_its_results(work):
    """An image replaced by half of itself fails before its earlier results are removed."""
    path = work / "project" / SECOND / f"{SECOND}.tif"
    results = [path.with_name(f"{SECOND}{suffix}").read_bytes() for suffix in ("_ext.mtz", "_int.mtz")]
    path.write_bytes(path.read_bytes()[:5000])
    run = snakemake(work)
    assert run.status == 1 and "is cut short" in run.line("failed:", SECOND)
    assert results == [path.with_name(f"{SECOND}{suffix}").read_bytes() for suffix in ("_ext.mtz", "_int.mtz")]


def test_ignore_holds_for_a_forced_target_too(work):
    """A file `ignore` keeps an image from being measured, also when its result is asked for by name and forced."""
    (work / "project" / SECOND / "ignore").touch()
    target = f"project/{SECOND}/{SECOND}_int.mtz"
    before = (work / target).read_bytes()
    run = snakemake(work, target, "--forcerun", "extract")
    assert run.status == 1 and "has a file `ignore`" in run.text
    assert (work / target).read_bytes() == before


def test_a_project_called_example_is_the_users(tmp_path):
    """The simulated example is not written into a directory `example` that somebody else made."""
    make_project(tmp_path / "example", [FIRST])
    run = snakemake(tmp_path, project=None)
    assert run.status == 0 and run.report() == ["example: 1 of 1 images are measured"]
    assert sorted(path.name for path in (tmp_path / "example").iterdir()) == [FIRST, "project.xml", "summary.tsv"]


def test_refused_images_of_two_modules_do_not_collide(single, tmp_path):
    """Two projects as two modules of one workflow, an image of one is refused: the other is measured."""
    projects = [copy(single, tmp_path / name) for name in ("one", "two")]
    set_parameter(projects[0] / FIRST / "info.xml", "LatticeExtract", BoxSize="six")
    modules = "".join(
        f'module {name}:\n    snakefile: "{SNAKEFILE}"\n    config: {{"project": "{project}"}}\n'
        f"use rule * from {name} as {name}_*\n"
        for name, project in zip(("one", "two"), projects, strict=True)
    )
    targets = (
        "rule all:\n    default_target: True\n    input: rules.one_integrate_all.input, rules.two_integrate_all.input\n"
    )
    (tmp_path / "Snakefile").write_text(modules + targets)
    run = snakemake(tmp_path, "--keep-going", snakefile=tmp_path / "Snakefile", project=None)
    assert run.status == 1 and "the value 'six'" in run.text
    assert (projects[1] / FIRST / f"{FIRST}_int.mtz").exists()


def test_an_unreadable_directory_hurts_no_other(work):
    """A directory without permissions is one failed image."""
    if os.geteuid() == 0:
        pytest.skip("the superuser may read everything")
    (work / "project" / SECOND).chmod(0)
    try:
        run = snakemake(work)
    finally:
        (work / "project" / SECOND).chmod(0o755)
    assert run.status == 1 and run.line("failed:", SECOND)


def test_a_vanished_record_of_parameters_is_said(work):
    """Without Snakemake's record nothing is measured anew, and a dry run says that the origin of files is unknown."""
    shutil.rmtree(work / ".snakemake")
    run = snakemake(work, "-n")
    assert run.status == 0 and "missing provenance/metadata" in run.text
