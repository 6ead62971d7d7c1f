"""Token-level reward models: values at the tokens themselves, spread over another tokenizer's tokens."""

import pytest
import torch

from plaudit.models.load import load_language
from plaudit.models.options import ModelConfig, TinyShape
from plaudit.models.reward import token_level
from plaudit.models.reward.loading import load_reward_model
from plaudit.models.reward.normalisation import Normalisation
from plaudit.models.reward.token_level import TokenLevelRewardModel, spread
from plaudit.records.text import Comparison, Group, Prompt
from plaudit.tokens.batches import sharing
from plaudit.training.reward.objective import Budget, Encoder
from plaudit.training.reward.objectives import objective_of
from plaudit.training.reward.options import TokenLevel
from plaudit.training.reward.pairs import Compared
from tests.kills import kills
from tests.models.tiny import ROWS, gradients, relative_difference, spread_out
from tests.training.tiny import CPU

TINY = ModelConfig(path="tiny", tiny=TinyShape(hidden_size=16, layers=2, heads=4, vocabulary=280, context=64))


@pytest.fixture
def model() -> TokenLevelRewardModel:
    made = token_level.load(TINY, load_language(TINY, ["the cat sat on the mat"] * 3), seed=3)
    spread_out(made.reader.trunk.hf)
    return made


def by_hand(model: TokenLevelRewardModel, prompt: list[int], response: list[int]) -> torch.Tensor:
    hf = model.reader.trunk.hf
    hidden = hf.model(input_ids=torch.tensor([[*prompt, *response]])).last_hidden_state[0, len(prompt) :]
    return hidden @ hf.score.weight[0]


def test_the_value_of_a_token_is_read_where_the_token_stands(model):
    """Not one before, as the critic's: the token itself must be seen."""
    with torch.no_grad():
        values, batch = model(sharing(ROWS))
        for row, (prompt, response) in enumerate(ROWS):
            mine = values[row][batch.response_mask[row]]
            torch.testing.assert_close(mine, by_hand(model, prompt, response), atol=1e-5, rtol=1e-5)


def test_the_score_is_the_value_at_the_end_token_and_saves(model, tmp_path):
    model.normalisation = Normalisation(bias=0.5, gain=2.0)
    group = Group(prompt=Prompt.of_text("the cat"), responses=("sat on the mat", "", "on"))
    renderer = model.language.renderer
    wanted = []
    for text in group.responses:
        values = by_hand(model, renderer.prompt_ids(group.prompt), renderer.response_ids(text, end=True))
        wanted.append(2.0 * (values[-1].item() - 0.5))
    said = model.score([group], 1000)
    assert said.scores.tolist() == pytest.approx(wanted, abs=1e-5)
    assert said.token_scores == ()
    model.save(tmp_path, {})
    again = load_reward_model(ModelConfig(path=str(tmp_path)))
    assert isinstance(again, TokenLevelRewardModel)
    assert again.score([group], 7).scores.tolist() == pytest.approx(wanted, abs=1e-5)


# ------------------------------------------------------------------------------------------------------ token by token


@pytest.mark.parametrize(
    ("amounts", "at", "ends", "given"),
    [
        ([1.0, 2.0, 4.0], [3, 5, 5], [1, 4, 5, 5], (0.0, 1.0, 0.0, 6.0)),  # the whole text's goes to the last token
        ([1.0, 2.0], [1, 2], [2, 6], (3.0, 0.0)),  # both within the first token
        ([1.0, 2.0], [2, 9], [2, 6], (1.0, 2.0)),  # beyond the text: the last
        ([1.0], [0], [], ()),
        ([1.0, -1.0, 0.5], [0, 0, 0], [0], (0.5,)),  # an empty answer: its end token
    ],
)
def test_amounts_go_to_the_token_that_reaches_so_far(amounts, at, ends, given):
    assert spread(amounts, at, ends) == given


def test_another_tokenizers_tokens_get_shares_that_sum_to_the_score(model):
    """A policy that writes letter by letter; the judge's own tokens are longer."""
    text = "sat on the mat"
    letters = tuple(range(len(text) + 1))
    ends = (*range(1, len(text) + 1), len(text))
    group = Group(prompt=Prompt.of_text("the cat"), responses=(text,), response_ids=(letters,), token_ends=(ends,))
    model.normalisation = Normalisation(bias=0.3, gain=1.5)
    said = model.score([group], 1000)
    (shares,) = said.token_scores
    assert len(shares) == len(letters)
    assert sum(shares) == pytest.approx(float(said.scores[0]), abs=1e-5)
    renderer = model.language.renderer
    ids = renderer.response_ids(text, end=True)
    values = model.normalisation.apply(by_hand(model, renderer.prompt_ids(group.prompt), ids)).tolist()
    first = len(renderer.response_pieces(ids)[0])
    assert len(ids) < len(letters)
    assert shares[first - 1] == pytest.approx(values[0], abs=1e-5)
    assert [s for s in shares[: first - 1] if s] == []
    assert shares[-1] == pytest.approx(values[-1] - values[-3], abs=1e-5)  # its last word and its end token


def test_what_the_judges_context_cuts_off_earns_nothing(model):
    """The value where it stopped reading is the score; no later token of the policy's is paid."""
    text = "a " * 100
    ends = tuple(range(1, len(text) + 1))
    group = Group(prompt=Prompt.of_text("the cat"), responses=(text,), token_ends=(ends,))
    said = model.score([group], 1000)
    (shares,) = said.token_scores
    read = model.language.renderer.written_ends(text)[TINY.tiny.context - 2]  # one prompt token, its first answer's
    assert sum(shares) == pytest.approx(float(said.scores[0]), abs=1e-4)
    assert read < len(text) - 20
    assert shares[read - 1] != 0
    assert not any(shares[read:])


# ------------------------------------------------------------------------------------------------------------ training

PAIRS = [
    (([1, 5, 9], [3, 3, 8, 2]), ([1, 5, 9], [3, 4, 2])),
    (([4], [6, 2]), ([4], [7, 7, 7, 2])),
    (([8, 9], [5, 2]), ([8, 9], [5, 2])),  # identical: the last token
]


# The columns that are compared, (chosen, rejected), pair by pair; the note goes on to the longer one's end.
SPANS = {
    "strict": [[(1, 1), (2, 2)], [(0, 0), (1, 1)], [(1, 1)]],
    "note": [[(1, 1), (2, 2), (3, 2)], [(0, 0), (1, 1), (1, 2), (1, 3)], [(1, 1)]],
}


@kills(
    "training/reward/pairs.py",
    old="form=self.options.form",
    new='form="strict"',
    why="an option that is read and not used",
)
@pytest.mark.parametrize("form", list(SPANS))
@pytest.mark.parametrize("budget", [10**6, 20, 1])
def test_the_gradient_is_that_of_values_read_one_row_at_a_time(model, budget, form):
    total, margins = torch.zeros(()), []
    for span, ((prompt, chosen), (_, rejected)) in zip(SPANS[form], PAIRS, strict=True):
        c, r = by_hand(model, prompt, chosen), by_hand(model, prompt, rejected)
        losses = [torch.log1p(torch.exp(r[b] - c[a])) for a, b in span]
        total = total + sum(losses) / len(losses)
        margins.append((c[-1] - r[-1]).item())
    (total / 3).backward()
    textbook = gradients(model)
    model.zero_grad()
    rows = [Compared(chosen=c, rejected=r) for c, r in PAIRS]
    told = objective_of(TokenLevel(form=form)).backward(model, rows, Budget(machine=CPU, tokens=budget)).metrics
    assert told["loss_over_rows"] == pytest.approx(total.item() / 3, rel=1e-5)
    assert told["margin_over_pairs"] == pytest.approx(sum(margins) / 3, abs=1e-5)
    assert relative_difference(gradients(model), textbook) < 1e-5


def test_it_learns_which_word_matters(model):
    """`cat` is better than `mat`, whatever stands around it: its value is higher from that token on."""
    prompts = ["the", "on the", "sat the", "a the"]
    rows = [
        Comparison(prompt=Prompt.of_text(p), chosen=f"{a} cat {b}", rejected=f"{a} mat {b}")
        for p in prompts
        for a in ("the", "a")
        for b in ("sat", "on")
    ]
    (examples,) = objective_of(TokenLevel()).examples(
        [rows], Encoder(language=model.language, max_length=64, too_long="error")
    )
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    for _ in range(60):
        optimizer.zero_grad()
        told = objective_of(TokenLevel()).backward(model, examples, Budget(machine=CPU, tokens=10**6)).metrics
        optimizer.step()
    assert told["accuracy_over_pairs"] == 1.0
    good, bad = model.score([Group(prompt=Prompt.of_text("the"), responses=("on cat on", "on mat on"))], 999).scores
    assert good > bad + 1.0
