import sys

sys.path.insert(0, snakemake.scriptdir)

from ed2d.extract import extract
from ed2d.job import run

run(
    extract,
    log=snakemake.log[0],
    name=snakemake.wildcards.image,
    image=snakemake.input.image,
    mask=next(iter(snakemake.input.mask), None),
    info=snakemake.input.info,
    project=snakemake.input.project,
    config=snakemake.config,
    output=snakemake.output.reflections,
)
