"""What later stages of a pipeline start from while the earlier ones haven't run: the model that a stage begins with in
place of the one that it would end with, and answers of that model with ranks that mean nothing."""

import contextlib
import json
from pathlib import Path
from typing import Any

from plaudit.doctor.examined import Examined, overheard
from plaudit.files import atomic_write
from plaudit.models.checkpoint import export
from plaudit.rollouts.sampler import sample
from plaudit.training.collect import CANDIDATES, RANKINGS

PROMPTS = 24


def leave(examined: Examined, folder: Path) -> bool:
    """Put them into the stage's folder; False where there is nothing to put, whose reasons its checks tell."""
    with overheard([]), contextlib.suppress(Exception):
        _leave(examined, folder)
        return folder.exists()
    return False


def _leave(examined: Examined, folder: Path) -> None:
    match examined.kind:
        case "sft" | "ppo":
            for name in ("model", "best"):
                _model(examined, folder / name)
        case "reward":
            folder.mkdir(parents=True)
            examined.participants.model.save(folder / "model", {})
        case "collect":
            folder.mkdir(parents=True)
            rows = _rankings(examined.participants, examined.config)
            file = RANKINGS if examined.config.labeller else CANDIDATES
            atomic_write(folder / file, "".join(json.dumps(row) + "\n" for row in rows))


def _model(examined: Examined, folder: Path) -> None:
    """A link where the stage starts from a folder."""
    if (model := examined.model) is not None and Path(model.path).is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.symlink_to(Path(model.path).resolve(), target_is_directory=True)
    else:
        export(folder, examined.participants.loaded, {"kind": "policy"})


def _rankings(participants: Any, config: Any) -> list[dict[str, Any]]:
    rows = [row for row in participants.prompts[:PROMPTS] for _ in range(config.samples)]
    indices = list(range(config.samples)) * min(PROMPTS, len(participants.prompts))
    with participants.machine.autocast():
        rollout = sample(
            participants.engine, participants.language, rows, config.sampling, sample_indices=indices, seed=config.seed
        )
    rankings = []
    for i in range(0, len(rows), config.samples):
        prompt = rows[i].prompt
        texts = [text.replace("\0", "\ufffd") for text in rollout.responses[i : i + config.samples]]
        turns = [{"role": turn.role, "content": turn.content} for turn in prompt.turns]
        row = {"prompt": turns if prompt.form.value == "chat" else prompt.text, "responses": texts}
        row |= {"ranks": list(range(1, len(texts) + 1)), "prompt_rendered": prompt.form.value == "rendered"}
        rankings.append(row)
    return rankings
