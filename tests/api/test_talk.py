"""A conversation without models: who is A, what is remembered, what a vote leaves, what the terminal shows."""

from collections import Counter

import pytest

from plaudit.api.talk import Reply, Talk, Vote, open_store
from plaudit.api.terminal import converse
from plaudit.errors import UserError
from plaudit.feedback.options import ProjectConfig
from plaudit.feedback.store import Store
from tests.kills import kills


class Parrot:
    """Says its name and what it heard."""

    def __init__(self, name: str, extra: str = "", **facts) -> None:
        self.sampling = {"temperature": 1.0}
        self.name, self.extra, self.facts, self.turns = name, extra, facts, []

    def answer(self, turns, *, turn):
        self.turns = [(each.role, each.content) for each in turns]
        text = f"{self.name} heard {turns[-1].content}{self.extra}"
        yield Reply(text=text[:4], tokens=1)
        yield Reply(text=text, finish="eos", tokens=9, **self.facts)


def two(**options) -> Talk:
    return Talk(speakers=[Parrot("one"), Parrot("two")], **options)


def test_one_model_hears_what_was_said_before():
    talk = Talk(speakers=[Parrot("me")], system="be kind")
    assert list(talk.say("hello")) == [0, 0]
    assert talk.names == ["me"] and talk.replies[0].text == "me heard hello"
    list(talk.say("again"))
    assert talk.speakers[0].turns == [
        ("system", "be kind"), ("user", "hello"), ("assistant", "me heard hello"), ("user", "again"),
    ]  # fmt: skip
    talk.reset()
    list(talk.say("new"))
    assert talk.speakers[0].turns == [("system", "be kind"), ("user", "new")]
    with pytest.raises(UserError, match="empty"):
        list(talk.say(" "))


@kills("api/talk.py", old="> 1 and self.verdict is None", new="> 2", why="not blind")
def test_names_are_known_after_the_vote_only():
    talk = two()
    list(talk.say("x"))
    assert talk.names == []
    talk.vote(Vote.TIE, None)
    assert sorted(talk.names) == ["one", "two"]
    assert [reply.text.split()[0] for reply in talk.replies] == talk.names
    with pytest.raises(UserError, match="voted on already"):
        talk.vote(Vote.A, None)
    list(talk.say("y"))
    assert talk.names == []


def test_each_is_a_about_as_often_and_sides_come_in_turns():
    talk, firsts = two(seed=0), Counter()
    for index in range(60):
        assert list(talk.say(str(index), in_turns=True)) == [0, 1, 0, 1]
        firsts[talk.order[0]] += 1
        talk.vote(Vote.A, None)
    assert 15 < firsts[0] < 45


@kills(
    "api/talk.py",
    old="secrets.token_hex(8) if self.seed is None",
    new="'0' if self.seed is None",
    why="who is A is known",
)
def test_who_is_a_is_drawn_anew_in_every_session_unless_a_seed_is_given():
    def orders(**options) -> list[list[int]]:
        talk = two(**options)
        return [list(talk.order) for index in range(64) if list(talk.say(str(index)))]

    assert orders() != orders() and orders(seed=1) == orders(seed=1)


@kills("api/talk.py", old="Vote.A: (1, 2)", new="Vote.A: (2, 1)", why="every vote would say the opposite")
@kills("api/talk.py", old="1 if self.verdict is Vote.B else 0", new="0", why="it would go on with the worse answer")
@pytest.mark.parametrize(
    ("verdict", "ranks", "goes_on"),
    [(Vote.A, (1, 2), 0), (Vote.B, (2, 1), 1), (Vote.TIE, (1, 1), 0), (Vote.BOTH_BAD, (), 0)],
)
def test_a_vote_is_a_judgement_of_what_was_shown(tmp_path, verdict, ranks, goes_on):
    talk, store = two(seed=3), open_store(str(tmp_path / "votes.db"))
    list(talk.say("hello"))
    texts = [reply.text for reply in talk.replies]
    talk.vote(verdict, store)
    (vote,), (task,) = store.all_submissions(), store.tasks()
    assert vote.judgement.ranks == ranks
    assert vote.judgement.none_acceptable == (verdict is Vote.BOTH_BAD)
    assert [answer.text for answer in task.answers] == texts
    assert [answer.model for answer in task.answers] == talk.names
    assert task.prompt.text == "hello" and task.answers[0].sampling == {"temperature": 1.0}
    list(talk.say("more"))
    assert talk.turns[1].content == texts[goes_on]
    talk.vote(Vote.A, store)
    assert [turn.role for turn in store.tasks()[1].prompt.turns] == ["user", "assistant", "user"]
    assert len(open_store(str(tmp_path / "votes.db")).all_submissions()) == 2


def test_there_is_nothing_to_vote_on():
    talk = two()
    with pytest.raises(UserError, match="no two answers"):
        talk.vote(Vote.A, None)
    steps = talk.say("x")
    next(steps)
    with pytest.raises(UserError, match="no two answers"):
        talk.vote(Vote.A, None)
    with pytest.raises(UserError, match="being written"):
        list(talk.say("y"))
    talk.stop()
    assert [reply.finish for reply in talk.replies] == ["stopped", "stopped"]


def test_a_project_with_steps_takes_no_votes(tmp_path):
    Store.create(str(tmp_path / "p.db"), ProjectConfig(mode="eight_step"))
    with pytest.raises(UserError, match="eight steps"):
        open_store(str(tmp_path / "p.db"))


def typed(*lines):
    left = list(lines)

    def read(_: str) -> str:
        if not left:
            raise EOFError
        return left.pop(0)

    return read


def test_the_terminal_shows_what_is_written_once_and_obeys_no_model():
    shown: list[str] = []
    talk = Talk(speakers=[Parrot("me", "\x1b[2J\u202e", score=1.234, kl=0.5)])
    converse(talk, None, read=typed("", "hi", "/reset", "/quit", "never"), write=shown.append)
    text = "".join(shown)
    assert text.count("me heard hi") == 1
    assert "score 1.23" in text and "KL 0.5 nats" in text
    assert "\x1b" not in text and "\u202e" not in text and "␛[2J" in text
    assert "forgotten" in text and not talk.turns


def test_two_in_the_terminal(tmp_path):
    shown: list[str] = []
    store = open_store(str(tmp_path / "v.db"))
    converse(two(), store, read=typed("hi", "what", "x", "again", "", "more", "B"), write=shown.append)
    text = "".join(shown)
    assert text.count("A was one, B was two") + text.count("A was two, B was one") == 2
    shown.clear()
    measured = Talk(speakers=[Parrot("one", score=1.5, kl=0.0), Parrot("two", score=2.5, kl=3.0)])
    converse(measured, None, read=typed("hi", "a"), write=shown.append)
    before, after = "".join(shown).split("A was ")
    assert "KL" not in before and "score" not in before and "[score 1.5, KL 0 nats]" in after
    assert [vote.judgement.ranks for vote in store.all_submissions()] == [(), (2, 1)]


def test_a_vote_on_swapped_sides_counts_for_the_answer_that_was_meant(tmp_path):
    """Another session, the models named the other way round: the same task, whose answers stand as they came first."""
    store, one = open_store(str(tmp_path / "v.db")), Parrot("one")
    for speakers in ([one, Parrot("two")], [Parrot("two"), one]):
        talk = Talk(speakers=speakers, seed=1)
        list(talk.say("hello"))
        talk.vote(Vote.A if talk.speakers[talk.order[0]] is one else Vote.B, store, f"voter {speakers.index(one)}")
    (task,) = store.tasks()
    best = {task.answers[vote.judgement.ranks.index(1)].model for vote in store.all_submissions()}
    assert best == {"one"} and len(store.all_submissions()) == 2
