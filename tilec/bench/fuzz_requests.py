"""Requests that no client would send, made from those that it would: values out of range, trees
bent out of shape, bytes damaged, odd paths, parameters and headers. Deterministic by seed."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

LARGE = 2**63
VALUES: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2**31, 2**53 + 1, LARGE - 1, LARGE, -LARGE - 1, 10**30, 10**400,
    0.5, -0.0, 1e308, 1e-320, float("nan"), float("inf"), float("-inf"), "", " ", "0", "a" * 10_000,
    "a\0b", "a\nb", "\r\n{}", "\x1b[31m", "\u202e", "\ud800", "\udfff\ud800", "\U0010ffff",
    "../../x", "; rm x", "$(id)", "-o/x", "*/ #include", "' OR 1=1 --", "<script>", "%s%n", "%00",
    "=cmd|' /C calc'!A0", "{{7*7}}", "http://localhost/", "file:///etc/passwd", "NaN", [], {},
    [[]], [None], [{}], {"": ""}, {"__proto__": {}}, {"$ref": "#"}, ["a"] * 2000, [0] * 20_000,
    {str(i): i for i in range(500)},
)  # fmt: skip
WORDS = ("ir_override", "url", "file", "id", "tenant", "state", "token", "__class__", "", "a\0")
PATHS = ("", "%00", "..", "%2e%2e", "9223372036854775808", "-1", "a" * 5000, "%ff", "%0a", "'",
         "s" + "0" * 20, "0" * 64, "*", "{study}", "%F0%9F%92%A9")  # fmt: skip
QUERIES = (
    "", "cursor=%00", "cursor=1", "cursor=9223372036854775808", "cursor=-1", "after=1e9",
    "after=-1",
    "cursor=s" + "0" * 20, "cursor=a&cursor=b", "token=x", "a=" + "b" * 5000, "%ff=%ff",
)  # fmt: skip
HEADERS: tuple[Mapping[str, str], ...] = (
    {"host": "evil.example"}, {"host": ""}, {"origin": "http://evil.example"}, {"origin": "null"},
    {"origin": "http://["}, {"content-type": "text/plain"}, {"content-type": ""},
    {"content-type": "application/json; charset=utf-16"}, {"content-type": "multipart/form-data"},
    {"idempotency-key": "a b"}, {"idempotency-key": "x" * 129}, {"idempotency-key": "same"},
    {"authorization": "Bearer x"}, {"authorization": "Basic Og=="}, {"authorization": ""},
    {"if-none-match": '"x", *'}, {"last-event-id": "-1"}, {"last-event-id": "9" * 16},
    {"range": "bytes=-1"}, {"range": "bytes=0-0,1-1,2-2"}, {"accept": "x/y"},
    {"x-forwarded-for": "a\x7f"},
    {"transfer-encoding": "gzip"}, {"content-encoding": "gzip"}, {"expect": "100-continue"},
    {"upgrade": "websocket", "connection": "upgrade"}, {"cookie": "a" * 3000},
)  # fmt: skip
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW")


@dataclass(frozen=True)
class Sent:
    """A request."""

    method: str
    path: str
    content: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict[str, str])


def bent(valid: Sent, body: Any, chance: random.Random) -> Sent:
    """A request and its body with something wrong in one place or in several."""
    found = copy.deepcopy(body)
    for _ in range(chance.choice((0, 1, 1, 1, 2, 4)) if found is not None else 0):
        found = _bent(found, chance)
    content = b"" if found is None else json.dumps(found).encode()
    if chance.random() < 0.15:
        content = _damaged(content, chance)
    path, method = valid.path, valid.method
    if chance.random() < 0.15:
        parts = path.split("/")
        parts[chance.randrange(1, len(parts))] = chance.choice(PATHS)
        path = "/".join(parts)
    if chance.random() < 0.1:
        path += f"?{chance.choice(QUERIES)}"
    if chance.random() < 0.05:
        method = chance.choice(METHODS)
    headers = dict(valid.headers)
    if chance.random() < 0.15:
        headers |= chance.choice(HEADERS)
    return Sent(method, path, content, headers)


def _bent(tree: Any, chance: random.Random) -> Any:
    """A tree with one node changed: replaced, removed, repeated, renamed."""
    places = list(_places(tree))
    if not places:
        return _value(chance)
    node, key = chance.choice(places)
    is_object = isinstance(key, str)
    match chance.randrange(6):
        case 0 if is_object:
            node[chance.choice(WORDS)] = node.pop(key)
        case 1:
            del node[key]
        case 2 if not is_object:
            node.extend(node[key : key + 1] * chance.choice((1, 10, 300)))
        case 3 if is_object:
            node[chance.choice(WORDS)] = _value(chance)
        case _:
            node[key] = _value(chance)
    return tree


def _value(chance: random.Random) -> Any:
    """A value that nobody else changes."""
    return copy.deepcopy(chance.choice(VALUES))


def _places(tree: Any) -> Iterator[tuple[Any, Any]]:
    """Every (container, key) of a tree."""
    for key in _keys(tree):
        yield tree, key
        yield from _places(tree[key])


def _keys(tree: Any) -> Sequence[Any]:
    match tree:
        case dict():
            return list(cast("dict[str, Any]", tree))
        case list():
            return range(len(cast("list[Any]", tree)))
        case _:
            return ()


def _damaged(content: bytes, chance: random.Random) -> bytes:
    """Bytes flipped, cut, repeated or put in."""
    at = chance.randrange(len(content) + 1)
    match chance.randrange(5):
        case 0:
            return content[:at]
        case 1:
            return content[:at] + bytes([chance.randrange(256)]) + content[at + 1 :]
        case 2:
            return content[:at] + content[at:] * 2
        case 3:
            return content[:at] + chance.choice((b"[", b'{"a":')) * 5000 + content[at:]
        case _:
            return chance.randbytes(chance.choice((1, 100, 10_000)))
