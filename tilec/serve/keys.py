"""Digests of devices, the key of a tuned config, and ids."""

from __future__ import annotations

import secrets

from tilec.runtime.cache.key import digest
from tilec.serve.models import Fingerprint, Policy


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
