"""Exercises of the lesson on BigBird."""

import numpy as np

from crosscheck.lesson.constraints import Calls, Memory, NoLoop
from crosscheck.lesson.exercises import Exercise, edge
from reference import bigbird_attention as ref


def pairs(blocks, r):
    return blocks**2 if blocks <= 5 + r else 2 * blocks + 2 * (4 + r) + (blocks - 4) * (5 + r)


def row_by_row(blocks, r):
    if blocks <= 5 + r:
        return blocks * blocks
    rows = [blocks if i in (0, blocks - 1) else 5 + r - (i in (1, blocks - 2)) for i in range(blocks)]
    return sum(rows)


def counted(blocks, r):
    return int(ref.block_graph(blocks, ref.draw(np.random.default_rng(0), 1, blocks, r)).sum())


def graphs(rng):
    blocks, r = rng.integers(20, 60), rng.integers(2, 5)
    return [
        {"blocks": blocks, "r": r},
        {"blocks": blocks + 50, "r": r + 3},
        edge("no random blocks", blocks=blocks, r=0),
        edge("the longest sequence with full attention", blocks=5 + r, r=r),
        edge("the shortest sparse sequence", blocks=6 + r, r=r),
        edge("fewer blocks than a row may see", blocks=4, r=r),
        edge("a single block", blocks=1, r=r),
    ]


def window_scores(q, k):
    keys = np.concatenate([np.roll(k, 1, axis=0), k, np.roll(k, -1, axis=0)], axis=1)
    return q @ keys.transpose(0, 2, 1)


def by_einsum(q, k):
    return np.concatenate([np.einsum("nwd,nvd->nwv", q, np.roll(k, shift, axis=0)) for shift in (1, 0, -1)], axis=-1)


def block_by_block(q, k):
    count = len(q)
    rows = [np.concatenate([q[i] @ k[j % count].T for j in (i - 1, i, i + 1)], axis=1) for i in range(count)]
    return np.stack(rows)


def with_zeros_at_the_ends(q, k):
    scores = window_scores(q, k)
    scores[0, :, : k.shape[1]] = 0
    scores[-1, :, -k.shape[1] :] = 0
    return scores


def blocks_of_tokens(rng):
    blocks, w, d = rng.permutation([4, 5, 6]).tolist()

    def inputs(blocks, w):
        return {"q": rng.normal(size=(blocks, w, d)), "k": rng.normal(size=(blocks, w, d))}

    return [
        inputs(blocks, w),
        inputs(blocks + 3, w + 1),
        edge("three blocks", **inputs(3, w)),
        edge("two blocks, each twice the neighbor of the other", **inputs(2, w)),
        edge("blocks of one token", **inputs(blocks, 1)),
    ]


def without_a_list(i, blocks, draws):
    start, stop = max(i - 1, 1), min(i + 2, blocks - 1)
    left = blocks - 2 - (stop - start)
    place = draws % (left - np.arange(len(draws)))
    for j in reversed(range(len(draws))):
        place[j + 1 :] += place[j + 1 :] >= place[j]
    place = place + 1
    return place + (stop - start) * (place >= start)


def by_sorted_choices(i, blocks, draws):
    """Each draw is pushed up past the blocks that are taken, from the lowest."""
    taken = sorted({0, i - 1, i, i + 1, blocks - 1})
    chosen = []
    for number in draws:
        block = int(number) % (blocks - len(taken))
        for other in taken:
            block += block >= other
        chosen.append(block)
        taken = sorted([*taken, block])
    return chosen


def from_a_list(i, blocks, draws):
    return ref.random_blocks(i, blocks, draws)


def from_an_array(i, blocks, draws):
    left, chosen = np.setdiff1d(np.arange(blocks), sorted(ref.fixed_blocks(i, blocks))), []
    for number in draws:
        chosen.append(left[number % len(left)])
        left = np.delete(left, number % len(left))
    return chosen


def with_replacement(i, blocks, draws):
    return [int(without_a_list(i, blocks, np.array([number]))[0]) for number in draws]


def in_the_order_drawn(i, blocks, draws):
    """Pushes a draw up past the earlier ones, from the first to the last."""
    start, stop = max(i - 1, 1), min(i + 2, blocks - 1)
    place = draws % (blocks - 2 - (stop - start) - np.arange(len(draws)))
    for j in range(len(draws)):
        place[j + 1 :] += place[j + 1 :] >= place[j]
    return place + 1 + (stop - start) * (place + 1 >= start)


def inner_rows_alone(i, blocks, draws):
    """Takes it that the window is always three blocks beside the two global ones."""
    place = draws % (blocks - 5 - np.arange(len(draws)))
    for j in reversed(range(len(draws))):
        place[j + 1 :] += place[j + 1 :] >= place[j]
    return place + 1 + 3 * (place + 1 >= i - 1)


def rows_and_draws(rng):
    r, blocks = rng.integers(3, 6), rng.integers(14, 24)

    def inputs(i, blocks, r=r):
        return {"i": i, "blocks": blocks, "draws": rng.integers(2**31 - 1, size=r)}

    return [
        inputs(rng.integers(4, blocks - 4), blocks),
        inputs(rng.integers(4, blocks - 4), blocks + 9, r + 2),
        inputs(rng.integers(4, 8), 12),
        edge("the row whose window holds the first block", **inputs(1, blocks)),
        edge("the row whose window holds the last block", **inputs(blocks - 2, blocks)),
        edge("a window beside the first block", **inputs(2, blocks)),
        edge("as few blocks as can be", **inputs(3, 6 + r)),
        edge("the same number drawn each time", i=5, blocks=blocks, draws=np.full(r, 3)),
        edge("a later place below an earlier one", i=5, blocks=blocks, draws=np.array([1, 0, 0])),
        edge("one random block", **inputs(4, blocks, 1)),
    ]


WINDOWS = [{"q": np.ones((blocks, 2, 3)), "k": np.ones((blocks, 2, 3))} for blocks in (4, 204)]
ROWS = [{"i": 9, "blocks": blocks, "draws": np.array([8, 5, 13])} for blocks in (20, 220)]

EXERCISES = (
    Exercise(
        "pairs",
        pairs,
        graphs,
        constraints=(
            Calls(
                ("reference.bigbird_attention.seen_blocks", "reference.bigbird_attention.random_blocks"), {"blocks": 12, "r": 2}
            ),
        ),
        wrong={
            "draws the graph": counted,
            "no case for short sequences": lambda blocks, r: 2 * blocks + 2 * (4 + r) + (blocks - 4) * (5 + r),
            "two random blocks, always": lambda blocks, r: pairs(blocks, 2),
            "the global block of rows 1 and n − 2 counted twice": lambda blocks, r: (
                blocks**2 if blocks <= 5 + r else 2 * blocks + (blocks - 2) * (5 + r)
            ),
            "global rows like the others": lambda blocks, r: blocks**2 if blocks <= 5 + r else blocks * (5 + r),
            "full attention one block too short": lambda blocks, r: pairs(blocks, r) - (blocks == 5 + r),
            "all pairs": lambda blocks, r: blocks**2,
        },
        right={"row by row": row_by_row},
    ),
    Exercise(
        "window_scores",
        window_scores,
        blocks_of_tokens,
        constraints=(NoLoop(*WINDOWS, more=200, axis="the blocks"),),
        wrong={
            "a loop over blocks": block_by_block,
            "rolled the other way": lambda q, k: np.concatenate(np.split(window_scores(q, k), 3, axis=-1)[::-1], axis=-1),
            "no neighbors of the first and the last": with_zeros_at_the_ends,
            "the block itself first": lambda q, k: np.roll(window_scores(q, k), -k.shape[1], axis=-1),
            "tokens rolled instead of blocks": lambda q, k: (
                q @ np.concatenate([np.roll(k, 1, axis=1), k, np.roll(k, -1, axis=1)], axis=1).transpose(0, 2, 1)
            ),
            "divided by the root of d": lambda q, k: window_scores(q, k) / np.sqrt(q.shape[-1]),
        },
        right={"three einsums": by_einsum},
    ),
    Exercise(
        "without_a_list",
        without_a_list,
        rows_and_draws,
        constraints=(
            NoLoop(*ROWS, more=200, axis="the row of blocks"),
            Memory(ROWS[1] | {"blocks": 1500}, most=8_000, forbids="an array of all blocks"),
        ),
        wrong={
            "from a list of all blocks": from_a_list,
            "from an array of all blocks": from_an_array,
            "a block may come twice": with_replacement,
            "pushes up in the order drawn": in_the_order_drawn,
            "forgets the first and the last inner row": inner_rows_alone,
            "does not skip the window": lambda i, blocks, draws: np.array(without_a_list(i, blocks, draws)) % (blocks - 2) + 1,
            "the draws themselves": lambda i, blocks, draws: draws % blocks,
        },
        right={"past sorted choices": by_sorted_choices},
    ),
)
