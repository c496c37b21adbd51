"""One case of `python -m crosscheck.bench`, its sizes, and functions that draw its inputs."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np


class Sizes(NamedTuple):
    """Axis sizes under the README's letters, and some sizes of single mechanisms."""

    b: int
    t: int
    m: int
    h: int
    d: int
    f: int
    a: int
    c: int
    n: int
    r: int
    vectors: int  # the batch of a Gaussian process, whose inputs have no sequence axis
    pairs: int  # the batch of MatMulWithMargin, which compares every vector with every other
    asked: int  # positions that MaskedLM predicts
    long: int  # tokens of a long sequence
    block: int  # tokens of a block of BigBird, of which there are 16


SIZES = {
    "bench": Sizes(8, 256, 512, 8, 64, 2048, a=3, c=5, n=30522, r=1024, vectors=128, pairs=1024, asked=20, long=2048, block=64),
    "small": Sizes(2, 14, 48, 4, 12, 20, a=3, c=5, n=30, r=17, vectors=9, pairs=11, asked=7, long=32, block=4),
}


def at_rest(layer, *inputs):
    """Call a layer without changing its state. Without `training=False`, the Model Garden's layers may change theirs."""
    return layer(*inputs, training=False)


class Case(NamedTuple):
    """Attributes:

    layer: A layer, not yet built.
    inputs: Arrays.
    products: The matrix products that it cannot avoid, as counted by `crosscheck/bench/floors.py`; may be empty.
    call: Takes the layer and `inputs`.
    """

    layer: object
    inputs: tuple
    products: list
    call: Callable = lambda layer, *inputs: layer(*inputs)


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape, "float32")


def below(high, *shape):
    """Integers from 0 to `high` − 1."""
    return np.random.default_rng(0).integers(0, high, shape, "int32")


def weights(*shape):
    """Positive numbers that sum to 1 along the last axis."""
    x = np.abs(normal(*shape))
    return x / x.sum(-1, keepdims=True)


def tokens(b, t):
    """1 for a token, 0 for padding `(b, t)`: a quarter of the first sequence is padding."""
    mask = np.ones((b, t), "int32")
    mask[0, -(t // 4) :] = 0
    return mask


def visible(b, t):
    """The mask `(b, t, s)` of the same sequences, written out in full as callers often pass it."""
    return np.repeat(tokens(b, t)[:, None, :], t, axis=1)
