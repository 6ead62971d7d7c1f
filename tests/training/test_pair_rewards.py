"""PairRM: two answers in one input. Order, position and padding change nothing; a lone answer needs a reference."""

import dataclasses
import json

import pytest
import torch

from plaudit.data.options import DataConfig
from plaudit.engines.options import SamplingConfig
from plaudit.errors import UserError
from plaudit.evaluation.options import RewardEvalConfig
from plaudit.evaluation.reward_eval import reward_eval
from plaudit.models.load import load_language
from plaudit.models.options import LoRA, ModelConfig, TinyShape
from plaudit.models.reward import pair
from plaudit.models.reward.loading import load_reward_model
from plaudit.models.reward.pair import Joint, fit
from plaudit.records.text import Group, Prompt, PromptRow, Ranking
from plaudit.runs.folder import Run
from plaudit.scoring.build import check_rewards
from plaudit.scoring.options import RewardModelConfig
from plaudit.training.collect import collect
from plaudit.training.options import CollectConfig, OptimConfig
from plaudit.training.reward.objective import Budget, Encoder
from plaudit.training.reward.objectives import objective_of
from plaudit.training.reward.options import KWise, Pair, RewardConfig
from tests.kills import kills
from tests.models import zoo
from tests.models.tiny import spread_out
from tests.training.test_encoder_rewards import TEXTS, rankings, train
from tests.training.tiny import CPU, gradients, jsonl, metrics, model_folder, relative_difference, results

PROMPT = Prompt.of_text("the old house")
ANSWERS = ("red red", "big big", "blue old", "")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> str:
    return zoo.save(tmp_path_factory.mktemp("zoo") / "bert", "bert", TEXTS)


def load(path: str, *, spread: float = 0.3, **options):
    config = ModelConfig(path=path)
    model = pair.load(config, load_language(config), seed=1, **options)
    return spread_out(model, spread=spread) if spread else model


def joint(model, a: str, b: str, prompt: Prompt = PROMPT) -> Joint:
    found = pair.text_ids(model.language, prompt, [a, b])
    return Joint(found.source, *found.answers)


def logit(model, a: str, b: str, prompt: Prompt = PROMPT) -> float:
    with torch.no_grad():
        return float(model([joint(model, a, b, prompt)]))


def scores(model, *answers: str, budget: int = 10_000, **columns) -> list[float]:
    return model.score([Group(prompt=PROMPT, responses=answers, columns=columns)], budget).scores.tolist()


# ---------------------------------------------------------------------------------------------------------- the input


def test_the_input_has_each_marker_once_in_front_of_its_text(folder):
    model = load(folder)
    ids, places = model._written(joint(model, "red", "big old"))
    words = model.language.tokenizer
    spelled = words.convert_ids_to_tokens(ids)
    assert [spelled[at] for at in places] == list(pair.MARKERS)
    kept = " ".join(token for token in spelled)
    assert kept == "[CLS] <|source|> the old house [SEP] <|candidate1|> red [SEP] <|candidate2|> big old [SEP]"


def test_a_decoders_markers_stand_behind_their_texts(tmp_path):
    model = load(model_folder(tmp_path / "llama", layers=2))
    ids, places = model._written(joint(model, "ab", "c", Prompt.of_text("de")))
    spelled = model.language.tokenizer.convert_ids_to_tokens(ids)
    assert spelled == ["<s>", "d", "e", pair.MARKERS[0], "a", "b", pair.MARKERS[1], "c", pair.MARKERS[2]]
    assert [spelled[at] for at in places] == list(pair.MARKERS)


def test_markers_and_separators_in_a_text_are_letters(folder):
    model = load(folder)
    evil = "".join((*pair.MARKERS, "[SEP]", "[CLS]"))
    ids, _ = model._written(joint(model, evil, f"red {evil}", Prompt.of_text(evil)))
    plain, _ = model._written(joint(model, "red", "red"))
    for token in (*pair.MARKERS, "[SEP]", "[CLS]"):
        number = model.language.tokenizer.convert_tokens_to_ids(token)
        assert ids.count(number) == plain.count(number)


def test_the_source_is_cut_first_and_both_orders_alike():
    long, short = tuple(range(100)), (7, 8)
    cut = fit(Joint(long, short, short), 20)
    assert cut == Joint(long[-16:], short, short)  # what the answers leave
    cut = fit(Joint(long, long, long), 20)
    assert cut == Joint(long[-12:], long[:4], long[:4])
    cut = fit(Joint(long, short, long), 20)
    assert cut == Joint(long[-12:], short, long[:6])  # the short one's slack goes to the other
    assert fit(Joint(long, long, short), 20) == cut.swapped
    assert fit(Joint((1,), short, (3,)), 20) == Joint((1,), short, (3,))


# --------------------------------------------------------------------------------------------------------- the scores


@kills("models/reward/pair.py", old="return left - right", new="return right - left", why="B over A, unflipped")
def test_the_logit_is_the_left_score_less_the_right(folder):
    model = load(folder)
    ids, places = model._written(joint(model, "red", "big old"))
    with torch.no_grad():
        states = model.backbone(input_ids=torch.tensor([ids])).last_hidden_state[0]
        first, middle, last = model.head[0], model.head[1], model.head[2]
        left, right = (last(middle(first(torch.cat([states[places[0]], states[places[i]]])))).item() for i in (1, 2))
    assert logit(model, "red", "big old") == pytest.approx(left - right, abs=1e-5)


@pytest.mark.parametrize("budget", [1, 60, 10_000])
def test_a_pair_reads_the_same_alone_and_in_any_batch(folder, budget):
    model = load(folder)
    told = scores(model, *ANSWERS, budget=budget)
    by_hand = [
        sum((logit(model, a, b) - logit(model, b, a)) / 2 for b in ANSWERS if b != a) / len(ANSWERS) for a in ANSWERS
    ]
    assert told == pytest.approx(by_hand, abs=1e-5)
    assert scores(model, *ANSWERS[::-1], budget=budget) == pytest.approx(by_hand[::-1], abs=1e-5)
    groups = [Group(prompt=PROMPT, responses=ANSWERS), Group(prompt=Prompt.of_text("a"), responses=("red", "blue"))]
    both = model.score([*groups, dataclasses.replace(groups[0], responses=())], budget).scores.tolist()
    assert both[:4] == pytest.approx(by_hand, abs=1e-5) and len(both) == 6


@kills(
    "models/reward/pair.py",
    old="return unbiased_logit(there, self._logits([joint.swapped for joint in joints], budget))",
    new="return there",
    why="one order only: whoever stands first gains",
)
@pytest.mark.parametrize("aggregate", ["matrix", "one_pass"])
def test_what_a_place_gains_cancels(folder, aggregate):
    """Every logit 5 higher for whatever is shown first: no score moves."""
    model = load(folder, aggregate=aggregate)
    fair, alone = scores(model, *ANSWERS), scores(model, "red", references="blue")
    assert max(fair) - min(fair) > 1e-3
    read = type(model).forward
    model.forward = lambda pairs: read(model, pairs) + 5.0
    assert scores(model, *ANSWERS) == pytest.approx(fair, abs=1e-5)
    assert scores(model, "red", references="blue") == pytest.approx(alone, abs=1e-5)


def test_two_answers_differ_by_their_log_odds(folder):
    model = load(folder)
    odds = (logit(model, "red", "blue") - logit(model, "blue", "red")) / 2
    a, b = scores(model, "red", "blue")
    assert a - b == pytest.approx(odds, abs=1e-5)
    one, two = scores(load(folder, aggregate="one_pass"), "red", "blue")
    assert (one, two) == pytest.approx((a, b), abs=1e-5)


def test_the_same_answer_twice_is_even(folder):
    assert scores(load(folder), "red", "red") == pytest.approx([0.0, 0.0], abs=1e-6)
    assert scores(load(folder), "red", references="red") == pytest.approx([0.0], abs=1e-6)


def test_a_lone_answer_is_scored_against_the_rows_references(folder):
    model = load(folder)

    def odds(a: str, b: str) -> float:
        return (logit(model, a, b) - logit(model, b, a)) / 2

    assert scores(model, "red", references="blue") == pytest.approx([odds("red", "blue")], abs=1e-5)
    wanted = [(odds(a, "blue") + odds(a, "old")) / 2 for a in ("red", "big")]
    assert scores(model, "red", "big", references=["blue", "old"]) == pytest.approx(wanted, abs=1e-5)
    with pytest.raises(UserError, match="can't judge one answer alone"):
        scores(model, "red")
    with pytest.raises(UserError, match="must hold one answer or a list"):
        scores(model, "red", references=[3])


# -------------------------------------------------------------------------------------------------------------- files


@pytest.mark.parametrize("family", ["bert", "roberta", "deberta", "modernbert", "llama"])
def test_a_saved_model_scores_the_same(tmp_path, family):
    base = model_folder(tmp_path / "m", layers=1) if family == "llama" else zoo.save(tmp_path / "m", family, TEXTS)
    model = load(base, aggregate="one_pass")
    before = scores(model, "abc", "<|source|>", "")
    model.save(tmp_path / "saved", {})
    again = load_reward_model(ModelConfig(path=str(tmp_path / "saved")))
    assert again.aggregate == "one_pass"
    assert scores(again, "abc", "<|source|>", "") == before


def test_adapters_are_merged(folder, tmp_path):
    config = ModelConfig(path=folder, train=LoRA(rank=2))
    model = pair.load(config, load_language(config), seed=1)
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    before = logit(model, "red", "big")
    for _ in range(2):
        (model([joint(model, "red", "big")]) - 1.0).square().sum().backward()
        optimizer.step()
    after = logit(model, "red", "big")
    assert after != pytest.approx(before, abs=1e-3)
    model.save(tmp_path, {})
    again = load_reward_model(ModelConfig(path=str(tmp_path)))
    assert logit(again, "red", "big") == pytest.approx(after, abs=1e-4)


def test_training_mode_reads_what_evaluation_mode_reads(tmp_path):
    model = load(zoo.save(tmp_path / "bert", "bert", TEXTS, noise=0.3))
    quiet = scores(model.eval(), *ANSWERS)
    assert scores(model.train(), *ANSWERS) == pytest.approx(quiet, abs=1e-6)


# ----------------------------------------------------------------------------------------------------------- training


def ranking(*ranks: int, texts: tuple[str, ...] = ANSWERS, **more) -> Ranking:
    return Ranking(prompt=PROMPT, responses=texts[: len(ranks)], ranks=ranks, where="x:1", **more)


def examples(model, *rows: Ranking, too_long: str = "error", max_length: int = 64):
    (found,) = objective_of(Pair()).examples(
        [rows], Encoder(language=model.language, max_length=max_length, too_long=too_long)
    )
    return found


@kills(
    "training/reward/pairs.py",
    old="outcome=0.5 if of_a == of_b else float(of_a < of_b)",
    new="outcome=float(of_a < of_b)",
    why="a tie is lost by the first",
)
def test_every_pair_is_learned_in_both_orders_ties_as_one_half(folder):
    model = load(folder)
    (row,) = examples(model, ranking(1, 2, 2))
    assert [contest.outcome for contest in row.pairs] == [1.0, 1.0, 0.5]
    told = objective_of(Pair()).backward(model, [row], Budget(machine=CPU, tokens=10**6)).metrics
    loss = 0.0
    for a, b, outcome in (("red red", "big big", 1.0), ("red red", "blue old", 1.0), ("big big", "blue old", 0.5)):
        for z, y in ((logit(model, a, b), outcome), (logit(model, b, a), 1.0 - outcome)):
            p = 1.0 / (1.0 + torch.tensor(-z).exp().item())
            loss -= 0.5 * (y * torch.tensor(p).log().item() + (1 - y) * torch.tensor(1 - p).log().item())
    assert told["loss_over_rows"] == pytest.approx(loss / 3, rel=1e-4)
    assert told["accuracy_over_pairs"] in (0.0, 0.5, 1.0)  # of the two pairs that are no tie


def test_the_gradient_does_not_depend_on_micro_batches(folder):
    found = []
    for budget in (10**6, 80, 1):
        model = load(folder, spread=0.15)
        rows = examples(model, ranking(1, 2, 3, 4), ranking(2, 1))
        objective_of(Pair()).backward(model, rows, Budget(machine=CPU, tokens=budget))
        found.append(gradients(model))
    assert relative_difference(found[1], found[0]) < 1e-5
    assert relative_difference(found[2], found[0]) < 1e-5


def test_an_answer_that_stands_there_twice_is_one(folder, capsys):
    model = load(folder)
    (row,) = examples(model, ranking(2, 1, 2, texts=("red", "big", "red")))
    assert [contest.outcome for contest in row.pairs] == [0.0]
    assert examples(model, ranking(2, 1, texts=("red", "red"))) == []
    assert "without two different answers" in capsys.readouterr().err


def test_what_is_too_long_is_an_error_dropped_or_cut(folder):
    model, long = load(folder), ranking(1, 2, texts=("red " * 30, "big"))
    with pytest.raises(UserError, match="x:1"):
        examples(model, long, max_length=20)
    assert examples(model, long, too_long="drop", max_length=20) == []
    (row,) = examples(model, long, too_long="truncate", max_length=20)
    assert len(model._written(row.pairs[0].joint)[0]) == 20


def test_margins_are_for_another_objective(folder):
    with pytest.raises(UserError, match="x:1: has a margin"):
        examples(load(folder), ranking(1, 2, columns={"margin": 1.0}))


def test_it_learns_and_scores_held_out_answers_among_themselves(tmp_path, folder):
    options = {"objective": Pair(), "epochs": 6, "optim": OptimConfig(learning_rate=5e-3)}
    done = train(tmp_path, folder, rankings(300, answers=3), **options)
    assert metrics(done)[-1]["reward/held_out_accuracy_over_pairs"] >= 0.9
    model = load_reward_model(ModelConfig(path=str(done / "model")))
    # A prompt as those it was trained on: the tiny model reads by position.
    row = {"prompt": Prompt.of_text("the old red house 7"), "columns": {"references": ["green", "old"]}}
    good, bad = (float(model.score([Group(responses=(text,), **row)], 999).scores) for text in ("red red", "big big"))
    assert good > 0.5 and bad < -0.5


def test_a_tiny_decoder_learns_too(tmp_path):
    shape = TinyShape(hidden_size=32, layers=2, heads=2, vocabulary=300, context=64)
    model = ModelConfig(path="tiny", tiny=shape)
    done = train(tmp_path, "tiny", rankings(200, answers=3), model=model, objective=Pair(), epochs=4)
    assert metrics(done)[-1]["reward/held_out_accuracy_over_pairs"] >= 0.85
    assert load_reward_model(ModelConfig(path=str(done / "model"))).decoder


# ----------------------------------------------------------------------------------------------------------- mistakes


def test_rows_without_references_are_named_before_the_model_loads(folder, tmp_path):
    load(folder).save(tmp_path, {})
    judge = [RewardModelConfig(path=str(tmp_path))]
    check_rewards(judge, [PromptRow(prompt=PROMPT, columns={"references": "red"})])
    for columns, problem in (({}, "missing"), ({"references": []}, "an empty list"), ({"references": None}, "null")):
        rows = [PromptRow(prompt=PROMPT, columns=columns, where="p.jsonl:7")]
        with pytest.raises(UserError, match=rf"p\.jsonl:7: .*'references', which is {problem}"):
            check_rewards(judge, rows)


@kills(
    "scoring/build.py",
    old="check_references(rows)",
    new="pass",
    why="references are read when the model is there, hours later",
)
@pytest.mark.parametrize("wrong", [5, [1, 2], {"text": "red"}, ["red", None]])
def test_references_that_are_no_text_are_named_before_the_model_loads(folder, tmp_path, wrong):
    load(folder).save(tmp_path, {})
    judge = [RewardModelConfig(path=str(tmp_path))]
    rows = [
        PromptRow(prompt=PROMPT, columns={"references": said}, where=f"p:{i}") for i, said in enumerate(("a", wrong))
    ]
    for lone in (None, ()):
        with pytest.raises(UserError, match=r"^p:1: the column 'references' must hold one answer or a list of them"):
            check_rewards(judge, rows, lone=lone)


def test_a_ranking_of_one_answer_is_a_lone_one(folder, tmp_path):
    load(folder).save(tmp_path / "judge", {})
    rows = [
        {"prompt": "house", "responses": ["red", "big"], "ranks": [1, 2]},
        {"prompt": "old", "responses": ["red"], "ranks": [1]},
    ]
    data = DataConfig(path=jsonl(tmp_path / "r.jsonl", rows))
    config = RewardEvalConfig(data=(data,), models=(RewardModelConfig(path=str(tmp_path / "judge")),))
    with (
        Run.create(tmp_path / "run", "eval_reward", config) as run,
        pytest.raises(UserError, match=r"r\.jsonl:2: .*'references', which is missing"),
    ):
        reward_eval(config, run)


def test_it_labels_the_answers_of_a_prompt_among_themselves(folder, tmp_path):
    """Collecting needs no references: K answers are there to be compared. Ranks are those of the whole group."""
    load(folder).save(tmp_path / "judge", {})
    judge = RewardModelConfig(path=str(tmp_path / "judge"))
    config = CollectConfig(
        prompts=(DataConfig(path=jsonl(tmp_path / "p.jsonl", [{"prompt": p} for p in ("ab", "b", "ca")])),),
        model=ModelConfig(path=model_folder(tmp_path / "writer", letters="abc")),
        labeller=(judge,),
        samples=3,
        sampling=SamplingConfig(max_new_tokens=5, batch_size=6),
    )
    with Run.create(tmp_path / "run", "collect", config) as run:
        collect(config, run)
    rows = [json.loads(line) for line in (tmp_path / "run" / "rankings.jsonl").read_text().splitlines()]
    assert len(rows) == 3
    scorer = load_reward_model(ModelConfig(path=judge.path))
    for row in rows:
        assert len(set(row["ranks"])) == len(set(row["responses"])) > 1
        group = Group(prompt=Prompt.of_text(row["prompt"]), responses=tuple(row["responses"]))
        said = dict(zip(group.responses, scorer.score([group], 10_000).scores.tolist(), strict=True))
        best = row["responses"][row["ranks"].index(1)]
        assert said[best] == max(said.values())


def test_comparisons_need_no_references_and_verdicts_do(folder, tmp_path):
    load(folder).save(tmp_path / "judge", {})
    pairs = [{"prompt": f"house {i}", "chosen": "red red", "rejected": "big old"} for i in range(4)]
    verdict = {"prompt": "house", "response": "red", "label": True}
    data = (DataConfig(path=jsonl(tmp_path / "pairs.jsonl", pairs)),)
    judge = RewardModelConfig(path=str(tmp_path / "judge"))
    config = RewardEvalConfig(data=data, models=(judge,))
    with Run.create(tmp_path / "run", "eval_reward", config) as run:
        reward_eval(config, run)
    (found,) = [r for r in results(tmp_path / "run") if r.measure == "held_out_accuracy_over_pairs" and not r.role]
    scorer = load_reward_model(ModelConfig(path=judge.path))
    said = [logit(scorer, "red red", "big old", Prompt.of_text(pair["prompt"])) for pair in pairs]
    turned = [logit(scorer, "big old", "red red", Prompt.of_text(pair["prompt"])) for pair in pairs]
    right = sum(there > back for there, back in zip(said, turned, strict=True))
    assert (found.subject, found.value) == ("reward_model", right / 4)
    mixed = (*data, DataConfig(path=jsonl(tmp_path / "verdicts.jsonl", [verdict])))
    config = RewardEvalConfig(data=mixed, models=(judge,))
    with (
        Run.create(tmp_path / "mixed", "eval_reward", config) as run,
        pytest.raises(UserError, match=r"verdicts\.jsonl:1: .*'references'"),
    ):
        reward_eval(config, run)


def test_a_pair_model_has_no_zero_point(tmp_path):
    data = (DataConfig(path=jsonl(tmp_path / "x.jsonl", rankings(2))),)
    RewardConfig(data=data, reference=data, objective=KWise())
    with pytest.raises(ValueError, match="has no zero point"):
        RewardConfig(data=data, reference=data, objective=Pair())


def test_backbones_and_options_without_effect_are_refused(folder, tmp_path):
    with pytest.raises(UserError, match="`objective: seq2seq` is for those"):
        load(zoo.save(tmp_path / "t5", "t5", TEXTS))
    with pytest.raises(UserError, match=r"model\.pooling: 'mean' has no effect"):
        pair.check_backbone(ModelConfig(path=folder, pooling="mean"))
