"""Exercises of the lesson on the masked language model."""

import numpy as np

from crosscheck.lesson.constraints import NoLoop
from crosscheck.lesson.exercises import Exercise, edge


def corrupted(ids, chosen, u, others, mask):
    return np.where(chosen & (u < 0.8), mask, np.where(chosen & (u < 0.9), others, ids))


def token_by_token(ids, chosen, u, others, mask):
    found = []
    for token, is_chosen, number, other in zip(ids, chosen, u, others):
        found.append(token if not is_chosen or number >= 0.9 else other if number >= 0.8 else mask)
    return np.array(found, int)


def with_shares(first, second):
    """Other shares of [MASK] and of other tokens."""
    return lambda ids, chosen, u, others, mask: np.where(
        chosen & (u < first), mask, np.where(chosen & (u < first + second), others, ids)
    )


def texts_to_corrupt(rng):
    def inputs(t, chosen=None, u=None):
        return {
            "ids": rng.integers(200, 900, size=t),
            "chosen": rng.random(t) < 0.5 if chosen is None else chosen,
            "u": rng.random(t) if u is None else u,
            "others": rng.integers(1000, 2000, size=t),
            "mask": int(rng.integers(100, 110)),
        }

    t = rng.integers(30, 50)
    return [
        inputs(t),
        inputs(2 * t),
        edge("the borders 0.8 and 0.9", **inputs(6, np.ones(6, bool), np.array([0.0, 0.79, 0.8, 0.89, 0.9, 0.99]))),
        edge("nothing is chosen", **inputs(t, np.zeros(t, bool))),
        edge("everything is chosen", **inputs(t, np.ones(t, bool))),
        edge("no tokens", **inputs(0)),
    ]


def safe_gather(x, positions):
    inside = (positions >= 0) & (positions < x.shape[1])
    found = x[np.arange(len(x))[:, None], np.where(inside, positions, 0)]
    return np.where(inside[..., None], found, 0)


def one_by_one(x, positions):
    padded = np.concatenate([x, 0 * x[:, :1]], axis=1)
    rows = [[row[p if 0 <= p < x.shape[1] else -1] for p in asked] for row, asked in zip(padded, positions)]
    return np.array(rows).reshape(*positions.shape, x.shape[2])


def by_one_hot(x, positions):
    return np.einsum("bts,bsm->btm", (positions[..., None] == np.arange(x.shape[1])).astype(float), x)


def by_take(x, positions):
    padded = np.pad(x, [(0, 0), (1, 1), (0, 0)])
    return np.take_along_axis(padded, np.clip(positions + 1, 0, x.shape[1] + 1)[..., None], axis=1)


def positions_in_texts(rng):
    b, t, s, m = rng.permutation([2, 3, 4, 5]).tolist()

    def inputs(b, positions):
        return {"x": rng.normal(size=(b, s, m)), "positions": np.array(positions)}

    return [
        inputs(b, rng.integers(s, size=(b, t))),
        inputs(b + 2, rng.integers(s, size=(b + 2, t + 1))),
        edge("positions behind the text", **inputs(2, [[0, s, s - 1], [s + 9, 1, s]])),
        edge("negative positions", **inputs(2, [[0, -1], [-2, -s]])),
        edge("no positions", **inputs(b, np.zeros((b, 0), int))),
        edge("one text", **inputs(1, [[1, 0, 1, 1]])),
    ]


def two_hidden(p, first, last):
    joint = p[first][:, None] * p * p[:, last]
    return joint / joint.sum()


def counted_out(p, first, last):
    n = len(p)
    table = np.array([[p[first, j] * p[j, k] * p[k, last] for k in range(n)] for j in range(n)])
    return table / np.einsum("j,jk,k", p[first], p, p[:, last])


def independent(p, first, last):
    joint = two_hidden(p, first, last)
    return np.outer(joint.sum(axis=1), joint.sum(axis=0))


def chains(rng):
    n = rng.integers(4, 7)

    def inputs(n, first=None, last=None):
        ends = rng.integers(n, size=2).tolist()
        p = rng.dirichlet(np.ones(n), size=n)
        return {"p": p, "first": ends[0] if first is None else first, "last": ends[1] if last is None else last}

    never = inputs(n, 0, 2)
    never["p"][0, 1] = 0
    return [
        inputs(n),
        inputs(n + 3),
        inputs(n, 1, 3),
        edge("the same word on both sides", **inputs(n, 1, 1)),
        edge("a single word", **inputs(1)),
        edge("a step that never happens", **never),
        edge("a chain that goes round", p=np.eye(5)[[1, 2, 3, 4, 0]], first=0, last=3),
    ]


FEW, MANY = ({"x": np.ones((b, 3, 2)), "positions": np.ones((b, 4), int)} for b in (3, 103))

EXERCISES = (
    Exercise(
        "corrupted",
        corrupted,
        texts_to_corrupt,
        wrong={
            "corrupts what is not chosen": lambda ids, chosen, u, others, mask: corrupted(ids, u < 2, u, others, mask),
            "[MASK] everywhere": with_shares(1.0, 0.0),
            "nothing is left as it is": with_shares(0.8, 0.2),
            "[MASK] in 10 %, others in 80 %": with_shares(0.1, 0.8),
            "others before [MASK]": lambda ids, chosen, u, others, mask: corrupted(ids, chosen, (u + 0.9) % 1, others, mask),
            "0.8 is [MASK] still": lambda ids, chosen, u, others, mask: np.where(
                chosen & (u <= 0.8), mask, np.where(chosen & (u <= 0.9), others, ids)
            ),
        },
        right={"token by token": token_by_token},
    ),
    Exercise(
        "safe_gather",
        safe_gather,
        positions_in_texts,
        constraints=(NoLoop(FEW, MANY, more=100, axis="the texts"),),
        wrong={
            "a loop": one_by_one,
            "negative positions count from the end": lambda x, positions: np.where(
                (positions < x.shape[1])[..., None], x[np.arange(len(x))[:, None], positions % x.shape[1]], 0
            ),
            "crashes behind the text": lambda x, positions: x[np.arange(len(x))[:, None], positions],
            "the nearest position": lambda x, positions: x[np.arange(len(x))[:, None], np.clip(positions, 0, x.shape[1] - 1)],
            "position 0 for what is outside": lambda x, positions: x[
                np.arange(len(x))[:, None], np.where((positions >= 0) & (positions < x.shape[1]), positions, 0)
            ],
            "the first text for all": lambda x, positions: safe_gather(np.repeat(x[:1], len(x), axis=0), positions),
        },
        right={"by one-hot rows": by_one_hot, "from padded texts": by_take},
    ),
    Exercise(
        "two_hidden",
        two_hidden,
        chains,
        wrong={
            "each for itself": independent,
            "does not divide": lambda p, first, last: p[first][:, None] * p * p[:, last],
            "forgets the word behind": lambda p, first, last: p[first][:, None] * p,
            "the chain backwards": lambda p, first, last: two_hidden(p.T, first, last),
            "second word in the rows": lambda p, first, last: two_hidden(p, first, last).T,
            "each row sums to 1": lambda p, first, last: (
                two_hidden(p, first, last) / np.maximum(two_hidden(p, first, last).sum(axis=1, keepdims=True), 1e-300)
            ),
            "first and last swapped": lambda p, first, last: two_hidden(p, last, first),
        },
        right={"counted out": counted_out},
    ),
)
