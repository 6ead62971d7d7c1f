"""What a user holds in hand: a policy that writes, a reward model that judges."""

from __future__ import annotations

import contextlib
import copy
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from plaudit.api.rows import prompt_rows
from plaudit.config.load import load_config
from plaudit.engines.build import build_engine
from plaudit.engines.options import SamplingConfig
from plaudit.errors import UserError
from plaudit.hardware.machine import machine
from plaudit.hardware.options import DeviceConfig
from plaudit.models import adapters
from plaudit.models.checkpoint import export
from plaudit.models.load import Loaded, language_of, load_causal, load_language
from plaudit.models.options import ModelConfig, ReadAs
from plaudit.models.reward import loading, protocol
from plaudit.models.trunk import Trunk
from plaudit.records.tensors import Rollout
from plaudit.records.text import Group
from plaudit.rollouts.sampler import check_prompts, sample

if TYPE_CHECKING:
    from plaudit.models.weights import HFModel, HFTokenizer


class Policy:
    """A causal language model with its tokenizer: what is trained, compared, and asked for text.

    policy = pl.Policy.load("runs/sft/model")
    policy.generate(["The cat"], max_new_tokens=20)
    """

    def __init__(
        self, hf: HFModel, tokenizer: HFTokenizer, *, end_tokens: Sequence[str] = (), template: str = "auto"
    ) -> None:
        """A transformers model that is loaded already, in any way; its weights become float32 where they aren't.

        Args:
            end_tokens: texts of further tokens that end an answer.
            template: `raw` writes bare prompts without the chat template.
        """
        config = load_config(ModelConfig, {"end_tokens": list(end_tokens), "template": template})
        self.loaded = Loaded(hf=hf.float(), language=language_of(hf, tokenizer, config))
        self.path: str | None = None
        """Where it was loaded from; None once it is another model than the one in that folder."""

    @classmethod
    def load(cls, path: str | Path, **options: Any) -> Policy:
        """From a folder in Hugging Face format or a hub name.

            policy = pl.Policy.load("HuggingFaceTB/SmolLM2-135M-Instruct")

        `options` are those of `model`: template, chat_template, end_tokens, trust_remote_code.
        """
        config = load_config(ModelConfig, {"path": str(path), **options})
        if config.path == "tiny":
            raise UserError("a tiny model is made by training: pl.sft('tiny', data=...)")
        return cls.of(load_causal(config, load_language(config), seed=0), None if options else config.path)

    @classmethod
    def of(cls, loaded: Loaded, path: str | None = None) -> Policy:
        """Of what a stage has trained."""
        policy = cls.__new__(cls)
        policy.loaded, policy.path = loaded, path
        return policy

    @property
    def hf(self) -> HFModel:
        """The transformers model. Whoever changes its weights by hand sets `path` to None."""
        return self.loaded.hf

    @property
    def tokenizer(self) -> HFTokenizer:
        """Its tokenizer."""
        return self.loaded.language.tokenizer

    def copy(self) -> Policy:
        """Another policy with the same weights, adapters merged; the tokenizer is shared."""
        merged = adapters.merge(self.hf)  # a copy where there are adapters
        hf = copy.deepcopy(self.hf) if merged is self.hf else merged
        return Policy.of(Loaded(hf=hf, language=self.loaded.language), self.path)

    def generate(
        self, prompts: Sequence[Any], *, seed: int = 0, greedy: bool = False, device: str = "auto", **sampling: Any
    ) -> list[str]:
        """One answer to each prompt; the same seed gives the same answers.

            policy.generate(["The cat", [{"role": "user", "content": "Hello"}]], temperature=0.7)

        Args:
            prompts: texts, or conversations as lists of {role, content}.
            sampling: the options of `sampling`: max_new_tokens, temperature, stop, batch_size.
        """
        batches = self.rollouts(prompts, seed=seed, greedy=greedy, device=device, **sampling)
        return [text for rollout in batches for text in rollout.responses]

    def rollouts(
        self, prompts: Sequence[Any], *, seed: int = 0, greedy: bool = False, device: str = "auto", **sampling: Any
    ) -> Iterator[Rollout]:
        """The same batch by batch, with tokens, their log-probabilities and how each answer ended.

        for rollout in policy.rollouts(prompts, batch_size=32):
            print(rollout.responses, rollout.finish_reasons)
        """
        options = load_config(SamplingConfig, sampling)
        rows, language = prompt_rows(prompts), self.loaded.language
        check_prompts(rows, language, options.max_new_tokens)
        here = machine(DeviceConfig(device=device))
        engine = build_engine(Trunk(self.hf).to(here.device), language)
        draws: Counter[str] = Counter()  # the same text twice is answered twice: each time by other draws
        for begin in range(0, len(rows), options.batch_size):
            part = rows[begin : begin + options.batch_size]
            indices = []
            for row in part:
                indices.append(draws[row.prompt.id])
                draws[row.prompt.id] += 1
            with here.autocast():
                yield sample(engine, language, part, options, sample_indices=indices, seed=seed, greedy=greedy)

    def save(self, folder: str | Path) -> Path:
        """Write it as transformers and every command of plaudit read it; adapters are merged into the weights.

        policy.save("runs/mine/model")
        """
        export(Path(folder), self.loaded, {"kind": "policy"})
        self.path = str(folder)
        return Path(folder)

    def __repr__(self) -> str:
        return f"Policy({type(adapters.unwrapped(self.hf)).__name__}, {_size(self.hf)}{_from(self.path)})"


class RewardModel:
    """A model that judges answers: one number each, in the unit that its training gave it.

    judge = pl.RewardModel.load("runs/reward/model")
    judge.score(["The cat"], [" sat on the mat."])
    """

    def __init__(self, model: protocol.RewardModel) -> None:
        self.model = model
        """One of plaudit.models.reward."""
        self.path: str | None = None
        """Where it was loaded from, or saved to."""

    @classmethod
    def load(cls, path: str | Path, *, read_as: ReadAs = "auto", trust_remote_code: bool = False) -> RewardModel:
        """From a folder or a hub name, of any kind that docs/reward-models.md lists.

        judge = pl.RewardModel.load("Skywork/Skywork-Reward-V2-Qwen3-0.6B")
        """
        config = ModelConfig(path=str(path), trust_remote_code=trust_remote_code)
        judge = cls(loading.load_reward_model(config, read_as))
        judge.path = config.path
        return judge

    def score(
        self, prompts: Sequence[Any], answers: Sequence[str], *, device: str = "auto", batch_tokens: int = 16384
    ) -> list[float | None]:
        """A number for each pair of prompt and answer; None where the model has no opinion.

            judge.score(["Hi", "Hi"], ["Hello!", "No."])

        Args:
            prompts: texts, or conversations as lists of {role, content}.
            batch_tokens: tokens in one forward; memory depends on it, scores do not.
        """
        rows = prompt_rows(prompts)
        if len(rows) != len(answers):
            raise UserError(f"{len(rows)} prompts and {len(answers)} answers: give one answer to each prompt")
        here = machine(DeviceConfig(device=device))
        self.model.to(here.device)
        groups = [Group(prompt=row.prompt, responses=(text,)) for row, text in zip(rows, answers, strict=True)]
        with here.autocast():
            scores = self.model.score(groups, batch_tokens)
        pairs = zip(scores.scores.tolist(), scores.valid.tolist(), strict=True)
        return [score if valid else None for score, valid in pairs]

    def save(self, folder: str | Path) -> Path:
        """Write it as a folder that `load` and every command of plaudit read.

        judge.save("runs/mine/model")
        """
        Path(folder).mkdir(parents=True, exist_ok=True)
        self.model.save(Path(folder), {})
        self.path = str(folder)
        return Path(folder)

    def __repr__(self) -> str:
        return f"RewardModel({type(self.model).__name__}, {_size(self.model)}{_from(self.path)})"


def on_disk(model: Policy | RewardModel, folders: contextlib.ExitStack) -> str:
    """The model's folder; a temporary one, gone when `folders` close, for a model that has none."""
    if model.path is not None:
        return model.path
    folder = Path(folders.enter_context(tempfile.TemporaryDirectory(prefix="plaudit-"))) / "model"
    model.save(folder)
    model.path = None
    return str(folder)


def _size(model: Any) -> str:
    return f"{sum(parameter.numel() for parameter in model.parameters()):,} parameters"


def _from(path: str | None) -> str:
    return f", {path!r}" if path else ""
