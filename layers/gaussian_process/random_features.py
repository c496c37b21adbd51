"""Random features, and the weights on them, of a Gaussian process (Keras 3); in at least float32 whatever the policy around."""

import math

import keras
import numpy as np
from keras import ops

DRAWS = {"gaussian": lambda rng, size: rng.normal(size=size), "laplacian": lambda rng, size: rng.standard_cauchy(size)}
KERNEL_TYPES = (*DRAWS, "linear")


def draw_random_features(seed, kernel_type, m, r):
    """W and b of equation (1) of `reference/gaussian_process.py`, with NumPy's numbers: the same on every backend."""
    rng = np.random.default_rng(seed)
    return DRAWS[kernel_type](rng, (m, r)), rng.uniform(0, 2 * math.pi, r)


class RandomFeatures(keras.layers.Layer):
    """activation(x W + b), whose `kernel` W and `bias` b are drawn and not trained.

    Args:
        units: Number of features, `r`.
        activation: A callable.
        kernel_type: One of `DRAWS`.
        kernel_initializer: Of W, in place of the draw of `kernel_type`; or None.
        seed: Of the draw.
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
        # Never cast by a layer around this one: bfloat16 knows an angle of 20 to a tenth.
        self.kernel = self.add_weight(name="kernel", shape=(m, r), initializer=kernel, trainable=False, autocast=False)
        self.bias = self.add_weight(name="bias", shape=(r,), initializer=bias, trainable=False, autocast=False)

    def call(self, inputs):
        return self.activation(ops.matmul(inputs, self.kernel) + self.bias)


class FeatureWeights(keras.layers.Layer):
    """Φ β, in the dtype of the features Φ; β is the weight `kernel`.

    Args:
        units: Number of classes, `c`.
        kernel_regularizer: Penalty on β.
    """

    def __init__(self, units, kernel_regularizer, **kwargs):
        super().__init__(autocast=False, **kwargs)
        self.units = units
        self.kernel_regularizer = kernel_regularizer

    def build(self, inputs_shape):
        shape = (inputs_shape[-1], self.units)
        self.kernel = self.add_weight(name="kernel", shape=shape, regularizer=self.kernel_regularizer, autocast=False)

    def call(self, inputs):
        return ops.matmul(inputs, ops.cast(self.kernel, inputs.dtype))


def given(array):
    """An initializer that gives `array`."""
    return lambda shape, dtype: ops.cast(array, dtype)
