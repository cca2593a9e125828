"""Kernels for services on processors: shared libraries that need no tilec and no compiler."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from tilec.compile import engine, written
from tilec.cpu import Schedule, cpu_source
from tilec.export import SCHEMA, Exported, chosen
from tilec.export.abi import LINE, given, header, module, places
from tilec.export.linker import shared_object
from tilec.export.manifest import open_dims, scalar_of
from tilec.ir.dtype import Array, DType
from tilec.ir.errors import TileError
from tilec.ir.extent import substitute
from tilec.ir.format import Dense, Format
from tilec.ir.packing import default_layout
from tilec.lang.kernel import Definition, TensorSpec
from tilec.runtime.jit import Machine, host_machine
from tilec.runtime.pool import pool_text

NATIVE = "native"
_V3 = ("avx", "avx2", "bmi", "bmi2", "f16c", "fma", "lzcnt", "movbe")
_V4 = (*_V3, "avx512bw", "avx512cd", "avx512dq", "avx512f", "avx512vl")
# The x86-64 psABI's levels in LLVM's names: what each has beyond x86-64-v2.
LEVELS = {"x86-64-v2": (), "x86-64-v3": _V3, "x86-64-v4": _V4}
CPU_TARGETS = (NATIVE, "x86-64-v4", "x86-64-v3")
LINUX = "linux_x86_64"  # what a wheel calls systems that the code is for
# Beyond the levels; and what Linux calls those that it names otherwise, in /proc/cpuinfo.
_MORE = ("avx512bf16", "avx512bitalg", "avx512fp16", "avx512ifma", "avx512vbmi", "avx512vbmi2",
         "avx512vnni", "avx512vpopcntdq", "avxvnni", "gfni", "vpclmulqdq", "amx-tile", "amx-bf16",
         "amx-int8")  # fmt: skip
_LINUX = {
    "bmi": "bmi1", "lzcnt": "abm", "avx512bf16": "avx512_bf16", "avx512bitalg": "avx512_bitalg",
    "avx512fp16": "avx512_fp16", "avx512vbmi": "avx512vbmi", "avx512vbmi2": "avx512_vbmi2",
    "avx512vnni": "avx512_vnni", "avx512vpopcntdq": "avx512_vpopcntdq", "avxvnni": "avx_vnni",
    "amx-tile": "amx_tile", "amx-bf16": "amx_bf16", "amx-int8": "amx_int8",
}  # fmt: skip


@dataclass
class _Threads:
    threads: int


@dataclass
class _Host:
    """What code is made for, other than this process."""

    machine: Any
    pool: Any


def exported_cpu(
    definition: Definition, known: Mapping[str, int], targets: Sequence[str],
    types: Mapping[str, Format | DType] | None = None, threads: int = 0,
    schedule: Schedule | None = None,
) -> Exported:  # fmt: skip
    """A kernel as shared libraries for processors: `native` (this one) and levels of x86-64.

    The code is for at most so many threads, by default as many as here. All dimensions have
    numbers. Raises TileError.
    """
    if free := open_dims(definition, known):
        raise TileError(f"code for processors has numbers for all dimensions, and {free[0]} has "
                        "none", hint=f"--dims {free[0]}=4096")  # fmt: skip
    types, threads = types or {}, threads or engine().pool.threads
    name = definition.signature.name
    arguments = _arguments(definition, types, known)
    takes = given(arguments, written(definition.ir(types)))
    files: dict[str, bytes] = {}
    described: dict[str, Any] = {}
    for target in dict.fromkeys(sorted(targets, key=_rank, reverse=True)):
        machine, features = _machine(target)
        host = _Host(machine, _Threads(threads))
        source = cpu_source(definition, types, known, host, schedule=schedule)
        entries = module(source, name, takes, places(source.params, arguments), threads)
        file = f"{name}.{target}.so"
        files[file] = _library(file, name, (source.text, entries), machine)
        described[target] = _described(file, files[file], source.text, features)
    manifest = {
        "schema": SCHEMA, "tilec": version("tilec"), "kernel": name, "backend": "cpu",
        "schedule": chosen(schedule), "arguments": arguments, "dims": dict(known), "open": [],
        "threads": threads, "targets": described,
        "abi": {"c": f"tilec_{name}", "tvm_ffi": name, "header": f"{name}.h",
                "arguments": [g.name for g in takes]},
    }  # fmt: skip
    files[f"{name}.h"] = header(name, takes, known).encode()
    files["manifest.json"] = (json.dumps(manifest, indent=1) + "\n").encode()
    files["__init__.py"] = Path(__file__).with_name("cpu_loader.py").read_bytes()
    return Exported(files, manifest, {})


def _described(file: str, data: bytes, text: str, features: Sequence[str]) -> dict[str, Any]:
    """What a manifest says of a target."""
    return {
        "file": file, "sha256": hashlib.sha256(data).hexdigest(),
        "processor": platform.machine(), "flags": [_LINUX.get(f, f) for f in features],
        "source": hashlib.sha256(text.encode()).hexdigest(),
    }  # fmt: skip


def _rank(target: str) -> int:
    """The best first: what a loader may choose from is in this order."""
    return len(LEVELS) if target == NATIVE else list(LEVELS).index(_level(target))


def _level(target: str) -> str:
    if target not in LEVELS:
        raise TileError(f"no processor is called {target!r}: there are {NATIVE}, "
                        f"{', '.join(LEVELS)}")  # fmt: skip
    return target


def _machine(target: str) -> tuple[Machine, tuple[str, ...]]:
    """A target in LLVM's names, and the features that it must have."""
    if platform.machine() != "x86_64":
        raise TileError(f"code for the processors of services is made on x86-64 for x86-64 "
                        f"({', '.join(CPU_TARGETS)}), not on {platform.machine()}",
                        hint="--backend cuda or triton: GPUs' code is made anywhere")  # fmt: skip
    if target != NATIVE:
        features = LEVELS[_level(target)]
        return host_machine(target, ",".join(f"+{f}" for f in features)), features
    has = {f[1:] for f in host_machine().features.split(",") if f[:1] == "+"}
    base = max((n for n in LEVELS if has.issuperset(LEVELS[n])), key=_rank)
    features = tuple(f for f in (*LEVELS[base], *_MORE) if f in has)
    return host_machine(base, ",".join(f"+{f}" for f in features)), features


def _library(file: str, name: str, texts: tuple[str, str], machine: Machine) -> bytes:
    kernel, entries = texts
    objects = [engine().object(x, machine) for x in (kernel, f"{pool_text()}\n{entries}")]
    return shared_object(file, objects, (f"tilec_{name}", f"__tvm_ffi_{name}"))


def _arguments(definition: Definition, types: Mapping[str, Format | DType],
               known: Mapping[str, int]) -> list[dict[str, Any]]:  # fmt: skip
    """The arguments of a call. A packed tensor has its arrays, in the layout of CPU code."""
    found: list[dict[str, Any]] = []
    for p in definition.signature.params:
        if not isinstance(p.spec, TensorSpec):
            found.append({"name": p.name, "kind": "scalar", **scalar_of(p.spec)})
            continue
        shape = tuple(int(str(substitute(d, known))) for d in p.spec.dims)
        format = types.get(p.name) or p.spec.format
        said = {"name": p.name, "shape": list(shape)}
        match format:
            case None:
                raise TileError(f"the type of `{p.name}` is not known",
                                hint=f"--types {p.name}=f32")  # fmt: skip
            case Dense(dtype) if dtype.bits >= 8:
                found.append({**said, "kind": "tensor", "dtype": str(dtype)})
            case DType():
                found.append({**said, "kind": "tensor", "dtype": str(format)})
            case _:
                layout = default_layout(format, shape)
                zeros: dict[str, Array] = {
                    c.name: np.zeros(tuple(int(str(d)) for d in c.shape), c.dtype.numpy)
                    for c in format.components(shape)
                }
                packed = layout.pack(format, zeros, shape)
                arrays = [{"bytes": a.nbytes + LINE} for a in packed]
                found.append({**said, "kind": "packed", "format": str(format), "arrays": arrays,
                              "layout": type(layout).__name__.lower()})  # fmt: skip
    return found
