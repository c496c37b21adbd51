"""What EXPORT.md says of training on several devices and with recomputed blocks: the steps are those of one device."""

import json
from functools import cache

import keras
import numpy as np
import pytest

from crosscheck.agreement import Trial
from crosscheck.case import TOLERANCE, arguments
from crosscheck.catalogue import representatives
from crosscheck.report.training import on_tensorflow
from crosscheck.report.workers import LastingWorker


class Training(keras.layers.Layer):
    """A layer that runs a function, in which all other layers are in training: not each of them takes that as an argument."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def call(self, inputs, training=None):
        self.function()
        return inputs


@cache
def found_on_tensorflow():
    worker = LastingWorker(f"{on_tensorflow.__module__}:{on_tensorflow.__name__}")  # devices are set up before all else
    found = worker(None)
    worker.stop()
    return found


@pytest.fixture(scope="module")
def found_on_jax(ask_jax):
    return json.loads((ask_jax("training", "encoder") / "training.json").read_text())


def test_what_a_training_call_changes_is_told_how_to_hold_the_data_of_all_replicas():
    """Under a strategy of TensorFlow, a weight whose aggregation is "none" keeps what the first replica alone assigned."""
    changed = {}
    for kind, case in representatives().items():
        layer, inputs = Trial(case).make()
        before = [np.array(variable) for variable in layer.non_trainable_variables]
        Training(lambda: case.call(layer, **arguments(inputs, layer.compute_dtype)))(np.zeros(1), training=True)  # noqa: B023
        after = zip(layer.non_trainable_variables, before)
        changed |= {f"{kind} {v.path}": v.aggregation for v, start in after if not np.array_equal(np.array(v), start)}
    counted = {name: how for name, how in changed.items() if not name.endswith("seed_generator_state")}
    assert {name.split("/")[-1] for name in counted} >= {"precision_matrix", "u", "v"}
    assert [name for name, how in counted.items() if how == "none"] == []


@pytest.mark.parametrize("way", ["MirroredStrategy", "recomputed"])
def test_training_on_tensorflow_is_that_of_one_device(way):
    assert found_on_tensorflow()[way]["error"] < TOLERANCE["float32"]


@pytest.mark.further
@pytest.mark.parametrize("way", ["DataParallel", "ModelParallel", "recomputed"])
def test_training_on_jax_is_that_of_one_device(way, found_on_jax):
    assert found_on_jax[way]["error"] < TOLERANCE["float32"]
    assert len(found_on_jax[way]["cut"]) == (11 if way == "ModelParallel" else 0), (
        "4 kernels and 3 biases of attention, 3, a table"
    )
