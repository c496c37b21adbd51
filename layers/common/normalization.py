"""Norms along the last axis (Keras 3), for every block that has them."""

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="layers")
class LayerNorm(keras.layers.LayerNormalization):
    """`layer_norm` of `reference/common/normalization.py`, in at least float32.

    Arguments and weights are those of `keras.layers.LayerNormalization`, which on JAX computes float64 in float32; but the axis
    is the last, and there are always gamma and beta.

    Raises:
        ValueError: for another axis, or without one of the two.
    """

    def build(self, input_shape):
        if not (self.center and self.scale):
            raise ValueError(f"center and scale must be True. Received: center={self.center}, scale={self.scale}")
        check_last(self.axis, input_shape)
        super().build(input_shape)
        self.input_spec = same_size(input_shape)

    def call(self, inputs):
        x = in_float32_at_least(inputs)
        centred = x - mean(x)
        inverse = ops.rsqrt(mean(ops.square(centred)) + self.epsilon)
        x = centred * (inverse * ops.cast(self.gamma, x.dtype)) + ops.cast(self.beta, x.dtype)
        return ops.cast(x, self.compute_dtype)


@keras.saving.register_keras_serializable(package="layers")
class RMSNorm(keras.layers.RMSNormalization):
    """`rms_norm` of `reference/common/normalization.py`, in at least float32.

    Arguments and weights are those of `keras.layers.RMSNormalization`, which on JAX computes float64 in float32; but the axis
    is the last.

    Raises:
        ValueError: for another axis.
    """

    def build(self, input_shape):
        check_last(self.axis, input_shape)
        super().build(input_shape)
        self.input_spec = same_size(input_shape)

    def call(self, inputs):
        x = in_float32_at_least(inputs)
        inverse = ops.rsqrt(mean(ops.square(x)) + self.epsilon)
        return ops.cast(x * (inverse * ops.cast(self.scale, x.dtype)), self.compute_dtype)


def check_last(axis, shape):
    if axis not in (-1, len(shape) - 1, [-1], [len(shape) - 1]):
        raise ValueError(f"axis must be the last one, -1. Received: axis={axis}")


def same_size(shape):
    """What a norm takes: a last axis of the size that it was built for. An axis of 1 would spread over gamma, unnoticed."""
    return keras.InputSpec(axes={-1: shape[-1]})


def mean(x):
    """The mean along the last axis, which stays; `ops.mean` goes through float32 on JAX, in float64 too."""
    return ops.sum(x, axis=-1, keepdims=True) / x.shape[-1]


def in_float32_at_least(x):
    """`x`, in float32 if it has less: the square of a number need not fit into float16."""
    return ops.cast(x, "float32") if keras.backend.standardize_dtype(x.dtype) in ("float16", "bfloat16") else x


@keras.saving.register_keras_serializable(package="layers")
class NoNorm(keras.layers.Layer):
    """`no_norm` of `reference/common/normalization.py`: the gamma and beta of a layer norm, and nothing that is measured.

    Since nothing is divided, numbers may grow from block to block; in float16, beyond its largest.
    """

    def build(self, input_shape):
        self.gamma = self.add_weight(name="gamma", shape=input_shape[-1:], initializer="ones")
        self.beta = self.add_weight(name="beta", shape=input_shape[-1:], initializer="zeros")
        self.input_spec = same_size(input_shape)

    def call(self, inputs):
        return self.gamma * inputs + self.beta
