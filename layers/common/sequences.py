"""Attention over several axes of a tensor: flattening them into one sequence, and restoring them."""

from keras import ops

from layers.common.checks import check_broadcastable
from layers.common.masks import check_two_axes
from layers.common.sizes import product


def normalized(axes, rank):
    """`axes` as positive numbers; for None, all axes between batch and model axis.

    Raises:
        ValueError: if an axis is the batch axis or the model axis, is given twice, or does not exist.
    """
    if axes is None:
        return tuple(range(1, rank - 1))
    positions = tuple(axis % rank if -rank <= axis < rank else None for axis in axes)
    if len(set(positions)) < len(positions) or not set(positions) <= set(range(1, rank - 1)):
        raise ValueError(f"attention_axes must be different axes from 1 to {rank - 2}. Received: attention_axes={tuple(axes)}")
    return positions


def to_sequence(x, axes):
    """Flatten `axes` of `x`, in their order, into one, and all other axes into the batch: `(batch, sequence, m)`."""
    order = free_axes(x, axes)
    x = ops.transpose(x, (*order, *axes, len(x.shape) - 1))
    shape = ops.shape(x)
    return ops.reshape(x, (-1, product(shape[len(order) : -1]), shape[-1]))


def padding_to_sequence(masks, axes):
    """Masks of the shape of an input without its last axis, each as `(batch, sequence)`; None for None."""
    return [mask if mask is None else to_sequence(mask[..., None], axes)[..., 0] for mask in masks]


def from_sequence(x, like, axes):
    """Undo `to_sequence`: `(batch, sequence, ...)` with the axes in the order of `like`, followed by the trailing axes of `x`."""
    order = free_axes(like, axes)
    sizes, trailing = ops.shape(like), ops.shape(x)[2:]
    x = ops.reshape(x, (*(sizes[axis] for axis in (*order, *axes)), *trailing))
    moved = [*order, *axes]
    back = [moved.index(axis) for axis in range(len(moved))]
    return ops.transpose(x, (*back, *range(len(moved), len(x.shape))))


def scores_from_sequence(scores, query, value, axes):
    """Scores `(batch, h, t, s)` as batch axes, head, the query's attended axes, the value's attended axes."""
    return ops.reshape(scores, full_shape(query, value, axes, ops.shape(scores)[1]))


def scores_to_sequence(scores, query, value, axes):
    """Undo `scores_from_sequence`: batch axes, heads, attended axes of query and value, as `(batch, h, t, s)`."""
    return flattened(scores, full_shape(query, value, axes, scores.shape[len(query.shape) - 1 - len(axes)]), len(axes))


def mask_to_sequence(name, mask, query, value, axes, heads):
    """A mask over several axes, or a bias of that shape, as `(batch, h or 1, t, s)`.

    The number of its axes says which it has. The attended axes of query and value are the last, always. Before them, it has
    nothing; the batch axis; all batch axes; or all batch axes and the heads. Each axis may have size 1.

    Raises:
        ValueError: if it has another number of axes, or a size that does not fit; the error names the argument `name`.
    """
    batch, attended = len(query.shape) - 1 - len(axes), 2 * len(axes)
    first = len(mask.shape) - attended
    if first not in (0, 1, batch, batch + 1):
        raise ValueError(
            f"{name} must have the {attended} attended axes of query and keys, or before them the batch axis, all {batch} batch "
            f"axes, or these and the heads. Received: {name} of shape {tuple(mask.shape)}"
        )
    if len(mask.shape) == 2:
        check_two_axes(name, mask.shape, query.shape[0], query.shape[axes[0]])
    if first <= batch:
        missing = batch + 1 - first  # the axes that it lacks follow those that it has
        mask = ops.expand_dims(mask, tuple(range(first, first + missing)))
    static = [side.shape[axis] for side in (query, value) for axis in axes]
    check_broadcastable(name, mask.shape, (*(query.shape[axis] for axis in free_axes(query, axes)), heads, *static))
    full = full_shape(query, value, axes, mask.shape[batch])
    return flattened(ops.broadcast_to(mask, full), full, len(axes))


def bias_to_sequence(bias, query, value, axes, heads):
    """A bias with the axes of the weights over several axes, as `(batch, h or 1, t, s)`."""
    rank = len(query.shape) + len(axes)
    if len(bias.shape) != rank:
        raise ValueError(
            f"attention_bias must have {rank} axes: batch axes, heads, attended axes of query and keys. "
            f"Received: {tuple(bias.shape)}"
        )
    return mask_to_sequence("attention_bias", bias, query, value, axes, heads)


def flattened(x, full, count):
    """`x` of shape `full`, batch axes, heads, and `count` attended axes of query and value, as `(batch, h, t, s)`."""
    t, s = product(full[-2 * count : -count]), product(full[-count:])
    return ops.reshape(x, (-1, full[-2 * count - 1], t, s))


def free_axes(x, axes):
    """The axes of `x` that are not attended, but for the last."""
    return [axis for axis in range(len(x.shape) - 1) if axis not in axes]


def full_shape(query, value, axes, heads):
    """Batch axes, heads, the query's attended axes, the value's attended axes."""
    sizes, value_sizes = ops.shape(query), ops.shape(value)
    batch = [sizes[axis] for axis in free_axes(query, axes)]
    return (*batch, heads, *(sizes[axis] for axis in axes), *(value_sizes[axis] for axis in axes))
