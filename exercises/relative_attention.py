"""Exercises of the lesson on relative attention."""

import numpy as np

from crosscheck.lesson.constraints import NoLoop
from crosscheck.lesson.exercises import Exercise, edge
from reference import relative_attention as ref
from reference.masked_softmax import masked_softmax


def row_of(t, s, rows):
    row = np.arange(s) + t - np.arange(t)[:, None]
    return row, row < rows


def pair_by_pair(t, s, rows):
    row = [[s - (i + s - t - j) for j in range(s)] for i in range(t)]
    return row, [[number < rows for number in line] for line in row]


def lengths(rng):
    t, s = rng.integers(3, 5), rng.integers(5, 8)
    return [
        {"t": t, "s": s, "rows": s + 1},
        {"t": t + 2, "s": s + 3, "rows": s + 4 + rng.integers(0, 3)},
        {"t": t, "s": s, "rows": 3},
        edge("a row for every distance", t=t, s=s, rows=t + s),
        edge("no memory", t=t, s=t, rows=t + 1),
        edge("a single query", t=1, s=s, rows=s),
        edge("a single key", t=1, s=1, rows=2),
        edge("a single row", t=t, s=s, rows=1),
    ]


def my_shift(x, s):
    t = len(x)
    return x.ravel()[t:].reshape(t, -1)[:, :s]


def by_an_index(x, s):
    t = len(x)
    return x[np.arange(t)[:, None], np.arange(s) + t - np.arange(t)[:, None]]


def by_strides(x, s):
    """A view of the numbers whose rows begin one number earlier each."""
    t, rows = x.shape
    flat = np.ascontiguousarray(x).ravel()[t:]
    return np.lib.stride_tricks.as_strided(flat, (t, s), ((rows - 1) * x.itemsize, x.itemsize)).copy()


def by_a_loop(x, s):
    t = len(x)
    return np.stack([row[t - i : t - i + s] for i, row in enumerate(x)])


def with_rows_for_distances(rng):
    t, s = rng.integers(3, 6), rng.integers(6, 9)

    def inputs(t, s):
        return {"x": rng.normal(size=(t, t + s)), "s": s}

    return [
        inputs(t, s),
        inputs(t + 3, s + 4),
        edge("no memory", **inputs(t, t)),
        edge("a single query", **inputs(1, s)),
        edge("a single key", **inputs(1, 1)),
        edge("more queries than keys", **inputs(t + 2, 2)),
    ]


def bias_attention(q, k, bias):
    by_row = np.repeat(bias[None, :, None], q.shape[1], axis=2)
    scores = ref.content_scores(q, k) / np.sqrt(q.shape[-1]) + ref.relative_shift(by_row, k.shape[1])
    return masked_softmax(scores)


def bias_by_index(q, k, bias, scale=1.0, rows=lambda rows: rows):
    (t, d), s = q.shape[1::2], k.shape[1]
    row = rows(np.arange(s) + t - np.arange(t)[:, None])
    return masked_softmax(np.einsum("bthd,bshd->bhts", q, k) / np.sqrt(d) + scale * bias[:, row])


def bias_by_pairs(q, k, bias):
    t, s = q.shape[1], k.shape[1]
    scores = ref.content_scores(q, k) / np.sqrt(q.shape[-1])
    for i, j in np.ndindex(t, s):
        scores[:, :, i, j] += bias[:, j + t - i]
    return masked_softmax(scores)


def heads_and_biases(rng):
    b, t, s, h, d = rng.permutation([2, 3, 4, 5, 6]).tolist()

    def inputs(t, s, h=h, size=1.0):
        q, k = rng.normal(size=(b, t, h, d)), rng.normal(size=(b, s, h, d))
        return {"q": q, "k": k, "bias": size * rng.normal(size=(h, t + s))}

    return [
        inputs(t, t + s),
        inputs(t + 2, t + 3),
        edge("no memory", **inputs(t, t)),
        edge("a single head", **inputs(t, t + s, h=1)),
        edge("a single query", **inputs(1, s)),
        edge("a single key", **inputs(1, 1)),
        edge("biases of about 1,000", **inputs(t, t + 2, size=1000)),
    ]


def square(t):
    return {"x": np.ones((t, 2 * t)), "s": t}


def heads(t):
    return {"q": np.ones((1, t, 2, 3)), "k": np.ones((1, t, 2, 3)), "bias": np.ones((2, 2 * t))}


EXERCISES = (
    Exercise(
        "row_of",
        row_of,
        lengths,
        constraints=(NoLoop({"t": 4, "s": 5, "rows": 6}, {"t": 104, "s": 105, "rows": 6}, more=100, axis="t"),),
        wrong={
            "a loop over pairs": pair_by_pair,
            "the distance instead of the row": lambda t, s, rows: (s - row_of(t, s, rows)[0], row_of(t, s, rows)[1]),
            "queries counted from the first key": lambda t, s, rows: (
                (row := s + np.arange(s) - np.arange(t)[:, None]),
                row < rows,
            ),
            "one row too many": lambda t, s, rows: (row_of(t, s, rows)[0], row_of(t, s, rows)[0] <= rows),
            "causal, whatever the rows are": lambda t, s, rows: (row_of(t, s, rows)[0], row_of(t, s, s + 1)[1]),
            "later keys at earlier rows": lambda t, s, rows: (
                (row := np.arange(t)[:, None] + s - np.arange(s)),
                row < rows,
            ),
            "the rows alone": lambda t, s, rows: row_of(t, s, rows)[0],
        },
        right={"from a grid": lambda t, s, rows: ((row := np.subtract.outer(-np.arange(t), -np.arange(s)) + t), row < rows)},
    ),
    Exercise(
        "my_shift",
        my_shift,
        with_rows_for_distances,
        constraints=(NoLoop(square(4), square(104), more=100, axis="the queries"),),
        wrong={
            "a loop over queries": by_a_loop,
            "does not shift": lambda x, s: x[:, -s:],
            "shifts all queries alike": lambda x, s: x[:, 1 : s + 1],
            "drops one number too few": lambda x, s: np.append(x.ravel()[len(x) - 1 :], 0)[: len(x) * (x.shape[1] - 1)].reshape(
                len(x), -1
            )[:, :s],
            "shifts the other way": lambda x, s: by_an_index(x[::-1], s)[::-1],
            "the last keys": lambda x, s: x.ravel()[len(x) :].reshape(len(x), -1)[:, -s:],
        },
        right={"by an index": by_an_index, "by strides": by_strides},
    ),
    Exercise(
        "bias_attention",
        bias_attention,
        heads_and_biases,
        constraints=(NoLoop(heads(4), heads(304), more=300, axis="the queries"),),
        wrong={
            "pair by pair": bias_by_pairs,
            "the bias divided by the root of d": lambda q, k, bias: bias_by_index(q, k, bias, scale=q.shape[-1] ** -0.5),
            "without a bias": lambda q, k, bias: bias_by_index(q, k, bias, scale=0),
            "distances mirrored": lambda q, k, bias: bias_by_index(q, k, bias[:, ::-1]),
            "one row off": lambda q, k, bias: bias_by_index(q, k, bias, rows=lambda rows: rows - 1),
            "one bias for all heads": lambda q, k, bias: bias_by_index(q, k, np.repeat(bias[:1], len(bias), axis=0)),
            "the bias after the softmax": lambda q, k, bias: (
                bias_by_index(q, k, 0 * bias) + ref.relative_shift(np.repeat(bias[None, :, None], q.shape[1], 2), k.shape[1])
            ),
            "scores, no softmax": lambda q, k, bias: ref.content_scores(q, k) / np.sqrt(q.shape[-1]),
        },
        right={"by an index": bias_by_index},
    ),
)
