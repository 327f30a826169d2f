rule integrate:
    input:
        lambda wildcards: project.check_measurable(wildcards.image),
        reflections=f"{IMAGE}_ext.mtz",
    output:
        reflections=f"{IMAGE}_int.mtz",
        raw=f"{FOLDER}/tmp_integrate1.tif",
        corrected=f"{FOLDER}/tmp_integrate2.tif",
        residuals=project.results("{image}", *RESIDUALS) if config["residuals"] else [],
    log:
        f"{IMAGE}_int.log",
    conda:
        "../envs/ed2d.yaml"
    params:
        **project.dependencies("integrate"),
    shell:
        command(
            "integrate.py",
            *STILL,
            "reflections={input.reflections:q}",
            "output={output.reflections:q}",
            "raw={output.raw:q}",
            "corrected={output.corrected:q}",
            "residuals={output.residuals:q}",
        )


# `_ext.mtz` too: Snakemake does not miss a file on the way to one that is there, as after a stopped extraction
rule integrate_all:
    input:
        lambda wildcards: all_results(
            "integrate_all", *RESULTS, *(RESIDUALS if config["residuals"] else ())
        ),
