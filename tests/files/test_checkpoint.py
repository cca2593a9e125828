"""Checkpoints in: the numbers that the published formulas give, and the same tensors out.

Expected values follow one rule: centred codes are exact, each product is rounded once to f32.
"""

import json

import ml_dtypes
import numpy as np
import pytest
from files.checkpoints import (
    E2M1,
    NF4,
    awq,
    exact,
    gptq,
    in_layer,
    nf4,
    numbers,
    nvfp4,
    packed_quantised,
    read_file,
    spread,
    write_file,
    write_folder,
)
from lang import kernels

from tilec.files.checkpoint import load

NAME = "model.layers.0.q_proj"
rng = np.random.default_rng(5)


def round_trip(folder, tmp_path):
    """Load a folder or a file, write it elsewhere, and compare every tensor byte for byte."""
    loaded = load(folder)
    target = tmp_path / "again"
    loaded.save(target)
    if folder.is_dir():
        want = {p.name: read_file(p) for p in folder.glob("*.safetensors")}
        got = {p.name: read_file(p) for p in target.glob("*.safetensors")}
        assert json.loads((target / "config.json").read_text()) == loaded.config
    else:
        want, got = read_file(folder), read_file(target)
    assert got == want
    return loaded


def check_product(weight):
    """A compiled product with the weight, against float64."""
    n, k = weight.shape
    x = np.random.default_rng(1).standard_normal((5, k)).astype(np.float32)
    y = np.full((5, n), np.nan, np.float32)
    kernels.linear(x, weight, y)
    want = x.astype(np.float64) @ weight.dequantize().T.astype(np.float64)
    assert np.linalg.norm(y - want) <= 3e-6 * np.linalg.norm(want)


def ct(bits=4, group=None, **more):
    """compressed-tensors' quantization_config."""
    weights = {"num_bits": bits, "group_size": group} | more
    return {
        "quant_method": "compressed-tensors",
        "config_groups": {"group_0": {"weights": weights}},
    }


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
@pytest.mark.parametrize("version", [None, "gptq", "gptq_v2"])
def test_gptq(tmp_path, bits, version):
    n, k, group = 64, 192, 64
    q, z, s = numbers(bits, n, k, 3, bits)
    less = 0 if version == "gptq_v2" else 1
    config = {"quant_method": "gptq", "bits": bits, "group_size": group}
    config |= {} if version is None else {"checkpoint_format": version}
    tensors = in_layer(gptq(q, z, s, bits, less, np.arange(k) // group))
    loaded = round_trip(write_folder(tmp_path / "in", tensors, config), tmp_path)
    weight = loaded.weights[NAME]
    assert str(weight.format) == f"uint{bits}<group=64, scale=f16, zero=int>"
    want = exact(q - spread(z, group, k), spread(s, group, k))
    np.testing.assert_array_equal(weight.dequantize(), want)
    assert {*loaded.rest} == {
        "model.norm.weight",
        "lm_head.weight",
        "flag",
        "none",
        f"{NAME}.bias",
    }
    assert loaded.rest["model.norm.weight"].dtype == ml_dtypes.bfloat16
    assert loaded.rest["flag"].shape == ()
    if version is None:
        check_product(weight)


@pytest.mark.parametrize("bits", [3, 4])
@pytest.mark.parametrize("columns", [192, 160])
def test_gptq_with_act_order(tmp_path, bits, columns):
    """Columns whose groups are anywhere, the last group short: a permuted weight, unchanged."""
    q, z, s = numbers(bits, 64, columns, 3, bits)
    groups = np.random.default_rng(bits).permutation(np.arange(columns) // 64)
    config = {"quant_method": "gptq", "bits": bits, "group_size": 64, "desc_act": True}
    tensors = in_layer(gptq(q, z, s, bits, 1, groups))
    weight = round_trip(write_folder(tmp_path / "in", tensors, config), tmp_path).weights[NAME]
    assert str(weight.format) == f"permuted<uint{bits}<group=64, scale=f16, zero=int>>"
    want = exact(q - z[:, groups], s[:, groups])
    np.testing.assert_array_equal(weight.dequantize(), want)
    check_product(weight)


def test_compressed_tensors_with_act_order(tmp_path):
    q = np.random.default_rng(7).integers(-8, 8, (16, 96))
    s = np.random.default_rng(8).uniform(0.1, 0.2, (16, 3)).astype(np.float16)
    groups = np.random.default_rng(9).permutation(np.arange(96) // 32)
    tensors = in_layer(packed_quantised(q, None, s, 4) | {"weight_g_idx": groups.astype(np.int32)})
    folder = write_folder(tmp_path / "in", tensors, ct(4, 32))
    weight = round_trip(folder, tmp_path).weights[NAME]
    np.testing.assert_array_equal(weight.dequantize(), exact(q, s[:, groups]))
    check_product(weight)


@pytest.mark.parametrize("order", [True, False])
def test_gptq_with_one_group_a_row(tmp_path, order):
    q, z, s = numbers(1, 32, 96, 1, 4)
    order = np.zeros(96) if order else None
    config = {"quant_method": "gptq", "bits": 4, "group_size": -1}
    folder = write_folder(tmp_path / "in", in_layer(gptq(q, z, s, 4, 1, order)), config)
    weight = round_trip(folder, tmp_path).weights[NAME]
    assert str(weight.format) == "uint4<channel, scale=f16, zero=int>"
    np.testing.assert_array_equal(weight.dequantize(), exact(q - z, s))
    check_product(weight)


@pytest.mark.parametrize("bits", [3, 4, 8])
def test_zeros_in_the_middle_are_not_stored(tmp_path, bits):
    q, z, s = numbers(2, 32, 64, 2, bits)
    z[:] = 1 << bits - 1
    config = {"quant_method": "gptq", "bits": bits, "group_size": 32, "sym": True}
    folder = write_folder(tmp_path / "in", in_layer(gptq(q, z, s, bits)), config)
    weight = round_trip(folder, tmp_path).weights[NAME]
    assert str(weight.format) == f"uint{bits}<group=32, scale=f16>"
    want = exact(q - (1 << bits - 1), spread(s, 32, 64))
    np.testing.assert_array_equal(weight.dequantize(), want)


def test_groups_whose_last_is_short(tmp_path):
    q, z, s = numbers(3, 16, 96, 2, 4)
    config = {"quant_method": "gptq", "bits": 4, "group_size": 64}
    tensors = gptq(q, z, s, 4, 1, np.arange(96) // 64)
    weight = round_trip(write_folder(tmp_path / "in", in_layer(tensors), config), tmp_path)
    want = exact(q - spread(z, 64, 96), spread(s, 64, 96))
    np.testing.assert_array_equal(weight.weights[NAME].dequantize(), want)


def test_gptq_with_a_width_of_its_own_in_one_layer(tmp_path):
    """GPTQModel's `dynamic`."""
    config = {"quant_method": "gptq", "bits": 4, "group_size": 32,
              "dynamic": {"+:.*b": {"bits": 8, "group_size": 64}}}  # fmt: skip
    tensors = in_layer(gptq(*numbers(1, 32, 128, 4, 4), 4), "a")
    tensors |= in_layer(gptq(*numbers(1, 32, 128, 2, 8), 8), "b")
    weights = round_trip(write_folder(tmp_path / "in", tensors, config), tmp_path).weights
    assert str(weights["a"].format) == "uint4<group=32, scale=f16, zero=int>"
    assert str(weights["b"].format) == "uint8<group=64, scale=f16, zero=int>"


def test_awq(tmp_path):
    n, k, group = 48, 128, 32
    q, z, s = numbers(4, n, k, 4, 4)
    config = {"quant_method": "awq", "bits": 4, "group_size": group, "version": "gemm"}
    loaded = round_trip(write_folder(tmp_path / "in", in_layer(awq(q, z, s)), config), tmp_path)
    weight = loaded.weights[NAME]
    assert str(weight.format) == "uint4<group=32, scale=f16, zero=int>"
    want = exact(q - spread(z, group, k), spread(s, group, k))
    np.testing.assert_array_equal(weight.dequantize(), want)
    check_product(weight)


@pytest.mark.parametrize("how", ["gptq", "awq"])
def test_a_file_alone_is_told_by_its_shapes(tmp_path, how):
    q, z, s = numbers(4, 64, 128, 4, 4)
    path = tmp_path / "one.safetensors"
    write_file(path, in_layer(gptq(q, z, s, 4) if how == "gptq" else awq(q, z, s)))
    weight = round_trip(path, tmp_path).weights[NAME]
    want = exact(q - spread(z, 32, 128), spread(s, 32, 128))
    np.testing.assert_array_equal(weight.dequantize(), want)


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("group", [32, None])
def test_pack_quantized(tmp_path, bits, symmetric, group):
    n, k = 36, 96
    q, z, s = numbers(6, n, k, 3 if group else 1, bits, ml_dtypes.bfloat16)
    q, z = q - (1 << bits - 1), z - (1 << bits - 1)
    tensors = packed_quantised(q, None if symmetric else z, s, bits)
    config = ct(bits, group)
    loaded = round_trip(write_folder(tmp_path / "in", in_layer(tensors), config), tmp_path)
    weight = loaded.weights[NAME]
    block = "group=32" if group else "channel"
    zero = "" if symmetric else ", zero=int"
    assert str(weight.format) == f"uint{bits}<{block}, scale=bf16{zero}>"
    centred = q if symmetric else q - spread(z, group or k, k)
    np.testing.assert_array_equal(weight.dequantize(), exact(centred, spread(s, group or k, k)))
    check_product(weight)


def test_pack_quantized_ends_within_a_word(tmp_path):
    q, _, s = numbers(6, 9, 43, 1, 4)
    path = tmp_path / "one.safetensors"
    write_file(path, in_layer(packed_quantised(q - 8, None, s, 4)))
    weight = round_trip(path, tmp_path).weights[NAME]
    np.testing.assert_array_equal(weight.dequantize(), exact(q - 8, s))


FP8 = [("tensor", (), "weight_scale"), ("tensor", (1,), "weight_scale"),
       ("channel", (40, 1), "weight_scale"), ("channel", (40,), "weight_scale"),
       ("group=32", (40, 6), "weight_scale"),
       ("rows=128, group=128", (1, 2), "weight_scale_inv")]  # fmt: skip


def scale_at(s, block, i, j):
    """The scale of one element."""
    match block:
        case "tensor":
            return s.reshape(-1)[0]
        case "channel":
            return s.reshape(-1)[i]
        case "group=32":
            return s[i, j // 32]
        case _:
            return s[i // 128, j // 128]


@pytest.mark.parametrize("codes", ["float8_e4m3fn", "int8"])
@pytest.mark.parametrize(("block", "shape", "end"), FP8)
def test_bytes(tmp_path, codes, block, shape, end):
    n, k = 40, 192
    every = np.arange(256, dtype=np.uint8)
    if codes == "float8_e4m3fn":
        every = every[(every & 127) != 127]
        every = every.view(ml_dtypes.float8_e4m3fn)
    else:
        every = every.view(np.int8)
    w = rng.choice(every, (n, k))
    s = rng.uniform(0.1, 0.3, shape).astype(np.float32)
    config = ct(8, 32) if end == "weight_scale" else {"quant_method": "fp8",
                                                      "weight_block_size": [128, 128]}  # fmt: skip
    tensors = in_layer({"weight": w, end: np.array(s), "input_scale": np.ones(1, np.float32)})
    loaded = round_trip(write_folder(tmp_path / "in", tensors, config), tmp_path)
    weight = loaded.weights[NAME]
    name = "e4m3" if codes == "float8_e4m3fn" else "int8"
    assert str(weight.format) == f"{name}<{block}, scale=f32>"
    full = np.array([[scale_at(s, block, i, j) for j in range(k)] for i in range(n)])
    np.testing.assert_array_equal(weight.dequantize(), exact(w, full))
    assert f"{NAME}.input_scale" in loaded.rest
    check_product(weight)


def test_nan_and_negative_zero_of_fp8_come_back(tmp_path):
    w = np.arange(256, dtype=np.uint8).reshape(4, 64).view(ml_dtypes.float8_e4m3fn)
    path = tmp_path / "one.safetensors"
    write_file(path, in_layer({"weight": w, "weight_scale": np.ones(1, np.float32)}))
    round_trip(path, tmp_path)


def test_nvfp4(tmp_path):
    """The divisor is turned over once, so values are within three roundings of code * s / d."""
    n, k, divisor = 40, 96, 1234.567
    codes = rng.integers(0, 16, (n, k))
    scale = rng.integers(0, 127, (n, k // 16)).astype(np.uint8).view(ml_dtypes.float8_e4m3fn)
    config = ct(4, 16) | {"format": "nvfp4-pack-quantized"}
    tensors = in_layer(nvfp4(codes, scale, divisor))
    loaded = round_trip(write_folder(tmp_path / "in", tensors, config), tmp_path)
    weight = loaded.weights[NAME]
    assert str(weight.format) == "e2m1<group=16, scale=e4m3<tensor, scale=f32>>"
    value = np.array([*E2M1, *(-v for v in E2M1)])[codes]
    want = value * spread(scale.astype(np.float64), 16, k) / np.float64(np.float32(divisor))
    np.testing.assert_allclose(weight.dequantize(), want, rtol=3.01 * 2.0**-24, atol=0)
    check_product(weight)


def test_nf4(tmp_path):
    codes, absmax = rng.integers(0, 16, (24, 128)), rng.uniform(0.1, 2, 48).astype(np.float32)
    config = {"quant_method": "bitsandbytes", "load_in_4bit": True}
    tensors = in_layer(nf4(codes, absmax, 64))
    loaded = round_trip(write_folder(tmp_path / "in", tensors, config), tmp_path)
    weight = loaded.weights[NAME]
    assert str(weight.format) == "nf4<group=64, scale=f32>"
    table = np.array(NF4, np.float32)
    want = exact(table[codes], spread(absmax.reshape(24, 2), 64, 128))
    np.testing.assert_array_equal(weight.dequantize(), want)
    check_product(weight)


def test_nf4_with_quantised_absmax(tmp_path):
    """absmax is table[code] * scale + offset, each step in f32."""
    codes, absmax = rng.integers(0, 16, (40, 512)), rng.integers(0, 256, 320).astype(np.uint8)
    nested = rng.uniform(0.5, 1, 2).astype(np.float32)
    table = np.sort(rng.uniform(-1, 1, 256)).astype(np.float32)
    tensors = nf4(codes, absmax, 64, nested_blocksize=256, nested_offset=0.03125, nested_dtype="x")
    tensors |= {"weight.nested_absmax": nested, "weight.nested_quant_map": table}
    path = tmp_path / "one.safetensors"
    write_file(path, in_layer(tensors))
    weight = round_trip(path, tmp_path).weights[NAME]
    scale = [np.float32(table[a] * nested[i // 256]) + np.float32(0.03125)
             for i, a in enumerate(absmax)]  # fmt: skip
    scale = np.array(scale, np.float32).reshape(40, 8)
    want = exact(np.array(NF4, np.float32)[codes], spread(scale, 64, 512))
    np.testing.assert_array_equal(weight.dequantize(), want)


def test_a_layer_across_two_files(tmp_path):
    q, z, s = numbers(4, 16, 64, 2, 4)
    tensors = list(in_layer(awq(q, z, s)).items())
    folder = tmp_path / "in"
    folder.mkdir()
    files = {"a-1.safetensors": dict(tensors[::2]), "a-2.safetensors": dict(tensors[1::2])}
    for name, part in files.items():
        write_file(folder / name, part)
    places = {name: file for file, part in files.items() for name in part}
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": places}))
    config = {"quant_method": "awq", "bits": 4, "group_size": 32}
    (folder / "config.json").write_text(json.dumps({"quantization_config": config, "x": 1}))
    loaded = round_trip(folder, tmp_path)
    again = json.loads((tmp_path / "again" / index.name).read_text())
    assert again["weight_map"] == places
    assert again["metadata"]["total_size"] == sum(a.nbytes for _, a in tensors)
    want = exact(q - spread(z, 32, 64), spread(s, 32, 64))
    np.testing.assert_array_equal(loaded.weights[NAME].dequantize(), want)


def test_a_checkpoint_without_quantisation_is_left_alone(tmp_path):
    path = tmp_path / "plain.safetensors"
    cast = {
        "a.weight": np.ones((2, 2), ml_dtypes.float8_e4m3fn),
        "b.scales": np.ones(3, np.float32),
    }
    write_file(path, cast)
    assert not round_trip(path, tmp_path).weights
