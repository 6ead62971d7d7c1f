"""Few-shot prompting: demonstrations in front of what is asked. The answer alone is what anybody scores."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from plaudit.data.sources import load
from plaudit.engines.options import SamplingConfig
from plaudit.errors import UserError
from plaudit.hardware.randomness import derive_seed, permutation
from plaudit.models.load import Language
from plaudit.records.text import Demonstration, Form, Kind, Message, Prompt, PromptRow
from plaudit.rollouts.options import ShotsConfig
from plaudit.runs.folder import Run
from plaudit.telemetry.console import say


@dataclass(frozen=True, slots=True, kw_only=True)
class Shots:
    """The demonstrations that one model sees before every prompt, and how it sees them."""

    rows: tuple[Demonstration, ...]
    shot: str = "{prompt}\n{response}"
    separator: str = "\n\n"
    as_turns: bool = False
    """The model has a chat template: they are turns of one conversation, and its end token ends the answer."""

    def before(self, prompt: Prompt) -> Prompt:
        """The prompt with the shots in front of it. A conversation's system turn stays first."""
        if self.as_turns:
            system = [turn for turn in prompt.turns[:1] if turn.role == "system"]
            shown = [
                turn
                for row in self.rows
                for turn in (*row.prompt.turns, Message(role="assistant", content=row.response, extra=row.extra))
            ]
            turns = (*system, *shown, *prompt.turns[len(system) :])
            return replace(prompt, form=Form.CHAT, turns=turns)
        texts = [self._written(row.prompt.text, row.response) + self.separator for row in self.rows]
        question, _, _ = self.shot.partition("{response}")
        return Prompt.of_text("".join(texts) + question.replace("{prompt}", prompt.text))

    def ending(self, sampling: SamplingConfig) -> SamplingConfig:
        """The answer also ends where the model begins another shot of its own."""
        if self.as_turns:
            return sampling
        _, _, closing = self.shot.partition("{response}")
        return replace(sampling, stop=(*sampling.stop, closing + self.separator))

    def _written(self, prompt: str, response: str) -> str:
        before, _, rest = self.shot.partition("{prompt}")  # texts may spell either word themselves
        between, _, after = rest.partition("{response}")
        return f"{before}{prompt}{between}{response}{after}"

    @property
    def facts(self) -> list[dict[str, str]]:
        """For provenance.json."""
        return [{"prompt": r.prompt.text, "response": r.response, "where": r.where} for r in self.rows]


def load_shots(
    config: ShotsConfig, prompts: Sequence[PromptRow], language: Language, run: Run, option: str, *, seed: int
) -> Shots:
    """Draw or take the shots of one model; `seed` is the stage's. Reads files only. Raises: UserError naming
    `option`."""
    renderer = language.decoder_renderer
    as_turns = renderer.chat is not None and renderer.policy == "auto"
    excluded = {row.prompt.id for row in prompts}
    rows = _drawn(config, excluded, run, option, seed) if config.data else _written_here(config)
    if not as_turns and any(row.prompt.form is not Form.TEXT for row in (*rows, *prompts)):
        raise UserError(f"{option}: conversations need a chat template, and this model has none here; give strings")
    if any(row.prompt.form is Form.RENDERED for row in prompts):
        raise UserError(f"{option}: a rendered prompt is finished as it stands; shots can't be put in front of it")
    shots = Shots(rows=rows, shot=config.shot, separator=config.separator, as_turns=as_turns)
    for stop in shots.ending(SamplingConfig()).stop:
        if broken := [row for row in rows if stop in row.response]:
            raise UserError(
                f"{option}: {broken[0].where or 'a shot'}: the answer {broken[0].response[:80]!r} holds {stop!r}, "
                "which ends the model's answers: they would end in their middle. Write another `separator`, such as "
                r'"\n\n###\n\n"'
            )
    return shots


def _written_here(config: ShotsConfig) -> tuple[Demonstration, ...]:
    return tuple(Demonstration(prompt=Prompt.of_text(one.prompt), response=one.response) for one in config.shown)


def _drawn(config: ShotsConfig, excluded: set[str], run: Run, option: str, seed: int) -> tuple[Demonstration, ...]:
    loaded = [load(source, Kind.DEMONSTRATION) for source in config.data]
    run.check_data(dict(item for one in loaded for item in one.fingerprints.items()))
    rows = [
        row for one in loaded for row in one.rows if isinstance(row, Demonstration) and row.prompt.id not in excluded
    ]
    if len(rows) < config.count:
        raise UserError(
            f"{option}: {config.count} shots are wanted, and {len(rows)} demonstrations are of other prompts"
        )
    drawn = permutation(len(rows), derive_seed(seed, config.seed), "shots")[: config.count]
    say(f"{option}: {', '.join(rows[i].where for i in drawn)}")
    return tuple(rows[i] for i in drawn)
