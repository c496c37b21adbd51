# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # More than one machine
#
# Train one model on one device, on two devices, and on two machines, and check that nothing but the order of sums differs.
#
# 30 minutes · You should know: [the encoder's block](transformer_encoder.ipynb), [spectral normalization](spectral_normalization.ipynb) and
# [the Gaussian process](gaussian_process.ipynb), whose layers keep state

# %% tags=["hide-input"] jupyter={"source_hidden": true}
import os

os.environ["KERAS_BACKEND"] = "tensorflow"  # JAX runs in processes of its own

import inspect
import socket

import keras
import matplotlib.pyplot as plt
import numpy as np
import tensorflow as tf

import layers
from crosscheck.lesson import figures
from crosscheck.lesson.machines import on_jax, on_tensorflow
from crosscheck.lesson.machines.arguments import Run
from crosscheck.lesson.machines.launch import Failure, free_addresses, launch

figures.use_style()
tf.get_logger().setLevel("ERROR")
keras.config.set_floatx("float64")
QUICK = {"XLA_FLAGS": "--xla_backend_optimization_level=0"}  # the programs are small, and compiling them takes longest

# %% [markdown]
# ## The question
#
# A batch is cut into parts, and each device computes the gradients of its own part. They must come to what one device would have computed from the whole batch: the same loss at each step, the same weights
# at the end. And some layers remember what they have seen: a Gaussian process adds each example to its precision. Whose examples does it remember then?
#
# The model here is small on purpose, and has the layers that keep state: an encoder's block, a linear map with a bounded spectral norm, a Gaussian process. Its optimizer is SGD with momentum.
# (Adam divides by the size of the gradient, so it would hide a gradient that is twice as large.) All numbers are float64, and are drawn with NumPy, so that TensorFlow and JAX begin at the same weights.
#
# Two virtual devices of one processor stand in for two accelerators. They have to be set up before TensorFlow computes anything.

# %%
(processor,) = tf.config.list_physical_devices("CPU")
tf.config.set_logical_device_configuration(processor, [tf.config.LogicalDeviceConfiguration()] * 2)
one_device = tf.distribute.get_strategy()
two_devices = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])

alone = on_tensorflow.trained(one_device, Run())
mirrored = on_tensorflow.trained(two_devices, Run())
print("one device reads  ", alone["read"][0])
print("two devices read  ", mirrored["read"][0])

# %% [markdown]
# ## One step for any number of devices
#
# `strategy.run` calls a function once on each device, with that device's part of the batch. Three lines make it the step of one device:
#
# - The errors are divided by the number of examples on **all** devices, which `all_reduce` adds up. So the parts may have different sizes.
# - A penalty on the weights is the same on each device, so each takes its share of it.
# - `optimizer.apply` adds up the gradients of all devices, and each device takes the same step.

# %%
print(inspect.getsource(on_tensorflow.step_of))

# %% [markdown]
# On JAX there is nothing of this kind to write. The step is written for the whole batch, and the batch is an array that lies on several devices. The compiler finds out what the devices have to exchange.

# %%
print(inspect.getsource(on_jax.slope_of), inspect.getsource(on_jax.step_of), sep="\n")

# %% [markdown]
# ## Two machines
#
# Each machine runs the same program, with the same addresses and an index of its own. On two machines of yours, where both can reach each other at the addresses, that is
#
#     python -m crosscheck.lesson.machines.on_tensorflow --addresses 10.0.0.1:2222 10.0.0.2:2222 --index 0
#
# on the first and `--index 1` on the second; `on_jax` is started in the same way. On TensorFlow it becomes a `MultiWorkerMirroredStrategy`; on JAX `jax.distributed.initialize` gets the first address,
# and the processors exchange numbers by gloo. There the machines also connect at other ports than the one that is given, so a firewall between them must be open.
#
# Here two processes stand in for two machines, with two free ports of the loopback interface as addresses. `launch` starts them, reads what they report, and ends them if they take too long.

# %%
workers = launch("on_tensorflow", "--mistakes", "none", "data", processes=2, seconds=110)
print("the first machine reads  ", workers[0]["none"]["read"][0])
print("the second machine reads ", workers[1]["none"]["read"][0])

# %%
processes = launch("on_jax", "--mistakes", "none", "gradients", "state", processes=2, seconds=110, environment=QUICK)
print("the first process reads  ", processes[0]["none"]["read"][0])
print("the second process reads ", processes[1]["none"]["read"][0])

# %% [markdown]
# ## How equal?
#
# Numbers in float64 have a relative rounding error of up to ε/2, with ε = 2⁻⁵². A sum of n numbers in another order may differ by about n ε times the sum of their sizes, and each step hands the difference on to the
# next. How much the steps enlarge it cannot be said in advance; but it can be measured on **one** device, where each batch is read in the opposite order. Nothing but the order of the sums is different then.
# If several machines differ no more than that, they compute the same. What is asserted is the limit of all comparisons here, 10⁻¹².


# %%
def difference(report, name="losses"):
    """How far a report is from that of one device."""
    return np.abs(np.subtract(report[name], alone[name]))


# %%
reversed_batches = on_tensorflow.trained(one_device, Run(reverse=True))
ways = {
    "one device, reversed": reversed_batches,
    "MirroredStrategy": mirrored,
    "MultiWorkerMirroredStrategy": workers[1]["none"],
    "jax.distributed": processes[1]["none"],
}
assert all(difference(report, name).max() < 1e-12 for report in ways.values() for name in ("losses", "weights"))

# %%
fig, (left, right) = plt.subplots(1, 2, figsize=(9, 3.2))
steps = np.arange(1, len(alone["losses"]) + 1)
for name, report in ways.items():
    left.plot(steps, report["losses"])
    right.plot(steps, np.maximum(difference(report), 1e-17), label=name)
right.axhline(1e-12, color="black", linestyle=":", marker="none")
right.text(1, 1.6e-12, "limit", va="bottom")
left.set(title="four ways, one curve", xlabel="step", ylabel="loss")
right.set(yscale="log", ylim=(5e-18, 1e-8), xlabel="step", ylabel="distance from one device\n(bottom: exact)")
right.set_title("they differ as much as\nanother order of sums does")
right.legend(fontsize="small", loc="upper right", ncols=1)
figures.show()

# %% [markdown]
# ## Whose examples does the state hold?
#
# The loss says nothing of the state. So it is compared by itself: the precision of the Gaussian process, a sum over all examples; the singular vectors of the spectral norm; and the variances that follow
# from the precision.
#
# - **Gaussian process**: on TensorFlow each replica assigns what its own part adds, and the weight is declared with `aggregation="mean"`, so that TensorFlow brings the parts together. On JAX the features are one array of the whole batch.
# - **Spectral norm**: u and v come from the kernel alone, which is the same everywhere. So each replica computes the same, and nothing need be exchanged.


# %%
def of_state(report):
    """The difference of each part of the state, in powers of ten above it."""
    parts = {
        name: (report["state"][name], alone["state"][name]) for name in ("process/precision_matrix", "bounded/u", "bounded/v")
    }
    parts["variances"] = (report["variances"], alone["variances"])
    return {name: np.abs(np.subtract(*pair)).max() for name, pair in parts.items()}


# %% tags=["nbval-ignore-output"]
largest = max(max(of_state(report).values()) for report in ways.values())
assert largest < 1e-12
print(f"all parts of the state, all ways: they differ from one device by less than {figures.power_above(largest)}")

# %% [markdown]
# What if a layer did not bring the parts together? Both mistakes below raise no error. On TensorFlow, a Gaussian process is declared with `aggregation="only_first_replica"`. (Keras's default, `"none"`, does the
# same: a variable that is assigned keeps the value of the first replica.) On JAX, each process has a step of its own and the processes average gradients by hand, as some libraries do.

# %%
first_replica = on_tensorflow.trained(two_devices, Run(mistake="state"))
own_steps = processes[0]["state"]
assert difference(first_replica).max() < 1e-12 and difference(own_steps).max() < 1e-12
assert min(of_state(first_replica)["variances"], of_state(own_steps)["variances"]) > 1e-3

# %%
fig, (left, right) = plt.subplots(1, 2, figsize=(9, 3))
places = np.arange(4)
arms = {"all examples": alone, "TensorFlow, first replica": first_replica, "JAX, own steps": own_steps}
for shift, (name, report) in zip((-0.15, 0, 0.15), arms.items()):
    left.plot(steps, report["losses"])
    right.plot(places + shift, report["variances"], linestyle="none", label=name)
left.set(title="the loss shows nothing", xlabel="step", ylabel="loss", xticks=steps)
right.set(title="half of the examples: more variance", xlabel="example", ylabel="variance", xticks=places)
right.set_ylim(0, 1.15 * max(first_replica["variances"]))
right.legend(fontsize="small", loc="lower right")
figures.show()

# %% [markdown]
# A layer cannot see that another process exists which trains on its own. But what is missing can be added at the end: each precision is the prior ρ I plus a sum, so the precision of all is the prior plus all the sums. On JAX,
# `RandomFeatureGaussianProcess` raises an error in `jax.pmap` and in `jax.shard_map`, where each device would have a precision of its own as well, and one of them would be taken for all.

# %% tags=["nbval-ignore-output"]
prior = np.eye(16)
name = "process/precision_matrix"
added = prior + sum(np.array(each["state"]["state"][name]) - prior for each in processes)
error = np.abs(added - alone["state"][name]).max()
assert error < 1e-12
print(f"added up, they differ from one device by less than {figures.power_above(error)}")

# %% [markdown]
# ## Where it breaks: batch statistics
#
# `BatchNormalization` subtracts the mean of its batch. On two devices that is the mean of each part, so the model computes something else; and its moving mean, which is used after training, is that of the **first** device
# alone. With `synchronized=True` the devices exchange their sums (on TensorFlow; Keras 3.15 has no such argument on JAX, where the whole batch is one array anyway). A layer norm, as in transformers, takes its mean over one
# position, so it does not know of batches.


# %%
def moving_mean(**options):
    """After one batch of the numbers 0 to 7, of which each device has four."""
    with two_devices.scope():
        norm = keras.layers.BatchNormalization(momentum=0.0, **options)
        norm.build((None, 1))
    parts = two_devices.experimental_distribute_values_from_function(
        lambda context: tf.range(4.0)[:, None] + 4 * context.replica_id_in_sync_group
    )
    two_devices.run(tf.function(lambda x: norm(x, training=True), autograph=False), [parts])
    return float(norm.moving_mean[0])


found = {
    "not synchronized": moving_mean(),
    "synchronized": moving_mean(synchronized=True),
    "all eight numbers": np.arange(8).mean(),
}
assert found["not synchronized"] == np.arange(4).mean() and np.isclose(found["synchronized"], found["all eight numbers"])
found

# %% [markdown]
# ## Where it breaks: seeds
#
# A seed generator of Keras starts at the same number on each replica. So with TensorFlow all replicas drop **the same** units, each in its own part of the batch. The mean over the replicas averages less of the noise away than one device would, and the
# curve is not that of one device. The cure is to move each replica's generator to another place before training. On JAX a mask is drawn for the whole batch, so each example has its own, and the curve is that of one device.


# %%
def masks(own_seeds):
    """What dropout leaves of 24 ones on each replica."""
    keras.utils.set_random_seed(0)
    with two_devices.scope():
        dropout = keras.layers.Dropout(0.5)
        dropout.build((1, 24))
    state = dropout.seed_generator.state

    def move():
        replica = tf.distribute.get_replica_context().replica_id_in_sync_group
        state.assign(state + tf.stack([1000 * tf.cast(replica, state.dtype), 0]))

    if own_seeds:
        two_devices.run(tf.function(move, autograph=False))
    kept = two_devices.run(tf.function(lambda: dropout(tf.ones((1, 24)), training=True), autograph=False))
    return np.concatenate(two_devices.experimental_local_results(kept)) > 0


# %%
same, own = masks(own_seeds=False), masks(own_seeds=True)
assert (same[0] == same[1]).all() and (own[0] != own[1]).any()

# %%
fig, axes = plt.subplots(2, 1, figsize=(6.5, 2.6), sharex=True)
for ax, mask, title in zip(axes, (same, own), ("one seed: both replicas drop the same units", "a seed each: they do not")):
    figures.mask_picture(ax, mask, title, queries="replica", keys="")
axes[1].set_xlabel("unit (cross: dropped)")
figures.show()

# %% [markdown]
# ## Where it breaks: an uneven batch
#
# After five batches of eight, five examples are left, which two devices share as three and two. The step above divides by five. `model.fit` takes the mean of each part and then the mean of the means, so each of the two
# examples counts for more than each of the three. (If the **first** batch cannot be shared evenly, `fit` of Keras 3.15 stops with an error; under `MultiWorkerMirroredStrategy` it always does.)

# %% tags=["nbval-ignore-output"]
uneven = [on_tensorflow.trained(strategy, Run(steps=6)) for strategy in (one_device, two_devices)]
by_fit = [on_tensorflow.trained(strategy, Run(steps=6, mistake="fit")) for strategy in (one_device, two_devices)]
print("two devices read", uneven[1]["read"][5])
apart = {
    name: np.abs(np.subtract(*[report["weights"] for report in pair])).max() for name, pair in (("step", uneven), ("fit", by_fit))
}
assert apart["step"] < 1e-12 < 1e-5 < apart["fit"]
print(
    f"one device and two: weights differ by less than {figures.power_above(apart['step'])} with the step, by {apart['fit']:.4f} with fit"
)

# %% [markdown]
# On JAX an array can be cut only into equal parts. It is tempting to fill up the last batch with zeros that have no weight in the loss. But a layer with state counts them, as here, and so does a batch norm. The program gives a
# batch that cannot be cut to each device whole: that costs a little time, and is right.

# %%
process = layers.RandomFeatureGaussianProcess(3, 16, gp_cov_momentum=-1)
x = np.random.default_rng(0).normal(size=(7, 4))
process(x, training=True)
of_seven = np.trace(process.precision_matrix)
process.reset_covariance_matrix()
process(np.concatenate([x, np.zeros((1, 4))]), training=True)
print(f"trace of the precision: {of_seven:.2f} from seven examples, {np.trace(process.precision_matrix):.2f} with a row of zeros")

# %% [markdown]
# ## Mistakes that raise no error
#
# Each of these programs runs to its end. So compare with one device before you train for a week: a few steps in float64 are enough.

# %%
mistakes = {
    "TensorFlow: divide by the examples of one device": on_tensorflow.trained(two_devices, Run(mistake="gradients")),
    "TensorFlow: each machine reads all examples": workers[0]["data"],
    "JAX: average no gradients": processes[0]["gradients"],
}
assert all(difference(report).max() > 1e-2 for report in mistakes.values())

# %%
fig, ax = plt.subplots(figsize=(6.5, 3.8))
ax.plot(steps, difference(mirrored) + 1e-17, label="two devices, right")
for name, report in mistakes.items():
    ax.plot(steps, np.maximum(difference(report), 1e-17), label=name)
ax.set(yscale="log", ylim=(3e-18, 1e13), xlabel="step", xticks=steps, ylabel="distance from the loss of one device")
ax.set_title("a mistake is fourteen powers of ten away")
ax.legend(fontsize="small", loc="upper right")
figures.show()

# %% [markdown]
# ## When a machine is lost
#
# If one of the processes dies, the others cannot go on. They notice it by a connection that breaks, or by heartbeats that stop, and end with an error. (JAX would wait for minutes; the program asks it
# to wait for ten seconds.) If a machine never comes, the program ends when its time is over, and says what to look at. An address that cannot be used is an error at once:

# %% tags=["nbval-ignore-output"]
addresses = free_addresses(2)
with socket.socket() as another:
    another.bind(("127.0.0.1", int(addresses[0].split(":")[1])))
    another.listen()
    try:
        launch("on_tensorflow", processes=2, addresses=addresses, seconds=20)
    except Failure as failure:
        said = next(line for line in str(failure).splitlines() if line.startswith("crosscheck"))
assert "cannot use its own address" in said
print(said)

# %% [markdown]
# ## Summary
#
# - Cut the batch, add up gradients, divide by the number of all examples: the losses and weights are those of one device, but for the order of sums.
# - State needs a thought of its own, because no loss curve shows it. Where it is a sum over examples, it must be added up over all devices; where it follows from the weights, nothing need be done.
# - Batch statistics, seeds and uneven batches change with the number of devices. Compare a few steps in float64 with one device before you scale.
#
# Further: [`tf.distribute`](https://www.tensorflow.org/guide/distributed_training) ·
# [JAX on several processes](https://docs.jax.dev/en/latest/multi_process.html) · how the programs are started and ended:
# [`crosscheck/lesson/machines`](../crosscheck/lesson/machines/launch.py)
