"""Options of what stands in front of a prompt. No torch."""

from dataclasses import dataclass

from plaudit.data.options import DataConfig
from plaudit.errors import require


@dataclass(frozen=True, slots=True, kw_only=True)
class Shot:
    """One demonstration, written in the config itself."""

    prompt: str
    """What is asked."""
    response: str
    """How it is answered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShotsConfig:
    """Few-shot prompting: demonstrations in front of every prompt, so that a model which was only pre-trained sees what
    is wanted (Brown et al. 2020). With a chat template they are turns of a conversation, without one text."""

    data: tuple[DataConfig, ...] = ()
    """Files of demonstrations that they are drawn from; none of a prompt that is asked."""
    count: int = 4
    """k, how many are drawn: the same for all prompts."""
    seed: int = 0
    """Of the draw, beside the stage's own."""
    shown: tuple[Shot, ...] = ()
    """The demonstrations themselves, in place of files."""
    shot: str = "{prompt}\n{response}"
    """How one is written for a model without a chat template; the prompt that is asked is written up to its answer."""
    separator: str = "\n\n"
    """What follows each of them there; where the model writes it, its answer has ended."""

    def __post_init__(self) -> None:
        require(bool(self.data) != bool(self.shown), "shots: name either `data` to draw from, or the ones `shown`")
        require(self.count >= 1, "shots.count must be at least 1")
        require(self.separator, "shots.separator must not be empty: the answer's end is told by it")
        parts = self.shot.split("{prompt}")
        in_order = len(parts) == 2 and parts[1].count("{response}") == self.shot.count("{response}") == 1
        require(in_order, "shots.shot: write {prompt} and behind it {response}, each once")
        require(
            not self.shot.partition("{response}")[0].endswith((" ", "\t")),
            "shots.shot: leave out the space before {response}: at the end of what is asked it would be a token by "
            'itself, which stands nowhere in the shots. Write "A:{response}" or "A:\\n{response}"',
        )
