"""Exercises of the lesson on token embeddings."""

import numpy as np

from crosscheck.lesson.arguments import Draw
from crosscheck.lesson.constraints import Memory, NoLoop
from crosscheck.lesson.exercises import Exercise, edge


def rows_of(ids, table):
    known = (ids >= 0) & (ids < len(table))
    return np.where(known[..., None], table[np.where(known, ids, 0)], 0)


def by_one_hot(ids, table):
    return (ids[..., None] == np.arange(len(table))).astype(float) @ table


def ids_and_tables(rng):
    n, m = rng.integers(4, 8), rng.integers(8, 11)

    def inputs(shape, n=n):
        return {"ids": rng.integers(n, size=shape), "table": rng.normal(size=(n, m))}

    return [
        inputs((2, 3)),
        inputs((5,), n=n + 3),
        edge("negative ids", **inputs(4) | {"ids": np.array([0, -1, -2, -n])}),
        edge("ids beyond the table", **inputs(4) | {"ids": np.array([n - 1, n, n + 7, 1000000])}),
        edge("no ids", **inputs((3, 0))),
        edge("a single id", **inputs(1)),
        edge("a table of one row", **inputs((2, 2), n=1) | {"ids": np.array([[0, 1], [-1, 0]])}),
        edge("the same id everywhere", **inputs(4) | {"ids": np.full(4, 2)}),
    ]


def gradient_of(ids, slope, n):
    known = (ids >= 0) & (ids < n)
    gradient = np.zeros((n, slope.shape[1]))
    np.add.at(gradient, ids[known], slope[known])
    return gradient


def by_sorting(ids, slope, n):
    """Sums of runs of equal ids."""
    known = (ids >= 0) & (ids < n)
    order = np.argsort(ids[known], kind="stable")
    ordered, sums = ids[known][order], np.cumsum(slope[known][order], axis=0)
    last = np.append(np.diff(ordered) > 0, True)[: len(ordered)]
    gradient = np.zeros((n, slope.shape[1]))
    gradient[ordered[last]] = np.diff(sums[last], axis=0, prepend=0)
    return gradient


def by_counting(ids, slope, n):
    known = (ids >= 0) & (ids < n)
    columns = [np.bincount(ids[known], weights=column[known], minlength=n) for column in slope.T]
    return np.stack(columns, axis=1)


def last_one_stays(ids, slope, n):
    known = (ids >= 0) & (ids < n)
    gradient = np.zeros((n, slope.shape[1]))
    gradient[ids[known]] += slope[known]
    return gradient


def token_by_token(ids, slope, n):
    gradient = np.zeros((n, slope.shape[1]))
    for token, row in zip(ids, slope):
        if 0 <= token < n:
            gradient[token] += row
    return gradient


def from_one_hot(ids, slope, n):
    return (ids == np.arange(n)[:, None]).astype(float) @ slope


def wrapping(ids, slope, n):
    gradient = np.zeros((n, slope.shape[1]))
    np.add.at(gradient, ids % n, slope)
    return gradient


def averaged(ids, slope, n):
    known = (ids >= 0) & (ids < n)
    return gradient_of(ids, slope, n) / np.maximum(np.bincount(ids[known], minlength=n), 1)[:, None]


def slopes(rng):
    n, t, m = rng.permutation([5, 7, 9]).tolist()

    def inputs(ids, n=n):
        return {"ids": np.asarray(ids, int), "slope": rng.normal(size=(len(ids), m)), "n": n}

    return [
        inputs(rng.integers(n, size=t)),
        inputs(rng.integers(3, size=t + 6), n=n + 3),
        edge("an id that occurs three times", **inputs([1, 3, 1, 0, 1])),
        edge("the same id everywhere", **inputs([2] * 5)),
        edge("ids outside the table", **inputs([0, -1, n, 1, -n, n + 5])),
        edge("no ids", **inputs([])),
        edge("a table of one row", **inputs([0, 0, 0], n=1)),
    ]


def from_parts(ids, parts):
    return sum(rows_of(ids - k * len(part), part) for k, part in enumerate(parts))


def part_by_part(ids, parts):
    output = np.zeros((*ids.shape, parts[0].shape[1]))
    for k, part in enumerate(parts):
        mine = (ids // len(part) == k) & (ids >= 0)
        output[mine] = part[ids[mine] % len(part)]
    return output


def joined(ids, parts):
    return rows_of(ids, np.concatenate(parts))


def cut_tables(rng):
    m, rows = rng.permutation([3, 4, 5]).tolist()[:2]

    def inputs(count, shape=(2, 5), rows=rows):
        return {"ids": rng.integers(count * rows, size=shape), "parts": [rng.normal(size=(rows, m)) for _ in range(count)]}

    return [
        inputs(3),
        inputs(5, shape=(7,)),
        edge("a single part", **inputs(1)),
        edge("parts of one row", **inputs(4, rows=1)),
        edge("ids outside every part", **inputs(3) | {"ids": np.array([-1, 0, 3 * rows, -rows, 3 * rows - 1, 99])}),
        edge("the first and last row of each part", **inputs(3) | {"ids": np.array([0, rows - 1, rows, 2 * rows - 1, 2 * rows])}),
    ]


BIG = {"ids": Draw((300,), "integers", 2000), "slope": Draw((300, 4)), "n": 2000}
FEW, MANY = ({"ids": np.arange(t) % 3, "slope": np.ones((t, 2)), "n": 3} for t in (4, 204))

EXERCISES = (
    Exercise(
        "rows_of",
        rows_of,
        ids_and_tables,
        wrong={
            "negative ids count from the end": lambda ids, table: (
                table[ids % len(table)] * ((ids < len(table)) & (ids >= -len(table)))[..., None]
            ),
            "crashes beyond the table": lambda ids, table: table[ids],
            "the nearest row for ids outside": lambda ids, table: table[np.clip(ids, 0, len(table) - 1)],
            "wraps around": lambda ids, table: table[ids % len(table)],
            "row 0 for ids outside": lambda ids, table: table[np.where((ids >= 0) & (ids < len(table)), ids, 0)],
            "padding is 0": lambda ids, table: rows_of(ids, table) * (ids != 0)[..., None],
        },
        right={"by one-hot rows": by_one_hot},
    ),
    Exercise(
        "gradient_of",
        gradient_of,
        slopes,
        constraints=(
            NoLoop(FEW, MANY, more=200, axis="ids"),
            Memory(BIG, most=1_000_000, forbids="a one-hot row for each token"),
        ),
        wrong={
            "a loop over tokens": token_by_token,
            "one-hot rows": from_one_hot,
            "one of several tokens stays": last_one_stays,
            "ids outside wrap around": wrapping,
            "the mean for an id that occurs twice": averaged,
            "the rows of the table in place of slopes": lambda ids, slope, n: rows_of(np.arange(n), slope[:, :]),
        },
        right={"by sorting": by_sorting, "by counting": by_counting},
    ),
    Exercise(
        "from_parts",
        from_parts,
        cut_tables,
        constraints=(
            Memory(
                {"ids": np.arange(50), "parts": tuple(Draw((1000, 32)) for _ in range(4))},
                most=600_000,
                forbids="the whole table",
            ),
        ),
        wrong={
            "joins the parts": joined,
            "the first part alone": lambda ids, parts: rows_of(ids, parts[0]),
            "ids of others wrap around": lambda ids, parts: sum(part[ids % len(part)] for part in parts),
            "one row off at the borders": lambda ids, parts: from_parts(ids - (ids >= len(parts[0])), parts),
            "row by row in turn": lambda ids, parts: rows_of(
                np.where(ids >= 0, ids, -1) % len(parts) * len(parts[0]) + ids // len(parts), np.concatenate(parts)
            ),
            "parts in reverse": lambda ids, parts: from_parts(ids, parts[::-1]),
        },
        right={"part by part": part_by_part},
    ),
)
