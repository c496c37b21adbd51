"""Count the operations of a reference, so that a lesson can compare them with its formula for the cost."""

from contextlib import contextmanager
from unittest.mock import patch

import numpy as np


@contextmanager
def multiply_adds():
    """Inside the `with` block, every `np.einsum` of two or more arrays appends its multiply-adds to the list after `as`.

    Element-wise products and `@` are not counted: the references write their matrix products as einsums.
    """

    def measure(equation, arrays, result):
        terms = equation.replace("...", "").split("->")[0].split(",")
        size = {axis: n for term, array in zip(terms, arrays) for axis, n in zip(term[::-1], array.shape[::-1])}
        summed = np.prod([n for axis, n in size.items() if axis not in equation.split("->")[1]])
        return int(result.size * summed) * (len(arrays) - 1)

    with measured_einsum(measure) as counted:
        yield counted


@contextmanager
def numbers_read():
    """The same for the numbers that each `np.einsum` of two or more arrays has to read: the sizes of its arrays, added up."""
    with measured_einsum(lambda equation, arrays, result: sum(np.size(x) for x in arrays) * (len(arrays) > 1)) as counted:
        yield counted


@contextmanager
def measured_einsum(measure):
    """Inside the `with` block, every `np.einsum` appends `measure(equation, arrays, result)` to the list after `as`."""
    counted, einsum = [], np.einsum

    def measured(equation, *arrays, **options):
        result = einsum(equation, *arrays, **options)
        counted.append(measure(equation, arrays, result))
        return result

    with patch.object(np, "einsum", measured):
        yield counted
