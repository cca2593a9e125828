"""The text of the headers that printed kernels include, by the names that #include gives them."""

from __future__ import annotations

from pathlib import Path

_FOLDER = Path(__file__).with_name("include")


def device_headers() -> dict[str, str]:
    """The vocabulary for devices: what NVRTC and nvcc need."""
    return {name: text for name, text in _texts().items() if not name.startswith("emulate")}


def host_headers() -> dict[str, str]:
    """The vocabulary for hosts, and the machine behind it: what an emulator needs."""
    return {name: text for name, text in _texts().items() if not name.startswith("device")}


def _texts() -> dict[str, str]:
    paths = sorted(path for path in _FOLDER.rglob("*") if path.suffix in (".cuh", ".h"))
    return {path.relative_to(_FOLDER).as_posix(): path.read_text("utf-8") for path in paths}
