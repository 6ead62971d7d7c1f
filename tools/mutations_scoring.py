"""Mistakes in reward functions, in how they are called, and in how their scores are summed."""

from tools.mutation import Mutation, trained


def rules(family: str, old: str, new: str, test: str, why: str) -> Mutation:
    return trained(f"scoring/rules/{family}", old, new, f"scoring/test_{test}.py", why)


MUTATIONS: tuple[Mutation, ...] = (
    rules(
        "strings",
        "return [0.0 - min(Levenshtein.distance",
        "return [0.0 + min(Levenshtein.distance",
        "builtin",
        "a distance as a reward: the policy is paid for being wrong",
    ),
    rules(
        "strings",
        "        max(1.0 if text == wanted",
        "        min(1.0 if text == wanted",
        "rules_strings",
        "the worst of several solutions counts",
    ),
    rules(
        "strings",
        "_best(Indel.normalized_similarity,",
        "_best(LCSseq.normalized_similarity,",
        "rules_strings",
        "longest common subsequence over the longer text, not over both",
    ),
    rules(
        "answers",
        "return (numbers_in(text) or [None])[-1]",
        "return (numbers_in(text) or [None])[0]",
        "rules_answers",
        "the first number of the working for the answer",
    ),
    rules(
        "answers",
        "_, mark, behind = text.rpartition(after)",
        "_, mark, behind = text.partition(after)",
        "rules_answers",
        "an answer that was corrected counts as it first was",
    ),
    rules(
        "answers",
        "max(tolerance, relative * abs(y))",
        "max(tolerance, relative * abs(x))",
        "rules_answers",
        "a tolerance that the answer itself widens",
    ),
    rules(
        "answers",
        "    if a_percent != s_percent:",
        "    if a_percent or s_percent:",
        "rules_answers",
        "0.5% for 50%",
    ),
    rules("style", "return [1.0 - share for share", "return [share for share", "builtin", "repetition upside down"),
    rules(
        "style",
        "else -min(1.0, by / buffer) if buffer",
        "else min(1.0, by / buffer) if buffer",
        "rules_texts",
        "a length penalty that pays",
    ),
    rules(
        "content",
        "range(min(longest, len(said) - at), 0, -1)",
        "range(1, min(longest, len(said) - at) + 1)",
        "rules_texts",
        '"good grief" counts as good',
    ),
    rules(
        "form",
        'return kind in ("boolean", "any")',
        'return kind in ("boolean", "any", "integer", "number")',
        "rules_texts",
        "true is a number",
    ),
    rules(
        "form",
        "FENCE.fullmatch(text) if fence else None",
        "FENCE.search(text) if fence else None",
        "rules_texts",
        "JSON somewhere in a chat counts as JSON",
    ),
    # what a function returned
    trained(
        "scoring/results",
        "        if result.ndim != 1:\n",
        "        if result.ndim == 0:\n",
        "scoring/test_functions.py",
        "a matrix of scores is broadcast",
    ),
    trained(
        "scoring/rows",
        "    if len(entries) != len(rows):\n",
        "    if len(entries) < len(rows):\n",
        "scoring/test_functions.py",
        "scores shifted against their rows",
    ),
    # a process of its own
    trained(
        "scoring/isolate",
        "os.killpg(self.popen.pid, signal.SIGKILL)",
        "os.kill(self.popen.pid, signal.SIGTERM)",
        "scoring/test_isolate.py",
        "a hang in C ignores the polite signal, and the function's children live on",
    ),
    trained(
        "scoring/isolate",
        "            process.end()\n            raise _failure",
        "            raise _failure",
        "scoring/test_isolate.py",
        "the answer that came too late is taken for the next one",
    ),
    trained(
        "scoring/worker",
        "    os.dup2(2, 1)\n",
        "",
        "scoring/test_isolate.py",
        "what the function prints is read as scores",
    ),
    trained(
        "scoring/worker",
        "ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)",
        "pass",
        "scoring/test_isolate.py",
        "a hanging worker outlives the run",
    ),
    # the mix
    trained(
        "scoring/combine",
        "if not (valid[i] and result.valid[i] and row):",
        "if not row:",
        "scoring/test_by_token.py",
        "who abstains pays the last token all the same",
    ),
    trained(
        "scoring/combine",
        "weight * result.scores.double(), torch.zeros_like(total)",
        "weight * result.scores.double(), weight * torch.ones_like(total)",
        "scoring/test_combine.py",
        "who abstains gives a 1",
    ),
    trained(
        "scoring/tally",
        "new = self.counts - self.told",
        "new = self.counts",
        "scoring/test_combine.py",
        "each iteration shows the sum of all before it",
    ),
    trained(
        "scoring/functions",
        "if len(outcomes) == HOPELESS and all(",
        "if len(outcomes) == HOPELESS and any(",
        "scoring/test_functions.py::test_a_judge_on_which_the_first_rows_all_hang_is_given_up",
        "rows given up though the function answers",
    ),
)
