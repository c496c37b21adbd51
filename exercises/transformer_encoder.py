"""Exercises of the lesson on the encoder block."""

import numpy as np

from crosscheck.lesson.arguments import Draw
from crosscheck.lesson.constraints import Memory
from crosscheck.lesson.exercises import Exercise, edge
from reference.attention import attend
from reference.masked_softmax import masked_softmax


def rms_norm(x, scale):
    return scale * x / np.sqrt((x**2).mean(axis=-1, keepdims=True) + 1e-12)


def row_by_row(x, scale):
    rows = [scale * row / np.sqrt(row @ row / len(row) + 1e-12) for row in x.reshape(-1, x.shape[-1])]
    return np.array(rows).reshape(x.shape)


def rows_and_scales(rng):
    b, t, m = rng.permutation([2, 3, 5]).tolist()
    return [
        {"x": rng.normal(size=(t, m)), "scale": rng.normal(size=m)},
        {"x": 3 + rng.normal(size=(b, t, m + 4)), "scale": rng.normal(size=m + 4)},
        edge("a square array", x=rng.normal(size=(m, m)), scale=rng.normal(size=m)),
        edge("a row of zeros", x=np.append(np.zeros((1, m)), rng.normal(size=(1, m)), axis=0), scale=rng.normal(size=m)),
        edge("rows of one number", x=rng.normal(size=(t, 1)), scale=np.full(1, 2.0)),
        edge("numbers of 1,000,000", x=1e6 * rng.normal(size=(t, m)), scale=np.ones(m)),
    ]


def standardized(x):
    centered = x - x.mean(axis=-1, keepdims=True)
    return centered / np.sqrt((centered**2).mean(axis=-1, keepdims=True) + 1e-12)


def pre_norm_stack(x, blocks):
    for w1, w2 in blocks:
        x = x + np.maximum(standardized(x) @ w1, 0) @ w2
    return standardized(x)


def post_norm_stack(x, blocks):
    for w1, w2 in blocks:
        x = standardized(x + np.maximum(x @ w1, 0) @ w2)
    return x


def norm_in_the_residual(x, blocks):
    for w1, w2 in blocks:
        x = standardized(x)
        x = x + np.maximum(x @ w1, 0) @ w2
    return standardized(x)


def by_recursion(x, blocks):
    if not blocks:
        return standardized(x)
    w1, w2 = blocks[0]
    hidden = standardized(x) @ w1
    return by_recursion(x + np.where(hidden > 0, hidden, 0) @ w2, blocks[1:])


def without(x, blocks, part):
    """A stack in which one part is missing."""
    for w1, w2 in blocks:
        hidden = (x if part == "norm" else standardized(x)) @ w1
        added = (hidden if part == "relu" else np.maximum(hidden, 0)) @ w2
        x = added if part == "residual" else x + added
    return x if part == "last norm" else standardized(x)


def feed_forward_blocks(rng):
    t, m, f = rng.permutation([3, 5, 7]).tolist()

    def inputs(t, sizes):
        return {"x": 2 * rng.normal(size=(t, m)), "blocks": [(rng.normal(size=(m, f)), rng.normal(size=(f, m))) for f in sizes]}

    return [
        inputs(t, [f, f]),
        inputs(t + 3, [f, f + 2, f + 1]),
        edge("no blocks", **inputs(t, [])),
        edge("a single block", **inputs(t, [f])),
        edge("a single token", **inputs(1, [f, f])),
    ]


def grouped(q, k, v):
    b, t, h, d = q.shape
    g = k.shape[2]
    p = masked_softmax(np.einsum("btgid,bsgd->bgits", q.reshape(b, t, g, h // g, d), k) / np.sqrt(d))
    return np.einsum("bgits,bsge->btgie", p, v).reshape(b, t, h, v.shape[-1])


def group_by_group(q, k, v):
    size = q.shape[2] // k.shape[2]
    groups = []
    for g in range(k.shape[2]):
        scores = np.einsum("bthd,bsd->bhts", q[:, :, g * size : (g + 1) * size], k[:, :, g]) / np.sqrt(q.shape[-1])
        groups.append(np.einsum("bhts,bse->bthe", masked_softmax(scores), v[:, :, g]))
    return np.concatenate(groups, axis=2)


def repeated(q, k, v):
    return attend(q, *(np.repeat(x, q.shape[2] // k.shape[2], axis=2) for x in (k, v)))[0]


def tiled(q, k, v):
    """Head i gets key head i modulo g."""
    return attend(q, *(np.tile(x, (1, 1, q.shape[2] // k.shape[2], 1)) for x in (k, v)))[0]


def heads_in_groups(rng):
    b, t, s, d, e = rng.permutation([2, 3, 4, 5, 6]).tolist()

    def inputs(g, size, t=t):
        return {"q": rng.normal(size=(b, t, g * size, d)), "k": rng.normal(size=(b, s, g, d)), "v": rng.normal(size=(b, s, g, e))}

    return [
        inputs(2, 3),
        inputs(3, 2, t=t + 2),
        edge("one key head for all", **inputs(1, 4)),
        edge("a key head for each head", **inputs(3, 1)),
        edge("a single query", **inputs(2, 2, t=1)),
        edge("scores of about 1,000", **{name: 40 * x for name, x in inputs(2, 2).items()}),
    ]


EXERCISES = (
    Exercise(
        "rms_norm",
        rms_norm,
        rows_and_scales,
        wrong={
            "takes the mean away": lambda x, scale: scale * standardized(x),
            "the length instead of the mean square": lambda x, scale: scale * x / np.sqrt((x**2).sum(-1, keepdims=True) + 1e-12),
            "forgets the scale": lambda x, scale: rms_norm(x, 1.0),
            "along the first axis": lambda x, scale: scale * x / np.sqrt((x**2).mean(axis=0, keepdims=True) + 1e-12),
            "one number for the whole array": lambda x, scale: scale * x / np.sqrt((x**2).mean() + 1e-12),
            "0 / 0 for a row of zeros": lambda x, scale: scale * x / np.sqrt((x**2).mean(axis=-1, keepdims=True)),
            "no root": lambda x, scale: scale * x / ((x**2).mean(axis=-1, keepdims=True) + 1e-12),
        },
        right={"row by row": row_by_row},
    ),
    Exercise(
        "pre_norm_stack",
        pre_norm_stack,
        feed_forward_blocks,
        wrong={
            "post-norm": post_norm_stack,
            "the residual is normalized too": norm_in_the_residual,
            "no norm at the end": lambda x, blocks: without(x, blocks, "last norm"),
            "no residual": lambda x, blocks: without(x, blocks, "residual"),
            "no norm in a block": lambda x, blocks: without(x, blocks, "norm"),
            "no relu": lambda x, blocks: without(x, blocks, "relu"),
            "the first block again and again": lambda x, blocks: pre_norm_stack(x, blocks[:1] * len(blocks)),
            "the last block first": lambda x, blocks: pre_norm_stack(x, blocks[::-1]),
        },
        right={"by recursion": by_recursion},
    ),
    Exercise(
        "grouped",
        grouped,
        heads_in_groups,
        constraints=(
            Memory(
                {"q": Draw((1, 2, 64, 16)), "k": Draw((1, 400, 2, 16)), "v": Draw((1, 400, 2, 16))},
                most=4_000_000,
                forbids="a copy of the keys for each head",
            ),
        ),
        wrong={
            "repeats the keys": repeated,
            "heads of a group far apart": tiled,
            "one key head for all": lambda q, k, v: grouped(q, k[:, :, :1], v[:, :, :1]),
            "does not scale": lambda q, k, v: grouped(q * np.sqrt(q.shape[-1]), k, v),
            "the groups' values swapped": lambda q, k, v: grouped(q, k, v[:, :, ::-1]),
            "the mean of the key heads": lambda q, k, v: grouped(q, k.mean(2, keepdims=True), v.mean(2, keepdims=True)),
        },
        right={"group by group": group_by_group},
    ),
)
