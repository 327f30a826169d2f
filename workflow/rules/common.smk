import atexit
import json
import os
import sys
from hashlib import md5
from pathlib import Path

from snakemake.common.configfile import load_configfile
from snakemake.exceptions import WorkflowError
from snakemake.logging import logger
from snakemake.settings.types import DeploymentMethod
from snakemake.utils import update_config, validate

ROOT = Path(workflow.current_basedir.get_path_or_uri(secret_free=True)).parents[1]
sys.path.insert(0, str(ROOT / "workflow/scripts"))

from ed2d.configuration import refusal, with_numbers
from ed2d.errors import InputError
from ed2d.project import RESIDUALS, RESULTS, Project, one_spelling
from ed2d.runlock import RunLock
from ed2d.summary import finish

defaults = load_configfile(ROOT / "config/config.yaml")
update_config(defaults, config)
config.update(with_numbers(defaults))
try:
    validate(config, "../schemas/config.schema.yaml")
except WorkflowError as error:
    raise WorkflowError(str(refusal(error.__context__))) from None

EXAMPLE = "example"
PROJECT = one_spelling(config["project"])
PROJECT_XML = str(Path(PROJECT, "project.xml"))
FOLDER = str(Path(PROJECT, "{image}"))
IMAGE = f"{FOLDER}/{{image}}"
SIMULATED = config["project"] == EXAMPLE and (
    not Path(EXAMPLE).exists() or Path(EXAMPLE, "README.txt").exists()
)

DIGEST = md5(PROJECT.encode()).hexdigest()
MEMORY = f".snakemake/ed2d/{DIGEST}"

project = Project(PROJECT, config, memory=f"{MEMORY}/readings.json")


def checked(question):
    """The answer of the project, or its InputError as Snakemake's one line."""
    try:
        return question()
    except InputError as error:
        raise WorkflowError(str(error)) from None


lock = RunLock(PROJECT)


# The text of a shell command must not change with the place of the program or a value that does not matter: Snakemake
# would measure all images anew. What may change travels in variables.
PACKED = DeploymentMethod.CONDA in workflow.deployment_settings.deployment_method
os.environ["ED2D_PYTHON"] = "python" if PACKED else sys.executable
os.environ["ED2D_SCRIPTS"] = str(ROOT / "workflow/scripts")
os.environ[f"ED2D_CONFIG_{DIGEST}"] = json.dumps(config)


def command(script, *arguments):
    """Shell command that runs a script of the library with arguments that Snakemake fills in.

    `exec` makes it a child of Snakemake itself, whose end it notices.
    """
    given = [
        "log={log:q}",
        f'config="$ED2D_CONFIG_{DIGEST}"',
        *arguments,
        "planned: {params:q}",
    ]
    return " ".join(['exec "$ED2D_PYTHON"', f'"$ED2D_SCRIPTS/{script}"', *given])


STILL = (
    "name={wildcards.image:q}",
    "image={input.image:q}",
    "mask={input.mask:q}",
    "info={input.info:q}",
    "project={input.project:q}",
)


@atexit.register  # no hook of Snakemake is called when there is nothing to be done, or when it fails itself
def summarise(directory=os.getcwd()):
    """The last word of a run, whatever its end."""
    if (
        not workflow.is_main_process
        or workflow.executor_plugin is None
        or workflow.dryrun
        or lock.refused
    ):
        return
    os.chdir(directory)
    try:
        for line in finish(project):
            print(line, file=sys.stderr)
        project.readings.remember()
    except InputError as error:
        print(error, file=sys.stderr)
    lock.give_back()


if workflow.is_main_process and not SIMULATED:
    for line in checked(project.left_out):
        logger.warning(line)


def all_results(*suffixes):
    """Files of every image that can be measured, and for each that is refused the file whose job fails."""
    if SIMULATED:
        checkpoints.example.get()
    names = checked(lambda: project.images)
    measured = [path for name in names for path in project.results(name, *suffixes)]
    return measured + [REFUSED.format(image=name) for name in project.refused]


wildcard_constraints:
    image="[^/]+",
