"""What is tuned and on what, as plain data: jobs, measurement policies, devices, toolchains, keys.

A job holds IR text and nothing else of the user's: neither code nor data.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from tilec.compile import engine, gpu, written
from tilec.ir.core import Func, Value
from tilec.ir.dtype import DType
from tilec.ir.errors import Loc, TileError
from tilec.ir.format import Format
from tilec.ir.parse import parse
from tilec.ir.text import show
from tilec.ir.types import Memory, Tile
from tilec.lang.kernel import Definition, Parameter, Signature, TensorSpec
from tilec.passes.specialise import specialise
from tilec.runtime.cache.key import digest, package_digest
from tilec.tune import strict
from tilec.tune.config import Config

VERSION = 1  # of configs: raised when a schedule's words change their meaning
HOST = "host"
KINDS = {"cpu": "cpu", "cuda": "cuda", "triton": "cuda"}  # back end: kind of device


@dataclass(frozen=True)
class Policy:
    """How is measured: launched one by one or as a CUDA graph, with data in caches or not, on how
    many threads (0 on GPUs). Times of different policies are never compared."""

    mode: str = "eager"
    cache: str = "warm"
    threads: int = 0

    def __post_init__(self) -> None:
        if self.mode not in ("eager", "graph") or self.cache not in ("cold", "warm"):
            raise TileError(f"a policy is {self.mode}, {self.cache}; there are eager and graph, "
                            "cold and warm")  # fmt: skip
        if not 0 <= self.threads <= 4096:
            raise TileError(f"a policy has {self.threads} threads, expected 0 to 4096")

    @staticmethod
    def from_json(data: object) -> Policy:
        """A policy from JSON data. Raises TileError."""
        found = strict.fields(data, "a policy", (), "mode", "cache", "threads")
        return Policy(strict.typed(found.get("mode", "eager"), str, "a policy's mode"),
                      strict.typed(found.get("cache", "warm"), str, "a policy's cache"),
                      strict.typed(found.get("threads", 0), int, "a policy's threads"))  # fmt: skip

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Job:
    """A kernel to measure: IR whose extents are numbers, and for which back end and target.

    `results` are the parameters that it writes. Arguments are made of `data_seed`: see
    `measure.arguments`. Raises TileError for IR that can't be read.
    """

    ir: str
    backend: str = "cpu"
    target: str = HOST
    results: tuple[str, ...] = ()
    data_seed: int = 0

    def __post_init__(self) -> None:
        if self.backend not in KINDS:
            raise TileError(f"no back end is called {self.backend!r}; "
                            f"there are {', '.join(KINDS)}")  # fmt: skip

    @staticmethod
    def from_json(data: object) -> Job:
        """A job from JSON data. Raises TileError for what is missing, unknown or wrong."""
        found = strict.fields(data, "a job", ("kind", "ir", "backend", "target"),
                              "results", "data_seed")  # fmt: skip
        if found["kind"] != "kernel":
            raise TileError(f"a job is of the kind {found['kind']!r}, expected kernel")
        ir, backend, target = (strict.typed(found[n], str, f"a job's {n}")
                               for n in ("ir", "backend", "target"))  # fmt: skip
        results = strict.array(found.get("results", []), "a job's results")
        return Job(ir, backend, target, tuple(strict.typed(r, str, "a result") for r in results),
                   strict.typed(found.get("data_seed", 0), int, "a job's data_seed"))  # fmt: skip

    def to_json(self) -> dict[str, Any]:
        return {"kind": "kernel", "ir": self.ir, "backend": self.backend, "target": self.target,
                "results": list(self.results), "data_seed": self.data_seed}  # fmt: skip

    @cached_property
    def func(self) -> Func:
        """The kernel."""
        return parse(self.ir, "<job>")

    @cached_property
    def kernel(self) -> str:
        """The digest of the kernel: of its IR without names, and the back end."""
        return digest({"ir": nameless(self.ir, self.func), "backend": self.backend})

    @cached_property
    def definition(self) -> Definition:
        """The kernel as the compiler takes it."""
        params = tuple(Parameter(p.hint, _spec(p), Loc("<job>", 0, 0, 0, ""))
                       for p in self.func.params if "." not in p.hint)  # fmt: skip
        return Read(Signature(self.func.name, params), None, self.func)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Read(Definition):
    """A kernel that was read from IR, so that it has no syntax tree."""

    func: Func

    def ir(self, types: Mapping[str, Format | DType] | None = None) -> Func:
        """The IR; its formats are what they are."""
        del types
        return self.func


@dataclass(frozen=True)
class Subject:
    """A job and what it has in common with others: the digest of its family, and its shape."""

    job: Job
    family: str
    shape: Mapping[str, int] = field(hash=False)


def subject(
    definition: Definition, types: Mapping[str, Format | DType], dims: Mapping[str, int],
    backend: str = "cpu", target: str = HOST, data_seed: int = 0,
) -> Subject:  # fmt: skip
    """A kernel for formats and extents as a job. Raises TileError."""
    whole = definition.ir(types)
    func = specialise(whole, **dims)
    names = tuple(p.hint for p in func.params if p.hint in written(func))
    job = Job(show(func), backend, target, names, data_seed)
    family = digest({"ir": nameless(show(whole), whole), "backend": backend})
    return Subject(job, family, dict(dims))


def choice_of(backend: str, config: Config) -> Any:
    """A config as the compiler takes it: a `tilec.gpu.Choice`. Raises TileError.

    Code for GPUs is imported here: a process that looks up configs for its processor needs none.
    """
    from tilec import cpu, cuda, gpu, triton

    match backend:
        case "cpu":
            return gpu.Choice(cpu=cpu.schedule_of(config.text))
        case "cuda":
            return gpu.Choice("cuda", cuda.schedule_of(config.text))
        case "triton":
            return gpu.Choice("triton", triton.schedule_of(config.text))
        case _:
            raise TileError(f"no back end is called {backend!r}")


def nameless(ir: str, func: Func) -> str:
    """IR text in which the kernel and its parameters are called by number.

    Names of tile sizes stay: configs know loops by them.
    """
    names = {f"%{p.hint}": f"%arg{i}" for i, p in enumerate(func.params)}
    text = re.sub(r"^(\s*func )@[\w.]+", r"\1@kernel", ir)
    return re.sub(r"%[A-Za-z_][\w.]*", lambda m: names.get(m[0], m[0]), text)


def device(backend: str = "cpu", number: int = 0) -> dict[str, Any]:
    """The fingerprint of the device that code of a back end runs on here.

    Raises TileError where there is none.
    """
    if KINDS[backend] == "cpu":
        host = engine()
        features = sorted(f[1:] for f in host.machine.features.split(",") if f.startswith("+"))
        return {"kind": "cpu", "name": _processor() or host.machine.cpu,
                "cores": host.pool.threads, "features": features}  # fmt: skip
    driver = gpu().driver
    found = driver.device(number)
    return {"kind": "cuda", "name": found.name, "sms": found.processors,
            "capability": "{}.{}".format(*found.capability),
            "driver": driver.version}  # fmt: skip


def toolchain(backend: str = "cpu") -> str:
    """The digest of all that decides which code a config becomes."""
    made_by: dict[str, Any] = {"configs": VERSION, "tilec": package_digest("tilec"),
                               "host": engine().machine.made_by["compiler"]}  # fmt: skip
    if backend == "cuda":
        made_by["nvrtc"] = package_digest("nvidia-cuda-nvrtc")
    if backend == "triton":
        made_by["triton"] = package_digest("triton")
    return digest(made_by)


def device_digest(fingerprint: Mapping[str, Any]) -> str:
    """What a fingerprint is in keys."""
    return digest({n: v for n, v in fingerprint.items() if v is not None})


def policy_of(backend: str, mode: str = "eager", cache: str = "warm") -> Policy:
    """The policy of this process: with as many threads as kernels here have."""
    return Policy(mode, cache, engine().pool.threads if backend == "cpu" else 0)


def check_policy(policy: Policy, backend: str) -> None:
    """Raise TileError for a policy that nothing can be measured by here: launches are timed one by
    one, and not yet as a graph."""
    if policy.mode == "graph":
        why = "kernels on processors are in no graph" if KINDS[backend] == "cpu" else (
            "no launches are captured in a graph yet")  # fmt: skip
        raise TileError(f"a policy: mode is graph, expected eager: {why}")


def config_key(kernel: str, device: str, toolchain: str, policy: Policy) -> str:
    """The key of a tuned config: the digests of the kernel, the device and the toolchain."""
    return digest({"kernel": kernel, "device": device, "toolchain": toolchain,
                    "policy": policy.to_json()})  # fmt: skip


def _spec(p: Value) -> TensorSpec | DType:
    match p.type:
        case Memory():
            return TensorSpec(p.type.shape, p.type.format)
        case Tile(dtype=dtype):
            return dtype
        case _:
            raise TileError(f"`{p.hint}` is no argument: {p.type}")


def _processor() -> str:
    """What the processor calls itself."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return ""
    return next((x.partition(":")[2].strip() for x in lines if x.startswith("model name")), "")
