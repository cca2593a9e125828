"""What kinds of instructions there are, and how many bytes those that move data move.

The names are those of the instruction set tables of the CUDA Binary Utilities, sm_80 to sm_120.
"""

from __future__ import annotations

import re

# The first pattern that matches the beginning of an opcode decides.
_PATTERNS = (
    ("mma", r"([HIQODB]|[HIQB]G|UTC[HIQO])MMA"),
    ("barrier", r"LDGDEPBAR|UTMA(CMD|CCTL)"),
    ("ldgsts", r"LDGSTS"),
    ("tma", r"UTMA|UBLK"),
    ("ldsm", r"LDSM"),
    ("lds", r"LDS"),
    ("sts", r"STS|ATOMS|STAS"),
    ("local", r"LDL|STL"),
    ("tmem", r"LDTM|STTM|UTCCP"),
    ("ldg", r"LDG?$"),
    ("stg", r"STG?$|REDG?$|ATOMG?$"),
    ("logic", r"U?(LOP|SHF(?!L)|SHL|SHR|PRMT|SGXT|BMSK|BREV)"),
    ("half", r"H(ADD|MUL|FMA|F?MNMX|SETP?)2"),
    ("convert", r"U?(I2F|F2F|F2I|I2I|FRND)"),
    ("float", r"U?[FD](ADD|MUL|FMA|MNMX|SEL|SET|CHK|SWZ)|MUFU"),
    ("integer", r"U?(IMAD|IADD|ISETP|IMNMX|LEA|SEL|IABS|IDP|POPC|FLO|VI(ADD|MNMX)|VABSDIFF)"),
    ("barrier", r"BAR|DEPBAR|WARPSYNC|WARPGROUP|SYNCS|MEMBAR|FENCE|(CGA)?ERRBAR|CCTL|NANOSLEEP"
                r"|ARRIVES|YIELD|UCGABAR|USETMAXREG|UTC(BAR|ATOM)|ACQBULK|ENDCOLLECTIVE|PREEXIT"),
    ("move", r"U?MOV|C?S2U?R|U?R2U?[RP]|U?P2U?R|U?PLOP3|U?PSETP|U?LDCU?|VOTE|SHFL|C?REDUX|MATCH"
             r"|ELECT|R2B|B2R|BMOV|LEPC"),
    ("branch", r"BRA|BRX|JMP|JMX|EXIT|BSSY|BSYNC|BREAK|CALL|RET|KILL|BPT|RPCMOV"),
    ("nop", r"NOP"),
)  # fmt: skip
_COMPILED = tuple((name, re.compile(pattern)) for name, pattern in _PATTERNS)
CLASSES = (*dict.fromkeys(name for name, _ in _PATTERNS), "other")
MOVES = ("ldg", "ldgsts", "lds", "ldsm", "sts", "stg")  # classes whose instructions have a width
_WIDTHS = {"256": 32, "128": 16, "64": 8, "U16": 2, "S16": 2, "U8": 1, "S8": 1}


def class_of(opcode: str) -> str:
    """The class of an opcode: one of CLASSES, `other` for one that no table here knows."""
    return next((name for name, pattern in _COMPILED if pattern.match(opcode)), "other")


def width(name: str) -> int:
    """The bytes that an instruction of a class of MOVES moves for each thread."""
    opcode, *modifiers = name.split(".")
    if opcode in ("LDSM", "STSM"):
        matrices = next((int(m) for m in modifiers if m in ("2", "4")), 1)
        return 4 * matrices  # of each 8 x 8 matrix of 16 bits a thread holds one register
    return next((_WIDTHS[m] for m in modifiers if m in _WIDTHS), 4)


def matches(name: str, pattern: str) -> bool:
    """Whether an instruction such as `HGMMA.64x128x16.F32.RS` is one that a pattern such as
    `HGMMA.RS` names: the same opcode, with at least those modifiers."""
    opcode, *modifiers = name.split(".")
    wanted, *needed = pattern.split(".")
    return opcode == wanted and set(needed) <= set(modifiers)
