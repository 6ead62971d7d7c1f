"""What a training step logs: the measures that have a curve, by the figure in which it is drawn."""

from __future__ import annotations

from plaudit.records.results import Measure

_NLL = "−(1/N) Σ_t log π_θ(y_t | x, y_<t),  N answer tokens"
_KL_SUM = "(1/B) Σ_b Σ_t [log π_old(y_t | x, y_<t) − log π_ref(y_t | x, y_<t)],  π_old the policy that sampled"
_PAIR_LOSS = "(1/P) Σ_x 1/C(K,2) Σ_{w≻l} −log σ(r(x, y_w) − r(x, y_l)),  P prompts of K answers"
PAIR_ACCURACY = "share of pairs with r(x, y_w) > r(x, y_l), plus half the share with equality"
_CLIPPED = "(1/N) Σ_t 1[ the clipped loss of the token is the larger one ]: the share that gives no gradient"

# fmt: off
_FINE_TUNING = (
    Measure(key="loss_over_tokens", title="loss per token", unit="nats/token", better="down", panel="Loss",
            meaning="Training loss: −log p of the answer's tokens (N1.1).", formula=_NLL),
    Measure(key="held_out_loss_over_tokens", title="held-out loss per token", unit="nats/token", better="down",
            panel="Loss", meaning="The training loss on rows that nothing is trained on.", formula=_NLL),
    Measure(key="held_out_perplexity", title="held-out perplexity", unit="", better="down", panel="Perplexity",
            meaning="Between how many equally likely next tokens the model hesitates, on held-out answers.",
            formula="exp( held-out loss per token )"),
    Measure(key="held_out_nll_over_answers", title="held-out loss per answer", unit="nats/answer",
            better="down", panel="Loss of a whole answer", curve="held_out_nll_over_answers",
            meaning="−log p of a whole held-out answer under the model, given its prompt; mean over answers. No model "
            "can come below the entropy of the answers.",
            formula="−(1/B) Σ_b Σ_t log π_θ(y_t | x, y_<t)"),
    Measure(key="held_out_end_over_answers", title="held-out probability of the end", unit="probability", better="up",
            panel="Probability of the end", meaning="What the model gives the end token where held-out answers end, "
            "mean over answers that end by one. Near 0 it never stops by itself.", formula="mean of π_θ(end | x, y)"),
    Measure(key="left_out_over_rows", title="rows left out", unit="fraction", better="down", panel="Rows too long",
            meaning="Share of the training rows that were left out because they are too long; logged once."),
    Measure(key="cut_over_rows", title="rows cut", unit="fraction", better="down", panel="Rows too long",
            meaning="Share of the training rows that were cut because they are too long; logged once."),
)

_REWARD = (
    Measure(key="loss_over_rows", title="loss", unit="", better="down", panel="Loss",
            meaning="Training loss of the reward model's objective, divided by what the objective counts: prompts, "
            "pairs, answers or ratings.",
            formula="(1/n) Σ loss,  n what the objective counts"),
    Measure(key="held_out_loss_over_prompts", title="held-out loss per prompt", unit="nats", better="down",
            panel="Loss", meaning="The K-wise loss on held-out rankings (N3.3), whatever the model was trained by.",
            formula=_PAIR_LOSS),
    Measure(key="accuracy_over_pairs", title="pair accuracy", unit="share of pairs", better="up", panel="Accuracy",
            meaning="Share of the step's training pairs that the model orders as the labels do; equal scores count "
            "half.", formula=PAIR_ACCURACY),
    Measure(key="accuracy_over_rows", title="accuracy on verdicts", unit="share of answers", better="up",
            panel="Accuracy", meaning="Share of the step's training answers whose score has the label's sign: above 0 "
            "for accepted ones, not above it for the others.",
            formula="share of answers with [r(x, y) > 0] = [accepted]"),
    Measure(key="held_out_accuracy_over_pairs", title="held-out pair accuracy", unit="share of pairs", better="up",
            panel="Accuracy", curve="held_out_accuracy_over_pairs",
            meaning="Share of held-out pairs that the judge orders as the labels do; equal scores count half, pairs "
            "that the labels tie are left out. Floor: a coin. Ceiling, where rows carry several votes: a labeller "
            "against the majority of the others.", formula=PAIR_ACCURACY),
    Measure(key="held_out_accuracy_over_rows", title="held-out accuracy on verdicts", unit="share of answers",
            better="up", panel="Accuracy", curve="held_out_accuracy_over_rows",
            meaning="Share of held-out answers that score above the threshold and were accepted, or not above it and "
            "were not. The threshold is told; else 0 where scores are log-odds of acceptance, and for other judges "
            "learnt on nine tenths of the prompts for the last tenth. Floor: the more frequent verdict for all.",
            formula="share of answers with [r(x, y) > threshold] = [accepted]"),
    Measure(key="held_out_auc", title="held-out area under the ROC curve", unit="share of pairs", better="up",
            panel="Accuracy", curve="held_out_auc",
            meaning="Probability that an accepted answer scores above one that was not, whatever their prompts; equal "
            "scores count half. It doesn't look at where the scores' zero lies. Floor: a coin.",
            formula="P( r(accepted) > r(rejected) ) + ½ P( equal )"),
    Measure(key="margin_over_pairs", title="margin", unit="score", better="up", panel="Margin",
            meaning="Score of the preferred answer less that of the other, mean over the step's training pairs.",
            formula="mean of r(x, y_w) − r(x, y_l)"),
    Measure(key="lm_loss_over_tokens", title="loss as a language model", unit="nats/token", better="down",
            panel="Loss as a language model", meaning="Loss of the best answers as text, learnt beside the ranking "
            "(N3.13).", formula="−(1/N) Σ_t log p(y_t | x, y_<t),  y the best answers"),
    Measure(key="aspect/{name}_spearman_over_labels", title="rank correlation with the ratings", unit="Spearman's ρ",
            better="up", panel="Rank correlation by aspect", curve="aspect/{name}_spearman_over_labels",
            meaning="Whether answers that people rate higher score higher, by ranks alone (Spearman), over held-out "
            "answers (N3.7): 1 the same order, 0 none, −1 the opposite one.",
            formula="corr( rank of r(x, y), rank of the rating ),  ties share their mean rank"),
    Measure(key="rows_over_seconds", title="training speed", unit="rows/s", better="up", panel="Speed",
            meaning="Training rows through forward, backward and optimiser in a second."),
)

_GOAL = (
    Measure(key="score_over_responses", title="score", unit="score", better="up", panel="Score",
            meaning="What the judge says of a whole response, mean over the rollout.", formula="(1/B) Σ_b r(x_b, y_b)"),
    Measure(key="objective_over_responses", title="objective", unit="score", better="up", panel="Objective",
            meaning="What is maximised: the score less the price of the KL (N4.6).",
            formula="(1/B) Σ_b [ r(x_b, y_b) − β Σ_t (log π_old − log π_ref) ]"),
    Measure(key="kl_ref_over_responses", title="KL to the reference", unit="nats/response",
            panel="KL to the reference", meaning="How far responses lie from what the reference would write: the "
            "log-ratio summed over a response's tokens, mean over responses.", formula=_KL_SUM),
    Measure(key="held_out_score_over_prompts", title="score on held-out prompts", unit="score", better="up",
            panel="Score", curve="held_out_score_over_prompts",
            meaning="What the training's judge says of answers to prompts that nothing is trained on, drawn by the "
            "same random numbers each time. Floor: before training.", formula="(1/B) Σ_b r(x_b, y_b)"),
    Measure(key="held_out_greedy_score_over_prompts", title="score of the likeliest answers", unit="score", better="up",
            panel="Score", curve="held_out_greedy_score_over_prompts",
            meaning="The same of answers whose every token is the likeliest one."),
    Measure(key="held_out_kl_ref_over_prompts", title="KL to the reference on held-out prompts", unit="nats/response",
            panel="KL to the reference", curve="held_out_kl_ref_over_prompts",
            meaning="How far answers to held-out prompts lie from what the reference would write; mean over those that "
            "the judge has an opinion on, as of the score.", formula=_KL_SUM),
    Measure(key="held_out_objective_over_prompts", title="objective on held-out prompts", unit="score", better="up",
            panel="Objective", curve="held_out_objective_over_prompts",
            meaning="Score less the price of the KL on held-out prompts, by the β that the run began with: the policy "
            "with the highest one is kept in best/.", formula="held-out score − β · held-out KL"),
    Measure(key="held_out_part/{name}_over_prompts", title="another judge on held-out prompts", unit="score",
            better="up", panel="Score", curve="held_out_part/{name}_over_prompts",
            meaning="What a judge says that teaches nothing (`evaluation.truth`) of the same answers to held-out "
            "prompts. It falling while the score rises is how a judge is fooled."),
    Measure(key="length_over_responses", title="length", unit="tokens/response", panel="Length",
            meaning="Tokens of a response, the end token included."),
    Measure(key="eos_over_responses", title="ended by itself", unit="fraction", panel="How responses end",
            meaning="Share of the responses that ended by an end token or a stop string, not by the limit."),
    Measure(key="repetition_over_responses", title="repetition", unit="fraction", better="down", panel="Repetition",
            meaning="Share of a response's runs of four tokens that it has written before, mean over responses of four "
            "tokens and more. Circles are near 1.", formula="mean of 1 − distinct runs / runs"),
    Measure(key="abstained_over_responses", title="without a score", unit="fraction", better="down",
            panel="How responses end", meaning="Share of the responses that no judge would score."),
    Measure(key="part/{name}_over_responses", title="part of the score", unit="score", panel="Parts of the score",
            meaning="One named part of the score, before its weight; mean over the responses that it judged."),
    Measure(key="part_failed/{name}_over_responses", title="part that failed", unit="fraction", better="down",
            panel="Parts without an opinion",
            meaning="Share of the answers on which this part raised, hung, died or was not finite (N3.14)."),
    Measure(key="part_abstained/{name}_over_responses", title="part without an opinion", unit="fraction",
            panel="Parts without an opinion", meaning="Share of the answers of which this part had no opinion."),
    Measure(key="part_beyond/{name}_over_responses", title="beyond what the judge knows", unit="fraction",
            better="down", panel="Parts without an opinion", meaning="Share of the answers that this reward model "
            "scores above every held-out answer that it was measured on when it was trained."),
    Measure(key="part_cut/{name}_over_responses", title="answers judged in part", unit="fraction", better="down",
            panel="Answers judged in part",
            meaning="Share of the answers that were too long for this reward model's context, beside their prompt: it "
            "judged them by a part of the text."),
    Measure(key="part_logged/{name}_over_responses", title="logged by a reward function", unit="as logged",
            panel="Logged by reward functions",
            meaning="What a reward function gave to `log_metric` or `log_extra`; mean over the step."),
    Measure(key="entropy_over_tokens", title="entropy", unit="nats/token", panel="Entropy",
            meaning="Entropy of the next-token distribution, mean over the sampled tokens.",
            formula="−(1/N) Σ_t Σ_v π_old(v | x, y_<t) log π_old(v | x, y_<t)"),
    Measure(key="score_std_over_responses", title="spread of the scores", unit="score", panel="Spread of scores",
            meaning="Standard deviation of the scores of one rollout.", formula="√( (1/B) Σ_b (r_b − r̄)² )"),
    Measure(key="reward_over_responses", title="KL-shaped reward", unit="score", better="up", panel="KL-shaped reward",
            meaning="Sum of a response's token rewards, the KL's price included; mean over responses.",
            formula="(1/B) Σ_b Σ_t r_t,  r_t = −β (log π_old − log π_ref) + [t is last] r(x, y)"),
    Measure(key="kl_coef", title="weight of the KL", unit="score/nat", panel="Weight of the KL",
            meaning="β of N4.6: what a nat of KL to the reference costs.", formula="β"),
    Measure(key="trust_kl_coef", title="weight of the trust region's KL", unit="1/nat",
            panel="Weight of the trust region's KL",
            meaning="Weight of KL(old policy ‖ updated policy) in the loss (N4.5)."),
)

_UPDATE = (
    Measure(key="policy_loss_over_tokens", title="policy loss", unit="", panel="Policy loss",
            meaning="The clipped policy loss (N4.4), minimised. Its level says little: advantages are centred.",
            formula="−(1/N) Σ_t min( ρ_t Â_t, clip(ρ_t, 1−ε, 1+ε) Â_t ),  ρ_t = π_θ/π_old"),
    Measure(key="value_loss_over_tokens", title="value loss", unit="score²", better="down", panel="Value loss",
            meaning="Half the squared error of the critic's values (N4.8).",
            formula="(1/N) Σ_t ½ (V_t − R̂_t)², the larger of it and its clipped twin"),
    Measure(key="ptx_loss_over_tokens", title="loss on pre-training text", unit="nats/token", better="down",
            panel="Loss on pre-training text", meaning="Loss on the pre-training text that is learnt beside (N4.12).",
            formula="−(1/N) Σ_t log π_θ(x_t | x_<t)"),
    Measure(key="kl_loss_over_tokens", title="KL in the loss", unit="nats/token", panel="KL in the loss",
            meaning="The KL to the reference where it stands in the loss and not in the rewards (N4.6)."),
    Measure(key="clip_fraction_over_tokens", title="clipped ratios", unit="fraction", panel="Clip fraction",
            meaning="Share of the tokens whose probability ratio the clip cut off.", formula=_CLIPPED),
    Measure(key="value_clip_fraction_over_tokens", title="clipped values", unit="fraction", panel="Clip fraction",
            meaning="Share of the tokens whose value the clip cut off.", formula=_CLIPPED),
    Measure(key="approx_kl_old_over_tokens", title="KL to the sampling policy", unit="nats/token",
            panel="Step away from the sampler", meaning="How far the iteration's updates moved the policy from the one "
            "that sampled.", formula="(1/N) Σ_t [ (ρ_t − 1) − log ρ_t ],  ρ_t = π_θ/π_old"),
    Measure(key="ratio_max", title="largest ratio", unit="", panel="Largest ratio",
            meaning="Largest importance ratio of a token in the iteration; 1: no change.",
            formula="max ρ_t,  ρ_t = π_θ(y_t | x, y_<t) / π_old(y_t | x, y_<t)"),
    Measure(key="explained_variance", title="explained variance", unit="fraction", better="up",
            panel="Explained variance", meaning="Share of the returns' variance that the critic's values explain; 0 "
            "for a constant, below 0 for worse than one.", formula="1 − Var(R̂ − V) / Var(R̂)"),
    Measure(key="value_over_tokens", title="value", unit="score", panel="Values and returns",
            meaning="Mean value that the critic predicts."),
    Measure(key="return_over_tokens", title="return", unit="score", panel="Values and returns",
            meaning="Mean return: what the values should predict."),
    Measure(key="minibatches", title="optimiser steps", unit="updates", panel="Optimiser steps",
            meaning="Optimiser steps of the iteration; fewer where a brake held."),
    Measure(key="kl_sampler_over_tokens", title="KL of sampler and trainer", unit="nats/token", better="down",
            panel="KL of sampler and trainer",
            meaning="KL of the policy that the sampler ran to the same policy as the trainer computes it."),
    Measure(key="sampler_logprob_gap_max", title="sampler against trainer", unit="nats", better="down",
            panel="Sampler against trainer",
            meaning="Largest difference of a token's log-probability between sampler and trainer.",
            formula="max |log π_sampler − log π_old|"),
    Measure(key="sampler_corrected_over_tokens", title="corrected for the sampler", unit="fraction",
            panel="Tokens corrected for the sampler",
            meaning="Share of the tokens truncated or masked because sampler and trainer differ."),
)

_EVERY_STAGE = (
    Measure(key="grad_norm", title="gradient norm", unit="", panel="Gradient norm",
            meaning="Norm of the gradient before clipping."),
    Measure(key="learning_rate", title="learning rate", unit="", panel="Learning rate",
            meaning="Learning rate of the optimiser step."),
    Measure(key="skipped_updates", title="updates left out", unit="updates", better="down", panel="Updates left out",
            meaning="Optimiser steps left out so far, because loss or gradient was not finite."),
    Measure(key="tokens_over_seconds", title="training speed", unit="tokens/s", better="up", panel="Speed",
            meaning="Tokens through forward, backward and optimiser in a second, prompts included."),
    Measure(key="seconds_sample", title="seconds of sampling", unit="s", better="down", panel="Time of a step",
            meaning="Wall-clock time of an iteration's sampling."),
    Measure(key="seconds_score", title="seconds of scoring", unit="s", better="down", panel="Time of a step",
            meaning="Wall-clock time of an iteration's scoring, reference and values included."),
    Measure(key="seconds_update", title="seconds of updates", unit="s", better="down", panel="Time of a step",
            meaning="Wall-clock time of an iteration's optimiser steps."),
)
# fmt: on

STEP_MEASURES = (*_FINE_TUNING, *_REWARD, *_GOAL, *_UPDATE, *_EVERY_STAGE)
