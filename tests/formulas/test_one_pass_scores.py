"""One bubble pass: the matrix' scores where logits are differences, the best answer on top in any case."""

import torch

from plaudit.formulas.pair_scores import matrix_scores, one_pass_scores

UTILITIES = ([0.5, -1.0, 2.0, 0.0], [3.0], [1.0, 1.0, -2.0])


def asked(matrices: list[torch.Tensor]):
    """Compare by tables; counts its calls."""

    def compare(first, second):
        calls.append(len(first))
        return torch.stack([m[i, j] for m, i, j in zip(matrices, first.tolist(), second.tolist(), strict=True)])

    calls: list[int] = []
    return compare, calls


def of_utilities(utilities: list[float], bias: float) -> torch.Tensor:
    u = torch.tensor(utilities)
    return u.unsqueeze(1) - u.unsqueeze(0) + bias


def test_differences_of_utilities_give_the_utilities_less_their_mean():
    compare, calls = asked([of_utilities(u, 5.0) for u in UTILITIES])
    told = one_pass_scores(torch.tensor([4, 1, 3]), compare)
    wanted = torch.tensor([[0.125, -1.375, 1.625, -0.375], [0.0] * 4, [1.0, 1.0, -2.0, 0.0]])
    torch.testing.assert_close(told, wanted)
    assert calls == [3] * 6  # twice K − 1, whatever is asked at once
    four = matrix_scores(of_utilities(UTILITIES[0], 5.0)) * 3 / 4
    torch.testing.assert_close(told[0], four)


def test_the_best_of_the_pass_scores_highest_however_the_logits_fall():
    generator = torch.Generator().manual_seed(0)
    matrices = [torch.randn(5, 5, generator=generator) for _ in range(50)]
    sizes = torch.full((50,), 5)
    told = one_pass_scores(sizes, asked(matrices)[0])
    for matrix, best in zip(matrices, told.argmax(dim=1).tolist(), strict=True):
        champion = 0
        for challenger in range(1, 5):
            champion = challenger if matrix[challenger, champion] > matrix[champion, challenger] else champion
        assert best == champion
    torch.testing.assert_close(told.sum(dim=1), torch.zeros(50), atol=1e-5, rtol=0)


def test_no_prompt_has_no_scores():
    assert one_pass_scores(torch.zeros(0, dtype=torch.long), asked([])[0]).shape == (0, 0)
