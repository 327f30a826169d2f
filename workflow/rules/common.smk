import atexit
import json
import os
import shlex
import signal
import sys
from compileall import compile_dir
from contextlib import suppress
from functools import cache
from hashlib import md5
from pathlib import Path

from snakemake.common.configfile import load_configfile
from snakemake.exceptions import WorkflowError
from snakemake.logging import logger
from snakemake.settings.types import DeploymentMethod
from snakemake.utils import update_config, validate

ROOT = Path(workflow.current_basedir.get_path_or_uri(secret_free=True)).parents[1]
sys.path.insert(0, str(ROOT / "workflow/scripts"))
if workflow.is_main_process:
    # else each job would do it, where Python is told not to keep bytecode
    compile_dir(ROOT / "workflow/scripts", quiet=2)

from ed2d.batches import PART, images_of, plan_batches, retire_batches
from ed2d.configuration import refusal, with_numbers
from ed2d.errors import InputError
from ed2d.imagedirectory import FOUND, RESIDUALS, RESULTS
from ed2d.job import RUN
from ed2d.project import MEASURED, STEPS, Project, one_spelling
from ed2d.runlock import RunLock
from ed2d.secondplan import SECOND, Order, Outcome
from ed2d.summary import summarise

defaults = load_configfile(ROOT / "config/config.yaml")
update_config(defaults, config)
config.update(with_numbers(defaults))
try:
    validate(config, "../schemas/config.schema.yaml")
except WorkflowError as error:
    raise WorkflowError(str(refusal(error.__context__))) from None


def checked(question, *arguments):
    """The answer of the project, or its InputError as Snakemake's one line."""
    try:
        return question(*arguments)
    except (InputError, OSError) as error:
        raise WorkflowError(str(error)) from None


EXAMPLE = "example"
PROJECT = checked(one_spelling, config["project"])
PROJECT_XML = str(Path(PROJECT, "project.xml"))
FOLDER = str(Path(PROJECT, "{image}"))
IMAGE = f"{FOLDER}/{{image}}"
SIMULATED = config["project"] == EXAMPLE and (
    not Path(EXAMPLE).exists() or Path(EXAMPLE, "README.txt").exists()
)

DIGEST = md5(os.fsencode(PROJECT)).hexdigest()
MEMORY = f".snakemake/ed2d/{DIGEST}"
BATCHES = f"{MEMORY}/batches"
READINGS = f"{MEMORY}/readings.json"
PAGE = str(Path(PROJECT, "verify.html"))
ALONE = "--profile none --executor local --nolock --quiet host rules"
WHOLE = workflow.is_main_process and PART not in os.environ
BATCH = os.environ.get(PART)
ORDER = checked(Order.read, os.environ.pop(SECOND)) if SECOND in os.environ else None

# Snakemake's own program with this workflow alone: none that has more to do when it ends.
OURS = "snakemake" in Path(sys.argv[0]).parts[-2:] and Path(
    workflow.main_snakefile
).samefile(ROOT / "Snakefile")

# The text of a shell command must not change with the place of the program or a value that does not matter: Snakemake
# would measure all images anew. What may change travels in variables.
PACKED = DeploymentMethod.CONDA in workflow.deployment_settings.deployment_method
os.environ.update(
    {
        "ED2D_PYTHON": "python" if PACKED else sys.executable,
        "ED2D_SNAKEFILE": str(ROOT / "Snakefile"),
        "ED2D_SCRIPTS": str(ROOT / "workflow/scripts"),
        RUN: str(os.getpid()),
        f"ED2D_CONFIG_{DIGEST}": json.dumps(config),
    }
)


project = Project(
    PROJECT,
    config,
    memory=READINGS,
    only=checked(images_of, BATCH) if BATCH else None,
)
lock = RunLock(PROJECT)


if WHOLE and not SIMULATED and not ORDER:
    for line in checked(project.left_out):
        logger.warning(line)


def command(script, *arguments):
    """Shell command that runs a script of the library with arguments that Snakemake fills in.

    `exec` makes it a child of Snakemake itself, whose end it notices.
    """
    return " ".join(
        ['exec "$ED2D_PYTHON"', f'"$ED2D_SCRIPTS/{script}" log={{log:q}}', *arguments]
    )


# Image, mask and XML are no inputs for Snakemake: what results depend on of them is in `params`. Their times need not
# fit to those of the results, which Snakemake would insist on.
STILL = (
    f"directory={shlex.quote(PROJECT)}/{{wildcards.image:q}}",
    f"project={shlex.quote(PROJECT_XML)}",
    f'config="$ED2D_CONFIG_{DIGEST}"',
    "planned={params.planned}",
)


wildcard_constraints:
    image="[^/]+",
