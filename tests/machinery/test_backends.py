"""Programs of `crosscheck/backends.py` that are timed: what they compute, and that all of it is computed when they return."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from numpy.testing import assert_allclose, assert_array_equal

from crosscheck.backends import compiled_step


@pytest.mark.parametrize("xla", [False, True])
def test_a_step_has_the_sum_of_squares_of_floats_and_its_gradient_for_trained_weights(xla):
    fixed, dense = keras.Variable(np.full(4, 2.0, "float32"), trainable=False), keras.layers.Dense(4, use_bias=False)
    x = np.random.default_rng(0).normal(size=(3, 5)).astype("float32")
    dense.build(x.shape)
    w = dense.kernel.numpy()

    def run(x, ids):
        return {"y": dense(x) + fixed, "nothing": None, "ids": ids}

    loss, slopes = compiled_step(run, [dense.kernel, fixed], (x, np.arange(3)), with_gradient=True, xla=xla)()
    assert_allclose(loss, np.square(x @ w + 2).sum(), rtol=1e-5)
    assert len(slopes) == 1
    assert_allclose(slopes[0], 2 * x.T @ (x @ w + 2), rtol=1e-4)
    ids, y = compiled_step(run, [dense.kernel, fixed], (x, np.arange(3)), xla=xla)()
    assert_array_equal(ids, [0, 1, 2])
    assert_allclose(y, x @ w + 2, rtol=1e-5)


def test_a_step_can_have_the_gradient_for_its_inputs_too():
    dense, x = keras.layers.Dense(4, use_bias=False), np.random.default_rng(0).normal(size=(3, 5)).astype("float32")
    dense.build(x.shape)
    w = dense.kernel.numpy()
    _, slopes = compiled_step(dense, [dense.kernel], [x], with_gradient=True, for_inputs=True)()
    assert_allclose(slopes[0], 2 * x.T @ x @ w, rtol=1e-4)
    assert_allclose(slopes[1], 2 * x @ w @ w.T, rtol=1e-4, atol=1e-5)


def test_on_an_accelerator_a_step_waits_for_what_it_computes(monkeypatch):
    did, x = [], np.ones((2, 3), "float32")
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [kind])
    monkeypatch.setattr(tf.test.experimental, "sync_devices", lambda: did.append("awaited"))
    step = compiled_step(lambda x: 2 * x, (), [x])
    assert did == []
    assert_array_equal(step()[0], 2 * x)
    assert did == ["awaited"]
