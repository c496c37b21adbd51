"""Activations by name."""

import math

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="layers")
def gelu(x):
    """x Φ(x), with Φ the normal distribution function. TensorFlow's own is 2e-9 off in float64: its constants are float32."""
    return x * (1 + ops.erf(x * math.sqrt(1 / 2))) / 2


@keras.saving.register_keras_serializable(package="layers")
def gelu_tanh(x):
    """The tanh approximation of GELU, up to 4.7e-4 away from "gelu", which is exact."""
    # (1 + tanh u) / 2 = σ(2 u); on JAX ops.tanh goes through float32, in float64 too.
    return x * ops.sigmoid(2 * math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x))


@keras.saving.register_keras_serializable(package="layers")
def tanh(x):
    """tanh x, in float64 as a sigmoid: on JAX ops.tanh goes through float32."""
    return 2 * ops.sigmoid(2 * x) - 1 if keras.backend.standardize_dtype(x.dtype) == "float64" else ops.tanh(x)


def sine_and_cosine(x):
    """sin x and cos x; from a complex exponential where Keras would take float64 to float32 for them, as it does on JAX."""
    if keras.backend.backend() != "jax" or keras.backend.standardize_dtype(x.dtype) != "float64":
        return ops.sin(x), ops.cos(x)
    turned = ops.exp(1j * x)
    return ops.imag(turned), ops.real(turned)


@keras.saving.register_keras_serializable(package="layers")
def cosine(x):
    """cos x."""
    return sine_and_cosine(x)[1]


OURS = {"gelu": gelu, "gelu_tanh": gelu_tanh, "tanh": tanh}


def get_activation(name, activation):
    """The activation that `activation`, a name or a callable, stands for; "gelu" is the exact one, "gelu_tanh" its approximation.

    Raises:
        ValueError: naming the argument `name`, if there is no such activation.
    """
    if isinstance(activation, str) and activation in OURS:
        return OURS[activation]
    try:
        return keras.activations.get(activation)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{name} must be a callable or the name of an activation of Keras. Received: {activation!r}") from error
