"""Names and lines of source that try to leave the place where they are printed."""

from __future__ import annotations

import numpy as np
import pytest

from tilec import cuda, triton
from tilec.compile import Kernel
from tilec.ir.core import Func
from tilec.lang.kernel import Definition
from tilec.lang.text import parse
from tilec.runtime.nvrtc import compile_cuda
from tilec.runtime.triton import compile_each

TEXT = """kernel {k}({x}: f32[M], {y}: f32[M]) {{
  for m in tiles(M) {{ {y}[m] = {x}[m] * 2.0 {tail}
  }}
}}"""
DIMS = {"M": 128}


def doubled(
    k: str = "k", x: str = "x", y: str = "y", tail: str = "", file: str = "f"
) -> Definition:
    (found,) = parse(TEXT.format(k=k, x=x, y=y, tail=tail), file).values()
    return found


def runs_everywhere(definition: Definition) -> None:
    """The kernel runs on the CPU, and its GPU code is what compilers accept."""
    x = np.arange(100, dtype=np.float32)
    y = np.zeros_like(x)
    Kernel(definition)(x, y)
    assert (y == 2 * x).all()
    compiles(definition)


def compiles(definition: Definition) -> tuple[str, str]:
    from tilec.codegen.cuda.headers import device_headers
    from tilec.codegen.cuda.lines import pinned

    func = cuda.cuda_func(definition, DIMS)
    text = pinned(cuda.cuda_program(func).source.text)
    compile_cuda(text, "sm_80", headers=device_headers())
    source = triton.triton_program(definition, DIMS, {}, None).source
    compile_each(source, "sm_90", fresh=True)
    return text, source.text


NAMES = {
    "unicode": ("ядро", "ж", "é"), "C++": ("int", "class", "asm"),
    "CUDA": ("main", "__shared__", "threadIdx"), "Python": ("import_", "lambda", "None"),
    "Triton": ("triton", "tl", "x"), "long": ("k" * 10_000, "x" * 300, "y"),
    "ours": ("tilec_parallel", "tilec_threads", "y"), "C": ("malloc", "free", "memcpy"),
}  # fmt: skip


@pytest.mark.parametrize("which", NAMES)
def test_any_word_is_a_name(which: str) -> None:
    runs_everywhere(doubled(*NAMES[which]))


TAILS = {
    "separators": "// a\u2028evil();\u2029evil();\u0085evil();",
    "tabs and feeds": "// a\x0bevil();\x0cevil();\x1cevil();",
    "continued": "// a\\",
    "closed": "// */ evil(); /*",
    "quotes": '// """ \'\'\' evil() """',
    "directive": "// #include <evil.h>",
    "hidden": "// \u202e;)(live",
}


@pytest.mark.parametrize("which", TAILS)
def test_what_a_line_says_stays_a_comment(which: str) -> None:
    for text in compiles(doubled(tail=TAILS[which])):
        said = [line for line in text.splitlines() if "evil" in line]
        assert all(line.lstrip().startswith(("#", "//")) for line in said), said


FILES = ['a"\n#include "/etc/evil"\n//', 'a"; evil(); //', "a\\", "a\nevil()", "\u202eevil", "a\rb"]


@pytest.mark.parametrize("file", FILES)
def test_what_a_file_is_called_stays_a_string(file: str) -> None:
    for text in compiles(doubled(file=file)):
        for line in text.splitlines():
            assert "evil" not in line or line.startswith("#line") or line.lstrip().startswith("# ")


FUNCTIONS = [
    'k"b',
    "k\nevil()",
    "*/ evil(); /*",
    '"""\nevil()',
    "k\0",
    "../../k",
    "-o/k",
    ";rm k",
    "k\u202e",
]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_may_be_called_anything(name: str) -> None:
    """Front ends take words only; a function can be made without one."""
    from tilec.codegen.cpu import emit as for_cpu
    from tilec.codegen.cuda import emit as for_cuda
    from tilec.codegen.triton import emit as for_triton
    from tilec.compile import engine
    from tilec.cpu import Schedule
    from tilec.passes import run

    plain = doubled().ir()
    func = Func(name, plain.body)
    pool = engine().pool.threads
    low = run(Schedule().steps(DIMS, pool), func)
    texts = [
        for_cpu(low, (), engine().machine.cpu, engine().machine.features, pool),
        for_cuda(Func(name, cuda.cuda_func(doubled(), DIMS).body)),
        for_triton(Func(name, triton.triton_program(doubled(), DIMS, {}, None).func.body)),
    ]
    for source in texts:
        assert name not in source.text
        assert source.entry.isascii()
        assert source.entry.replace(".", "_").isidentifier()
