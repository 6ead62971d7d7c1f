"""The labelling pages over HTTP: what a labeller and a lead can do, and what nobody can."""

import json
import logging
import re

import pytest
import sqlalchemy as sa
from starlette.testclient import TestClient

import plaudit
from plaudit.errors import UserError
from plaudit.feedback.options import ProjectConfig
from plaudit.feedback.records import Candidate, Judgement, Role, StoreUnavailable, Task, mirrored
from plaudit.feedback.store import Store
from plaudit.records.text import Form, Message, Prompt
from plaudit.web.app import build
from plaudit.web.label.project import project_access
from plaudit.web.label.routes import label_routes
from tests.kills import kills

OURS = {"origin": "http://localhost:8300"}
HTML = {"accept": "text/html"}


def task(prompt="What?", answers=("one", "two", "three"), **more) -> Task:
    prompt = prompt if isinstance(prompt, Prompt) else Prompt.of_text(prompt)
    return Task.of(prompt, [Candidate(text=text, model=f"secret-model-{text}") for text in answers], **more)


class Project:
    """A project with its app, and browsers for its people."""

    def __init__(self, folder, *tasks, **options) -> None:
        self.store = Store.create(str(folder / "p.db"), ProjectConfig(gold_share=0, **options))
        self.store.add_tasks(tasks)
        self.access = project_access(self.store)
        self.app = build(label_routes(self.store), self.access)

    def browser(self, token: str) -> TestClient:
        cookies = {self.access.cookie: token}
        return TestClient(self.app, "http://localhost:8300", False, cookies=cookies, headers=OURS)

    def invite(self, name: str, role: Role = Role.LABELLER) -> TestClient:
        return self.browser(self.store.invite(name, role))


def begin(browser: TestClient, path: str = "/label"):
    """The task that the page starts with."""
    text = browser.get(path).text
    return json.loads(re.search(r'id="start">(.*?)</script>', text, re.S)[1])["assignment"]


def send(browser: TestClient, task_view, **judgement):
    body = {"assignment": task_view["id"], "key": "k" * 16, "ranks": [], "seconds": 3.5, **judgement}
    return browser.post("/api/submit", json=body)


@pytest.fixture
def project(tmp_path):
    return Project(tmp_path, *(task(f"Prompt {i}") for i in range(3)))


def shown_texts(assignment) -> list[str]:
    return [re.sub("<.*?>", "", answer["html"]) for answer in assignment["answers"]]


@kills("feedback/records.py", old="dict(zip(order, shown", new="dict(zip(range(9), shown", why="others' ranks")
def test_a_ranking_reaches_the_answers_that_were_shown(tmp_path):
    project = Project(tmp_path, task(), overlap=3)
    for name in ("ann", "bob", "eve"):
        browser = project.invite(name)
        assignment = begin(browser)
        texts = shown_texts(assignment)
        ranks = [["three", "one", "two"].index(text) + 1 for text in texts]
        assert send(browser, assignment, ranks=ranks, key=name * 4).status_code == 200
    for one in project.store.all_submissions():
        assert one.judgement.ranks == (2, 3, 1)
        assert one.judgement.seconds == 3.5


def test_models_are_never_told(project):
    browser = project.invite("ann")
    pages = [browser.get(path).text for path in ("/", "/label", "/sent", "/api/next")]
    assert not any("secret-model" in page for page in pages)


def test_the_same_send_twice_is_one_submission(project):
    browser = project.invite("ann")
    assignment = begin(browser)
    answers = [send(browser, assignment, ranks=[1, 2, 2]).json() for _ in range(3)]
    assert len({answer["assignment"]["id"] for answer in answers}) == 1
    assert len(project.store.all_submissions()) == 1


def test_another_judgement_under_a_used_key_is_stored_as_a_correction(project):
    """A second tab or a page from the browser's history may send so: what is acknowledged must be there."""
    browser = project.invite("ann")
    assignment = begin(browser)
    for ranks, seconds in (([1, 2, 2], 3.5), ([3, 2, 1], 9), ([3, 2, 1], 12)):
        assert send(browser, assignment, ranks=ranks, seconds=seconds).status_code == 200
    assert "C &gt; B &gt; A" in browser.get("/sent").text
    assert len(project.store.all_submissions(superseded=True)) == 2
    assert send(browser, begin(browser), ranks=[3, 2, 1]).status_code == 200  # another task, the same words
    assert len(project.store.all_submissions()) == 2


def test_sent_tasks_are_listed_and_can_be_corrected(project):
    browser = project.invite("ann")
    first = begin(browser)
    send(browser, first, ranks=[1, 2, 2], comment="<b>why</b>")
    page = browser.get("/sent").text
    assert "A &gt; B = C" in page
    assert "&lt;b&gt;why&lt;/b&gt;" in page
    again = browser.post("/api/reopen", json={}).json()["assignment"]
    before = again["previous"]
    assert (again["task"], before["ranks"], before["comment"]) == (first["task"], [1, 2, 2], "<b>why</b>")
    assert shown_texts(again) == shown_texts(first)
    send(browser, again, ranks=[3, 2, 1], key="another-key")
    assert "C &gt; B &gt; A" in browser.get("/sent").text
    assert len(project.store.all_submissions(superseded=True)) == 2


def test_skipping_brings_the_next_task(project):
    browser = project.invite("ann")
    first = begin(browser)
    following = browser.post("/api/skip", json={"assignment": first["id"], "reason": "unclear"}).json()
    assert following["assignment"]["task"] != first["task"]
    assert [skip.reason for skip in project.store.skips()] == ["unclear"]


def test_when_all_is_done_there_is_nothing_left(tmp_path):
    project = Project(tmp_path, task())
    browser = project.invite("ann")
    answer = send(browser, begin(browser), ranks=[1, 1, 1]).json()
    assert answer["assignment"] is None
    assert answer["progress"]["remaining"] == 0
    assert browser.get("/label").status_code == 200


def test_two_labellers_do_not_get_the_same_task(project):
    tasks = {begin(project.invite(name))["task"] for name in ("ann", "bob", "eve")}
    assert len(tasks) == 3


@pytest.mark.parametrize(
    "judgement",
    [
        {},
        {"ranks": [1, 2]},
        {"ranks": [1, 2, "3"]},
        {"ranks": [1, 2, True]},
        {"ranks": "123"},
        {"ranks": [1, 2, 3], "scalar": [1, 2, 3]},
        {"ranks": [1, 2, 3], "flags": {"harmful": [True, False, False]}},
        {"ranks": [1, 2, 3], "flags": ["x"]},
        {"ranks": [1, 2, 3], "step": 3},
        {"ranks": [1, 2, 3], "seconds": "long"},
        {"ranks": [1, 2, 3], "comment": ["x"]},
        {"ranks": [1, 2, 3], "key": ""},
        {"ranks": [1, 2, 3], "page": 1},
        {"ranks": [1, 2, 3], "page": "9" * 41},
        {"ranks": [1, 2, 3], "assignment": "other"},
    ],
)
def test_what_does_not_fit_is_refused_and_nothing_is_stored(project, judgement):
    browser = project.invite("ann")
    assert send(browser, begin(browser), **judgement).status_code in (400, 409)
    assert project.store.all_submissions() == []


def test_nobody_sends_for_somebody_else(project):
    mine = begin(project.invite("ann"))
    assert send(project.invite("eve"), mine, ranks=[1, 2, 3]).status_code == 409
    assert project.store.all_submissions() == []


def test_a_revoked_link_ends_at_once(project):
    browser = project.invite("ann")
    assignment = begin(browser)
    project.store.revoke("ann")
    assert send(browser, assignment, ranks=[1, 2, 3]).status_code == 403
    assert browser.get("/", headers=HTML).status_code == 403
    assert "Prompt" not in browser.get("/", headers=HTML).text


def test_another_projects_token_opens_nothing(project, tmp_path):
    (tmp_path / "other").mkdir()
    other = Project(tmp_path / "other", task("Secret prompt"))
    stranger = other.browser(project.store.invite("ann"))
    for path in ("/", "/label", "/sent", "/lead", "/api/next"):
        answer = stranger.get(path)
        assert (answer.status_code, "Secret" in answer.text) == (403, False)


LEADS_OWN = ["/lead", "/lead/disagreements", "/lead/export?form=rankings", "/label?adjudicate=x"]


@pytest.mark.parametrize("path", LEADS_OWN)
def test_labellers_see_nothing_of_the_leads_pages(project, path):
    project.store.invite("boss", Role.LEAD)
    browser = project.invite("ann")
    answer = browser.get(path, headers=HTML)
    assert (answer.status_code, "boss" in answer.text) == (403, False)


@pytest.mark.parametrize("act", ["invite", "revoke", "adjudicate"])
def test_labellers_do_nothing_of_the_leads(project, act):
    answer = project.invite("ann").post(f"/api/lead/{act}", json={"name": "ann", "task": "x", "ranks": [1, 2, 3]})
    assert answer.status_code == 403
    assert [person.revoked for person in project.store.people()] == [None]


def test_a_lead_invites_and_revokes(project):
    lead = project.invite("boss", Role.LEAD)
    link = lead.post("/api/lead/invite", json={"name": "zoë"}).json()["link"]
    assert link.startswith("http://localhost:8300/l/")
    guest = project.browser("")
    guest.cookies.clear()
    assert guest.get(link).status_code == 200
    assert guest.get("/label").status_code == 200
    assert lead.post("/api/lead/invite", json={"name": "zoë"}).status_code == 409
    assert lead.post("/api/lead/revoke", json={"name": "zoë"}).status_code == 200
    assert guest.get("/label").status_code == 403
    assert lead.post("/api/lead/revoke", json={"name": "boss"}).status_code == 409


def test_a_lead_sees_progress_agreement_and_disagreements(tmp_path):
    project = Project(tmp_path, task("<script>P</script>"), overlap=2)
    for name, key in (("ann", 1), ("bob", -1)):
        browser = project.invite(name)
        assignment = begin(browser)
        order = sorted(shown_texts(assignment))[::key]
        send(browser, assignment, ranks=[order.index(text) + 1 for text in shown_texts(assignment)], key=name * 4)
    lead = project.invite("boss", Role.LEAD)
    assert lead.get("/", follow_redirects=False).headers["location"] == "/lead"
    page = lead.get("/lead").text
    assert "2 / 2" in page and "1 of 1 tasks" in page and "ann" in page
    project.store.record(task("Imported"), "import", Judgement(ranks=(1, 2, 3)), "key-of-import")
    ends = re.findall('data-revoke="(.*?)"', lead.get("/lead").text)
    assert ends == ["ann", "bob"]  # who has a link, and no lead
    differing = lead.get("/lead/disagreements").text
    assert "<script>P" not in differing and "0 % of verdicts alike" in differing
    assert "secret-model" not in differing
    assert "secret-model" in lead.get("/lead/disagreements?models").text
    assert '<div class="scroll" tabindex="0" role="region"' in differing  # a wide table scrolls by keyboard too
    assert "<h2>" in differing and "<h3" not in differing.split("</h1>")[1].split("<h2>")[0]  # no level is left out
    own = begin(lead, f"/label?adjudicate={project.store.tasks()[0].id}")
    assert shown_texts(own) == ["one", "two", "three"]
    decided = lead.post("/api/lead/adjudicate", json={"task": own["task"], "ranks": [2, 1, 2], "comment": ""})
    assert decided.status_code == 200
    assert "Decided: B &gt; A = C (boss)" in lead.get("/lead/disagreements").text


def test_a_lead_gets_the_rows_and_reads_what_a_format_would_lose(project):
    ann, lead = project.invite("ann"), project.invite("boss", Role.LEAD)
    assert "have ties" not in lead.get("/lead").text
    send(ann, begin(ann), ranks=[1, 2, 2])
    answer = lead.get("/lead/export?form=rankings")
    (row,) = map(json.loads, answer.text.splitlines())
    assert (sorted(row["ranks"]), row["labeller"]) == ([1, 2, 2], "ann")
    assert answer.headers["content-disposition"] == 'attachment; filename="rankings.jsonl"'
    assert "x-warning" in lead.get("/lead/export?form=potato").headers
    assert lead.get("/lead/export?form=nothing").status_code == 409
    lines = lead.get("/lead").text.split("<li>")
    lossy = [re.search(r"form=([\w-]+)", line)[1] for line in lines if "1 of 1 rankings have ties" in line]
    assert lossy == ["label-studio", "argilla", "potato"]


def test_a_lead_reads_why_tasks_were_skipped_and_nothing_hides_in_it(tmp_path):
    project = Project(tmp_path, task("Say \u200bthis"), task("Say that"))
    ann, lead = project.invite("ann"), project.invite("boss", Role.LEAD)
    assert "Skipped tasks" not in lead.get("/lead").text
    ann.post("/api/skip", json={"assignment": begin(ann)["id"], "reason": "<b>un\u202eclear"})
    page = lead.get("/lead").text
    assert "Skipped tasks" in page and "&lt;b&gt;un<span class=hidden-char>U+202E</span>clear" in page
    assert "Say <span class=hidden-char>U+200B</span>this" in page
    send(ann, begin(ann), ranks=[1, 2, 3], comment="a\u200eb")
    assert "a<span class=hidden-char>U+200E</span>b" in ann.get("/sent").text


@kills("feedback/records.py", old="return 9 - step if", new="return step if", why="the other one wins")
def test_the_eight_steps_turn_with_the_order():
    assert [mirrored(step, (1, 0)) for step in (0, 1, 8, 4)] == [0, 8, 1, 5]
    assert [mirrored(step, (0, 1)) for step in (0, 1, 8)] == [0, 1, 8]


def test_an_eight_step_judgement_favours_the_answer_that_was_meant(tmp_path):
    project = Project(tmp_path, task(answers=("good", "bad")), mode="eight_step", overlap=6)
    for name in "abcdef":
        browser = project.invite(name)
        assignment = begin(browser)
        step = 2 if shown_texts(assignment)[0] == "good" else 7
        assert send(browser, assignment, step=step, key=name * 8).status_code == 200
    assert {(one.judgement.ranks, one.judgement.step) for one in project.store.all_submissions()} == {((1, 2), 2)}
    assert len({one.order for one in project.store.all_submissions()}) == 2


def test_no_step_beside_none_is_acceptable(tmp_path):
    project = Project(tmp_path, task(answers=("good", "bad")), mode="eight_step")
    browser = project.invite("ann")
    assignment = begin(browser)
    refused = send(browser, assignment, step=2, none=True)
    assert (refused.status_code, "not both" in refused.json()["error"]) == (409, True)
    assert send(browser, assignment, none=True).status_code == 200


def test_the_version_of_the_page_that_was_served_is_kept(project):
    browser = project.invite("ann")
    assert f'data-version="{plaudit.__version__}"' in browser.get("/label").text
    send(browser, begin(browser), ranks=[1, 2, 3], page="0.0.9")  # opened before the server was updated
    assert [one.judgement.page_version for one in project.store.all_submissions()] == ["0.0.9"]


def test_scalars_and_flags_go_along(tmp_path):
    project = Project(tmp_path, task(answers=("a", "b")), scalar=True, flags=("harmful",))
    browser = project.invite("ann")
    assignment = begin(browser)
    is_a = [text == "a" for text in shown_texts(assignment)]
    send(
        browser,
        assignment,
        ranks=[1, 1],
        scalar=[7 if a else None for a in is_a],
        flags={"harmful": [not a for a in is_a]},
    )
    (one,) = project.store.all_submissions()
    assert (one.judgement.scalar, dict(one.judgement.flags)) == ((7, None), {"harmful": (False, True)})


def test_conversations_are_turns(tmp_path):
    turns = (Message(role="system", content="Be kind."), Message(role="user", content="**Hi**", extra={"name": "<i>"}))
    project = Project(tmp_path, task(Prompt(form=Form.CHAT, turns=turns)))
    prompt = begin(project.invite("ann"))["prompt"]
    assert [turn["role"] for turn in prompt] == ["system", "user: name", "user"]
    assert "&lt;i&gt;" in prompt[1]["html"] and "<strong>Hi</strong>" in prompt[2]["html"]


def test_a_page_in_chinese_stays_in_chinese(project):
    browser = project.invite("ann")
    assert "排序回答" in browser.get("/label?lang=zh").text
    assert "排序回答" in browser.get("/label").text
    assert "Rank answers" in browser.get("/label?lang=en").text


def test_what_the_page_starts_with_cannot_end_its_script(tmp_path):
    project = Project(tmp_path, task("</script><script>alert(1)</script>", answers=("</script>", "<!--")))
    page = project.invite("ann").get("/label").text
    assert page.count("<script") == 4
    assert "<!--" not in page.split("</head>")[1]


def limit(project, pages: int | None) -> None:
    """SQLite's own word for a disk that takes so many pages more and then none; None: as much as one likes."""

    def connected(connection, _record):
        used = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count={2**30 if pages is None else used + pages}")

    project.store.close()
    sa.event.listen(project.store._db.engine, "connect", connected)


def test_a_full_disk_is_said_at_the_page_and_nothing_is_half_written(project, capfd):
    browser = project.invite("ann")
    first = begin(browser)
    limit(project, 0)
    long = {"ranks": [1, 2, 3], "comment": "x" * 20_000}
    answer = send(browser, first, **long)
    assert (answer.status_code, answer.json()["reason"]) == (507, "disk_full")
    assert "The disk is full" in answer.json()["error"] and "p.db" not in answer.text
    assert "p.db: database or disk is full" in capfd.readouterr().err  # the one who runs the server reads which
    assert project.store.all_submissions(superseded=True) == []
    page = browser.get("/label", headers=HTML)  # the lease is renewed in place: that much there is
    assert page.status_code == 200 and first["id"] in page.text
    limit(project, None)
    assert send(browser, first, **long).status_code == 200
    assert [len(one.judgement.comment) for one in project.store.all_submissions(superseded=True)] == [20_000]


def test_when_the_store_is_away_the_page_says_so_without_its_name(project, monkeypatch):
    browser = project.invite("ann")
    assignment = begin(browser)

    def away(*_):
        raise StoreUnavailable("postgresql://boss@secret-host/p: connection refused")

    monkeypatch.setattr(Store, "turn", away)
    answer = send(browser, assignment, ranks=[1, 2, 3])
    assert (answer.status_code, answer.json()["reason"], "secret-host" in answer.text) == (503, "store_away", False)


def test_a_send_and_the_next_task_are_one_transaction(project):
    """A commit waits for the disk, a statement for the data base: both were most of what 200 labellers waited for."""
    browser = project.invite("ann")
    assignment = begin(browser)
    statements, commits = [], []
    sa.event.listen(project.store._db.engine, "before_cursor_execute", lambda *args: statements.append(args[2]))
    sa.event.listen(project.store._db.engine, "commit", commits.append)
    assert send(browser, assignment, ranks=[1, 2, 3]).status_code == 200
    assert len(commits) == 2  # whose link it is, and all the rest
    assert sum("BEGIN IMMEDIATE" in statement for statement in statements) == 1
    assert len(statements) <= 17


def test_tokens_are_in_no_log(project, caplog, capfd):
    token = project.store.invite("ann")
    with caplog.at_level(logging.DEBUG):
        browser = project.browser(token)
        browser.get(f"/l/{token}")
        browser.get("/l/wrong-token-of-somebody")
        browser.post("/api/submit", content=b"{")
        send(browser, {"id": "x"}, ranks=[1])
    ours = [record.getMessage() for record in caplog.records if not record.name.startswith("httpx")]
    text = "".join(ours) + "".join(capfd.readouterr())
    assert token not in text and "wrong-token" not in text


def test_a_mistake_of_the_user_is_no_crash(project):
    assert project.invite("ann").post("/api/reopen", json={"task": "nothing"}).status_code == 409
    assert project.invite("bob").post("/api/reopen", json={}).status_code == 409
    with pytest.raises(UserError):
        project.store.task("nothing")
