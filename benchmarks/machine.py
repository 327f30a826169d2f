"""One BLAS thread for what imports this before numpy and for all it starts; where and when figures were measured."""

import argparse
import os
import platform
from datetime import date

for variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):  # read when numpy is imported
    os.environ[variable] = "1"


def described():
    """Date, versions, kind of machine and load."""
    import numpy
    import scipy

    import ed2d

    versions = f"ed2d {ed2d.__version__}, Python {platform.python_version()}, numpy {numpy.__version__}"
    machine = f"{os.cpu_count()} {platform.machine()} cores, load {os.getloadavg()[0]:.1f}"
    return f"{date.today()}, {versions}, scipy {scipy.__version__}, {machine}"


def arguments(description, *, runs, **switches):
    """The argument --runs of a benchmark and its switches, with their help; prints what it runs on."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5, help=runs)
    for name, meaning in switches.items():
        parser.add_argument(f"--{name}", action="store_true", help=meaning)
    given = parser.parse_args()
    print(described(), end="\n\n")
    return given
