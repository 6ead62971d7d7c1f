"""Which engine samples: every stage asks here, so that another kind is added in one file."""

from collections.abc import Callable, Iterable, Sequence
from typing import assert_never

from plaudit.engines import vllm_engine
from plaudit.engines.options import IN_PROCESS, EngineConfig, TorchEngineConfig, VllmHttpConfig
from plaudit.engines.protocol import Engine
from plaudit.engines.torch_engine import TorchEngine
from plaudit.errors import UserError
from plaudit.hardware.ranks import ALONE, Ranks
from plaudit.models.load import Language
from plaudit.models.trunk import Trunk


def check_engine(
    config: EngineConfig, language: Language, prompts: Iterable[Sequence[int]], max_new_tokens: int
) -> None:
    """Can that engine answer these prompts? Asked before any model loads. UserError that says what is missing."""
    match config:
        case TorchEngineConfig():
            return
        case VllmHttpConfig():
            vllm_engine.check(config, language, max(map(len, prompts), default=0) + max_new_tokens)
        case _:
            assert_never(config)


def build_engine(
    policy: Trunk,
    language: Language,
    config: EngineConfig = IN_PROCESS,
    *,
    check_stop: Callable[[], None] = lambda: None,
    ranks: Ranks = ALONE,
) -> Engine:
    """The engine of the kind that `config` names, which samples from `policy`; `language` says what ends a response and
    what its ids read as. The rest is as `TorchEngine`'s. UserError for a model that can't be sampled from."""
    match config:
        case TorchEngineConfig():
            return TorchEngine(
                policy,
                language.end_ids,
                decode=language.decoder_renderer.shown_text,
                options=config,
                check_stop=check_stop,
                ranks=ranks,
            )
        case VllmHttpConfig():
            if not ranks.is_alone:
                raise UserError("engine: kind vllm_http works with one process; start plaudit without torchrun")
            return vllm_engine.make(policy, language, config, check_stop)
        case _:
            assert_never(config)
