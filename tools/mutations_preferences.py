"""Mistakes in the losses and measures of reward models."""

from tools.mutation import Mutation, formula, trained

MUTATIONS: tuple[Mutation, ...] = (
    # listwise_losses
    formula(
        "listwise_losses",
        "differences, -torch.inf).logsumexp(dim=1)",
        "-differences, -torch.inf).logsumexp(dim=1)",
        "the worst answer is taught as the best",
    ),
    formula(
        "listwise_losses",
        "groups[winner].unsqueeze(1) == groups)",
        "torch.ones_like(groups[winner].unsqueeze(1) == groups))",
        "one softmax over the answers of all prompts",
    ),
    formula(
        "listwise_losses",
        "(losses / winners[prompt[winner]]).sum()",
        "losses.sum()",
        "a prompt with three best answers weighs three times",
    ),
    formula(
        "listwise_losses",
        "counted = (winners > 0) & (winners < answers)",
        "counted = winners > 0",
        "prompts that have nothing to learn dilute the mean",
    ),
    formula(
        "listwise_losses",
        "below = same_prompt & (ranks.unsqueeze(1) < ranks)",
        "below = same_prompt & (ranks.unsqueeze(1) > ranks)",
        "the ranking upside down",
    ),
    formula(
        "listwise_losses",
        "_minus_log_first(scores, alone, (tied | below)[alone])",
        "_minus_log_first(scores, alone, same_prompt[alone])",
        "answers that are taken already still compete",
    ),
    formula(
        "listwise_losses",
        "remaining = log_f[:, torch.tensor(without, device=own.device)]",
        "remaining = 0.0 * log_f[:, torch.tensor(without, device=own.device)]",
        "the tie's first answer only, not all of them",
    ),
    formula(
        "listwise_losses",
        "log_total = torch.logaddexp(chosen.logsumexp(dim=-1), rest.unsqueeze(1))",
        "log_total = torch.logaddexp(own.logsumexp(dim=-1, keepdim=True), rest.unsqueeze(1))",
        "within the tie those that are taken already still compete",
    ),
    # pointwise_losses
    formula(
        "pointwise_losses",
        "logits[:, 1] - logits[:, 0]",
        "logits[:, 0] - logits[:, 1]",
        "the log-odds of rejection as the score",
    ),
    formula(
        "pointwise_losses",
        "divisor = 2.0 * max(int(num_labels), 1)",
        "divisor = max(int(num_labels), 1)",
        "the root's derivative without its half",
    ),
    formula(
        "pointwise_losses",
        "select(at_least_float32(predictions), present)",
        "at_least_float32(predictions)",
        "predictions without a label enter the square: 0 · NaN in the gradient",
    ),
    formula(
        "pointwise_losses",
        "return masked_sum(errors.square(), present), present.sum()",
        "return masked_sum(errors.square(), present), torch.ones_like(present).sum()",
        "absent ratings count in the mean",
    ),
    formula(
        "pointwise_losses",
        "own = labels[labellers == labeller].double()",
        "own = labels.double()",
        "every labeller on everybody's scale",
    ),
    formula("pointwise_losses", "predictions * std + mean", "predictions * std - mean", "back to another scale"),
    # token_preference
    formula(
        "token_preference",
        "(both if form == ",
        "(either if form == ",
        "the shorter answer's padding in the loss (the note's code)",
    ),
    formula(
        "token_preference",
        "(differs.cumsum(dim=1) > 0)",
        "differs",
        "tokens that follow a difference but are equal themselves are left out",
    ),
    formula(
        "token_preference",
        "| (chosen_mask != rejected_mask))",
        ")",
        "an answer that goes on with the pad token looks the same as one that ended",
    ),
    formula(
        "token_preference",
        "torch.maximum(chosen_last, rejected_last)",
        "torch.minimum(chosen_last, rejected_last)",
        "the longer answer judged where the shorter one ends",
    ),
    formula(
        "token_preference",
        "select(chosen - rejected, compared)",
        "select(rejected - chosen, compared)",
        "the sign of the difference",
    ),
    formula(
        "token_preference",
        "(losses.sum(dim=1) / compared.sum(dim=1).clamp(min=1)).sum()",
        "losses.sum()",
        "long answers weigh more",
    ),
    formula(
        "token_preference",
        "select(at_least_float32(values), mask).gather(1, own)",
        "select(at_least_float32(values), mask)",
        "zeros for the shorter answer's last value",
    ),
    # pair_scores
    formula(
        "pair_scores",
        "- (1.0 - outcomes) * logsigmoid(-logits)",
        "- (1.0 - outcomes) * logsigmoid(logits)",
        "a lost comparison taught as a won one",
    ),
    formula(
        "pair_scores",
        "pair_bce(swapped_logits, 1.0 - outcomes)",
        "pair_bce(swapped_logits, outcomes)",
        "the swapped order with the unswapped label",
    ),
    formula(
        "pair_scores",
        "at_least_float32(pair_logits) - at_least_float32(swapped_logits)",
        "at_least_float32(pair_logits) + at_least_float32(swapped_logits)",
        "B over A returned unflipped (LLM-Blender's compare): the position bias is all that is left",
    ),
    formula(
        "pair_scores",
        "_off_diagonal(1.0 - first_wins).sum(dim=0)",
        "_off_diagonal(1.0 - first_wins).mean(dim=0)",
        "wins that add a sum to a mean (LLM-Blender's max_wins)",
    ),
    formula("pair_scores", "max(logit_matrix.shape[0] - 1, 1)", "logit_matrix.shape[0]", "itself as an opponent"),
    formula(
        "pair_scores",
        "compare(champion, challenger)) > 0.0",
        "compare(champion, challenger)) < 0.0",
        "the worst of a pass",
    ),
    # what the losses are fed with
    trained(
        "training/reward/rankings",
        "tuple(rank - above for _, rank in kept)",
        "tuple(rank for _, rank in kept)",
        "training/test_reward.py::test_where_the_best_answer_was_too_long_the_best_of_the_others_is_learned",
        "where the best answer was too long nothing is the best, and the prompt still counts in the mean",
    ),
    trained(
        "training/reward/rankings",
        "if all(prompt == prompts[0] for prompt in prompts):",
        "if prompts:",
        "training/test_reward.py::test_answers_share_a_prompt_only_where_it_is_the_same",
        "an answer read after the prompt of another, where truncation left them different ones",
    ),
    trained(
        "models/reward/gated",
        "Scores.of_all(self.normalisation.apply(scores), {**self",
        "Scores.of_all(scores, {**self",
        "models/test_gated.py",
        "a zero point that is stored and not applied",
    ),
    trained(
        "models/reward/gated",
        'model.correct(int(facts["verbosity"]), tensors.pop("penalties"))',
        'tensors.pop("penalties")',
        "models/test_gated.py",
        "a loaded gate scores without the correction that it was trained with",
    ),
    # calibration, correlation, ridge
    formula(
        "calibration",
        "(probabilities.double() * num_bins).long()",
        "(probabilities.double() * num_bins).round().long()",
        "bins shifted by half",
    ),
    formula(
        "calibration",
        "gaps = self.counts * ",
        "gaps = ",
        "a bin of one prediction weighs as much as one of a thousand",
    ),
    formula("calibration", "torch.xlogy(1.0 - y, 1.0 - p)", "torch.xlogy(1.0 - y, p)", "log loss of another outcome"),
    formula(
        "correlation",
        "last - 0.5 * (counts.double() - 1.0)",
        "last",
        "ties at the last of their places: Spearman with ties is wrong",
    ),
    formula(
        "correlation",
        "untied_labels += y.abs().sum().item()",
        "untied_labels += y.numel()",
        "τ_a: ties in the labels count against the model",
    ),
    formula("correlation", "0.5 * (r[better] + 1.0)", "(r[better] > 0.0).double()", "a tie counts as lost"),
    formula(
        "ridge", "level - weights @ mean", "level", "the intercept of centred features for the features themselves"
    ),
    formula(
        "ridge",
        "features.detach()[present].double(), labels",
        "features.detach().double(), labels",
        "absent rows are fitted",
    ),
    # what `eval reward` measures
    trained(
        "evaluation/pair_measures",
        "better - worse, longer",
        "worse - better, longer",
        "evaluation/test_pair_measures.py",
        "margins with the wrong sign",
    ),
    trained(
        "evaluation/pair_measures",
        "pair_bce(margins.abs(), right)",
        "pair_bce(margins, right)",
        "evaluation/test_pair_measures.py",
        "the label in the probability: a judge that is wrong is calibrated",
    ),
    trained(
        "evaluation/pair_measures",
        "brier_score(margins.sigmoid(), torch.ones_like(margins))",
        "brier_score(confidence, right)",
        "evaluation/test_pair_measures.py",
        "a judge that finds all answers equal has a perfect Brier score",
    ),
    trained(
        "evaluation/pair_measures",
        "zip(straight, reversed(other), strict=True)",
        "zip(straight, other, strict=True)",
        "evaluation/test_pair_measures.py",
        "scores of reversed answers compared without turning them back",
    ),
    trained(
        "evaluation/pair_measures",
        "(sign, _sign(sum(signs) - sign))",
        "(sign, _sign(sum(signs)))",
        "evaluation/test_pair_measures.py",
        "a labeller measured against a majority that he is part of",
    ),
    trained(
        "evaluation/pair_measures",
        "number - math.fsum(numbers) / len(numbers)",
        "number",
        "evaluation/test_pair_measures.py",
        "correlation with length between prompts for the one inside them",
    ),
    trained(
        "evaluation/reward_eval",
        "text if alone else group.prompt.id",
        "group.prompt.id",
        "evaluation/test_reward_eval.py",
        "texts under one prompt count as one draw",
    ),
    trained(
        "evaluation/label_measures",
        "(starts[draw] - before)",
        "starts[draw]",
        "evaluation/test_label_measures.py",
        "the bootstrap draws members of the next unit",
    ),
    trained(
        "evaluation/label_measures",
        " for index in taken if y[index].min() < y[index].max()]",
        " for index in taken]",
        "evaluation/test_label_measures.py",
        "draws of one label pull the interval towards chance",
    ),
)
