"""Published formats: each a text in the algebra of `ir.named`, and where its definition is.

A line here is all that a new format of known parts needs.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Published:
    """What a name abbreviates, and its source."""

    text: str
    source: str


OCP = "OCP Microscaling Formats (MX) 1.0"
GGUF = "llama.cpp, ggml-common.h"
PUBLISHED = {
    # Microscaling and block-scaled floats.
    "mxfp8": Published("e4m3<group=32, scale=e8m0>", OCP),
    "mxfp8_e5m2": Published("e5m2<group=32, scale=e8m0>", OCP),
    "mxfp6": Published("e2m3<group=32, scale=e8m0>", OCP),
    "mxfp6_e3m2": Published("e3m2<group=32, scale=e8m0>", OCP),
    "mxfp4": Published("e2m1<group=32, scale=e8m0>", OCP),
    "mxint8": Published("fixed8<group=32, scale=e8m0>", OCP),
    "nvfp4": Published("e2m1<group=16, scale=e4m3<tensor, scale=f32>>", "NVIDIA Blackwell NVFP4"),
    # Floats with plain scales.
    "fp8": Published("e4m3<tensor, scale=f32>", "arXiv 2209.05433"),
    "fp8_rowwise": Published("e4m3<channel, scale=f32>", "torch._scaled_mm"),
    "fp8_block": Published("e4m3<rows=128, group=128, scale=f32>", "DeepSeek-V3, arXiv 2412.19437"),
    "fp8_fnuz": Published("e4m3_fnuz<tensor, scale=f32>", "AMD CDNA3"),
    "fp6": Published("e3m2<channel, scale=f16>", "FP6-LLM, arXiv 2401.14112"),
    "fp5": Published("e2m2<channel, scale=f16>", "FP6-LLM, arXiv 2401.14112"),
    # Integers of weights.
    "gptq": Published("uint4<group=128, scale=f16, zero=int>", "GPTQ, arXiv 2210.17323"),
    "awq": Published("uint4<group=128, scale=f16, zero=int>", "AWQ, arXiv 2306.00978"),
    "marlin": Published("uint4<group=128, scale=f16>", "MARLIN, arXiv 2408.11743"),
    "hqq": Published("uint4<group=64, scale=f16, zero=float>", "HQQ, mobiusml.github.io/hqq_blog"),
    "tinygemm": Published("uint4<group=32, scale=bf16, zero=shift>", "torch _weight_int4pack_mm"),
    "quip": Published("uint2<channel, scale=f16, zero=shift>", "QuIP, arXiv 2307.13304"),
    "bitnet": Published("ternary<tensor, scale=f32>", "BitNet b1.58, arXiv 2402.17764"),
    "onebit": Published("bipolar1<channel, scale=f16>", "OneBit, arXiv 2402.11295"),
    "apt3": Published("bipolar3<channel, scale=f16>", "bipolar-INT, arXiv 2409.17870"),
    "odyssey": Published("int4<channel, scale=f32>", "OdysseyLLM, arXiv 2311.09550"),
    "smoothquant": Published("int8<channel, scale=f32>", "SmoothQuant, arXiv 2211.10438"),
    "jetfire": Published("int8<rows=32, group=32, scale=f32>", "Jetfire, arXiv 2403.12422"),
    # Two levels of scales.
    "qserve": Published("uint4<group=128, scale=uint8<channel, scale=f16, zero=none>, zero=int>",
                        "QServe, arXiv 2405.04532"),
    "dgq": Published("uint4<group=128, scale=uint8<channel, scale=f16, zero=none>, zero=int>",
                     "DGQ, arXiv 2310.04836"),
    "vsq": Published("sm4<group=16, scale=uint4<channel, scale=f16, zero=none>>",
                     "VS-Quant, arXiv 2102.04503"),
    "qlora": Published("nf4<group=64, scale=uint8<group=256, scale=f32, zero=shift>>",
                       "QLoRA's double quantisation, arXiv 2305.14314"),
    "bfp8": Published("int8<group=16, scale=e8m0>", "block floating point, arXiv 2004.01807"),
    "bfp4": Published("int4<group=16, scale=e8m0>", "block floating point, arXiv 2004.01807"),
    # llama.cpp's blocks; those of 256 have scales of 6 or 4 bits with scales of their own.
    "q1_0": Published("bipolar1<group=128, scale=f16>", GGUF),
    "q4_0": Published("uint4<group=32, scale=f16>", GGUF),
    "q4_1": Published("uint4<group=32, scale=f16, zero=min>", GGUF),
    "q5_0": Published("uint5<group=32, scale=f16>", GGUF),
    "q5_1": Published("uint5<group=32, scale=f16, zero=min>", GGUF),
    "q8_0": Published("int8<group=32, scale=f16>", GGUF),
    "q2_k": Published("uint2<group=16, scale=uint4<group=16, scale=f16, zero=none>, zero=min, "
                      "zeros=uint4<group=16, scale=f16, zero=none>>", GGUF),
    "q3_k": Published("uint3<group=16, scale=uint6<group=16, scale=f16>>", GGUF),
    "q4_k": Published("uint4<group=32, scale=uint6<group=8, scale=f16, zero=none>, zero=min, "
                      "zeros=uint6<group=8, scale=f16, zero=none>>", GGUF),
    "q5_k": Published("uint5<group=32, scale=uint6<group=8, scale=f16, zero=none>, zero=min, "
                      "zeros=uint6<group=8, scale=f16, zero=none>>", GGUF),
    "q6_k": Published("uint6<group=16, scale=int8<group=16, scale=f16>>", GGUF),
    "q8_k": Published("int8<group=256, scale=f32>", GGUF),
    "iq4_nl": Published("iq4<group=32, scale=f16>", GGUF),
    "iq4_xs": Published("iq4<group=32, scale=uint6<group=8, scale=f16>>", GGUF),
    "tq2_0": Published("ternary<group=256, scale=f16>", GGUF),
    # Learnt tables.
    "squeezellm": Published("codebook<4, rows=1>", "SqueezeLLM, arXiv 2306.07629"),
    "flute": Published("codebook<4, group=128, scale=f16>", "FLUTE, arXiv 2407.10960"),
    # Without loss, and in planes.
    "df11": Published("coded<bf16>", "DFloat11's aim (arXiv 2504.11651) with codes of one width"),
    "fp6_llm": Published("planes<fp6, 4, 2>", "FP6-LLM, arXiv 2401.14112"),
}  # fmt: skip
