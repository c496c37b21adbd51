"""The floor of a mechanism's time: only the matrix products that it cannot avoid.

A pair of a query and a key counts once, masked or not, so causal attention counts all pairs. Element-wise operations, look-ups
and moves do not count, nor do products that a mechanism could replace by a look-up.
"""

from typing import NamedTuple

NEITHER, LEFT, RIGHT, BOTH = (), ("left",), ("right",), ("left", "right")
"""The sides of a product through which a gradient for the weights flows. It does not flow through a side that depends on inputs
alone: `RIGHT` is for an input multiplied by a weight."""


class Product(NamedTuple):
    """`batch` times a matrix of (rows, inner) by one of (inner, columns).

    Attributes:
        sides: One of `NEITHER`, `LEFT`, `RIGHT` and `BOTH`.
    """

    batch: int
    rows: int
    inner: int
    columns: int
    sides: tuple = BOTH

    @property
    def multiply_adds(self):
        return self.batch * self.rows * self.inner * self.columns

    def gradients(self):
        """The products of the backward pass: the result's gradient times the right matrix for the left side, and vice versa."""
        of_left = Product(self.batch, self.rows, self.columns, self.inner)
        of_right = Product(self.batch, self.inner, self.rows, self.columns)
        return [product for side, product in (("left", of_left), ("right", of_right)) if side in self.sides]


def products_of(products, with_gradient):
    """The products of a pass: `products`, followed by those of the gradient if there is one."""
    return [*products, *(gradient for product in products for gradient in product.gradients() if with_gradient)]


def multiply_adds(products):
    return sum(product.multiply_adds for product in products)


def linear(rows, size, new_size, sides=BOTH):
    """A linear map of `rows` vectors."""
    return Product(1, rows, size, new_size, sides)


def mixing(batch, t, s, d, e=None, sides=BOTH):
    """Scores of t queries and s keys of size d, and the weighted sums of values of size e (by default d)."""
    return [Product(batch, t, d, s, sides), Product(batch, t, s, e or d, sides)]


def attention(size, t=None, s=None, sides=RIGHT, memory_sides=RIGHT):
    """Multi-head attention of t queries to s keys: three projections, scores, sums, and the map of the heads to the output.

    Args:
        size: The `Sizes` of `crosscheck/bench/case.py`. Its length is the default of t and s.
        sides, memory_sides: The sides of the query projection, and of the key and value projections.
    """
    b, m, h, d, t, s = size.b, size.m, size.h, size.d, t or size.t, s or t or size.t
    key_or_value = linear(b * s, m, h * d, memory_sides)
    return [linear(b * t, m, h * d, sides), key_or_value, key_or_value, *mixing(b * h, t, s, d), linear(b * t, h * d, m)]


def relative_attention(size, memory=0, streams=1, sides=RIGHT):
    """Attention to a memory and a segment, with distances in the scores. Two streams attend to the same keys.

    The encoding of each distance is projected once for all examples. For each query, only the s distances to its keys count, of
    the t + s that a plain product with all encodings would compute.
    """
    b, t, m, h, d = size.b, size.t, size.m, size.h, size.d
    s = memory + t
    key_or_value, encoding = linear(b * s, m, h * d, sides), linear(t + s, m, h * d, RIGHT)
    distances = Product(h, b * t, d, s)
    stream = [linear(b * t, m, h * d, sides), *mixing(b * h, t, s, d), distances, linear(b * t, h * d, m)]
    return [key_or_value, key_or_value, encoding, *(stream * streams)]


def feed_forward(rows, m, f, sides=BOTH, networks=1):
    """Maps to the inner size and back."""
    return [linear(rows, m, f, sides), linear(rows, f, m)] * networks
