"""The block's definition, segments against one long pass, memory, two streams. Layer against reference: tests/conformance."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from numpy.testing import assert_allclose, assert_array_equal

from crosscheck.agreement import largest_error
from crosscheck.case import TOLERANCE, B, D, H, S, T
from crosscheck.weights import draw_weights, weights_of
from layers.transformer_encoder import TransformerEncoderBlock
from layers.transformer_xl import TransformerXL, TransformerXLBlock
from layers.transformer_xl.parts import biases_of
from reference import transformer_xl as ref
from reference.relative_attention import Terms, permutation_masks, relative_position_encoding

POLICIES = ("float64", "float32", "mixed_bfloat16", "mixed_float16", "float16", "bfloat16")
HIDDEN, F, LAYERS = H * D, 6, 2
SIZES = {"hidden_size": HIDDEN, "num_attention_heads": H, "head_size": D, "inner_size": F, "vocab_size": 100}
RATES = {"dropout_rate": 0.0, "attention_dropout_rate": 0.0}


def encode(t, s):
    """Encodings that look back."""
    return relative_position_encoding(t, s, HIDDEN, causal=True)


def stream(rng, length=S):
    return rng.normal(size=(B, length, HIDDEN))


def make_block(rng, dtype="float64", **options):
    block = TransformerXLBlock(**SIZES | RATES | {"dtype": dtype} | options)
    shapes = {"query_stream_shape": (B, S, HIDDEN)} if block.two_stream else {}
    block.build((B, S, HIDDEN), (1, S + S, HIDDEN), **shapes)
    draw_weights(block, rng)
    return block


def make_stack(rng, dtype="float64", segments=False, **options):
    given = SIZES | RATES | {"num_layers": LAYERS, "initializer": "glorot_uniform", "dtype": dtype} | options
    stack = TransformerXL(**given)
    shapes = {"segment_matrix_shape": (B, S, S)} if segments else {}
    stack.build((B, S, HIDDEN), (1, S + S, HIDDEN), **shapes)
    draw_weights(stack, rng)
    return stack


def test_the_block_is_the_definition_for_every_token(rng):
    weights = weights_of(make_block(rng), ref.XLBlockWeights)
    x, memory, (u, v) = stream(rng), stream(rng, T), rng.normal(size=(2, H, D))
    encoding = encode(S, T + S)
    found, _ = ref.transformer_xl_block(x, weights, encoding, Terms(u, v), memory)
    for b, i in np.ndindex(B, S):
        assert_allclose(found[b, i], ref.block_at(x[b], i, memory[b], weights, encoding[0], u, v), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("length", [1, 3, 4, 11])
def test_segments_with_full_memory_are_one_long_causal_pass(rng, length):
    weights, x = weights_of(make_stack(rng), ref.XLWeights), stream(rng, 11)
    expected = ref.transformer_xl(x, weights, encode(11, 11)).content
    found = ref.by_segments(x, weights, encode, length, memory_length=11)
    assert_allclose(found, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("tied", [True, False])
def test_the_layers_segments_are_one_long_causal_pass(rng, dtype, tied):
    stack = make_stack(rng, dtype, memory_length=12, tie_attention_biases=tied)
    x, state, outputs = stream(rng, 12), None, []
    for start, length in ((0, 5), (5, 3), (8, 4)):
        output, state = stack(x[:, start : start + length], encode(length, start + length), state=state)
        outputs.append(np.asarray(output))
    expected, memories = stack(x, encode(12, 12))
    assert largest_error(np.concatenate(outputs, axis=1), np.asarray(expected)) < TOLERANCE[dtype]
    assert largest_error(state, memories) < TOLERANCE[dtype]


def test_one_block_with_a_short_memory_sees_that_many_tokens_before_its_segment(rng):
    weights, x = weights_of(make_stack(rng, num_layers=1), ref.XLWeights), stream(rng, 12)
    start = np.arange(12) // 4 * 4
    visible = (np.arange(12) >= start[:, None] - 3)[None]
    expected = ref.transformer_xl(x, weights, encode(12, 12), content_mask=visible).content
    assert_allclose(ref.by_segments(x, weights, encode, 4, memory_length=3), expected, rtol=1e-12, atol=1e-12)
    without = ref.by_segments(x, weights, encode, 4, memory_length=None)
    alone = [ref.transformer_xl(x[:, i : i + 4], weights, encode(4, 4)).content for i in (0, 4, 8)]
    assert_array_equal(without, np.concatenate(alone, axis=1))


def test_each_layer_remembers_what_came_into_it(rng):
    stack, x = make_stack(rng, memory_length=S), stream(rng)
    output, memories = stack(x, encode(S, S))
    assert_array_equal(memories[0], x)
    first = stack.blocks[0](x, *biases_of(stack, 0)[:2], encode(S, S))["content_attention"]
    assert_array_equal(memories[1], first)
    assert_array_equal(output, stack.blocks[1](first, *biases_of(stack, 1)[:2], encode(S, S))["content_attention"])


@pytest.mark.parametrize(
    ("memory_length", "reuse_length", "expected"),
    [
        (4, None, [3, 4, 5, 6]),
        (4, 0, [3, 4, 5, 6]),
        (4, 2, [1, 2, 3, 4]),
        (4, 4, [3, 4, 5, 6]),
        (4, 9, [3, 4, 5, 6]),
        (1, 1, [3]),
        (9, None, [1, 2, 3, 4, 5, 6]),
        (9, 1, [1, 2, 3]),
        (None, None, None),
        (0, 0, None),
        (0, 2, None),
    ],
)
def test_what_is_remembered_by_hand(rng, memory_length, reuse_length, expected):
    """The memory holds tokens 1 and 2, the segment 3 to 6."""
    numbers = np.arange(1.0, 7).reshape(1, -1, 1)
    found = ref.remember(numbers[:, :2], numbers[:, 2:], memory_length, reuse_length)
    assert (None if found is None else found.ravel().tolist()) == expected
    stack = make_stack(rng, memory_length=memory_length, reuse_length=reuse_length)
    wide = np.broadcast_to(numbers, (B, 6, HIDDEN))
    _, memories = stack(wide[:, 2:], encode(4, 6), state=[wide[:, :2]] * LAYERS)
    assert (None if memories[0] is None else np.asarray(memories[0])[0, :, 0].tolist()) == expected
    shape = None if expected is None else (B, len(expected), HIDDEN)
    assert [None if memory is None else tuple(memory.shape) for memory in memories] == [shape] * LAYERS


def test_nothing_in_the_state_is_no_state(rng):
    stack, x = make_stack(rng), stream(rng)
    expected, memories = stack(x, encode(S, S))
    assert memories == [None] * LAYERS
    for nothing in (None, [], [None] * LAYERS):
        assert_array_equal(stack(x, encode(S, S), state=nothing)[0], expected)


def test_no_gradient_flows_into_the_memory_and_one_flows_into_a_state_that_is_given(rng):
    stack = make_stack(rng, memory_length=S)
    first, second, given = (tf.constant(stream(rng)) for _ in range(3))
    with tf.GradientTape(persistent=True) as tape:
        tape.watch([first, second, given])
        _, memories = stack(first, encode(S, S))
        output, _ = stack(second, encode(S, S + S), state=memories)
        other, _ = stack(second, encode(S, S + S), state=[given] * LAYERS)
    assert tape.gradient(output, first) is None
    assert np.abs(tape.gradient(output, second)).min() > 0
    assert np.abs(tape.gradient(other, given)).min() > 0
    with tf.GradientTape() as tape:
        _, memories = stack(first, encode(S, S))
        loss = tf.reduce_sum(memories[1])
    assert all(gradient is None for gradient in tape.gradient(loss, [v.value for v in stack.trainable_variables]))


def test_without_memory_and_positions_the_block_is_the_encoder_block(rng):
    block, x, mask = make_block(rng), stream(rng), rng.random((B, S, S)) < 0.6
    encoder = TransformerEncoderBlock(H, F, "relu", key_dim=D, dtype="float64", bias_initializer="zeros")
    encoder([x, mask])
    ours = {v.path.split("/", 1)[1]: v for v in block.weights}
    for variable in encoder.weights:
        name = variable.path.split("/", 1)[1]
        variable.assign(ours[name] if name in ours else np.zeros(variable.shape))
    block.self_attention.encoding_dense.kernel.assign(np.zeros((HIDDEN, H, D)))
    found = block(x, None, None, np.ones((1, S + S, HIDDEN)), content_attention_mask=mask)["content_attention"]
    assert_allclose(found, encoder([x, mask]), rtol=1e-10)


def test_biases_are_tied_or_each_layers_own(rng):
    x, encoding = stream(rng), encode(S, S)
    tied, untied = make_stack(rng), make_stack(rng, tie_attention_biases=False)
    assert tied.content_attention_bias.shape == tied.positional_attention_bias.shape == (H, D)
    assert untied.content_attention_bias.shape == untied.positional_attention_bias.shape == (LAYERS, H, D)
    values = tied.get_weights()
    untied.set_weights([np.stack([w] * LAYERS) if w.shape == (H, D) else w for w in values])
    assert_array_equal(untied(x, encoding)[0], tied(x, encoding)[0])
    before = [np.asarray(untied(x, encoding)[0])]
    for bias in (untied.content_attention_bias, untied.positional_attention_bias):
        for i in range(LAYERS):
            bias.assign(np.asarray(bias) + np.eye(LAYERS)[i][:, None, None])
            before.append(np.asarray(untied(x, encoding)[0]))
            assert np.abs(before[-1] - before[-2]).max() > 1e-6


def test_the_bias_for_segments_is_a_weight_only_if_there_are_segments(rng):
    assert not any("segment" in v.path for v in make_stack(rng).weights)
    stack = make_stack(rng, segments=True)
    assert stack.segment_attention_bias.shape == (H, D)
    segments = {"segment_matrix": rng.random((B, S, S)) < 0.5, "segment_embedding": rng.normal(size=(LAYERS, 2, H, D))}
    x = stream(rng)
    found, _ = stack(x, encode(S, S), **segments)
    turned = segments | {"segment_embedding": segments["segment_embedding"][::-1]}
    assert np.abs(np.asarray(found) - stack(x, encode(S, S), **turned)[0]).max() > 1e-6
    with pytest.raises(ValueError, match=r"segment_matrix must be given in the first call too, .* built without it"):
        make_stack(rng)(x, encode(S, S), **segments)


def test_the_initializer_reaches_every_kernel_and_bias_of_attention():
    keras.utils.set_random_seed(1)  # the spread of 28 numbers varies from seed to seed
    stack = TransformerXL(**SIZES | RATES | {"num_layers": LAYERS, "initializer": keras.initializers.RandomNormal(stddev=7.0)})
    stack.build((B, S, HIDDEN), (1, S + S, HIDDEN))
    drawn = [v for v in stack.trainable_variables if "kernel" in v.path or "attention_bias" in v.path]
    assert len(drawn) == 2 + LAYERS * 7
    assert all(5 < np.std(variable) < 9 for variable in drawn)
    assert (np.asarray(stack.content_attention_bias) != np.asarray(stack.positional_attention_bias)).all()
    kernels = [np.asarray(block.self_attention.query_dense.kernel) for block in stack.blocks]
    assert (kernels[0] != kernels[1]).all()


def test_every_rate_reaches_its_sublayer(rng):
    rates = {"dropout_rate": 0.2, "attention_dropout_rate": 0.3, "inner_dropout": 0.4}
    for block in (make_block(rng, **rates), *make_stack(rng, **rates).blocks):
        assert block.self_attention.dropout_layer.rate == 0.3
        assert block.attention_dropout_layer.rate == block.output_dropout_layer.rate == 0.2
        assert block.inner_dropout_layer.rate == 0.4


def test_with_practically_everything_dropped_a_block_only_normalizes(rng):
    """Both sublayers lose what they add, though no attention weight is dropped."""
    block, x = make_block(rng, dropout_rate=1 - 1e-9), stream(rng)
    plain = block.output_norm(block.self_attention_norm(x))
    found = block(x, None, None, encode(S, S), training=True)["content_attention"]
    assert_allclose(found, plain, rtol=1e-12)
    assert np.abs(np.asarray(block(x, None, None, encode(S, S))["content_attention"]) - plain).max() > 0.1


def test_each_rate_alone_drops_only_while_training(rng):
    x = stream(rng)
    for name in ("dropout_rate", "attention_dropout_rate", "inner_dropout"):
        stack = make_stack(rng, **{name: 0.5})
        assert_array_equal(stack(x, encode(S, S))[0], stack(x, encode(S, S), training=False)[0])
        assert (np.asarray(stack(x, encode(S, S), training=True)[0]) != np.asarray(stack(x, encode(S, S))[0])).any()


def test_regularisers_reach_every_map_of_every_block(rng):
    stack = make_stack(rng, kernel_regularizer="l2")
    stack(stream(rng), encode(S, S))
    assert len(stack.losses) == 7 * LAYERS
    assert make_stack(rng, norm_epsilon=1e-3).blocks[1].output_norm.epsilon == 1e-3
    assert make_stack(rng).blocks[0].output_norm.epsilon == 1e-12


def test_predictions_depend_on_exactly_their_predecessors_through_all_layers(rng):
    stack = make_stack(rng, two_stream=True)
    order = np.array([3, 0, 4, 1, 2])
    masks = permutation_masks(order)
    x, g = tf.constant(stream(rng)), stream(rng)
    encoding = relative_position_encoding(S, S, HIDDEN)
    named = {"content_attention_mask": masks[0][None], "query_attention_mask": masks[1][None]}
    with tf.GradientTape() as tape:
        tape.watch(x)
        query, _ = stack(x, encoding, query_stream=g, **named)
    depends = np.abs(tape.jacobian(query, x)).max(axis=(2, 5))
    assert_array_equal(depends[[0, 1], :, [0, 1]] > 1e-12, np.repeat(masks[1][None], B, axis=0))
    assert not depends[[0, 1], :, [1, 0]].any()


def test_the_content_stream_of_two_is_the_only_one_of_one(rng):
    """It does not know of the query stream, in the same weights."""
    two, one = make_block(rng, two_stream=True), make_block(rng)
    one.set_weights(two.get_weights())
    x, (u, v) = stream(rng), rng.normal(size=(2, H, D))
    outputs = two(x, u, v, encode(S, S), query_stream=stream(rng))
    alone = one(x, u, v, encode(S, S))
    assert set(outputs) == {"content_attention", "query_attention"} and set(alone) == {"content_attention"}
    assert_array_equal(outputs["content_attention"], alone["content_attention"])
    same = two(x, u, v, encode(S, S), query_stream=x)
    assert_array_equal(same["query_attention"], same["content_attention"])


@pytest.mark.parametrize("dtype", POLICIES)
def test_a_query_that_may_attend_to_nothing_is_no_nan_and_keeps_its_residual(rng, dtype):
    block, x, mask = make_block(rng, dtype), stream(rng), np.ones((B, S, S), bool)
    mask[1, 2] = False
    found = block(x, None, None, encode(S, S), content_attention_mask=mask)["content_attention"]
    assert np.isfinite(keras.ops.cast(found, "float32")).all()
    silent = np.zeros_like(x[1:, 2:3])
    weights = weights_of(block, ref.XLBlockWeights)
    assert_allclose(
        keras.ops.cast(found[1:, 2:3], "float32"),
        ref.after_attention(x[1:, 2:3], silent, weights),
        atol=3 * TOLERANCE[block.compute_dtype],
    )


def test_the_size_of_the_vocabulary_changes_nothing(rng):
    assert [v.shape for v in make_stack(rng, vocab_size=3).weights] == [v.shape for v in make_stack(rng).weights]


@pytest.mark.parametrize("memory_length", [None, 4])
def test_open_lengths_are_found_out_when_the_model_runs(rng, memory_length):
    stack = make_stack(rng, "float32", memory_length=memory_length)
    x, r, memory = keras.Input((None, HIDDEN)), keras.Input((None, HIDDEN)), keras.Input((None, HIDDEN))
    output, memories = stack(x, r, state=[memory, memory])
    assert output.shape == (None, None, HIDDEN)
    assert [tuple(m.shape) for m in memories] == [(None, None, HIDDEN)] * (LAYERS if memory_length else 0)
    model = keras.Model([x, r, memory], [output, *memories])
    given = [stream(rng).astype("float32"), encode(S, S + T).astype("float32"), stream(rng, T).astype("float32")]
    found = keras.tree.flatten(model(given))
    output, memories = stack(given[0], given[1], state=[given[2]] * LAYERS)
    expected = [output, *(memory for memory in memories if memory is not None)]
    for tensor, same in zip(found, expected, strict=True):
        assert_array_equal(tensor, same)


@pytest.mark.parametrize(
    ("message", "options"),
    [
        (r"vocab_size must be an integer of at least 1. Received: vocab_size=0", {"vocab_size": 0}),
        (r"num_layers must be an integer of at least 1. Received: num_layers=0", {"num_layers": 0}),
        (r"inner_size must be .* inner_size=0", {"inner_size": 0}),
        (r"head_size must be .* head_size=-1", {"head_size": -1}),
        (r"memory_length must be an integer of at least 0. Received: memory_length=-1", {"memory_length": -1}),
        (r"reuse_length must be an integer of at least 0. Received: reuse_length=-2", {"reuse_length": -2, "memory_length": 4}),
        (r"reuse_length needs memory_length", {"reuse_length": 2}),
        (r"dropout_rate must be at least 0 and below 1. Received: dropout_rate=1.0", {"dropout_rate": 1.0}),
        (r"attention_dropout_rate must be .* attention_dropout_rate=-0.1", {"attention_dropout_rate": -0.1}),
        (r"inner_activation must be .*Received: inner_activation='rleu'", {"inner_activation": "rleu"}),
    ],
)
def test_arguments_that_make_no_sense_are_rejected_by_name(message, options):
    with pytest.raises(ValueError, match=message):
        TransformerXL(**SIZES | RATES | {"num_layers": LAYERS, "initializer": "zeros"} | options)


def ones(*shape):
    return np.ones(shape)


@pytest.mark.parametrize(
    ("message", "two_stream", "change"),
    [
        (r"query_stream must be a tensor with two_stream=True", True, {}),
        (r"query_stream needs two_stream=True", False, {"query_stream": ones(B, S, HIDDEN)}),
        (r"query_attention_mask needs two_stream=True", False, {"query_attention_mask": ones(B, S, S)}),
        (r"target_mapping needs two_stream=True", False, {"target_mapping": ones(B, 2, S)}),
        (r"state must be a list of num_layers=2 memories. Received: a list of 3", False, {"state": [ones(B, 2, HIDDEN)] * 3}),
        (r"relative_position_encoding must have a row .* Received: 10 rows", False, {"state": [ones(B, 2, HIDDEN)] * 2}),
        (r"segment_matrix needs segment_embedding", False, {"segment_matrix": ones(B, S, S)}),
        (r"segment_embedding needs segment_matrix", False, {"segment_embedding": ones(LAYERS, 2, H, D)}),
        (
            r"segment_embedding must have the shape \(2, 2, 4, 7\). Received: \(2, 4, 7\)",
            False,
            {"segment_embedding": ones(2, H, D), "segment_matrix": ones(B, S, S)},
        ),
    ],
)
def test_what_does_not_fit_is_rejected_by_name(rng, message, two_stream, change):
    stack = make_stack(rng, two_stream=two_stream, segments=True)
    given = {"content_stream": ones(B, S, HIDDEN), "relative_position_encoding": ones(1, S + S, HIDDEN)}
    with pytest.raises(ValueError, match=message):
        stack(**given | change)


@pytest.mark.parametrize("make", [TransformerXLBlock, TransformerXL])
def test_the_content_stream_has_three_axes_and_the_hidden_size(make):
    options = SIZES | RATES | ({"num_layers": LAYERS, "initializer": "zeros"} if make is TransformerXL else {})
    for shape, message in (((B, S, 30), r"content_stream with 30, hidden_size with 28"), ((S, HIDDEN), r"must have 3 axes")):
        with pytest.raises(ValueError, match=message):
            make(**options).build(shape, (1, S + S, HIDDEN))


@pytest.mark.parametrize("targets", [S, 2])
def test_the_query_stream_has_no_mask_of_the_content_stream(rng, targets):
    """Its positions are others, as many or not."""
    ids, mapping, queries = keras.Input((S,), dtype="int32"), keras.Input((targets, S)), keras.Input((targets, HIDDEN))
    content = keras.layers.Embedding(9, HIDDEN, mask_zero=True)(ids)
    given = SIZES | RATES | {"num_layers": 1, "initializer": "glorot_uniform", "two_stream": True}
    output, _ = TransformerXL(**given)(content, encode(S, S), query_stream=queries, target_mapping=mapping)
    model = keras.Model([ids, mapping, queries], [output, keras.layers.GlobalAveragePooling1D()(output)])
    some = np.eye(S)[None, :targets].repeat(B, 0), rng.normal(size=(B, targets, HIDDEN))
    found, mean = model([rng.integers(0, 3, (B, S)), *(x.astype("float32") for x in some)])
    assert_allclose(mean, np.mean(found, axis=1), rtol=1e-5, atol=1e-6)


def test_a_memory_of_another_width_or_batch_is_refused_by_its_place(rng):
    stack, x = make_stack(rng, memory_length=3), stream(rng)
    for shape in ((B, 2, HIDDEN + 1), (B + 1, 2, HIDDEN), (B, HIDDEN)):
        with pytest.raises(ValueError, match=rf"state\[1\] must have the shape \({B}, None, {HIDDEN}\). Received: "):
            stack(x, encode(S, S + 2), state=[np.ones((B, 2, HIDDEN)), np.ones(shape)])
