# On a cluster one job takes many images through all steps, with a Snakemake of its own: to submit images one by one
# takes longer than to measure them.
rule batch:
    input:
        images=f"{BATCHES}/{{run}}/{{number}}.txt",
        words=f"{BATCHES}/{{run}}/words.txt",
        config=f"{BATCHES}/{{run}}/config.json",
    output:
        touch(f"{BATCHES}/{{run}}/{{number}}.done"),
    log:
        f"{BATCHES}/{{run}}/{{number}}.log",
    conda:
        "../envs/batch.yaml"
    shell:
        'ED2D_PART={input.images:q} xargs --exit --delimiter="\\\\n" --arg-file={input.words:q} "$ED2D_PYTHON"'
        f' -m snakemake {ALONE} --snakefile "$ED2D_SNAKEFILE"'
        " --cores {threads} --configfile {input.config:q} > {log:q} 2>&1"
