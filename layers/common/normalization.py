"""Norms along the last axis, used by all blocks (Keras 3)."""

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="layers")
class LayerNorm(keras.layers.LayerNormalization):
    """`layer_norm` of `reference/common/normalization.py`, in at least float32.

    Arguments and weights are those of `keras.layers.LayerNormalization`, which on JAX computes float64 in float32. The axis must
    be the last one, and both gamma and beta are always present.

    Raises:
        ValueError: if `axis` is not the last axis, or `center` or `scale` is False.
    """

    def build(self, input_shape):
        if not (self.center and self.scale):
            raise ValueError(f"center and scale must be True. Received: center={self.center}, scale={self.scale}")
        check_last(self.axis, input_shape)
        super().build(input_shape)
        self.input_spec = same_size(input_shape)

    def call(self, inputs):
        x = in_float32_at_least(inputs)
        centered = x - mean(x)
        inverse = ops.rsqrt(mean(ops.square(centered)) + self.epsilon)
        x = centered * (inverse * ops.cast(self.gamma, x.dtype)) + ops.cast(self.beta, x.dtype)
        return ops.cast(x, self.compute_dtype)


@keras.saving.register_keras_serializable(package="layers")
class RMSNorm(keras.layers.RMSNormalization):
    """`rms_norm` of `reference/common/normalization.py`, in at least float32.

    Arguments and weights are those of `keras.layers.RMSNormalization`, which on JAX computes float64 in float32. The axis must be
    the last one.

    Raises:
        ValueError: if `axis` is not the last axis.
    """

    def build(self, input_shape):
        check_last(self.axis, input_shape)
        super().build(input_shape)
        self.input_spec = same_size(input_shape)
        self.supports_masking = True  # padding remains padding

    def call(self, inputs):
        x = in_float32_at_least(inputs)
        inverse = ops.rsqrt(mean(ops.square(x)) + self.epsilon)
        return ops.cast(x * (inverse * ops.cast(self.scale, x.dtype)), self.compute_dtype)


def check_last(axis, shape):
    if axis not in (-1, len(shape) - 1, [-1], [len(shape) - 1]):
        raise ValueError(f"axis must be the last one, -1. Received: axis={axis}")


def same_size(shape):
    """The input spec of a norm: the last axis keeps its size. Otherwise, an axis of size 1 would silently broadcast."""
    return keras.InputSpec(axes={-1: shape[-1]})


def mean(x):
    """The mean along the last axis, which is kept with size 1. On JAX, `ops.mean` computes in float32, even for float64."""
    return ops.sum(x, axis=-1, keepdims=True) / x.shape[-1]


def in_float32_at_least(x):
    """`x`, cast to float32 if it is float16 or bfloat16, because squares can overflow in float16."""
    return ops.cast(x, "float32") if keras.backend.standardize_dtype(x.dtype) in ("float16", "bfloat16") else x


@keras.saving.register_keras_serializable(package="layers")
class NoNorm(keras.layers.Layer):
    """`no_norm` of `reference/common/normalization.py`: the gamma and beta of a layer norm, without mean and variance.

    Since nothing is divided, numbers may grow from block to block, and overflow in float16. `get_weights` gives beta before
    gamma, as the Model Garden's does, so that `set_weights` takes weights from there; in files, gamma comes first.
    """

    def build(self, input_shape):
        self.beta = self.add_weight(name="beta", shape=input_shape[-1:], initializer="zeros")
        self.gamma = self.add_weight(name="gamma", shape=input_shape[-1:], initializer="ones")
        self.input_spec = same_size(input_shape)
        self.supports_masking = True  # padding remains padding

    def call(self, inputs):
        return self.gamma * inputs + self.beta

    def save_own_variables(self, store):
        store["0"], store["1"] = ops.convert_to_numpy(self.gamma), ops.convert_to_numpy(self.beta)

    def load_own_variables(self, store):
        self.gamma.assign(store["0"])
        self.beta.assign(store["1"])
