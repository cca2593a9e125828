"""Libraries to compare with, a file each; more come from the entry points of GROUP.

An entry point names a `tilec.bench.case.Peer`. In the process of a contender TILEC_THREADS and
OMP_NUM_THREADS say how many threads it may use before its maker is called; torch may be loaded
there already, without threads of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import entry_points

from tilec.bench.case import Peer
from tilec.bench.peers import (
    ggml,
    llama_cpp,
    on_gpu,
    scipy_sparse,
    torch_compiled,
    torch_eager,
    torchao,
    triton_code,
    tvm_ffi_calls,
)
from tilec.ir.errors import TileError

GROUP = "tilec.bench.peers"
_OWN = (
    torch_eager.PEER, torch_compiled.PEER, torchao.PEER, scipy_sparse.PEER, ggml.PEER,
    llama_cpp.PEER,
    triton_code.PEER, tvm_ffi_calls.PEER, *on_gpu.PEERS,
)  # fmt: skip


def peers(names: Sequence[str] = ()) -> list[Peer]:
    """The peers of these names, or all. Raises TileError for a name that there is not, and for an
    entry point that is no peer."""
    found = {p.name: p for p in _OWN}
    for point in entry_points(group=GROUP):
        peer = point.load()
        if not isinstance(peer, Peer):
            raise TileError(f"the entry point {point.name} of {GROUP} is {peer!r}, not a Peer")
        found[peer.name] = peer
    unknown = [n for n in names if n not in found]
    if unknown:
        raise TileError(f"no peer is called {unknown[0]!r}", hint=", ".join(found))
    return [found[n] for n in names] if names else list(found.values())
