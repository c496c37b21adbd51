"""The floor of a mechanism's time: the matrix products that it cannot avoid, and nothing else.

A pair of a query and a key counts once, whether a mask hides it or not: causal pairs count whole. What is element-wise, looked
up or only moved counts nothing, and neither does what a mechanism could look up but multiplies.
"""

from typing import NamedTuple

NEITHER, LEFT, RIGHT, BOTH = (), ("left",), ("right",), ("left", "right")
"""The sides of a product that a gradient for the weights passes. An input of the layer, and what is made of inputs alone, is no
such side: `RIGHT` is a weight that an input is multiplied by."""


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
        """What the result's gradient is multiplied by: the right matrix for the left side, the left one for the right side."""
        of_left = Product(self.batch, self.rows, self.columns, self.inner)
        of_right = Product(self.batch, self.inner, self.rows, self.columns)
        return [product for side, product in (("left", of_left), ("right", of_right)) if side in self.sides]


def products_of(products, with_gradient):
    """The products of a pass: `products`, and with a gradient those that it takes."""
    return [*products, *(gradient for product in products for gradient in product.gradients() if with_gradient)]


def multiply_adds(products):
    return sum(product.multiply_adds for product in products)


def linear(rows, size, new_size, sides=BOTH):
    """A linear map of `rows` vectors."""
    return Product(1, rows, size, new_size, sides)


def mixing(batch, t, s, d, e=None, sides=BOTH):
    """Scores of t queries and s keys of size d, and the sums of values of size e (d unless given) that they weigh."""
    return [Product(batch, t, d, s, sides), Product(batch, t, s, e or d, sides)]


def attention(size, t=None, s=None, sides=RIGHT, memory_sides=RIGHT):
    """Multi-head attention of t queries to s keys: three projections, scores, sums, and the map of the heads to the output.

    Args:
        size: The `Sizes` of `crosscheck/bench/case.py`, whose length t and s are unless they are given.
        sides, memory_sides: Of the queries' projection, and of the keys' and the values'.
    """
    b, m, h, d, t, s = size.b, size.m, size.h, size.d, t or size.t, s or t or size.t
    key_or_value = linear(b * s, m, h * d, memory_sides)
    return [linear(b * t, m, h * d, sides), key_or_value, key_or_value, *mixing(b * h, t, s, d), linear(b * t, h * d, m)]


def relative_attention(size, memory=0, streams=1, sides=RIGHT):
    """Attention to a memory and a segment, with distances in the scores; two streams ask the same keys.

    The encoding of each distance is projected once for all examples. Of its products with the queries those count that stand at
    the distance of the query from a key: s for each query, of the t + s that a plain product has.
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
