"""configs/people as a user runs them: a pipeline in one process, the labelling page in another, people at its API."""

import contextlib
import html
import http.client
import json
import os
import random
import re
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from plaudit.models.options import ModelConfig
from plaudit.runs.folder import Run
from plaudit.training.options import OptimConfig, SFTConfig
from plaudit.training.sft import sft
from tests.learning import zoo_world as world

ROOT = Path(__file__).resolve().parents[2]
SMALL = {
    "stages.reward.epochs": "2",
    "stages.reward.minibatch_size": "16",
    "stages.reward.optim.learning_rate": "1e-3",
    "stages.ppo.iterations": "3",
    "stages.ppo.optim.learning_rate": "2e-4",
    "stages.ppo.prompts_per_iteration": "16",
    "stages.ppo.sampling.max_new_tokens": "28",
    "stages.next-answers.unsure.prompts": "15",
    "stages.next-answers.sampling.max_new_tokens": "28",
}
LIMIT = 600.0
"""Seconds after which something is stuck."""


def writer(folder: Path) -> str:
    """A policy that writes sentences of the world, good and bad ones."""
    config = SFTConfig(
        data=(world.file(folder, "demonstrations", world.demonstrations(2400, 0)),),
        held_out_fraction=0.0,
        model=ModelConfig(path=world.decoder(folder / "base", 0)),
        optim=OptimConfig(learning_rate=4e-3, warmup_fraction=0.05, schedule="cosine"),
        minibatch_size=16,
        epochs=2,
    )
    with Run.create(folder / "sft", "sft", config) as run:
        sft(config, run)
    return str(folder / "sft" / "model")


def plaudit(*arguments: str, **options) -> subprocess.Popen:
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "plaudit", *arguments]
    return subprocess.Popen(command, text=True, env=environment, stdout=subprocess.PIPE, **options)


class Browser:
    """What a labeller's browser says and hears."""

    def __init__(self, link: str) -> None:
        self.address, self.cookie = urlsplit(link), ""
        self.ask("GET", self.address.path)

    def ask(self, method: str, path: str, body: bytes | None = None) -> bytes:
        with contextlib.closing(http.client.HTTPConnection(self.address.netloc, timeout=60)) as connection:
            headers = {"Origin": f"http://{self.address.netloc}", "Cookie": self.cookie}
            connection.request(method, path, body, headers)
            with connection.getresponse() as answer:
                content = answer.read()
                assert answer.status == 200, content
                self.cookie = self.cookie or (answer.getheader("set-cookie") or "").split(";")[0]
                return content

    def json(self, method: str, path: str, body: dict | None = None) -> dict:
        return json.loads(self.ask(method, path, json.dumps(body).encode() if body else None))


def text_of(shown: dict) -> str:
    return html.unescape(re.sub("<.*?>", "", shown["html"])).strip()


def rank_all(browser: Browser, name: str) -> None:
    """Until nothing waits: by the true reward, with noise of which the scale is known."""
    rng, sent = random.Random(name), 0
    task = browser.json("GET", "/api/next")["assignment"]
    while task is not None:
        texts = [text_of(answer) for answer in task["answers"]]
        worths = [worth + rng.gauss(0, 0.3) for worth in world.worth(text_of(task["prompt"][-1]), texts)]
        ranks = [1 + sum(other > own for other in worths) for own in worths]
        body = {"assignment": task["id"], "key": f"{name}-{sent:08d}", "ranks": ranks, "seconds": 2.0}
        task, sent = browser.json("POST", "/api/submit", body)["assignment"], sent + 1
        time.sleep(0.06)  # nobody is as quick as the wall allows


def label(project: Path, people: tuple[str, ...]) -> None:
    """`plaudit label PROJECT` and `invite`, as docs/labelling.md says; then everybody ranks what there is."""
    with plaudit("label", str(project), "--port", "0") as server:
        try:
            address = re.search(r"at (http://\S+),", server.stdout.readline())[1]
            links = []
            for name in people:
                invited, _ = plaudit("label", "invite", name, "--project", str(project)).communicate(timeout=LIMIT)
                links.append(address + urlsplit(invited.split()[-1]).path)
            threads = [
                threading.Thread(target=rank_all, args=(Browser(link), name))
                for name, link in zip(people, links, strict=True)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        finally:
            server.kill()


def until(there: Path, pipeline: subprocess.Popen) -> None:
    end = time.monotonic() + LIMIT
    while not there.exists():
        assert pipeline.poll() is None, f"the pipeline ended before {there} was there"
        assert time.monotonic() < end, f"{there} did not come"
        time.sleep(0.2)


def play(config: str, out: Path, options: dict[str, str], projects: dict[str, tuple[str, ...]]) -> None:
    """The pipeline, which waits at each project until its people have been there."""
    words = [word for name, value in options.items() for word in (f"--{name}", value)]
    with plaudit("pipeline", str(ROOT / "configs" / "people" / config), "--out", str(out), *words) as pipeline:
        try:
            for stage, people in projects.items():
                until(out / stage / "project.db", pipeline)
                time.sleep(3)
                after = sorted(folder.name for folder in out.iterdir() if folder.name[:2].isdigit())
                assert after[-1] == stage  # it waits for people
                label(out / stage / "project.db", people)
            output, _ = pipeline.communicate(timeout=LIMIT)
            assert pipeline.returncode == 0, output[-2000:]
        finally:
            pipeline.kill()


def rows(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def measured(folder: Path) -> dict[str, float]:
    results = json.loads((folder / "summary.json").read_text(encoding="utf-8"))["results"]
    return {one["measure"]: one["value"] for one in results}


@pytest.mark.slow
def test_two_rounds_of_people(tmp_path):
    model = writer(tmp_path)
    for name, prompts in (("prompts", world.prompts()[-30:]), ("held_out", world.prompts()[:12])):
        world.file(tmp_path, name, [{"prompt": prompt} for prompt in prompts])
    first, second = tmp_path / "round-1", tmp_path / "round-2"
    options = {"vars.prompts": str(tmp_path / "prompts.jsonl"), **SMALL}
    small = {f"stages.{stage}.sampling.max_new_tokens": "28" for stage in ("answers", "compare")}
    words = {"vars.model": model, "vars.held_out": str(tmp_path / "held_out.jsonl")}
    play("round.yaml", first, {**options, **small, **words}, {"02-labels": ("ann", "bob"), "06-verdict": ("cho",)})
    rankings = rows(first / "02-labels" / "rankings.jsonl")
    assert Counter(row["labeller"] for row in rankings) == {"ann": len(rankings) // 2, "bob": len(rankings) // 2}
    assert measured(first / "02-labels")["two_labellers_over_pairs"] > 0.7  # the noise is small
    assert {"people_win_rate_over_prompts", "judge_with_people_over_prompts"} <= measured(first / "06-verdict").keys()
    chosen = rows(first / "07-next-answers" / "candidates.jsonl")
    assert Counter(row["chosen_by"] for row in chosen) == {"doubt": 12, "chance": 3}
    play("next_round.yaml", second, {"vars.before": str(first), **options}, {"01-labels": ("ann", "bob")})
    assert len(rows(second / "01-labels" / "rankings.jsonl")) == 2 * len(chosen)
    assert len(rows(second / "04-next-answers" / "candidates.jsonl")) == 15
