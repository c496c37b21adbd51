"""Check a learner's answer on one input: for the lessons whose exercises are not in `exercises/` yet."""

import copy

import numpy as np


def check_against(answer, mine, sizes, seed=0):
    """Call both functions on the same arguments, print one line on how they compare, and return whether they agree.

    Args:
        answer: The reference function.
        mine: The learner's function.
        sizes: {argument: the shape of an array of normal numbers, or any other value, which is passed on unchanged}.
        seed: The seed of the numbers.
    """
    rng = np.random.default_rng(seed)
    arguments = {name: rng.normal(size=size) if is_shape(size) else size for name, size in sizes.items()}
    verdict = compare(answer, mine, arguments)
    print(verdict or "right")
    return not verdict


def is_shape(size):
    return isinstance(size, tuple) and all(isinstance(axis, int) for axis in size)


def compare(answer, mine, arguments):
    """What is wrong with `mine`, in one line; None if it is right."""
    expected = answer(**copy.deepcopy(arguments))
    try:
        found = mine(**copy.deepcopy(arguments))  # because an answer may change its arguments in place
    except Exception as error:
        return f"it stopped with {type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no message'}"
    if found is None:
        return "not yet: it returns nothing"
    if not isinstance(expected, tuple):
        return difference(found, expected)
    if not isinstance(found, (tuple, list)) or len(found) != len(expected):
        return f"it should return {len(expected)} results"
    complaints = (difference(f, e, f"result {i}: ") for i, (f, e) in enumerate(zip(found, expected), 1))
    return next(filter(None, complaints), None)


def difference(found, expected, where=""):
    wanted, got = as_numbers(expected), as_numbers(found)
    if wanted is None:  # text, or lists of unequal lengths
        return None if found == expected else f"{where}it should be {expected!r}, not {found!r}"
    if got is None:
        return f"{where}it returns a {type(found).__name__}, not numbers"
    if got.shape != wanted.shape:
        return f"{where}the shape should be {wanted.shape}, not {got.shape}"
    narrow = any(array.dtype.kind == "f" and array.dtype.itemsize < 8 for array in (got, wanted))
    wrong = ~np.isclose(got, wanted, rtol=1e-5 if narrow else 1e-9, atol=1e-6 if narrow else 1e-12, equal_nan=True)
    if not wrong.any():
        return None
    first = tuple(int(i) for i in np.argwhere(wrong)[0])
    place = f" at {list(first)}" if first else ""
    return (
        f"{where}{wrong.sum()} of {wrong.size} values differ; the first{place} should be "
        f"{shown(wanted[first])}, not {shown(got[first])}"
    )


def as_numbers(value):
    """`value` as an array of numbers; None if that is not possible."""
    try:
        array = np.asarray(value)
    except (TypeError, ValueError):
        return None
    return array if array.dtype.kind in "fiub" else None


def shown(number):
    return f"{number:.6g}" if number.dtype.kind == "f" else str(number)
