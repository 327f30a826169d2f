"""One BLAS thread for the tests and all they start, as the workflow gives its jobs; set before numpy is imported."""

import os

for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[name] = "1"
