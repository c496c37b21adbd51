"""Numbers of rows of a table and of positions: integers of any kind, of which some may be of no row (Keras 3)."""

import keras
from keras import ops


def check_integers(**tensors):
    """Raise a ValueError unless each of `tensors` that is not None, given by its argument's name, is of integers.

    Floats of 16 bits, which autocast makes of others, cannot hold every id.
    """
    for name, tensor in tensors.items():
        dtype = None if tensor is None else keras.backend.standardize_dtype(tensor.dtype)
        if dtype is not None and not dtype.startswith(("int", "uint")):
            raise ValueError(f"{name} must be integers, such as int32. Received: {name} of dtype {dtype}")


def wide_enough(ids):
    """`ids` in a type that holds how many rows there are too; what is too large for it becomes negative, and stays outside."""
    return ops.cast(ids, "int64" if keras.backend.standardize_dtype(ids.dtype) in ("int64", "uint64") else "int32")


def within(ids, count):
    """Ids that can be read, and which were in 0, …, count − 1: for the others, outside, the first is 0.

    A gather outside its range wraps around, clamps, fills with NaN or stops, by backend and compiler, so none is asked for.
    """
    ids = wide_enough(ids)
    inside = ops.logical_and(ids >= 0, ids < ops.cast(count, ids.dtype))
    return ops.where(inside, ids, ops.zeros_like(ids)), inside
