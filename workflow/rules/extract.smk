rule extract:
    input:
        lambda wildcards: project.check_measurable(wildcards.image),
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
