"""The board and the chat in a real browser: a page that is open while its run grows, dies, and is compared."""

import contextlib
import gzip
import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from plaudit.api.talk import Reply, Talk, open_store
from plaudit.runs.folder import Run
from plaudit.web.app import build
from plaudit.web.board.routes import board_routes
from plaudit.web.chat.routes import chat_routes
from plaudit.web.security import one_token
from tests.report.folders import HOSTILE, as_lines, ppo_lines, summary, token_row, write_pipeline, write_run
from tests.web.browser import CHROMIUM, SCREENSHOTS, running
from tests.web.test_browser import chromium  # noqa: F401  the browser of the labelling page

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not CHROMIUM, reason="no chromium"),
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"),
]
WORK = """
import json, sys, time
from pathlib import Path
from plaudit.telemetry.status import Heart
folder = Path(sys.argv[1])
heart = Heart(folder, "ppo")
for step, line in enumerate(Path(sys.argv[2]).read_text("utf-8").splitlines(), start=1):
    with (folder / "metrics.jsonl").open("a", encoding="utf-8") as file:
        file.write(line + "\\n")
    heart.beat(step, 1000)
    heart.stop("running")  # writes it now
    time.sleep(0.4 if step > 10 else 0)
"""


@pytest.fixture
def visit(chromium):  # noqa: F811
    """Opens a page of an app as whoever has the link, and fails where a script does or a policy is broken."""
    with contextlib.ExitStack() as stack:
        complaints: list[str] = []

        def act(routes, path="/", **options):
            secret, access = one_token("test")
            address = stack.enter_context(running(build(routes, access)))
            context = chromium.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})
            stack.callback(context.close)
            page = context.new_page()
            page.set_default_timeout(60_000)
            page.on("pageerror", lambda error: complaints.append(str(error)))
            page.goto(f"{address}/l/{secret}")
            page.wait_for_url(address + "/")
            page.goto(address + path)
            return page

        yield act
        assert complaints == []


def picture(page, name: str) -> None:
    if SCREENSHOTS:
        page.wait_for_timeout(1500)
        page.screenshot(path=str(Path(SCREENSHOTS) / f"{name}.png"))


def working(folder: Path, lines) -> subprocess.Popen[bytes]:
    """A process that trains: a line now and then, and signs of life."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    (folder.parent / "lines").write_text(as_lines(lines), encoding="utf-8")
    return subprocess.Popen([sys.executable, "-c", WORK, str(folder), str(folder.parent / "lines")])


def tokens(text: str, score: float):
    return [token_row(f"{text} {index}", score=score + index) for index in range(4)]


def test_a_run_grows_dies_and_is_compared_while_the_page_is_open(visit, tmp_path):
    runs = tmp_path / "runs"
    write_run(runs / "ppo-b", "ppo", config={"kl": {"coef": 0.2}}, lines=ppo_lines(60, lift=1.4), summary=summary())
    folder = write_run(runs / "ppo-a", "ppo", config={"kl": {"coef": 0.1}}, rollouts={1: tokens("early words", 0.0)})
    process = working(folder, ppo_lines(1000))
    try:
        page = visit(board_routes([str(runs)]))
        row = page.locator("tr", has=page.locator("a", has_text="runs/ppo-a"))
        row.locator(".badge.running").wait_for()
        first = int(row.locator(".count").inner_text().split("/")[0])
        page.wait_for_function("n => parseInt(document.querySelector('.count').textContent) > n + 2", arg=first)
        picture(page, "board-list")

        row.locator("a").first.click()
        page.wait_for_selector(".plot .main-svg")
        points = "document.querySelector('.plot[data-figure=\"0\"]').data[0].x.length"
        before = page.evaluate(points)
        page.wait_for_function(f"n => {points} > n + 2", arg=before)
        event = {
            "time": "2026-01-01T10:00:00",
            "level": "warning",
            "step": 12,
            "message": "KL brake: this update was cut",
        }
        (folder / "events.jsonl").write_text(as_lines([event]), encoding="utf-8")
        page.locator("#events", has_text="KL brake").wait_for()
        path = folder / "rollouts" / "000002.jsonl.gz"
        path.write_bytes(gzip.compress(as_lines(tokens("later words", 2.0)).encode()))
        page.locator(".token-card", has_text="Iteration 2").first.wait_for()
        picture(page, "board-run")

        page.locator(".tokens").first.click()
        page.keyboard.press("ArrowRight")
        assert (
            "advantage" in page.locator(".told").first.inner_text() or "adv" in page.locator(".told").first.inner_text()
        )
        (folder / "rollouts" / "000003.jsonl.gz").write_bytes(path.read_bytes())
        page.locator("#newer button").wait_for()  # what somebody reads is not taken away
        page.locator("#newer button").click()
        page.locator(".token-card", has_text="Iteration 3").first.wait_for()
    finally:
        process.kill()
        process.wait()
    page.locator(".badge.interrupted").wait_for()
    page.locator(".home").click()
    row.locator(".badge.dead").wait_for()
    assert f"process {process.pid} is gone" in row.inner_text()

    page.locator("input[value='runs/ppo-a']").check()
    page.locator("input[value='runs/ppo-b']").check()
    page.locator("#compare").click()
    page.wait_for_selector(".plot .main-svg")
    assert "run=runs%2Fppo-a&run=runs%2Fppo-b" in page.url and "kl.coef" in page.inner_text("[data-part=side_by_side]")
    names = page.evaluate("document.querySelector('.plot[data-figure=\"0\"]').data.map(trace => trace.name)")
    assert list(dict.fromkeys(names)) == ["ppo-a", "ppo-b"]  # a long run has its moving mean as well
    picture(page, "board-compare")


def test_a_pin_a_search_and_a_phone(visit, tmp_path):
    runs = tmp_path / "runs"
    for name in ("a", "b"):
        rows = [token_row(f"a {name} walks home {HOSTILE}", score=1.0)]
        write_run(runs / name, "ppo", lines=ppo_lines(9), rollouts={1: rows}, summary=summary())
    phone = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
    page = visit(board_routes([str(runs)]), "/?pin=runs/a", **phone)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.locator("a", has_text="runs/b").click()
    page.locator(".plot").first.scroll_into_view_if_needed()
    page.wait_for_selector(".plot .main-svg")
    assert "pin=runs/a" in page.url and "Laid over the pinned: runs/a" in page.inner_text("main")
    page.reload()
    assert "Laid over the pinned: runs/a" in page.inner_text("main")
    page.fill("input[name=q]", "b walks")
    page.keyboard.press("Enter")
    page.locator("h1", has_text="1 found").wait_for()
    assert "onerror" in page.inner_text(".said >> nth=1") and page.locator("main img").count() == 0


class Writer:
    """Writes a few words at a time."""

    def __init__(self, name: str, *texts: str) -> None:
        self.name, self.texts, self.sampling = name, texts, {"temperature": 1.0}

    def answer(self, turns, *, turn):
        text = self.texts[min(turn, len(self.texts)) - 1]
        for end in range(4, len(text), 12):
            time.sleep(0.02)
            yield Reply(text=text[:end], tokens=end // 4)
        yield Reply(text=text, finish="eos", tokens=len(text) // 4, score=len(text) / 50, kl=len(text) / 20)


def test_two_models_blind_and_a_vote_by_keyboard(visit, tmp_path):
    store = open_store(str(tmp_path / "votes.db"))
    one = Writer("runs/sft", "Air scatters blue light more than red, so that blue comes from everywhere.")
    two = Writer("runs/ppo", "Because blue is the nicest colour there is.", HOSTILE)
    page = visit(chat_routes(Talk(speakers=[one, two], seed=1), store))
    page.fill("#text", "Why is the sky blue?")
    page.keyboard.press("Enter")
    page.locator("#vote").wait_for()
    assert "runs/" not in page.inner_text("main")
    page.keyboard.press("a")
    page.locator(".reply .name", has_text="runs/ppo").wait_for()
    picture(page, "chat")
    (vote,) = store.all_submissions()
    assert vote.judgement.ranks == (1, 2)
    page.reload()
    page.locator(".reply .name", has_text="runs/sft").wait_for()  # the conversation is the server's
    page.fill("#text", "And a sunset?")
    page.locator("#send").click()
    page.locator("#vote").wait_for()
    assert page.locator(".turn").count() == 3
    assert HOSTILE in page.inner_text("#replies") and page.locator("#replies img").count() == 0
    store.close()


def test_a_chat_shows_markdown_as_the_labelling_page_does(visit):
    answer = "## Two reasons\n\n1. *small* particles\n2. `blue` light\n\n<b onclick=alert(1)>bold</b>"
    page = visit(chat_routes(Talk(speakers=[Writer("runs/sft", answer)]), None))
    page.fill("#text", "Why is the sky **blue**?")
    page.keyboard.press("Enter")
    page.locator(".reply h2", has_text="Two reasons").wait_for()
    assert page.locator(".reply li").count() == 2 and page.locator(".turn strong").inner_text() == "blue"
    assert page.locator(".reply b[onclick]").count() == 0 and "<b onclick" in page.inner_text(".reply")
    page.locator("#written").click()
    assert "## Two reasons" in page.inner_text(".reply") and page.locator(".reply h2").count() == 0
    assert "**blue**" in page.inner_text(".turn")


def test_a_pipeline_on_the_board_in_chinese(visit, tmp_path):
    write_pipeline(tmp_path / "runs" / "demo")
    page = visit(board_routes([str(tmp_path / "runs")]), "/?lang=zh")
    page.locator("#live", has_text="更新于").wait_for()
    page.locator(".badge.finished", has_text="已完成").first.wait_for()
    page.locator("a", has_text="runs/demo").first.click()
    page.locator(".plot").first.scroll_into_view_if_needed()
    page.wait_for_selector(".plot .main-svg")
    page.locator(".flow.wide a").first.click()  # a box leads to its example, which was folded
    page.locator("#flow-comparison, #flow-ppo, #flow-reward").first.wait_for(state="visible")
    page.set_viewport_size({"width": 400, "height": 800})
    assert page.locator(".flow.narrow").is_visible() and not page.locator(".flow.wide").is_visible()
    page.wait_for_function("() => document.documentElement.scrollWidth <= 400")  # once the figures have followed
    page.locator("a", has_text="English").click()
    page.locator("a", has_text="plaudit board").wait_for()


def test_the_board_lives_with_a_real_run(visit, tmp_path):
    with Run.create(tmp_path / "runs" / "own", "ppo", {"seed": 1}) as run:
        page = visit(board_routes([str(tmp_path / "runs")]))
        page.locator(".badge.running").wait_for()
        for step in range(1, 4):
            run.log(step, {"score_over_responses": step / 2})
        page.locator(".count", has_text="3").wait_for()
        run.finish({"format": 2, "results": []})
    page.locator(".badge.finished").wait_for()
    assert json.loads((tmp_path / "runs" / "own" / "status.json").read_text("utf-8"))["state"] == "finished"
