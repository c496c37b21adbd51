"""Sequences in blocks, and BigBird's graph: which blocks of keys each block of queries sees.

A row is a block of queries. Lengths and numbers of blocks may be unknown until the layer runs.
"""

from keras import ops

from layers.common.sizes import comparable, known
from layers.common.slices import section


def into_blocks(x, block_size, missing):
    """`(b, t, h, …)` as `(b, h, blocks, block_size, …)`, padded at the end with `missing` zeros, or False."""
    if known(missing) != 0:
        x = extended(x, missing)
    b, t, h, size = ops.shape(x)
    blocks = t // block_size if isinstance(t, int) else -1  # −1 would be unknown in a graph that does not know the batch size
    return ops.reshape(ops.transpose(x, (0, 2, 1, 3)), (b, h, blocks, block_size, size))


def extended(x, missing):
    """`(b, t, h, …)` with `missing` zeros, or False, at the end."""
    if known(missing) is None and not ops.is_tensor(missing):  # a symbolic size of JAX, which Keras's pad cannot take
        b, _, h, size = ops.shape(x)
        return ops.concatenate([x, ops.zeros((b, missing, h, size), x.dtype)], axis=1)
    return ops.pad(x, ((0, 0), (0, missing), (0, 0), (0, 0)))


def neighbors(blocks, rows):
    """The blocks before, at and after each of the `rows` rows from row 2 on, three tensors `(b, rows, block_size)`.

    Args:
        blocks: Tensor of shape `(b, blocks, block_size)`, which has fewer than 4 blocks if `rows` is 0.
    """
    b, _, w = ops.shape(blocks)
    blocks = ops.concatenate([blocks, ops.zeros((b, 3, w), blocks.dtype)], axis=1)  # so that no start is outside
    return (section(blocks, start, start + rows, axis=1) for start in (1, 2, 3))


def gather_blocks(x, seen):
    """The blocks `seen`, `(h, rows, k)`, of `x`, `(b, h, blocks, block_size, …)`, concatenated for each row.

    Returns:
        Tensor of shape `(b, h, rows, k · block_size, …)`.
    """
    b, h, blocks, w, size = ops.shape(x)
    _, rows, k = ops.shape(seen)
    # Gather along the first axis: along any other axis, TensorFlow's gradient transposes the whole tensor twice.
    first = blocks * ops.reshape(ops.arange(0, b * h, dtype="int32"), (b, h, 1, 1))
    x, seen = ops.reshape(x, (b * h * blocks, w, size)), seen + first
    if known(rows) is not None or ops.is_tensor(rows):  # JAX cannot flatten a symbolic number of rows
        seen = ops.reshape(seen, (-1,))
    return ops.reshape(ops.take(x, seen, axis=0), (b, h, rows, k * w, size))


def seen_blocks(draws, blocks):
    """Equation (2) of `reference/bigbird_attention.py`, for all rows except the first and the last.

    Args:
        draws: Integers of shape `(h, rows, r)`, at least 0.
        blocks: Number of blocks.

    Returns:
        The blocks that each row sees, and whether they count, both `(h, blocks − 2, 5 + r)`. A block that a row has twice counts
        once. If there are at most 5 + r blocks, each row sees all of them.
    """
    h, rows, r = draws.shape
    i = 1 + ops.arange(0, blocks - 2, dtype="int32")[None, :, None]
    fixed = ops.concatenate([ops.zeros_like(i), i - 1, i, i + 1, ops.zeros_like(i) + (blocks - 1)], axis=-1)
    is_new = ops.concatenate([i > 0, i > 1, i > 0, i < blocks - 2, i > 0], axis=-1)
    sizes = (h, ops.shape(i)[1], 5)
    drawn = random_blocks(ops.take(draws, i[0, :, 0] % rows, axis=1), i, blocks)
    seen = ops.concatenate([ops.broadcast_to(fixed, sizes), drawn], axis=-1)
    counts = ops.concatenate([ops.broadcast_to(is_new, sizes), drawn >= 0], axis=-1)
    if known(blocks) is not None and blocks > 5 + r:
        return seen, counts
    everything = ops.broadcast_to(ops.arange(0, 5 + r, dtype="int32"), ops.shape(seen))
    blocks = comparable(blocks)
    is_short = blocks <= 5 + r
    seen = ops.where(is_short, ops.minimum(everything, blocks - 1), seen)
    return seen, ops.where(is_short, everything < blocks, counts)


def random_blocks(draws, i, blocks):
    """R_i of equation (2): maps random numbers `(h, rows, r)` to different blocks, which row i does not see otherwise.

    The reference removes the drawn blocks from a list, one by one. Here, the k-th draw is an index among the blocks that are left
    after the earlier draws. From the last draw to the first, each earlier draw that is not larger increases this index by one.
    """
    r = draws.shape[-1]
    start, stop = ops.maximum(i - 1, 1), ops.minimum(i + 2, blocks - 1)  # the window without the global blocks
    left = blocks - 2 - (stop - start) - ops.arange(0, r, dtype="int32")
    chosen = draws % ops.maximum(left, 1)
    for k in reversed(range(r - 1)):
        later = chosen[..., k + 1 :]
        later = later + ops.cast(later >= chosen[..., k : k + 1], "int32")
        chosen = ops.concatenate([chosen[..., : k + 1], later], axis=-1)
    chosen = chosen + 1  # block 0 is global
    return chosen + ops.where(chosen >= start, stop - start, 0)
