# On a cluster one job takes many images through all steps, with a Snakemake of its own: to submit images one by one
# takes longer than to measure them.
rule batch:
    input:
        words=f"{BATCHES}/{{run}}/{{number}}.txt",
        config=f"{BATCHES}/{{run}}/config.json",
    output:
        touch(f"{BATCHES}/{{run}}/{{number}}.done"),
    log:
        f"{BATCHES}/{{run}}/{{number}}.log",
    conda:
        "../envs/ed2d.yaml"
    shell:
        f'ED2D_PART=1 xargs --exit --delimiter="\\\\n" --arg-file={{input.words:q}} "$ED2D_PYTHON" -m snakemake {ALONE}'
        ' --snakefile "$ED2D_SNAKEFILE" --cores {threads} --configfile {input.config:q} > {log:q} 2>&1'
