"""The definition, a number worked by hand, limits, the slope, Keras's loss. Layer and reference: tests/conformance."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf
from numpy.testing import assert_allclose, assert_array_equal

from crosscheck.case import B, M, S, T
from crosscheck.catalogue import find_cases
from layers.mat_mul_with_margin import MatMulWithMargin
from reference import mat_mul_with_margin as ref

POLICIES = ("float64", "float32", "mixed_bfloat16", "mixed_float16", "float16", "bfloat16")


def unit(rng, *size):
    x = rng.normal(size=size)
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def logits(left, right, scale, margin):
    return [np.asarray(part) for part in MatMulWithMargin(scale, margin, dtype="float64")(left, right)]


def competition(left, right, scale):
    """A of `pull_ratio`, for each row."""
    products = scale * (left @ right.T)
    others = np.exp(products - np.diagonal(products)[:, None])
    return others.sum(axis=1) - 1


@pytest.mark.parametrize("count", [T, S])
def test_mat_mul_with_margin_is_score_one_for_every_row(rng, count):
    left, right = rng.normal(size=(T, M)), rng.normal(size=(count, M))
    found, back = ref.mat_mul_with_margin(left, right, 3.0, 0.4)
    assert_allclose(found, [ref.score_one(x, i, right, 3.0, 0.4) for i, x in enumerate(left)], rtol=1e-12)
    assert_allclose(back, [ref.score_one(y, i, left, 3.0, 0.4) for i, y in enumerate(right[:T])], rtol=1e-12)


def test_worked_example():
    """Products ((1, 0, 2), (3, 1, 0)); minus 0.5 on the diagonal; times 2."""
    left, right = np.array([[1.0, 0.0], [0.0, 1.0]]), np.array([[1.0, 3.0], [0.0, 1.0], [2.0, 0.0]])
    expected = [[1.0, 0.0, 4.0], [6.0, 1.0, 0.0]]
    for found, back in (ref.mat_mul_with_margin(left, right, 2.0, 0.5), logits(left, right, 2.0, 0.5)):
        assert_array_equal(found, expected)
        assert_array_equal(back, [[1.0, 6.0], [0.0, 1.0]])


def test_without_a_margin_it_is_a_scaled_product(rng):
    left, right = rng.normal(size=(T, M)), rng.normal(size=(S, M))
    found, _ = logits(left, right, 7.0, 0.0)
    assert_allclose(found, 7 * left @ right.T, rtol=1e-12)
    default, _ = MatMulWithMargin(dtype="float64")(left, right)
    assert_allclose(default, left @ right.T, rtol=1e-12)


@pytest.mark.parametrize("count", [T, S])
def test_the_margin_takes_scale_times_margin_off_the_right_pairs_alone(rng, count):
    left, right = rng.normal(size=(T, M)), rng.normal(size=(count, M))
    with_margin, without = (logits(left, right, 20.0, margin)[0] for margin in (0.3, 0.0))
    assert_allclose(with_margin - without, -6 * np.eye(T, count), atol=1e-12)


def test_right_logits_are_those_of_the_sides_in_each_other_s_place(rng):
    left, right = rng.normal(size=(T, M)), rng.normal(size=(T, M))
    one, other = logits(left, right, 20.0, 0.3), logits(right, left, 20.0, 0.3)
    assert_allclose(one[1], other[0], rtol=1e-12)
    assert_array_equal(one[1], one[0].T)


def test_more_negatives_add_columns_and_change_nothing_else(rng):
    left, right = rng.normal(size=(T, M)), rng.normal(size=(S, M))
    more, fewer = logits(left, right, 20.0, 0.3), logits(left, right[:T], 20.0, 0.3)
    assert more[0].shape == (T, S) and more[1].shape == (T, T)
    assert_allclose(more[0][:, :T], fewer[0], rtol=1e-12)
    assert_allclose(more[1], fewer[1], rtol=1e-12)


def test_inputs_are_not_normalized(rng):
    left, right = rng.normal(size=(T, M)), rng.normal(size=(S, M))
    assert_allclose(logits(3 * left, right, 2.0, 0.0)[0], 3 * logits(left, right, 2.0, 0.0)[0], rtol=1e-12)


def test_losses_are_the_cross_entropy_of_keras(rng):
    left, right = unit(rng, T, M), unit(rng, S, M)
    for found in logits(left, right, 20.0, 0.3):
        theirs = keras.ops.sparse_categorical_crossentropy(np.arange(T), found, from_logits=True)
        assert_allclose(ref.losses(found), theirs, rtol=1e-9)
    huge = ref.losses(np.array([[1e4, 0.0], [0.0, -1e4]]))
    assert_array_equal(huge, [0, 1e4])


def test_the_loss_is_what_the_competition_makes_it(rng):
    left, right = unit(rng, T, M), unit(rng, S, M)
    for scale, margin in ((1.0, 0.3), (20.0, 0.3), (20.0, 0.0)):
        a = competition(left, right, scale)
        found = ref.losses(ref.mat_mul_with_margin(left, right, scale, margin)[0])
        assert_allclose(found, np.log1p(a * math.exp(scale * margin)), rtol=1e-10)


@pytest.mark.parametrize(("scale", "margin"), [(1.0, 0.3), (20.0, 0.3), (5.0, -0.2)])
def test_a_margin_multiplies_each_row_s_gradient_by_pull_ratio_and_nothing_else(rng, scale, margin):
    left, right = unit(rng, T, M), unit(rng, S, M)
    slopes = []
    for by in (margin, 0.0):
        products = tf.Variable(left @ right.T)
        with tf.GradientTape() as tape:
            # The layer on an identity: its products are the cosines themselves.
            found, _ = MatMulWithMargin(scale, by, dtype="float64")(products, tf.eye(S, dtype="float64"))
            loss = keras.ops.sparse_categorical_crossentropy(np.arange(T), found, from_logits=True)
        slopes.append(np.asarray(tape.gradient(loss, products)))
    ratios = np.array([ref.pull_ratio(a, scale, margin) for a in competition(left, right, scale)])
    assert_allclose(slopes[0], slopes[1] * ratios[:, None], rtol=1e-9)


def test_at_a_scale_of_one_no_row_of_128_cosines_changes_by_more_than_one_and_a_half_percent(rng):
    least = 127 * math.exp(-2)  # the smallest competition that cosines can make: one pair at 1, all others at −1
    bound = ref.pull_ratio(least, 1.0, 0.3)
    assert 1 < bound < 1.015
    left, right = unit(rng, 128, M), unit(rng, 128, M)
    right = 0.9 * left + 0.1 * right
    right /= np.linalg.norm(right, axis=1, keepdims=True)
    ratios = np.array([ref.pull_ratio(a, 1.0, 0.3) for a in competition(left, right, 1.0)])
    assert (1 < ratios).all() and (ratios <= bound).all()
    far = np.array([ref.pull_ratio(a, 20.0, 0.3) for a in competition(left, right, 20.0)])
    assert far.max() > 10 and (far < math.exp(6)).all()


def test_pull_ratio_goes_from_one_to_the_whole_margin():
    assert ref.pull_ratio(1e12, 20.0, 0.3) == pytest.approx(1)
    assert ref.pull_ratio(1e-12, 20.0, 0.3) == pytest.approx(math.exp(6))
    assert ref.pull_ratio(0.7, 20.0, 0.0) == 1


def test_a_larger_margin_is_a_larger_loss(rng):
    left, right = unit(rng, T, M), unit(rng, S, M)
    found = np.array([ref.losses(logits(left, right, 20.0, margin)[0]) for margin in (-0.1, 0.0, 0.1, 0.3, 0.5)])
    assert (np.diff(found, axis=0) > 0).all()


def test_there_are_no_weights_and_nothing_is_kept(rng):
    layer = MatMulWithMargin(20.0, 0.3)
    layer(rng.normal(size=(T, M)), rng.normal(size=(S, M)))
    assert layer.weights == [] and not hasattr(layer, "left_logits")
    config = layer.get_config()
    assert (config["logit_scale"], config["logit_margin"]) == (20.0, 0.3)


@pytest.mark.parametrize("policy", POLICIES)
def test_the_outputs_have_the_compute_dtype(rng, policy):
    layer = MatMulWithMargin(20.0, 0.3, dtype=policy)
    for found in layer(*(keras.ops.cast(unit(rng, count, M), layer.compute_dtype) for count in (T, S))):
        assert keras.backend.standardize_dtype(found.dtype) == policy.removeprefix("mixed_")


def test_symbolic_shapes():
    left, right = keras.Input((M,), batch_size=T), keras.Input((M,), batch_size=S)
    assert [found.shape for found in MatMulWithMargin()(left, right)] == [(T, S), (T, T)]
    assert [found.shape for found in MatMulWithMargin()(keras.Input((M,)), right)] == [(None, S), (None, None)]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "1", None, True])
@pytest.mark.parametrize("name", ["logit_scale", "logit_margin"])
def test_numbers_that_are_none_are_rejected_by_name(name, value):
    with pytest.raises(ValueError, match=f"{name} must be a finite number. Received: {name}="):
        MatMulWithMargin(**{name: value})


def test_fewer_right_vectors_than_left_ones_are_rejected(rng):
    left, right = rng.normal(size=(S, M)), rng.normal(size=(T, M))
    with pytest.raises(ValueError, match="at least as many rows as left_encoded. Received: left_encoded with 5 and right_enc"):
        MatMulWithMargin()(left, right)
    layer = MatMulWithMargin()
    layer(left, left)
    with pytest.raises(ValueError, match="at least as many rows"):
        layer(left, right)
    with pytest.raises(ValueError, match="at least as many rows"):
        ref.mat_mul_with_margin(left, right)


@pytest.mark.parametrize("compiled", [False, True])
def test_fewer_right_vectors_are_rejected_when_their_number_is_known(rng, compiled):
    layer = MatMulWithMargin(20.0, 0.3, dtype="float64")
    signature = [tf.TensorSpec((None, M), "float64")] * 2
    run = tf.function(lambda left, right: layer(left, right), input_signature=signature, jit_compile=compiled)
    left, right = rng.normal(size=(T, M)), rng.normal(size=(S, M))
    assert_allclose(run(left, right)[0], ref.mat_mul_with_margin(left, right, 20.0, 0.3)[0], rtol=1e-12)
    with pytest.raises((tf.errors.InvalidArgumentError, ValueError)):
        run(right, left)


@pytest.mark.parametrize(
    ("message", "shapes"),
    [
        ("left_encoded must have 2 axes. Received: left_encoded of shape", [(B, T, M), (T, M)]),
        ("right_encoded must have 2 axes. Received: right_encoded of shape", [(T, M), (M,)]),
        ("must have the same size of the last axis. Received: left_encoded with 11", [(T, M), (T, M + 1)]),
    ],
)
def test_inputs_that_do_not_fit_are_rejected(message, shapes):
    with pytest.raises(ValueError, match=message):
        MatMulWithMargin()(*map(np.ones, shapes))


def test_every_way_to_call_it_is_a_case():
    assert len(find_cases(["mat_mul_with_margin"])) >= 7
