"""Rows of unequal lengths, such as the words of sentences and the pieces of words, for which NumPy has no array."""

from dataclasses import dataclass
from itertools import accumulate, pairwise

import numpy as np


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


def parts(ragged):
    """The arrays that make up a ragged value: {"values": all of them, "row_splits[0]": of the first axis, ...}."""
    splits = {f"row_splits[{axis}]": split for axis, split in enumerate(ragged.nested_row_splits)}
    return {"values": ragged.flat_values, **splits}


def as_lists(ragged):
    """The nested lists of a ragged value; TensorFlow's own `to_list` takes minutes for many rows."""
    values = np.asarray(ragged.flat_values).tolist()
    for splits in ragged.nested_row_splits[::-1]:
        values = [values[start:limit] for start, limit in pairwise(np.asarray(splits).tolist())]
    return values
