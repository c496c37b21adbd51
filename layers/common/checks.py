"""Checks of arguments and shapes, with errors that name the argument, the expected value and the received value."""

import numpy as np

from layers.common.sizes import known, known_shape


def check_at_least(least, **sizes):
    """Raise a ValueError unless each of `sizes`, passed as name=value, is an integer of at least `least`."""
    for name, size in sizes.items():
        if not isinstance(size, (int, np.integer)) or isinstance(size, bool) or size < least:
            raise ValueError(f"{name} must be an integer of at least {least}. Received: {name}={size!r}")


def check_seed(seed):
    """Raise a ValueError unless `seed` is None or an integer of at least 0."""
    if seed is not None:
        check_at_least(0, seed=seed)


def check_sizes(**sizes):
    """Raise a ValueError unless each of `sizes`, passed as name=value, is None, a positive integer, or several of them."""
    for name, size in sizes.items():
        for part in size if isinstance(size, (tuple, list)) and size else [1 if size is None else size]:
            check_at_least(1, **{name: part})


def python_number(value):
    """`value`, or the Python number that a number of NumPy is, also in a tuple or a list: as such, configurations hold it."""
    if isinstance(value, (np.integer, np.floating, np.bool_)):
        return value.item()
    if isinstance(value, list):
        return [python_number(each) for each in value]
    return tuple(map(python_number, value)) if type(value) is tuple else value


def check_axes(**axes):
    """Raise a ValueError unless each of `axes`, passed as name=value, is None, an integer, or several of them."""
    for name, several in axes.items():
        found = several if isinstance(several, (tuple, list)) else [0 if several is None else several]
        if not all(isinstance(axis, (int, np.integer)) and not isinstance(axis, bool) for axis in found):
            raise ValueError(f"{name} must be an axis, or a tuple of axes. Received: {name}={several!r}")


def check_divisible(**sizes):
    """Raise a ValueError unless the first of two `sizes`, passed as name=value, is a multiple of the second."""
    (name, size), (divisor_name, divisor) = sizes.items()
    if size % divisor:
        received = f"{name}={size}, {divisor_name}={divisor}"
        raise ValueError(f"{name} must be divisible by {divisor_name}. Received: {received}")


def check_flags(**flags):
    """Raise a ValueError unless each of `flags`, passed as name=value, is True or False.

    0 and 1 are refused too: a number where a flag is expected is most often an argument in the wrong place.
    """
    for name, flag in flags.items():
        if not isinstance(flag, (bool, np.bool_)):
            raise ValueError(f"{name} must be True or False. Received: {name}={flag!r}")


def check_number(expected, fits=lambda number: True, **numbers):
    """Raise a ValueError unless each of `numbers`, passed as name=value, is a finite number for which `fits`.

    Args:
        expected: What is expected, for the error: the words after "must be".
        fits: Function of the number.
    """
    for name, number in numbers.items():
        is_number = isinstance(number, (int, float, np.floating, np.integer)) and not isinstance(number, bool)
        if not is_number or not np.isfinite(number) or not fits(number):
            raise ValueError(f"{name} must be {expected}. Received: {name}={number!r}")


def check_rate(**rates):
    """Raise a ValueError unless each of `rates`, passed as name=value, is a number in [0, 1)."""
    check_number("at least 0 and below 1", lambda rate: 0 <= rate < 1, **rates)


def check_epsilon(**epsilons):
    """Raise a ValueError unless each of `epsilons`, passed as name=value, is a finite number of at least 0."""
    check_number("a finite number of at least 0", lambda epsilon: epsilon >= 0, **epsilons)


def interpreted(get, **identifiers):
    """[what `get` makes of each of `identifiers`]: a Keras initializer, regularizer or constraint, of a name or an object.

    Args:
        get: `keras.initializers.get`, or that of regularizers or constraints.
        identifiers: Passed as name=value; None stays None.

    Raises:
        ValueError: if `get` knows no such name; the error names the argument.
    """
    found = []
    for name, identifier in identifiers.items():
        try:
            found.append(get(identifier))
        except (ValueError, TypeError) as error:
            kind = get.__module__.split(".")[-1].removesuffix("s")
            raise ValueError(f"{name} must be a Keras {kind} or the name of one. Received: {name}={identifier!r}") from error
    return found


def check_length(name, length, **most):
    """Raise a ValueError if the argument `name` is longer than `most`, passed as name=value. A `length` of None is unknown."""
    [(limit, size)] = most.items()
    if known(length) is not None and length > size:
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
    """Raise a ValueError unless all `sizes`, passed as name=value, are equal. Each is a size or a shape.

    An unknown size equals every other.
    """
    columns = zip(*(size if isinstance(size, (tuple, list)) else (size,) for size in sizes.values()))
    ranks = {len(size) if isinstance(size, (tuple, list)) else 1 for size in sizes.values()}
    if len(ranks) > 1 or any(len({known(size) for size in column} - {None}) > 1 for column in columns):
        received = ", ".join(f"{name} with {size}" for name, size in sizes.items())
        raise ValueError(f"{' and '.join(sizes)} must have the same {what}. Received: {received}")


def check_broadcastable(name, shape, expected):
    """Raise a ValueError unless `shape` broadcasts to `expected` without new axes. An unknown size is taken to fit."""
    fits = len(shape) == len(expected) and all(
        size is None or wanted is None or size in (1, wanted) for size, wanted in zip(known_shape(shape), known_shape(expected))
    )
    if not fits:
        raise ValueError(f"{name} must have a shape that broadcasts to {tuple(expected)}. Received: {tuple(shape)}")


def check_needs(other, present, **arguments):
    """Raise a ValueError if one of `arguments`, passed as name=value, is given, but the argument named `other` is not."""
    for name, argument in arguments.items():
        if argument is not None and not present:
            raise ValueError(f"{name} needs {other}. Received: {name} with {other}=None")


def check_shape(name, tensor, expected):
    """Raise a ValueError unless `tensor` is None or has the shape `expected`. An unknown size, in either, is taken to fit."""
    if tensor is None:
        return
    fits = len(tensor.shape) == len(expected) and all(
        size is None or wanted is None or size == wanted for size, wanted in zip(known_shape(tensor.shape), known_shape(expected))
    )
    if not fits:
        raise ValueError(f"{name} must have the shape {tuple(expected)}. Received: {tuple(tensor.shape)}")


def shapes(*tensors):
    """The shape of each of `tensors`. For a list of tensors, a tuple of their shapes; for None, None."""
    return tuple(shapes(*x) if isinstance(x, (list, tuple)) else None if x is None else tuple(np.shape(x)) for x in tensors)
