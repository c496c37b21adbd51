"""Take apart what a layer or a reference returns: an array, ragged rows, a tuple, a dict, any of these nested, None inside."""

from dataclasses import dataclass
from itertools import accumulate, pairwise

import keras
import numpy as np


def leaves(output, path="output"):
    """The arrays in `output` by where they stand, such as `{"output[0]": ..., "output[1].key": ...}`; None is left out."""
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
    """A NumPy array of a tensor; floats of every width become float64, which holds them all exactly, and bytes become text."""
    if not isinstance(leaf, (np.ndarray, np.generic)):
        if keras.backend.is_float_dtype(keras.backend.standardize_dtype(leaf.dtype)):
            leaf = keras.ops.cast(leaf, "float32" if leaf.dtype != "float64" else "float64")
        leaf = keras.ops.convert_to_numpy(leaf)
    leaf = np.asarray(leaf)
    if is_text(leaf):
        texts = [x.decode(errors="surrogateescape") if isinstance(x, bytes) else str(x) for x in leaf.flat]
        return np.array(texts, object).reshape(leaf.shape)
    return leaf.astype("float64", copy=False) if is_float(leaf) else leaf


def is_float(array):
    """Whether `array` holds floating-point numbers (so not masks, ids or text)."""
    return np.issubdtype(np.asarray(array).dtype, np.floating)


def is_text(array):
    """Whether `array` holds text, as `str` or as bytes; only arrays of Python objects keep the NUL at a text's end."""
    return np.asarray(array).dtype.kind in "OUS"


def numbers(output, path="output"):
    """`leaves(output, path)`, each as a NumPy array, and as several where it is ragged: its values, and where its rows end."""
    found = {}
    for where, leaf in leaves(output, path).items():
        arrays = {f"{where}.{part}": x for part, x in ragged_parts(leaf).items()} if is_ragged(leaf) else {where: leaf}
        found |= {place: to_numpy(array) for place, array in arrays.items()}
    return found


@dataclass(frozen=True)
class Ragged:
    """Nested lists, on the reference's side what a ragged tensor is on the layer's.

    Attributes:
        rows: Lists nested `axes` deep, the axes of the tensor.
        axes: Their depth, which empty lists do not tell: `[[], []]` with 3 axes is two sentences without a word.
        dtype: Of what is at the bottom: numbers, or text (`object`).
    """

    rows: list
    axes: int
    dtype: str = "int32"

    @property
    def shape(self):
        return (len(self.rows), *[None] * (self.axes - 1))

    @property
    def flat_values(self):
        """What is at the bottom, in order."""
        return np.array(self.levels()[-1], self.dtype)

    @property
    def nested_row_splits(self):
        """For each axis but the last: where each list starts among all lists, or values, of the next, and where the last ends."""
        return tuple(np.cumsum([0, *map(len, level)]) for level in self.levels()[:-1])

    def levels(self):
        """The lists of each axis, in order, all in one list."""
        return list(accumulate(range(self.axes - 1), lambda level, _: [x for part in level for x in part], initial=self.rows))

    def __getitem__(self, some):
        return Ragged(self.rows[some], self.axes, self.dtype)


def is_ragged(value):
    """Whether `value` is a `Ragged` or one of TensorFlow's ragged tensors, which have their parts under the same names."""
    return hasattr(value, "nested_row_splits")


def ragged_parts(ragged):
    """The arrays that make up a ragged value: {"values": all of them, "row_splits[0]": of the first axis, ...}."""
    splits = {f"row_splits[{axis}]": split for axis, split in enumerate(ragged.nested_row_splits)}
    return {"values": ragged.flat_values, **splits}


def as_lists(ragged):
    """The nested lists of a ragged value; TensorFlow's own `to_list` takes minutes for many rows."""
    values = np.asarray(ragged.flat_values).tolist()
    for splits in ragged.nested_row_splits[::-1]:
        values = [values[start:limit] for start, limit in pairwise(np.asarray(splits).tolist())]
    return values
