"""The definition, a number worked by hand, limits, the exact posterior. Layer against reference: tests/conformance."""

import math

import keras
import numpy as np
import pytest
from keras import ops
from numpy.testing import assert_allclose, assert_array_equal

from crosscheck.case import M
from crosscheck.catalogue import find_cases
from crosscheck.weights import draw_weights, weights_of
from layers.gaussian_process import RandomFeatureGaussianProcess
from layers.gaussian_process import posterior as posterior_covariance
from layers.gaussian_process.callback import ResetCovarianceCallback
from layers.gaussian_process.random_features import draw_random_features
from reference import gaussian_process as ref
from reference.common.projection import Projection
from reference.gaussian_process_head import posterior as exact

B, N, R, C = 5, 23, 17, 3
POLICIES = ("float64", "float32", "mixed_bfloat16", "mixed_float16", "bfloat16", "float16")


def made(rng, dtype="float64", units=C, **options):
    """A layer with drawn weights, that sums exactly unless told otherwise, and inputs for it."""
    layer = RandomFeatureGaussianProcess(units, **({"num_inducing": R, "gp_cov_momentum": -1} | options), dtype=dtype)
    layer.build((None, M))
    draw_weights(layer, rng)
    return layer, rng.normal(size=(N, M)), rng.normal(size=(B, M))


def numpy(tensor):
    return np.asarray(ops.cast(tensor, "float64"))


def variances(layer, x):
    return numpy(layer(x, diagonal=True)[1])


def features_of(layer, x):
    return numpy(layer.features(ops.convert_to_tensor(x, layer.feature_dtype)))


# Features and kernel


def test_features_of_a_batch_are_features_one_for_every_example(rng):
    weights = ref.draw_random_features(rng, M, R)
    x = rng.normal(size=(B, M))
    phi = ref.random_features(x, weights, 2.5)
    assert_allclose(phi, [ref.features_one(one, *weights, 2.5) for one in x], rtol=1e-12)


@pytest.mark.parametrize("scale", [0.5, 4.0])
@pytest.mark.parametrize(("kind", "kernel"), [("gaussian", exact.gaussian_kernel), ("laplacian", exact.laplacian_kernel)])
def test_products_of_the_layers_features_estimate_the_kernel_that_is_documented(rng, kind, kernel, scale):
    x = rng.normal(size=(7, 2))
    layer = RandomFeatureGaussianProcess(1, 100_000, kind, scale, return_gp_cov=False, dtype="float64")
    layer.build((None, 2))
    phi = features_of(layer, x)
    assert np.abs(phi @ phi.T - kernel(x, x, scale)).max() < 0.02
    if kind == "gaussian":  # not what the Model Garden says of it
        assert np.abs(phi @ phi.T - kernel(x, x, scale / 2)).max() > 0.1


def test_kernels_worked_by_hand():
    """‖x − y‖² = 25, ‖x − y‖₁ = 7; with s = 4: e^{−25/8} and e^{−7/2}."""
    x, y = np.array([[0.0, 0.0]]), np.array([[3.0, 4.0]])
    assert_allclose(exact.gaussian_kernel(x, y, 4.0), np.exp(-25 / 8), rtol=1e-15)
    assert_allclose(exact.laplacian_kernel(x, y, 4.0), np.exp(-7 / 2), rtol=1e-15)


def test_the_error_of_the_kernel_falls_with_the_root_of_the_number_of_features(rng):
    x = rng.normal(size=(40, 5))
    truth, errors = exact.gaussian_kernel(x, x, 5.0), []
    for r in (64, 256, 1024, 4096):
        draws = [ref.random_features(x, ref.draw_random_features(rng, 5, r), 5.0) for _ in range(5)]
        errors.append(np.mean([np.sqrt(np.mean((phi @ phi.T - truth) ** 2)) * np.sqrt(r) for phi in draws]))
    assert max(errors) / min(errors) < 1.25 and 0.6 < errors[-1] < 1.1


def test_layer_and_reference_draw_the_same_features():
    for kind in ("gaussian", "laplacian"):
        layer = RandomFeatureGaussianProcess(1, R, kind, seed=5, dtype="float64")
        layer.build((None, M))
        weights = ref.draw_random_features(np.random.default_rng(5), M, R, kind)
        assert_array_equal(layer.random_features.kernel, weights.kernel)
        assert_array_equal(layer.random_features.bias, weights.bias)
        assert_array_equal(draw_random_features(5, kind, M, R)[0], weights.kernel)


@pytest.mark.parametrize("normalize", [False, True])
def test_norm_and_scale_count_together(rng, normalize):
    """Four times the scale halves what the cosine is taken of, behind the norm too."""
    x, angles = rng.normal(size=(B, M)), []
    for scale in (1.0, 4.0):
        layer = RandomFeatureGaussianProcess(
            1, R, "gaussian", scale, normalize_input=normalize, custom_random_features_activation="linear", dtype="float64"
        )
        layer.build((None, M))
        layer.random_features.bias.assign(np.zeros(R))
        angles.append(features_of(layer, x))
    assert_allclose(angles[1], angles[0] / 2, rtol=1e-12)
    normalized = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-3) if normalize else x
    assert_allclose(angles[0], np.sqrt(2 / R) * normalized @ np.asarray(layer.random_features.kernel), rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("normalize", [False, True])
def test_a_trainable_scale_is_trained_and_stays_positive(rng, normalize):
    layer, x, _ = made(rng, "float32", gp_kernel_scale=2.0, gp_kernel_scale_trainable=True, normalize_input=normalize)
    model = keras.Sequential([keras.Input((M,)), layer])
    model.compile(keras.optimizers.SGD(0.5), [lambda y, logits: ops.mean(logits[:, 0] ** 2), None])
    before = float(layer.log_kernel_scale)
    model.fit(x, np.zeros((N, C)), epochs=2, verbose=0)
    assert float(layer.log_kernel_scale) != before and math.exp(float(layer.log_kernel_scale)) > 0
    fixed, _, _ = made(rng)
    assert not fixed.log_kernel_scale.trainable and math.isclose(float(fixed.log_kernel_scale), 0)
    assert not fixed.output_bias.trainable and len(fixed.trainable_variables) == 1


def test_features_without_their_factor_are_waves_between_minus_one_and_one(rng):
    layer, x, _ = made(rng, scale_random_features=False)
    scaled, _, _ = made(rng)
    assert_allclose(features_of(layer, x), np.sqrt(R / 2) * features_of(scaled, x), rtol=1e-12)
    assert 0.9 < np.abs(features_of(layer, x)).max() <= 1


def test_linear_features_are_the_inputs_over_the_root_of_the_scale(rng):
    layer, x, _ = made(rng, gp_kernel_type="linear", gp_kernel_scale=9.0)
    assert_allclose(features_of(layer, x), x / 3, rtol=1e-14)
    assert layer.precision_matrix.shape == (M, M)


def test_features_are_not_trained(rng):
    layer, _, _ = made(rng, normalize_input=True)
    names = {"/".join(v.path.split("/")[1:]) for v in layer.trainable_variables}
    assert names == {"gp_output_weights/kernel", "input_norm/gamma", "input_norm/beta"}


def test_a_custom_initializer_and_activation_take_the_place_of_normal_numbers_and_the_cosine(rng):
    options = {"custom_random_features_initializer": "ones", "custom_random_features_activation": "relu"}
    layer, x, _ = made(rng, gp_kernel_scale=4.0, **options)
    expected = np.maximum(x.sum(-1, keepdims=True) / 2 + np.asarray(layer.random_features.bias), 0) * np.sqrt(2 / R)
    assert_allclose(features_of(layer, x), expected, rtol=1e-12)


def test_the_names_of_the_weights(rng):
    layer, _, _ = made(rng, normalize_input=True)
    shapes = {"/".join(v.path.split("/")[1:]): tuple(v.shape) for v in layer.weights}
    assert shapes == {
        "input_norm/gamma": (M,),
        "input_norm/beta": (M,),
        "random_features/kernel": (M, R),
        "random_features/bias": (R,),
        "gp_output_weights/kernel": (R, C),
        "gp_output_bias": (C,),
        "log_kernel_scale": (),
        "precision_matrix": (R, R),
        "covariance_factor": (R, R),
        "factored_mark": (2 * R,),
        "replicas_and_examples": (2,),
    }


def test_the_penalty_falls_on_the_output_weights_alone(rng):
    layer, _, x = made(rng, l2_regularization=0.3)
    layer(x)
    (loss,) = layer.losses
    assert_allclose(loss, 0.3 * np.sum(np.square(layer.gp_output_weights.kernel)), rtol=1e-6)  # Keras has it in float32


# The posterior


def test_posterior_worked_by_hand():
    """φ = (1, 1) seen once with ρ = 1: P = [[2, 1], [1, 2]], P⁻¹ = [[2, −1], [−1, 2]]/3; (1, 1) has 2/3, (1, −1) still has 2."""
    seen = np.array([[1.0, 1.0]])
    precision = ref.precision_by_loop(seen, np.ones(1))
    assert_array_equal(precision, [[2, 1], [1, 2]])
    asked = np.array([[1.0, 1.0], [1.0, -1.0]])
    assert_allclose(ref.covariance(asked, precision), [[2 / 3, 0], [0, 2]], atol=1e-15)
    layer = RandomFeatureGaussianProcess(1, gp_kernel_type="linear", gp_cov_momentum=-1, dtype="float64")
    layer(seen, training=True)
    assert_allclose(layer(asked)[1], [[2 / 3, 0], [0, 2]], atol=1e-15)


@pytest.mark.parametrize("likelihood", ["gaussian", "binary_logistic", "poisson"])
def test_batches_add_up_to_the_sum_over_examples(rng, likelihood):
    phi, logits = rng.normal(size=(N, R)), rng.normal(size=(N, 1))
    w = ref.observation_weights(logits, likelihood)
    precision = 0.7 * np.eye(R)
    for part in np.split(np.arange(N), [4, 5, 16]):
        precision = ref.add_batch(precision, phi[part], w[part])
    assert_allclose(precision, ref.precision_by_loop(phi, w, 0.7), rtol=1e-12)
    assert_allclose(np.diagonal(ref.covariance(phi, precision, 0.7)), [ref.variance_one(p, precision, 0.7) for p in phi])


def test_observation_weights_are_the_curvature_of_the_log_likelihood(rng):
    g, step = rng.normal(size=(N, 1)), 1e-3
    losses = {
        "gaussian": lambda g: (g - 0.3) ** 2 / 2,
        "binary_logistic": lambda g: np.logaddexp(0, g) - g,
        "poisson": lambda g: np.exp(g) - 3 * g,
    }
    for likelihood, loss in losses.items():
        curvature = (loss(g + step) - 2 * loss(g) + loss(g - step)) / step**2
        assert_allclose(ref.observation_weights(g, likelihood), curvature[:, 0], rtol=1e-5)
        roots = posterior_covariance.observation_roots(likelihood, ops.convert_to_tensor(g)) * np.ones_like(g)
        assert_allclose(roots**2, curvature, rtol=1e-5)


def test_inverting_once_equals_updating_with_one_observation_after_the_other(rng):
    phi, known, y = rng.normal(size=(B, R)), rng.normal(size=(N, R)), rng.normal(size=(N, C))
    at_once, one_by_one = (f(phi, known, y, 0.3) for f in (exact.linear_posterior, exact.linear_posterior_by_updates))
    assert_allclose(at_once.mean, one_by_one.mean, rtol=1e-10)
    assert_allclose(at_once.covariance, one_by_one.covariance, rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("momentum", [-1, 0])
@pytest.mark.parametrize("ridge", [1.0, 0.04])
def test_one_pass_without_momentum_is_bayesian_linear_regression_on_the_features(rng, momentum, ridge):
    layer, known, x = made(rng, gp_cov_momentum=momentum, gp_cov_ridge_penalty=ridge)
    y = rng.normal(size=(N, C))
    for part in np.split(known, [4, 5, 16]):
        layer(part, training=True)
    phi = features_of(layer, known)
    layer.gp_output_weights.kernel.assign(exact.posterior_mean(phi, y, ridge))
    logits, covariance = layer(x)
    expected = exact.linear_posterior_by_updates(features_of(layer, x), phi, y, ridge)
    assert_allclose(covariance, expected.covariance, rtol=1e-10, atol=1e-12)
    assert_allclose(logits, expected.mean, rtol=1e-10, atol=1e-10)
    assert_allclose(layer(x, diagonal=True)[1], np.diagonal(covariance), rtol=1e-12)


def test_linear_posterior_is_the_exact_one_for_the_kernel_of_products(rng):
    known, y, x = rng.normal(size=(N, R)), rng.normal(size=(N, C)), rng.normal(size=(B, R))
    ours = exact.linear_posterior(x, known, y, 0.5)
    process = exact.exact_posterior(x, known, y, lambda a, b: a @ b.T, 0.5)
    assert_allclose(ours.mean, process.mean, rtol=1e-9)
    assert_allclose(ours.covariance, process.covariance, rtol=1e-8, atol=1e-11)


def test_with_more_features_the_layer_comes_to_the_exact_posterior(rng):
    known, x = rng.uniform(-2, 2, size=(30, 2)), rng.uniform(-3, 3, size=(9, 2))
    y = np.sin(known.sum(-1, keepdims=True))
    process = exact.exact_posterior(x, known, y, lambda a, b: exact.gaussian_kernel(a, b, 0.8), 0.1)
    errors = []
    for r in (32, 512, 8192):
        far = []
        for seed in range(3):
            layer = RandomFeatureGaussianProcess(
                1,
                r,
                gp_kernel_scale=0.8,
                gp_cov_momentum=-1,
                gp_cov_ridge_penalty=0.1,
                seed=seed,
                return_gp_cov=r < 1000,
                dtype="float64",
            )
            layer.build((None, 2))
            phi, asked = features_of(layer, known), features_of(layer, x)
            posterior = exact.linear_posterior(asked, phi, y, 0.1) if r < 1000 else by_kernel(asked, phi, y, 0.1)
            if r < 1000:
                layer(known, training=True)
                layer.gp_output_weights.kernel.assign(exact.posterior_mean(phi, y, 0.1))
                posterior = exact.Posterior(*(numpy(part) for part in layer(x)))
            far.append(max(np.abs(a - b).max() for a, b in zip(posterior, process)))
        errors.append(np.mean(far))
    assert errors[0] > 2 * errors[1] > 4 * errors[2] and errors[2] < 0.08


def by_kernel(asked, phi, y, ridge):
    """The posterior of many features, by the shorter way."""
    return exact.exact_posterior(asked, phi, y, lambda a, b: a @ b.T, ridge)


def test_the_output_weights_are_trained_to_the_posterior_mean(rng):
    """The mean squared error over n examples has its least, with the penalty ρ/n, at the mean of the posterior."""
    layer, known, _ = made(rng, l2_regularization=0.5 / N)
    y = rng.normal(size=(N, 1)) * np.ones((N, C))
    phi = features_of(layer, known)
    best = exact.posterior_mean(phi, y, 0.5)

    def loss(beta):
        return np.mean((y - phi @ beta) ** 2, axis=0) + layer.l2_regularization * np.sum(beta**2, axis=0)

    for _ in range(5):
        assert (loss(best + 1e-3 * rng.normal(size=best.shape)) > loss(best)).all()


def test_before_training_and_far_from_all_data_the_variance_is_the_priors(rng):
    layer, known, x = made(rng, num_inducing=400, gp_cov_ridge_penalty=0.01)
    prior = np.sum(features_of(layer, x) ** 2, axis=-1)
    assert_allclose(variances(layer, x), prior, rtol=1e-12)
    layer(np.tile(known, (40, 1)) / 10, training=True)
    radii = [variances(layer, r * x / np.linalg.norm(x, axis=-1, keepdims=True)).mean() for r in (0, 3, 30)]
    assert radii[0] < 0.01 < 0.2 < radii[1] and 0.8 < radii[2] < 1.2


def test_variances_are_below_the_priors_and_fall_with_every_batch(rng):
    layer, known, x = made(rng)
    layer_variances = [np.linalg.eigvalsh(layer(x)[1])]
    covariances = [numpy(layer(x)[1])]
    for part in np.split(known, [4, 5, 16]):
        layer(part, training=True)
        covariances.append(numpy(layer(x)[1]))
        assert np.linalg.eigvalsh(covariances[-2] - covariances[-1]).min() > -1e-12
    assert np.linalg.eigvalsh(covariances[-1]).min() > 0 and len(layer_variances) == 1


def test_three_epochs_without_a_reset_count_three_times(rng):
    layer, known, _ = made(rng)
    for _ in range(3):
        layer(known, training=True)
    phi = features_of(layer, known)
    assert_allclose(layer.precision_matrix, np.eye(R) + 3 * phi.T @ phi, rtol=1e-12)


def test_the_ridge_does_not_decay_under_momentum(rng):
    layer, known, _ = made(rng, gp_cov_momentum=0.5, gp_cov_ridge_penalty=0.25)
    for _ in range(60):
        layer(known, training=True)
    phi = features_of(layer, known)
    assert_allclose(layer.precision_matrix, 0.25 * np.eye(R) + phi.T @ phi / N, rtol=1e-10, atol=1e-14)
    silent, _, _ = made(rng, gp_cov_momentum=0.5, gp_cov_ridge_penalty=0.25, custom_random_features_activation=ops.zeros_like)
    for _ in range(60):
        silent(known, training=True)
    assert_allclose(silent.precision_matrix, 0.25 * np.eye(R), rtol=1e-12)


def test_momentum_forgets_how_many_examples_there_were(rng):
    layer, known, _ = made(rng, gp_cov_momentum=0.9)
    for _ in range(200):
        layer(known, training=True)
    before = variances(layer, known)
    for _ in range(200):
        layer(np.tile(known, (40, 1)), training=True)
    assert_allclose(variances(layer, known), before, rtol=1e-6)
    summed, _, _ = made(rng)
    summed(np.tile(known, (40, 1)), training=True)
    assert (before > 10 * variances(summed, known)).all()


@pytest.mark.parametrize("momentum", [-1, 0.9])
def test_an_empty_batch_changes_nothing(rng, momentum):
    layer, known, _ = made(rng, gp_cov_momentum=momentum)
    layer(known, training=True)
    before = numpy(layer.precision_matrix)
    layer(np.zeros((0, M)), training=True)
    assert_array_equal(layer.precision_matrix, before)


def test_the_covariance_is_the_same_for_all_units_and_asks_nothing_of_the_logits(rng):
    layer, known, x = made(rng)
    layer(known, training=True)
    before = variances(layer, x)
    layer.gp_output_weights.kernel.assign(np.zeros((R, C)))
    assert_array_equal(variances(layer, x), before)


# State


def test_training_gives_no_covariance_instead_of_a_misleading_one(rng):
    layer, known, x = made(rng, return_random_features=True)
    logits, covariance, features = layer(known, training=True)
    assert covariance is None and logits.shape == (N, C) and features.shape == (N, R)
    assert layer(x, training=False)[1].shape == layer(x)[1].shape == (B, B)


def test_only_training_changes_the_precision(rng):
    layer, known, x = made(rng)
    layer(known, training=True)
    before = numpy(layer.precision_matrix)
    for training in (False, None):
        layer(x, training=training)
    assert_array_equal(layer.precision_matrix, before)


def test_a_reset_forgets_everything_and_a_second_one_nothing_more(rng):
    layer, known, x = made(rng, gp_cov_ridge_penalty=0.3)
    before = numpy(layer(x)[1])
    layer(known, training=True)
    assert np.abs(numpy(layer(x)[1]) - before).max() > 0.01
    for _ in range(2):
        layer.reset_covariance_matrix()
        assert_array_equal(layer.precision_matrix, 0.3 * np.eye(R))
        assert_allclose(layer(x)[1], before, rtol=1e-12, atol=1e-14)


@pytest.fixture
def inversions(monkeypatch):
    """Counts the inversions as they are run, in compiled programs too."""
    import tensorflow as tf

    count, invert = tf.Variable(0), posterior_covariance.covariance_factor

    def counting(*arguments):
        count.assign_add(1)
        return invert(*arguments)

    monkeypatch.setattr(posterior_covariance, "covariance_factor", counting)
    return lambda: int(count)


def test_predicting_twice_inverts_once(rng, inversions):
    layer, known, x = made(rng)
    layer(x)
    assert inversions() == 0  # nothing was seen: what the covariance starts with is right
    layer(known, training=True)
    layer(known, training=True)
    first = numpy(layer(x)[1])
    assert inversions() == 1
    assert_array_equal(layer(x)[1], first)
    layer(x, diagonal=True)
    assert inversions() == 1
    layer(known, training=True)
    assert np.abs(numpy(layer(x)[1]) - first).max() > 1e-4
    assert inversions() == 2
    layer.reset_covariance_matrix()
    layer(x)
    assert inversions() == 3


@pytest.mark.parametrize("compiled", [False, True])
def test_predict_inverts_once_for_all_its_batches(rng, inversions, compiled):
    layer, known, _ = made(rng, "float32")
    model = keras.Sequential([keras.Input((M,)), layer])
    model.compile(keras.optimizers.SGD(0.1), ["mse", None], jit_compile=compiled)
    model.fit(known, np.zeros((N, C)), batch_size=4, epochs=2, verbose=0)
    assert inversions() == 0
    for _ in range(2):
        model.predict(known[:20], batch_size=4, verbose=0)
        assert inversions() == 1


def test_a_precision_that_is_assigned_never_meets_an_old_inverse(rng):
    layer, known, x = made(rng)
    layer(known, training=True)
    layer(x)
    other = np.eye(R) + 3 * np.ones((R, R))
    layer.precision_matrix.assign(other)
    phi = features_of(layer, x)
    assert_allclose(layer(x)[1], phi @ np.linalg.solve(other, phi.T), rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("change", [[[0, -1e2], [-1e2, 0]], [[0, 0], [0, 2e-5]]])
def test_no_part_of_a_precision_changes_unnoticed(change):
    """Neither what leaves its diagonal as it is, nor what is little beside the rest of its row and much beside its pivot."""
    precision, phi = np.array([[1e6, 1e3], [1e3, 1.0001]]), np.ones((1, 2), "float32")
    factors = []
    for seen in ([precision, precision + change], [precision + change]):
        layer = RandomFeatureGaussianProcess(C, gp_kernel_type="linear", dtype="float32")
        layer.build(phi.shape)
        for p in seen:
            layer.precision_matrix.assign(p)
            layer(phi)
        factors.append(np.asarray(layer.covariance_factor))
    assert_array_equal(*factors)


def test_weights_of_another_layer_bring_its_posterior(rng):
    layer, known, x = made(rng)
    layer(known, training=True)  # not inverted yet
    other, _, _ = made(rng)
    other(known[:3], training=True)
    other(x)
    other.set_weights(layer.get_weights())
    assert_array_equal(other(x)[1], layer(x)[1])


def test_no_matrix_of_pairs_is_computed_for_variances(rng):
    import tensorflow as tf

    layer, _, _ = made(rng)
    for diagonal, expected in ((True, False), (False, True)):
        graph = (
            tf.function(lambda x, diagonal=diagonal: layer(x, diagonal=diagonal))
            .get_concrete_function(tf.TensorSpec((97, M), "float64"))
            .graph
        )
        shapes = {tuple(tensor.shape) for op in graph.get_operations() for tensor in op.outputs if tensor.shape.rank == 2}
        assert ((97, 97) in shapes) == expected


def test_the_callback_resets_at_each_epoch_wherever_the_layer_is(rng):
    layer, known, _ = made(rng, "float32", gp_cov_ridge_penalty=0.5)
    inner = keras.Sequential([keras.Input((M,)), layer])
    inputs = keras.Input((M,))
    model = keras.Model(inputs, inner(inputs)[0])
    model.compile(keras.optimizers.SGD(0.0), "mse")
    model.fit(known, np.zeros((N, C)), batch_size=4, epochs=3, verbose=0, callbacks=[ResetCovarianceCallback()])
    phi = features_of(layer, known)
    assert_allclose(layer.precision_matrix, 0.5 * np.eye(R) + phi.T @ phi, rtol=1e-4, atol=1e-5)
    model.fit(known, np.zeros((N, C)), batch_size=4, epochs=1, verbose=0)
    assert_allclose(layer.precision_matrix, 0.5 * np.eye(R) + 2 * phi.T @ phi, rtol=1e-4, atol=1e-5)


def test_the_callback_resets_a_model_that_fit_builds(rng):
    layer = RandomFeatureGaussianProcess(C, R, gp_cov_momentum=0)
    model = keras.Sequential([keras.layers.Dense(4), layer])
    model.compile("adam", ["mse", None])
    model.fit(rng.normal(size=(N, M)), np.zeros((N, C)), epochs=2, verbose=0, callbacks=[ResetCovarianceCallback()])
    assert_allclose(layer.replicas_and_examples, [1, N])
    assert np.trace(layer.precision_matrix) < R + 2 * N


def test_the_callback_refuses_a_model_without_a_covariance(rng):
    model = keras.Sequential([keras.Input((M,)), RandomFeatureGaussianProcess(C, R, return_gp_cov=False)])
    model.compile("adam", ["mse"])
    with pytest.raises(ValueError, match="needs a model with a RandomFeatureGaussianProcess that has return_gp_cov=True"):
        model.fit(rng.normal(size=(N, M)), np.zeros((N, C)), verbose=0, callbacks=[ResetCovarianceCallback()])


def test_without_a_covariance_there_is_no_state_and_nothing_to_reset(rng):
    layer, known, _ = made(rng, return_gp_cov=False)
    assert len(layer(known, training=True)) == len(layer(known)) == 1
    assert not any(name in v.path for v in layer.weights for name in ("matrix", "covariance", "replicas"))
    with pytest.raises(ValueError, match="reset_covariance_matrix needs.* Received: return_gp_cov=False, built=True"):
        layer.reset_covariance_matrix()
    with pytest.raises(ValueError, match="Received: return_gp_cov=True, built=False"):
        RandomFeatureGaussianProcess(1).reset_covariance_matrix()


# Dtypes and matrices that cannot be inverted


@pytest.mark.parametrize("policy", POLICIES)
def test_the_precision_is_summed_and_inverted_in_at_least_float32(rng, policy):
    layer, known, x = made(rng, policy, num_inducing=64, gp_cov_ridge_penalty=0.01)
    inputs = keras.Input((M,), dtype=layer.compute_dtype)
    model = keras.Model(inputs, layer(inputs), dtype=policy)  # whose policy would cast what its layers read
    for part in np.split(np.tile(known, (30, 1)).astype("float32"), 10):
        model(ops.cast(part, layer.compute_dtype), training=True)
    logits, covariance = model(ops.cast(x, layer.compute_dtype))
    wide = "float64" if policy == "float64" else "float32"
    assert {v.dtype for v in (layer.precision_matrix, layer.covariance_factor, layer.random_features.kernel)} == {wide}
    assert logits.dtype == covariance.dtype == layer.compute_dtype
    assert_array_equal(numpy(logits), numpy(layer(ops.cast(x, layer.compute_dtype))[0]))  # as without the model around
    phi = features_of(layer, numpy(ops.cast(np.tile(known, (30, 1)).astype("float32"), layer.compute_dtype)))
    assert_allclose(layer.precision_matrix, 0.01 * np.eye(64) + phi.T @ phi, rtol=1e-3, atol=1e-3)
    asked = features_of(layer, numpy(ops.cast(x, layer.compute_dtype)))
    expected = exact.linear_posterior(asked, phi, np.zeros((len(phi), 1)), 0.01).covariance
    assert_allclose(numpy(covariance), expected, atol=2e-2 * np.abs(expected).max())


def test_a_ridge_below_the_rounding_of_the_sum_makes_variances_larger_never_smaller(rng):
    """10⁵ copies of few examples in float32: a ridge of 10⁻³ is lost in the sum, and the inverse with it."""
    layer, known, x = made(rng, "float32", num_inducing=64, gp_cov_ridge_penalty=1e-3, scale_random_features=False)
    phi, asked = features_of(layer, known), features_of(layer, x)
    exactly = 1e-3 * np.eye(64) + 1e5 * phi.T @ phi
    layer.precision_matrix.assign(exactly)
    with pytest.raises(np.linalg.LinAlgError):
        np.linalg.cholesky(numpy(layer.precision_matrix).astype("float32"))
    found, expected = variances(layer, x), np.diagonal(ref.covariance(asked, exactly, 1e-3))
    assert np.isfinite(found).all() and (found >= 0.9 * expected).all()
    assert (found <= 1.01 * np.sum(asked**2, axis=-1)).all()  # the prior's
    assert (variances(layer, known) < 0.1 * variances(layer, known + 100)).all()


BROKEN = {"zero": np.zeros((R, R)), "negative": -np.eye(R), "NaN": np.full((R, R), np.nan), "infinite": np.full((R, R), np.inf)}


@pytest.mark.parametrize("name", BROKEN)
def test_a_matrix_that_is_not_positive_is_an_error_and_not_nan(rng, name):
    layer, _, x = made(rng)
    layer(x)
    layer.precision_matrix.assign(BROKEN[name])
    for _ in range(2):
        with pytest.raises(ValueError, match="precision_matrix must be finite and positive definite.* gp_cov_ridge_penalty=1.0"):
            layer(x)
    layer.reset_covariance_matrix()
    assert np.isfinite(variances(layer, x)).all()


@pytest.mark.parametrize("name", BROKEN)
@pytest.mark.parametrize("diagonal", [False, True])
def test_a_compiled_program_that_cannot_raise_knows_nothing_and_says_so(rng, name, diagonal):
    import tensorflow as tf

    layer, _, x = made(rng)
    layer.precision_matrix.assign(BROKEN[name])
    logits, covariance = tf.function(lambda x: layer(x, diagonal=diagonal), jit_compile=True)(x)
    assert np.isposinf(covariance).all() and np.isfinite(logits).all()


def test_cosines_of_large_angles_keep_their_digits(rng):
    layer, _, x = made(rng, gp_kernel_scale=1e-4)
    weights = weights_of(layer, ref.GaussianProcessWeights)
    assert_allclose(layer(x)[0], ref.gaussian_process(x, weights).logits, rtol=1e-10, atol=1e-12)


# Arguments


@pytest.mark.parametrize(
    ("message", "options"),
    [
        ("units must be an integer of at least 1. Received: units=0", {"units": 0}),
        ("num_inducing must be an integer of at least 1. Received: num_inducing=2.5", {"num_inducing": 2.5}),
        (r"gp_kernel_type must be one of \('gaussian', 'laplacian', 'linear'\). Received: .*'rbf'", {"gp_kernel_type": "rbf"}),
        ("gp_cov_likelihood must be one of .* Received: .*'softmax'", {"gp_cov_likelihood": "softmax"}),
        ("gp_kernel_scale must be a finite number above 0. Received: gp_kernel_scale=0", {"gp_kernel_scale": 0}),
        ("gp_kernel_scale must be a finite number above 0. Received: gp_kernel_scale=nan", {"gp_kernel_scale": math.nan}),
        ("gp_cov_ridge_penalty must be .* above 0. Received: gp_cov_ridge_penalty=0.0", {"gp_cov_ridge_penalty": 0.0}),
        ("gp_cov_momentum must be .* below 1. Received: gp_cov_momentum=1", {"gp_cov_momentum": 1}),
        ("l2_regularization must be .* at least 0. Received: l2_regularization=-1", {"l2_regularization": -1}),
        ("gp_output_bias must be a finite number. Received: gp_output_bias='zeros'", {"gp_output_bias": "zeros"}),
        ("unless units=1. Received: gp_cov_likelihood='poisson', units=3", {"gp_cov_likelihood": "poisson"}),
        (
            "need use_custom_random_features=True.* Received: use_custom_random_features=False",
            {"use_custom_random_features": False, "custom_random_features_activation": "relu"},
        ),
        (
            "a gp_kernel_type other than 'linear', which has no random features. Received: .*gp_kernel_type='linear'",
            {"gp_kernel_type": "linear", "custom_random_features_initializer": "ones"},
        ),
        ("custom_random_features_activation must be a callable or", {"custom_random_features_activation": "cosinus"}),
    ],
)
def test_arguments_that_make_no_sense_are_rejected_by_name(message, options):
    with pytest.raises(ValueError, match=message):
        RandomFeatureGaussianProcess(**({"units": 3} | options))


@pytest.mark.parametrize("shape", [(B,), (B, 2, M)])
def test_inputs_of_another_rank_are_rejected(shape):
    with pytest.raises(ValueError, match="inputs must have 2 axes. Received: inputs of shape"):
        RandomFeatureGaussianProcess(C, R)(np.zeros(shape))


def test_an_unknown_or_another_model_size_is_rejected(rng):
    with pytest.raises(ValueError, match=r"a last axis of known size. Received: inputs of shape \(None, None\)"):
        RandomFeatureGaussianProcess(C, R)(keras.Input((None,)))
    layer, _, _ = made(rng)
    with pytest.raises(ValueError, match=rf"a last axis of size {M}. Received: inputs of shape \({B}, {M + 1}\)"):
        layer(np.zeros((B, M + 1)))


def test_mean_field_pulls_to_zero_what_is_not_known():
    """At λ v = 3 the root is 2."""
    logits = exact.mean_field_logits(np.array([[4.0, -2.0], [4.0, -2.0]]), np.array([0.0, 3 * 8 / np.pi]))
    assert_allclose(logits, [[4, -2], [2, -1]], rtol=1e-12)


def test_mean_field_is_near_the_mean_of_the_sigmoid():
    nodes, weights = np.polynomial.hermite_e.hermegauss(80)
    for variance in (1.0, 4.0, 16.0):
        for mu in np.linspace(-8, 8, 33):
            expected = np.sum(weights / (1 + np.exp(-mu - np.sqrt(variance) * nodes))) / np.sum(weights)
            found = 1 / (1 + np.exp(-exact.mean_field_logits(np.array([[mu]]), np.array([variance]))))
            assert abs(found.item() - expected) < 0.02


def test_a_reference_without_a_precision_has_no_covariance(rng):
    weights = ref.GaussianProcessWeights(None, Projection(np.ones((M, C))), np.zeros(C), np.array(0.0))
    output = ref.gaussian_process(rng.normal(size=(B, M)), weights)
    assert output.covariance is None and output.features.shape == (B, M)
    with pytest.raises(ValueError, match="poisson needs 1 class. Received: 3"):
        ref.observation_weights(output.logits, "poisson")


def test_every_way_to_call_it_is_a_case():
    assert len(find_cases(["gaussian_process"])) >= 20
