"""What a Gaussian process keeps between calls: the precision, and the factor that the covariance is made of (Keras 3)."""

import numpy as np
from keras import ops

from layers.gaussian_process import posterior as posterior_covariance
from layers.gaussian_process.random_features import given


def add_state(layer, r, dtype):
    """Give `layer`, while it is built, its state: P; F, and the mark of the P that F belongs to; what all replicas together are
    and have."""
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

    Each replica has a part of the batch, and sees of the others only what a weight sums up as all assign it. The precisions that
    they assign are averaged: each counts what it has as often as there are replicas.
    """
    roots = posterior_covariance.observation_roots(layer.gp_cov_likelihood, logits)
    total = posterior_covariance.sum_of_squares(phi, roots)
    count = ops.cast(ops.shape(phi)[0], phi.dtype)
    layer.replicas_and_examples.assign(ops.stack([ops.ones_like(count), count]))
    replicas, count = layer.replicas_and_examples[0], layer.replicas_and_examples[1]
    momentum, ridge = layer.gp_cov_momentum, layer.gp_cov_ridge_penalty
    layer.precision_matrix.assign(
        posterior_covariance.with_batch(layer.precision_matrix, replicas * total, count, momentum, ridge)
    )


def factor(layer):
    """F for the P that there is now, by inversion only if that is not the P of the last time."""
    precision, kept = (ops.convert_to_tensor(weight) for weight in (layer.precision_matrix, layer.covariance_factor))
    mark = mark_of(precision)
    is_same, ridge = ops.all(ops.equal(mark, layer.factored_mark)), layer.gp_cov_ridge_penalty

    def invert():
        return posterior_covariance.covariance_factor(precision, ridge)

    known = posterior_covariance.truth(is_same)  # step by step, a condition would be compiled anew at each call on JAX
    current = ops.cond(is_same, lambda: kept, invert) if known is None else kept if known else invert()
    posterior_covariance.check_factor(current, ridge)
    # Assigned here and not where it is computed: inside a branch there is no place for it on JAX.
    layer.covariance_factor.assign(current)
    layer.factored_mark.assign(mark)
    return ops.stop_gradient(current)


def mark_of(precision):
    """What P is told by, `(2 r,)`: its diagonal, which grows with every example, and P z, for a P that was assigned."""
    z = ops.cast(probe(precision.shape[0]), precision.dtype)
    return ops.concatenate([ops.diagonal(precision), ops.matmul(precision, z)])


def probe(r):
    """z, no number of which is special."""
    return np.random.default_rng(0).normal(size=r)
