"""The in-process engine: decodes with the live parameters, so there are no weights to send."""

from collections.abc import Callable, Collection, Sequence

import torch
from torch import Tensor

from plaudit.engines import batches, slots
from plaudit.engines.llama import LlamaDecoder, is_llama_like
from plaudit.engines.options import IN_PROCESS, SamplingConfig, TorchEngineConfig
from plaudit.engines.protocol import Capabilities, Extra, Generation
from plaudit.engines.stopping import StopStrings
from plaudit.engines.written import Response, Sampling, by_prompt, gathers, wanted
from plaudit.errors import UserError
from plaudit.hardware.randomness import SampleKey, bases
from plaudit.hardware.ranks import ALONE, Ranks
from plaudit.models.bf16 import casts_kept
from plaudit.models.trunk import Trunk, evaluating
from plaudit.records.text import FinishReason
from plaudit.tokens.batches import pack

PROBE = ([1, 2, 3, 4, 5], [4], [3, 2], [1, 2, 3, 4, 5])
"""Prompts by which a model is ordered whether it decodes as it reads."""


class TorchEngine:
    """Batched decoding with a key-value memory.

    Llama-like models are decoded in slots that rows take one after the other (`slots`, `llama`), all others in static
    batches through transformers (`batches`); which, the model's own numbers say when the engine is made.

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
        options: TorchEngineConfig = IN_PROCESS,
        check_stop: Callable[[], None] = lambda: None,
        ranks: Ranks = ALONE,
    ):
        self.trunk, self.decode, self.ranks, self.options = trunk, decode, ranks, options
        self.check_stop = check_stop if ranks.is_alone else lambda: None
        self.end_ids = frozenset(end_ids)
        self.decoder = self._decoder()

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(
            exact_replay=True,
            stop_strings=True,
            trainer_logprobs=True,
            gathers=gathers(self.trunk),
        )

    @torch.no_grad()
    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        keys: Sequence[SampleKey],
        sampling: SamplingConfig,
        *,
        seed: int,
        greedy: bool = False,
        want: Collection[Extra] = (),
    ) -> list[Generation]:
        """As `Engine.generate`.

        Tokens are drawn by inverting the cumulative distribution at a uniform that depends on (seed, key, position).
        `greedy` takes the likeliest token instead.
        """
        task = Sampling(
            sampling=sampling,
            greedy=greedy,
            want=wanted(self.trunk, want),
            end_ids=self.end_ids,
            is_stopped=StopStrings(self.decode, sampling.stop),
            check_stop=self.check_stop,
        )
        order = by_prompt(prompts, self.ranks.share(map(len, prompts)))
        with evaluating(self.trunk.hf):
            rows = self._write(self.decoder, [prompts[i] for i in order], bases(keys, seed)[order], task)
        mine = {i: (r.ids, r.logprobs, r.finish, r.values, r.entropies) for i, r in zip(order, rows, strict=True)}
        everything = self.ranks.gather_rows(mine)
        return [
            Generation(
                ids=tuple(ids),
                logprobs=tuple(logprobs),
                finish_reason=FinishReason(finish),
                values=tuple(values),
                entropies=tuple(entropies),
            )
            for ids, logprobs, finish, values, entropies in (everything[i] for i in range(len(prompts)))
        ]

    def _write(
        self, decoder: LlamaDecoder | None, prompts: Sequence[Sequence[int]], base: Tensor, task: Sampling
    ) -> list[Response]:
        if not prompts:
            return []
        if decoder is None:
            with casts_kept(self.trunk):
                return batches.decode(self.trunk, prompts, base, task)
        try:
            with casts_kept(self.trunk):
                responses = slots.decode(decoder, prompts, base, task, self.options.prefill_tokens)
        except BaseException:
            decoder.forget()
            raise
        if any(x != x for response in responses for x in response.logprobs):  # NaN would outlive its row
            decoder.forget()
        return responses

    @torch.no_grad()
    def _decoder(self) -> LlamaDecoder | None:
        """The decoder that goes on as the model reads. UserError for a model that doesn't go on from its cache as it
        would from the whole text: state-space models keep another one."""
        if is_llama_like(self.trunk) and self._agrees(LlamaDecoder):
            return LlamaDecoder(self.trunk)
        if self._agrees(None):
            return None
        raise UserError(
            f"model.path: {type(self.trunk.inner).__name__} doesn't go on from a key-value cache, so plaudit can't "
            "sample from it; use a transformer"
        )

    def _agrees(self, kind: type[LlamaDecoder] | None) -> bool:
        """Are the log-probs of what it writes those of the trunk's own pass over it?"""
        top = self.trunk.config.get_text_config().vocab_size
        prompts = [[token % top for token in prompt] for prompt in PROBE]
        task = Sampling(
            sampling=SamplingConfig(max_new_tokens=3),
            greedy=False,
            want=frozenset(),
            end_ids=frozenset(),
            is_stopped=StopStrings(self.decode, ()),
            check_stop=self.check_stop,
        )
        keys = [SampleKey(prompt_id="", sample_index=index) for index in range(len(prompts))]
        order = by_prompt(prompts, range(len(prompts)))
        ordered = [prompts[i] for i in order]
        with evaluating(self.trunk.hf):
            try:
                written = self._write(kind and kind(self.trunk), ordered, bases(keys, 0), task)
            except (AttributeError, NotImplementedError):  # a cache that can't do what is ordered of it
                return False
            except (TypeError, RuntimeError, ValueError):
                if kind is None:
                    raise
                return False
        batch = pack(ordered, [row.ids for row in written]).to(self.trunk.device)
        whole = self.trunk(batch, {"logprobs"})["logprobs"].cpu()
        return torch.allclose(whole, torch.tensor([row.logprobs for row in written]), rtol=0, atol=1e-3)
