rule integrate:
    input:
        image=f"{IMAGE}.tif",
        mask=lambda wildcards: project.mask(wildcards.image),
        info=ancient(f"{PROJECT}/{{image}}/info.xml"),
        project=ancient(f"{PROJECT}/project.xml"),
        reflections=f"{IMAGE}_ext.mtz",
    output:
        reflections=f"{IMAGE}_int.mtz",
        raw=f"{PROJECT}/{{image}}/tmp_integrate1.tif",
        corrected=f"{PROJECT}/{{image}}/tmp_integrate2.tif",
    log:
        f"{IMAGE}_int.log",
    conda:
        "../envs/ed2d.yaml"
    params:
        **project.dependencies(lattice=False),
        version=__version__,
    script:
        "../scripts/integrate.py"


rule integrate_all:
    input:
        lambda wildcards: all_results(
            "_int.mtz", "tmp_integrate1.tif", "tmp_integrate2.tif"
        ),
