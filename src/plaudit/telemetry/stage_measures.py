"""What a stage finds out in the end: the measures of results that have no curve of their own."""

from __future__ import annotations

from plaudit.records.results import Measure
from plaudit.telemetry.step_measures import PAIR_ACCURACY

_P_BETTER = "p = σ(r(x, y_w) − r(x, y_l))"

# fmt: off
_JUDGES = (
    Measure(key="expected_accuracy_over_pairs", title="expected held-out pair accuracy",
            unit="share of pairs", better="up", curve="held_out_accuracy_over_pairs",
            meaning="How often the judge would agree with a labeller, computed from the known probability of each "
            "label instead of one drawn label. Floor: a coin. Ceiling: a judge who knows the true reward.",
            formula="mean over pairs of P(label agrees with the judge's order); equal scores count ½"),
    Measure(key="accuracy_where_longer_over_pairs", title="pair accuracy where the better answer is the longer",
            unit="share of pairs", better="up",
            meaning="Pair accuracy over the pairs whose better answer, by the labels, has more characters. A judge "
            "without a length bias reaches the same where it has fewer; one that counts characters reaches 1.",
            formula=PAIR_ACCURACY),
    Measure(key="accuracy_where_shorter_over_pairs", title="pair accuracy where the better answer is the shorter",
            unit="share of pairs", better="up",
            meaning="Pair accuracy over the pairs whose better answer, by the labels, has fewer characters. A judge "
            "without a length bias reaches the same where it has more; one that counts characters reaches 0.",
            formula=PAIR_ACCURACY),
    Measure(key="length_correlation_over_responses", title="correlation of score with length inside prompts",
            unit="correlation", meaning="Pearson correlation of score and length in characters, each prompt's means "
            "taken out. Labels may like length too, so it need not be 0.",
            formula="corr(r − r̄_x, |y| − mean |y|_x)"),
    Measure(key="first_wins_over_pairs", title="first-listed answer wins", unit="share of pairs",
            meaning="Share of the pairs whose first-listed answer scores higher, equal scores counting half. Without a "
            "position bias it is near the share in which the labels prefer the first (`labels_prefer_first`).",
            formula="share of pairs with r(x, y_1) > r(x, y_2), plus half the share with equality"),
    Measure(key="order_flips_over_pairs", title="winner changes with the answers' order", unit="share of pairs",
            better="down", meaning="Share of the pairs whose winner is another one when the prompt's answers are "
            "listed in the opposite order. 0 for a judge that scores each answer by itself.",
            formula="share of pairs with another winner; ½ where one of the two orders gives equal scores"),
    Measure(key="same_again_over_pairs", title="same winner when asked again", unit="share of pairs", better="up",
            meaning="Of a language model that judges: how often the same of two answers is ahead when it is asked the "
            "same again with another seed; half where one of the two times they are level."),
    Measure(key="first_shown_wins_over_verdicts", title="answer shown first wins", unit="share of verdicts",
            meaning="Of the verdicts that decide, each pair being shown in both orders: how often the answer shown "
            "first wins. Without a position bias ½."),
    Measure(key="inconsistent_over_pairs", title="verdicts differ with the order", unit="share of pairs", better="down",
            meaning="Pairs on which a judge's two verdicts, one in each order, name different winners or only one of "
            "them a winner. Its score is their mean."),
    Measure(key="unreadable_over_replies", title="replies without a verdict", unit="share of replies", better="down",
            meaning="Replies in which no number or verdict was found, or one beyond the scale: the judge abstains."),
    Measure(key="rewardbench_over_subsets", title="RewardBench 2", unit="share of rows", better="up",
            meaning="RewardBench 2's own score: the correct answer among four scores highest, of the subset Ties a "
            "weighted mix of accuracies and margins; the whole is the mean over the subsets.",
            formula="mean over subsets of mean [correct is best] / n that share the top"),
    Measure(key="log_loss_over_pairs", title="log loss of P(better)", unit="nats", better="down",
            meaning="What it costs to believe the judge's probability that the better answer is better. Floor: always "
            "saying ½. Only scores in nats of preference can be calibrated (`has_scale`: 1).",
            formula=f"mean of −log p,  {_P_BETTER}"),
    Measure(key="brier_over_pairs", title="Brier score of P(better)", unit="probability²", better="down",
            meaning="Mean squared error of the judge's probability that the better answer is better. Floor: ½ for "
            "every pair.", formula=f"mean of (1 − p)²,  {_P_BETTER}"),
    Measure(key="calibration_error_over_pairs", title="expected calibration error", unit="probability", better="down",
            meaning="How far the judge's confidence in its favourite is from how often the favourite is the labels', "
            "in bins of equal width.", formula="Σ_b n_b/n |mean confidence − accuracy|"),
    Measure(key="aspect/{name}_pearson_over_labels", title="linear correlation with the ratings", unit="Pearson's r",
            better="up", meaning="How closely scores follow ratings on a straight line, over held-out answers; several "
            "labellers' numbers of one answer count as their mean. Ceiling, where several rated an answer: single "
            "ratings with the mean of the others'.", formula="corr( r(x, y), rating )"),
    Measure(key="aspect/{name}_rmse_over_labels", title="error to the ratings (RMSE)", unit="rating", better="down",
            meaning="Distance of scores from held-out ratings, in the ratings' unit: of use where the judge learnt "
            "this very scale. Floor: the ratings' own mean for every answer.", formula="√( mean (r(x, y) − rating)² )"),
    Measure(key="aspect/{name}_accuracy_over_pairs", title="pair accuracy by the ratings", unit="share of pairs",
            better="up", meaning="Share of the pairs of a prompt's answers that the judge orders as their ratings do; "
            "equal scores count half, equal ratings are left out. Floor: a coin.", formula=PAIR_ACCURACY),
    Measure(key="brier_over_rows", title="Brier score of P(accept)", unit="probability²", better="down",
            meaning="Mean squared error of σ(score) as the probability that an answer was accepted. Floor: the share "
            "of accepted ones for every answer.", formula="mean of (σ(r(x, y)) − [accepted])²"),
    Measure(key="cut_over_answers", title="answers too long for the model", unit="share of answers", better="down",
            meaning="Share of the answers that, with their prompts, are longer than the model reads: they are judged "
            "by a part of the text, or left out."),
    Measure(key="two_labellers_over_pairs", title="two labellers agree", unit="share of pairs",
            meaning="Of two labellers who both prefer one of two answers: how often it is the same one."),
    Measure(key="labeller_against_others_over_pairs", title="a labeller agrees with the others",
            unit="share of pairs", meaning="A labeller against the majority of the other labellers; own ties count "
            "half, pairs without a majority are left out. What a judge's accuracy may be compared with."),
    Measure(key="verdict_alpha_over_pairs", title="Krippendorff's α of the labellers", unit="α", better="up",
            meaning="How far labellers agree beyond chance on whether one of two answers is better, worse or equal. "
            "1: always; 0: as by chance.", formula="1 − observed / expected disagreement, nominal"),
    Measure(key="gold_accuracy_over_pairs", title="agreement with gold tasks", unit="share of pairs", better="up",
            meaning="How often a labeller orders two answers as is known to be right; own ties count half. Floor: a "
            "coin."),
    Measure(key="people_win_rate_over_prompts", title="win rate by people", unit="share of prompts", better="up",
            meaning="Share of the prompts on which people prefer this policy's answer to the baseline's; ties count "
            "half, several people's verdicts of one prompt count as their mean (N5.1). 0.5: no difference.",
            formula="(wins + ½ ties) / prompts"),
    Measure(key="judge_with_people_over_prompts", title="the judge agrees with people", unit="share of prompts",
            better="up", meaning="Where most people prefer one of two policies' answers: how often the comparison's "
            "judge scores that one higher; its ties count half. Floor: a coin."),
)

_POLICIES = (
    Measure(key="judge_score_over_prompts", title="mean score by the judge", unit="score", better="up",
            meaning="What the comparison's judge says of the policy's answers to held-out prompts. It need not be the "
            "judge that the policy was trained by.", formula="(1/B) Σ_b r(x_b, y_b)"),
    Measure(key="win_rate_over_prompts", title="win rate", unit="share of prompts", better="up",
            meaning="Share of the prompts on which the judge scores this policy's answer above the baseline's; ties "
            "count half (N5.1). 0.5: no difference.", formula="(wins + ½ ties) / prompts"),
    Measure(key="length_controlled_win_rate_over_prompts", title="win rate at equal length", unit="share of prompts",
            better="up", meaning="The win rate to expect were this policy's answers as long as the baseline's: a "
            "logistic regression on the difference in characters, read at 0, as AlpacaEval 2 does. 0.5: no difference.",
            formula="σ(θ),  P(win) = σ(θ + φ tanh(Δlength / std Δlength))"),
    Measure(key="bradley_terry_over_prompts", title="Bradley–Terry strength", unit="nats", better="up",
            meaning="Log-odds of winning against the baseline (0), by the games of all policies against each other; "
            "ties count half. One imaginary tie between every two keeps it finite.",
            formula="max_s Σ w_ij log σ(s_i − s_j);  s_i − s_baseline"),
    Measure(key="elo_over_prompts", title="Elo", unit="points", better="up",
            meaning="The Bradley–Terry strength on Elo's scale, the baseline at 1000: 400 points are odds of 10 to 1. "
            "Unlike ratings that move game by game it doesn't depend on the games' order.",
            formula="1000 + 400 log₁₀(e) (s_i − s_baseline)"),
    Measure(key="kl_baseline_over_prompts", title="KL", unit="nats/response",
            meaning="How far the policy's answers to held-out prompts lie from what the baseline would write: the "
            "price of its score.", formula="(1/B) Σ_b Σ_t [log π(y_t | x, y_<t) − log π_baseline(y_t | x, y_<t)]"),
    Measure(key="objective_over_prompts", title="objective", unit="score", better="up",
            curve="objective_over_responses",
            meaning="What training maximised, from fresh samples on held-out prompts: the score less the price of the "
            "KL. Floor: the baseline. Ceiling: the optimum J*, where the answers can be listed; a lower bound of it.",
            formula="J = E[r] − β·KL,  J* = E_x[ β log E_{y∼π_ref(·|x)} e^{r(x,y)/β} ]"),
    Measure(key="progress_over_prompts", title="progress to the optimum", unit="share of the way", better="up",
            meaning="How far the policy came on the objective that was maximised, from the baseline (0) to the optimum "
            "(1). J* is computed by listing the answers, so it is a lower bound of the optimum.",
            formula="(J − J_ref) / (J* − J_ref)"),
    Measure(key="best_of_n_over_prompts", title="true score of the best of n", unit="score", better="up",
            meaning="What the true reward, or a judge that nothing was optimised for, says of the answer that this "
            "judge likes best among n; mean over prompts, in expectation over all choices of n from the pool. Floor: "
            "n = 1, an answer taken by chance.",
            formula="E[ r_true(x, y_i) ],  i = argmax over n answers of r(x, y_i)"),
    Measure(key="task_score_over_documents", title="task", unit="", better="up",
            meaning="What lm-evaluation-harness gives a model on one of its tasks, by the metric named with it; the "
            "interval is the normal one of its standard error."),
    Measure(key="task_loss_over_documents", title="task", unit="", better="down",
            meaning="The same by a metric of which less is better, such as perplexity."),
)
# fmt: on

STAGE_MEASURES = (*_JUDGES, *_POLICIES)
