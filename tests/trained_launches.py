"""Launches of gradients of programs, small enough for emulation, and what the interpreter gives."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from launches import Case
from trained import CASES, Trained

from tilec.compile import Kernel
from tilec.differentiate import Training, training
from tilec.ir.core import Func
from tilec.ir.dtype import Array, DType, bf16, f16, f32, i32
from tilec.ir.extent import number
from tilec.ir.interpret import interpret
from tilec.ir.types import Memory
from tilec.lang.kernel import TensorSpec

NEAR = {f32: 2e-6, f16: 2.0**-10, bf16: 2.0**-7}  # of norms

WIDE = {
    "acted": ((19, 40),),
    "embedded": ((9, 64), (torch.arange(64, dtype=torch.int32) % 9).reshape(2, 32), (64,)),
    "ragged": ((37, 2, 16), (37, 2, 16), (37, 2, 8), torch.arange(37, dtype=torch.int32) // 11),
    "full": ((1, 2, 21, 16), (1, 2, 30, 16), (1, 2, 30, 8), 0.25),
    "causal": ((1, 2, 3, 37, 16), (1, 2, 37, 16), (1, 2, 37, 16), 0.25),
    "windowed": ((1, 2, 3, 21, 16), (1, 2, 30, 16), (1, 2, 30, 16), 0.25, 7, 2.0),
    "decode": ((2, 2, 3, 16), (2, 2, 40, 16), (2, 2, 40, 16),
               torch.tensor([33, 1], dtype=torch.int32), 0.25),
    "rms": ((19, 70), (70,), 2.0**-7),
    "layer": ((19, 70), (70,), (70,), 2.0**-7),
    "rms_linear": ((19, 40), (40,), (24, 40), 2.0**-7),
    "swiglu": ((19, 32), (40, 32), (40, 32), (24, 40)),
    "linear_cross_entropy": ((19, 32), (70, 32), torch.arange(19, dtype=torch.int32) * 3),
    "cross_entropy": ((19, 70), torch.arange(19, dtype=torch.int32) * 3),
    "rotary": ((2, 9, 16), (9, 8), (9, 8)),
    "affine_silu": ((19, 32), (24, 32), (24,)),
    "low_ranks": ((9, 32), (24, 32), (3, 4, 32), (3, 24, 4),
                  torch.tensor([0, 2, -1, 1, 1, 0, -1, 2, 0], dtype=torch.int32), 0.5),
}  # fmt: skip


def launches(name: str, dtype: DType = f32) -> list[Case]:
    """A program as it is when gradients are wanted, and the gradients."""
    program = CASES[name].program
    params = program.definition.signature.params
    chance = np.random.default_rng(6)
    held: dict[str, Array] = {}
    numbers: dict[str, Any] = {}
    for p, x in zip(params, WIDE[name], strict=True):
        if isinstance(x, tuple):
            held[p.name] = dtype.round(chance.standard_normal(x))
        elif isinstance(x, torch.Tensor):
            held[p.name] = x.numpy().astype(np.int64)
        else:
            numbers[p.name] = x
    types = {n: i32 if a.dtype.kind == "i" else dtype for n, a in held.items()}
    shapes = [held[p.name].shape if isinstance(p.spec, TensorSpec) else None for p in params]
    dims = program.definition.signature.bind(shapes)
    inputs = [n for n, t in types.items() if t == dtype]
    made: Training = training(program.definition, types, dims, inputs)
    forward, back = made.forward.ir(), made.backward.ir()
    held |= {n: np.asarray(x) for n, x in numbers.items()}
    results = interpreted(forward, held, dims)
    held |= results
    seeds = {f"d_{n}": dtype.round(chance.standard_normal(results[n].shape)) for n in made.of}
    grads = interpreted(back, held | seeds, dims)
    return [
        _case(f"{name} forward", made.forward, forward, held, results, dims, NEAR[dtype]),
        _case(f"{name} backward", made.backward, back, held | seeds, grads, dims, NEAR[dtype]),
    ]


def interpreted(func: Func, given: dict[str, Array], dims: dict[str, int]) -> dict[str, Array]:
    """What a function leaves in the parameters that are not given."""
    held: dict[str, Array] = {}
    for p in func.params:
        if p.hint in given:
            held[p.hint] = np.array(given[p.hint])
        else:
            assert isinstance(p.type, Memory)
            held[p.hint] = np.full([number(d, dims) for d in p.type.shape], np.nan)
    interpret(func, held, dims)
    return {n: a for n, a in held.items() if n not in given and "." not in n}


def _case(name: str, definition: Any, func: Func, held: dict[str, Array], want: dict[str, Array],
          dims: dict[str, int], near: float) -> Case:  # fmt: skip
    types = {p.hint: p.type.dtype for p in func.params if isinstance(p.type, Memory)}
    own = {p.name for p in definition.signature.params}
    given = {n: types[n].to_storage(a) if n in types else a.item()
             for n, a in held.items() if n in own and n not in want}  # fmt: skip
    wants = {n: a if types[n] == f32 else types[n].to_storage(types[n].round(a))
             for n, a in want.items()}  # fmt: skip
    return Case(name, Kernel(definition), given, wants, near, dims)


__all__ = ["WIDE", "Trained", "launches"]
