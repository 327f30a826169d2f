checkpoint example:
    output:
        f"{EXAMPLE}/README.txt",
    log:
        f"{EXAMPLE}/example.log",
    conda:
        "../envs/ed2d.yaml"
    script:
        "../scripts/example.py"
