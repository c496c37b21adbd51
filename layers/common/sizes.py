"""Sizes of axes, some of which are unknown until the layer runs.

An unknown size is None in the shape of a Keras or TensorFlow tensor, a tensor in what `ops.shape` returns on TensorFlow, and a
symbolic dimension in both on JAX. A symbolic dimension is a number for arithmetic, but comparing it may be an error, so it has to
be told from an integer before anything depends on its value.
"""

import math

from keras import ops


def known(size):
    """`size` if it is known, else None."""
    return size if isinstance(size, int) else None


def known_shape(shape):
    """`shape` as a tuple, with None for each unknown size."""
    return tuple(known(size) for size in shape)


def product(sizes):
    """The product of sizes."""
    return ops.prod(ops.stack(sizes)) if any(ops.is_tensor(size) for size in sizes) else math.prod(sizes)


def at_least(least, size):
    """The larger of an integer and a size."""
    if isinstance(size, int):
        return max(least, size)
    return ops.maximum(size, least) if ops.is_tensor(size) else size.max(least)


def in_whole(size, part):
    """How many parts of `part` hold `size` entries, and how many entries are lacking in the last of them."""
    count = (size + part - 1) // part  # not −(−size // part): ONNX divides toward zero
    return count, count * part - size


def comparable(size):
    """A size that can be compared: an integer, or an int32 tensor if the size is unknown."""
    return size if isinstance(size, int) else ops.convert_to_tensor(size, "int32")


def joined_length(*sequences):
    """The length of sequences `(b, length, …)`, joined along axis 1; None if it is unknown. A missing one is None."""
    lengths = known_shape(x.shape[1] for x in sequences if x is not None)
    return None if None in lengths else sum(lengths)
