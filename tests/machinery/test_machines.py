"""The same training on one device, on two, and on two machines that two processes stand in for; and what happens if one is lost.

Each process is started and ended here, within a bound of time.
"""

import itertools
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from crosscheck.lesson.machines import arguments, launch, on_jax, on_tensorflow

further = pytest.mark.further
SECONDS = 240
"""A bound for processes that hang, on a machine that is busy with other tests; each of these takes a few seconds."""

SAME = 1e-12
PLAIN = {"XLA_FLAGS": "--xla_backend_optimization_level=0", "JAX_ENABLE_X64": "1"}
"""XLA does without the passes that would take longer than the program."""


@pytest.fixture(scope="module")
def alone():
    """The report of one device."""
    return report("on_tensorflow")


def report(program, *options, **others):
    """That of the first process, without a mistake."""
    return launch.launch(program, *options, seconds=SECONDS, environment=PLAIN, **others)[0]["none"]


def distances(one, other):
    """The largest difference of each part of two reports."""
    parts = {name: (one[name], other[name]) for name in ("losses", "weights", "variances")}
    parts |= {name: (one["state"][name], other["state"][name]) for name in STATE}
    return {name: float(np.abs(np.subtract(*pair)).max()) for name, pair in parts.items()}


STATE = ("process/precision_matrix", "bounded/u", "bounded/v")


def are_same(one, *others):
    for other in others:
        found = distances(one, other)
        assert max(found.values()) < SAME, found


def are_parts(read, whole):
    """Whether the devices of all processes read each example of a batch once."""
    for step, ids in enumerate(whole):
        parts = [part for process in read for part in process[step]]
        assert sorted(itertools.chain(*parts)) == ids[0], step
        assert sum(map(bool, parts)) == len(parts) or len(ids[0]) < len(parts)


def test_two_devices_train_as_one_and_their_mistakes_are_seen(alone):
    found = launch.launch("on_tensorflow", "--devices", 2, "--mistakes", *on_tensorflow.MISTAKES, seconds=SECONDS)[0]
    are_same(alone, found["none"])
    are_parts([found["none"]["read"]], alone["read"])
    assert distances(alone, found["gradients"])["weights"] > 0.01
    # A loss curve does not show whose examples the state holds.
    of_first = distances(alone, found["state"])
    assert of_first["losses"] < SAME and of_first["weights"] < SAME
    assert of_first["process/precision_matrix"] > 0.1 and of_first["variances"] > 0.01
    assert np.trace(found["state"]["state"]["process/precision_matrix"]) < np.trace(alone["state"]["process/precision_matrix"])


@further
def test_two_machines_on_tensorflow_train_as_one_device(alone):
    found = launch.launch("on_tensorflow", "--mistakes", "none", "data", processes=2, seconds=SECONDS)
    are_same(alone, *(each["none"] for each in found))
    are_parts([each["none"]["read"] for each in found], alone["read"])
    assert found[0]["data"]["read"] == found[1]["data"]["read"] != found[0]["none"]["read"]
    assert distances(alone, found[0]["data"])["losses"] > 0.01


@further
def test_two_machines_on_jax_train_as_one_device_of_tensorflow(alone):
    found = launch.launch("on_jax", "--mistakes", *ON_JAX, processes=2, seconds=SECONDS, environment=PLAIN)
    are_same(alone, *(each["none"] for each in found))
    are_parts([each["none"]["read"] for each in found], alone["read"])
    for mistake in ("gradients", "data"):
        assert distances(alone, found[0][mistake])["losses"] > 0.01, mistake
    for each in found:
        assert distances(alone, each["state"])["weights"] < SAME
        assert distances(alone, each["state"])["variances"] > 0.01
    # What `layers/gaussian_process/state.py` says to do then.
    prior = np.eye(len(alone["state"][STATE[0]]))
    added = sum(each["state"]["state"][STATE[0]] - prior for each in found) + prior
    np.testing.assert_allclose(added, alone["state"][STATE[0]], atol=SAME)


ON_JAX = [mistake for mistake in on_jax.MISTAKES if mistake != "padding"]


@further
@pytest.mark.parametrize("program", ["on_tensorflow", "on_jax"])
def test_three_machines_and_a_batch_that_they_cannot_share_evenly(program):
    uneven = ("--batch", 7, "--steps", 5)
    found = launch.launch(program, *uneven, processes=3, seconds=SECONDS, environment=PLAIN)
    expected = report("on_tensorflow", *uneven)
    are_same(expected, *(each["none"] for each in found))
    if program == "on_tensorflow":
        are_parts([each["none"]["read"] for each in found], expected["read"])
    else:
        assert all(each["none"]["read"][0] == [list(range(7))] for each in found)


@further
def test_fit_on_two_machines_stops_within_keras():
    """EXPORT.md says so. Once this fails, the guide and the programs may use `fit`."""
    with pytest.raises(launch.Failure, match="training stopped: ValueError: .*PerReplica"):
        launch.launch("on_tensorflow", "--mistakes", "fit", processes=2, seconds=SECONDS)


@further
def test_zeros_that_fill_up_a_batch_have_no_loss_but_are_counted():
    uneven = ("--batch", 7, "--steps", 3)
    found = launch.launch("on_jax", "--devices", 2, *uneven, "--mistakes", "none", "padding", seconds=SECONDS, environment=PLAIN)[
        0
    ]
    of_padding = distances(found["none"], found["padding"])
    assert of_padding["losses"] < SAME and of_padding["weights"] < SAME
    assert of_padding["process/precision_matrix"] > 0.1


@further
@pytest.mark.parametrize("victim", [0, 1])
@pytest.mark.parametrize("program", ["on_tensorflow", "on_jax"])
def test_a_machine_whose_partner_dies_ends_with_an_error(program, victim, tmp_path):
    """Both say when they train; then one is killed. On JAX, the first is also the one at which the others report."""
    addresses, files = launch.free_addresses(2), [tmp_path / "0", tmp_path / "1"]
    started = []
    try:
        for index, file in enumerate(files):
            own = ["--addresses", *addresses, "--index", str(index), "--steps", "1000000", "--seconds", str(SECONDS)]
            command = [sys.executable, "-m", f"crosscheck.lesson.machines.{program}", *own]
            with file.open("w") as log:
                started.append(subprocess.Popen(command, stdout=log, stderr=log, env=os.environ | PLAIN, start_new_session=True))
        until = time.monotonic() + SECONDS
        while not all(arguments.TRAINS in file.read_text() for file in files):
            assert time.monotonic() < until and not any(process.poll() for process in started), files[0].read_text()
            time.sleep(0.2)
        os.killpg(started[victim].pid, signal.SIGKILL)
        status = started[1 - victim].wait(timeout=SECONDS)
    finally:
        launch.end(started)
    said = files[1 - victim].read_text()
    assert status not in (0, -signal.SIGKILL) and "not done after" not in said, said
    assert "crosscheck: training stopped: " in said or "JAX distributed service detected fatal errors" in said, said
