"""The definition, the shift, memory, segments, two streams. Layer against reference: tests/conformance."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from numpy.testing import assert_allclose, assert_array_equal

from crosscheck.agreement import largest_error
from crosscheck.case import TOLERANCE, B, D, E, H, M, S, T
from crosscheck.cases.relative_attention import two_streams_with_targets
from crosscheck.weights import weights_of
from layers.attention import MultiHeadAttention
from layers.common.relative_positions import projected, relative_shift
from layers.relative_attention import MultiHeadRelativeAttention, TwoStreamRelativeAttention
from reference import relative_attention as ref
from reference.self_attention_mask import causal_mask

POLICIES = ("float64", "float32", "mixed_bfloat16", "mixed_float16", "float16", "bfloat16")
MEMORY, ENCODING = 6, 12
ROWS = {"both ways": T + S, "causal": S + 1}


def qkv(rng):
    return rng.normal(size=(B, T, H, D)), rng.normal(size=(B, S, H, D)), rng.normal(size=(B, S, H, E))


def bias_pair(rng):
    return rng.normal(size=(H, D)), rng.normal(size=(H, D))


def layer_and_inputs(rng, dtype="float64", t=T, s=S, rows=None, **options):
    """A layer, and its call arguments; the options `bias_initializer` and so on are the layer's."""
    layer = MultiHeadRelativeAttention(num_heads=H, key_dim=D, value_dim=E, dtype=dtype, **options)
    u, v = bias_pair(rng)
    inputs = {
        "query": rng.normal(size=(B, t, M)),
        "value": rng.normal(size=(B, s, M)),
        "content_attention_bias": u,
        "positional_attention_bias": v,
        "relative_position_encoding": rng.normal(size=(1, rows or t + s, ENCODING)),
    }
    layer(**inputs)
    return layer, inputs


def streams_and_inputs(rng, dtype="float64", t=S, **options):
    layer = TwoStreamRelativeAttention(num_heads=H, key_dim=D, value_dim=E, dtype=dtype, **options)
    u, v = bias_pair(rng)
    inputs = {
        "content_stream": rng.normal(size=(B, t, M)),
        "content_attention_bias": u,
        "positional_attention_bias": v,
        "query_stream": rng.normal(size=(B, t, M)),
        "relative_position_encoding": rng.normal(size=(1, t + t, ENCODING)),
    }
    layer(**inputs)
    return layer, inputs


@pytest.mark.parametrize("rows", ROWS.values(), ids=ROWS)
@pytest.mark.parametrize("examples", [1, B])
def test_scores_are_the_definition_pair_by_pair(rng, rows, examples):
    q, k, _ = qkv(rng)
    (u, v), r = bias_pair(rng), rng.normal(size=(examples, rows, H, D))
    scores = (ref.content_scores(q, k, u) + ref.position_scores(q, r, S, v)) / np.sqrt(D)
    expected = ref.scores_by_loops(q, k, r, u, v)
    assert_allclose(np.where(ref.has_encoding(T, S, rows), scores, -np.inf), expected, rtol=1e-12, atol=1e-12)
    assert np.isneginf(expected).any() == (rows == S + 1)


@pytest.mark.parametrize("rows", ROWS.values(), ids=ROWS)
def test_attend_mixes_the_values_by_the_scores_of_the_definition(rng, rows):
    (q, k, v), (u, bias), r = qkv(rng), bias_pair(rng), rng.normal(size=(1, rows, H, D))
    output, weights = ref.attend(q, k, v, ref.Terms(u, bias, r))
    exp = np.exp(ref.scores_by_loops(q, k, r, u, bias))
    assert_allclose(weights, exp / exp.sum(axis=-1, keepdims=True), rtol=1e-12)
    assert_allclose(output, np.einsum("bhts,bshe->bthe", weights, v), rtol=1e-12)


@pytest.mark.parametrize(("t", "s"), [(3, 5), (5, 3), (1, 4), (4, 1), (3, 3)])
@pytest.mark.parametrize("causal", [False, True])
def test_the_shift_without_a_loop_is_the_one_by_loops(rng, t, s, causal):
    x = rng.normal(size=(B, H, t, s + 1 if causal else t + s))
    expected = ref.relative_shift_by_loops(x, s)
    assert_array_equal(ref.relative_shift(x, s), expected)
    exists = ref.has_encoding(t, s, x.shape[-1])
    assert_array_equal(np.where(exists, relative_shift(x, s), 0), expected)


def test_the_shift_by_hand():
    """Rows 0 … 7 for three queries and five keys: the last query starts at row 1, the one before it a row later."""
    x = np.tile(np.arange(8.0), (1, 1, 3, 1))
    expected = [[3, 4, 5, 6, 7], [2, 3, 4, 5, 6], [1, 2, 3, 4, 5]]
    assert_array_equal(ref.relative_shift(x, 5)[0, 0], expected)
    assert_array_equal(ref.relative_shift(x[..., :6], 5)[0, 0], [[3, 4, 5, 0, 0], [2, 3, 4, 5, 0], [1, 2, 3, 4, 5]])


def test_row_r_is_the_distance_s_minus_r():
    """An encoding that is the distance itself comes out as the distance: 2 keys of memory are behind all three queries."""
    distances = np.arange(S, -T, -1.0)
    assert len(distances) == T + S
    q, r = np.ones((1, T, 1, 1)), distances.reshape(1, -1, 1, 1)
    position = np.arange(T)[:, None] + (S - T) - np.arange(S)[None, :]
    assert_array_equal(ref.position_scores(q, r, S)[0, 0], position)
    assert_array_equal(position, [[2, 1, 0, -1, -2], [3, 2, 1, 0, -1], [4, 3, 2, 1, 0]])


def test_the_papers_shift_is_this_one_where_it_looks_back(rng):
    """Appendix B of Transformer-XL: distances s − 1 … 0, a column of zeros in front, cut anew, without the first row."""
    x = rng.normal(size=(B, H, T, S + 1))
    padded = np.concatenate([np.zeros((B, H, T, 1)), x[..., 1:]], axis=-1)
    papers = padded.reshape(B, H, S + 1, T)[:, :, 1:].reshape(B, H, T, S)
    back = ref.has_encoding(T, S, S + 1)
    assert_array_equal(papers[..., back], ref.relative_shift(x, S)[..., back])
    assert (papers[..., ~back] != ref.relative_shift(x, S)[..., ~back]).any()


def test_worked_example():
    """d = 4 halves the scores: contents (1 + 1) ln 3 and 0, positions 0 and (1 + 3) ln 3 / 2, so ln 3 twice: even weights."""
    one = np.zeros(4)
    one[0] = 1
    k, r = np.log(3) * np.stack([one, 0 * one]), np.log(3) * np.stack([0 * one, one / 2])
    scores = [ref.score(one, k_j, r_j, one, 3 * one) for k_j, r_j in zip(k, r)]
    assert_allclose(scores, np.log(3))
    q, v = one.reshape(1, 1, 1, 4), np.array([8.0, 4.0]).reshape(1, 2, 1, 1)
    encoded = np.stack([9 * one, *r]).reshape(1, 3, 1, 4)  # rows for the distances 2, 1 and 0; none is at distance 2
    terms = ref.Terms(one[None], 3 * one[None], encoded)
    output, weights = ref.attend(q, k.reshape(1, 2, 1, 4), v, terms)
    assert_allclose(weights.ravel(), [1 / 2, 1 / 2])
    assert_allclose(output.item(), 6)


def test_the_four_terms_of_the_paper_add_up_to_the_two(rng):
    (q, k, _), (u, v), r = qkv(rng), bias_pair(rng), rng.normal(size=(1, T + S, H, D))
    nothing = np.zeros_like(q)
    four = ref.content_scores(q, k) + ref.position_scores(q, r, S)
    four += ref.content_scores(nothing, k, u) + ref.position_scores(nothing, r, S, v)
    assert_allclose(four / np.sqrt(D), ref.scores_by_loops(q, k, r, u, v), rtol=1e-12, atol=1e-12)


def test_without_position_terms_it_is_attention(rng):
    layer, inputs = layer_and_inputs(rng)
    plain = MultiHeadAttention(num_heads=H, key_dim=D, value_dim=E, dtype="float64")
    expected_at = inputs["query"], inputs["value"]
    plain(*expected_at)
    plain.set_weights(layer.get_weights()[:8])
    mask = rng.random((B, T, S)) < 0.6
    layer.encoding_dense.kernel.assign(np.zeros((ENCODING, H, D)))
    for absent in ({"positional_attention_bias": None, "relative_position_encoding": None}, {}):
        found = layer(**inputs | {"content_attention_bias": np.zeros((H, D))} | absent, attention_mask=mask)
        assert_allclose(found, plain(*expected_at, attention_mask=mask), rtol=1e-12)


def test_scores_do_not_change_when_everything_moves_on(rng):
    """The same text twelve tokens later, with the twelve masked, gives the same output."""
    layer, inputs = layer_and_inputs(rng)
    m = ENCODING
    before = layer(**inputs | {"relative_position_encoding": ref.relative_position_encoding(T, S, m)})
    moved = {"state": rng.normal(size=(B, 12, M)), "attention_mask": (np.arange(12 + S) >= 12)[None, None]}
    after = layer(**inputs | moved | {"relative_position_encoding": ref.relative_position_encoding(T, 12 + S, m)})
    assert_allclose(after, before, rtol=1e-12)


def test_the_order_of_the_keys_matters_only_through_the_encodings(rng):
    layer, inputs = layer_and_inputs(rng)
    turned = inputs | {"value": inputs["value"][:, ::-1]}
    assert np.abs(np.asarray(layer(**turned)) - layer(**inputs)).max() > 1e-3
    none = {"relative_position_encoding": None, "positional_attention_bias": None}
    assert_allclose(layer(**turned | none), layer(**inputs | none), rtol=1e-12)


def test_values_know_no_positions(rng):
    """Where all values are the same, every position scores differently and the output does not."""
    layer, inputs = layer_and_inputs(rng)
    inputs["value"] = np.repeat(inputs["value"][:, :1], S, axis=1)
    other = inputs | {"relative_position_encoding": 3 + inputs["relative_position_encoding"]}
    assert_allclose(layer(**other), layer(**inputs), rtol=1e-12)


def test_the_papers_sinusoid():
    encoding = ref.relative_position_encoding(T, S, 4)[0]
    assert_allclose(encoding[S - 2], [np.sin(2), np.sin(0.02), np.cos(2), np.cos(0.02)])
    assert_array_equal(encoding[S], [0, 0, 1, 1])
    assert_array_equal(ref.relative_position_encoding(T, S, 4, causal=True)[0], encoding[: S + 1])
    with pytest.raises(ValueError, match=r"m must be even.* m=5"):
        ref.relative_position_encoding(T, S, 5)


@pytest.mark.parametrize("dtype", POLICIES)
def test_rows_that_look_back_are_causal_attention(rng, dtype):
    layer, inputs = layer_and_inputs(rng, dtype)
    everything = inputs["relative_position_encoding"]
    back = {"relative_position_encoding": everything[:, : S + 1]}
    # The last query stands at the last key, so query i may attend to keys up to i + s − t.
    causal = causal_mask(S, S)[None, S - T :]
    limit = TOLERANCE[layer.compute_dtype]
    assert largest_error(layer(**inputs | back), layer(**inputs, attention_mask=causal)) < limit
    padding = rng.random((B, 1, S)) < 0.7
    found = layer(**inputs | back, attention_mask=padding)
    assert largest_error(found, layer(**inputs, attention_mask=padding & causal)) < limit


def test_the_memory_is_what_comes_before_keys_and_values(rng):
    layer, inputs = layer_and_inputs(rng, rows=T + S)
    state, value = inputs["value"][:, :2], inputs["value"][:, 2:]
    assert_allclose(layer(**inputs | {"value": value}, state=state), layer(**inputs), rtol=1e-12)
    key = rng.normal(size=(B, S, M))
    found = layer(**inputs | {"value": value, "key": key[:, 2:]}, state=state)
    full = np.concatenate([state, key[:, 2:]], axis=1)
    assert_allclose(found, layer(**inputs | {"key": full}), rtol=1e-12)


def test_encodings_that_all_examples_share_are_projected_once_and_equal_copies(rng):
    layer, inputs = layer_and_inputs(rng)
    encoding = inputs["relative_position_encoding"]
    assert projected(layer.encoding_dense, encoding, B, T, S).shape == (1, H, D, T + S)
    copies = layer(**inputs | {"relative_position_encoding": np.repeat(encoding, B, axis=0)})
    assert_allclose(layer(**inputs), copies, rtol=1e-12)


def test_a_segment_is_different_where_the_matrix_is_true(rng):
    layer, inputs = layer_and_inputs(rng)
    different = np.zeros((B, T, S), bool)
    different[:, :, 3:] = True
    b, same = np.zeros((H, D)), np.zeros((H, D))
    segments = {"segment_matrix": different, "segment_attention_bias": b + 1}
    # A query of ones scores very low against the encoding of other segments, which is thereby masked.
    layer.query_dense.kernel.assign(np.zeros((M, H, D)))
    encoding = {"segment_encoding": np.stack([same, same - 1e6])}
    assert_allclose(layer(**inputs, **segments, **encoding), layer(**inputs, attention_mask=~different), rtol=1e-12)
    encoding = {"segment_encoding": np.stack([same - 1e6, same])}
    assert_allclose(layer(**inputs, **segments, **encoding), layer(**inputs, attention_mask=different), rtol=1e-12)


def test_one_segment_alone_changes_nothing(rng):
    """The same number for every key of a query leaves its softmax as it is."""
    layer, inputs = layer_and_inputs(rng)
    segments = {"segment_encoding": rng.normal(size=(2, H, D)), "segment_attention_bias": rng.normal(size=(H, D))}
    for matrix in (np.zeros((B, T, S), bool), np.ones((1, 1, S), bool)):
        assert_allclose(layer(**inputs, **segments, segment_matrix=matrix), layer(**inputs), rtol=1e-11)


def test_a_segment_matrix_of_numbers_is_true_where_it_is_not_zero(rng):
    layer, inputs = layer_and_inputs(rng)
    encoding, matrix = {"segment_encoding": rng.normal(size=(2, H, D))}, rng.integers(0, 3, (B, T, S))
    found = layer(**inputs, **encoding, segment_matrix=matrix)
    assert_array_equal(found, layer(**inputs, **encoding, segment_matrix=matrix != 0))


def test_all_three_terms_are_divided_by_the_root_of_d(rng):
    """Four times the size, and queries and biases in the first quarter alone: half the scores, from each term."""
    q, k, v = qkv(rng)
    u, w, b = (rng.normal(size=(H, D)) for _ in range(3))
    terms = ref.Terms(u, w, rng.normal(size=(1, T + S, H, D)), b, rng.normal(size=(2, H, D)), rng.random((B, T, S)) < 0.5)
    wide = [np.concatenate([x, np.zeros((*x.shape[:-1], 3 * D))], axis=-1) for x in (q, k, *terms[:5])]
    _, weights = ref.attend(wide[0], wide[1], v, ref.Terms(*wide[2:], terms.segment_matrix))
    _, twice = ref.attend(q / 2, k, v, terms._replace(u=u / 2, v=w / 2, b=b / 2))
    assert_allclose(weights, twice, rtol=1e-12)


def test_masks_of_every_rank_mean_the_same_and_a_two_is_no_bonus(rng):
    layer, inputs = layer_and_inputs(rng)
    mask = rng.random((T, S)) < 0.6
    expected = layer(**inputs, attention_mask=np.broadcast_to(mask, (B, H, T, S)))
    for same in (mask, mask[None], np.repeat(mask[None], B, axis=0), mask[None, None], 2 * mask):
        assert_array_equal(layer(**inputs, attention_mask=same), expected)


@pytest.mark.parametrize("dtype", POLICIES)
@pytest.mark.parametrize("rows", ROWS.values(), ids=ROWS)
def test_a_query_that_may_attend_to_nothing_gets_the_output_bias(rng, dtype, rows):
    layer, inputs = layer_and_inputs(rng, dtype, rows=rows, bias_initializer="ones")
    mask = np.ones((B, T, S), bool)
    mask[1, 2] = False
    output = layer(**inputs, attention_mask=mask)
    assert_array_equal(keras.ops.cast(output[1, 2], "float32"), np.ones(M))
    assert np.isfinite(keras.ops.cast(output, "float32")).all()


def test_asking_for_scores_does_not_change_the_output(rng):
    layer, inputs = layer_and_inputs(rng, dropout=0.5)
    output, weights = layer(**inputs, return_attention_scores=True)
    assert_array_equal(output, layer(**inputs))
    assert_allclose(np.sum(weights, axis=-1), 1)


def test_dropout_drops_weights_only_while_training(rng):
    layer, inputs = layer_and_inputs(rng, dropout=0.5, seed=1)
    assert_array_equal(layer(**inputs), layer(**inputs, training=False))
    assert (np.asarray(layer(**inputs, training=True)) != np.asarray(layer(**inputs))).any()
    streams, inputs = streams_and_inputs(rng, dropout=0.5, seed=1)
    for dropped, kept in zip(streams(**inputs, training=True), streams(**inputs)):
        assert (np.asarray(dropped) != np.asarray(kept)).any()


def test_the_encoding_has_a_kernel_of_its_own_and_no_bias(rng):
    layer, _ = layer_and_inputs(rng, kernel_regularizer="l2")
    assert {v.path.split("/", 1)[1]: v.shape for v in layer.weights if "encoding" in v.path} == {
        "encoding/kernel": (ENCODING, H, D)
    }
    assert len(layer.losses) == 5
    assert type(layer.kernel_initializer) is keras.initializers.VarianceScaling
    without = MultiHeadRelativeAttention(num_heads=H, key_dim=D, dtype="float64")
    without(np.ones((B, T, M)), np.ones((B, S, M)), None, None)
    assert len(without.weights) == 8


def test_the_content_stream_sees_itself_and_the_query_stream_does_not(rng):
    """The outputs depend on exactly the contents that the permutation's masks allow."""
    layer, inputs = streams_and_inputs(rng)
    order = np.array([3, 0, 4, 1, 2])
    masks = ref.permutation_masks(order)
    x, g = (tf.constant(inputs[name]) for name in ("content_stream", "query_stream"))
    named = {"content_attention_mask": masks[0][None], "query_attention_mask": masks[1][None]}
    with tf.GradientTape(persistent=True) as tape:
        tape.watch([x, g])
        content, query = layer(**inputs | {"content_stream": x, "query_stream": g} | named)
    for output, mask in ((content, masks[0]), (query, masks[1])):
        depends = np.abs(tape.jacobian(output, x)).max(axis=(2, 5))[[0, 1], :, [0, 1]] > 0
        assert_array_equal(depends, np.repeat(mask[None], B, axis=0))
    first = order[0]  # which sees nothing but itself
    alone = layer.output_dense(layer.value_dense(x))
    assert_allclose(content[:, first], alone[:, first], rtol=1e-12)
    # What a stream asks matters where it has a choice: not for the first in the order, nor, in the query stream, for the second.
    by_query = np.abs(tape.jacobian(query, g)).max(axis=(2, 5))[[0, 1], :, [0, 1]] > 0
    assert_array_equal(by_query, np.repeat(np.diag(masks[1].sum(axis=-1) > 1)[None], B, axis=0))
    assert tape.jacobian(content, g) is None


def test_permutation_masks_by_hand():
    content, query = ref.permutation_masks(np.array([2, 0, 1]), memory=1)
    assert_array_equal(content, [[1, 1, 0, 1], [1, 1, 1, 1], [1, 0, 0, 1]])
    assert_array_equal(query, [[1, 0, 0, 1], [1, 1, 0, 1], [1, 0, 0, 0]])


def test_in_the_order_of_the_text_the_content_stream_is_causal_attention(rng):
    layer, inputs = streams_and_inputs(rng)
    content_mask, query_mask = (mask[None] for mask in ref.permutation_masks(np.arange(S)))
    content, query = layer(**inputs, content_attention_mask=content_mask, query_attention_mask=query_mask)
    one = MultiHeadRelativeAttention(num_heads=H, key_dim=D, value_dim=E, dtype="float64")
    x, u, v = (inputs[name] for name in ("content_stream", "content_attention_bias", "positional_attention_bias"))
    back = {"relative_position_encoding": inputs["relative_position_encoding"][:, : S + 1]}
    one(x, x, u, v, **back)
    one.set_weights(layer.get_weights())
    assert_allclose(content, one(x, x, u, v, **back), rtol=1e-12)
    strictly = one(inputs["query_stream"], x, u, v, **back, attention_mask=causal_mask(S, S) & ~np.eye(S, dtype=bool))
    assert_allclose(query, strictly, rtol=1e-12)


@pytest.mark.parametrize("dtype", POLICIES)
def test_the_first_token_of_an_order_gets_the_output_bias(rng, dtype):
    layer, inputs = streams_and_inputs(rng, dtype, bias_initializer="ones")
    masks = ref.permutation_masks(np.array([3, 0, 4, 1, 2]))
    _, query = layer(**inputs, content_attention_mask=masks[0], query_attention_mask=masks[1])
    query = np.asarray(keras.ops.cast(query, "float32"))
    assert_array_equal(query[:, 3], np.ones((B, M)))
    assert (query[:, [0, 1, 2, 4]] != 1).any(axis=-1).all()


def test_targets_get_what_the_whole_query_stream_gets_at_their_positions(rng):
    layer, inputs = streams_and_inputs(rng, bias_initializer="normal")
    named = dict(zip(("content_attention_mask", "query_attention_mask"), ref.permutation_masks(rng.permutation(S))))
    content, query = layer(**inputs, **named)
    positions = np.array([[4, 1, 2], [0, 3, 2]])
    targets = np.take_along_axis(inputs["query_stream"], positions[..., None], axis=1)
    again, found = layer(**inputs | {"query_stream": targets}, **named, target_mapping=np.eye(S)[positions])
    assert_allclose(found, np.take_along_axis(np.asarray(query), positions[..., None], axis=1), rtol=1e-12)
    assert_array_equal(again, content)


def test_a_target_without_a_position_gets_the_output_bias(rng):
    layer, inputs = streams_and_inputs(rng, bias_initializer="ones")
    mapping = np.eye(S)[[[0, 1], [2, 3]]]
    mapping[1, 1] = 0
    _, query = layer(**inputs | {"query_stream": inputs["query_stream"][:, :2]}, target_mapping=mapping)
    assert_allclose(query[1, 1], np.ones(M))


def test_the_two_streams_have_the_weights_of_one(rng):
    layer, inputs = streams_and_inputs(rng)
    content, query = layer(**inputs | {"query_stream": inputs["content_stream"]})
    assert_array_equal(content, query)
    assert len(layer.weights) == 9
    assert weights_of(layer, ref.RelativeAttentionWeights).encoding.kernel.shape == (ENCODING, H, D)


@pytest.mark.parametrize("rows", [2 * S, S + 1])
def test_open_lengths_are_found_out_when_the_model_runs(rng, rows):
    layer = MultiHeadRelativeAttention(num_heads=H, key_dim=D)
    x, r = keras.Input((None, M)), keras.Input((None, ENCODING))
    u, v = (keras.Input(batch_shape=(H, D)) for _ in range(2))
    model = keras.Model([x, r, u, v], layer(x, x, u, v, relative_position_encoding=r))
    given = [rng.normal(size=size).astype("float32") for size in ((B, S, M), (B, rows, ENCODING), (H, D), (H, D))]
    signature = [tf.TensorSpec(tensor.shape, "float32") for tensor in (x, r, u, v)]
    compiled = tf.function(lambda *tensors: model(list(tensors)), input_signature=signature)
    expected = layer(given[0], given[0], *given[2:], relative_position_encoding=given[1])
    assert_allclose(compiled(*given), expected, rtol=1e-5, atol=1e-6)
    with pytest.raises(tf.errors.InvalidArgumentError):
        compiled(given[0], given[1][:, :2], *given[2:])


@pytest.mark.parametrize(("t", "s", "state", "keys"), [(None, S, MEMORY, S + MEMORY), (T, S, None, None), (T, None, None, None)])
def test_where_a_number_of_keys_is_open_so_is_the_number_of_scores(t, s, state, keys):
    query, value, state = (keras.Input((length, M)) for length in (t, s, state))
    layer = MultiHeadRelativeAttention(num_heads=H, key_dim=D)
    output, scores = layer(query, value, None, None, state=state, return_attention_scores=True)
    assert output.shape == (None, t, M) and scores.shape == (None, H, t, keys)


def ones(*shape):
    return np.ones(shape)


@pytest.mark.parametrize(
    ("message", "change"),
    [
        (r"t \+ s = 8 rows for 5, …, -2, or s \+ 1 = 6 rows for 5, …, 0.* Received: 5 rows", {"rows": 5}),
        (r"relative_position_encoding must have a row .* Received: 7 rows", {"rows": 7}),
        (r"relative_position_encoding must have a row .* Received: 9 rows", {"rows": 9}),
        (r"s = 11 includes the state. Received: 8 rows", {"state": ones(2, 6, 11)}),
        (r"relative_position_encoding must have the shape \(2, None, 12\). .*\(3, 8, 12\)", {"examples": 3}),
        (r"relative_position_encoding must have the shape \(1, None, 12\). .*\(1, 8, 13\)", {"width": 13}),
        (
            r"positional_attention_bias needs relative_position_encoding. .*=None",
            {"relative_position_encoding": None},
        ),
        (r"content_attention_bias must have the shape \(4, 7\). Received: \(7, 4\)", {"content_attention_bias": ones(7, 4)}),
        (r"positional_attention_bias must have the shape .*: \(2, 4, 7\)", {"positional_attention_bias": ones(2, 4, 7)}),
        (r"segment_attention_bias must have the shape \(4, 7\). .*\(4,\)", {"segment_attention_bias": ones(4)}),
        (r"segment_matrix needs segment_encoding", {"segment_matrix": ones(2, 3, 5)}),
        (r"segment_encoding needs segment_matrix", {"segment_encoding": ones(2, 4, 7)}),
        (
            r"segment_encoding must have the shape \(2, 4, 7\). .*\(3, 4, 7\)",
            {"segment_encoding": ones(3, 4, 7), "segment_matrix": ones(2, 3, 5)},
        ),
        (
            r"segment_matrix must have a shape that broadcasts to \(2, 3, 5\). .*\(2, 5, 3\)",
            {"segment_encoding": ones(2, 4, 7), "segment_matrix": ones(2, 5, 3)},
        ),
        (r"state, concatenated with the value, must have the shape \(2, None, 11\). .*\(2, 6, 12\)", {"state": ones(2, 6, 12)}),
        (r"state, concatenated with the value, must .*\(1, 6, 11\)", {"state": ones(1, 6, 11)}),
        (r"attention_mask must have a shape that broadcasts to \(2, 4, 3, 5\)", {"attention_mask": ones(2, 5, 3)}),
    ],
)
def test_what_does_not_fit_is_rejected_by_name(rng, message, change):
    layer, inputs = layer_and_inputs(rng)
    encoding = ones(change.get("examples", 1), change.get("rows", T + S), change.get("width", ENCODING))
    arguments = {name: value for name, value in change.items() if name not in ("examples", "rows", "width")}
    with pytest.raises(ValueError, match=message):
        layer(**inputs | {"relative_position_encoding": encoding} | arguments)


@pytest.mark.parametrize(
    ("message", "shapes"),
    [
        (r"query must have 3 axes. .*\(2, 3, 4, 11\)", ((2, 3, 4, 11), (2, 5, 4, 11), (1, 8, 12))),
        (r"relative_position_encoding must have 3 axes. .*\(8, 12\)", ((2, 3, 11), (2, 5, 11), (8, 12))),
        (r"query and value must have the same size of axis 0", ((2, 3, 11), (4, 5, 11), (1, 8, 12))),
    ],
)
def test_ranks_and_batches_are_checked_when_it_is_built(message, shapes):
    query, value, encoding = (ones(*shape) for shape in shapes)
    with pytest.raises(ValueError, match=message):
        MultiHeadRelativeAttention(num_heads=H, key_dim=D)(query, value, None, None, relative_position_encoding=encoding)


def test_a_state_has_to_fit_the_keys_too():
    layer = MultiHeadRelativeAttention(num_heads=H, key_dim=D)
    with pytest.raises(
        ValueError, match=r"state, concatenated with the key, must have the shape \(2, None, 13\). .*\(2, 6, 11\)"
    ):
        layer(ones(B, T, M), ones(B, S, M), None, None, key=ones(B, S, M + 2), state=ones(B, MEMORY, M))


def test_encodings_need_a_weight_from_the_start():
    layer = MultiHeadRelativeAttention(num_heads=H, key_dim=D)
    layer(ones(B, T, M), ones(B, S, M), None, None)
    with pytest.raises(ValueError, match=r"relative_position_encoding must be given in the first call too, .* built without it"):
        layer(ones(B, T, M), ones(B, S, M), None, None, relative_position_encoding=ones(1, T + S, M))


@pytest.mark.parametrize(
    ("message", "change"),
    [
        (
            r"content_stream and query_stream must have the same length, unless .* with 5, query_stream with 3",
            {"query": (2, 3, 11)},
        ),
        (r"content_stream and query_stream must have the same batch", {"query": (3, 5, 11)}),
        (r"content_stream and query_stream must have the same size of the last axis", {"query": (2, 5, 12)}),
        (r"target_mapping must have the shape \(2, 3, 5\). Received: \(2, 5, 3\)", {"query": (2, 3, 11), "mapping": (2, 5, 3)}),
        (r"Received: 11 rows", {"rows": 11}),
    ],
)
def test_streams_that_do_not_fit_are_rejected_by_name(rng, message, change):
    layer, inputs = streams_and_inputs(rng)
    inputs["query_stream"] = ones(*change.get("query", (B, S, M)))
    inputs["relative_position_encoding"] = ones(1, change.get("rows", 2 * S), ENCODING)
    inputs["target_mapping"] = ones(*change["mapping"]) if "mapping" in change else None
    with pytest.raises(ValueError, match=message):
        layer(**inputs)


def test_the_cases_map_targets_to_different_positions(rng):
    mapping = two_streams_with_targets(rng)["target_mapping"]
    assert (mapping.sum(axis=-1) == 1).all() and (mapping.sum(axis=1) <= 1).all()
