"""Activations, under the names that Keras gives them."""

import math

import numpy as np
from jaxtyping import Float
from numpy import ndarray as Array


def linear(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """x."""
    return x


def relu(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """max(0, x)."""
    return np.maximum(x, 0)


def sigmoid(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """1 / (1 + e^−x), written so that no exponent is positive."""
    small = np.exp(-np.abs(x))
    return np.where(x >= 0, 1 / (1 + small), small / (1 + small))


def silu(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Swish with β = 1: x σ(x)."""
    return x * sigmoid(x)


def gelu(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """x Φ(x), with Φ the normal distribution function itself (Hendrycks and Gimpel, 2016, section 2)."""
    erf = np.array([math.erf(value) for value in np.ravel(x) / math.sqrt(2)], x.dtype).reshape(x.shape)
    return x * (1 + erf) / 2


def gelu_tanh(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """The tanh approximation of `gelu`, at most 4.7e-4 away from it. The code of BERT and of the Model Garden uses it."""
    return x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))) / 2


ACTIVATIONS = {
    "linear": linear,
    "relu": relu,
    "sigmoid": sigmoid,
    "tanh": np.tanh,
    "silu": silu,
    "swish": silu,
    "gelu": gelu,
    "gelu_tanh": gelu_tanh,
}
