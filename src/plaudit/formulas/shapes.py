"""Integer arithmetic that says when it does not come out even (no torch here)."""


def exact_div(a: int, b: int) -> int:
    """a / b for sizes that must divide, such as minibatches of a rollout (N4.11).

    Raises ValueError where b does not divide a, or is not positive.
    """
    if b <= 0:
        raise ValueError(f"exact_div: the divisor must be positive, not {b}")
    quotient, remainder = divmod(a, b)
    if remainder:
        raise ValueError(f"{a} is not a multiple of {b}")
    return quotient


def ceil_div(a: int, b: int) -> int:
    """⌈a / b⌉: how many pieces of size b hold a things, the last one perhaps smaller (N4.11).

    Raises ValueError where b is not positive.
    """
    if b <= 0:
        raise ValueError(f"ceil_div: the divisor must be positive, not {b}")
    return -(-a // b)
