"""The definition, a number worked by hand, attention as the limit. Layer against reference: tests/conformance."""

import inspect

import keras
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from crosscheck.case import B, D, E, H, M, S, T
from crosscheck.catalogue import find_cases
from crosscheck.weights import weights_of
from layers import attention
from layers.talking_heads_attention import TalkingHeadsAttention, mix
from reference import attention as plain
from reference import talking_heads_attention as ref

POLICIES = ("float64", "float32", "mixed_bfloat16", "mixed_float16", "float16", "bfloat16")


def qkv(rng):
    return rng.normal(size=(B, T, H, D)), rng.normal(size=(B, S, H, D)), rng.normal(size=(B, S, H, E))


def mixings(rng):
    """Two matrices far from symmetric, so that a transposed one cannot go unnoticed."""
    return rng.normal(size=(H, H)), rng.normal(size=(H, H))


def layer_and_inputs(rng, dtype="float64", kind=TalkingHeadsAttention, **options):
    layer = kind(num_heads=H, key_dim=D, value_dim=E, dtype=dtype, **options)
    query, value = rng.normal(size=(B, T, M)), rng.normal(size=(B, S, M))
    layer(query, value)
    return layer, query, value


def test_attend_is_attend_one_for_every_query(rng):
    (q, k, v), (pre, post) = qkv(rng), mixings(rng)
    mask = rng.random((B, H, T, S)) < 0.6
    mask[0, :, 1] = False
    output, _, _ = ref.attend(q, k, v, pre, post, mask)
    for b, t in np.ndindex(B, T):
        assert_allclose(output[b, t], ref.attend_one(q[b, t], k[b], v[b], pre, post, mask[b, :, t]), rtol=1e-11, atol=1e-13)


def test_worked_example():
    """Head 0 scores two keys ln 3 and 0, head 1 neither; head 1 hears head 0 once before the softmax, and twice after it."""
    q, k = np.array([1.0, 0.0]).reshape(1, 1, 2, 1), np.array([[np.log(3), 0], [0, 0]]).reshape(1, 2, 2, 1)
    v = np.array([[8.0, 8.0], [4.0, 4.0]]).reshape(1, 2, 2, 1)
    output, weights, softmax = ref.attend(q, k, v, np.array([[1.0, 1.0], [0.0, 1.0]]), np.array([[1.0, 2.0], [0.0, -1.0]]))
    assert_allclose(softmax[0, :, 0], [[3 / 4, 1 / 4], [3 / 4, 1 / 4]])
    assert_allclose(weights[0, :, 0], [[3 / 4, 1 / 4], [3 / 4, 1 / 4]])  # 2 · 3/4 − 3/4
    assert_allclose(output.ravel(), [7, 7])
    # Transposed, head 0 would hear head 1, and head 1 nobody.
    output, weights, softmax = ref.attend(q, k, v, np.array([[1.0, 0.0], [1.0, 1.0]]), np.array([[1.0, 0.0], [2.0, -1.0]]))
    assert_allclose(softmax[0, :, 0], [[3 / 4, 1 / 4], [1 / 2, 1 / 2]])
    assert_allclose(weights[0, :, 0], [[7 / 4, 5 / 4], [-1 / 2, -1 / 2]])
    assert_allclose(output.ravel(), [19, -6])


def test_identity_mixing_is_attention(rng):
    q, k, v = qkv(rng)
    mask = rng.random((B, 1, T, S)) < 0.6
    output, weights, softmax = ref.attend(q, k, v, np.eye(H), np.eye(H), mask)
    expected, expected_weights = plain.attend(q, k, v, mask)
    assert_allclose(output, expected, rtol=1e-13, atol=1e-15)
    assert_allclose(weights, expected_weights, rtol=1e-13)
    assert_array_equal(softmax, weights)


@pytest.mark.parametrize("causal", [False, True])
def test_the_layer_with_identity_mixing_is_multi_head_attention(rng, causal):
    layer, query, value = layer_and_inputs(rng, bias_initializer="normal")
    base, _, _ = layer_and_inputs(rng, kind=attention.MultiHeadAttention)
    names = [variable.path.split("/", 1)[1] for variable in layer.weights]
    assert names == ["pre_softmax_weight", "post_softmax_weight"] + [v.path.split("/", 1)[1] for v in base.weights]
    base.set_weights(layer.get_weights()[2:])
    for mixing in (layer.pre_softmax_weight, layer.post_softmax_weight):
        mixing.assign(np.eye(H))
    options = {"attention_mask": rng.random((B, T, S)) < 0.6, "use_causal_mask": causal, "return_attention_scores": True}
    for found, expected in zip(layer(query, value, **options), base(query, value, **options)):
        assert_allclose(found, expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("side", ["reference", "layer"])
def test_the_second_head_of_the_matrix_hears_the_first(rng, side):
    """With a single 1 at [1, 3], head 3 hears head 1, and nobody hears anything else."""
    x, weight = rng.normal(size=(B, H, T, S)), np.zeros((H, H))
    weight[1, 3] = 1
    found = np.asarray(ref.mix(x, weight) if side == "reference" else mix(x, weight))
    assert_array_equal(found[:, 3], x[:, 1])
    assert not found[:, :3].any()


@pytest.mark.parametrize("transposed", ["pre_softmax_weight", "post_softmax_weight"])
def test_transposing_a_mixing_weight_changes_the_output(rng, transposed):
    """So that agreement with the reference, which draws them far from symmetric, settles the direction of each."""
    layer, query, value = layer_and_inputs(rng)
    before, variable = np.asarray(layer(query, value)), getattr(layer, transposed)
    variable.assign(np.transpose(variable))
    assert np.abs(np.asarray(layer(query, value)) - before).max() > 1e-2


def test_each_mixing_is_on_its_own_side_of_the_softmax(rng):
    """Doubled scores sharpen the softmax; doubled weights double the output."""
    (q, k, v), (pre, post) = qkv(rng), mixings(rng)
    output, weights, softmax = ref.attend(q, k, v, pre, post)
    assert_allclose(ref.attend(q, k, v, pre, 2 * post)[0], 2 * output, rtol=1e-12)
    assert_allclose(ref.attend(2 * q, k, v, pre, post)[2], ref.attend(q, k, v, 2 * pre, post)[2], rtol=1e-12)
    assert_allclose(softmax.sum(-1), 1)
    assert_allclose(weights.sum(-1), np.broadcast_to(post.sum(0)[:, None], (B, H, T)), rtol=1e-12, atol=1e-13)


def test_renumbering_the_heads_everywhere_changes_nothing_but_their_order(rng):
    (q, k, v), (pre, post), order = qkv(rng), mixings(rng), rng.permutation(H)
    expected = ref.attend(q, k, v, pre, post)[0][:, :, order]
    found = ref.attend(q[:, :, order], k[:, :, order], v[:, :, order], pre[order][:, order], post[order][:, order])[0]
    assert_allclose(found, expected, rtol=1e-12, atol=1e-14)


def test_mixing_lifts_the_rank_of_the_logits_from_d_to_all_heads_d(rng):
    h, d, n = 8, 2, 32
    q, k = rng.normal(size=(1, n, h, d)), rng.normal(size=(1, n, h, d))
    scores = np.einsum("bthd,bshd->bhts", q, k)
    assert {np.linalg.matrix_rank(one) for one in scores[0]} == {d}
    assert {np.linalg.matrix_rank(one) for one in ref.mix(scores, rng.normal(size=(h, h)))[0]} == {h * d}


@pytest.mark.parametrize("dtype", POLICIES)
def test_keys_masked_in_every_head_have_no_influence_after_both_mixings(rng, dtype):
    layer, query, value = layer_and_inputs(rng, dtype)
    mask = np.array([True, True, False, True, False]).reshape(1, 1, S)
    before = layer(query, value, attention_mask=mask)
    value[:, ~mask.ravel()] = 100.0
    after, weights = layer(query, value, attention_mask=mask, return_attention_scores=True)
    assert_array_equal(after, before)
    assert not np.asarray(keras.ops.cast(weights, "float32"))[..., ~mask.ravel()].any()


def test_the_mask_acts_after_the_first_mixing(rng):
    """A large negative number in the scores, where a mask before the mixing would put it, comes out as a bonus for some heads."""
    (q, k, v), (pre, post) = qkv(rng), mixings(rng)
    allowed = np.array([True, True, False, True, True])
    scores = np.einsum("bthd,bshd->bhts", q, k) / np.sqrt(D)
    wrong = ref.mix(np.where(allowed, scores, -1e9), pre)
    assert (wrong[..., 2] > 1e6).any()
    _, weights, softmax = ref.attend(q, k, v, pre, post, allowed.reshape(1, 1, 1, S))
    assert not softmax[..., 2].any() and not weights[..., 2].any()
    left = [x[:, allowed] for x in (k, v)]
    assert_allclose(ref.attend(q, *left, pre, post)[1], weights[..., allowed], rtol=1e-12, atol=1e-14)


def test_a_mask_of_one_head_is_of_its_softmax_and_the_second_mixing_may_bring_the_key_back(rng):
    layer, query, value = layer_and_inputs(rng)
    mask = np.ones((1, H, 1, S), bool)
    mask[0, 1, 0, 2] = False
    weights = weights_of(layer, ref.TalkingHeadsWeights)
    _, mixed, softmax = ref.talking_heads_attention(query, value, weights, mask=mask)
    assert not softmax[:, 1, :, 2].any() and (mixed[:, 1, :, 2] != 0).all()
    assert_allclose(layer(query, value, attention_mask=mask, return_attention_scores=True)[1], mixed, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("dtype", POLICIES)
@pytest.mark.parametrize("scores", [False, True])
def test_a_query_that_may_attend_to_nothing_gets_the_output_bias(rng, dtype, scores):
    layer, query, value = layer_and_inputs(rng, dtype, bias_initializer="ones")
    mask = np.ones((B, T, S), bool)
    mask[1, 2] = False
    output = layer(query, value, attention_mask=mask, return_attention_scores=scores)
    output = output[0] if scores else output
    assert_array_equal(keras.ops.cast(output[1, 2], "float32"), np.ones(M))


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_asking_for_scores_does_not_change_the_output(rng, dropout):
    layer, query, value = layer_and_inputs(rng, dropout=dropout)
    mask = rng.random((B, T, S)) < 0.3
    output, weights = layer(query, value, attention_mask=mask, return_attention_scores=True)
    assert_array_equal(layer(query, value, attention_mask=mask), output)
    assert weights.shape == (B, H, T, S)


def test_returned_scores_are_what_values_are_multiplied_by(rng):
    """They need not sum to 1, nor be positive; the softmaxes they mix are theirs times the inverse of the second mixing."""
    layer, query, value = layer_and_inputs(rng)
    weights = weights_of(layer, ref.TalkingHeadsWeights)
    output, scores = layer(query, value, return_attention_scores=True)
    v = ref.into_heads(value, weights.value)
    heads = np.einsum("bhts,bshe->bthe", scores, v)
    assert_allclose(ref.out_of_heads(heads, weights.attention_output), output, rtol=1e-11, atol=1e-13)
    sums = np.asarray(scores).sum(-1)
    assert_allclose(sums, np.broadcast_to(weights.post_softmax_weight.sum(0)[:, None], sums.shape), rtol=1e-11)
    assert np.abs(sums - 1).min() > 1e-2 and np.min(scores) < 0
    softmax = ref.mix(np.asarray(scores), np.linalg.inv(weights.post_softmax_weight))
    assert (softmax > 0).all()
    assert_allclose(softmax.sum(-1), 1, rtol=1e-10)


def test_dropout_drops_mixed_weights_and_only_while_training(rng):
    layer, query, value = layer_and_inputs(rng, dropout=0.5, seed=1)
    output, scores = layer(query, value, return_attention_scores=True)
    assert_array_equal(layer(query, value, training=False), output)
    dropped, weights = layer(query, value, training=True, return_attention_scores=True)
    assert (np.asarray(dropped) != np.asarray(output)).any()
    assert_array_equal(weights, scores)

    seen = []
    layer.dropout_layer.call = lambda x, training: seen.append(np.asarray(x)) or x
    layer(query, value, training=True)
    assert_array_equal(seen, [scores])


def test_mixing_weights_start_as_the_kernel_initializer_says_each_with_a_draw_of_its_own():
    layer = TalkingHeadsAttention(num_heads=64, key_dim=2, kernel_initializer=keras.initializers.GlorotUniform(seed=None))
    layer.build((B, T, M), (B, S, M))
    pre, post = np.asarray(layer.pre_softmax_weight), np.asarray(layer.post_softmax_weight)
    assert (pre != post).any()
    for mixing in (pre, post):
        assert_allclose(mixing.var(), 1 / 64, rtol=0.1)  # so that a sum over 64 heads is as large as one of them
    ones, _, _ = layer_and_inputs(np.random.default_rng(0), kernel_initializer="ones")
    assert np.asarray(ones.pre_softmax_weight).all() and np.asarray(ones.post_softmax_weight).all()


def test_regularisers_and_constraints_reach_the_mixing_weights(rng):
    layer, query, value = layer_and_inputs(rng, kernel_regularizer="l2", bias_regularizer="l1", activity_regularizer="l2")
    layer(query, value)
    assert len(layer.losses) == 4 * 3 + 2
    constrained, _, _ = layer_and_inputs(rng, kernel_constraint="non_neg", bias_constraint="max_norm")
    assert all(variable.constraint is not None for variable in constrained.trainable_variables)
    base, _, _ = layer_and_inputs(rng, kind=attention.MultiHeadAttention, kernel_regularizer="l2")
    only_kernels, _, _ = layer_and_inputs(rng, kernel_regularizer="l2")
    base.set_weights(only_kernels.get_weights()[2:])
    squares = sum(np.square(w).sum() for w in only_kernels.get_weights()[:2])
    assert_allclose(sum(only_kernels.losses) - sum(base.losses), 0.01 * squares, rtol=1e-6)


def test_it_has_the_arguments_of_multi_head_attention_and_two_more_weights(rng):
    layer, _, _ = layer_and_inputs(rng)
    base, _, _ = layer_and_inputs(rng, kind=attention.MultiHeadAttention)
    assert layer.count_params() - base.count_params() == 2 * H**2
    for method in ("__init__", "call"):
        assert inspect.signature(getattr(type(layer), method)) == inspect.signature(getattr(type(base), method))


def test_biases_of_heads_of_size_one_stay_with_their_heads(rng):
    """`keras.ops.add` would give them to the positions, of which there are as many here."""
    layer = TalkingHeadsAttention(num_heads=H, key_dim=1, dtype="float64", bias_initializer="normal")
    query = rng.normal(size=(B, H, M))
    layer(query, query)
    for dense in (layer.query_dense, layer.key_dense, layer.value_dense):
        added = np.asarray(dense(query)) - np.einsum("btm,mhd->bthd", query, np.asarray(dense.kernel))
        assert_allclose(added, np.broadcast_to(dense.bias, added.shape), rtol=1e-9)


def test_one_head_talks_to_itself(rng):
    layer = TalkingHeadsAttention(num_heads=1, key_dim=D, dtype="float64")
    query = rng.normal(size=(B, T, M))
    layer(query, query)
    layer.pre_softmax_weight.assign([[0.0]])
    layer.post_softmax_weight.assign([[3.0]])
    _, scores = layer(query, query, return_attention_scores=True)
    assert_allclose(scores, np.full((B, 1, T, T), 3 / T), rtol=1e-12)


@pytest.mark.parametrize(
    ("message", "options", "call"),
    [
        (r"num_heads must be an integer of at least 1. Received: num_heads=0", {"num_heads": 0}, {}),
        (r"dropout must be at least 0 and below 1. Received: dropout=1.0", {"dropout": 1.0}, {}),
        (r"attention_mask .* \(2, 4, 3, 5\). Received: \(2, 1, 5, 3\)", {}, {"attention_mask": np.ones((B, S, T))}),
        (r"attention_mask .* \(2, 4, 3, 5\). Received: \(2, 3, 3, 5\)", {}, {"attention_mask": np.ones((B, H - 1, T, S))}),
        (r"key and value must have the same shape", {}, {"key": np.ones((B, S - 1, M))}),
    ],
)
def test_what_does_not_fit_is_rejected_by_name(message, options, call):
    with pytest.raises(ValueError, match=message):
        TalkingHeadsAttention(**{"num_heads": H, "key_dim": D} | options)(np.ones((B, T, M)), np.ones((B, S, M)), **call)


def test_every_way_to_call_it_is_a_case():
    assert len(find_cases(["talking_heads_attention"])) >= 10
