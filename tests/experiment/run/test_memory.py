import resource

import pytest
import torch

import relation
from experiment.inputs.samples import Samples
from experiment.run import label_errors, memory
from experiment.run.settings import Settings
from tests.experiment.command.test_out_of_memory import ERRORS, raise_
from tests.heap import growth_of

pytestmark = pytest.mark.promise("memory")
CPU = torch.device("cpu")
SETTINGS = Settings("cos_p", 4, 0.03, 1, 250, "float32", "cpu")


def rows(n, dim=16, classes=4):
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(n) % classes
    features = torch.randn(n, dim, generator=generator) + 3 * torch.eye(classes, dim)[labels]
    probs = torch.softmax(4 * torch.eye(classes)[labels]
                          + torch.randn(n, classes, generator=generator), 1)
    return Samples("rows", features, probs, labels)


def test_the_chunk_is_halved_until_it_fits(monkeypatch, capsys):
    samples, settings = rows(1000), Settings("cos_p", 4, 0.03, 1, 1000, "float32", "cpu")
    monkeypatch.setattr(torch, "get_num_threads", lambda: 16)
    need = memory.forecast(samples, settings, auto=False)
    monkeypatch.setattr(memory, "available", lambda device: need // 2)
    fitted = memory.fit(samples, settings, auto=False, progress=True)
    assert memory.forecast(samples, fitted, auto=False) <= need // 2
    twice = Settings(**vars(fitted) | {"chunk": 2 * fitted.chunk})
    assert memory.forecast(samples, twice, auto=False) > need // 2
    line = capsys.readouterr().out
    assert line.startswith("memory: about 0.") and f"; {fitted.chunk} rows at a time" in line


def test_what_fits_is_left_alone_and_what_cannot_fit_is_said(monkeypatch, capsys):
    samples = rows(1000)
    monkeypatch.setattr(memory, "available", lambda device: 10**12)
    assert memory.fit(samples, SETTINGS, auto=True, progress=True) == SETTINGS
    assert capsys.readouterr().out.count("\n") == 1
    monkeypatch.setattr(memory, "available", lambda device: 1000)
    assert memory.fit(samples, SETTINGS, auto=True, progress=True).chunk == memory.SMALLEST_CHUNK
    assert "that may not be enough: --hop and --auto False need less" in capsys.readouterr().out
    monkeypatch.setattr(memory, "available", lambda device: None)
    assert memory.fit(samples, SETTINGS, auto=True, progress=True) == SETTINGS
    assert "needed beside the data\n" in capsys.readouterr().out


def test_more_of_anything_needs_more():
    def need(n=1000, dim=16, classes=4, auto=False, **changes):
        return memory.forecast(rows(n, dim, classes), Settings(
            **vars(SETTINGS) | changes), auto=auto)
    least = need()
    assert need(n=2000) > least and need(n=50_000, auto=True) > need(n=50_000)
    assert need(dim=512) > least and need(classes=500) > least
    assert need(n=5000, dtype="float16") > need(n=5000) > need(n=5000, hop=5)


def test_what_is_there_is_the_least_of_all_limits(monkeypatch, tmp_path):
    assert 0 < memory.available(CPU) < 2**50
    monkeypatch.setattr(memory, "CGROUP", tmp_path / "cgroup")
    monkeypatch.setattr(memory, "OWN_CGROUP", tmp_path / "own")
    (tmp_path / "own").write_text("1:cpu:/other\n0::/job/step\n")
    limits = {group: tmp_path / "cgroup" / group / "memory.max" for group in ("job/step", "job")}
    for group, limit in limits.items():
        limit.parent.mkdir(parents=True, exist_ok=True)
        limit.write_text("1000\n")
        (limit.parent / "memory.current").write_text("900\n" if group == "job" else "500\n")
        (limit.parent / "memory.stat").write_text("anon 1\ninactive_file 250\n")
    assert memory.available(CPU) == 350  # of the job that the step is in
    limits["job"].write_text("max\n")
    assert memory.available(CPU) == 750
    limits["job/step"].write_text("max\n")
    assert memory.available(CPU) > 1000
    (tmp_path / "own").write_text("")
    assert memory.available(CPU) > 1000
    monkeypatch.setattr(resource, "getrlimit", lambda which: (2**10, 2**40))
    assert memory.available(CPU) == 0


@pytest.mark.parametrize("name", ["relation_scores", "detect_label_noise"])
@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_a_run_goes_on_with_the_same_result(monkeypatch, capsys, name, error):
    samples = rows(300)

    def found():
        return label_errors.find_label_errors(samples, SETTINGS, progress=False)
    undisturbed, original = found(), getattr(relation, name)

    def short_of_memory(*arguments, chunk, **options):
        if chunk > 70:
            raise error
        return original(*arguments, chunk=chunk, **options)
    monkeypatch.setattr(relation, name, short_of_memory)
    again = found()
    assert "out of memory: 63 rows at a time" in capsys.readouterr().out
    torch.testing.assert_close(again.relation_score, undisturbed.relation_score, rtol=1e-5,
                               atol=1e-6)


def test_a_script_goes_on_and_outliers_too(script, monkeypatch, tmp_path, feature_file):
    original = relation.detect_ood

    def short_of_memory(*arguments, chunk, **options):
        if chunk > 70:
            raise MemoryError
        return original(*arguments, chunk=chunk, **options)
    words = ("detect_ood.py", "--features", feature_file, "--test_features", feature_file,
             "--cache_dir", tmp_path, "--baselines", "MSP")
    script(*words, "--output", tmp_path / "one")
    monkeypatch.setattr(relation, "detect_ood", short_of_memory)
    shown = script(*words, "--output", tmp_path / "two").stdout
    assert "memory: about" in shown and "out of memory: 63 rows at a time" in shown
    one, two = ((tmp_path / name / "scores.csv").read_bytes() for name in ("one", "two"))
    assert one == two


def test_memory_that_ends_elsewhere_is_one_line(script, monkeypatch, tmp_path, feature_file):
    monkeypatch.setattr(relation, "auto_scores", lambda *arguments, **options: raise_(ERRORS[2]))
    done = script("detect.py", "--features", feature_file, "--cache_dir", tmp_path, check=False)
    assert done.returncode == 1 and done.stderr.endswith(
        "detect.py: out of memory; --hop, --dtype float16, --auto False and a smaller --batch_size "
        "need less, where the script has them\n")


@pytest.mark.slow
@pytest.mark.parametrize("n, dim, classes, auto, dtype", [
    (15_000, 256, 50, False, "float32"), (15_000, 256, 50, False, "float16"),
    (10_000, 512, 200, True, "float32"), (3_000, 1024, 20, True, "float32")])
def test_forecast_against_what_is_measured(n, dim, classes, auto, dtype):
    """Within a factor of two either way, and 100 MiB which libraries take in passing."""
    settings = Settings("cos_p", 4, 0.03, 1, 250, dtype, "cpu", auto=auto)
    expected = memory.forecast(rows(n, dim, classes), settings, auto=auto) / 2**20
    measured = growth_of(
        "label_errors.find_label_errors(samples, settings, progress=False)",
        given=f"""
            from experiment.run import label_errors
            from experiment.run.settings import Settings
            from tests.experiment.run.test_memory import rows
            samples = rows({n}, {dim}, {classes})
            settings = Settings("cos_p", 4, 0.03, 1, 250, {dtype!r}, "cpu", auto={auto})
        """, threads=torch.get_num_threads())
    print(f"forecast {expected:.0f} MiB, measured {measured:.0f} MiB")
    assert measured / 2 - 100 < expected < 2 * measured + 100
