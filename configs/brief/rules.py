"""A judge in ten lines: one short sentence that ends (docs/reward-functions.md says what a reward function is)."""


def brief(prompts, completions, **columns):
    """1 where an answer ends, less with each word beyond 15 and with fewer than 4; −0.5 where it does not end."""
    scores = []
    for text in completions:
        words, ends = len(text.split()), text.strip().endswith((".", "!", "?"))
        scores.append((1.0 if ends else -0.5) - max(0, words - 15) / 20 - (0.5 if words < 4 else 0.0))
    return scores
