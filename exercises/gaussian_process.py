"""Exercises of the lesson on Gaussian processes."""

import numpy as np

from crosscheck.lesson.arguments import Draw
from crosscheck.lesson.constraints import Calls, Memory, NoLoop
from crosscheck.lesson.exercises import Exercise, edge


def features(x, w, b, scale):
    return np.sqrt(2 / len(b)) * np.cos(x @ w / np.sqrt(scale) + b)


def feature_by_feature(x, w, b, scale):
    waves = [np.cos(row @ direction / scale**0.5 + start) for row in x for direction, start in zip(w.T, b)]
    return (2 / len(b)) ** 0.5 * np.array(waves).reshape(len(x), len(b))


def by_exponentials(x, w, b, scale):
    return np.sqrt(2 / b.size) * np.exp(1j * (x @ w / np.sqrt(scale) + b)).real


def examples_and_waves(rng):
    t, m, r = rng.permutation([3, 4, 5]).tolist()

    def inputs(t, m=m, r=r, scale=None):
        return {
            "x": rng.normal(size=(t, m)),
            "w": rng.normal(size=(m, r)),
            "b": rng.uniform(0, 2 * np.pi, size=r),
            "scale": rng.uniform(2, 5) if scale is None else scale,
        }

    return [
        inputs(t),
        inputs(t + 2, r=r + 6),
        edge("one example", **inputs(1)),
        edge("no examples", **inputs(0)),
        edge("one feature", **inputs(t, r=1)),
        edge("a scale of 1", **inputs(t, scale=1.0)),
        edge("as many features as numbers", **inputs(t, r=m)),
    ]


def variances(phi, known, ridge):
    precision = ridge * np.eye(known.shape[1]) + known.T @ known
    return ridge * np.sum(phi.T * np.linalg.solve(precision, phi.T), axis=0)


def by_cholesky(phi, known, ridge):
    lower = np.linalg.cholesky(np.eye(known.shape[1]) + known.T @ known / ridge)
    return (np.linalg.solve(lower, phi.T) ** 2).sum(axis=0)


def by_all_pairs(phi, known, ridge):
    precision = ridge * np.eye(known.shape[1]) + known.T @ known
    return ridge * np.diagonal(phi @ np.linalg.solve(precision, phi.T))


def asked_and_known(rng):
    t, s, r = rng.permutation([4, 5, 6]).tolist()

    def inputs(t, s, ridge):
        return {"phi": rng.normal(size=(t, r)), "known": rng.normal(size=(s, r)), "ridge": ridge}

    same = rng.normal(size=(s, r))
    return [
        inputs(t, s + 4, rng.uniform(0.1, 0.9)),
        inputs(t + 3, s + 9, rng.uniform(1, 3)),
        edge("nothing is known", **inputs(t, 0, 0.5)),
        edge("one known example", **inputs(t, 1, 0.5)),
        edge("one is asked", **inputs(1, s, 0.5)),
        edge("the known are asked", phi=same, known=same, ridge=0.3),
        edge("a ridge of 1,000", **inputs(t, s, 1000.0)),
    ]


def one_more(c, phi, ridge):
    a = c @ phi
    return c - np.outer(a, a) / (ridge + phi @ a)


def inverted_anew(c, phi, ridge):
    return ridge * np.linalg.inv(ridge * np.linalg.inv(c) + np.outer(phi, phi))


def entry_by_entry(c, phi, ridge):
    r = len(phi)
    a = [sum(c[i, j] * phi[j] for j in range(r)) for i in range(r)]
    divisor = ridge + sum(a[i] * phi[i] for i in range(r))
    return [[c[i, j] - a[i] * a[j] / divisor for j in range(r)] for i in range(r)]


def covariances(rng):
    r = rng.integers(4, 7)

    def inputs(r, ridge):
        spread = rng.normal(size=(r, r))
        return {"c": np.eye(r) + spread @ spread.T / r, "phi": rng.normal(size=r), "ridge": ridge}

    return [
        inputs(r, rng.uniform(0.2, 0.8)),
        inputs(r + 3, rng.uniform(1, 3)),
        edge("nothing was seen before", **inputs(r, 0.5) | {"c": np.eye(r)}),
        edge("one feature", **inputs(1, 0.5)),
        edge("an example without features", **inputs(r, 0.5) | {"phi": np.zeros(r)}),
        edge("a ridge of 1,000", **inputs(r, 1000.0)),
    ]


MANY = {"phi": Draw((600, 8)), "known": Draw((20, 8)), "ridge": 0.3}
SHORT, LONG = ({"x": np.ones((t, 3)), "w": np.ones((3, t)), "b": np.zeros(t), "scale": 2.0} for t in (4, 104))
INVERSES = ("numpy.linalg.inv", "numpy.linalg.pinv", "numpy.linalg.solve", "numpy.linalg.lstsq")

EXERCISES = (
    Exercise(
        "features",
        features,
        examples_and_waves,
        constraints=(NoLoop(SHORT, LONG, more=100, axis="examples or features"),),
        wrong={
            "a loop": feature_by_feature,
            "sines": lambda x, w, b, scale: np.sqrt(2 / len(b)) * np.sin(x @ w / np.sqrt(scale) + b),
            "divided by the scale, not its root": lambda x, w, b, scale: features(x, w, b, scale**2),
            "multiplied by the root of the scale": lambda x, w, b, scale: features(x, w, b, 1 / scale),
            "the root of 1 / r": lambda x, w, b, scale: features(x, w, b, scale) / np.sqrt(2),
            "the starts are scaled too": lambda x, w, b, scale: features(x, w, b / np.sqrt(scale), scale),
            "all waves start alike": lambda x, w, b, scale: features(x, w, 0 * b, scale),
            "the root of 2 / m": lambda x, w, b, scale: features(x, w, b, scale) * np.sqrt(len(b) / len(w)),
        },
        right={"by exponentials": by_exponentials},
    ),
    Exercise(
        "variances",
        variances,
        asked_and_known,
        constraints=(Memory(MANY, most=500_000, forbids="a matrix of all pairs that are asked"),),
        wrong={
            "the diagonal of all pairs": by_all_pairs,
            "no ridge in front": lambda phi, known, ridge: variances(phi, known, ridge) / ridge,
            "no ridge in the precision": lambda phi, known, ridge: (
                ridge * np.sum(phi.T * (np.linalg.pinv(known.T @ known) @ phi.T), axis=0)
            ),
            "standard deviations": lambda phi, known, ridge: np.sqrt(variances(phi, known, ridge)),
            "as if nothing were known": lambda phi, known, ridge: variances(phi, known[:0], ridge),
            "a precision that is not inverted": lambda phi, known, ridge: (
                ridge * np.sum(phi.T * ((ridge * np.eye(known.shape[1]) + known.T @ known) @ phi.T), axis=0)
            ),
            "the ridge is 1": lambda phi, known, ridge: variances(phi, known, 1.0),
        },
        right={"by Cholesky": by_cholesky},
    ),
    Exercise(
        "one_more",
        one_more,
        covariances,
        constraints=(Calls(INVERSES, {"c": np.eye(4) + 0.5, "phi": np.arange(1.0, 5.0), "ridge": 0.3}),),
        wrong={
            "inverts anew": inverted_anew,
            "the variance grows": lambda c, phi, ridge: 2 * c - one_more(c, phi, ridge),
            "the ridge is 1": lambda c, phi, ridge: one_more(c, phi, 1.0),
            "no ridge below": lambda c, phi, ridge: c - np.outer(c @ phi, c @ phi) / max(phi @ c @ phi, 1e-300),
            "takes the features themselves away": lambda c, phi, ridge: c - np.outer(phi, phi) / (ridge + phi @ c @ phi),
            "divides by the ridge alone": lambda c, phi, ridge: c - np.outer(c @ phi, c @ phi) / ridge,
            "the diagonal alone": lambda c, phi, ridge: c - np.diag((c @ phi) ** 2 / (ridge + phi @ c @ phi)),
        },
        right={"entry by entry": entry_by_entry},
    ),
)
