"""Models that talk: a trained policy answers turn after turn, piece by piece."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from plaudit.api.models import Policy
from plaudit.api.options import judge_named
from plaudit.api.talk import Reply, Talk
from plaudit.config.load import load_config
from plaudit.engines.build import build_engine
from plaudit.engines.options import SamplingConfig
from plaudit.engines.stopping import cut_at_stop
from plaudit.errors import UserError
from plaudit.evaluation.compare import sequence_log_ratio
from plaudit.evaluation.judges.rows import score_parts
from plaudit.hardware.machine import Machine, machine
from plaudit.hardware.options import DeviceConfig
from plaudit.hardware.randomness import SampleKey
from plaudit.models.trunk import Trunk
from plaudit.records.tensors import Rollout
from plaudit.records.text import FinishReason, Form, Group, Message, Prompt, PromptRow
from plaudit.scoring.build import build_scorer
from plaudit.scoring.options import JudgeConfig
from plaudit.scoring.protocol import Scorer
from plaudit.tokens.batches import pad_left, pad_right

FIRST, MORE = 4, 12
"""Tokens that are written before anything is shown, and before it is shown again: each time the engine reads what
stands there so far once more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatConfig(SamplingConfig):
    """How the models of a chat write, and what is said of their answers."""

    max_new_tokens: int = 256
    """Tokens of an answer at most."""
    greedy: bool = False
    """The likeliest token each time, instead of sampling."""
    seed: int | None = None
    """Of sampling, and of which model is A; none: sampling takes 0, and who is A is drawn anew every time."""
    device: str = "auto"
    """`auto` (cuda, else cpu), `cpu` or `cuda`."""
    system: str = ""
    """What stands before the conversation."""
    judge: str = ""
    """A reward model, a built-in function or `rules.py:function` that scores each answer."""
    kl: str = ""
    """A model to which the KL of each answer is measured."""


def talk_with(paths: Sequence[str], options: Mapping[str, Any]) -> Talk:
    """A conversation with the models at these paths. `options`: those of `ChatConfig`.

    Raises: UserError where one can't be loaded, and for options that can't be.
    """
    config = load_config(ChatConfig, options)
    return Talk(speakers=_speakers(paths, config), seed=config.seed, system=config.system)


def _speakers(paths: Sequence[str], config: ChatConfig) -> list[ChatModel]:
    here = machine(DeviceConfig(device=config.device))
    judge = load_config(JudgeConfig, judge_named(config.judge)) if config.judge else None
    scorer = build_scorer([judge], here, "--judge.path") if judge else None
    reference = Policy.load(model_of(config.kl)) if config.kl else None
    return [ChatModel(path, config, here, scorer=scorer, reference=reference) for path in paths]


def model_of(path: str) -> str:
    """A run's model, that of a pipeline's last stage with one, or else what was named: a model's folder, a hub name."""
    folder = Path(path)
    if not folder.is_dir() or (folder / "config.json").is_file():
        return path
    models = [folder / "model", *sorted(folder.glob("[0-9][0-9]-*/model"), reverse=True)]
    whole = [model for model in models if (model / "config.json").is_file()]
    if not whole:
        raise UserError(f"{path} holds no model yet; name a run that has finished, or a model's folder")
    return str(whole[0])


class ChatModel:
    """One policy that answers (`talk.Speaker`)."""

    def __init__(
        self, path: str, config: ChatConfig, here: Machine, *, scorer: Scorer | None, reference: Policy | None
    ) -> None:
        self.name, self.config, self.here = path, config, here
        self.policy = Policy.load(model_of(path))
        self.scorer = scorer
        self.language = self.policy.loaded.language
        self.renderer = self.language.decoder_renderer
        self.trunk = Trunk(self.policy.hf).to(here.device)
        self.engine = build_engine(self.trunk, self.language)
        self.reference = Trunk(reference.hf).to(here.device) if reference else None
        if reference and reference.tokenizer.get_vocab() != self.language.tokenizer.get_vocab():
            raise UserError(f"--kl {config.kl}: its tokens are not those of {path}: their KL is undefined")

    @property
    def sampling(self) -> Mapping[str, Any]:
        names = ("max_new_tokens", "temperature", "greedy")
        return {name: getattr(self.config, name) for name in names} | {"seed": self.config.seed or 0}

    @property
    def remembers(self) -> bool:
        """Whether earlier turns are part of what it reads: by a chat template only."""
        return self.renderer.chat is not None and self.renderer.policy != "raw"

    def answer(self, turns: Sequence[Message], *, turn: int) -> Iterator[Reply]:
        try:
            prompt = self._prompt(turns)
            prompt_ids = self.renderer.prompt_ids(prompt)
        except UserError as error:
            yield Reply(finish="error", problem=str(error))
            return
        ids, text = list[int](), ""
        finish: FinishReason | None = None
        while finish is None:
            size = min(FIRST if not ids else MORE, self.config.max_new_tokens - len(ids))
            key = SampleKey(prompt_id=f"{prompt.id}.{turn}", sample_index=len(ids))
            sampling = SamplingConfig(max_new_tokens=size, temperature=self.config.temperature, stop=self.config.stop)
            with self.here.autocast():
                (written,) = self.engine.generate(
                    [[*prompt_ids, *ids]], [key], sampling, seed=self.config.seed or 0, greedy=self.config.greedy
                )
            ids += written.ids
            finish = self._finish(ids, written.finish_reason, prompt.form)
            text = self._text(ids, finish, prompt.form)
            if finish is None:
                yield Reply(text=text.rstrip("\ufffd"), tokens=len(ids))
        reply = Reply(text=text, finish=finish.value, tokens=len(ids))
        yield replace(reply, score=self._score(prompt, text), kl=self._kl(prompt, ids, text, finish))

    def _prompt(self, turns: Sequence[Message]) -> Prompt:
        """What the model reads; the oldest turns are left out where there is no room."""
        if not self.remembers:
            return self._fitting(Prompt.of_text(turns[-1].content))
        begin = [turn for turn in turns[:1] if turn.role == "system"]
        rest = list(turns[len(begin) :])
        while True:
            whole = Prompt(form=Form.CHAT, turns=(*begin, *rest))
            if len(rest) < 3 or self._fits(whole):
                return self._fitting(whole)
            rest = rest[2:]

    def _fits(self, prompt: Prompt) -> bool:
        return len(self.renderer.prompt_ids(prompt)) + self.config.max_new_tokens <= self.language.context

    def _fitting(self, prompt: Prompt) -> Prompt:
        if self._fits(prompt):
            return prompt
        room = f"{self.config.max_new_tokens} tokens in a context of {self.language.context}"
        raise UserError(f"the message leaves no room for an answer of {room}: shorten it, or lower --max_new_tokens")

    def _finish(self, ids: Sequence[int], reason: FinishReason, form: Form) -> FinishReason | None:
        """None where more is to come. A stop string may have begun in the piece before."""
        if reason is not FinishReason.LENGTH:
            return reason
        if any(stop in "".join(self.renderer.response_pieces(ids, form)) for stop in self.config.stop):
            return FinishReason.STOP
        return FinishReason.LENGTH if len(ids) >= self.config.max_new_tokens else None

    def _text(self, ids: Sequence[int], finish: FinishReason | None, form: Form) -> str:
        if finish is FinishReason.STOP:
            pieces = cut_at_stop(self.renderer.response_pieces(ids, form), self.config.stop)
            return self.renderer.text_of_pieces(ids, pieces, form)
        if finish is FinishReason.EOS and ids[-1] not in self.renderer.end_ids:
            ids = ids[:-1]
        return self.renderer.response_text(ids, form)

    def _score(self, prompt: Prompt, text: str) -> float | None:
        if self.scorer is None:
            return None
        with self.here.autocast():
            return score_parts(self.scorer, [Group(prompt=prompt, responses=(text,))])[0][0][0]

    def _kl(self, prompt: Prompt, ids: Sequence[int], text: str, finish: FinishReason) -> float | None:
        """Of the tokens written, at the sampling temperature."""
        if self.reference is None:
            return None
        prompt_ids, prompt_mask = pad_left([self.renderer.prompt_ids(prompt)])
        response_ids, response_mask = pad_right([ids])
        rollout = Rollout(
            rows=(PromptRow(prompt=prompt),),
            responses=(text,),
            finish_reasons=(finish,),
            prompt_ids=prompt_ids,
            prompt_mask=prompt_mask,
            response_ids=response_ids,
            response_mask=response_mask,
            sampler_logprobs=response_ids * 0.0,
        )
        return sequence_log_ratio(self.trunk, self.reference, rollout, self.config.temperature, self.here)[0]
