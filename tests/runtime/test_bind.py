"""Bound kernels, results that a call is given or that are made, keywords: by both launchers."""

# pyright: basic

from __future__ import annotations

import gc
import sys
import threading
import weakref
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from launching import Packed, scalar, tensor

from tilec.ir.errors import TileError
from tilec.ir.source import Param
from tilec.runtime.jit import LoadedModule
from tilec.runtime.launch import Compiled, Dispatcher, Form, Launcher, Out

OWN = Param("out", "i64", (6,), "tensor", 0)
NAMES = ("out", "x", "s")


class Slow:
    """A slow path that says how often it ran; `results` makes arrays that are slots behind."""

    def __init__(self, module: LoadedModule, *params: Param, **more: Any) -> None:
        self.answer, self.seen = Compiled(module["record"], params, keep=module, **more), []

    def __call__(self, given: tuple[Any, ...]) -> Compiled:
        self.seen.append(given)
        if given and isinstance(given[-1], Out):
            return Compiled(self.answer.address, self.answer.params, keep=self.answer)
        return self.answer


@pytest.fixture
def bindable(launcher: Launcher, record: LoadedModule) -> tuple[Dispatcher, Slow]:
    slow = Slow(record, OWN, tensor(1), scalar("i32", 2))
    return launcher.dispatcher("k", slow, Form(NAMES)), slow


def room() -> np.ndarray:
    return np.full(6, -77, np.int64)


def test_a_bound_kernel_runs_on_what_it_was_bound_to(bindable):
    made, slow = bindable
    out, x = room(), np.ones(5, np.float32)
    bound = made.bind(out, x, 7)
    assert out.tolist() == [-77] * 6
    for _ in range(3):
        out[:] = -77
        assert bound() is None
        assert out[:3].tolist() == [out.ctypes.data, x.ctypes.data, 7]
    made.launch(out, x, 8)
    made.bind(out, x, 9)
    assert len(slow.seen) == 2  # one to bind, one to launch; what a launch made may be bound


def test_a_bound_kernel_takes_other_arguments_of_the_same_kind(bindable):
    made, _ = bindable
    out, x, other, theirs = room(), np.ones(5, np.float32), np.zeros(5, np.float32), room()
    bound = made.bind(out, x, 7)
    bound(theirs, other, -3)
    assert theirs[:3].tolist() == [theirs.ctypes.data, other.ctypes.data, -3]
    bound(theirs, s=np.int16(5), x=x)
    assert theirs[:3].tolist() == [theirs.ctypes.data, x.ctypes.data, 5]
    assert out.tolist() == [-77] * 6
    bound()
    assert out[:3].tolist() == [out.ctypes.data, x.ctypes.data, 7]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": np.ones(6, np.float32)},
         r"k is bound to numpy f32\[5\] on cpu as argument 2 \(`x`\), called with numpy f32\[6\]"),
        ({"x": np.ones(5, np.float16)}, r"called with numpy f16\[5\] on cpu"),
        ({"x": np.ones(10, np.float32)[::2]}, r"called with numpy f32\[5\] on cpu with strides"),
        ({"x": torch.ones(5)}, r"called with torch f32\[5\] on cpu"),
        ({"x": Packed(1, 2, [3])}, "called with <launching.Packed object"),
        ({"x": None}, "called with None"),
        ({"s": 1.5}, r"is bound to int as argument 3 \(`s`\), called with float"),
        ({"s": 2**31}, "argument 3 is 2147483648: expected"),
        ({"s": "text"}, "argument 3 is a builtins.str"),
    ],
)  # fmt: skip
def test_a_bound_kernel_refuses_others(bindable, change, message):
    made, slow = bindable
    out, given = room(), {"x": np.ones(5, np.float32), "s": 7}
    bound = made.bind(out, **given)
    for _ in range(2):
        with pytest.raises(TileError, match=message):
            bound(out, **(given | change))
        with pytest.raises(TileError, match=message):
            bound(out, *(given | change).values())
    assert out.tolist() == [-77] * 6
    assert len(slow.seen) == 1
    with pytest.raises(TileError, match="k is bound to 3 arguments, called with 2"):
        bound(out, given["x"])
    with pytest.raises(TileError, match="k has no parameter `out2`; it has out, x, s"):
        bound(out2=out)


def test_a_bound_kernel_keeps_its_arguments_and_is_collected(bindable):
    made, _ = bindable
    out, x = room(), np.ones(5, np.float32)
    address, alive = x.ctypes.data, weakref.ref(x)
    bound = made.bind(out, x, 12345678901 // 7)
    del x
    gc.collect()
    assert alive() is not None
    bound()
    assert out[1] == address
    del bound, made, bindable
    gc.collect()


def test_bound_kernels_are_collected(launcher: Launcher, record: LoadedModule) -> None:
    slow = Slow(record, OWN, tensor(1))
    dispatcher = launcher.dispatcher("k", slow, Form(NAMES))
    arrays = [np.ones(5, np.float32) for _ in range(20)]
    alive = [weakref.ref(a) for a in arrays]
    out = room()
    for a in arrays:
        dispatcher.bind(out, a)()
    slow.seen.clear()
    del a, arrays
    gc.collect()
    assert all(found() is None for found in alive)


def test_calls_of_a_bound_kernel_at_once_have_workspaces(launcher: Launcher, meet: LoadedModule):
    out = np.zeros(8, np.int64)
    answer = Compiled(meet["meet"], (OWN,), workspace=1000, keep=meet)
    bound = launcher.dispatcher("meet", lambda _: answer).bind(out)
    out[:] = [0, 3, -1, -1, -1, 0x5A, 0x5A, 0x5A]
    threads = [threading.Thread(target=bound) for _ in range(3)]
    for t in threads:
        t.start()
    for t in threads:
        t.join(30)
    spaces = sorted(out[2:5].tolist())
    assert all(b - a >= 1000 for a, b in pairwise(spaces))


MADE = (partial(np.full, 6, -5), partial(np.zeros, 3, np.float32))


@pytest.fixture
def giving(launcher: Launcher, record: LoadedModule) -> tuple[Dispatcher, Slow]:
    """x -> (i64[6], f32[3]): what it records is x, the results' addresses and a number."""
    params = (Param("r", "i64", (6,), "tensor", 2), tensor(0), tensor(3), scalar("i32", 1))
    slow = Slow(record, *params, results=MADE)
    return launcher.dispatcher("k", slow, Form(("x", "s"), results=True)), slow


def test_results_are_made_by_each_call(giving):
    made, slow = giving
    x = np.ones(5, np.float32)
    seen = [made.launch(x, 3) for _ in range(4)]
    assert all(type(r) is tuple and len(r) == 2 for r in seen)
    for first, second in seen:
        assert first[:4].tolist() == [first.ctypes.data, x.ctypes.data, second.ctypes.data, 3]
    assert len({first.ctypes.data for first, _ in seen}) == 4
    assert len(slow.seen) == 1


def test_results_that_are_given(giving):
    made, slow = giving
    x, out = np.ones(5, np.float32), (room(), np.zeros(3, np.float32))
    for call in (partial(made.launch, x, 4), partial(made.launch, s=4, x=x)):
        for name in ("out", "".join(["o", "ut"])):  # the second is no constant of the code
            out[0][:] = -77
            assert call(**{name: out}) is out
            wanted = [out[0].ctypes.data, x.ctypes.data, out[1].ctypes.data, 4]
            assert out[0][:4].tolist() == wanted
    assert len(slow.seen) == 1
    assert isinstance(slow.seen[0][-1], Out)
    assert made.launch(x, 4, out=None)[0][3] == 4
    with pytest.raises(TileError, match="`out` is a builtins"):
        made.launch(x, 4, out="text")
    with pytest.raises(TileError, match="expected at most 32"):
        made.launch(x, 4, out=out * 16)


def test_one_result_is_no_tuple(launcher: Launcher, record: LoadedModule) -> None:
    params = (Param("r", "i64", (6,), "tensor", 1), tensor(0))
    slow = Slow(record, *params, results=MADE[:1])
    made = launcher.dispatcher("k", slow, Form(("x",), results=True))
    x, out = torch.ones(3), room()
    result = made.launch(x)
    assert result[:2].tolist() == [result.ctypes.data, x.data_ptr()]
    assert made.launch(x, out=out) is out
    single = (out,)
    assert made.launch(x, out=single) is single
    assert out[:2].tolist() == [out.ctypes.data, x.data_ptr()]
    bound = made.bind(x)
    assert bound() is bound(torch.ones(3)) is bound()
    assert made.bind(x, out=out)() is out
    with pytest.raises(TileError, match="k is bound to its results: `out` belongs to bind"):
        bound(x, out=out)


def test_a_result_that_can_not_be_made(launcher: Launcher, record: LoadedModule) -> None:
    armed: list[Any] = []

    def maker() -> Any:
        return armed[0]() if armed else room()

    def broken() -> Any:
        raise MemoryError("none is left")

    params = (Param("r", "i64", (6,), "tensor", 1), tensor(0))
    slow = Slow(record, *params, results=(maker,))
    made = launcher.dispatcher("k", slow, Form(("x",), results=True))
    x = np.ones(3, np.float32)
    made.launch(x)
    for fault, error in ((broken, MemoryError), (lambda: "text", (SystemError, TileError))):
        armed[:] = [fault]
        with pytest.raises(error):
            made.launch(x)


def test_keywords(bindable):
    made, slow = bindable
    out, x = room(), np.ones(5, np.float32)
    made.launch(out, s=3, x=x)
    made.launch(s=3, out=out, x=x)  # a parameter of that name, no result
    assert out[:3].tolist() == [out.ctypes.data, x.ctypes.data, 3]
    assert len(slow.seen) == 1
    for arguments, more, message in (
        ((out, x), {"z": 3}, "k has no parameter `z`; it has out, x, s"),
        ((out, x), {"x": x, "s": 3}, "k: `x` is given twice"),
        ((out,), {"s": 3}, "k: `x` is not given"),
    ):
        with pytest.raises(TileError, match=message):
            made.launch(*arguments, **more)


def test_calls_that_are_recorded_for_gradients(launcher: Launcher, record: LoadedModule) -> None:
    seen: list[Any] = []

    def recorded(arguments: tuple[Any, ...], out: Out | None) -> str:
        seen.append((arguments, out))
        return "recorded"

    slow = Slow(record, OWN, tensor(1))
    made = launcher.dispatcher("k", slow, Form(("out", "x"), recorded=recorded))
    out, x, w = room(), torch.ones(3), torch.nn.Parameter(torch.ones(3))
    assert made.launch(out, w) == "recorded"
    assert slow.seen == []
    for _ in range(2):
        assert made.launch(out, x) is None
        assert made.launch(out, x=w) == made.launch(out, w) == "recorded"
        with torch.no_grad():
            assert made.launch(out, w) is None
            assert out[1] == w.data_ptr()
        assert made.launch(out, np.ones(3, np.float32)) is None
    assert len(slow.seen) == 2
    assert all(a[1] is w for a, _ in seen)


def test_calls_leave_no_objects_behind(bindable, giving):
    (made, _), (gives, _) = bindable, giving
    out, x = room(), torch.ones(5)
    results = (room(), np.zeros(3, np.float32))
    bound, whole = made.bind(out, x, 1000), gives.bind(x, 5)
    calls = (
        bound,
        partial(bound, out, x, 2000),
        partial(made.launch, out, x, 3000),
        partial(made.launch, out, x=x, s=4000),
        partial(gives.launch, x, 5),
        partial(gives.launch, x, 5, out=results),
        whole,
        partial(whole, x, 6),
    )
    for call in calls:
        call()
    gc.collect()
    before = sys.getallocatedblocks()
    for call in calls:
        for _ in range(1000):
            call()
    gc.collect()
    assert sys.getallocatedblocks() - before < 100
