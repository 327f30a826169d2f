rule extract:
    input:
        image=lambda wildcards: project.image(wildcards.image),
        mask=lambda wildcards: project.mask(wildcards.image),
        info=ancient(f"{FOLDER}/info.xml"),
        project=ancient(PROJECT_XML),
    output:
        reflections=f"{IMAGE}_ext.mtz",
    log:
        f"{IMAGE}_ext.log",
    conda:
        "../envs/ed2d.yaml"
    params:
        **project.dependencies("extract"),
        version=f"ed2d = {__version__}",
    script:
        "../scripts/extract.py"


rule extract_all:
    input:
        lambda wildcards: all_results("_ext.mtz"),
