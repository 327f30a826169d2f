checkpoint example:
    output:
        f"{EXAMPLE}/README.txt",
    log:
        f"{EXAMPLE}/example.log",
    conda:
        "../envs/ed2d.yaml"
    shell:
        command("example.py", "name=example", "readme={output:q}")
