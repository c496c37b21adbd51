"""The definition, worked numbers, the start, limits, where each argument ends up. Layer and reference: tests/conformance."""

import keras
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from crosscheck.agreement import gradient_errors
from crosscheck.backends import differentiate
from crosscheck.case import GRADIENT_TOLERANCE, B, H, T
from crosscheck.catalogue import find_cases
from crosscheck.weights import draw_weights, weights_of
from layers.rezero_transformer import ReZeroTransformer
from layers.transformer_encoder import TransformerEncoderBlock
from reference import rezero_transformer as ref
from reference.common.activations import gelu, relu
from reference.common.normalization import LayerNorm, layer_norm
from reference.transformer_encoder import EncoderWeights, transformer_encoder_block

M, F = 8, 9
POLICIES = ("float64", "float32", "mixed_bfloat16", "mixed_float16", "float16", "bfloat16")


def block_and_input(rng, dtype="float64", start=False, **options):
    """A block with drawn weights, those called alpha too unless it is to be as it starts, and an input."""
    block, x = ReZeroTransformer(H, F, "relu", dtype=dtype, **options), rng.normal(size=(B, T, M))
    block(x)
    draw_weights(block, rng)
    if start:
        block.reset_rezero()
    return block, x


def with_alpha(weights, alpha, alpha_ffn=None):
    own = None if alpha_ffn is None else np.array(alpha_ffn)
    return weights._replace(rezero_alpha=np.array(alpha), rezero_alpha_ffn=own)


def gradients(block, x, rng):
    cotangents = {"output": rng.normal(size=x.shape)}
    call = differentiate(lambda layer, x: layer(x), block, {"x": keras.ops.convert_to_tensor(x)}, cotangents)
    return {path.split("/", 1)[1]: np.asarray(slope) for path, slope in call[1].items()}, np.asarray(call[2]["x"]), cotangents


def test_the_block_is_rezero_one_at_every_position(rng):
    block, x = block_and_input(rng, share_rezero=False)
    weights = weights_of(block, ref.ReZeroWeights)
    output = ref.rezero_transformer(x, weights).output
    for b, t in np.ndindex(B, T):
        assert_allclose(output[b, t], ref.rezero_one(x[b], t, weights), rtol=1e-12, atol=1e-14)


def test_worked_example():
    """α = 1/4 of F(x) = 8 x, added to x: three times x. Two such blocks: nine times."""
    once = ref.rezero(np.array([1.0, -2.0]), 0.25, lambda x: 8 * x)
    assert_array_equal(once, [3, -6])
    assert_array_equal(ref.rezero(once, 0.25, lambda x: 8 * x), [9, -18])


@pytest.mark.parametrize("dtype", POLICIES)
@pytest.mark.parametrize("share_rezero", [True, False])
def test_a_new_block_is_the_identity_to_the_last_bit(rng, dtype, share_rezero):
    block, x = block_and_input(rng, dtype, start=True, share_rezero=share_rezero)
    x = keras.ops.cast(x, block.compute_dtype)
    assert_array_equal(keras.ops.cast(block(x), "float32"), keras.ops.cast(x, "float32"))
    assert keras.backend.standardize_dtype(block(x).dtype) == block.compute_dtype


def test_alphas_start_at_zero():
    block = ReZeroTransformer(H, F, share_rezero=False, kernel_initializer="ones", bias_initializer="ones")
    block.build((B, T, M))
    assert [float(alpha) for alpha in block.alphas] == [0, 0]


def test_at_the_start_all_singular_values_of_the_jacobian_are_one(rng):
    """Of the layer by its gradient, of the reference by differences."""
    block, x = block_and_input(rng, start=True)
    _, slope, cotangents = gradients(block, x, rng)
    assert_array_equal(slope, cotangents["output"])
    weights, flat = weights_of(block, ref.ReZeroWeights), x[:1].ravel()
    ends = [ref.rezero_transformer((flat + step).reshape(1, T, M), weights).output.ravel() for step in np.eye(T * M)]
    jacobian = np.stack(ends, axis=1) - flat[:, None]
    assert_allclose(np.linalg.svd(jacobian, compute_uv=False), 1, rtol=1e-12)


@pytest.mark.parametrize("share_rezero", [True, False])
def test_at_the_start_only_alpha_has_a_gradient(rng, share_rezero):
    block, x = block_and_input(rng, start=True, share_rezero=share_rezero)
    slopes, _, _ = gradients(block, x, rng)
    moving = {path for path, slope in slopes.items() if np.any(slope)}
    assert moving == ({"rezero_alpha"} if share_rezero else {"rezero_alpha", "rezero_alpha_ffn"})
    assert len(slopes) == 12 + len(moving)


def test_the_gradient_at_the_start_is_the_slope_of_the_reference():
    errors = gradient_errors(find_cases(["rezero_transformer/at-the-start"])[0])
    assert max(errors.values()) < GRADIENT_TOLERANCE and any("rezero_alpha" in path for path in errors)


def test_after_one_step_every_weight_has_a_gradient(rng):
    block, x = block_and_input(rng)
    slopes, _, _ = gradients(block, x, rng)
    silent = {path for path, slope in slopes.items() if np.abs(slope).max() < 1e-12}
    assert silent == {"self_attention/key/bias"}  # which shifts all scores of a query alike


def test_with_alpha_one_it_is_the_plain_residual_block(rng):
    block, x = block_and_input(rng)
    weights = with_alpha(weights_of(block, ref.ReZeroWeights), 1.0)
    output, between, _ = ref.rezero_transformer(x, weights, relu)
    silent = weights.output._replace(kernel=0 * weights.output.kernel, bias=0 * weights.output.bias)
    attended = ref.rezero_transformer(x, weights._replace(output=silent)).output
    assert_array_equal(between, attended)
    block.rezero_alpha.assign(1.0)
    assert_allclose(block(x), output, rtol=1e-12, atol=1e-14)


def test_with_norms_and_alpha_one_it_is_the_post_norm_block(rng):
    block, x = block_and_input(rng, use_layer_norm=True)
    weights = with_alpha(weights_of(block, ref.ReZeroWeights), 1.0)
    encoder = EncoderWeights(
        weights.self_attention,
        weights.self_attention_layer_norm,
        weights.intermediate,
        weights.output,
        weights.output_layer_norm,
    )
    assert_allclose(
        ref.rezero_transformer(x, weights).output, transformer_encoder_block(x, encoder, gelu)[0], rtol=1e-10, atol=1e-12
    )


def test_a_new_block_with_norms_is_two_norms(rng):
    block, x = block_and_input(rng, start=True, use_layer_norm=True)
    plain = LayerNorm(np.ones(M), np.zeros(M))
    for norm in (block.self_attention_norm, block.output_norm):
        norm.set_weights(plain)
    assert_allclose(block(x), layer_norm(layer_norm(x, plain), plain), rtol=1e-12, atol=1e-14)


def test_each_alpha_belongs_to_its_sublayer(rng):
    block, x = block_and_input(rng, share_rezero=False)
    weights = weights_of(block, ref.ReZeroWeights)
    for alpha, alpha_ffn in ((0.5, 0.0), (0.0, 0.5)):
        for variable, value in zip(block.alphas, (alpha, alpha_ffn)):
            variable.assign(value)
        _, between, _ = ref.rezero_transformer(x, with_alpha(weights, 0.5))
        output = np.asarray(block(x))
        assert (np.abs(output - x) > 1e-6).any()
        if alpha:
            assert_allclose(output, between, rtol=1e-12, atol=1e-14)
        else:
            expected = ref.rezero_transformer(x, with_alpha(weights, 0.0, 0.5), relu)
            assert_allclose(output, expected.output, rtol=1e-12, atol=1e-14)


def test_shared_alpha_is_one_weight_and_own_alphas_are_two(rng):
    shared, _ = block_and_input(rng)
    own, _ = block_and_input(rng, share_rezero=False)
    assert own.count_params() == shared.count_params() + 1
    encoder = TransformerEncoderBlock(H, F, "relu")
    encoder.build((B, T, M))
    assert shared.count_params() == encoder.count_params() - 4 * M + 1  # one number in place of two norms


@pytest.mark.parametrize("share_rezero", [True, False])
def test_reset_makes_it_the_identity_again(rng, share_rezero):
    block, x = block_and_input(rng, share_rezero=share_rezero)
    assert (np.abs(block(x) - x) > 1e-6).any()
    block.reset_rezero()
    assert_array_equal(block(x), x)


def test_a_reset_needs_a_built_block():
    with pytest.raises(
        ValueError, match="the block must be built before reset_rezero: call or build it first. Received: built=False"
    ):
        ReZeroTransformer(H, F).reset_rezero()


def test_alpha_can_be_spared_weight_decay_as_the_docstring_says(rng):
    for spared in (False, True):
        block, _ = block_and_input(rng, share_rezero=False)
        before, optimizer = [float(alpha) for alpha in block.alphas], keras.optimizers.AdamW(0.1, weight_decay=0.5)
        if spared:
            optimizer.exclude_from_weight_decay(var_names=["rezero_alpha"])
        optimizer.build(block.trainable_variables)
        optimizer.apply([keras.ops.zeros_like(v) for v in block.trainable_variables])
        assert ([float(alpha) for alpha in block.alphas] == before) == spared


def test_masks_may_be_none_and_keys_may_come_from_elsewhere(rng):
    block, x = block_and_input(rng)
    y, count = rng.normal(size=(B, 5, M)), 2
    mask = rng.random((B, T, 5)) < 0.6
    assert_array_equal(block([x, None]), block(x))
    assert_array_equal(block([x, None, None]), block(x))
    assert_array_equal(block([x, y, None]), block([x, y, np.ones((B, T, 5))]))
    assert_allclose(block([x, y, mask], output_range=count), block([x, y, mask])[:, :count], rtol=1e-12)


@pytest.mark.parametrize("count", [1, 2])
def test_an_output_range_is_the_whole_output_cut_off(rng, count):
    block, x = block_and_input(rng)
    for mask in (rng.random((B, T, T)) < 0.6, rng.random((B, H, T, T)) < 0.6, np.ones((B, 1, T), bool)):
        assert_allclose(block([x, mask], output_range=count), block([x, mask])[:, :count], rtol=1e-12)
    set_when_made, _ = block_and_input(rng, output_range=1)
    assert set_when_made(x).shape == (B, 1, M) and set_when_made(x, output_range=2).shape == (B, 2, M)


@pytest.mark.parametrize("dtype", POLICIES)
def test_masked_keys_have_no_influence_and_an_empty_row_is_no_nan(rng, dtype):
    block, x = block_and_input(rng, dtype)
    mask = np.broadcast_to(np.array([True, False, True]), (B, T, T)).copy()
    mask[1, 2] = False
    before = np.asarray(keras.ops.cast(block([x, mask]), "float32"))
    x[:, 1] = 7.0
    after = np.asarray(keras.ops.cast(block([x, mask]), "float32"))
    assert_array_equal(after[:, [0, 2]], before[:, [0, 2]])
    assert np.isfinite(after).all()


@pytest.mark.parametrize("rate", ["dropout_rate", "attention_dropout_rate"])
def test_each_dropout_acts_only_while_training(rng, rate):
    block, x = block_and_input(rng, **{rate: 0.5})
    assert_array_equal(block(x), block(x, training=False))
    assert (np.abs(block(x, training=True) - block(x)) > 1e-6).any()


def test_each_dropout_reaches_its_own_sublayer():
    block = ReZeroTransformer(H, F, dropout_rate=0.1, attention_dropout_rate=0.2)
    block.build((B, T, M))
    assert block.self_attention.dropout_layer.rate == 0.2
    assert block.attention_dropout_layer.rate == block.output_dropout_layer.rate == 0.1


@pytest.mark.parametrize("silenced", ["attention", "feed_forward"])
def test_what_either_sublayer_adds_is_dropped(rng, silenced):
    """With the other sublayer silent, dropout at 0.9 leaves most of the stream as it was."""
    block, x = block_and_input(rng, dropout_rate=0.9)
    silent = block.self_attention.output_dense if silenced == "attention" else block.output_dense
    silent.set_weights([np.zeros_like(w) for w in silent.get_weights()])
    x = np.tile(x, (40, 1, 1))
    assert 0.85 < np.mean(np.abs(block(x, training=True) - x) < 1e-12) < 0.95


def test_regularisers_and_constraints_reach_every_map_and_never_alpha(rng):
    block, x = block_and_input(rng, kernel_regularizer="l2", bias_regularizer="l1", activity_regularizer="l2")
    block(x)
    assert len(block.losses) == 6 * 3
    block, _ = block_and_input(rng, kernel_constraint="non_neg", bias_constraint="max_norm")
    free = {v.path.split("/", 1)[1] for v in block.trainable_variables if v.constraint is None}
    assert free == {"rezero_alpha"}
    assert block.rezero_alpha.regularizer is None


@pytest.mark.parametrize(
    ("message", "options"),
    [
        (r"num_attention_heads must be an integer of at least 1. Received: num_attention_heads=0", {"num_attention_heads": 0}),
        (r"inner_dim must be an integer of at least 1. Received: inner_dim=0", {"inner_dim": 0}),
        (r"inner_activation must be .* Received: inner_activation='rellu'", {"inner_activation": "rellu"}),
        (r"output_range must be an integer of at least 1. Received: output_range=0", {"output_range": 0}),
        (r"dropout_rate must be at least 0 and below 1. Received: dropout_rate=1", {"dropout_rate": 1}),
        (r"attention_dropout_rate must be .* Received: attention_dropout_rate=-1", {"attention_dropout_rate": -1}),
    ],
)
def test_arguments_that_make_no_sense_are_rejected_by_name(message, options):
    with pytest.raises(ValueError, match=message):
        ReZeroTransformer(**{"num_attention_heads": H} | options)


@pytest.mark.parametrize(
    ("message", "inputs", "call"),
    [
        (r"divisible by num_attention_heads.* Received: a last axis of size 11, num_attention_heads=4", (2, 3, 11), {}),
        (r"inputs must be a tensor or \[x, attention_mask\] or .* Received: a list of 4", [(2, 3, 8)] * 4, {}),
        (r"query must have 3 axes .* \(3, 8\)", (3, 8), {}),
        (r"attention_mask must .* \(2, 4, 3, 5\). Received: \(2, 1, 3, 3\)", [(2, 3, 8), (2, 5, 7), (2, 3, 3)], {}),
        (r"attention_mask must have a shape .* \(2, 4, 3, 3\). Received: \(2, 1, 3, 5\)", [(2, 3, 8), (2, 3, 5)], {}),
        (r"output_range must be at most the length, 3. Received: output_range=4", (2, 3, 8), {"output_range": 4}),
        (r"output_range must be an integer of at least 1. Received: output_range=0", (2, 3, 8), {"output_range": 0}),
    ],
)
def test_inputs_that_do_not_fit_are_rejected_by_name(message, inputs, call):
    inputs = [np.ones(shape) for shape in inputs] if isinstance(inputs, list) else np.ones(inputs)
    with pytest.raises(ValueError, match=message):
        ReZeroTransformer(H, F)(inputs, **call)
