"""The state of a Gaussian process: the precision, and the factor of the covariance (Keras 3).

On several devices or machines, the precision holds the examples of all: on TensorFlow under a strategy of `tf.distribute`; on JAX
where the batch is an array that lies on all devices, as under `keras.distribution.DataParallel`. Where each process has a step of
its own, and they exchange gradients alone, a layer cannot know of the others, and each precision holds the examples of its
process. With a momentum of at most 0, the precision of all is then ρ I + Σ (P − ρ I), the sum over the processes.
"""

import math

import numpy as np
from keras import ops

from layers.gaussian_process import posterior as posterior_covariance
from layers.gaussian_process.random_features import given


def add_state(layer, r, dtype):
    """Create the state of `layer` in its `build`: P, F, the fingerprint of the P from which F was computed, and the numbers of
    replicas and examples."""
    fixed = {"trainable": False, "autocast": False, "dtype": dtype}
    prior, factor = given(layer.gp_cov_ridge_penalty * np.eye(r)), given(np.eye(r))
    add = layer.add_weight
    layer.precision_matrix = add(name="precision_matrix", shape=(r, r), initializer=prior, aggregation="mean", **fixed)
    fixed["aggregation"] = "only_first_replica"
    layer.covariance_factor = add(name="covariance_factor", shape=(r, r), initializer=factor, **fixed)
    mark = given(layer.gp_cov_ridge_penalty * np.concatenate([np.ones(r), probe(r)]))
    layer.factored_mark = add(name="factored_mark", shape=(2 * r,), initializer=mark, **fixed)
    fixed["aggregation"] = "sum"
    layer.replicas_and_examples = add(name="replicas_and_examples", shape=(2,), initializer="zeros", **fixed)


def count_in(layer, phi, logits):
    """Equation (3) or (5) of `reference/gaussian_process.py`.

    On TensorFlow, each replica has a part of the batch. Replicas share data only through weights, whose assigned values are
    aggregated. Since the precisions that they assign are averaged, each replica multiplies its sum by the number of replicas. On
    JAX, arrays that lie on several devices are whole batches.
    """
    check_batch_is_whole(phi)
    roots = posterior_covariance.observation_roots(layer.gp_cov_likelihood, logits)
    total = posterior_covariance.sum_of_squares(phi, roots)
    count = ops.cast(ops.shape(phi)[0], phi.dtype)
    layer.replicas_and_examples.assign(ops.stack([ops.ones_like(count), count]))
    replicas, count = layer.replicas_and_examples[0], layer.replicas_and_examples[1]
    momentum, ridge = layer.gp_cov_momentum, layer.gp_cov_ridge_penalty
    layer.precision_matrix.assign(
        posterior_covariance.with_batch(layer.precision_matrix, replicas * total, count, momentum, ridge)
    )


def check_batch_is_whole(tensor):
    """Raise a ValueError in a function that JAX runs once on each device, as `jax.shard_map` and `jax.pmap` do.

    Each device would add its own examples to a precision of its own, and after the step one of these would be taken for all.
    `jax.pmap` of JAX 0.6 cannot be told from one device, so nothing is raised there.
    """
    mesh = getattr(getattr(getattr(tensor, "aval", None), "sharding", None), "mesh", None)
    axes = {name: mesh.shape[name] for name in getattr(mesh, "manual_axes", ())}
    if math.prod(axes.values()) > 1:
        over = ", ".join(f"{name}={size}" for name, size in axes.items())
        raise ValueError(
            "inputs must hold the examples of all devices while training, because each of them is added to one precision. "
            "Call the layer under jax.jit, with an array that lies on all devices, or train with "
            f"keras.distribution.DataParallel. Received: a call in jax.shard_map or jax.pmap, over the devices {over}"
        )


def factor(layer):
    """F for the current P, computed anew only if P has changed since the last call."""
    precision = ops.convert_to_tensor(layer.precision_matrix)
    mark = mark_of(precision)
    is_same, ridge = ops.all(ops.equal(mark, layer.factored_mark)), layer.gp_cov_ridge_penalty

    def invert():
        return posterior_covariance.covariance_factor(precision, ridge)

    known = posterior_covariance.truth(is_same)  # in eager mode on JAX, `cond` would be compiled in each call
    if known:
        # Nothing is assigned: on TensorFlow, a weight's tensor may be the weight, which has no value as its own value.
        return ops.stop_gradient(layer.covariance_factor)
    current = invert() if known is False else ops.cond(is_same, lambda: ops.copy(layer.covariance_factor), invert)
    posterior_covariance.check_factor(current, ridge)
    # Assigned outside of `cond`, because JAX cannot assign variables inside a branch.
    layer.covariance_factor.assign(current)
    layer.factored_mark.assign(mark)
    return ops.stop_gradient(current)


def mark_of(precision):
    """A fingerprint of P, `(2 r,)`: its diagonal, which grows with every example, and P z, which detects assignments."""
    z = ops.cast(probe(precision.shape[0]), precision.dtype)
    return ops.concatenate([ops.diagonal(precision), ops.matmul(precision, z)])


def probe(r):
    """z, a fixed random vector."""
    return np.random.default_rng(0).normal(size=r)
