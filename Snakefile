from snakemake.utils import min_version

min_version("9.27")


include: "workflow/rules/common.smk"
include: "workflow/rules/planning.smk"
include: "workflow/rules/run.smk"
include: "workflow/rules/example.smk"
include: "workflow/rules/mask.smk"
include: "workflow/rules/search.smk"
include: "workflow/rules/verify.smk"
include: "workflow/rules/extract.smk"
include: "workflow/rules/integrate.smk"
include: "workflow/rules/refused.smk"
include: "workflow/rules/batch.smk"


localrules:
    all,
    example,
    extract_all,
    integrate_all,
    mask_all,
    refused,
    search_all,
    verify,


rule all:
    default_target: True
    input:
        rules.integrate_all.input,


onstart:
    # Each round of Snakemake's scheduler starts a timer for one more round, to keep to a number of jobs a second (its
    # issue 2354). After some hundred short jobs the rounds fill a processor core.
    if workflow.local_exec:
        workflow.scheduler.job_rate_limiter = None
    elif not config["images_per_job"]:
        logger.warning(
            "Each step of each image is a job of its own. Give images_per_job."
        )
    if Path(PROJECT).exists():
        checked(begin)


onsuccess:
    ended.append(True)


onerror:
    if not broken_off():
        ended.append(True)
