"""Positions given to a call: integers, or scalar tensors, which may have no value during tracing (Keras 3)."""

import keras
from keras import ops

from layers.common.ids import wide_enough


def check_position(**positions):
    """Raise a ValueError unless each of `positions`, passed as name=value, is an integer or a scalar integer tensor."""
    for name, position in positions.items():
        dtype = getattr(position, "dtype", "int32" if type(position) is int else "bool")
        if "int" not in keras.backend.standardize_dtype(dtype) or len(getattr(position, "shape", ())) > 0:
            raise ValueError(f"{name} must be an integer or a scalar integer tensor. Received: {name}={position}")


def value_of(position):
    """The value of an integer or a tensor; None for a tensor without a value during tracing."""
    try:
        return position.__index__()
    except (AttributeError, TypeError):
        return None


def within_room(position, room):
    """`position` as int32 if it is from 0 to `room`, otherwise 0; and a boolean tensor that says which."""
    position = wide_enough(ops.convert_to_tensor(position))  # int32 would wrap large numbers around
    fits = ops.logical_and(position >= 0, position <= ops.cast(room, position.dtype))
    return ops.cast(ops.where(fits, position, ops.zeros_like(position)), "int32"), fits


def positions_from(offset, length):
    """`length` positions as int32, from `offset` on; those that int32 cannot hold are negative."""
    first = value_of(offset)
    steps = ops.arange(0, length, dtype="int32")
    if first is not None:
        return steps if first == 0 else first + steps
    first = wide_enough(offset)
    places = first + ops.cast(steps, first.dtype)  # in int32, what is too large has wrapped around
    if keras.backend.standardize_dtype(first.dtype) == "int64":
        places = ops.where(places > 2**31 - 1, -ops.ones_like(places), places)
        places = ops.maximum(places, -ops.ones_like(places))
    return ops.cast(places, "int32")
