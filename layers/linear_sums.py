"""Σ_s w_ts (φ(q_t)·φ(k_s)) u_s for every query, in time and memory that grow with the length and not with its square (Keras 3).

Axes: `b` batch, `h` head, `t` query position, `s` key position, `r` feature, `e` value size. Features are `(b, h, t, r)` and
`(b, h, s, r)`; what is summed is `u`, `(b, h, s, e)`, in which a key that must not count has a row of zeros. A state holds sums
Σ_s φ(k_s) u_sᵀ, `(b, h, r, e)`. Each function returns the sums for each query, `(b, h, t, e)`, and the state after the last key.
"""

from keras import ops

CHUNK = 128
"""Length of the pieces between which sums are carried; inside them there is a weight for each pair."""


def over_all(phi_q, phi_k, u, state=None):
    """Every query sees every key, and those of `state`."""
    sums = ops.matmul(ops.swapaxes(phi_k, 2, 3), u)
    state = sums if state is None else state + sums
    return ops.matmul(phi_q, state), state


def causal(phi_q, phi_k, u, log_gate=None, state=None):
    """Query t sees the keys s ≤ t, weighted by what the gates after them leave, Π_{j=s+1..t} g_j; and those of `state`.

    Args:
        phi_q, phi_k, u: As above, with as many queries as keys.
        log_gate: log g, `(b, h, s)`, or None where every gate is 1.
        state: The state after earlier keys, or None.
    """
    length = ops.shape(u)[2]
    size = min(CHUNK, u.shape[2] or CHUNK)
    phi_q, phi_k, u = (in_chunks(x, size) for x in (phi_q, phi_k, u))
    weights = ops.tril(ops.ones((size, size), u.dtype))
    scores = ops.matmul(phi_q, ops.swapaxes(phi_k, 3, 4))
    if log_gate is None:
        before, after = running(ops.matmul(ops.swapaxes(phi_k, 3, 4), u), state)
    else:
        total = ops.cumsum(in_chunks(log_gate[..., None], size), axis=3)
        end = total[..., -1:, :]
        weights = weights * ops.exp(ops.where(weights > 0, total - ops.swapaxes(total, 3, 4), 0.0))
        sums = ops.matmul(ops.swapaxes(phi_k * ops.exp(end - total), 3, 4), u)
        before, after = decaying(ops.exp(end), sums, state)
        phi_q = phi_q * ops.exp(total)
    result = ops.matmul(scores * weights, u) + ops.matmul(phi_q, before)
    return joined(result)[:, :, :length], after[:, :, -1]


def running(sums, state):
    """The sums of all chunks up to each, without it and with it. Shifted, never subtracted: nothing cancels."""
    start = ops.zeros_like(sums[:, :, :1]) if state is None else state[:, :, None]
    after = ops.cumsum(sums, axis=2) + start
    return ops.concatenate([start, after[:, :, :-1]], axis=2), after


def decaying(kept, sums, state):
    """S_n = kept_n S_{n−1} + sums_n over the chunks, without and with the last; by doubling where their number is known."""
    start = ops.zeros_like(sums[:, :, :1]) if state is None else state[:, :, None]
    after, count = ops.concatenate([start, sums], axis=2), sums.shape[2]
    kept = ops.concatenate([ops.ones_like(kept[:, :, :1]), kept], axis=2)
    if count is None:  # a loop, whose gradient XLA could not compile; but it does not compile unknown sizes anyway
        # In one tensor, since Keras cannot scan several of unknown length: what is kept, in a row above the sums.
        rows = ops.concatenate([ops.broadcast_to(kept, ops.shape(after[:, :, :, :1])), after], axis=3)

        def step(carry, chunk):
            carry = chunk[:, :, :1, :1] * carry + chunk[:, :, 1:]
            return carry, carry

        _, after = ops.scan(step, ops.zeros_like(after[:, :, 0]), ops.moveaxis(rows, 2, 0))
        after = ops.moveaxis(after, 0, 2)
    else:
        distance = 1
        while distance <= count:
            after = after + kept * shifted(after, distance)
            kept = kept * shifted(kept, distance)
            distance *= 2
    return after[:, :, :-1], after[:, :, 1:]


def windowed(phi_q, phi_k, u, size, window, decay=None, left=False, state=None):
    """Query t sees the keys of its own chunk of `size` tokens and of the `window` − 1 chunks before, n chunks back with decayⁿ.

    Args:
        phi_q, phi_k, u: As above, with as many queries as keys.
        left: Whether the first chunk, and not the last one, is short where the length is no multiple of `size`.
        state: Sums over each of the `window` − 1 chunks before, `(b, h, window − 1, r, e)`, the latest last; or None.

    Returns:
        The sums `(b, h, t, e)`, and the state after the last chunk (None without a state).
    """
    length, decay = ops.shape(u)[2], 1.0 if decay is None else decay
    before = missing(length, size) if left else 0
    if left:
        phi_q, phi_k, u = (ops.concatenate([zeros_for(x, size)[:, :, :before], x], axis=2) for x in (phi_q, phi_k, u))
    reach = size * max(window - 1, -(-64 // size))
    if state is None and 2 * size * reach < phi_k.shape[3] * u.shape[3]:
        result = banded(phi_q, phi_k, u, size, window, decay, reach)
    else:
        phi_q, phi_k, u = (in_chunks(x, size) for x in (phi_q, phi_k, u))
        sums = ops.matmul(ops.swapaxes(phi_k, 3, 4), u)
        if state is None:
            seen = window_sum(sums, window, decay)
        else:
            sums = ops.concatenate([state, sums], axis=2)
            seen = window_sum(sums, window, decay)[:, :, window - 1 :]
            last = sums[:, :, ops.shape(sums)[2] - (window - 1) :]
            state = ops.reshape(last, (*ops.shape(sums)[:2], window - 1, *ops.shape(sums)[3:]))  # for tracing: a known size
        result = joined(ops.matmul(phi_q, seen))
    return result[:, :, before : before + length], state


def window_sum(sums, window, decay):
    """Σ_{n < window} decayⁿ sums[c − n], by doubling: no sum is taken away again, so nothing cancels."""
    result, taken, size = None, 0, 1
    while True:
        if window & size:
            part = decay**taken * shifted(sums, taken)
            result, taken = part if result is None else result + part, taken + size
        if taken == window:
            return result
        sums, size = sums + decay**size * shifted(sums, size), 2 * size


def banded(phi_q, phi_k, u, size, window, decay, reach):
    """The same, with a weight for each pair in pieces of `reach` tokens: small chunks have larger sums than tokens."""
    phi_q, phi_k, u = (in_chunks(x, reach) for x in (phi_q, phi_k, u))
    chunk = ops.arange(reach) // size
    result = 0.0
    for back, (keys, values) in enumerate(((phi_k, u), (shifted(phi_k, 1), shifted(u, 1)))):
        weights = window_weights(chunk[:, None] + back * (reach // size), chunk[None, :], window, decay, u.dtype)
        result = result + ops.matmul(ops.matmul(phi_q, ops.swapaxes(keys, 3, 4)) * weights, values)
    return joined(result)


def window_weights(query_chunk, key_chunk, window, decay, dtype):
    """decayⁿ where the key's chunk lies n < `window` chunks before the query's, 0 elsewhere."""
    behind = query_chunk - key_chunk
    weights = ops.power(ops.convert_to_tensor(decay, dtype), ops.cast(ops.maximum(behind, 0), dtype))
    return ops.where(ops.logical_and(behind >= 0, behind < window), weights, 0.0)


def shifted(x, distance):
    """`x` moved on by `distance` along axis 2, with zeros coming in; none is moved by more than there are."""
    if distance == 0:
        return x
    zeros = ops.zeros_like(x[:, :, :distance])
    return ops.concatenate([zeros, x[:, :, :-distance]], axis=2)


def in_chunks(x, size):
    """`(b, h, s, r)` as `(b, h, chunks, size, r)`, the last chunk filled up with zeros."""
    b, h, s, r = ops.shape(x)
    fill = missing(s, size)
    if not isinstance(fill, int) or fill:
        x = ops.concatenate([x, zeros_for(x, size)[:, :, :fill]], axis=2)
    return ops.reshape(x, (b, h, (s + fill) // size, size, r))


def missing(length, size):
    """How many tokens a length lacks to be a multiple of `size`."""
    return -length % size


def zeros_for(x, size):
    b, h, _, r = ops.shape(x)
    return ops.zeros((b, h, size, r), x.dtype)


def joined(x):
    """Undo `in_chunks`, but for what filled up the last chunk."""
    b, h, count, size, e = ops.shape(x)
    return ops.reshape(x, (b, h, count * size, e))
