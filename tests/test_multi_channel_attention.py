"""The definition, numbers worked by hand, limits at which channels are one. Layer against reference: tests/conformance."""

import keras
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from crosscheck.case import B, D, E, H, M, S, T
from crosscheck.cases.multi_channel_attention import A
from crosscheck.catalogue import find_cases
from crosscheck.weights import draw_weights, weights_of
from layers.attention import MultiHeadAttention
from layers.multi_channel_attention import MultiChannelAttention, VotingAttention
from reference import multi_channel_attention as ref
from reference.attention import attend
from reference.masked_softmax import masked_softmax

POLICIES = ("float64", "float32", "mixed_bfloat16", "mixed_float16", "float16", "bfloat16")
SUM_TOLERANCE = {"float64": 1e-12, "float32": 1e-6, "bfloat16": 2e-2, "float16": 2e-3}


def qkv(rng):
    return rng.normal(size=(B, T, H, D)), rng.normal(size=(B, A, S, H, D)), rng.normal(size=(B, A, S, H, E))


def context(rng):
    return masked_softmax(rng.normal(size=(B, H, T, A)))


def layer_and_inputs(rng, dtype="float64", **options):
    layer = MultiChannelAttention(num_heads=H, key_dim=D, value_dim=E, dtype=dtype, **options)
    query, value, w = rng.normal(size=(B, T, M)), rng.normal(size=(B, A, S, M)), context(rng)
    layer(query, value, context_attention_weights=w)
    return layer, query, value, w


def attention_like(layer, query, value, **options):
    """Attention with the weights of `layer`."""
    attention = MultiHeadAttention(num_heads=H, key_dim=D, value_dim=E, dtype="float64", **options)
    attention(query, value)
    attention.set_weights(layer.get_weights())
    return attention


def voter_and_stories(rng, dtype="float64", size=1.0):
    layer = VotingAttention(num_heads=H, head_size=D, dtype=dtype)
    stories = size * rng.normal(size=(B, A, S, M))
    layer(stories)
    draw_weights(layer, rng)
    return layer, stories


def as_float64(tensor):
    return np.asarray(keras.ops.cast(tensor, "float32" if tensor.dtype != "float64" else "float64"), "float64")


def test_attend_channels_is_its_definition_for_every_query(rng):
    q, k, v = qkv(rng)
    w = context(rng)
    output, _ = ref.attend_channels(q, k, v, w)
    for b, t, h in np.ndindex(B, T, H):
        one = ref.attend_channels_one(q[b, t, h], k[b, :, :, h], v[b, :, :, h], w[b, h, t])
        assert_allclose(output[b, t, h], one, rtol=1e-12)


def test_worked_example():
    """d = 4, so scores are halved. Channel 1 weighs its keys 3 : 1 and answers 7; channel 2 weighs them 1 : 1 and answers 20."""
    q = np.array([2 * np.log(3), 0, 0, 0]).reshape(1, 1, 1, 4)
    k = np.stack([np.eye(4)[:2], np.eye(4)[2:]]).reshape(1, 2, 2, 1, 4)
    v = np.array([[8.0, 4.0], [10.0, 30.0]]).reshape(1, 2, 2, 1, 1)
    output, weights = ref.attend_channels(q, k, v, np.array([0.9, 0.1]).reshape(1, 1, 1, 2))
    assert_allclose(weights.ravel(), [3 / 4, 1 / 4, 1 / 2, 1 / 2])
    assert_allclose(output.item(), 0.9 * 7 + 0.1 * 20)


def test_one_channel_of_weight_one_is_attention(rng):
    layer, query, value, _ = layer_and_inputs(rng)
    attention = attention_like(layer, query, value[:, 0])
    mask = rng.random((B, T, S)) < 0.6
    mask[1, 2] = False
    found = layer(query, value[:, :1], None, np.ones((B, H, T, 1)), mask[:, None], return_attention_scores=True)
    expected = attention(query, value[:, 0], attention_mask=mask, return_attention_scores=True)
    assert_allclose(found[0], expected[0], rtol=1e-12)
    assert_allclose(np.asarray(found[1])[:, 0], expected[1], rtol=1e-12)


@pytest.mark.parametrize("dtype", ["float64", "int32"])
def test_one_hot_context_weights_are_that_channels_attention(rng, dtype):
    layer, query, value, _ = layer_and_inputs(rng)
    attention = attention_like(layer, query, value[:, 0])
    for a in range(A):
        chosen = np.broadcast_to(np.eye(A, dtype=dtype)[a], (B, H, T, A))
        found = layer(query, value, context_attention_weights=chosen)
        assert_allclose(found, attention(query, value[:, a]), rtol=1e-12, atol=1e-15)


def test_uniform_context_weights_are_the_mean_of_the_channels_attentions(rng):
    layer, query, value, _ = layer_and_inputs(rng)
    attention = attention_like(layer, query, value[:, 0])
    found = layer(query, value, context_attention_weights=np.full((1, 1, 1, A), 1 / A))
    assert_allclose(found, np.mean([attention(query, value[:, a]) for a in range(A)], axis=0), rtol=1e-12, atol=1e-15)


def test_each_query_of_each_head_has_context_weights_of_its_own(rng):
    q, k, v = qkv(rng)
    w = context(rng)
    output, _ = ref.attend_channels(q, k, v, w)
    for b, t, h in np.ndindex(B, T, H):
        changed = w.copy()
        changed[b, h, t] = 0
        difference = ref.attend_channels(q, k, v, changed)[0] != output
        assert difference[b, t, h].all() and difference.sum() == E


def test_context_weights_in_proportion_to_partition_functions_are_attention_over_all_channels_at_once(rng):
    q, k, v = qkv(rng)
    mask = rng.random((B, A, T, S)) < 0.6
    mask[..., 0] = True
    partition = np.where(mask[:, :, None], np.exp(np.einsum("bthd,bashd->bahts", q, k) / np.sqrt(D)), 0).sum(axis=-1)
    w = np.moveaxis(partition / partition.sum(axis=1, keepdims=True), 1, -1)
    found, _ = ref.attend_channels(q, k, v, w, mask)
    side_by_side = np.moveaxis(mask, 1, 2).reshape(B, 1, T, A * S)
    expected, _ = attend(q, k.reshape(B, A * S, H, D), v.reshape(B, A * S, H, E), side_by_side)
    assert_allclose(found, expected, rtol=1e-12, atol=1e-15)


def test_shuffled_channels_with_their_weights_change_nothing_and_shuffled_queries_shuffle_the_output(rng):
    layer, query, value, w = layer_and_inputs(rng)
    mask = rng.random((B, A, T, S)) < 0.6
    order = rng.permutation(A)
    expected, scores = layer(query, value, None, w, mask, return_attention_scores=True)
    found, shuffled = layer(query, value[:, order], None, w[..., order], mask[:, order], return_attention_scores=True)
    assert_allclose(found, expected, rtol=1e-12, atol=1e-15)
    assert_allclose(shuffled, np.asarray(scores)[:, order], rtol=1e-12)
    found = layer(query[:, ::-1], value, None, w[:, :, ::-1], mask[:, :, ::-1])
    assert_allclose(found, np.asarray(expected)[:, ::-1], rtol=1e-12, atol=1e-15)


def test_context_weights_are_used_as_they_are(rng):
    """They need not sum to 1: the output, before its bias, is linear in them."""
    layer, query, value, w = layer_and_inputs(rng, use_bias=False)
    twice, negative = (layer(query, value, context_attention_weights=factor * w) for factor in (2, -1))
    expected = np.asarray(layer(query, value, context_attention_weights=w))
    assert_allclose(twice, 2 * expected, rtol=1e-12)
    assert_allclose(negative, -expected, rtol=1e-12)


@pytest.mark.parametrize("dtype", POLICIES)
def test_a_channel_that_is_all_masked_adds_zeros(rng, dtype):
    """As if its weight were zero; the weights of the others are not raised to make up for it."""
    layer, query, value, w = layer_and_inputs(rng, dtype)
    mask = np.ones((B, A, T, S), bool)
    mask[:, 2] = False
    without = w.copy()
    without[..., 2] = 0
    found = layer(query, value, context_attention_weights=w, attention_mask=mask)
    assert_array_equal(as_float64(found), as_float64(layer(query, value, None, without, np.ones_like(mask))))


@pytest.mark.parametrize("dtype", POLICIES)
@pytest.mark.parametrize("scores", [False, True])
def test_a_query_that_may_attend_to_nothing_in_any_channel_gets_the_output_bias(rng, dtype, scores):
    layer, query, value, w = layer_and_inputs(rng, dtype, bias_initializer="ones")
    mask = np.ones((B, A, T, S), bool)
    mask[1, :, 2] = False
    output = layer(query, value, None, w, mask, return_attention_scores=scores)
    output = output[0] if scores else output
    assert_array_equal(as_float64(output)[1, 2], np.ones(M))
    assert np.isfinite(as_float64(output)).all()


@pytest.mark.parametrize("dtype", POLICIES)
def test_masked_keys_have_no_influence(rng, dtype):
    layer, query, value, w = layer_and_inputs(rng, dtype)
    mask = rng.random((1, A, 1, S)) < 0.6
    before = as_float64(layer(query, value, None, w, mask))
    value[:, ~mask[0, :, 0]] = 50.0
    assert_array_equal(as_float64(layer(query, value, None, w, mask)), before)


def test_the_mask_is_boolean_and_broadcasts(rng):
    layer, query, value, w = layer_and_inputs(rng)
    ids = np.array([7, 2, 0, 1, 0]).reshape(1, 1, 1, S)
    expected = layer(query, value, None, w, np.broadcast_to(ids != 0, (B, A, T, S)))
    for same in (ids, ids != 0, (ids != 0).astype("float32")):
        assert_array_equal(layer(query, value, None, w, same), expected)


def test_asking_for_scores_does_not_change_the_output(rng):
    layer, query, value, w = layer_and_inputs(rng, dropout=0.5)
    mask = rng.random((B, A, T, S)) < 0.3
    output, scores = layer(query, value, None, w, mask, return_attention_scores=True)
    assert_array_equal(layer(query, value, None, w, mask), output)
    assert_array_equal(np.asarray(scores) > 0, np.broadcast_to(mask[:, :, None], (B, A, H, T, S)))


def test_dropout_drops_weights_only_while_training(rng):
    layer, query, value, w = layer_and_inputs(rng, dropout=0.5, seed=1)
    assert_array_equal(layer(query, value, None, w), layer(query, value, None, w, training=False))
    dropped, scores = layer(query, value, None, w, training=True, return_attention_scores=True)
    assert (np.asarray(dropped) != np.asarray(layer(query, value, None, w))).any()
    assert_array_equal(scores, layer(query, value, None, w, return_attention_scores=True)[1])


def test_regularisers_reach_every_projection(rng):
    options = {"kernel_regularizer": "l2", "bias_regularizer": "l1", "activity_regularizer": "l2"}
    layer, query, value, w = layer_and_inputs(rng, **options)
    layer(query, value, context_attention_weights=w)
    assert len(layer.losses) == 4 * 3
    voter = VotingAttention(num_heads=H, head_size=D, kernel_constraint="non_neg", bias_constraint="max_norm", **options)
    voter(rng.normal(size=(B, A, S, M)))
    assert len(voter.losses) == 2 * 3
    assert all(variable.constraint is not None for variable in voter.trainable_variables)


def test_votes_are_those_of_every_other_document(rng):
    layer, stories = voter_and_stories(rng)
    weights = weights_of(layer, ref.VotingWeights)
    present = np.arange(A) < [[4], [A]]
    _, votes = ref.voting_attention(stories, weights, present)
    q, k = (ref.into_heads(stories[:, :, 0], side) for side in weights)
    for b in range(B):
        assert_allclose(votes[b], ref.votes_by_loops(q[b], k[b], present[b]), rtol=1e-12)


def test_worked_vote():
    """Two heads of one number each, q = k = e: documents (1, 0), (1, 0) and (2, 1) get 1+2 = 3, 3 and 2+2 = 4 votes."""
    kernel = np.eye(2).reshape(2, 2, 1)
    weights = ref.VotingWeights(ref.Projection(kernel), ref.Projection(kernel))
    stories = np.array([[1.0, 0], [1, 0], [2, 1]]).reshape(1, 3, 1, 2)
    found, votes = ref.voting_attention(stories, weights)
    assert_array_equal(votes, [[3, 3, 4]])
    assert_allclose(found, [np.array([1, 1, np.e]) / (2 + np.e)], rtol=1e-15)


def test_votes_are_not_scaled_by_the_size_of_a_head():
    """Every product of two documents of ones under kernels of ones is m² h d: three documents, two votes each."""
    layer = VotingAttention(num_heads=H, head_size=D, kernel_initializer="ones", dtype="float64")
    layer.build((1, 3, S, 1))
    weights = weights_of(layer, ref.VotingWeights)
    assert_array_equal(ref.voting_attention(np.ones((1, 3, S, 1)), weights)[1], np.full((1, 3), 2 * H * D))
    stories = np.ones((1, 3, S, 1))
    stories[0, 0] = 1.1  # 2.2 h d against 2.1 h d votes
    ratio = np.divide(*np.asarray(layer(stories))[0, :2])
    assert_allclose(ratio, np.exp(0.1 * H * D), rtol=1e-12)


def test_no_document_votes_for_itself():
    """Three documents at right angles have no votes however long they are; with their own, the longest would take all."""
    layer = VotingAttention(num_heads=1, head_size=3, kernel_initializer="ones", dtype="float64")
    layer.build((1, 3, 1, 3))
    for dense in (layer.query_dense, layer.key_dense):
        dense.kernel.assign(np.eye(3).reshape(3, 1, 3))
    assert_allclose(layer(np.diag([1.0, 10, 100]).reshape(1, 3, 1, 3)), np.full((1, 3), 1 / 3), rtol=1e-15)


@pytest.mark.parametrize("policy", POLICIES)
def test_identical_documents_have_uniform_weights_under_every_policy(rng, policy):
    layer, stories = voter_and_stories(rng, policy)
    found = layer(np.repeat(stories[:, :1], A, axis=1))
    assert keras.backend.standardize_dtype(found.dtype) == layer.compute_dtype
    assert_allclose(as_float64(found), np.full((B, A), 1 / A), rtol=SUM_TOLERANCE[layer.compute_dtype])


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("size", [1.0, 1000.0])
def test_weights_are_a_distribution_over_the_documents_that_are_there(rng, policy, size):
    """Long documents have votes beyond the range of float16, and far below the large negative number that others mask with."""
    layer, stories = voter_and_stories(rng, policy, size)
    for mask in (np.arange(A) < [[1], [4]], np.arange(A) % 2 == [[0], [1]]):
        found = as_float64(layer(stories, mask))
        assert_array_equal(found[~mask], 0)
        assert_allclose(found.sum(axis=1), 1, rtol=SUM_TOLERANCE[layer.compute_dtype])


def test_votes_far_below_zero_do_not_bring_absent_documents_back():
    """Two documents that point apart have −4e8 votes each; a mask by −1e5 would give the absent third one everything."""
    layer = VotingAttention(num_heads=1, head_size=1, kernel_initializer="ones")
    stories = np.array([2e4, -2e4, 0]).reshape(1, 3, 1, 1)
    assert_array_equal(layer(stories, np.array([[1, 1, 0]])), [[0.5, 0.5, 0]])


@pytest.mark.parametrize("policy", POLICIES)
def test_absent_documents_cast_no_vote(rng, policy):
    layer, stories = voter_and_stories(rng, policy)
    mask = np.arange(A) % 2 == [[0], [1]]
    before = as_float64(layer(stories, mask))
    stories[~mask] = 100.0
    assert_array_equal(as_float64(layer(stories, mask)), before)
    stories[~mask] = np.nan
    assert_array_equal(as_float64(layer(stories, mask)), before)


def test_absent_documents_may_as_well_be_cut_off(rng):
    layer, stories = voter_and_stories(rng)
    found = np.asarray(layer(stories, np.broadcast_to(np.arange(A) < 4, (B, A))))
    assert_allclose(found[:, :4], layer(stories[:, :4]), rtol=1e-12)


@pytest.mark.parametrize("policy", POLICIES)
def test_a_document_alone_has_weight_one_and_none_at_all_has_zeros(rng, policy):
    layer, stories = voter_and_stories(rng, policy)
    mask = np.arange(A) == [[2], [-1]]
    assert_array_equal(as_float64(layer(stories, mask)), mask)
    assert_array_equal(as_float64(layer(stories[:, :1])), np.ones((B, 1)))
    assert_array_equal(as_float64(layer(stories[:, :1], np.array([[1], [0]]))), [[1], [0]])


def test_only_the_first_position_of_each_document_is_read(rng):
    layer, stories = voter_and_stories(rng)
    before = np.asarray(layer(stories))
    stories[:, :, 1:] = np.nan
    assert_array_equal(layer(stories), before)
    stories[:, :, 0] *= 2
    assert (np.asarray(layer(stories)) != before).all()


def test_the_mask_of_documents_is_boolean_broadcasts_and_may_be_left_out(rng):
    layer, stories = voter_and_stories(rng)
    expected = layer(stories, np.broadcast_to(np.arange(A) < 4, (B, A)))
    for same in ([[5, 1, 1, 2, 0, 0]], [[1.0, 1, 1, 1, 0, 0]], np.arange(A)[None] < 4):
        assert_array_equal(layer(stories, np.array(same)), expected)
    assert_array_equal(layer(stories, np.ones((B, A))), layer(stories))


def test_shuffled_documents_shuffle_their_weights(rng):
    layer, stories = voter_and_stories(rng)
    mask = np.arange(A) < [[4], [A]]
    order = rng.permutation(A)
    assert_allclose(layer(stories[:, order], mask[:, order]), np.asarray(layer(stories, mask))[:, order], rtol=1e-12)


def test_gradients_of_what_is_absent_are_zero_and_finite(rng):
    tf = pytest.importorskip("tensorflow")
    layer, stories = voter_and_stories(rng)
    mask = np.arange(A) < [[0], [3]]
    stories = tf.constant(stories)
    with tf.GradientTape() as tape:
        tape.watch(stories)
        loss = tf.reduce_sum(layer(stories, mask) ** 2)
    gradient = np.asarray(tape.gradient(loss, stories))
    assert_array_equal(gradient[~mask], 0)
    assert np.isfinite(gradient).all() and gradient[1, :3, 0].all()


def test_the_weights_of_the_vote_weigh_the_channels(rng):
    """Both layers together: the vote's (b, a) broadcasts over heads and queries; an absent document has no influence."""
    layer, query, value, _ = layer_and_inputs(rng)
    voter, _ = voter_and_stories(rng)
    mask = np.arange(A) < [[4], [2]]

    def both():
        w = np.asarray(voter(value, mask))[:, None, None]
        return np.asarray(layer(query, value, context_attention_weights=w))

    before = both()
    value[~mask] = 7.0
    assert_array_equal(both(), before)


@pytest.mark.parametrize(("name", "make"), [("num_heads", MultiChannelAttention), ("head_size", VotingAttention)])
@pytest.mark.parametrize("size", [0, -1, 1.5, True])
def test_sizes_that_are_no_sizes_are_rejected(name, make, size):
    sizes = {"num_heads": H, "head_size" if make is VotingAttention else "key_dim": D} | {name: size}
    with pytest.raises(ValueError, match=rf"{name} must be an integer of at least 1. Received: {name}={size}"):
        make(**sizes)


CONTEXT = {"context_attention_weights": np.ones((B, H, T, A))}


@pytest.mark.parametrize(
    ("message", "query", "value", "call"),
    [
        (
            r"context_attention_weights must be given, of shape \(2, 4, 3, 6\). Received: context_attention_weights=None",
            (B, T, M),
            (B, A, S, M),
            {},
        ),
        (r"query must have 3 axes. Received: query of shape \(2, 3\)", (B, T), (B, A, S, M), CONTEXT),
        (r"value must have 4 axes. Received: value of shape \(2, 5, 11\)", (B, T, M), (B, S, M), CONTEXT),
        (r"key must have 4 axes. .*\(2, 5, 11\)", (B, T, M), (B, A, S, M), CONTEXT | {"key": np.ones((B, S, M))}),
        (r"query and value must have the same batch size. .* 2, value with 4", (B, T, M), (4, A, S, M), CONTEXT),
        (
            r"key and value must have the same shape .*\(2, 5, 6\), value with \(2, 6, 5\)",
            (B, T, M),
            (B, A, S, M),
            CONTEXT | {"key": np.ones((B, S, A, M))},
        ),
        (
            r"context_attention_weights .* \(2, 4, 3, 6\). Received: \(2, 6\)",
            (B, T, M),
            (B, A, S, M),
            {"context_attention_weights": np.ones((B, A))},
        ),
        (
            r"context_attention_weights .* \(2, 4, 3, 6\). Received: \(2, 6, 4, 3\)",
            (B, T, M),
            (B, A, S, M),
            {"context_attention_weights": np.ones((B, A, H, T))},
        ),
        (
            r"context_attention_weights and value must have the same number of channels. .* with 1, value with 6",
            (B, T, M),
            (B, A, S, M),
            {"context_attention_weights": np.ones((B, H, T, 1))},
        ),
        (
            r"attention_mask .* \(2, 6, 3, 5\). Received: \(2, 3, 5\)",
            (B, T, M),
            (B, A, S, M),
            CONTEXT | {"attention_mask": np.ones((B, T, S))},
        ),
        (
            r"attention_mask .* \(2, 6, 3, 5\). Received: \(2, 3, 6, 5\)",
            (B, T, M),
            (B, A, S, M),
            CONTEXT | {"attention_mask": np.ones((B, T, A, S))},
        ),
    ],
)
@pytest.mark.parametrize("built", [False, True])
def test_what_does_not_fit_is_rejected_by_name_before_and_after_the_first_call(message, query, value, call, built):
    layer = MultiChannelAttention(num_heads=H, key_dim=D)
    if built:
        layer(np.ones((B, T, M)), np.ones((B, A, S, M)), **CONTEXT)
    with pytest.raises(ValueError, match=message):
        layer(np.ones(query), np.ones(value), **call)


def test_attention_axes_other_than_the_only_one_are_rejected(rng):
    assert layer_and_inputs(rng, attention_axes=1)[0].attention_axes == (1,)
    with pytest.raises(ValueError, match=r"attention_axes must be .*Received: attention_axes=\(2,\)"):
        layer_and_inputs(rng, attention_axes=2)


@pytest.mark.parametrize(
    ("message", "outputs", "mask"),
    [
        (r"encoder_outputs must have 4 axes. Received: encoder_outputs of shape \(2, 6, 11\)", (B, A, M), None),
        (r"doc_attention_mask .* \(2, 6\). Received: \(2, 5\)", (B, A, S, M), (B, S)),
        (r"doc_attention_mask .* \(2, 6\). Received: \(6,\)", (B, A, S, M), (A,)),
        (r"doc_attention_mask .* \(2, 6\). Received: \(2, 6, 5\)", (B, A, S, M), (B, A, S)),
    ],
)
@pytest.mark.parametrize("built", [False, True])
def test_a_story_that_does_not_fit_is_rejected_by_name(message, outputs, mask, built):
    layer = VotingAttention(num_heads=H, head_size=D)
    if built:
        layer(np.ones((B, A, S, M)))
    with pytest.raises(ValueError, match=message):
        layer(np.ones(outputs), mask if mask is None else np.ones(mask))


def test_every_way_to_call_it_is_a_case():
    assert len(find_cases(["multi_channel_attention"])) >= 12
