r"""One row of ids, of a fixed length, from one or more sequences of tokens.

Paper
    Devlin et al. (2018), "BERT: Pre-training of Deep Bidirectional Transformers for Language Understanding", section 3,
    "Input/Output Representations", and figure 2; appendix A.2 for the length. https://arxiv.org/abs/1810.04805

Equations
    (1)  ids    [CLS] A [SEP] B [SEP] [PAD] … [PAD]
    (2)  type   i at each token of segment i and at the [SEP] after it, counted from 0; 0 at [CLS] and at [PAD]
    (3)  mask   1 from [CLS] to the last [SEP]; 0 at [PAD]
    (4)  room = seq_length − 1 − (number of segments): the positions that the special tokens leave free
    (5)  round robin   each segment in turn keeps one more token, if it has one, until the room is full
                       kept_i = min(size_i, level) + 1 for the first segments above the level, while there is room,
                       level  = max_j ⌊(room − sum of the j shortest sizes) / (number of segments − j)⌋
    (6)  waterfall     kept_i = min(size_i, the room that the segments before i leave)

Axes
    b batch    t position

Differs from the paper
    - The paper samples sentences that fit. Here an argument says how to truncate those that do not: by (5), as BERT's published
      code does with a pair, or by (6). Both cut tokens from the end of a segment.
    - There may be more than two segments. The paper's model has type embeddings for two.
    - A row may be a list of words, each of them a list of pieces.

Layer: layers/bert_pack_inputs.py    Notebook: notebooks/bert_pack_inputs.ipynb
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Int
from numpy import ndarray as Array


class Packed(NamedTuple):
    """The inputs of a BERT model, named as in the layer."""

    input_word_ids: Int[Array, "*rows t"]
    input_mask: Int[Array, "*rows t"]
    input_type_ids: Int[Array, "*rows t"]


def round_robin_one(sizes: Sequence[int], room: int) -> list[int]:
    """Equation (5) for one row, token by token: the definition everything else must match."""
    kept = [0 for _ in sizes]
    while sum(kept) < min(room, sum(sizes)):
        for i, size in enumerate(sizes):
            if kept[i] < size and sum(kept) < room:
                kept[i] += 1
    return kept


def waterfall_one(sizes: Sequence[int], room: int) -> list[int]:
    """Equation (6) for one row: each segment keeps as many tokens as fit before the next one gets any."""
    kept = []
    for size in sizes:
        kept.append(min(size, room - sum(kept)))
    return kept


def pack_one(
    segments: Sequence[Sequence[int]],
    seq_length: int,
    start: int,
    end: int,
    padding: int,
    truncate: Callable = round_robin_one,
) -> Packed:
    """Equations (1) to (3) for one row: the definition everything else must match."""
    kept = truncate([len(tokens) for tokens in segments], room_for_tokens(seq_length, len(segments)))
    ids, types = [start], [0]
    for i, (tokens, count) in enumerate(zip(segments, kept)):
        ids += [*tokens[:count], end]
        types += [i] * (count + 1)
    missing = seq_length - len(ids)
    return Packed(
        np.array(ids + [padding] * missing),
        np.array([1] * len(ids) + [0] * missing),
        np.array(types + [0] * missing),
    )


def unpack_one(packed: Packed) -> list[list[int]]:
    """The segments of one row. Only its types and mask are used, so a segment may itself contain the ids of [SEP] and [PAD]."""
    used = packed.input_mask == 1
    ids, types = packed.input_word_ids[used][1:], packed.input_type_ids[used][1:]
    return [ids[types == i][:-1].tolist() for i in range(types.max() + 1)]


def room_for_tokens(seq_length: int, segments: int) -> int:
    """Equation (4).

    Raises:
        ValueError: if the special tokens alone do not fit.
    """
    if segments < 1 or seq_length < 1 + segments:
        raise ValueError(f"seq_length must be at least 1 + {segments}, for 1 or more segments. Received: seq_length={seq_length}")
    return seq_length - 1 - segments


def round_robin(sizes: Int[Array, "b _"], room: int) -> Int[Array, "b _"]:
    """Equation (5) for every row, without dealing.

    Σ_i min(size_i, x) is the least of all j of (sum of the j shortest) + (number − j) x, since it takes the smaller of the two
    for each segment. So it is within the room where one of these is, and the highest such x is the level.
    """
    count = sizes.shape[1]
    of_the_shortest = np.cumsum(np.sort(sizes, axis=1), axis=1) - np.sort(sizes, axis=1)
    level = ((room - of_the_shortest) // (count - np.arange(count))).max(axis=1, keepdims=True)
    kept = np.minimum(sizes, level)
    above = sizes > level
    return kept + (above & (np.cumsum(above, axis=1) <= room - kept.sum(axis=1, keepdims=True)))


def waterfall(sizes: Int[Array, "b _"], room: int) -> Int[Array, "b _"]:
    """Equation (6) for every row."""
    before = np.cumsum(sizes, axis=1) - sizes
    return np.clip(room - before, 0, sizes)


def bert_pack_inputs(
    segments: Sequence[Sequence[Sequence]],
    seq_length: int,
    start: int,
    end: int,
    padding: int,
    truncate: Callable = round_robin,
) -> Packed:
    """Equations (1) to (3) for every row at once.

    Args:
        segments: For each segment its rows. A row is a list of tokens, or of words that are lists of tokens.
        seq_length: Length of the result.
        start, end, padding: Ids of [CLS], [SEP] and [PAD].
        truncate: `round_robin` or `waterfall`.

    Returns:
        Three arrays `(b, seq_length)`.

    Raises:
        ValueError: if the special tokens alone do not fit.
    """
    rows = [[tokens_of(row) for row in segment] for segment in segments]
    sizes = np.array([[len(row) for row in segment] for segment in rows], int).reshape(len(rows), -1).T
    kept = truncate(sizes, room_for_tokens(seq_length, len(rows)))
    behind = 1 + np.cumsum(kept + 1, axis=1)  # the position after each segment's [SEP]

    t = np.arange(seq_length)
    mask = t < behind[:, -1:]
    types = np.where(mask, (t[:, None] >= behind[:, None, :]).sum(axis=-1), 0)
    ids = np.where(mask, end, padding)
    ids[:, 0] = start
    for i, segment in enumerate(rows):
        last = behind[:, i, None] - 1
        inside = (last - kept[:, i, None] <= t) & (t < last)
        ids[inside] = [token for row, count in zip(segment, kept[:, i]) for token in row[:count]]
    return Packed(ids, mask.astype(int), types)


def tokens_of(row: Sequence) -> list[int]:
    """The tokens of a row in one flat list, whether or not they are grouped into words."""
    return [token for word in row for token in (word if isinstance(word, (list, tuple)) else [word])]
