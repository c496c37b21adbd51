"""The definition, numbers worked by hand, the limits, the order of heads. Layer against reference: tests/conformance."""

from itertools import pairwise

import keras
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from crosscheck.backends import differentiate
from crosscheck.case import B, D, E, M, S, T
from crosscheck.catalogue import find_cases
from crosscheck.lesson.counting import multiply_adds
from crosscheck.weights import draw_weights, weights_of
from layers.attention import MultiHeadAttention
from layers.reuse_attention import ReuseMultiHeadAttention
from reference import reuse_attention as ref
from reference.common.projection import Projection
from reference.masked_softmax import masked_softmax
from reference.self_attention_mask import causal_mask

H, K = 6, 2
POLICIES = ("float64", "float32", "mixed_bfloat16", "mixed_float16", "float16", "bfloat16")
every_way = pytest.mark.parametrize("reuse", [0, K, -1], ids=["none", "some", "all"])


def make(rng, reuse, dtype="float64", **options):
    """A layer with drawn weights, and what it is called with."""
    layer = ReuseMultiHeadAttention(H, D, E, reuse_attention=reuse, dtype=dtype, **options)
    query, value = rng.normal(size=(B, T, M)), rng.normal(size=(B, S, M))
    scores = masked_softmax(rng.normal(size=(B, H, T, S)))
    layer(query, value, reuse_attention_scores=scores)
    draw_weights(layer, rng)
    return layer, query, value, scores


def paths(layer):
    return {"/".join(weight.path.split("/")[1:]): tuple(weight.shape) for weight in layer.weights}


def without(layer, *parts):
    """The layer's weights but for those of `parts`."""
    return [weight for weight, path in zip(layer.get_weights(), paths(layer)) if path.split("/")[0] not in parts]


@every_way
@pytest.mark.parametrize("relative", [False, True])
@pytest.mark.parametrize("use_bias", [False, True])
def test_every_query_is_the_definition_for_one(rng, reuse, relative, use_bias):
    layer, query, value, reused = make(rng, reuse, use_relative_pe=relative, pe_max_seq_length=3, use_bias=use_bias)
    weights = weights_of(layer, ref.ReuseAttentionWeights)
    mask = rng.random((B, T, S)) < 0.6
    mask[0, 1] = False
    output, attention = ref.reuse_attention(query, value, weights, reused, mask=mask)
    for b, t in np.ndindex(B, T):
        one, its_attention = ref.reuse_attention_one(query[b, t], value[b], weights, reused[b, :, t], mask[b, t], t)
        assert_allclose(output[b, t], one, rtol=1e-12)
        assert_allclose(attention[b, :, t], its_attention, rtol=1e-12)


def test_worked_example():
    """A reused head that weighs 8 and 4 three to one has 7; a new one without a preference has their mean, 6; W^O doubles it."""
    one = Projection(np.ones((1, 1, 1)))
    zero = Projection(np.zeros((1, 1, 4)))
    weights = ref.ReuseAttentionWeights(zero, zero, one, one, one, Projection(2 * np.ones((1, 1, 1))), None)
    reused = np.array([3 / 4, 1 / 4]).reshape(1, 1, 1, 2)
    output, attention = ref.reuse_attention(np.ones((1, 1, 1)), np.array([8.0, 4.0]).reshape(1, 2, 1), weights, reused)
    assert_allclose(output.item(), 7 + 2 * 6)
    assert_allclose(attention[0, :, 0], [[3 / 4, 1 / 4], [1 / 2, 1 / 2]])


@pytest.mark.parametrize(
    ("allowed", "expected"),
    [([1, 1, 0], [2 / 3, 1 / 3, 0]), ([0, 0, 1], [0, 0, 1]), ([1, 1, 1], [1 / 2, 1 / 4, 1 / 4]), ([0, 0, 0], [0, 0, 0])],
)
def test_what_a_mask_leaves_of_a_row_is_divided_by_its_sum(allowed, expected):
    row, allowed = np.array([1 / 2, 1 / 4, 1 / 4]), np.array(allowed, bool)
    assert_allclose(ref.renormalized_row(row, allowed), expected)
    assert_allclose(ref.renormalized(row[None, None, None], allowed[None, None, None]).ravel(), expected)


def test_a_masked_reused_head_is_what_its_source_would_have_computed_under_both_masks(rng):
    scores, before = rng.normal(size=(B, H, T, S)), rng.random((B, 1, T, S)) < 0.8
    now = rng.random((B, 1, T, S)) < 0.6
    assert_allclose(ref.renormalized(masked_softmax(scores, before), now), masked_softmax(scores, before & now), rtol=1e-12)


def test_distances_are_key_minus_query_and_far_ones_share_a_bias():
    p = np.array([[-2.0, -1, 0, 1, 2]])  # a bias that is its distance
    expected = [[max(-2, min(s - t, 2)) for s in range(5)] for t in range(4)]
    assert_array_equal(ref.relative_bias(4, 5, p)[0], expected)
    assert_array_equal([[ref.bias_at(s - t, p[0]) for s in range(5)] for t in range(4)], expected)


def test_with_no_head_reused_it_is_multi_head_attention(rng):
    layer, query, value, _ = make(rng, 0)
    plain = MultiHeadAttention(H, D, E, dtype="float64")
    plain(query, value)
    plain.set_weights(layer.get_weights())
    mask = rng.random((B, T, S)) < 0.6
    for found, expected in zip(
        layer(query, value, attention_mask=mask, return_attention_scores=True),
        plain(query, value, attention_mask=mask, return_attention_scores=True),
    ):
        assert_array_equal(found, expected)


@pytest.mark.parametrize("masked", [False, True])
def test_with_its_own_weights_given_back_a_layer_that_reuses_them_all_repeats_itself(rng, masked):
    source, query, value, _ = make(rng, 0)
    mask = causal_mask(T, S)[None] if masked else None
    expected, scores = source(query, value, attention_mask=mask, return_attention_scores=True)
    copy, _, _, _ = make(rng, -1)
    copy.set_weights(
        [weight for weight, path in zip(source.get_weights(), paths(source)) if path.split("/")[0] not in "query key"]
    )
    found, again = copy(query, value, attention_mask=mask, return_attention_scores=True, reuse_attention_scores=scores)
    assert_allclose(again, scores, rtol=1e-15)
    assert_allclose(found, expected, rtol=1e-12)


def test_keras_weights_reused_with_keras_kernels_give_keras_output(rng):
    theirs = keras.layers.MultiHeadAttention(H, D, E, bias_initializer="normal")
    query, value = rng.normal(size=(B, T, M)), rng.normal(size=(B, S, M))
    expected, scores = theirs(query, value, return_attention_scores=True)
    layer, *_ = make(rng, -1, "float32")
    layer.set_weights(theirs.get_weights()[4:8])
    assert_allclose(layer(query, value, reuse_attention_scores=scores), expected, atol=1e-5)


def test_returned_weights_are_the_reused_heads_and_then_the_new_ones(rng):
    layer, query, value, given = make(rng, K)
    _, returned = layer(query, value, return_attention_scores=True, reuse_attention_scores=given)
    assert_array_equal(returned[:, :K], given[:, :K])
    weights = weights_of(layer, ref.ReuseAttentionWeights)
    assert_allclose(returned[:, K:], ref.new_weights(query, value, weights, None), rtol=1e-12)


def test_down_a_stack_the_same_heads_keep_being_reused(rng):
    first, query, value, _ = make(rng, 0)
    _, scores = first(query, value, return_attention_scores=True)
    computed = [scores]
    for _ in range(3):
        layer, *_ = make(rng, K)
        _, scores = layer(query, value, return_attention_scores=True, reuse_attention_scores=scores)
        computed.append(scores)
    for scores in computed[1:]:
        assert_array_equal(scores[:, :K], computed[0][:, :K])
    assert all((np.asarray(a)[:, K:] != np.asarray(b)[:, K:]).all() for a, b in pairwise(computed))


def test_heads_beyond_the_reused_ones_are_not_read(rng):
    layer, query, value, given = make(rng, K)
    expected = layer(query, value, reuse_attention_scores=given)
    for other in (given[:, :K], np.concatenate([given, given], axis=1)):
        assert_array_equal(layer(query, value, reuse_attention_scores=other), expected)
    given[:, K:] = 7
    assert_array_equal(layer(query, value, reuse_attention_scores=given), expected)


def test_a_layer_that_reuses_none_does_not_look_at_weights_that_it_is_given(rng):
    layer, query, value, _ = make(rng, 0)
    assert_array_equal(layer(query, value, reuse_attention_scores=np.ones((1, 1))), layer(query, value))


def test_a_layer_that_reuses_all_does_not_look_at_its_queries_and_keys(rng):
    layer, query, value, given = make(rng, -1)
    again = layer(query + 1, value, rng.normal(size=value.shape), reuse_attention_scores=given)
    assert_array_equal(again, layer(query, value, reuse_attention_scores=given))


@pytest.mark.parametrize("reuse", [K, -1])
@pytest.mark.parametrize("dtype", POLICIES)
def test_this_layers_mask_holds_for_reused_heads_too(rng, dtype, reuse):
    layer, query, value, given = make(rng, reuse, dtype)
    mask = np.array([True, True, False, True, False])
    call = {"attention_mask": mask[None, None], "reuse_attention_scores": given, "return_attention_scores": True}
    before, weights = layer(query, value, **call)
    weights = np.asarray(keras.ops.cast(weights, "float64"))
    assert (weights[..., ~mask] == 0).all() and (weights[..., mask] > 0).all()
    assert_allclose(weights.sum(-1), 1, rtol=1e-2 if "16" in dtype else 1e-6)
    value[:, ~mask] = 100.0
    given[..., ~mask] = 100.0
    assert_array_equal(layer(query, value, **call)[0], before)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_reused_weights_are_divided_in_float32_and_rounded_once(rng, dtype):
    layer, query, value, given = make(rng, -1, dtype)
    given = keras.ops.cast(given, dtype)
    mask = rng.random((B, 1, T, S)) < 0.6
    _, weights = layer(query, value, attention_mask=mask, reuse_attention_scores=given, return_attention_scores=True)
    exact = ref.renormalized(np.asarray(keras.ops.cast(given, "float32")), mask)
    assert_array_equal(*(keras.ops.cast(x, "float32") for x in (weights, keras.ops.cast(exact, dtype))))


def test_a_mask_that_allows_everything_changes_nothing(rng):
    layer, query, value, given = make(rng, K)
    masked = layer(query, value, attention_mask=np.ones((B, T, S)), reuse_attention_scores=given)
    assert_allclose(masked, layer(query, value, reuse_attention_scores=given), rtol=1e-12)


@pytest.mark.parametrize("dtype", POLICIES)
@pytest.mark.parametrize("scores", [False, True])
@every_way
def test_a_query_that_may_attend_to_nothing_gets_the_output_bias(rng, dtype, scores, reuse):
    layer, query, value, given = make(rng, reuse, dtype)
    bias = next(dense.bias for name in ("output_reuse_dense", "output_new_dense") if (dense := getattr(layer, name, None)))
    mask = np.ones((B, T, S), bool)
    mask[1, 2] = False
    output = layer(query, value, attention_mask=mask, return_attention_scores=scores, reuse_attention_scores=given)
    output = output[0] if scores else output
    assert_array_equal(keras.ops.cast(output[1, 2], "float32"), keras.ops.cast(keras.ops.cast(bias, output.dtype), "float32"))


def test_a_reused_row_whose_weight_is_all_on_forbidden_keys_gets_zeros_and_finite_gradients(rng):
    layer, query, value, given = make(rng, -1, use_bias=False)
    given[1, :, 2] = [1, 0, 0, 0, 0]
    mask = np.ones((B, T, S), bool)
    mask[1, 2, 0] = False
    inputs = {"value": value, "reuse_attention_scores": given}
    inputs = {name: keras.ops.convert_to_tensor(x) for name, x in inputs.items()}

    def call(layer, value, reuse_attention_scores):
        return layer(query, value, attention_mask=mask, reuse_attention_scores=reuse_attention_scores)

    outputs, by_variable, by_input = differentiate(call, layer, inputs, {"output": np.ones((B, T, M))})
    assert_array_equal(outputs["output"][1, 2], np.zeros(M))
    assert all(np.isfinite(slope).all() for slope in (*by_variable.values(), *by_input.values()))


@every_way
def test_asking_for_weights_does_not_change_the_output(rng, reuse):
    layer, query, value, given = make(rng, reuse, dropout=0.5)
    call = {"attention_mask": rng.random((B, T, S)) < 0.3, "reuse_attention_scores": given}
    assert_array_equal(layer(query, value, **call), layer(query, value, return_attention_scores=True, **call)[0])


@every_way
def test_returned_weights_are_those_before_dropout(rng, reuse):
    layer, query, value, given = make(rng, reuse, dropout=0.5, seed=1)
    call = {"reuse_attention_scores": given, "return_attention_scores": True}
    output, weights = layer(query, value, **call)
    dropped, same = layer(query, value, training=True, **call)
    assert (np.asarray(dropped) != np.asarray(output)).any()
    assert_array_equal(same, weights)


@pytest.mark.parametrize("silent", ["output_reuse_dense", "output_new_dense"])
def test_dropout_reaches_reused_and_new_heads(rng, silent):
    layer, query, value, given = make(rng, K, dropout=0.5, seed=1)
    kernel = getattr(layer, silent).kernel
    kernel.assign(np.zeros(kernel.shape))
    call = {"reuse_attention_scores": given}
    assert (np.asarray(layer(query, value, training=True, **call)) != np.asarray(layer(query, value, **call))).any()


@every_way
@pytest.mark.parametrize("relative", [False, True])
def test_reused_heads_have_no_query_and_no_key(rng, reuse, relative):
    layer, *_ = make(rng, reuse, use_relative_pe=relative, pe_max_seq_length=9)
    reused = H if reuse == -1 else reuse
    new = H - reused
    into = {"query": (new, D), "key": (new, D), "value_reuse": (reused, E), "value_new": (new, E)}
    expected = {f"{name}/kernel": (M, *size) for name, size in into.items()} | {
        f"{name}/bias": size for name, size in into.items()
    }
    expected |= {f"attention_output_{part}/kernel": (h, E, M) for part, h in (("reuse", reused), ("new", new))}
    expected |= {"position_embeddings": (new, 17)} if relative else {}
    expected = {name: shape for name, shape in expected.items() if 0 not in shape}
    assert paths(layer) == expected | {f"attention_output_{'reuse' if reused else 'new'}/bias": (M,)}


@pytest.mark.parametrize("reuse", range(H + 1))
def test_each_reused_head_saves_its_query_its_key_and_its_scores(rng, reuse):
    layer, query, value, given = make(rng, reuse)
    plain, *_ = make(rng, 0)
    counts = []
    for each in (layer, plain):
        with multiply_adds() as counted:
            ref.reuse_attention(query, value, weights_of(each, ref.ReuseAttentionWeights), given)
        counts.append(sum(counted))
    assert plain.count_params() - layer.count_params() == reuse * 2 * (M + 1) * D
    assert counts[1] - counts[0] == reuse * B * ((T + S) * M * D + T * S * D)


def test_gradient_flows_through_reused_weights_to_the_layer_that_computed_them(rng):
    x = keras.Input((S, M), dtype="float64")
    source = ReuseMultiHeadAttention(H, D, dtype="float64", name="source")
    reusing = ReuseMultiHeadAttention(H, D, reuse_attention=-1, dtype="float64", name="reusing")
    _, scores = source(x, x, return_attention_scores=True)
    model = keras.Model(x, reusing(x, x, reuse_attention_scores=scores))
    draw_weights(model, rng)
    inputs = {"inputs": keras.ops.convert_to_tensor(rng.normal(size=(B, S, M)))}
    _, slopes, _ = differentiate(lambda model, inputs: model(inputs), model, inputs, {"output": rng.normal(size=(B, S, M))})
    size = {path: np.abs(slope).max() for path, slope in slopes.items()}
    assert size["source/query/kernel"] > 1e-3 and size["source/key/kernel"] > 1e-3
    assert size["source/value_new/kernel"] == 0  # its own output is not used here


def test_a_table_of_zeros_is_no_table(rng):
    layer, query, value, given = make(rng, K, use_relative_pe=True)
    layer.position_embeddings.assign(np.zeros(layer.position_embeddings.shape))
    plain, *_ = make(rng, K)
    plain.set_weights(without(layer, "position_embeddings"))
    call = {"reuse_attention_scores": given}
    assert_array_equal(layer(query, value, **call), plain(query, value, **call))


def test_a_sequence_longer_than_the_table_gets_the_bias_of_the_farthest_distance(rng):
    """A table of 2 distances each way is one of 5 whose ends repeat."""
    short, query, value, _ = make(rng, 0, use_relative_pe=True, pe_max_seq_length=2)
    long, *_ = make(rng, 0, use_relative_pe=True, pe_max_seq_length=5)
    long.set_weights(
        [
            np.pad(w, ((0, 0), (3, 3)), "edge") if path == "position_embeddings" else w
            for w, path in zip(short.get_weights(), paths(short))
        ]
    )
    assert_array_equal(short(query, value), long(query, value))


def test_the_table_starts_small_and_in_the_layers_own_dtype():
    for dtype, expected in (("float64", "float64"), ("mixed_bfloat16", "float32"), ("bfloat16", "bfloat16")):
        layer = ReuseMultiHeadAttention(H, D, use_relative_pe=True, dtype=dtype)
        layer.build((B, T, M), (B, S, M))
        assert layer.position_embeddings.dtype == expected
    assert 0.17 < np.std(keras.ops.cast(layer.position_embeddings, "float32")) < 0.23


def test_relative_positions_along_one_of_two_axes(rng):
    image = rng.normal(size=(B, 3, 4, M))
    layer = ReuseMultiHeadAttention(H, D, use_relative_pe=True, attention_axes=2, dtype="float64")
    output = layer(image, image)
    row = ReuseMultiHeadAttention(H, D, use_relative_pe=True, dtype="float64")
    row(image[:, 1], image[:, 1])
    row.set_weights(layer.get_weights())
    assert_allclose(output[:, 1], row(image[:, 1], image[:, 1]), rtol=1e-12)


def test_an_output_of_several_axes_is_the_flat_one_reshaped(rng):
    layer, query, value, given = make(rng, K, output_shape=(2, 3))
    flat, *_ = make(rng, K, output_shape=6)
    flat.set_weights([w.reshape(f.shape) for w, f in zip(layer.get_weights(), flat.get_weights())])
    call = {"reuse_attention_scores": given}
    assert_allclose(np.reshape(layer(query, value, **call), (B, T, 6)), flat(query, value, **call), rtol=1e-12)


def test_regularisers_and_constraints_reach_every_projection(rng):
    layer, query, value, given = make(rng, K, kernel_regularizer="l2", bias_regularizer="l1", activity_regularizer="l2")
    layer(query, value, reuse_attention_scores=given)
    assert len(layer.losses) == 6 + 5 + 6  # kernels, biases (the outputs share one), activities
    constrained, *_ = make(rng, K, kernel_constraint="non_neg", bias_constraint="max_norm")
    assert all(variable.constraint is not None for variable in constrained.trainable_variables)


@pytest.mark.parametrize("reuse", [0, K, H, -1])
def test_the_config_holds_what_was_given(reuse):
    layer = ReuseMultiHeadAttention(H, D, reuse_attention=reuse, use_relative_pe=True, pe_max_seq_length=9)
    copy = ReuseMultiHeadAttention.from_config(layer.get_config())
    assert (copy.reuse_attention, copy.use_relative_pe, copy.pe_max_seq_length) == (reuse, True, 9)
    assert copy.reused_heads == (H if reuse == -1 else reuse)


@pytest.mark.parametrize("reuse", [-2, H + 1, 1.0, True, None])
def test_a_number_of_reused_heads_that_is_none_is_rejected(reuse):
    message = f"reuse_attention must be an integer from 0 to num_heads=6, or -1 for all. Received: reuse_attention={reuse}"
    with pytest.raises(ValueError, match=message):
        ReuseMultiHeadAttention(H, D, reuse_attention=reuse)


@pytest.mark.parametrize("length", [0, -3, 2.0])
def test_a_table_without_distances_is_rejected(length):
    with pytest.raises(ValueError, match=f"pe_max_seq_length must be an integer of at least 1. Received: .*={length}"):
        ReuseMultiHeadAttention(H, D, pe_max_seq_length=length)


def test_relative_positions_over_two_axes_at_once_are_rejected():
    with pytest.raises(ValueError, match=r"use_relative_pe needs a single attended axis. Received: attention_axes=\(1, 2\)"):
        ReuseMultiHeadAttention(H, D, use_relative_pe=True)(np.ones((B, 3, 4, M)), np.ones((B, 3, 4, M)))


@pytest.mark.parametrize("reuse", [K, -1])
def test_reused_weights_that_are_missing_are_asked_for(rng, reuse):
    with pytest.raises(
        ValueError, match=f"reuse_attention_scores must be given to reuse {H if reuse == -1 else reuse} heads. Received: .*=None"
    ):
        ReuseMultiHeadAttention(H, D, reuse_attention=reuse)(np.ones((B, T, M)), np.ones((B, S, M)))


@pytest.mark.parametrize(
    "shape", [(B, K - 1, T, S), (B, K, S, T), (B, K, 1, S), (1, K, T, S), (B, T, S), (B, 1, K, T, S)], ids=str
)
def test_reused_weights_that_do_not_fit_are_rejected(shape):
    layer = ReuseMultiHeadAttention(H, D, reuse_attention=K)
    with pytest.raises(ValueError) as error:
        layer(np.ones((B, T, M)), np.ones((B, S, M)), reuse_attention_scores=np.ones(shape))
    expected = f"reuse_attention_scores must have the shape (2, 2, 3, 5), or more than 2 heads. Received: {shape}"
    assert expected in str(error.value)


def test_reused_weights_over_several_axes_that_do_not_fit_are_rejected():
    image = np.ones((B, 3, 4, M))
    with pytest.raises(
        ValueError, match=r"must have the shape \(2, 2, 3, 4, 3, 4\), or more than 2 heads. Received: \(2, 2, 12, 12\)"
    ):
        ReuseMultiHeadAttention(H, D, reuse_attention=K)(image, image, reuse_attention_scores=np.ones((B, K, 12, 12)))


def test_a_mask_that_does_not_fit_is_rejected(rng):
    layer, query, value, given = make(rng, K)
    with pytest.raises(ValueError, match=r"attention_mask .* \(2, 6, 3, 5\). Received: \(2, 2, 3, 5\)"):
        layer(query, value, attention_mask=np.ones((B, K, T, S)), reuse_attention_scores=given)


def test_every_way_to_call_it_is_a_case():
    assert len(find_cases(["reuse_attention"])) >= 17
