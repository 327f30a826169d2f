"""The command `ed2d`: what is done by hand between runs of the workflow."""

import argparse
import sys

from . import __version__
from .errors import InputError, printable
from .verification import verify

DESCRIPTION = (
    "Measures still electron-diffraction images of two-dimensional crystals. The images of a project are measured by "
    "snakemake; this command does what comes between."
)
VERIFY = (
    "Writes what was decided on the page of lattices to verify into the info.xml of each image: an accepted lattice as "
    "VerifiedLattice, which the next run measures, a rejected one as RejectedLattice, which no run measures. A "
    "VerifiedLattice that is there already is never overwritten. To repeat the command does no harm."
)


def main(arguments=None):
    """Runs the command with the arguments given, else with those of the process; its exit status."""
    given = _parser().parse_args(arguments)
    try:
        return given.run(given)
    except InputError as error:
        print(error, file=sys.stderr)
        return 1


def _parser():
    parser = argparse.ArgumentParser(prog="ed2d", description=DESCRIPTION)
    parser.add_argument("--version", action="version", version=f"ed2d {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    command = commands.add_parser("verify", help="write the decisions of the page into the project", description=VERIFY)
    command.add_argument("file", metavar="FILE", help="verified.json, which the page has saved")
    command.add_argument("--project", metavar="DIR", help="the directory of the project, where it has moved")
    command.set_defaults(run=_verify)
    return parser


def _verify(given):
    *left_alone, summary = (outcome := verify(given.file, project=given.project)).lines
    for line in left_alone:
        print(line, file=sys.stderr)
    print(printable(summary))
    return 0 if outcome.complete else 1
