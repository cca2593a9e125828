"""The front door of tilec: a compiler for low-precision and sparse tile kernels."""
