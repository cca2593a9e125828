import pytest

from tilec.runtime.cache import Cache, Entry
from tilec.tune.config import Config
from tilec.tune.relatives import MOST_KEPT, adapted, family_key, relatives, remember
from tilec.tune.space import Constraint, Parameter, Space

SPACE = Space((Parameter("m", (1, 2, 4, 100)), Parameter("t", (0, 1)), Parameter("w", ("a", "b"))),
              (Constraint("m <= 4 or t == 0", "too large"),),
              Config.of({"m": 1, "t": 0, "w": "a"}))  # fmt: skip


def config(m, **more):
    return Config.of({"m": m, "t": 0, "w": "a", **more})


def record(rows, chosen, family="ab"):
    return {"family": family, "shape": {"M": rows, "N": 8}, "config": chosen.to_json()}


def found(cache, rows=16, family="ab", device="here", most=4, **shape):
    return relatives(cache, family, device, {"M": rows, "N": 8, **shape}, most)


def test_the_most_similar_shape_comes_first(tmp_path):
    cache = Cache(tmp_path)
    for rows, m in ((1, 1), (64, 4), (8, 2), (1024, 4)):
        remember(cache, "here", record(rows, config(m)))
    assert [c["m"] for c in found(cache)] == [2, 4, 1]
    assert [c["m"] for c in found(cache, 512)] == [4, 2, 1]
    assert [c["m"] for c in found(cache, 8)] == [1, 4]  # itself is left out
    assert [c["m"] for c in found(cache, most=1)] == [2]
    remember(cache, "here", record(8, config(1)))  # tuned again
    assert [c["m"] for c in found(cache)] == [1, 4]


def test_other_kernels_devices_and_kinds_of_shapes_are_no_relatives(tmp_path):
    cache = Cache(tmp_path)
    remember(cache, "here", record(8, config(2)))
    assert found(cache)
    assert not found(cache, family="cd")
    assert not found(cache, device="there")
    assert not found(cache, K=4)


def test_old_shapes_are_forgotten_and_nonsense_is_nothing(tmp_path):
    cache = Cache(tmp_path)
    for rows in range(1, MOST_KEPT + 3):
        remember(cache, "here", record(rows, config(1, n=rows)))
    assert len(found(cache, 1000, most=1000)) == MOST_KEPT
    for data in (b"[", b"{}", b'[{"shape": 1, "config": {}}]', b'[{"shape": {"M": 1.5}}]'):
        cache.put(family_key("ab", "here"), Entry(data, {"kind": "tuned-family"}))
        assert not found(cache)


@pytest.mark.parametrize(
    ("given", "made"),
    [
        (config(4), config(4)),
        (config(3), config(4)),
        (config(70), config(100)),
        (config(2, w="c"), config(2)),
        (Config.of({"m": 2, "other": 9}), config(2)),
        (config(70, t=1), None),
    ],
)
def test_a_config_is_taken_over_as_it_fits(given, made):
    assert adapted(given, SPACE) == made
