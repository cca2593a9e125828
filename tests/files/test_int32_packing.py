"""Codes in int32 words, every width against a stream of bits made one by one."""

import numpy as np
import pytest
from files.checkpoints import awq_words, gptq_words

from tilec.files.int32_packing import pack_awq, pack_words, unpack_awq, unpack_words, words_of


@pytest.mark.parametrize("bits", range(1, 9))
@pytest.mark.parametrize("count", [1, 7, 8, 31, 32, 33, 96])
def test_words_are_a_stream_of_bits(bits, count):
    codes = np.random.default_rng(bits).integers(0, 1 << bits, (3, count)).astype(np.uint8)
    words = pack_words(codes, bits)
    assert words.dtype == np.int32
    assert words.shape == (3, words_of(count, bits))
    for row, packed in zip(codes, words, strict=True):
        stream = sum(int(c) << bits * i for i, c in enumerate(row))
        assert packed.tobytes() == stream.to_bytes(4 * len(packed), "little")
    unpacked = unpack_words(words, bits)
    np.testing.assert_array_equal(unpacked[:, :count], codes)
    assert not unpacked[:, count:].any()


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_gptq_is_such_a_stream(bits):
    codes = np.random.default_rng(bits).integers(0, 1 << bits, (96, 5)).astype(np.uint8)
    np.testing.assert_array_equal(pack_words(codes.T, bits).T, gptq_words(codes, bits))


def test_awq_interleaves_columns():
    codes = np.random.default_rng(0).integers(0, 16, (5, 24)).astype(np.uint8)
    words = pack_awq(codes)
    np.testing.assert_array_equal(words, awq_words(codes))
    np.testing.assert_array_equal(unpack_awq(words), codes)
    assert hex(int(pack_awq(np.arange(8, dtype=np.uint8)[None])[0, 0])) == "0x75316420"
