"""One BLAS thread for the tests and all they start, as the workflow gives its jobs; the projects they share."""

import os

for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):  # read when numpy is imported
    os.environ[name] = "1"

import pytest  # noqa: E402

from ed2d.emdatainfo import Document  # noqa: E402
from emdatafiles import write  # noqa: E402
from runs import IMAGES, copy, make_project, snakemake  # noqa: E402
from slurm import running_slurm  # noqa: E402, F401  (the fixture slurm)


def pytest_addoption(parser):
    parser.addoption("--kills", type=int, default=8, help="how many runs test_killed_runs.py kills at random moments")


@pytest.fixture(scope="session")
def fresh(tmp_path_factory):
    """A directory with a project that is not processed."""
    directory = tmp_path_factory.mktemp("fresh")
    make_project(directory / "project")
    return directory


@pytest.fixture(scope="session")
def first_run(fresh, tmp_path_factory):
    """A copy of it that was processed once, and the run."""
    directory = copy(fresh, tmp_path_factory.mktemp("first") / "first")
    return directory, snakemake(directory)


@pytest.fixture
def work(first_run, tmp_path):
    """A copy of the processed project and of Snakemake's record beside it."""
    return copy(first_run[0], tmp_path / "work")


@pytest.fixture(scope="session")
def single(tmp_path_factory):
    """A project of one image that is not processed."""
    return make_project(tmp_path_factory.mktemp("single") / "project", [IMAGES[0]])


@pytest.fixture
def document(tmp_path):
    """A function that writes content (str or bytes) to info.xml and reads it as a Document."""

    def make(content):
        return Document.read(write(tmp_path, content))

    return make
