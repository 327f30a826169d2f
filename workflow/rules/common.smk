import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError
from snakemake.utils import validate

sys.path.insert(0, str(Path(workflow.current_basedir.get_path_or_uri()).parent / "scripts"))

from ed2d import __version__
from ed2d.errors import InputError
from ed2d.project import Project

validate(config, "../schemas/config.schema.yaml")

EXAMPLE = "example"
PROJECT = config["project"]
IMAGE = f"{PROJECT}/{{image}}/{{image}}"

project = Project(PROJECT, config)
if workflow.is_main_process and PROJECT != EXAMPLE:
    try:
        print(*(f"skipped: {name}: {reason}" for name, reason in project.skipped.items()), sep="\n", file=sys.stderr)
    except InputError as error:
        raise WorkflowError(str(error))


wildcard_constraints:
    image="[^/]+",
