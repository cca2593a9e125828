"""Products with quantised weights, and dense ones."""

from __future__ import annotations

from tilec.bench.gpu.case import Case, Dims, Values, Way, spread
from tilec.ir.dtype import Array
from tilec.ops import linear, quantised

SMALL = {"N": 512, "K": 1024}
TRITON = Way("triton", instruction="HGMMA")


def product(values: Values, dims: Dims) -> dict[str, Array]:
    """y = x @ w.T"""
    del dims
    return {"y": values["x"] @ values["w"].T}


def linear_case(
    number: int, what: str, sizes: tuple[int, int, int], w: str, ways: tuple[Way, ...], *,
    x: str = "f16", y: str = "f16", peers: tuple[str, ...] = (), rate: str = "half", turn: int = 5,
    near: float = 2e-3, small: Dims | None = None, quick: bool = False,
) -> Case:  # fmt: skip
    """x[M, K] times w[N, K] of a format; sizes are those of M, N and K."""
    m, n, k = sizes
    dims = {"M": m, "N": n, "K": k}
    return Case(
        f"{what} {m};{n},{k}", number, linear.linear, {"x": x, "w": w, "y": y}, dims,
        small or {**SMALL, "M": min(m, 128)}, ways, product, 2.0 * m * n * k, peers, near, rate,
        turn, quick=quick, sample={"M": spread(m, 32), "N": spread(n, 512)},
    )  # fmt: skip


def few(rows: int, split: int = 1, k: int = 128, warp: str = "HMMA") -> tuple[Way, ...]:
    """Ways for up to 64 rows of x: by warps with cp.async and with TMA, by warp groups with the
    weights in registers, and by Triton."""
    m = max(16, rows)
    parts = f",split={split}" if split > 1 else ""
    group = {"HMMA": "HGMMA.RS", "IMMA": "IGMMA.RS", "QMMA": "QGMMA.RS"}[warp]
    return (
        Way("cuda", f"threads=256,m={m},n=256,k={k}{parts}", warp),
        Way("cuda", f"threads=256,stages=4,instruction=wgmma,swap=always,m={m},n=128,k={k}{parts}",
            group),
        Way("triton", f"split={split}" if split > 1 else "", group[:5]),
    )  # fmt: skip


def many(group: str = "HGMMA.RS", k: int = 64, n: int = 128) -> tuple[Way, ...]:
    """Ways for rows by the hundred, with weights that are decoded in registers."""
    return (
        Way("cuda", f"threads=256,stages=4,instruction=wgmma,swap=always,m=128,n={n},k={k}", group),
        Way("triton", "", group[:5]),
    )


def dense(group: str, k: int = 64, columns: int = 256) -> tuple[Way, ...]:
    """Ways for operands that are multiplied as they lie in memory."""
    base = "threads=256,stages=4,copies=bulk,specialise=4,instruction=wgmma"
    return (
        Way("cuda", f"{base},overlap=1,m=128,n={columns},k={k}", group),
        Way("triton", "", group),
    )


INT4 = "int4<group=128>"
FP6 = "planes<e3m2<channel, scale=f16>, 4, 2>"
# Codes in planes are put together element by element, which takes more shared memory.
PLANES = (Way("cuda", "threads=256,m=16,n=64,k=128", "HMMA"), Way("triton", "", "HGMMA"))
MARLIN = ("torch f16", "torch int4", "gemlite int4", "marlin", "triton int4", "torchao int4")
GEMLITE = ("torch f16", "gemlite int4", "triton int4")
F16 = ("torch f16",)
W8A8 = ("torch int8", "torch f16", "triton int8")
FP8 = ("torch fp8", "torch f16")
LARGE = (8192, 8192)

WEIGHTS = (
    linear_case(1, "w4a16", (1, 28672, 4096), INT4, few(1), peers=MARLIN, turn=0, quick=True),
    linear_case(2, "w4a16", (1, 4096, 14336), INT4, few(1, 8), peers=MARLIN, turn=0),
    linear_case(3, "w4a16", (16, *LARGE), INT4, few(16, 4), peers=MARLIN, turn=0),
    linear_case(4, "w4a16", (16, 57344, 8192), INT4, few(16), peers=MARLIN, turn=1),
    linear_case(5, "w4a16", (64, 8192, 28672), INT4, few(64, 4), peers=MARLIN, turn=0),
    linear_case(6, "w4a16", (256, *LARGE), INT4, many(), peers=MARLIN, turn=0),
    linear_case(6, "w4a16", (1024, *LARGE), INT4, many(), peers=MARLIN, turn=1),
    linear_case(7, "awq", (1, 10240, 8192), "uint4<group=64, zero=int>", few(1, 4, 64),
                peers=GEMLITE, turn=2),
    linear_case(7, "awq", (16, 10240, 8192), "uint4<group=64, zero=int>", few(16, 4, 64),
                peers=GEMLITE, turn=2),
    linear_case(8, "w3a16", (1, *LARGE), "int3<group=128>", few(1, 4), peers=F16, turn=2),
    linear_case(8, "w3a16", (16, *LARGE), "int3<group=128>", few(16, 4), peers=F16, turn=2),
    linear_case(8, "w2a16", (1, *LARGE), "int2<group=128>", few(1, 4),
                peers=("torch f16", "gemlite int2"), turn=2),
    linear_case(8, "w2a16", (16, *LARGE), "int2<group=128>", few(16, 4),
                peers=("torch f16", "gemlite int2"), turn=2),
    linear_case(9, "fp6a16", (1, 28672, 7168), "fp6", few(1), peers=F16, turn=2),
    linear_case(9, "fp6a16", (16, 57344, 8192), "fp6", few(16), peers=F16, turn=3),
    linear_case(9, "fp6 planes", (16, 28672, 7168), FP6, PLANES, peers=F16, turn=3),
    linear_case(9, "fp5a16", (16, 28672, 7168), "fp5", few(16), peers=F16, turn=3),
    linear_case(10, "mxfp4a16", (16, 5760, 2880), "mxfp4", few(16, 4, 32), x="bf16", y="bf16",
                peers=("torch bf16", "gemlite mxfp4"), near=8e-3, turn=2),
    linear_case(10, "nvfp4a16", (16, *LARGE), "nvfp4", few(16, 4, 16), x="bf16", y="bf16",
                peers=("torch bf16",), near=8e-3, turn=2),
    linear_case(11, "nf4a16", (1, *LARGE), "nf4<group=64>", few(1, 4, 64),
                peers=("torch f16", "torchao nf4"), turn=2),
)  # fmt: skip

ROWS = "int8<channel, scale=f32>"  # of activations: a scale for each token
EIGHT = "e4m3<channel, scale=f32>"
BLOCKS = ("e4m3<group=128, scale=f32>", "fp8_block")
CODES = (
    linear_case(12, "w1.58a8", (1, *LARGE), "ternary<tensor, scale=f32>", few(1, 4, 256, "IMMA"),
                x=ROWS, peers=("torch int8", "torch f16"), rate="byte", turn=3),
    linear_case(12, "w1.58a8", (16, *LARGE), "ternary<tensor, scale=f32>",
                few(16, 4, 256, "IMMA"), x=ROWS, peers=("torch int8", "torch f16"), rate="byte",
                turn=3),
    linear_case(13, "w4a8 qserve", (16, 6144, 4096), "qserve", few(16, 4, 128, "IMMA"), x=ROWS,
                peers=W8A8, rate="byte", turn=2),
    linear_case(13, "w4a8 qserve", (128, 6144, 4096), "qserve", many("IGMMA.RS", 128), x=ROWS,
                peers=W8A8, rate="byte", turn=2),
    linear_case(13, "w4a8 int8", (16, 6144, 4096), INT4, few(16, 4, 128, "IMMA"), x=ROWS,
                peers=W8A8, rate="byte", turn=3),
    linear_case(14, "w4a8 fp8", (1, *LARGE), INT4, few(1, 4, 128, "QMMA")[1:], x=EIGHT, peers=FP8,
                rate="byte", turn=2, near=3e-3),
    linear_case(14, "w4a8 fp8", (64, *LARGE), INT4, many("QGMMA.RS", 128), x=EIGHT, peers=FP8,
                rate="byte", turn=2, near=3e-3),
    linear_case(14, "w4a8 fp8", (256, *LARGE), INT4, many("QGMMA.RS", 128), x=EIGHT, peers=FP8,
                rate="byte", turn=2, near=3e-3),
    linear_case(15, "w8a8", (128, *LARGE), "int8<channel, scale=f32>", dense("IGMMA", 128, 128),
                x=ROWS, peers=W8A8, rate="byte", turn=1),
    linear_case(15, "w8a8", (4096, *LARGE), "int8<channel, scale=f32>", dense("IGMMA", 128, 128),
                x=ROWS, peers=W8A8, rate="byte", turn=1),
    linear_case(16, "fp8 rowwise", (4096, 28672, 4096), EIGHT, dense("QGMMA", 128, 128), x=EIGHT,
                y="bf16", peers=FP8, rate="byte", turn=1, near=8e-3),
    linear_case(17, "fp8 blocks", (64, 2112, 7168), BLOCKS[1], dense("QGMMA", 128, 64),
                x=BLOCKS[0], y="bf16", peers=("torch bf16", "deep_gemm"), rate="byte", turn=2,
                near=8e-3, small={"M": 64, "N": 384, "K": 1024}),
    linear_case(17, "fp8 blocks", (4096, 7168, 16384), BLOCKS[1], dense("QGMMA", 128, 128),
                x=BLOCKS[0], y="bf16", peers=("torch bf16", "deep_gemm"), rate="byte", turn=2,
                near=8e-3),
    linear_case(0, "bf16", (4096, 4096, 4096), "bf16", dense("HGMMA"), x="bf16", y="bf16",
                peers=("torch bf16", "triton dense", "tilelang", "helion"), near=8e-3, turn=0,
                quick=True),
    linear_case(0, "bf16", (8192, *LARGE), "bf16", dense("HGMMA"), x="bf16", y="bf16",
                peers=("torch bf16", "triton dense"), near=8e-3, turn=1),
)  # fmt: skip


def down(values: Values, dims: Dims) -> dict[str, Array]:
    """thin = x @ a.T, and x as codes times scales of 64."""
    del dims
    return {"thin": values["x"] @ values["a"].T, "codes*scale": values["x"]}


def up(values: Values, dims: Dims) -> dict[str, Array]:
    """y = x @ w.T + thin @ b.T"""
    del dims
    return {"y": values["x"] @ values["w"].T + values["thin"] @ values["b"].T}


def low_rank(rank: int) -> tuple[Case, ...]:
    """Row 30: a layer in codes with a branch of low rank, as two kernels (SVDQuant)."""
    m, n, k = 4096, 12288, 3072
    first = Case(
        f"low rank down r{rank} {m};{rank},{k}", 30, quantised.low_rank_down,
        {"x": "bf16", "a": "bf16", "codes": "i8", "scale": "f32", "thin": "bf16"},
        {"M": m, "R": rank, "K": k, "G": k // 64}, {"M": 128, "K": 256, "G": 4},
        (Way("cuda", "threads=128,m=64", "HMMA"), Way("triton", "", "HGMMA")), down,
        2.0 * m * k * rank, ("unfused down",), 1e-2, turn=3, numbers={"top": 127.0},
        sample={"M": spread(m, 32)},
    )  # fmt: skip
    second = Case(
        f"low rank up r{rank} {m};{n},{k}", 30, quantised.low_rank_up,
        {"x": "int8<group=64, scale=f32>", "w": "int4<group=64>", "thin": "bf16", "b": "bf16",
         "y": "bf16"},
        {"M": m, "N": n, "K": k, "R": rank}, {"M": 128, "N": 256, "K": 512},
        (Way("cuda", "threads=256,m=128,n=128,k=64", "IMMA"), Way("triton", "", "IGMMA")), up,
        2.0 * m * n * (k + rank), ("unfused up",), 8e-3, "byte", 3,
        sample={"M": spread(m, 32), "N": spread(n, 512)},
    )  # fmt: skip
    return first, second


CASES = (*WEIGHTS, *CODES, *low_rank(32), *low_rank(64))
