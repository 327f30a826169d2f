import sys

sys.path.insert(0, snakemake.scriptdir)

from ed2d.exampleproject import make_example
from ed2d.job import run

run(make_example, log=snakemake.log[0], name="example", readme=snakemake.output[0])
