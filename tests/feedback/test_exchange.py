"""Judgements as data rows and as other tools' files; labels and tasks from files; a project as a data path."""

import json

import pytest

from plaudit.data.options import DataConfig
from plaudit.data.sources import load
from plaudit.errors import UserError
from plaudit.feedback.exchange import export, import_labels, merged_ranks, write_export
from plaudit.feedback.options import ProjectConfig
from plaudit.feedback.records import Candidate, Judgement, Role, Task
from plaudit.feedback.sources import read_tasks
from plaudit.feedback.store import Store
from plaudit.records.text import Form, Kind, Message, Prompt
from tests.data.files import write
from tests.feedback.people import judge, person, project, task
from tests.kills import kills

CHAT = Task.of(
    Prompt(form=Form.CHAT, turns=(Message(role="system", content="s"), Message(role="user", content="q"))),
    [Candidate(text=text, model=model) for text, model in (("x\0", "m"), ("y", "n"), ("z", "m"))],
)


def judged(tmp_path, **options) -> Store:
    """Two people, three tasks, one of them a conversation, ties."""
    store = project(tmp_path, tasks=2, overlap=2, **options)
    store.add_tasks([CHAT])
    ann, bob = person(store, "ann"), person(store, "bob")
    for who, ranks in ((ann, ((1, 2, 3), (1, 1, 2), (3, 1, 1))), (bob, ((1, 3, 2), (2, 1, 2), (3, 1, 2)))):
        for each in ranks:
            judge(store, who, *each)
    return store


def test_rankings_are_rows_that_reward_reads(tmp_path):
    store = judged(tmp_path)
    file = tmp_path / "rankings.jsonl"
    assert write_export(store, file, "rankings").warnings == ()
    rows = load(DataConfig(path=str(file)), Kind.RANKING).rows
    assert [(row.ranks, row.columns["labeller"]) for row in rows] == [
        ((1, 2, 3), "ann"), ((1, 1, 3), "ann"), ((3, 1, 1), "ann"),
        ((1, 3, 2), "bob"), ((2, 1, 2), "bob"), ((3, 1, 2), "bob"),
    ]  # fmt: skip
    assert rows[2].prompt == CHAT.prompt
    assert rows[2].responses == ("x\ufffd", "y", "z")
    assert rows[2].columns["models"] == ["m", "n", "m"]
    through = load(DataConfig(path=f"label://{tmp_path / 'project.db'}"), Kind.RANKING)
    assert [row.ranks for row in through.rows] == [row.ranks for row in rows]


def test_a_project_is_a_data_path_whose_fingerprint_follows_it(tmp_path):
    store = project(tmp_path)
    path = f"label://{tmp_path / 'project.db'}"
    with pytest.raises(UserError, match="nobody has judged anything yet"):
        load(DataConfig(path=path), Kind.RANKING)
    ann = person(store, "ann")
    judge(store, ann, 1, 2, 3)
    one = load(DataConfig(path=path), Kind.RANKING).fingerprint
    assert load(DataConfig(path=path), Kind.RANKING).fingerprint == one
    judge(store, ann, 1, 2, 3)
    assert load(DataConfig(path=path), Kind.RANKING).fingerprint != one
    with pytest.raises(UserError, match="no labelling project"):
        load(DataConfig(path=f"label://{tmp_path / 'other.db'}"), Kind.RANKING)


@kills("feedback/exchange.py", old="balance[i] += verdict", new="balance[i] -= verdict", why="losers win")
def test_votes_are_put_together_and_adjudication_decides(tmp_path):
    assert merged_ranks([(1, 2, 3), (1, 3, 2)]) == (1, 2, 2)
    assert merged_ranks([(1, 1, 3), (2, 1, 3), (3, 1, 1)]) == (2, 1, 3)
    store = judged(tmp_path)
    lead = person(store, "lead", Role.LEAD)
    store.adjudicate(CHAT.id, (1, 2, 3), lead)
    write_export(store, tmp_path / "m.jsonl", "merged")
    rows = load(DataConfig(path=str(tmp_path / "m.jsonl")), Kind.RANKING).rows
    assert [row.ranks for row in rows] == [(1, 2, 2), (2, 1, 3), (1, 2, 3)]
    assert rows[0].columns["votes"] == [[1, 2, 3], [1, 3, 2]]
    assert rows[2].columns["adjudicated_by"] == "lead"


def test_numbers_are_ratings_with_their_labeller(tmp_path):
    store = project(tmp_path, tasks=1, scalar=True)
    ann = person(store, "ann")
    assignment = store.turn(ann).assignment
    store.submit(assignment.id, ann, Judgement(ranks=(1, 2, 2), scalar=(7, None, 2)), "k")
    rows = load(DataConfig(path=f"label://{tmp_path / 'project.db'}?ratings"), Kind.RATING).rows
    assert [(row.response[-6:], row.scores["score"], row.labeller) for row in rows] == [
        ("a to 0", 7, "ann"), ("c to 0", 2, "ann"),
    ]  # fmt: skip


def test_gold_and_what_nobody_ranked_stay_out(tmp_path):
    store = project(tmp_path, tasks=1, gold_share=1.0)
    store.add_tasks([task(9, gold=(1, 2, 3))])
    ann = person(store, "ann")
    judge(store, ann, 1, 2, 3)  # gold comes first
    assignment = store.turn(ann).assignment
    store.submit(assignment.id, ann, Judgement(ranks=(), none_acceptable=True), "k")
    assert len(store.all_submissions()) == 2
    assert export(store, "rankings").rows == ()


@pytest.mark.parametrize("form", ["rankings", "label-studio", "argilla", "potato"])
def test_other_tools_files_go_out_and_come_back(tmp_path, form):
    store = judged(tmp_path)
    file = tmp_path / ("out.json" if form == "label-studio" else "out.jsonl")
    warnings = write_export(store, file, form).warnings
    assert ("3 of 6 rankings have ties" in " ".join(warnings)) == (form != "rankings")
    copy = Store.create(str(tmp_path / "copy.db"), ProjectConfig(overlap=2))
    assert import_labels(copy, DataConfig(path=str(file))) == (3, 6)
    assert import_labels(copy, DataConfig(path=str(file))) == (0, 0)

    def by_text(store: Store) -> dict:
        tasks = {each.id: each for each in store.tasks()}
        return {
            (one.person, answer.text.replace("\0", "\ufffd"), tasks[one.task_id].prompt.text): rank
            for one in store.all_submissions()
            for answer, rank in zip(tasks[one.task_id].answers, one.judgement.ranks, strict=True)
        }

    before, after = by_text(store), by_text(copy)
    assert before.keys() == after.keys()
    if form == "label-studio":  # what it can't hold is broken in some order; what it can, stays
        assert all(sorted(ranks) == [1, 2, 3] for ranks in [one.judgement.ranks for one in copy.all_submissions()])
        assert after["bob", "answer a to 0", "question 0"] == 1
    else:
        assert after == before


def test_a_bad_potato_row_says_why(tmp_path):
    row = {"prompt": "q", "responses": ["a", "b"], "label_annotations": {"r": {"rank_order": "A,C"}}}
    with pytest.raises(UserError, match="`rank_order` must name A, B once each"):
        load(DataConfig(path=write(tmp_path, [row])), Kind.RANKING)


# ------------------------------------------------------------------------------------------------ tasks from files


def test_tasks_come_from_candidates_rankings_and_comparisons(tmp_path):
    answers = [{"text": "a", "model": "m", "sampling": {"seed": 1}}, {"text": "a", "model": "m"}, {"text": "b"}]
    (one,) = read_tasks(DataConfig(path=write(tmp_path, [{"prompt": "q", "responses": answers}])))
    assert one.answers == (Candidate(text="a", model="m", sampling={"seed": 1}), Candidate(text="b"))
    ranked = {"prompt": "q", "responses": ["b", "a", "b"], "ranks": [1, 2, 3]}
    path = write(tmp_path, [ranked, {"prompt": "p", "responses": ["a", "a"], "ranks": [1, 2]}])
    (two,) = read_tasks(DataConfig(path=path))
    assert (two.id, two.gold_ranks) == (one.id, None)
    assert read_tasks(DataConfig(path=path), gold=True)[0].gold_ranks == (1, 2)
    (three,) = read_tasks(DataConfig(path=write(tmp_path, [{"prompt": "q", "chosen": "a", "rejected": "b"}])))
    assert three.id == one.id
    with pytest.raises(UserError, match="let a model write them first"):
        read_tasks(DataConfig(path=write(tmp_path, [{"prompt": "q"}])))


def test_samples_of_a_comparison_are_pairs_with_hidden_models(tmp_path):
    sample = {"policy": "ppo", "against": "sft", "judge": "rm", "prompt": "q", "before": "x", "after": "y"}
    rows = [{**sample, "score_before": 0.0, "score_after": 1.0}, {**sample, "after": "x"}]
    (pair,) = read_tasks(DataConfig(path=write(tmp_path, rows)))
    assert [(answer.text, answer.model) for answer in pair.answers] == [("x", "sft"), ("y", "ppo")]
    assert pair.answers[1].sampling == {"judge": "rm", "score": 1.0}
    assert json.dumps(pair.prompt.to_columns()) == '{"prompt": "q"}'
