"""Integer ids, such as rows of a table or positions. Some may be out of range (Keras 3)."""

import keras
from keras import ops


def check_integers(**tensors):
    """Raise a ValueError unless each of `tensors`, passed as name=value, is None or has an integer dtype.

    Floats are rejected, because autocast may turn them into 16-bit floats, which cannot represent every id.
    """
    for name, tensor in tensors.items():
        dtype = None if tensor is None else keras.backend.standardize_dtype(tensor.dtype)
        if dtype is not None and not dtype.startswith(("int", "uint")):
            raise ValueError(f"{name} must be integers, such as int32. Received: {name} of dtype {dtype}")


def wide_enough(ids):
    """`ids` as int32 or int64, which can hold the number of rows too. Ids too large for it become negative, so out of range."""
    return ops.cast(ids, "int64" if keras.backend.standardize_dtype(ids.dtype) in ("int64", "uint64") else "int32")


def within(ids, count):
    """`ids` with 0 for each id outside 0, …, count − 1, and a boolean tensor that is True for each id inside.

    Out of range, a gather wraps around, clamps, returns NaN or raises an error, depending on backend and compiler.
    """
    ids = wide_enough(ids)
    inside = ops.logical_and(ids >= 0, ids < ops.cast(count, ids.dtype))
    return ops.where(inside, ids, ops.zeros_like(ids)), inside
