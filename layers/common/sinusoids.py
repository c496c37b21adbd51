"""Sines and cosines of positions, accurate to the last digits on every backend."""

import numpy as np
from keras import ops

from layers.common.positions import positions_from, value_of
from layers.common.sizes import known

BASE = 256
LARGEST = 2**31  # positions are int32


def timescales(count, steps, least, most):
    """`count` timescales that grow geometrically from `least`, so that they reach `most` after `steps` steps."""
    return least * (most / least) ** (np.arange(count) / steps)


def sines_and_cosines(length, omega, dtype, offset=0):
    """sin ωt and cos ωt for `length` positions t from `offset` on, and every ω, each `(length, frequencies)`.

    If `offset` has no value during tracing, positions below 0 get zeros.

    The angle ω t is never rounded: in float32 it would lose a digit whenever t gains one, and Keras on JAX computes sines in
    float32 even for float64. Instead, a position is written in base 256, the sine of each digit's share of the angle comes from a
    table that NumPy computes in float64, and equation (4) of `reference/positional_embedding.py` combines the digits.

    Args:
        length: An integer, or a tensor if it is not known yet.
        omega: Array of frequencies.
        dtype: "float64" or "float32".
        offset: An integer, or a tensor if it is not known yet.
    """
    first = value_of(offset)
    t = positions_from(offset, length)
    longest = LARGEST if None in (first, known(length)) else first + length
    sin = cos = None
    step = 1
    while step < longest or sin is None:
        digit = ops.mod(ops.floor_divide(t, step), BASE)
        angles = np.outer(step * np.arange(BASE), omega)
        s, c = (ops.take(ops.convert_to_tensor(table, dtype), digit, axis=0) for table in (np.sin(angles), np.cos(angles)))
        sin, cos = (s, c) if sin is None else (sin * c + cos * s, cos * c - sin * s)
        step *= BASE
    return (
        (sin, cos) if first is not None else tuple(ops.where(t[:, None] >= 0, wave, ops.zeros_like(wave)) for wave in (sin, cos))
    )
