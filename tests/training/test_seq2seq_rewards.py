"""SteamSHP: the question as its authors write it, the letter's probability as the reward, both orders."""

import itertools
import math

import pytest
import torch
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

from plaudit.data.options import DataConfig
from plaudit.errors import UserError
from plaudit.models.load import load_language
from plaudit.models.options import LoRA, ModelConfig
from plaudit.models.reward import seq2seq
from plaudit.models.reward.loading import check_reward_model, load_reward_model, needed_columns
from plaudit.models.reward.normalisation import Normalisation
from plaudit.models.reward.seq2seq import question_ids
from plaudit.records.text import Form, Group, Message, Prompt, Ranking
from plaudit.scoring.build import build_scorer, check_rewards, has_scale, judges_tokens
from plaudit.scoring.options import RewardModelConfig
from plaudit.tokens.tokenizer import encode_plain
from plaudit.training.options import OptimConfig
from plaudit.training.reward.objective import Budget, Encoder
from plaudit.training.reward.objectives import objective_of
from plaudit.training.reward.options import RewardConfig, Seq2Seq
from tests.kills import kills
from tests.models import zoo
from tests.models.tiny import spread_out
from tests.training.test_encoder_rewards import TEXTS, WORDS, train, worth
from tests.training.tiny import CPU, gradients, jsonl, metrics, relative_difference

PROMPT = Prompt.of_text("the old\nhouse")
ANSWERS = ("red red", "big\nbig", "")
WHOLE = 10**9


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> str:
    return zoo.save(tmp_path_factory.mktemp("zoo") / "t5", "t5", TEXTS)


def load(path: str, *, spread: float = 0.2, train=None, **options):
    config = ModelConfig(path=path, **({"train": train} if train else {}))
    model = seq2seq.load(config, load_language(config), seed=1, **options)
    if spread:
        spread_out(model, spread=spread)
    return model


def scores(model, *answers: str, budget: int = 10_000) -> list[float]:
    return model.score([Group(prompt=PROMPT, responses=answers)], budget).scores.tolist()


def by_transformers(folder: str, post: str, a: str, b: str) -> tuple[float, float]:
    """P("A") and P("B") at the first token, as the model's card computes them."""
    hf, words = AutoModelForSeq2SeqLM.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    text = f"POST: {post} \n\n RESPONSE A: {a}\n\n RESPONSE B: {b}\n\n Which response is better? RESPONSE"
    with torch.no_grad():
        told = hf.generate(
            words(text, return_tensors="pt")["input_ids"],
            max_new_tokens=1,
            do_sample=False,
            return_dict_in_generate=True,
            output_scores=True,
        )
    letters = [words.convert_tokens_to_ids(f"▁{letter}") for letter in "AB"]
    return tuple(told.scores[0][0].softmax(-1)[letters].tolist())


# ---------------------------------------------------------------------------------------------------------- the score


@kills(
    "models/reward/seq2seq.py",
    old=".log_softmax(dim=-1)[:, list(self.letters)]",
    new="[:, list(self.letters)].log_softmax(dim=-1)",
    why="the reward over A and B instead of the vocabulary",
)
def test_the_reward_is_the_probability_of_a_over_the_vocabulary(folder, tmp_path):
    model = load(folder)
    model.save(tmp_path, {})
    wanted = [by_transformers(str(tmp_path), "the old house", a, ".") for a in ("red red", "big big", "")]
    assert scores(model, *ANSWERS) == pytest.approx([a for a, _ in wanted], rel=1e-4)
    odds = load(folder, output="log_odds")
    assert scores(odds, *ANSWERS) == pytest.approx([math.log(a / b) for a, b in wanted], rel=1e-3, abs=1e-4)


def test_it_is_normalised(folder):
    model = load(folder)
    (raw,) = scores(model, "red")
    model.normalisation = Normalisation(bias=0.25, gain=2.0)
    assert scores(model, "red") == pytest.approx([2.0 * (raw - 0.25)], abs=1e-6)


@pytest.mark.parametrize("budget", [1, 60, 10_000])
def test_an_answer_scores_the_same_alone_and_in_any_batch(folder, budget):
    model = load(folder)
    alone = [scores(model, text)[0] for text in ANSWERS]
    assert len({round(x, 5) for x in alone}) == 3
    assert scores(model, *ANSWERS[::-1], budget=budget) == pytest.approx(alone[::-1], abs=1e-6)
    assert scores(model, "red", "red") == [scores(model, "red")[0]] * 2
    assert model.score([], budget).scores.shape == (0,)


@pytest.mark.parametrize("output", ["probability", "log_odds"])
def test_beside_references_both_orders_are_averaged_over_all_of_them(folder, tmp_path, output):
    model = load(folder, output=output, against="references")
    model.save(tmp_path, {})

    def said(answer: str, other: str) -> float:
        a, b = by_transformers(str(tmp_path), "the old house", answer, other)
        other_a, other_b = by_transformers(str(tmp_path), "the old house", other, answer)
        if output == "probability":
            return (a + other_b) / 2
        return (math.log(a / b) + math.log(other_b / other_a)) / 2

    group = Group(prompt=PROMPT, responses=("red red", "big big"), columns={"references": ["green", "red"]})
    alone = Group(prompt=PROMPT, responses=("red",), columns={"references": "green"})
    wanted = [(said(answer, "green") + said(answer, "red")) / 2 for answer in group.responses] + [said("red", "green")]
    again = load_reward_model(ModelConfig(path=str(tmp_path)))
    for judge in (model, again):
        for budget in (1, 10_000):
            assert judge.score([group, alone], budget).scores.tolist() == pytest.approx(wanted, rel=1e-3, abs=1e-4)
    assert needed_columns(ModelConfig(path=str(tmp_path))) == ("references",)


def test_without_references_answers_of_a_group_are_compared_with_each_other(folder):
    model = load(folder, output="log_odds", against="references")
    pair = scores(model, "red", "big")
    odds = model.score([Group(prompt=PROMPT, responses=("red",), columns={"references": ["big"]})], 99).scores.item()
    assert pair[0] - pair[1] == pytest.approx(odds, abs=1e-5)
    assert sum(scores(model, "red", "big", "")) == pytest.approx(0.0, abs=1e-5)
    with pytest.raises(UserError, match="can't judge one answer alone"):
        scores(model, "red")
    assert model.score([], 9).scores.shape == (0,)


def test_beside_references_there_is_no_zero_point(folder):
    data = (DataConfig(path="x.jsonl"),)
    with pytest.raises(ValueError, match="has no zero point"):
        RewardConfig(data=data, reference=data, objective=Seq2Seq(against="references"))


@kills(
    "models/reward/seq2seq.py",
    old='has_scale=lambda facts: facts.get("output", "probability") != "probability"',
    new="has_scale=lambda facts: True",
    why="differences of probabilities called log-odds",
)
def test_a_model_from_elsewhere_is_read_as_the_user_says(folder, tmp_path):
    """SteamSHP's own files are any T5's."""
    with pytest.raises(UserError, match=r"^rewards\.0\.path: .*, say `read_as: seq2seq`$"):
        check_rewards([RewardModelConfig(path=folder)], [])
    judge = RewardModelConfig(path=folder, read_as="seq2seq")
    check_rewards([judge], [])
    assert not judges_tokens(judge)
    assert not has_scale(judge), "differences of probabilities are no log-odds"
    told = build_scorer([judge], CPU).score([Group(prompt=PROMPT, responses=("red red",))]).scores.item()
    assert told == pytest.approx(by_transformers(folder, "the old house", "red red", ".")[0], rel=1e-4)
    load(folder, output="log_odds").save(tmp_path / "odds", {})
    assert has_scale(RewardModelConfig(path=str(tmp_path / "odds")))
    load(folder).save(tmp_path / "probability", {})
    assert not has_scale(RewardModelConfig(path=str(tmp_path / "probability")))


@kills(
    "models/reward/loading.py",
    old="if stored not in (None, read_as):",
    new="if False:",
    why="a model of another kind asked SteamSHP's question",
)
def test_what_is_no_sequence_to_sequence_model_is_not_read_as_one(folder, tmp_path):
    bert = zoo.save(tmp_path / "bert", "bert", TEXTS)
    with pytest.raises(
        UserError,
        match=r"^rewards\.0\.path: .*encoder-decoder such as T5; .* is no such, but of the kind encoder",
    ):
        check_rewards([RewardModelConfig(path=bert, read_as="seq2seq")], [])
    load(folder).save(tmp_path / "asked", {})
    check_rewards([RewardModelConfig(path=str(tmp_path / "asked"), read_as="seq2seq")], [])
    (tmp_path / "asked" / "plaudit.json").write_text('{"kind": "scalar"}')
    with pytest.raises(UserError, match="is a model of kind 'scalar', which can't be read as a 'seq2seq'"):
        check_rewards([RewardModelConfig(path=str(tmp_path / "asked"), read_as="seq2seq")], [])


# ------------------------------------------------------------------------------------------------------- the question


def test_the_question_is_the_tokenizers_own_and_line_breaks_are_spaces(folder):
    language = load_language(ModelConfig(path=folder))
    text = "POST: a b \n\n RESPONSE A: c d\n\n RESPONSE B: .\n\n Which response is better? RESPONSE"
    ids = question_ids(language, Prompt.of_text("a\nb"), "c\r\nd", ".", WHOLE)
    assert ids == language.tokenizer(text)["input_ids"]
    turns = (Message(role="user", content="a"), Message(role="assistant", content="b"))
    talk = Prompt(form=Form.CHAT, turns=(*turns, Message(role="user", content="c")))
    flat = Prompt.of_text("user: a assistant: b user: c")
    assert question_ids(language, talk, "x", "y", WHOLE) == question_ids(language, flat, "x", "y", WHOLE)


def test_an_end_token_in_a_text_is_letters(folder):
    language = load_language(ModelConfig(path=folder))
    end = language.tokenizer.eos_token_id
    assert question_ids(language, Prompt.of_text("</s> x"), "a</s>", "</s>", WHOLE).count(end) == 1


def test_what_is_too_long_loses_the_posts_beginning_first(folder):
    language = load_language(ModelConfig(path=folder))
    bare = len(question_ids(language, Prompt.of_text(""), "red", "big", WHOLE))
    post = "the cat sat on the mat the dog ran"
    for room in range(1, 8):
        ids = question_ids(language, Prompt.of_text(post), "red", "big", bare + room)
        assert len(ids) <= bare + room
        text = language.tokenizer.decode(ids)
        kept = text.split("RESPONSE A")[0].removeprefix("POST:").strip()
        assert post.endswith(kept) and kept.endswith("the dog ran"[-len(kept) :])
        assert "RESPONSE A: red" in text and "RESPONSE B: big" in text
    empty = len(question_ids(language, Prompt.of_text(""), "", "", WHOLE))
    ids = question_ids(language, Prompt.of_text(post), "red " * 9, "big " * 9, empty + 6)
    assert len(ids) <= empty + 6
    text = language.tokenizer.decode(ids)
    assert "A: red" in text and "B: big" in text and "cat" not in text
    with pytest.raises(UserError, match="too few for the question itself"):
        question_ids(language, Prompt.of_text(post), "red", "big", 5)


def test_the_letters_must_be_single_tokens(folder):
    language = load_language(ModelConfig(path=folder))
    a, b = seq2seq.letter_ids(language)
    assert [a] == encode_plain(language.tokenizer, "A") and [b] == encode_plain(language.tokenizer, "B")
    bert = zoo.tokenizer("deberta", ["the cat"])  # A and B as letters behind a space of their own
    with pytest.raises(UserError, match="no single tokens"):
        seq2seq.letter_ids(type(language)(tokenizer=bert, renderer=language.renderer, end_ids=(), context=9))


# -------------------------------------------------------------------------------------------------------------- files


def test_a_saved_model_scores_the_same(folder, tmp_path):
    model = load(folder, output="log_odds")
    model.normalisation = Normalisation(bias=0.5)
    before = scores(model, *ANSWERS)
    model.save(tmp_path, {})
    check_reward_model(ModelConfig(path=str(tmp_path)), "rewards.0.path")
    assert scores(load_reward_model(ModelConfig(path=str(tmp_path))), *ANSWERS) == before


def test_adapters_are_merged(folder, tmp_path):
    model = load(folder, train=LoRA(rank=2), spread=0.0)
    before = scores(model, "red")
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.5)
    for _ in range(2):
        ids = question_ids(model.language, PROMPT, "red", ".", WHOLE)
        (-model([ids])[:, 0].sum()).backward()
        optimizer.step()
    after = scores(model, "red")
    assert after != pytest.approx(before, rel=1e-2)
    model.save(tmp_path, {})
    assert scores(load_reward_model(ModelConfig(path=str(tmp_path))), "red") == pytest.approx(after, rel=1e-3)


def test_training_mode_reads_what_evaluation_mode_reads(tmp_path):
    model = load(zoo.save(tmp_path / "t5", "t5", TEXTS, noise=0.3))
    quiet = scores(model.eval(), *ANSWERS)
    assert scores(model.train(), *ANSWERS) == pytest.approx(quiet, abs=1e-6)


# ----------------------------------------------------------------------------------------------------------- training


def ranking(*ranks: int, **more) -> Ranking:
    return Ranking(prompt=PROMPT, responses=ANSWERS[: len(ranks)], ranks=ranks, where="x:1", **more)


def examples(model, *rows: Ranking, too_long: str = "error", max_length: int = 128):
    (found,) = objective_of(Seq2Seq()).examples(
        [rows], Encoder(language=model.language, max_length=max_length, too_long=too_long)
    )
    return found


@kills(
    "training/reward/pairs.py",
    old="return -0.5 * (as_a[:, 0] + as_b[:, 1]).sum()",
    new="return -0.5 * (as_a[:, 0] + as_b[:, 0]).sum()",
    why="both orders learn A: only the place is learned",
)
def test_the_loss_is_the_better_answers_letter_in_both_orders(folder, tmp_path):
    model = load(folder)
    model.save(tmp_path, {})
    rows = examples(model, ranking(2, 1), ranking(1, 1))  # the tie has no letter
    assert len(rows) == 1
    told = objective_of(Seq2Seq()).backward(model, rows, Budget(machine=CPU, tokens=10**6)).metrics
    a, b = by_transformers(str(tmp_path), "the old house", "big big", "red red")
    other_a, other_b = by_transformers(str(tmp_path), "the old house", "red red", "big big")
    assert told["loss_over_rows"] == pytest.approx(-(math.log(a) + math.log(other_b)) / 2, rel=1e-4)
    margin = (math.log(a / b) + math.log(other_b / other_a)) / 2
    assert told["margin_over_pairs"] == pytest.approx(margin, rel=1e-3, abs=1e-4)
    assert told["accuracy_over_pairs"] == float(margin > 0)


def test_the_gradient_does_not_depend_on_micro_batches(folder):
    found = []
    for budget in (10**6, 80, 1):
        model = load(folder)
        rows = examples(model, ranking(1, 2, 3), ranking(2, 1))
        objective_of(Seq2Seq()).backward(model, rows, Budget(machine=CPU, tokens=budget))
        found.append(gradients(model))
    assert relative_difference(found[1], found[0]) < 1e-5
    assert relative_difference(found[2], found[0]) < 1e-5


def words(count: int) -> list[dict]:
    """One word an answer."""
    pairs = list(itertools.permutations(WORDS, 2))
    chosen = [pairs[i * 7 % len(pairs)] for i in range(count)]
    return [
        {"prompt": f"house {i}", "responses": pair, "ranks": (1, 2) if worth(pair[0]) > worth(pair[1]) else (2, 1)}
        for i, pair in enumerate(chosen)
    ]


def test_it_learns_and_judges_lone_answers(tmp_path, folder):
    """Only ever asked about two answers, it ranks lone ones beside the B "."."""
    done = train(
        tmp_path,
        folder,
        words(240),
        held_out=(DataConfig(path=jsonl(tmp_path / "words.jsonl", words(30))),),
        reference=(DataConfig(path=jsonl(tmp_path / "ref.jsonl", [{"prompt": "house", "response": "green"}])),),
        objective=Seq2Seq(output="log_odds"),
        epochs=6,
        minibatch_size=8,
        optim=OptimConfig(learning_rate=1e-2),
    )
    assert metrics(done)[-1]["reward/held_out_accuracy_over_pairs"] >= 0.85
    assert metrics(done)[-1]["reward/accuracy_over_pairs"] >= 0.85
    model = load_reward_model(ModelConfig(path=str(done / "model")))
    told = model.score([Group(prompt=Prompt.of_text("house"), responses=("red", "green", "big"))], 999).scores.tolist()
    assert told[0] > told[2] + 1.0
    assert told[1] == pytest.approx(0.0, abs=1e-4)  # the reference answer


# ----------------------------------------------------------------------------------------------------------- mistakes


def test_what_is_too_long_is_an_error_dropped_or_cut(folder):
    model = load(folder)
    with pytest.raises(UserError, match="x:1"):
        examples(model, ranking(1, 2), max_length=20)
    assert examples(model, ranking(1, 2), too_long="drop", max_length=20) == []
    whole = max(len(ids) for ids in (examples(model, ranking(1, 2))[0].pairs[0].as_a,))
    (row,) = examples(model, ranking(1, 2), too_long="truncate", max_length=whole - 1)
    assert len(row.pairs[0].as_a) <= whole - 1


def test_margins_and_other_backbones_are_refused(folder, tmp_path):
    with pytest.raises(UserError, match="x:1: has a margin"):
        examples(load(folder), ranking(1, 2, columns={"margin": 1.0}))
    with pytest.raises(UserError, match=r"encoder-decoder such as T5; .* is no such, but of the kind decoder"):
        seq2seq.check_backbone(ModelConfig(path="tiny"))
    with pytest.raises(UserError, match="has no effect"):
        seq2seq.check_backbone(ModelConfig(path=folder, pooling="mean"))
