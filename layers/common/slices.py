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
