"""Exercises of the lesson on talking-heads attention."""

import numpy as np

from crosscheck.lesson.constraints import Calls, NoLoop
from crosscheck.lesson.exercises import Exercise, edge
from reference.masked_softmax import masked_softmax


def mixed_softmax(scores, pre, mask):
    return masked_softmax(np.einsum("bhts,hg->bgts", scores, pre), mask)


def head_by_head(scores, pre, mask):
    heads = [sum(scores[:, h] * pre[h, g] for h in range(len(pre))) for g in range(pre.shape[1])]
    return np.stack([masked_softmax(head, mask[:, 0]) for head in heads], axis=1)


def masked_first(scores, pre, mask):
    return masked_softmax(np.einsum("bhts,hg->bgts", np.where(mask, scores, -1e9), pre))


def infinity_first(scores, pre, mask):
    return masked_softmax(np.einsum("bhts,hg->bgts", np.where(mask, scores, -np.inf), pre))


def scores_and_masks(rng):
    b, h, t, s = rng.permutation([2, 3, 4, 5]).tolist()
    g = h + 1

    def inputs(mask, h=h, g=g, size=1.0):
        return {"scores": rng.normal(size=(b, h, t, s)), "pre": size * rng.normal(size=(h, g)), "mask": mask}

    some = rng.random((b, 1, t, s)) < 0.6
    some[..., 0] = True
    return [
        inputs(some),
        inputs(np.tri(t, s, dtype=bool)[None, None], h=h + 2, g=h),
        edge("a query that may see no key", **inputs(np.broadcast_to(np.arange(t)[:, None] > 0, (b, 1, t, s)))),
        edge("a single head", **inputs(some, h=1, g=1)),
        edge("every key is allowed", **inputs(np.ones((b, 1, t, s), bool))),
        edge("mixed scores of about 1,000", **inputs(some, size=1000)),
    ]


def softmaxes(weights, post):
    b, h, t, s = weights.shape
    rows = np.linalg.solve(post.T, weights.transpose(1, 0, 2, 3).reshape(h, -1))
    return rows.reshape(h, b, t, s).transpose(1, 0, 2, 3)


def by_inverse(weights, post):
    return np.einsum("bhts,hg->bgts", weights, np.linalg.inv(post))


def by_least_squares(weights, post):
    rows = np.linalg.lstsq(post.T, weights.swapaxes(0, 1).reshape(len(post), -1), rcond=None)[0]
    return rows.reshape(weights.swapaxes(0, 1).shape).swapaxes(0, 1)


def mixed_weights(rng):
    b, h, t, s = rng.permutation([2, 3, 4, 5]).tolist()

    def inputs(post, t=t):
        drawn = rng.dirichlet(np.ones(s), size=(b, len(post), t))
        return {"weights": np.einsum("bhts,hg->bgts", drawn, post), "post": post}

    def mixing(h):
        return np.eye(h) + rng.uniform(-0.9, 0.9, size=(h, h)) / h

    return [
        inputs(mixing(h)),
        inputs(mixing(h + 2), t=t + 2),
        edge("a single head", **inputs(np.array([[-2.0]]))),
        edge("heads that change places", **inputs(np.eye(3)[[1, 2, 0]])),
        edge("nothing is mixed", **inputs(np.eye(h))),
        edge("a single query", **inputs(mixing(h), t=1)),
    ]


def long_queries(q, pre):
    return np.einsum("bthd,hg->btghd", q, pre).reshape(*q.shape[:2], pre.shape[1], -1)


def by_broadcasting(q, pre):
    b, t, h, d = q.shape
    return (q[:, :, None] * pre.T[:, :, None]).reshape(b, t, pre.shape[1], h * d)


def by_a_loop(q, pre):
    return np.concatenate([q[:, :, None, h] * pre[h][:, None] for h in range(len(pre))], axis=-1)


def queries_and_mixings(rng):
    b, t, h, d = rng.permutation([2, 3, 4, 5]).tolist()

    def inputs(h, g, t=t):
        return {"q": rng.normal(size=(b, t, h, d)), "pre": rng.normal(size=(h, g))}

    return [
        inputs(h, h),
        inputs(h, h + 1),
        inputs(h + 2, h),
        edge("a single head", **inputs(1, 1)),
        edge("a single query", **inputs(h, h, t=1)),
        edge("nothing is mixed", **inputs(h, h) | {"pre": np.eye(h)}),
    ]


FEW, MANY = ({"q": np.ones((1, 2, heads, 3)), "pre": np.ones((heads, heads))} for heads in (2, 52))

EXERCISES = (
    Exercise(
        "mixed_softmax",
        mixed_softmax,
        scores_and_masks,
        wrong={
            "masks before the mixing, with -1e9": masked_first,
            "masks before the mixing, with -inf": infinity_first,
            "mixes after the softmax": lambda scores, pre, mask: np.einsum("bhts,hg->bgts", masked_softmax(scores, mask), pre),
            "ignores the mask": lambda scores, pre, mask: mixed_softmax(scores, pre, np.ones_like(mask)),
            "does not mix": lambda scores, pre, mask: masked_softmax(
                np.resize(scores, mixed_softmax(scores, pre, mask).shape), mask
            ),
            "mixes by the transposed matrix": lambda scores, pre, mask: mixed_softmax(scores, np.resize(pre.T, pre.shape), mask),
            "a score of 0 for forbidden keys": lambda scores, pre, mask: masked_softmax(
                np.einsum("bhts,hg->bgts", scores, pre) * mask
            ),
        },
        right={"head by head": head_by_head},
    ),
    Exercise(
        "softmaxes",
        softmaxes,
        mixed_weights,
        constraints=(
            Calls(("numpy.linalg.inv", "numpy.linalg.pinv"), {"weights": np.ones((2, 3, 4, 5)), "post": np.eye(3) + 0.1}),
        ),
        wrong={
            "inverts the matrix": by_inverse,
            "mixes once more": lambda weights, post: np.einsum("bhts,hg->bgts", weights, post),
            "takes the transpose for the inverse": lambda weights, post: np.einsum("bhts,gh->bgts", weights, post),
            "solves for the transposed matrix": lambda weights, post: softmaxes(weights, post.T),
            "divides by the sum": lambda weights, post: weights / weights.sum(axis=-1, keepdims=True),
            "divides by the diagonal": lambda weights, post: weights / np.diag(post)[:, None, None],
        },
        right={"least squares": by_least_squares},
    ),
    Exercise(
        "long_queries",
        long_queries,
        queries_and_mixings,
        constraints=(NoLoop(FEW, MANY, more=50, axis="the heads"),),
        wrong={
            "a loop over heads": by_a_loop,
            "heads inside, numbers outside": lambda q, pre: np.einsum("bthd,hg->btgdh", q, pre).reshape(
                *q.shape[:2], pre.shape[1], -1
            ),
            "sums over heads": lambda q, pre: np.tile(np.einsum("bthd,hg->btgd", q, pre), q.shape[2]),
            "the mixing transposed": lambda q, pre: long_queries(q, np.resize(pre.T, pre.shape)),
            "the queries of one head": lambda q, pre: by_broadcasting(np.broadcast_to(q[:, :, :1], q.shape), pre),
            "no mixing": lambda q, pre: long_queries(q, np.ones_like(pre)),
        },
        right={"by broadcasting": by_broadcasting},
    ),
)
