"""Exercises of the lesson on the classification head."""

import numpy as np

from crosscheck.lesson.constraints import NoLoop
from crosscheck.lesson.exercises import Exercise, edge


def pooled_logits(features, w_p, b_p, w, b):
    return np.tanh(features[:, 0] @ w_p + b_p) @ w + b


def text_by_text(features, w_p, b_p, w, b):
    return [[float(np.tanh(text[0] @ w_p + b_p) @ column + c) for column, c in zip(w.T, b)] for text in features]


def texts_and_maps(rng):
    b, t, m, f, c = rng.permutation([2, 3, 4, 5, 6]).tolist()

    def inputs(b, t, c=c, size=1.0):
        return {
            "features": size * rng.normal(size=(b, t, m)),
            "w_p": rng.normal(size=(m, f)),
            "b_p": rng.normal(size=f),
            "w": rng.normal(size=(f, c)),
            "b": rng.normal(size=c),
        }

    return [
        inputs(b, t),
        inputs(b + 2, t + 3),
        edge("texts of one token", **inputs(b, 1)),
        edge("a single text", **inputs(1, t)),
        edge("a single class", **inputs(b, t, c=1)),
        edge("features of about 1,000", **inputs(b, t, size=1000)),
    ]


def folded(w_p, b_p, w, b):
    return w_p @ w, b_p @ w + b


def by_asking(w_p, b_p, w, b):
    bias = b_p @ w + b
    return (np.eye(len(w_p)) @ w_p + b_p) @ w + b - bias, bias


def two_maps(rng):
    m, f, c = rng.permutation([3, 4, 5]).tolist()

    def inputs(m, f, c):
        return {"w_p": rng.normal(size=(m, f)), "b_p": rng.normal(size=f), "w": rng.normal(size=(f, c)), "b": rng.normal(size=c)}

    return [
        inputs(m, f, c),
        inputs(m + 3, f, c + 2),
        edge("square maps", **inputs(4, 4, 4)),
        edge("a pooler of one number", **inputs(m, 1, c)),
        edge("a single class", **inputs(m, f, 1)),
        edge("no biases", **inputs(m, f, c) | {"b_p": np.zeros(f), "b": np.zeros(c)}),
    ]


def last_token(features, lengths, w, bias):
    last = features[np.arange(len(features)), np.maximum(lengths - 1, 0)]
    return np.where((lengths > 0)[:, None], last, 0) @ w + bias


def one_by_one(features, lengths, w, bias):
    rows = [text[length - 1] @ w + bias if length else bias for text, length in zip(features, lengths)]
    return np.array(rows).reshape(len(features), len(bias))


def by_one_hot(features, lengths, w, bias):
    is_last = np.arange(features.shape[1]) == lengths[:, None] - 1
    return np.einsum("bt,btm,mc->bc", is_last.astype(float), features, w) + bias


def padded_texts(rng):
    b, t, m, c = rng.permutation([3, 4, 5, 6]).tolist()

    def inputs(lengths, t=t, c=c):
        lengths = np.asarray(lengths, int)
        return {
            "features": rng.normal(size=(len(lengths), t, m)),
            "lengths": lengths,
            "w": rng.normal(size=(m, c)),
            "bias": rng.normal(size=c),
        }

    return [
        inputs(1 + rng.permutation(np.arange(b) % t)),
        inputs(rng.integers(2, t + 3, size=b + 3), t=t + 2),
        edge("a text of length 0", **inputs([2, 0, t])),
        edge("texts without padding", **inputs([t] * 3)),
        edge("texts of one token", **inputs([1, 1])),
        edge("no texts", **inputs([])),
        edge("a single class", **inputs([2, 1, 3], c=1)),
    ]


FEW, MANY = (
    {"features": np.ones((b, 3, 2)), "lengths": np.full(b, 2), "w": np.ones((2, 2)), "bias": np.zeros(2)} for b in (4, 204)
)

EXERCISES = (
    Exercise(
        "pooled_logits",
        pooled_logits,
        texts_and_maps,
        wrong={
            "the last token": lambda features, w_p, b_p, w, b: pooled_logits(features[:, ::-1], w_p, b_p, w, b),
            "the mean of all tokens": lambda features, w_p, b_p, w, b: pooled_logits(
                features.mean(axis=1, keepdims=True), w_p, b_p, w, b
            ),
            "no tanh": lambda features, w_p, b_p, w, b: (features[:, 0] @ w_p + b_p) @ w + b,
            "tanh at the end": lambda features, w_p, b_p, w, b: np.tanh((features[:, 0] @ w_p + b_p) @ w + b),
            "the bias behind the tanh": lambda features, w_p, b_p, w, b: (np.tanh(features[:, 0] @ w_p) + b_p) @ w + b,
            "the first text for all": lambda features, w_p, b_p, w, b: pooled_logits(
                np.repeat(features[:1], len(features), axis=0), w_p, b_p, w, b
            ),
            "every token": lambda features, w_p, b_p, w, b: np.tanh(features @ w_p + b_p) @ w + b,
        },
        right={"text by text": text_by_text},
    ),
    Exercise(
        "folded",
        folded,
        two_maps,
        wrong={
            "the pooler's bias is lost": lambda w_p, b_p, w, b: (w_p @ w, b),
            "the head's bias is lost": lambda w_p, b_p, w, b: (w_p @ w, b_p @ w),
            "biases are mapped together": lambda w_p, b_p, w, b: (w_p @ w, (b_p + np.resize(b, len(b_p))) @ w),
            "the other order": lambda w_p, b_p, w, b: ((w_p @ w).T, b_p @ w + b),
            "bias first": lambda w_p, b_p, w, b: (b_p @ w + b, w_p @ w),
            "a bias of the pooler's size": lambda w_p, b_p, w, b: (w_p @ w, b_p),
        },
        right={"by asking": by_asking},
    ),
    Exercise(
        "last_token",
        last_token,
        padded_texts,
        constraints=(NoLoop(FEW, MANY, more=200, axis="the texts"),),
        wrong={
            "a loop over texts": one_by_one,
            "the last place, padding or not": lambda features, lengths, w, bias: features[:, -1] @ w + bias,
            "one token too far": lambda features, lengths, w, bias: last_token(np.roll(features, -1, axis=1), lengths, w, bias),
            "the last place for a text of length 0": lambda features, lengths, w, bias: (
                features[np.arange(len(features)), lengths - 1] @ w + bias
            ),
            "every pair of text and length": lambda features, lengths, w, bias: features[:, lengths - 1] @ w + bias,
            "the mean of real tokens": lambda features, lengths, w, bias: (
                np.einsum("btm,bt->bm", features, np.arange(features.shape[1]) < lengths[:, None])
                / np.maximum(lengths, 1)[:, None]
                @ w
                + bias
            ),
            "no bias": lambda features, lengths, w, bias: last_token(features, lengths, w, 0 * bias),
        },
        right={"by one-hot rows": by_one_hot},
    ),
)
