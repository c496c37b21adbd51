"""The definition, a number worked by hand, the limits, Keras's own parts. Layer against reference: tests/conformance."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from numpy.testing import assert_allclose, assert_array_equal

from crosscheck.case import B, M, T
from crosscheck.catalogue import find_cases
from crosscheck.weights import draw_weights, weights_of
from layers.classification_head import ClassificationHead
from reference import classification_head as ref
from reference.common.activations import ACTIVATIONS, gelu
from reference.common.projection import Projection

F, C = 9, 4
POLICIES = ("float64", "float32", "mixed_bfloat16", "mixed_float16", "float16", "bfloat16")


def made(rng, inner_dim=F, dtype="float64", **options):
    """A head with drawn weights, and sequences for it."""
    head = ClassificationHead(inner_dim, C, dtype=dtype, **options)
    x = rng.normal(size=(B, T, M))
    head(x)
    draw_weights(head, rng)
    return head, x


@pytest.mark.parametrize("pooler", [True, False])
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_classification_head_is_classify_one_for_every_sequence(rng, name, pooler):
    x = rng.normal(size=(B, T, M))
    first = Projection(rng.normal(size=(M, F)), rng.normal(size=F)) if pooler else None
    second = Projection(rng.normal(size=(F if pooler else M, C)), rng.normal(size=C))
    weights = ref.ClassificationHeadWeights(first, second)
    for token in (0, 1, -1):
        logits, _ = ref.classification_head(x, weights, token, ACTIVATIONS[name])
        assert_allclose(logits, [ref.classify_one(row[token], weights, ACTIVATIONS[name]) for row in x], rtol=1e-12)


def test_worked_example():
    """[CLS] = (1, 2); pooled by max(0, ·): (1 + 2 − 1, 1 − 2 + 0) → (2, 0); logits (2·3 + 1, 2·(−1) + 0) = (7, −2)."""
    x = np.array([[[1.0, 2.0], [50.0, 60.0], [70.0, 80.0]]])
    pooler, pooler_bias = np.array([[1.0, 1.0], [1.0, -1.0]]), np.array([-1.0, 0.0])
    kernel, bias = np.array([[3.0, -1.0], [9.0, 9.0]]), np.array([1.0, 0.0])
    weights = ref.ClassificationHeadWeights(Projection(pooler, pooler_bias), Projection(kernel, bias))
    logits, pooled = ref.classification_head(x, weights, 0, lambda v: np.maximum(v, 0))
    assert_array_equal(pooled, [[2, 0]])
    assert_array_equal(logits, [[7, -2]])
    assert_array_equal(ref.classify_one(x[0, 0], weights, lambda v: np.maximum(v, 0)), [7, -2])
    head = ClassificationHead(2, 2, activation="relu", dtype="float64")
    head.build((None, None, 2))
    head.set_weights([pooler, pooler_bias, kernel, bias])
    assert_array_equal(head(x), [[7, -2]])
    assert_array_equal(head(x, only_project=True), [[2, 0]])


def test_it_is_two_dense_layers_of_keras_behind_a_slice(rng):
    head, x = made(rng)
    theirs = keras.Sequential([keras.layers.Dense(F, "tanh", dtype="float64"), keras.layers.Dense(C, dtype="float64")])
    theirs.build((None, M))
    theirs.set_weights(head.get_weights())
    assert_allclose(head(x), theirs(x[:, 0]), rtol=1e-12)


@pytest.mark.parametrize("token", [0, 1, 2, -1, -3])
@pytest.mark.parametrize("inner_dim", [F, 0])
def test_only_the_chosen_token_has_influence(rng, token, inner_dim):
    head, x = made(rng, inner_dim, cls_token_idx=token)
    before = np.asarray(head(x))
    others = np.delete(np.arange(T), token)
    x[:, others] = np.nan
    assert_array_equal(head(x), before)
    x[:, token] += 1
    assert (np.asarray(head(x)) != before).any()


def test_the_last_token_may_be_named_in_two_ways(rng):
    head, x = made(rng, cls_token_idx=-1)
    same, _ = made(rng, cls_token_idx=T - 1)
    same.set_weights(head.get_weights())
    assert_array_equal(head(x), same(x))


def test_without_a_pooler_it_is_linear_in_the_token(rng):
    head, x = made(rng, 0)
    weights = weights_of(head, ref.ClassificationHeadWeights)
    assert weights.pooler_dense is None and len(head.weights) == 2
    assert_allclose(head(x), x[:, 0] @ weights.logits.kernel + weights.logits.bias, rtol=1e-12)
    assert_array_equal(head(x, only_project=True), x[:, 0])


def test_a_linear_pooler_can_be_folded_into_the_logits(rng):
    head, x = made(rng, activation=None)
    (w_p, b_p), (w, b) = weights_of(head, ref.ClassificationHeadWeights)
    folded, _ = made(rng, 0)
    folded.set_weights([w_p @ w, b_p @ w + b])
    assert_allclose(head(x), folded(x), rtol=1e-10)


@pytest.mark.parametrize("inner_dim", [F, 0])
def test_vectors_are_tokens_that_were_taken_already(rng, inner_dim):
    head, x = made(rng, inner_dim)
    vectors = ClassificationHead(inner_dim, C, dtype="float64")
    vectors(x[:, 0])
    vectors.set_weights(head.get_weights())
    assert_array_equal(vectors(x[:, 0]), head(x))
    assert_array_equal(vectors(x), head(x))  # built for the one, called with the other


@pytest.mark.parametrize("inner_dim", [F, 0])
def test_nothing_is_dropped_at_inference(rng, inner_dim):
    head, x = made(rng, inner_dim, dropout_rate=0.9)
    plain, _ = made(rng, inner_dim)
    plain.set_weights(head.get_weights())
    for training in (None, False):
        assert_array_equal(head(x, training=training), plain(x))
    assert (np.asarray(head(x, training=True)) != np.asarray(plain(x))).any()


@pytest.mark.parametrize("inner_dim", [80, 0])
def test_dropout_comes_between_pooler_and_logits(inner_dim):
    """Every pooled number is 1: kept ones count double, so each logit, their sum, is even; its bias of 1 is never dropped."""
    head = ClassificationHead(inner_dim, 5, activation="relu", dropout_rate=0.5, dtype="float64")
    x = np.ones((50, T, 80))
    head.build(x.shape)
    head.logits.kernel.assign(np.ones((80, 5)))
    head.logits.bias.assign(np.ones(5))
    if inner_dim:
        head.pooler_dense.kernel.assign(np.zeros((80, inner_dim)))
        head.pooler_dense.bias.assign(np.ones(inner_dim))
    assert_array_equal(head(x, only_project=True, training=True), np.ones((50, 80)))
    logits = np.asarray(head(x, training=True)) - 1
    assert_array_equal(logits % 2, 0)
    assert_array_equal(logits, logits[:, :1] * np.ones(5))  # one draw for all classes
    assert 70 < logits.mean() < 90 and logits.std() > 4


def test_gelu_is_exact_and_tanh_the_default(rng):
    for options, phi in (({}, np.tanh), ({"activation": "gelu"}, gelu), ({"activation": keras.ops.square}, np.square)):
        head, x = made(rng, **options)
        kernel, bias = weights_of(head, ref.ClassificationHeadWeights).pooler_dense
        assert_allclose(head(x, only_project=True), phi(x[:, 0] @ kernel + bias), rtol=1e-12)


def test_weights_are_named_as_in_the_model_garden_and_counted_by_the_formula(rng):
    head, _ = made(rng)
    shapes = {"/".join(v.path.split("/")[1:]): v.shape for v in head.weights}
    assert shapes == {"pooler_dense/kernel": (M, F), "pooler_dense/bias": (F,), "logits/kernel": (F, C), "logits/bias": (C,)}
    assert head.count_params() == M * F + F + F * C + C
    assert made(rng, 0)[0].count_params() == M * C + C


def test_the_pooler_of_bert_base_has_as_many_numbers_as_the_paper_s_model():
    head = ClassificationHead(768, 2)
    head.build((None, None, 768))
    assert head.pooler_dense.count_params() == 590_592
    assert head.logits.count_params() == 2 * 768 + 2


def test_checkpoint_items_are_the_pooler_if_there_is_one(rng):
    head, _ = made(rng)
    assert head.checkpoint_items == {"pooler_dense": head.pooler_dense}
    assert made(rng, 0)[0].checkpoint_items == {}


def test_the_two_maps_start_as_the_initializer_says_with_draws_of_their_own():
    head = ClassificationHead(M, M, initializer=keras.initializers.RandomNormal(stddev=3.0, seed=None))
    head.build((B, T, M))
    starts = [np.asarray(head.pooler_dense.kernel), np.asarray(head.logits.kernel)]
    assert (starts[0] != starts[1]).all() and all(2 < start.std() < 4 for start in starts)
    assert_array_equal(head.logits.bias, np.zeros(M))
    assert head.get_config()["initializer"]["config"]["stddev"] == 3.0
    assert "kernel_initializer" not in head.get_config()


def test_regularisers_and_constraints_reach_both_maps(rng):
    head, x = made(rng, kernel_regularizer="l2", bias_regularizer="l1", activity_regularizer="l2")
    head(x)
    assert len(head.losses) == 2 * 3
    constrained, _ = made(rng, kernel_constraint="non_neg", bias_constraint="max_norm")
    assert all(variable.constraint is not None for variable in constrained.trainable_variables)


def test_the_configuration_has_every_argument_as_it_was_given():
    given = {"inner_dim": 3, "num_classes": 5, "cls_token_idx": -2, "activation": "relu", "dropout_rate": 0.25}
    config = ClassificationHead(**given, initializer="he_normal").get_config()
    assert {name: config[name] for name in given} == given
    assert config["initializer"]["class_name"] == "HeNormal"


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("only_project", [True, False])
def test_the_output_has_the_compute_dtype(rng, policy, only_project):
    head, x = made(rng, dtype=policy)
    output = head(keras.ops.cast(x, head.compute_dtype), only_project=only_project)
    assert keras.backend.standardize_dtype(output.dtype) == policy.removeprefix("mixed_")


def test_a_padding_mask_ends_here(recwarn):
    embedding = keras.layers.Embedding(7, M, mask_zero=True)
    output = ClassificationHead(F, C)(embedding(np.array([[3, 5, 0]])))
    assert getattr(output, "_keras_mask", None) is None
    assert not [w for w in recwarn if "mask" in str(w.message)]


@pytest.mark.parametrize(
    ("message", "options"),
    [
        ("inner_dim must be an integer of at least 0. Received: inner_dim=-1", {"inner_dim": -1}),
        ("inner_dim must be an integer of at least 0. Received: inner_dim=None", {"inner_dim": None}),
        ("num_classes must be an integer of at least 1. Received: num_classes=0", {"num_classes": 0}),
        ("cls_token_idx must be an integer. Received: cls_token_idx=1.0", {"cls_token_idx": 1.0}),
        ("cls_token_idx must be an integer. Received: cls_token_idx=True", {"cls_token_idx": True}),
        ("dropout_rate must be at least 0 and below 1. Received: dropout_rate=1.0", {"dropout_rate": 1.0}),
        ("activation must be a callable or .* Received: activation='cls'", {"activation": "cls"}),
    ],
)
def test_arguments_that_make_no_sense_are_rejected_by_name(message, options):
    with pytest.raises(ValueError, match=message):
        ClassificationHead(**({"inner_dim": F, "num_classes": C} | options))


@pytest.mark.parametrize("shape", [(M,), (B, T, T, M)])
def test_features_of_another_rank_are_rejected(shape):
    with pytest.raises(ValueError, match="features must have 2 or 3 axes.* Received: features of shape"):
        ClassificationHead(F, C)(np.ones(shape))


@pytest.mark.parametrize("token", [T, T + 1, -T - 1])
@pytest.mark.parametrize("inner_dim", [F, 0])
def test_a_token_outside_the_sequence_is_rejected(token, inner_dim):
    head = ClassificationHead(inner_dim, C, cls_token_idx=token)
    with pytest.raises(ValueError, match=rf"cls_token_idx must be a position.* Received: cls_token_idx={token}, features of sh"):
        head(np.ones((B, T, M)))
    longer = np.ones((B, T + 3, M))
    head(longer)
    with pytest.raises(ValueError, match="cls_token_idx must be a position"):
        head(longer[:, :T])


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("token", [T, -T - 1])
def test_a_token_outside_a_sequence_of_unknown_length_is_rejected_when_it_is_known(compiled, token):
    head = ClassificationHead(F, C, cls_token_idx=token)
    head.build((None, None, M))
    signature = [tf.TensorSpec((None, None, M), "float32")]
    run = tf.function(lambda x: head(x), input_signature=signature, jit_compile=compiled)
    assert run(np.ones((B, T + 3, M), "float32")).shape == (B, C)
    with pytest.raises((tf.errors.InvalidArgumentError, tf.errors.UnimplementedError, ValueError)):
        run(np.ones((B, T, M), "float32"))


def test_another_token_of_vectors_is_rejected():
    with pytest.raises(ValueError, match="0 if they have 2 axes. Received: cls_token_idx=-1"):
        ClassificationHead(F, C, cls_token_idx=-1)(np.ones((B, M)))


def test_an_unknown_or_another_model_size_is_rejected(rng):
    with pytest.raises(ValueError, match=r"the last of known size. Received: features of shape \(None, 3, None\)"):
        ClassificationHead(F, C)(keras.Input((3, None)))
    head, _ = made(rng)
    with pytest.raises(ValueError, match=rf"the last of size {M}. Received: features of shape \(2, 3, {M + 1}\)"):
        head(np.ones((B, T, M + 1)))


def test_every_way_to_call_it_is_a_case():
    assert len(find_cases(["classification_head"])) >= 12
