"""Exercises of the lesson on gated feed-forward networks."""

import numpy as np

from crosscheck.lesson.exercises import Exercise, edge


def swiglu(x, w, v, w2):
    a = x @ w
    return (a / (1 + np.exp(-a)) * (x @ v)) @ w2


def token_by_token(x, w, v, w2):
    rows = []
    for token in x:
        a = token @ w
        sigmoid = np.exp(np.minimum(a, 0)) / (1 + np.exp(-np.abs(a)))
        rows.append((a * sigmoid * (token @ v)) @ w2)
    return np.array(rows).reshape(len(x), w2.shape[1])


def gated_by(gate):
    return lambda x, w, v, w2: (gate(x @ w) * (x @ v)) @ w2


def sigmoid(a):
    return 1 / (1 + np.exp(-a))


def tokens_and_maps(rng):
    t, m, f = rng.permutation([3, 4, 5]).tolist()

    def inputs(t, m=m, f=f, size=1.0):
        return {
            "x": rng.normal(size=(t, m)),
            "w": size * rng.normal(size=(m, f)),
            "v": rng.normal(size=(m, f)),
            "w2": rng.normal(size=(f, m)),
        }

    return [
        inputs(t),
        inputs(t + 2, f=f + 4),
        edge("a single token", **inputs(1)),
        edge("no tokens", **inputs(0)),
        edge("a single unit", **inputs(t, f=1)),
        edge("gates of ±1,000", **inputs(t, size=1000)),
    ]


def one_product(x, wv, w2):
    a, b = np.split(x @ wv, 2, axis=-1)
    return (np.maximum(a, 0) * b) @ w2


def two_slices(x, wv, w2):
    both, f = x @ wv, len(w2)
    return np.where(both[:, :f] > 0, both[:, :f] * both[:, f:], 0) @ w2


def tokens_and_one_map(rng):
    t, m, f = rng.permutation([3, 4, 5]).tolist()

    def inputs(t, f=f):
        return {"x": rng.normal(size=(t, m)), "wv": rng.normal(size=(m, 2 * f)), "w2": rng.normal(size=(f, m))}

    return [
        inputs(t),
        inputs(t + 3, f=f + 3),
        edge("a single token", **inputs(1)),
        edge("no tokens", **inputs(0)),
        edge("a single unit", **inputs(t, f=1)),
        edge("as many tokens as units", **inputs(f)),
    ]


def forms(w, v, w2):
    a = np.einsum("mj,nj,jk->kmn", w, v, w2)
    return (a + a.swapaxes(1, 2)) / 2


def unit_by_unit(w, v, w2):
    matrices = np.zeros((w2.shape[1], len(w), len(w)))
    for j in range(w.shape[1]):
        both = np.outer(w[:, j], v[:, j]) + np.outer(v[:, j], w[:, j])
        matrices += w2[j][:, None, None] * both / 2
    return matrices


def bilinear_maps(rng):
    m, f, out = rng.permutation([3, 4, 5]).tolist()

    def inputs(m, f, out):
        return {"w": rng.normal(size=(m, f)), "v": rng.normal(size=(m, f)), "w2": rng.normal(size=(f, out))}

    return [
        inputs(m, f, m),
        inputs(m, f, out),
        inputs(m + 2, f, m + 3),
        edge("a single unit", **inputs(m, 1, m)),
        edge("a single input", **inputs(1, f, 2)),
        edge("a single output", **inputs(m, f, 1)),
    ]


EXERCISES = (
    Exercise(
        "swiglu",
        swiglu,
        tokens_and_maps,
        wrong={
            "a sigmoid for a gate": gated_by(sigmoid),
            "a relu for a gate": gated_by(lambda a: np.maximum(a, 0)),
            "gelu by its tanh": gated_by(lambda a: a / 2 * (1 + np.tanh(0.7978845608 * (a + 0.044715 * a**3)))),
            "the other map is gated": lambda x, w, v, w2: swiglu(x, v, w, w2),
            "both maps are gated": lambda x, w, v, w2: ((a := x @ w) * sigmoid(a) * (c := x @ v) * sigmoid(c)) @ w2,
            "no second map": lambda x, w, v, w2: (x @ w * sigmoid(x @ w)) @ w2,
            "gate and product added": lambda x, w, v, w2: (x @ w * sigmoid(x @ w) + x @ v) @ w2,
            "NaN for gates of -1,000": gated_by(lambda a: a * np.exp(a) / (1 + np.exp(a))),
        },
        right={"token by token": token_by_token},
    ),
    Exercise(
        "one_product",
        one_product,
        tokens_and_one_map,
        wrong={
            "the halves swapped": lambda x, wv, w2: one_product(x, np.roll(wv, len(w2), axis=1), w2),
            "every second column": lambda x, wv, w2: one_product(x, np.concatenate([wv[:, ::2], wv[:, 1::2]], axis=1), w2),
            "no relu": lambda x, wv, w2: ((x @ wv)[:, : len(w2)] * (x @ wv)[:, len(w2) :]) @ w2,
            "a relu on both halves": lambda x, wv, w2: np.prod(np.split(np.maximum(x @ wv, 0), 2, axis=1), axis=0) @ w2,
            "a relu on the product": lambda x, wv, w2: np.maximum(np.prod(np.split(x @ wv, 2, axis=1), axis=0), 0) @ w2,
            "the sum of the halves": lambda x, wv, w2: np.maximum(sum(np.split(x @ wv, 2, axis=1)), 0) @ w2,
        },
        right={"two slices": two_slices},
    ),
    Exercise(
        "forms",
        forms,
        bilinear_maps,
        wrong={
            "not symmetric": lambda w, v, w2: np.einsum("mj,nj,jk->kmn", w, v, w2),
            "not halved": lambda w, v, w2: 2 * forms(w, v, w2),
            "outputs on the last axis": lambda w, v, w2: np.moveaxis(forms(w, v, w2), 0, -1),
            "no second layer": lambda w, v, w2: np.repeat(forms(w, v, np.ones_like(w2[:, :1])), w2.shape[1], axis=0),
            "the diagonal alone": lambda w, v, w2: forms(w, v, w2) * np.eye(len(w)),
            "one map twice": lambda w, v, w2: forms(w, w, w2),
        },
        right={"unit by unit": unit_by_unit},
    ),
)
