"""Which instruction ptxas really makes of a multiplication, and what each instruction is."""

from __future__ import annotations

import pytest
from sass.kernels import PIPELINE, RESOURCES, built, listed, of_group, of_warp

from tilec.sass.opcodes import CLASSES, class_of, matches, width
from tilec.sass.stats import judged

WARP = "mma.sync.aligned"
GROUP = "wgmma.mma_async.sync.aligned"
SPARSE = "mma.sp::ordered_metadata.sync.aligned.m16n8k32.row.col.f32.f16.f16.f32"
GROUP_SPARSE = "wgmma.mma_async.sp.sync.aligned.m64n8k32.f32.f16.f16"
KERNELS = {
    "f16": of_warp("f16", f"{WARP}.m16n8k16.row.col.f32.f16.f16.f32", 4, 2),
    "s8": of_warp("s8", f"{WARP}.m16n8k32.row.col.s32.s8.s8.s32", 4, 2, integers=True),
    "s4": of_warp("s4", f"{WARP}.m16n8k64.row.col.s32.s4.s4.s32", 4, 2, integers=True),
    "b1": of_warp("b1", f"{WARP}.m16n8k256.row.col.s32.b1.b1.s32.and.popc", 4, 2, integers=True),
    "e4m3": of_warp("e4m3", f"{WARP}.m16n8k32.row.col.f32.e4m3.e4m3.f32", 4, 2),
    "e2m1": of_warp("e2m1", f"{WARP}.kind::f8f6f4.m16n8k32.row.col.f32.e2m1.e2m1.f32", 4, 2),
    "sparse": of_warp("sparse", SPARSE, 4, 4, sparse=True),
    "g16": of_group("g16", f"{GROUP}.m64n8k16.f32.f16.f16", ", 1, 1, 1, 0, 0"),
    "g16rs": of_group("g16rs", f"{GROUP}.m64n8k16.f32.f16.f16", ", 1, 1, 1, 0", registers=True),
    "g8": of_group("g8", f"{GROUP}.m64n8k32.f32.e4m3.e4m3", ", 1, 1, 1"),
    "gs8rs": of_group("gs8rs", f"{GROUP}.m64n8k32.s32.s8.s8", ", 1", True, registers=True),
    "gb1": of_group("gb1", f"{GROUP}.m64n8k256.s32.b1.b1.and.popc", ", 1", integers=True),
    "gsparse": of_group("gsparse", GROUP_SPARSE, ", %6, 0, 1, 1, 1, 0, 0"),
}
FOUND = {
    "sm_80": {
        "f16": {"HMMA.16816.F32": 1},
        "s8": {"IMMA.16832.S8.S8": 1},
        "s4": {"IMMA.16864.S4.S4": 1},
        "b1": {"BMMA.168256.AND.POPC": 1},
        "sparse": {"HMMA.SP.16832.F32": 1},
    },
    "sm_89": {"e4m3": {"QMMA.16832.F32.E4M3.E4M3": 1}},
    "sm_90a": {
        "s4": {"IMMA.16832.S8.S8": 2},  # no units for four bits: taken apart
        "b1": {"BMMA.168256.AND.POPC": 1},
        "e4m3": {"HMMA.16816.F32": 2},  # only wgmma has units for e4m3
        "g16": {"HGMMA.64x8x16.F32": 1},
        "g16rs": {"HGMMA.64x8x16.F32.RS": 1},
        "g8": {"QGMMA.64x8x32.F32.E4M3.E4M3": 1},
        "gs8rs": {"IGMMA.64x8x32.S8.S8.RS": 1},
        "gb1": {"BGMMA.64x8x256.AND.POPC": 1},
        "gsparse": {"HGMMA.SP.64x8x32.F32": 1},
    },
    # In the other order the ptxas of CUDA 13.0 to 13.4 crashes.
    "sm_100a": {"e4m3": {"HMMA.16816.F32": 2}, "b1": {"IMMA.16832.U8.U8": 8}},
    "sm_120a": {
        "e4m3": {"QMMA.16832.F32.E4M3.E4M3": 1},
        "e2m1": {"QMMA.16832.F32.E2M1.E2M1": 1},
    },
}


@pytest.mark.parametrize("target", FOUND)
def test_multiplications(target: str):
    source = "".join(KERNELS[name] for name in FOUND[target])
    code = {f.name: judged(f).code for f in listed(source, target)}
    assert {name: mix.of("mma") for name, mix in code.items()} == FOUND[target]


def test_what_ptxas_takes_apart_shows_in_the_mix():
    source = "".join(KERNELS[name] for name in FOUND["sm_90a"])
    code = {f.name: judged(f).code for f in listed(source, "sm_90a")}
    assert code["s4"].classes["logic"] > 100 > code["b1"].classes["logic"]
    assert (code["e4m3"].classes["convert"], code["e4m3"].count("F2FP")) == (12, 12)


@pytest.mark.parametrize("source", [PIPELINE, RESOURCES], ids=["pipeline", "resources"])
def test_every_instruction_has_a_class(source: str):
    for function in listed(source, "sm_90a"):
        assert judged(function).code.of("other") == {}
    assert built(source, "sm_90a").notes == ()


@pytest.mark.parametrize(
    ("kind", "opcodes"),
    [
        ("mma", "HMMA IMMA QMMA OMMA BMMA DMMA HGMMA IGMMA QGMMA BGMMA UTCHMMA UTCQMMA"),
        ("ldgsts", "LDGSTS"),
        ("tma", "UTMALDG UTMASTG UTMAREDG UBLKCP UBLKPF"),
        ("ldsm", "LDSM"),
        ("lds", "LDS"),
        ("sts", "STS STSM ATOMS"),
        ("ldg", "LDG LD"),
        ("stg", "STG ST RED REDG ATOM ATOMG"),
        ("local", "LDL STL"),
        ("logic", "LOP3 ULOP3 SHF USHF PRMT UPRMT SGXT BMSK"),
        ("half", "HADD2 HMUL2 HFMA2 HMNMX2 HSETP2 HADD2_32I"),
        ("float", "FADD FMUL FFMA FMNMX FSETP FSEL MUFU DFMA"),
        ("integer", "IMAD UIMAD IADD3 ISETP UISETP LEA ULEA SEL VIADD VIMNMX IDP POPC FLO IMNMX"),
        ("convert", "I2F F2F F2I I2I F2FP I2FP FRND"),
        ("barrier", "BAR DEPBAR LDGDEPBAR WARPSYNC SYNCS MEMBAR WARPGROUP FENCE UTMACMDFLUSH"),
        ("move", "MOV UMOV S2R S2UR CS2R R2UR LDC ULDC LDCU SHFL VOTE PLOP3 R2P"),
        ("branch", "BRA BRX EXIT BSSY BSYNC CALL RET"),
        ("nop", "NOP"),
        ("other", "NEVER"),
    ],
)
def test_classes(kind: str, opcodes: str):
    assert kind in CLASSES
    assert {opcode: class_of(opcode) for opcode in opcodes.split()} == dict.fromkeys(
        opcodes.split(), kind
    )


def test_widths():
    for name, bytes_ in (
        ("LDG.E.128.CONSTANT", 16), ("LDG.E.64", 8), ("LDG.E", 4), ("LDG.E.U8", 1),
        ("LDG.E.ENL2.256", 32), ("LDS.S16", 2), ("LDGSTS.E.BYPASS.LTC128B.64", 8),
        ("LDGSTS.E.BYPASS.LTC128B.128", 16), ("LDSM.16.M88.4", 16), ("LDSM.16.MT88.2", 8),
        ("LDSM.16.M88", 4), ("STSM.16.MT88.4", 16), ("STS.128", 16),
    ):  # fmt: skip
        assert width(name) == bytes_, name


def test_patterns():
    name = "HGMMA.64x128x16.F32.RS"
    assert all(matches(name, p) for p in ("HGMMA", "HGMMA.RS", "HGMMA.F32.64x128x16"))
    assert not any(matches(name, p) for p in ("HMMA", "HGMMA.SP", "HGMMA.64x128", "GMMA"))
