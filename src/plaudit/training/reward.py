"""Reward models from rankings and comparisons (N3.1–N3.3, N3.12)."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from torch import Tensor

from plaudit.data.sources import DataConfig
from plaudit.engines.device import DeviceConfig, Machine, machine
from plaudit.engines.randomness import derive_seed, permutation
from plaudit.evaluation.floors import floor_accuracies
from plaudit.evaluation.reward_report import RewardReport, TruthConfig, floor_rows, reward_report
from plaudit.formulas.preference_losses import kwise, pairwise_logistic, ranked_pairs
from plaudit.models.load import Language, ModelConfig, load_language
from plaudit.models.reward import scalar
from plaudit.models.reward.scalar import ScalarRewardModel
from plaudit.records.text import Demonstration, Kind, Ranking
from plaudit.runs.console import say
from plaudit.runs.errors import UserError
from plaudit.runs.folder import Run
from plaudit.runs.progress import Progress, Stopwatch
from plaudit.scoring.functions import FunctionConfig, check_columns, function_scorer
from plaudit.scoring.learned import RewardModelScorer
from plaudit.tokens.batches import by_token_budget, pack_shared
from plaudit.tokens.encode import Answer, Pair, TooLong, encode_answers
from plaudit.training import optim, order, state
from plaudit.training.optim import OptimConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class RewardConfig:
    """A reward model: a scalar at the last token, learned from rankings or comparisons."""

    data: tuple[DataConfig, ...]
    """Files of rankings or comparisons; several are mixed by their weights."""
    held_out: tuple[DataConfig, ...] = ()
    """Files to measure on; empty: `held_out_fraction` of the prompts is set aside."""
    held_out_fraction: float = 0.1
    """Share of the prompts set aside by hash when no `held_out` files are given; 0 measures nothing."""
    reference: tuple[DataConfig, ...] = ()
    """Demonstrations whose mean score becomes 0 (N3.12); empty: no bias."""
    model: ModelConfig = field(default_factory=ModelConfig)
    """The backbone: the SFT model's folder, any causal model or classifier, or `tiny`."""
    loss: Literal["kwise", "pairwise"] = "kwise"
    """kwise: a prompt's pairs are averaged, then the prompts (InstructGPT); pairwise: all pairs weigh the same."""
    optim: OptimConfig = field(default_factory=lambda: OptimConfig(learning_rate=1e-4))
    """The optimiser."""
    device: DeviceConfig = field(default_factory=DeviceConfig)
    """The machine."""
    seed: int = 0
    """Of the new head and the order of rows."""
    epochs: int = 1
    """Passes over the data; more than one overfits (InstructGPT C.2)."""
    minibatch_size: int = 32
    """Prompts in one optimiser step, each with all its answers."""
    microbatch_tokens: int = 16384
    """Tokens in one forward; memory depends on it, results do not."""
    max_length: int = 0
    """Tokens of prompt and answer; 0 is the model's context."""
    too_long: TooLong = "error"
    """What happens to longer answers."""
    truth: TruthConfig | None = None
    """Where the true utility is known (a made world): measure against the known label probabilities."""
    floors: bool = True
    """Measure on the same held-out rows what knows no language: the longer answer wins, and a bag of words."""
    shuffle_labels: bool = False
    """A control: permute each prompt's ranks, so that there is nothing to learn."""
    evaluate_every: int = 0
    """Optimiser steps between measurements on held-out rows; 0: five times in a run."""
    save_every: int = 100
    """Optimiser steps between checkpoints."""

    def __post_init__(self) -> None:
        if not self.data:
            raise ValueError("data must name at least one file")
        if min(self.epochs, self.minibatch_size, self.microbatch_tokens, self.save_every) < 1:
            raise ValueError("epochs, minibatch_size, microbatch_tokens and save_every must be at least 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranked:
    """One prompt's encoded answers with their ranks; `margin` in score units, for comparisons that carry one."""

    answers: tuple[Pair, ...]
    ranks: tuple[int, ...]
    margin: float

    @property
    def num_pairs(self) -> int:
        return sum(a < b for a in self.ranks for b in self.ranks)

    @property
    def groups(self) -> list[tuple[list[int], list[list[int]]]]:
        """The prompt once with all its answers; where truncation left the answers different prompts, each its own."""
        prompts = [prompt for prompt, _ in self.answers]
        if all(prompt == prompts[0] for prompt in prompts):
            return [(prompts[0], [response for _, response in self.answers])]
        return [(prompt, [response]) for prompt, response in self.answers]

    @property
    def num_tokens(self) -> int:
        """Tokens that run through the model."""
        return sum(len(prompt) + sum(map(len, responses)) for prompt, responses in self.groups)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Data:
    train: tuple[Ranked, ...]
    sizes: tuple[int, ...]
    rankings: tuple[Ranking, ...]
    """The training rows as text, for the floors."""
    held_out: tuple[Ranking, ...]
    reference: tuple[Demonstration, ...]
    language: Language


def reward(config: RewardConfig, run: Run) -> None:
    """Train, measure on held-out prompts, set the bias on reference answers, save.

    Loss (InstructGPT eq. 1): each answer is scored once, K forwards for C(K,2) pairs; a prompt's pairs are averaged,
    then the prompts of the minibatch. Differs from the paper: K may vary, ties give no pair.
    """
    data = _data(config, run)
    place = machine(config.device)
    model = scalar.load(config.model, data.language, seed=derive_seed(config.seed, "init")).to(place.device)
    model.bias = 0.0
    optimizer = optim.adamw(model.parameters(), config.optim)
    weights = [d.weight for d in config.data]
    per_epoch = order.steps_per_epoch(data.sizes, weights, config.minibatch_size)
    total = per_epoch * config.epochs
    say(f"reward: {len(data.train)} prompts, {len(data.held_out)} held out, {total} steps on {place}")

    resumed, _ = state.restore(run, model, optimizer)
    step = resumed.get("step", 0)
    evaluate_every = config.evaluate_every or max(1, total // 5)

    def save() -> None:
        state.save(run, step, model, optimizer, {"step": step})

    with state.saved_on_stop(save), Progress("reward", total, start=step) as progress:
        rows: list[int] = []
        while step < total:
            run.check_stop()
            epoch, index = divmod(step, per_epoch)
            if index == 0 or not rows:
                rows = order.weighted(data.sizes, weights, config.seed, epoch)
            chosen = [data.train[i] for i in order.minibatch(rows, config.minibatch_size, index)]
            with Stopwatch() as clock:
                loss, margin, accuracy = backward(model, chosen, config, place)
                stats = optim.step(optimizer, config.optim, step=step, total_steps=total)
            step += 1
            metrics = {
                "reward/loss_over_prompts": loss,
                "reward/accuracy_over_pairs": accuracy,
                "reward/margin_over_pairs": margin,
                "reward/grad_norm": stats.grad_norm,
                "reward/learning_rate": stats.learning_rate,
                "reward/pairs_over_seconds": sum(r.num_pairs for r in chosen) / clock.seconds,
            }
            if data.held_out and (step % evaluate_every == 0 or step == total):
                report = _report(model, data.held_out, config, place)
                metrics["reward/held_out_accuracy_over_pairs"] = report.accuracy
                metrics["reward/held_out_loss_over_prompts"] = report.loss
            run.log(step, metrics)
            progress.update(step, {"loss": loss, "accuracy": accuracy})
            if step % config.save_every == 0 or step == total:
                save()
    _finish(run, model, data, config, place)


def backward(
    model: ScalarRewardModel, rows: Sequence[Ranked], config: RewardConfig, place: Machine
) -> tuple[float, float, float]:
    """Accumulate the minibatch's gradient. Returns its loss (nats), mean margin r_w − r_l and accuracy over its pairs.

    A prompt's answers stay in one micro-batch; sums are divided by the whole minibatch's count.
    """
    counted = sum(r.num_pairs > 0 for r in rows) if config.loss == "kwise" else sum(r.num_pairs for r in rows)
    total = margins = wins = 0.0
    for cut in by_token_budget((r.num_tokens for r in rows), config.microbatch_tokens):
        part = [rows[i] for i in cut]
        batch = pack_shared([group for row in part for group in row.groups]).to(place.device)
        with place.autocast():
            scores = model(batch).float()
        ranks = torch.tensor([rank for row in part for rank in row.ranks], device=place.device)
        owner = torch.tensor([i for i, row in enumerate(part) for _ in row.ranks], device=place.device)
        better, worse = ranked_pairs(ranks, owner)
        if config.loss == "kwise":
            loss, _ = kwise(scores, ranks, owner)
        else:
            margin = torch.tensor([row.margin for row in part], device=place.device)
            loss = pairwise_logistic(scores[better], scores[worse], margin[owner[better]]).sum()
        (loss / max(counted, 1)).backward()
        difference = (scores[better] - scores[worse]).detach()
        total += float(loss.detach())
        margins += float(difference.sum())
        wins += float((difference > 0).sum() + 0.5 * (difference == 0).sum())
    pairs = max(sum(r.num_pairs for r in rows), 1)
    return total / max(counted, 1), margins / pairs, wins / pairs


def _data(config: RewardConfig, run: Run) -> _Data:
    """Read, split and encode; every mistake in the data is found here, before the model loads."""
    sources, held_out = state.load_split(
        run, config.data, config.held_out, config.held_out_fraction, config.seed, Kind.RANKING
    )
    if config.truth is not None:
        check_columns(function_scorer(FunctionConfig(function=config.truth.function)), held_out)
    if config.shuffle_labels:
        sources = [[_shuffled(row, config.seed) for row in rows] for rows in sources]
    reference = tuple(row for rows in state.load_data(run, config.reference, Kind.DEMONSTRATION) for row in rows)
    texts = [text for rows in sources for row in rows for text in _texts(row)]
    language = load_language(config.model, texts)
    max_length = config.max_length or language.context
    if max_length > language.context:
        raise UserError(f"max_length: {max_length} exceeds the model's context of {language.context}")
    encoded = [_encode(rows, language, max_length, config) for rows in sources]
    _say_cut(held_out, language)
    if not any(encoded):
        raise UserError(f"data: no prompt with two answers of different rank is left in {config.data[0].path}")
    return _Data(
        train=tuple(row for rows in encoded for row in rows),
        sizes=tuple(len(rows) for rows in encoded),
        rankings=tuple(row for rows in sources for row in rows),
        held_out=tuple(held_out),
        reference=reference,
        language=language,
    )


def _texts(row: Ranking) -> list[str]:
    return [*(message.content for message in row.prompt.turns), *row.responses]


def _shuffled(row: Ranking, seed: int) -> Ranking:
    places = permutation(len(row.ranks), seed, "shuffle_labels", row.prompt.id)
    return replace(row, ranks=tuple(row.ranks[i] for i in places))


def _encode(rows: Sequence[Ranking], language: Language, max_length: int, config: RewardConfig) -> list[Ranked]:
    """Encode all answers; a prompt with fewer than two ranks left teaches nothing and is counted out."""
    answers = [Answer(prompt=row.prompt, response=text, where=row.where) for row in rows for text in row.responses]
    encoded = encode_answers(answers, language.renderer, max_length=max_length, too_long=config.too_long)
    pairs = iter(encoded.rows)
    ranked = []
    for row in rows:
        kept = [(pair, rank) for rank in row.ranks if (pair := next(pairs)) is not None]
        margin = float(row.columns.get("margin", 0.0) or 0.0)
        ranked.append(Ranked(answers=tuple(p for p, _ in kept), ranks=tuple(r for _, r in kept), margin=margin))
    useful = [row for row in ranked if row.num_pairs]
    if encoded.dropped or encoded.truncated or len(useful) < len(ranked):
        say(
            f"answers longer than {max_length} tokens: {encoded.dropped} dropped, {encoded.truncated} truncated; "
            f"{len(ranked) - len(useful)} prompts without two ranks left out"
        )
    if config.loss == "kwise" and any(row.margin for row in useful):
        raise UserError("loss: the data has margins, which only `loss: pairwise` uses")
    return useful


def _say_cut(held_out: Sequence[Ranking], language: Language) -> None:
    """Every held-out answer is judged; one that is too long for the model is read without its prompt's beginning."""
    answers = [Answer(prompt=row.prompt, response=text, where=row.where) for row in held_out for text in row.responses]
    encoded = encode_answers(answers, language.renderer, max_length=language.context, too_long="truncate")
    if encoded.truncated:
        say(f"held out: {encoded.truncated} of {len(answers)} answers truncated to the context of {language.context}")


def _report(model: ScalarRewardModel, rows: Sequence[Ranking], config: RewardConfig, place: Machine) -> RewardReport:
    scorer = RewardModelScorer(model, place, budget=config.microbatch_tokens)
    return reward_report(scorer, rows, truth=config.truth)


def reference_bias(model: ScalarRewardModel, rows: Sequence[Demonstration], place: Machine, budget: int) -> float:
    """The mean raw score of reference answers: what is subtracted so that they score 0 on average (N3.12)."""
    with place.autocast():
        scores: Tensor = model.score_texts([r.prompt for r in rows], [r.response for r in rows], budget)
    return float(scores.double().mean()) + model.bias


def _finish(run: Run, model: ScalarRewardModel, data: _Data, config: RewardConfig, place: Machine) -> None:
    if data.reference:
        model.bias = reference_bias(model, data.reference, place, config.microbatch_tokens)
    facts = {"loss": config.loss, "reference_answers": len(data.reference)}
    with run.save_model() as folder:
        model.save(folder, facts)
    rows = []
    if data.held_out:
        report = _report(model, data.held_out, config, place)
        name = "reward model" + (" (shuffled labels)" if config.shuffle_labels else "")
        rows = report.rows(name)
        if config.floors:
            rows += floor_rows(name, floor_accuracies(data.rankings, data.held_out))
        facts |= report.facts()
    run.finish({"stages": rows, "reward": facts | {"bias": model.bias}})
