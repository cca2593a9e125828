"""What is wrong with a checkpoint is one TileError that names file, layer, what is, what should."""

import dataclasses
import json

import ml_dtypes
import numpy as np
import pytest
from files.checkpoints import (
    awq,
    gptq,
    in_layer,
    nf4,
    numbers,
    nvfp4,
    packed_quantised,
    write_file,
    write_folder,
)

import tilec as tc
from tilec.files.checkpoint import load
from tilec.ir.errors import TileError

NAME = "model.layers.0.q_proj"
GPTQ = {"quant_method": "gptq", "bits": 4, "group_size": 32}
AWQ = {"quant_method": "awq", "bits": 4, "group_size": 32}
CT = {"quant_method": "compressed-tensors"}
BNB = {"quant_method": "bitsandbytes"}
Q, Z, S = numbers(1, 32, 64, 2, 4)
ORDER = np.arange(64) // 32
STATE = "weight.quant_state.bitsandbytes__nf4"


def nf4_nested():
    absmax = np.arange(32, dtype=np.uint8)
    out = nf4(Q, absmax, 64, nested_blocksize=256, nested_offset=0.5)
    return out | {"weight.nested_absmax": np.ones(1, np.float32),
                  "weight.nested_quant_map": np.ones(256, np.float32)}  # fmt: skip


GOOD = {
    "gptq": (GPTQ, lambda: gptq(Q, Z, S, 4, 1, ORDER)),
    "awq": (AWQ, lambda: awq(Q, Z, S)),
    "packed": (CT, lambda: packed_quantised(Q - 8, Z - 8, S, 4)),
    "bytes": (CT, lambda: {"weight": np.ones((32, 64), ml_dtypes.float8_e4m3fn),
                           "weight_scale": np.ones((32, 1), np.float32)}),
    "blocks": ({"quant_method": "fp8"}, lambda: {"weight": np.ones((32, 64), "int8"),
               "weight_scale_inv": np.ones((1, 1), np.float32)}),
    "nvfp4": (CT, lambda: nvfp4(Q, np.ones((32, 4), ml_dtypes.float8_e4m3fn), 2.0)),
    "nf4": (BNB, lambda: nf4(Q, np.ones(32, np.float32), 64)),
    "nested": (BNB, nf4_nested),
}  # fmt: skip


def failure(path) -> str:
    with pytest.raises(TileError) as e:
        load(path)
    return str(e.value)


def wrong(tmp_path, how, config=None, **changes) -> str:
    """What is said of a good layer with some tensors replaced, or left out where None."""
    said, make = GOOD[how]
    tensors = make() | changes
    tensors = in_layer({end: a for end, a in tensors.items() if a is not None})
    folder = write_folder(tmp_path / "in", tensors, said | (config or {}))
    message = failure(folder)
    assert str(folder) in message
    assert message.count("\n") == 0
    return message


LACKS = [(how, end) for how, (_, make) in GOOD.items() for end in make()
         if end not in ("g_idx", "weight_zero_point")]  # fmt: skip


@pytest.mark.parametrize(("how", "end"), LACKS)
def test_missing_companions(tmp_path, how, end):
    message = wrong(tmp_path, how, **{end: None})
    assert f"layer {NAME}" in message
    assert "expected" in message


def test_the_words_of_a_missing_companion(tmp_path):
    message = wrong(tmp_path, "gptq", scales=None)
    assert message == (f"{tmp_path}/in/model.safetensors: layer {NAME}: there is no `.scales`; "
                       "expected one beside `.qweight`, `.qzeros`, `.g_idx`")  # fmt: skip


I32 = np.int32
SHAPES = [
    ("gptq", {"scales": np.ones((2, 31), np.float16)}, "`.scales` has shape [2, 31]; "
     "expected [any, 32] with elements"),
    ("gptq", {"qzeros": np.ones((3, 4), I32)}, "`.qzeros` has shape [3, 4]; expected [2, any]"),
    ("gptq", {"qzeros": np.ones((2, 5), I32)}, "32 zeros a group are 5 words of `.qzeros`; "
     "expected 2, 3, 4 or 8 bits a zero"),
    ("gptq", {"qzeros": np.ones((2, 8), I32)}, "`.qzeros` has 8 bits a zero; expected 4"),
    ("gptq", {"scales": np.ones((2, 32), np.int8)}, "`.scales` is int8; expected float16"),
    ("gptq", {"g_idx": np.zeros(63, I32)}, "`.g_idx` has shape [63]; expected [64]"),
    ("gptq", {"qweight": np.zeros((0, 32), I32)}, "`.qweight` has shape [0, 32]; expected [any"),
    ("gptq", {"qweight": np.zeros((20, 32), I32), "g_idx": None}, "160 columns have 2 scales a "
     "row; expected one scale a group, of the group size 32"),
    ("awq", {"scales": np.ones((2, 40), np.float16)}, "`.scales` has shape [2, 40]"),
    ("awq", {"qzeros": np.ones((2, 5), I32)}, "`.qzeros` has shape [2, 5]; expected [2, 4]"),
    ("packed", {"weight_shape": np.array([32, 200])}, "`.weight_packed` has 8 words for 200 "
     "columns; expected codes of 4 or 8 bits"),
    ("packed", {"weight_shape": np.array([31, 64])}, "`.weight_packed` has shape [32, 8]; "
     "expected [31, any]"),
    ("packed", {"weight_shape": np.array([32, 60])}, "`.weight_packed` has bits after its 60"),
    ("packed", {"weight_scale": np.ones((32, 7), np.float32)}, "64 columns have 7 scales a row"),
    ("packed", {"weight_scale": np.ones((5, 7), np.float32)}, "the scales of [32, 64] have shape "
     "[5, 7]; expected one scale, one a row, one a group, or one a block of 128 x 128"),
    ("packed", {"weight_zero_point": np.ones((4, 3), I32)}, "`.weight_zero_point` has shape"),
    ("packed", {"weight_zero_point": np.ones((32, 2), np.int8)}, "`.weight_zero_point` is int8"),
    ("bytes", {"weight": np.ones(32, ml_dtypes.float8_e4m3fn)}, "`.weight` has shape [32]"),
    ("bytes", {"weight_zero_point": np.ones(3, I32)}, "expected symmetric codes"),
    ("nvfp4", {"weight_scale": np.ones((32, 5), ml_dtypes.float8_e4m3fn)}, "expected [32, 4]"),
    ("nvfp4", {"weight_packed": np.ones((32, 33), np.uint8)}, "66 columns; expected groups of 16"),
    ("nvfp4", {"weight_global_scale": np.zeros(1, np.float32)}, "`.weight_global_scale` is 0.0"),
    ("nvfp4", {"weight_packed": np.ones((32, 32), np.int8)}, "belongs to no quantised layer"),
    ("nf4", {"weight": np.ones((1023, 1), np.uint8)}, "`.weight` has shape [1023, 1]; expected "
     "[1024, 1]"),
    ("nf4", {"weight.absmax": np.ones(31, np.float32)}, "`.weight.absmax` has shape [31]"),
    ("nf4", {"weight.quant_map": np.ones(16, np.float32)}, "is not the table of NF4"),
    ("nf4", {STATE: np.array([123, 1], np.uint8)}, "is no JSON"),
    ("nf4", {STATE: np.frombuffer(b"[1]", np.uint8)}, "is [1]; expected quant_type nf4"),
    ("nested", {"weight.nested_absmax": np.ones(2, np.float32)}, "`.weight.nested_absmax` has"),
]  # fmt: skip


@pytest.mark.parametrize(("how", "changes", "message"), SHAPES)
def test_tensors_that_do_not_fit(tmp_path, how, changes, message):
    said = wrong(tmp_path, how, **changes)
    assert message in said
    assert NAME in said


CONFIGS = [
    ("gptq", {"checkpoint_format": "marlin"}, "checkpoint_format = 'marlin'; expected gptq or "),
    ("gptq", {"group_size": 16}, "64 columns have 2 scales a row; expected one scale a group, of "
     "the group size 16"),
    ("gptq", {"group_size": "x"}, "quantization_config has group_size = 'x'; expected a whole"),
    ("awq", {"version": "gemv"}, "version = 'gemv'; expected gemm"),
    ("awq", {"bits": 3}, "quantization_config has 3 bits; expected 4"),
    ("packed", {"config_groups": {"group_0": {"weights": {"num_bits": 8}}}}, "8 words for 64"),
    ("gptq", {"quant_method": "awq"}, "`.scales` has shape [2, 32]; expected [any, 256]"),
    ("awq", {"quant_method": "gptq"}, "`.scales` has shape [2, 32]; expected [any, 4]"),
    ("awq", {"quant_method": "bitsandbytes"}, "`.qweight` (int32[64, 4]) belongs to no"),
    ("awq", {"quant_method": "quip"}, "config.json: quant_method is 'quip'; expected one of gptq"),
    ("awq", {"quant_method": None}, "quant_method is None; expected one of gptq"),
    ("awq", {"quant_method": ["gptq"]}, "quant_method is ['gptq']; expected one of gptq"),
]  # fmt: skip


@pytest.mark.parametrize(("how", "config", "message"), CONFIGS)
def test_configs_that_do_not_fit(tmp_path, how, config, message):
    assert message in wrong(tmp_path, how, config)


def test_groups_of_columns_of_other_sizes(tmp_path):
    order = np.zeros(64, I32)
    order[1:] = 1
    message = wrong(tmp_path, "gptq", g_idx=order)
    assert (
        f"layer {NAME}: `.g_idx` has groups of other sizes; expected 32 columns a group" in message
    )


def test_fp4_and_blocks_across_rows_of_bitsandbytes(tmp_path):
    tensors = nf4(Q, np.ones(32, np.float32), 64)
    tensors["weight.quant_state.bitsandbytes__fp4"] = tensors.pop(STATE)
    path = tmp_path / "a.safetensors"
    write_file(path, in_layer(tensors))
    assert "bitsandbytes' FP4 is not supported; expected NF4" in failure(path)
    write_file(path, in_layer(nf4(Q[:, :32], np.ones(16, np.float32), 64)))
    assert "a block of 64 is not within a row of 32" in failure(path)
    write_file(path, in_layer({"weight": np.ones((4, 4), np.int8), "SCB": np.ones(4, np.float32)}))
    assert "`.SCB` (float32[4]) belongs to no quantised layer" in failure(path)


def test_files_that_are_damaged(tmp_path):
    good, bad = tmp_path / "good.safetensors", tmp_path / "bad.safetensors"
    write_file(good, in_layer(GOOD["awq"][1]()), {"format": "pt"})
    data = good.read_bytes()
    for cut in (0, 4, 8, 100, len(data) // 2, len(data) - 1):
        bad.write_bytes(data[:cut])
        assert f"{bad}: " in failure(bad)
        assert "expected a whole safetensors file" in failure(bad)
    for broken in (b"\xff" * 64, data + b"0", data[:8] + b"?" + data[9:]):
        bad.write_bytes(broken)
        assert "expected a whole safetensors file" in failure(bad)
    assert "can't be read: No such file" in failure(tmp_path / "none.safetensors")
    bad.write_bytes(data.replace(b'"I32"', b'"F4" ', 1))
    failure(bad)


def test_folders_that_are_incomplete(tmp_path):
    folder = write_folder(tmp_path / "in", in_layer(GOOD["awq"][1]()), AWQ)
    config = folder / "config.json"
    whole = config.read_text()
    config.write_text(whole[:-3])
    assert f"{config}: is no JSON" in failure(folder)
    config.write_text("[]")
    assert f"{config}: is a list; expected a JSON object" in failure(folder)
    config.unlink()
    assert f"{config}: can't be read" in failure(folder)
    config.write_text(whole)
    write_file(folder / "more.safetensors", in_layer({}))
    assert "is in model.safetensors and in more.safetensors; expected one" in failure(
        folder
    ).replace(f"{folder}/", "")
    (folder / "more.safetensors").unlink()
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "model-2.safetensors"}}))
    assert f"{index}: there is no model-2.safetensors" in failure(folder)
    (folder / "model.safetensors").unlink()
    assert "there is no .safetensors file" in failure(folder)


@pytest.mark.parametrize("how", GOOD)
def test_any_one_tensor_of_another_shape_or_type(tmp_path, how):
    """Each is loaded and comes back whole, or is a TileError: nothing else."""
    config, make = GOOD[how]
    tensors = make()
    for i, (end, a) in enumerate(tensors.items()):
        others = [a.reshape(-1)[:-1], a.reshape(1, *a.shape), a[:0], a.T, a.astype(np.int8),
                  a.astype(np.float32), a.reshape(-1)[0], a.reshape(-1)[::-1]]  # fmt: skip
        for j, other in enumerate(others):
            changed = in_layer(tensors | {end: np.array(other)})
            folder = write_folder(tmp_path / f"{i}.{j}", changed, config)
            for path in (folder, folder / "model.safetensors"):
                try:
                    written = load(path).tensors()
                except TileError:
                    continue
                for name, made in changed.items():
                    assert made.tobytes() == written[name].tobytes(), (end, j, name)


def test_saving_what_was_changed(tmp_path):
    folder = write_folder(tmp_path / "in", in_layer(GOOD["awq"][1]()), AWQ)
    loaded = load(folder)
    other = tc.quantize(np.ones((32, 64), np.float32), tc.uint4(group=16, zero="int"))
    for weights, message in (
        ({}, f"the checkpoint has no weight {NAME}, which its files had"),
        ({NAME: other}, f"tensor {NAME}.qzeros is int32[4, 4] now; its file had int32[2, 4]"),
    ):
        with pytest.raises(TileError) as e:
            dataclasses.replace(loaded, weights=weights).save(tmp_path / "out")
        assert message in str(e.value)
    with pytest.raises(TileError, match="can't be written"):
        loaded.save(folder / "config.json")
