"""Kernels measured beside other libraries and the machine's ceilings: `tilec bench`."""
