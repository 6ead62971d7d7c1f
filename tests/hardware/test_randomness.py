"""SplitMix64 against published values, and streams that depend on their names alone."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from plaudit.hardware.randomness import SampleKey, bases, derive_seed, generator, permutation, uniforms

PUBLISHED = {
    0: (0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F, 0xF88BB8A8724C81EC),
    1234567: (
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ),
}
"""First outputs of SplitMix64: seed 0 as in Java's SplittableRandom, 1234567 as on Rosetta Code (Vigna's C code)."""


def splitmix(state: int, position: int) -> int:
    """The algorithm in Python's unbounded integers (Steele, Lea & Flood 2014, figure 17, with Stafford's mix 13)."""
    wide = 2**64
    z = (state + (position + 1) * 0x9E3779B97F4A7C15) % wide
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) % wide
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) % wide
    return z ^ (z >> 31)


def one(base: int, position: int) -> float:
    return float(uniforms(torch.tensor([base]), torch.tensor([position])))


@pytest.mark.parametrize("seed", PUBLISHED)
def test_published_values(seed):
    n = len(PUBLISHED[seed])
    drawn = uniforms(torch.full((n,), seed), torch.arange(n))
    assert drawn.dtype == torch.float64
    assert drawn.tolist() == [(value >> 11) / 2**53 for value in PUBLISHED[seed]]


@given(st.integers(-(2**63), 2**63 - 1), st.integers(0, 10**6))
def test_any_base_and_position_as_in_unbounded_integers(base, position):
    assert one(base, position) == (splitmix(base % 2**64, position) >> 11) / 2**53
    assert 0.0 <= one(base, position) < 1.0


def test_uniforms_are_uniform_and_neighbours_are_independent():
    keys = [SampleKey(prompt_id=f"{p:04x}", sample_index=s) for p in range(250) for s in range(2)]
    start = bases(keys, seed=0)
    drawn = torch.stack([uniforms(start, torch.full_like(start, t)) for t in range(80)], dim=1)
    counts = torch.histc(drawn.float(), bins=64, min=0, max=1)
    expected = drawn.numel() / 64
    assert float(((counts - expected) ** 2 / expected).sum()) < 130  # χ², 63 degrees of freedom: p < 1e-6 beyond 131
    centred = (drawn - 0.5) * 12**0.5
    n = drawn.numel()
    for a, b in ((centred[:, :-1], centred[:, 1:]), (centred[:-1], centred[1:]), (centred[::2], centred[1::2])):
        assert abs(float((a * b).mean())) < 5 / (n / 2) ** 0.5  # next position, next prompt, next sample


def test_a_uniform_depends_on_seed_prompt_sample_and_position_and_nothing_else():
    def draw(seed: int, prompt: str, sample: int, position: int, slot: int = 0) -> float:
        keys = [SampleKey(prompt_id="other", sample_index=9)] * slot + [
            SampleKey(prompt_id=prompt, sample_index=sample)
        ]
        base = bases(keys, seed)
        return float(uniforms(base, torch.full_like(base, position))[-1])

    first = draw(1, "a", 0, 0)
    assert draw(1, "a", 0, 0, slot=7) == first
    others = {draw(2, "a", 0, 0), draw(1, "b", 0, 0), draw(1, "a", 1, 0), draw(1, "a", 0, 1)}
    assert len(others | {first}) == 5


def test_derived_seeds_are_what_they_were():
    """A change here would change every run there ever was. SHA-256 of "0" begins 5feceb66 ffc86f38."""
    assert derive_seed(0) == 0x386FC8FF66EBEC5F >> 1
    assert 0 <= derive_seed(-5, "x") < 2**63
    assert len({derive_seed(0, "ab", "c"), derive_seed(0, "a", "bc"), derive_seed(0, "abc"), derive_seed(0)}) == 4


def test_permutations_are_recomputed_from_their_names():
    order = permutation(50, 3, "shuffle", 1)
    assert sorted(order) == list(range(50))
    assert order == permutation(50, 3, "shuffle", 1)
    assert order != permutation(50, 3, "shuffle", 2)
    assert permutation(0, 3) == []


def test_nothing_touches_the_global_generator():
    before = torch.get_rng_state()
    generator(1, "x")
    permutation(5, 1)
    uniforms(bases([SampleKey(prompt_id="a", sample_index=0)], 1), torch.tensor([0]))
    assert torch.equal(torch.get_rng_state(), before)
    assert float(torch.rand(1, generator=generator(1, "x"))) == float(torch.rand(1, generator=generator(1, "x")))
