"""Products with weights of which some elements are stored."""

from __future__ import annotations

from math import isqrt

from tilec.bench.gpu.case import Case, Dims, Way, spread
from tilec.bench.gpu.cases.products import product
from tilec.ops import linear


def sparse_case(
    number: int, what: str, sizes: tuple[int, int, int], w: str, ways: tuple[Way, ...], *,
    share: float, x: str = "bf16", y: str = "bf16", density: float = 1.0, rate: str = "half",
    peers: tuple[str, ...] = ("torch bf16",), turn: int = 2, small: Dims | None = None,
    near: float = 8e-3, quick: bool = False,
) -> Case:  # fmt: skip
    """x[M, K] times w[N, K], of which a `share` is stored and multiplied."""
    m, n, k = sizes
    return Case(
        f"{what} {m};{n},{k}", number, linear.linear, {"x": x, "w": w, "y": y},
        {"M": m, "N": n, "K": k}, small or {"M": min(m, 128), "N": 256, "K": 1024}, ways, product,
        2.0 * m * n * k * share, peers, near, rate, turn, density=density, quick=quick,
        sample={"M": spread(m, 32), "N": spread(n, 512)},
    )  # fmt: skip


def structured(group: str, k: int) -> tuple[Way, ...]:
    """Ways for 2:4 operands of large products; Triton has no sparse dot and decodes to dense."""
    base = "threads=256,instruction=wgmma,copies=bulk,specialise=4"
    return (
        Way("cuda", f"{base},m=128,n=128,k={k}", f"{group}.SP"),
        Way("triton", "", group),
    )


def bitmap(density: float) -> Case:
    """Row 23: elements anywhere. Rows differ in what they store: there is room for the fullest."""
    n, k = 28672, 8192
    room = int(density * k + 4.5 * isqrt(int(k * density * (1 - density))))
    ways = (Way("cuda", "threads=256,m=16,n=64,k=128", "HMMA"), Way("triton", "", ""))
    return sparse_case(
        23, f"bitmap {density:.0%}", (16, n, k), f"bitmap<bf16, {room}>", ways, share=density,
        density=density, peers=("torch bf16", "torch csr"), small={"N": 128, "K": 512},
        turn=3,
    )  # fmt: skip


def blocks(density: float) -> Case:
    """Blocks of 64 x 64 anywhere."""
    m, n, k = 4096, 8192, 8192
    count = round(density * (n // 64) * (k // 64))
    ways = (Way("cuda", "threads=256,m=128,n=64", "HMMA"), Way("triton", "", "HGMMA"))
    return sparse_case(
        23, f"blocks {density:.0%}", (m, n, k), f"block<64, 64, bf16, {count}>", ways,
        share=density, density=density, peers=("torch bf16", "torch bsr"), turn=3,
        small={"M": 128, "N": 512, "K": 512},
    )  # fmt: skip


LARGE = (4096, 8192, 8192)
CASES = (
    sparse_case(21, "2:4 bf16", LARGE, "nm<2, 4, bf16>", structured("HGMMA", 128), share=0.5,
                peers=("torch bf16", "torch 2:4"), turn=1, quick=True),
    sparse_case(21, "2:4 fp8", LARGE, "nm<2, 4, e4m3>", structured("QGMMA", 256), share=0.5,
                x="e4m3", peers=("torch fp8",), rate="byte", turn=2),
    sparse_case(21, "2:4 int8", LARGE, "nm<2, 4, i8>", structured("IGMMA", 256), share=0.5,
                x="i8", y="i32", peers=("torch int8",), rate="byte", near=0.0, turn=2),
    sparse_case(22, "2:4 int4", (16, 8192, 8192), "nm<2, 4, int4<group=128>>",
                (Way("cuda", "threads=256,m=16,n=256,k=256,split=4", "HMMA.SP"),
                 Way("triton", "split=4", "")),
                share=0.5, x="f16", y="f16", near=2e-3, peers=("torch f16",), turn=1),
    *(bitmap(d) for d in (0.5, 0.3, 0.2, 0.1)),
    blocks(0.1),
    *(sparse_case(24, f"v:n:m 64:2:{m}", (4096, 4096, 4096), f"vnm<64, 2, {m}, bf16>",
                  (Way("cuda", "threads=256,m=64,n=64,k=256", "HMMA"), Way("triton", "", "")),
                  share=2 / m, turn=3) for m in (8, 16)),
)  # fmt: skip
