"""Which engine samples: every stage asks here, so that another kind is added in one file."""

from collections.abc import Callable

from plaudit.engines.options import IN_PROCESS, EngineConfig
from plaudit.engines.protocol import Engine
from plaudit.engines.torch_engine import TorchEngine
from plaudit.hardware.ranks import ALONE, Ranks
from plaudit.models.load import Language
from plaudit.models.trunk import Trunk


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
    return TorchEngine(
        policy,
        language.end_ids,
        decode=language.decoder_renderer.shown_text,
        options=config,
        check_stop=check_stop,
        ranks=ranks,
    )
