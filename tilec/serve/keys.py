"""Digests: of JSON data, of devices, and the key of a tuned config."""

from __future__ import annotations

import hashlib
import json
import secrets
from typing import Any

from tilec.serve.models import Fingerprint, Policy


def canonical(data: Any) -> str:
    """JSON with sorted fields and no blanks."""
    return json.dumps(data, sort_keys=True, separators=(",", ":"), allow_nan=False)


def digest(data: Any) -> str:
    """The SHA-256 of the canonical JSON, in hexadecimal."""
    return hashlib.sha256(canonical(data).encode()).hexdigest()


def device_digest(device: Fingerprint) -> str:
    """The digest of a fingerprint: fields that are not there count for nothing."""
    return digest(device.model_dump(exclude_none=True))


def config_key(kernel: str, device: str, toolchain: str, policy: Policy) -> str:
    """The key of a tuned config; `device` is the digest of the fingerprint."""
    return digest({"kernel": kernel, "device": device, "toolchain": toolchain,
                   "policy": policy.model_dump()})  # fmt: skip


def new_id(letter: str) -> str:
    """An id that nobody can guess."""
    return letter + secrets.token_hex(10)
