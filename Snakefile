from snakemake.utils import min_version

min_version("9.27")


include: "workflow/rules/common.smk"
include: "workflow/rules/example.smk"
include: "workflow/rules/extract.smk"
include: "workflow/rules/integrate.smk"
include: "workflow/rules/refused.smk"


rule all:
    default_target: True
    input:
        rules.integrate_all.input,


onstart:
    checked(lock.take)
