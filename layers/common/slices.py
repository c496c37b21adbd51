"""Slices of large tensors (Keras 3)."""

from keras import ops


def section(x, start, stop, axis):
    """`x[start:stop]` along `axis`; both count from 0. Where a length is open, on TensorFlow, either may be a tensor.

    TensorFlow pads for the gradient of this; for that of an index, it scatters number by number, on one core.
    """
    x = ops.convert_to_tensor(x)  # JAX slices no variable
    starts, sizes = [0] * len(x.shape), list(ops.shape(x))
    starts[axis], sizes[axis] = start, stop - start
    return ops.slice(x, starts, sizes)
