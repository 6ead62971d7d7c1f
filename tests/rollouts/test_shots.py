"""Few-shot prompting: what the model reads, where its answer ends, and that nobody else sees the shots."""

import pytest

from plaudit.data.options import DataConfig
from plaudit.engines.options import SamplingConfig
from plaudit.errors import UserError
from plaudit.models.load import Language, load_language
from plaudit.models.options import ModelConfig, TinyShape
from plaudit.records.text import Demonstration, Form, Message, Prompt, PromptRow
from plaudit.rollouts.options import Shot, ShotsConfig
from plaudit.rollouts.sampler import check_prompts, groups, sample
from plaudit.rollouts.shots import Shots, load_shots
from plaudit.runs.folder import Run
from tests.kills import kills
from tests.rollouts.test_sampler import Scripted
from tests.training.tiny import jsonl

GIVEN = ShotsConfig(shown=(Shot(prompt="one?", response="1"), Shot(prompt="{response}", response="{prompt}")))
ASKED = PromptRow(prompt=Prompt.of_text("two?"), where="a.jsonl:1")
READ = "one?\n1\n\n{response}\n{prompt}\n\ntwo?\n"


@pytest.fixture(scope="module")
def language() -> Language:
    tiny = TinyShape(hidden_size=16, layers=1, heads=4, vocabulary=280, context=128)
    return load_language(ModelConfig(path="tiny", tiny=tiny), ["one? two? 1 2"])


def load(config: ShotsConfig, language: Language, asked=(ASKED,), seed: int = 0) -> Shots:
    return load_shots(config, asked, language, Run.memory("collect", {}), "shots", seed=seed)


@kills("rollouts/sampler.py", old="shots.before(row.prompt) if shots else row.prompt",
       new="row.prompt", why="the model sees no shots")  # fmt: skip
@kills("rollouts/sampler.py", old="    sampling = shots.ending(sampling) if shots else sampling\n", new="",
       why="the answer goes on into a next question of the model's own")  # fmt: skip
def test_the_model_reads_the_shots_and_the_judge_an_answer_without_them(language):
    engine = Scripted(language, [("2\n\nthree?\n3", True)])
    rollout = sample(
        engine, language, [ASKED], SamplingConfig(), sample_indices=[0], seed=0, shots=load(GIVEN, language)
    )
    prompts, keys, sampling, *_ = engine.asked
    assert language.tokenizer.decode(prompts[0]) == f"<s>{READ}"
    assert sampling.stop == ("\n\n",)
    assert rollout.responses == ("2",)
    assert rollout.rows == (ASKED,)
    assert groups(rollout)[0].prompt.text == "two?"
    assert keys[0].prompt_id == ASKED.prompt.id  # the same luck as without shots


def test_an_answer_ends_where_the_written_shot_does(language):
    shots = Shots(rows=(), shot="Q: {prompt}\nA:{response}.", separator="\n")
    assert shots.before(ASKED.prompt).text == "Q: two?\nA:"
    assert shots.ending(SamplingConfig(stop=("x",))).stop == ("x", ".\n")


def test_with_a_chat_template_shots_are_turns_behind_the_system_turn():
    row = Demonstration(prompt=Prompt.of_text("one?"), response="1")
    shots = Shots(rows=(row,), as_turns=True)
    turns = (Message(role="system", content="Be brief."), Message(role="user", content="two?"))
    read = shots.before(Prompt(form=Form.CHAT, turns=turns))
    assert [(t.role, t.content) for t in read.turns] == [
        ("system", "Be brief."), ("user", "one?"), ("assistant", "1"), ("user", "two?")
    ]  # fmt: skip
    assert shots.before(ASKED.prompt).form is Form.CHAT
    assert shots.ending(SamplingConfig()).stop == ()


@kills("rollouts/shots.py", old="and row.prompt.id not in excluded", new="",
       why="a prompt is asked whose answer stands among the shots")  # fmt: skip
@kills("rollouts/shots.py", old="derive_seed(seed, config.seed)", new="config.seed",
       why="all seeds of a pipeline see the same shots")  # fmt: skip
def test_the_draw_is_the_seeds_and_shows_nothing_that_is_asked(language, tmp_path):
    rows = [{"prompt": f"{n}?", "completion": str(n)} for n in range(9)]
    data = (DataConfig(path=jsonl(tmp_path / "demonstrations.jsonl", rows)),)
    asked = [PromptRow(prompt=Prompt.of_text(f"{n}?")) for n in range(5)]
    one = load(ShotsConfig(data=data), language, asked)
    assert {row.response for row in one.rows} == {"5", "6", "7", "8"}
    assert one == load(ShotsConfig(data=data), language, asked)
    draws = {tuple(row.response for row in load(ShotsConfig(data=data, seed=s), language).rows) for s in range(5)}
    assert len(draws) == 5
    draws = {tuple(row.response for row in load(ShotsConfig(data=data), language, seed=s).rows) for s in range(5)}
    assert len(draws) == 5
    assert one.facts[0]["where"].startswith(data[0].path)
    with pytest.raises(UserError, match="shots: 5 shots are wanted, and 4 demonstrations are of other prompts"):
        load(ShotsConfig(data=data, count=5), language, asked)


def test_what_cannot_be_shown_is_refused(language):
    chat = PromptRow(prompt=Prompt(form=Form.CHAT, turns=(Message(role="user", content="x"),)))
    with pytest.raises(UserError, match="shots: conversations need a chat template"):
        load(GIVEN, language, [chat])
    with pytest.raises(ValueError, match="either `data` to draw from, or the ones `shown`"):
        ShotsConfig()
    with pytest.raises(ValueError, match="each once"):
        ShotsConfig(shown=GIVEN.shown, shot="{response} {prompt}")
    for space in " \t":
        with pytest.raises(ValueError, match="leave out the space before"):
            ShotsConfig(shown=GIVEN.shown, shot=f"Q: {{prompt}}\nA:{space}{{response}}")


def test_an_answer_that_holds_its_own_end_is_no_shot(language, tmp_path):
    long = Shot(prompt="one?", response="first.\n\nsecond.")
    with pytest.raises(UserError, match=r"shots: a shot: the answer 'first\..* holds '\\n\\n', which ends"):
        load(ShotsConfig(shown=(long,)), language)
    load(ShotsConfig(shown=(long,), separator="\n\n###\n\n"), language)
    data = (DataConfig(path=jsonl(tmp_path / "d.jsonl", [{"prompt": "x", "completion": long.response}])),)
    with pytest.raises(UserError, match=r"d\.jsonl:1"):
        load(ShotsConfig(data=data, count=1), language)


@kills("rollouts/sampler.py", old="lengths = [len(shown_ids(row, language, shots)) for row in rows]",
       new="lengths = [len(shown_ids(row, language, None)) for row in rows]",
       why="shots that leave no room for an answer are found while sampling")  # fmt: skip
def test_shots_count_where_prompts_must_fit(language):
    long = load(ShotsConfig(shown=(Shot(prompt="x" * 80, response="y" * 40),)), language)
    assert check_prompts([ASKED], language, 16) == [ASKED]
    with pytest.raises(UserError, match="no room for 16 new tokens"):
        check_prompts([ASKED], language, 16, shots=long)
