"""ggml's products on codes, in the shared libraries that llama-cpp-python installs, or in those of
the folder that TILEC_GGML names.

ggml takes rows of f32 and stores them in bytes within a call, so its products are of four by eight
bits. Weights of the types that it repacks for a processor are repacked before they are timed.
"""

# ctypes and gguf type what is looked up by name loosely.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from ctypes import POINTER, Structure, c_bool, c_char_p, c_float, c_int, c_int64, c_size_t, c_void_p
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from itertools import count, takewhile
from pathlib import Path
from typing import Any

import numpy as np

from tilec.bench.case import Made, Make, Peer, Problem
from tilec.bench.problems.linear import Linear
from tilec.ir.dtype import Array
from tilec.ir.errors import TileError
from tilec.ir.format import Dense
from tilec.ir.named import named
from tilec.settings import settings

TYPES = {1: (), 2: ("q2_k",), 3: ("q3_k",), 4: ("q4_0", "q4_k"), 5: ("q5_k",), 6: ("q6_k",),
         8: ("q8_0",)}  # fmt: skip
NAMED = {"mxfp4": ("mxfp4",), "nvfp4": ("nvfp4",), "nf4<group=64>": ("iq4_nl",)}
REPACKED = ("q4_0", "q4_k")  # on processors with AVX2 (ggml-cpu/repack.cpp)
WORST = 2e-2  # relative error: rows are rounded to bytes, in blocks of 32
FILES = "libggml-base.so", "libggml-cpu.so"
F32 = 0  # of ggml's enumeration of types
# What is called: the types of its result and of what it is given.
CALLS: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "ggml_tensor_overhead": (c_size_t, ()),
    "ggml_graph_overhead": (c_size_t, ()),
    "ggml_new_tensor_2d": (c_void_p, (c_void_p, c_int, c_int64, c_int64)),
    "ggml_new_tensor_4d": (c_void_p, (c_void_p, c_int, c_int64, c_int64, c_int64, c_int64)),
    "ggml_view_4d": (c_void_p, (c_void_p, c_void_p, *(c_int64,) * 4, *(c_size_t,) * 4)),
    "ggml_reshape_4d": (c_void_p, (c_void_p, c_void_p, c_int64, c_int64, c_int64, c_int64)),
    "ggml_mul_mat": (c_void_p, (c_void_p, c_void_p, c_void_p)),
    "ggml_add": (c_void_p, (c_void_p, c_void_p, c_void_p)),
    "ggml_mul": (c_void_p, (c_void_p, c_void_p, c_void_p)),
    "ggml_cpy": (c_void_p, (c_void_p, c_void_p, c_void_p)),
    "ggml_rms_norm": (c_void_p, (c_void_p, c_void_p, c_float)),
    "ggml_swiglu_split": (c_void_p, (c_void_p, c_void_p, c_void_p)),
    "ggml_rope_ext": (
        c_void_p, (*(c_void_p,) * 4, c_int, c_int, c_int, *(c_float,) * 6)),
    "ggml_flash_attn_ext": (c_void_p, (*(c_void_p,) * 5, c_float, c_float, c_float)),
    "ggml_new_graph": (c_void_p, (c_void_p,)),
    "ggml_build_forward_expand": (None, (c_void_p, c_void_p)),
    "ggml_quantize_chunk": (
        c_size_t, (c_int, c_void_p, c_void_p, c_int64, c_int64, c_int64, c_void_p)),
    "ggml_row_size": (c_size_t, (c_int, c_int64)),
    "ggml_backend_tensor_set": (None, (c_void_p, c_void_p, c_size_t, c_size_t)),
    "ggml_backend_tensor_get": (None, (c_void_p, c_void_p, c_size_t, c_size_t)),
    "ggml_backend_alloc_ctx_tensors_from_buft": (c_void_p, (c_void_p, c_void_p)),
    "ggml_backend_graph_compute": (c_int, (c_void_p, c_void_p)),
    "ggml_backend_reg_dev_get": (c_void_p, (c_void_p, c_size_t)),
    "ggml_backend_reg_get_proc_address": (c_void_p, (c_void_p, c_char_p)),
    "ggml_backend_cpu_buffer_type": (c_void_p, ()),
    "ggml_backend_cpu_reg": (c_void_p, ()),
    "ggml_backend_cpu_init": (c_void_p, ()),
    "ggml_backend_cpu_set_n_threads": (None, (c_void_p, c_int)),
    "ggml_backend_cpu_set_threadpool": (None, (c_void_p, c_void_p)),
    "ggml_threadpool_new": (c_void_p, (c_void_p,)),
    "ggml_threadpool_params_init": (None, (c_void_p, c_int)),
    "ggml_log_set": (None, (c_void_p, c_void_p)),
}  # fmt: skip


@ctypes.CFUNCTYPE(None, c_int, c_char_p, c_void_p)
def _silent(level: int, text: bytes, data: int) -> None:
    """A log that nobody reads: else there is a line for every repacked tensor."""


class _Memory(Structure):
    """ggml_init_params: a pool of bytes for what describes tensors, not for their elements."""

    _fields_ = (("size", c_size_t), ("place", c_void_p), ("no_alloc", c_bool))


class _Pool(Structure):
    """ggml_threadpool_params."""

    _fields_ = (("cores", c_bool * 512), ("threads", c_int), ("priority", c_int),
                ("poll", ctypes.c_uint32), ("strict", c_bool), ("paused", c_bool))  # fmt: skip


def folder_() -> Path | None:
    """Where the libraries are."""
    given = settings().environment.get("TILEC_GGML")
    if given:
        return Path(given)
    spec = find_spec("llama_cpp")
    places = spec.submodule_search_locations if spec is not None else None
    return Path(places[0]) / "lib" if places else None


def absent() -> str:
    """Why ggml can't run here."""
    folder = folder_()
    if folder is None:
        return "llama-cpp-python is not installed, and TILEC_GGML names no folder of ggml"
    missing = [f for f in FILES if not (folder / f).exists()]
    if missing:
        return f"there is no {missing[0]} in {folder}"
    return "" if find_spec("gguf") else "gguf, which says what its codes mean, is not installed"


class Library:
    """ggml, loaded: functions by name, and a pool of threads."""

    def __init__(self, folder: Path, threads: int) -> None:
        loaded = [ctypes.CDLL(str(folder / f), ctypes.RTLD_GLOBAL) for f in FILES]
        self._found = {name: self._function(loaded, name) for name in CALLS}
        self._init = loaded[0].ggml_init
        self._init.restype, self._init.argtypes = c_void_p, (_Memory,)
        self("ggml_log_set", _silent, None)
        self.backend = self("ggml_backend_cpu_init")
        self("ggml_backend_cpu_set_n_threads", self.backend, threads)
        pool = _Pool()
        self("ggml_threadpool_params_init", ctypes.byref(pool), threads)
        made = self("ggml_threadpool_new", ctypes.byref(pool))
        self("ggml_backend_cpu_set_threadpool", self.backend, made)

    @staticmethod
    def _function(loaded: list[ctypes.CDLL], name: str) -> Any:
        found = next((f for lib in loaded if (f := getattr(lib, name, None))), None)
        if found is None:
            raise TileError(f"this ggml has no {name}")
        found.restype, found.argtypes = CALLS[name]
        return found

    def __call__(self, name: str, *args: Any) -> Any:
        return self._found[name](*args)

    def compute(self, graph: Any) -> None:
        """Run a graph. Raises TileError where that fails."""
        if self("ggml_backend_graph_compute", self.backend, graph):
            raise TileError("ggml: a graph was not computed")

    def context(self, tensors: int, graphs: int = 0) -> Any:
        """Room for the descriptions of tensors and graphs."""
        size = tensors * self("ggml_tensor_overhead") + graphs * self("ggml_graph_overhead")
        return self._init(_Memory(size, None, True))

    def repacking(self) -> Any:
        """The kind of memory in which weights lie in the order of vectors. Raises TileError where
        this processor has none."""
        registry = self("ggml_backend_cpu_reg")
        name = b"ggml_backend_dev_get_extra_bufts"
        address = self("ggml_backend_reg_get_proc_address", registry, name)
        if not address:
            raise TileError("this ggml repacks nothing")
        kinds = ctypes.CFUNCTYPE(POINTER(c_void_p), c_void_p)(address)(
            self("ggml_backend_reg_dev_get", registry, 0)
        )
        found = [*takewhile(bool, (kinds[i] for i in count()))]
        if not found:
            raise TileError("this ggml repacks nothing on this processor")
        return found[-1]


@dataclass(frozen=True)
class Weights:
    """Codes of a type as they are in a file, and what they mean."""

    number: int
    codes: Array
    dense: Array


def _contenders(problem: Problem) -> Mapping[str, Make]:
    if not isinstance(problem, Linear):
        return {}
    format = named(problem.weight)
    if isinstance(format, Dense):
        kinds = ("bf16",) if problem.weight == "bf16" else ()
    else:
        bits = int(format.bits((problem.n, problem.k)) // (problem.n * problem.k))
        kinds = NAMED.get(problem.weight, TYPES.get(bits, ()))
    return {f"ggml {kind}": partial(_product, problem, kind) for kind in kinds}


def library() -> Library:
    """ggml, with as many threads as the settings say. Raises TileError where there is none."""
    folder = folder_()
    if folder is None:
        raise TileError("ggml: no folder")
    return Library(folder, settings().threads)


def _product(of: Linear, kind: str) -> Made:
    lib = library()
    weights, x = coded(lib, of.dense(), kind), of.rows()
    nbytes = weights.codes.nbytes
    copies = of.copies(nbytes)
    stored = lib.context(copies)
    kept = [lib("ggml_new_tensor_2d", stored, weights.number, of.k, of.n) for _ in range(copies)]
    place = lib.repacking() if kind in REPACKED else lib("ggml_backend_cpu_buffer_type")
    allocated(lib, stored, place)
    for w in kept:
        lib("ggml_backend_tensor_set", w, weights.codes.ctypes.data, 0, nbytes)
    around = lib.context(1 + copies, copies)
    rows = lib("ggml_new_tensor_2d", around, F32, of.k, of.m)
    results = [lib("ggml_mul_mat", around, w, rows) for w in kept]
    graphs = [graph_(lib, around, y) for y in results]
    allocated(lib, around, lib("ggml_backend_cpu_buffer_type"))
    lib("ggml_backend_tensor_set", rows, x.ctypes.data, 0, x.nbytes)

    def got(_: object) -> Array:
        y = np.full((of.m, of.n), np.nan, np.float32)
        lib("ggml_backend_tensor_get", results[0], y.ctypes.data, 0, y.nbytes)
        return y

    def want() -> Array:
        return x.astype(np.float64) @ weights.dense.T.astype(np.float64)

    return Made([partial(lib.compute, g) for g in graphs], want, got, nbytes=nbytes,
                operations=of.operations, worst=WORST)  # fmt: skip


def graph_(lib: Library, context: Any, *results: Any) -> Any:
    """What computes results in order."""
    graph = lib("ggml_new_graph", context)
    for result in results:
        lib("ggml_build_forward_expand", graph, result)
    return graph


def allocated(lib: Library, context: Any, place: Any) -> None:
    """Give the tensors of a context memory of a kind."""
    if not lib("ggml_backend_alloc_ctx_tensors_from_buft", context, place):
        raise TileError("ggml: no memory for tensors")


def coded(lib: Library, dense: Array, kind: str) -> Weights:
    """A matrix [N, K] of f32 in a type."""
    import gguf

    number = gguf.GGMLQuantizationType[kind.upper()]
    n, k = dense.shape
    codes = np.empty((n, lib("ggml_row_size", int(number), k)), np.uint8)
    lib("ggml_quantize_chunk", int(number), dense.ctypes.data, codes.ctypes.data, 0, n, k, None)
    return Weights(int(number), codes, gguf.quants.dequantize(codes, number))


PEER = Peer("ggml", absent, _contenders)
