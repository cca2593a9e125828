"""The table of atoms against ptxas: what assembles where, with how many registers, as what.

Triton's wheel has ptxas and nvdisasm. No GPU is needed.
"""

import importlib.util
import re
import subprocess
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import pytest

from tilec.ir.layout.atoms import BITS, GPUS, Atom, atom, atoms

pytestmark = pytest.mark.slow

PTX = {"i8": "s8", "i4": "s4", "u1": "b1", "i32": "s32"}
TARGETS = ("sm_70", "sm_75", *GPUS)
WARP = [a for a in atoms().values() if a.instruction.startswith("mma")]
COLUMNS = (8, 24, 40, 128, 256)
WARPGROUP = [a for a in atoms().values() if a.instruction.startswith("wgmma") and a.n in COLUMNS]


@pytest.fixture(scope="module")
def tools() -> Path:
    spec = importlib.util.find_spec("triton")
    folder = (
        Path(spec.origin).parent / "backends" / "nvidia" / "bin" if spec and spec.origin else None
    )
    if folder is None or not (folder / "ptxas").exists():
        pytest.skip("needs the ptxas of Triton's wheel for Linux")
    return folder


def forms(row: Atom) -> Iterator[tuple[str, ...]]:
    """Every combination of types that a row stands for, and of where A is."""
    return product((row.a_type,), row.b_types, row.c_types, row.a_in)


def kernel(row: Atom, form: tuple[str, ...], name: str) -> str:
    """One instruction, its registers loaded and stored so that it is kept."""
    *types, a_in = form
    a, b, c = (PTX.get(t, t) for t in types)
    kind = "f32" if c == "f32" else "b32"
    wide = {"a": (row.a, types[0]), "b": (row.b, types[1]), "c": (row.c, types[2])}
    if a_in == "shared":
        del wide["a"]
    counts = {n: x.bits_per_thread(BITS[t]) // 32 for n, (x, t) in wide.items() if x}
    counts |= {"e": 1} if row.sparse else {}
    names = {n: [f"%{n}{i}" for i in range(count)] for n, count in counts.items()}
    lists = {n: "{" + ", ".join(found) + "}" for n, found in names.items()}
    body = [f".reg .{kind if n == 'c' else 'b32'} %{n}<{count}>;" for n, count in counts.items()]
    flat = [r for found in names.values() for r in found]
    types_of = {r: kind if r in names["c"] else "b32" for r in flat}
    body += [f"ld.global.{types_of[r]} {r}, [%p+{512 * i}];" for i, r in enumerate(flat)]
    body += instruction(row, lists, a, b, c)
    body += [f"st.global.{kind} [%p+{512 * i}], {r};" for i, r in enumerate(names["c"])]
    text = "\n  ".join(body)
    return f"""
.visible .entry {name}(.param .u64 at) {{
  .reg .b64 %p, %q; .reg .b32 %t; .reg .pred %yes;
  ld.param.u64 %p, [at];
  mov.u32 %t, %tid.x;
  mul.wide.u32 %q, %t, 4;
  add.u64 %p, %p, %q;
  setp.ne.u32 %yes, %t, 5;
  {text}
  ret;
}}
"""


def instruction(row: Atom, lists: dict[str, str], a: str, b: str, c: str) -> list[str]:
    """The instruction as PTX writes it."""
    shape = f"m{row.m}n{row.n}k{row.k}"
    metadata = ", %e0, 0" if row.sparse else ""
    if row.instruction.startswith("wgmma"):
        scales = "" if a in ("s8", "u8", "b1") else ", 1, 1"
        majors = ", 0" * (2 - ("a" in lists)) if BITS[row.a_type] == 16 else ""
        bits = ".and.popc" if a == "b1" else ""
        sparse = ".sp" if row.sparse else ""
        return [
            "wgmma.fence.sync.aligned;",
            f"wgmma.mma_async{sparse}.sync.aligned.{shape}.{c}.{a}.{b}{bits} "
            f"{lists['c']}, {lists.get('a', '%q')}, %q{metadata}, %yes{scales}{majors};",
            "wgmma.commit_group.sync.aligned;",
            "wgmma.wait_group.sync.aligned 0;",
        ]
    bits = (".xor.popc" if "xor" in row.name else ".and.popc") if a == "b1" else ""
    sparse = ".sp::ordered_metadata" if row.sparse else ""
    return [
        f"mma{sparse}.sync.aligned.{shape}.row.col.{c}.{a}.{b}.{c}{bits} "
        f"{lists['c']}, {lists['a']}, {lists['b']}, {lists['c']}{metadata};"
    ]


def assemble(tools: Path, folder: Path, target: str, kernels: list[str]) -> str:
    """The errors of ptxas, or nothing and `k.cubin` in the folder."""
    text = f".version 8.8\n.target {target}\n.address_size 64\n" + "".join(kernels)
    (folder / "k.ptx").write_text(text)
    command = [tools / "ptxas", "-arch", target, "k.ptx", "-o", "k.cubin"]
    done = subprocess.run(command, cwd=folder, check=False, capture_output=True, text=True)
    return done.stderr if done.returncode else ""


def matrix_instructions(tools: Path, folder: Path) -> dict[str, list[str]]:
    """The matrix instructions of each function of `k.cubin`."""
    command = [tools / "nvdisasm", "-c", folder / "k.cubin"]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    sections = re.split(r"^\.text\.(\w+):$", text, flags=re.MULTILINE)[1:]
    found = zip(sections[::2], sections[1::2], strict=True)
    return {name: re.findall(r"\b([HIQB]G?MMA[\w.]*)", body) for name, body in found}


def is_native(row: Atom, used: list[str]) -> bool:
    """Whether these are one instruction, of the row's own shape."""
    own = f"64x{row.n}x{row.k}" if row.m == 64 else f"{row.m}{row.n}{row.k}"
    return len(used) == 1 and own in used[0].split(".") and row.sparse == (".SP" in used[0])


@pytest.mark.parametrize("target", GPUS)
def test_what_is_native(tools: Path, tmp_path: Path, target: str):
    rows = [a for a in WARP if TARGETS.index(a.first) <= TARGETS.index(target)]
    rows += WARPGROUP if target == "sm_90a" else []
    pairs = ((row, form) for row in rows for form in forms(row))
    named = {f"k{i}": pair for i, pair in enumerate(pairs)}
    kernels = [kernel(row, form, name) for name, (row, form) in named.items()]
    assert assemble(tools, tmp_path, target, kernels) == ""
    used = matrix_instructions(tools, tmp_path)
    assert set(used) == set(named)
    wrong = {
        f"{row.name} {form}": used[name]
        for name, (row, form) in named.items()
        if is_native(row, used[name]) != (target in row.native)
    }
    assert wrong == {}


@pytest.mark.parametrize("row", [a for a in WARP if a.first != "sm_75"], ids=lambda a: a.name)
def test_what_does_not_assemble_before_its_first_target(tools: Path, tmp_path: Path, row: Atom):
    before = TARGETS[TARGETS.index(row.first) - 1]
    text = kernel(row, next(forms(row)), "k")
    assert assemble(tools, tmp_path, row.first, [text]) == ""
    assert "require" in assemble(tools, tmp_path, before, [text])


def test_shapes_that_a_warpgroup_lacks(tools: Path, tmp_path: Path):
    """Bytes and bits have fewer widths; no target but sm_90a has any."""
    row = atom("wgmma.m64n24k32.i8")
    text = kernel(row, ("i8", "i8", "i32", "shared"), "k")
    assert assemble(tools, tmp_path, "sm_90a", [text]) == ""
    assert assemble(tools, tmp_path, "sm_90a", [text.replace("n24", "n40")]) != ""
    assert assemble(tools, tmp_path, "sm_90", [text]) != ""
    assert assemble(tools, tmp_path, "sm_100a", [text]) != ""
