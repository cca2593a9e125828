"""Listings as values: both tools give the same instructions, and the resources are cuobjdump's."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from sass.kernels import PIPELINE, RESOURCES, built, listed, tool_of_triton

from tilec.sass.listing import Instruction, Line, Resources, parse

TARGETS = ("sm_80", "sm_90a", "sm_120a")
LISTING = """	.target	sm_90a
//--------------------- .nv.info                  --------------------------
	.section	.nv.info,"",@"SHT_CUDA_INFO"
	//----- nvinfo : EIATTR_REGCOUNT
        /*0004*/ 	.word	index@(k)
        /*0008*/ 	.word	0x0000001e
        /*000c*/ 	.word	index@(other)
        /*0010*/ 	.word	0x000000ff
	//----- nvinfo : EIATTR_MIN_STACK_SIZE
        /*0014*/ 	.word	index@(k)
        /*0018*/ 	.word	0x00000010
	.section	.nv.info.k,"",@"SHT_CUDA_INFO"
	//----- nvinfo : EIATTR_MAX_THREADS
        /*006c*/ 	.word	0x00000040
        /*0070*/ 	.word	0x00000002
        /*0074*/ 	.word	0x00000001
	.section	.text.k,"ax",@progbits
        .size           k,(.L_x_2 - k)
k:
.text.k:
        /*0000*/                   LDC R1, c[0x0][0x28] ;
	//## File "a.cuh", line 3 inlined at "b.tile", line 7
	//## File "b.tile", line 7
        /*0010*/                   HGMMA.64x8x16.F32 R24, R4, gdesc[UR4], R24, gsb0 ;
.L_x_1:
        /*0020*/              @!P0 BRA `(.L_x_1) ;
	//## File "b.tile", line 9
        /*0030*/               @UP1 UIADD3 UR4, UR4, 0x1, URZ ;  /* 0x00000a00ff017b82 */
                                                               /* 0x000fe20000000800 */
.L_x_2:
	.section	.nv.shared.k,"aw",@nobits
.nv.shared.k:
	.zero		1536
"""


def test_every_part_of_a_listing():
    (found,) = parse(LISTING)
    assert (found.name, found.target) == ("k", "sm_90a")
    # Of 1536 bytes 1024 are the driver's.
    assert found.resources == Resources(registers=30, stack=16, shared=512, threads=128)
    assert found.labels == {"k": 0, ".text.k": 0, ".L_x_1": 32}
    multiplied = ("64x8x16", "F32", "RS")  # the left operand is R4
    line = Line("b.tile", 7)
    assert found.instructions == (
        Instruction(0x00, "LDC", (), "R1, c[0x0][0x28]"),
        Instruction(0x10, "HGMMA", multiplied, "R24, R4, gdesc[UR4], R24, gsb0", "", line),
        Instruction(0x20, "BRA", (), "`(.L_x_1)", "@!P0", line),
        Instruction(0x30, "UIADD3", (), "UR4, UR4, 0x1, URZ", "@UP1", Line("b.tile", 9)),
    )
    assert parse("") == ()


def test_targets_of_old_listings():
    for flags, target in (
        ("EF_CUDA_TEXMODE_UNIFIED EF_CUDA_SM80 EF_CUDA_VIRTUAL_SM(EF_CUDA_SM80)", "sm_80"),
        ("EF_CUDA_ACCELERATORS EF_CUDA_SM90 EF_CUDA_VIRTUAL_SM(EF_CUDA_SM90)", "sm_90a"),
    ):
        text = LISTING.replace("	.target	sm_90a", f'	.headerflags	@"{flags}"')
        assert parse(text)[0].target == target


@pytest.mark.parametrize("target", TARGETS)
def test_both_tools_give_the_same_instructions(target: str, tmp_path: Path):
    pytest.importorskip("triton")
    cubin = built(PIPELINE, target).cubin
    (mine,) = listed(PIPELINE, target)
    (theirs,) = parse(tool_of_triton("cuobjdump", "-sass", cubin=cubin, folder=tmp_path))
    assert len(mine.instructions) > 50
    assert (mine.target, mine.name) == (theirs.target, theirs.name) == (target, "k")
    for a, b in zip(mine.instructions, theirs.instructions, strict=True):
        assert (a.address, a.predicate, a.name) == (b.address, b.predicate, b.name)
        assert "`" in a.operands or a.operands == b.operands


@pytest.mark.parametrize("target", TARGETS)
def test_resources_are_those_of_cuobjdump(target: str, tmp_path: Path):
    pytest.importorskip("triton")
    cubin = built(RESOURCES, target).cubin
    text = tool_of_triton("cuobjdump", "-res-usage", cubin=cubin, folder=tmp_path)
    pattern = r"Function (\w+):\s+REG:(\d+) STACK:(\d+) SHARED:(\d+)"
    theirs = {name: tuple(map(int, n)) for name, *n in re.findall(pattern, text)}
    mine = {f.name: f.resources for f in listed(RESOURCES, target)}
    assert mine.keys() == theirs.keys() == {"reversed", "scaled", "spilled"}
    for name, own in mine.items():
        registers, stack, shared = theirs[name]
        assert (own.registers, own.stack) == (registers, stack)
        assert own.shared in (shared, shared - 1024)
    assert mine["reversed"].shared == 1200  # what ptxas says, and the source
    assert [mine[n].threads for n in ("reversed", "scaled", "spilled")] == [128, 0, 1024]
    assert mine["spilled"].stack > 0


def test_lines_are_those_of_the_kernel():
    """Not those of the function that is inlined, and under the names that `#line` gives."""
    (found,) = listed(PIPELINE, "sm_90a")
    lines = {i.name: i.line for i in found.instructions}
    source = PIPELINE.split('#line 1 "pipeline.tile"\n')[1].splitlines()
    for name, word in (
        ("LDGSTS.E.BYPASS.128", "cp.async.cg"), ("LDSM.16.M88.4", "ldmatrix"),
        ("HMMA.16816.F32", "mma.sync"), ("STG.E", "y["),
    ):  # fmt: skip
        line = lines[name]
        assert line is not None
        assert Path(line.file).name == "pipeline.tile"
        first = next(i for i, text in enumerate(source, 1) if word in text)
        last = next(i for i, text in enumerate(source, 1) if i >= first and text.endswith(";"))
        assert first <= line.number <= last, name
