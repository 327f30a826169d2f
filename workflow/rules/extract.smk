rule extract:
    input:
        image=f"{IMAGE}.tif",
        mask=lambda wildcards: project.mask(wildcards.image),
        info=ancient(f"{PROJECT}/{{image}}/info.xml"),
        project=ancient(f"{PROJECT}/project.xml"),
    output:
        reflections=f"{IMAGE}_ext.mtz",
    log:
        f"{IMAGE}_ext.log",
    params:
        lattice=lambda wildcards: project.lattice(wildcards.image),
        parameters=lambda wildcards: project.parameters(wildcards.image),
        version=__version__,
    conda:
        "../envs/ed2d.yaml"
    script:
        "../scripts/extract.py"


rule extract_all:
    input:
        lambda wildcards: all_results(checkpoints, "_ext.mtz"),
