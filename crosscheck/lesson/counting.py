"""Count the operations of a reference, so that a lesson can compare them with its formula for the cost."""

from contextlib import contextmanager
from unittest.mock import patch

import numpy as np


@contextmanager
def multiply_adds():
    """Inside the `with` block, every `np.einsum` of two or more arrays appends its multiply-adds to the list after `as`.

    Element-wise products and `@` are not counted: the references write their matrix products as einsums.
    """
    counted, einsum = [], np.einsum

    def counting(equation, *arrays, **options):
        terms = equation.replace("...", "").split("->")[0].split(",")
        size = {axis: n for term, array in zip(terms, arrays) for axis, n in zip(term[::-1], array.shape[::-1])}
        result = einsum(equation, *arrays, **options)
        summed = np.prod([n for axis, n in size.items() if axis not in equation.split("->")[1]])
        counted.append(int(result.size * summed) * (len(arrays) - 1))
        return result

    with patch.object(np, "einsum", counting):
        yield counted
