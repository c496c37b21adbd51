"""The sum of what two sublayers return (Keras 3)."""

import keras
from keras import ops


def added_up(x, y):
    """`x` + `y`, two tensors whose dtypes may differ, as under a `DTypePolicyMap`.

    Not `ops.add`: on TensorFlow, it takes a tensor with a single axis above 1 for a bias, and fails if another axis is 0. Not `+`
    alone, which TensorFlow refuses for tensors of two dtypes.
    """
    dtypes = [keras.backend.standardize_dtype(tensor.dtype) for tensor in (x, y)]
    if dtypes[0] != dtypes[1]:
        dtype = keras.backend.result_type(*dtypes)
        x, y = ops.cast(x, dtype), ops.cast(y, dtype)
    return x + y
