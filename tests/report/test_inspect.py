"""`plaudit inspect`: the right row with the right numbers, every mistake told, and no model commands the terminal."""

import io
import json
import re

import pytest
from rich.console import Console

from plaudit.cli import main
from plaudit.errors import UserError
from plaudit.report.inspect import Wanted, find, show, to_json, to_text
from tests.report.folders import CHINESE, HOSTILE, rollout_rows, token_row, write_pipeline, write_run

ROWS = [
    token_row("ab", score=1.0),
    token_row("dog", score=3.0),
    token_row("a bird", score=-2.0),
    token_row("fog", score=None),
]
ESCAPES = "\x1b[2J\x1b]0;owned\x07\x9b31m\x08\x7f\r\u202egnp.exe\u2028[red]x[/red]\u200b"


@pytest.fixture(autouse=True)
def one_terminal(monkeypatch):
    """rich keeps a style's codes for the first kind of terminal that it met in a process."""
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLORTERM", "truecolor")
    for name in ("NO_COLOR", "FORCE_COLOR", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def run(tmp_path):
    return write_run(tmp_path / "ppo", "ppo", rollouts={1: [token_row("x", score=0.0)], 2: ROWS, 5: ROWS[:2]})


def shown(folder, **wanted) -> str:
    return to_text(find(folder, Wanted(**wanted)), plain=True)


def picked(folder, **wanted) -> str:
    return find(folder, Wanted(iteration=2, **wanted)).one.raw["response"]


# ------------------------------------------------------------------------------------------------------------ choosing


def test_the_last_iteration_is_the_default_and_any_can_be_named(run):
    assert find(run, Wanted()).iteration == 5
    assert find(run, Wanted(iteration=1)).one.raw["response"] == "x"
    with pytest.raises(UserError, match=re.escape("no rollouts of iteration 7; there are 1–2, 5")):
        find(run, Wanted(iteration=7))


def test_rows_are_picked_by_what_they_are(run):
    assert picked(run, row=2) == "dog"
    assert picked(run, pick="best") == "dog"
    assert picked(run, pick="worst") == "a bird"
    assert picked(run, pick="longest") == "a bird"
    assert picked(run, search="A BIRD") == "a bird"
    assert picked(run, prompt_id="0000000000000002") == "ab"
    assert picked(run, search="og", pick="worst") == "dog"  # of dog and fog, which has no score
    assert [line.row for line in find(run, Wanted(iteration=2, search="og")).lines] == [2, 4]


def test_rows_that_are_not_there_are_told(run):
    for wanted, message in (
        ({"row": 9}, "no row 9 here; there are 1–4"),
        ({"search": "unicorn"}, "none of its 4 rows has --search 'unicorn'"),
        ({"prompt_id": "ff", "search": "a"}, "none of its 4 rows has --search 'a' and --prompt-id 'ff'"),
        ({"search": "fog", "pick": "best"}, "none of these rows has a score"),
        ({"row": 1, "column": "beauty"}, "there is no 'beauty' in .*; there are logprob, ref_logprob, kl, entropy"),
    ):
        with pytest.raises(UserError, match=message):
            find(run, Wanted(iteration=2, **wanted))


# -------------------------------------------------------------------------------------------------------- what is shown


def test_the_list_shows_every_row(run):
    text = shown(run, iteration=2)
    assert "iteration 2 (of 1–2, 5) · 4 rollouts kept" in text
    lines = [line.split() for line in text.splitlines() if re.match(r"\s+\d ", line)]
    assert [line[:5] for line in lines] == [
        ["1", "1", "1.5", "3", "eos"],
        ["2", "3", "2", "4", "eos"],
        ["3", "−2", "3.5", "7", "eos"],
        ["4", "–", "2", "4", "eos"],
    ]


def test_a_row_shows_every_number_of_every_token(run):
    text = shown(run, iteration=2, row=2)
    lines = [line.split() for line in text.splitlines() if re.match(r"\s+\d ", line)]
    assert [line[1] for line in lines] == ["d", "o", "g", "</s>"]
    #                    id logprob  ref   KL  entropy value reward  adv  return
    assert lines[1] == ["2", "o", "4", *["−1.500", "−2.000", "0.500", "1.500", "0.500", "−0.050", "−0.250", "2.850"]]
    assert lines[3][-3:] == ["2.950", "−0.750", "2.950"]
    assert "Spell dog" in text and "dog</s>" in text
    assert "score     3   (judge 3)" in text
    assert "Σ reward  2.8   = score − β Σ KL = 3 − 0.1 × 2 = 2.8  ✓" in text


def test_shaped_rewards_are_told_apart(tmp_path):
    folder = write_run(tmp_path / "r", "ppo", rollouts={1: [token_row("ab", score=1.0, reward=0.35)]})
    assert "Σ reward  0.35   ≠ score − β Σ KL = 1 − 0.1 × 1.5 = 0.85: −0.5 more, from shaping" in shown(folder)


def test_an_abstained_row_and_an_empty_response(tmp_path):
    empty = {name: [] for name in ROWS[0]["tokens"]}
    rows = [token_row("ab", score=None), token_row("", score=0.5, tokens=empty, length=0, kl=0.0, reward=0.5)]
    folder = write_run(tmp_path / "r", "ppo", rollouts={1: rows})
    abstained = shown(folder, row=1)
    assert "the judge abstained" in abstained and "–" in abstained and "✓" not in abstained
    assert "(the response is empty)" in shown(folder, row=2)
    assert "0.5 − 0.1 × 0 = 0.5  ✓" in shown(folder, row=2)


def coloured(found) -> str:
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, color_system="truecolor", width=160, markup=False, emoji=False)
    show(found, console)
    return out.getvalue()


def background(hexadecimal: str) -> str:
    return "48;2;" + ";".join(str(int(hexadecimal[i : i + 2], 16)) for i in (1, 3, 5)) + "m"


def test_colours_follow_the_column(run):
    """adv = 0, −¼, ½, −¾ and reward = −.05 thrice, 2.95: blue above zero, orange below."""
    by_advantage = coloured(find(run, Wanted(iteration=2, row=2)))
    body = by_advantage[by_advantage.index("coloured by") : by_advantage.index("beyond")]
    piece = {text: style for style, text in re.findall(r"\x1b\[([\d;]+m)(o|g|</s>)\x1b", body)}
    # The iteration's numbers go to 6/7, so −¼, ½ and −¾ are −1.17, 2.33 and −3.5 of four steps.
    assert background("#fee0b6") in piece["o"]
    assert background("#92c5de") in piece["g"]
    assert background("#b35806") in piece["</s>"] or background("#e08214") in piece["</s>"]
    by_reward = coloured(find(run, Wanted(iteration=2, row=2, column="reward")))
    assert f"{background('#2166ac')}</s>" in by_reward
    assert "reward: r_t" in by_reward


def test_plain_text_has_no_escapes(run):
    for wanted in ({}, {"row": 1}):
        assert "\x1b" not in shown(run, iteration=2, **wanted)


def test_a_model_cannot_steer_the_terminal(tmp_path):
    row = token_row("ab", score=1.0, hostile=ESCAPES, prompt=f"{ESCAPES} {HOSTILE}", finish_reason=f"eos{ESCAPES}")
    folder = write_run(tmp_path / "r", "ppo", rollouts={1: [row, row]})
    for wanted in (Wanted(), Wanted(row=1)):
        found = find(folder, wanted)
        left = re.sub(r"\x1b\[[\d;]*m", "", coloured(found))  # rich's own
        assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u200b\u2028\u202e]", left)
        assert "[red]x[/red]" in left or wanted.row == 0
        assert "␛[2J" in left
        assert "\x1b" not in to_text(found, plain=True)
    assert "\\u202egnp.exe" in shown(folder, row=1)


def test_json_is_the_file_in_plain_ascii(tmp_path, run):
    row = token_row("ab", score=1.0, hostile=ESCAPES + CHINESE)
    folder = write_run(tmp_path / "r", "ppo", rollouts={3: [row, ROWS[1]]})
    text = to_json(find(folder, Wanted(row=1)))
    assert text.isascii() and text.isprintable() is False and set(re.findall(r"[\x00-\x1f]", text)) == {"\n"}
    assert json.loads(text) == {"iteration": 3, "row": 1, **row}
    listed = json.loads(to_json(find(folder, Wanted())))
    assert [entry["row"] for entry in listed] == [1, 2]
    assert listed[1]["response"] == "dog" and "tokens" not in listed[1]


# ---------------------------------------------------------------------------------------------------- what is not there


def test_older_files_are_listed_and_told(tmp_path):
    folder = write_run(tmp_path / "r", "ppo", rollouts={1: rollout_rows(3)})
    assert "3 rollouts kept" in shown(folder)
    with pytest.raises(UserError, match="no numbers by token: it was written before plaudit kept them"):
        find(folder, Wanted(pick="best"))


def test_a_run_before_its_first_iteration(tmp_path):
    with pytest.raises(UserError, match=r"has no rollouts yet: its first iteration will write rollouts/000001\.jsonl"):
        find(write_run(tmp_path / "r", "ppo"), Wanted())


def test_a_file_that_was_cut_off_gives_what_it_has(run):
    path = run / "rollouts" / "000005.jsonl.gz"
    path.write_bytes(path.read_bytes()[:-12])
    found = find(run, Wanted())
    assert found.problems and len(found.every) >= 1
    path.write_bytes(b"")
    with pytest.raises(UserError, match="holds no rollout"):
        find(run, Wanted())


@pytest.mark.parametrize(
    ("stage", "left"),
    [("sft", r"metrics.jsonl up to step 3 \(`plaudit report"), ("compare", r"samples.jsonl \(1 rows\)")],
)
def test_other_runs_say_what_they_have(tmp_path, stage, left):
    lines = [{"step": i, "sft/loss_over_tokens": 1.0} for i in range(4)] if stage == "sft" else []
    folder = write_run(tmp_path / "r", stage, lines=lines, samples=[{"prompt": "a"}] if stage == "compare" else [])
    with pytest.raises(
        UserError, match=f"is a run of {stage}, which keeps no rollouts; only ppo does. There is {left}"
    ):
        find(folder, Wanted())


def test_a_pipelines_stage_is_found_or_asked_for(tmp_path):
    folder = write_pipeline(tmp_path / "p")
    assert find(folder, Wanted()).run.folder.name == "04-ppo"
    write_run(folder / "06-control", "ppo", rollouts={1: ROWS})
    with pytest.raises(UserError, match=r"several stages with rollouts: ppo, control\. Name one: --stage ppo"):
        find(folder, Wanted())
    assert find(folder, Wanted(stage="control")).run.folder.name == "06-control"
    assert find(folder, Wanted(stage="06-control")).iteration == 1
    with pytest.raises(UserError, match="has no stage 'tea'; there are 01-world, 02-sft"):
        find(folder, Wanted(stage="tea"))
    with pytest.raises(UserError, match="none of its stages has kept rollouts yet: 02-sft"):
        find(folder, Wanted(stage="sft"))
    with pytest.raises(UserError, match="is a run, not a pipeline"):
        find(folder / "04-ppo", Wanted(stage="ppo"))


# --------------------------------------------------------------------------------------------------------- command line


def test_the_command(run, capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert main(["inspect", str(run), "--iteration", "2", "--best", "--column", "kl"]) == 0
    told = capsys.readouterr().out
    assert "coloured by kl" in told and "\x1b[" in told
    assert main(["inspect", str(run), "--iteration", "2", "--row", "3", "--no-color"]) == 0
    assert "\x1b" not in capsys.readouterr().out
    monkeypatch.setenv("NO_COLOR", "1")
    assert main(["inspect", str(run), "--prompt-id", "0000000000000003", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["response"] == "dog"
    assert main(["inspect", str(run), "--search", "dog"]) == 0
    assert "\x1b" not in capsys.readouterr().out


def test_the_commands_mistakes(run, capsys):
    assert main(["inspect", str(run), "--iteration", "9"]) == 2
    assert "error: " in capsys.readouterr().err
    for wrong in (["--row", "0"], ["--best", "--worst"], ["--row", "1", "--longest"]):
        with pytest.raises(SystemExit):
            main(["inspect", str(run), *wrong])
