"""The two ways into an exported library: a C function, and TVM-FFI's. Their code, and the header.

The C function returns 0; the number, from 1, of an argument that it can't take; or -1 without
memory for a workspace.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from string import Template
from typing import Any

from tilec.ir.dtype import BY_NAME
from tilec.ir.source import KernelSource, Param
from tilec.runtime.arguments import dlpack_type

LINE = 64  # bytes: the alignment of a packed tensor's arrays, and what must be readable behind
C_TYPES = {
    "f64": "double", "f32": "float", "i8": "int8_t", "u8": "uint8_t", "i16": "int16_t",
    "u16": "uint16_t", "i32": "int32_t", "u32": "uint32_t", "i64": "int64_t", "bool": "bool",
}  # fmt: skip
_KINDS = {"tensor": 0, "bytes": 1, "integer": 2, "f64": 3, "f32": 4}
_LLVM = {"tensor": "ptr", "bytes": "ptr", "integer": "i64", "f64": "double", "f32": "float"}


@dataclass(frozen=True)
class Given:
    """One argument of the C function: a tensor, an array of a packed tensor, or a number."""

    name: str
    kind: str  # one of _KINDS
    dtype: str = ""
    shape: tuple[int, ...] = ()
    bytes: int = 0
    low: int = 0
    high: int = 0
    written: bool = False

    @property
    def alignment(self) -> int:
        """Of its address, in bytes."""
        return LINE if self.kind == "bytes" else BY_NAME[self.dtype].numpy.itemsize

    @property
    def said(self) -> str:
        """What it must be."""
        match self.kind:
            case "tensor":
                return f"a contiguous tensor {self.dtype}{list(self.shape)} on the CPU"
            case "bytes":
                return f"{self.bytes} bytes on the CPU, at a multiple of {LINE}"
            case "integer":
                return f"an integer from {self.low} to {self.high}"
            case _:
                return "a number"


def given(arguments: Sequence[Mapping[str, Any]], written: frozenset[str]) -> list[Given]:
    """The arguments of the C function from those of the manifest, in order."""
    found: list[Given] = []
    for a in arguments:
        name = a["name"]
        match a["kind"]:
            case "tensor":
                shape = tuple(a["shape"])
                size = prod(shape) * BY_NAME[a["dtype"]].numpy.itemsize
                out = name in written
                found.append(Given(name, "tensor", a["dtype"], shape, size, written=out))
            case "packed":
                found += [Given(f"{name}_{i}", "bytes", bytes=x["bytes"])
                          for i, x in enumerate(a["arrays"])]  # fmt: skip
            case _:
                low, high = a.get("range", (0, 0))
                found.append(Given(name, a["carrier"], a["dtype"], low=low, high=high))
    return found


def module(source: KernelSource, name: str, takes: Sequence[Given], places: Sequence[int],
           threads: int) -> str:  # fmt: skip
    """LLVM IR of the entries, to stand behind the pool's. `places` has the argument of each slot of
    the kernel."""
    text = Path(__file__).with_name("entry.ll").read_text("utf-8")
    filled = Template(text).substitute(
        THREADS=threads, ENTRY=source.entry, WORKSPACE=source.workspace,
        NEEDS="true" if source.workspace else "false",
    )  # fmt: skip
    parts = (filled, f"declare void @{source.entry}(ptr)", *_c_entry(name, takes, places),
             *_ffi_entry(name, takes))  # fmt: skip
    return "\n".join(parts) + "\n"


def places(params: Sequence[Param], arguments: Sequence[Mapping[str, Any]]) -> list[int]:
    """Which argument of the C function fills each slot of the kernel."""
    first: list[int] = []
    count = 0
    for a in arguments:
        first.append(count)
        count += len(a["arrays"]) if a["kind"] == "packed" else 1
    return [first[p.argument] + (p.place if p.kind == "packed" else 0) for p in params]


def _c_entry(name: str, takes: Sequence[Given], places: Sequence[int]) -> Iterator[str]:
    count = len(places)
    parameters = ", ".join(f"{_LLVM[g.kind]} %a{i}" for i, g in enumerate(takes))
    yield f"define i32 @tilec_{name}({parameters}) {{"
    yield f"  %slots = alloca [{count + 1} x i64], align 64"
    for i, g in enumerate(takes):
        yield from _checked(i, g)
    for slot, i in enumerate(places):
        yield f"  %s{slot} = getelementptr i64, ptr %slots, i64 {slot}"
        if takes[i].kind == "f32":  # which fills half of its slot
            yield f"  store i64 0, ptr %s{slot}"
        yield f"  store {_LLVM[takes[i].kind]} %a{i}, ptr %s{slot}"
    yield f"  %last = getelementptr i64, ptr %slots, i64 {count}"
    yield "  %status = call i32 @tilec_call(ptr %slots, ptr %last)"
    yield "  ret i32 %status"
    yield "}"


def _checked(i: int, g: Given) -> Iterator[str]:
    """Return the number of an argument that is null, not aligned or out of range."""
    match g.kind:
        case "tensor" | "bytes":
            yield f"  %p{i} = ptrtoint ptr %a{i} to i64"
            yield f"  %r{i} = and i64 %p{i}, {g.alignment - 1}"
            yield f"  %x{i} = icmp ne i64 %r{i}, 0"
            yield f"  %n{i} = icmp eq ptr %a{i}, null"
            yield f"  %null{i} = and i1 %n{i}, {'true' if g.bytes else 'false'}"
            yield f"  %wrong{i} = or i1 %x{i}, %null{i}"
        case "integer":
            yield f"  %x{i} = icmp slt i64 %a{i}, {g.low}"
            yield f"  %n{i} = icmp sgt i64 %a{i}, {g.high}"
            yield f"  %wrong{i} = or i1 %x{i}, %n{i}"
        case _:
            return
    yield f"  br i1 %wrong{i}, label %bad{i}, label %good{i}"
    yield f"bad{i}:"
    yield f"  ret i32 {i + 1}"
    yield f"good{i}:"


def _ffi_entry(name: str, takes: Sequence[Given]) -> Iterator[str]:
    yield _text("tilec_count", f"{name} takes {len(takes)} arguments")
    yield _text("tilec_memory", f"{name}: no memory for a workspace")
    for i, g in enumerate(takes):
        yield _text(f"tilec_said{i}", f"{name}: argument {i + 1} (`{g.name}`) must be {g.said}")
        dims = ", ".join(f"i64 {n}" for n in g.shape)
        yield f"@tilec_dims{i} = internal constant [{len(g.shape)} x i64] [{dims}]"
        kind = dlpack_type(g.dtype) if g.kind == "tensor" else 0
        fields = (_KINDS[g.kind], len(g.shape), kind, g.bytes, g.low, g.high)
        words = ", ".join(f"i64 {n}" for n in fields)
        yield f"@tilec_want{i} = internal constant %want {{ {words}, ptr @tilec_dims{i} }}"
    said = ", ".join(["ptr @tilec_memory", *(f"ptr @tilec_said{i}" for i in range(len(takes)))])
    yield f"@tilec_said = internal constant [{len(takes) + 1} x ptr] [{said}]"
    yield from _ffi_function(name, takes)


def _ffi_function(name: str, takes: Sequence[Given]) -> Iterator[str]:
    yield f"define i32 @__tvm_ffi_{name}(ptr %self, ptr %args, i32 %count, ptr %result) {{"
    yield "entry:"
    yield f"  %values = alloca [{len(takes) + 1} x i64]"
    yield f"  %many = icmp eq i32 %count, {len(takes)}"
    yield "  br i1 %many, label %take0, label %counted"
    for i in range(len(takes)):
        yield f"take{i}:"
        yield f"  %any{i} = getelementptr i8, ptr %args, i64 {16 * i}"
        yield f"  %v{i} = getelementptr i64, ptr %values, i64 {i}"
        yield (f"  %fine{i} = call i1 @tilec_argument(ptr %any{i}, ptr @tilec_want{i}, "
               f"ptr %v{i})")  # fmt: skip
        yield f"  br i1 %fine{i}, label %take{i + 1}, label %bad{i}"
        yield f"bad{i}:"
        yield "  br label %wrong"
    yield f"take{len(takes)}:"
    for i, g in enumerate(takes):
        kind = "double" if g.kind == "f32" else _LLVM[g.kind]
        yield f"  %l{i} = load {kind}, ptr %v{i}"
        if g.kind == "f32":
            yield f"  %f{i} = fptrunc double %l{i} to float"
    given = ", ".join(f"{_LLVM[g.kind]} %{'f' if g.kind == 'f32' else 'l'}{i}"
                      for i, g in enumerate(takes))  # fmt: skip
    yield f"  %status = call i32 @tilec_{name}({given})"
    yield from _ffi_ends(len(takes))


def _ffi_ends(count: int) -> Iterator[str]:
    """What TVM-FFI is told: None, or which argument is wrong."""
    yield "  %well = icmp eq i32 %status, 0"
    yield "  br i1 %well, label %done, label %refused"
    yield "done:"
    yield "  store i64 0, ptr %result"  # None
    yield "  %value.at = getelementptr i8, ptr %result, i64 8"
    yield "  store i64 0, ptr %value.at"
    yield "  ret i32 0"
    yield "refused:"
    yield "  %some = icmp sgt i32 %status, 0"
    yield "  %number = select i1 %some, i32 %status, i32 0"
    yield "  br label %wrong"
    yield "wrong:"
    bad = "".join(f", [ {i + 1}, %bad{i} ]" for i in range(count))
    yield f"  %which = phi i32 [ %number, %refused ]{bad}"
    yield "  %said.at = getelementptr ptr, ptr @tilec_said, i32 %which"
    yield "  %said = load ptr, ptr %said.at"
    yield "  br label %raise"
    yield "counted:"
    yield "  br label %raise"
    yield "raise:"
    yield "  %message = phi ptr [ %said, %wrong ], [ @tilec_count, %counted ]"
    yield "  call void @tilec_raise(ptr %message)"
    yield "  ret i32 -1"
    yield "}"


def _text(name: str, text: str) -> str:
    data = "".join(chr(b) if 32 <= b < 127 and b not in b'"\\' else f"\\{b:02X}"
                   for b in text.encode())  # fmt: skip
    return f'@{name} = internal constant [{len(text.encode()) + 1} x i8] c"{data}\\00"'


def header(name: str, takes: Sequence[Given], dims: Mapping[str, int]) -> str:
    """The C header of a library."""
    lines = [f"/* {name}, compiled by tilec for "
             + (", ".join(f"{n} = {size}" for n, size in dims.items()) or "fixed extents") + ".",
             "",
             "   Returns 0; the number, from 1, of an argument that is null, not aligned to its",
             "   elements or out of range, when nothing has been done; or -1 without memory.",
             "   Tensors are contiguous, the last dimension varies fastest. Threads may call it at",
             "   once: one call uses all processors of the process, the others each their own.",
             ""]  # fmt: skip
    for g in takes:
        lines.append(f"   {g.name}: {g.said}{', written' if g.written else ''}")
    if any(g.kind == "bytes" for g in takes):
        lines += ["", "   Arrays of packed tensors are as `Exported.weights` gives them; the last "
                  f"{LINE} bytes are", "   read, but mean nothing."]  # fmt: skip
    guard = f"TILEC_{name.upper()}_H"
    takes_c = ", ".join(map(_declared, takes)) or "void"
    return "\n".join([
        *lines[:-1], lines[-1] + " */", f"#ifndef {guard}", f"#define {guard}", "",
        "#include <stdint.h>", "", "#ifdef __cplusplus", 'extern "C" {', "#endif", "",
        f"int32_t tilec_{name}({takes_c});", "", "#ifdef __cplusplus", "}", "#endif", "",
        "#endif", "",
    ])  # fmt: skip


def _declared(g: Given) -> str:
    match g.kind:
        case "tensor" | "bytes":
            element = C_TYPES.get(g.dtype, "void")
            return f"{'' if g.written else 'const '}{element} *{g.name}"
        case "integer":
            return f"int64_t {g.name}"
        case "f64":
            return f"double {g.name}"
        case _:
            return f"float {g.name}"
