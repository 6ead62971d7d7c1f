"""A judge for runs that are stopped: one file for all of them, so that its process starts once."""


def letters(completions, **columns):
    return [None if text == "" else text.count("a") - 0.5 * text.count("b") for text in completions]
