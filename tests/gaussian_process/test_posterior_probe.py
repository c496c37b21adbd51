"""What a Gaussian process does under two replicas, in Keras's trainer, and in time; each in a process of its own, and printed."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow


def probe(what, backend="tensorflow"):
    program = [sys.executable, str(Path(__file__).with_name("posterior_probe.py")), what]
    environment = os.environ | {"KERAS_BACKEND": backend, "JAX_ENABLE_X64": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}
    ran = subprocess.run(program, env=environment, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr[-4000:]
    return json.loads(ran.stdout.splitlines()[-1])


def test_two_replicas_give_the_posterior_of_one(capsys):
    for momentum, (precision, covariance) in probe("replicas").items():
        with capsys.disabled():
            print(f"\ntwo replicas, momentum {momentum}: precision differs by {precision:.0e}, covariance by {covariance:.0e}")
        assert precision < 1e-12 and covariance < 1e-12


def test_on_jax_a_device_does_not_take_its_own_examples_for_all():
    """Without the check, the unchecked `shard_map` and `pmap` give the precision of one device's examples, and no error."""
    found = probe("devices", "jax")
    assert found["jit"] < 1e-12 and found["shard_map of one device"] < 1e-12
    for way in ("shard_map", "shard_map unchecked", "pmap"):
        assert "inputs must hold the examples of all devices" in found[way] and "=2" in found[way], (way, found[way])


@pytest.mark.parametrize("backend", ["tensorflow", "jax"])
def test_a_prediction_that_need_not_invert_is_cheaper(capsys, backend):
    """How much cheaper is printed and not asserted: another program may be running. How often it inverts is counted below."""
    found = probe("inversion", backend)
    with capsys.disabled():
        print(
            f"\n{backend}, 1024 features, batch of 128: {found['inverting']:.1f} ms with an inversion, "
            f"{found['again']:.1f} ms without, {found['ratio']:.0f} times less"
        )
    assert set(found) == {"inverting", "again", "ratio"}


def test_fit_with_resets_and_predict_give_the_reference_on_jax_and_invert_once(capsys):
    found = probe("fit", "jax")
    with capsys.disabled():
        print(f"\n{found['backend']}: three predictions after training, inversions {found['inversions'][1]}")
    assert max(found["errors"]) < 1e-12
    assert found["inversions"] == [0, 1]


def test_fit_with_resets_and_predict_give_the_reference_on_tensorflow():
    assert max(probe("fit")["errors"]) < 1e-12
