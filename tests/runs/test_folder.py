"""A run's folder from creation to summary."""

import json
import math
from pathlib import Path

import pytest

from plaudit.errors import SaveFailed, UserError
from plaudit.runs.folder import Run
from plaudit.runs.records import read_rollouts
from plaudit.telemetry import sinks
from plaudit.telemetry.health import Symptom
from plaudit.telemetry.log import read_metrics
from tests.config.schema import Config, Data


def test_a_new_run_has_config_provenance_and_lock(tmp_path: Path) -> None:
    folder = tmp_path / "my runs" / "première"
    with Run.create(folder, "ppo", {"b": 1e-5, "a": {"c": "no"}}) as run:
        assert run.folder == folder
        assert run.config == {"b": 1e-5, "a": {"c": "no"}}
        assert list(run.config) == ["b", "a"]
        assert run.stage == "ppo"
        assert run.provenance["data"] == {}
        run.add_provenance({"device": "cpu"})
        assert run.provenance["device"] == "cpu" and run.stage == "ppo"
        assert not run.finished and run.summary == {} and run.latest() is None and run.metrics_lines == 0
    assert Run.exists(folder) and not Run.exists(tmp_path)


def test_a_config_dataclass_is_written_with_its_docs(tmp_path: Path) -> None:
    Run.create(tmp_path, "sft", Config(seed=5, data=(Data(path="a"),))).close()
    text = (tmp_path / "config.yaml").read_text(encoding="utf-8")
    assert text.startswith("seed: 5  # Seed of the run.\n")


def test_a_folder_holds_one_run(tmp_path: Path) -> None:
    Run.create(tmp_path, "sft", {"a": 1}).close()
    with pytest.raises(UserError, match="already holds a run; continue it with `plaudit resume"):
        Run.create(tmp_path, "sft", {"a": 2})
    with Run.open(tmp_path) as run:
        assert run.config == {"a": 1}


def test_a_run_killed_at_birth_can_be_created_again(tmp_path: Path) -> None:
    Run.create(tmp_path, "sft", {"a": 1}).close()
    (tmp_path / "config.yaml").unlink()
    with pytest.raises(UserError, match=r"is not a run folder: it has no config\.yaml"):
        Run.open(tmp_path)
    with Run.create(tmp_path, "reward", {"a": 2}) as run:
        assert (run.stage, run.config) == ("reward", {"a": 2})


def test_the_lock_is_freed_when_opening_fails(tmp_path: Path) -> None:
    Run.create(tmp_path, "sft", {}).close()
    (tmp_path / "metrics.jsonl").unlink()
    (tmp_path / "metrics.jsonl").mkdir()
    with pytest.raises(UserError, match=r"cannot open .*metrics\.jsonl"):
        Run.open(tmp_path)
    (tmp_path / "metrics.jsonl").rmdir()
    Run.open(tmp_path).close()


def test_keep_below_one_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="at least one"):
        Run.create(tmp_path, "sft", {}, keep=0)


def test_space_is_checked_by_numbers(tmp_path: Path) -> None:
    with Run.create(tmp_path, "sft", {}) as run:
        run.check_space(1)
        with pytest.raises(UserError, match=r"1,000,000,000,000,000,000 bytes will be needed, [\d,]+ are free"):
            run.check_space(10**18)


def test_log_reopen_truncate(tmp_path: Path) -> None:
    with Run.create(tmp_path, "sft", {}) as run:
        for step in (1, 2, 3):
            run.log(step, {"loss_over_tokens": 1 / step})
    with Run.open(tmp_path) as run:
        assert run.metrics_lines == 3
        run.truncate_metrics(1)
        run.log(2, {"loss_over_tokens": 0.25})
    assert [line["sft/loss_over_tokens"] for line in read_metrics(tmp_path)] == [1.0, 0.25]


def test_rollouts_round_trip_and_are_the_same_bytes_every_time(tmp_path: Path) -> None:
    rows = [{"prompt": "é\n", "response": "\ud83d", "score": 1.5, "parts": {"a": math.nan}}, {"prompt": "b"}]
    with Run.create(tmp_path, "ppo", {}) as run:
        run.write_rollouts(12, rows)
        path = tmp_path / "rollouts" / "000012.jsonl.gz"
        first = path.read_bytes()
        run.write_rollouts(12, rows)
    assert path.read_bytes() == first
    assert read_rollouts(path) == [
        {"prompt": "é\n", "response": "\ud83d", "score": 1.5, "parts": {"a": None}},
        {"prompt": "b"},
    ]


def test_lost_rollouts_warn_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Run.create(tmp_path, "ppo", {}) as run:
        (tmp_path / "rollouts").write_text("in the way")
        run.write_rollouts(1, [{"a": 1}])
        run.write_rollouts(2, [{"a": 1}])
    warned = capsys.readouterr().err
    assert warned.count("warning") == 1 and "training goes on" in warned


def test_the_final_model_appears_whole(tmp_path: Path) -> None:
    with Run.create(tmp_path, "sft", {}) as run:
        with run.save_model() as folder:
            (folder / "weights").write_bytes(b"1")
            assert not (tmp_path / "model").exists()
        with pytest.raises(RuntimeError), run.save_model() as folder:
            (folder / "weights").write_bytes(b"2")
            raise RuntimeError
        assert (tmp_path / "model" / "weights").read_bytes() == b"1"
        with run.save_model() as folder:
            (folder / "weights").write_bytes(b"3")
        assert (tmp_path / "model" / "weights").read_bytes() == b"3"
        with pytest.raises(UserError, match="slash"), run.save_model("../model"):
            pass
    left = sorted(p.name for p in tmp_path.iterdir() if p.is_dir() and p.name != "checkpoints")
    assert left == ["model"]


def test_finish_writes_the_summary(tmp_path: Path) -> None:
    with Run.create(tmp_path, "sft", {}) as run:
        run.finish({"results": [{"measure": "m", "subject": "sft", "value": 0.5, "low": math.nan}]})
        assert run.finished
        assert run.summary["results"] == [{"measure": "m", "subject": "sft", "value": 0.5, "low": None}]
    with Run.open(tmp_path) as run:
        assert run.finished


def test_a_broken_summary_is_named(tmp_path: Path) -> None:
    with Run.create(tmp_path, "sft", {}) as run:
        (tmp_path / "summary.json").write_text("{")
        with pytest.raises(UserError, match=r"summary\.json cannot be read"):
            _ = run.summary


def test_sinks_get_the_finite_values_and_die_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    got: list[object] = []

    class Fake:
        def __init__(self, folder: Path, stage: str, config: object, run_id: str) -> None:
            assert (folder, stage, config) == (tmp_path, "sft", {"a": 1})
            got.append(run_id)

        def log(self, values: dict[str, float], step: int) -> None:
            got.append((values, step))

        def alert(self, finding: Symptom, step: int) -> None:
            got.append((finding.rule, step))

    class Mortal(Fake):
        def log(self, values: dict[str, float], step: int) -> None:
            raise ConnectionError("gone")

    monkeypatch.setattr("plaudit.telemetry.sinks.SINKS", {"fake": Fake, "mortal": Mortal})
    with Run.create(tmp_path, "sft", {"a": 1}) as run:
        run.attach(["mortal", "fake"])
        run.log(1, {"loss_over_tokens": 2.0, "grad_norm": math.inf})
        run.log(2, {"loss_over_tokens": 1.0, "skipped_updates": 1})
    ids, sent = got[:2], got[2:]
    lines = [({"sft/loss_over_tokens": 2.0}, 1), ({"sft/loss_over_tokens": 1.0, "sft/skipped_updates": 1}, 2)]
    assert sent == [*lines, ("steps_skipped", 2)]
    warned = capsys.readouterr().err
    assert warned.count("warning") == 2 and "'mortal' failed" in warned and "ConnectionError: gone" in warned
    assert run.provenance["sinks"] == {"mortal": ids[0], "fake": ids[1]}

    got.clear()
    monkeypatch.delitem(sinks.SINKS, "mortal")  # the package has gone in the meantime: the run goes on without it
    with Run.open(tmp_path) as run:
        run.attach()
        run.log(3, {"loss_over_tokens": 1.0, "skipped_updates": 1})
    assert got == [ids[1], ({"sft/loss_over_tokens": 1.0, "sft/skipped_updates": 1}, 3)]
    assert "'mortal'; choose from: fake; the run goes on without it" in capsys.readouterr().err


def test_health_is_told_once_judged_at_the_end_and_rebuilt_on_resume(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Run.create(tmp_path, "ppo", {})
    with run:
        run.observe({"kl_coef": 0.5})
        for step in (1, 2):
            run.log(step, {"clip_fraction_over_tokens": 0.5})
    assert run.files.metrics[0]["ppo/kl_coef"] == 0.5 and "ppo/kl_coef" not in run.files.metrics[1]
    said = capsys.readouterr().err
    assert said.startswith("health: warning — the clip cuts off 50 % of the tokens") and "[clip_high]" in said
    with Run.open(tmp_path) as run:
        run.log(3, {"clip_fraction_over_tokens": 0.6})
        run.finish({"format": 2, "results": []})
    said = capsys.readouterr().err
    assert said.count("health: ") == 1 and "health: warning — the clip cuts off 60 % of the tokens" in said
    health = run.summary["health"]
    assert health["level"] == "warning"
    assert [(one["rule"], one["since"], one["until"]) for one in health["findings"]] == [("clip_high", 2, None)]
    assert [event["level"] for event in run.files.events] == ["warning", "warning"]
    with Run.create(tmp_path / "well", "ppo", {}) as run:
        run.log(1, {"clip_fraction_over_tokens": 0.1})
        run.finish({})
    assert capsys.readouterr().err == "health: healthy\n"
    assert run.summary == {"health": {"level": "healthy", "findings": []}}


def test_manifest_counts_the_lines_that_a_resume_keeps(tmp_path: Path) -> None:
    with Run.create(tmp_path, "sft", {}) as run:
        run.log(1, {})
        with run.checkpoint(1) as folder:
            (folder / "w").write_bytes(b"1")
        run.log(2, {})
    manifest = json.loads((tmp_path / "checkpoints" / "000001" / "MANIFEST.json").read_text())
    assert manifest["metrics_lines"] == 1 and manifest["step"] == 1


def test_save_failed_is_a_users_error() -> None:
    assert issubclass(SaveFailed, UserError)
