"""Flatten the output of a layer or a reference: an array, ragged rows, a tuple, a dict, or any nesting of these with None."""

from dataclasses import dataclass
from itertools import accumulate, pairwise

import keras
import ml_dtypes
import numpy as np


def leaves(output, path="output"):
    """The arrays in `output` by position, such as `{"output[0]": ..., "output[1].key": ...}`; None is left out."""
    if output is None:
        return {}
    if isinstance(output, dict):
        parts = {f"{path}.{name}": output[name] for name in sorted(output)}
    elif isinstance(output, (tuple, list)):
        parts = {f"{path}[{i}]": part for i, part in enumerate(output)}
    else:
        return {path: output}
    return {where: leaf for name, part in parts.items() for where, leaf in leaves(part, name).items()}


def to_numpy(leaf):
    """A tensor as a NumPy array. Floats of any width become float64, which represents them exactly, and bytes become text."""
    if not isinstance(leaf, (np.ndarray, np.generic)):
        holds_floats = keras.backend.is_float_dtype(keras.backend.standardize_dtype(leaf.dtype))
        leaf = keras.ops.convert_to_numpy(leaf)
        leaf = leaf.astype("float64") if holds_floats else leaf  # NumPy does not count bfloat16 as a float
    leaf = np.asarray(leaf)
    if is_text(leaf):
        texts = [x.decode(errors="surrogateescape") if isinstance(x, bytes) else str(x) for x in leaf.flat]
        return np.array(texts, object).reshape(leaf.shape)
    return leaf.astype("float64", copy=False) if is_float(leaf) else leaf


def numbers_in(array, dtype):
    """An array of numbers, rounded to any dtype of Keras by NumPy: JAX would compile a program for each shape."""
    with np.errstate(over="ignore"):  # what is too large is infinite, as in a tensor
        return np.asarray(array).astype(ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype)


def is_float(array):
    """Whether `array` holds floating-point numbers, as opposed to masks, ids or text."""
    return np.issubdtype(np.asarray(array).dtype, np.floating)


def is_text(array):
    """Whether `array` holds text, as `str` or as bytes. Only arrays of Python objects keep a NUL at the end of a text."""
    return np.asarray(array).dtype.kind in "OUS"


def numbers(output, path="output"):
    """`leaves(output, path)` as NumPy arrays. A ragged leaf becomes several arrays: its values and its row splits."""
    found = {}
    for where, leaf in leaves(output, path).items():
        arrays = {f"{where}.{part}": x for part, x in ragged_parts(leaf).items()} if is_ragged(leaf) else {where: leaf}
        found |= {place: to_numpy(array) for place, array in arrays.items()}
    return found


@dataclass(frozen=True)
class Ragged:
    """Nested lists: the counterpart, for references, of a ragged tensor.

    Attributes:
        rows: Lists nested `axes` deep.
        axes: Their depth, which cannot be read off empty lists: `[[], []]` with 3 axes is two sentences without words.
        dtype: The dtype of the values: numbers, or text (`object`).
    """

    rows: list
    axes: int
    dtype: str = "int32"

    @property
    def shape(self):
        return (len(self.rows), *[None] * (self.axes - 1))

    @property
    def flat_values(self):
        """The values, in order."""
        return np.array(self.levels()[-1], self.dtype)

    @property
    def nested_row_splits(self):
        """For each axis but the last: the start of each list among the lists or values of the next axis, and the end of all."""
        return tuple(np.cumsum([0, *map(len, level)]) for level in self.levels()[:-1])

    def levels(self):
        """For each axis, one list of its entries in order."""
        return list(accumulate(range(self.axes - 1), lambda level, _: [x for part in level for x in part], initial=self.rows))

    def __getitem__(self, some):
        return Ragged(self.rows[some], self.axes, self.dtype)


def is_ragged(value):
    """Whether `value` is a `Ragged` or one of TensorFlow's ragged tensors, whose parts have the same names."""
    return hasattr(value, "nested_row_splits")


def ragged_parts(ragged):
    """The arrays that make up a ragged value: {"values": ..., "row_splits[0]": those of the first axis, ...}."""
    splits = {f"row_splits[{axis}]": split for axis, split in enumerate(ragged.nested_row_splits)}
    return {"values": ragged.flat_values, **splits}


def as_lists(ragged):
    """The nested lists of a ragged value; TensorFlow's own `to_list` takes minutes for many rows."""
    values = np.asarray(ragged.flat_values).tolist()
    for splits in ragged.nested_row_splits[::-1]:
        values = [values[start:limit] for start, limit in pairwise(np.asarray(splits).tolist())]
    return values
