"""A table that is looked up trains as if each row's gradient were one number: the sum over its places."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from numpy.testing import assert_allclose, assert_array_equal

from layers.common.ids import rows_at
from layers.on_device_embedding import OnDeviceEmbedding
from layers.positional_embedding import RelativePositionBias

N, M = 7, 3
IDS = np.array([2] * 64 + [0, 5, 5])
OPTIMIZERS = ("SGD", "RMSprop", "Adam", "AdamW", "Adadelta", "Adagrad", "Adamax", "Adafactor", "Nadam", "Ftrl", "Lion", "Lamb")

every_way = pytest.mark.parametrize("compiled", [None, False, True], ids=["eager", "graph", "XLA"])
every_policy = pytest.mark.parametrize("policy", ["float64", "float32", "mixed_bfloat16", "mixed_float16"])


def embedding(use_one_hot=False, dtype="float64"):
    layer = OnDeviceEmbedding(N, M, use_one_hot=use_one_hot, dtype=dtype)
    layer.build((None,))
    return layer


def move(optimizer, loss, variables, compiled=None):
    """What one step adds to each of `variables`."""
    optimizer.build(variables)
    starts, values = [np.array(variable) for variable in variables], [variable.value for variable in variables]

    def step():
        with tf.GradientTape() as tape:
            total = loss()
        optimizer.apply(tape.gradient(total, values), variables)

    (step if compiled is None else tf.function(step, jit_compile=compiled))()
    return [np.array(variable) - start for variable, start in zip(variables, starts)]


@every_way
@every_policy
@pytest.mark.parametrize("use_one_hot", [False, True], ids=["look-up", "one-hot"])
def test_a_row_that_occurs_64_times_moves_by_the_learning_rate_in_a_step_of_adam(use_one_hot, policy, compiled):
    layer = embedding(use_one_hot, policy)
    (found,) = move(keras.optimizers.Adam(0.01), lambda: keras.ops.sum(layer(IDS)), [layer.embeddings], compiled)
    expected = np.zeros((N, M))
    expected[[0, 2, 5]] = -0.01
    assert_allclose(found, expected, rtol=1e-4, atol=1e-9)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_look_up_trains_as_the_product_with_one_hot_vectors_does(rng, name):
    layers = [embedding(use_one_hot) for use_one_hot in (False, True)]
    layers[1].set_weights(layers[0].get_weights())
    slope = rng.normal(size=(len(IDS), M))
    moves = [
        move(
            getattr(keras.optimizers, name)(0.1, clipnorm=0.5),
            lambda layer=layer: keras.ops.sum(layer(IDS) * slope),
            layer.weights,
        )
        for layer in layers
    ]
    assert np.abs(moves[0][0][2]).min() > 0
    assert_allclose(moves[0], moves[1], rtol=1e-10, atol=1e-14)


def test_a_table_that_is_used_twice_has_one_gradient():
    """TensorFlow concatenates the entries of both uses, so that each row would occur twice even if no use repeated one."""
    layer = embedding()
    (found,) = move(
        keras.optimizers.Adam(0.01), lambda: keras.ops.sum(layer(IDS[-3:-1])) + keras.ops.sum(layer(IDS[-3:-1])), layer.weights
    )
    assert_allclose(found[[0, 5]], -0.01, rtol=1e-4)


def test_the_bias_of_a_bucket_moves_by_the_learning_rate():
    layer, x = RelativePositionBias(2, dtype="float64"), np.zeros((1, 40, 1))
    layer(x, x)
    (found,) = move(keras.optimizers.Adam(0.01), lambda: keras.ops.sum(layer(x, x)), layer.weights)
    silent = np.abs(found) < 1e-9
    assert_allclose(found[~silent], -0.01, rtol=1e-4)
    assert 0 < silent.sum() < found.size / 2  # distances that 40 positions do not have


@every_way
def test_rows_of_any_table_and_ids_of_any_shape(rng, compiled):
    table, ids = rng.normal(size=(N, 2, M)), rng.integers(0, N, (3, 1, 4)).astype("int32")
    variable = keras.Variable(table, dtype="float64")
    for given in (variable, tf.constant(table)):
        run = rows_at if compiled is None else tf.function(lambda _, ids, given=given: rows_at(given, ids), jit_compile=compiled)
        assert_array_equal(run(given if compiled is None else 0, ids), table[ids])


def test_second_derivatives_exist(rng):
    table, ids = keras.Variable(rng.normal(size=(N, M)), dtype="float64"), np.array([1, 1, 4])
    with tf.GradientTape() as outer:
        with tf.GradientTape() as inner:
            total = keras.ops.sum(rows_at(table, ids) ** 3)
        slope = keras.ops.sum(inner.gradient(total, table.value))
    counts = np.bincount(ids, minlength=N)[:, None]
    assert_allclose(outer.gradient(slope, table.value), 6 * counts * np.array(table), rtol=1e-12)
