"""A language model in this process as a judge: the same questions as a server's, on our own engine."""

from collections.abc import Callable, Sequence
from itertools import takewhile

import torch

from plaudit.engines.build import build_engine
from plaudit.engines.options import SamplingConfig
from plaudit.errors import UserError
from plaudit.hardware.machine import Machine
from plaudit.hardware.randomness import SampleKey
from plaudit.models.load import load_causal, load_language
from plaudit.models.trunk import Trunk
from plaudit.records.text import Form, Message, Prompt
from plaudit.scoring.asking.reply import JudgeReply, Unanswered
from plaudit.scoring.asking.template import Question
from plaudit.scoring.options import GenerativeJudgeConfig
from plaudit.tokens.batches import pack_shared


class InProcessModel:
    """Writes replies, or with `read: logprobs` says how likely each digit is as their first token."""

    def __init__(
        self, config: GenerativeJudgeConfig, machine: Machine, check_stop: Callable[[], None] = lambda: None
    ) -> None:
        self.config, self.machine, self.language = config, machine, load_language(config.model)
        self.check_stop = check_stop
        self.shared, self.digits = self._digit_tokens() if config.question.read == "logprobs" else ([], {})
        causal = load_causal(config.model, self.language, seed=0)
        causal.hf.requires_grad_(False)
        self.trunk = Trunk(causal.hf).to(machine.device)
        self.engine = build_engine(self.trunk, self.language, check_stop=check_stop)

    def ask(self, questions: Sequence[Question], seed: int) -> list[JudgeReply | Unanswered]:
        """One reply a question, in order."""
        own, renderer = self.config.question, self.language.decoder_renderer
        prompts = [self._prompt(question) for question in questions]
        ids = [renderer.prompt_ids(prompt) for prompt in prompts]
        room = self.language.context - (len(self.shared) + 1 if own.read == "logprobs" else own.max_tokens)
        fitting = [i for i, one in enumerate(ids) if len(one) <= room]
        replies: list[JudgeReply | Unanswered] = [
            Unanswered(f"a question of {len(one)} tokens, and {self.config.path} has room for {room}") for one in ids
        ]
        for begin in range(0, len(fitting), self.config.batch_size):
            self.check_stop()
            batch = fitting[begin : begin + self.config.batch_size]
            with self.machine.autocast(), torch.no_grad():
                answer = self._likely if own.read == "logprobs" else self._written
                written = answer([prompts[i] for i in batch], [ids[i] for i in batch], seed)
            for i, reply in zip(batch, written, strict=True):
                replies[i] = reply
        return replies

    def _prompt(self, question: Question) -> Prompt:
        """Turns where the model has a template for them, else their texts one under the other."""
        if self.language.decoder_renderer.chat is not None:
            return Prompt(
                form=Form.CHAT, turns=tuple(Message(role=m["role"], content=m["content"]) for m in question.messages)
            )
        return Prompt.of_text("\n\n".join(message["content"] for message in question.messages))

    def _written(self, prompts: Sequence[Prompt], ids: Sequence[Sequence[int]], seed: int) -> list[JudgeReply]:
        own = self.config.question
        sampling = SamplingConfig(max_new_tokens=own.max_tokens, temperature=own.temperature or 1.0)
        keys = [SampleKey(prompt_id=prompt.id, sample_index=0) for prompt in prompts]
        written = self.engine.generate(ids, keys, sampling, seed=seed, greedy=own.temperature == 0.0)
        renderer = self.language.decoder_renderer
        return [
            JudgeReply(text=renderer.response_text(one.ids, prompt.form))
            for one, prompt in zip(written, prompts, strict=True)
        ]

    def _likely(self, prompts: Sequence[Prompt], ids: Sequence[Sequence[int]], seed: int) -> list[JudgeReply]:
        """log π of each digit behind each prompt; nothing is drawn, so the seed has no say."""
        digits, tokens = list(self.digits), list(self.digits.values())
        batch = pack_shared([([*one, *self.shared], tokens) for one in ids]).to(self.machine.device)
        logprobs = self.trunk(batch, {"logprobs"})["logprobs"][:, 0].double().tolist()
        replies: list[JudgeReply] = []
        for i in range(0, len(logprobs), len(digits)):
            likely = dict(zip(digits, logprobs[i : i + len(digits)], strict=True))
            best = max(likely, key=lambda digit: likely[digit])
            replies.append(JudgeReply(text=best, tokens=((best, likely),)))
        return replies

    def _digit_tokens(self) -> tuple[list[int], dict[str, list[int]]]:
        """The ids that every digit of the scale begins with as an answer, and of each the one that tells it apart."""
        low, high = self.config.question.scale
        renderer = self.language.decoder_renderer
        form = Form.TEXT if renderer.chat is None else Form.CHAT
        ids = {str(digit): renderer.response_ids(str(digit), False, form) for digit in range(low, high + 1)}
        shared = sum(1 for _ in takewhile(lambda column: len(set(column)) == 1, zip(*ids.values(), strict=False)))
        own = {digit: one[shared : shared + 1] for digit, one in ids.items()}
        if not all(own.values()) or len({one[0] for one in own.values()}) < len(own):
            raise UserError(
                f"judge {self.config.name!r}: the tokens of {self.config.path} don't tell the digits {low} to {high} "
                "apart, so their probabilities can't be read; take question.read: text"
            )
        return next(iter(ids.values()))[:shared], own
