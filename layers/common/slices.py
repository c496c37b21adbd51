"""Slices of large tensors (Keras 3)."""

from keras import ops


def section(x, start, stop, axis):
    """`x[start:stop]` along `axis`. Both are at least 0; on TensorFlow, where a length is unknown, they may be tensors.

    The gradient of a slice is a padding. TensorFlow computes the gradient of indexing with a slow scatter on one core.
    """
    x = ops.convert_to_tensor(x)  # JAX cannot slice a variable
    starts, sizes = [0] * len(x.shape), list(ops.shape(x))
    starts[axis], sizes[axis] = start, stop - start
    return ops.slice(x, starts, sizes)


def section_from(x, start, size, axis):
    """`size` entries of `x` along `axis`, from `start` on, which may be a tensor whose value differs from call to call.

    XLA on TensorFlow takes the start of a slice as a constant, so that it would compile again for each value.
    """
    return ops.take(x, start + ops.arange(0, size, dtype="int32"), axis=axis)
