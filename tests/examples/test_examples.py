"""Whole models, as the examples make them: trained, evaluated, saved, and loaded by another process, on both backends."""

import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import train_examples
from numpy.testing import assert_allclose

import layers

pytestmark = [pytest.mark.slow, pytest.mark.further]
every_backend = pytest.mark.parametrize("backend", ["tensorflow", "jax"])


def run(program, backend, folder):
    """What a program of this folder prints in a process of its own."""
    environment = os.environ | {"KERAS_BACKEND": backend, "PYTHONWARNINGS": "ignore", "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, str(Path(__file__).with_name(program))]
    ran = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout + ran.stderr[-3000:]
    return ran.stdout


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A function of a backend that returns the folder in which all examples ran on it."""

    @cache
    def on(backend):
        folder = tmp_path_factory.mktemp(backend)
        run("train_examples.py", backend, folder)
        return folder

    return on


@pytest.fixture(scope="module")
def found(trained):
    """A function of a backend and an example that returns what the example found there."""
    return lambda backend, name: json.loads((trained(backend) / f"{name}.json").read_text())


@pytest.fixture(scope="module")
def loaded(trained):
    """A function of a backend that returns {example: what its model gives in another process}."""
    return cache(lambda backend: json.loads(run("load_examples.py", backend, trained(backend)).splitlines()[-1]))


def test_every_example_is_tested():
    assert set(train_examples.NAMES) == set(train_examples.KEPT)


@every_backend
def test_texts_are_classified(backend, found, loaded):
    kept = found(backend, "classify_text")
    assert kept["accuracy"] == 1.0
    assert np.argmax(kept["logits"], axis=-1).tolist() == [1, 0, 1]
    assert_allclose(loaded(backend)["classify_text"], kept["logits"], rtol=1e-4, atol=1e-4)


@every_backend
def test_a_text_is_continued(backend, found, loaded):
    kept = found(backend, "continue_text")
    assert 0.9 < kept["accuracy"] < 1  # the first word of a rhyme cannot be known
    assert kept["continued"] == [kept["RHYMES"][i].lower() for i in (0, 1, 3)]
    assert loaded(backend)["continue_text"] == kept["written"]


@every_backend
def test_hidden_words_are_found(backend, found, loaded):
    kept = found(backend, "masked_language_model")
    assert kept["accuracy"] == 1.0
    assert kept["guesses"] == np.ravel(kept["words"]).tolist() == loaded(backend)["masked_language_model"]


@every_backend
def test_what_is_in_the_memory_is_predicted(backend, found, loaded):
    kept = found(backend, "transformer_xl_memory")
    assert kept["parts"]["new"] < 0.25  # one of eight tokens, by chance
    assert kept["parts"]["remembered"] > 0.9
    assert_allclose(loaded(backend)["transformer_xl_memory"], kept["predicted"], rtol=1e-4, atol=1e-4)


@every_backend
def test_what_is_far_from_the_data_is_uncertain(backend, found, loaded):
    kept = found(backend, "uncertain_classifier")
    assert kept["accuracy"] == 1.0
    *near, far, farthest = kept["variances"]
    assert max(near) < 0.02 and min(far, farthest) > 0.5
    for name, expected in kept["outputs"].items():
        assert_allclose(loaded(backend)["uncertain_classifier"][name], expected, rtol=1e-4, atol=1e-5)


def test_the_precision_is_that_of_the_last_of_three_epochs(tmp_path, monkeypatch):
    """One more pass without training counts as many examples as the example's last epoch, not a third of them."""
    monkeypatch.chdir(tmp_path)
    left = train_examples.train("uncertain_classifier")
    model, process = left["model"], left["head"].logits
    before = {variable.name: np.array(variable) for variable in process.non_trainable_variables}
    model.optimizer.learning_rate = 0.0
    model.fit(left["points"], left["labels"], batch_size=32, verbose=0, callbacks=[layers.ResetCovarianceCallback()])
    after = {variable.name: np.array(variable) for variable in process.non_trainable_variables}
    matrices = [name for name, x in after.items() if x.ndim == 2 and x.shape[0] == x.shape[1] and "precision" in name]
    assert matrices
    for name in matrices:
        assert 0.8 < np.trace(before[name]) / np.trace(after[name]) < 1.25, name
