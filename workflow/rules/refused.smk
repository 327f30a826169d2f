REFUSED = f"{MEMORY}/refused/{{image}}"


# Fails for an image of which it is known beforehand that it cannot be measured. Its own jobs do not even start: before
# a job Snakemake removes the earlier results, and where it cannot, it stops all other images as well.
rule refused:
    output:
        REFUSED,
    log:
        f"{REFUSED}.log",
    conda:
        "../envs/ed2d.yaml"
    params:
        reason=lambda wildcards: project.refused[wildcards.image],
    shell:
        "printf '%s\\n' {params.reason:q} > {log:q}; exit 1"
