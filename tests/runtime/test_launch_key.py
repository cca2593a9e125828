"""The native launcher's key of a call equals that of the slow reading in Python."""

# pyright: basic

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from launching import DTYPES, TORCH, Packed

from tilec.runtime.arguments import launch_key, read
from tilec.runtime.jit import LoadedModule, Machine, compile_object, load_object
from tilec.runtime.launch import Compiled, Form, Out
from tilec.runtime.native import NativeLauncher


def array(dtype: str, shape: list[int], steps: list[int], skip: int, frozen: bool) -> np.ndarray:
    whole = np.zeros([n * s + skip for n, s in zip(shape, steps, strict=True)], DTYPES[dtype])
    made = whole[(..., *(slice(skip, None, s) for s in steps))]
    made.flags.writeable = not frozen
    return made


def matrix(dtype: str, shape: list[int], steps: list[int], skip: int, frozen: bool) -> torch.Tensor:
    whole = torch.zeros([n * s + skip for n, s in zip(shape, steps, strict=True)])
    made = whole.to(TORCH[dtype])[tuple(slice(skip, None, s) for s in steps)]
    return torch.nn.Parameter(made, requires_grad=False) if frozen else made


@st.composite
def tensors(draw: Any) -> Any:
    shape = draw(st.lists(st.integers(0, 3), max_size=5))
    steps = draw(st.lists(st.integers(1, 2), min_size=len(shape), max_size=len(shape)))
    make = draw(st.sampled_from([array, matrix]))
    made = make(draw(st.sampled_from(sorted(DTYPES))), shape, steps, draw(st.integers(0, 1)),
                draw(st.booleans()))  # fmt: skip
    return made.T if draw(st.booleans()) and made.ndim == 2 else made


PACKED = st.builds(Packed, st.integers(-(2**63), 2**63 - 1), st.integers(0, 9),
                   st.lists(st.integers(0, 2**40), max_size=4))  # fmt: skip
NUMBERS = st.one_of(st.integers(), st.floats(), st.booleans(), st.none())
CALLS = st.lists(st.one_of(tensors(), PACKED, NUMBERS), max_size=16)


@pytest.fixture(scope="module")
def nothing(machine: Machine) -> LoadedModule:
    text = "define void @nothing(ptr %args) { ret void }"
    return load_object(compile_object(text, machine), ["nothing"])


@settings(max_examples=150, deadline=None)
@given(arguments=CALLS, results=st.none() | st.lists(tensors(), max_size=4))
def test_the_launchers_form_one_key(
    native: NativeLauncher, nothing: LoadedModule, arguments: list[Any], results: list[Any] | None
) -> None:
    seen: list[Any] = []

    def slow(call: tuple[Any, ...]) -> Compiled:
        assert not seen  # a native key that is another one would never be found
        seen.append(call)
        return Compiled(nothing["nothing"], ())

    more = {} if results is None else {"out": tuple(results)}
    made = native.dispatcher("k", slow, Form(results=True))
    for _ in range(2):
        made.launch(*arguments, **more)
    own = [r for x in arguments if (r := read(x)) is not None]
    theirs = None if results is None else [r for x in results if (r := read(x)) is not None]
    assert list(made._compiled) == [launch_key(own, theirs)]  # type: ignore[attr-defined]
    assert isinstance(seen[0][-1], Out) if results is not None else len(seen[0]) == len(arguments)
