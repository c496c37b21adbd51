"""How layers are built, and programs that are timed: what they compute, and that all of it is computed when they return."""

import os
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from numpy.testing import assert_allclose, assert_array_equal

from crosscheck.backends import compiled_step
from crosscheck.weights import RANDOM, drawn_by_numpy


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
    drawn = keras.initializers.GlorotUniform(seed=0)
    dense = keras.layers.Dense(4, use_bias=False, kernel_initializer=drawn)
    x = np.random.default_rng(0).normal(size=(3, 5)).astype("float32")
    dense.build(x.shape)
    w = dense.kernel.numpy()
    _, slopes = compiled_step(dense, [dense.kernel], [x], with_gradient=True, for_inputs=True)()
    assert_allclose(slopes[0], 2 * x.T @ x @ w, rtol=1e-4, atol=1e-5)
    assert_allclose(slopes[1], 2 * x @ w @ w.T, rtol=1e-4, atol=1e-5)


def test_on_an_accelerator_a_step_waits_for_what_it_computes(monkeypatch):
    did, x = [], np.ones((2, 3), "float32")
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [kind])
    monkeypatch.setattr(tf.test.experimental, "sync_devices", lambda: did.append("awaited"))
    step = compiled_step(lambda x: 2 * x, (), [x])
    assert did == []
    assert_array_equal(step()[0], 2 * x)
    assert did == ["awaited"]


COMPARED = """
import keras
from crosscheck.agreement import agreement
from crosscheck.cases.masked_softmax import CHAPTER
print("error", agreement(CHAPTER.cases[0]))
"""


@pytest.mark.parametrize(("asked", "said"), [(None, "error "), ("0", "JAX must compute in float64 for a comparison in float64")])
def test_jax_compares_in_float64_unless_it_is_told_not_to(asked, said):
    environment = {name: value for name, value in os.environ.items() if name != "JAX_ENABLE_X64"} | {"KERAS_BACKEND": "jax"}
    environment |= {"JAX_ENABLE_X64": asked} if asked else {}
    environment["PYTHONPATH"] = os.pathsep.join(sys.path)
    ran = subprocess.run([sys.executable, "-c", COMPARED], env=environment, capture_output=True, text=True)
    assert said in ran.stdout + ran.stderr
    if asked is None:
        assert float(ran.stdout.split()[-1]) <= 1e-12


def test_a_layer_built_for_a_comparison_has_weights_that_numpy_drew():
    dense = [keras.layers.Dense(50, kernel_initializer=name, dtype="bfloat16") for name in ("glorot_uniform", "normal")]
    for layer in dense:
        with drawn_by_numpy():
            layer.build((2, 400))
    first, second = (np.asarray(layer.kernel).astype("float64") for layer in dense)
    assert_array_equal(first, second)
    assert_allclose(first.std(), 400**-0.5, rtol=0.02)
    assert dense[0].kernel.dtype == "bfloat16"


def test_initializers_draw_for_themselves_again_after_a_layer_that_could_not_be_built():
    own = [kind.__call__ for kind in RANDOM]
    with pytest.raises(ValueError), drawn_by_numpy():
        assert [kind.__call__ for kind in RANDOM] != own
        keras.layers.Dense(3).build((2, None))
    assert [kind.__call__ for kind in RANDOM] == own
