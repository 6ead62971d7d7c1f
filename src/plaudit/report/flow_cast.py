"""Which of the runs that hang together plays which part in the flow."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from plaudit.report.collect import RunData
from plaudit.report.lineage import InputFile, Lineage, Maker, shortened


@dataclass(frozen=True, slots=True, kw_only=True)
class Cast:
    """Who plays which part. Controls, which had nothing to learn, stand apart."""

    family: Lineage
    sft: Sequence[Maker]
    collects: Sequence[Maker]
    """Those whose answers a reward model learned from."""
    labels: Sequence[Maker]
    rewards: Sequence[Maker]
    ppos: Sequence[Maker]
    compares: Sequence[Maker]
    verdicts: Sequence[Maker]
    """Stages in which people compared two policies."""
    controls: Sequence[Maker]

    def maker(self, run: Maker, option: str) -> Maker | None:
        """The run that made what a dotted option names."""
        return self.family.maker(option_of(run, option), run)

    def name_of(self, run: Maker, option: str) -> str:
        """Of a model: the run that made it, else its path."""
        maker, path = self.maker(run, option), option_of(run, option)
        return maker.folder.name if maker else shortened(str(path or ""))

    def files(self, runs: Iterable[Maker], option: str) -> list[InputFile]:
        """Of several runs, each file once."""
        every = [file for run in runs for file in self.family.files(run, option)]
        return list({(file.path, file.rows): file for file in every}.values())

    def policies(self, run: Maker) -> dict[str, Maker | None]:
        """Name -> the run that trained it, of a comparison."""
        named = run.config.get("policies")
        return {str(n): self.family.maker(p, run) for n, p in named.items()} if isinstance(named, dict) else {}

    def judges(self, run: Maker, option: str) -> list[str]:
        """The names of the judges in a list of them."""
        entries = run.config.get(option)
        named = []
        for entry in entries if isinstance(entries, list) else ():
            if isinstance(entry, dict):
                maker = self.family.maker(entry.get("path"), run)
                function = str(entry.get("function") or "").rpartition(":")[2]
                name = str(entry.get("name") or function or entry.get("model") or "")
                named.append(maker.folder.name if maker else name or shortened(str(entry.get("path") or "")))
        return [name for name in named if name]


def cast_of(family: Lineage) -> Cast:
    def of(stage: str) -> list[Maker]:
        return [run for run in family.runs if run.stage == stage and not is_control(run)]

    def makers(runs: Sequence[Maker], option: str) -> list[Maker]:
        files = [(run, file) for run in runs for file in family.files(run, option)]
        return [maker for run, file in files if (maker := family.maker(file.path, run)) is not None]

    rewards = of("reward")
    ranked = makers(rewards, "data") if rewards else family.runs
    labels = [run for run in of("label") if run in ranked]
    sources = makers(labels, "data") if rewards else family.runs
    collects = [run for run in of("collect") if run in ranked or run in sources]
    compares = of("compare")
    verdicts = [run for run in of("label") if any(maker in compares for maker in makers([run], "data"))]
    labels = [run for run in labels if run not in verdicts]
    controls = [run for run in family.runs if is_control(run)]
    return Cast(family=family, sft=of("sft"), collects=collects, labels=labels, rewards=rewards, ppos=of("ppo"),
                compares=compares, verdicts=verdicts, controls=controls)  # fmt: skip


def is_control(run: Maker) -> bool:
    return run.config.get("shuffle_labels") is True or (isinstance(run, RunData) and run.control)


def option_of(run: Maker, dotted: str) -> Any:
    """Of its config; None where it isn't there."""
    value: Any = run.config
    for name in dotted.split("."):
        value = value.get(name) if isinstance(value, Mapping) else None
    return value
