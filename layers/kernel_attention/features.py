"""Features φ whose products φ(q)·φ(k) are, or estimate, a kernel of queries and keys; and the exact kernel (Keras 3).

Axes: `b` batch, `h` head, `t` query position, `s` key position, `d` key size, `r` feature. Queries are `(b, h, t, d)`, keys
`(b, h, s, d)`. Factors that are the same for all keys of a query cancel in attention, and are omitted.
"""

import math

import keras
import numpy as np
from keras import ops

from layers.common.activations import sine_and_cosine

LOWEST = -1e30
"""An exponent far below all others, for masked keys."""

ELEMENTWISE = {
    "elu": lambda x: ops.elu(x) + 1,
    "relu": lambda x: ops.relu(x) + 1e-3,
    "square": ops.square,
    "identity": lambda x: x,
}
EXPONENTIAL = ("exp", "expmod", "expplus")
TRANSFORMS = (*ELEMENTWISE, *EXPONENTIAL, "rfa")


def draw_projection(seed, r, d):
    """A random matrix `(r, d)` whose rows are orthogonal in blocks of d, and have the lengths of normal vectors.

    Equation (7) of `reference/kernel_attention/features.py`.
    """
    rng = np.random.default_rng(seed)
    blocks = -(-r // d)
    normal, lengths = rng.normal(size=(blocks, d, d)), np.linalg.norm(rng.normal(size=(blocks * d, d)), axis=1)
    q, upper = np.linalg.qr(normal)
    q = q * np.sign(np.diagonal(upper, axis1=1, axis2=2))[:, None, :]
    return (lengths[:, None] * q.reshape(-1, d))[:r]


def redraw_projection(generator, r, d, dtype):
    """The same matrix, drawn with Keras's `generator`, anew in every call."""
    blocks = -(-r // d)
    normal = keras.random.normal((blocks, d, d), dtype=dtype, seed=generator)
    lengths = ops.norm(keras.random.normal((blocks * d, d), dtype=dtype, seed=generator), axis=1)
    q, upper = ops.qr(normal)
    q = q * ops.sign(ops.diagonal(upper, axis1=1, axis2=2))[:, None, :]
    return (lengths[:, None] * ops.reshape(q, (-1, d)))[:r]


def features(transform, q, k, projection=None, key_mask=None):
    """φ of queries and keys. If φ is an exponential, only its exponents, for `layers/kernel_attention/exponential_sums.py`.

    Args:
        transform: One of `TRANSFORMS`.
        q, k: Scaled queries and keys; for "rfa", normalized and multiplied by the inverse bandwidth.
        projection: Random rows w, `(r, d)`, or None.
        key_mask: Boolean, `(b, 1, s)`, or None if no key is masked. The exponents of a masked key are `LOWEST`.

    Returns:
        `(b, h, t, r)` and `(b, h, s, r)`.
    """
    a, b = (x if projection is None else ops.matmul(x, ops.transpose(projection)) for x in (q, k))
    if transform in ELEMENTWISE:
        return ELEMENTWISE[transform](a), ELEMENTWISE[transform](b)
    if transform == "rfa":
        root = projection.shape[0] ** -0.5
        return tuple(root * ops.concatenate(sine_and_cosine(x), axis=-1) for x in (a, b))
    if transform == "expplus":
        spread = spread_of(q, k, key_mask)
        a, b = (ops.sqrt(1 - 4 * spread) * x + spread * ops.sum(ops.square(projection), axis=-1) for x in (a, b))
    if transform != "expmod":
        b = b - ops.sum(ops.square(k), axis=-1, keepdims=True) / 2
    return a, b if key_mask is None else ops.where(ops.expand_dims(key_mask, -1), b, LOWEST)


def spread_of(q, k, key_mask):
    """Equation (5) of `reference/kernel_attention/features.py`: A, from the mean of ‖q + k‖² over all pairs, `(b, h, 1, 1)`."""
    query_mask = key_mask
    if key_mask is not None:  # with as many queries as keys, it also masks queries
        t, every = ops.shape(q)[2], ops.ones((ops.shape(q)[0], 1, ops.shape(q)[2]), "bool")
        same = ops.equal(t, ops.shape(key_mask)[2])
        query_mask = ops.where(same, ops.concatenate([key_mask, every], axis=2)[:, :, :t], every)
    (q_mean, q_square), (k_mean, k_square) = means(q, query_mask), means(k, key_mask)
    mean, d = q_square + k_square + 2 * ops.sum(q_mean * k_mean, axis=-1, keepdims=True), q.shape[-1]
    # The paper's ρ, multiplied by its conjugate, because its numerator and denominator both vanish with the mean.
    rho = 2 * d / (ops.sqrt(ops.square(2 * mean + d) + 8 * d * mean) + 2 * mean + d)
    return (1 - 1 / rho) / 8


def means(x, mask):
    """The mean of x, `(b, h, 1, d)`, and of ‖x‖², `(b, h, 1, 1)`, over the positions that the mask allows."""
    weights = ops.ones_like(x[:, :1, :, :1]) if mask is None else ops.expand_dims(ops.cast(mask, x.dtype), -1)
    weights = weights / ops.maximum(ops.sum(weights, axis=2, keepdims=True), 1)
    mean = ops.sum(weights * x, axis=2, keepdims=True)
    return mean, ops.sum(weights * ops.sum(ops.square(x), axis=-1, keepdims=True), axis=2, keepdims=True)


def normalized(x):
    """x / ‖x‖; zeros stay zeros."""
    return x * ops.rsqrt(ops.maximum(ops.sum(ops.square(x), axis=-1, keepdims=True), 1e-30))


def least_kernel(inverse_scale):
    """The least value of the Gaussian kernel: that of two opposite unit vectors on the axis with the largest 1/σ."""
    if isinstance(inverse_scale, float):
        return math.exp(-2 * inverse_scale**2)
    return ops.exp(-2 * ops.max(ops.square(inverse_scale), axis=-1, keepdims=True))


def widened(x):
    """`x`, cast to float32 unless it is float64."""
    return ops.cast(x, "float64" if keras.backend.standardize_dtype(x.dtype) == "float64" else "float32")


def exact_exponents(transform, q, k):
    """The logarithm of the exact kernel, `(b, h, t, s)`, up to a constant for each query."""
    products = ops.matmul(q, ops.swapaxes(k, 2, 3))
    if transform in ("exp", "expplus"):
        return products
    squares = ops.swapaxes(ops.sum(ops.square(k), axis=-1, keepdims=True), 2, 3) / 2
    return products + squares if transform == "expmod" else products - squares


def scaled_by_length(q, k, mask):
    """Queries times log(number of keys) / log(512); keys that the mask `(b, 1, s)` forbids do not count."""
    count = ops.shape(k)[2] if mask is None else ops.maximum(ops.sum(ops.cast(mask, q.dtype), -1), 1)[..., None, None]
    return q * ops.log(ops.cast(count, q.dtype)) / math.log(512)
