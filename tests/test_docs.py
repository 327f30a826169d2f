"""The documentation is run: its code, its commands, its tables, its links.

`python tests/test_docs.py` prints the tables that docs/results.md must hold.
"""

import ast
import contextlib
import importlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml

from ed2d import flags
from ed2d.emdatainfo import Document, verified_lattice
from ed2d.intensity import REASONS
from ed2d.maskshapes import read_shapes
from ed2d.parameters import INTEGRATE, REGISTRY, SEARCH, UNIT_CELL, WAVELENGTH
from ed2d.table import extract_columns, integrate_columns
from runs import make_project, snakemake

CHECKOUT = Path(__file__).resolve().parents[1]
LIBRARY = CHECKOUT / "workflow/scripts/ed2d"
DOCUMENTS = sorted(
    [*CHECKOUT.glob("*.md"), CHECKOUT / "config/README.md", *CHECKOUT.glob("docs/**/*.md")],
    key=lambda path: path.relative_to(CHECKOUT).as_posix(),
)
TUTORIAL, HOW_TO = CHECKOUT / "docs/tutorial.md", CHECKOUT / "docs/how-to.md"
BLOCK = re.compile(r"^(<!-- run -->\n)?( *)```(\w*)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
NUMBER = re.compile(r"(?<![\w.])[+-]?\d+(?:\.\d+)?(?:e[+-]?\d+)?")
TIMEOUT = 60  # s


@dataclass(frozen=True)
class Block:
    """A fenced block of a document: language, content, line of its first line, whether it is marked to be run."""

    language: str
    content: str
    line: int
    run: bool


def blocks(path):
    text = path.read_text(encoding="utf-8")
    found = []
    for match in BLOCK.finditer(text):
        mark, indent, language, content = match.groups()
        content = re.sub(f"^{indent}", "", content, flags=re.MULTILINE)
        found.append(Block(language, content, text.count("\n", 0, match.start(4)) + 1, bool(mark)))
    return found


def name(path):
    return path.relative_to(CHECKOUT).as_posix()


# ---- running


@dataclass
class Walk:
    """Runs the blocks of a document one after the other in a directory; keeps what they said and should have said."""

    directory: Path
    document: Path
    namespace: dict = field(default_factory=dict)
    outputs: list = field(default_factory=list)
    promises: list = field(default_factory=list)  # (block of text, language of the block before it, its output)

    def run(self):
        before = None
        for block in blocks(self.document):
            if block.language == "python":
                self.outputs.append(self._python(block))
            elif block.run:
                self.outputs.append(shell(block.content, self.directory))
            elif block.language == "text" and before is not None:
                self.promises.append((block, before.language, self.outputs[-1]))
            before = block if block.language == "python" or block.run else None
        return self

    def _python(self, block):
        code = compile("\n" * (block.line - 1) + block.content, self.document, "exec")
        with contextlib.chdir(self.directory), contextlib.redirect_stdout(io.StringIO()) as said:
            exec(code, self.namespace)
        return said.getvalue()

    def check(self):
        """Python says exactly the promised text; of a command every promised line occurs, numbers apart."""
        for block, language, output in self.promises:
            if language == "python":
                assert output == block.content, f"{name(self.document)}:{block.line}"
            else:
                assert_lines(block.content, output, f"{name(self.document)}:{block.line}")


def shell(commands, directory):
    """Output of commands that must succeed, run with this Python's programs."""
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", commands],
        cwd=directory,
        env=os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=TIMEOUT,
    )
    assert done.returncode == 0, f"{commands}\n{done.stdout}"
    return done.stdout


def assert_lines(promised, output, where):
    """Every promised line stands in the output, numbers aside; jobs that end together may share a line."""
    said = [NUMBER.sub("0", line.strip()) for line in output.splitlines()]
    for line in promised.splitlines():
        assert any(NUMBER.sub("0", line.strip()) in given for given in said), f"{where}: {line!r} is not in\n{output}"


@pytest.fixture(scope="module")
def tutorial(tmp_path_factory):
    """The tutorial, run in a copy of the checkout that has nothing but the workflow."""
    directory = tmp_path_factory.mktemp("docs") / "ed2d"
    directory.mkdir()
    shutil.copy(CHECKOUT / "Snakefile", directory)
    for part in ("config", "workflow"):
        ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
        shutil.copytree(CHECKOUT / part, directory / part, symlinks=True, ignore=ignored)
    shutil.copy(CHECKOUT / "profiles", directory, follow_symlinks=False)
    return Walk(directory, TUTORIAL).run()


def test_the_tutorial_says_what_is_seen(tutorial):
    assert len(tutorial.promises) >= 5
    tutorial.check()


def test_readme_says_what_the_first_run_shows(tutorial):
    promised = [block.content for block in blocks(CHECKOUT / "README.md") if block.language == "text"]
    assert len(promised) == 1
    assert_lines(promised[0], tutorial.outputs[0], "README.md")


WITH_PYTHON = [path for path in DOCUMENTS if path != TUTORIAL and any(b.language == "python" for b in blocks(path))]


@pytest.mark.parametrize("path", WITH_PYTHON, ids=name)
def test_python_in_documents_runs(path, tutorial):
    Walk(tutorial.directory, path).run().check()


def test_the_module_example_plans_every_image(tutorial):
    (block,) = (block for block in blocks(HOW_TO) if block.language == "snakemake")
    directory = tutorial.directory.parent / "other"
    directory.mkdir()
    (directory / "Snakefile").write_text(block.content)
    output = shell("snakemake --cores 1 --dry-run --forceall", directory)
    assert re.search(r"^ed2d_integrate +3$", output, re.MULTILINE), output  # the tutorial leaves one ignored
    assert re.search(r"^count +1$", output, re.MULTILINE), output


def test_quick_start_has_the_two_lines():
    commands = [block.content for block in blocks(CHECKOUT / "README.md") if block.language == "bash"]
    venv = "python3 -m venv .venv && .venv/bin/pip install -q -e"
    assert commands == [
        f"{venv} . && .venv/bin/snakemake --cores 2\n",
        f"{venv} '.[test]' && .venv/bin/pytest -q\n",
    ]


@pytest.mark.parametrize("path", DOCUMENTS, ids=name)
def test_xml_in_documents_is_accepted(path, tmp_path):
    for block in blocks(path):
        if block.language == "xml":
            text = block.content if "<EMDataInfo>" in block.content else f"<EMDataInfo>{block.content}</EMDataInfo>"
            file = tmp_path / "example.xml"
            file.write_text(text)
            document = Document.read(file)
            for element in document.root.iter("Mask"):
                assert read_shapes(element, document)
            if "VerifiedLattice" in text:
                assert verified_lattice(document)


# ---- tables


def markdown(*rows):
    head, *body = rows
    return "\n".join(f"| {' | '.join(map(str, row))} |" for row in [head, ["---"] * len(head), *body])


def column_table(columns):
    return markdown(("column", "type", "meaning"), *((c.name, c.mtz_type, c.meaning) for c in columns))


def flag_table():
    rows = ((f.bit, flag, "yes" if f.excludes else "", f.meaning) for flag, f in flags.REGISTRY.items())
    return markdown(("bit", "name", "not in refinement", "meaning"), *rows)


def reason_table():
    return markdown(("reason", "meaning"), *((f"`{reason}`", text) for reason, text in REASONS.items()))


TABLES = {
    "columns of _ext": column_table(extract_columns()),
    "columns of _int": column_table(integrate_columns(1)),
    "FLAG": flag_table(),
    "reasons": reason_table(),
}


@pytest.mark.parametrize("table", TABLES)
def test_results_has_the_tables_of_the_program(table):
    text = (CHECKOUT / "docs/results.md").read_text()
    assert f"\n\n{TABLES[table]}\n\n" in text, f"paste this:\n\n{TABLES[table]}"


def test_results_names_every_item_of_info_xml(tutorial):
    text = (CHECKOUT / "docs/results.md").read_text()
    document = Document.read(tutorial.directory / "example/EXA0000003/info.xml")
    for group in ("DiffExtract", "DiffIntegrate"):
        items = list(document.group(f"DiffProcessingResults/{group}").iterchildren("*"))
        assert len(items) > 5
        for item in items:
            assert re.search(rf"`{item.tag}[`/]", text), item.tag


def test_results_names_every_item_of_a_search(tmp_path):
    """Those of an image whose lattice is searched, and of its mask."""
    text = (CHECKOUT / "docs/results.md").read_text()
    project = make_project(tmp_path / "project", ["ABC0000001"])
    (project / "ABC0000001/info.xml").unlink()
    (project / "ABC0000001/ABC0000001_mask.tif").unlink()
    assert snakemake(tmp_path, "search_all").status == 0
    document = Document.read(project / "ABC0000001/info.xml")
    for group in ("DiffMask", "DiffSearch"):
        assert f"### {group}" in text
        for item in document.group(f"DiffProcessingResults/{group}").iterchildren("*"):
            assert re.search(rf"`{item.tag}[`/]", text), item.tag


def rows_of(path, pattern):
    """The cells of the table rows whose first cell matches, by its first group."""
    rows = {}
    for line in path.read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")] if line.startswith("| ") else [""]
        if match := re.fullmatch(pattern, cells[0]):
            assert match[1] not in rows, f"{match[1]} has two rows"
            rows[match[1]] = cells[1:]
    return rows


def flattened(mapping, above=""):
    for key, value in mapping.items():
        if isinstance(value, dict):
            yield from flattened(value, f"{above}{key}/")
        else:
            yield f"{above}{key}", value


def schema_keys(schema, above=""):
    for key, value in schema["properties"].items():
        if "properties" in value:
            yield from schema_keys(value, f"{above}{key}/")
        else:
            yield f"{above}{key}"


def limits_text(entry):
    low, high = entry.limits.get("low"), entry.limits.get("high")
    words = {"low": f"{low} to {high}" if high else f"{low} or more"}
    words |= {word: f"{word} {entry.limits.get(word)}" for word in ("above", "below")}
    return ", ".join([entry.kind, *(words[limit] for limit in entry.limits if limit != "high")])


def test_config_readme_has_every_key_with_its_default_and_limits():
    rows = rows_of(CHECKOUT / "config/README.md", r"`((?:\w+/)*\w+)`")
    defaults = dict(flattened(yaml.safe_load((CHECKOUT / "config/config.yaml").read_text())))
    schema = yaml.safe_load((CHECKOUT / "workflow/schemas/config.schema.yaml").read_text())
    keys = list(schema_keys(schema))
    assert set(defaults) <= set(keys)
    types = {entry.path: limits_text(entry) for entry in (*REGISTRY, *INTEGRATE, *SEARCH, *UNIT_CELL, WAVELENGTH)}
    assert set(keys) == {"project", "images_per_job", "search", "residuals", *types}
    for key in keys:
        default = str(defaults[key]).replace("False", "false") if key in defaults else None
        assert rows[key][0] == (f"`{default}`" if default else "none"), key
        if key in types:
            assert rows[key][1] == types[key], key


def test_algorithm_has_the_constants_of_the_program():
    path = CHECKOUT / "docs/algorithm.md"
    rows = rows_of(path, r"`(\w+\.\w+)`")
    text = path.read_text().partition("## Constants")[0]
    named = {word for word in re.findall(r"\b[A-Z]{3,}(?:_[A-Z]+)+\b", text)} - set(flags.REGISTRY)
    assert named <= {row.partition(".")[2] for row in rows}
    for row, (value, *_) in rows.items():
        module, constant = row.split(".")
        assert constant in text, f"{constant} is not in the text"
        actual = getattr(importlib.import_module(f"ed2d.{module}"), constant)
        close = 1e-3 if isinstance(actual, float) else 0  # a third is written as 0.333
        assert json.loads(value) == pytest.approx(actual, rel=close, abs=0), f"{row} is {actual}"


def modules_in_readme():
    rows = [line for line in (CHECKOUT / "README.md").read_text().splitlines() if line.startswith("| `")]
    return [match[1] for line in rows if (match := re.match(r"\| `(\w+\.py)` \|", line))]


def test_readme_lists_every_module_once():
    assert sorted(modules_in_readme()) == sorted(path.name for path in LIBRARY.glob("*.py"))


def imported(path):
    """The modules of the library that a module imports."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level == 1:
            names = [node.module] if node.module else [alias.name for alias in node.names]
            yield from (f"{module}.py" for module in names if (LIBRARY / f"{module}.py").exists())


def test_modules_import_only_what_stands_before_them():
    order = modules_in_readme()
    for place, module in enumerate(order):
        later = set(imported(LIBRARY / module)) - set(order[:place])
        assert not later, f"{module} imports {sorted(later)}"


# ---- links


def anchors(path):
    """The anchors that the headings of a document get on GitHub."""
    text = BLOCK.sub("", path.read_text())
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("path", DOCUMENTS, ids=name)
def test_links_lead_somewhere(path):
    for target, anchor in re.findall(r"\]\(([^)#\s]*)#?([^)\s]*)\)", BLOCK.sub("", path.read_text())):
        if not target.startswith("https://"):
            other = (path.parent / target).resolve() if target else path
            assert other.exists(), target
            assert not anchor or anchor in anchors(other), f"{target}#{anchor}"


def test_every_decision_is_listed():
    listed = re.findall(r"\]\((\d{4}-[^)]*)\)", (CHECKOUT / "docs/decisions/README.md").read_text())
    assert listed == sorted(path.name for path in CHECKOUT.glob("docs/decisions/0*.md"))


if __name__ == "__main__":
    for title, table in TABLES.items():
        print(f"{title}\n\n{table}\n")
