"""Exercises of the lesson on MobileBERT."""

import numpy as np

from crosscheck.lesson.exercises import Exercise, edge


def trigrams(e):
    padded = np.pad(e, [(0, 0), (1, 1), (0, 0)])
    return np.concatenate([padded[:, 2:], padded[:, 1:-1], padded[:, :-2]], axis=2)


def token_by_token(e):
    b, t, m = e.shape
    rows = np.zeros((b, t, 3 * m))
    for i in range(t):
        for j, place in enumerate((i + 1, i, i - 1)):
            if 0 <= place < t:
                rows[:, i, j * m : (j + 1) * m] = e[:, place]
    return rows


def wrapped(e):
    return np.concatenate([np.roll(e, -1, axis=1), e, np.roll(e, 1, axis=1)], axis=2)


def repeated_ends(e):
    padded = np.pad(e, [(0, 0), (1, 1), (0, 0)], mode="edge")
    return np.concatenate([padded[:, 2:], padded[:, 1:-1], padded[:, :-2]], axis=2)


def across_sentences(e):
    return trigrams(e.reshape(1, -1, e.shape[2])).reshape(*e.shape[:2], -1)


def sentences(rng):
    b, t, m = rng.permutation([3, 4, 5]).tolist()
    return [
        {"e": rng.normal(size=(b, t, m))},
        {"e": rng.normal(size=(b + 1, t + 3, m + 2))},
        edge("one token", e=rng.normal(size=(b, 1, m))),
        edge("two tokens", e=rng.normal(size=(b, 2, m))),
        edge("one sentence", e=rng.normal(size=(1, t, m))),
        edge("one number for each token", e=rng.normal(size=(b, t, 1))),
    ]


def folded(gamma, beta, w, b):
    return gamma[:, None] * w, b + beta @ w


def by_asking(gamma, beta, w, b):
    """What the two maps make of zeros and of unit vectors."""
    bias = beta @ w + b
    return (np.diag(gamma) + beta) @ w + b - bias, bias


def norms_and_maps(rng):
    m, f = rng.permutation([3, 4, 5]).tolist()[:2]

    def inputs(m, f):
        return {"gamma": rng.normal(size=m), "beta": rng.normal(size=m), "w": rng.normal(size=(m, f)), "b": rng.normal(size=f)}

    return [
        inputs(m, f),
        inputs(f + 4, m),
        edge("a square map", **inputs(m, m)),
        edge("one number", **inputs(1, 1)),
        edge("a gamma of 0", **inputs(m, f) | {"gamma": np.zeros(m)}),
        edge("no shift", **inputs(m, f) | {"beta": np.zeros(m)}),
    ]


def size(m, w, f, n):
    bottlenecks = 2 * (m * w + 3 * w)
    attention = 2 * (w * w + w) + (m * w + w) + (w * w + 3 * w)
    return bottlenecks + attention + n * (2 * w * f + f + 3 * w) + (w * m + 3 * m)


def part_by_part(m, w, f, n):
    def linear(rows, columns):
        return rows * columns + columns

    norms = 2 * w * (2 + 1 + n) + 2 * m
    maps = [(m, w), (m, w), (w, w), (w, w), (m, w), (w, w), (w, m), *[(w, f), (f, w)] * n]
    return norms + sum(linear(rows, columns) for rows, columns in maps)


def sizes(rng):
    def inputs(m, w, f, n):
        return {"m": m, "w": w, "f": f, "n": n}

    return [
        *(inputs(*rng.permutation([5, 7, 11]).tolist(), rng.integers(2, 5)) for _ in range(3)),
        edge("one feed-forward network", **inputs(10, 6, 7, 1)),
        edge("no bottleneck in size", **inputs(8, 8, 5, 2)),
        edge("the published sizes", **inputs(512, 128, 512, 4)),
        edge("everything is 1", **inputs(1, 1, 1, 1)),
    ]


EXERCISES = (
    Exercise(
        "trigrams",
        trigrams,
        sentences,
        wrong={
            "the ends are neighbors": wrapped,
            "the ends are repeated": repeated_ends,
            "sentences are neighbors": across_sentences,
            "previous, this, next": lambda e: np.concatenate(np.split(trigrams(e), 3, axis=2)[::-1], axis=2),
            "numbers of a kind side by side": lambda e: np.stack(np.split(trigrams(e), 3, axis=2), axis=3).reshape(
                *e.shape[:2], -1
            ),
            "the sum of three": lambda e: sum(np.split(trigrams(e), 3, axis=2)),
            "three axes of three tokens": lambda e: np.stack(np.split(trigrams(e), 3, axis=2), axis=2),
        },
        right={"token by token": token_by_token},
    ),
    Exercise(
        "folded",
        folded,
        norms_and_maps,
        wrong={
            "gamma on the outputs": lambda gamma, beta, w, b: (np.resize(gamma, w.shape[1]) * w, b + beta @ w),
            "the shift is not mapped": lambda gamma, beta, w, b: (gamma[:, None] * w, b + np.resize(beta, len(b))),
            "the shift is scaled": lambda gamma, beta, w, b: (gamma[:, None] * w, b + (gamma * beta) @ w),
            "the bias is lost": lambda gamma, beta, w, b: (gamma[:, None] * w, beta @ w),
            "gamma is forgotten": lambda gamma, beta, w, b: (w, b + beta @ w),
            "bias first": lambda gamma, beta, w, b: folded(gamma, beta, w, b)[::-1],
        },
        right={"by asking": by_asking},
    ),
    Exercise(
        "size",
        size,
        sizes,
        wrong={
            "no norms": lambda m, w, f, n: size(m, w, f, n) - 2 * w * (3 + n) - 2 * m,
            "one feed-forward network": lambda m, w, f, n: size(m, w, f, 1),
            "no biases": lambda m, w, f, n: size(m, w, f, n) - (6 + n) * w - n * f - m,
            "one bottleneck": lambda m, w, f, n: size(m, w, f, n) - (m * w + 3 * w),
            "values from the bottleneck": lambda m, w, f, n: size(m, w, f, n) + w * w - m * w,
            "norms have one vector": lambda m, w, f, n: size(m, w, f, n) - w * (3 + n) - m,
        },
        right={"part by part": part_by_part},
    ),
)
