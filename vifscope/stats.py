"""How certain a mean is, and a difference between pairs."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

CHUNK = 4_000_000
"""Draws held at a time (32 MB)."""

ROUNDING = 1e-5
"""Two values that differ by less than this share of the larger are equal: batches alone change the last digits."""


class Interval(NamedTuple):
    """A mean and the bounds of its 95 % interval, of the same shape."""

    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray


def bootstrap_mean(values: np.ndarray, units: np.ndarray | None = None, n_boot: int = 2000, seed: int = 0) -> Interval:
    """Mean over samples with its 95 % percentile bootstrap interval, resampling units (images), not samples.

    values: [N, ...], a value a sample; NaN where undefined, which is left out of mean and interval alike.
    units:  [N], the image of each sample: its samples are drawn together; None where each has its own.
    Returns arrays of shape [...]; NaN where every value is. One unit has a mean and no interval (NaN): nothing varies.
    Each column sees the same draws. Efron and Tibshirani, An Introduction to the Bootstrap (1993), chapter 13.

    >>> bootstrap_mean(np.array([2.0, 2.0, np.nan])).mean.item()
    2.0
    """
    values = np.asarray(values, dtype=np.float64)
    shape = values.shape[1:]
    mean, means = _resampled(values.reshape(len(values), int(np.prod(shape))), units, n_boot, seed)
    low, high = _percentiles(means, (2.5, 97.5))
    return Interval(*(array.reshape(shape) for array in (mean, low, high)))


def groups_difference(
    values: np.ndarray, chosen: np.ndarray, units: np.ndarray | None = None, n_boot: int = 2000, seed: int = 0
) -> Interval:
    """Mean over the chosen samples less the mean over the others, with the interval of `bootstrap_mean`.

    values: [N], NaN where undefined.    chosen: [N], of bool.    NaN where a group is empty; no interval where one has
    a single unit.

    >>> groups_difference(np.array([3.0, 3.0, 1.0]), np.array([True, True, False])).mean.item()
    2.0
    """
    groups = np.stack([np.where(chosen, values, np.nan), np.where(chosen, np.nan, values)], axis=-1)
    mean, means = _resampled(groups, units, n_boot, seed)
    low, high = _percentiles((means[:, :1] - means[:, 1:]), (2.5, 97.5))
    return Interval(mean[0] - mean[1], low[0], high[0])


class PairedDifference(NamedTuple):
    """What changes from the first of each pair to the second; arrays of one shape.

    n:          pairs in which both values are defined.     first, second: their means.
    difference: second - first.                             percent: that over the size of the first mean.
    p:          of the Wilcoxon signed-rank test, two-sided; NaN without pairs.
    """

    n: np.ndarray
    first: np.ndarray
    second: np.ndarray
    difference: Interval
    percent: Interval
    p: np.ndarray


def paired_difference(
    first: np.ndarray, second: np.ndarray, units: np.ndarray | None = None, n_boot: int = 2000, seed: int = 0
) -> PairedDifference:
    """Mean difference of pairs with 95 % bootstrap intervals and a paired test; the unit of both is the image.

    first, second: [N, ...], a value a sample; a pair counts where neither is NaN.      units: as in `bootstrap_mean`.
    The percentage is NaN where the first mean is 0. Wilcoxon, Individual Comparisons by Ranking Methods (1945).

    >>> change = paired_difference(np.array([1.0, 3.0]), np.array([2.0, 4.0]))
    >>> change.difference.mean.item(), change.percent.mean.item()
    (1.0, 50.0)
    """
    first, second = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    shape = first.shape[1:]
    undefined = np.isnan(first) | np.isnan(second)
    change = np.where(np.isclose(first, second, rtol=ROUNDING, atol=0), 0.0, second - first)
    columns = [
        np.where(undefined, np.nan, array).reshape(len(first), int(np.prod(shape))) for array in (first, second, change)
    ]
    mean, means = _resampled(np.concatenate(columns, axis=1), units, n_boot, seed)
    first_mean, second_mean, change_mean = np.split(mean, 3)
    firsts, _, changes = np.split(means, 3, axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        percent, percents = (
            np.where(base == 0, np.nan, 100 * part / np.abs(base))
            for part, base in ((change_mean, first_mean), (changes, firsts))
        )
    return PairedDifference(
        (~undefined).sum(0),
        first_mean.reshape(shape),
        second_mean.reshape(shape),
        Interval(*(array.reshape(shape) for array in (change_mean, *_percentiles(changes, (2.5, 97.5))))),
        Interval(*(array.reshape(shape) for array in (percent, *_percentiles(percents, (2.5, 97.5))))),
        np.array([_signed_rank(column) for column in _unit_means(columns[2], units).T]).reshape(shape),
    )


class SeedsDifference(NamedTuple):
    """What changes from one training to another that shares its seeds; each with its interval, of one shape.

    difference: second - first, of each sample and seed.     percent: that over the size of the first mean.
    """

    first: Interval
    second: Interval
    difference: Interval
    percent: Interval


def bootstrap_seeds(values: np.ndarray, units: np.ndarray | None = None, n_boot: int = 2000, seed: int = 0) -> Interval:
    """Mean over seeds and samples with its 95 % two-level bootstrap interval: seeds are drawn, and images within them.

    values: [S, N, ...], a value a seed and sample; NaN where undefined.      units: as in `bootstrap_mean`.
    One draw of images serves all the seeds of a replicate, since all of them were measured on the same images: drawn
    anew for each seed, an image would count as several. Seeds that agree (or one alone) thus give `bootstrap_mean`;
    one image, however many seeds, has no interval.
    S seeds are drawn from S, so that their share of the variance comes out too small by a factor of (S - 1) / S.
    Owen, The Pigeonhole Bootstrap (2007).

    >>> bootstrap_seeds(np.array([[1.0, 1.0], [3.0, 3.0]])).low.item()
    1.0
    """
    values = np.asarray(values, dtype=np.float64)
    n_seeds, n_samples, *shape = values.shape
    columns = values.reshape(n_seeds, n_samples, int(np.prod(shape)))
    return _interval(*_resampled_seeds(columns, units, n_boot, seed), tuple(shape))


def seeds_difference(
    first: np.ndarray, second: np.ndarray, units: np.ndarray | None = None, n_boot: int = 2000, seed: int = 0
) -> SeedsDifference:
    """Mean difference of pairs, matched by seed and sample, with two-level intervals as in `bootstrap_seeds`.

    first, second: [S, N, ...]; a pair counts where neither is NaN. The percentage is NaN where the first mean is 0.

    >>> seeds_difference(np.full((2, 3), 4.0), np.full((2, 3), 3.0)).percent.high.item()
    -25.0
    """
    first, second = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    n_seeds, n_samples, *shape = first.shape
    undefined = np.isnan(first) | np.isnan(second)
    columns = [
        np.where(undefined, np.nan, array).reshape(n_seeds, n_samples, int(np.prod(shape)))
        for array in (first, second, second - first)
    ]
    mean, means = _resampled_seeds(np.concatenate(columns, axis=2), units, n_boot, seed)
    parts: list[tuple[np.ndarray, ...]] = list(zip(np.split(mean, 3), np.split(means, 3, axis=1), strict=True))
    base, change = parts[0], parts[2]
    with np.errstate(invalid="ignore", divide="ignore"):
        parts.append(
            tuple(np.where(of == 0, np.nan, 100 * by / np.abs(of)) for of, by in zip(base, change, strict=True))
        )
    return SeedsDifference(*(_interval(mean, means, tuple(shape)) for mean, means in parts))


def holm(p: np.ndarray) -> np.ndarray:
    """p values [N] of one family, corrected for their number by Holm's step-down (1979). NaN stays and counts for none.

    >>> holm(np.array([0.01, np.nan, 0.04, 0.03])).tolist()
    [0.03, nan, 0.06, 0.06]
    """
    p = np.asarray(p, dtype=np.float64)
    order = np.argsort(p)[: int((~np.isnan(p)).sum())]  # NaN sorts last
    corrected = np.full(p.shape, np.nan)
    corrected[order] = np.minimum(1, np.maximum.accumulate(p[order] * np.arange(len(order), 0, -1)))
    return corrected


class SignTest(NamedTuple):
    """Pairs of which only one is right, and the exact two-sided p value that a changed unit goes either way alike."""

    first_only: int
    second_only: int
    p: float


def sign_test(first: np.ndarray, second: np.ndarray, units: np.ndarray | None = None) -> SignTest:
    """The exact sign test on pairs of right or wrong, [N] each: a unit (image) that gained more than it lost is for the
    second, and the other way round. McNemar's exact test (1947) where each unit has one pair.

    units: as in `bootstrap_mean`. p is 1 where no unit changes, NaN without pairs.

    >>> sign_test(np.array([True] * 6 + [False]), np.array([False] * 6 + [True]))
    SignTest(first_only=6, second_only=1, p=0.125)
    """
    from scipy.stats import binomtest  # takes a second, and browsing a run needs none of it

    first, second = np.asarray(first, dtype=bool), np.asarray(second, dtype=bool)
    change = second.astype(int) - first
    net = unit_sums(change[:, None], units)[0]
    won, lost = int((net > 0).sum()), int((net < 0).sum())
    p = float(binomtest(won, won + lost).pvalue) if won + lost else 1.0
    return SignTest(int((change < 0).sum()), int((change > 0).sum()), p if len(change) else float("nan"))


def _signed_rank(changes: np.ndarray) -> float:
    from scipy.stats import wilcoxon  # takes a second, and browsing a run needs none of it

    # Ranks rather than permutations of the mean: a few samples with a huge lift do not decide alone, and p can fall
    # below one over the number of permutations, which Holm's factor over 32 layers would lift above any level.
    changes = changes[~np.isnan(changes)]
    if not changes.any():
        return 1.0 if changes.size else float("nan")
    return float(wilcoxon(changes).pvalue)


def _resampled(values: np.ndarray, units: np.ndarray | None, n_boot: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """`_resampled_seeds` of [N, C]."""
    return _resampled_seeds(values[None], units, n_boot, seed)


def _resampled_seeds(
    values: np.ndarray, units: np.ndarray | None, n_boot: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Mean of each column of [S, N, C], and its means in the replicates, [n_boot, C]; NaN where nothing is defined, and
    in the replicates of a column that one unit alone defines."""
    n_seeds, n_samples, n_columns = values.shape
    totals, counts = unit_sums(
        values.transpose(1, 0, 2).reshape(n_samples, n_seeds * n_columns), units
    )  # [units, S * C]
    n_units = len(totals)
    rng, of_seeds = np.random.default_rng(seed), np.random.default_rng([seed, 1])
    seeds = times_drawn(of_seeds, n_seeds, n_boot)
    means = np.empty((n_boot, n_columns))
    with np.errstate(invalid="ignore"):
        step = max(1, CHUNK // max(1, n_units))
        for start in range(0, n_boot, step):
            size = min(step, n_boot - start)
            drawn = times_drawn(rng, n_units, size)
            sums, numbers = (
                np.einsum("bs,bsc->bc", seeds[start : start + size], (drawn @ of).reshape(size, n_seeds, n_columns))
                for of in (totals, counts)
            )
            means[start : start + size] = sums / numbers
        means[:, (counts.reshape(n_units, n_seeds, n_columns).any(1)).sum(0) < 2] = np.nan
        whole, known = (of.sum(0).reshape(n_seeds, n_columns).sum(0) for of in (totals, counts))
        return whole / known, means


def unit_sums(values: np.ndarray, units: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Sum and number of the defined values [N, C] of each unit, [units, C] each."""
    if units is None or not len(values):
        return np.nan_to_num(values), (~np.isnan(values)).astype(np.float64)
    order = np.argsort(units, kind="stable")
    starts = np.unique(units[order], return_index=True)[1]
    ordered = values[order]
    return np.add.reduceat(np.nan_to_num(ordered), starts), np.add.reduceat((~np.isnan(ordered)).astype(float), starts)


def _unit_means(values: np.ndarray, units: np.ndarray | None) -> np.ndarray:
    totals, counts = unit_sums(values, units)
    return np.divide(totals, counts, out=np.full_like(totals, np.nan), where=counts > 0)


def times_drawn(rng: np.random.Generator, n_units: int, n_boot: int) -> np.ndarray:
    """How often each unit is drawn when as many are drawn, with replacement, as there are: [n_boot, n_units]."""
    drawn = rng.integers(max(1, n_units), size=(n_boot, n_units)) + n_units * np.arange(n_boot)[:, None]
    return np.bincount(drawn.ravel(), minlength=n_boot * n_units).reshape(n_boot, n_units).astype(np.float64)


def _interval(mean: np.ndarray, means: np.ndarray, shape: tuple[int, ...]) -> Interval:
    return Interval(*(array.reshape(shape) for array in (mean, *_percentiles(means, (2.5, 97.5)))))


def _percentiles(means: np.ndarray, percentages: tuple[float, float]) -> tuple[np.ndarray, np.ndarray]:
    """Percentiles down the columns; replicates that drew no defined value are left out, NaN where none did."""
    low, high = np.full((2, means.shape[1]), np.nan)
    for column in np.flatnonzero(~np.isnan(means).all(0)):
        drawn = means[:, column]
        low[column], high[column] = np.percentile(drawn[~np.isnan(drawn)], percentages)
    return low, high
