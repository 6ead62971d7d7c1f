"""Style, words, form and language: hand numbers, what must pass and what must fail."""

import json
import sys

import pytest

from plaudit.errors import UserError
from plaudit.records.text import Group, Prompt
from plaudit.scoring.functions import function_scorer
from plaudit.scoring.options import FunctionConfig
from plaudit.scoring.rules.content import word_list
from plaudit.scoring.rules.form import json_valid
from plaudit.scoring.rules.languages import SCRIPTS, language, script, script_of
from plaudit.scoring.rules.style import length_penalty, repeated_lines
from plaudit.tokens.template import Renderer
from tests.kills import kills
from tests.tokens.test_template import tokenizer

# ---------------------------------------------------------------------------------------------------- style


def test_repeated_lines_by_hand():
    assert repeated_lines(["yes\nno\nyes\n\n yes "]) == [0.5]
    assert repeated_lines(["", "\n\n", "one line", "a\nb\nc"]) == [0.0, 0.0, 0.0, 0.0]
    assert repeated_lines(["- again\n" * 10]) == pytest.approx([0.9])


@kills(
    "scoring/rules/style.py",
    old="else -min(1.0, by / buffer) if buffer",
    new="else min(1.0, by / buffer) if buffer",
    why="a length penalty that pays",
)
def test_length_penalty_is_nothing_up_to_the_limit_and_falls_over_the_buffer():
    said = ["", "w " * 10, "w " * 12, "w " * 15, "w " * 40]
    assert length_penalty(said, limit=10, buffer=5) == pytest.approx([0.0, 0.0, -0.4, -1.0, -1.0])
    assert length_penalty(said, limit=10) == [0.0, 0.0, -1.0, -1.0, -1.0]
    assert length_penalty(["abcd"], limit=3, buffer=4, unit="characters") == [-0.25]
    assert length_penalty(["long text"], limit=1, buffer=4, unit="tokens", completion_ids=[[1, 2]]) == [-0.25]
    with pytest.raises(ValueError, match="ids"):
        length_penalty(["a"], limit=4, unit="tokens")


@pytest.mark.parametrize(
    "options", [{"limit": 0}, {"limit": -1}, {"limit": 5, "buffer": -1}, {"limit": 5, "unit": "x"}]
)
def test_length_penalty_refuses_what_makes_no_sense(options):
    with pytest.raises(ValueError, match=r"limit must|buffer must|unit must"):
        length_penalty([], **options)


# ---------------------------------------------------------------------------------------------------- words


def test_a_word_list_by_hand():
    weights = {"good": 1, "bad": -2}
    said = ["Good, good, bad luck", "good luck", "", "goodness badly"]
    assert word_list(said, words=weights, per="text") == [0.0, 1.0, 0.0, 0.0]
    assert word_list(said, words=weights, per="word") == [0.0, 0.5, 0.0, 0.0]
    assert word_list(["good luck " * 5], words=weights) == [50.0]
    assert word_list(["a b a"], words=["a"], per="text") == [2.0]


@kills(
    "scoring/rules/content.py",
    old="range(min(longest, len(words) - at), 0, -1)",
    new="range(1, min(longest, len(words) - at) + 1)",
    why='"good grief" counts as good',
)
def test_the_longest_entry_wins_and_no_word_counts_twice():
    weights = {"not good": -1.0, "good": 1.0, "高兴": 2.0, "不高兴": -2.0}
    said = ["not good", "not, good", "good not good", "我很高兴", "我不高兴"]
    assert word_list(said, words=weights, per="text") == [-1.0, 1.0, 0.0, 2.0, -2.0]
    assert word_list(["good grief, good"], words={"good": 1.0, "good grief": -3.0}, per="text") == [-2.0]


def test_a_word_list_from_a_file(tmp_path):
    file = tmp_path / "lexicon.txt"
    file.write_text("# opinion words\ngood\nbad\t-2.5\n\nvery good\t3\n", encoding="utf-8")
    assert word_list(["Good. Bad! very good"], file=str(file), per="text") == [1.5]
    assert word_list(["good"], file=str(file), words={"good": 7}, per="text") == [1.0]  # the file has the last word
    file.write_text("good\tmuch\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"lexicon\.txt:1: the weight must be a number, not 'much'"):
        word_list([], file=str(file))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "`words` or a `file`"),
        ({"words": {"a": True}}, "weight must"),
        ({"words": {"a": float("nan")}}, "weight must"),
        ({"words": {" ": 1}}, "words must"),
        ({"words": {3: 1}}, "words must"),
        ({"words": ["a"], "per": "line"}, "per must be"),
        ({"file": "nowhere.txt"}, "no file"),
    ],
)
def test_a_word_list_refuses_what_is_none(options, message):
    with pytest.raises(ValueError, match=message):
        word_list([], **options)


# ---------------------------------------------------------------------------------------------------- JSON


def test_json_must_be_the_whole_response():
    good = ['{"a": 1}', " [1, 2]\n", '"text"', "null", "-1.5e3", '{"a": {"b": []}}']
    bad = ["", "{", "{'a': 1}", '{"a": 1} done', "Here: {}", '{"a": 1,}', "NaN", '{"a": Infinity}', "[1 2]", "True"]
    assert json_valid(good) == [1.0] * len(good)
    assert json_valid([*bad, "[" * 100_000, "1" * 10_000]) == [0.0] * (len(bad) + 2)


@kills(
    "scoring/rules/form.py",
    old='return kind in ("boolean", "any")',
    new='return kind in ("boolean", "any", "integer", "number")',
    why="true is a number",
)
def test_json_with_keys_and_types():
    types = {"name": "string", "age": "integer"}
    good = ['{"name": "Li", "age": 7}', '{"age": 7, "name": "", "more": null}']
    bad = ['{"name": "Li"}', '{"name": "Li", "age": "7"}', '{"name": "Li", "age": 7.5}', '{"name": "Li", "age": true}']
    bad += ['[{"name": "Li", "age": 7}]', "7"]
    assert json_valid(good + bad, required=types) == [1.0, 1.0] + [0.0] * len(bad)
    assert json_valid(good, required=types, extra=False) == [1.0, 0.0]
    assert json_valid(['{"a": null}', "{}"], required="a") == [1.0, 0.0]


@pytest.mark.parametrize(
    ("kind", "right"),
    [
        ("string", ["s"]),
        ("number", [1, 1.5]),
        ("integer", [1]),
        ("boolean", [True]),
        ("array", [[]]),
        ("object", [{}]),
        ("null", [None]),
        ("any", ["s", 1, 1.5, True, [], {}, None]),
    ],
)
def test_every_type_takes_its_own_only(kind, right):
    values = ["s", 1, 1.5, True, [], {}, None]
    said = json_valid([json.dumps({"k": value}) for value in values], required={"k": kind})
    assert said == [float(any(v == r and type(v) is type(r) for r in right)) for v in values]


@kills(
    "scoring/rules/form.py",
    old="FENCE.fullmatch(text) if fence else None",
    new="FENCE.search(text) if fence else None",
    why="JSON somewhere in a chat counts as JSON",
)
def test_json_in_a_fence_where_that_is_allowed():
    fenced = ['```json\n{"a": 1}\n```', "```\n[1]\n```\n", '```json\n{"a": 1}\n``` done', "```json\nno\n```"]
    assert json_valid(fenced) == [0.0] * 4
    assert json_valid(fenced, fence=True) == [1.0, 1.0, 0.0, 0.0]
    assert json_valid(["{}"], fence=True) == [1.0]


@pytest.mark.parametrize("options", [{"required": {"a": "text"}}, {"required": [3]}, {"extra": False}])
def test_json_refuses_options_that_make_no_sense(options):
    with pytest.raises(ValueError, match="required"):
        json_valid([], **options)


# ---------------------------------------------------------------------------------------------------- script, language


@pytest.mark.parametrize(
    ("text", "wanted", "share"),
    [
        ("你好 AI", "Han", 1 / 2),
        ("你好 AI", "Latin", 1 / 2),
        ("Привет, мир! 123", "Cyrillic", 1.0),
        ("مرحبا", "Arabic", 1.0),
        ("こんにちは世界", ["Han", "Hiragana", "Katakana"], 1.0),
        ("こんにちは世界", "Han", 2 / 7),
        ("ｆｕｌｌ ｶﾀ", "Latin", 4 / 6),
        ("cafe\u0301", "Latin", 1.0),
        ("한국어", "Hangul", 1.0),
        ("\U00020000人々", "Han", 1.0),
        ("123 !? 🙂", "Latin", 0.0),
        ("", "Latin", 0.0),
    ],
)
def test_the_share_of_letters_in_a_script(text, wanted, share):
    assert script([text], script=wanted) == pytest.approx([share])


def test_every_script_knows_one_of_its_letters():
    letters = "عԱকЖकአაαગਗ人한אあಕカកກaകကකகకกཀ"
    assert len(letters) == len(SCRIPTS)
    assert [script_of(letter) for letter in letters] == list(SCRIPTS)


def test_an_unknown_script_is_refused():
    for name in ("latin", "Klingon", []):
        with pytest.raises(ValueError, match="script"):
            script([], script=name)


GERMAN, ENGLISH = "Der Hund schläft heute lange im Garten.", "The dog is asleep in the garden for a long time."
CHINESE = "这只狗今天在花园里睡了很久。"


def test_the_language_by_its_probability():
    pytest.importorskip("py3langid")
    german = language([GERMAN, ENGLISH, CHINESE, "", "123"], language="de")
    assert german[0] > 0.9
    assert german[1] < 0.1
    assert german[2:] == pytest.approx([0.0, 0.0, 0.0], abs=0.1)
    assert min(language([GERMAN, ENGLISH], language=["de", "en"])) > 0.9
    # Two candidates share the whole probability.
    one, other = (language([GERMAN], language=code, among=["de", "en"])[0] for code in ("de", "en"))
    assert one + other == pytest.approx(1.0, abs=1e-5)
    assert one > 0.9
    # One restricted judge does not change the other.
    assert language([GERMAN, ENGLISH, CHINESE, "", "123"], language="de") == german


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"language": []}, "language must"),
        ({"language": "klingon"}, "klingon"),
        ({"language": "de", "among": ["en", "fr"]}, "among must hold de"),
        ({"language": "de", "among": ["de", "klingon"]}, "klingon"),
        ({"language": "de", "among": ["de"]}, "among must"),
    ],
)
def test_language_refuses_what_it_cannot_judge(options, message):
    pytest.importorskip("py3langid")
    with pytest.raises(ValueError, match=message):
        language([], **options)


def test_without_the_package_the_message_says_what_to_install(monkeypatch):
    from plaudit.scoring.rules import languages

    languages._identifier.cache_clear()
    monkeypatch.setitem(sys.modules, "py3langid.langid", None)
    with pytest.raises(UserError, match=r"pip install 'plaudit\[language\]'"):
        function_scorer(FunctionConfig(function="language", args={"language": "de"}))
    languages._identifier.cache_clear()


def test_options_reach_the_functions_from_a_config():
    judge = function_scorer(FunctionConfig(function="json_valid", args={"required": {"a": "integer"}}))
    rows = [Group(prompt=Prompt.of_text("p"), responses=('{"a": 1}', '{"a": "1"}'))]
    assert judge.score(rows).scores.tolist() == [1.0, 0.0]


def test_a_thought_that_the_template_opened_matches_the_format():
    """The generation prompt writes <think>; what functions see begins with it, so `format` needs no option."""
    template = (
        "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content.split('</think>')[-1] + '<|im_end|>\n' }}"
        "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n<think>\n' }}{% endif %}"
    )
    renderer = Renderer(tokenizer(), template=template)
    good = "2+2</think> <answer>4</answer>"
    text = renderer.response_text(renderer.response_ids(good, end=True))
    judge = function_scorer(FunctionConfig(function="format", args={"tags": ["think", "answer"]}))
    assert judge.score([Group(prompt=Prompt.of_text("2+2?"), responses=(text, good))]).scores.tolist() == [1.0, 0.0]
