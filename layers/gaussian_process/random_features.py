"""Random features of a Gaussian process and their weights, in at least float32 under any dtype policy (Keras 3)."""

import math

import keras
import numpy as np
from keras import ops

DRAWS = {"gaussian": lambda rng, size: rng.normal(size=size), "laplacian": lambda rng, size: rng.standard_cauchy(size)}
KERNEL_TYPES = (*DRAWS, "linear")


def draw_random_features(seed, kernel_type, m, r):
    """W and b of equation (1) of `reference/gaussian_process.py`, drawn with NumPy: the same on every backend."""
    rng = np.random.default_rng(seed)
    return DRAWS[kernel_type](rng, (m, r)), rng.uniform(0, 2 * math.pi, r)


class RandomFeatures(keras.layers.Layer):
    """activation(x W + b), whose `kernel` W and `bias` b are random and not trained.

    Args:
        units: Number of features, `r`.
        activation: A callable.
        kernel_type: One of `DRAWS`.
        kernel_initializer: Initializer of W, instead of the distribution of `kernel_type`; or None.
        seed: Seed of W and b.
    """

    def __init__(self, units, activation, kernel_type="gaussian", kernel_initializer=None, seed=0, **kwargs):
        super().__init__(trainable=False, autocast=False, **kwargs)
        self.units = units
        self.activation = activation
        self.kernel_type = kernel_type
        self.kernel_initializer = kernel_initializer
        self.seed = seed

    def build(self, inputs_shape):
        m, r = inputs_shape[-1], self.units
        kernel, bias = (given(array) for array in draw_random_features(self.seed, self.kernel_type, m, r))
        if self.kernel_initializer is not None:
            kernel = self.kernel_initializer
        # Not cast by an outer layer, because the rounding error of bfloat16 at an angle of 20 is about 0.1.
        self.kernel = self.add_weight(name="kernel", shape=(m, r), initializer=kernel, trainable=False, autocast=False)
        self.bias = self.add_weight(name="bias", shape=(r,), initializer=bias, trainable=False, autocast=False)

    def call(self, inputs):
        return self.activation(ops.matmul(inputs, self.kernel) + self.bias)


class FeatureWeights(keras.layers.Layer):
    """Φ β, in the dtype of the features Φ; β is the weight `kernel`.

    Args:
        units: Number of classes, `c`.
        kernel_initializer: Initializer of β.
        kernel_regularizer: Regularizer of β.
    """

    def __init__(self, units, kernel_initializer, kernel_regularizer, **kwargs):
        super().__init__(autocast=False, **kwargs)
        self.units = units
        self.kernel_initializer = kernel_initializer
        self.kernel_regularizer = kernel_regularizer

    def build(self, inputs_shape):
        shape = (inputs_shape[-1], self.units)
        options = {"initializer": self.kernel_initializer, "regularizer": self.kernel_regularizer}
        self.kernel = self.add_weight(name="kernel", shape=shape, autocast=False, **options)

    def call(self, inputs):
        return ops.matmul(inputs, ops.cast(self.kernel, inputs.dtype))


def given(array):
    """An initializer that returns `array`."""
    return lambda shape, dtype: ops.cast(array, dtype)
