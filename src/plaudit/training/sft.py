"""Supervised fine-tuning (N1): maximise the log-likelihood of the demonstrator's answers."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from plaudit.errors import UserError
from plaudit.evaluation.perplexity import Perplexity, perplexity
from plaudit.hardware.machine import Machine, machine
from plaudit.hardware.randomness import derive_seed
from plaudit.models.checkpoint import export
from plaudit.models.load import Language, Loaded, load_causal, load_language
from plaudit.models.trunk import Trunk
from plaudit.records.text import Demonstration, Kind, Text
from plaudit.runs.folder import Run
from plaudit.telemetry.console import say
from plaudit.telemetry.progress import Stopwatch
from plaudit.tokens.batches import pack
from plaudit.tokens.encode import EncodedRow, encode_learned
from plaudit.tokens.options import TooLong
from plaudit.training import optim, order, state
from plaudit.training.options import KnownEntropy, SFTConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class _Data:
    """Encoded rows: training sources laid end to end, and what is measured on."""

    train: tuple[EncodedRow, ...]
    sizes: tuple[int, ...]
    held_out: tuple[EncodedRow, ...]
    language: Language
    entropy: float | None
    """The known bound of the held-out loss, nats per answer."""


def sft(config: SFTConfig, run: Run) -> None:
    """Train, measure on held-out rows, keep the best and the last model.

    Loss: −Σ log π(y_t | x, y_<t) over the answers' tokens ÷ their number in the minibatch, so that neither packing nor
    micro-batches change it. Differs from the notes in nothing; a plain-text row counts every token as an answer's.
    """
    data = _data(config, run)
    loaded = load_causal(config.model, data.language, seed=derive_seed(config.seed, "init"))
    place = machine(config.device)
    trunk = Trunk(loaded.hf).to(place.device)
    optimizer = optim.adamw(trunk.parameters(), config.optim)
    per_epoch = order.steps_per_epoch(data.sizes, [d.weight for d in config.data], config.minibatch_size)
    total = per_epoch * config.epochs
    say(f"sft: {len(data.train)} rows, {len(data.held_out)} held out, {total} steps on {place}, {trunk.layout} rows")

    resumed, _ = state.restore(run, trunk, optimizer)
    step, best, first = resumed.get("step", 0), resumed.get("best", 1e30), resumed.get("first")
    skipped = optim.Skipped(**resumed.get("skipped", {}))
    evaluate_every = config.evaluate_every or max(1, total // 10)

    def save() -> None:
        state.save(
            run, step, trunk, optimizer, {"step": step, "best": best, "first": first, "skipped": asdict(skipped)}
        )

    with state.saved_on_stop(save), run.progress(total, start=step) as progress:
        if first is None and data.held_out:
            untrained = _measure(trunk, data.held_out, config, place)
            first = untrained.nll_over_answers.value
            run.log(0, _held_out_metrics(untrained))
        rows: list[int] = []
        while step < total:
            run.check_stop()
            epoch, index = divmod(step, per_epoch)
            if index == 0 or not rows:
                rows = order.weighted(data.sizes, [d.weight for d in config.data], config.seed, epoch)
            chosen = [data.train[i] for i in order.minibatch(rows, config.minibatch_size, index)]
            with Stopwatch() as clock:
                loss = backward(trunk, chosen, config.microbatch_tokens, place)
                stats = optim.step(optimizer, config.optim, step=step, total_steps=total, loss=loss, ranks=place.ranks)
            if not stats.taken:
                state.keep_batch(run, step, state.pairs_of(chosen), {"loss": str(loss)})
            norm = stats.grad_norm
            skipped = skipped.after(stats.taken, config.optim, grad_norm=norm, step=step, total_steps=total)
            step += 1
            metrics = {
                "loss_over_tokens": loss,
                "grad_norm": stats.grad_norm,
                "learning_rate": stats.learning_rate,
                "skipped_updates": skipped.total,
                "tokens_over_seconds": sum(len(p) + len(r) for p, r in chosen) / clock.seconds,
            }
            if data.held_out and (step % evaluate_every == 0 or step == total):
                measured = _measure(trunk, data.held_out, config, place)
                metrics |= _held_out_metrics(measured)
                if measured.loss < best:
                    best = measured.loss
                    _export(run, loaded, "best")
            run.log(step, metrics)
            progress.update(step, {"loss": loss, "tokens/s": metrics["tokens_over_seconds"]})
            if step % config.save_every == 0 or step == total:
                save()
    _export(run, loaded, "model")
    _finish(run, trunk, data, config, place, first)


def backward(trunk: Trunk, rows: Sequence[EncodedRow], microbatch_tokens: int, place: Machine) -> float:
    """Accumulate this rank's part of the gradient of the minibatch's token-mean negative log-likelihood, which is
    returned whole (nats per token). `optim.step` adds the parts up."""
    num_tokens = sum(len(response) for _, response in rows)
    total = 0.0
    for cut in place.ranks.cuts((len(p) + len(r) for p, r in rows), microbatch_tokens):
        batch = pack([rows[i][0] for i in cut], [rows[i][1] for i in cut]).to(place.device)
        with place.autocast():
            logprobs = trunk(batch, {"logprobs"})["logprobs"]
        loss = -logprobs.sum() / max(num_tokens, 1)
        loss.backward()
        total += float(loss.detach())
    (total,) = place.ranks.totals(total)
    return total


def _data(config: SFTConfig, run: Run) -> _Data:
    """Read, split and encode; every mistake in the data is found here, before the model loads."""
    # Plain text where the file holds plain text, demonstrations (converted where need be) otherwise.
    kinds = (Kind.DEMONSTRATION, Kind.TEXT)
    sources, held_out = state.load_split(
        run, config.data, config.held_out, config.held_out_fraction, config.seed, *kinds
    )
    texts = [t for rows in sources for row in rows for t in _texts(row)]
    language = load_language(config.model, texts)
    max_length = language.limit(config.max_length)
    encoded = [_encode(rows, language, max_length, config.too_long) for rows in sources]
    if not any(encoded):
        raise UserError(f"data: no row is left to train on in {', '.join(d.path for d in config.data)}")
    return _Data(
        train=tuple(pair for pairs in encoded for pair in pairs),
        sizes=tuple(len(pairs) for pairs in encoded),
        held_out=tuple(_encode(held_out, language, max_length, config.too_long)),
        language=language,
        entropy=_entropy(config.entropy),
    )


def _texts(row: Demonstration | Text) -> list[str]:
    return [row.text] if isinstance(row, Text) else [m.content for m in row.prompt.turns] + [row.response]


def _encode(
    rows: Sequence[Demonstration | Text], language: Language, max_length: int, too_long: TooLong
) -> list[EncodedRow]:
    encoded = encode_learned(rows, language.renderer, max_length=max_length, too_long=too_long)
    if encoded.dropped or encoded.truncated:
        say(f"longer than {max_length} tokens: {encoded.dropped} dropped, {encoded.truncated} truncated")
    return encoded.remaining


def _measure(trunk: Trunk, rows: Sequence[EncodedRow], config: SFTConfig, place: Machine) -> Perplexity:
    return perplexity(trunk, rows, place, budget=config.microbatch_tokens)


def _held_out_metrics(measured: Perplexity) -> dict[str, float]:
    return {
        "held_out_loss_over_tokens": measured.loss,
        "held_out_perplexity": measured.perplexity,
        "held_out_nll_over_answers": measured.nll_over_answers.value,
    }


def _export(run: Run, loaded: Loaded, name: str) -> None:
    if run.following:
        return
    with run.save_model(name) as folder:
        export(folder, loaded, {"kind": "policy", "stage": "sft"})


def _finish(run: Run, trunk: Trunk, data: _Data, config: SFTConfig, place: Machine, first: float | None) -> None:
    rows = []
    if data.held_out:
        measured = _measure(trunk, data.held_out, config, place)
        rows.append(
            {
                "name": "SFT",
                "metric": "held-out negative log-likelihood per answer",
                **asdict(measured.nll_over_answers),
                "floor": first,
                "ceiling": data.entropy,
                "unit": "nats",
            }
        )
    run.finish({"stages": rows})


def _entropy(known: KnownEntropy | None) -> float | None:
    if known is None:
        return None
    try:
        return float(json.loads(Path(known.path).read_text(encoding="utf-8"))[known.key])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"entropy: no number {known.key!r} can be read from {known.path}: {error!r}") from error


__all__ = ["SFTConfig", "backward", "sft"]
