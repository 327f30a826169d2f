checkpoint example:
    output:
        f"{EXAMPLE}/README.txt",
    log:
        f"{EXAMPLE}/example.log",
    conda:
        "../envs/ed2d.yaml"
    shell:
        "exec {PYTHON} {SCRIPTS}/example.py name=example readme={output:q} log={log:q} config={{}} planned:"
