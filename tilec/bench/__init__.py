"""Measurements of compiled kernels against other libraries: `python -m tilec.bench cpu`."""
