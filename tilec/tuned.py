"""Kernels and programs that are made as tuning found best: by what is known, or tuned as they run.

They differ from those of `tilec.compile` and `tilec.program` in how code is chosen, not in calls.
What tuning and GPUs need is imported when it is used: most processes only import tilec.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache
from typing import Any, overload

from tilec.compile import Kernel as PlainKernel
from tilec.compile import Kind, engine, gpu
from tilec.ir.dtype import DType
from tilec.ir.errors import TileError
from tilec.ir.format import Format
from tilec.ir.ranges import Sizes
from tilec.lang.kernel import Definition
from tilec.lang.programs import ProgramDefinition
from tilec.lang.python import definition_of
from tilec.observe import INFO, fell_back, say, stage
from tilec.program import Program as PlainProgram
from tilec.program import maker
from tilec.runtime.launch import Form
from tilec.tune.config import Config
from tilec.tune.knowledge import Knowledge

MODES = ("off", "lookup", "background", "block")
Found = Callable[[], None]


@cache
def knowledge() -> Knowledge:
    """The knowledge of this process, read when the first kernel is made."""
    return Knowledge()


class Kernel(PlainKernel):
    """A kernel that is made as tuning found best. `tune` says what happens for arguments of a kind
    not seen before:

    - "off": the back end's own choices;
    - "lookup": a tuned config, if one is known for exactly this kernel, shape and machine;
    - "background": that, or else it is tuned in a thread while calls go on with the default; what
      is found takes over between two calls;
    - "block": that, or else it is tuned before the first call.

    A schedule that was given is used as it is. `changed` is called when later calls are better.
    """

    __slots__ = ()

    def __init__(self, definition: Definition, choice: Any = None, gpu: Any = None,
                 tune: str = "lookup", changed: Found | None = None) -> None:  # fmt: skip
        super().__init__(definition, choice, gpu)
        if tune not in MODES:
            raise TileError(f"tune is {tune!r}, expected {', '.join(MODES)}")
        self.mode, self._changed = tune, changed
        self._configs: dict[object, Config | None] = {}
        self._loaded: dict[object, Any] = {}
        self._kept: list[Any] = []
        self._unsaid: dict[object, Any] = {}  # subjects of which the service did not speak
        self._threads: list[threading.Thread] = []

    def tune(self, *args: Any, budget: int = 60, seed: int = 0, told: Any = None,
             **options: Any) -> Any:  # fmt: skip
        """Tune the kernel for such arguments on this machine, and use what is found from then on.

        Up to `budget` configs are measured, in another process and on random data; `options` are
        others of `tilec.tune.tuner.Options`. Returns a `tilec.tune.tuner.Tuned`, which rich prints
        as a table, and keeps the config on disk. Raises TileError.
        """
        from tilec.tune.tuner import Options

        kind = self.kind(args)
        return self._tune(kind, args, Options(budget, seed, **options), told)

    def _tune(self, kind: Kind, args: tuple[Any, ...], options: Any = None, told: Any = None
              ) -> Any:  # fmt: skip
        from tilec.tune.tuner import Options, tune

        target, choice = self._made_for(kind)
        of = self._subject(kind.types, kind.dims, target, choice)
        known, how = knowledge(), options or Options()
        with known.one:
            how = replace(how, first=how.first or known.relatives(of))
            found = tune(of, how, told=told, blocked=known.blocked(of))
        known.store.keep(found.record())
        config = found.config if found.config != found.default else None
        self._use(kind, target, config, args)
        return found

    def _made_for(self, kind: Kind) -> tuple[str, Any]:
        if kind.device is None:
            return "cpu", self.choice
        from tilec.gpu import Choice

        choice, runtime = self.choice or Choice(), self._gpu or gpu()
        return choice.target(runtime.driver.device(kind.device).capability), choice

    def _subject(self, types: Mapping[str, Format | DType], dims: Mapping[str, int], target: str,
                 choice: Any) -> Any:  # fmt: skip
        from tilec.tune.job import subject

        if target == "cpu":
            return subject(self.definition, types, dims)
        return subject(self.definition, types, dims, choice.backend, target)

    def chosen(self, types: Mapping[str, Format | DType], dims: Mapping[str, int], target: str,
               choice: Any) -> Any:  # fmt: skip
        """How it is made for such arguments: as it was told to, or as tuning found best."""
        token = _token(types, dims, target)
        if self.mode == "off" and token not in self._configs:
            return choice
        if choice is not None and _is_said(choice, target):
            return choice
        if token not in self._configs:
            self._configs[token] = self._known(types, dims, target, choice)
        config = self._configs[token]
        if config is None:
            return choice
        from tilec.tune.job import choice_of

        if choice is None:
            return choice_of("cpu", config)
        if target == "cpu":
            return replace(choice, cpu=choice_of("cpu", config).cpu)
        return replace(choice, schedule=choice_of(choice.backend, config).schedule)

    def _known(self, types: Mapping[str, Format | DType], dims: Mapping[str, int], target: str,
               choice: Any) -> Config | None:  # fmt: skip
        """What is known; trouble with that is logged, and no user's."""
        try:
            if target != "cpu" and self._gpu is not None:  # stands for no device of this machine
                return None
            if knowledge().empty:
                return None
            of, token = self._subject(types, dims, target, choice), _token(types, dims, target)
            return knowledge().lookup(of, lambda: self._unsaid.update({token: of}))
        except TileError as e:
            say("tune", INFO, "no lookup", kernel=self.name, why=e.message)
            return None

    def sizes(self, kind: Kind) -> Sizes:
        """As that of Kernel; what is tuned is for numbers. One of many sizes is not looked up: that
        takes longer than most calls."""
        told = self.choice is not None and bool(self.choice.open)
        tuned = self._configs.get(_token(kind.types, kind.dims, "cpu")) is not None
        if not told and (tuned or self.mode in ("background", "block")):
            return kind.dims
        return super().sizes(kind)

    def _on_cpu(self, kind: Kind) -> Any:
        token = _token(kind.types, kind.dims, "cpu")
        if token not in self._configs:
            self.chosen(kind.types, kind.dims, "cpu", self.choice)
            self._begin(kind, token, ())
        return self._code(kind, token)

    def _on_gpu(self, types: Mapping[str, Format | DType], dims: Mapping[str, int], device: int,
                args: tuple[Any, ...]) -> Any:  # fmt: skip
        kind = Kind(dict(types), dict(dims), {}, device)
        target, choice = self._made_for(kind)
        token = _token(types, dims, target)
        if token not in self._configs:
            self.chosen(types, dims, target, choice)
            self._begin(kind, token, args)
        return super()._on_gpu(types, dims, device, args)

    def _code(self, kind: Kind, token: object) -> Any:
        """Code by the config of now, made once."""
        layouts = tuple(sorted((n, repr(x)) for n, x in kind.layouts.items()))
        key = token, layouts, self._configs.get(token)
        if key not in self._loaded:
            self._loaded[key] = super()._on_cpu(kind)
        return self._loaded[key]

    def _begin(self, kind: Kind, token: object, args: tuple[Any, ...]) -> None:
        """Tune in a thread, or now, where that is wanted and nothing is known; ask a service again
        that was away."""
        if (of := self._unsaid.pop(token, None)) is not None:
            target, _ = self._made_for(kind)
            knowledge().later(of, lambda config: self._use(kind, target, config, None))
        if token not in self._configs or self._configs[token] is not None:
            return
        if self.mode == "block":
            self._try(kind, args)
        elif self.mode == "background":
            thread = threading.Thread(target=self._try, args=(kind, args), name="tilec tuning",
                                      daemon=True)  # fmt: skip
            self._threads.append(thread)
            thread.start()

    def _try(self, kind: Kind, args: tuple[Any, ...]) -> None:
        try:
            with stage("tune", "tune"):
                self._tune(kind, args)
        except TileError as e:
            fell_back("tuned config", e.message, "tune", kernel=self.name)

    def settled(self, seconds: float | None = None) -> bool:
        """Wait for what is being tuned in the background; whether that has ended."""
        for thread in self._threads:
            thread.join(seconds)
        self._threads = [t for t in self._threads if t.is_alive()]
        return not self._threads

    def _use(self, kind: Kind, target: str, config: Config | None,
             args: tuple[Any, ...] | None) -> None:  # fmt: skip
        """Take a config for such arguments from now on. Its code is ready before any call gets to
        see it (on a GPU, where the arguments are given), and a call under way ends as it began."""
        token = _token(kind.types, kind.dims, target)
        if self._configs.get(token) == config:
            self._configs[token] = config
            return
        self._configs[token] = config
        if kind.device is None:
            self._code(kind, token)
        elif args is not None:
            super()._on_gpu(kind.types, kind.dims, kind.device, args)
        self._swap()
        if self._changed is not None:
            self._changed()

    def _swap(self) -> None:
        """Later calls find nothing of what was chosen before; their code is there already."""
        old = self._dispatcher
        if old is None:
            return
        form = Form(tuple(p.name for p in self.definition.signature.params))
        new = engine().dispatcher(self.name, self.specialised, form)
        self._kept.append(old)
        self._dispatcher = new
        _swap(self, old.launch, new.launch)


class Program(PlainProgram):
    """A program that is made as tuning found best: `tune` as for `Kernel`."""

    __slots__ = ()

    def __init__(self, definition: ProgramDefinition, choice: Any = None, gpu: Any = None,
                 tune: str = "lookup") -> None:  # fmt: skip
        super().__init__(definition, choice, gpu)
        if tune not in MODES:
            raise TileError(f"tune is {tune!r}, expected {', '.join(MODES)}")
        self.mode = tune
        self._kept: list[Any] = []

    def tune(self, *args: Any, **options: Any) -> Any:
        """Tune the program for such arguments: see `Kernel.tune`."""
        kernel, results = self._kernel_of(args)
        assert isinstance(kernel, Kernel)
        room = (maker(shape, dtype, args)() for shape, dtype in results)
        return kernel.tune(*args, *room, **options)

    def settled(self, seconds: float | None = None) -> bool:
        """Wait for what is being tuned in the background; whether that has ended."""
        found = [k.settled(seconds) for k in self._kernels.values() if isinstance(k, Kernel)]
        return all(found)

    def _kernel(self, definition: Definition) -> PlainKernel:
        return Kernel(definition, **self._made, tune=self.mode, changed=self._swap)

    def _swap(self) -> None:
        """As that of Kernel."""
        old = self._dispatcher
        if old is None:
            return
        self._dispatcher = None
        new = self._callable()
        self._kept.append(old)
        _swap(self, old.launch, new.launch)


def _is_said(choice: Any, target: str) -> bool:
    """Whether a choice leaves nothing to tuning: it has a schedule, or dimensions stay open."""
    if target == "cpu":
        return choice.cpu is not None
    return choice.schedule is not None or bool(choice.open)


def _swap(called: Any, old: Any, new: Any) -> None:
    """Calls go to `new` from now on, also where a profile stands before `old`."""
    if called.__call__ is old:
        called.__call__ = new
    elif getattr(called.__call__, "target", None) is old:
        called.__call__.target = new


def _token(types: Mapping[str, Format | DType], dims: Mapping[str, int], target: str) -> object:
    return target, tuple(sorted((n, str(t)) for n, t in types.items())), tuple(sorted(dims.items()))


@overload
def kernel(fn: Callable[..., Any]) -> Kernel: ...
@overload
def kernel(
    fn: None = None, *, tune: str = "lookup", **choices: Any
) -> Callable[[Callable[..., Any]], Kernel]: ...
def kernel(fn: Callable[..., Any] | None = None, *, tune: str = "lookup", **choices: Any) -> Any:
    """Decorate a function whose body is a kernel. Raises TileError where its signature is wrong.

    `@kernel(backend="triton", schedule=..., open=("M",))` says how it is made (`Choice`),
    `@kernel(tune="background")` what tuning does (`Kernel`).
    """
    if fn is not None:
        return Kernel(definition_of(fn))
    choice = _choice(choices)

    def decorated(function: Callable[..., Any]) -> Kernel:
        return Kernel(definition_of(function), choice, tune=tune)

    return decorated


@overload
def program(fn: Callable[..., Any]) -> Program: ...
@overload
def program(
    fn: None = None, *, tune: str = "lookup", **choices: Any
) -> Callable[[Callable[..., Any]], Program]: ...
def program(fn: Callable[..., Any] | None = None, *, tune: str = "lookup", **choices: Any) -> Any:
    """Decorate a function of whole tensors. Raises TileError where its signature is wrong.

    `@program(backend="triton", schedule=...)` says how it is made for GPUs (`tilec.gpu.Choice`),
    `@program(tune="background")` what tuning does (`Kernel`).
    """
    if fn is not None:
        return _of(fn, None, "lookup")
    choice = _choice(choices)

    def decorated(function: Callable[..., Any]) -> Program:
        return _of(function, choice, tune)

    return decorated


def _choice(choices: Mapping[str, Any]) -> Any:
    """What was chosen for all back ends, if anything was."""
    from tilec.gpu import Choice

    return Choice(**choices) if choices else None


def _of(fn: Callable[..., Any], choice: Any, tune: str) -> Program:
    definition = definition_of(fn, ProgramDefinition)
    assert isinstance(definition, ProgramDefinition)
    return Program(definition, choice, tune=tune)
