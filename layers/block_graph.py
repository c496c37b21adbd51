"""Sequences in blocks, and BigBird's graph: which blocks of keys each block of queries sees.

A length may be a tensor, known only when the program runs.
"""

from keras import ops


def block_count(length, block_size):
    """Blocks of a sequence; the last one may be shorter."""
    return (length + block_size - 1) // block_size


def into_blocks(x, block_size, missing):
    """`(b, t, h, …)` as `(b, h, n, block, …)`, with `missing` zeros, or False, at the end."""
    if not (isinstance(missing, int) and missing == 0):
        x = ops.pad(x, ((0, 0), (0, missing), (0, 0), (0, 0)))
    b, _, h, size = ops.shape(x)
    return ops.reshape(ops.transpose(x, (0, 2, 1, 3)), (b, h, -1, block_size, size))


def gather_blocks(x, blocks):
    """The blocks `(h, rows, k)` of `x`, `(b, h, n, block, …)`, those of a row beside each other: `(b, h, rows, k · block, …)`."""
    b, h, n, w, size = ops.shape(x)
    of_head = n * ops.arange(h, dtype="int32")[:, None, None]
    x = ops.take(ops.reshape(x, (b, h * n, w, size)), ops.reshape(blocks + of_head, (-1,)), axis=1)
    return ops.reshape(x, (b, h, ops.shape(blocks)[1], blocks.shape[2] * w, size))


def seen_blocks(draws, n):
    """Equation (2) of `reference/bigbird_attention.py`, for rows 1 to n − 2 of n blocks.

    Args:
        draws: Integers of shape `(h, rows, r)`, at least 0.
        n: Number of blocks; an integer, or a tensor.

    Returns:
        The blocks that a row sees, and whether they count, both `(h, n − 2, 5 + r)`. A block that stands in a row twice counts
        once; and where n is at most 5 + r, each of the n blocks does.
    """
    h, rows, r = draws.shape
    i = 1 + ops.arange(n - 2, dtype="int32")[None, :, None]
    fixed = ops.concatenate([ops.zeros_like(i), i - 1, i, i + 1, ops.zeros_like(i) + (n - 1)], axis=-1)
    is_new = ops.concatenate([i > 0, i > 1, i > 0, i < n - 2, i > 0], axis=-1)
    sizes = (h, ops.shape(i)[1], 5)
    drawn = random_blocks(ops.take(draws, i[0, :, 0] % rows, axis=1), i, n)
    seen = ops.concatenate([ops.broadcast_to(fixed, sizes), drawn], axis=-1)
    counts = ops.concatenate([ops.broadcast_to(is_new, sizes), drawn >= 0], axis=-1)
    if isinstance(n, int) and n > 5 + r:
        return seen, counts
    everything = ops.broadcast_to(ops.arange(5 + r, dtype="int32"), ops.shape(seen))
    is_short = n <= 5 + r
    seen = ops.where(is_short, ops.minimum(everything, n - 1), seen)
    return seen, ops.where(is_short, everything < n, counts)


def random_blocks(draws, i, n):
    """R_i of equation (2): `draws` numbers, `(h, n − 2, r)`, as blocks that row i does not see anyway, and none twice.

    The reference takes them out of a list, one by one. Here the number that the k-th draw has among those left becomes its
    number among all, from the last draw to the first: each earlier one that is not above it pushes it up by one.
    """
    r = draws.shape[-1]
    start, stop = ops.maximum(i - 1, 1), ops.minimum(i + 2, n - 1)  # the window, without global blocks
    left = n - 2 - (stop - start) - ops.arange(r, dtype="int32")
    chosen = draws % ops.maximum(left, 1)
    for k in reversed(range(r - 1)):
        later = chosen[..., k + 1 :]
        later = later + ops.cast(later >= chosen[..., k : k + 1], "int32")
        chosen = ops.concatenate([chosen[..., : k + 1], later], axis=-1)
    chosen = chosen + 1  # block 0 is global
    return chosen + ops.where(chosen >= start, stop - start, 0)
