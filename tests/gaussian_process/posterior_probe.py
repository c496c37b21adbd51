"""`python tests/gaussian_process/posterior_probe.py WHAT`: what a Gaussian process does in a process of its own; prints JSON.

replicas   two replicas, each with its part of every batch, against one that has it all (TensorFlow)
inversion  how long a prediction takes that inverts, and one that need not, at 1024 features and 128 examples
devices    a training step in functions that JAX runs once on each of two devices, and in one that it cuts itself (JAX)
fit        fit with a reset at each epoch, then predict three times: the precision, and how often it was inverted
"""

import json
import os
import sys
import time
from contextlib import nullcontext

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np

from layers.gaussian_process import RandomFeatureGaussianProcess
from layers.gaussian_process import posterior as posterior_covariance
from layers.gaussian_process.callback import ResetCovarianceCallback
from reference import gaussian_process as reference

M, C = 4, 3


def model_with(layer):
    """A model for training, of logits alone, and one for prediction, with the covariance."""
    inputs = keras.Input((M,))
    logits, covariance = layer(inputs)
    return keras.Model(inputs, logits), keras.Model(inputs, [logits, covariance])


def replicas():
    """{momentum: [largest difference in the precision, in the covariance]}, of 23 examples in batches of 10, 10 and 3."""
    import tensorflow as tf

    (cpu,) = tf.config.list_physical_devices("CPU")
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    keras.config.set_floatx("float64")
    rng, differences = np.random.default_rng(0), {}
    x, asked = rng.normal(size=(23, M)), rng.normal(size=(6, M))
    for momentum in (-1, 0.9):
        found = []
        for strategy in (None, tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])):
            with strategy.scope() if strategy else nullcontext():
                layer = RandomFeatureGaussianProcess(C, 16, gp_cov_momentum=momentum)
                training, prediction = model_with(layer)
                training.compile(keras.optimizers.SGD(0.0), "mse")
            training.fit(x, np.zeros((23, C)), batch_size=10, shuffle=False, verbose=0)
            found.append((np.asarray(layer.precision_matrix), np.asarray(prediction(asked)[1])))
        differences[str(momentum)] = [float(np.abs(one - two).max()) for one, two in zip(*found)]
    return differences


def devices():
    """{way: the largest error of the precision beside that of one device, or what was raised}."""
    import jax
    from jax.sharding import Mesh, NamedSharding, PartitionSpec

    jax.config.update("jax_num_cpu_devices", 2)
    keras.config.set_floatx("float64")
    layer = RandomFeatureGaussianProcess(C, 16, gp_cov_momentum=-1)
    layer.build((None, M))
    values = [[v.value for v in side] for side in (layer.trainable_variables, layer.non_trainable_variables)]
    (where,) = [i for i, variable in enumerate(layer.non_trainable_variables) if variable is layer.precision_matrix]
    x = np.random.default_rng(0).normal(size=(8, M))

    def step(weights, state, x):
        return layer.stateless_call(weights, state, x, training=True)[1][where]

    expected = step(*values, x)
    mesh, cut = Mesh(jax.devices(), ("batch",)), PartitionSpec("batch")
    specs = {"mesh": mesh, "in_specs": (PartitionSpec(), PartitionSpec(), cut), "out_specs": PartitionSpec()}
    ways = {
        "jit": lambda: jax.jit(step)(*values, jax.device_put(x, NamedSharding(mesh, cut))),
        "shard_map": lambda: jax.jit(jax.shard_map(step, **specs))(*values, x),
        "shard_map unchecked": lambda: jax.jit(jax.shard_map(step, check_vma=False, **specs))(*values, x),
        "pmap": lambda: jax.pmap(step, in_axes=(None, None, 0))(*values, x.reshape(2, 4, M)),
        "shard_map of one device": lambda: jax.jit(
            jax.shard_map(step, **(specs | {"mesh": Mesh(jax.devices()[:1], ("batch",)), "check_vma": False}))
        )(*values, x),
    }
    found = {}
    for way, run in ways.items():
        try:
            found[way] = float(np.abs(np.asarray(run()) - np.asarray(expected)).max())
        except ValueError as error:
            found[way] = str(error)
    return found


def inversion(features=1024, batch=128, tries=15):
    """The least milliseconds of several tries; the precision is that of some training."""
    rng = np.random.default_rng(0)
    layer = RandomFeatureGaussianProcess(C, features, gp_cov_momentum=-1)
    _, prediction = model_with(layer)
    layer(rng.normal(size=(4 * batch, M)), training=True)
    prediction.compile(jit_compile=keras.backend.backend() == "jax")
    x, least = rng.normal(size=(batch, M)).astype("float32"), {"inverting": np.inf, "again": np.inf}
    prediction.predict_on_batch(x)
    for attempt in range(2 * tries):
        inverting = attempt % 2 == 0
        if inverting:
            layer.precision_matrix.assign(layer.precision_matrix + 1e-3)
        start = time.perf_counter()
        prediction.predict_on_batch(x)
        which = "inverting" if inverting else "again"
        least[which] = min(least[which], 1000 * (time.perf_counter() - start))
    return least | {"ratio": least["inverting"] / least["again"]}


def fit():
    """The largest error of the precision after two epochs with resets, beside one pass of the reference; and the inversions."""
    keras.config.set_floatx("float64")
    rng, counted = np.random.default_rng(0), []
    invert = posterior_covariance.covariance_factor

    def counting(*arguments):
        count_when_run(counted)
        return invert(*arguments)

    posterior_covariance.covariance_factor = counting
    layer = RandomFeatureGaussianProcess(C, 16, gp_cov_momentum=-1, gp_cov_ridge_penalty=0.3)
    training, prediction = model_with(layer)
    training.compile(keras.optimizers.Adam(0.1), "mse", jit_compile=True)
    x = rng.normal(size=(23, M))
    training.fit(x, x[:, :C], batch_size=5, epochs=2, verbose=0, callbacks=[ResetCovarianceCallback()])
    after_training = len(counted)
    prediction.compile(jit_compile=True)
    covariances = [prediction.predict(x, batch_size=23, verbose=0)[1] for _ in range(3)]
    weights = reference.draw_random_features(np.random.default_rng(0), M, 16)
    phi = reference.random_features(x, weights)
    precision = reference.add_batch(0.3 * np.eye(16), phi, np.ones(23))
    errors = (np.asarray(layer.precision_matrix) - precision, covariances[-1] - reference.covariance(phi, precision, 0.3))
    return {
        "backend": keras.backend.backend(),
        "errors": [float(np.abs(error).max()) for error in errors],
        "inversions": [after_training, len(counted)],
    }


def count_when_run(counted):
    """Append to `counted` whenever the program that is being made gets here as it runs."""
    if keras.backend.backend() == "jax":
        import jax

        jax.debug.callback(lambda: counted.append(1), ordered=False)
    else:
        counted.append(1)


if __name__ == "__main__":
    print(json.dumps({"replicas": replicas, "devices": devices, "inversion": inversion, "fit": fit}[sys.argv[1]]()))
