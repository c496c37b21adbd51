"""Checks of the inputs of position layers, which read only their shape (Keras 3)."""

import keras
from keras import ops

from layers.common.checks import check_at_least, check_rank_at_least
from layers.common.ids import rows_at, within
from layers.common.output_shapes import TracedLayer
from layers.common.positions import check_position, positions_from, value_of
from layers.common.sinusoids import LARGEST
from layers.common.sizes import known
from layers.common.slices import section


class ForAnyBatch(TracedLayer):
    """A layer whose output has no batch axis of examples, and so has no mask, whatever the mask of its inputs."""

    integer_arguments = ("offset",)

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.supports_masking = True

    def compute_mask(self, *inputs, **kwargs):
        return None


def length_of(inputs, length):
    """The number of positions, from `inputs`, `length` or both: an integer, or a tensor if it is not known yet.

    Raises:
        ValueError: if neither is given, they disagree, or the length is below 1.
    """
    if length is not None:
        check_at_least(1, length=length)
    if inputs is None:
        if length is None:
            raise ValueError("inputs or length must be given. Received: inputs=None, length=None")
        return length
    check_rank_at_least(2, inputs=inputs.shape)
    if length is not None and length != known(inputs.shape[1]):
        raise ValueError(f"inputs must have the length {length}. Received: inputs of shape {tuple(inputs.shape)}")
    return ops.shape(inputs)[1]


def rows_along(table, offset, inputs, axis):
    """The row of each position along `axis`, repeated to the shape of `inputs`. The first position is `offset`."""
    shape = ops.shape(inputs)
    aligned = [1] * len(shape)
    aligned[axis], aligned[-1] = shape[axis], shape[-1]
    # Reshape to the requested length, which fails if there are fewer rows; broadcasting a single row would not fail.
    rows = ops.reshape(rows_from(table, offset, shape[axis]), aligned)
    return ops.broadcast_to(rows, shape)


def rows_from(table, offset, t):
    """`t` rows of `table` from `offset` on. Of an offset without a value yet, rows outside the table are zeros."""
    start = value_of(offset)
    if start is not None and (known(t) is not None or keras.backend.backend() != "jax"):
        return section(table, start, start + t, axis=0)
    places, inside = within(positions_from(offset, t), table.shape[0])
    # JAX does not slice a table that may be too short, and what it exports cannot raise an error.
    return ops.where(inside[:, None], rows_at(table, places), 0.0 if start is None else float("nan"))


def check_offset(offset, length, count=LARGEST, limit="2³¹"):
    """Raise a ValueError unless `length` positions from `offset` on are below `count`, as far as both are known.

    Args:
        offset: The first position, an integer or a scalar integer tensor.
        length: Number of positions; anything but an integer is unknown.
        count: Number of positions that there are.
        limit: What `count` is called in the error.
    """
    check_position(offset=offset)
    first = value_of(offset)
    last = first if first is None or known(length) is None else first + length - 1
    if first is not None and not 0 <= first <= max(first, last) < count:
        raise ValueError(
            f"offset must be at least 0, and offset plus the length of inputs at most {limit}. "
            f"Received: offset={offset}, length {known(length)}"
        )


def check_learned(shape, max_length, seq_axis, width=None, offset=0):
    """Raise a ValueError unless a table of `max_length` rows of `width` numbers (None for any) fits inputs of `shape`.

    `offset` is the position of the first input.
    """
    if len(shape) < 2 or known(shape[-1]) is None or shape[-1] != (width or shape[-1]):
        last = f"of size {width}" if width else "of known size"
        raise ValueError(f"inputs must have at least 2 axes, the last {last}. Received: inputs of shape {tuple(shape)}")
    if not -len(shape) <= seq_axis < len(shape) or seq_axis in (-1, len(shape) - 1):
        raise ValueError(
            "seq_axis must be an axis of inputs other than the last. "
            f"Received: seq_axis={seq_axis}, inputs of shape {tuple(shape)}"
        )
    length = known(shape[seq_axis])
    if length is not None and length > max_length:
        raise ValueError(
            f"inputs must not be longer than max_length={max_length} along axis {seq_axis}. "
            f"Received: inputs of shape {tuple(shape)}, of length {length}"
        )
    if value_of(offset) != 0:
        check_offset(offset, length, max_length, f"max_length={max_length}")
