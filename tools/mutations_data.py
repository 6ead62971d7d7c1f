"""Mistakes in reading public files, in thinning and dividing rows, and in the floors for labels."""

from tools.mutation import Mutation, trained

SHAPES = "data/test_shapes.py"
THINNING = "data/test_thinning.py"
FLOORS = "evaluation/test_labelled_floors.py"

MUTATIONS: tuple[Mutation, ...] = (
    trained(
        "data/shapes",
        "_PLACES = {0: [1, 1], 1: [1, 2], 2: [2, 1]}",
        "_PLACES = {0: [1, 1], 1: [2, 1], 2: [1, 2]}",
        SHAPES,
        "a vote read as the place of the worse answer",
    ),
    trained(
        "data/shapes",
        "if counts[0][0] > counts[1][0] else 0])",
        "])",
        SHAPES,
        "votes in balance decided by their number",
    ),
    trained(
        "data/shapes",
        '"score": review.get(f"score_{number}")})',
        '"score": review.get(f"score_{3 - number}")})',
        SHAPES,
        "a review's scores exchanged",
    ),
    trained(
        "data/shapes",
        '"label": str(item["label"]) in accept}',
        '"label": str(item["label"]) not in accept}',
        SHAPES,
        "accepted labels rejected",
    ),
    trained(
        "data/convert",
        "label = row.scores[aspect] == 1",
        "label = row.scores[aspect] >= 0",
        SHAPES,
        "every score is an acceptance",
    ),
    trained(
        "data/convert",
        "all(row.scores.get(aspect) in (0.0, 1.0) for row in ratings)",
        "any(row.scores.get(aspect) in (0.0, 1.0) for row in ratings)",
        SHAPES,
        "grades from 1 to 5 become verdicts",
    ),
    trained(
        "data/clean",
        "return [normalise(answer) for row in rows for answer in answers(row)]",
        "return [row.where for row in rows]",
        SHAPES,
        "two spellings of one text on both sides of a split",
    ),
    trained(
        "data/thinning",
        "all(abs(scores[index] - scores[other]) >= min_gap for other in kept)",
        "(not kept or any(abs(scores[index] - scores[other]) >= min_gap for other in kept))",
        THINNING,
        "far from one answer is far enough",
    ),
    trained(
        "data/thinning",
        'uniform(f"{row.prompt.id} {index}", 0)',
        'uniform(f"{index}", 0)',
        THINNING,
        "the same answers (models) of every prompt",
    ),
    trained(
        "data/thinning",
        "1 + sum(other < rank for other in ranks)",
        "1 + sum(other > rank for other in ranks)",
        THINNING,
        "the thinned ranking upside down",
    ),
    trained(
        "data/thinning",
        "return tuple(value[index] for index in kept)",
        "return tuple(value[: len(kept)])",
        THINNING,
        "the answers keep other answers' scores",
    ),
    trained(
        "evaluation/labelled_floors",
        "penalty[place[_INTERCEPT]] = 0.0",
        "penalty[place[_INTERCEPT]] = ridge",
        FLOORS,
        "the mean of the ratings is shrunk to 0",
    ),
    trained(
        "evaluation/labelled_floors",
        "return weights[_INTERCEPT] + sum(",
        "return sum(",
        FLOORS,
        "the offset forgotten when the floor speaks",
    ),
    trained(
        "evaluation/labelled_floors",
        "1.0 if row.label else -1.0",
        "-1.0 if row.label else 1.0",
        FLOORS,
        "the floor learns rejection",
    ),
    trained(
        "evaluation/labelled_floors",
        "min(RIDGES, key=error) if choosable else max(RIDGES))",
        "max(RIDGES))",
        FLOORS,
        "the penalty is not chosen: a floor too easy to beat",
    ),
    trained(
        "evaluation/word_models",
        "replace(self, values=self.values * factors[self.rows])",
        "replace(self, values=self.values * factors[self.columns])",
        FLOORS,
        "each word's factor instead of each row's",
    ),
    trained(
        "evaluation/labelled_report",
        "labels, [units[i] for i in there]",
        "labels, [units[i] for i in range(len(there))]",
        "evaluation/test_labelled_report.py",
        "unrated answers shift the prompts that intervals resample",
    ),
)
