"""Σ_s w_ts (φ(q_t)·φ(k_s)) u_s for every query, in time and memory linear in the length (Keras 3).

Axes: `b` batch, `h` head, `t` query position, `s` key position, `r` feature, `e` value size. Features are `(b, h, t, r)` and
`(b, h, s, r)`. The summands are `u`, `(b, h, s, e)`, with zeros for masked keys. A state is the sum Σ_s φ(k_s) u_sᵀ,
`(b, h, r, e)`. `over_all`, `causal` and `windowed` return the sums for each query, `(b, h, t, e)`, and the state
after the last key.
"""

import numpy as np
from keras import ops

from layers.common.sizes import in_whole, known
from layers.common.slices import section

CHUNK = 128
"""Length of the chunks between which sums are carried. Inside a chunk, a weight is computed for each pair."""


def over_all(phi_q, phi_k, u, state=None):
    """Every query sees every key, and the keys of `state`."""
    sums = ops.matmul(ops.swapaxes(phi_k, 2, 3), u)
    state = sums if state is None else state + sums
    return ops.matmul(phi_q, state), state


def causal(phi_q, phi_k, u, log_gate=None, state=None):
    """Query t sees the keys s ≤ t, weighted by the product of the gates after s, Π_{j=s+1..t} g_j, and the keys of `state`.

    Args:
        phi_q, phi_k, u: As above, with as many queries as keys.
        log_gate: log g, `(b, h, s)`, or None if every gate is 1.
        state: The state after earlier keys, or None.
    """
    length = ops.shape(u)[2]
    size = min(CHUNK, known(u.shape[2]) or CHUNK)
    phi_q, phi_k, u = (in_chunks(x, size) for x in (phi_q, phi_k, u))
    weights = ops.tril(ops.ones((size, size), u.dtype))
    scores = ops.matmul(phi_q, ops.swapaxes(phi_k, 3, 4))
    if log_gate is None:
        sums = running(ops.matmul(ops.swapaxes(phi_k, 3, 4), u), state)
    else:
        total = ops.cumsum(in_chunks(ops.expand_dims(log_gate, -1), size), axis=3)
        end = total[..., -1:, :]
        weights = weights * ops.exp(ops.where(weights > 0, total - ops.swapaxes(total, 3, 4), 0.0))
        sums = decaying(ops.exp(end), ops.matmul(ops.swapaxes(phi_k * ops.exp(end - total), 3, 4), u), state)
        phi_q = phi_q * ops.exp(total)
    result = ops.matmul(scores * weights, u) + ops.matmul(phi_q, sums[:, :, :-1])
    return joined(result)[:, :, :length], sums[:, :, -1]


def running(sums, state):
    """The sums over the first 0, 1, …, n chunks, each with `state`. Without subtraction, so without cancellation errors."""
    start = of_no_chunk(sums) if state is None else state
    return ops.concatenate([start[:, :, None], ops.cumsum(sums, axis=2) + start[:, :, None]], axis=2)


def decaying(kept, sums, state):
    """The same sums with gates: S_n = kept_n S_{n−1} + sums_n over the chunks."""
    start = of_no_chunk(sums) if state is None else state

    def step(before, chunk):
        return before[0] * chunk[0], before[1] * chunk[0] + chunk[1]

    return scanned(step, (of_no_chunk(kept, 1.0), start), (kept, sums))[1]


def of_no_chunk(sums, fill=0.0):
    """The value before the first chunk of `sums`, `(b, h, chunks, …)`, which may have no chunks: `fill` everywhere."""
    return ops.full((*ops.shape(sums)[:2], *ops.shape(sums)[3:]), fill, sums.dtype)


def scanned(step, first, rows):
    """[first, step(first, rows[0]), step(step(first, rows[0]), rows[1]), …] for an associative step.

    Args:
        step: Function of two tuples, the earlier one first.
        first: Tuple of `(b, h, r or 1, ·)`.
        rows: Tuple of `(b, h, n, r or 1, ·)`.
    """
    if known(rows[0].shape[2]) is None:  # XLA cannot compile the gradient of a loop, but it cannot compile unknown sizes either
        return looped(step, first, rows)
    return scanned_by_pairs(step, tuple(ops.concatenate([x[:, :, None], y], axis=2) for x, y in zip(first, rows)))


def scanned_by_pairs(step, rows):
    """The same, with `first` as the first row: combine pairs of rows, scan half as many rows, then fill in the rows between."""
    count = rows[0].shape[2]
    if count == 1:
        return rows
    even, odd = (tuple(x[:, :, start::2] for x in rows) for start in (0, 1))
    odd = scanned_by_pairs(step, step(tuple(x[:, :, : count // 2] for x in even), odd))
    later = step(tuple(x[:, :, : (count - 1) // 2] for x in odd), tuple(x[:, :, 1:] for x in even))
    even = tuple(ops.concatenate([x[:, :, :1], y], axis=2) for x, y in zip(even, later))
    both = tuple(joined(ops.stack([x[:, :, : count // 2], y], axis=3)) for x, y in zip(even, odd))
    return both if count % 2 == 0 else tuple(ops.concatenate([x, y[:, :, -1:]], axis=2) for x, y in zip(both, even))


def looped(step, first, rows):
    """The same, row after row, with the parts packed into one tensor, because Keras cannot scan several of unknown length."""
    height = ops.shape(rows[-1])[3]
    ends = np.cumsum([x.shape[-1] for x in rows])[:-1].tolist()

    def packed(parts):
        return ops.concatenate([ops.repeat(x, height, axis=-2) if x.shape[-2] == 1 else x for x in parts], axis=-1)

    def one(carry, row):
        carry = packed(step(ops.split(carry, ends, axis=-1), ops.split(row, ends, axis=-1)))
        return carry, carry

    start = packed(first)
    _, after = ops.scan(one, start, ops.moveaxis(packed(rows), 2, 0))
    return ops.split(ops.concatenate([start[:, :, None], ops.moveaxis(after, 0, 2)], axis=2), ends, axis=-1)


def windowed(phi_q, phi_k, u, size, window, decay=None, left=False, state=None):
    """Query t sees its own chunk of `size` tokens and the `window` − 1 chunks before, with weight decayⁿ for n chunks back.

    Args:
        phi_q, phi_k, u: As above, with as many queries as keys.
        size: Number of tokens in a chunk.
        window: Number of chunks that a query sees.
        decay: Factor for each chunk further back, or None for 1.
        left: Whether the first chunk, instead of the last, is shorter if `size` does not divide the length.
        state: Sums over each of the `window` − 1 chunks before, `(b, h, window − 1, r, e)`, the latest last; or None.

    Returns:
        The sums `(b, h, t, e)`, and the state after the last chunk (None without a state).
    """
    length, decay = ops.shape(u)[2], 1.0 if decay is None else decay
    before = in_whole(length, size)[1] if left else 0
    phi_q, phi_k, u = (in_chunks(x, size, left=left) for x in (phi_q, phi_k, u))
    reach = size * max(window - 1, -(-64 // size))
    if state is None and 2 * size * reach < phi_k.shape[4] * u.shape[4]:
        result = banded(*(joined(x) for x in (phi_q, phi_k, u)), size, window, decay, reach)
    else:
        sums, first = ops.matmul(ops.swapaxes(phi_k, 3, 4), u), 0
        if state is not None:
            sums, first = ops.concatenate([state, sums], axis=2), window - 1
            state = latest(sums, first)
        seen = window_sum(sums, window, lambda x, distance: decay**distance * shifted(x, distance), ops.add)
        result = joined(ops.matmul(phi_q, seen[:, :, first:]))
    return result[:, :, before : before + length], state


def latest(x, count):
    """The last `count` entries of axis 2. The result has a known size even if axis 2 does not."""
    return ops.reshape(x[:, :, ops.shape(x)[2] - count :], (*ops.shape(x)[:2], count, *ops.shape(x)[3:]))


def window_sum(sums, window, moved, add):
    """Σ_{n < window} moved(sums, n), by doubling. Without subtraction, so without cancellation errors."""
    result, taken, size = None, 0, 1
    while True:
        if window & size:
            part = moved(sums, taken)
            result, taken = part if result is None else add(result, part), taken + size
        if taken == window:
            return result
        sums, size = add(sums, moved(sums, size)), 2 * size


def banded(phi_q, phi_k, u, size, window, decay, reach):
    """The same sums, from a weight for each pair in pieces of `reach` tokens, for chunks smaller than their sums."""
    phi_q, phi_k, u = (in_chunks(x, reach) for x in (phi_q, phi_k, u))
    chunk = ops.arange(0, reach) // size
    result = 0.0
    for back, (keys, values) in enumerate(((phi_k, u), (shifted(phi_k, 1), shifted(u, 1)))):
        weights = window_weights(chunk[:, None] + back * (reach // size), chunk[None, :], window, decay, u.dtype)
        result = result + ops.matmul(ops.matmul(phi_q, ops.swapaxes(keys, 3, 4)) * weights, values)
    return joined(result)


def window_weights(query_chunk, key_chunk, window, decay, dtype):
    """decayⁿ if the key's chunk is n < `window` chunks before the query's chunk, else 0."""
    behind = query_chunk - key_chunk
    weights = ops.power(ops.convert_to_tensor(decay, dtype), ops.cast(ops.maximum(behind, 0), dtype))
    return ops.where(ops.logical_and(behind >= 0, behind < window), weights, 0.0)


def shifted(x, distance, fill=0.0):
    """`x` shifted by `distance` along axis 2, with `fill` at the start. `distance` may exceed the size of the axis."""
    if distance == 0:
        return x
    count = ops.shape(x)[2]
    if known(count) is not None:
        return ops.concatenate([ops.full_like(x[:, :, :distance], fill), x[:, :, :-distance]], axis=2)
    start = ops.full((*ops.shape(x)[:2], distance, *ops.shape(x)[3:]), fill, x.dtype)
    return section(ops.concatenate([start, x], axis=2), 0, count, axis=2)


def in_chunks(x, size, fill=0.0, left=False):
    """`(b, h, s, …)` as `(b, h, chunks, size, …)`, with `fill` as padding at the end, or with `left` at the start."""
    b, h, s, *rest = ops.shape(x)
    count, lacking = in_whole(s, size)
    if known(lacking) != 0:
        more = ops.full((b, h, size, *rest), fill, x.dtype)[:, :, :lacking]
        x = ops.concatenate([more, x] if left else [x, more], axis=2)
    return ops.reshape(x, (b, h, count, size, *rest))


def joined(x):
    """Undo `in_chunks`, except for the padding."""
    b, h, count, size, *rest = ops.shape(x)
    return ops.reshape(x, (b, h, count * size, *rest))
