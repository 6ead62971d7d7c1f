"""The checks in the order in which they are made: static ones first, then those that run something.

Each is named by `module:function`, so that the list loads no torch.
"""

from plaudit.doctor.findings import Check, Cost

WITH_DATA = frozenset({"openings", "sft", "collect", "reward", "ppo", "compare", "frontier", "reward_eval"})
WITH_MODELS = WITH_DATA - {"openings"}
WITH_TOKENS = WITH_MODELS - {"reward_eval"}
WITH_JUDGES = WITH_MODELS - {"sft", "reward"}
WITH_PARTICIPANTS = frozenset({"sft", "collect", "reward", "ppo"})
TRAINING = WITH_PARTICIPANTS - {"collect"}
LABELLED, PPO, WRITING = frozenset({"reward", "reward_eval"}), frozenset({"ppo"}), frozenset({"collect", "ppo"})

CHECKS: tuple[Check, ...] = (
    Check("files", "data:files", Cost.STATIC, WITH_DATA, "files are there and hold what is asked for"),
    Check("learning-rate", "config:learning_rate", Cost.STATIC, TRAINING, "no slipped exponent", at_start=True),
    Check("steps", "config:steps", Cost.STATIC, TRAINING, "there are as many rows as a step wants"),
    Check("sampling", "config:sampling", Cost.STATIC, WITH_DATA, "policies write as they learned to", at_start=True),
    Check("repeats", "data:repeats", Cost.STATIC, WITH_DATA, "rows stand in their files once", at_start=True),
    Check("leaks", "data:leaks", Cost.STATIC, WITH_DATA, "what is measured on was never trained on", at_start=True),
    Check("labels", "data:labels", Cost.STATIC, LABELLED, "labels say something, and not its opposite", at_start=True),
    Check("columns", "data:columns", Cost.CHEAP, WITH_DATA, "no column goes unread because of a slip in its name"),
    Check("template", "tokens:template", Cost.CHEAP, WITH_TOKENS, "the model is written to as in training"),
    Check("bos", "tokens:bos", Cost.CHEAP, WITH_TOKENS, "one BOS, in front"),
    Check("controls", "tokens:controls", Cost.CHEAP, WITH_TOKENS, "no text spells a control token"),
    Check("end-token", "tokens:end_token", Cost.CHEAP, WITH_TOKENS, "answers end by a token learned and in reach"),
    Check("stop-strings", "tokens:stop_strings", Cost.CHEAP, WITH_TOKENS, "stop strings stand where answers end only"),
    Check("lengths", "tokens:lengths", Cost.CHEAP, WITH_TOKENS, "rows and answers fit into all contexts"),
    Check("vocabulary", "tokens:vocabulary", Cost.CHEAP, WITH_TOKENS, "the tokenizer can write the text"),
    Check("precision", "resources:precision", Cost.CHEAP, WITH_MODELS, "the machine computes in that precision"),
    Check("starts", "policy:starts", Cost.RUNNING, WITH_PARTICIPANTS, "data, models and judges fit together"),
    Check("weights", "policy:weights", Cost.RUNNING, WITH_PARTICIPANTS, "all weights are finite, and some are trained"),
    Check("endings", "policy:endings", Cost.RUNNING, WRITING, "answers end by themselves"),
    Check("judge-answers", "judge:answers", Cost.RUNNING, WITH_JUDGES, "every text gets a finite score, in time"),
    Check("judge-alone", "judge:alone", Cost.RUNNING, WITH_JUDGES, "scores depend on no company, order, padding"),
    Check("judge-varies", "judge:varied", Cost.RUNNING, WITH_JUDGES, "different answers get different scores"),
    Check("score-scale", "judge:scale", Cost.RUNNING, PPO, "scores go with kl.coef and a new critic"),
    Check("first-ratio", "policy:first_ratio", Cost.RUNNING, PPO, "π_θ/π_old = 1 before the first step"),
    Check("first-kl", "policy:first_kl", Cost.RUNNING, PPO, "KL(π ‖ π_ref) = 0 before the first step"),
    Check("engine", "policy:engine", Cost.RUNNING, PPO, "sampler and trainer give a token the same probability"),
    Check("memory", "resources:memory", Cost.RUNNING, TRAINING, "a step fits into memory"),
    Check("disk", "resources:disk", Cost.RUNNING, TRAINING, "checkpoints and models fit on the disk"),
    Check("resume", "resources:resume", Cost.RUNNING, TRAINING, "a run that was killed goes on bit for bit"),
    Check("time", "resources:time", Cost.RUNNING, TRAINING, "nothing is judged: how long a step takes, and the run"),
)
FOLLOWS: dict[str, tuple[str, ...]] = {
    "vocabulary": ("bos", "controls"),
    "starts": ("files", "labels", "template", "lengths"),
    "judge-varies": ("weights", "endings"),
    "score-scale": ("judge-answers",),
    "memory": ("weights", "judge-answers"),
    "endings": ("weights",),
    "first-ratio": ("weights",),
    "first-kl": ("weights", "first-ratio"),
    "engine": ("weights", "first-ratio"),
    "resume": ("weights", "first-ratio"),
}
"""Check → those whose faults explain its own, which are then left out: a cause is said once."""
