"""Exercises of the lesson on cached attention."""

import numpy as np

from crosscheck.lesson.arguments import Draw
from crosscheck.lesson.constraints import Memory, SinglePass, Unchanged
from crosscheck.lesson.exercises import Exercise, edge
from reference.masked_softmax import masked_softmax


def allowed_slots(t, slots, step, padding):
    slot, own = np.arange(slots), step + np.arange(t)[:, None]
    return (slot <= own) & (slot >= padding[:, None, None])


def slot_by_slot(t, slots, step, padding):
    allowed = [[[p <= s <= step + i for s in range(slots)] for i in range(t)] for p in padding]
    return np.array(allowed, bool).reshape(len(padding), t, slots)


def blocks_of_tokens(rng):
    t, step = rng.integers(2, 5), rng.integers(3, 6)
    slots = t + step + rng.integers(1, 4)
    return [
        {"t": t, "slots": slots, "step": step, "padding": rng.permutation([0, 1, 2])},
        {"t": t + 1, "slots": slots + 3, "step": step + 1, "padding": rng.permutation([1, 3])},
        edge("a single token", t=1, slots=slots, step=step, padding=np.array([2, 0])),
        edge("an empty cache", t=t, slots=slots, step=0, padding=np.zeros(2, int)),
        edge("the last slots", t=t, slots=step + t, step=step, padding=np.array([1])),
        edge("padding after a token", t=t, slots=slots, step=0, padding=np.array([1, 0])),
        edge("no texts", t=t, slots=slots, step=step, padding=np.zeros(0, int)),
    ]


def next_beams(key, value, parents, k, v, step):
    key, value = key[parents], value[parents]
    key[:, step], value[:, step] = k, v
    return key, value


def in_place(key, value, parents, k, v, step):
    key[:], value[:] = key[parents], value[parents]
    key[:, step], value[:, step] = k, v
    return key, value


def beam_by_beam(key, value, parents, k, v, step):
    new_key, new_value = np.empty_like(key), np.empty_like(value)
    for i, parent in enumerate(parents):
        new_key[i], new_value[i] = key[parent], value[parent]
        new_key[i, step], new_value[i, step] = k[i], v[i]
    return new_key, new_value


def write_first(key, value, parents, k, v, step):
    key, value = key.copy(), value.copy()
    key[:, step], value[:, step] = k, v
    return key[parents], value[parents]


def one_after_the_other(key, value, parents, k, v, step):
    """Overwrites a beam that a later one still continues."""
    key, value = key.copy(), value.copy()
    for i, parent in enumerate(parents):
        key[i], value[i] = key[parent], value[parent]
    key[:, step], value[:, step] = k, v
    return key, value


def beams_of_texts(rng):
    b, slots, h, d, e = 3, rng.integers(5, 8), 2, rng.integers(3, 5), rng.integers(5, 7)

    def inputs(parents, step, b=b, h=h):
        shapes = {"key": (b, slots, h, d), "value": (b, slots, h, e), "k": (b, h, d), "v": (b, h, e)}
        arrays = {name: rng.normal(size=shape) for name, shape in shapes.items()}
        return arrays | {"parents": np.array(parents), "step": step}

    ordered = ("key", "value", "parents", "k", "v", "step")
    drawn = [
        inputs(rng.permutation([2, 0, 1]), 3),
        inputs([2, 0, 2, 1], 2, b=4, h=3),
        edge("beams that change places", **inputs([1, 0, 2], 3)),
        edge("all beams continue the same text", **inputs([1, 1, 1], 4)),
        edge("the first slot", **inputs([2, 2, 0], 0)),
        edge("the last slot", **inputs([1, 2, 2], slots - 1)),
        edge("a single beam", **inputs([0], 2, b=1)),
    ]
    for arguments in drawn:
        for name in ordered:  # in the order of the function
            arguments[name] = arguments.pop(name)
    return drawn


def ring(tokens, w):
    keys, values, outputs = [], [], []
    for t, (q, k, v) in enumerate(tokens):
        if t < w:
            keys.append(k)
            values.append(v)
        else:
            keys[t % w], values[t % w] = k, v
        p = masked_softmax(np.array(keys) @ q / np.sqrt(len(q)))
        outputs.append(p @ np.array(values))
    return np.array(outputs)


def sliding(tokens, w):
    keys, values, outputs = [], [], []
    for q, k, v in tokens:
        keys, values = [*keys, k][-w:], [*values, v][-w:]
        scores = np.stack(keys) @ q / len(q) ** 0.5
        exp = np.exp(scores - scores.max())
        outputs.append(exp / exp.sum() @ np.stack(values))
    return np.stack(outputs)


def window_of(tokens, w, clear=False):
    """All keys are kept, and those outside the window are masked."""
    q, k, v = (np.array(part) for part in zip(*tokens))
    place = np.arange(len(q))
    mask = (place <= place[:, None]) & (place > place[:, None] - w)
    return masked_softmax(q @ k.T / np.sqrt(q.shape[1]), mask) @ v


def with_all_keys_in_a_list(tokens, w):
    """Attends to the last `w` keys, and keeps the others too."""
    keys, values, outputs = [], [], []
    for q, k, v in tokens:
        keys.append(k)
        values.append(v)
        outputs.append(masked_softmax(np.array(keys[-w:]) @ q / np.sqrt(len(q))) @ np.array(values[-w:]))
    return np.array(outputs)


def with_empty_slots(tokens, w, shift=True):
    keys = None
    outputs = []
    for t, (q, k, v) in enumerate(tokens):
        if keys is None:
            keys, values = np.zeros((w, len(k))), np.zeros((w, len(v)))
        keys[t % w], values[t % w] = k, v
        scores = keys @ q / np.sqrt(len(q))
        p = masked_softmax(scores) if shift else np.exp(scores) * (np.arange(w) <= t)
        outputs.append(p @ values / p.sum())
    return np.array(outputs)


def block_by_block(tokens, w):
    """Forgets everything when the cache is full."""
    keys, values, outputs = [], [], []
    for q, k, v in tokens:
        if len(keys) == w:
            keys, values = [], []
        keys.append(k)
        values.append(v)
        outputs.append(masked_softmax(np.array(keys) @ q / np.sqrt(len(q))) @ np.array(values))
    return np.array(outputs)


def texts_without_end(rng):
    t, w, d, e = rng.integers(7, 11), rng.integers(3, 5), rng.integers(6, 8), rng.integers(4, 6)

    def inputs(t, w, size=1.0):
        return {"tokens": (size * rng.normal(size=(t, d)), rng.normal(size=(t, d)), rng.normal(size=(t, e))), "w": w}

    return [
        inputs(t, w),
        inputs(t + 5, w + 1),
        edge("a window of one token", **inputs(t, 1)),
        edge("a window longer than the text", **inputs(t, t + 3)),
        edge("a window as long as the text", **inputs(t, t)),
        edge("a single token", **inputs(1, w)),
        edge("scores of about 1,000", **inputs(t, w, size=2000)),
    ]


STREAM = {"tokens": (Draw((500, 256)), Draw((500, 256)), Draw((500, 2))), "w": 8}
BEAMS = {
    "key": np.ones((2, 3, 1, 2)),
    "value": np.ones((2, 3, 1, 2)),
    "parents": np.array([1, 1]),
    "k": np.zeros((2, 1, 2)),
    "v": np.zeros((2, 1, 2)),
    "step": 1,
}

EXERCISES = (
    Exercise(
        "allowed_slots",
        allowed_slots,
        blocks_of_tokens,
        wrong={
            "ignores the padding": lambda t, slots, step, padding: allowed_slots(t, slots, step, 0 * padding),
            "every token sees the whole block": lambda t, slots, step, padding: np.repeat(
                allowed_slots(1, slots, step + t - 1, padding), t, axis=1
            ),
            "a token does not see itself": lambda t, slots, step, padding: allowed_slots(t, slots, step - 1, padding),
            "counts the block from slot 0": lambda t, slots, step, padding: allowed_slots(t, slots, 0, padding),
            "sees the last slot of padding": lambda t, slots, step, padding: allowed_slots(t, slots, step, padding - 1),
            "only what is in the cache": lambda t, slots, step, padding: np.repeat(
                allowed_slots(1, slots, step - 1, padding), t, axis=1
            ),
        },
        right={"slot by slot": slot_by_slot},
    ),
    Exercise(
        "next_beams",
        next_beams,
        beams_of_texts,
        constraints=(Unchanged("key", BEAMS), Unchanged("value", BEAMS)),
        wrong={
            "changes the old arrays": in_place,
            "writes before it chooses": write_first,
            "ignores the parents": lambda key, value, parents, k, v, step: next_beams(key, value, np.arange(len(k)), k, v, step),
            "the new keys follow their parents too": lambda key, value, parents, k, v, step: next_beams(
                key, value, parents, k[parents], v[parents], step
            ),
            "overwrites a parent that is still needed": one_after_the_other,
            "writes one slot too early": lambda key, value, parents, k, v, step: next_beams(key, value, parents, k, v, step - 1),
            "keys alone": lambda key, value, parents, k, v, step: next_beams(key, value, parents, k, v, step)[0],
        },
        right={"beam by beam": beam_by_beam},
    ),
    Exercise(
        "ring",
        ring,
        texts_without_end,
        constraints=(SinglePass("tokens"), Memory(STREAM, most=500_000, forbids="all keys and values")),
        wrong={
            "keeps all keys": window_of,
            "keeps all keys, and attends to the last": with_all_keys_in_a_list,
            "attends to empty slots": with_empty_slots,
            "overflows": lambda tokens, w: with_empty_slots(tokens, w, shift=False),
            "a window one token too long": lambda tokens, w: sliding(tokens, w + 1),
            "forgets everything when full": block_by_block,
            "never forgets": lambda tokens, w: sliding(tokens, 10**6),
            "measures the text first": lambda tokens, w: sliding(tokens, w)[: len(tokens)],
        },
        right={"a list that slides": sliding},
    ),
)
