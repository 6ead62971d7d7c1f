"""`check`: what a reader and a machine are told of data files."""

import json

import pytest

from plaudit.data.check import check, quantiles
from plaudit.data.options import DataConfig
from tests.data.files import write, write_bytes

PAIRS = [
    {"prompt": "What now?", "chosen": "wait", "rejected": "go", "source": "x"},
    {"prompt": "What now?", "chosen": "wait", "rejected": "go", "source": "y"},
    {"prompt": "Where to?", "chosen": "", "rejected": "home"},
    {"prompt": "Same?", "chosen": "yes", "rejected": "yes"},
    {"prompt": "Bad?", "chosen": 3, "rejected": "yes"},
]


def test_a_file_in_text(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path, PAIRS, "pairs.jsonl")
    report = check(["pairs.jsonl"])
    digest = report.files[0].fingerprint
    assert report.to_text() == (
        "pairs.jsonl\n"
        "  kind          comparison  (also serves as ranking, demonstration, prompt)\n"
        "  columns       prompt, chosen, rejected, source\n"
        "  not used      source  (by training; `eval reward` and `score` hand them to reward functions)\n"
        "  rows          3  (2 different prompts)\n"
        f"  sha256        {digest}\n"
        "  characters          min     25 %   median     75 %     95 %      max\n"
        "    prompt              9        9        9        9        9        9\n"
        "    answer              0        2        2        4        4        4\n"
        "  left out      1  with chosen equal to rejected\n"
        "  odd rows      1  with an empty reply\n"
        "                1  repeating an earlier row\n"
        "  repeats       line 2 repeats line 1\n"
        "  bad rows      1\n"
        "    pairs.jsonl:5: column `chosen` must be a string or a message, not a number\n"
    )
    assert not report.ok


def test_the_same_for_machines(tmp_path):
    path = write(tmp_path, PAIRS)
    found = json.loads(check([path]).to_json())
    (file,) = found["files"]
    assert found["ok"] is False
    assert (file["kind"], file["rows"], file["prompts"]) == ("comparison", 3, 2)
    reason = "must be a string or a message, not a number"
    assert file["bad"] == [{"where": f"{path}:5", "column": "chosen", "reason": reason}]
    assert file["duplicates"] == [[f"{path}:1", f"{path}:2"]]
    assert file["counted"] == {"with an empty reply": 1, "repeating an earlier row": 1}
    assert file["lengths"]["answer"]["max"] == 4


def test_prompts_that_two_files_share(tmp_path):
    train = write(tmp_path, [{"prompt": "One?"}, {"prompt": "Two"}, {"prompt": "one"}], "train.jsonl")
    test = write(tmp_path, [{"prompt": "three"}, {"prompt": "ONE!", "response": "1"}], "test.jsonl")
    other = write(tmp_path, [{"text": "four"}], "other.jsonl")
    report = check([train, test, other])
    ((first, second, shared),) = report.overlaps
    assert (first, second) == (train, test)
    assert (shared.prompts, shared.rows, shared.examples) == (1, (2, 1), ((f"{train}:1", f"{test}:2"),))
    assert report.to_text().endswith(
        f"  {train}\n  {test}\n    shared      1 prompts, in 2 and 1 rows\n                {train}:1 = {test}:2\n"
    )
    assert json.loads(report.to_json())["overlaps"][0]["files"] == [train, test]


def test_files_that_share_nothing_say_so(tmp_path):
    paths = [write(tmp_path, [{"text": name}], f"{name}.jsonl") for name in ("a", "b")]
    report = check(paths)
    assert report.ok
    assert report.to_text().endswith("\n\nNo prompt is in two of the files.\n")


def test_rankings_show_answers_a_row_and_ties(tmp_path):
    rows = [
        {"prompt": "p", "responses": ["a", "b", "c"], "ranks": [1, 1, 3]},
        {"prompt": "q", "responses": ["a", "b"], "ranks": [1, 2]},
    ]
    text = check([write(tmp_path, rows)]).to_text()
    assert "  kind          ranking  (also serves as comparison, demonstration, prompt)\n" in text
    assert "  answers a row         2        2        2        3        3        3\n" in text
    assert "  odd rows      1  with ties\n" in text
    assert "  bad rows      none\n" in text


def test_files_that_cannot_be_used_do_not_stop_the_others(tmp_path):
    good = write(tmp_path, [{"text": "a"}], "good.jsonl")
    odd = write(tmp_path, [{"foo": "a"}], "odd.jsonl")
    broken = write_bytes(tmp_path, b"[{]", "broken.json")
    report = check(["none.jsonl", odd, broken, good])
    assert [bool(file.error) for file in report.files] == [True, True, True, False]
    assert "none.jsonl\n  can't be used:\n  no such file" in report.to_text()
    assert f"{odd}\n  can't be used:\n  no kind of data is told by the columns foo.\n" in report.to_text()
    assert not report.ok


def test_a_configuration_instead_of_a_path(tmp_path):
    path = write(tmp_path, [{"question": "q"}, {"question": 3}])
    report = check([DataConfig(path=path, columns={"question": "prompt"}, limit=1)])
    assert (report.files[0].kind, report.files[0].rows, report.ok) == ("prompt", 1, True)


def test_a_long_list_of_bad_rows_is_cut_in_text_only(tmp_path):
    report = check([write(tmp_path, [{"text": "a"}] + [{"text": 1}] * 25)])
    assert "    and 5 more (all of them in the JSON report)\n" in report.to_text()
    assert len(json.loads(report.to_json())["files"][0]["bad"]) == 25


def test_no_markup_or_line_of_the_data_can_break_the_report(tmp_path):
    assert check([write(tmp_path, [{"text": "[red]\n  bad rows      none"}])]).ok


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([7], [7, 7, 7, 7, 7, 7]),
        ([4, 1, 3, 2], [1, 1, 2, 3, 4, 4]),
        (range(1, 101), [1, 25, 50, 75, 95, 100]),
    ],
)
def test_quantiles_are_values_that_occur(values, expected):
    assert list(quantiles(values).values()) == expected


def test_solutions_are_read_by_the_functions_that_will_read_them(tmp_path):
    path = write(tmp_path, [{"prompt": q, "solution": s} for q, s in (("a", "12"), ("b", "see above"), ("c", 7))])
    readers = {"as_int": int, "as_float": float, "as_text": str, "never": lambda solution: int("x")}
    report = check([path], readers)
    assert report.ok
    told = f"  solutions     as_int, as_float can't read 1 of 3, the first at {path}:2\n"
    assert told in report.to_text()
    assert "as_text" not in report.to_text() and "never" not in report.to_text()  # not meant for this file
    report = check([path], {"as_int": int}, certain=True)
    assert not report.ok
    assert f"    {path}:2: column `solution` can't be read by as_int: invalid literal" in report.to_text()


def test_columns_of_pairs_are_said_to_be_for_judges(tmp_path):
    pair = {"prompt": "1 + 1", "chosen": "2", "rejected": "3", "solution": "2"}
    text = check([write(tmp_path, [pair], "pairs.jsonl")]).to_text()
    assert "not used      solution  (by training; `eval reward` and `score` hand them to reward functions)" in text
    shown = {"prompt": "1 + 1", "completion": "2", "source": "book"}
    assert "not used      source\n" in check([write(tmp_path, [shown], "shown.jsonl")]).to_text()
