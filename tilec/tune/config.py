"""A config: what was chosen, name by name. It knows no space: which choices there are."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from tilec.ir.errors import TileError

Value = int | float | bool | str
TUNED = {"kind": "tuned"}  # what makes the entries of a cache that are tuned configs
LARGEST = 2**53  # of a number: what a double, and so JSON, holds exactly
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_.:/+-]{0,63}")
NUMBER = re.compile(r"-?(0|[1-9]\d{0,17})(\.\d{1,40})?([eE][+-]?\d{1,3})?")


def checked_name(name: object, what: str) -> str:
    """A name that is safe in text, in file names and on pages: letters, digits and _."""
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise TileError(f"{what}: the name {name!r} is not letters, digits and _ (at most 64)")
    return name


def checked_value(value: object, what: str) -> Value:
    """A value as it is kept: a boolean, a word, a finite number (2.0 is kept as 2)."""
    match value:
        case bool():
            return value
        case str() if WORD.fullmatch(value) and value not in ("true", "false", "inf", "nan"):
            return value
        case int() if abs(value) <= LARGEST:
            return value
        case float() if math.isfinite(value) and abs(value) <= LARGEST:
            return int(value) if value.is_integer() else value
        case _:
            raise TileError(f"{what}: {value!r} is no value",
                            hint="true, false, a word, or a number up to 2^53")  # fmt: skip


def written(value: Value) -> str:
    """A value as text: true, 64, 0.5, row."""
    return value if isinstance(value, str) else json.dumps(value)


def read(text: str, what: str) -> Value:
    """The inverse of `written`. Raises TileError for anything else."""
    if text in ("true", "false"):
        return text == "true"
    if WORD.fullmatch(text):
        return checked_value(text, what)
    if not NUMBER.fullmatch(text):
        raise TileError(f"{what}: {text!r} is no value")
    return checked_value(json.loads(text), what)


@dataclass(frozen=True, eq=False)
class Config(Mapping[str, Value]):
    """A frozen map from choices to values. Two are equal when their texts are: 1 is not true."""

    values_by_name: tuple[tuple[str, Value], ...]  # sorted by name

    @staticmethod
    def of(chosen: Mapping[str, Value]) -> Config:
        """A config of any map. Raises TileError for a bad name or value."""
        pairs = [(checked_name(n, "a config"), checked_value(v, f"a config: {n}"))
                 for n, v in chosen.items()]  # fmt: skip
        return Config(tuple(sorted(pairs)))

    @staticmethod
    def parsed(text: str) -> Config:
        """The inverse of `text`: `bm=64,order=row`. Raises TileError for anything else."""
        found: dict[str, Value] = {}
        for word in text.split(",") if text else ():
            name, equals, value = word.partition("=")
            if not equals or name in found:
                raise TileError(f"a config: {word!r} is not NAME=VALUE, once for each name")
            found[name] = read(value, f"a config: {name}")
        return Config.of(found)

    @staticmethod
    def from_json(data: object) -> Config:
        """A config from a JSON object. Raises TileError."""
        if not isinstance(data, Mapping):
            raise TileError(f"a config is {type(data).__name__}, expected an object")
        return Config.of(data)  # type: ignore[arg-type]

    def to_json(self) -> dict[str, Value]:
        return dict(self.values_by_name)

    @property
    def text(self) -> str:
        """The canonical text: names in order, `bm=64,order=row,pad=true`."""
        return ",".join(f"{n}={written(v)}" for n, v in self.values_by_name)

    @property
    def digest(self) -> str:
        """The SHA-256 of the text, in hexadecimal."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    def __getitem__(self, name: str) -> Value:
        for known, value in self.values_by_name:
            if known == name:
                return value
        raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        return iter(n for n, _ in self.values_by_name)

    def __len__(self) -> int:
        return len(self.values_by_name)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Config) and self.text == other.text

    def __hash__(self) -> int:
        return hash(self.text)

    def __str__(self) -> str:
        return self.text
