rule extract:
    input:
        image=lambda wildcards: ancient(project.image(wildcards.image)),
        mask=lambda wildcards: ancient(project.mask(wildcards.image)),
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
    shell:
        command("extract.py", *STILL, "output={output.reflections:q}")


rule extract_all:
    input:
        lambda wildcards: all_results("extract_all", "_ext.mtz"),
