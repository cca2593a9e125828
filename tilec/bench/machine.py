"""What was measured on, with what, and when."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tilec.runtime.jit import host_machine

PACKAGES = ("tilec", "numpy", "llvmlite", "torch", "triton", "scipy", "apache-tvm-ffi",
            "llama-cpp-python", "torchao")  # fmt: skip


def machine() -> dict[str, Any]:
    """For JSON: the processor, its cores and features, the kernel, versions of what is installed,
    the load and the date (ISO, UTC)."""
    lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    model = next((x.split(":")[1].strip() for x in lines if x.startswith("model name")), "")
    host = host_machine()
    return {
        "processor": model, "llvm_name": host.cpu, "cores": processors(),
        "python": platform.python_version(), "kernel": platform.release(),
        "versions": dict(versions(PACKAGES)), "load": os.getloadavg()[0],
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }  # fmt: skip


def processors() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0))


def versions(packages: Iterable[str]) -> Iterable[tuple[str, str]]:
    """The versions of the packages that are installed."""
    for name in packages:
        try:
            yield name, importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
