import json

import pytest
from typer.testing import CliRunner

from tilec.cli import app, tuning
from tilec.tune import tuner
from tilec.tune.records import Trial

FILE = """kernel twice(x: f32[M, N], y: f32[M, N]) {
  for m, n in tiles(M, N) { y[m, n] = x[m, n] * 2.0 }
}"""


class Fake:
    def trial(self, config):
        return Trial(config, (1e-3 * (1 + config["m"]),) * 3)

    def confirm(self, configs, seconds=20.0, told=None):
        return [Trial(c, (1e-3 * (1 + c["m"]),) * 20) for c in configs]

    def close(self):
        pass


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("TILEC_CACHE_DIR", str(tmp_path / "cache"))
    real = tuner.tune
    monkeypatch.setattr(tuning, "tune", lambda of, o, told, blocked: real(of, o, measurer=Fake()))
    (tmp_path / "twice.tile").write_text(FILE)
    (tmp_path / "team.key").write_text("0123456789abcdef")
    return tmp_path


def said(*words, code=0):
    done = CliRunner().invoke(app, ["tune", *map(str, words)])
    assert done.exit_code == code, done.output
    return done.output


def tuned(folder, *more):
    return said("run", folder / "twice.tile", "--dims", "M=64,N=64", "--budget", 8, *more)


def test_run_tells_what_was_found(folder):
    assert "chosen" in tuned(folder)
    found = json.loads(tuned(folder, "--json"))
    assert found["config"]["m"] < found["default"]["m"]
    assert found["speedup"] > 1
    assert 6 <= len(found["trials"]) <= 8  # it ends where all is tried that is next to the best


def test_packages_go_out_and_in(folder, monkeypatch):
    tuned(folder)
    out, key = folder / "out.json", folder / "team.key"
    assert "needs a key" in said("export", out, code=1)
    assert said("export", out, "--key", key).startswith("1 configs")
    monkeypatch.setenv("TILEC_CACHE_DIR", str(folder / "elsewhere"))
    assert "no key is given" in said("import", out, code=1)
    assert said("import", out, "--key", key).startswith("1 configs")
    again = folder / "again.json"
    said("export", again, "--key", key)
    said("diff", out, again)
    document = json.loads(again.read_text())
    document["configs"][0]["config"]["m"] = 7
    again.write_text(json.dumps(document))
    assert "m=7" in said("diff", out, again, code=1)
    assert len(json.loads(said("diff", out, again, "--json", code=1))) == 1
    assert "does not belong" in said("import", again, "--key", key, code=1)


def test_what_is_no_package_is_refused(folder):
    for text in ("", "[]", "{}", '{"format": "tilec-package", "version": 2, "configs": []}'):
        (folder / "bad.json").write_text(text)
        assert "error" in said("import", folder / "bad.json", "--unsigned", code=1)
    assert "can't be read" in said("import", folder / "absent.json", code=1)
