"""Printed lines keep the place of the op that they are printed for."""

from tilec.codegen.cuda.lines import pinned, relative

TEXT = """#include "decode.cuh"
TILEC_KERNEL(32) k(f32* y) {
  const u32 thread = thread_x();
  // y[m] = 1.0
#line 4 "k.tile"
#pragma unroll
  for (u32 i = 0; i < 4; i++) {
    store<1>(y + i, one, 0, true);
  }
#line 7 "k.tile"
  barrier();

  barrier();
}
"""


def placed(text: str) -> dict[str, int]:
    """The line that a compiler gives each line of a source after its first `#line`."""
    found: dict[str, int] = {}
    number = 0
    for line in text.splitlines():
        if line.startswith("#line"):
            number = int(line.split()[1])
            continue
        if number:
            found.setdefault(line.strip(), number)
            assert line.strip() in ("", "}") or found[line.strip()] == number
            number += 1
    return found


def test_each_line_is_at_the_place_of_the_last_directive():
    found = placed(pinned(TEXT))
    assert found["for (u32 i = 0; i < 4; i++) {"] == 4
    assert found["store<1>(y + i, one, 0, true);"] == 4
    assert found["barrier();"] == 7


def test_nothing_else_changes():
    kept = [line for line in pinned(TEXT).splitlines() if not line.startswith("#line")]
    assert kept == [line for line in TEXT.splitlines() if not line.startswith("#line")]
    assert pinned("a;\nb;\n") == "a;\nb;\n"


def test_files_are_named_from_where_they_are_found():
    at = '#line 4 "/a/b/c.py"\nx;\n  #line 5 "k.tile"\n'
    for roots, name in (
        (["/a"], "b/c.py"), (["/a", "/a/b", "/"], "c.py"), (["/other", ""], "c.py"),
        (["/a/b/c"], "c.py"), (["/"], "a/b/c.py"),
    ):  # fmt: skip
        assert relative(at, roots) == at.replace("/a/b/c.py", name)
    assert relative('say("#line 4 /a/b");\n', ["/a"]) == 'say("#line 4 /a/b");\n'
