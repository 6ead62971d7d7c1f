"""Which engine samples: every stage asks here, so that another kind is added in one file."""

from collections.abc import Callable

from plaudit.engines.protocol import Engine
from plaudit.engines.torch_engine import TorchEngine
from plaudit.hardware.ranks import ALONE, Ranks
from plaudit.models.load import Language
from plaudit.models.trunk import Trunk


def build_engine(
    policy: Trunk, language: Language, *, check_stop: Callable[[], None] = lambda: None, ranks: Ranks = ALONE
) -> Engine:
    """The engine that samples from `policy` as its parameters are at each call.

    Args:
        language: the policy's, which says what ends a response and what its ids read as.
        check_stop: called once a token; may raise to interrupt a long generation. Not called where there are several
            ranks: the others would wait for this one.
        ranks: who writes with this process; each continues its share of the prompts, all get all of it. ALONE where
            only this process asks.
    Raises: UserError for a model that can't be sampled from.
    """
    return TorchEngine(
        policy, language.end_ids, decode=language.decoder_renderer.response_text, check_stop=check_stop, ranks=ranks
    )
