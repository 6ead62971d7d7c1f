"""Prompts in, rollouts out (N4.1): prompts → tokens → the engine's continuations → one record."""

from collections.abc import Sequence
from dataclasses import replace

import torch

from plaudit.engines.options import SamplingConfig
from plaudit.engines.protocol import Engine, Generation
from plaudit.engines.stopping import cut_at_stop
from plaudit.errors import UserError
from plaudit.hardware.randomness import SampleKey
from plaudit.models.load import Language
from plaudit.records.tensors import Rollout
from plaudit.records.text import FinishReason, Form, Group, PromptRow
from plaudit.tokens.batches import pad_left, pad_right, unpad


def sample(
    engine: Engine,
    language: Language,
    rows: Sequence[PromptRow],
    sampling: SamplingConfig,
    *,
    sample_indices: Sequence[int],
    seed: int,
    greedy: bool = False,
) -> Rollout:
    """Let the policy answer each row once.

    Args: B `rows` (a prompt that is to be answered G times stands G times, with different `sample_indices`).
    The same (seed, prompt, sample index) gives the same uniforms, whatever else is in the batch.
    """
    where = {row.prompt: row.where for row in reversed(rows)}  # a prompt that stands often is encoded once
    ids = {prompt: language.renderer.prompt_ids(prompt, where=place) for prompt, place in where.items()}
    prompts = [ids[row.prompt] for row in rows]
    keys = [
        SampleKey(prompt_id=row.prompt.id, sample_index=index) for row, index in zip(rows, sample_indices, strict=True)
    ]
    written = engine.generate(prompts, keys, sampling, seed=seed, greedy=greedy)
    return _rollout(tuple(rows), prompts, written, language, sampling.stop)


def _rollout(
    rows: tuple[PromptRow, ...],
    prompts: Sequence[Sequence[int]],
    written: Sequence[Generation],
    language: Language,
    stop: Sequence[str],
) -> Rollout:
    prompt_ids, prompt_mask = pad_left(prompts)
    response_ids, response_mask = pad_right([g.ids for g in written])
    logprobs = torch.zeros(response_ids.shape)
    logprobs[response_mask] = torch.tensor([logprob for generation in written for logprob in generation.logprobs])
    return Rollout(
        rows=rows,
        responses=tuple(
            cut_at_stop(_text(g, row.prompt.form, language), stop) for row, g in zip(rows, written, strict=True)
        ),
        finish_reasons=tuple(g.finish_reason for g in written),
        prompt_ids=prompt_ids,
        prompt_mask=prompt_mask,
        response_ids=response_ids,
        response_mask=response_mask,
        sampler_logprobs=logprobs,
    )


def _text(generation: Generation, form: Form, language: Language) -> str:
    """The words of a response: no end token, nor what the template writes in front of its own."""
    ids = generation.ids
    if generation.finish_reason is FinishReason.EOS and ids[-1] not in language.renderer.end_ids:
        ids = ids[:-1]
    return language.decoder_renderer.response_text(ids, form)


def groups(rollout: Rollout) -> list[Group]:
    """What scorers read: one group per sequence, in the rollout's order."""
    return [
        Group(prompt=row.prompt, responses=(text,), response_ids=(tuple(ids),), columns=row.columns)
        for row, text, ids in zip(
            rollout.rows, rollout.responses, unpad(rollout.response_ids, rollout.response_mask), strict=True
        )
    ]


def groups_of(rollout: Rollout, size: int) -> list[Group]:
    """The same where `size` answers to each prompt stand together: judges that compare see them side by side."""
    alone = groups(rollout)
    return [
        replace(
            alone[begin],
            responses=tuple(group.responses[0] for group in alone[begin : begin + size]),
            response_ids=tuple(group.response_ids[0] for group in alone[begin : begin + size]),
        )
        for begin in range(0, len(alone), size)
    ]


def groups_with_ends(rollout: Rollout, language: Language) -> list[Group]:
    """The same, and where each token ends in the text: for judges that say it token by token (N3.8)."""
    ends = language.decoder_renderer.response_ends
    return [
        replace(group, token_ends=(tuple(ends(group.response_ids[0], group.responses[0], row.prompt.form)),))
        for row, group in zip(rollout.rows, groups(rollout), strict=True)
    ]


def check_prompts(rows: Sequence[PromptRow], language: Language, max_new_tokens: int) -> None:
    """Every prompt and its answer must fit into the context. Raises UserError naming the rows, before a model loads."""
    long = []
    for row in rows:
        length = len(language.renderer.prompt_ids(row.prompt, where=row.where))
        if length + max_new_tokens > language.context:
            long.append(f"{row.where or row.prompt.id}: {length} tokens")
    if long:
        more = f" … and {len(long) - 5} more" if len(long) > 5 else ""
        raise UserError(
            f"{len(long)} prompt(s) leave no room for {max_new_tokens} new tokens in the model's context of "
            f"{language.context}: {'; '.join(long[:5])}{more}. Shorten them or lower sampling.max_new_tokens."
        )
