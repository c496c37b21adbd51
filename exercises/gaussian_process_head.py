"""Exercises of the lesson on the Gaussian process head."""

import numpy as np

from crosscheck.lesson.arguments import Draw
from crosscheck.lesson.constraints import Memory, NoLoop
from crosscheck.lesson.exercises import Exercise, edge
from reference.gaussian_process_head import calibration


def shrunk(logits, variance, factor):
    return logits / np.sqrt(1 + factor * variance)[:, None]


def row_by_row(logits, variance, factor):
    return np.array([row * (1 + factor * v) ** -0.5 for row, v in zip(logits, variance)]).reshape(logits.shape)


def logits_and_variances(rng):
    b, c = rng.permutation([3, 4, 5]).tolist()[:2]

    def inputs(b, c, factor):
        return {"logits": rng.normal(size=(b, c)), "variance": rng.uniform(0, 3, size=b), "factor": factor}

    return [
        inputs(b, c, rng.uniform(0.2, 0.9)),
        inputs(b + 4, c, rng.uniform(1, 4)),
        edge("as many examples as classes", **inputs(4, 4, 0.5)),
        edge("no variance", **inputs(b, c, 0.5) | {"variance": np.zeros(b)}),
        edge("a factor of 0", **inputs(b, c, 0.0)),
        edge("one example", **inputs(1, c, 0.5)),
        edge("one class", **inputs(b, 1, 0.5)),
        edge("a variance of 1,000,000", **inputs(b, c, 0.5) | {"variance": np.full(b, 1e6)}),
    ]


def share_of_pairs(inside, outside):
    ordered = np.sort(inside)
    below = np.searchsorted(ordered, outside, side="left") + np.searchsorted(ordered, outside, side="right")
    return below.mean() / (2 * len(inside))


def by_pairs(inside, outside):
    return (1 + np.sign(outside[:, None] - inside).mean()) / 2


def score_by_score(inside, outside):
    return np.mean([(inside < x).mean() + (inside == x).mean() / 2 for x in outside])


def ties_count(worth):
    return lambda inside, outside: np.mean([(inside < x).mean() + worth * (inside == x).mean() for x in outside])


def scores_of_examples(rng):
    b, c = rng.permutation([5, 6, 7]).tolist()[:2]
    return [
        {"inside": rng.normal(size=b), "outside": 0.5 + rng.normal(size=c)},
        {"inside": rng.normal(size=b + 5), "outside": rng.normal(size=c + 2)},
        {"inside": rng.integers(4, size=b) / 4, "outside": 0.25 + rng.integers(4, size=c) / 4},
        edge("every score is the same", inside=np.full(b, 0.3), outside=np.full(c, 0.3)),
        edge("all outside are above", inside=rng.random(b), outside=2 + rng.random(c)),
        edge("all outside are below", inside=rng.random(b), outside=rng.random(c) - 2),
        edge("one example each", inside=np.array([0.4]), outside=np.array([0.9])),
        edge("a tie", inside=np.array([0.1, 0.4]), outside=np.array([0.4])),
    ]


def calibration_error(confidence, right, bins):
    place = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    gaps = np.bincount(place, weights=right - confidence, minlength=bins)
    return np.abs(gaps).sum() / len(confidence)


def with_other_bins(place_of, weight=None):
    """Bins made in another way, or weighed in another way."""

    def error(confidence, right, bins):
        place = place_of(confidence, bins)
        total = []
        for k in np.unique(place):
            members = place == k
            gap = abs(right[members].mean() - confidence[members].mean())
            total.append(gap * (members.mean() if weight is None else weight(np.unique(place), bins)))
        return sum(total)

    return error


def bins_of(confidence, bins):
    return np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)


def quantiles(confidence, bins):
    return np.argsort(np.argsort(confidence)) * bins // len(confidence)


def predictions(rng):
    def inputs(b, bins, confidence=None):
        confidence = rng.uniform(0.2, 1, size=b) if confidence is None else np.array(confidence)
        return {"confidence": confidence, "right": rng.random(len(confidence)) < confidence, "bins": bins}

    wrong = np.zeros(4, bool)
    return [
        inputs(40, 10),
        inputs(60, 7),
        inputs(30, 5),
        edge(
            "confidences on the borders of bins",
            **inputs(0, 4, [0.25, 0.5, 0.75, 1.0, 0.3, 0.55]) | {"right": np.array([True, False, True, True, False, False])},
        ),
        edge(
            "confidences of 0 and 1",
            confidence=np.array([0.0, 1.0, 1.0]),
            right=np.array([True, True, False]),
            bins=10,
        ),
        edge("one bin", **inputs(20, 1)),
        edge("most bins are empty", **inputs(5, 50)),
        edge("one prediction", **inputs(1, 10)),
        edge("sure, and always wrong", confidence=np.full(4, 0.95), right=wrong, bins=10),
    ]


BIG = {"inside": Draw((800,)), "outside": Draw((900,))}
FEW, MANY = ({"confidence": np.linspace(0.05, 0.95, b), "right": np.arange(b) % 2 > 0, "bins": 10} for b in (10, 210))

EXERCISES = (
    Exercise(
        "shrunk",
        shrunk,
        logits_and_variances,
        wrong={
            "a root for each class": lambda logits, variance, factor: (
                logits / np.sqrt(1 + factor * np.resize(variance, logits.shape[1]))
            ),
            "no root": lambda logits, variance, factor: logits / (1 + factor * variance)[:, None],
            "no 1": lambda logits, variance, factor: logits / np.sqrt(np.maximum(factor * variance, 1e-9))[:, None],
            "multiplied": lambda logits, variance, factor: logits * np.sqrt(1 + factor * variance)[:, None],
            "the mean variance": lambda logits, variance, factor: logits / np.sqrt(1 + factor * variance.mean()),
            "without the factor": lambda logits, variance, factor: shrunk(logits, variance, 1.0),
            "the standard deviation": lambda logits, variance, factor: shrunk(logits, np.sqrt(variance), factor),
        },
        right={"row by row": row_by_row},
    ),
    Exercise(
        "share_of_pairs",
        share_of_pairs,
        scores_of_examples,
        constraints=(Memory(BIG, most=400_000, forbids="a number for each pair"),),
        wrong={
            "an array of pairs": by_pairs,
            "ties count nothing": ties_count(0.0),
            "ties count whole": ties_count(1.0),
            "the other way round": lambda inside, outside: share_of_pairs(outside, inside),
            "the share above the mean": lambda inside, outside: (outside > inside.mean()).mean(),
            "the share above the median": lambda inside, outside: (outside > np.median(inside)).mean(),
            "the number of pairs": lambda inside, outside: share_of_pairs(inside, outside) * len(inside) * len(outside),
        },
        right={
            "score by score": score_by_score,
            "the reference": lambda inside, outside: calibration.auroc(inside, outside),
        },
    ),
    Exercise(
        "calibration_error",
        calibration_error,
        predictions,
        constraints=(NoLoop(FEW, MANY, more=200, axis="the predictions"),),
        wrong={
            "a loop over predictions": lambda confidence, right, bins: prediction_by_prediction(confidence, right, bins),
            "bins closed below": with_other_bins(lambda confidence, bins: np.minimum((confidence * bins).astype(int), bins - 1)),
            "bins weigh the same": with_other_bins(bins_of, lambda places, bins: 1 / len(places)),
            "empty bins weigh too": with_other_bins(bins_of, lambda places, bins: 1 / bins),
            "bins of equally many": with_other_bins(quantiles),
            "ten bins, always": lambda confidence, right, bins: calibration_error(confidence, right, 10),
            "one gap for all": lambda confidence, right, bins: abs(right.mean() - confidence.mean()),
            "NaN for empty bins": lambda confidence, right, bins: np.sum(
                [
                    abs(right[place].mean() - confidence[place].mean()) * place.mean()
                    for k in range(bins)
                    for place in [bins_of(confidence, bins) == k]
                ]
            ),
        },
        right={
            "bin by bin": with_other_bins(bins_of),
            "the reference": lambda confidence, right, bins: calibration.expected_calibration_error(confidence, right, bins),
        },
    ),
)


def prediction_by_prediction(confidence, right, bins):
    gaps = [0.0] * bins
    for k, x, ok in zip(bins_of(confidence, bins), confidence, right):
        gaps[k] += ok - x
    return sum(map(abs, gaps)) / len(confidence)
