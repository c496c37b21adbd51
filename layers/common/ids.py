"""Integer ids, such as rows of a table or positions. Some may be out of range (Keras 3)."""

import keras
from keras import ops

ADVICE = "A Keras model casts its inputs to floats, unless it begins with keras.Input(shape, dtype='int32')"


def check_integers(**tensors):
    """Raise a ValueError unless each of `tensors`, passed as name=value, is None or has an integer dtype.

    Floats are rejected, because autocast may turn them into 16-bit floats, which cannot represent every id.
    """
    for name, tensor in tensors.items():
        dtype = None if tensor is None else keras.backend.standardize_dtype(tensor.dtype)
        if dtype is not None and not dtype.startswith(("int", "uint")):
            advice = f". {ADVICE}" if "float" in dtype else ""
            raise ValueError(f"{name} must be integers, such as int32. Received: {name} of dtype {dtype}{advice}")


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


def rows_at(table, ids):
    """The rows `ids` of `table`, a weight of at least 2 axes: the shape of `ids` followed by that of a row.

    The gradient for the table is dense: for each row, the sum over all places where it is looked up. TensorFlow's gradient of a
    plain gather has an entry for each place instead (`tf.IndexedSlices`), and Keras's optimizers with second moments, such as
    Adam, would add the squares of the entries where the square of their sum belongs. Two uses of one table would bring back
    repeated rows even if each use had none. TensorFlow sums the entries in the gradient of a reshape, which copies nothing.

    Args:
        table: A weight, or its value.
        ids: Integers, all inside, such as the first result of `within`.
    """
    return ops.take(ops.reshape(table, table.shape), ids, axis=0)
