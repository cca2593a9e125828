"""GGUF files against the gguf package: values, bytes, whole files, and files that are bad."""

from typing import Any

import gguf
import numpy as np
import pytest
from lang import kernels

import tilec as tc
from tilec.files.ggml_blocks import BLOCKS
from tilec.files.gguf import KNOWN, load, save, stored_types
from tilec.ir.bits import raw
from tilec.ir.codes import CODES
from tilec.ir.grid import Grid, nearest
from tilec.ir.named import named
from tilec.runtime.tensor import PackedTensor, packed

TYPES = {name: gguf.GGMLQuantizationType[name] for name in BLOCKS}
HALVES = {"Q1_0": [0], "Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q8_0": [0],
          "Q2_K": [80, 82], "Q3_K": [108], "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208],
          "IQ4_NL": [0], "IQ4_XS": [0], "TQ2_0": [64], "TQ1_0": [52]}  # fmt: skip
GRIDS = [name for name, block in BLOCKS.items() if block.table is not None]
ERRORS = {"IQ1_S": 0.46, "IQ1_M": 0.43, "IQ2_XXS": 0.34, "IQ2_XS": 0.3, "IQ2_S": 0.25,
          "IQ3_XXS": 0.19, "IQ3_S": 0.14}  # of a normal sample  # fmt: skip
HALVES |= {name: [0] for name in GRIDS if name != "IQ1_M"}
QUANTISED_BY_GGUF = ["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "TQ1_0", "TQ2_0", "MXFP4"]
BIG = named("int8<group=32, scale=f32>")


def drawn(kind: str, rows: int, count: int, seed: int = 0, tame: bool = False) -> np.ndarray:
    """Random blocks [rows, count, bytes] that an encoder might have written; of all bits, and
    with scales of all finite numbers unless `tame`."""
    rng = np.random.default_rng([seed, *kind.encode()])
    size = gguf.GGML_QUANT_SIZES[TYPES[kind]][1]
    blocks = rng.integers(0, 256, (rows, count, size), dtype=np.uint8)
    for at in HALVES.get(kind, []):
        d = rng.integers(0, 1 << 16, (rows, count, 1), dtype=np.uint16)
        d = d & 0x83FF | 0x1C00 if tame else np.where((d & 0x7C00) == 0x7C00, d & 0x8000, d)
        blocks[..., at : at + 2] = d.astype(np.uint16).view(np.uint8)
    if kind == "Q8_K":
        blocks[..., :4] = rng.standard_normal((rows, count, 1), np.float32).view(np.uint8)
        codes = blocks[..., 4:260].view(np.int8).reshape(rows, count, 16, 16)
        blocks[..., 260:] = codes.sum(-1, dtype=np.int16).view(np.uint8)
    if kind == "IQ1_M":  # the scale in the highest nibbles of four words
        d = rng.integers(0, 0x7C00, (rows, count, 1)) | rng.integers(0, 2, (rows, count, 1)) << 15
        d = d & 0x83FF | 0x1C00 if tame else d
        nibbles = d >> np.array([0, 4, 8, 12]) & 15
        blocks[..., 49::2] = blocks[..., 49::2] & 15 | nibbles.astype(np.uint8) << 4
    if kind == "MXFP4":
        blocks[..., 0] = rng.integers(120, 128) if tame else rng.integers(0, 255, (rows, count))
    if kind == "NVFP4":
        blocks[..., :4] = blocks[..., :4] % 8 + 0x30 if tame else blocks[..., :4] % 127
    if kind in ("TQ1_0", "TQ2_0"):
        values = rng.integers(-1, 2, (rows, count * 256)).astype(np.float32)
        values[:, ::256] = 1.0
        written = gguf.quants.quantize(values, TYPES[kind]).reshape(blocks.shape)
        own = slice(HALVES[kind][0], HALVES[kind][0] + 2)
        written[..., own] = blocks[..., own]
        return written
    return blocks


def meant(kind: str, blocks: np.ndarray) -> np.ndarray:
    """The oracle: what gguf says of rows of blocks, or the definition where it says nothing."""
    rows, count, size = blocks.shape
    if kind == "Q1_0":
        bits = np.unpackbits(blocks[..., 2:], axis=-1, bitorder="little")
        d = np.ascontiguousarray(blocks[..., :2]).view(np.float16).astype(np.float32)
        return np.where(bits, d, -d).reshape(rows, -1)
    if kind == "Q8_K":
        d = np.ascontiguousarray(blocks[..., :4]).view(np.float32)
        return (d * blocks[..., 4:260].view(np.int8)).reshape(rows, -1)
    with np.errstate(over="ignore"):
        return gguf.quants.dequantize(blocks.reshape(rows, count * size), TYPES[kind])


def written(path: Any, tensors: dict[str, tuple[str, np.ndarray]]) -> Any:
    """A file by gguf's own writer, of blocks [rows, count, bytes] or of arrays."""
    writer = gguf.GGUFWriter(path, "made_elsewhere")
    writer.add_array("some.words", ["a", "bc", "d"])
    writer.add_array("some.numbers", [1, 2, 3])
    for name, (kind, data) in tensors.items():
        rows = data.reshape(data.shape[0], -1) if kind in BLOCKS else data
        writer.add_tensor(name, rows, raw_dtype=gguf.GGMLQuantizationType[kind])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def contents(path: Any) -> dict[str, tuple[str, list[int], bytes]]:
    """The type, the dimensions and the bytes of every tensor, as gguf reads them."""
    return {
        t.name: (t.tensor_type.name, t.shape.tolist(), t.data.tobytes())
        for t in gguf.GGUFReader(path).tensors
    }


def same_bits(a: np.ndarray, b: np.ndarray) -> bool:
    return a.dtype == b.dtype == np.float32 and a.tobytes() == b.tobytes()


def test_every_type_of_the_brief_is_there():
    sizes = {name: gguf.GGML_QUANT_SIZES[t] for name, t in TYPES.items()}
    assert sizes == {name: (b.elements, b.bytes) for name, b in BLOCKS.items()}
    assert len(GRIDS) == 7
    assert {t.name for t in gguf.GGMLQuantizationType} - set(KNOWN) == {"Q8_1"}


@pytest.mark.parametrize("kind", BLOCKS)
def test_values_are_those_of_gguf_to_the_bit(kind: str):
    block, blocks = BLOCKS[kind], drawn(kind, 37, 5)
    parts, shape = block.unpack(blocks), (37, 5 * block.elements)
    got, want = block.format.values(parts, shape).astype(np.float32), meant(kind, blocks)
    if kind in ("MXFP4", "NVFP4"):  # gguf knows no -0: code 8 is 0 there, and -0 in e2m1
        zero = raw(CODES["e2m1"], parts["codes"]) == 8
        assert zero.any()
        assert not got[zero].any()
        assert not want[zero].any()
        assert np.signbit(got[zero]).all()
        got = np.where(zero, want, got)
    assert same_bits(got, want)
    for name, c in ((c.name, c) for c in block.format.components(shape)):
        assert parts[name].shape == c.shape
        assert parts[name].dtype == c.dtype.carrier


@pytest.mark.parametrize("kind", BLOCKS)
def test_blocks_come_back_to_the_bit(kind: str):
    block = BLOCKS[kind]
    for seed in range(8):
        blocks = drawn(kind, 7, 3, seed)
        assert np.array_equal(block.pack(block.unpack(blocks)), blocks)
    cube = drawn(kind, 12, 3).reshape(3, 4, 3, -1)
    assert np.array_equal(block.pack(block.unpack(cube)), cube)
    assert np.array_equal(block.pack(block.unpack(cube[0, 0])), cube[0, 0])


@pytest.mark.parametrize("kind", ["Q2_K", "Q4_K", "Q5_K", "Q4_0", "Q6_K"])
def test_every_half_as_a_scale_comes_back(kind: str):
    """Zeros of both signs, infinities and NaN of every payload included."""
    every = np.arange(1 << 16, dtype=np.uint16).reshape(64, 1024, 1).view(np.uint8)
    blocks = np.zeros((64, 1024, BLOCKS[kind].bytes), np.uint8)
    for at in HALVES[kind]:
        blocks[..., at : at + 2] = every
    tensor = packed(BLOCKS[kind].format, BLOCKS[kind].unpack(blocks),
                    (64, 1024 * BLOCKS[kind].elements))  # fmt: skip
    assert np.array_equal(BLOCKS[kind].pack(tensor.parts()), blocks)


@pytest.mark.parametrize("kind", BLOCKS)
def test_a_file_runs_and_is_written_as_it_was(kind: str, tmp_path: Any):
    k = max(256, BLOCKS[kind].elements) * 2
    blocks = drawn(kind, 70, k // BLOCKS[kind].elements, tame=True)
    bias = np.linspace(-1, 1, 70, dtype=np.float32)
    theirs = written(tmp_path / "theirs.gguf", {"w": (kind, blocks), "bias": ("F32", bias)})
    tensors: dict[str, Any] = load(theirs)
    w = tensors["w"]
    assert isinstance(w, PackedTensor)
    assert (w.format, w.shape) == (named(BLOCKS[kind].published), (70, k))
    assert np.array_equal(tensors["bias"], bias)
    x = np.random.default_rng(1).standard_normal((5, k)).astype(np.float32)
    y = np.full((5, 70), np.nan, np.float32)
    kernels.linear(x, w, y)
    want = x.astype(np.float64) @ meant(kind, blocks).astype(np.float64).T
    assert np.linalg.norm(y - want) <= 3e-6 * np.linalg.norm(want)
    save(tmp_path / "ours.gguf", tensors, types=stored_types(theirs))
    assert contents(tmp_path / "ours.gguf") == contents(theirs)


@pytest.mark.parametrize("kind", QUANTISED_BY_GGUF)
def test_what_gguf_quantises_is_read(kind: str, tmp_path: Any):
    x = np.random.default_rng(3).standard_normal((20, 768)).astype(np.float32)
    rows = gguf.quants.quantize(x, TYPES[kind])
    path = written(tmp_path / "a.gguf", {"w": (kind, rows)})
    w = load(path)["w"]
    assert isinstance(w, PackedTensor)
    assert np.array_equal(w.dequantize(), gguf.quants.dequantize(rows, TYPES[kind]))
    save(tmp_path / "b.gguf", {"w": w}, types={"w": kind})
    assert contents(tmp_path / "b.gguf") == contents(path)


@pytest.mark.parametrize("kind", [name for name in BLOCKS if name != "NVFP4"])
def test_what_tilec_quantises_is_read_by_gguf(kind: str, tmp_path: Any):
    x = np.random.default_rng(4).standard_normal((20, 768)).astype(np.float32)
    format, table = BLOCKS[kind].format, BLOCKS[kind].table
    w = tc.quantize(x, format)
    if table is not None and isinstance(format, Grid):  # what it learnt is no table of llama.cpp's
        with pytest.raises(tc.TileError, match=f"as {kind}: its table is its own, but such blocks"):
            save(tmp_path / "a.gguf", {"w": w}, types={"w": kind})
        w = packed(format, nearest(format, x, table.values), x.shape)
        assert np.linalg.norm(w.dequantize() - x) < ERRORS[kind] * np.linalg.norm(x)
    save(tmp_path / "a.gguf", {"w": w}, types={"w": kind})
    ((name, dims, data),) = contents(tmp_path / "a.gguf").values()
    assert (name, dims) == (kind, [768, 20])
    blocks = np.frombuffer(data, np.uint8).reshape(20, -1, BLOCKS[kind].bytes)
    assert np.array_equal(w.dequantize(), meant(kind, blocks))


def test_arrays_of_every_dtype_and_rank(tmp_path: Any):
    rng = np.random.default_rng(5)
    arrays: dict[str, Any] = {}
    for kind in ("F32", "F16", "F64", "I8", "I16", "I32", "I64", "BF16"):
        data = rng.integers(-100, 100, (2, 3, 4, 5)) / (1 if kind[0] == "I" else 8)
        dtype = tc.bf16.numpy if kind == "BF16" else np.dtype(f"{kind[0].lower()}{kind[1:]}"
                                                              .replace("f", "float")
                                                              .replace("i", "int"))  # fmt: skip
        arrays |= {f"{kind}.{n}": data[(0,) * (4 - n)].astype(dtype) for n in range(1, 5)}
    arrays["turned"] = arrays["F32.2"].T
    arrays["scalar"] = np.float32(2.5)
    save(tmp_path / "a.gguf", arrays, architecture="mine")
    got: dict[str, Any] = load(tmp_path / "a.gguf")
    assert list(got) == list(arrays)
    for name, a in arrays.items():
        assert isinstance(got[name], np.ndarray)
        assert got[name].dtype == a.dtype
        assert np.array_equal(got[name], a)
        assert got[name].shape == a.shape
    reader = gguf.GGUFReader(tmp_path / "a.gguf")
    assert reader.fields["general.architecture"].contents() == "mine"
    save(tmp_path / "a.gguf", got)  # over the file that it came from
    assert [*load(tmp_path / "a.gguf")] == [*arrays]
    save(tmp_path / "none.gguf", {})
    assert load(tmp_path / "none.gguf") == {}


def test_tensors_that_are_no_matrices(tmp_path: Any):
    blocks = drawn("Q4_K", 6, 2)
    writer = gguf.GGUFWriter(tmp_path / "a.gguf", "experts")
    writer.add_tensor("experts", blocks.reshape(2, 3, 288), raw_dtype=TYPES["Q4_K"])
    writer.add_tensor("row", blocks[0].reshape(288), raw_dtype=TYPES["Q4_K"])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    tensors: Any = load(tmp_path / "a.gguf")
    assert {name: t.shape for name, t in tensors.items()} == {"experts": (2, 3, 512), "row": (512,)}
    want = meant("Q4_K", blocks)
    assert same_bits(tensors["experts"].dequantize().reshape(6, 512), want)
    assert same_bits(tensors["row"].dequantize(), want[0])
    save(tmp_path / "b.gguf", tensors)
    assert contents(tmp_path / "b.gguf") == contents(tmp_path / "a.gguf")


def test_ternary_tensors_become_tq2_0_unless_told(tmp_path: Any):
    path = written(tmp_path / "a.gguf", {"w": ("TQ1_0", drawn("TQ1_0", 3, 2))})
    tensors = load(path)
    assert stored_types(path) == {"w": "TQ1_0"}
    save(tmp_path / "b.gguf", tensors)
    assert stored_types(tmp_path / "b.gguf") == {"w": "TQ2_0"}
    w: Any = load(tmp_path / "b.gguf")["w"]
    assert np.array_equal(w.dequantize(), meant("TQ1_0", drawn("TQ1_0", 3, 2)))


def refused(path: Any, reads: Any = load) -> str:
    """The message for a bad file, which names it."""
    with pytest.raises(tc.TileError) as caught:
        reads(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    return message.removeprefix(f"{path}: ")


def small(path: Any) -> Any:
    return written(path, {"a": ("Q4_0", drawn("Q4_0", 2, 1)), "w": ("Q4_K", drawn("Q4_K", 1, 1))})


@pytest.mark.parametrize("reads", [load, stored_types])
def test_what_is_no_gguf_file(reads: Any, tmp_path: Any):
    path = tmp_path / "model.gguf"
    assert refused(path, reads) == "No such file or directory"
    assert refused(tmp_path, reads) == "Is a directory"
    path.write_bytes(b"")
    assert refused(path, reads) == "no GGUF file: it begins with b'', not b'GGUF'"
    path.write_bytes(b"PK\x03\x04 and more")
    assert refused(path, reads) == r"no GGUF file: it begins with b'PK\x03\x04', not b'GGUF'"
    path.write_bytes(b"GGUF" + bytes([9, 0, 0, 0]) + bytes(64))
    assert "no readable GGUF file: Sorry, file appears to be version 9" in refused(path, reads)
    writer = gguf.GGUFWriter(path, "x", endianess=gguf.GGUFEndian.BIG)
    writer.add_tensor("a", np.ones(3, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    assert refused(path, reads) == "a file of big-endian numbers; tilec reads little-endian ones"


def test_a_truncated_file_is_refused_wherever_it_ends(tmp_path: Any):
    whole = small(tmp_path / "whole.gguf").read_bytes()
    last = gguf.GGUFReader(tmp_path / "whole.gguf").tensors[-1]
    end = last.data_offset + last.n_bytes
    path, message = tmp_path / "cut.gguf", ""
    for size in range(end):
        path.write_bytes(whole[:size])
        message = refused(path)
        assert "truncated" in message or (size < 4 and "no GGUF file" in message)
    assert "tensor `w` ends at byte" in message
    path.write_bytes(whole[:end])
    assert [*load(path)] == ["a", "w"]


def test_a_damaged_file_gives_one_error_or_tensors(tmp_path: Any):
    """Every bit of the header turned, and all bits of each byte."""
    whole = small(tmp_path / "whole.gguf").read_bytes()
    header = gguf.GGUFReader(tmp_path / "whole.gguf").tensors[0].data_offset
    path, messages = tmp_path / "bad.gguf", list[str]()
    for at in range(header):
        for turned in (*(1 << b for b in range(8)), 255):
            path.write_bytes(whole[:at] + bytes([whole[at] ^ turned]) + whole[at + 1 :])
            try:
                load(path)
            except tc.TileError as e:
                messages.append(str(e))
    assert len(messages) > header
    assert all(m.startswith(f"{path}: ") for m in messages)


def patched(path: Any, tensor: str, part: int, value: Any) -> Any:
    """A small file in which a part of a tensor's description is another."""
    reader = gguf.GGUFReader(small(path), "r+")
    fields = {t.name: t.field for t in reader.tensors}
    fields[tensor].parts[part][:] = value
    return path


def test_tensors_that_are_described_wrongly(tmp_path: Any):
    path = tmp_path / "bad.gguf"
    known = "known types are F32, F16, BF16, F64, I8, I16, I32, I64, Q1_0, Q4_0"
    message = refused(patched(path, "w", 4, 99))
    assert message.startswith(f"tensor `w` has the unknown type 99; {known}")
    patched(path, "w", 4, gguf.GGMLQuantizationType.Q8_1)
    path.write_bytes(path.read_bytes() + bytes(512))
    message = refused(path)
    assert message.startswith(
        f"tensor `w` has the type Q8_1, which no format of tilec expresses; {known}"
    )
    assert stored_types(path) == {"a": "Q4_0", "w": "Q8_1"}
    message = refused(patched(path, "w", 3, [128, 2]))
    assert message == ("tensor `w` of shape [2, 128]: Q4_K has blocks of 256 elements, and the "
                       "last dimension is no multiple of that")  # fmt: skip
    message = refused(patched(path, "w", 5, 32))
    assert "tensor `w` is said to be at byte 32 of the data, but the tensors before it" in message
    message = refused(patched(path, "w", 3, [256, 0]))
    assert message == "tensor `w` (Q4_K) of shape [0, 256] has no elements"
    assert "truncated: tensor `w` ends" in refused(patched(path, "w", 3, [1 << 40, 1 << 40]))


def test_bits_without_meaning_are_refused(tmp_path: Any):
    def bad(kind: str, at: int, bits: int) -> str:
        blocks = drawn(kind, 3, 2)
        blocks[1, 1, at] = bits
        path = written(tmp_path / "bad.gguf", {"w": (kind, blocks)})
        return refused(path).removeprefix(f"tensor `w` ({kind}): block [1, 1] has ")

    up_to = "which mean a number up to"
    assert bad("TQ2_0", 0, 0xFF) == f"codes with the bits 0x3, {up_to} 0x2 only"
    assert bad("MXFP4", 0, 0xFF) == f"scale with the bits 0xff, {up_to} 0xfe only"
    assert bad("NVFP4", 2, 0x7F) == f"scale.codes with the bits 0x7f, {up_to} 0x7e only"
    assert bad("NVFP4", 2, 0x80) == f"scale.codes with the bits 0x80, {up_to} 0x7e only"
    assert bad("TQ1_0", 7, 1) == "bits that can't be kept: no encoder writes them"
    off = (int(drawn("Q8_K", 3, 2)[1, 1, 261]) + 1) % 256
    assert bad("Q8_K", 261, off) == "bits that can't be kept: no encoder writes them"


def test_tensors_that_no_gguf_type_holds(tmp_path: Any):
    path = tmp_path / "a.gguf"
    path.write_bytes(b"kept")
    x = np.random.default_rng(6).standard_normal((4, 96)).astype(np.float32)

    def unsaved(tensor: Any, kind: str | None = None) -> str:
        return refused(path, lambda p: save(p, {"w": tensor}, types={"w": kind} if kind else None))

    message = unsaved(tc.quantize(x, BIG))
    assert message.startswith("tensor `w` of int8<group=32, scale=f32>[4, 96] has no GGUF type; "
                              "those of q1_0, q4_0, q4_1, ")  # fmt: skip
    message = unsaved(np.ones((2, 3), np.complex64))
    assert message.startswith("tensor `w` of complex64[2, 3] has no GGUF type; those of float32, ")
    message = unsaved(tc.quantize(x, named("q4_k")))
    assert "Q4_K has blocks of 256 elements, and the last dimension is no multiple" in message
    message = unsaved(tc.quantize(x, named("q4_0")), "TQ1_0")
    assert message.endswith("[4, 96] can't be stored as TQ1_0: expected Q4_0")
    assert unsaved(x, "F16").endswith("[4, 96] can't be stored as F16: expected F32")
    assert "more than 4 dimensions" in unsaved(np.ones((1, 1, 1, 1, 2), np.float32))
    message = unsaved(tc.quantize(x[:, :64], named("nvfp4")))
    assert "as NVFP4: scale.scale is " in message
    assert message.endswith("is not 1: store it as a tensor of its own")
    assert path.read_bytes() == b"kept"
    assert [p.name for p in tmp_path.iterdir()] == ["a.gguf"]
    away = tmp_path / "nowhere" / "a.gguf"
    assert refused(away, lambda p: save(p, {"w": x})) == "No such file or directory"
