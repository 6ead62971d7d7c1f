"""One-line mistakes in what reward models' losses are fed with and in how their scores are read (`make mutants`)."""

from tools.mutation import trained

UPDATES = "training/test_reward_updates.py"
NORMALISED = "models/test_normalised_kinds.py"

MUTATIONS = (
    trained(
        "training/reward/labelled",
        "(log_odds(logits.detach()) > 0) == accepted",
        "(log_odds(logits.detach()) < 0) == accepted",
        f"{UPDATES}::test_a_verdict_is_right_on_its_own_side_of_zero",
        "accuracy of the opposite verdict",
    ),
    trained(
        "training/reward/labelled",
        "scale_gradients(model, float(rmse_weight(total, n)) * n)",
        "scale_gradients(model, float(rmse_weight(total, n)))",
        "training/test_reward_kinds.py::test_regressions_gradient",
        "the root's weight on a mean that was divided already",
    ),
    trained(
        "training/reward/labelled",
        "bias=-scale.mean / std, gain=std",
        "bias=-scale.mean, gain=std",
        f"{UPDATES}::test_a_rating_models_scores_are_in_the_ratings_unit",
        "the mean rating in deviations",
    ),
    trained(
        "training/reward/gate",
        "next(small_enough, PENALTIES[-1])",
        "next(small_enough, PENALTIES[0])",
        "training/test_reward_kinds.py::test_the_penalty_is_the_smallest_that_takes_length_out",
        "an aspect that is mostly length keeps all of it",
    ),
    trained(
        "training/reward/gate",
        "ratings[:, aspect] - p * long, long) <= max_correlation",
        "ratings[:, aspect] - p * long, long).__abs__() <= max_correlation",
        "training/test_reward_kinds.py::test_the_penalty_is_the_smallest_that_takes_length_out",
        "what shorter answers have more of is punished for it by the largest penalty",
    ),
    trained(
        "training/reward/gate",
        "for group in examples[i].groups])[0]",
        "for group in examples[i].groups])[1]",
        f"{UPDATES}::test_a_gates_penalties_are_measured_on_the_ratings",
        "penalties by the gate's weights instead of the ratings",
    ),
    trained(
        "training/reward/shared_trunk",
        "prompts = max(sum(row.num_pairs > 0 for row in examples), 1)",
        "prompts = len(examples)",
        UPDATES,
        "prompts without a pair in the denominator",
    ),
    trained(
        "training/reward/shared_trunk",
        "owner)[0] / prompts",
        "owner)[0] / len(part)",
        UPDATES,
        "a mean of micro-batches' means",
    ),
    trained(
        "training/reward/shared_trunk",
        "best) / tokens",
        "best) / max(sum(map(_best_tokens, part)), 1)",
        UPDATES,
        "the likelihood as a mean of micro-batches' means",
    ),
    trained(
        "training/reward/token_level",
        "form=self.form",
        'form="strict"',
        "models/test_token_level.py::test_the_gradient_is_that_of_values_read_one_row_at_a_time",
        "an option that is read and not used",
    ),
    trained(
        "training/reward/normalise",
        "    model.normalisation = Normalisation()\n",
        "",
        f"{UPDATES}::test_reference_answers_set_zero_unit_and_limit",
        "the new zero point on top of the old one",
    ),
    trained(
        "training/reward/normalise",
        "return centring(raw, clip=how.clip)",
        "return centring(raw)",
        f"{UPDATES}::test_reference_answers_set_zero_unit_and_limit",
        "a limit that is read and not kept",
    ),
    trained(
        "models/reward/normalisation",
        "std(correction=0)",
        "std()",
        f"{UPDATES}::test_reference_answers_set_zero_unit_and_limit",
        "the sample's deviation under the name of the reference answers'",
    ),
    trained(
        "models/reward/two_class",
        "self.normalisation.apply(log_odds(read_all(self.reader, encoded(self.language, groups), budget)))",
        "log_odds(read_all(self.reader, encoded(self.language, groups), budget))",
        NORMALISED,
        "a zero point that is stored and not applied",
    ),
    trained(
        "models/reward/aspects",
        'self.normalisation.apply(standardised @ self.table("weight").cpu())',
        'standardised @ self.table("weight").cpu()',
        NORMALISED,
        "a zero point that is stored and not applied",
    ),
    trained(
        "models/reward/shared_trunk",
        "self.normalisation.apply(read_all(self, encoded(self.language, groups), budget).squeeze(1))",
        "read_all(self, encoded(self.language, groups), budget).squeeze(1)",
        NORMALISED,
        "a zero point that is stored and not applied",
    ),
    trained(
        "models/reward/aspects",
        'budget) + self.table("offset").cpu()',
        "budget)",
        f"{NORMALISED}::test_an_aspects_offset_is_in_its_rating_and_in_the_score",
        "a ridge fit's intercept left out of the score",
    ),
    trained(
        "training/reward/gate",
        "penalties(ratings, verbosity, self.max_correlation)",
        "penalties(ratings, verbosity, 0.03)",
        f"{UPDATES}::test_a_gates_penalties_are_measured_on_the_ratings",
        "an option that is read and not used",
    ),
)
