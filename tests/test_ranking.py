"""Intervals, tests and ranks with ties: known answers, and that failures never help."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import ttest_rel

from genbench.tables.intervals import interval_in_run, interval_over_seeds, mean_and_spread
from genbench.tables.ranking import LEAST_SEEDS, Entrant, holm, paired_p, rank


def entrant(name, values, ranges=()):
    """A model with seeds 0, 1, ...; `...` is a seed it was not run with, None one that gave no value."""
    seeds = {(i, 0): value for i, value in enumerate(values) if value is not ...}
    return Entrant(name, seeds, {(i, 0): own for i, own in enumerate(ranges)})


def ranks(better="lower", **models):
    return rank([entrant(name, values) for name, values in models.items()], better)[0]


# Intervals


def test_mean_deviation_and_interval_have_their_textbook_values():
    assert mean_and_spread([1.0, 2.0, 3.0]) == (2.0, 1.0)
    assert mean_and_spread([5.0]) == (5.0, None)
    assert interval_over_seeds([1.0, 2.0, 3.0]) == pytest.approx(
        (2 - 4.3026527 / math.sqrt(3), 2 + 4.3026527 / math.sqrt(3))
    )
    assert interval_over_seeds([0.0, 2.0]) == pytest.approx((1 - 12.7062047, 1 + 12.7062047))
    with pytest.raises(ValueError, match="one value"):
        interval_over_seeds([1.0])


def test_the_interval_of_a_mean_holds_it_95_times_in_a_hundred():
    draws = np.random.default_rng(0).normal(3.0, 2.0, (2000, 4))
    held = [low <= 3.0 <= high for low, high in (interval_over_seeds(list(row)) for row in draws)]
    assert np.mean(held) == pytest.approx(0.95, abs=0.015)


def test_a_run_keeps_its_own_interval_and_else_gets_one_from_its_standard_error():
    assert interval_in_run(5.0, 1.0, (4.5, 5.2)) == (4.5, 5.2)
    assert interval_in_run(5.0, 1.0, None) == pytest.approx((3.0400360, 6.9599640))
    assert interval_in_run(5.0, None, None) is None


# Tests


def test_holm_has_the_values_of_the_textbook():
    assert holm([0.01, 0.04, 0.03, 0.005], 4) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.7], 2) == [1.0, 1.0]
    assert holm([], 0) == []
    assert holm([0.01, 0.2], 3) == pytest.approx([0.03, 0.4]), "a test that was not made counts"


def test_the_paired_test_is_the_libraries():
    a, b = np.random.default_rng(1).normal(size=(2, 8))
    assert paired_p(list(a - b)) == pytest.approx(ttest_rel(a, b).pvalue, rel=1e-9)


@pytest.mark.parametrize(("differences", "p"), [([0.0] * 6, 1.0), ([-2.0] * 6, 0.0)])
def test_differences_without_any_deviation_need_no_division_by_zero(differences, p):
    assert paired_p(differences) == p


NOISE = [0.0, 30.0, -20.0, 12.0, -41.0, 7.0]
"""What the seed does to every model alike."""


def paired(name, shift, wobble, count=LEAST_SEEDS):
    return entrant(name, [100 + n + shift + w for n, w in zip(NOISE[:count], wobble)])


def test_six_common_seeds_show_what_intervals_cannot():
    a = paired("a", 0.0, [0.0, 0.1, -0.1, 0.2, 0.0, -0.2])
    b = paired("b", 5.0, [0.1, -0.1, 0.2, 0.0, -0.2, 0.0])
    places, (pair,) = rank([a, b], "lower")
    assert places == {"a": 1, "b": 2}
    assert (pair.a, pair.b, pair.seeds, pair.better) == ("a", "b", 6, "a")
    assert pair.difference == pytest.approx(-5.0)
    assert pair.p == pair.p_corrected < 1e-4


def test_five_common_seeds_are_not_tested_and_tie():
    places, pairs = rank([paired("a", 0.0, [0] * 5, 5), paired("b", 5.0, [0.1, 0, 0, 0, 0], 5)], "lower")
    assert (places, pairs) == ({"a": 1, "b": 1}, [])


def test_what_one_test_would_find_is_a_tie_among_many():
    wobble = [0.0, 1.0, -1.0, 2.0, 0.5, -0.5]
    a, b = paired("a", 0.0, [0.0] * 6), paired("b", 1.0, wobble)
    places, (alone,) = rank([a, b], "lower")
    assert 0.01 < alone.p < 0.05
    assert places == {"a": 1, "b": 2}
    others = [paired(f"m{i}", 1.0 + i / 10, list(np.roll(wobble, i + 1))) for i in range(4)]
    places, pairs = rank([a, b, *others], "lower")
    assert len(pairs) == 15
    again = next(pair for pair in pairs if {pair.a, pair.b} == {"a", "b"})
    assert again.p == alone.p < 0.05 < again.p_corrected
    assert places["a"] == places["b"] == 1


# Ranks by intervals


def test_overlapping_intervals_share_a_rank_and_the_next_one_is_skipped():
    assert ranks(a=[10.0, 11.0, 12.0], b=[10.5, 11.5, 12.5], c=[90.0, 91.0, 92.0]) == {"a": 1, "b": 1, "c": 3}
    assert ranks("higher", a=[10.0, 11.0, 12.0], c=[90.0, 91.0, 92.0]) == {"a": 2, "c": 1}


def test_overlap_in_a_chain_does_not_make_its_ends_equal():
    a, b, c = (entrant(name, [value], [(value - 1.5, value + 1.5)]) for name, value in (("a", 1), ("b", 3), ("c", 5)))
    assert rank([a, b, c], "lower")[0] == {"a": 1, "b": 1, "c": 2}


def test_one_seed_is_compared_within_the_run():
    wide = [entrant("a", [10.0], [(8.0, 12.0)]), entrant("b", [11.0], [(9.0, 13.0)])]
    assert rank(wide, "lower")[0] == {"a": 1, "b": 1}
    narrow = [entrant("a", [10.0], [(9.9, 10.1)]), entrant("b", [11.0], [(10.9, 11.1)])]
    assert rank(narrow, "lower")[0] == {"a": 1, "b": 2}
    assert ranks(a=[10.0], b=[11.0], c=[11.0]) == {"a": 1, "b": 2, "c": 2}


# Failures


def test_a_failed_seed_puts_a_model_behind_all_that_finished():
    assert ranks(a=[20.0, 21.0, 22.0], b=[900.0, 901.0, 902.0], gan=[1.0, 1.1, None]) == {"a": 1, "b": 2, "gan": 3}
    assert ranks(gan=[1.0, None], other=[50.0, None]) == {"gan": 2, "other": 2}, "nobody finished: no first place"
    assert ranks(a=[1.0, 2.0], gone=[None, None]) == {"a": 1}


def test_a_model_run_with_fewer_seeds_is_never_first_and_gives_nobody_else_the_first_place():
    assert ranks(few=[1.0], many=[90.0, 91.0, 92.0]) == {"few": 2, "many": 2}
    assert ranks(few=[1.0, ..., ...], equal=[1.0, 90.0, 1.2]) == {"few": 2, "equal": 1}
    assert ranks(a=[1.0, ...], b=[..., 2.0]) == {"a": 2, "b": 2}, "no seed in common: no comparison"


def test_an_unfinished_model_stands_behind_a_whole_one_that_lacks_a_seed():
    places = ranks(lacking=[5.0, ..., 5.0], unfinished=[1.0, 1.0, None], other=[1.0, 1.0, None])
    assert places["unfinished"] == places["other"] > places["lacking"] == 2


def test_a_failure_makes_no_other_difference_significant():
    wobble = [0.0, 1.0, -1.0, 2.0, 0.5, -0.5]
    a, b = paired("a", 0.0, [0.0] * 6), paired("b", 1.0, wobble)
    failed = entrant("c", [1.0, 1.0, 1.0, 1.0, 1.0, None])
    assert rank([a, b], "lower")[0] == {"a": 1, "b": 2}
    places, (pair,) = rank([a, b, failed], "lower")
    assert pair.p_corrected == pytest.approx(3 * pair.p)
    assert places == {"a": 1, "b": 1, "c": 3}


values = st.lists(st.floats(1, 100), min_size=1, max_size=8)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 8).flatmap(
        lambda n: st.lists(st.lists(st.floats(1, 100), min_size=n, max_size=n), min_size=2, max_size=4)
    ),
    st.data(),
)
def test_losing_a_seed_never_improves_a_rank(table, data):
    models = [entrant(str(i), row) for i, row in enumerate(table)]
    before = rank(models, "lower")[0]
    broken = data.draw(st.lists(st.integers(0, len(table[0]) - 1), min_size=1, unique=True))
    row = [None if i in broken else value for i, value in enumerate(table[0])]
    after = rank([entrant("0", row), *models[1:]], "lower")[0]
    assert "0" not in after or after["0"] >= max(2, before["0"])
    assert all(after[m.name] <= before[m.name] for m in models[1:])
    gone = rank([entrant("0", [... if i in broken else v for i, v in enumerate(table[0])]), *models[1:]], "lower")[0]
    assert gone.get("0", 2) >= 2


@settings(max_examples=60, deadline=None)
@given(st.lists(values, min_size=2, max_size=5))
def test_ranks_do_not_depend_on_the_order_of_the_rows(table):
    models = [entrant(str(i), row) for i, row in enumerate(table)]
    first = rank(models, "lower")[0]
    for some in itertools.islice(itertools.permutations(models), 6):
        assert rank(list(some), "lower")[0] == first
