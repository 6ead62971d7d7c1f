"""What every figure is made of: thinning loses no spike, and plotly takes all that is made."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plaudit.report import figures
from plaudit.report.collect import collect
from plaudit.report.curves import curves
from plaudit.report.frontier import frontier
from plaudit.report.spread import distributions
from tests.report.folders import reward_lines, write_pipeline, write_run


@given(
    ys=st.lists(st.one_of(st.none(), st.floats(-1e6, 1e6)), min_size=1, max_size=300),
    limit=st.integers(4, 60),
)
def test_thinning_keeps_ends_extremes_and_order(ys: list[float | None], limit: int) -> None:
    xs = list(range(100, 100 + len(ys)))
    kept_xs, kept_ys = figures.thin(xs, ys, limit)
    assert len(kept_xs) <= limit
    assert kept_xs == sorted(set(kept_xs))
    assert (kept_xs[0], kept_xs[-1]) == (xs[0], xs[-1])
    assert all(ys[x - 100] == y for x, y in zip(kept_xs, kept_ys, strict=True))
    known, kept = [y for y in ys if y is not None], [y for y in kept_ys if y is not None]
    if known:
        assert (min(kept), max(kept)) == (min(known), max(known))


def test_thinning_keeps_every_lone_spike() -> None:
    ys = [0.0] * 50_000
    for spike in (777, 25_000, 49_000):
        ys[spike] = 1.0
    xs, thinned = figures.thin(range(50_000), ys)
    assert len(xs) <= 2000
    assert [x for x, y in zip(xs, thinned, strict=True) if y] == [777, 25_000, 49_000]


def test_thinning_leaves_a_gap_where_nothing_was_known() -> None:
    ys: list[float | None] = [1.0] * 100 + [None] * 100 + [2.0] * 100
    _, thinned = figures.thin(range(300), ys, 40)
    assert None in thinned


def test_plotly_accepts_every_figure(tmp_path: Path) -> None:
    graph_objects = pytest.importorskip("plotly.graph_objects")
    runs = list(collect(write_pipeline(tmp_path / "p")).stages)
    runs.append(collect(write_run(tmp_path / "q", "reward", lines=reward_lines())))
    made = [figure for each in ([1], [2, 5], [3]) for figure in curves([runs[i] for i in each], runs)]
    made += [*distributions(runs), frontier(runs)]
    assert len(made) > 20
    for figure in made:
        graph_objects.Figure(figure.plot)  # raises ValueError for a property that plotly doesn't know
