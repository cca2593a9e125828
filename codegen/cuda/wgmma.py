"""The device body of `wgmma`: an asm statement has up to 128 accumulators by name, so each shape
that a kernel uses is printed with it. The host body is one template."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from tilec.ir.errors import TileError

# Elements -> how many of them are 32 bytes, the depth of one wgmma; and which may be multiplied.
DEPTHS = {"f16": 16, "bf16": 16, "tf32": 8, "e4m3": 32, "e5m2": 32, "s8": 32, "u8": 32, "b1": 256}
_FAMILIES = (("f16",), ("bf16",), ("tf32",), ("e4m3", "e5m2"), ("s8", "u8"), ("b1",))
_INTEGERS = ("s8", "u8", "b1")
_HALVES = ("f16", "bf16")


@dataclass(frozen=True)
class Wgmma:
    """One shape: 64 x `n`, elements of A and B, the accumulators' type; A from registers or shared
    memory, and which operands are MN-major; whether A is sparse. (PTX ISA, wgmma.mma_async and
    wgmma.mma_async.sp.)"""

    n: int
    a: str
    b: str
    sum: str = "f32"
    a_in_registers: bool = False
    a_mn: bool = False
    b_mn: bool = False
    selector: int | None = None  # of a sparse A: which lanes have the places

    def __post_init__(self) -> None:
        if self.n % 8 or not 8 <= self.n <= 256:
            raise TileError(f"wgmma of {self.n} columns, expected a multiple of 8 up to 256")
        if self.a in _INTEGERS and self.n > 32 and self.n % 16:
            raise TileError(f"wgmma of {self.n} columns of {self.a}, expected a multiple of 16")
        if not any(self.a in family and self.b in family for family in _FAMILIES):
            raise TileError(f"wgmma does not multiply {self.a} by {self.b}")
        if self.sum not in self._sums:
            raise TileError(f"wgmma of {self.a} adds up in {self._sums}, not {self.sum}")
        if (self.a_mn or self.b_mn) and self.a not in _HALVES:
            raise TileError(f"wgmma of {self.a}: only elements of 16 bits may be MN-major")
        if self.sparse and (self.a == "b1" or self.a_mn):
            raise TileError(f"wgmma: a sparse A is K-major and has no elements of {self.a}")
        if self.a_in_registers and self.a_mn:
            raise TileError("wgmma: registers are neither K-major nor MN-major")

    @property
    def sparse(self) -> bool:
        """Whether of A two of every four columns are stored."""
        return self.selector is not None

    @property
    def _sums(self) -> tuple[str, ...]:
        if self.a in _INTEGERS:
            return ("s32",)
        return ("f32", "f16") if self.a in ("f16", "e4m3", "e5m2") else ("f32",)

    @property
    def _registers(self) -> int:
        return self.n // (4 if self.sum == "f16" else 2)

    def text(self) -> str:
        """The specialisation of the template that device/tensor.cuh declares."""
        count, c_type = self._registers, {"f32": "f32", "s32": "s32", "f16": "u32"}[self.sum]
        inputs = count + (4 if self.a_in_registers else 1)
        a = ", ".join(f"%{i}" for i in range(count, inputs))
        tail = "".join(f", {flag}" for flag in self._flags())
        b1 = ".and.popc" if self.a == "b1" else ""
        depth = DEPTHS[self.a] * (2 if self.sparse else 1)
        name = f"m64n{self.n}k{depth}.{self.sum}.{self.a}.{self.b}{b1}"
        places = f", %{inputs + 1}, {self.selector}" if self.sparse else ""
        predicate = inputs + (2 if self.sparse else 1)
        kind = ".sp" if self.sparse else ""
        d = ", ".join(f"%{i}" for i in range(count))
        a = f"{{{a}}}" if self.a_in_registers else a
        a_inputs = [f'"r"(a[{i}])' for i in range(4)] if self.a_in_registers else ['"l"(a)']
        letter = "f" if self.sum == "f32" else "r"
        outputs = [f'"+{letter}"(d[{i}])' for i in range(count)]
        return "\n".join(
            [
                f"template <> __device__ __forceinline__ void {self.name}(",
                f"    {c_type} (&d)[{count}], {self._a_parameter()}, u64 b{self._metadata()}"
                "bool accumulate) {",
                f'  asm volatile("{{\\n.reg .pred p;\\nsetp.ne.u32 p, %{predicate}, 0;\\n"',
                f'               "wgmma.mma_async{kind}.sync.aligned.{name} "',
                *_wrapped(f"{{{d}}}, {a}, %{inputs}{places}, p{tail};"),
                '               "\\n}"',
                *_listed("               : ", outputs),
                *_listed(
                    "               : ",
                    [*a_inputs, '"l"(b)', *self._given(), '"r"((u32)accumulate)'],
                ),
                "  );",
                "}",
            ]
        )

    @property
    def name(self) -> str:
        """The function of this shape."""
        majors = [self.b_mn] if self.a_in_registers else [self.a_mn, self.b_mn]
        if self.sparse:
            return f"wgmma_sp<{self.n}, {self.a}, {self.b}, {self.selector}, {_said(self.b_mn)}>"
        flags = "".join(f", {_said(flag)}" for flag in majors)
        return f"wgmma<{self.n}, {self.a}, {self.b}{flags}>"

    def _metadata(self) -> str:
        return ", u32 metadata, " if self.sparse else ", "

    def _given(self) -> list[str]:
        return ['"r"(metadata)'] if self.sparse else []

    def _a_parameter(self) -> str:
        return "const u32 (&a)[4]" if self.a_in_registers else "u64 a"

    def _flags(self) -> list[int]:
        """Signs of A and B, then which are MN-major, where the elements have these flags."""
        if self.a in _INTEGERS:
            return []
        if self.a not in _HALVES:
            return [1, 1]
        majors = [self.b_mn] if self.a_in_registers else [self.a_mn, self.b_mn]
        return [1, 1, *(int(flag) for flag in majors)]


def _said(flag: bool) -> str:
    return str(flag).lower()


def device_wgmma(shapes: Iterable[Wgmma]) -> str:
    """What a kernel prints after its #include and before its first wgmma; hosts skip it."""
    texts = "\n".join(shape.text() for shape in dict.fromkeys(shapes))
    guard = "#if defined(__CUDACC__) && TILEC_HOPPER"
    return f"{guard}\nnamespace tilec {{\n{texts}\n}}  // namespace tilec\n#endif\n"


def _wrapped(operands: str) -> list[str]:
    """A string literal over several lines."""
    lines: list[str] = []
    line = ""
    for word in operands.split(" "):
        if len(line) + len(word) > 70:
            lines.append(line)
            line = ""
        line += word + " "
    return [f'               "{text}"' for text in [*lines, line.rstrip()]]


def _listed(head: str, items: list[str]) -> list[str]:
    """A comma list, four items a line."""
    rows = [", ".join(items[i : i + 4]) for i in range(0, len(items), 4)]
    return [(head if i == 0 else " " * len(head)) + row + ("," if i < len(rows) - 1 else "")
            for i, row in enumerate(rows)]  # fmt: skip
