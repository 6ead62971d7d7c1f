"""Supervised fine-tuning (N1): maximise the log-likelihood of the demonstrator's answers."""

import contextlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from plaudit.data.stream import Learned, RowStream
from plaudit.engines.build import build_engine
from plaudit.engines.options import SamplingConfig
from plaudit.errors import UserError
from plaudit.evaluation.perplexity import Perplexity, perplexity
from plaudit.hardware.machine import Machine, machine_of
from plaudit.hardware.randomness import SampleKey, derive_seed
from plaudit.models.adapters import unwrapped
from plaudit.models.checkpoint import check_savable
from plaudit.models.load import Language, Loaded, finish, load_causal, load_language
from plaudit.models.trunk import Trunk
from plaudit.records.results import Result
from plaudit.records.text import Demonstration, Text
from plaudit.runs.folder import Run
from plaudit.telemetry.console import say, show
from plaudit.telemetry.numbers import counted
from plaudit.telemetry.summary import summary
from plaudit.tokens.encode import Encoded, EncodedRow, Warned, encode_learned
from plaudit.tokens.options import TooLong
from plaudit.training import state
from plaudit.training.descent import Descent, MinibatchLoss, Mixture, descend
from plaudit.training.likelihood import nll_backward
from plaudit.training.options import KnownEntropy, SFTConfig
from plaudit.training.streaming import StreamedMixture, open_training

SHOWN_TOKENS, SHOWN_CHARACTERS = 32, 90
"""Of the line that shows what the model says by now, whenever it is measured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Participants:
    """What learns, from what, measured on what."""

    loaded: Loaded
    trunk: Trunk
    """The same model, as it is trained."""
    machine: Machine
    mixture: Mixture[EncodedRow] | StreamedMixture
    held_out: tuple[EncodedRow, ...]
    entropy: float | None
    """The known bound of the held-out loss, nats per answer."""


def sft(config: SFTConfig, run: Run) -> None:
    """Fine-tune what the config names; see `optimise`."""
    optimise(participants(config, run), config, run)


def participants(config: SFTConfig, run: Run, *, policy: Loaded | None = None) -> Participants:
    """Read data, then load the model; every mistake in the data is found before.

    Args:
        policy: a causal model to train in place, instead of the one that `config.model.path` names;
            `config.model.train` says which part of it.
    Raises: UserError.
    """
    # Plain text where the file holds plain text, demonstrations (converted where need be) otherwise.
    streams: tuple[RowStream, ...] = ()
    sources: Sequence[Sequence[Learned]]
    if config.streaming:
        streams, held_out = open_training(run, config)
        sources = [stream.first for stream in streams]
    else:
        sources, held_out = state.load_split(run, config, Demonstration, Text)
    texts = [text for source in sources for row in source for text in _texts(row)]
    language = policy.language if policy else load_language(config.model, texts)
    max_length = language.limit(config.max_length)
    mixture = _streamed(config, streams, language) if streams else _in_memory(config, run, sources, language)
    measured = _encode("held out", held_out, language, max_length, config.too_long).remaining
    entropy = _entropy(config.entropy)
    loaded = _trainable(config, language, policy)
    check_savable(loaded)
    if policy:
        state.check_weights(run, "policy", (p for p in loaded.hf.parameters() if not p.requires_grad))
    here = machine_of(run, config.device)
    return Participants(
        loaded=loaded,
        trunk=Trunk(loaded.hf).to(here.device),
        machine=here,
        mixture=mixture,
        held_out=tuple(measured),
        entropy=entropy,
    )


def optimise(participants: Participants, config: SFTConfig, run: Run) -> None:
    """Train, measure on held-out rows, keep the best and the last model.

    Loss: −Σ log π(y_t | x, y_<t) over the answers' tokens ÷ their number in the minibatch, so that neither packing nor
    micro-batches change it. As in the notes; a plain-text row counts every token as an answer's.
    """
    trunk, mixture, held_out = participants.trunk, participants.mixture, participants.held_out
    say(
        f"sft: {counted(mixture.count, 'row')}, {len(held_out)} held out, "
        f"{counted(mixture.steps(config), 'step')} on {participants.machine}, {trunk.layout} rows"
    )

    def backward(rows: Sequence[EncodedRow]) -> MinibatchLoss:
        loss = nll_backward(trunk, rows, config.microbatch_tokens, participants.machine)
        return MinibatchLoss(value=loss, metrics={"loss_over_tokens": loss})

    def measure() -> dict[str, float]:
        measured = _metrics(_measure(participants, config))
        if shown := _shown(participants):
            show(f"sft: {shown}")
        return measured

    descent = Descent(
        model=trunk,
        mixture=mixture,
        machine=participants.machine,
        backward=backward,
        measure=measure if held_out else None,
        measurements=10,
        amounts=lambda rows: {"tokens": sum(len(prompt) + len(response) for prompt, response in rows)},
        headline={"loss": "loss_over_tokens", "tokens/s": "tokens_over_seconds"},
        measure_first=True,
        best_by="held_out_loss_over_tokens",
        keep_best=lambda: state.save_policy(run, participants.loaded, "best"),
    )
    first = descend(descent, config, run)
    state.save_policy(run, participants.loaded)
    results: list[Result] = []
    if held_out:
        results = _measure(participants, config).results("SFT", untrained=first, entropy=participants.entropy)
    run.finish(summary(results))


def _in_memory(
    config: SFTConfig, run: Run, sources: Sequence[Sequence[Learned]], language: Language
) -> Mixture[EncodedRow]:
    limit, paths = language.limit(config.max_length), [source.path for source in config.data]
    every = [_encode(path, rows, language, limit, config.too_long) for path, rows in zip(paths, sources, strict=True)]
    encoded = [source.remaining for source in every]
    count = max(sum(len(source.rows) for source in every), 1)
    run.observe({"left_out_over_rows": sum(source.dropped for source in every) / count})
    run.observe({"cut_over_rows": sum(source.truncated for source in every) / count})
    if not any(encoded):
        raise UserError(f"data: no row is left to train on in {', '.join(paths)}")
    return Mixture.of(encoded, [source.weight for source in config.data])


def _streamed(config: SFTConfig, streams: tuple[RowStream, ...], language: Language) -> StreamedMixture:
    limit, renderer, warned = language.limit(config.max_length), language.decoder_renderer, Warned()

    def encode(rows: Sequence[Learned]) -> list[EncodedRow]:
        return encode_learned(rows, renderer, max_length=limit, too_long=config.too_long, warned=warned).remaining

    return StreamedMixture(streams=streams, weights=tuple(source.weight for source in config.data), encode=encode)


def _trainable(config: SFTConfig, language: Language, policy: Loaded | None) -> Loaded:
    seed = derive_seed(config.seed, "init")
    if policy is None:
        return load_causal(config.model, language, seed=seed)
    if unwrapped(policy.hf) is not policy.hf:
        raise UserError("policy: holds adapters already; merge them, and name new ones by model.train")
    return finish(policy.hf, language, config.model, seed)


def _texts(row: Demonstration | Text) -> list[str]:
    return [row.text] if isinstance(row, Text) else [m.content for m in row.prompt.turns] + [row.response]


def _encode(
    name: str, rows: Sequence[Demonstration | Text], language: Language, max_length: int, too_long: TooLong
) -> Encoded:
    """The rows of the file `name` as ids; what is cut or left out of it is said."""
    encoded = encode_learned(rows, language.decoder_renderer, max_length=max_length, too_long=too_long)
    if encoded.dropped or encoded.truncated:
        say(f"{name}: longer than {max_length} tokens: {encoded.dropped} dropped, {encoded.truncated} truncated")
    texts = sum(isinstance(row, Text) for row in rows)
    windows = len(encoded.rows) - (len(rows) - texts)
    if windows > texts:
        say(f"{name}: {texts} texts, {windows} windows of {max_length} tokens")
    return encoded


def _measure(participants: Participants, config: SFTConfig) -> Perplexity:
    return perplexity(
        participants.trunk,
        participants.held_out,
        participants.machine,
        budget=config.microbatch_tokens,
        ends=participants.loaded.language.end_ids,
    )


def _shown(participants: Participants) -> str:
    """A held-out prompt and the likeliest answer to it now, in one line; empty where nothing can be answered."""
    language = participants.loaded.language
    prompt = next((prompt for prompt, _ in participants.held_out if len(prompt) > 1), None)
    length = min(SHOWN_TOKENS, language.context - len(prompt or ()))
    if prompt is None or length < 1:
        return ""
    with contextlib.suppress(UserError):  # not every model can be sampled from
        engine = build_engine(participants.trunk, language)
        key, sampling = SampleKey(prompt_id="shown", sample_index=0), SamplingConfig(max_new_tokens=length)
        with participants.machine.autocast():
            (answer,) = engine.generate([prompt], [key], sampling, seed=0, greedy=True)
        texts = (language.tokenizer.decode(ids, skip_special_tokens=True) for ids in (prompt, list(answer.ids)))
        question, text = (" ".join(str(text).split()) for text in texts)
        return f"{question[-SHOWN_CHARACTERS:]} → {text[:SHOWN_CHARACTERS]}"
    return ""


def _metrics(measured: Perplexity) -> dict[str, float]:
    return {
        "held_out_loss_over_tokens": measured.loss,
        "held_out_perplexity": measured.perplexity,
        "held_out_nll_over_answers": measured.nll_over_answers.value,
        **({"held_out_end_over_answers": measured.end} if measured.end is not None else {}),
    }


def _entropy(known: KnownEntropy | None) -> float | None:
    if known is None:
        return None
    try:
        return float(json.loads(Path(known.path).read_text(encoding="utf-8"))[known.key])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"entropy: no number {known.key!r} can be read from {known.path}: {error!r}") from error
