"""The frame of the benchmarks, with a process that only says what it was asked."""

import json
import unicodedata

import pytest

from benchmarks import __main__, ppo, session, tables
from benchmarks.session import Session, WorkerFailed
from benchmarks.shapes import SHAPES, alphabet


@pytest.fixture
def asked(monkeypatch, tmp_path):
    """The tasks that processes were given; each takes two seconds, TRL's three."""
    tasks = []

    def answer(self, worker, task, python, variables, processes=1):
        if worker == "peak.py":
            return {"peaks": {"fp32": 1e9, "bf16": 1e7}, "threads": 1, "torch": "2", "device": "cpu"}
        if worker == "models.py":
            return {}
        tasks.append((worker, task))
        if worker == "trl_ppo.py" and task.get("ragged"):
            raise WorkerFailed("not finished in 420 s")
        total = 3.0 if worker.startswith("trl") else 2.0
        part = {"sample": 0.5, "score": 0.5, "update": total - 1.5, "rest": 0.5, "total": total}
        tokens = task["new_tokens"] * len(task["prompts"])
        return {"seconds": [part] * 2, "response_tokens": [tokens] * 2, "updates": 16, "peak_resident_bytes": 10**6}

    monkeypatch.setattr(Session, "_worker", answer)
    monkeypatch.setattr(session, "python_of", lambda name: name)
    monkeypatch.setenv("PLAUDIT_BENCH_CACHE", str(tmp_path / "cache"))
    return tasks


def test_a_second_call_goes_on_where_the_first_ended(asked, tmp_path, capsys):
    out = tmp_path / "ppo.json"
    argv = ["--models", "XS", "--lengths", "fixed", "--rounds", "2", "--processes", "1", "--out", str(out)]
    ppo.main([*argv, "--budget", "0"])
    assert len(asked) == 1, "what has begun is finished, nothing more is begun"
    ppo.main(argv)
    assert [worker for worker, _ in asked].count("trl_ppo.py") == 2
    assert len(asked) == 6, "two rounds of shared, separate and TRL"
    ppo.main(argv)
    assert len(asked) == 6
    record = json.loads(out.read_text(encoding="utf-8"))
    assert {"format", "benchmark", "code", "commit", "threads", "device", "machine", "peaks", "measurements"} == set(
        record
    )
    keys = {"case", "side", "round", "load", "figures", "failed", "peaks", "wall"}
    assert all(set(entry) == keys for entry in record["measurements"])
    shared = next(line for line in capsys.readouterr().out.splitlines()[::-1] if "shared" in line)
    assert "1.50×" in shared, "both cases are compared with TRL's separate critic"


def test_measurements_of_other_code_are_put_aside(asked, tmp_path, monkeypatch):
    out = tmp_path / "ppo.json"
    argv = ["--quick", "--processes", "1", "--no-peers", "--lengths", "fixed", "--critics", "shared", "--out", str(out)]
    ppo.main(argv)
    monkeypatch.setattr(session, "code_digest", lambda: "other")
    ppo.main(argv)
    assert len(asked) == 2
    assert (tmp_path / "ppo.before.json").exists()


def test_a_process_that_fails_is_told_and_not_tried_again(asked, tmp_path, capsys):
    argv = [
        "--models",
        "XS",
        "--lengths",
        "ragged",
        "--rounds",
        "2",
        "--processes",
        "1",
        "--out",
        str(tmp_path / "ppo.json"),
    ]
    ppo.main(argv)
    assert [worker for worker, _ in asked].count("trl_ppo.py") == 1
    assert "not finished in 420 s |" in capsys.readouterr().out
    ppo.main([*argv, "--retry"])
    assert [worker for worker, _ in asked].count("trl_ppo.py") == 2
    assert [worker for worker, _ in asked].count("plaudit_ppo.py") == 2


def test_shares_of_the_floor():
    case = {"model": "S", "schedule": "4x4", "critic": "shared", "lengths": "fixed", "prompts": 64, "tokens": 64}
    needed = ppo.floor(case, 64 * 64)
    assert needed["update"] / 130e9 == pytest.approx(6.9, abs=0.1)  # seconds at 130 GFLOP/s
    assert needed["score"] / 130e9 == pytest.approx(1.1, abs=0.05)
    assert needed["sample"] / 130e9 == pytest.approx(0.58, abs=0.02)


def test_mistakes_in_arguments(asked, capsys):
    with pytest.raises(SystemExit):
        ppo.main(["--models", "XXL"])
    assert "'XXL' is none of S, M" in capsys.readouterr().err
    with pytest.raises(SystemExit) as stop:
        __main__.main(["pp"])
    assert stop.value.code == 2


def test_numbers_stand_to_the_right():
    assert tables.markdown(["a", "b"], [["x", "1"], ["yy", "20"]]) == (
        "| a  |  b |\n| -- | -: |\n| x  |  1 |\n| yy | 20 |"
    )


@pytest.mark.parametrize("name", ["XS", "story", "S", "S-wide"])
def test_every_id_a_model_writes_is_one_character(name):
    letters = alphabet(SHAPES[name].vocabulary)
    spare = SHAPES[name].vocabulary - letters.first - len(letters.characters)
    assert 0 <= spare <= 2, "the vocabulary is used"
    assert len(set(letters.characters)) == len(letters.characters)
    assert unicodedata.normalize("NFC", letters.characters) == letters.characters
    assert letters.text([letters.first + 1]) == letters.characters[1]
