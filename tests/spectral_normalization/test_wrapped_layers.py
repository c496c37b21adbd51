"""What a wrapped layer does besides its output, and kernels that are quantized or have a low-rank addition, on both backends."""

import os
import subprocess
import sys

import keras
import numpy as np
import pytest
from keras import ops
from numpy.testing import assert_allclose

from layers import SpectralNormalization

B, M, F = 6, 5, 4
X = np.random.default_rng(0).normal(size=(B, M)).astype("float32")


@keras.saving.register_keras_serializable(package="test_wrapped_layers")
class Busy(keras.layers.Layer):
    """A layer that counts its calls, drops, tracks a mean and adds a loss."""

    def __init__(self, rate=0.5, **kwargs):
        super().__init__(**kwargs)
        self.dropout = keras.layers.Dropout(rate, seed=3)
        self.norm = keras.layers.BatchNormalization(momentum=0.5)

    def build(self, inputs_shape):
        self.kernel = self.add_weight(name="kernel", shape=(inputs_shape[-1], F), initializer="orthogonal")
        self.count = self.add_weight(name="count", shape=(), initializer="zeros", trainable=False)
        self.norm.build((None, F))

    def call(self, inputs, training=None):
        self.count.assign_add(1)
        y = ops.matmul(inputs, self.kernel)
        self.add_loss(ops.sum(ops.square(y)))
        return self.dropout(self.norm(y, training=training) + 1, training=training)

    def compute_output_shape(self, inputs_shape):
        return (*inputs_shape[:-1], F)


def array(x):
    return np.asarray(ops.convert_to_numpy(x))


def dropped(y):
    return (array(y) == 0).tolist()


def busy(**options):
    layer = SpectralNormalization(Busy(**options), norm_multiplier=0.1)
    layer.build((None, M))
    return layer


def test_counters_masks_statistics_and_losses_of_the_wrapped_layer_survive():
    layer = busy()
    masks = [dropped(layer(X, training=True)) for _ in range(3)]
    assert masks[0] != masks[1] != masks[2] != masks[0]
    assert float(array(layer.layer.count)) == 3
    small = 0.1 * X @ array(layer.layer.kernel)  # all singular values of the kernel are 1
    assert_allclose(array(layer.layer.norm.moving_mean), small.mean(0) * 0.875, rtol=1e-3, atol=1e-6)
    (loss,) = layer.losses
    assert_allclose(array(loss), np.square(small).sum(), rtol=1e-3)


def test_they_survive_a_stateless_call_and_leave_the_layer_as_it_was():
    layer = busy()
    state = layer.non_trainable_variables
    before = [array(variable) for variable in state]
    values, masks = state, []
    for _ in range(2):
        y, values, losses = layer.stateless_call(layer.trainable_variables, values, X, training=True, return_losses=True)
        masks.append(dropped(y))
    assert masks[0] != masks[1]
    (place,) = (place for place, variable in enumerate(state) if variable.path.endswith("count"))
    assert float(array(values[place])) == 2
    assert len(losses) == 1
    for variable, value in zip(state, before):
        assert_allclose(array(variable), value)


def test_they_survive_fit_where_the_loss_counts_once():
    layer = busy(rate=0.0)
    model = keras.Sequential([keras.Input((M,)), layer])
    model.compile(keras.optimizers.SGD(0.0), "mse")
    target = np.zeros((B, F), "float32")
    history = model.fit(X, target, batch_size=B // 2, epochs=2, shuffle=False, verbose=0)
    assert float(array(layer.layer.count)) == 4
    small = 0.1 * X @ array(layer.layer.kernel)
    halves = np.stack([small[: B // 2], small[B // 2 :]])
    normed = (halves - halves.mean(1, keepdims=True)) / np.sqrt(halves.var(1, keepdims=True) + 1e-3) + 1
    expected = np.square(normed).mean((1, 2)) + np.square(halves).sum((1, 2))
    assert_allclose(history.history["loss"][0], expected.mean(), rtol=1e-3)


def test_regularizers_of_a_dense_and_of_its_output_count_once_in_a_stateless_call_too():
    inner = keras.layers.Dense(F, activity_regularizer="l2", kernel_regularizer="l2")
    layer = SpectralNormalization(inner, norm_multiplier=0.1)
    layer(X)
    expected = sorted(map(array, layer.losses))
    assert len(expected) == 2
    outer = keras.Sequential([keras.Input((M,)), layer])
    _, _, losses = outer.stateless_call(outer.trainable_variables, outer.non_trainable_variables, X, return_losses=True)
    assert_allclose(sorted(map(array, losses)), expected, rtol=1e-5)


def test_a_layer_that_assigns_its_own_kernel_is_rejected():
    class Shrinking(keras.layers.Dense):
        def call(self, inputs):
            self.kernel.assign(self.kernel / 2)
            return super().call(inputs)

    with pytest.raises(ValueError, match="layer must not assign its own kernel. Received: layer=Shrinking"):
        SpectralNormalization(Shrinking(F))(X)


WRAPPED = {
    "dense": lambda: keras.layers.Dense(F, "relu", bias_initializer="normal"),
    "into heads": lambda: keras.layers.EinsumDense("bm,mhd->bhd", (2, 3), bias_axes="hd"),
    "other order": lambda: keras.layers.EinsumDense("bm,fm->bf", (F,)),
}


# Keras adds to a quantized EinsumDense only where the kernel's last axis is one of the output.
@pytest.mark.slow
@pytest.mark.parametrize(("kind", "addition"), [*((kind, False) for kind in WRAPPED), ("dense", True), ("into heads", True)])
def test_quantized_to_int8_the_wrapped_layer_keeps_its_scale_and_its_bound(kind, addition):
    layer = SpectralNormalization(WRAPPED[kind](), norm_multiplier=0.1)
    layer(X)
    if addition:
        layer.layer.enable_lora(2)
        shape = layer.layer.lora_kernel_b.shape
        layer.layer.lora_kernel_b.assign(np.random.default_rng(1).normal(size=shape))
        layer.warm_start()
    before = array(layer(X))
    layer.layer.quantize("int8")
    after = array(layer(X))
    assert 0 < abs(after - before).max() < 0.02 * abs(before).max()
    assert_allclose(array(layer(X, training=True)), after, rtol=0, atol=0.02 * abs(before).max())


def test_the_norm_of_a_kernel_with_a_low_rank_addition_is_bounded_and_only_the_addition_is_trained():
    layer = SpectralNormalization(keras.layers.Dense(F, use_bias=False), norm_multiplier=0.1)
    layer(X)
    layer.layer.enable_lora(2)
    layer.layer.lora_kernel_b.assign(np.ones((2, F)))
    layer.warm_start(tolerance=1e-6)
    assert_allclose(np.linalg.norm(array(layer(np.eye(M, dtype="float32"))), 2), 0.1, rtol=1e-3)
    start = array(layer.layer._kernel)
    model = keras.Sequential([keras.Input((M,)), layer])
    model.compile(keras.optimizers.SGD(1.0), "mse")
    addition = array(layer.layer.lora_kernel_b)
    model.fit(X, X[:, :F], epochs=1, verbose=0)
    assert np.array_equal(array(layer.layer._kernel), start)
    assert abs(array(layer.layer.lora_kernel_b) - addition).max() > 1e-4


def test_a_kernel_that_is_quantized_to_four_bits_is_rejected():
    layer = SpectralNormalization(keras.layers.Dense(F, name="d"))
    layer(X)
    layer.layer.quantize("int4")
    with pytest.raises(
        ValueError, match="layer must not be quantized, or to int8 or float8. Received: layer=Dense 'd', quantized"
    ):
        layer(X)


@pytest.mark.slow
@pytest.mark.skipif(keras.backend.backend() == "jax", reason="this is what runs it on JAX")
def test_all_of_this_on_jax():
    environment = os.environ | {"KERAS_BACKEND": "jax", "JAX_ENABLE_X64": "0"}
    program = [sys.executable, "-m", "pytest", "-n0", "-q", "-p", "no:cacheprovider", "-W", "ignore", __file__]
    ran = subprocess.run(program, env=environment, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout[-3000:]
