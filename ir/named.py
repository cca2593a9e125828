"""Formats by name: `f16`, `u3`, `int4<group=128, scale=f16, zero=int>`, `mxfp4`.

An element type alone is dense. With options it is a scaled format; integers are then called int4
and uint4. A published name is an abbreviation for such a text, whose options can be replaced:
`gptq<group=64>`. `plus<lowrank<32>, int4<group=64>>` and the like are composed of other formats.
Parentheses do for angle brackets.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable
from typing import Literal

from tilec.ir.codebook import Codebook
from tilec.ir.coded import Coded
from tilec.ir.codes import CODES, element
from tilec.ir.composed import Experts, LowRank, Mixed, Outliers, Permuted, Plus
from tilec.ir.dtype import BY_NAME, DType, f16, f32, integer
from tilec.ir.dynamic import Dynamic
from tilec.ir.errors import TileError
from tilec.ir.format import Dense, Format
from tilec.ir.granularity import CHANNEL, TENSOR, Granularity
from tilec.ir.grid import SIGNS, STEP, Grid
from tilec.ir.planes import Planes
from tilec.ir.published import PUBLISHED
from tilec.ir.scaled import ZEROS, Scaled, Zero, default_zero
from tilec.ir.seeded import Seeded
from tilec.ir.signs import Signs
from tilec.ir.sparse import (
    NM,
    VNM,
    Bitmap,
    Blocks,
    Channels,
    Coo,
    Csr,
    Grouped,
    Hashed,
    Paged,
    Ragged,
)

Options = dict[str, str]
INTEGERS = {f"{'' if signed else 'u'}int{bits}": integer(bits, signed)
            for signed in (True, False) for bits in range(1, 9)}  # fmt: skip
OPTIONS = ("group", "scale", "zero", "zeros", "rows", "channel", "tensor")
TABLES = ("vector", "rows", "columns", "table", "group", "channel", "scale")  # of a codebook
COMPOSED = {
    "plus": "plus<FORMAT, FORMAT, ...>",
    "mixed": "mixed<EVERY, FORMAT, FORMAT>",
    "experts": "experts<COUNT, FORMAT, ..., FORMAT>",
    "permuted": "permuted<FORMAT>",
    "lowrank": "lowrank<RANK, f16>",
    "outliers": "outliers<COUNT, f16>",
    "grid": "grid<LENGTH, ENTRIES, PIECE, SIGNS, u4, SHIFT>",
    "seedlm": "seedlm<LENGTH, RANK>",
    "bitstack": "bitstack<LEVELS, RANK>",
    "dynamic": "dynamic<FORMAT, f32>",
    "coded": "coded<bf16, WIDTH, ROOM>",
    "planes": "planes<FORMAT, WIDTH, WIDTH, ...>",
    "nm": "nm<N, M, FORMAT>",
    "vnm": "vnm<ROWS, N, M, FORMAT>",
    "channels": "channels<COUNT, FORMAT>",
    "block": "block<ROWS, COLUMNS, FORMAT, COUNT>",
    "bitmap": "bitmap<FORMAT, COUNT>",
    "coo": "coo<FORMAT, COUNT>",
    "csr": "csr<FORMAT, COUNT>",
    "paged": "paged<ROWS, FORMAT, COUNT>",
    "ragged": "ragged<FORMAT, COUNT>",
    "grouped": "grouped<COUNT, ROWS, FORMAT>",
    "hashed": "hashed<PLACES, PROBES, ROWS, FORMAT>",
    "codebook": "codebook<BITS, vector=LENGTH, rows=N, columns=N, table=f16, group=N, scale=f16>",
}
_TEXT = re.compile(r"\s*(\w+)\s*(?:[<(](.*)[>)])?\s*", re.DOTALL)


def named(text: str) -> Format:
    """The format that a text means. Raises TileError naming what is unknown and what there is."""
    found = _TEXT.fullmatch(text)
    if found is not None and found[1] in COMPOSED:
        return _composed(found[1], split(found[2] or ""))
    if found is not None and _is_composed(found[1]):
        if found[2] is not None:
            raise TileError(f"{found[1]} takes no options: it is {PUBLISHED[found[1]].text}")
        return named(PUBLISHED[found[1]].text)
    name, options = _read(text)
    if options is None and name not in INTEGERS:
        t = element(name)
        assert t is not None
        return Dense(t)
    t = _codes(name)
    if t.bits > 8 or t.kind == "bool":
        raise TileError(f"`{name}` takes no options",
                        hint="a scaled format has codes of 1 to 8 bits")  # fmt: skip
    options = options or {}
    zero = options.get("zero", default_zero(t))
    zeros = named(options["zeros"]) if "zeros" in options else None
    scale = _number(name, options.get("scale", "f16"))
    return Scaled(t, _block(name, options), scale, _kind(name, zero), zeros)


def _is_composed(name: str) -> bool:
    """Whether a published name stands for more than an element and its options."""
    return name in PUBLISHED and PUBLISHED[name].text.partition("<")[0] in COMPOSED


def _composed(name: str, words: list[str]) -> Format:
    """A format of formats, its arguments by their places."""
    match name, words:
        case "plus", _:
            return Plus(tuple(map(named, words)))
        case "mixed", [every, few, most]:
            return Mixed(_whole(name, every), named(few), named(most))
        case "experts", [*counted, rest] if len(counted) % 2 == 0:
            counts = tuple(_whole(name, n) for n in counted[::2])
            return Experts(tuple(map(named, [*counted[1::2], rest])), counts)
        case "permuted", [inner]:
            return Permuted(named(inner))
        case "lowrank", [rank, *factors] if len(factors) < 2:
            return LowRank(_whole(name, rank), *(_float(name, t) for t in factors))
        case "outliers", [count, *elements] if len(elements) < 2:
            return Outliers(_whole(name, count), *(_float(name, t) for t in elements))
        case "planes", [inner, *widths]:
            return Planes(named(inner), tuple(_whole(name, w) for w in widths))
        case _:
            return _sparse(name, words) or _generated(name, words)


def _sparse(name: str, words: list[str]) -> Format | None:
    """A format that stores some of the elements; the last number, what there is room for, may be
    missing."""
    match name, words:
        case "nm", [n, m, inner]:
            return NM(named(inner), _whole(name, n), _whole(name, m))
        case "vnm", [v, n, m, inner]:
            return VNM(named(inner), *(_whole(name, x) for x in (v, n, m)))
        case "channels", [count, inner]:
            return Channels(named(inner), _whole(name, count))
        case "block", [rows, columns, inner, *room] if len(room) < 2:
            sizes = (_whole(name, x) for x in (rows, columns, *room))
            return Blocks(named(inner), *sizes)
        case "bitmap" | "csr" | "coo", [inner, *room] if len(room) < 2:
            cls = {"bitmap": Bitmap, "csr": Csr, "coo": Coo}[name]
            return cls(named(inner), *(_whole(name, n) for n in room))
        case "paged", [rows, inner, *pages] if len(pages) < 2:
            return Paged(named(inner), *(_whole(name, n) for n in (rows, *pages)))
        case "ragged", [inner, *room] if len(room) < 2:
            return Ragged(named(inner), *(_whole(name, n) for n in room))
        case "grouped", [room, rows, inner]:
            return Grouped(named(inner), _whole(name, room), _whole(name, rows))
        case "hashed", [capacity, probes, rows, inner]:
            return Hashed(named(inner), *(_whole(name, n) for n in (capacity, probes, rows)))
        case _:
            return None


def _generated(name: str, words: list[str]) -> Format:
    """A format whose elements no code times a scale gives."""
    match name, words:
        case "grid", [length, entries, piece, *rest] if len(rest) < 4:
            return _grid(_whole(name, length), _whole(name, entries), _whole(name, piece), rest)
        case "seedlm", [length, rank]:
            return Seeded(_whole(name, length), _whole(name, rank))
        case "dynamic", [inner, *elements] if len(elements) < 2:
            return dynamic(named(inner), *(_float(name, t) for t in elements))
        case "bitstack", [levels, rank]:
            return Signs(_whole(name, levels), _whole(name, rank))
        case "codebook", [width, *options]:
            return _codebook(_whole(name, width), options)
        case "coded", [element_, *rest] if len(rest) < 3:
            return Coded(_float(name, element_), *(_whole(name, n) for n in rest))
        case _:
            raise TileError(
                f"{name}: expected {COMPOSED[name]}, not {', '.join(words) or 'nothing'}"
            )


def _grid(length: int, entries: int, piece: int, rest: list[str]) -> Grid:
    """A grid; its signs, steps and shift are as ever unless given."""
    given = rest[0] if rest else "none"
    step = element(rest[1]) if len(rest) > 1 else STEP
    if step is None:
        raise TileError(f"grid: expected u1 to u8, not `{rest[1]}`")
    shift = _whole("grid", rest[2]) if len(rest) > 2 else 0
    for signs in SIGNS:
        if signs == given:
            return Grid(length, entries, piece, signs, step, shift)
    raise TileError(f"grid: no signs are called {given!r}; there are {', '.join(SIGNS)}")


def _codebook(width: int, words: list[str]) -> Codebook:
    """A codebook: the granularity of its tables by `rows` and `columns`, of scales by the rest."""
    name, options = "codebook", Options()
    for word in words:
        key, value = _option(name, word, TABLES)
        if key in options:
            raise TileError(f"{name}: `{key}` is given twice")
        options[key] = value
    sizes = {key: _whole(name, options[key]) for key in ("vector", "rows", "columns", "group")
             if key in options}  # fmt: skip
    tables, block = TENSOR, None
    if "rows" in options or "columns" in options:
        tables = Granularity(sizes.get("columns"), sizes.get("rows", 1))
    if {"group", "channel"} <= options.keys():
        raise TileError(f"{name}: expected a group or a channel, not both")
    if options.keys() & {"group", "channel", "scale"}:
        block = Granularity(sizes.get("group"))
    entry, scale = (_float(name, options.get(key, "f16")) for key in ("table", "scale"))
    return Codebook(width, sizes.get("vector", 1), tables, entry, block, scale)


def dynamic(inner: Format, dtype: DType = f32) -> Dynamic:
    """Floats that a kernel rounds to `inner`. Raises TileError if that is not scaled."""
    if not isinstance(inner, Scaled):
        raise TileError(f"dynamic: expected a scaled format such as int8<scale=f32>, not {inner}")
    return Dynamic(inner, dtype)


def _whole(name: str, text: str) -> int:
    if not text.isdecimal():
        raise TileError(f"{name}: expected a whole number, not `{text}`")
    return int(text)


def _float(name: str, text: str) -> DType:
    t = element(text)
    if t is None:
        raise TileError(f"{name}: expected f16, bf16 or f32, not `{text}`")
    return t


def split(text: str) -> list[str]:
    """The parts between commas that stand outside every bracket."""
    parts, depth = [""], 0
    for c in text:
        depth += (c in "([{<") - (c in ")]}>")
        if c == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += c
    return [p.strip() for p in parts] if text.strip() else []


def _read(text: str) -> tuple[str, Options | None]:
    """The element of a format and its options; None where it has no brackets."""
    found = _TEXT.fullmatch(text)
    name = found[1] if found else text.strip()
    known = element(name) is not None or name in INTEGERS or name in PUBLISHED
    if found is None or not known:
        close = difflib.get_close_matches(
            name, [*INTEGERS, *PUBLISHED, *COMPOSED, *BY_NAME, *CODES], 1
        )
        hint = f"did you mean `{close[0]}`?" if close else ""
        raise TileError(f"no format is called `{name}`", hint=hint)
    given: Options | None = None if found[2] is None else {}
    for word in split(found[2] or ""):
        key, value = _option(name, word)
        if given is None or key in given:
            raise TileError(f"{name}: `{key}` is given twice")
        given[key] = value
    if name not in PUBLISHED:
        return name, given
    base, options = _read(PUBLISHED[name].text)
    if given:
        block = {"group", "rows", "channel", "tensor"}
        kept = {k: v for k, v in (options or {}).items() if k not in block or not block & {*given}}
        options = kept | given
    return base, options


def _option(name: str, word: str, known: tuple[str, ...] = OPTIONS) -> tuple[str, str]:
    key, _, value = (part.strip() for part in word.partition("="))
    if key not in known or (key in ("channel", "tensor")) == bool(value):
        close = difflib.get_close_matches(key, known, 1)
        raise TileError(f"{name} has no option `{key}`; it has {', '.join(known)}",
                        hint=f"did you mean `{close[0]}`?" if close else "")  # fmt: skip
    return key, value


def _codes(name: str) -> DType:
    t = INTEGERS.get(name) or element(name)
    assert t is not None
    return t


def _block(name: str, options: Options) -> Granularity:
    sizes: dict[str, int] = {}
    for key in ("group", "rows"):
        value = options.get(key, "1")
        if not value.isdecimal():
            raise TileError(f"{name}: {key} is `{value}`, expected a whole number")
        if int(value) < 1:
            raise TileError(f"{name}: a {key} has at least 1 element, not {value}")
        sizes[key] = int(value)
    chosen = [k for k in ("group", "channel", "tensor") if k in options]
    if len(chosen) > 1 or ("tensor" in chosen and "rows" in options):
        raise TileError(f"{name}: expected a group or a block, not both")
    if "tensor" in options:
        return TENSOR
    if "group" in options or "rows" in options:
        return Granularity(sizes["group"] if "group" in options else None, sizes["rows"])
    return CHANNEL


def _number(name: str, text: str) -> Format:
    try:
        return named(text)
    except TileError as e:
        if _TEXT.fullmatch(text) and "<" not in text:
            raise TileError(f"{name}: scale is `{text}`, expected f16, bf16, f32, e8m0 or a "
                            "scaled format") from e  # fmt: skip
        raise


def _kind(name: str, text: str) -> Zero:
    for kind in ZEROS:
        if text == kind:
            return kind
    raise TileError(f"{name}: no zero is called {text!r}; there are {', '.join(ZEROS)}")


def scaled(
    codes: DType,
    group: int | None = None,
    *,
    rows: int = 1,
    block: Literal["channel", "tensor"] | None = None,
    scale: DType | Format | None = None,
    zero: Zero | None = None,
    zeros: DType | Format | None = None,
) -> Scaled:
    """The format of codes with a scale for each group of a row (or of `rows` rows), for each
    channel (a row, the default), or for the tensor. Raises TileError for what is no format."""
    if group is not None and block is not None:
        raise TileError(f"{codes}: expected a group or a block, not both")
    chosen = TENSOR if block == "tensor" else Granularity(group, rows)
    stored = _format(scale) if scale is not None else Dense(f16)
    return Scaled(codes, chosen, stored, zero or default_zero(codes),
                  None if zeros is None else _format(zeros))  # fmt: skip


def _format(of: DType | Format) -> Format:
    return Dense(of) if isinstance(of, DType) else of


def constructor(codes: DType) -> Callable[..., Scaled]:
    """The function `int4(group=128, scale=f16, zero="none")` for codes of a dtype."""

    def make(group: int | None = None, *, rows: int = 1,
             block: Literal["channel", "tensor"] | None = None,
             scale: DType | Format | None = None, zero: Zero | None = None,
             zeros: DType | Format | None = None) -> Scaled:  # fmt: skip
        return scaled(codes, group, rows=rows, block=block, scale=scale, zero=zero, zeros=zeros)

    make.__doc__ = scaled.__doc__
    make.__name__ = make.__qualname__ = f"{codes.kind}{codes.bits}"
    return make


QUANTISED = {name: constructor(t) for name, t in INTEGERS.items()}
