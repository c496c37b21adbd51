"""Exercises of the lesson on masks."""

import numpy as np

from crosscheck.lesson.constraints import NoLoop
from crosscheck.lesson.exercises import Exercise, edge


def left_padding_mask(lengths, s):
    return np.arange(s) >= s - lengths[:, None]


def by_slices(lengths, s):
    """Forgets that [-0:] is everything."""
    mask = np.zeros((len(lengths), s), bool)
    for row, length in zip(mask, lengths):
        row[-length:] = True
    return mask


def row_by_row(lengths, s):
    return np.array([[j >= s - length for j in range(s)] for length in lengths]).reshape(len(lengths), s)


def lengths_of_texts(rng):
    b, s = rng.integers(2, 5), rng.integers(5, 9)
    return [
        {"lengths": rng.permutation(np.arange(1, b + 1)), "s": s},
        {"lengths": rng.permutation(np.arange(1, b + 3)), "s": s + 3},
        edge("a text of length 0", lengths=np.array([2, 0, s]), s=s),
        edge("texts without padding", lengths=np.array([s, s]), s=s),
        edge("no texts", lengths=np.zeros(0, int), s=s),
        edge("no keys", lengths=np.zeros(b, int), s=0),
    ]


def prefix_mask(prefix, t):
    key = np.arange(t)
    return (key <= key[:, None]) | (key < prefix[:, None, None])


def prefix_by_blocks(prefix, t):
    mask = np.repeat(np.tri(t, dtype=bool)[None], len(prefix), axis=0)
    mask |= (np.arange(t) < prefix[:, None])[:, None]
    return mask


def prefix_by_loops(prefix, t):
    mask = [[[s <= query or s < p for s in range(t)] for query in range(t)] for p in prefix]
    return np.array(mask).reshape(len(prefix), t, t)


def prefixes(rng):
    b, t = rng.integers(2, 4), rng.integers(5, 8)
    return [
        {"prefix": rng.permutation(np.arange(2, b + 2)), "t": t},
        {"prefix": rng.permutation(np.arange(1, b + 3)), "t": t + 2},
        edge("a prefix of 0", prefix=np.array([0, 2]), t=t),
        edge("a prefix longer than the text", prefix=np.array([t + 3, 1, t]), t=t),
        edge("a text of one token", prefix=np.array([0, 1, 2]), t=1),
        edge("no texts", prefix=np.zeros(0, int), t=t),
    ]


def packed_mask(lengths, t):
    text = np.zeros(t, int)
    text[: lengths.sum()] = np.repeat(np.arange(len(lengths)) + 1, lengths)
    return np.tri(t, dtype=bool) & (text == text[:, None]) & (text > 0)


def packed_by_ends(lengths, t):
    """A token's text is told by how many texts have ended before it."""
    text = np.searchsorted(np.cumsum(lengths), np.arange(t), side="right")
    same = text[:, None] == text
    return same & (text < len(lengths)) & np.tri(t, dtype=bool)


def packed_by_loops(lengths, t):
    mask, start = np.zeros((t, t), bool), 0
    for length in lengths:
        mask[start : start + length, start : start + length] = np.tri(length)
        start += length
    return mask


def without_causality(lengths, t):
    causal = packed_mask(lengths, t)
    return causal | causal.T


def with_padding(lengths, t):
    """Padding is a text of its own."""
    return packed_mask(np.append(lengths, t - lengths.sum()), t)


def packed_texts(rng):
    t = rng.integers(9, 13)
    return [
        {"lengths": rng.permutation([2, 3, 1]), "t": t},
        {"lengths": rng.permutation([1, 4, 2, 3]), "t": t + 4},
        edge("no padding", lengths=np.array([3, t - 3]), t=t),
        edge("a text of length 0 in between", lengths=np.array([2, 0, 3]), t=t),
        edge("one text", lengths=np.array([4]), t=t),
        edge("no texts", lengths=np.zeros(0, int), t=t),
        edge("texts of one token", lengths=np.ones(4, int), t=t),
    ]


EXERCISES = (
    Exercise(
        "left_padding_mask",
        left_padding_mask,
        lengths_of_texts,
        constraints=(
            NoLoop({"lengths": np.full(4, 2), "s": 5}, {"lengths": np.full(204, 2), "s": 5}, more=200, axis="lengths"),
            NoLoop({"lengths": np.full(2, 2), "s": 5}, {"lengths": np.full(2, 2), "s": 205}, more=200, axis="the row of keys"),
        ),
        wrong={
            "pads on the right": lambda lengths, s: np.arange(s) < lengths[:, None],
            "one token too many": lambda lengths, s: np.arange(s) >= s - lengths[:, None] - 1,
            "one token too few": lambda lengths, s: np.arange(s) > s - lengths[:, None],
            "True where there is padding": lambda lengths, s: ~left_padding_mask(lengths, s),
            "[-0:] is everything": by_slices,
            "a loop over texts and keys": row_by_row,
            "keys in rows, texts in columns": lambda lengths, s: left_padding_mask(lengths, s).T,
        },
        right={
            "a flipped row": lambda lengths, s: (np.arange(s) < lengths[:, None])[:, ::-1],
            "zeros and ones": lambda lengths, s: left_padding_mask(lengths, s).astype(int),
        },
    ),
    Exercise(
        "prefix_mask",
        prefix_mask,
        prefixes,
        constraints=(
            NoLoop({"prefix": np.full(2, 3), "t": 5}, {"prefix": np.full(2, 3), "t": 205}, more=200, axis="t"),
            NoLoop({"prefix": np.full(4, 3), "t": 5}, {"prefix": np.full(204, 3), "t": 5}, more=200, axis="prefix"),
        ),
        wrong={
            "causal and in the prefix": lambda prefix, t: np.tri(t, dtype=bool) & (np.arange(t) < prefix[:, None, None]),
            "causal alone": lambda prefix, t: np.repeat(np.tri(t, dtype=bool)[None], len(prefix), axis=0),
            "one key too many": lambda prefix, t: prefix_mask(prefix + 1, t),
            "queries of the prefix see everything": lambda prefix, t: (
                np.tri(t, dtype=bool) | (np.arange(t)[:, None] < prefix[:, None, None])
            ),
            "keys and queries swapped": lambda prefix, t: prefix_mask(prefix, t).transpose(0, 2, 1),
            "loops": prefix_by_loops,
        },
        right={"written into a causal mask": prefix_by_blocks},
    ),
    Exercise(
        "packed_mask",
        packed_mask,
        packed_texts,
        constraints=(
            NoLoop({"lengths": np.ones(4, int), "t": 9}, {"lengths": np.ones(204, int), "t": 209}, more=200, axis="lengths"),
        ),
        wrong={
            "a loop over texts": packed_by_loops,
            "causal alone": lambda lengths, t: np.tri(t, dtype=bool),
            "texts see each other": lambda lengths, t: np.tri(t, dtype=bool) & (np.arange(t) < lengths.sum()),
            "the later tokens of a text too": without_causality,
            "padding sees padding": with_padding,
            "a token does not see itself": lambda lengths, t: packed_mask(lengths, t) & ~np.eye(t, dtype=bool),
        },
        right={"by the ends of texts": packed_by_ends},
    ),
)
