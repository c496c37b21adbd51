"""Kernel attention with a weight for every pair of query and key, for short sequences and for exact kernels (Keras 3).

Axes: `b` batch, `h` head, `t` query position, `s` key position, `d` key size, `e` value size; queries are `(b, h, t, d)`.
A structure is the logarithm of a factor that multiplies the kernel of each pair: `LOWEST` if the query must not see the key.
"""

import math

from keras import ops

from layers.common.sizes import in_whole
from layers.kernel_attention.features import LOWEST


def causal_structure(rows, columns, dtype, log_gate=None):
    """The structure of causal attention, with the product of the gates after s if any, `(1 or b, 1 or h, t, s)`."""
    earlier = ops.arange(0, columns)[None, :] <= ops.arange(0, rows)[:, None]
    if log_gate is None:
        return ops.where(earlier, ops.zeros((), dtype), LOWEST)[None, None]
    total = ops.cumsum(log_gate, axis=2)
    return ops.where(earlier, ops.expand_dims(total[:, :, :rows], -1) - ops.expand_dims(total, 2), LOWEST)


def window_structure(rows, columns, dtype, size, window, decay=None, left=False):
    """The structure of windowed attention, log decayⁿ for keys n < `window` chunks of `size` tokens back, `(1, 1, t, s)`."""
    before = in_whole(columns, size)[1] if left else 0
    query_chunk, key_chunk = ((ops.arange(0, n) + before) // size for n in (rows, columns))
    behind = query_chunk[:, None] - key_chunk[None, :]
    seen = ops.logical_and(behind >= 0, behind < window)
    return ops.where(seen, math.log(decay or 1.0) * ops.cast(behind, dtype), LOWEST)[None, None]


def pairs_of(exponents, structure=None, mask=None):
    """e^(exponent + structure), up to a factor for each query; 0 where structure or mask, `(b, 1, s)`, excludes the key."""
    if structure is not None:
        exponents = exponents + structure
    if mask is not None:
        exponents = ops.where(ops.expand_dims(mask, 2), exponents, LOWEST)
    pairs = ops.exp(exponents - ops.stop_gradient(ops.max(exponents, axis=-1, keepdims=True, initial=LOWEST)))
    return pairs if structure is None else ops.where(structure > LOWEST / 2, pairs, 0.0)


def divided(sums, least=None):
    """Sums divided by the sum of weights, their last column, but at least by `least`. Zeros for a query without keys."""
    sums, weights = ops.split(sums, [sums.shape[-1] - 1], axis=3)
    weights = weights if least is None else ops.maximum(weights, least)
    return sums / ops.where(weights == 0, 1.0, weights)
