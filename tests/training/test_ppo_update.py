"""One update whose numbers are written down: what a brake looks at, what is said of the minibatch, which text is
learned beside; and by which coefficients a run's updates and rewards are made."""

import json
from dataclasses import replace
from types import SimpleNamespace

import pytest

from plaudit.data.options import DataConfig
from plaudit.models.load import load_language
from plaudit.records.statistics import Max, Statistic, Sum
from plaudit.runs.folder import Run
from plaudit.training import optim, state
from plaudit.training.optim import StepStats
from plaudit.training.options import OptimConfig
from plaudit.training.policy import loop, ptx, update
from plaudit.training.policy.cursor import Cursor, Outcome, Update
from plaudit.training.policy.objective import Coefficients
from plaudit.training.policy.options import (
    AdaptiveKL,
    AdaptiveTrust,
    Brakes,
    Ptx,
    ReferenceNormalisation,
    RunningNormalisation,
    Shaping,
)
from plaudit.training.policy.ptx import Texts
from plaudit.training.policy.update import ppo_step
from tests.kills import kills
from tests.training.scripted import config, run
from tests.training.test_invariance import experience
from tests.training.tiny import CPU, jsonl, metrics, rollouts

STEEP = OptimConfig(learning_rate=0.05, schedule="constant")


SEEN: dict[str, Statistic] = {
    "tokens": Sum(8.0),
    "policy_loss": Sum(3.0),
    "clipped_tokens": Sum(2.0),
    "approx_kl_old": Sum(0.4),
    "ratio": Sum(8.8),
    "ratio_max": Max(5.0),
    "value_loss": Sum(7.0),
    "value_clipped_tokens": Sum(1.0),
    "loss": Sum(11.0),
}
"""Of eight tokens: the mean ratio is 1.1, the mean KL to the old policy 0.05 nats."""
ROWS = tuple(([0], [3 + i]) for i in range(7))
TEXTS = Texts(rows=ROWS, coef=0.3, per_step=2, seed=0)
AT = Cursor(iteration=1, update=1, coefficients=Coefficients(kl=0.1, trust=0.0))
"""The sixth of eight steps."""


class Stage:
    """An update whose parts are scripted; it keeps what they were asked."""

    def __init__(self, patch: pytest.MonkeyPatch, text_loss: float = 4.5):
        self.texts, self.losses = [], []
        patch.setattr(update, "backward", lambda *_: SEEN)
        text = {"ptx_tokens": Sum(6.0), "ptx_loss": Sum(text_loss)}
        patch.setattr(ptx, "backward", lambda *asked: self.texts.append(asked) or text)
        patch.setattr(optim, "step", self._step)
        optimizer = SimpleNamespace(zero_grad=lambda **_: None)
        actor = SimpleNamespace(policy=None, policy_parameters=list, named_parameters=dict)
        self.participants = SimpleNamespace(actor=actor, reference=None, machine=CPU, optimizer=optimizer, text=TEXTS)

    def _step(self, *_, loss: float, **__) -> StepStats:
        self.losses.append(loss)
        return StepStats(grad_norm=0.25, learning_rate=0.125)

    def update(self, chosen, cursor: Cursor = AT) -> Update:
        return ppo_step(self.participants, experience(), chosen, cursor, None)


@pytest.fixture
def stage(monkeypatch) -> Stage:
    return Stage(monkeypatch)


@kills(
    "training/policy/update.py",
    old='ratio(statistics, "ratio", "tokens") > brakes',
    new='number(statistics, "ratio_max") > brakes',
    why="one odd token stops a minibatch",
)
@kills(
    "training/policy/update.py",
    old='ratio(statistics, "approx_kl_old", "tokens") > brakes',
    new='number(statistics, "approx_kl_old") > brakes',
    why="the trust region shrinks with the minibatch's tokens",
)
@pytest.mark.parametrize(
    ("brakes", "outcome"),
    [
        (Brakes(), Outcome.TAKEN),
        (Brakes(max_mean_ratio=1.11), Outcome.TAKEN),  # the largest of the eight is 5
        (Brakes(max_mean_ratio=1.09), Outcome.RATIO_TOO_LARGE),
        (Brakes(max_approx_kl=0.051), Outcome.TAKEN),  # their sum is 0.4
        (Brakes(max_approx_kl=0.049), Outcome.LEFT_TRUST_REGION),
        (Brakes(max_approx_kl=0.049, max_mean_ratio=1.09), Outcome.LEFT_TRUST_REGION),
    ],
)
def test_brakes_look_at_means_over_tokens(tmp_path, stage, brakes, outcome):
    assert stage.update(config(tmp_path, brakes=brakes)).outcome == outcome
    assert len(stage.losses) == len(stage.texts) == (outcome is Outcome.TAKEN)


def test_what_was_seen_is_counted_of_a_minibatch_that_was_left_out_too(tmp_path, stage):
    """What was done is not."""
    done = {"ptx_tokens": Sum(6.0), "ptx_loss": Sum(4.5), "updates": Sum(1.0), "grad_norm": Sum(0.25)}
    taken = Update(outcome=Outcome.TAKEN, statistics=SEEN | done, learning_rate=0.125)
    assert stage.update(config(tmp_path)) == taken
    held = stage.update(config(tmp_path, brakes=Brakes(max_mean_ratio=1.09)))
    assert held == Update(outcome=Outcome.RATIO_TOO_LARGE, statistics=SEEN)


@kills(
    "training/policy/update.py",
    old='number(statistics, "loss") + number(statistics, "ptx_loss")',
    new='number(statistics, "loss")',
    why="a text whose loss overflows is not looked at",
)
def test_the_loss_that_must_be_finite_holds_the_text(tmp_path, monkeypatch):
    assert Stage(monkeypatch).update(config(tmp_path)).outcome is Outcome.TAKEN
    stage = Stage(monkeypatch, text_loss=float("inf"))
    stage.update(config(tmp_path))
    assert stage.losses == [float("inf")]


@kills(
    "training/policy/update.py",
    old="participants.text.at(cursor.step(config))",
    new="participants.text.at(cursor.update)",
    why="every iteration learns the same few texts",
)
@kills(
    "training/policy/update.py",
    old="participants.text.coef, config",
    new="1.0, config",
    why="the text's coefficient is read and not used",
)
def test_the_text_goes_by_the_runs_step(tmp_path, stage):
    """Two of seven rows a step: another update number, or another iteration's, would learn others."""
    chosen = config(tmp_path, microbatch_tokens=50)
    stage.update(chosen)
    (asked,) = stage.texts
    assert asked == (None, TEXTS.at(5), 0.3, 50, CPU)
    assert asked[1] != TEXTS.at(1)


@kills(
    "training/policy/update.py",
    old="elif participants.text.rows:",
    new="if participants.text.rows:",
    why="the text moves the policy in the critic's warm-up",
)
def test_no_text_is_learned_while_the_critic_warms_up(tmp_path, stage):
    for warm_up, learned in ((2, 0), (1, 1), (0, 2)):  # of iterations; this is the second one
        seen = stage.update(config(tmp_path, critic_warmup=warm_up)).statistics
        assert ("ptx_tokens" in seen, len(stage.texts)) == (learned > 0, learned)


def test_the_text_is_what_its_options_say(tmp_path):
    """Coefficient, rows a step, and a stream that is the seed's."""
    chosen = config(tmp_path, iterations=1)
    rows = [{"text": "abc"[i % 3] * (1 + i)} for i in range(12)]
    data = (DataConfig(path=jsonl(tmp_path / "text.jsonl", rows)),)
    spoken = load_language(chosen.model)
    with Run.create(tmp_path / "run", "ppo", chosen) as opened:
        one, same, other = (ptx.load(Ptx(data=data, coef=0.3, rows=5), opened, spoken, seed) for seed in (1, 1, 2))
    assert (one.coef, len(one.at(0)), len(one.rows)) == (0.3, 5, 12)
    stream = [len(targets) for step in range(12) for _, targets in one.at(step)]
    for start in range(0, 60, 12):
        assert len(set(stream[start : start + 12])) == 12  # each pass sees every text once
    assert stream[:12] != stream[12:24]
    assert one.at(3) == same.at(3)
    lengths = [[len(targets) for step in range(2) for _, targets in texts.at(step)] for texts in (one, other)]
    assert lengths[0] != lengths[1]


# ------------------------------------------------------------------------------------------------------ coefficients


@kills(
    "training/policy/loop.py",
    old="kl_coef = cursor.coefficients.kl",
    new="kl_coef = config.kl.coef",
    why="the adaptive β is told and not paid",
)
def test_what_the_controllers_set_is_what_is_paid(tmp_path, monkeypatch):
    """Rewards, rollout rows and losses of an iteration by the β's that its metrics name, which move fast here."""
    used, honest = [], loop.ppo_step
    monkeypatch.setattr(loop, "ppo_step", lambda *a: used.append(a[3].coefficients) or honest(*a))
    moving = {"kl": AdaptiveKL(coef=0.2, target=0.01, horizon=8), "trust": AdaptiveTrust(coef=0.1, target=1e-4)}
    lines = metrics(run(tmp_path, config(tmp_path, iterations=3, optim=STEEP, **moving)))
    betas = [line["ppo/kl_coef"] for line in lines]
    assert betas == pytest.approx([0.2, 0.16, 0.192])  # the first iteration leaves nothing yet, the second does
    assert used == [
        Coefficients(kl=line["ppo/kl_coef"], trust=line["ppo/trust_kl_coef"]) for line in lines for _ in range(4)
    ]
    assert used[0].trust == 0.1 < 0.2 == used[4].trust
    for iteration, beta in enumerate(betas, 1):
        rows = rollouts(tmp_path / "run", iteration)
        assert all(row["kl_coef"] == pytest.approx(beta) for row in rows)
        for row in rows:
            assert row["reward"] == pytest.approx(row["score"] - beta * row["kl"], abs=1e-4)
        assert iteration == 1 or max(abs(row["kl"]) for row in rows) > 0.1


@kills(
    "training/policy/loop.py",
    old="mean_kl(pending.experience), kl_old)",
    new='mean_kl(pending.experience), update.statistics["approx_kl_old"].value)',
    why="the trust region's β by what was before the last update",
)
def test_the_trust_regions_controller_looks_at_the_policy_after_its_updates(tmp_path):
    """One update an iteration: before it the policy is the one that sampled, and the coefficient would be halved."""
    chosen = config(
        tmp_path, epochs=1, minibatches=1, optim=STEEP, trust=AdaptiveTrust(coef=0.1, target=1e-4), iterations=2
    )
    first, second = metrics(run(tmp_path, chosen))
    assert first["ppo/approx_kl_old_over_tokens"] < 1e-9
    assert (first["ppo/trust_kl_coef"], second["ppo/trust_kl_coef"]) == (0.1, 0.2)


@kills(
    "training/policy/update.py",
    old="experience[rows], config, cursor.coefficients)",
    new="experience[rows], config, Coefficients.start(config))",
    why="the losses by the coefficients that the run began with",
)
def test_an_update_is_made_by_the_coefficients_that_the_run_has_come_to(tmp_path, monkeypatch, stage):
    seen = []
    monkeypatch.setattr(update, "backward", lambda *asked: seen.append(asked[3]) or SEEN)
    stage.update(config(tmp_path), replace(AT, coefficients=Coefficients(kl=0.7, trust=0.4)))
    assert seen == [Coefficients(kl=0.7, trust=0.4)]


@kills(
    "training/policy/loop.py",
    old="scores_seen=cursor.scores_seen)",
    new="scores_seen=type(cursor.scores_seen)())",
    why="running moments that begin anew with every iteration",
)
@pytest.mark.parametrize(
    ("rule", "counts"), [(RunningNormalisation(), [0, 8, 16]), (ReferenceNormalisation(), [0, 8, 8])]
)
def test_an_iteration_goes_on_from_the_scores_that_were_seen(tmp_path, monkeypatch, rule, counts):
    """Eight responses an iteration: what is known of scores before each, and what the checkpoint keeps."""
    known, honest = [], loop.shape
    monkeypatch.setattr(loop, "shape", lambda *a, **k: known.append(k["scores_seen"].count) or honest(*a, **k))
    chosen = config(tmp_path, iterations=3, epochs=1, minibatches=1, save_every=3, shaping=Shaping(normalise=rule))
    run(tmp_path, chosen)
    assert known == counts
    saved = json.loads((tmp_path / "run" / "checkpoints" / "000003" / "state.json").read_text(encoding="utf-8"))
    assert saved["cursor"]["scores_seen"]["count"] == (24 if counts[-1] == 16 else 8)


@kills(
    "training/policy/loop.py",
    old="if cursor.step(config) % config.save_every == 0 and",
    new="if (cursor.step(config) - 1) % config.save_every == 0 and",
    why="checkpoints one step late",
)
def test_checkpoints_are_written_after_every_so_many_steps(tmp_path, monkeypatch):
    """Every third of eight steps, in the middle of an iteration too, and the last one."""
    saved, honest = [], state.save
    monkeypatch.setattr(state, "save", lambda run, step, *rest: saved.append(step) or honest(run, step, *rest))
    run(tmp_path, config(tmp_path, save_every=3))
    assert (saved[0], saved[-1]) == (3, 8)
    assert {3, 6} <= set(saved) and not {1, 2, 5, 7} & set(saved)


@kills(
    "training/policy/update.py",
    old="tensor[row][experience.response_mask[row]]",
    new="tensor[row]",
    why="padding is blamed",
)
def test_what_is_no_number_is_named_by_term_tensor_and_row():
    """Padding may hold anything."""
    broken = experience()
    broken.returns[~broken.response_mask] = float("nan")
    assert update._culprit({"policy_loss": Sum(1.0)}, broken, [0, 1, 2]) == ""
    broken.returns[2, broken.response_mask[2].nonzero()[0]] = float("inf")
    named = update._culprit({"policy_loss": Sum(1.0), "value_loss": Sum(float("inf"))}, broken, [1, 2, 0])
    assert named == " (value_loss inf; returns of row 2)"
