"""The sums of `linear_sums.py` for features that are exponentials, with exponents of any size (Keras 3).

The sums are Σ_s w_ts (Σ_r e^{a_tr + b_sr}) u_s, with exponents `a`, `(b, h, t, r)`, of queries and `b`, `(b, h, s, r)`, of keys.
To avoid overflow and underflow, a maximum is subtracted from the exponents. It must be a maximum over only those keys that the
query sees: then the largest term of each query is 1, and large exponents of later keys cannot affect earlier queries.

A summary of keys is the pair (Σ_s e^{b_sr − peak_r} u_s, peak_r), `(…, r, e)` and `(…, r, 1)`. A reading of queries is the pair
(Σ_s … u_s, top), `(…, t, e)` and `(…, t, 1)`, whose sums lack the factor e^top, which cancels in a quotient. Masked keys have
zeros in `u` and exponents `LOWEST`. `over_all`, `causal` and `windowed` return the sums for each query, `(b, h, t, e)`, and the
summary after the last key.
"""

import math

from keras import ops

from layers.common.sizes import in_whole, known
from layers.kernel_attention.features import LOWEST
from layers.kernel_attention.linear_sums import (
    CHUNK,
    in_chunks,
    joined,
    latest,
    of_no_chunk,
    scanned,
    shifted,
    window_sum,
)


def over_all(a, b, u, state=None):
    """Every query sees every key, and the keys of `state`."""
    state = summary(b, u) if state is None else merged(state, summary(b, u))
    return reading(a, state)[0], state


def causal(a, b, u, log_gate=None, state=None):
    """Query t sees the keys s ≤ t, weighted by the product of the gates after s, Π_{j=s+1..t} g_j, and the keys of `state`."""
    length = ops.shape(u)[2]
    size = min(CHUNK, power_of_two(known(u.shape[2]) or CHUNK))
    a, b, u = in_chunks(a, size), in_chunks(b, size, LOWEST), in_chunks(u, size)
    kept = ops.zeros_like(u[:, :, :, :1, :1])
    if log_gate is not None:
        total = ops.cumsum(in_chunks(ops.expand_dims(log_gate, -1), size), axis=3)
        a, b, kept = a + total, b - total, total[:, :, :, -1:]
    sums = carried(kept, summary(b + kept, u), state)
    inside = tuple(x[:, :, :, :, 0] for x in of_earlier(*(ops.expand_dims(x, 4) for x in (a, b, u))))
    result, _ = merged(reading(a, tuple(x[:, :, :-1] for x in sums)), inside)
    return joined(result)[:, :, :length], tuple(x[:, :, -1] for x in sums)


def windowed(a, b, u, size, window, decay=None, left=False, state=None):
    """Query t sees its own chunk of `size` tokens and the `window` − 1 chunks before, with weight decayⁿ for n chunks back.

    The arguments are those of `linear_sums.windowed`, but `state` is the summaries of the `window` − 1 chunks before.
    """
    length, fading = ops.shape(u)[2], math.log(decay or 1.0)
    before = in_whole(length, size)[1] if left else 0
    a, b, u = in_chunks(a, size, 0.0, left), in_chunks(b, size, LOWEST, left), in_chunks(u, size, 0.0, left)
    if state is None and 2 * size * size * window < a.shape[4] * u.shape[4]:
        sums = banded(a, b, u, window, fading)
    else:
        chunks, first = summary(b, u), 0
        if state is not None:
            first = window - 1
            chunks = tuple(ops.concatenate(pair, axis=2) for pair in zip(state, chunks))
            state = tuple(latest(x, first) for x in chunks)

        def moved(chunks, distance):
            return shifted(chunks[0], distance), shifted(chunks[1], distance, LOWEST) + distance * fading

        seen = window_sum(chunks, window, moved, merged)
        sums, _ = reading(a, tuple(x[:, :, first:] for x in seen))
    return joined(sums)[:, :, before : before + length], state


def banded(a, b, u, window, fading):
    """The same sums, from a weight for each pair, for small chunks, whose sums would be larger than the chunks themselves.

    The chunks form blocks of `window` chunks. A query sees its own block up to its own chunk, and in the block before, the chunks
    after this position. The latter sums are computed like the former, in reverse order and without the query's own chunk.
    """
    count = ops.shape(u)[2]
    a, b, u = in_chunks(a, window), in_chunks(b, window, LOWEST), in_chunks(u, window)
    back = fading * ops.cast(ops.arange(0, window), u.dtype)[:, None, None]
    own = of_earlier(a + back, b - back, u)
    turned = (a + back + window * fading, shifted(b, 1, LOWEST) - back, shifted(u, 1))
    rest = of_earlier(*(ops.flip(x, axis=3) for x in turned), own=False)
    sums, _ = merged(own, tuple(ops.flip(x, axis=3) for x in rest))
    return joined(sums)[:, :, :count]


def of_earlier(a, b, u, own=True):
    """The reading of queries `(b, h, n, pieces, size, ·)` from all earlier pieces in row n and, with `own`, their own piece.

    Divide and conquer: the second half of the queries sees the whole first half of the keys, so that one peak serves all of
    them; then the same inside each half. The loop runs bottom-up, and merges two pieces into one until one is left.
    """
    count, size = a.shape[3], a.shape[4]
    whole = power_of_two(count)
    a, b, u = (filled(x, whole, fill) for x, fill in ((a, 0.0), (b, LOWEST), (u, 0.0)))
    result = by_pairs(a, b, u) if own else (ops.zeros_like(u), ops.full_like(u[..., :1], LOWEST))
    pieces = whole
    while pieces > 1:
        a, b, u, *result = (in_twos(x) for x in (a, b, u, *result))
        later = by_pairs(a[:, :, :, :, 1], b[:, :, :, :, 0], u[:, :, :, :, 0])
        later = merged(tuple(x[:, :, :, :, 1] for x in result), later)
        result = (ops.stack([x[:, :, :, :, 0], y], axis=4) for x, y in zip(result, later))
        # Reshape the arrays of the previous step, so that gradients are summed step by step, not all at the end.
        a, b, u, *result = (joined_twos(x) for x in (a, b, u, *result))
        pieces //= 2
    return tuple(ops.reshape(x, (*ops.shape(x)[:3], whole, size, x.shape[-1]))[:, :, :, :count] for x in result)


def by_pairs(a, b, u):
    """The reading of queries that see every key, from a weight for each pair."""
    peak = peak_of(b)
    phi_q, top = taken_out(a + ops.swapaxes(peak, -1, -2))
    phi_k = ops.exp(b - ops.swapaxes(peak, -1, -2))
    return ops.matmul(ops.matmul(phi_q, ops.swapaxes(phi_k, -1, -2)), u), top


def reading(a, keys):
    """The reading of queries that see all keys of the summary `keys`."""
    phi, top = taken_out(a + ops.swapaxes(keys[1], -1, -2))
    return ops.matmul(phi, keys[0]), top


def summary(b, u):
    """The summary of keys."""
    peak = peak_of(b)
    return ops.matmul(ops.exp(ops.swapaxes(b, -1, -2) - peak), u), peak


def peak_of(b):
    """The largest exponent of each feature, `(…, r, 1)`."""
    return ops.stop_gradient(ops.expand_dims(ops.max(b, axis=-2, initial=LOWEST), -1))


def taken_out(exponents):
    """e^(exponent − top), and top, the largest exponent of each row."""
    top = ops.stop_gradient(ops.max(exponents, axis=-1, keepdims=True, initial=LOWEST))
    return ops.exp(exponents - top), top


def merged(one, other):
    """Two summaries merged into one, or two readings."""
    top = ops.stop_gradient(ops.maximum(one[1], other[1]))
    return one[0] * ops.exp(one[1] - top) + other[0] * ops.exp(other[1] - top), top


def carried(kept, chunks, state):
    """The summaries of the first 0, 1, …, n chunks, each with `state`. A chunk decays the keys before it by the factor e^kept."""
    if state is None:
        state = of_no_chunk(chunks[0]), of_no_chunk(chunks[1], LOWEST)
    kept = ops.broadcast_to(kept, ops.shape(chunks[1]))

    def step(before, chunk):
        return before[0] + chunk[0], *merged((before[1], before[2] + chunk[0]), chunk[1:])

    return scanned(step, (ops.zeros_like(state[1]), *state), (kept, *chunks))[1:]


def in_twos(x):
    """`(b, h, n, pieces, size, ·)` as `(b, h, n, pieces / 2, 2, size, ·)`."""
    b, h, n, pieces, size, width = ops.shape(x)
    return ops.reshape(x, (b, h, n, pieces // 2, 2, size, width))


def joined_twos(x):
    """Undo `in_twos`, with each pair of pieces joined into one."""
    b, h, n, pairs, _, size, width = ops.shape(x)
    return ops.reshape(x, (b, h, n, pairs, 2 * size, width))


def filled(x, pieces, fill):
    """`x`, padded on axis 3 to `pieces`."""
    shape = (*ops.shape(x)[:3], pieces - x.shape[3], *ops.shape(x)[4:])
    return ops.concatenate([x, ops.full(shape, fill, x.dtype)], axis=3) if pieces > x.shape[3] else x


def power_of_two(n):
    """The least power of two that is at least n."""
    return 1 << (n - 1).bit_length()
