"""Exercises of the lesson on reuse attention."""

import numpy as np

from crosscheck.lesson.exercises import Exercise, edge


def sources_of(reused, heads):
    rows = [np.zeros(heads, int)]
    for i, count in enumerate(reused[1:], 1):
        rows.append(np.where(np.arange(heads) < count, rows[-1], i))
    return np.array(rows)


def head_by_head(reused, heads):
    def source(i, h):
        return source(i - 1, h) if i and h < reused[i] else i

    return [[source(i, h) for h in range(heads)] for i in range(len(reused))]


def stacks(rng):
    heads, layers = rng.integers(4, 7), rng.integers(4, 6)

    def inputs(reused, heads=heads):
        return {"reused": [0, *(int(count) for count in reused)], "heads": heads}

    return [
        inputs(rng.integers(1, heads, size=layers - 1)),
        inputs(rng.integers(0, heads + 1, size=layers + 1)),
        inputs([heads - 1, 2, heads - 1, heads - 2], heads + 2),
        edge("a single layer", **inputs([])),
        edge("a single head", **inputs([1, 0, 1], heads=1)),
        edge("nothing is reused", **inputs([0, 0, 0])),
        edge("every head is reused", **inputs([heads, heads])),
        edge("all, then none, then all", **inputs([heads, 0, heads, heads])),
    ]


def reused_heads(a, mask, v):
    left = a * mask
    total = np.einsum("bhts->bth", left)[..., None]
    mixed = np.einsum("bhts,bshe->bthe", left, v)
    return np.divide(mixed, total, out=np.zeros_like(mixed), where=total > 0)


def weights_first(a, mask, v):
    left = np.where(mask, a, 0)
    total = left.sum(axis=-1, keepdims=True)
    return np.einsum("bhts,bshe->bthe", left / np.where(total > 0, total, 1), v)


def of_logarithms(a, mask, v):
    """A softmax over weights, as if they were scores."""
    left = np.exp(a) * mask
    return np.einsum("bhts,bshe->bthe", left / np.maximum(left.sum(axis=-1, keepdims=True), 1e-300), v)


def mixed_then_divided(a, mask, v):
    left = a * mask
    with np.errstate(all="ignore"):
        return np.einsum("bhts,bshe->bthe", left, v) / np.einsum("bhts->bth", left)[..., None]


def divided_across_axes(a, mask, v):
    """The sums stand as (b, h, t), the outputs as (b, t, h)."""
    left = a * mask
    mixed, total = np.einsum("bhts,bshe->bthe", left, v), left.sum(axis=-1)
    return mixed / np.resize(np.where(total > 0, total, 1), mixed.shape[:3])[..., None]


def weights_and_masks(rng):
    b, h, t, s, e = rng.permutation([2, 3, 4, 5, 6]).tolist()

    def inputs(mask, h=h):
        a = rng.dirichlet(np.ones(s), size=(b, h, t))
        return {"a": a, "mask": mask, "v": rng.normal(size=(b, s, h, e))}

    some = rng.random((b, 1, t, s)) < 0.6
    some[..., 0] = True
    return [
        inputs(some),
        inputs(np.arange(s)[None, None, None] <= np.arange(t)[:, None]),
        inputs(some | (rng.random((b, h, t, s)) < 0.5), h=h),
        edge("a query with no key left", **inputs(some & (np.arange(t) != 1)[:, None])),
        edge("nothing is forbidden", **inputs(np.ones((1, 1, 1, s), bool))),
        edge("nothing is left", **inputs(np.zeros((b, 1, t, s), bool))),
        edge("a single head", **inputs(some, h=1)),
    ]


def gradient(a, allowed, c):
    left = a * allowed
    total = left.sum()
    return allowed * (c - c @ left / total) / total if total > 0 else np.zeros(len(a))


def by_jacobian(a, allowed, c):
    left = a * allowed
    total = left.sum()
    if total == 0:
        return np.zeros(len(a))
    jacobian = (np.diag(allowed * total) - np.outer(left, allowed)) / total**2
    return c @ jacobian


def rows_of_weights(rng):
    s = rng.integers(5, 8)

    def inputs(allowed):
        return {"a": rng.dirichlet(np.ones(len(allowed))), "allowed": allowed, "c": rng.normal(size=len(allowed))}

    some = rng.permutation(np.arange(s) > 1)
    return [
        inputs(some),
        inputs(rng.permutation(np.arange(s + 4) % 2 == 0)),
        edge("every key is allowed", **inputs(np.ones(s, bool))),
        edge("one key is allowed", **inputs(np.arange(s) == 2)),
        edge("no key is allowed", **inputs(np.zeros(s, bool))),
        edge("a single key", **inputs(np.ones(1, bool))),
        edge("weights that do not sum to 1", a=rng.uniform(0.1, 1, size=s), allowed=some, c=rng.normal(size=s)),
        edge("a weight of 0", a=np.append(0.0, rng.dirichlet(np.ones(s - 1))), allowed=np.arange(s) != 3, c=rng.normal(size=s)),
    ]


EXERCISES = (
    Exercise(
        "sources_of",
        sources_of,
        stacks,
        wrong={
            "the layer before instead of the source": lambda reused, heads: (
                [[max(i - 1, 0) if h < count else i for h in range(heads)] for i, count in enumerate(reused)]
            ),
            "the last heads are reused": lambda reused, heads: sources_of(reused, heads)[:, ::-1],
            "one head too many": lambda reused, heads: sources_of([count + 1 for count in reused], heads),
            "layers counted from 1": lambda reused, heads: sources_of(reused, heads) + 1,
            "whether a head is reused": lambda reused, heads: np.arange(heads) < np.array(reused)[:, None],
            "what is reused comes from layer 0": lambda reused, heads: (
                [[0 if h < count else i for h in range(heads)] for i, count in enumerate(reused)]
            ),
        },
        right={"head by head": head_by_head},
    ),
    Exercise(
        "reused_heads",
        reused_heads,
        weights_and_masks,
        wrong={
            "NaN where nothing is left": mixed_then_divided,
            "does not divide": lambda a, mask, v: np.einsum("bhts,bshe->bthe", a * mask, v),
            "ignores the mask": lambda a, mask, v: reused_heads(a, np.ones_like(mask), v),
            "a softmax over the weights": of_logarithms,
            "divides by the number of keys": lambda a, mask, v: (
                np.einsum("bhts,bshe->bthe", a * mask, v)
                / np.maximum(np.broadcast_to(mask, a.shape).sum(axis=-1), 1).swapaxes(1, 2)[..., None]
            ),
            "divides (b, t, h) by (b, h, t)": divided_across_axes,
        },
        right={"divides the weights": weights_first},
    ),
    Exercise(
        "gradient",
        gradient,
        rows_of_weights,
        wrong={
            "the sum taken for a constant": lambda a, allowed, c: allowed * c / max((a * allowed).sum(), 1e-300),
            "forbidden keys get a gradient": lambda a, allowed, c: (
                (c - c @ (a * allowed) / (left := max((a * allowed).sum(), 1e-300))) / left
            ),
            "the gradient of a softmax": lambda a, allowed, c: (
                (p := a * allowed / max((a * allowed).sum(), 1e-300)) * (c - p @ c)
            ),
            "not divided by the sum": lambda a, allowed, c: gradient(a, allowed, c) * (a * allowed).sum(),
            "weights taken to sum to 1": lambda a, allowed, c: allowed * (c - c @ (a * allowed)),
            "NaN where nothing is left": lambda a, allowed, c: (
                allowed * (c - c @ (a * allowed) / (a * allowed).sum()) / (a * allowed).sum()
            ),
        },
        right={"the whole Jacobian": by_jacobian},
    ),
)
