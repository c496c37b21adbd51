"""The block's definition, worked numbers, limits; where each argument ends up. Layer against reference: tests/conformance."""

import keras
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from crosscheck.case import B, D, E, H, M, S, T
from crosscheck.weights import draw_weights, weights_of
from layers.attention import MultiHeadAttention
from layers.grouped_query_attention import GroupedQueryAttention
from layers.transformer_encoder import Transformer, TransformerEncoderBlock
from reference import transformer_encoder as ref
from reference.attention import AttentionWeights, multi_head_attention
from reference.common.normalization import LayerNorm, layer_norm
from reference.common.projection import Projection
from reference.grouped_query_attention import grouped_query_attention

F = 9
POLICIES = ("float64", "float32", "mixed_bfloat16", "mixed_float16", "float16", "bfloat16")


def block_and_input(rng, kind=TransformerEncoderBlock, **options):
    sizes = {"key_dim": D, "value_dim": E, "dtype": "float64"}
    block = kind(H, F, "relu", **(sizes | options))
    x = rng.normal(size=(B, T, M))
    block(x)
    draw_weights(block, rng)
    return block, x


def weights(rng, m=M, f=F):
    attention = [Projection(rng.normal(size=(m, H, size)) / 3, rng.normal(size=(H, size))) for size in (D, D, E)]
    attention.append(Projection(rng.normal(size=(H, E, m)) / 5, rng.normal(size=m)))
    norms = [LayerNorm(*rng.normal(size=(2, m))) for _ in range(2)]
    maps = Projection(rng.normal(size=(m, f)), rng.normal(size=f)), Projection(rng.normal(size=(f, m)), rng.normal(size=m))
    return ref.EncoderWeights(AttentionWeights(*attention), norms[0], *maps, norms[1])


def zeros_like(weights):
    return Projection(np.zeros_like(weights.kernel), np.zeros_like(weights.bias))


def test_the_block_is_encode_one_at_every_position(rng):
    x, w = rng.normal(size=(B, T, M)), weights(rng)
    output, _ = ref.transformer_encoder_block(x, w)
    for b, t in np.ndindex(B, T):
        assert_allclose(output[b, t], ref.encode_one(x[b], t, w), rtol=1e-10)


def test_worked_feed_forward():
    """max(0, (1, −1) · 2 + 1) = (3, 0); times (4, 5) plus 6 is 18."""
    inner, outer = (
        Projection(np.array([[2.0, -2.0]]), np.array([1.0, 1.0])),
        Projection(np.array([[4.0], [5.0]]), np.array([6.0])),
    )
    assert ref.feed_forward(np.array([1.0]), inner, outer).tolist() == [18.0]


def test_worked_post_norm_block():
    """Alone and with all maps zero, a token (3, 1) is only normalized, twice: (1, −1)."""
    w = weights(np.random.default_rng(0), m=2)
    silent = AttentionWeights(*(zeros_like(projection) for projection in w.self_attention))
    plain = LayerNorm(np.ones(2), np.zeros(2))
    w = ref.EncoderWeights(silent, plain, zeros_like(w.intermediate), zeros_like(w.output), plain)
    assert_allclose(ref.transformer_encoder_block(np.array([[[3.0, 1.0]]]), w)[0], [[[1, -1]]])


def test_without_sublayers_a_pre_norm_block_is_the_identity_and_a_post_norm_block_is_two_norms(rng):
    x, w = rng.normal(size=(B, T, M)), weights(rng)
    silent = w.self_attention._replace(attention_output=zeros_like(w.self_attention.attention_output))
    w = w._replace(self_attention=silent, output=zeros_like(w.output))
    assert_array_equal(ref.transformer_encoder_block(x, w, norm_first=True)[0], x)
    twice = layer_norm(layer_norm(x, w.self_attention_layer_norm), w.output_layer_norm)
    assert_allclose(ref.transformer_encoder_block(x, w)[0], twice, rtol=1e-12)


def test_without_its_feed_forward_and_residual_a_pre_norm_block_is_attention(rng):
    x, w = rng.normal(size=(B, T, M)), weights(rng)
    w = w._replace(output=zeros_like(w.output))
    output, scores = ref.transformer_encoder_block(x, w, norm_first=True, use_query_residual=False)
    normed = layer_norm(x, w.self_attention_layer_norm)
    for found, expected in zip((output, scores), multi_head_attention(normed, normed, w.self_attention)):
        assert_allclose(found, expected, rtol=1e-12)


@pytest.mark.parametrize("norm_first", [False, True])
def test_padding_at_the_end_changes_nothing_before_it(rng, norm_first):
    block, x = block_and_input(rng, norm_first=norm_first)
    padded = np.concatenate([x, rng.normal(size=(B, 2, M))], axis=1)
    mask = np.broadcast_to(np.arange(T + 2) < T, (B, T + 2, T + 2))
    assert_allclose(block([padded, mask])[:, :T], block(x), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("norm_first", [False, True])
@pytest.mark.parametrize("count", [1, 2])
def test_an_output_range_is_the_whole_output_cut_off(rng, norm_first, count):
    block, x = block_and_input(rng, norm_first=norm_first, return_attention_scores=True)
    for mask in (rng.random((B, T, T)) < 0.6, rng.random((B, H, T, T)) < 0.6, np.ones((B, 1, T), bool)):
        output, scores = block([x, mask])
        for_few, scores_for_few = block([x, mask], output_range=count)
        assert_allclose(for_few, output[:, :count], rtol=1e-12)
        assert_allclose(scores_for_few, scores[:, :, :count], rtol=1e-12)


def test_the_output_range_of_the_call_overrides_the_constructors(rng):
    block, x = block_and_input(rng, output_range=1)
    assert block(x).shape == (B, 1, M) and block(x, output_range=2).shape == (B, 2, M)


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_grouped_heads_are_key_and_value_heads_repeated_by_hand(rng, groups):
    grouped, x = block_and_input(rng, num_kv_heads=groups)
    full, _ = block_and_input(rng)
    for source, target in zip(grouped.weights, full.weights):
        copied = np.asarray(source)
        if any(f"/{name}/" in source.path for name in ("key", "value")):
            copied = np.repeat(copied, H // groups, axis=-2)
        target.assign(copied)
    mask = rng.random((B, H, T, T)) < 0.6
    assert_allclose(grouped([x, mask]), full([x, mask]), rtol=1e-12)


def test_with_a_key_head_for_each_query_head_grouped_attention_is_multi_head_attention(rng):
    x, w = rng.normal(size=(B, T, M)), weights(rng).self_attention
    for found, expected in zip(grouped_query_attention(x, x, w), multi_head_attention(x, x, w)):
        assert_array_equal(found, expected)


def test_keys_get_a_norm_of_their_own_where_asked(rng):
    block, x = block_and_input(rng, norm_first=True, diff_q_kv_att_layer_norm=True)
    shared, _ = block_and_input(rng, norm_first=True)
    own = weights_of(block, ref.EncoderWeights)
    assert (own.self_attention_layer_norm_kv.gamma != own.self_attention_layer_norm.gamma).all()
    shared.set_weights([w for v, w in zip(block.weights, block.get_weights()) if "_kv" not in v.path])
    assert (np.abs(block(x) - shared(x)) > 1e-6).any()
    block.key_value_norm.set_weights(block.self_attention_norm.get_weights())
    assert_allclose(block(x), shared(x), rtol=1e-12)


def test_keys_and_values_come_from_key_value(rng):
    block, x = block_and_input(rng)
    everything = np.ones((B, T, T), bool)
    assert_array_equal(block([x, x, everything]), block(x))
    assert (np.abs(block([x, x[:, ::-1] + 1, everything]) - block(x)) > 1e-6).any()


@pytest.mark.parametrize("options", [{}, {"norm_first": True, "diff_q_kv_att_layer_norm": True}])
def test_key_value_may_have_another_width_where_no_norm_is_for_both(rng, options):
    block, x = TransformerEncoderBlock(H, F, "relu", key_dim=D, dtype="float64", **options), rng.normal(size=(B, T, M))
    key_value = rng.normal(size=(B, S, M + 1))
    output = block([x, key_value, None])
    expected, _ = ref.transformer_encoder_block(
        x, weights_of(block, ref.EncoderWeights), norm_first=bool(options), key_value=key_value
    )
    assert_allclose(output, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("dtype", POLICIES)
@pytest.mark.parametrize("norm_first", [False, True])
def test_masked_keys_have_no_influence_and_an_empty_row_is_no_nan(rng, dtype, norm_first):
    block, x = block_and_input(rng, dtype=dtype, norm_first=norm_first)
    mask = np.broadcast_to(np.array([True, False, True]), (B, T, T)).copy()
    mask[1, 2] = False
    before = keras.ops.cast(block([x, mask]), "float32")
    x[:, 1] = 7.0
    after = keras.ops.cast(block([x, mask]), "float32")
    assert_array_equal(np.asarray(after)[:, [0, 2]], np.asarray(before)[:, [0, 2]])
    assert np.isfinite(after).all()


@pytest.mark.parametrize("rate", ["output_dropout", "attention_dropout", "inner_dropout"])
def test_each_dropout_acts_only_while_training(rng, rate):
    block, x = block_and_input(rng, **{rate: 0.5})
    assert_array_equal(block(x), block(x, training=False))
    assert (np.abs(block(x, training=True) - block(x)) > 1e-6).any()


def test_each_dropout_reaches_its_own_sublayer():
    block = TransformerEncoderBlock(H, F, "relu", output_dropout=0.1, attention_dropout=0.2, inner_dropout=0.3)
    block.build((B, T, 8))
    assert block.self_attention.dropout == block.self_attention.dropout_layer.rate == 0.2
    assert block.attention_dropout_layer.rate == block.output_dropout_layer.rate == 0.1
    assert block.inner_dropout_layer.rate == 0.3


@pytest.mark.parametrize("behind", ["attention", "feed_forward"])
def test_the_output_dropout_is_applied_behind_each_sublayer(rng, behind):
    """With the other sublayer silent, dropout at 0.9 leaves most of the residual stream as it was."""
    block, x = block_and_input(rng, norm_first=True, output_dropout=0.9)
    silent = block.output_dense if behind == "attention" else block.self_attention.output_dense
    silent.set_weights([np.zeros_like(w) for w in silent.get_weights()])
    unchanged = np.mean(np.abs(block(np.tile(x, (40, 1, 1)), training=True) - np.tile(x, (40, 1, 1))) < 1e-12)
    assert 0.85 < unchanged < 0.95


def test_regularisers_and_constraints_reach_every_map(rng):
    block, x = block_and_input(rng, kernel_regularizer="l2", bias_regularizer="l1", activity_regularizer="l2")
    block(x)
    assert len(block.losses) == 6 * 3
    block, _ = block_and_input(rng, kernel_constraint="non_neg", bias_constraint="max_norm")
    maps = [v for v in block.trainable_variables if "layer_norm" not in v.path]
    assert len(maps) == 12 and all(variable.constraint is not None for variable in maps)


def test_initializers_reach_their_maps_and_each_draws_for_itself(rng):
    block = TransformerEncoderBlock(
        H, 12, "relu", kernel_initializer=keras.initializers.RandomNormal(), attention_initializer="ones", bias_initializer="ones"
    )
    block.build((B, T, 12))
    kernels = {v.path.split("/", 1)[1]: np.asarray(v) for v in block.weights}
    assert all((kernels[f"self_attention/{name}/kernel"] == 1).all() for name in ("query", "key", "value", "attention_output"))
    assert all((value == 1).all() for name, value in kernels.items() if name.endswith("bias"))
    assert np.ptp(kernels["intermediate/kernel"]) > 0 and (kernels["intermediate/kernel"] != kernels["output/kernel"]).any()


def test_without_biases_there_are_none(rng):
    block, _ = block_and_input(rng, use_bias=False)
    assert not [v.path for v in block.weights if v.path.endswith("bias")]


def test_parameters_by_formula(rng):
    block, _ = block_and_input(rng)
    attention = 2 * H * D * (M + 1) + H * E * (M + 1) + (H * E + 1) * M
    assert block.count_params() == attention + (M + 1) * F + (F + 1) * M + 2 * 2 * M


def test_a_block_of_berts_size_has_berts_parameters():
    block = TransformerEncoderBlock(num_attention_heads=12, inner_dim=3072, inner_activation="gelu")
    block.build((None, None, 768))
    assert block.count_params() == 7_087_872


@pytest.mark.parametrize("epsilon", [-1e-12, float("nan"), float("inf"), None, "0", True])
def test_an_epsilon_that_is_none_is_rejected_where_the_norms_are_made(rng, epsilon):
    with pytest.raises(
        ValueError, match=f"norm_epsilon must be a finite number of at least 0. Received: norm_epsilon={epsilon!r}"
    ):
        block_and_input(rng, norm_epsilon=epsilon)


def test_the_norms_epsilon_is_used(rng):
    block, x = block_and_input(rng, norm_epsilon=10.0)
    expected, _ = ref.transformer_encoder_block(x, weights_of(block, ref.EncoderWeights), epsilon=10.0)
    assert_allclose(block(x), expected, rtol=1e-12)


def test_transformer_is_the_encoder_block_under_other_names(rng):
    names = {"dropout_rate": 0.1, "attention_dropout_rate": 0.2, "intermediate_dropout": 0.3}
    old = Transformer(H, F, "relu", **names, key_dim=D, value_dim=E, dtype="float64")
    assert (old.output_dropout, old.attention_dropout, old.inner_dropout, old.inner_dim) == (0.1, 0.2, 0.3, F)
    block, x = block_and_input(rng)
    old(x)
    old.set_weights(block.get_weights())
    assert_array_equal(old(x), block(x))
    copy = Transformer.from_config(old.get_config())
    assert copy.get_config() == old.get_config() and copy.intermediate_dropout == 0.3
    assert not {"inner_dim", "output_dropout"} & set(old.get_config())


def test_parts_are_our_own_attention():
    plain, grouped = (TransformerEncoderBlock(H, F, "relu", num_kv_heads=n) for n in (None, 2))
    for block, kind in ((plain, MultiHeadAttention), (grouped, GroupedQueryAttention)):
        block.build((B, T, 8))
        assert type(block.self_attention) is kind


@pytest.mark.parametrize(
    ("message", "options"),
    [
        (r"num_attention_heads must be an integer of at least 1. Received: num_attention_heads=0", {"num_attention_heads": 0}),
        (r"inner_dim must be an integer of at least 1. Received: inner_dim=-1", {"inner_dim": -1}),
        (r"inner_activation must be .* Received: inner_activation='rellu'", {"inner_activation": "rellu"}),
        (r"output_range must be an integer of at least 1. Received: output_range=0", {"output_range": 0}),
        (r"key_dim must be an integer of at least 1. Received: key_dim=0", {"key_dim": 0}),
        (r"inner_dropout must be at least 0 and below 1. Received: inner_dropout=1", {"inner_dropout": 1}),
        (r"num_kv_heads must be an integer of at least 1. Received: num_kv_heads=0", {"num_kv_heads": 0}),
        (r"diff_q_kv_att_layer_norm needs norm_first=True", {"diff_q_kv_att_layer_norm": True}),
    ],
)
def test_arguments_that_make_no_sense_are_rejected_by_name(message, options):
    with pytest.raises(ValueError, match=message):
        TransformerEncoderBlock(**{"num_attention_heads": H, "inner_dim": F, "inner_activation": "relu"} | options)


@pytest.mark.parametrize("name", ["intermediate_size", "dropout_rate", "attention_dropout_rate", "intermediate_dropout"])
def test_transformers_errors_speak_of_its_own_arguments(name):
    with pytest.raises(ValueError, match=f"{name} must be .* Received: {name}=-1"):
        Transformer(**{"num_attention_heads": H, "intermediate_size": F, "intermediate_activation": "relu"} | {name: -1})
    with pytest.raises(ValueError, match="intermediate_activation must be"):
        Transformer(H, F, "rellu")


@pytest.mark.parametrize(
    ("message", "options", "inputs", "call"),
    [
        (r"divisible by num_attention_heads.* Received: a last axis of size 3, num_attention_heads=4", {}, (2, 3, 3), {}),
        (r"inputs must be a tensor or \[x, attention_mask\] or .* Received: a list of 4", {}, [(2, 3, 8)] * 4, {}),
        (r"query must have 3 axes .* \(3, 8\)", {}, (3, 8), {}),
        (r"attention_mask must have a shape .* \(2, 4, 3, 3\). Received: \(2, 1, 3, 5\)", {}, [(2, 3, 8), (2, 3, 5)], {}),
        (r"num_kv_heads must divide num_heads=4. Received: num_kv_heads=3", {"num_kv_heads": 3}, (2, 3, 8), {}),
        (r"attention_mask must have a shape .* Received: \(3,\)", {}, [(2, 3, 8), (3,)], {"output_range": 1}),
        (
            "x and key_value must have the same last axis if they share a norm. Received: x with 8, key_value with 6",
            {"norm_first": True},
            [(2, 3, 8), (2, 5, 6), (2, 3, 5)],
            {},
        ),
        (r"output_range must be at most the length, 3. Received: output_range=4", {}, (2, 3, 8), {"output_range": 4}),
        (r"output_range must be an integer of at least 1. Received: output_range=0", {}, (2, 3, 8), {"output_range": 0}),
        (
            r"output_range needs inputs with 3 axes. Received: inputs of shape \(2, 3, 5, 8\)",
            {},
            (2, 3, 5, 8),
            {"output_range": 1},
        ),
        (
            r"output_last_dim must be 8, unless use_query_residual=False. Received: output_last_dim=9",
            {"output_last_dim": 9},
            (2, 3, 8),
            {},
        ),
    ],
)
def test_inputs_that_do_not_fit_are_rejected_by_name(message, options, inputs, call):
    inputs = [np.ones(shape) for shape in inputs] if isinstance(inputs, list) else np.ones(inputs)
    with pytest.raises(ValueError, match=message):
        TransformerEncoderBlock(H, F, "relu", **options)(inputs, **call)
