import sys
from pathlib import Path

Path(snakemake.log[0]).write_text(f"{snakemake.params.reason}\n", encoding="utf-8")
sys.exit(snakemake.params.reason)
