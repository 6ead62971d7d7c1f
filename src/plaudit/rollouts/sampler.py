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
    distinct = {id(row): row for row in rows}  # a row that is answered several times is encoded once
    ids = {key: language.renderer.prompt_ids(row.prompt, where=row.where) for key, row in distinct.items()}
    prompts = [ids[id(row)] for row in rows]
    keys = [
        SampleKey(prompt_id=row.prompt.id, sample_index=index) for row, index in zip(rows, sample_indices, strict=True)
    ]
    written = engine.generate(prompts, keys, sampling, seed=seed, greedy=greedy)
    prompt_ids, prompt_mask = pad_left(prompts)
    response_ids, response_mask = pad_right([g.ids for g in written])
    logprobs = torch.zeros(response_ids.shape)
    logprobs[response_mask] = torch.tensor([logprob for generation in written for logprob in generation.logprobs])
    texts = (_text(g, row.prompt.form, language, sampling.stop) for row, g in zip(rows, written, strict=True))
    return Rollout(
        rows=tuple(rows),
        responses=tuple(texts),
        finish_reasons=tuple(g.finish_reason for g in written),
        prompt_ids=prompt_ids,
        prompt_mask=prompt_mask,
        response_ids=response_ids,
        response_mask=response_mask,
        sampler_logprobs=logprobs,
    )


def _text(generation: Generation, form: Form, language: Language, stop: Sequence[str]) -> str:
    """The words of a response: no end token, nor what the template writes in front of its own. The engine ends it where
    a stop string is complete, so that nothing stands behind the text but that string."""
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
