"""Solutions of many small normal equations at once."""

import numpy as np

RIDGE = 1e-9  # of the diagonal: far above rounding, far below what any fit determines


def solve(matrix, right):
    """Solutions of symmetric positive systems (n, m, m) scaled to a unit diagonal, kept regular by RIDGE.

    right: (n, m) or (n, m, columns). What no data determine, with a row of zeros, comes out as 0.
    """
    diagonal = np.einsum("nii->ni", matrix)
    scale = np.where(diagonal > 1e-200, 1 / np.sqrt(np.maximum(diagonal, 1e-200)), 0.0)
    scaled = matrix * scale[:, :, None] * scale[:, None, :] + RIDGE * np.eye(matrix.shape[1])
    vector = right.ndim == 2
    columns = (right[..., None] if vector else right) * scale[:, :, None]
    solution = np.linalg.solve(scaled, columns) * scale[:, :, None]
    return solution[..., 0] if vector else solution


def inverse(matrix):
    """Inverses of symmetric positive matrices (n, m, m), as `solve`."""
    return solve(matrix, np.broadcast_to(np.eye(matrix.shape[1]), matrix.shape))
