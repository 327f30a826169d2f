"""Names of directories that a shell, a terminal, a file system or Snakemake may take for something else."""

import os
import shutil

import pytest

from faults import assert_no_leftovers
from runs import IMAGES, INPUTS, RESULTS, edit, names, snakemake

FINE = ("two words", "-rf", "a..b", "a;touch CANARY", "a&touch CANARY|#~", "[a]%s", "K\u00e4lte \U0001f600")
SKIPPED = (
    *("$(touch CANARY)", "`touch CANARY`", "it's", 'say "x"', "<x>", "{image}", "{{", "*", "back\\slash"),
    *("new\nline", "cr\rx", "tab\tx", "\x1b[31mred", "x" * 100, "n" * 248, os.fsdecode(b"lat\xff1")),
)


def test_names_of_image_directories(single, tmp_path):
    """Each is measured or skipped with the reason; no code is run, and nothing written anywhere else."""
    project = tmp_path / "work/project"
    for name in (*FINE, *SKIPPED):
        (project / name).mkdir(parents=True)
        for pattern in INPUTS:
            source = single / IMAGES[0] / pattern.format(IMAGES[0])
            if len(os.fsencode(pattern.format(name))) < 256:
                os.link(source, project / name / pattern.format(name))
    shutil.copy(single / "project.xml", project)
    edit(project / "project.xml", "ABC[0-9]{7}", "(?s).*")
    run = snakemake(tmp_path / "work")
    assert run.status == 0 and "Traceback" not in run.text and run.measured() == sorted(FINE)
    assert run.report()[0] == f"project: {len(FINE)} of {len(FINE) + len(SKIPPED)} images are measured"
    for name in FINE:
        assert names(project / name, *RESULTS) <= set(os.listdir(project / name))
    for name in SKIPPED:
        assert set(os.listdir(project / name)) <= names(project / name, *INPUTS)
    assert all(line.isprintable() for line in run.text.split("\n"))
    assert set(os.listdir(project)) == {"project.xml", "summary.tsv", *FINE, *SKIPPED}
    assert os.listdir(tmp_path) == ["work"] and set(os.listdir(tmp_path / "work")) == {"project", ".snakemake"}
    assert_no_leftovers(project)


@pytest.mark.parametrize("name", ["-$(touch CANARY) `touch CANARY`'; touch CANARY", "..x*?\\~"])
def test_names_of_projects(single, tmp_path, name):
    """They are carried to the jobs as they are."""
    shutil.copytree(single, tmp_path / "work" / name)
    run = snakemake(tmp_path / "work", project=name)
    assert run.status == 0 and run.measured() == [IMAGES[0]]
    image = tmp_path / "work" / name / IMAGES[0]
    assert names(image, *RESULTS) <= set(os.listdir(image))
    assert os.listdir(tmp_path) == ["work"] and set(os.listdir(tmp_path / "work")) == {name, ".snakemake"}
    assert set(os.listdir(image.parent)) == {"project.xml", "summary.tsv", IMAGES[0]}


@pytest.mark.parametrize("name", ["a<x>b", "new\nline"])
def test_names_of_projects_that_are_refused(tmp_path, name):
    """In one line; Snakemake would take them for wildcards or several words."""
    (tmp_path / name).mkdir()
    (tmp_path / "link").symlink_to(name)
    run = snakemake(tmp_path, project="link")
    assert run.status == 1 and run.jobs() == [] and "Traceback" not in run.text
    assert run.line("config: the path ", " of project has ", " in it; rename the directory")
