import sys
from pathlib import Path

from snakemake.common.configfile import load_configfile
from snakemake.exceptions import WorkflowError
from snakemake.utils import update_config, validate

ROOT = Path(workflow.current_basedir.get_path_or_uri(secret_free=True)).parents[1]
sys.path.insert(0, str(ROOT / "workflow/scripts"))

from ed2d import __version__
from ed2d.errors import InputError
from ed2d.project import Project

defaults = load_configfile(ROOT / "config/config.yaml")
update_config(defaults, config)
config.update(defaults)
validate(config, "../schemas/config.schema.yaml")

EXAMPLE = "example"
PROJECT = config["project"]
IMAGE = f"{PROJECT}/{{image}}/{{image}}"

project = Project(PROJECT, config)
if workflow.is_main_process and PROJECT != EXAMPLE:
    try:
        print(
            *(f"skipped: {name}: {reason}" for name, reason in project.skipped.items()),
            sep="\n",
            file=sys.stderr,
        )
    except InputError as error:
        raise WorkflowError(str(error))


def all_results(*suffixes):
    """Files of every image that is not skipped; the example is made first where it is the project."""
    if PROJECT == EXAMPLE:
        checkpoints.example.get()
    return [
        path for name in project.images for path in project.results(name, *suffixes)
    ]


wildcard_constraints:
    image="[^/]+",
