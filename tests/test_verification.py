"""What a page gives back: only what the user decided is written, and only where the files are still those shown."""

import json
import os
import subprocess
import sys
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest
from lxml import etree

from ed2d import __version__, commandline
from ed2d.emdatainfo import Document, lattice_element, read_lattice, verified_lattice
from ed2d.lattice import Lattice
from ed2d.verification import verify
from emdatafiles import refusal
from searched import LATTICE, RUNNER_UP, Searched, write_project

CHECKOUT = Path(__file__).resolve().parents[1]
OTHER = Lattice(origin=(170.1, 148.0), a=(-6.0, 26.0), b=(24.0, 7.0), barrel=1e-9)
NAMES = ("ABC0000001", "ABC0000002", "ABC0000003")


@pytest.fixture
def project(tmp_path):
    return write_project(tmp_path / "project", dict.fromkeys(NAMES, Searched()))


def given(lattice):
    vectors = {"offset": lattice.origin, "first": lattice.a, "second": lattice.b}
    return {name: list(vector) for name, vector in vectors.items()} | {
        "barrel": lattice.barrel,
        "spiral": lattice.spiral,
    }


def decided(image, decision="accept", lattice=LATTICE, searched=LATTICE):
    return {"image": image, "decision": decision, "lattice": given(lattice), "searched": searched.digest()}


def saved(directory, /, *decisions, **changed):
    """verified.json as a page gives it back, with some of its members changed."""
    content = {"program": "ed2d", "project": str(directory), "decisions": list(decisions)} | changed
    path = directory.parent / "verified.json"
    path.write_text(json.dumps(content))
    return path


def written(project, image, tag="VerifiedLattice"):
    document = Document.read(project / image / "info.xml")
    element = document.group(f"DiffProcessingResults/{tag}")
    return None if element is None else read_lattice(element, document)


def contents(project):
    return {path: path.read_bytes() for path in project.rglob("*") if path.is_file()}


def test_decisions_are_written_as_they_were_made(project):
    file = saved(project, decided(NAMES[0]), decided(NAMES[1], lattice=OTHER), decided(NAMES[2], "reject"))
    before = contents(project)
    assert verify(file) == (["2 lattices verified, 1 rejected, 0 left alone"], True)
    assert written(project, NAMES[0]) == LATTICE
    assert written(project, NAMES[0]).digest() == LATTICE.digest()
    assert written(project, NAMES[1]) == OTHER
    assert written(project, NAMES[2]) is None
    assert written(project, NAMES[2], "RejectedLattice") == LATTICE
    changed = {path for path, content in contents(project).items() if content != before[path]}
    assert changed == {project / name / "info.xml" for name in NAMES}


def test_all_else_in_info_xml_stays(project):
    info = project / NAMES[0] / "info.xml"
    before = info.read_text().replace("<EMDataInfo>", "<EMDataInfo><!-- mine -->\n <Other/>")
    info.write_text(before)
    verify(saved(project, decided(NAMES[0])))
    tree = etree.fromstring(info.read_bytes())
    (element,) = tree.iter("VerifiedLattice")
    after, text = info.read_text(), before.splitlines()
    assert all(line in after for line in text)
    assert len(after.splitlines()) == len(text) + len(etree.tostring(element, with_tail=False).splitlines())


def test_minus_zero_comes_back_bit_for_bit(tmp_path):
    odd = replace(LATTICE, a=(24.0, -0.0))
    project = write_project(tmp_path / "project", {NAMES[0]: Searched(odd)})
    through_a_browser = replace(odd, a=(24.0, 0.0))  # JSON.stringify writes -0 as 0
    assert verify(saved(project, decided(NAMES[0], "accept", through_a_browser, odd))).complete
    assert written(project, NAMES[0]).digest() == odd.digest() != through_a_browser.digest()


def test_to_repeat_it_changes_nothing(project):
    file = saved(project, decided(NAMES[0], lattice=RUNNER_UP), decided(NAMES[1], "reject"))
    first = verify(file)
    before = {path: (path.stat().st_mtime_ns, path.stat().st_ino) for path in project.rglob("*")}
    assert verify(file) == first
    assert {path: (path.stat().st_mtime_ns, path.stat().st_ino) for path in project.rglob("*")} == before


def test_a_verified_lattice_is_never_overwritten(project):
    verify(saved(project, decided(NAMES[0], lattice=OTHER), decided(NAMES[1], lattice=OTHER)))
    before = contents(project)
    file = saved(project, decided(NAMES[0]), decided(NAMES[1], "reject"), decided(NAMES[2]))
    *left_alone, summary = verify(file).lines
    assert summary == "1 lattice verified, 0 rejected, 2 left alone"
    assert all("never overwritten; remove it there first" in line for line in left_alone)
    after = contents(project)
    assert {path for path in after if after[path] != before[path]} == {project / NAMES[2] / "info.xml"}


def test_a_verified_lattice_of_the_user_wins_wherever_it_stands(project):
    info = project / NAMES[0] / "info.xml"
    element = etree.tostring(lattice_element("VerifiedLattice", OTHER), encoding="unicode")
    group = f"<DiffProcessing>{element}</DiffProcessing></EMDataInfo>"
    info.write_text(info.read_text().replace("</EMDataInfo>", group))
    assert not verify(saved(project, decided(NAMES[0]))).complete
    assert verified_lattice(Document.read(info)) == OTHER
    assert verify(saved(project, decided(NAMES[0], lattice=OTHER))).complete


def test_another_search_meanwhile_leaves_the_image_alone(project):
    file = saved(project, decided(NAMES[0], searched=OTHER), decided(NAMES[1], "reject", searched=OTHER))
    before = contents(project)
    *left_alone, summary = verify(file).lines
    assert len(left_alone) == 2
    assert all("no longer the SearchedLattice that the page showed; make the page again" in one for one in left_alone)
    assert summary == "0 lattices verified, 0 rejected, 2 left alone"
    assert contents(project) == before


def test_acceptance_after_rejection_wins(project):
    verify(saved(project, decided(NAMES[0], "reject")))
    assert verify(saved(project, decided(NAMES[0]))).complete
    assert written(project, NAMES[0]) == written(project, NAMES[0], "RejectedLattice") == LATTICE


def test_a_broken_image_hurts_no_other(project):
    (project / NAMES[0] / "info.xml").write_text("<EMDataInfo><DiffProcessing></EMDataInfo>")
    (project / NAMES[1] / "info.xml").unlink()
    file = saved(project, *map(decided, NAMES), decided("ABC0000009"))
    outcome = verify(file)
    assert outcome.lines[-1] == "1 lattice verified, 0 rejected, 3 left alone"
    assert not outcome.complete
    assert [name for name in NAMES if any(name in line for line in outcome.lines)] == list(NAMES[:2])
    assert "is not an image directory" in outcome.lines[2]
    assert written(project, NAMES[2]) == LATTICE


def test_a_lattice_that_no_run_could_read_is_left_alone(project):
    parallel = replace(LATTICE, b=LATTICE.a)
    before = contents(project)
    lines, complete = verify(saved(project, decided(NAMES[0], lattice=parallel)))
    assert "parallel" in lines[0] and not complete
    assert contents(project) == before


def test_the_project_may_have_moved(project, tmp_path):
    file = saved(project, decided(NAMES[0]))
    moved = project.rename(tmp_path / "moved")
    refusal(lambda: verify(file), project, "is not there", "--project")
    assert verify(file, project=moved).complete
    assert written(moved, NAMES[0]) == LATTICE


def changed(**members):
    return [decided(NAMES[0]) | members]


def lattice_with(**members):
    return changed(lattice=given(LATTICE) | members)


@pytest.mark.parametrize(
    "members",
    [
        {"decisions": {}},
        {"decisions": None},
        {"program": 3},
        {"project": ["x"]},
        {"project": "relative"},
        {"project": "/tmp/\0"},
        {"project": "/" + 5000 * "long"},
        {"project": "/\ud800"},
        {"decisions": ["accept"]},
        {"decisions": [decided(NAMES[0]), decided(NAMES[0])]},
        {"decisions": [decided(NAMES[0])] * 10_001},
        {"decisions": changed(image="../other")},
        {"decisions": changed(image="..")},
        {"decisions": changed(image="")},
        {"decisions": changed(image="a\0b")},
        {"decisions": changed(image=300 * "a")},
        {"decisions": changed(image=5)},
        {"decisions": changed(decision="maybe")},
        {"decisions": changed(decision=["accept"])},
        {"decisions": changed(searched="0123")},
        {"decisions": changed(searched=None)},
        {"decisions": changed(lattice=None)},
        {"decisions": lattice_with(offset=[1.0])},
        {"decisions": lattice_with(offset=[1.0, "2"])},
        {"decisions": lattice_with(first=[1.0, True])},
        {"decisions": lattice_with(first=[10**400, 0])},
        {"decisions": lattice_with(second=[float("nan"), 1.0])},
        {"decisions": lattice_with(second=[float("inf"), 1.0])},
        {"decisions": lattice_with(barrel=None)},
        {"decisions": lattice_with(spiral="0")},
    ],
)
def test_what_no_page_gives_back_is_refused_as_a_whole(project, members):
    before = contents(project)
    message = refusal(lambda: verify(saved(project, **members)), "verified.json")
    assert len(message) < 400 + len(str(project))
    assert contents(project) == before


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"\xff\xfe\x00", b"[" * 100_000, b"9" * 10_000, b"[]", b"null", b'"text"', b" " * (2**24 + 1)],
)
def test_no_json_is_refused(tmp_path, content):
    file = tmp_path / "verified.json"
    file.write_bytes(content)
    refusal(lambda: verify(file), file)


def test_what_is_no_file_is_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for name in ("missing", "pipe", "."):
        refusal(lambda name=name: verify(tmp_path / name), tmp_path / name)


def test_names_harm_no_terminal(project):
    outcome = verify(saved(project, decided("\x1b[2J"), decided("\ud800")))
    assert all(line.isprintable() for line in outcome.lines)


# ---- the command


def test_the_command_says_what_it_wrote(project, capsys):
    file = saved(project, decided(NAMES[0]), decided(NAMES[1], searched=OTHER))
    assert commandline.main(["verify", str(file)]) == 1
    said = capsys.readouterr()
    assert said.out == "1 lattice verified, 0 rejected, 1 left alone\n"
    assert len(said.err.splitlines()) == 1 and NAMES[1] in said.err
    file = saved(project, decided(NAMES[0]))
    assert commandline.main(["verify", str(file), "--project", str(project)]) == 0


def test_a_users_mistake_is_one_line(tmp_path):
    program = "import sys; from ed2d.commandline import main; sys.exit(main())"
    command = [sys.executable, "-c", program, "verify", str(tmp_path / "missing.json")]
    environment = os.environ | {"PYTHONPATH": str(CHECKOUT / "workflow/scripts")}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (1, "")
    assert len(done.stderr.splitlines()) == 1 and "missing.json: cannot be read" in done.stderr


@pytest.mark.parametrize("arguments, said", [(["--version"], f"ed2d {__version__}"), (["--help"], "verify")])
def test_it_says_what_it_is(arguments, said, capsys):
    with pytest.raises(SystemExit) as end:
        commandline.main(arguments)
    assert end.value.code == 0
    assert said in capsys.readouterr().out


def test_it_is_installed_with_the_parts_of_the_page():
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())
    assert project["project"]["scripts"] == {"ed2d": "ed2d.commandline:main"}
    assert project["tool"]["setuptools"]["package-data"] == {"ed2d": ["contactsheet.*"]}
