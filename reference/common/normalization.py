"""Normalization along the model axis, for all blocks."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from numpy import ndarray as Array


class LayerNorm(NamedTuple):
    """Named as in Keras."""

    gamma: Float[Array, " m"]
    beta: Float[Array, " m"]


class RMSNorm(NamedTuple):
    """Named as in Keras."""

    scale: Float[Array, " m"]


def layer_norm(x: Float[Array, "*rows m"], weights: LayerNorm, epsilon: float = 1e-12) -> Float[Array, "*rows m"]:
    """γ (x − mean) / √(variance + ε) + β, along the last axis (Ba et al., 2016, 1607.06450)."""
    centered = x - x.mean(axis=-1, keepdims=True)
    return weights.gamma * centered / np.sqrt((centered**2).mean(axis=-1, keepdims=True) + epsilon) + weights.beta


def rms_norm(x: Float[Array, "*rows m"], weights: RMSNorm, epsilon: float = 1e-12) -> Float[Array, "*rows m"]:
    """scale x / √(mean x² + ε), along the last axis (Zhang and Sennrich, 2019, 1910.07467)."""
    return weights.scale * x / np.sqrt((x**2).mean(axis=-1, keepdims=True) + epsilon)


def normalize(x: Float[Array, "*rows m"], weights: LayerNorm | RMSNorm, epsilon: float = 1e-12) -> Float[Array, "*rows m"]:
    """The norm that the type of `weights` selects."""
    return (layer_norm if isinstance(weights, LayerNorm) else rms_norm)(x, weights, epsilon)


def no_norm(x: Float[Array, "*rows m"], weights: LayerNorm, epsilon: float = 0.0) -> Float[Array, "*rows m"]:
    """γ ⊙ x + β: a layer norm without mean and variance (Sun et al., 2020, 2004.02984, section 3.3)."""
    return weights.gamma * x + weights.beta
