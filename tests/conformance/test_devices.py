"""What EXPORT.md says of training on several devices and with recomputed blocks: the steps are those of one device."""

import json
from functools import cache

import pytest

from crosscheck.case import TOLERANCE
from crosscheck.report.training import on_tensorflow
from crosscheck.report.workers import LastingWorker


@cache
def found_on_tensorflow():
    worker = LastingWorker(f"{on_tensorflow.__module__}:{on_tensorflow.__name__}")  # devices are set up before all else
    found = worker(None)
    worker.stop()
    return found


@pytest.fixture(scope="module")
def found_on_jax(ask_jax):
    return json.loads((ask_jax("training", "encoder") / "training.json").read_text())


@pytest.mark.parametrize("way", ["MirroredStrategy", "recomputed"])
def test_training_on_tensorflow_is_that_of_one_device(way):
    assert found_on_tensorflow()[way]["error"] < TOLERANCE["float32"]


@pytest.mark.parametrize("way", ["DataParallel", "ModelParallel", "recomputed"])
def test_training_on_jax_is_that_of_one_device(way, found_on_jax):
    assert found_on_jax[way]["error"] < TOLERANCE["float32"]
    assert len(found_on_jax[way]["cut"]) == (11 if way == "ModelParallel" else 0), (
        "4 kernels and 3 biases of attention, 3, a table"
    )
