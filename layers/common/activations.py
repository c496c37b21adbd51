"""Activations by name."""

import math

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="layers")
def gelu(x):
    """x Φ(x), where Φ is the standard normal distribution function.

    Keras's own form has a built-in operation in TFLite, and TensorFlow reads it in a SavedModel made with JAX; a bare erf has
    neither. But in float64, TensorFlow's GELU has an error of 5e-9.
    """
    if keras.backend.backend() == "tensorflow" and keras.backend.standardize_dtype(x.dtype) == "float64":
        return x * (1 + ops.erf(x * math.sqrt(1 / 2))) / 2
    return ops.gelu(x, approximate=False)


@keras.saving.register_keras_serializable(package="layers")
def gelu_tanh(x):
    """The tanh approximation of GELU, which differs from the exact "gelu" by up to 4.7e-4."""
    # (1 + tanh u) / 2 = σ(2 u). On JAX, ops.tanh computes in float32, even for float64 inputs.
    return x * ops.sigmoid(2 * math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x))


@keras.saving.register_keras_serializable(package="layers")
def tanh(x):
    """tanh x. In float64 it is computed from a sigmoid, because on JAX, ops.tanh computes in float32."""
    return 2 * ops.sigmoid(2 * x) - 1 if keras.backend.standardize_dtype(x.dtype) == "float64" else ops.tanh(x)


def sine_and_cosine(x):
    """sin x and cos x. On JAX, Keras computes them in float32; for float64 inputs, use a complex exponential instead."""
    if keras.backend.backend() != "jax" or keras.backend.standardize_dtype(x.dtype) != "float64":
        return ops.sin(x), ops.cos(x)
    exponential = ops.exp(1j * x)
    return ops.imag(exponential), ops.real(exponential)


@keras.saving.register_keras_serializable(package="layers")
def cosine(x):
    """cos x."""
    return sine_and_cosine(x)[1]


OURS = {"gelu": gelu, "gelu_tanh": gelu_tanh, "tanh": tanh}


def get_activation(name, activation):
    """The activation function for `activation`, a name or a callable. "gelu" is exact, "gelu_tanh" its approximation.

    Args:
        name: Name of the argument, for the error message.
        activation: A callable, or the name of an activation.

    Raises:
        ValueError: if the activation is unknown.
    """
    if isinstance(activation, str) and activation in OURS:
        return OURS[activation]
    try:
        return keras.activations.get(activation)
    except (ValueError, TypeError) as error:
        expected = "a callable or the name of a Keras activation"
        raise ValueError(f"{name} must be {expected}. Received: {name}={activation!r}") from error
