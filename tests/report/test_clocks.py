"""What steps are counted by besides themselves."""

from __future__ import annotations

from pathlib import Path

from plaudit.report.clocks import POINTS, clocks
from tests.kills import kills
from tests.report.test_curves import run_of

SIZES = {"prompts_per_iteration": 4, "samples_per_prompt": 2}


@kills(
    "report/clocks.py",
    old="responses = prompts * (samples or 1.0)",
    new="responses = prompts",
    why="tokens are counted of one answer a prompt",
)
def test_time_and_tokens_by_hand(tmp_path: Path) -> None:
    lines = [{"step": i, "time": 1.5 * i, "ppo/length_over_responses": 10.0 + i} for i in (1, 2, 3)]
    (clock,) = clocks([run_of(tmp_path / "r", "ppo", lines, config=SIZES)])
    assert clock["seconds"] == ([1, 2, 3], [1.5, 3.0, 4.5])
    assert clock["tokens"] == ([1, 2, 3], [88.0, 184.0, 288.0])  # 8 responses of 11, 12 and 13 tokens


def test_what_a_run_does_not_say_is_no_clock(tmp_path: Path) -> None:
    bare = run_of(tmp_path / "bare", "sft", [{"step": 1, "sft/loss_over_tokens": 1.0}])
    unknown = run_of(tmp_path / "unknown", "ppo", [{"step": i, "ppo/length_over_responses": 1.0} for i in (1, 2)])
    assert clocks([bare, unknown]) == [{}, {}]


def test_long_clocks_are_thinned(tmp_path: Path) -> None:
    lines = [{"step": i, "time": float(i), "sft/loss_over_tokens": 1.0} for i in range(5000)]
    (clock,) = clocks([run_of(tmp_path / "r", "sft", lines)])
    steps, seconds = clock["seconds"]
    assert len(steps) <= POINTS and steps == seconds and (steps[0], steps[-1]) == (0, 4999)
