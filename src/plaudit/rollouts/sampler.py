"""Prompts in, rollouts out (N4.1): prompts → tokens → the engine's continuations → one record."""

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from itertools import accumulate, chain

import torch
from jaxtyping import Float
from torch import Tensor

from plaudit.engines.options import SamplingConfig
from plaudit.engines.protocol import Engine, Extra, Generation
from plaudit.engines.stopping import cut_at_stop
from plaudit.errors import UserError
from plaudit.hardware.randomness import SampleKey
from plaudit.models.load import Language
from plaudit.records.tensors import Rollout
from plaudit.records.text import FinishReason, Form, Group, PromptRow
from plaudit.rollouts.shots import Shots
from plaudit.telemetry.console import say
from plaudit.tokens.batches import pad_left, pad_right, unpad
from plaudit.tokens.encode import warn_of_unread
from plaudit.tokens.options import LongPrompts


def sample(
    engine: Engine,
    language: Language,
    rows: Sequence[PromptRow],
    sampling: SamplingConfig,
    *,
    sample_indices: Sequence[int],
    seed: int,
    greedy: bool = False,
    want: Collection[Extra] = (),
    shots: Shots | None = None,
) -> Rollout:
    """Let the policy answer each row once.

    Args: B `rows` (a prompt that is to be answered G times stands G times, with different `sample_indices`); `want`:
    what is gathered on the way, where the engine can; `shots`: what the model sees in front of every prompt. The
    rollout's rows are those given: who judges the answers sees no shots.
    The same (seed, prompt, sample index) gives the same uniforms, whatever else is in the batch.
    """
    distinct = {id(row): row for row in rows}  # a row that is answered several times is encoded once
    ids = {key: shown_ids(row, language, shots) for key, row in distinct.items()}
    sampling = shots.ending(sampling) if shots else sampling
    prompts = [ids[id(row)] for row in rows]
    keys = [
        SampleKey(prompt_id=row.prompt.id, sample_index=index) for row, index in zip(rows, sample_indices, strict=True)
    ]
    want = engine.capabilities.gathers.intersection(want) if want else ()
    written = engine.generate(prompts, keys, sampling, seed=seed, greedy=greedy, want=want)
    if sampling.stop and not engine.capabilities.stop_strings:
        forms = [row.prompt.form for row in rows]
        written = [_ended(g, form, language, sampling.stop) for g, form in zip(written, forms, strict=True)]
    prompt_ids, prompt_mask = pad_left(prompts)
    response_ids, response_mask = pad_right([g.ids for g in written])

    def laid_out(numbers: Iterable[Sequence[float]]) -> Float[Tensor, "B R"]:
        return torch.zeros(response_ids.shape).masked_scatter(response_mask, torch.tensor([*chain(*numbers)]))

    texts = (_text(g, row.prompt.form, language, sampling.stop) for row, g in zip(rows, written, strict=True))
    return Rollout(
        rows=tuple(rows),
        responses=tuple(texts),
        finish_reasons=tuple(g.finish_reason for g in written),
        prompt_ids=prompt_ids,
        prompt_mask=prompt_mask,
        response_ids=response_ids,
        response_mask=response_mask,
        sampler_logprobs=laid_out(g.logprobs for g in written),
        values=laid_out(g.values for g in written) if "values" in want else None,
        entropies=laid_out(g.entropies for g in written) if "entropy" in want else None,
    )


def shown_ids(row: PromptRow, language: Language, shots: Shots | None) -> list[int]:
    """What the model reads before it answers: the prompt, and in front of it the shots, where there are some."""
    return language.renderer.prompt_ids(shots.before(row.prompt) if shots else row.prompt, where=row.where)


def _ended(generation: Generation, form: Form, language: Language, stop: Sequence[str]) -> Generation:
    """The same, without tokens behind the one that completes a stop string, should an engine have written some: the
    policy learns what the judge reads."""
    pieces = language.decoder_renderer.response_pieces(generation.ids, form)
    text = "".join(pieces)
    ends = [text.find(string) + len(string) for string in stop if string in text]
    count = 1 + sum(end < min(ends) for end in accumulate(map(len, pieces))) if ends else 0
    at_end_token = count == len(generation.ids) and generation.finish_reason is FinishReason.EOS
    if not ends or at_end_token:
        return generation
    cut = {name: getattr(generation, name)[:count] for name in ("ids", "logprobs", "values", "entropies")}
    return replace(generation, finish_reason=FinishReason.STOP, **cut)


def _text(generation: Generation, form: Form, language: Language, stop: Sequence[str]) -> str:
    """The words of a response: no end token, no stop string and what follows it, nor what the template writes in front
    of its own."""
    ids, renderer = generation.ids, language.decoder_renderer
    if generation.finish_reason is FinishReason.STOP:
        return renderer.text_of_pieces(ids, cut_at_stop(renderer.response_pieces(ids, form), stop), form)
    if generation.finish_reason is FinishReason.EOS and ids[-1] not in language.renderer.end_ids:
        ids = ids[:-1]
    return renderer.response_text(ids, form)


def groups(rollout: Rollout, size: int = 1) -> list[Group]:
    """What scorers read: one group for each `size` rows in order, answers to one prompt: judges that compare see them
    side by side."""
    ids = [tuple(row) for row in unpad(rollout.response_ids, rollout.response_mask)]
    return [
        Group(
            prompt=row.prompt,
            responses=rollout.responses[begin : begin + size],
            response_ids=tuple(ids[begin : begin + size]),
            columns=row.columns,
        )
        for begin, row in list(enumerate(rollout.rows))[::size]
    ]


def groups_with_ends(rollout: Rollout, language: Language) -> list[Group]:
    """The same, and where each token ends in the text: for judges that say it token by token (N3.8)."""
    ends = language.decoder_renderer.response_ends
    return [
        replace(group, token_ends=(tuple(ends(group.response_ids[0], group.responses[0], row.prompt.form)),))
        for row, group in zip(rollout.rows, groups(rollout), strict=True)
    ]


def check_prompts(
    rows: Sequence[PromptRow],
    language: Language,
    max_new_tokens: int,
    too_long: LongPrompts | None = None,
    shots: Shots | None = None,
) -> list[PromptRow]:
    """The rows whose prompt (behind its shots) and answer fit into the context; `drop` counts the others by file.

    Args: `too_long`: the option of that name, None where a caller has none.
    Raises: UserError naming those that don't fit, before a model loads; where they may be left out, if none is left.
    """
    lengths = [len(shown_ids(row, language, shots)) for row in rows]
    warn_of_unread(rows, language.renderer)
    room = language.context - max_new_tokens
    long = [(row, length) for row, length in zip(rows, lengths, strict=True) if length > room]
    remaining = [row for row, length in zip(rows, lengths, strict=True) if length <= room]
    named = [f"{row.where or row.prompt.id}: {length} tokens" for row, length in long]
    cause = f"no room for {max_new_tokens} new tokens in the model's context of {language.context}"
    if long and (too_long != "drop" or not remaining):
        more = f" … and {len(long) - 5} more" if len(long) > 5 else ""
        drop = ", or say too_long: drop" if remaining and too_long else ""
        raise UserError(
            f"{len(long)} prompt(s) leave {cause}: {'; '.join(named[:5])}{more}. "
            f"Shorten them or lower sampling.max_new_tokens{drop}."
        )
    for file, dropped in Counter(row.where.rpartition(":")[0] for row, _ in long).items():
        of = sum(row.where.rpartition(":")[0] == file for row in rows)
        example = next(name for name, (row, _) in zip(named, long, strict=True) if row.where.startswith(file))
        say(f"{file or 'prompts'}: {dropped} of {of} prompts left out ({cause}), e.g. {example}")
    return remaining
