"""Exercises of the lesson on packed inputs."""

import numpy as np

from crosscheck.lesson.constraints import NoLoop
from crosscheck.lesson.exercises import Exercise, edge
from reference import bert_pack_inputs as ref


def both_ends(tokens, n):
    half = n // 2
    return tokens if n >= len(tokens) else [*tokens[: n - half], *tokens[len(tokens) - half :]]


def by_places(tokens, n):
    first = n - n // 2
    return [token for i, token in enumerate(tokens) if n >= len(tokens) or i < first or i >= len(tokens) - n // 2]


def texts_to_cut(rng):
    def inputs(count, n):
        return {"tokens": rng.integers(1000, 9000, size=count).tolist(), "n": n}

    count = rng.integers(7, 11)
    return [
        inputs(count, 4),
        inputs(count + 3, 5),
        edge("nothing may stay", **inputs(count, 0)),
        edge("one token may stay", **inputs(count, 1)),
        edge("all may stay", **inputs(count, count)),
        edge("more may stay than there are", **inputs(count, count + 4)),
        edge("one has to go", **inputs(count, count - 1)),
        edge("no tokens", **inputs(0, 3)),
    ]


def waterfall(sizes, room):
    return np.clip(room - (np.cumsum(sizes, axis=1) - sizes), 0, sizes)


def by_differences(sizes, room):
    filled = np.minimum(np.cumsum(sizes, axis=1), room)
    return np.diff(filled, axis=1, prepend=0)


def segment_by_segment(sizes, room):
    kept, left = np.zeros_like(sizes), np.full(len(sizes), room)
    for i in range(sizes.shape[1]):
        kept[:, i] = np.minimum(sizes[:, i], left)
        left = left - kept[:, i]
    return kept


def row_by_row(sizes, room):
    return np.array([ref.waterfall_one(row.tolist(), room) for row in sizes], int).reshape(sizes.shape)


def rows_of_segments(rng):
    b, count = rng.permutation([3, 4, 5]).tolist()[:2]

    def inputs(sizes, room):
        return {"sizes": np.array(sizes), "room": room}

    return [
        inputs(rng.integers(1, 9, size=(b, count)), 12),
        inputs(rng.integers(1, 9, size=(b + 3, 2)), rng.integers(4, 8)),
        edge("no room", **inputs(rng.integers(1, 9, size=(b, count)), 0)),
        edge("room for everything", **inputs(rng.integers(1, 9, size=(b, count)), 1000)),
        edge("empty segments", **inputs([[0, 3, 0, 4], [5, 0, 5, 0], [0, 0, 0, 0]], 6)),
        edge("a first segment that fills the room", **inputs([[9, 2, 1], [5, 2, 1], [4, 2, 1]], 5)),
        edge("one segment", **inputs([[3], [8], [0]], 5)),
        edge("no rows", **inputs(np.zeros((0, 2), int), 5)),
    ]


def mask_and_types(kept, seq_length):
    place = np.arange(seq_length)
    behind = 1 + np.cumsum(kept + 1, axis=1)  # the place after each segment's [SEP]
    mask = place < behind[:, -1:]
    types = (place >= behind[..., None]).sum(axis=1)
    return mask.astype(int), np.where(mask, types, 0)


def token_by_token(kept, seq_length):
    mask, types = np.zeros((len(kept), seq_length), int), np.zeros((len(kept), seq_length), int)
    for row, sizes in enumerate(kept):
        end = 1
        for i, size in enumerate(sizes):
            types[row, end : end + size + 1] = i
            end += size + 1
        mask[row, :end] = 1
    return mask, types


def by_marks(kept, seq_length):
    """The types are a running sum of ones at the beginnings of later segments."""
    starts = 1 + np.cumsum(kept + 1, axis=1)
    mask = (np.arange(seq_length) < starts[:, -1:]).astype(int)
    marks = np.zeros((len(kept), seq_length + 1), int)
    np.add.at(marks, (np.arange(len(kept))[:, None], starts[:, :-1]), 1)
    return mask, np.cumsum(marks, axis=1)[:, :-1] * mask


def types_one_place_off(kept, seq_length, by):
    mask, types = mask_and_types(kept, seq_length)
    moved = np.roll(types, by, axis=1)
    return mask, np.where(mask, moved, 0)


def without_separators(kept, seq_length):
    ends = 1 + np.cumsum(kept, axis=1)
    place = np.arange(seq_length)
    mask = place < ends[:, -1:]
    return mask.astype(int), np.where(mask, (place >= ends[..., None]).sum(axis=1), 0)


def types_of_padding(kept, seq_length):
    mask, types = mask_and_types(kept, seq_length)
    return mask, np.where(mask, types, kept.shape[1])


def packed_rows(rng):
    def inputs(kept, more):
        kept = np.array(kept, int)
        needed = int((kept + 1).sum(axis=1).max(initial=0)) + 1
        return {"kept": kept, "seq_length": needed + more}

    b, count = rng.permutation([3, 4, 5]).tolist()[:2]
    return [
        inputs(rng.integers(1, 5, size=(b, 2)), 3),
        inputs(rng.integers(1, 5, size=(b + 2, count)), 2),
        edge("one segment", **inputs(rng.integers(1, 5, size=(b, 1)), 2)),
        edge("no padding", **inputs([[2, 3], [3, 2], [4, 1]], 0)),
        edge("an empty segment", **inputs([[0, 3], [3, 0], [0, 0]], 1)),
        edge("no rows", **inputs(np.zeros((0, 2)), 6)),
        edge("one row", **inputs([[2, 1, 3]], 4)),
    ]


MANY_ROWS = [{"sizes": np.full((b, 3), 4), "room": 9} for b in (4, 204)]
MANY_SEGMENTS = [{"sizes": np.full((2, count), 4), "room": 9} for count in (4, 204)]
PACKED = [{"kept": np.full((b, 2), 3), "seq_length": 10} for b in (4, 204)]

EXERCISES = (
    Exercise(
        "both_ends",
        both_ends,
        texts_to_cut,
        wrong={
            "[-0:] is everything": lambda tokens, n: tokens if n >= len(tokens) else tokens[: n - n // 2] + tokens[-(n // 2) :],
            "the beginning alone": lambda tokens, n: tokens[:n],
            "the end alone": lambda tokens, n: tokens[max(len(tokens) - n, 0) :],
            "the odd token at the end": lambda tokens, n: (
                tokens if n >= len(tokens) else tokens[: n // 2] + tokens[len(tokens) - (n - n // 2) :]
            ),
            "both ends overlap": lambda tokens, n: tokens[: n - n // 2] + tokens[len(tokens) - n // 2 :],
            "the odd token is lost": lambda tokens, n: (
                tokens if n >= len(tokens) else tokens[: n // 2] + tokens[len(tokens) - n // 2 :]
            ),
        },
        right={"by places": by_places},
    ),
    Exercise(
        "waterfall",
        waterfall,
        rows_of_segments,
        constraints=(
            NoLoop(*MANY_ROWS, more=200, axis="the rows"),
            NoLoop(*MANY_SEGMENTS, more=200, axis="the segments"),
        ),
        wrong={
            "a loop over rows": row_by_row,
            "a loop over segments": segment_by_segment,
            "each segment gets an equal part": lambda sizes, room: np.minimum(sizes, room // sizes.shape[1]),
            "deals in turn": lambda sizes, room: ref.round_robin(sizes, room),
            "each segment gets the whole room": lambda sizes, room: np.minimum(sizes, room),
            "below 0": lambda sizes, room: np.minimum(sizes, room - (np.cumsum(sizes, axis=1) - sizes)),
            "the last segment first": lambda sizes, room: waterfall(sizes[:, ::-1], room)[:, ::-1],
            "a room of 8, always": lambda sizes, room: waterfall(sizes, 8),
        },
        right={"by differences": by_differences},
    ),
    Exercise(
        "mask_and_types",
        mask_and_types,
        packed_rows,
        constraints=(NoLoop(*PACKED, more=200, axis="the rows"),),
        wrong={
            "a loop over rows": token_by_token,
            "[SEP] belongs to the next segment": lambda kept, seq_length: types_one_place_off(kept, seq_length, -1),
            "a segment begins one token too late": lambda kept, seq_length: types_one_place_off(kept, seq_length, 1),
            "no places for [SEP]": without_separators,
            "padding is a segment": types_of_padding,
            "two segments, always": lambda kept, seq_length: (
                (found := mask_and_types(kept, seq_length))[0],
                np.minimum(found[1], 1),
            ),
            "types before the mask": lambda kept, seq_length: mask_and_types(kept, seq_length)[::-1],
        },
        right={"by marks": by_marks},
    ),
)
