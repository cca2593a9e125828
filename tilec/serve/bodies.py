"""What a JSON body may be, checked on its bytes before anything is made of it."""

from __future__ import annotations

import json
import math
import re
from typing import Any

from tilec.serve.refusal import Refused
from tilec.serve.setup import Limits

_STRING = re.compile(rb'"(?:[^"\\]++|\\.)*+"', re.DOTALL)
_LONG = re.compile(rb"[-+.0-9eE]{64}")
_ODD = re.compile(rb"\\u(?:[dD][89a-fA-F]|0000)")
_BRACKETS = bytes(c for c in range(256) if c not in b"[]{}")
LARGEST = 2**63


def checked(body: bytes, limits: Limits) -> Any:
    """The document of a body. Raises Refused for what is too deep, too many, or no strict JSON.

    NaN, infinities, whole numbers from 2^63, halves of surrogate pairs and NUL are no JSON here.
    """
    _measure(body, limits)
    try:
        found = json.loads(body.decode(), parse_constant=_constant, parse_int=_whole,
                           parse_float=_finite)  # fmt: skip
    except (ValueError, RecursionError):
        raise Refused(400, "the body is no JSON of UTF-8") from None
    if _ODD.search(body):
        try:
            text = json.dumps(found, ensure_ascii=False)
            text.encode()
        except UnicodeEncodeError:
            raise Refused(400, "the body has half of a surrogate pair") from None
        if "\\u0000" in text:
            raise Refused(400, "the body has a NUL character")
    return found


def _measure(body: bytes, limits: Limits) -> None:
    bare = _STRING.sub(b"", body)
    if bare.count(b",") > limits.elements:
        raise Refused(400, f"the body has more than {limits.elements} elements")
    if _LONG.search(bare):
        raise Refused(400, "the body has a number of more than 63 characters")
    brackets = bare.translate(None, _BRACKETS)
    if len(brackets) > 2 * limits.containers:
        raise Refused(400, f"the body has more than {limits.containers} arrays and objects")
    depth = 0
    for c in brackets:
        depth += 1 if c in b"[{" else -1
        if depth > limits.depth:
            raise Refused(400, f"the body is nested deeper than {limits.depth}")


def _constant(word: str) -> Any:
    raise ValueError(word)


def _whole(text: str) -> int:
    value = int(text)
    if abs(value) >= LARGEST:
        raise ValueError("too large")
    return value


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError("too large")
    return value
