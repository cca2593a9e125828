from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import tilec as tc
from tilec.compile import engine
from tilec.cpu import Schedule, cpu_source
from tilec.ir.errors import TileError
from tilec.schedule import Facts, domains
from tilec.tune.config import Config
from tilec.tune.job import choice_of, subject
from tilec.tune.population import everything, sample
from tilec.tune.spaces import SHARED, derived
from tilec.tune.tuner import pruned


@tc.kernel
def linear(x: tc.Tensor["M", "K"], w: tc.Tensor["N", "K"], y: tc.Tensor["M", "N"]):
    for m, n in tc.tiles("M", "N"):
        acc = tc.zeros([m, n], tc.f32)
        for k in tc.tiles("K"):
            acc += tc.dot(x[m, k], w[n, k].T)
        y[m, n] = acc


@tc.program
def softmax(x: tc.Tensor["M", "N"]):
    return tc.softmax(x)


def job(m=64, n=256, k=512, weight="int4<group=32>", backend="cpu", target="host"):
    types = {"x": tc.f16, "w": tc.format(weight), "y": tc.f32}
    return subject(linear.definition, types, {"M": m, "N": n, "K": k}, backend, target).job


def kernel_of(program, types, dims):
    return subject(program.kernel(**types).definition, types, dims).job


@pytest.mark.parametrize("m", [1, 16, 200])
def test_the_default_is_what_the_back_end_chooses(m):
    """Pinned, its tiles give the very code that no schedule gives."""
    made = job(m)
    default: Any = derived(made).space.default
    host = engine()
    text = [cpu_source(made.definition, {}, {}, host, schedule=s).text
            for s in (None, choice_of("cpu", default).cpu)]  # fmt: skip
    assert text[0] == text[1]


def test_the_default_of_a_program():
    made = kernel_of(softmax, {"x": tc.f32}, {"M": 100, "N": 300})
    found: Any = derived(made).space
    text = [cpu_source(made.definition, {}, {}, engine(), schedule=s).text
            for s in (None, choice_of("cpu", found.default).cpu)]  # fmt: skip
    assert text[0] == text[1]
    assert {p.name for p in found.parameters} == {"m", "threads"}


def test_tiles_are_around_the_default_and_inside_the_extent():
    found = {p.name: p.values for p in derived(job(100, 256, 512)).space.parameters}
    assert max(found["m"]) == 100
    assert 6 in found["m"] or 12 in found["m"]
    assert set(found["n"]) == {8, 16, 32, 64, 128, 256}


@pytest.mark.parametrize("backend", ["cpu", "cuda", "triton"])
def test_every_config_keeps_the_rules(backend):
    target = {"cpu": "host", "cuda": "sm_90a", "triton": "sm_80"}[backend]
    found: Any = derived(job(256, backend=backend, target=target)).space
    for row in sample(found, 200, np.random.default_rng(0)):
        c: Any = found.config(row)
        assert 32 % c["k"] == 0 or c["k"] % 32 == 0
        if backend == "cpu":
            assert 4 * (c["m"] * c["k"] + c["n"] * c["k"] + c["m"] * c["n"]) <= 4 << 20
            continue
        assert c["stages"] * (c["m"] + c["n"]) * c["k"] * 2 <= SHARED[int(target[3:5])] << 10
        threads = c["threads"] if backend == "cuda" else (c["warps"] or 4) * 32
        assert c["m"] * c["n"] <= 200 * threads
        schedule: Any = choice_of(backend, c).schedule
        schedule.check(target)  # the target has all instructions
        if backend == "cuda":
            assert not c["overlap"] or c["instruction"] == "wgmma"


def test_a_config_outside_is_refused_with_the_reason():
    found: Any = derived(job(256)).space
    wider = tuple(replace(p, values=(*p.values, 48)) if p.name == "k" else p
                  for p in found.parameters)  # fmt: skip
    with pytest.raises(TileError, match="share a scale"):
        replace(found, parameters=wider).row(Config.of({**found.default, "k": 48}))
    with pytest.raises(TileError, match="none of its values"):
        found.row(Config.of({**found.default, "k": 48}))


def test_the_model_knows_what_is_slow():
    found: Any = derived(job(256, 1024, 1024, "f16"))
    columns = {p.name: np.array([found.space.default[p.name]] * 3) for p in found.space.parameters}
    columns["n"] = np.array([64, 8, 64])
    columns["m"] = np.array([128, 128, 12])
    default, narrow, flat = found.predict(columns)
    assert default < narrow
    assert default < flat
    assert default > 2 * 256 * 1024 * 1024 / 1e15


def test_hopeless_configs_are_left_out_but_never_the_default():
    found: Any = derived(job(256, 1024, 1024))
    rows: Any = everything(found.space)
    kept: Any = everything(pruned(found).space)
    assert 0 < len(kept) < len(rows)
    seconds = found.predict(found.space.columns(kept))
    assert seconds.max() <= 8 * seconds.min()
    slowest = found.space.config(rows[np.argmax(found.predict(found.space.columns(rows)))])
    bad = replace(found, space=replace(found.space, default=slowest))
    assert slowest in pruned(bad).space


def test_one_thread_needs_no_pool():
    made = job(16, 64, 64)
    text = [cpu_source(made.definition, {}, {}, engine(), schedule=Schedule(threads=n)).text
            for n in (0, 1)]  # fmt: skip
    assert ["call void @tilec_parallel" in t for t in text] == [engine().pool.threads > 1, False]


def test_choices_of_the_code_follow_the_kernel():
    def names(*dims, **more):
        return {p.name for p in derived(job(*dims, **more)).space.parameters}

    assert {"ahead", "register_vectors"} <= names(64)
    assert not {"ahead", "nontemporal"} & names(64, weight="f16")
    assert "ahead" in names(4, weight="f16")
    assert "register_vectors" not in names(1)
    assert "nontemporal" in names(4096)


def test_the_model_knows_choices_of_the_code():
    found: Any = derived(job(4096, 256, 256)).space
    model = derived(job(4096, 256, 256)).predict
    changes = ({}, {"ahead": 0}, {"register_vectors": 1}, {"nontemporal": 1})
    rows = [{**found.default, **c} for c in changes]
    usual, unasked, narrow, past = model({n: np.array([r[n] for r in rows]) for n in rows[0]})
    assert unasked >= usual
    assert past > usual  # the last cache holds the result
    few = derived(job(4, 64, 64, "f16"))
    one = {n: np.array([v, v]) for n, v in few.space.default.items()}  # type: ignore[union-attr]
    alone, fast = few.predict({**one, "register_vectors": np.array([1, 4])})
    assert alone > fast  # four sums wait for themselves
    assert narrow >= usual * 0.99


def test_a_loop_that_is_called_as_a_choice_is_no_parameter():
    @tc.kernel
    def copied(x: tc.Tensor["M", "N"], y: tc.Tensor["M", "N"]):
        for ahead, n in tc.tiles("M", "N"):
            y[ahead, n] = x[ahead, n] + 1.0

    dims = {"M": 64, "N": 64}
    made = subject(copied.definition, {"x": tc.f32, "y": tc.f32}, dims).job
    assert "ahead" not in {p.name for p in derived(made).space.parameters}


def test_domains_are_found_beside_the_fields():
    small, large = Facts("host", 2, 1e3), Facts("host", 2, 1e12)
    assert domains(Schedule, small)["threads"] == (0, 1)
    assert {n: len(v) for n, v in domains(Schedule, large).items()} == {
        "threads": 1, "ahead": 1, "register_vectors": 1, "nontemporal": 1}  # fmt: skip
    assert Facts("sm_90a", 1).number == 90
    assert Facts("host", 1).number == 0
