"""Activations of layers are those of the references, to the last digits of float64."""

import os
import subprocess
import sys

import keras
import numpy as np
import pytest
from numpy.testing import assert_allclose

from layers.common.activations import get_activation
from reference.common.activations import ACTIVATIONS

X = np.linspace(-6, 6, 101)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_names_mean_the_same_in_layers_and_references(name):
    found = get_activation("activation", name)(keras.ops.convert_to_tensor(X, "float64"))
    assert_allclose(found, ACTIVATIONS[name](X), rtol=1e-13, atol=1e-14)


def test_the_approximation_of_gelu_is_near_it_and_another():
    distance = np.abs(ACTIVATIONS["gelu"](X) - ACTIVATIONS["gelu_tanh"](X)).max()
    assert 1e-4 < distance < 4.8e-4


@pytest.mark.parametrize("activation", [*ACTIVATIONS, "softplus", None])
def test_an_activation_survives_its_config(activation):
    found = get_activation("activation", activation)
    assert get_activation("activation", keras.activations.serialize(found)) is found


@pytest.mark.parametrize("unknown", ["geluu", 3])
def test_an_unknown_activation_is_rejected_by_name(unknown):
    with pytest.raises(ValueError, match=f"inner_activation must be .* Received: inner_activation={unknown!r}"):
        get_activation("inner_activation", unknown)


JAX_TO_TENSORFLOW = """
import keras, numpy as np, tensorflow as tf
from layers.common.activations import gelu
from reference.common.activations import ACTIVATIONS
x = np.linspace(-6, 6, 101, dtype="float32")[None]
symbol = keras.Input((101,))
keras.Model(symbol, gelu(symbol)).export({folder!r}, verbose=False)
loaded = tf.saved_model.load({folder!r})
np.testing.assert_allclose(loaded.serve(x), ACTIVATIONS["gelu"](x), atol=2e-6)
"""


@pytest.mark.slow
def test_tensorflow_reads_the_exact_gelu_of_a_model_exported_on_jax(tmp_path):
    """It has no operation for the bare erf of JAX."""
    program = JAX_TO_TENSORFLOW.format(folder=str(tmp_path / "model"))
    environment = os.environ | {"KERAS_BACKEND": "jax", "PYTHONWARNINGS": "ignore"}
    ran = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr[-2000:]
