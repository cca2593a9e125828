"""From a kernel to running code: the one place that knows language, passes, code and runtime."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, overload

from tilec.classes import Seen, class_of
from tilec.cpu import cpu_source
from tilec.ir.core import Func
from tilec.ir.dtype import BY_NAME, DType
from tilec.ir.dynamic import Dynamic
from tilec.ir.errors import TileError
from tilec.ir.extent import names
from tilec.ir.format import Dense, Format
from tilec.ir.ops.memory import Write
from tilec.ir.packing import Layout
from tilec.ir.ranges import Sizes, numbers, opened
from tilec.ir.source import KernelSource
from tilec.ir.text import show
from tilec.lang.kernel import Definition, TensorSpec
from tilec.lang.python import definition_of
from tilec.observe import Compile, compiling, enrolled, fell_back
from tilec.passes import parse_pipeline, run
from tilec.passes.pipeline import Dump
from tilec.runtime.arguments import TensorArgument, describe
from tilec.runtime.driver import open_driver
from tilec.runtime.launch import Form
from tilec.runtime.placed import DeviceTensor
from tilec.runtime.tensor import PackedTensor
from tilec.settings import settings

COMPILES = 64  # of a kernel that are remembered


@cache
def engine() -> Any:
    """The CPU runtime of this process, made when the first kernel runs (it loads LLVM)."""
    from tilec.runtime.cache import open_cache
    from tilec.runtime.engine import Engine

    chosen = settings()
    with compiling("tilec itself", lambda _: None):  # its threads and its launcher
        return Engine(open_cache(chosen.environment), threads=chosen.threads)


@cache
def gpu() -> Any:
    """The GPUs of this machine. Raises TileError without an NVIDIA driver."""
    from tilec.runtime.gpu import Gpu

    return Gpu(open_driver(), engine().machine, engine().object)


def optimize(text: str, passes: str, dump: Dump | None = None, file: str = "<text>") -> str:
    """A `.tile` program or IR text through a textual pipeline, as IR text."""
    from tilec.ir.parse import parse as parse_ir
    from tilec.lang.text import parse as parse_tile

    functions = [parse_ir(text)] if text.lstrip().startswith("func") else [
        d.ir() for d in parse_tile(text, file).values()
    ]  # fmt: skip
    steps = parse_pipeline(passes)
    return "\n".join(show(run(steps, f, dump)) for f in functions)


def _element(pinned: Format | None, found: DType) -> DType:
    """An array's element type, or the pinned one that is stored so: tf32 as f32, codes as u8."""
    if not isinstance(pinned, Dense) or pinned.dtype.bits < 8:
        return found
    return pinned.dtype if pinned.dtype.numpy == found.numpy else found


def written(func: Func) -> frozenset[str]:
    """The names of the parameters that a kernel stores to."""
    return frozenset(op.mem.hint for op in func.walk() if isinstance(op, Write))


@dataclass(frozen=True)
class Kind:
    """What code depends on in arguments: formats and layouts by name, the dimensions, the number of
    the GPU that the tensors are on."""

    types: dict[str, Format | DType]
    dims: dict[str, int]
    layouts: dict[str, Layout]
    device: int | None

    def without(self, sizes: Sizes) -> object:
        """What code depends on, by such sizes."""
        layouts = tuple((name, repr(layout)) for name, layout in self.layouts.items())
        return tuple(self.types.items()), layouts, tuple(sizes.items())


class Kernel:
    """A kernel that can be called: `kernel(x, w, y)` on numpy arrays or torch tensors, in place.

    It runs where the tensors are. `choice` (tilec.gpu.Choice) is how it is made for a GPU, and
    `gpu` (tilec.runtime.gpu.Gpu) is for tensors of its kind of memory, by default the GPUs of this
    machine for those of CUDA.
    """

    # A call goes straight to the launcher's function: a slot needs no frame of Python.
    __slots__ = ("__call__", "__dict__", "__weakref__")
    __call__: Callable[..., None]

    def __init__(self, definition: Definition, choice: Any = None, gpu: Any = None) -> None:
        self.definition = definition
        self.name = definition.signature.name
        self.choice = choice
        self._gpu = gpu
        self._programs: dict[object, Any] = {}
        self._open: dict[object, Any] = {}  # code for classes of sizes
        self._seen = Seen()
        self._dispatcher: Any = None
        self._compiles: deque[Compile] = deque(maxlen=COMPILES)
        self.__call__ = self._first
        enrolled(self)

    @property
    def __tilec__(self) -> Definition:
        """What programs call."""
        return self.definition

    def bind(self, *args: Any, **keywords: Any) -> Callable[..., None]:
        """The kernel for these arguments: `bound()` runs it on them again.

        `bound(*others)` runs it on others of the same library, dtypes, shapes, strides, devices and
        formats, and raises TileError for any that are not. Tensors that it is bound to must stay
        where they are. A call allocates nothing and waits for nothing, so that it may be captured
        in a CUDA graph. Memory between launches belongs to the bound kernel: on a GPU its calls
        must not overlap, whatever the streams.
        """
        return self._made().bind(*args, **keywords)

    def _first(self, *args: Any, **keywords: Any) -> None:
        self.__call__ = self._made().launch
        self.__call__(*args, **keywords)

    def _made(self) -> Any:
        if self._dispatcher is None:
            form = Form(tuple(p.name for p in self.definition.signature.params))
            self._dispatcher = engine().dispatcher(self.name, self.specialised, form)
        return self._dispatcher

    def compiles(self) -> tuple[Compile, ...]:
        """What making it ready for each kind of arguments took in this process, stage by stage; the
        last COMPILES of them."""
        return tuple(self._compiles)

    @property
    def gpu(self) -> Any:
        """The GPUs that it was made for (tilec.runtime.gpu.Gpu); None: those of this machine."""
        return self._gpu

    def ir(self, **types: Format | DType) -> Func:
        """The kernel as IR, given the formats of its tensors by name."""
        return self.definition.ir(types)

    def source(self, types: Mapping[str, Format | DType], dims: Sizes) -> str:
        """The LLVM IR that would run for these formats and dimensions, known or open."""
        return self._for_cpu(types, dims).text

    def _for_cpu(
        self, types: Mapping[str, Format | DType], dims: Sizes,
        layouts: Mapping[str, Layout] | None = None,
    ) -> KernelSource:  # fmt: skip
        known, choice = numbers(dims), self.choice
        if len(known) == len(dims):
            choice = self.chosen(types, known, "cpu", choice)
        schedule = choice.cpu if choice else None
        return cpu_source(self.definition, types, dims, engine(), layouts, schedule)

    def chosen(
        self, types: Mapping[str, Format | DType], dims: Mapping[str, int], target: str, choice: Any
    ) -> Any:  # fmt: skip
        """How it is made for such arguments: as it was told to (`choice`). `tilec.tuned` knows
        more."""
        del types, dims, target
        return choice

    def specialised(self, args: tuple[Any, ...]) -> Any:
        """Code for arguments of a kind not seen before: a slow path of the launcher."""
        with compiling(self.name, self._compiles.append) as about:
            return self._specialised(args, about)

    def _specialised(self, args: tuple[Any, ...], about: dict[str, Any]) -> Any:
        kind = self.kind(args)
        about |= {"dims": kind.dims, "types": {n: str(t) for n, t in kind.types.items()}}
        if kind.device is not None:
            about["target"] = f"{self.gpu.driver.kind if self.gpu else 'cuda'}:{kind.device}"
            driver = (self._gpu or gpu()).driver
            driver.refuse_capture(kind.device, f"{self.name} is made ready for such arguments")
            return self._on_gpu(kind.types, kind.dims, kind.device, args)
        sizes = self.sizes(kind)
        return (opened(sizes) and self._of_class(kind, sizes, about)) or self._on_cpu(kind)

    def sizes(self, kind: Kind) -> Sizes:
        """What code for a processor is made for: numbers, or classes of sizes for dimensions that
        stay open, as it was told to or because they vary. Raises TileError for unknown ones."""
        choice = self.choice
        if choice is not None and (choice.open or choice.cpu):
            known, _ = choice.known(kind.dims, self.name)
            free = kind.dims.keys() - known - self._stored(kind)
        else:
            free = self._seen.varying(kind.without({}), kind.dims, self._stored(kind))
        found = {n: class_of(size) for n, size in kind.dims.items() if n in free}
        return kind.dims | {n: sizes for n, sizes in found.items() if sizes.least < sizes.most}

    def _stored(self, kind: Kind) -> frozenset[str]:
        """The dimensions by which packed tensors lie in memory."""
        packed = {n for n in kind.layouts if not isinstance(kind.types[n], Dynamic)}
        shapes = [p.spec.dims for p in self.definition.signature.params
                  if isinstance(p.spec, TensorSpec) and p.name in packed]  # fmt: skip
        return frozenset[str]().union(*(names(d) for shape in shapes for d in shape))

    def _of_class(self, kind: Kind, sizes: Sizes, about: dict[str, Any]) -> Any:
        """Code for a class of sizes, made once; None where it can only be made for numbers."""
        key = kind.without(sizes)
        about["known"] = self._open.get(key) is not None
        if key not in self._open:
            try:
                made = engine().load(self._for_cpu(kind.types, sizes, kind.layouts))
            except TileError as e:
                fell_back("open dimensions", e.message, "compile", kernel=self.name)
                made = None
            self._open[key] = made
        found = self._open[key]
        return None if found is None else found.sized(self.name, kind.dims)

    def _on_cpu(self, kind: Kind) -> Any:
        """Code for this machine's processor."""
        return engine().load(self._for_cpu(kind.types, kind.dims, kind.layouts))

    def kind(self, args: tuple[Any, ...]) -> Kind:
        """What code depends on in arguments. Raises TileError for those that the kernel does not
        take."""
        signature = self.definition.signature
        if len(args) != len(signature.params):
            raise TileError(f"{self.name} takes {len(signature.params)} arguments, not {len(args)}")
        types: dict[str, Format | DType] = {}
        layouts: dict[str, Layout] = {}
        shapes: list[tuple[int, ...] | None] = []
        frozen: list[str] = []
        devices: dict[str, str] = {}
        for p, arg in zip(signature.params, args, strict=True):
            shapes.append(None)
            if not isinstance(p.spec, TensorSpec):
                continue
            if isinstance(arg, PackedTensor | DeviceTensor):
                types[p.name], shapes[-1] = arg.format, arg.shape
                devices[p.name] = arg.device
                if isinstance(arg, PackedTensor):
                    layouts[p.name] = arg.layout
                continue
            seen = self._tensor(p.name, p.spec, arg)
            element = _element(p.spec.format, BY_NAME[seen.dtype])
            types[p.name], shapes[-1] = Dense(element), tuple(seen.shape)
            devices[p.name] = seen.device
            frozen += [] if seen.writable else [p.name]
        self._refuse_frozen(types, frozen)
        return Kind(types, signature.bind(shapes), layouts, self._device(devices))

    def _device(self, devices: Mapping[str, str]) -> int | None:
        """The number of the GPU that the tensors are on, or None. Raises TileError for several."""
        kind = "cuda" if self._gpu is None else self._gpu.driver.kind
        found = {
            name: number or "0" for name, device in devices.items()
            for at, _, number in [device.partition(":")] if at == kind
        }  # fmt: skip
        if not found:
            return None
        first = next(iter(found))
        for name, device in devices.items():
            if found.get(name) != found[first]:
                raise TileError(
                    f"{self.name}: `{first}` is on {devices[first]}, but `{name}` is on {device}",
                    hint=f'{name}.to("{devices[first]}")',
                )
        return int(found[first])

    def _on_gpu(self, types: Mapping[str, Format | DType], dims: Mapping[str, int], device: int,
                args: tuple[Any, ...]) -> Any:  # fmt: skip
        """Code for a GPU that is loaded there, with packed tensors in the orders that it reads."""
        from tilec.gpu import Choice, program

        runtime, choice = self._gpu or gpu(), self.choice or Choice()
        target = choice.target(runtime.driver.device(device).capability)
        choice = self.chosen(types, dims, target, choice)
        known, even = choice.known(dims, self.name)
        key = repr(choice), target, tuple(types.items()), tuple(known.items()), even
        if key not in self._programs:
            self._programs[key] = program(
                self.definition, types, known, even, target, choice, engine().kept
            )
        made, source = self._programs[key]
        params = tuple(
            replace(p, place=args[p.argument].place(p.component, source.orders.get(p.name)))
            if p.kind == "packed" else p for p in made.params
        )  # fmt: skip
        return runtime.load(replace(made, params=params), device, dims, args)

    def _refuse_frozen(self, types: Mapping[str, Format | DType], frozen: list[str]) -> None:
        for name in frozen and written(self.definition.ir(types)).intersection(frozen):
            raise TileError(f"{self.name}: `{name}` is written, but the array is read-only")

    def _tensor(self, name: str, spec: TensorSpec, arg: Any) -> TensorArgument:
        """A dense argument that compiled code can read: contiguous and aligned."""
        seen = describe(arg)
        if not isinstance(seen, TensorArgument):
            dims = ", ".join(map(str, spec.dims))
            raise TileError(f"{self.name}: `{name}` is {arg!r}, expected a tensor [{dims}]")
        if not seen.contiguous:
            raise TileError(
                f"{self.name}: `{name}` is not contiguous (strides {list(seen.strides)})",
                hint="make a copy",
            )
        if not seen.aligned:
            raise TileError(
                f"{self.name}: `{name}` is not aligned to its elements", hint="make a copy"
            )
        return seen


@overload
def kernel(fn: Callable[..., Any]) -> Kernel: ...
@overload
def kernel(fn: None = None, **choices: Any) -> Callable[[Callable[..., Any]], Kernel]: ...
def kernel(fn: Callable[..., Any] | None = None, **choices: Any) -> Any:
    """Decorate a function whose body is a kernel. Raises TileError where its signature is wrong.

    `@kernel(backend="triton", schedule=...)` says how it is made for GPUs (`Choice`), and
    `@kernel(open=("M",))` that one code is for many sizes of M: on GPUs for all, on processors for
    a class of them (`tilec.classes`).
    """
    if fn is not None:
        return Kernel(definition_of(fn))
    from tilec.gpu import Choice

    choice = Choice(**choices)

    def decorated(function: Callable[..., Any]) -> Kernel:
        return Kernel(definition_of(function), choice)

    return decorated
