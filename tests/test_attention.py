"""The definition, a number worked by hand, the limits, Keras's own layer. Layer against reference: tests/conformance."""

import keras
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from crosscheck.agreement import largest_error
from crosscheck.case import B, D, E, H, M, S, T
from crosscheck.catalogue import find_cases
from layers.attention import MultiHeadAttention
from layers.cached_attention import CachedAttention
from layers.common.checks import check_at_least
from layers.reuse_attention import ReuseMultiHeadAttention
from layers.talking_heads_attention import TalkingHeadsAttention
from reference import attention as ref
from reference.self_attention_mask import causal_mask

POLICIES = ("float64", "float32", "mixed_bfloat16", "mixed_float16", "float16", "bfloat16")


def qkv(rng):
    return rng.normal(size=(B, T, H, D)), rng.normal(size=(B, S, H, D)), rng.normal(size=(B, S, H, E))


def layer_and_inputs(rng, dtype="float64", **options):
    layer = MultiHeadAttention(num_heads=H, key_dim=D, value_dim=E, dtype=dtype, **options)
    query, value = rng.normal(size=(B, T, M)), rng.normal(size=(B, S, M))
    layer(query, value)
    return layer, query, value


def test_attend_is_attend_one_for_every_query(rng):
    q, k, v = qkv(rng)
    output, _ = ref.attend(q, k, v)
    for b, t, h in np.ndindex(B, T, H):
        assert_allclose(output[b, t, h], ref.attend_one(q[b, t, h], k[b, :, h], v[b, :, h]), rtol=1e-12)


def test_worked_example():
    """d = 4, so scores are halved: q·k = 2 ln 3 and 0 weigh 3/4 and 1/4."""
    q = np.array([2 * np.log(3), 0, 0, 0]).reshape(1, 1, 1, 4)
    k = np.eye(4)[:2].reshape(1, 2, 1, 4)
    v = np.array([8.0, 4.0]).reshape(1, 2, 1, 1)
    output, weights = ref.attend(q, k, v)
    assert_allclose(weights.ravel(), [3 / 4, 1 / 4])
    assert_allclose(output.item(), 7)


def test_weights_are_a_distribution_and_outputs_lie_between_the_values(rng):
    q, k, v = qkv(rng)
    output, weights = ref.attend(q, k, v)
    assert (weights > 0).all()
    assert_allclose(weights.sum(-1), 1)
    assert (v.min(axis=1, keepdims=True) <= output).all() and (output <= v.max(axis=1, keepdims=True)).all()


def test_shuffled_keys_change_nothing_and_shuffled_queries_shuffle_the_output(rng):
    layer, query, value = layer_and_inputs(rng)
    expected = np.asarray(layer(query, value))
    assert_allclose(layer(query[:, ::-1], value[:, ::-1]), expected[:, ::-1], rtol=1e-12)


@pytest.mark.parametrize("dtype", POLICIES)
def test_masked_keys_have_no_influence(rng, dtype):
    layer, query, value = layer_and_inputs(rng, dtype)
    mask = np.array([True, True, False, True, False]).reshape(1, 1, S)
    before = layer(query, value, attention_mask=mask)
    value[:, ~mask.ravel()] = 100.0
    assert_array_equal(layer(query, value, attention_mask=mask), before)


@pytest.mark.parametrize("dtype", POLICIES)
@pytest.mark.parametrize("scores", [False, True])
def test_a_query_that_may_attend_to_nothing_gets_the_output_bias(rng, dtype, scores):
    layer, query, value = layer_and_inputs(rng, dtype, bias_initializer="ones")
    mask = np.ones((B, T, S), bool)
    mask[1, 2] = False
    output = layer(query, value, attention_mask=mask, return_attention_scores=scores)
    output = output[0] if scores else output
    assert_array_equal(keras.ops.cast(output[1, 2], "float32"), np.ones(M))


def test_asking_for_scores_does_not_change_the_output(rng):
    layer, query, value = layer_and_inputs(rng, dropout=0.5)
    mask = rng.random((B, T, S)) < 0.3
    assert_array_equal(
        layer(query, value, attention_mask=mask), layer(query, value, attention_mask=mask, return_attention_scores=True)[0]
    )


def test_the_mask_is_boolean_and_a_two_is_no_bonus(rng):
    layer, query, value = layer_and_inputs(rng)
    ids = np.array([7, 2, 0, 1, 0]).reshape(1, 1, S)
    assert_array_equal(layer(query, value, attention_mask=ids), layer(query, value, attention_mask=ids != 0))


def test_masks_of_every_rank_mean_the_same(rng):
    layer, query, value = layer_and_inputs(rng)
    mask = rng.random((T, S)) < 0.6
    expected = layer(query, value, attention_mask=np.broadcast_to(mask, (B, H, T, S)))
    for same in (mask, mask[None], np.repeat(mask[None], B, axis=0), mask[None, None]):
        assert_array_equal(layer(query, value, attention_mask=same), expected)


def test_causal_and_given_mask_both_hold(rng):
    layer, query, value = layer_and_inputs(rng)
    padding = np.array([True, False, True, True, True]).reshape(1, 1, S)
    both = layer(query, value, attention_mask=padding, use_causal_mask=True)
    assert_array_equal(both, layer(query, value, attention_mask=padding & causal_mask(T, S)))


def test_a_later_position_does_not_change_an_earlier_one_under_the_causal_mask(rng):
    layer, _, value = layer_and_inputs(rng)
    before = np.asarray(layer(value, value, use_causal_mask=True))
    value[:, 3:] += 1
    after = np.asarray(layer(value, value, use_causal_mask=True))
    assert_array_equal(after[:, :3], before[:, :3])
    assert (after[:, 3:] != before[:, 3:]).all()


@pytest.mark.parametrize("use_bias", [True, False])
def test_agrees_with_keras_where_no_row_is_empty(rng, use_bias):
    layer, query, value = layer_and_inputs(rng, "float32", use_bias=use_bias, bias_initializer="normal")
    theirs = keras.layers.MultiHeadAttention(num_heads=H, key_dim=D, value_dim=E, use_bias=use_bias)
    theirs.build(query.shape, value.shape)
    theirs.set_weights(layer.get_weights())
    assert [(v.path.split("/")[1:], v.shape) for v in theirs.variables if "seed" not in v.path] == [
        (v.path.split("/")[1:], v.shape) for v in layer.weights
    ]
    mask = rng.random((B, T, S)) < 0.6
    mask[..., 0] = True
    found, expected = (each(query, value, attention_mask=mask, return_attention_scores=True) for each in (layer, theirs))
    assert largest_error(found, expected) < 1e-6


def test_several_axes_are_one_sequence(rng):
    """Rows and columns attended at once are the flattened image attended once."""
    image = rng.normal(size=(B, 3, 5, M))
    layer = MultiHeadAttention(num_heads=H, key_dim=D, dtype="float64")
    flat = MultiHeadAttention(num_heads=H, key_dim=D, dtype="float64")
    output, weights = layer(image, image, return_attention_scores=True)
    flat(image.reshape(B, 15, M), image.reshape(B, 15, M))
    flat.set_weights(layer.get_weights())
    expected, expected_weights = flat(image.reshape(B, 15, M), image.reshape(B, 15, M), return_attention_scores=True)
    assert_allclose(output, np.reshape(expected, (B, 3, 5, M)), rtol=1e-12)
    assert_allclose(weights, np.reshape(expected_weights, (B, H, 3, 5, 3, 5)), rtol=1e-12)


def test_one_of_two_axes_leaves_the_other_alone(rng):
    image = rng.normal(size=(B, 3, 5, M))
    layer = MultiHeadAttention(num_heads=H, key_dim=D, attention_axes=2, dtype="float64")
    before = np.asarray(layer(image, image))
    image[:, 1] += 1
    after = np.asarray(layer(image, image))
    assert_array_equal(after[:, [0, 2]], before[:, [0, 2]])
    assert (after[:, 1] != before[:, 1]).any()


def test_an_output_of_several_axes_is_the_flat_one_reshaped(rng):
    layer, query, value = layer_and_inputs(rng, output_shape=(2, 3))
    flat, _, _ = layer_and_inputs(rng, output_shape=6)
    flat.set_weights([w.reshape(f.shape) for w, f in zip(layer.get_weights(), flat.get_weights())])
    assert_allclose(np.reshape(layer(query, value), (B, T, 6)), flat(query, value), rtol=1e-12)


def test_query_key_and_value_kernels_start_different():
    layer = MultiHeadAttention(num_heads=H, key_dim=D, kernel_initializer=keras.initializers.RandomNormal())
    layer.build((B, T, M), (B, S, M))
    assert (np.asarray(layer.query_dense.kernel) != np.asarray(layer.key_dense.kernel)).any()


def test_regularisers_and_constraints_reach_every_projection(rng):
    layer, query, value = layer_and_inputs(rng, kernel_regularizer="l2", bias_regularizer="l1", activity_regularizer="l2")
    layer(query, value)
    assert len(layer.losses) == 4 * 3
    constrained, _, _ = layer_and_inputs(rng, kernel_constraint="non_neg", bias_constraint="max_norm")
    assert all(variable.constraint is not None for variable in constrained.trainable_variables)


def test_dropout_drops_weights_only_while_training(rng):
    layer, query, value = layer_and_inputs(rng, dropout=0.5, seed=1)
    assert_array_equal(layer(query, value), layer(query, value, training=False))
    dropped, weights = layer(query, value, training=True, return_attention_scores=True)
    assert (np.asarray(dropped) != np.asarray(layer(query, value))).any()
    assert_array_equal(weights, layer(query, value, return_attention_scores=True)[1])


@pytest.mark.parametrize("name", ["num_heads", "key_dim", "value_dim"])
@pytest.mark.parametrize("size", [0, -1, 1.5, True])
def test_sizes_that_are_no_sizes_are_rejected(name, size):
    with pytest.raises(ValueError, match=rf"{name} must be an integer of at least 1. Received: {name}={size}"):
        MultiHeadAttention(**{"num_heads": H, "key_dim": D} | {name: size})


@pytest.mark.parametrize(
    ("message", "options", "query", "value", "call"),
    [
        (r"query must have 3 axes .* \(2, 3\)", {}, (2, 3), (2, 5, 11), {}),
        (r"value must have 3 axes .* \(2, 5, 5, 11\)", {}, (2, 3, 11), (2, 5, 5, 11), {}),
        (
            r"query and value must have the same size of axis 0. Received: query with 2, value with 4",
            {},
            (2, 3, 11),
            (4, 5, 11),
            {},
        ),
        (
            r"key and value must have the same shape .* \(2, 4\), value with \(2, 5\)",
            {},
            (2, 3, 11),
            (2, 5, 11),
            {"key": np.ones((2, 4, 11))},
        ),
        (r"attention_axes must be different axes from 1 to 2. .*\(0,\)", {"attention_axes": 0}, (2, 3, 4, 11), (2, 5, 4, 11), {}),
        (r"attention_axes must be .*\(1, 1\)", {"attention_axes": (1, 1)}, (2, 3, 4, 11), (2, 5, 4, 11), {}),
        (
            r"attention_mask .* \(2, 4, 3, 5\). Received: \(2, 1, 5, 3\)",
            {},
            (2, 3, 11),
            (2, 5, 11),
            {"attention_mask": np.ones((2, 5, 3))},
        ),
        (r"dropout must be at least 0 and below 1. Received: dropout=1.0", {"dropout": 1.0}, (2, 3, 11), (2, 5, 11), {}),
    ],
)
def test_what_does_not_fit_is_rejected_by_name(message, options, query, value, call):
    with pytest.raises(ValueError, match=message):
        MultiHeadAttention(num_heads=H, key_dim=D, **options)(np.ones(query), np.ones(value), **call)


@pytest.mark.parametrize("kind", [MultiHeadAttention, CachedAttention, TalkingHeadsAttention, ReuseMultiHeadAttention])
@pytest.mark.parametrize(
    ("message", "value", "key"),
    [
        (r"query and value must have the same size of axis 0. Received: query with 2, value with 1", (1, 5, 11), (1, 5, 11)),
        (r"key and value must have the same shape .* \(2, 4\), value with \(2, 5\)", (2, 5, 11), (2, 4, 11)),
        (r"value must have 3 axes .* \(2, 5, 5, 11\)", (2, 5, 5, 11), (2, 5, 11)),
        (r"key.*expected axis -1 of input shape to have value 11.*\(2, 5, 12\)", (2, 5, 11), (2, 5, 12)),
    ],
)
def test_a_later_call_is_checked_as_the_first_is(kind, message, value, key):
    layer = kind(num_heads=H, key_dim=D)
    layer(np.ones((B, T, M)), np.ones((B, S, M)))
    with pytest.raises(ValueError, match=message):
        layer(np.ones((B, T, M)), np.ones(value), np.ones(key))


@pytest.mark.parametrize("rate", [None, "0.1", 1, -0.1, float("nan")])
def test_a_dropout_that_is_no_fraction_is_rejected(rate):
    with pytest.raises(ValueError, match=f"dropout must be at least 0 and below 1. Received: dropout={rate!r}"):
        MultiHeadAttention(num_heads=H, key_dim=D, dropout=rate)


def test_a_dropout_may_be_a_number_of_any_kind():
    for rate in (0, 0.5, np.float32(0.5)):
        assert MultiHeadAttention(num_heads=H, key_dim=D, dropout=rate).dropout == rate


def test_check_at_least_takes_what_it_should():
    check_at_least(1, num_heads=1)
    check_at_least(0, begin=0)


def test_every_way_to_call_it_is_a_case():
    assert len(find_cases(["attention"])) >= 8
