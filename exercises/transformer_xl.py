"""Exercises of the lesson on Transformer-XL."""

import numpy as np

from crosscheck.lesson.constraints import NoLoop
from crosscheck.lesson.exercises import Exercise, edge


def next_memory(memory, h, length, reuse):
    both = np.concatenate([memory, h[:, :reuse]], axis=1)
    return both[:, max(both.shape[1] - length, 0) :]


def token_by_token(memory, h, length, reuse):
    kept = [memory[:, i] for i in range(memory.shape[1])] + [h[:, i] for i in range(min(reuse, h.shape[1]))]
    kept = kept[len(kept) - length :] if length < len(kept) else kept
    return np.stack(kept, axis=1) if kept else np.zeros((len(h), 0, h.shape[2]))


def segments(rng):
    b, m = rng.integers(2, 4), rng.integers(4, 7)

    def inputs(old, t, length, reuse):
        return {"memory": rng.normal(size=(b, old, m)), "h": rng.normal(size=(b, t, m)), "length": length, "reuse": reuse}

    return [
        inputs(4, 5, 6, 3),
        inputs(5, 4, 4, 2),
        inputs(6, 7, 3, 5),
        edge("no memory yet", **inputs(0, 5, 4, 3)),
        edge("a memory that is not full yet", **inputs(2, 5, 9, 3)),
        edge("a memory of length 0", **inputs(3, 4, 0, 2)),
        edge("nothing is reused", **inputs(4, 5, 3, 0)),
        edge("the whole segment is reused", **inputs(4, 5, 6, 5)),
        edge("more is to be reused than there is", **inputs(2, 3, 4, 8)),
    ]


def first_token(t, length, m, layers):
    for _ in range(layers):  # the earliest token known so far knew its own segment and memory, one layer below
        t = np.maximum(0, t // length * length - m)
    return t


def by_one_token(t, length, m, layers):
    def first(token, layers):
        return first(max(0, token - token % length - m), layers - 1) if layers else token

    return np.array([first(int(token), layers) for token in t], int)


def stacks(rng):
    length, m = rng.integers(4, 7), rng.integers(2, 4)

    def inputs(length, m, layers, count=40):
        return {"t": rng.permutation(count), "length": length, "m": m, "layers": layers}

    return [
        inputs(length, m, 2),
        inputs(length, length + 2, 3, count=50),
        inputs(length + 1, m, 4, count=60),
        edge("no memory", **inputs(length, 0, 3)),
        edge("a single layer", **inputs(length, m, 1)),
        edge("no layer", **inputs(length, m, 0)),
        edge("a memory as long as a segment", **inputs(length, length, 2)),
        edge("segments of one token", **inputs(1, m, 2)),
        edge("a memory of several segments", **inputs(3, 8, 2)),
        edge("no tokens", **inputs(length, m, 2, count=0)),
    ]


def partial_masks(t, targets):
    rank = np.zeros(t, int)
    rank[targets] = np.arange(1, len(targets) + 1)
    content = rank <= rank[:, None]
    return content, content & ~np.eye(t, dtype=bool)


def by_sets(t, targets):
    """What each token sees: the context, and the targets up to its own."""
    targets = [int(target) for target in targets]
    context = set(range(t)) - set(targets)
    content, query = np.zeros((t, t), bool), np.zeros((t, t), bool)
    for i in range(t):
        seen = context | set(targets[: targets.index(i) + 1] if i in targets else [])
        content[i, list(seen)] = True
        query[i, list(seen - {i})] = True
    return content, query


def of_context(t, targets, also_targets):
    """The context sees, or does not see, the targets."""
    content, _ = partial_masks(t, targets)
    context = ~np.isin(np.arange(t), targets)
    if also_targets:
        content[context] = True
    else:
        content[np.ix_(context, context)] = np.eye(context.sum(), dtype=bool)
    return content, content & ~np.eye(t, dtype=bool)


def orders_of_prediction(rng):
    t = rng.integers(7, 10)
    return [
        {"t": t, "targets": rng.permutation(t)[:3]},
        {"t": t + 3, "targets": rng.permutation(t + 3)[:5]},
        {"t": t, "targets": np.array([4, 1])},
        edge("no targets", t=t, targets=np.zeros(0, int)),
        edge("every token is a target", t=t, targets=rng.permutation(t)),
        edge("one target", t=t, targets=np.array([t - 1])),
        edge("targets from right to left", t=t, targets=np.array([5, 4, 2, 0])),
        edge("a single token", t=1, targets=np.array([0])),
    ]


EXERCISES = (
    Exercise(
        "next_memory",
        next_memory,
        segments,
        wrong={
            "never cuts": lambda memory, h, length, reuse: np.concatenate([memory, h[:, :reuse]], axis=1),
            "[-0:] is everything": lambda memory, h, length, reuse: np.concatenate([memory, h[:, :reuse]], axis=1)[:, -length:],
            "keeps the oldest": lambda memory, h, length, reuse: np.concatenate([memory, h[:, :reuse]], axis=1)[:, :length],
            "ignores how much is reused": lambda memory, h, length, reuse: next_memory(memory, h, length, h.shape[1]),
            "reuses the end of the segment": lambda memory, h, length, reuse: next_memory(
                memory, h[:, max(h.shape[1] - reuse, 0) :], length, reuse
            ),
            "the segment before the memory": lambda memory, h, length, reuse: next_memory(
                h[:, :reuse], memory, length, memory.shape[1]
            ),
            "forgets the old memory": lambda memory, h, length, reuse: next_memory(memory[:, :0], h, length, reuse),
        },
        right={"token by token": token_by_token},
    ),
    Exercise(
        "first_token",
        first_token,
        stacks,
        constraints=(
            NoLoop(
                {"t": np.arange(4), "length": 4, "m": 3, "layers": 2},
                {"t": np.arange(204), "length": 4, "m": 3, "layers": 2},
                more=200,
                axis="t",
            ),
        ),
        wrong={
            "a loop over tokens": by_one_token,
            "layers times memory": lambda t, length, m, layers: np.maximum(0, t - layers * m) if layers else t,
            "the start of the segment, less all memories": lambda t, length, m, layers: (
                np.maximum(0, t // length * length - layers * m) if layers else t
            ),
            "one layer": lambda t, length, m, layers: first_token(t, length, m, 1),
            "before the first token": lambda t, length, m, layers: (
                first_token(t + 1000 * length, length, m, layers) - 1000 * length
            ),
            "the memory is one segment": lambda t, length, m, layers: first_token(t, length, length, layers),
            "no segments": lambda t, length, m, layers: first_token(t, 1, m, layers),
        },
        right={"segment starts by remainders": lambda t, length, m, layers: first_by_remainders(t, length, m, layers)},
    ),
    Exercise(
        "partial_masks",
        partial_masks,
        orders_of_prediction,
        wrong={
            "targets from left to right": lambda t, targets: partial_masks(t, np.sort(targets)),
            "a target's query sees itself": lambda t, targets: (partial_masks(t, targets)[0],) * 2,
            "the content does not see itself": lambda t, targets: (partial_masks(t, targets)[1],) * 2,
            "the context sees the targets": lambda t, targets: of_context(t, targets, also_targets=True),
            "the context sees itself alone": lambda t, targets: of_context(t, targets, also_targets=False),
            "query and content swapped": lambda t, targets: partial_masks(t, targets)[::-1],
            "the order of prediction reversed": lambda t, targets: partial_masks(t, targets[::-1]),
        },
        right={"by sets": by_sets},
    ),
)


def first_by_remainders(t, length, m, layers):
    for _ in range(layers):
        t = np.clip(t - np.mod(t, length) - m, 0, None)
    return t
