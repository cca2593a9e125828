"""Reading PTX: places, declarations, and one clear error for what can't be read."""

from __future__ import annotations

import numpy as np
import pytest
from ptx.running import HEADER, kernel

from tilec import ptx
from tilec.ir.errors import TileError
from tilec.ptx.operand_text import split
from tilec.ptx.place import Place, SourceLine
from tilec.ptx.source import read

LOCATED = f"""{HEADER}
.visible .entry k(.param .u64 out)
{{
	.reg .b64 %rd<4>;
	.loc	1 12 3
	ld.param.u64 %rd1, [out];   // a comment; with ( brackets {{
	.loc	2 7 1, function_name $L__info_string1, inlined_at 1 12 3
	ld.global.u64 %rd2, [%rd1+800]; /* another
	comment */
	.loc 1 0 9
	ret;
}}
	.file	1 "kernels/scale.cu"
	.file	2 "include" "load.h"
	.section	.debug_str
	{{
info_string1:
.b8 1, 2
	}}
"""


def test_findings_name_the_source_line():
    (finding,) = ptx.load(LOCATED).run("k", 1, 1, [np.zeros(1, np.uint64)]).findings
    assert finding.place == Place(
        11, (SourceLine("include/load.h", 7), SourceLine("kernels/scale.cu", 12))
    )
    assert str(finding.place) == "load.h:7 called at scale.cu:12 (PTX line 11)"
    assert finding.text == "ld.global.u64 %rd2, [%rd1+800]"


def test_places_are_followed_through_calls_of_calls():
    """A `.loc` says only the call right around it."""
    text = LOCATED.replace("\t.loc\t2 7 1,", "\t.loc\t2 9 5, function_name $L__info_string2, "
                           "inlined_at 1 12 3\n\t.loc\t3 4 1,").replace(
        "$L__info_string1, inlined_at 1 12 3", "$L__info_string1, inlined_at 2 9 5"
    ).replace('"load.h"', '"load.h"\n\t.file\t3 "deep.h"')  # fmt: skip
    (finding,) = ptx.load(text).run("k", 1, 1, [np.zeros(1, np.uint64)]).findings
    assert str(finding.place).startswith("deep.h:4 called at load.h:9 called at scale.cu:12 (")


def test_findings_can_be_suppressed_by_kind_and_line():
    out = [np.zeros(1, np.uint64)]
    module = ptx.load(LOCATED)

    def found(*suppress: ptx.Suppression) -> int:
        return len(module.run("k", 1, 1, out, suppress=suppress).findings)

    assert found() == 1
    assert found(ptx.Suppression("bounds")) == 0
    assert found(ptx.Suppression("race")) == 1
    assert found(ptx.Suppression("bounds", 11)) == 0
    assert found(ptx.Suppression("bounds", 12)) == 1
    assert found(ptx.Suppression(line=7, file="load.h")) == 0
    assert found(ptx.Suppression(line=8, file="load.h")) == 1
    with pytest.raises(TileError, match="no finding is of kind 'rice'"):
        ptx.Suppression("rice")
    with pytest.raises(TileError, match="needs a kind or a line"):
        ptx.Suppression()


def test_declarations():
    text = f"""{HEADER}
.extern .func (.param .b32 r) vprintf(.param .b64 f, .param .b64 a);
.extern .shared .align 1024 .b8 dynamic[];
.global .align 1 .b8 words[6] = {{104, 105, 0x21, 0}};
.const .f32 pi = 0f40490FDB;
.visible .entry first(.param .u64 .ptr .global .align 16 first_p, .param .align 64 .b8 map[128])
.maxntid 128, 1, 1
.minnctapersm 2
{{ ret; }}
.weak .entry second() {{ ret; }}
"""
    source = read(text)
    assert ptx.load(text).names == ("first", "second")
    first = source.functions["first"]
    assert first.attributes == ".maxntid 128, 1, 1 .minnctapersm 2"
    assert ptx.load(text).kernel("first").block == (128, 1, 1)
    assert ptx.load(text).kernel("second").block is None
    assert [(p.name, p.size, p.align) for p in first.parameters] == [
        ("first_p", 8, 8), ("map", 128, 64),
    ]  # fmt: skip
    assert source.variables["words"].values == b"hi!\0"
    assert source.variables["words"].size == 6
    assert source.variables["pi"].values == np.float32(np.pi).tobytes()
    assert source.variables["dynamic"].extern
    assert source.header == {"version": "9.0", "target": "sm_90a", "address_size": "64"}


def test_blanks_may_be_left_out():
    out = np.zeros(1, np.uint32)
    body = (
        "{.reg.b32 x,y<2>;mov.u32 x,5;mov.u32 y1,x;ld.param.u64 %rd1,[out];st.global.b32[%rd1],y1;}"
    )
    assert kernel(body).run("k", 1, 1, [out]).clean
    assert out[0] == 5


def test_operands_split_at_the_outer_commas():
    assert split("{%r1,%r2}, [%rd1, {%r3, %r4}], 0x0") == ["{%r1,%r2}", "[%rd1, {%r3, %r4}]", "0x0"]
    assert split("") == []


BAD = {
    "frobnicate.b32 %r1, %r2;": "'frobnicate' is not an instruction known here",
    "add.strange.u32 %r1, %r2, %r3;": "add with .strange is not known here",
    "add.b8 %r1, %r2, %r3;": "add is not known for .b8 here",
    "lop3.b32 %r1, %r2, %r3;": "lop3 does not take 3 operands",
    "mma.sync.aligned.m16n8k8.row.col.f32.s8.s8.s99 %r1, %r2, %r3, %r4;": "with .s99 is not known",
    "bra NOWHERE;": "there is no label NOWHERE",
    "mov.u32 %r1, %nothing;": "nothing is called %nothing",
    "mov.u32 %r1, missing;": "nothing is called missing",
    "@%r1 mov.u32 %r1, 0;": "%r1 is no predicate",
    "call.uni (a), b, (c);": "the call of b can't be inlined",
    ".reg .b128 %x;": "registers of type .b128 are not supported",
    "mov.u32 %r1, 12x;": "'12x' is no whole number",
    "ld.global.b32 %r1, %rd1;": "%rd1 is no address",
}


@pytest.mark.parametrize("text", BAD)
def test_what_can_t_be_run_is_one_clear_error(text):
    out = np.zeros(1, np.uint32)
    body = f"ld.param.u64 %rd1, [out]; st.global.b32 [%rd1], 7;\n{text}"
    with pytest.raises(TileError) as caught:
        kernel(body).run("k", 1, 1, [out])
    assert BAD[text] in caught.value.message
    if "number" not in BAD[text] and ".reg" not in text and "address" not in BAD[text]:
        assert "PTX line 9" in caught.value.message
        assert out[0] == 0, "nothing runs before the error"


def test_texts_that_are_no_modules():
    for text, message in (
        ("", "there is no .entry in this text"),
        ("int main() {}", "line 1: can't read 'int main"),
        (HEADER + ".visible .entry k() { ret;", "the body that begins at line 4 has no end"),
        (HEADER + ".visible .entry k() { nonsense }", "can't read this part of k"),
    ):
        with pytest.raises(TileError, match=message.replace("(", r"\(")):
            ptx.load(text).kernel()


def test_kernels_are_found_by_name():
    module = ptx.load(HEADER + ".entry a() { ret; } .entry b() { ret; }")
    assert module.kernel("b").name == "b"
    with pytest.raises(TileError, match="there are several kernels: a, b"):
        module.kernel()
    with pytest.raises(TileError, match="no kernel is called 'c'; there are a, b"):
        module.kernel("c")
    for grid, block, message in (
        (0, 1, "is empty"), (1, 2000, "at most 1024 threads"), ((1, 1, 1, 1), 1, "is no size"),
    ):  # fmt: skip
        with pytest.raises(TileError, match=message):
            module.run("a", grid, block, [])


def test_clusters_have_one_block():
    text = HEADER + ".visible .entry k() .explicitcluster .reqnctapercluster {}, 1, 1 {{ ret; }}"
    assert ptx.load(text.format(1)).run("k", 1, 1, []).clean
    with pytest.raises(TileError, match="k wants clusters of 2, 1, 1 blocks"):
        ptx.load(text.format(2)).kernel()


def test_recursion_is_refused():
    text = f"""{HEADER}
.func loop() {{ call.uni loop; ret; }}
.visible .entry k() {{ call.uni loop; ret; }}
"""
    with pytest.raises(TileError, match="loop calls itself"):
        ptx.load(text).kernel()


def test_reports_read_well():
    out = np.zeros(1, np.uint64)
    text = str(ptx.load(LOCATED).run("k", 1, 64, [out]))
    assert "k: 64 threads, 6 warp instructions" in text
    assert "load.h:7 called at scale.cu:12 (PTX line 11): bounds: thread 0 of block 0" in text
    assert "(64 times)" in text
    clean = str(kernel("ret;").run("k", 1, 1, [out]))
    assert "nothing wrong was found" in clean
