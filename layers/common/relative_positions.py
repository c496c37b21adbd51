"""The terms of relative attention's scores other than queries and keys: checks, and the shift from distances to keys."""

from typing import NamedTuple

import keras
from keras import ops

from layers.common.checks import check_broadcastable, check_needs, check_shape
from layers.common.sizes import known_shape
from layers.common.slices import section


class Terms(NamedTuple):
    """As in `reference/relative_attention.py`. `encoded` is `(b or 1, h, d, l)`, the others are as passed to the layers."""

    u: object
    v: object
    encoded: object
    b: object
    segment_encoding: object
    segment_matrix: object


def relative_shift(x, s):
    """Equation (4) of `reference/relative_attention.py`: scores by row, `(b, h, t, l)`, as scores by key, `(b, h, t, s)`.

    Drop the first t numbers, and cut the rest into pieces of l − 1: then row j + t − i of query i is at position j of piece i.
    Where this row does not exist, the result has a score of another query: `has_encoding` is False there.
    """
    b, h, t, rows = ops.shape(x)
    x = section(ops.reshape(x, (b, h, t * rows)), t, t * rows, axis=2)
    return section(ops.reshape(x, (b, h, t, rows - 1)), 0, s, axis=3)


def has_encoding(t, s, rows):
    """Boolean `(t, s)`, True where the distance between query and key has a row; None if it always has."""
    if None not in known_shape((t, s, rows)) and rows == t + s:
        return None
    return ops.arange(0, s)[None, :] + t - ops.arange(0, t)[:, None] < rows


def has_open_sizes(arguments):
    """Whether a symbolic tensor in `arguments` has an axis of unknown size, other than the batch axis."""
    return any(None in x.shape[1:] for x in keras.tree.flatten(arguments) if isinstance(x, keras.KerasTensor))


def projected(dense, encoding, batch, t, s):
    """The projected encodings W R of equation (1) of `reference/relative_attention.py`, `(b or 1, h, d, l)`.

    `dense` is the linear map, or None in a layer that was built without encodings.
    """
    if dense is None:
        raise ValueError(
            "relative_position_encoding must be given in the first call too, which builds its weight. "
            f"Received: relative_position_encoding of shape {tuple(encoding.shape)}, in a layer built without it"
        )
    examples = 1 if encoding.shape[0] == 1 else batch
    check_shape("relative_position_encoding", encoding, (examples, None, dense.kernel.shape[0]))
    check_rows(t, s, encoding.shape[1])
    return ops.transpose(dense(encoding), (0, 2, 3, 1))


def check_terms(terms, positions, batch, t, s, h, d):
    """Raise a ValueError unless biases and segments have the right shapes, and the arguments that they require are given.

    Args:
        terms: `Terms`. Their `encoded` is ignored.
        positions: Whether encodings are given.
        batch, t, s, h, d: Expected sizes. None is unknown.
    """
    u, v, _, b, encoding, matrix = terms
    for name, bias in {"content": u, "positional": v, "segment": b}.items():
        check_shape(f"{name}_attention_bias", bias, (h, d))
    check_needs("relative_position_encoding", positions, positional_attention_bias=v)
    check_needs("segment_encoding", encoding is not None, segment_matrix=matrix)
    check_needs("segment_matrix", matrix is not None, segment_encoding=encoding)
    check_shape("segment_encoding", encoding, (2, h, d))
    if matrix is not None:
        check_broadcastable("segment_matrix", matrix.shape, (batch, t, s))


def check_rows(t, s, rows):
    """Raise a ValueError unless `rows` covers all distances, or all distances to earlier keys. A size of None is unknown."""
    if None not in known_shape((t, s, rows)) and rows not in (t + s, s + 1):
        raise ValueError(
            f"relative_position_encoding must have a row for each distance: t + s = {t + s} rows for {s}, …, {1 - t}, "
            f"or s + 1 = {s + 1} rows for {s}, …, 0, which is causal; s = {s} includes the state. Received: {rows} rows"
        )
