"""Exercises of the lesson on additive margin softmax."""

import numpy as np

from crosscheck.lesson.exercises import Exercise, edge


def scores(left, right, scale, margin):
    return scale * (left @ right.T - margin * np.eye(len(left), len(right)))


def pair_by_pair(left, right, scale, margin):
    return [[scale * (x @ y - margin * (i == j)) for j, y in enumerate(right)] for i, x in enumerate(left)]


def texts_and_translations(rng):
    b, c, m = rng.permutation([3, 4, 5]).tolist()
    b, c = min(b, c), max(b, c)

    def inputs(b, c, scale=None, margin=None):
        sides = {"left": unit(rng.normal(size=(b, m))), "right": unit(rng.normal(size=(c, m)))}
        drawn = {"scale": rng.uniform(5, 20), "margin": rng.uniform(0.1, 0.5)}
        return {
            **sides,
            "scale": drawn["scale"] if scale is None else scale,
            "margin": drawn["margin"] if margin is None else margin,
        }

    alike = inputs(b, c, scale=1000.0, margin=0.1)
    return [
        inputs(b, b),
        inputs(b, c),
        inputs(b + 2, c + 4),
        edge("no margin", **inputs(b, c, margin=0.0)),
        edge("a single pair", **inputs(1, 1)),
        edge("one text and several translations", **inputs(1, c)),
        edge("a scale of 1", **inputs(b, c, scale=1.0)),
        edge("a scale of 1,000, and partners alike", **alike | {"right": np.append(alike["left"], alike["right"][b:], axis=0)}),
    ]


def unit(x):
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def row_losses(part):
    return np.logaddexp.reduce(part, axis=1) - np.diagonal(part)


def both_directions(left, right, scale, margin):
    forth = scores(left, right, scale, margin)
    return row_losses(forth).mean() + row_losses(forth[:, : len(left)].T).mean()


def text_by_text(left, right, scale, margin):
    b, total = len(left), 0.0
    for i in range(b):
        for asked, candidates in ((left[i], right), (right[i], left)):
            logits = np.array([scale * (asked @ y - margin * (j == i)) for j, y in enumerate(candidates)])
            peak = logits.max()
            total += (peak + np.log(np.exp(logits - peak).sum()) - logits[i]) / b
    return total


def overflowing(left, right, scale, margin):
    forth = np.exp(scores(left, right, scale, margin))
    back = forth[:, : len(left)].T
    return sum(-np.log(np.diagonal(part) / part.sum(axis=1)).mean() for part in (forth, back))


def pull(phi, scale, margin):
    z = scale * (phi - margin * np.eye(*phi.shape))
    p = np.exp(z - z.max(axis=1, keepdims=True))
    right = np.eye(*phi.shape, dtype=bool)
    return scale * np.where(right, 0, p).sum(axis=1) / p.sum(axis=1)


def by_softmax(phi, scale, margin):
    z = scale * (phi - margin * np.eye(*phi.shape))
    log_p = np.diagonal(z) - np.logaddexp.reduce(z, axis=1)
    return -scale * np.expm1(log_p)


def cosines(rng):
    b, c = rng.integers(3, 5), rng.integers(5, 8)

    def inputs(b, c, scale, margin):
        return {"phi": rng.uniform(-1, 1, size=(b, c)), "scale": scale, "margin": margin}

    return [
        inputs(b, b, rng.uniform(3, 8), rng.uniform(0.1, 0.5)),
        inputs(b + 1, c, rng.uniform(3, 8), rng.uniform(0.1, 0.5)),
        edge("no margin", **inputs(b, c, 5.0, 0.0)),
        edge("a scale of 1", **inputs(b, c, 1.0, 0.3)),
        edge("a single pair", **inputs(1, 1, 5.0, 0.3)),
        edge("a scale of 1,000", **inputs(b, c, 1000.0, 0.1) | {"phi": 0.9 + 0.08 * rng.random((b, c))}),
        edge("equal cosines", **inputs(b, c, 5.0, 0.3) | {"phi": np.full((b, c), 0.5)}),
    ]


EXERCISES = (
    Exercise(
        "scores",
        scores,
        texts_and_translations,
        wrong={
            "the margin is not scaled": lambda left, right, scale, margin: (
                scale * left @ right.T - margin * np.eye(len(left), len(right))
            ),
            "the margin off every pair": lambda left, right, scale, margin: scale * (left @ right.T - margin),
            "the margin added": lambda left, right, scale, margin: scores(left, right, scale, -margin),
            "the margin off the wrong pairs": lambda left, right, scale, margin: (
                scale * (left @ right.T - margin * (1 - np.eye(len(left), len(right))))
            ),
            "no scale": lambda left, right, scale, margin: scores(left, right, 1.0, margin),
            "as many right as left": lambda left, right, scale, margin: scores(left, right[: len(left)], scale, margin),
        },
        right={"pair by pair": pair_by_pair},
    ),
    Exercise(
        "both_directions",
        both_directions,
        texts_and_translations,
        wrong={
            "one direction": lambda left, right, scale, margin: row_losses(scores(left, right, scale, margin)).mean(),
            "all of the right asks back": lambda left, right, scale, margin: (
                row_losses(scores(left, right, scale, margin)).mean()
                + row_losses(scores(right, left, scale, margin)[:, : len(left)]).sum() / len(left)
            ),
            "overflows": overflowing,
            "the mean of both": lambda left, right, scale, margin: both_directions(left, right, scale, margin) / 2,
            "sums instead of means": lambda left, right, scale, margin: len(left) * both_directions(left, right, scale, margin),
            "no margin on the way back": lambda left, right, scale, margin: (
                row_losses(scores(left, right, scale, margin)).mean()
                + row_losses(scores(right[: len(left)], left, scale, 0.0)).mean()
            ),
            "the first rows alone on both sides": lambda left, right, scale, margin: both_directions(
                left, right[: len(left)], scale, margin
            ),
        },
        right={"text by text": text_by_text},
    ),
    Exercise(
        "pull",
        pull,
        cosines,
        wrong={
            "the probability, not its rest": lambda phi, scale, margin: scale - pull(phi, scale, margin),
            "no scale in front": lambda phi, scale, margin: pull(phi, scale, margin) / scale,
            "no margin": lambda phi, scale, margin: pull(phi, scale, 0.0),
            "overflows": lambda phi, scale, margin: (
                (z := np.exp(scale * (phi - margin * np.eye(*phi.shape)))),
                scale * (1 - np.diagonal(z) / z.sum(axis=1)),
            )[1],
            "the other sign": lambda phi, scale, margin: -pull(phi, scale, margin),
            "for every candidate": lambda phi, scale, margin: scale * np.exp(phi - np.logaddexp.reduce(phi, 1, keepdims=True)),
        },
        right={"by logarithms": by_softmax},
    ),
)
