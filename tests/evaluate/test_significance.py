"""Paired tests and bootstrap intervals against scipy, exact enumerations and known coverage."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special, stats

from retgen.errors import MismatchError, UsageError
from retgen.evaluate import (
    bleu1,
    bleu1_statistics,
    bootstrap_corpus,
    bootstrap_difference,
    bootstrap_mean,
    compare,
    compare_corpus,
    corpus_randomisation_test,
    holm,
    mean_over_seeds,
    paired_t_test,
    randomisation_test,
)
from retgen.evaluate.student import incomplete_beta, t_two_sided

unit = st.floats(0.0, 1.0, allow_nan=False)


# --- Student's t ------------------------------------------------------------------------------------------------------


@given(st.floats(0.05, 5e4), st.floats(0.05, 5e4), unit)
@settings(max_examples=300, deadline=None)
def test_incomplete_beta_is_scipys(a: float, b: float, x: float) -> None:
    assert incomplete_beta(a, b, x) == pytest.approx(float(special.betainc(a, b, x)), rel=1e-7, abs=1e-11)


@pytest.mark.parametrize("degrees", [1, 2, 5, 30, 299, 10_000, 1_000_000])
@pytest.mark.parametrize("t", [0.0, 1e-6, 0.1, 1.0, 1.96, 3.0, 8.0, 40.0])
def test_t_distribution_is_scipys(t: float, degrees: int) -> None:
    expected = 2 * float(stats.t.sf(t, degrees))
    assert t_two_sided(t, degrees) == pytest.approx(expected, rel=1e-8, abs=1e-290)
    assert t_two_sided(-t, degrees) == t_two_sided(t, degrees)


@pytest.mark.parametrize("seed", range(10))
def test_paired_t_test_is_scipys(seed: int) -> None:
    rng = np.random.default_rng(seed)
    number = int(rng.integers(2, 300))
    first, second = rng.random(number), rng.random(number) + 0.1 * (seed % 3)
    ours, theirs = paired_t_test(first, second), stats.ttest_rel(first, second)
    assert ours.statistic == pytest.approx(float(theirs.statistic))
    assert ours.p_value == pytest.approx(float(theirs.pvalue), rel=1e-8)
    assert ours.difference == pytest.approx(float(first.mean() - second.mean()))
    assert ours.num_questions == number


def test_t_test_without_variance() -> None:
    assert paired_t_test([0.3, 0.5], [0.3, 0.5]).p_value == 1.0
    assert paired_t_test([0.3, 0.5, 0.1], [0.2, 0.4, 0.0]).p_value == 0.0
    assert math.isinf(paired_t_test([1.0, 1.0], [0.0, 0.0]).statistic)


# --- Randomisation ----------------------------------------------------------------------------------------------------


def test_randomisation_of_few_questions_is_exact() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.random(10), rng.random(10)
    differences = first - second
    signs = np.array(list(itertools.product([1, -1], repeat=10)))
    expected = np.mean(np.abs(signs @ differences) >= abs(differences.sum()) - 1e-12)
    assert randomisation_test(first, second).p_value == pytest.approx(float(expected))


@pytest.mark.parametrize("shift", [0.0, 0.03, 0.08])
def test_randomisation_is_scipys_permutation_test(shift: float) -> None:
    rng = np.random.default_rng(1)
    first = rng.random(100)
    second = np.clip(first + rng.normal(shift, 0.2, 100), 0, 1)
    theirs = stats.permutation_test(
        (first, second),
        lambda x, y, axis: np.mean(x - y, axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=20_000,
        rng=np.random.default_rng(2),
    )
    ours = randomisation_test(first, second, resamples=20_000, seed=3)
    # Two estimates of one probability from 20,000 draws each: five standard errors of their difference.
    error = 5 * math.sqrt(2 * max(theirs.pvalue * (1 - theirs.pvalue), 1e-4) / 20_000)
    assert ours.p_value == pytest.approx(float(theirs.pvalue), abs=error)
    assert ours.difference == pytest.approx(float(theirs.statistic))


def test_randomisation_agrees_with_the_t_test_on_many_questions() -> None:
    rng = np.random.default_rng(5)
    first = rng.random(400)
    second = first + rng.normal(0.02, 0.2, 400)
    assert randomisation_test(first, second).p_value == pytest.approx(paired_t_test(first, second).p_value, abs=0.02)


def test_randomisation_is_seeded_symmetric_and_never_zero() -> None:
    first, second = np.ones(40), np.zeros(40)
    assert randomisation_test(first, second, resamples=100).p_value == pytest.approx(1 / 101)
    rng = np.random.default_rng(6)
    first, second = rng.random(60), rng.random(60)
    once = randomisation_test(first, second, resamples=500, seed=4)
    assert once == randomisation_test(first, second, resamples=500, seed=4)
    assert once.p_value != randomisation_test(first, second, resamples=500, seed=5).p_value
    assert once.p_value == randomisation_test(second, first, resamples=500, seed=4).p_value
    assert randomisation_test(first, first).p_value == 1.0


def test_blocks_of_draws_do_not_change_what_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(7)
    first, second = rng.random(30), rng.random(30)
    whole = randomisation_test(first, second, resamples=999)
    monkeypatch.setattr("retgen.evaluate.significance._BLOCK", 30 * 10)
    assert randomisation_test(first, second, resamples=999) == whole


def some_statistics(seed: int, questions: int, skill: float) -> np.ndarray:
    rng = np.random.default_rng(seed)
    length = rng.integers(1, 8, questions)
    matches = rng.binomial(length, skill)
    return np.stack([matches, length, rng.integers(1, 8, questions)], axis=1).astype(float)


def test_corpus_randomisation_of_few_questions_is_exact() -> None:
    first, second = some_statistics(0, 8, 0.7), some_statistics(1, 8, 0.4)
    observed = float(bleu1(first.sum(0)) - bleu1(second.sum(0)))
    extreme = 0
    for swap in itertools.product([False, True], repeat=8):
        mask = np.array(swap)[:, None]
        one, other = np.where(mask, second, first), np.where(mask, first, second)
        extreme += abs(float(bleu1(one.sum(0)) - bleu1(other.sum(0)))) >= abs(observed) - 1e-12
    outcome = corpus_randomisation_test(first, second, bleu1)
    assert outcome.p_value == pytest.approx(extreme / 2**8)
    assert outcome.difference == pytest.approx(observed)


def test_corpus_randomisation_of_a_mean_is_the_sign_flip() -> None:
    # A mean written as a corpus-level measure: (sum, count) → sum / count. Both tests then are the same one.
    rng = np.random.default_rng(8)
    first, second = rng.random(50), rng.random(50) + 0.05
    as_statistics = [np.stack([values, np.ones(50)], axis=1) for values in (first, second)]
    corpus = corpus_randomisation_test(*as_statistics, lambda sums: sums[..., 0] / sums[..., 1], seed=9)
    assert corpus.p_value == pytest.approx(randomisation_test(first, second, seed=9).p_value)


def test_corpus_randomisation_over_seeds() -> None:
    better = np.stack([some_statistics(seed, 80, 0.8) for seed in range(3)])
    worse = np.stack([some_statistics(seed + 10, 80, 0.4) for seed in range(3)])
    outcome = corpus_randomisation_test(better, worse, bleu1, resamples=500)
    expected = np.mean([bleu1(run.sum(0)) for run in better]) - np.mean([bleu1(run.sum(0)) for run in worse])
    assert outcome.difference == pytest.approx(float(expected))
    assert outcome.p_value == pytest.approx(1 / 501)
    with pytest.raises(UsageError, match="as many runs"):
        corpus_randomisation_test(better, worse[:2], bleu1)


def test_a_true_null_is_rejected_as_often_as_promised() -> None:
    rng = np.random.default_rng(10)
    rejected = {"t": 0, "randomisation": 0}
    for trial in range(400):
        first, second = rng.random(25), rng.random(25)
        rejected["t"] += paired_t_test(first, second).p_value < 0.05
        rejected["randomisation"] += randomisation_test(first, second, resamples=199, seed=trial).p_value <= 0.05
    for count in rejected.values():  # 20 expected, standard deviation 4.4
        assert 4 <= count <= 40


# --- Holm -------------------------------------------------------------------------------------------------------------


def test_holm_golden_case() -> None:
    # Four tests, worked by hand: .005·4, .01·3, max(.03·2, .03), and .04·1 raised to the one before.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([0.2]) == [0.2]
    assert holm([]) == []


@given(st.lists(unit, min_size=1, max_size=8), st.randoms())
@settings(max_examples=200, deadline=None)
def test_holm_lies_between_the_raw_values_and_bonferroni_in_any_order(p_values: list[float], random: object) -> None:
    adjusted = holm(p_values)
    for raw, corrected in zip(p_values, adjusted, strict=True):
        assert raw <= corrected <= min(1.0, raw * len(p_values)) + 1e-12
        assert raw <= corrected <= 1.0
    assert min(adjusted) == pytest.approx(min(1.0, min(p_values) * len(p_values)))
    order = sorted(range(len(p_values)), key=lambda i: -p_values[i])
    assert holm([p_values[i] for i in order]) == [adjusted[i] for i in order]


# --- Bootstrap --------------------------------------------------------------------------------------------------------


def test_bootstrap_covers_the_true_mean_about_as_often_as_promised() -> None:
    rng = np.random.default_rng(11)
    covered = sum(0.3 in bootstrap_mean(rng.random(80) < 0.3, resamples=500, seed=trial) for trial in range(300))
    assert 264 <= covered <= 298  # 285 expected, standard deviation 3.8; percentile intervals run a little short


def test_bootstrap_width_is_the_standard_errors() -> None:
    values = np.random.default_rng(12).normal(2.0, 1.0, 500)
    interval = bootstrap_mean(values, confidence=0.95)
    error = values.std() / math.sqrt(500)
    assert interval.high - interval.low == pytest.approx(2 * 1.96 * error, rel=0.05)
    assert interval.estimate == pytest.approx(values.mean())
    wider = bootstrap_mean(values, confidence=0.99)
    assert wider.low < interval.low < interval.high < wider.high


def test_bootstrap_difference_is_paired() -> None:
    rng = np.random.default_rng(13)
    hard = rng.random(200)  # questions differ much more than systems
    interval = bootstrap_difference(hard + 0.02 + rng.normal(0, 0.01, 200), hard)
    assert interval.low > 0.015
    assert interval.high < 0.025


def test_bootstrap_of_a_corpus_measure() -> None:
    statistics = some_statistics(14, 300, 0.6)
    interval = bootstrap_corpus(statistics, bleu1, resamples=2000)
    assert interval.estimate == pytest.approx(float(bleu1(statistics.sum(0))))
    rng = np.random.default_rng(15)
    naive = [float(bleu1(statistics[rng.integers(0, 300, 300)].sum(0))) for _ in range(2000)]
    assert interval.low == pytest.approx(float(np.quantile(naive, 0.025)), abs=0.01)
    assert interval.high == pytest.approx(float(np.quantile(naive, 0.975)), abs=0.01)
    same = bootstrap_corpus(statistics, bleu1, minus=np.stack([statistics, statistics]), resamples=100)
    assert (same.estimate, same.low, same.high) == pytest.approx((0.0, 0.0, 0.0))


def test_bootstrap_of_a_mean_written_as_a_corpus_measure_is_the_same_interval() -> None:
    values = np.random.default_rng(16).random(40)
    plain = bootstrap_mean(values, resamples=500, seed=3)
    corpus = bootstrap_corpus(
        np.stack([values, np.ones(40)], axis=1), lambda s: s[..., 0] / s[..., 1], resamples=500, seed=3
    )
    assert (corpus.low, corpus.high) == pytest.approx((plain.low, plain.high))


def test_bootstrap_is_seeded() -> None:
    values = np.random.default_rng(17).random(50)
    assert bootstrap_mean(values, seed=1) == bootstrap_mean(values, seed=1)
    assert bootstrap_mean(values, seed=1) != bootstrap_mean(values, seed=2)


# --- Systems by name --------------------------------------------------------------------------------------------------


def test_compare_works_on_the_mean_of_seeds_and_corrects_over_systems() -> None:
    rng = np.random.default_rng(18)
    questions = [f"q{i}" for i in range(60)]
    base = {q: float(rng.random()) for q in questions}
    seeds = [{q: base[q] + 0.1 + float(rng.normal(0, 0.2)) for q in reversed(questions)} for _ in range(3)]
    same = {q: base[q] + float(rng.normal(0, 0.2)) for q in questions}
    result = compare({"bm25": [base], "ours": seeds, "other": [same]}, "bm25")
    assert list(result) == ["ours", "other"]
    mean = mean_over_seeds(seeds)
    alone = paired_t_test([mean[q] for q in questions], [base[q] for q in questions])
    assert result["ours"].p_value == pytest.approx(alone.p_value)
    assert [c.p_adjusted for c in result.values()] == pytest.approx(holm([c.p_value for c in result.values()]))
    assert result["ours"].difference == pytest.approx(alone.difference)
    assert result["ours"].is_significant()
    assert 0.0 not in result["ours"].interval
    assert not result["other"].is_significant()
    again = compare({"bm25": [base], "ours": seeds}, "bm25", test="randomisation", resamples=2000)
    assert again["ours"].test == "randomisation"
    assert again["ours"].p_value < 0.05


def test_compare_corpus_on_bleu() -> None:
    answers = {f"q{i}": ["the black cat sat down"] for i in range(30)}
    good = {q: bleu1_statistics("the black cat sat", a) for q, a in answers.items()}
    poor = {q: bleu1_statistics("a white dog sat down", a) for q, a in reversed(answers.items())}
    result = compare_corpus({"base": [poor], "ours": [good]}, "base", bleu1, resamples=500)["ours"]
    assert result.test == "randomisation"
    assert result.difference == pytest.approx(math.exp(1 - 5 / 4) - 0.4)
    assert result.p_adjusted == pytest.approx(1 / 501)
    assert result.interval.low > 0


def test_what_cannot_be_compared_is_refused() -> None:
    with pytest.raises(UsageError, match="two questions"):
        paired_t_test([1.0], [0.0])
    with pytest.raises(UsageError, match="one value per question"):
        paired_t_test([1.0, 2.0], [0.0])
    with pytest.raises(UsageError, match="one value per question"):
        randomisation_test([], [])
    with pytest.raises(UsageError, match="at least one resample"):
        randomisation_test(np.ones(40), np.zeros(40), resamples=0)
    with pytest.raises(UsageError, match="between 0 and 1"):
        holm([0.1, 1.5])
    with pytest.raises(UsageError, match="between 0 and 1"):
        holm([math.nan])
    with pytest.raises(UsageError, match="one value per question"):
        bootstrap_mean([])
    with pytest.raises(UsageError, match="between 0 and 1"):
        bootstrap_mean([1.0], confidence=95)
    with pytest.raises(UsageError, match="as many values"):
        bootstrap_difference([1.0], [1.0, 2.0])
    with pytest.raises(UsageError, match="shape"):
        bootstrap_corpus([1.0, 2.0], bleu1)
    with pytest.raises(UsageError, match="same questions"):
        bootstrap_corpus(np.ones((3, 3)), bleu1, minus=np.ones((4, 3)))
    with pytest.raises(UsageError, match="not among the systems"):
        compare({"a": [{"q": 1.0}]}, "b")
    with pytest.raises(UsageError, match="no runs"):
        compare({"a": [], "b": [{"q": 1.0}]}, "a")
    with pytest.raises(MismatchError, match=r"different questions: 2 .* 'q1'"):
        compare({"a": [{"q1": 1.0, "x": 1.0}], "b": [{"q2": 1.0, "x": 1.0}]}, "a")
    with pytest.raises(MismatchError, match="different questions"):
        mean_over_seeds([{"q1": 1.0}, {"q1": 1.0, "q2": 1.0}])
    with pytest.raises(UsageError, match="no runs"):
        compare_corpus({"a": [], "b": [{"q": (1.0, 1.0, 1.0)}]}, "a", bleu1)
