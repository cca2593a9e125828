"""A kernel as it is written, beside what tilec makes of it, under the rooflines of devices."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from tilec.explain import explain
from tilec.ir.format import Dense, Format
from tilec.lang.kernel import Definition, Parameter, TensorSpec
from tilec.profile.devices import Machine, least
from tilec.profile.work import Work, counted


@dataclass(frozen=True)
class Bound:
    """The least seconds on a machine, and whether memory or arithmetic decides them."""

    seconds: float
    by: str


@dataclass(frozen=True)
class Side:
    """A kernel in one form: how many kernels it is, and its work, whose `bytes` these move."""

    kernels: int
    work: Work

    @property
    def intensity(self) -> float:
        """Operations for a byte that is moved."""
        return self.work.operations / self.work.bytes if self.work.bytes else 0.0

    def bound(self, machine: Machine) -> Bound:
        """Under the roofline of a machine, with the bytes that are moved."""
        return Bound(*least(machine, self.work, self.work.bytes))

    def as_json(self) -> dict[str, Any]:
        """For documents."""
        w = self.work
        return {
            "kernels": self.kernels, "types": dict(w.types), "operations": w.operations,
            "operands": w.operands, "sparse": w.sparse, "compulsory_bytes": w.compulsory,
            "moved_bytes": w.bytes, "intensity": self.intensity,
        }  # fmt: skip


def before(written: Definition, dims: Mapping[str, int]) -> Side:
    """A kernel as it is written: every op a kernel, every operand dense. What is written with
    codes is decoded. Raises TileError for dimensions that the kernel does not have."""
    dense = replace(written, signature=replace(
        written.signature, params=tuple(map(_decoded, written.signature.params))))  # fmt: skip
    found = explain(dense, {}, dims)
    moved = sum(k.bytes for k in found.unfused)
    return Side(len(found.unfused), replace(counted(found, _types(dense)), bytes=moved))


def after(given: Definition, dims: Mapping[str, int]) -> Side:
    """What becomes of it: fused, the operands stored in the formats of its signature. Raises
    TileError for dimensions that the kernel does not have."""
    found = explain(given, {}, dims)
    return Side(len(found.kernels), counted(found, _types(given)))


def _types(definition: Definition) -> dict[str, Format]:
    """The formats that a signature has."""
    specs = {p.name: p.spec for p in definition.signature.params}
    return {n: s.format for n, s in specs.items() if isinstance(s, TensorSpec) and s.format}


def _decoded(p: Parameter) -> Parameter:
    """A parameter whose elements are stored as themselves."""
    if not isinstance(p.spec, TensorSpec) or p.spec.format is None:
        return p
    format = p.spec.format
    return replace(p, spec=replace(p.spec, format=Dense(format.value)))
