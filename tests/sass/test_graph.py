"""Control flow: blocks, loops and the steady way round them, on small programs and real ones."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from sass.kernels import PIPELINE, RESOURCES, built, listed, tool_of_triton

from tilec.sass.graph import blocks_of, loops_of, main_loop
from tilec.sass.listing import Function, parse

COPY = "LDGSTS.E.128 [R1], [R2.64]"
MULTIPLY = "HMMA.16816.F32 R4, R8, R12, R4"


def program(*lines: str) -> Function:
    """Instructions and labels as a function."""
    text = ["\t.target\tsm_90", '\t.section\t.text.k,"ax",@progbits']
    address = 0
    for line in lines:
        if line.endswith(":"):
            text.append(line)
            continue
        predicate, rest = line.split(" ", 1) if line.startswith("@") else ("", line)
        text.append(f"        /*{address:04x}*/ {predicate:>8} {rest} ;")
        address += 16
    (found,) = parse("\n".join(text))
    return found


def steady(*lines: str) -> list[str]:
    """The opcodes of the main loop."""
    return [i.opcode for i in main_loop(program(*lines))]


def test_blocks_end_at_jumps_and_begin_at_their_targets():
    blocks = blocks_of(
        program("MOV R1, R2", ".L_1:", "MOV R2, R3", "@P0 BRA `(.L_1)", "@P1 EXIT", "NOP", "EXIT")
    )
    assert [[i.opcode for i in b.instructions] for b in blocks] == [
        ["MOV"], ["MOV", "BRA"], ["EXIT"], ["NOP", "EXIT"],
    ]  # fmt: skip
    assert [b.successors for b in blocks] == [(1,), (2, 1), (3,), ()]


@pytest.mark.parametrize(
    ("jump", "successors"),
    [
        ("BRA `(.L_1)", (2,)),
        ("@PT BRA `(.L_1)", (2,)),
        ("@P0 BRA `(.L_1)", (1, 2)),
        ("BRA 0x20", (2,)),
        ("BRA.DIV UR4, `(.L_1)", (1, 2)),
        ("BRA.U UP0, 0x20", (1, 2)),
        ("CALL.REL.NOINC `(.L_1)", (1, 2)),
        ("CALL.REL.NOINC `($other)", (1,)),
        ('BRX R4 -0x80 (*"BRANCH_TARGETS .L_0,.L_1,.L_2"*)', (0, 2, 3)),
        ("EXIT", ()),
        ("@P0 RET.REL.NODEC R2 `(k)", (1,)),
    ],
)
def test_where_a_jump_goes(jump: str, successors: tuple[int, ...]):
    blocks = blocks_of(
        program(".L_0:", jump, "EXIT", ".L_1:", "NOP", "EXIT", ".L_2:", "MOV R1, R2", "EXIT")
    )
    first = [b for b in blocks if b.instructions[-1].address == 0]
    places = [blocks[n].instructions[0].address // 16 for n in first[0].successors]
    names = {0: 0, 1: 1, 2: 2, 4: 3}
    assert tuple(names[p] for p in places) == successors


def test_the_epilogue_in_the_loop_is_left_out_and_the_copies_are_not():
    """As ptxas leaves a loop over slices of k in one over tiles: one latch for both."""
    assert steady(
        ".L_1:",
        "@P1 BRA `(.L_2)",
        COPY,
        ".L_2:",
        MULTIPLY,
        "@!P0 BRA `(.L_3)",
        "LDG.E.128 R20, [R2.64]",
        "FADD R4, R4, R20",
        "STG.E [R2.64], R4",
        ".L_3:",
        "@P2 BRA `(.L_1)",
        "EXIT",
    ) == ["BRA", "LDGSTS", "HMMA", "BRA", "BRA"]


def test_the_inmost_loop_with_half_of_the_work():
    outer = (".L_1:", "MOV R1, R2", ".L_2:", MULTIPLY, MULTIPLY, "@P0 BRA `(.L_2)")
    tail = ("FADD R1, R1, R2", "@P1 BRA `(.L_1)", "EXIT")
    assert steady(*outer, *tail) == ["HMMA", "HMMA", "BRA"]
    assert steady(*outer, MULTIPLY, MULTIPLY, *tail) == ["HMMA", "HMMA", "BRA"]
    # With most of the work outside, the inner loop is one turn of the outer.
    assert steady(*outer, MULTIPLY, MULTIPLY, MULTIPLY, *tail) == [
        "MOV", "HMMA", "HMMA", "BRA", "HMMA", "HMMA", "HMMA", "FADD", "BRA",
    ]  # fmt: skip


def test_of_loops_side_by_side_that_with_the_most_work():
    remainder = (".L_2:", MULTIPLY, "@P0 BRA `(.L_2)", "EXIT")
    unrolled = (".L_1:", COPY, MULTIPLY, MULTIPLY, "@P0 BRA `(.L_1)")
    assert steady(*unrolled, *remainder) == ["LDGSTS", "HMMA", "HMMA", "BRA"]


def test_a_loop_with_two_ends():
    both = (".L_1:", MULTIPLY, "@P0 BRA `(.L_1)", "FADD R4, R4, R20", "@P1 BRA `(.L_1)", "EXIT")
    assert steady(*both) == ["HMMA", "BRA"]
    late = (".L_1:", MULTIPLY, "@P0 BRA `(.L_1)", MULTIPLY, "@P1 BRA `(.L_1)", "EXIT")
    assert steady(*late) == ["HMMA", "BRA", "HMMA", "BRA"]


def test_waiting_counts_once():
    wait = (".L_2:", "SYNCS.PHASECHK.TRANS64.TRYWAIT P1, [UR4], R6", "@!P1 BRA `(.L_2)")
    assert steady(".L_1:", *wait, MULTIPLY, "@P0 BRA `(.L_1)", "EXIT") == [
        "SYNCS", "BRA", "HMMA", "BRA",
    ]  # fmt: skip


def test_a_loop_that_is_entered_in_its_middle():
    body = (".L_1:", MULTIPLY, ".L_2:", "MOV R1, R2", "@P0 BRA `(.L_1)", "EXIT")
    assert steady("BRA `(.L_2)", *body) == ["MOV", "BRA", "HMMA"]


def test_a_loop_that_is_entered_at_two_places():
    assert steady(
        "@P3 BRA `(.L_2)", ".L_1:", MULTIPLY, ".L_2:", "MOV R1, R2", "@P0 BRA `(.L_1)", "EXIT"
    ) == ["HMMA", "MOV", "BRA"]


def test_work_of_kernels_without_matrix_multiplications():
    spare = (".L_2:", "IADD3 R1, R1, 0x1, RZ", "@P1 BRA `(.L_2)", "EXIT")
    for work in ("FFMA R1, R2, R3, R1", "HFMA2 R1, R2, R3, R1", "LDG.E.128 R4, [R2.64]"):
        opcode = work.split(".")[0].split(" ")[0]
        loop = (".L_1:", "MOV R1, R2", work, "@P0 BRA `(.L_1)")
        assert steady(*loop, *spare) == ["MOV", opcode, "BRA"]
    assert steady(*spare) == []
    assert steady(MULTIPLY, "EXIT") == []
    # Nothing reaches the trap behind the end.
    assert loops_of(blocks_of(program("EXIT", ".L_9:", "BRA `(.L_9)"))) == ()


def test_the_main_loop_of_a_real_kernel():
    for target in ("sm_80", "sm_90a"):
        (found,) = listed(PIPELINE, target)
        names = [i.name for i in main_loop(found)]
        assert names.count("HMMA.16816.F32") == 2
        assert sum(n.startswith("LDGSTS") for n in names) == 1
        assert not any(n.startswith("STG") for n in names)
        assert len(names) < len(found.instructions) // 2
        assert names[-1].startswith("BRA")


@pytest.mark.parametrize("target", ["sm_80", "sm_90a"])
@pytest.mark.parametrize("source", [PIPELINE, RESOURCES], ids=["pipeline", "resources"])
def test_edges_are_those_that_nvdisasm_draws(source: str, target: str, tmp_path: Path):
    pytest.importorskip("triton")
    cubin = built(source, target).cubin
    dot = tool_of_triton("nvdisasm", "-bbcfg", "-poff", cubin=cubin, folder=tmp_path)
    drawn = {part[: part.index('"')]: edges_of(part) for part in dot.split('"cluster_')[1:]}
    functions = listed(source, target)
    assert drawn.keys() == {f.name for f in functions}
    for function in functions:
        blocks = blocks_of(function)
        mine = {
            (b.instructions[-1].address, blocks[n].instructions[0].address)
            for b in blocks
            for n in b.successors
        }
        theirs, inside = drawn[function.name]
        # Theirs begins a block at every label and leaves out what nothing reaches.
        assert theirs - mine - {(a, b) for a, b in theirs if b == a + 16} == set()
        assert {(a, b) for a, b in mine if a in inside and b != a + 16} - theirs == set()


def edges_of(part: str) -> tuple[set[tuple[int, int]], set[int]]:
    """The edges of one function from last to first instruction, and all addresses."""
    places: dict[str, list[int]] = {}
    for name, label in re.findall(r'^"([^"]+)"\n\[label="\{(.*)\}"\]$', part, re.MULTILINE):
        found = re.findall(r"(?:\\l|<exit\d+>|entry>|\|)([0-9a-f]{4,}):\\ ", label)
        places[name] = [int(a, 16) for a in found]
    drawn = re.findall(r'^"([^"]+)":\w+:\w -> "([^"]+)":', part, re.MULTILINE)
    edges = {(places[a][-1], places[b][0]) for a, b in drawn if a in places and b in places}
    return edges, {a for each in places.values() for a in each}
