"""The engine that asks a vLLM server: it gets the policy's weights when they have changed, and shows that it has them.

It draws tokens by random numbers of its own, so nothing is replayed exactly; and its log-probs come from other kernels,
perhaps in bf16, so PPO takes π_old from the trainer's own pass.
"""

import functools
import os
import shutil
import sys
import tempfile
import uuid
import weakref
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import torch

from plaudit.engines.options import SamplingConfig, VllmHttpConfig
from plaudit.engines.protocol import Capabilities, Extra, Generation
from plaudit.engines.vllm_server import LOG, VllmRefuses, VllmServer, has_vllm, shown_command, started
from plaudit.errors import UserError
from plaudit.hardware.randomness import SampleKey, bases
from plaudit.models.adapters import unwrapped
from plaudit.models.load import Language
from plaudit.models.served import digest_of, is_tied, write_weights
from plaudit.models.trunk import Trunk, evaluating
from plaudit.records.text import FinishReason
from plaudit.telemetry.console import say, warn
from plaudit.tokens.batches import pack

ANSWER_SOON = 10.0
"""Seconds within which a server that is said to run must answer the first time."""
SPOKEN = "The 3 quick foxes, naïve as ever:\n  jump(0.25) → done!"
"""A text that two tokenizers hardly read alike by chance."""
PROBED = 2
"""Prompts whose answers show, after each push of weights, that server and trainer agree."""
PROBE_TOKENS = 8
GAP, FP32_GAP = 0.06, 0.001
"""`largest_gap` by default; the second where server and trainer compute in fp32: weights that are one small step of PPO
old are further off."""
RESTARTS = 3
"""So often in one call may the server lose its weights."""
SHARED_MEMORY = Path("/dev/shm")


class VllmEngine:
    """Generation by a server, with the policy's weights of now.

    Args:
        trunk: the policy.
        language: what ends a response; the server must read text alike.
        server: one that `check` has found fit, or a child of this process.
    """

    def __init__(self, trunk: Trunk, language: Language, config: VllmHttpConfig, server: VllmServer):
        self.trunk, self.language, self.config, self.server = trunk, language, config, server
        self.end_ids = frozenset(language.end_ids)
        self.folder = Path(tempfile.mkdtemp(prefix="plaudit-weights-", dir=exchange(config)))
        weakref.finalize(self, _remove, self.folder, os.getpid())
        self.name = uuid.uuid4().hex[:12]
        """Of this trainer, so that another one's weights are not taken for its own."""
        self.policy_version = 0
        """How often weights were pushed, part of the name that the server gives them."""
        self.digest = b""
        self.vocabulary = int(trunk.config.get_text_config().vocab_size)
        self.model = str(server.model()["id"])
        settings = server.settings()
        self._check_output(settings)
        self.server_dtype = str(settings["model_config"].get("dtype"))
        self._check_vocabulary()

    @property
    def capabilities(self) -> Capabilities:
        # It looks for stop strings in a text of its own.
        return Capabilities(exact_replay=False, stop_strings=False, trainer_logprobs=False, gathers=frozenset())

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
        """As `Engine.generate`, but the server's own numbers draw: the same call asks for the same seeds, which is no
        promise of the same tokens. `greedy`: the log-probs are those at temperature 1."""
        if want:
            raise ValueError(f"this engine gathers nothing, not {sorted(want)}")
        requests = [
            self._request(prompt, count, base, sampling, greedy=greedy)
            for prompt, count, base in grouped(prompts, bases(keys, seed).tolist(), apart=greedy)
        ]
        for _ in range(RESTARTS):
            self._bring_weights(prompts, sampling)
            written = self._ask_all(requests, sampling.batch_size)
            if self.server.version() == self._version:
                return written
            warn("engine: the vLLM server was started anew while it wrote; weights are pushed and answers asked again")
        raise UserError(f"engine: the vLLM server at {self.server.url} lost its weights {RESTARTS} times in one call")

    # ---- answers

    def _request(
        self, prompt: Sequence[int], count: int, base: int, sampling: SamplingConfig, *, greedy: bool = False
    ) -> dict[str, Any]:
        """What is asked for `count` answers to one prompt. Everything that the server could have its own mind about is
        said."""
        return {
            "model": self.model,
            "prompt": list(prompt),
            "n": count,
            "max_tokens": sampling.max_new_tokens,
            "temperature": 0.0 if greedy else sampling.temperature,
            "top_p": 1.0,
            "top_k": 0,
            "min_p": 0.0,
            "repetition_penalty": 1.0,
            "presence_penalty": 0.0,
            "frequency_penalty": 0.0,
            "seed": base >> 1,  # vLLM adds the answer's number
            "stop": list(sampling.stop),
            "include_stop_str_in_output": True,
            "ignore_eos": True,  # the server's idea of it; ours are these
            "stop_token_ids": sorted(self.end_ids),
            "skip_special_tokens": False,
            "spaces_between_special_tokens": False,
            "logprobs": 0,  # of the token that was drawn, and of no other
            "return_token_ids": True,
            "return_tokens_as_token_ids": True,
        }

    def _ask_all(self, requests: Sequence[Mapping[str, Any]], at_once: int) -> list[Generation]:
        written = self.server.at_once([functools.partial(self._answers, request) for request in requests], at_once)
        return [generation for answers in written for generation in answers]

    def _answers(self, request: Mapping[str, Any]) -> list[Generation]:
        choices = self.server.await_answer("POST", "/v1/completions", request)["choices"]
        if len(choices) != request["n"]:
            raise UserError(f"engine: the vLLM server gave {len(choices)} answers where {request['n']} were asked for")
        return [self._generation(choice, request) for choice in sorted(choices, key=lambda choice: choice["index"])]

    def _generation(self, choice: Mapping[str, Any], request: Mapping[str, Any]) -> Generation:
        ids, logprobs = choice["token_ids"], choice["logprobs"]["token_logprobs"]
        if not 0 < len(ids) == len(logprobs) <= request["max_tokens"]:
            raise UserError(f"engine: the vLLM server gave {len(ids or ())} tokens with {len(logprobs)} log-probs")
        match choice["finish_reason"], choice.get("stop_reason"):
            case "stop", str():
                finish = FinishReason.STOP
            case "stop" | "length", _ if ids[-1] in self.end_ids:
                finish = FinishReason.EOS
            case "length", _:
                finish = FinishReason.LENGTH
            case reason, why:
                raise UserError(
                    f"engine: the vLLM server ended an answer by {reason!r} ({why!r}) at token {ids[-1]}, which ends "
                    "none of the policy's; start it with --generation-config vllm"
                )
        return Generation(ids=tuple(ids), logprobs=tuple(logprobs), finish_reason=finish)

    # ---- weights

    @property
    def _version(self) -> str:
        return f"plaudit-{self.name}-{self.policy_version}"

    def _bring_weights(self, prompts: Sequence[Sequence[int]], sampling: SamplingConfig) -> None:
        """Push them where they have changed, or where the server has others."""
        digest = digest_of(self.trunk)
        if digest != self.digest:
            self.policy_version += 1
        elif self.server.version() == self._version:
            return
        write_weights(self.trunk, self.folder, readable=not self.config.start)  # that server may be another user's
        self.server.load(self.folder, self._version)
        for file in self.folder.glob("*.safetensors"):
            file.unlink()
        self._verify(prompts, sampling)
        self.digest = digest

    def _verify(self, prompts: Sequence[Sequence[int]], sampling: SamplingConfig) -> None:
        """Does the server write by these weights? UserError where its log-probs are not the trainer's."""
        few = list(dict.fromkeys(map(tuple, prompts)))[:PROBED]
        probe = SamplingConfig(
            max_new_tokens=min(PROBE_TOKENS, sampling.max_new_tokens), temperature=sampling.temperature
        )
        written = self._ask_all([self._request(prompt, 1, i, probe) for i, prompt in enumerate(few)], PROBED)
        batch = pack(few, [generation.ids for generation in written]).to(self.trunk.device)
        with evaluating(self.trunk.hf):
            own = self.trunk(batch, {"logprobs"}, sampling.temperature)["logprobs"][batch.response_mask].cpu()
        gap = float((own - torch.tensor([x for g in written for x in g.logprobs])).abs().mean())
        if not gap <= (largest := self._largest_gap()):
            raise UserError(
                f"engine: the vLLM server's log-probs are {gap:.3g} nats from the trainer's after weights were pushed "
                f"(engine.largest_gap: {largest:g}). Is it another architecture? Else start it as "
                f"docs/vllm.md says: {shown_command('MODEL', self.language.context)}"
            )

    def _largest_gap(self) -> float:
        if self.config.largest_gap is not None:
            return self.config.largest_gap
        is_fp32 = {str(p.dtype) for p in self.trunk.parameters()} == {"torch.float32"}
        is_fp32 = is_fp32 and not torch.is_autocast_enabled(self.trunk.device.type)
        return FP32_GAP if is_fp32 and self.server_dtype.endswith("float32") else GAP

    def _check_vocabulary(self) -> None:
        """The server takes the last id of the policy's vocabulary, and none beyond."""
        one = SamplingConfig(max_new_tokens=1)
        for token, fits in ((self.vocabulary - 1, True), (self.vocabulary, False)):
            try:
                self._ask_all([self._request([token], 1, 0, one)], 1)
            except VllmRefuses as error:
                if error.status != 400:
                    raise
                taken = False
            else:
                taken = True
            if taken != fits:
                raise UserError(
                    f"engine: the vLLM server at {self.server.url} serves {self.model!r}, whose vocabulary is "
                    f"{'larger' if taken else 'smaller'} than the policy's {self.vocabulary}; start it with the "
                    "policy's folder"
                )

    def _check_output(self, settings: Mapping[str, Any]) -> None:
        """A CPU server keeps a repacked copy of an output matrix that is tied to the embeddings, and new weights don't
        reach it."""
        untied = settings["model_config"].get("hf_overrides", {}).get("tie_word_embeddings") is False
        if is_tied(self.trunk) and not untied and settings["device_config"]["device"] == "cpu":
            raise UserError(
                f"engine: the vLLM server at {self.server.url} ties its output matrix to the embeddings, and on a CPU "
                "it would keep an old copy; start it with --load-format dummy --hf-overrides "
                "'{\"tie_word_embeddings\": false}'"
            )


def grouped(
    prompts: Sequence[Sequence[int]], seeds: Sequence[int], *, apart: bool
) -> Iterator[tuple[tuple[int, ...], int, int]]:
    """Neighbours with one prompt, as one request each: the prompt, how many answers, the first one's seed. `apart`:
    each for itself, since vLLM gives one greedy answer a request."""
    rows = enumerate(zip(map(tuple, prompts), seeds, strict=True))
    for (prompt, _), group in groupby(rows, key=lambda row: (row[1][0], row[0] if apart else 0)):
        several = [seed for _, (_, seed) in group]
        yield prompt, len(several), several[0]


def _remove(folder: Path, parent: int) -> None:
    if os.getpid() == parent:  # not a fork's business
        shutil.rmtree(folder, ignore_errors=True)


def exchange(config: VllmHttpConfig) -> Path | None:
    """Where weights are put for the server to read. UserError where the folder isn't there."""
    if config.weights:
        folder = Path(config.weights).expanduser()
        if not folder.is_dir():
            raise UserError(f"engine.weights: {config.weights!r} is no folder")
        return folder
    return SHARED_MEMORY if SHARED_MEMORY.is_dir() else None


def check(config: VllmHttpConfig, language: Language, longest: int) -> None:
    """Before any model loads: is there a server that can do it? UserError that says what is missing.

    Args: `longest`: tokens of the longest prompt and its answer.
    """
    exchange(config)
    if config.start:
        if not has_vllm(python := config.python or sys.executable):
            raise UserError(
                f"engine.python: no vLLM in the environment of {python!r}; install it in one of its own (docs/vllm.md) "
                "and name that one's Python"
            )
        return
    server = VllmServer(config.url, seconds=min(ANSWER_SOON, config.answer_seconds))
    try:
        served = server.model()
    except UserError as error:
        raise UserError(f"{error}. Start one: {shown_command('MODEL', language.context)}") from error
    settings = server.settings()
    if served["max_model_len"] < longest:
        raise UserError(
            f"engine: the vLLM server at {config.url} reads {served['max_model_len']} tokens at most, prompts and "
            f"sampling.max_new_tokens need {longest}; start it with --max-model-len {longest}"
        )
    ours = language.tokenizer(SPOKEN, add_special_tokens=False)["input_ids"]
    if server.tokens(SPOKEN) != ours:
        raise UserError(
            f"engine: the vLLM server at {config.url} serves {served['id']!r}, whose tokenizer reads text otherwise "
            "than the policy's; start it with the policy's folder"
        )
    if settings["model_config"]["logprobs_mode"] != "processed_logprobs":
        raise UserError(
            f"engine: the vLLM server at {config.url} gives log-probs before temperature; start it with "
            "--logprobs-mode processed_logprobs"
        )


def make(
    trunk: Trunk, language: Language, config: VllmHttpConfig, check_stop: Callable[[], None] = lambda: None
) -> VllmEngine:
    """The engine, with its server: the one at `config.url`, or one that is started."""
    if not config.start:
        server = VllmServer(config.url, seconds=config.answer_seconds, check_stop=check_stop)
        return VllmEngine(trunk, language, config, server)
    folder = Path(tempfile.mkdtemp(prefix="plaudit-vllm-"))
    unwrapped(trunk.hf).config.save_pretrained(folder)
    language.tokenizer.save_pretrained(folder)
    say(f"engine: a vLLM server starts, which takes a while; it writes to {folder / LOG}")
    dtype = str(next(trunk.hf.parameters()).dtype).removeprefix("torch.")
    threads = torch.get_num_threads()
    server = started(config, folder, longest=language.context, dtype=dtype, threads=threads, check_stop=check_stop)
    return VllmEngine(trunk, language, config, server)
