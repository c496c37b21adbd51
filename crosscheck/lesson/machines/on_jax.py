"""`python -m crosscheck.lesson.machines.on_jax`: train on one device, on several, or on several machines."""

import json
import os

import numpy as np

from crosscheck.lesson.machines import arguments
from crosscheck.report.command import as_program, prepare, refuse

DESCRIPTION = """\
Train a small classifier on JAX, in float64. Prints its losses, weights, and state, and the examples that this process read, as
JSON. Each batch is one array that lies on the devices of all machines; what the step computes is that of one device."""

MISTAKES = {
    "none": "right",
    "gradients": "each machine has a step and an average of its own",
    "data": "each machine reads the part of the first one",
    "state": "each machine has a step of its own, and the machines average gradients alone",
    "padding": "an uneven batch is filled up with zeros that have no part in the loss",
}

OF_SEVERAL = {"gradients", "data", "state"}

SOONER = {"initialization_timeout": 60, "heartbeat_timeout_seconds": 10, "shutdown_timeout_seconds": 30}
"""Seconds after which another machine is given up; JAX waits for minutes."""


def main(argv=None):
    """Train, and print the report. Returns the exit status."""
    options = arguments.parse("on_jax", DESCRIPTION, MISTAKES, argv)
    if alone := [mistake for mistake in options.mistakes if mistake in OF_SEVERAL and len(options.addresses) < 2]:
        return refuse(f"--mistakes {alone[0]} needs several --addresses. Received: {len(options.addresses)}")
    prepare("jax")
    with arguments.within(options):
        import jax

        jax.config.update("jax_num_cpu_devices", options.devices)
        try:
            if options.addresses:
                jax.distributed.initialize(options.addresses[0], len(options.addresses), options.index, **SOONER)
            import keras

            keras.config.set_floatx("float64")
            print(
                json.dumps({run.mistake: trained(run, options, arguments.say_that_it_trains) for run in options.runs}), flush=True
            )
        except (RuntimeError, ValueError) as error:
            refuse(f"training stopped: {type(error).__name__}: {error}")
            os._exit(1)  # JAX would wait for the other machines, and end with a signal if one of them is lost
    return 0


def trained(run, options, started=lambda: None):
    """The report of a training. `started` is called after the first step."""
    import jax

    from crosscheck.lesson.machines import task

    model = task.model_for(run)
    optimizer = task.optimizer_for(model)
    is_apart = run.mistake in ("gradients", "state")
    devices = jax.local_devices() if is_apart else jax.devices()
    step = (step_apart if is_apart else step_of)(model, optimizer, run.mistake)
    values = [model.trainable_variables, model.non_trainable_variables, optimizer.variables]
    values = jax.tree.map(lambda variable: everywhere(variable.value, devices), values)
    x, classes = task.data()
    losses, read = [], []
    for ids in task.batches(run):
        batch = [ids, x[ids], classes[ids], np.ones(len(ids))]
        if run.mistake in OF_SEVERAL:
            batch = own_part(batch, 0 if run.mistake == "data" else options.index, len(options.addresses))
        if run.mistake == "data":
            batch = [np.concatenate([array] * len(options.addresses)) for array in batch]
        ids, *batch = on_devices(batch, devices, is_padded=run.mistake == "padding")
        read.append([np.asarray(shard.data).tolist() for shard in ids.addressable_shards])
        loss, *values = step(*values, *batch)
        losses.append(float(loss))
        if len(losses) == 1:
            started()
    for variables, arrays in zip((model.trainable_variables, model.non_trainable_variables), values):
        for variable, array in zip(variables, arrays):
            variable.assign(np.asarray(array))
    return task.report(model, losses, read)


def everywhere(array, devices):
    """The same array on each of the devices, some of which may be another machine's."""
    from jax.sharding import Mesh, NamedSharding, PartitionSpec

    return laid(np.asarray(array), NamedSharding(Mesh(devices, "batch"), PartitionSpec()))


def on_devices(arrays, devices, is_padded=False):
    """A batch of which each device has a part; a batch that cannot be cut evenly is whole on each device.

    Args:
        arrays: Those of a batch; the last one says how much each example counts.
        devices: Those of all machines.
        is_padded: The mistake of filling up such a batch with zeros.
    """
    from jax.sharding import Mesh, NamedSharding, PartitionSpec

    missing = -len(arrays[0]) % len(devices)
    if missing and not is_padded:
        return [everywhere(array, devices) for array in arrays]
    padded = [np.concatenate([array, np.zeros((missing, *array.shape[1:]), array.dtype)]) for array in arrays]
    rows = NamedSharding(Mesh(devices, "batch"), PartitionSpec("batch"))
    return [laid(array, rows) for array in padded]


def laid(array, sharding):
    """An array of all machines, each of which asks for the parts that lie on its own devices."""
    import jax

    return jax.make_array_from_callback(array.shape, sharding, lambda part: array[part])


def slope_of(model):
    """A function of weights, state and a batch: ((loss, state after it), gradients)."""
    import jax

    from crosscheck.lesson.machines.task import sum_of_errors

    def loss_of(weights, state, x, classes, counted):
        logits, state, added = model.stateless_call(weights, state, x, training=True, return_losses=True)
        return sum_of_errors(logits, classes, counted) / counted.sum() + sum(added), state

    return jax.value_and_grad(loss_of, has_aux=True)


def step_of(model, optimizer, mistake=None):
    """A step on all devices: it is written for the whole batch, and the compiler adds what the devices have to exchange."""
    import jax

    slope = slope_of(model)

    @jax.jit
    def step(weights, state, moments, *batch):
        (loss, state), gradients = slope(weights, state, *batch)
        weights, moments = optimizer.stateless_apply(moments, gradients, weights)
        return loss, weights, state, moments

    return step


def step_apart(model, optimizer, mistake):
    """A step that each machine takes on its own part. The mistake "state" averages gradients alone, and "gradients" nothing."""
    import jax
    from jax.experimental import multihost_utils

    slope, apply = jax.jit(slope_of(model)), jax.jit(optimizer.stateless_apply)

    def mean(array):
        gathered = multihost_utils.process_allgather(np.asarray(array))
        return gathered.mean(axis=0)

    def step(weights, state, moments, *batch):
        (loss, state), gradients = slope(weights, state, *batch)
        if mistake == "state":
            loss, gradients = jax.tree.map(mean, (loss, gradients))
        weights, moments = apply(moments, gradients, weights)
        return loss, weights, state, moments

    return step


def own_part(arrays, index, machines):
    """The rows of one machine."""
    if len(arrays[0]) % machines:
        raise ValueError(f"with this mistake, batches must have a multiple of {machines} examples. Received: {len(arrays[0])}")
    return [np.split(array, machines)[index] for array in arrays]


if __name__ == "__main__":
    as_program(main)
