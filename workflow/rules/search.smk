# The mask is an input to be made before; a search takes what info.xml has of it.
rule search:
    input:
        lambda wildcards: project.mask_to_find(wildcards.image),
    output:
        f"{FOLDER}/tmp_search.tif",
    log:
        f"{IMAGE}_src.log",
    conda:
        "../envs/ed2d.yaml"
    params:
        **project.dependencies("search"),
    shell:
        command("search.py", *STILL, "output={output:q}")


rule search_all:
    input:
        lambda wildcards: found_of("search_all", "tmp_search.tif"),
