"""Checks of the inputs of position layers, which read only their shape (Keras 3)."""

import keras
from keras import ops

from layers.common.checks import check_at_least, check_rank_at_least
from layers.common.output_shapes import TracedLayer
from layers.common.sizes import known
from layers.common.slices import section


class ForAnyBatch(TracedLayer):
    """A layer whose output has no batch axis of examples, and so has no mask, whatever the mask of its inputs."""

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


def first_rows(table, count):
    """The first `count` rows of a table."""
    if known(count) is not None or keras.backend.backend() != "jax":
        return section(table, 0, count, axis=0)
    # JAX does not slice a table that may be too short, and what it exports cannot raise an error.
    place = ops.arange(count)
    rows = ops.take(table, ops.minimum(place, table.shape[0] - 1), axis=0)
    return ops.where((place < table.shape[0])[:, None], rows, float("nan"))


def check_learned(shape, max_length, seq_axis, width=None):
    """Raise a ValueError unless a table of `max_length` rows of `width` numbers (None for any) fits inputs of `shape`."""
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
