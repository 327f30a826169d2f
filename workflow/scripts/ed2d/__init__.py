"""ed2d: measures still electron-diffraction images of two-dimensional crystals."""

__version__ = "0.5.0"
