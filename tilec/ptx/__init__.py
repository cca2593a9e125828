"""PTX without a GPU: read it, run it in numpy over all threads at once, and find what is wrong."""

from tilec.ptx.module import Kernel, Module, load
from tilec.ptx.report import KINDS, Finding, Report, Suppression, ThreadId
from tilec.ptx.tensormap import TensorMap

__all__ = [
    "KINDS",
    "Finding",
    "Kernel",
    "Module",
    "Report",
    "Suppression",
    "TensorMap",
    "ThreadId",
    "load",
]
