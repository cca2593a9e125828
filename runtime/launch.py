"""Calling compiled kernels from Python: argument reading, lookup by specialisation, the call.

Two launchers with the same behaviour: NativeLauncher (native.py) makes functions of machine code,
which need a fraction of a microsecond; PythonLauncher needs nothing but ctypes.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, cast

import numpy as np

from tilec.ir.errors import TileError
from tilec.ir.ranges import Range, Ranges
from tilec.ir.source import Param
from tilec.runtime.arguments import (
    MAX_ARGUMENTS,
    Reading,
    is_torch_tensor,
    launch_key,
    read,
    refusal,
    told,
)
from tilec.runtime.slots import Room, Slot, aligned, filled, slots_of

RESULTS = "out"  # the keyword for tensors that results are written to


@dataclass(frozen=True)
class Compiled:
    """What a slow path returns: machine code, and how to call it. `keep` is kept alive with it.

    `release_gil` is worth its 50 ns for any kernel that runs for microseconds. With `recover` the
    code is `i64 entry(ptr args)`, its first slot is `data`, and it returns a status: where that is
    not 0, `recover(status)` raises, or returns for the call to be made again. Each of `results`
    makes a tensor that a call returns; Params count these behind the arguments. `bind` makes the
    same with memory of its own, so that calls in any stream allocate nothing. `ranges` are the
    dimensions that stay open, and `sizes` what they are: the slots behind those of the params.
    Without a `room` each kind of arguments has a workspace of its own.
    """

    address: int
    params: tuple[Param, ...]
    workspace: int = 0
    release_gil: bool = True
    keep: object = None
    data: int = 0
    recover: Callable[[int], None] | None = None
    results: tuple[Callable[[], Any], ...] = ()
    bind: Callable[[], Compiled] | None = None
    ranges: Ranges = field(default_factory=dict[str, Range])
    sizes: tuple[int, ...] = ()
    room: Room | None = None

    def sized(self, name: str, dims: Mapping[str, int]) -> Compiled:
        """For a call with such dimensions. Raises TileError, in the name of a kernel, for a size
        that the code is not for."""
        for n, found in self.ranges.items():
            if dims[n] not in found:
                raise TileError(f"{name}: {n} is {dims[n]}, this code is for {found.least} to "
                                f"{found.most}")  # fmt: skip
        return replace(self, sizes=tuple(dims[n] for n in self.ranges))


@dataclass(frozen=True, eq=False)
class Out:
    """What a call gives for its results: the last of a slow path's arguments."""

    given: Any

    @property
    def tensors(self) -> tuple[Any, ...]:
        """One tensor a result."""
        return self.given if self.several else (self.given,)

    @property
    def several(self) -> bool:
        """Whether it is a tuple."""
        return type(self.given) is tuple


SlowPath = Callable[[tuple[Any, ...]], Compiled]


@dataclass(frozen=True)
class Form:
    """What calls of a kernel look like.

    `names` are those of its parameters. With `results` it takes tensors for its results by `out=`,
    which a slow path finds as an `Out`. `recorded(arguments, out)`, if there is one, makes the
    calls in which torch records gradients and one of its tensors requires one.
    """

    names: tuple[str, ...] = ()
    results: bool = False
    recorded: Callable[[tuple[Any, ...], Out | None], Any] | None = None


ANY = Form()


class Launcher(Protocol):
    """Makes dispatchers."""

    def dispatcher(self, name: str, slow_path: SlowPath, form: Form = ANY) -> Dispatcher:
        """A callable for the kernel `name`, which asks `slow_path` for unseen arguments."""
        ...


class Dispatcher(Protocol):
    """A kernel's compiled entries. `launch(*arguments)` runs the one for these arguments.

    `bind(*arguments)` makes a callable of it that has no other entry, and memory of its own.
    """

    name: str
    launch: Callable[..., Any]

    def bind(self, *arguments: Any, **keywords: Any) -> Callable[..., Any]:
        """See the class."""
        ...


class PythonLauncher:
    """Launches through ctypes: some ten times slower, for systems without the native launcher."""

    def dispatcher(self, name: str, slow_path: SlowPath, form: Form = ANY) -> Dispatcher:
        """See Launcher."""
        return _PythonDispatcher(name, slow_path, form)


@dataclass(frozen=True)
class Call:
    """Arguments in order, and what is given for results if anything is."""

    arguments: tuple[Any, ...]
    out: Out | None = None

    @property
    def tensors(self) -> tuple[Any, ...]:
        """What is given for results."""
        return () if self.out is None else self.out.tensors

    @property
    def given(self) -> tuple[Any, ...]:
        """As a slow path has it."""
        return self.arguments if self.out is None else (*self.arguments, self.out)

    def key(self, readings: Sequence[Reading]) -> bytes:
        """The key, of the readings of all arguments."""
        count = len(self.arguments)
        return launch_key(readings[:count], None if self.out is None else readings[count:])

    def made(self, compiled: Compiled) -> tuple[tuple[Any, ...], Any]:
        """The results that code needs and the call does not give, and what the call returns."""
        made = tuple(make() for make in compiled.results)
        if not made:
            return (), None if self.out is None else self.out.given
        return made, made[0] if len(made) == 1 else made


@dataclass(frozen=True)
class Binding:
    """Code bound to arguments: readings and slots are of all, the results too."""

    call: Call
    compiled: Compiled
    readings: tuple[Reading, ...]
    slots: tuple[Slot, ...]
    held: tuple[Any, ...]
    result: Any


class Calls:
    """What all dispatchers do with arguments that they have no entry for."""

    def __init__(self, name: str, slow_path: SlowPath, form: Form) -> None:
        self.name, self.names, self.form = name, form.names, form
        self.launch: Callable[..., Any] = self._relaunch
        self._slow_path = slow_path
        self.takes_results = form.results and RESULTS not in form.names
        self._compiled: dict[bytes, tuple[Compiled, tuple[Any, ...]]] = {}

    def bind(self, *arguments: Any, **keywords: Any) -> Callable[..., Any]:
        """A callable for these arguments: see Dispatcher."""
        call = self._plain(self._call((*arguments, *keywords.values()), tuple(keywords)))
        key = call.key([_readable(x) for x in (*call.arguments, *call.tensors)])
        compiled = self._compiled[key][0] if key in self._compiled else self._slow_path(call.given)
        if compiled.bind is not None:
            compiled = replace(compiled.bind(), results=compiled.results)
        made, result = call.made(compiled)
        readings, slots = self._read(call, compiled, made)
        filled(slots, readings)
        return self._bound(Binding(call, compiled, readings, slots, made, result))

    def _miss(self, key: bytes | None, arguments: tuple[Any, ...], status: int,
              names: tuple[str, ...] | None) -> Any:  # fmt: skip
        """A call that native code does not know: the last arguments have names."""
        call = self._call(arguments, names or ())
        return self._plainly(call) if key is None else self._answer(key, call, status)

    def _answer(self, key: bytes, call: Call, status: int) -> Any:
        if self.form.recorded is not None and _requires_gradients(call.arguments):
            return self.form.recorded(call.arguments, call.out)
        if status:
            self.recover(self._compiled[key][0], status)
            return self._again(call)
        if key in self._compiled:  # so a number does not fit
            compiled = self._compiled[key][0]
            readings, slots = self._read(call, compiled, call.made(compiled)[0])
            filled(slots, readings)
        compiled = self._slow_path(call.given)
        # What a packed tensor is may depend on which code has been made for it.
        readings, slots = self._read(call, compiled, call.made(compiled)[0])
        filled(slots, readings)
        known = readings[: len(call.arguments) + len(call.tensors)]
        key = call.key(known)
        # A dtype in the key is an address: it must not be given to another object.
        held = tuple(getattr(x, "dtype", None) for x in (*call.arguments, *call.tensors))
        if key not in self._compiled:
            self._add(key, compiled, slots, any(map(is_torch_tensor, call.arguments)))
            self._compiled[key] = (compiled, held)
        return self._again(call)

    def _read(self, call: Call, compiled: Compiled, made: tuple[Any, ...]
              ) -> tuple[tuple[Reading, ...], tuple[Slot, ...]]:  # fmt: skip
        """The readings of all arguments and results, and how they fill slots."""
        values = (*call.arguments, *call.tensors, *made)
        if len(values) > MAX_ARGUMENTS:
            raise TileError(f"{self.name} has {len(values)} arguments and results: "
                            f"expected at most {MAX_ARGUMENTS}")  # fmt: skip
        readings = tuple(map(_readable, values))
        return readings, slots_of(compiled.params, readings, compiled.sizes,
                                  None if compiled.recover is None else compiled.data)  # fmt: skip

    def _call(self, arguments: tuple[Any, ...], names: tuple[str, ...]) -> Call:
        """The arguments of a call, of which the last have names, in the order of the parameters."""
        if not names:
            return Call(arguments)
        found = list(arguments[: len(arguments) - len(names)])
        by_name = dict(zip(names, arguments[len(found) :], strict=True))
        out = by_name.pop(RESULTS, None) if self.takes_results else None
        for name in by_name:
            if name not in self.names:
                has = ", ".join(self.names) or "none that has a name"
                raise TileError(f"{self.name} has no parameter `{name}`; it has {has}")
            if name in self.names[: len(found)]:
                raise TileError(f"{self.name}: `{name}` is given twice")
        if by_name:
            for name in self.names[len(found) :]:
                if name not in by_name:
                    raise TileError(f"{self.name}: `{name}` is not given")
                found.append(by_name[name])
        return Call(tuple(found), None if out is None else Out(out))

    def _plain(self, call: Call) -> Call:
        """The call with numpy scalars as Python numbers. Raises TileError for what is unreadable,
        naming the argument."""
        plain = tuple(map(_plain, call.arguments))
        values = (*plain, *call.tensors)
        if len(values) > MAX_ARGUMENTS:
            limit = f"expected at most {MAX_ARGUMENTS}"
            raise TileError(f"{self.name} called with {len(values)} arguments: {limit}")
        for place, argument in enumerate(values, 1):
            if read(argument) is None:
                which = f"argument {place}" if place <= len(plain) else f"`{RESULTS}`"
                raise TileError(f"{self.name}: {which} is {refusal(argument)}")
        return Call(plain, call.out)

    def _plainly(self, call: Call) -> Any:
        return self._again(self._plain(call))

    def _again(self, call: Call) -> Any:
        more = {} if call.out is None else {RESULTS: call.out.given}
        return self.launch(*call.arguments, **more)

    def recover(self, compiled: Compiled, status: int) -> None:
        """Do what a status asks for, or raise TileError."""
        if compiled.recover is None:
            raise TileError(f"{self.name} returned {status}")
        compiled.recover(status)

    def again_bound(self, binding: Binding, arguments: tuple[Any, ...],
                    names: tuple[str, ...] | None) -> tuple[Any, ...]:  # fmt: skip
        """The arguments for another call of bound code, in order, without names and with plain
        numbers. Raises TileError for those that it is not bound to."""
        call = self._plain(self._call(arguments, names or ()))
        if call.out is not None:
            raise TileError(f"{self.name} is bound to its results: `{RESULTS}` belongs to bind")
        count = len(binding.call.arguments)
        if len(call.arguments) != count:
            raise TileError(f"{self.name} is bound to {count} arguments, "
                            f"called with {len(call.arguments)}")  # fmt: skip
        readings = [_readable(x) for x in call.arguments]
        for i, reading in enumerate(readings):
            if reading.words != binding.readings[i].words:
                name = f" (`{self.names[i]}`)" if i < len(self.names) else ""
                raise TileError(
                    f"{self.name} is bound to {told(binding.call.arguments[i])} as argument "
                    f"{i + 1}{name}, called with {told(call.arguments[i])}", hint="bind again"
                )  # fmt: skip
        filled(binding.slots, [*readings, *binding.readings[count:]])
        return call.arguments

    def _relaunch(self, *arguments: Any, **keywords: Any) -> Any:
        raise NotImplementedError

    def _add(self, key: bytes, compiled: Compiled, slots: tuple[Slot, ...],
             of_torch: bool) -> None:  # fmt: skip
        raise NotImplementedError

    def _bound(self, binding: Binding) -> Callable[..., Any]:
        raise NotImplementedError


class _PythonDispatcher(Calls):
    def __init__(self, name: str, slow_path: SlowPath, form: Form) -> None:
        super().__init__(name, slow_path, form)
        self._entries: dict[bytes, tuple[Callable[..., int | None], tuple[Slot, ...]]] = {}

    def _relaunch(self, *arguments: Any, **keywords: Any) -> Any:
        call = self._call((*arguments, *keywords.values()), tuple(keywords))
        found = [read(x) for x in (*call.arguments, *call.tensors)]
        readings = [reading for reading in found if reading is not None]
        if len(readings) < len(found) or len(readings) > MAX_ARGUMENTS:
            return self._plainly(call)
        key = call.key(readings)
        watched = self.form.recorded is not None and _requires_gradients(call.arguments)
        if watched or key not in self._entries:
            return self._answer(key, call, 0)
        compiled = self._compiled[key][0]
        function, slots = self._entries[key]
        made, result = call.made(compiled)
        readings += map(_readable, made)
        status = _run(function, filled(slots, readings), compiled)
        return self._answer(key, call, status) if status else result

    def _add(self, key: bytes, compiled: Compiled, slots: tuple[Slot, ...],
             of_torch: bool) -> None:  # fmt: skip
        self._entries[key] = (_function(compiled), slots)

    def _bound(self, binding: Binding) -> Callable[..., Any]:
        function, slots = _function(binding.compiled), binding.slots
        count = len(binding.call.arguments)

        def bound(*arguments: Any, **keywords: Any) -> Any:
            readings = binding.readings
            if arguments or keywords:
                values, names = (*arguments, *keywords.values()), tuple(keywords)
                plain = self.again_bound(binding, values, names)
                readings = (*map(_readable, plain), *readings[count:])
            while status := _run(function, filled(slots, readings), binding.compiled):
                self.recover(binding.compiled, status)
            return binding.result

        return bound


def _requires_gradients(arguments: Sequence[Any]) -> bool:
    """Whether torch records gradients and one of its tensors requires one."""
    tensors = [x for x in arguments if is_torch_tensor(x)]
    if not tensors:
        return False
    torch: Any = sys.modules["torch"]
    return torch.is_grad_enabled() and any(x.requires_grad for x in tensors)


def _function(compiled: Compiled) -> Callable[..., int | None]:
    make = ctypes.CFUNCTYPE if compiled.release_gil else ctypes.PYFUNCTYPE
    answer = ctypes.c_int64 if compiled.recover else None
    return make(answer, ctypes.c_void_p)(compiled.address)


def _run(function: Callable[..., int | None], words: list[int], compiled: Compiled) -> int:
    """Call code with slots and a workspace; returns its status."""
    buffer, address = aligned(compiled.workspace)
    status = function((ctypes.c_uint64 * (len(words) + 1))(*words, address))
    del buffer
    return status or 0


def _plain(argument: Any) -> Any:
    number = cast(Any, np.generic)
    return argument.item() if isinstance(argument, number) else argument


def _readable(argument: object) -> Reading:
    reading = read(argument)
    if reading is None:
        raise TileError(f"the argument is {refusal(argument)}")
    return reading
