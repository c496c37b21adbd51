"""Kernel attention with a weight for every pair of query and key, for short sequences and for exact kernels (Keras 3).

Axes: `b` batch, `h` head, `t` query position, `s` key position, `d` key size, `e` value size; queries are `(b, h, t, d)`.
"""

from keras import ops

from layers.kernel_features import LOWEST
from layers.linear_sums import missing, window_weights


def causal_structure(rows, columns, dtype, log_gate=None):
    """What is left of key s for query t: 1 up to t, or the product of the gates after s; `(1 or b, 1 or h, t, s)`."""
    earlier = ops.arange(columns)[None, :] <= ops.arange(rows)[:, None]
    if log_gate is None:
        return ops.cast(earlier, dtype)[None, None]
    total = ops.cumsum(log_gate, axis=2)
    kept = total[:, :, :rows, None] - total[:, :, None, :]
    return ops.where(earlier, ops.exp(ops.where(earlier, kept, 0.0)), 0.0)


def window_structure(rows, columns, dtype, size, window, decay=None, left=False):
    """decayⁿ for keys n < `window` chunks of `size` tokens back, else 0; `(1, 1, t, s)`."""
    before = missing(columns, size) if left else 0
    query_chunk, key_chunk = ((ops.arange(n) + before) // size for n in (rows, columns))
    decay = 1.0 if decay is None else decay
    return window_weights(query_chunk[:, None], key_chunk[None, :], window, decay, dtype)[None, None]


def pairs_of(exponents, structure=None, mask=None):
    """e^exponent, times the structure, but for a factor per query; 0 where structure or mask, `(b, 1, s)`, forbid."""
    allowed = None if structure is None else structure > 0
    if mask is not None:
        allowed = mask[:, :, None] if allowed is None else ops.logical_and(allowed, mask[:, :, None])
    if allowed is not None:
        exponents = ops.where(allowed, exponents, LOWEST)
    pairs = ops.exp(exponents - ops.stop_gradient(ops.max(exponents, axis=-1, keepdims=True)))
    return pairs if structure is None else pairs * structure
