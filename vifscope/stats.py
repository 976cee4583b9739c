"""How certain a mean is."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

CHUNK = 4_000_000
"""Draws held at a time (32 MB)."""


class Interval(NamedTuple):
    """A mean and the bounds of its 95 % interval, of the same shape."""

    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray


def bootstrap_mean(values: np.ndarray, units: np.ndarray | None = None, n_boot: int = 2000, seed: int = 0) -> Interval:
    """Mean over samples with its 95 % percentile bootstrap interval, resampling units (images), not samples.

    values: [N, ...], a value a sample; NaN where undefined, which is left out of mean and interval alike.
    units:  [N], the image of each sample: its samples are drawn together; None where each has its own.
    Returns arrays of shape [...]; NaN where every value is. With one unit the interval is that unit's mean.
    Each column sees the same draws. Efron and Tibshirani, An Introduction to the Bootstrap (1993), chapter 13.

    >>> bootstrap_mean(np.array([2.0, 2.0, np.nan])).mean.item()
    2.0
    """
    values = np.asarray(values, dtype=np.float64)
    shape = values.shape[1:]
    values = values.reshape(len(values), int(np.prod(shape)))
    if units is None:
        units = np.arange(len(values))
    _, unit = np.unique(units, return_inverse=True)
    n_units = int(unit.max(initial=-1)) + 1
    totals, counts = np.zeros((2, n_units, values.shape[1]))  # a unit's sum and number of defined values
    np.add.at(totals, unit, np.nan_to_num(values))
    np.add.at(counts, unit, ~np.isnan(values))
    rng = np.random.default_rng(seed)
    means = np.empty((n_boot, values.shape[1]))
    with np.errstate(invalid="ignore"):
        step = max(1, CHUNK // max(1, n_units))
        for start in range(0, n_boot, step):
            size = min(step, n_boot - start)
            drawn = np.array([_times_drawn(rng, n_units) for _ in range(size)], dtype=np.float64)
            means[start : start + size] = (drawn @ totals) / (drawn @ counts)
        mean = totals.sum(0) / counts.sum(0)
    low, high = _percentiles(means, (2.5, 97.5))
    return Interval(*(array.reshape(shape) for array in (mean, low, high)))


def _times_drawn(rng: np.random.Generator, n_units: int) -> np.ndarray:
    """How often each unit is drawn when as many are drawn, with replacement, as there are."""
    return np.bincount(rng.integers(max(1, n_units), size=n_units), minlength=n_units)


def _percentiles(means: np.ndarray, percentages: tuple[float, float]) -> tuple[np.ndarray, np.ndarray]:
    """Percentiles down the columns; replicates that drew no defined value are left out, NaN where none did."""
    low, high = np.full((2, means.shape[1]), np.nan)
    for column in np.flatnonzero(~np.isnan(means).all(0)):
        drawn = means[:, column]
        low[column], high[column] = np.percentile(drawn[~np.isnan(drawn)], percentages)
    return low, high
