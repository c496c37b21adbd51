"""Attention over several axes of a tensor: flattening them into one sequence, and restoring them."""

from keras import ops

from layers.common.sizes import product


def to_sequence(x, axes):
    """Flatten `axes` of `x`, in their order, into one, and all other axes into the batch: `(batch, sequence, m)`."""
    order = [axis for axis in range(len(x.shape) - 1) if axis not in axes]
    x = ops.transpose(x, (*order, *axes, len(x.shape) - 1))
    shape = ops.shape(x)
    return ops.reshape(x, (-1, product(shape[len(order) : -1]), shape[-1]))


def from_sequence(x, like, axes):
    """Undo `to_sequence`: `(batch, sequence, ...)` with the axes in the order of `like`, followed by the trailing axes of `x`."""
    order = [axis for axis in range(len(like.shape) - 1) if axis not in axes]
    sizes, trailing = ops.shape(like), ops.shape(x)[2:]
    x = ops.reshape(x, (*(sizes[axis] for axis in (*order, *axes)), *trailing))
    moved = [*order, *axes]
    back = [moved.index(axis) for axis in range(len(moved))]
    return ops.transpose(x, (*back, *range(len(moved), len(x.shape))))


def scores_from_sequence(scores, query, value, axes):
    """Scores `(batch, h, t, s)` as batch axes, head, the query's attended axes, the value's attended axes."""
    return ops.reshape(scores, full_shape(query, value, axes, ops.shape(scores)[1]))


def mask_to_sequence(mask, query, value, axes):
    """A mask over several axes, with or without a head axis after its batch axes, as `(batch, h or 1, t, s)`."""
    batch = len(query.shape) - 1 - len(axes)
    if len(mask.shape) == batch + 2 * len(axes):
        mask = ops.expand_dims(mask, batch)
    full = full_shape(query, value, axes, mask.shape[batch])
    mask = ops.broadcast_to(mask, full)
    t, s = product(full[batch + 1 : batch + 1 + len(axes)]), product(full[batch + 1 + len(axes) :])
    return ops.reshape(mask, (-1, full[batch], t, s))


def full_shape(query, value, axes, heads):
    """Batch axes, heads, the query's attended axes, the value's attended axes."""
    sizes, value_sizes = ops.shape(query), ops.shape(value)
    batch = [size for axis, size in enumerate(sizes[:-1]) if axis not in axes]
    return (*batch, heads, *(sizes[axis] for axis in axes), *(value_sizes[axis] for axis in axes))
