"""A rule that a small storyteller can follow: stories with happy words, and different ones."""

import re

HAPPY = {
    "happy", "happily", "smile", "smiled", "smiling", "laugh", "laughed", "laughing", "love", "loved", "fun",
    "joy", "proud", "hug", "hugged", "friend", "friends", "kind", "nice", "glad", "excited", "play", "played",
    "playing", "together", "thank", "thanked", "beautiful",
}  # fmt: skip
SAD = {
    "sad", "cry", "cried", "crying", "scared", "afraid", "hurt", "angry", "mad", "lost", "mean", "sorry",
    "broke", "broken", "bad", "alone",
}  # fmt: skip


def happy_words(completions, **columns):
    """Different happy words less different sad words of each continuation; a word said twice counts once."""
    words = [set(re.findall(r"[a-z]+", text.lower())) for text in completions]
    return [float(len(found & HAPPY) - len(found & SAD)) for found in words]
