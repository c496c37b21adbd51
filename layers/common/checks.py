"""Checks of arguments and shapes, with errors that name the argument, the expected value and the received value."""

import numpy as np


def check_at_least(least, **sizes):
    """Raise a ValueError unless each of `sizes`, passed as name=value, is an integer of at least `least`."""
    for name, size in sizes.items():
        if not isinstance(size, int) or isinstance(size, bool) or size < least:
            raise ValueError(f"{name} must be an integer of at least {least}. Received: {name}={size!r}")


def check_divisible(**sizes):
    """Raise a ValueError unless the first of two `sizes`, passed as name=value, is a multiple of the second."""
    (name, size), (divisor_name, divisor) = sizes.items()
    if size % divisor:
        received = f"{name}={size}, {divisor_name}={divisor}"
        raise ValueError(f"{name} must be divisible by {divisor_name}. Received: {received}")


def check_flags(**flags):
    """Raise a ValueError unless each of `flags`, passed as name=value, is a bool."""
    for name, flag in flags.items():
        if not isinstance(flag, bool):
            raise ValueError(f"{name} must be True or False. Received: {name}={flag!r}")


def check_rate(**rates):
    """Raise a ValueError unless each of `rates`, passed as name=value, is a number in [0, 1)."""
    for name, rate in rates.items():
        if not isinstance(rate, (int, float, np.floating, np.integer)) or not 0 <= rate < 1:
            raise ValueError(f"{name} must be at least 0 and below 1. Received: {name}={rate!r}")


def check_epsilon(**epsilons):
    """Raise a ValueError unless each of `epsilons`, passed as name=value, is a finite number of at least 0."""
    for name, epsilon in epsilons.items():
        if not isinstance(epsilon, (int, float, np.floating)) or isinstance(epsilon, bool) or not 0 <= epsilon < np.inf:
            raise ValueError(f"{name} must be a finite number of at least 0. Received: {name}={epsilon!r}")


def check_length(name, length, **most):
    """Raise a ValueError if the argument `name` is longer than `most`, passed as name=value. A `length` of None is unknown."""
    [(limit, size)] = most.items()
    if length is not None and length > size:
        raise ValueError(f"{name} must have at most {limit}={size} tokens. Received: {length}")


def check_rank(rank, **shapes):
    """Raise a ValueError unless each of `shapes`, passed as name=value, has `rank` axes."""
    for name, shape in shapes.items():
        if len(shape) != rank:
            axes = "axis" if rank == 1 else "axes"
            raise ValueError(f"{name} must have {rank} {axes}. Received: {name} of shape {tuple(shape)}")


def check_rank_at_least(rank, **shapes):
    """Raise a ValueError unless each of `shapes`, passed as name=value, has at least `rank` axes."""
    for name, shape in shapes.items():
        if len(shape) < rank:
            raise ValueError(f"{name} must have at least {rank} axes. Received: {name} of shape {tuple(shape)}")


def check_same(what, **sizes):
    """Raise a ValueError unless all `sizes`, passed as name=value, are equal. A size of None is unknown."""
    if len({size for size in sizes.values() if size is not None}) > 1:
        received = ", ".join(f"{name} with {size}" for name, size in sizes.items())
        raise ValueError(f"{' and '.join(sizes)} must have the same {what}. Received: {received}")


def check_broadcastable(name, shape, expected):
    """Raise a ValueError unless `shape` broadcasts to `expected` without new axes. A size of None is unknown."""
    fits = len(shape) == len(expected) and all(
        size is None or wanted is None or size in (1, wanted) for size, wanted in zip(shape, expected)
    )
    if not fits:
        raise ValueError(f"{name} must have a shape that broadcasts to {tuple(expected)}. Received: {tuple(shape)}")


def check_needs(other, present, **arguments):
    """Raise a ValueError if one of `arguments`, passed as name=value, is given, but the argument named `other` is not."""
    for name, argument in arguments.items():
        if argument is not None and not present:
            raise ValueError(f"{name} needs {other}. Received: {name} with {other}=None")


def check_shape(name, tensor, expected):
    """Raise a ValueError unless `tensor` is None or has the shape `expected`. A size of None, in either shape, is unknown."""
    if tensor is None:
        return
    fits = len(tensor.shape) == len(expected) and all(
        size is None or wanted is None or size == wanted for size, wanted in zip(tensor.shape, expected)
    )
    if not fits:
        raise ValueError(f"{name} must have the shape {tuple(expected)}. Received: {tuple(tensor.shape)}")


def shapes(*tensors):
    """The shape of each of `tensors`. For a list of tensors, a tuple of their shapes; for None, None."""
    return tuple(shapes(*x) if isinstance(x, (list, tuple)) else None if x is None else tuple(np.shape(x)) for x in tensors)
