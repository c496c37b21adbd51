"""The block's definition, its limits, stacks; where each argument ends up. Layer against reference: tests/conformance."""

import keras
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from crosscheck.backends import differentiate
from crosscheck.case import B, D, E, M, T
from crosscheck.catalogue import find_cases
from crosscheck.lesson.counting import multiply_adds
from crosscheck.weights import draw_weights, weights_of
from layers.reuse_attention import ReuseMultiHeadAttention
from layers.reuse_transformer import ReuseTransformer
from layers.transformer_encoder import TransformerEncoderBlock
from reference import reuse_transformer as ref
from reference.common.normalization import LayerNorm
from reference.common.projection import Projection
from reference.masked_softmax import masked_softmax
from reference.reuse_attention import ReuseAttentionWeights
from reference.self_attention_mask import causal_mask

H, K, F = 6, 2, 9
every_way = pytest.mark.parametrize("reuse", [0, K, -1], ids=["none", "some", "all"])
both_norms = pytest.mark.parametrize("norm_first", [False, True], ids=["post-norm", "pre-norm"])


def make(rng, reuse, **options):
    """A block with drawn weights, and what it is called with: x, a mask, weights of the block before."""
    sizes = {"head_size": D, "value_dim": E, "dtype": "float64"}
    block = ReuseTransformer(H, F, "relu", reuse_attention=reuse, **(sizes | options))
    inputs = [rng.normal(size=(B, T, M)), rng.random((B, T, T)) < 0.7, masked_softmax(rng.normal(size=(B, H, T, T)))]
    block(inputs)
    draw_weights(block, rng)
    return block, inputs


def stack(rng, reuses, **options):
    """Blocks that pass on output and attention weights, as one model of x; with drawn weights."""
    x = keras.Input((T, M), dtype="float64", name="x")
    blocks = [
        ReuseTransformer(H, F, "relu", head_size=D, reuse_attention=reuse, dtype="float64", name=f"block_{i}", **options)
        for i, reuse in enumerate(reuses)
    ]
    y, scores = blocks[0](x)
    computed = [scores]
    for block in blocks[1:]:
        y, scores = block([y, None, scores])
        computed.append(scores)
    model = keras.Model(x, [y, *computed])
    draw_weights(model, rng)
    return model, blocks


def weights_of_block(block):
    return weights_of(block, ref.ReuseTransformerWeights)


@every_way
def test_every_position_is_the_definition_for_one(rng, reuse):
    block, (x, mask, reused) = make(rng, reuse, use_relative_pe=True, pe_max_seq_length=2)
    mask[0, 1] = False
    output, attention = ref.reuse_transformer(x, weights_of_block(block), reused, mask)
    for b, t in np.ndindex(B, T):
        one, its_attention = ref.reuse_transformer_one(x[b], t, weights_of_block(block), reused[b, :, t], mask[b, t])
        assert_allclose(output[b, t], one, rtol=1e-11)
        assert_allclose(attention[b, :, t], its_attention, rtol=1e-11)


def test_worked_example():
    """A token (4, 0) that reuses "look at the other", (0, 2), with identities for V and W^O: y is the norm of (4, 2), (1, −1)."""
    identity = Projection(np.eye(2).reshape(2, 1, 2)), Projection(np.eye(2).reshape(1, 2, 2))
    attention = ReuseAttentionWeights(None, None, identity[0], None, identity[1], None, None)
    norm, nothing = LayerNorm(np.ones(2), np.zeros(2)), Projection(np.zeros((2, 2)))
    weights = ref.ReuseTransformerWeights(attention, norm, nothing, nothing, norm)
    x, other = np.array([[[4.0, 0.0], [0.0, 2.0]]]), np.array([[[[0.0, 1.0], [1.0, 0.0]]]])
    post, _ = ref.reuse_transformer(x, weights, other)
    assert_allclose(post[0], [[1, -1], [1, -1]])
    pre, _ = ref.reuse_transformer(x, weights, other, norm_first=True)  # the other's norm, (−1, 1), is added to (4, 0)
    assert_allclose(pre[0], [[4 - 1, 0 + 1], [0 + 1, 2 - 1]])


@both_norms
def test_with_no_head_reused_it_is_the_encoder_block(rng, norm_first):
    block, (x, mask, _) = make(rng, 0, norm_first=norm_first)
    plain = TransformerEncoderBlock(
        H, F, "relu", key_dim=D, value_dim=E, norm_first=norm_first, return_attention_scores=True, dtype="float64"
    )
    plain([x, mask])
    plain.set_weights(block.get_weights())
    for found, expected in zip(block([x, mask]), plain([x, mask])):
        assert_array_equal(found, expected)


@both_norms
def test_a_block_that_reuses_all_of_its_own_weights_repeats_itself(rng, norm_first):
    source, (x, mask, _) = make(rng, 0, norm_first=norm_first)
    copy, _ = make(rng, -1, norm_first=norm_first)
    kept = [w for w in source.weights if not any(f"/{name}/" in w.path for name in ("query", "key"))]
    copy.set_weights([np.asarray(w) for w in kept])
    expected, scores = source([x, mask])
    found, again = copy([x, mask, scores])
    assert_allclose(again, scores, rtol=1e-14)
    assert_allclose(found, expected, rtol=1e-12)


@both_norms
@pytest.mark.parametrize("reuses", [[0, 0, 0], [0, 2, 4], [0, -1, 0, -1]], ids=str)
def test_a_stack_of_layers_is_the_stack_of_the_reference(rng, norm_first, reuses):
    model, blocks = stack(rng, reuses, norm_first=norm_first)
    x = rng.normal(size=(B, T, M))
    output, attention = ref.reuse_transformers(x, [weights_of_block(block) for block in blocks], norm_first=norm_first)
    found = model(x)
    for each, expected in zip(found, [output, *attention]):
        assert_allclose(each, expected, rtol=1e-10, atol=1e-12)


def test_a_stack_keeps_the_heads_that_all_its_blocks_reuse(rng):
    model, _ = stack(rng, [0, 4, 2, -1])
    _, *scores = (np.asarray(output) for output in model(rng.normal(size=(B, T, M))))
    first = scores[0]
    assert_array_equal(scores[1][:, :4], first[:, :4])
    assert_array_equal(scores[2][:, :2], first[:, :2])
    assert (scores[2][:, 2:] != scores[1][:, 2:]).all()
    assert_array_equal(scores[3], scores[2])


def test_gradients_reach_the_block_that_computed_the_weights(rng):
    """The first block's output is not used, only its attention weights are; its queries and keys still learn."""
    first, (x, mask, _) = make(rng, 0, name="first")
    second, _ = make(rng, -1, name="second")
    inputs = {"x": keras.ops.convert_to_tensor(x)}
    _, slopes, _ = differentiate(lambda block, x: second([x, mask, block([x, mask])[1]])[0], first, inputs, {"output": x})
    size = {path.split("/", 1)[1]: np.abs(slope).max() for path, slope in slopes.items()}
    assert min(size["self_attention/query/kernel"], size["self_attention/key/kernel"]) > 1e-4
    assert size["self_attention/value_new/kernel"] == 0


@pytest.mark.parametrize(
    ("place", "last", "expected"),
    [(0, None, 0), (1, None, 4), (3, None, 4), (0, 2, 0), (1, 2, 4), (2, 2, 4), (3, 2, 0), (1, 0, 0)],
)
@pytest.mark.parametrize("reuse", [4, -1])
def test_the_first_block_and_those_above_the_last_reuse_nothing(place, last, expected, reuse):
    block = ReuseTransformer(H, F, "relu", reuse_attention=reuse, layer_idx=place, max_reuse_layer_idx=last)
    block.build((B, T, 12))
    wanted = expected if reuse == 4 or expected == 0 else H
    assert block.self_attention.reused_heads == ref.reused_heads(reuse, H, place, last) == wanted
    copy = ReuseTransformer.from_config(block.get_config())
    assert (copy.reuse_attention, copy.layer_idx, copy.max_reuse_layer_idx) == (reuse, place, last)


def test_without_a_place_the_number_is_taken_as_given():
    block = ReuseTransformer(H, F, "relu", reuse_attention=4)
    block.build((B, T, 12))
    assert block.self_attention.reused_heads == 4


@both_norms
def test_padding_at_the_end_changes_nothing_before_it(rng, norm_first):
    block, (x, _, scores) = make(rng, K, norm_first=norm_first)
    expected, _ = block([x, None, scores])
    padded = np.concatenate([x, rng.normal(size=(B, 2, M))], axis=1)
    wider = np.pad(scores, ((0, 0), (0, 0), (0, 2), (0, 2)), constant_values=0.3)
    mask = np.broadcast_to(np.arange(T + 2) < T, (B, T + 2, T + 2))
    assert_allclose(block([padded, mask, wider])[0][:, :T], expected, rtol=1e-11, atol=1e-13)


@both_norms
@every_way
def test_a_causal_mask_holds_although_the_reused_weights_saw_everything(rng, norm_first, reuse):
    block, (x, _, scores) = make(rng, reuse, norm_first=norm_first)
    mask = causal_mask(T, T)[None]
    before, _ = block([x, mask, scores])
    x[:, -1] += 1
    after, _ = block([x, mask, scores])
    assert_allclose(after[:, :-1], before[:, :-1], rtol=1e-12)
    assert (np.abs(after[:, -1] - before[:, -1]) > 1e-6).any()


@both_norms
@every_way
@pytest.mark.parametrize("count", [1, 2])
def test_an_output_range_is_the_whole_output_cut_off(rng, norm_first, reuse, count):
    block, (x, _, before) = make(rng, reuse, norm_first=norm_first)
    for mask in (None, rng.random((B, T, T)) < 0.6, rng.random((B, H, T, T)) < 0.6, np.ones((B, 1, T), bool)):
        whole, scores = block([x, mask, before])
        few, their_scores = block([x, mask, before], output_range=count)
        assert_allclose(few, whole[:, :count], rtol=1e-12)
        assert_allclose(their_scores, scores[:, :, :count], rtol=1e-12)


def test_the_output_range_of_the_call_overrides_the_constructors(rng):
    block, inputs = make(rng, K, output_range=1)
    assert block(inputs)[0].shape == (B, 1, M) and block(inputs, output_range=2)[0].shape == (B, 2, M)


def test_every_rate_reaches_its_sublayer():
    block = ReuseTransformer(H, F, "relu", reuse_attention=K, output_dropout=0.1, attention_dropout=0.2, inner_dropout=0.3)
    block.build((B, T, 12))
    assert block.self_attention.dropout_layer.rate == 0.2
    assert block.attention_dropout_layer.rate == block.output_dropout_layer.rate == 0.1
    assert block.inner_dropout_layer.rate == 0.3


@pytest.mark.parametrize("rate", ["output_dropout", "attention_dropout", "inner_dropout"])
@every_way
def test_each_dropout_acts_while_training_and_only_then(rng, rate, reuse):
    block, inputs = make(rng, reuse, **{rate: 0.5})
    expected, scores = block(inputs)
    assert_array_equal(block(inputs, training=False)[0], expected)
    dropped, same = block(inputs, training=True)
    assert (np.asarray(dropped) != np.asarray(expected)).any()
    assert_array_equal(same, scores)


def test_regularisers_and_constraints_reach_every_map(rng):
    block, inputs = make(rng, K, kernel_regularizer="l2", bias_regularizer="l1", activity_regularizer="l2")
    block(inputs)
    assert len(block.losses) == 8 + 7 + 8  # kernels, biases (attention's two outputs share one), activities
    block, _ = make(rng, K, kernel_constraint="non_neg", bias_constraint="max_norm")
    maps = [v for v in block.trainable_variables if "layer_norm" not in v.path]
    assert len(maps) == 15 and all(variable.constraint is not None for variable in maps)


def test_the_attention_has_an_initializer_of_its_own():
    block = ReuseTransformer(H, F, "relu", reuse_attention=K, attention_initializer="ones", kernel_initializer="zeros")
    block.build((B, T, 12))
    assert all((np.asarray(w) == ("self_attention/" in w.path)).all() for w in block.weights if w.path.endswith("kernel"))


def test_relative_positions_reach_the_attention(rng):
    block, _ = make(rng, K, use_relative_pe=True, pe_max_seq_length=4)
    assert isinstance(block.self_attention, ReuseMultiHeadAttention)
    assert block.self_attention.position_embeddings.shape == (H - K, 7)


@pytest.mark.parametrize("reuse", [0, K, H])
def test_a_block_saves_what_its_reused_heads_save(rng, reuse):
    block, (x, mask, scores) = make(rng, reuse)
    plain, _ = make(rng, 0)
    counts = []
    for each in (block, plain):
        with multiply_adds() as counted:
            ref.reuse_transformer(x, weights_of_block(each), scores, mask)
        counts.append(sum(counted))
    assert plain.count_params() - block.count_params() == reuse * 2 * (M + 1) * D
    assert counts[1] - counts[0] == reuse * B * (2 * T * M * D + T * T * D)


def test_scores_are_returned_unless_they_are_not_wanted(rng):
    block, inputs = make(rng, K)
    alone, _ = make(rng, K, return_attention_scores=False)
    alone.set_weights(block.get_weights())
    assert_array_equal(alone(inputs), block(inputs)[0])


def test_head_size_is_key_dim_under_another_name(rng):
    block, inputs = make(rng, K)
    other, _ = make(rng, K, head_size=None, key_dim=D)
    other.set_weights(block.get_weights())
    assert_array_equal(other(inputs)[0], block(inputs)[0])
    for each, expected in ((block, D), (other, None)):
        copy = ReuseTransformer.from_config(each.get_config())
        assert (copy.head_size, copy.key_dim) == (expected, D)


@pytest.mark.parametrize(
    ("message", "options"),
    [
        (
            r"reuse_attention must be an integer from 0 to num_heads=6, or -1 for all. Received: reuse_attention=7",
            {"reuse_attention": 7},
        ),
        (r"head_size must be an integer of at least 1. Received: head_size=0", {"head_size": 0}),
        (r"head_size and key_dim must be the same. Received: head_size=3, key_dim=4", {"head_size": 3, "key_dim": 4}),
        (r"num_kv_heads must be None.* Received: num_kv_heads=2", {"num_kv_heads": 2}),
        (r"layer_idx must be an integer of at least 0. Received: layer_idx=-1", {"layer_idx": -1}),
        (
            r"max_reuse_layer_idx must be an integer of at least 0. Received: max_reuse_layer_idx=-1",
            {"layer_idx": 1, "max_reuse_layer_idx": -1},
        ),
        (r"max_reuse_layer_idx needs layer_idx. Received: max_reuse_layer_idx=3, layer_idx=None", {"max_reuse_layer_idx": 3}),
        (r"pe_max_seq_length must be an integer of at least 1", {"pe_max_seq_length": 0}),
        (r"attention_dropout must be at least 0 and below 1. Received: attention_dropout=1", {"attention_dropout": 1}),
        (r"inner_activation must be .* Received: inner_activation='rellu'", {"inner_activation": "rellu"}),
    ],
)
def test_arguments_that_make_no_sense_are_rejected_by_name(message, options):
    with pytest.raises(ValueError, match=message):
        ReuseTransformer(**{"num_attention_heads": H, "inner_dim": F, "inner_activation": "relu"} | options)


@pytest.mark.parametrize(
    ("message", "inputs", "call"),
    [
        (r"reuse_attention_scores must be given to reuse 2 heads. Received: reuse_attention_scores=None", [(2, 3, 12)], {}),
        (
            r"reuse_attention_scores must be given to reuse 2 heads. Received: reuse_attention_scores=None",
            [(2, 3, 12), (2, 3, 3)],
            {},
        ),
        (
            r"reuse_attention_scores must have the shape \(2, 2, 3, 3\), or more than 2 heads. Received: \(2, 6, 3, 5\)",
            [(2, 3, 12), (2, 3, 3), (2, 6, 3, 5)],
            {},
        ),
        (
            r"reuse_attention_scores must have the shape \(2, 2, 3, 3\), .* Received: \(2, 1, 3, 3\)",
            [(2, 3, 12), (2, 3, 3), (2, 1, 3, 3)],
            {},
        ),
        (
            r"attention_mask must have a shape .* \(2, 6, 3, 3\). Received: \(2, 1, 3, 5\)",
            [(2, 3, 12), (2, 3, 5), (2, 6, 3, 3)],
            {},
        ),
        (
            r"inputs must be a tensor or \[x, attention_mask\] or \[x, attention_mask, reuse_attention_scores\]",
            [(2, 3, 12)] * 4,
            {},
        ),
        (r"output_range must be at most the length, 3", [(2, 3, 12), (2, 3, 3), (2, 6, 3, 3)], {"output_range": 4}),
    ],
)
def test_inputs_that_do_not_fit_are_rejected_by_name(message, inputs, call):
    inputs = [np.ones(shape) for shape in inputs]
    with pytest.raises(ValueError, match=message):
        ReuseTransformer(H, F, "relu", reuse_attention=K)(inputs if len(inputs) > 1 else inputs[0], **call)


@both_norms
@pytest.mark.parametrize("size", [1, M + 1])
def test_another_width_than_it_was_built_for_is_rejected_and_not_spread(rng, norm_first, size):
    block, (_, mask, scores) = make(rng, K, norm_first=norm_first)
    with pytest.raises(ValueError, match=rf"expected axis -1 of input shape to have value {M}"):
        block([rng.normal(size=(B, T, size)), mask, scores])


def test_every_way_to_call_it_is_a_case():
    assert len(find_cases(["reuse_transformer"])) >= 20
