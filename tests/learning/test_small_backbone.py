"""examples/small_backbone.py: folders that encoders, PairRM and SteamSHP can start from."""

import pytest
import torch

from examples import small_backbone
from plaudit.cli import main
from tests.training.tiny import jsonl, results

ROWS = [
    {"prompt": f"Say {word}!", "chosen": f"{word}, with pleasure.", "rejected": "No."}
    for word in ("apple", "pear", "plum", "fig", "lime", "kiwi", "date", "sloe")
]
SMALL = ["--width", "16", "--layers", "1", "--vocabulary", "120", "--context", "256"]


def make(tmp_path, monkeypatch, family: str) -> str:
    folder = str(tmp_path / family)
    data = jsonl(tmp_path / "pairs.jsonl", ROWS)
    monkeypatch.setattr("sys.argv", ["small_backbone", family, str(data), folder, *SMALL])
    small_backbone.main()
    return folder


@pytest.mark.parametrize(("family", "kind"), [("bert", "pairwise"), ("bert", "pair"), ("t5", "seq2seq")])
def test_each_kind_trains_from_its_backbone(tmp_path, monkeypatch, family, kind):
    folder = make(tmp_path, monkeypatch, family)
    config = tmp_path / "reward.yaml"
    config.write_text(
        f"data: [{{path: {tmp_path / 'pairs.jsonl'}}}]\nmodel: {{path: {folder}}}\nobjective: {{kind: {kind}}}\n"
        "held_out_fraction: 0.3\nminibatch_size: 4\n",
        encoding="utf-8",
    )
    assert main(["reward", str(config), "--out", str(tmp_path / "run")]) == 0
    (first, *_) = results(tmp_path / "run")
    assert 0.0 <= first.value <= 1.0


def test_the_same_seed_gives_the_same_weights(tmp_path, monkeypatch):
    from transformers import AutoModel

    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    one, two = (AutoModel.from_pretrained(make(tmp_path / name, monkeypatch, "bert")) for name in ("one", "two"))
    for (name, a), (_, b) in zip(one.named_parameters(), two.named_parameters(), strict=True):
        if not name.startswith("pooler"):
            assert torch.equal(a, b)


def test_all_text_of_a_row_is_found():
    row = {"a": "one", "b": [{"text": "two", "n": 3}, "three"], "c": None}
    assert list(small_backbone.strings(row)) == ["one", "two", "three"]
