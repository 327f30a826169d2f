"""2,000 directories of which 50 are broken in ten ways: these have their reasons, and cost the others nothing."""

import csv
import os
import re

import numpy as np
import pytest
import tifffile

from runs import IMAGES, RESULTS, contents, edit, make_project, names, set_parameter, snakemake

NUMBER, EACH = 2000, 5


def image_of(directory):
    return directory / f"{directory.name}.tif"


def rewritten(path, data):
    """Another content for one of the links to a file."""
    path.unlink()
    path.write_bytes(data)


def damaged(change):
    """A way to break info.xml."""

    def break_it(directory):
        info = directory / "info.xml"
        rewritten(info, info.read_bytes())
        change(info)

    return break_it


def bomb(info):
    entities = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10}">' for n in range(1, 9))
    edit(info, "<!DOCTYPE EMDataInfo>", f'<!DOCTYPE EMDataInfo [<!ENTITY e0 "e">{entities}]>')


def parallel(info):
    text = info.read_text()
    first = re.search(r"<First>(.*?)</First>", text, re.DOTALL)[1]
    info.write_text(re.sub(r"<Second>.*?</Second>", f"<Second>{first}</Second>", text, count=1, flags=re.DOTALL))


def other_mask(directory):
    mask = directory / f"{directory.name}_mask.tif"
    mask.unlink()
    tifffile.imwrite(mask, np.ones((20, 30), np.uint8))


BEFORE = {  # a run: reasons to skip or refuse an image
    "no image": (lambda directory: image_of(directory).unlink(), "skipped", "has no image"),
    "broken XML": (damaged(lambda info: edit(info, "</Offset>", "")), "failed", "not well-formed XML"),
    "empty XML": (damaged(lambda info: info.write_text("")), "failed", "is empty"),
    "bomb": (damaged(bomb), "failed", "ntit"),
    "six": (damaged(lambda info: set_parameter(info, "LatticeExtract", BoxSize="six")), "failed", "'six'"),
    "parallel": (damaged(parallel), "failed", "are parallel"),
}
DURING = {  # and what its job finds out
    "cut short": (lambda directory: rewritten(image_of(directory), image_of(directory).read_bytes()[:9000]), "short"),
    "no TIFF": (lambda directory: rewritten(image_of(directory), b"data " * 999), "TIFF"),
    "empty TIFF": (lambda directory: rewritten(image_of(directory), b""), "is empty"),
    "mask": (other_mask, "rows and columns"),
}


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """A directory with the project, and the names of the broken images by the way in which they are broken."""
    project = make_project(tmp_path_factory.mktemp("many") / "project", IMAGES[:1])
    original = project / IMAGES[0]
    for number in range(2, NUMBER + 1):
        directory = project / f"ABC{number:07d}"
        directory.mkdir()
        for path in original.iterdir():
            os.link(path, directory / path.name.replace(original.name, directory.name))
    ways = {way: found[0] for way, found in (BEFORE | DURING).items()}
    broken = {way: [f"ABC{(n * len(ways) + m) * 37 + 10:07d}" for n in range(EACH)] for m, way in enumerate(ways)}
    for way, directories in broken.items():
        for name in directories:
            ways[way](project / name)
    return project.parent, broken


def test_planning_tells_what_is_broken(many):
    """The dry run counts the jobs of the images that look good, and those of the refused, which fail."""
    directory, broken = many
    run = snakemake(directory, "-n", quiet=("host", "rules"))
    skipped, refused = (
        [name for way, (_, status, _) in BEFORE.items() if status == wanted for name in broken[way]]
        for wanted in ("skipped", "failed")
    )
    good = NUMBER - len(skipped) - len(refused)
    assert run.status == 0 and "Traceback" not in run.text
    for rule, count in {"extract": good, "integrate": good, "refused": len(refused)}.items():
        assert re.search(rf"^{rule} +{count}$", run.text, re.MULTILINE)
    for name in skipped:
        assert run.line(f"skipped: {name}: has no image")


def test_broken_images_cost_the_others_nothing(many):
    """Of each kind two are asked for: the broken fail with their reasons, the good are measured, no file is harmed."""
    directory, broken = many
    project, good = directory / "project", ["ABC0000001", f"ABC{NUMBER:07d}"]
    before = contents(project)
    bad = [name for way in DURING for name in broken[way][:2]]
    run = snakemake(directory, *(f"project/{name}/{name}_int.mtz" for name in (*bad, *good)))
    assert run.status == 1 and "Traceback" not in run.text and run.measured() == sorted([*bad, *good])
    assert run.report()[0] == f"project: 2 of {NUMBER} images are measured"
    with open(project / "summary.tsv", newline="") as file:
        rows = {row["image"]: row for row in csv.DictReader(file, delimiter="\t")}
    assert len(rows) == NUMBER and all(rows[name]["status"] == "measured" for name in good)
    for way, (_, status, reason) in BEFORE.items():
        for name in broken[way]:
            assert rows[name]["status"] == status and reason in rows[name]["reason"], rows[name]
    for way, (_, reason) in DURING.items():
        for name in broken[way][:2]:
            assert rows[name]["status"] == "failed" and reason in rows[name]["reason"], rows[name]
    after = contents(project)
    changed = {path for path in after if after[path] != before.get(path)}
    assert changed == {f"{name}/{file}" for name in good for file in names(project / name, "info.xml", *RESULTS)}
    assert before.keys() <= after.keys()
