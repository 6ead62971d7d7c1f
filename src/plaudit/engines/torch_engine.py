"""The in-process engine: decodes with the live parameters, so there are no weights to send."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from transformers import DynamicCache

from plaudit.engines.options import SamplingConfig
from plaudit.engines.protocol import Generation
from plaudit.engines.stopping import StopStrings
from plaudit.errors import UserError
from plaudit.hardware.randomness import SampleKey, bases, uniforms
from plaudit.hardware.ranks import ALONE, Ranks
from plaudit.models.trunk import Trunk, evaluating
from plaudit.records.text import FinishReason
from plaudit.tokens.batches import pack, pad_left

COMPACT_BELOW = 0.75
"""When fewer than this share of the rows still write, the finished ones leave the batch."""


@dataclass
class _Live:
    """The rows still being written; everything here shrinks together."""

    rows: Tensor
    """Index of each live row among the prompts of this batch."""
    mask: Tensor
    """[live, prompt + written so far]: what the next token may look at."""
    position: Tensor
    """[live]: the next token's position in its own sequence."""
    base: Tensor
    done: Tensor


@dataclass
class _Row:
    """What is written of a response so far."""

    ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    finish: FinishReason = FinishReason.LENGTH


class TorchEngine:
    """Batched decoding with a key-value cache; finished rows leave the batch.

    Args:
        trunk: the policy, whose parameters are read as they are now.
        end_ids: every id that ends a response (all EOS ids of the generation config and the user's own).
        decode: the text of a response's ids, in which stop strings are looked for.
        check_stop: called once a token; may raise to interrupt a long generation. Not called where there are several
            ranks: the others would wait for this one.
        ranks: who writes with this process; each continues its share of the prompts, all get all of it.
    """

    def __init__(
        self,
        trunk: Trunk,
        end_ids: Sequence[int],
        *,
        decode: Callable[[Sequence[int]], str],
        check_stop: Callable[[], None] = lambda: None,
        ranks: Ranks = ALONE,
    ):
        self.trunk, self.decode, self.ranks = trunk, decode, ranks
        self.check_stop = check_stop if ranks.is_alone else lambda: None
        self.end_ids = torch.empty(0, dtype=torch.long, device=trunk.device)
        self._check_cache()
        self.end_ids = torch.tensor(list(end_ids), dtype=torch.long, device=trunk.device)

    @torch.no_grad()
    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        keys: Sequence[SampleKey],
        sampling: SamplingConfig,
        *,
        seed: int,
        greedy: bool = False,
    ) -> list[Generation]:
        """As `Engine.generate`.

        Tokens are drawn by inverting the cumulative distribution at a uniform that depends on (seed, key, position).
        `greedy` takes the likeliest token instead. Prompts are decoded in batches of similar length.
        """
        written: dict[int, tuple[list[int], list[float], FinishReason]] = {}
        order = sorted(self.ranks.share(map(len, prompts)), key=lambda i: len(prompts[i]))
        base = bases(keys, seed)
        for begin in range(0, len(order), sampling.batch_size):
            part = order[begin : begin + sampling.batch_size]
            with evaluating(self.trunk.hf):
                rows = self._decode([prompts[i] for i in part], base[part], sampling, greedy)
            written |= {i: (row.ids, row.logprobs, row.finish) for i, row in zip(part, rows, strict=True)}
        everything = self.ranks.gather_rows(written)
        return [
            Generation(ids=tuple(ids), logprobs=tuple(logprobs), finish_reason=FinishReason(finish))
            for ids, logprobs, finish in (everything[i] for i in range(len(prompts)))
        ]

    @torch.no_grad()
    def _check_cache(self) -> None:
        """UserError for a model that doesn't go on from its cache as it would from the whole text: state-space models
        keep another one."""
        top = self.trunk.config.get_text_config().vocab_size
        prompts = [[1 % top, 2 % top, 3 % top], [4 % top]]
        keys = [SampleKey(prompt_id="", sample_index=index) for index in range(2)]
        written = self.generate(prompts, keys, SamplingConfig(max_new_tokens=3), seed=0, greedy=True)
        whole = self.trunk(pack(prompts, [w.ids for w in written]).to(self.trunk.device), {"logprobs"})["logprobs"]
        if not torch.allclose(whole.cpu(), torch.tensor([w.logprobs for w in written]), rtol=0, atol=1e-3):
            raise UserError(
                f"model.path: {type(self.trunk.inner).__name__} doesn't go on from a key-value cache, so plaudit can't "
                "sample from it; use a transformer"
            )

    def _decode(
        self, prompts: Sequence[Sequence[int]], base: Tensor, sampling: SamplingConfig, greedy: bool
    ) -> list[_Row]:
        is_stopped = StopStrings(self.decode, sampling.stop)
        n, device = len(prompts), self.trunk.device
        ids, mask = (x.to(device) for x in pad_left(prompts))
        written = [_Row() for _ in prompts]
        done = torch.zeros(n, dtype=torch.bool, device=device)
        live = _Live(torch.arange(n, device=device), mask, mask.sum(1), base.to(device), done)
        cache = DynamicCache(config=self.trunk.config)
        position_ids = (mask.long().cumsum(1) - 1).clamp(min=0)
        for step in range(sampling.max_new_tokens):
            self.check_stop()
            logits = self._logits(ids, live.mask, position_ids, cache)
            uniform = uniforms(live.base, torch.full_like(live.base, step))
            tokens, logprobs = _draw(logits, sampling.temperature, uniform, greedy)
            self._record(written, live, tokens, logprobs, is_stopped)
            if bool(live.done.all()):
                break
            keep = ~live.done
            if int(keep.sum()) < COMPACT_BELOW * len(keep):
                tokens = tokens[keep]
                cache.batch_select_indices(keep.nonzero().squeeze(1))
                live = _Live(live.rows[keep], live.mask[keep], live.position[keep], live.base[keep], live.done[keep])
            ids, position_ids = tokens.unsqueeze(1), live.position.unsqueeze(1)
            live.mask = torch.cat([live.mask, live.mask.new_ones(len(tokens), 1)], dim=1)
            live.position = live.position + 1
        return written

    def _logits(self, ids: Tensor, mask: Tensor, position_ids: Tensor, cache: DynamicCache) -> Tensor:
        """Next-token logits [N V] in fp32."""
        inner = self.trunk.inner
        hidden = inner.base_model(
            input_ids=ids, attention_mask=mask.long(), position_ids=position_ids, past_key_values=cache, use_cache=True
        ).last_hidden_state[:, -1]
        return self.trunk.logits(hidden)

    def _record(
        self, written: list[_Row], live: _Live, tokens: Tensor, logprobs: Tensor, is_stopped: StopStrings
    ) -> None:
        ended = torch.isin(tokens, self.end_ids)
        columns = (live.rows, tokens, logprobs, ended, live.done)
        for slot, (index, token, logprob, is_end, done) in enumerate(zip(*(c.tolist() for c in columns), strict=True)):
            if done:
                continue
            row = written[index]
            row.ids.append(token)
            row.logprobs.append(logprob)
            if is_end or is_stopped(row.ids):
                row.finish = FinishReason.EOS if is_end else FinishReason.STOP
                live.done[slot] = True


def _draw(logits: Tensor, temperature: float, uniform: Tensor, greedy: bool) -> tuple[Tensor, Tensor]:
    """One token per row and its log-prob (nats, at the temperature): [N V] → [N], [N]."""
    logprobs = torch.log_softmax(logits / temperature, dim=-1)
    if greedy:
        tokens = logprobs.argmax(-1)
    else:
        cumulative = logprobs.double().exp().cumsum(-1)
        # Scaled by the last entry, so that rounding in the sum never lets the uniform fall off the end.
        target = (uniform * cumulative[:, -1]).unsqueeze(1)
        tokens = torch.searchsorted(cumulative, target, right=True).squeeze(1).clamp(max=logits.shape[-1] - 1)
    return tokens, logprobs.gather(1, tokens.unsqueeze(1)).squeeze(1)
