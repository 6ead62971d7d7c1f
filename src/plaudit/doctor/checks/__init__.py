"""The checks in the order in which they are made: static ones first, then those that run something.

Each is named by `module:function`, so that the list loads no torch.
"""

from plaudit.doctor.findings import Check, Cost

TRAINING = frozenset({"sft", "reward", "ppo"})
WITH_DATA = frozenset({"openings", "sft", "collect", "reward", "ppo", "compare", "frontier", "reward_eval"})
WITH_TOKENS = frozenset({"sft", "collect", "reward", "ppo", "compare", "frontier"})
WITH_JUDGES = frozenset({"collect", "ppo", "compare", "frontier", "reward_eval"})
WITH_PARTICIPANTS = frozenset({"sft", "collect", "reward", "ppo"})
PPO, WRITING = frozenset({"ppo"}), frozenset({"collect", "ppo"})

CHECKS: tuple[Check, ...] = (
    Check(
        name="files", proves="every file is there and holds what its option asks for", cost=Cost.STATIC,
        stages=WITH_DATA, run="data:files",
    ),
    Check(
        name="learning-rate", proves="no slipped exponent", cost=Cost.STATIC,
        stages=TRAINING, run="config:learning_rate", at_start=True,
    ),
    Check(
        name="steps", proves="there are as many rows as a step wants", cost=Cost.STATIC,
        stages=TRAINING, run="config:steps",
    ),
    Check(
        name="sampling", proves="a policy is measured as it learned to write", cost=Cost.STATIC,
        stages=WITH_DATA, run="config:sampling", at_start=True,
    ),
    Check(
        name="repeats", proves="rows stand in their files once", cost=Cost.STATIC,
        stages=WITH_DATA, run="data:repeats", at_start=True,
    ),
    Check(
        name="leaks", proves="nothing is measured on prompts that this stage or one before it trained on",
        cost=Cost.STATIC, stages=WITH_DATA, run="data:leaks", at_start=True,
    ),
    Check(
        name="labels", proves="labels say something, and not the opposite too", cost=Cost.STATIC,
        stages=frozenset({"reward", "reward_eval"}), run="data:labels", at_start=True,
    ),
    Check(
        name="columns", proves="no column goes unread because of a slip in its name", cost=Cost.CHEAP,
        stages=WITH_DATA, run="data:columns",
    ),
    Check(
        name="template", proves="the model is written to as it was when it was trained", cost=Cost.CHEAP,
        stages=WITH_TOKENS, run="tokens:template",
    ),
    Check(name="bos", proves="one BOS, in front", cost=Cost.CHEAP, stages=WITH_TOKENS, run="tokens:bos"),
    Check(
        name="controls", proves="no text spells a control token", cost=Cost.CHEAP,
        stages=WITH_TOKENS, run="tokens:controls",
    ),
    Check(
        name="end-token", proves="answers have an end token that is trained and within reach", cost=Cost.CHEAP,
        stages=WITH_TOKENS, run="tokens:end_token",
    ),
    Check(
        name="stop-strings", proves="stop strings stand where answers end, and nowhere else", cost=Cost.CHEAP,
        stages=WITH_TOKENS, run="tokens:stop_strings",
    ),
    Check(
        name="lengths", proves="rows and answers fit into the contexts of model and judges", cost=Cost.CHEAP,
        stages=WITH_TOKENS, run="tokens:lengths",
    ),
    Check(
        name="vocabulary", proves="the tokenizer can write the text", cost=Cost.CHEAP,
        stages=WITH_TOKENS, run="tokens:vocabulary",
    ),
    Check(
        name="precision", proves="the machine computes in the precision that is asked for", cost=Cost.CHEAP,
        stages=WITH_DATA - {"openings"}, run="resources:precision",
    ),
    Check(
        name="starts", proves="data, models and judges fit together", cost=Cost.RUNNING,
        stages=WITH_PARTICIPANTS, run="policy:starts",
    ),
    Check(
        name="weights", proves="all weights are finite, and some are trained", cost=Cost.RUNNING,
        stages=WITH_PARTICIPANTS, run="policy:weights",
    ),
    Check(
        name="judge-answers", proves="whatever a policy may write gets a finite score, in time", cost=Cost.RUNNING,
        stages=WITH_JUDGES, run="judge:strange_answers",
    ),
    Check(
        name="judge-alone", proves="a score depends neither on company and order nor on padding", cost=Cost.RUNNING,
        stages=WITH_JUDGES, run="judge:alone",
    ),
    Check(
        name="judge-varies", proves="different answers get different scores", cost=Cost.RUNNING,
        stages=WITH_JUDGES, run="judge:varied",
    ),
    Check(
        name="score-scale", proves="the score's spread and offset go with kl.coef and the critic", cost=Cost.RUNNING,
        stages=PPO, run="judge:scale",
    ),
    Check(
        name="endings", proves="answers end by themselves", cost=Cost.RUNNING, stages=WRITING, run="policy:endings",
    ),
    Check(
        name="first-ratio", proves="π_θ/π_old = 1 before the first step", cost=Cost.RUNNING,
        stages=PPO, run="policy:first_ratio",
    ),
    Check(
        name="first-kl", proves="KL(π ‖ π_ref) = 0 before the first step", cost=Cost.RUNNING,
        stages=PPO, run="policy:first_kl",
    ),
    Check(
        name="engine", proves="sampler and trainer give a token the same probability", cost=Cost.RUNNING,
        stages=PPO, run="policy:engine",
    ),
    Check(
        name="memory", proves="a step fits into memory", cost=Cost.RUNNING, stages=TRAINING, run="resources:memory",
    ),
    Check(
        name="disk", proves="checkpoints and models fit on the disk", cost=Cost.RUNNING,
        stages=TRAINING, run="resources:disk",
    ),
    Check(
        name="resume", proves="a run that was killed goes on bit for bit", cost=Cost.RUNNING,
        stages=TRAINING, run="resources:resume",
    ),
    Check(name="time", proves="", cost=Cost.RUNNING, stages=TRAINING, run="resources:time"),
)  # fmt: skip
