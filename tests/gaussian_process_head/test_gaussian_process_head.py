"""The definition, a number worked by hand, what happens without each part, and `fit` and `predict` as they are."""

import inspect
import math

import keras
import numpy as np
import pytest
from keras import ops
from numpy.testing import assert_allclose, assert_array_equal

from crosscheck.case import B, M, T
from crosscheck.cases.spectral_normalization import converged
from crosscheck.catalogue import find_cases
from crosscheck.weights import draw_weights, weights_of
from layers.classification_head import ClassificationHead
from layers.gaussian_process import RandomFeatureGaussianProcess
from layers.gaussian_process.callback import ResetCovarianceCallback
from layers.gaussian_process_head import DEFAULTS, GaussianProcessClassificationHead
from layers.spectral_normalization import SpectralNormalization
from reference import gaussian_process_head as ref
from reference.gaussian_process import random_features
from reference.gaussian_process_head.posterior import linear_posterior, mean_field_logits

N, F, R, C = 23, 9, 17, 4
POLICIES = ("float64", "float32", "mixed_bfloat16", "mixed_float16", "bfloat16", "float16")


def made(rng, dtype="float64", inner_dim=F, classes=C, trained=True, **options):
    """A head with drawn weights, that sums exactly unless told otherwise; the sequences it has counted; and others."""
    defaults = {"num_inducing": R, "gp_cov_momentum": -1} if options.get("use_gp_layer", True) else {}
    head = GaussianProcessClassificationHead(inner_dim, classes, dtype=dtype, **(defaults | options))
    known, x = rng.normal(size=(N, T, M)), rng.normal(size=(B, T, M))
    head.build((None, T, M))
    draw_weights(head, rng)
    if head.use_spec_norm and inner_dim:
        converged(head.pooler_dense)
    if trained:
        head(known, training=True)
    return head, known, x


def numpy(tensor):
    return np.asarray(ops.cast(tensor, "float64"))


def state(head):
    return [numpy(variable) for variable in head.variables]


def test_head_of_a_batch_is_head_one_for_every_sequence(rng):
    head, _, x = made(rng, temperature=math.pi / 8, gp_kernel_scale=2.0, gp_cov_ridge_penalty=0.7, norm_multiplier=0.6)
    weights = weights_of(head, ref.GaussianProcessHeadWeights)
    expected = [ref.head_one(one, weights, math.pi / 8, 0.6, 0.7) for one in x[:, 0]]
    found = ref.gaussian_process_head(x, weights, factor=math.pi / 8, c=0.6, ridge=0.7)
    assert_allclose(found.logits, expected, rtol=1e-10)
    assert_allclose(head(x), expected, rtol=1e-10)


def test_worked_example():
    """Linear kernel, data 1 and 2, ridge 1: P = 1 + 1 + 4 = 6. At 3, v = 9/6, and with λ = 10 the logit 12 is over √16."""
    options = {"gp_kernel_type": "linear", "gp_cov_momentum": -1, "dtype": "float64"}
    head = GaussianProcessClassificationHead(0, 1, temperature=10, **options)
    head(np.array([[1.0], [2.0]]), training=True)
    head.logits.gp_output_weights.kernel.assign([[4.0]])
    logits, covariance = head(np.array([[3.0]]), return_covmat=True)
    assert_allclose(covariance, [[1.5]], rtol=1e-12)
    assert_allclose(logits, [[3.0]], rtol=1e-12)
    assert_allclose(mean_field_logits(np.array([[12.0]]), np.array([1.5]), 10.0), [[3.0]])


def test_its_variance_is_that_of_bayesian_linear_regression_on_the_features_of_the_pooler(rng):
    head, known, x = made(rng, gp_cov_ridge_penalty=0.3)
    weights = weights_of(head, ref.GaussianProcessHeadWeights)
    phi, seen = (
        random_features(ref.pooled(part[:, 0], weights.pooler_dense), weights.logits.random_features) for part in (x, known)
    )
    expected = linear_posterior(phi, seen, np.zeros((N, 1)), 0.3).covariance
    assert_allclose(head(x, return_covmat=True)[1], expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("inner_dim", [0, F])
def test_without_its_two_parts_it_is_the_classification_head(rng, inner_dim):
    head, _, x = made(rng, inner_dim=inner_dim, use_spec_norm=False, use_gp_layer=False, trained=False)
    plain = ClassificationHead(inner_dim, C, dtype="float64")
    plain.build(x.shape)
    plain.set_weights(head.get_weights())
    assert_array_equal(head(x), plain(x))


def test_where_nothing_is_unknown_the_factor_has_no_influence(rng):
    head, _, x = made(rng, temperature=100.0)
    head.logits.precision_matrix.assign(1e12 * np.eye(R))
    same, _, _ = made(np.random.default_rng(0))
    assert_allclose(head(x), same(x), rtol=1e-8)


def test_the_temperature_is_the_factor_of_the_mean_field_and_none_is_none(rng):
    """As a temperature, 1 would leave logits alone, and 4 would halve the variance's influence rather than raise it."""
    logits, variance = {}, None
    for temperature in (None, 0, 1.0, 4.0):
        head, _, x = made(np.random.default_rng(1), temperature=temperature)
        logits[temperature], covariance = (numpy(part) for part in head(x, return_covmat=True))
        variance = np.diagonal(covariance)
    assert_array_equal(logits[0], logits[None])
    assert variance.min() > 1e-3
    for factor in (1.0, 4.0):
        assert_allclose(logits[factor], logits[None] / np.sqrt(1 + factor * variance)[:, None], rtol=1e-12)


def test_pi_over_eight_is_the_factor_of_one_logit_and_twice_that_the_one_of_two_under_softmax(rng):
    g = np.linspace(-4, 4, 9)
    draws = rng.normal(size=(40_000, 9, 2))
    for v in (0.5, 1.0, 4.0):
        variance = np.full(9, v)
        alone = np.mean(1 / (1 + np.exp(-g - np.sqrt(v) * draws[..., 0])), axis=0)
        pair = np.stack([g, np.zeros(9)], axis=1)
        together = ref.expected_softmax(pair, variance, draws)[:, 0]

        def field(factor, variance=variance):
            return 1 / (1 + np.exp(-mean_field_logits(g[:, None], variance, factor)[:, 0]))

        assert np.abs(field(math.pi / 8) - alone).max() < 0.015
        assert np.abs(field(math.pi / 4) - together).max() < 0.02
        assert_allclose(ref.softmax(mean_field_logits(pair, variance, math.pi / 4))[:, 0], field(math.pi / 4), rtol=1e-12)
        assert v < 4 or np.abs(field(math.pi / 8) - together).max() > 0.03


def test_far_from_the_data_the_variance_is_the_priors_and_the_classes_come_nearer(rng):
    head, known, _ = made(rng, inner_dim=0, temperature=10.0, num_inducing=200)
    plain, _, _ = made(np.random.default_rng(0), inner_dim=0, num_inducing=200)
    plain.set_weights(head.get_weights())
    far = 100 * rng.normal(size=(B, T, M))
    ratio = numpy(head(far)) / numpy(plain(far))
    assert np.diagonal(numpy(head(far, return_covmat=True)[1])).min() > 0.7
    assert np.all(ratio < 0.36)  # 1 / √(1 + 10 · 0.7)
    assert np.all(numpy(head(known)) / numpy(plain(known)) > 0.36)


def test_training_logits_have_no_mean_field_and_no_covariance(rng):
    head, _, x = made(rng, temperature=5.0)
    plain, _, _ = made(np.random.default_rng(0))
    plain.set_weights(head.get_weights())
    logits, covariance = head(x, training=True, return_covmat=True)
    assert covariance is None
    assert_allclose(logits, plain(x), rtol=1e-10)
    assert np.abs(numpy(head(x)) / numpy(logits)).max() < 1 - 1e-3


@pytest.mark.parametrize("temperature", [None, math.pi / 8])
def test_asking_for_the_covariance_changes_no_digit_of_the_logits(rng, temperature):
    head, _, x = made(rng, dtype="float32", temperature=temperature)
    assert_array_equal(head(x, return_covmat=True)[0], head(x))


def test_inference_changes_nothing_and_repeats_itself(rng):
    head, _, x = made(rng, temperature=1.0, dropout_rate=0.5)
    first, before = numpy(head(x)), state(head)
    for options in ({}, {"training": False}, {"return_covmat": True}):
        head(x, **options)
    assert_array_equal(head(x), first)
    for old, new in zip(before, state(head)):
        assert_array_equal(new, old)


def test_only_training_counts_examples_and_moves_the_power_iteration(rng):
    head, _, x = made(rng)
    head.pooler_dense.u.assign(np.eye(F)[0])
    before, u = numpy(head.logits.precision_matrix), numpy(head.pooler_dense.u)
    head(x)
    assert_array_equal(head.logits.precision_matrix, before)
    assert_array_equal(head.pooler_dense.u, u)
    head(x, training=True)
    assert np.abs(numpy(head.logits.precision_matrix) - before).max() > 1e-3
    assert np.abs(numpy(head.pooler_dense.u) - u).max() > 1e-3


def test_a_training_call_counts_its_batch_once_even_when_it_is_asked_for_the_covariance(rng):
    head, known, _ = made(rng, trained=False)
    head(known, training=True, return_covmat=True)
    once, _, _ = made(np.random.default_rng(0))
    assert_allclose(head.logits.precision_matrix, once.logits.precision_matrix, rtol=1e-10)


def test_fit_and_predict_need_nothing_else(rng):
    """A pass of fit at a rate of 0 leaves its posterior, and predict gives the mean field for it, in batches of any size."""
    x = rng.normal(size=(N, T, M)).astype("float32")
    y = rng.integers(0, C, N)
    head = GaussianProcessClassificationHead(F, C, temperature=math.pi / 8, num_inducing=R, gp_cov_momentum=-1)
    head.build((None, T, M))
    model = keras.Sequential([head])
    model.compile(keras.optimizers.SGD(0.0), keras.losses.SparseCategoricalCrossentropy(from_logits=True), jit_compile=False)
    model.fit(x, y, batch_size=6, epochs=3, verbose=0, callbacks=[ResetCovarianceCallback()])
    predicted = model.predict(x, batch_size=5, verbose=0)
    assert_allclose(predicted, head(x), rtol=1e-4, atol=1e-5)
    assert_allclose(predicted, model.predict(x, batch_size=N, verbose=0), rtol=1e-4, atol=1e-5)
    weights = weights_of(head, ref.GaussianProcessHeadWeights)
    phi = random_features(ref.pooled(x[:, 0].astype("float64"), weights.pooler_dense), weights.logits.random_features)
    assert_allclose(weights.logits.precision_matrix, np.eye(R) + phi.T @ phi, rtol=1e-3, atol=1e-4)


@pytest.mark.slow
def test_training_lowers_the_loss(rng):
    x = rng.normal(size=(64, T, M)).astype("float32")
    y = (x[:, 0, 0] > 0).astype(int)
    model = keras.Sequential([GaussianProcessClassificationHead(F, 2, num_inducing=64, gp_cov_momentum=-1)])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(0.02), loss, jit_compile=False)
    losses = model.fit(x, y, batch_size=16, epochs=15, verbose=0).history["loss"]
    assert losses[-1] < 0.5 * losses[0]


def test_resetting_forgets_all_examples(rng):
    head, known, x = made(rng)
    after_one = numpy(head(x, return_covmat=True)[1])
    head.reset_covariance_matrix()
    assert_array_equal(head.logits.precision_matrix, np.eye(R))
    head(known, training=True)
    assert_allclose(head(x, return_covmat=True)[1], after_one, rtol=1e-10)


VALUES = {
    "iteration": 3,
    "norm_multiplier": 0.5,
    "num_inducing": 33,
    "gp_kernel_type": "laplacian",
    "gp_kernel_scale": 2.0,
    "gp_output_bias": 0.25,
    "normalize_input": True,
    "gp_kernel_scale_trainable": True,
    "gp_output_bias_trainable": True,
    "gp_cov_momentum": 0.9,
    "gp_cov_ridge_penalty": 0.5,
    "scale_random_features": False,
    "use_custom_random_features": False,
    "l2_regularization": 0.1,
    "gp_cov_likelihood": "poisson",
    "seed": 4,
}


@pytest.mark.parametrize("name", VALUES)
def test_every_argument_reaches_its_layer_and_the_configuration(name):
    head = GaussianProcessClassificationHead(F, 1, **{name: VALUES[name]})
    part = head.pooler_dense if name in ("iteration", "norm_multiplier") else head.logits
    assert isinstance(part, (SpectralNormalization, RandomFeatureGaussianProcess))
    assert getattr(part, name) == getattr(head, name) == head.get_config()[name] == VALUES[name] != DEFAULTS[name]
    copy = GaussianProcessClassificationHead.from_config(head.get_config())
    assert getattr(copy, name) == VALUES[name]


def test_these_are_all_the_arguments_of_both_parts_and_their_defaults():
    custom = {"custom_random_features_initializer", "custom_random_features_activation"}
    assert set(VALUES) | custom == set(DEFAULTS)
    process = inspect.signature(RandomFeatureGaussianProcess.__init__).parameters
    bounds = inspect.signature(SpectralNormalization.__init__).parameters
    left_out = {"self", "units", "return_gp_cov", "return_random_features", "kernel_initializer", "kwargs"}
    expected = {name: process[name].default for name in process if name not in left_out}
    assert DEFAULTS == expected | {name: bounds[name].default for name in ("iteration", "norm_multiplier")}


def test_custom_features_reach_their_layer_and_survive_saving(rng, tmp_path):
    custom = {"custom_random_features_initializer": "glorot_normal", "custom_random_features_activation": "relu"}
    head = GaussianProcessClassificationHead(
        F, C, temperature=0.4, num_inducing=R, gp_cov_momentum=-1, kernel_regularizer="l2", **custom
    )
    model = keras.Sequential([keras.Input((T, M)), head])
    x = rng.normal(size=(B, T, M)).astype("float32")
    model(x, training=True)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert_array_equal(loaded(x), model(x))
    assert isinstance(loaded.layers[0].logits.custom_random_features_initializer, keras.initializers.GlorotNormal)
    assert loaded.layers[0].logits.custom_random_features_activation is keras.activations.relu
    assert loaded.layers[0].temperature == 0.4
    assert_array_equal(loaded.layers[0].logits.precision_matrix, head.logits.precision_matrix)


def test_the_pooler_is_bounded_and_its_trained_kernel_is_not_touched(rng):
    head, _, x = made(rng, norm_multiplier=0.5, activation="linear")
    kernel = numpy(head.pooler_dense.layer.kernel)
    head(x, training=True)
    assert_array_equal(head.pooler_dense.layer.kernel, kernel)
    used = numpy(head.pool(ops.convert_to_tensor(np.eye(M)), False)) - numpy(head.pooler_dense.layer.bias)
    assert_allclose(np.linalg.norm(used, 2), 0.5, rtol=1e-8)


def test_the_names_of_the_weights(rng):
    head, _, _ = made(rng)
    paths = {"/".join(variable.path.split("/")[1:]) for variable in head.variables}
    pooler = {f"pooler_dense/{name}" for name in ("layer/kernel", "layer/bias", "u", "v")}
    process = {"random_features/kernel", "random_features/bias", "gp_output_weights/kernel", "gp_output_bias", "precision_matrix"}
    assert pooler | {f"logits/{name}" for name in process} <= paths
    plain, _, _ = made(rng, use_spec_norm=False, use_gp_layer=False, trained=False)
    paths = {"/".join(variable.path.split("/")[1:]) for variable in plain.variables}
    assert paths == {"pooler_dense/kernel", "pooler_dense/bias", "logits/kernel", "logits/bias"}


def test_only_the_pooler_and_the_output_weights_are_trained(rng):
    head, _, _ = made(rng)
    assert [variable.name for variable in head.trainable_variables] == ["kernel", "bias", "kernel"]


@pytest.mark.parametrize("inner_dim", [0, F])
def test_only_the_chosen_token_has_influence(rng, inner_dim):
    head, _, x = made(rng, inner_dim=inner_dim, cls_token_idx=1, temperature=1.0)
    before = numpy(head(x))
    assert_array_equal(head(x + np.array([1.0, 0.0, 1.0])[:, None]), before)
    assert np.abs(numpy(head(x + np.array([0.0, 1.0, 0.0])[:, None])) - before).min() > 1e-6


def test_dropout_comes_behind_the_pooler(rng):
    head, _, x = made(rng, dropout_rate=0.5, gp_kernel_type="linear", activation="linear")
    head.logits.gp_output_weights.kernel.assign(np.eye(F, C))
    head.pooler_dense.layer.kernel.assign(np.zeros((M, F)))
    head.pooler_dense.layer.bias.assign(np.ones(F))
    assert set(np.unique(numpy(head(x, training=True)))) <= {0.0, 2.0}
    assert set(np.unique(numpy(head(x)))) == {1.0}


@pytest.mark.parametrize("policy", POLICIES)
def test_outputs_have_the_compute_dtype_and_the_posterior_float32_at_least(rng, policy):
    head, _, x = made(rng, dtype=policy, temperature=1.0)
    outputs = head(x, return_covmat=True)
    assert {keras.backend.standardize_dtype(part.dtype) for part in outputs} == {policy.removeprefix("mixed_")}
    assert head.logits.precision_matrix.dtype == ("float64" if policy == "float64" else "float32")
    assert head.pooler_dense.u.dtype == ("float64" if policy == "float64" else "float32")


def test_symbolic_outputs_are_described_without_a_trace():
    head = GaussianProcessClassificationHead(F, C)
    logits, covariance = head(keras.Input((None, M)), return_covmat=True)
    assert logits.shape == (None, C) and covariance.shape == (None, None)


@pytest.mark.parametrize(
    ("message", "options"),
    [
        ("temperature must be None or a number of at least 0. Received: temperature=-1", {"temperature": -1}),
        ("temperature must be None or a number of at least 0. Received: temperature='probit'", {"temperature": "probit"}),
        ("temperature must be None or a number of at least 0. Received: temperature=True", {"temperature": True}),
        ("temperature needs use_gp_layer=True. Received: temperature=0.4", {"temperature": 0.4, "use_gp_layer": False}),
        ("num_inducing must be an integer of at least 1", {"num_inducing": 0, "use_gp_layer": False}),
        ("norm_multiplier must be above 0", {"norm_multiplier": "0.9", "use_spec_norm": False}),
        ("iteration must be an integer of at least 1", {"iteration": 0, "inner_dim": 0}),
        ("norm_multiplier must be above 0. Received: norm_multiplier=-1", {"norm_multiplier": -1}),
        ("gp_cov_momentum must be a finite number below 1. Received: gp_cov_momentum=1", {"gp_cov_momentum": 1}),
        ("gp_cov_likelihood must be 'gaussian' unless units=1", {"gp_cov_likelihood": "poisson"}),
        ("num_classes must be an integer of at least 1. Received: num_classes=0", {"num_classes": 0}),
        ("dropout_rate must be at least 0 and below 1", {"dropout_rate": 1.0}),
    ],
)
def test_arguments_that_make_no_sense_are_rejected_by_name(message, options):
    with pytest.raises(ValueError, match=message):
        GaussianProcessClassificationHead(**({"inner_dim": F, "num_classes": C} | options))


def test_arguments_of_a_part_that_is_switched_off_change_nothing_and_stay_in_the_configuration(rng):
    off = {"use_gp_layer": False, "use_spec_norm": False}
    plain, _, x = made(rng, trained=False, **off)
    head, _, _ = made(rng, trained=False, num_inducing=7, norm_multiplier=0.5, **off)
    head.set_weights(plain.get_weights())
    assert_array_equal(head(x), plain(x))
    copy = GaussianProcessClassificationHead.from_config(head.get_config())
    assert (copy.num_inducing, copy.norm_multiplier) == (7, 0.5)


def test_the_initializer_reaches_the_pooler_and_the_logits_of_either_kind():
    for options in ({}, {"use_gp_layer": False}, {"use_spec_norm": False}):
        head = GaussianProcessClassificationHead(F, C, initializer=keras.initializers.Constant(0.125), **options)
        head.build((None, T, M))
        trained = [numpy(variable) for variable in head.trainable_variables if variable.name == "kernel"]
        assert len(trained) == 2 and all((kernel == 0.125).all() for kernel in trained)


def test_without_a_process_there_is_no_covariance_to_return_or_to_reset(rng):
    head, _, x = made(rng, use_gp_layer=False, trained=False)
    assert_array_equal(head(x, return_covmat=True), head(x))
    assert head(keras.Input((T, M)), return_covmat=True).shape == (None, C)
    with pytest.raises(ValueError, match="reset_covariance_matrix needs use_gp_layer=True. Received: use_gp_layer=False"):
        head.reset_covariance_matrix()


@pytest.mark.parametrize("shape", [(M,), (B, T, T, M)])
def test_features_of_another_rank_are_rejected(shape):
    with pytest.raises(ValueError, match="features must have 2 or 3 axes"):
        GaussianProcessClassificationHead(F, C)(np.ones(shape))


def test_every_way_to_call_it_is_a_case():
    assert len(find_cases(["gaussian_process_head"])) >= 22
