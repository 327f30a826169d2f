import sys

sys.path.insert(0, snakemake.scriptdir)

from ed2d.integrate import integrate
from ed2d.job import run

run(
    integrate,
    log=snakemake.log[0],
    name=snakemake.wildcards.image,
    image=snakemake.input.image,
    mask=next(iter(snakemake.input.mask), None),
    info=snakemake.input.info,
    project=snakemake.input.project,
    config=snakemake.config,
    reflections=snakemake.input.reflections,
    output=snakemake.output.reflections,
    raw=snakemake.output.raw,
    corrected=snakemake.output.corrected,
    residuals=next(iter(snakemake.output.residuals), None),
)
