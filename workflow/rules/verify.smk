# Without output: the page is made whenever it is asked for.
rule verify:
    input:
        lambda wildcards: before_verification(),
    log:
        f"{MEMORY}/verify.log",
    conda:
        "../envs/ed2d.yaml"
    shell:
        command(
            "verify.py",
            f"project={shlex.quote(PROJECT)}",
            f'config="$ED2D_CONFIG_{DIGEST}"',
            f"memory={shlex.quote(READINGS)}",
            f"output={shlex.quote(PAGE)}",
        )
