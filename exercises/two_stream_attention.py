"""Exercises of the lesson on two streams."""

import numpy as np

from crosscheck.lesson.constraints import NoLoop
from crosscheck.lesson.exercises import Exercise, edge
from reference.masked_softmax import masked_softmax


def known(order):
    rank = np.empty(len(order), int)
    rank[order] = np.arange(len(order))
    return rank


def one_after_the_other(order):
    return [list(order).index(position) for position in range(len(order))]


def orders(rng):
    t = rng.integers(4, 7)
    return [
        {"order": rng.permutation(t)},
        {"order": rng.permutation(t + 5)},
        {"order": np.roll(np.arange(t), 1 + rng.integers(0, 2))},
        edge("left to right", order=np.arange(t)),
        edge("right to left", order=np.arange(t)[::-1]),
        edge("a single token", order=np.zeros(1, int)),
        edge("no tokens", order=np.zeros(0, int)),
    ]


def reachable(content, query, layers):
    reach = np.eye(len(content), dtype=bool)
    for _ in range(layers - 1):
        reach = reach | (content @ reach)
    return query @ reach if layers else np.zeros_like(query)


def through(content, query, layers, start=lambda t: np.eye(t, dtype=bool), residual=True, fewer=1):
    reach = start(len(content))
    for _ in range(layers - fewer):
        reach = content @ reach | (reach if residual else False)
    return query @ reach & (layers > 0)


def by_powers(content, query, layers):
    if not layers:
        return 0 * query > 0
    steps = np.linalg.matrix_power(content.astype(int) + np.eye(len(content), dtype=int), layers - 1)
    return query.astype(int) @ steps > 0


def masks_and_depths(rng):
    t = rng.integers(5, 8)

    def inputs(t, layers, share=0.25):
        return {"content": rng.random((t, t)) < share, "query": rng.random((t, t)) < share, "layers": layers}

    rank = np.argsort(rng.permutation(t))
    window = np.abs(np.subtract.outer(np.arange(t), np.arange(t))) == 1
    return [
        inputs(t, 2),
        inputs(t + 3, 3, 0.15),
        inputs(t + 2, 2, 0.15),
        {"content": window, "query": window, "layers": 3},
        edge("masks of an order", content=rank[None] <= rank[:, None], query=rank[None] < rank[:, None], layers=3),
        edge("a single layer", **inputs(t, 1)),
        edge("no layers", **inputs(t, 0)),
        edge("many layers", **inputs(t, 9)),
        edge("a query that sees nothing", content=window, query=window & False, layers=2),
    ]


def streams(q, g, k, v, order):
    rank = np.argsort(order)
    masks = rank[None, :] <= rank[:, None], rank[None, :] < rank[:, None]
    return tuple(masked_softmax(x @ k.T / np.sqrt(k.shape[1]), mask) @ v for x, mask in zip((q, g), masks))


def by_sorting(q, g, k, v, order):
    t, back = len(order), np.argsort(order)
    q, g, k, v = (x[order] for x in (q, g, k, v))
    masks = np.tri(t, dtype=bool), np.tri(t, k=-1, dtype=bool)
    return tuple((masked_softmax(x @ k.T / np.sqrt(k.shape[1]), mask) @ v)[back] for x, mask in zip((q, g), masks))


def by_tokens(q, g, k, v, order, seen=0):
    """One token after the other. `seen` more keys than the query stream may see."""
    found = np.zeros((2, len(q), v.shape[1]))
    for place, i in enumerate(order):
        for stream, (x, end) in enumerate(((q, place + 1), (g, place + seen))):
            keys = order[:end]
            found[stream, i] = masked_softmax(k[keys] @ x[i] / np.sqrt(k.shape[1])) @ v[keys] if end else 0
    return tuple(found)


def heads(rng):
    t, d, e = rng.permutation([4, 5, 6]).tolist()

    def inputs(t, order=None, size=1.0):
        q, g, k = size * rng.normal(size=(3, t, d))
        return {"q": q, "g": g, "k": k, "v": rng.normal(size=(t, e)), "order": rng.permutation(t) if order is None else order}

    return [
        inputs(t),
        inputs(t + 4),
        inputs(t + 1, np.roll(np.arange(t + 1), 2)),
        edge("left to right", **inputs(t, np.arange(t))),
        edge("right to left", **inputs(t, np.arange(t)[::-1])),
        edge("a single token", **inputs(1)),
        edge("scores of about 1,000", **inputs(t, size=30.0)),
    ]


def tokens(t):
    return {**{name: np.ones((t, 3)) for name in "qgkv"}, "order": np.arange(t)}


EXERCISES = (
    Exercise(
        "known",
        known,
        orders,
        constraints=(NoLoop({"order": np.arange(4)}, {"order": np.arange(104)}, more=100, axis="the tokens"),),
        wrong={
            "a loop over tokens": one_after_the_other,
            "the order itself": lambda order: order,
            "itself too": lambda order: known(order) + 1,
            "the tokens before it in the text": lambda order: np.arange(len(order)),
            "the tokens that come after it": lambda order: len(order) - 1 - known(order),
        },
        right={
            "sorted": lambda order: np.argsort(order),
            "counted": lambda order: np.equal.outer(np.arange(len(order)), order) @ np.arange(len(order)),
        },
    ),
    Exercise(
        "reachable",
        reachable,
        masks_and_depths,
        wrong={
            "the mask of the query stream alone": lambda content, query, layers: query & (layers > 0),
            "one layer too many": lambda content, query, layers: through(content, query, layers, fewer=0),
            "without residuals": lambda content, query, layers: through(content, query, layers, residual=False),
            "predictions read predictions": lambda content, query, layers: through(query, query, layers),
            "the content stream": lambda content, query, layers: through(content, content, layers),
            "two layers, always": lambda content, query, layers: through(content, query, 2),
            "without any layer, the first one's": lambda content, query, layers: through(content, query, max(layers, 1)),
            "the other way round": lambda content, query, layers: through(content.T, query, layers),
        },
        right={"powers of a matrix": by_powers, "step by step": through},
    ),
    Exercise(
        "streams",
        streams,
        heads,
        constraints=(NoLoop(tokens(4), tokens(104), more=100, axis="the tokens"),),
        wrong={
            "token by token": by_tokens,
            "predictions see themselves": lambda q, g, k, v, order: by_tokens(q, g, k, v, order, seen=1),
            "the order in place of ranks": lambda q, g, k, v, order: streams(q, g, k, v, np.argsort(order)),
            "sorted and left so": lambda q, g, k, v, order: tuple(x[order] for x in streams(q, g, k, v, order)),
            "from left to right": lambda q, g, k, v, order: streams(q, g, k, v, np.arange(len(order))),
            "one stream for both": lambda q, g, k, v, order: streams(q, q, k, v, order),
            "not divided by the root of d": lambda q, g, k, v, order: streams(
                q * k.shape[1] ** 0.5, g * k.shape[1] ** 0.5, k, v, order
            ),
            "the first prediction is a mean": lambda q, g, k, v, order: (
                (found := streams(q, g, k, v, order))[0],
                np.where((np.arange(len(order)) == order[0])[:, None], v.mean(axis=0), found[1]),
            ),
        },
        right={"sorted, and back": by_sorting},
    ),
)
