"""PPO-ptx: pre-training text beside the rollouts (N4.12; Ouyang et al. 2022)."""

from collections.abc import Sequence
from dataclasses import dataclass

from plaudit.data.stream import Learned
from plaudit.errors import UserError
from plaudit.hardware.machine import Machine
from plaudit.hardware.randomness import derive_seed
from plaudit.models.load import Language
from plaudit.models.trunk import Trunk
from plaudit.records.statistics import Statistics, Sum
from plaudit.records.text import Demonstration, Text
from plaudit.runs.folder import Run
from plaudit.tokens.encode import EncodedRow, Warned, encode_learned
from plaudit.training import order, state
from plaudit.training.likelihood import nll_backward
from plaudit.training.policy.options import Ptx
from plaudit.training.streaming import StreamedMixture, open_streams, pick


@dataclass(frozen=True, slots=True, kw_only=True)
class Texts:
    """An endless stream of encoded rows, whose position is a function of the optimiser step alone."""

    rows: tuple[EncodedRow, ...] = ()
    stream: StreamedMixture | None = None
    """Instead of `rows`: they are read when they are wanted."""
    coef: float = 0.0
    per_step: int = 0
    seed: int = 0

    def at(self, step: int) -> list[EncodedRow]:
        """The rows of optimiser step `step`, the same after a resume; shuffled passes follow one another."""
        if self.stream is not None:
            return [self._streamed(self.stream, step * self.per_step + i) for i in range(self.per_step)]
        chosen = order.endless(len(self.rows), step * self.per_step, self.per_step, self.seed)
        return [self.rows[row] for row, _ in chosen]

    def _streamed(self, stream: StreamedMixture, position: int) -> EncodedRow:
        epoch, offset = divmod(position, stream.per_epoch)
        return pick(stream.learned(offset, self.seed, epoch), self.seed, position)


def load(config: Ptx | None, run: Run, language: Language, seed: int) -> Texts:
    """Read and encode the text. `coef: 0` reads nothing. Raises: UserError where no row is left."""
    if config is None or not config.coef:
        return Texts()
    limit = language.limit(config.max_length, "ptx.max_length")
    if limit < 2:
        raise UserError("ptx.max_length: a row needs two tokens at least, one to predict the other")
    weights = tuple(source.weight for source in config.data)

    renderer, warned = language.decoder_renderer, Warned() if config.streaming else None

    def encode(rows: Sequence[Learned]) -> list[EncodedRow]:
        return encode_learned(rows, renderer, max_length=limit, too_long="truncate", warned=warned).remaining

    own = {"coef": config.coef, "per_step": config.rows, "seed": derive_seed(seed, "ptx")}
    if config.streaming:
        streams = open_streams(run, config.data)
        return Texts(stream=StreamedMixture(streams=streams, weights=weights, encode=encode), **own)
    encoded = [encode(rows) for rows in state.load_data(run, config.data, Demonstration, Text)]
    mixed = order.weighted([len(rows) for rows in encoded], weights, seed, 0)
    end_to_end = [pair for rows in encoded for pair in rows]
    if not mixed:
        raise UserError(f"ptx.data: no row to learn from in {', '.join(d.path for d in config.data)}")
    return Texts(rows=tuple(end_to_end[i] for i in mixed), **own)


def backward(
    policy: Trunk, rows: Sequence[EncodedRow], ptx_coef: float, microbatch_tokens: int, machine: Machine
) -> Statistics:
    """Add the gradient of −ptx_coef · Σ log π(x_t | x_<t) / N to what the rollouts left; N counts target tokens.

    At temperature 1: text is not sampled. Returns N and Σ −log π, nats, without the coefficient.
    """
    num_tokens = sum(len(targets) for _, targets in rows)
    mean = nll_backward(policy, rows, microbatch_tokens, machine, coef=ptx_coef)
    return {"ptx_tokens": Sum(float(num_tokens)), "ptx_loss": Sum(mean * num_tokens)}
