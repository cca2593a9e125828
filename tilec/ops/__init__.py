"""Ready kernels, written in the language: no back-end code.

A kernel takes its operands, then its results, which it writes; any operand may be stored in any
format that can be read so. Beside kernels stand functions that plan their launches in numpy.
"""
