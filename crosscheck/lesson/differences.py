"""What is wrong with a result, in one line: where it first differs from what was expected, and by what."""

import unicodedata

import numpy as np

TOLERANCE = {"float64": 1e-10, "float32": 1e-4, "bfloat16": 6e-2, "float16": 1e-2}
"""Largest difference from the expected number, relative to the largest expected number, by the dtype of the result."""


def difference(found, expected, where=""):
    """What is wrong with `found`, in one line; None if it agrees with `expected`.

    Args:
        found: What a learner's function returned.
        expected: None, text, a number, an array, or a tuple, list or dictionary of these.
        where: Which part of a result this is, such as "result 2: ".
    """
    if found is None and expected is not None:
        return f"{where}it returns nothing" if not where else f"{where}it is None"
    if expected is None:
        return None if found is None else f"{where}it should be None, not {shown(found)}"
    if isinstance(expected, str):
        return text_difference(found, expected, where)
    if isinstance(expected, dict):
        return dictionary_difference(found, expected, where)
    if isinstance(expected, tuple):
        return sequence_difference(found, expected, where, "result", "results")
    wanted = as_numbers(expected)
    if wanted is None:
        return sequence_difference(found, expected, where, "item", "items")
    return number_difference(found, wanted, where)


def sequence_difference(found, expected, where, one, many):
    items = as_list(found)
    if items is None or len(items) != len(expected):
        came = counted(len(items), one, many) if isinstance(found, list | tuple) else kind_of(found)
        contents = f": {shown(expected)}, not {shown(found)}" if one == "item" and items is not None else ""
        return f"{where}it should return {counted(len(expected), one, many)}, not {came}{contents}"
    complaints = (difference(f, e, f"{where}{one} {i}: ") for i, (f, e) in enumerate(zip(items, expected), 1))
    return next(filter(None, complaints), None)


def kind_of(found):
    array = as_numbers(found)
    return f"a {type(found).__name__}" if array is None or not array.ndim else f"an array of shape {array.shape}"


def counted(count, one, many):
    return f"{count} {one if count == 1 else many}"


def dictionary_difference(found, expected, where):
    if not isinstance(found, dict):
        return f"{where}it should be a dictionary, not a {type(found).__name__}"
    for key in expected:
        if key not in found:
            return f"{where}the key {key!r} is missing"
        if complaint := difference(found[key], expected[key], f"{where}key {key!r}: "):
            return complaint
    extra = [key for key in found if key not in expected]
    return f"{where}there should be no key {extra[0]!r}" if extra else None


def text_difference(found, expected, where):
    if not isinstance(found, str):
        return f"{where}it should be {expected!r}, not {shown(found)}"
    if str(found) == expected:
        return None
    pairs = enumerate(zip(found, expected))
    place = next((i for i, (f, e) in pairs if f != e), min(len(found), len(expected)))
    came, wanted = (named(text[place : place + 1]) for text in (found, expected))
    return f"{where}it should be {expected!r}, not {str(found)!r}; character {place} should be {wanted}, not {came}"


def named(character):
    """A character with its code point, because two that look alike may differ; "the end" for none."""
    if not character:
        return "the end"
    return f"{character!r} (U+{ord(character):04X} {unicodedata.name(character, 'without a name')})"


def number_difference(found, wanted, where):
    got = as_numbers(found)
    if got is None:
        return f"{where}it returns a {type(found).__name__}, not numbers"
    if got.size == wanted.size == 0 and isinstance(found, list | tuple):
        return None  # an empty list has only one axis
    if got.shape != wanted.shape:
        return f"{where}the shape should be {wanted.shape}, not {got.shape}"
    wrong = ~agree(got, wanted, TOLERANCE.get(dtype_name(found), 1e-10))
    if not wrong.any():
        return None
    first = tuple(int(i) for i in np.argwhere(wrong)[0])
    should = "should be {}, not {}".format(*apart(wanted[first], got[first]))
    if not first:
        return f"{where}it {should}"
    values = "value differs" if wrong.size == 1 else "values differ"
    return f"{where}{wrong.sum()} of {wrong.size} {values}; the first, at {list(first)}, {should}"


def agree(got, wanted, tolerance):
    """Where two arrays of numbers agree; whole numbers and truth values have to be equal."""
    if "f" not in got.dtype.kind + wanted.dtype.kind:
        return got == wanted
    got, wanted = got.astype("float64"), wanted.astype("float64")
    finite = np.abs(wanted[np.isfinite(wanted)])
    return np.isclose(got, wanted, rtol=0, atol=tolerance * finite.max(initial=0.01), equal_nan=True)


def as_numbers(value):
    """`value` as an array of numbers; None if that is not possible."""
    try:
        array = np.asarray(value)
    except (TypeError, ValueError):
        return None
    if array.dtype.name == "bfloat16":  # NumPy takes it for a kind of its own
        return array.astype("float32")
    return array if array.dtype.kind in "fiub" else None


def as_list(value):
    """The items of a list, a tuple or an array; None for what has none."""
    if isinstance(value, str | dict):
        return None
    try:
        return list(value if isinstance(value, list | tuple) else np.asarray(value))
    except (TypeError, ValueError):  # no array, or one without axes
        return None


def dtype_name(value):
    """The narrowest floating dtype in `value`, which may be a list of arrays."""
    if isinstance(value, list | tuple) and value and not isinstance(value[0], int | float | bool):
        return dtype_name(value[0])
    return np.asarray(value).dtype.name


def apart(wanted, got):
    """Both numbers, with as many digits as it takes to tell them apart, 6 or more."""
    if not isinstance(wanted, np.floating) or not isinstance(got, np.floating):
        return shown(wanted), shown(got)
    digits = next((n for n in range(6, 17) if f"{wanted:.{n}g}" != f"{got:.{n}g}"), 17)
    return f"{wanted:.{digits}g}", f"{got:.{digits}g}"


def shown(value):
    """A number to six digits, and anything else as Python shows it, at most 60 characters long."""
    if isinstance(value, float | np.floating):
        return f"{value:.6g}"
    text = str(value) if isinstance(value, np.generic) else repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
