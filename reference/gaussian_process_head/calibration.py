"""The quality of a classifier's confidence: whether it equals the accuracy, and whether it is lower far from the training data.

Papers
    Guo et al. (2017), "On Calibration of Modern Neural Networks", equations (1) to (3). https://arxiv.org/abs/1706.04599
    Fawcett (2006), "An Introduction to ROC Analysis", section 7. https://doi.org/10.1016/j.patrec.2005.10.010

Equations, where I_k are the examples whose confidence is in bin k of K bins of equal width
    (1)  accuracy_k = mean of `right` over I_k,   confidence_k = mean of confidence over I_k
    (2)  ECE = Σ_k |I_k| / b · |accuracy_k − confidence_k|
    (3)  AUROC = P(score of one outside > score of one inside) + ½ P(equal)

Axes
    b example
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy import ndarray as Array


class Reliability(NamedTuple):
    """Accuracy, mean confidence and number of examples of every bin; the first two are NaN for an empty bin."""

    accuracy: Float[Array, "_"]
    confidence: Float[Array, "_"]
    count: Int[Array, "_"]


def reliability(confidence: Float[Array, " b"], right: Bool[Array, " b"], bins: int = 10) -> Reliability:
    """Equation (1). Bin k is (k/K, (k + 1)/K], and the first includes 0."""
    place = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    members = [place == k for k in range(bins)]
    count = np.array([m.sum() for m in members])
    means = [(right[m].mean(), confidence[m].mean()) if m.any() else (np.nan, np.nan) for m in members]
    accuracy, mean_confidence = np.array(means).T
    return Reliability(accuracy, mean_confidence, count)


def expected_calibration_error(confidence: Float[Array, " b"], right: Bool[Array, " b"], bins: int = 10) -> float:
    """Equation (2)."""
    accuracy, mean_confidence, count = reliability(confidence, right, bins)
    return float(np.nansum(count / count.sum() * np.abs(accuracy - mean_confidence)))


def auroc_by_pairs(inside: Float[Array, " b"], outside: Float[Array, "_"]) -> float:
    """Equation (3), by comparing every pair: the definition."""
    wins = sum(float(x > y) + 0.5 * float(x == y) for x in outside for y in inside)
    return wins / (len(inside) * len(outside))


def auroc(inside: Float[Array, " b"], outside: Float[Array, "_"]) -> float:
    """Equation (3), by counting, for each score outside, the scores inside that are below it and those that are at most it."""
    ordered = np.sort(inside)
    below = np.searchsorted(ordered, outside, side="left") + np.searchsorted(ordered, outside, side="right")
    return float(below.mean() / (2 * len(inside)))
