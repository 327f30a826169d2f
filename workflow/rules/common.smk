import atexit
import json
import os
import shlex
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
if (
    workflow.is_main_process
):  # else each job would, where Python is told not to keep bytecode
    compile_dir(ROOT / "workflow/scripts", quiet=2)

from ed2d.batches import plan_batches
from ed2d.configuration import refusal, with_numbers
from ed2d.errors import InputError
from ed2d.job import RUN
from ed2d.imagedirectory import RESIDUALS, RESULTS
from ed2d.project import Project, one_spelling
from ed2d.runlock import RunLock
from ed2d.summary import summarise

defaults = load_configfile(ROOT / "config/config.yaml")
update_config(defaults, config)
config.update(with_numbers(defaults))
try:
    validate(config, "../schemas/config.schema.yaml")
except WorkflowError as error:
    raise WorkflowError(str(refusal(error.__context__))) from None


def checked(question):
    """The answer of the project, or its InputError as Snakemake's one line."""
    try:
        return question()
    except (InputError, OSError) as error:
        raise WorkflowError(str(error)) from None


EXAMPLE = "example"
PROJECT = checked(lambda: one_spelling(config["project"]))
PROJECT_XML = str(Path(PROJECT, "project.xml"))
FOLDER = str(Path(PROJECT, "{image}"))
IMAGE = f"{FOLDER}/{{image}}"
SIMULATED = config["project"] == EXAMPLE and (
    not Path(EXAMPLE).exists() or Path(EXAMPLE, "README.txt").exists()
)

DIGEST = md5(os.fsencode(PROJECT)).hexdigest()
MEMORY = f".snakemake/ed2d/{DIGEST}"
BATCHES = f"{MEMORY}/batches"
ALONE = "--executor local --nolock --quiet host rules"
WHOLE = workflow.is_main_process and "ED2D_PART" not in os.environ

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

project = Project(PROJECT, config, memory=f"{MEMORY}/readings.json")
lock = RunLock(PROJECT)


@atexit.register  # no hook of Snakemake is called when there is nothing to be done, or when it fails itself
def finish(directory=os.getcwd()):
    """The last word of a run, whatever its end; status 1 where all was asked for and an image is not measured."""
    executed = workflow.executor_plugin and not workflow.dryrun
    if not WHOLE or not executed or lock.refused:
        return
    os.chdir(directory)
    try:
        lines, complete = summarise(project)
    except (InputError, OSError) as error:
        lines, complete = [str(error)], False
    lock.give_back()
    with suppress(OSError, AttributeError, ValueError):  # the terminal may be gone
        print(*lines, sep="\n", file=sys.stderr, flush=True)
    asked = workflow.dag_settings
    limits = asked.until or asked.omit_from or asked.batch
    everything = set(asked.targets) <= {"all", "integrate_all"} and not limits
    program = "snakemake" in Path(sys.argv[0]).parts[-2:]  # none that has more to do
    ours = Path(workflow.main_snakefile).samefile(ROOT / "Snakefile")
    if everything and not complete and program and ours:
        os._exit(1)


if WHOLE and not SIMULATED:
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


def all_results(target, *suffixes):
    """Files of every image that can be measured, or of batches that do the same for the rule `target`.

    And for each image that is refused the file whose job fails.
    """
    if SIMULATED:
        checkpoints.example.get()
    names = checked(lambda: project.images)
    if config["images_per_job"]:
        measured = checked(lambda: batches(target))
    else:
        measured = [path for name in names for path in project.results(name, *suffixes)]
    return measured + [REFUSED.format(image=name) for name in project.refused]


@cache  # Snakemake may ask again
def batches(target):
    """Files that batches leave which do what is left to do for a rule."""
    settings = workflow.dag_settings
    forced = ["--forceall"] if settings.forceall else []
    forced += ["--forcerun", *settings.forcerun] if settings.forcerun else []
    snakemake = [
        sys.executable,
        "-m",
        "snakemake",
        "--snakefile",
        str(ROOT / "Snakefile"),
    ]
    planned = plan_batches(
        BATCHES,
        [*snakemake, *ALONE.split()],
        config | {"images_per_job": 0},
        target=target,
        images=config["images_per_job"],
        forced=forced,
    )
    return [f"{BATCHES}/{name}.done" for name in planned]


wildcard_constraints:
    image="[^/]+",
