rule mask:
    input:
        lambda wildcards: project.check_maskable(wildcards.image),
    output:
        f"{FOLDER}/tmp_mask.tif",
    log:
        f"{IMAGE}_msk.log",
    conda:
        "../envs/ed2d.yaml"
    params:
        **project.dependencies("mask"),
    shell:
        command("mask.py", *STILL, "output={output:q}")


rule mask_all:
    input:
        lambda wildcards: found_of("mask_all", "tmp_mask.tif"),
