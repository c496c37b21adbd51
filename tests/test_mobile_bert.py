"""The definition, worked numbers, limits, who reads what, exact counts. Layer and reference: tests/conformance."""

import keras
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from crosscheck.backends import differentiate
from crosscheck.case import B, H, M, S, T
from crosscheck.catalogue import find_cases
from crosscheck.lesson.counting import multiply_adds
from crosscheck.weights import draw_weights, weights_of
from layers.attention import MultiHeadAttention
from layers.common.normalization import NoNorm
from layers.mobile_bert import MobileBertEmbedding, MobileBertTransformer
from reference import mobile_bert as ref
from reference.common.activations import gelu, relu
from reference.common.normalization import LayerNorm, layer_norm, no_norm
from reference.common.projection import dense

N, WORD, INSIDE, F = 17, 6, 8, 9
NORMS = {"no_norm": no_norm, "layer_norm": layer_norm}
POLICIES = ("float64", "float32", "mixed_bfloat16", "mixed_float16", "float16", "bfloat16")
BOTTLENECK = {"use_bottleneck_attention": True}
FULL = {"key_query_shared_bottleneck": False}

every_norm = pytest.mark.parametrize("norm", NORMS)


def block_and_input(rng, dtype="float64", **options):
    """A block with drawn weights, and tokens for it."""
    options = {"hidden_size": M, "num_attention_heads": H, "intermediate_size": F, "intra_bottleneck_size": INSIDE} | options
    block, x = MobileBertTransformer(**options, dtype=dtype), rng.normal(size=(B, T, M))
    block(x)
    draw_weights(block, rng)
    return block, x


def embedding_and_ids(rng, dtype="float64", **options):
    """An embedding with drawn weights, and the ids and types of some words."""
    layer = MobileBertEmbedding(N, WORD, 2, M, S + 2, **options, dtype=dtype)
    ids, types = rng.integers(1, N, (B, S)), rng.integers(0, 2, (B, S))
    layer(ids, types)
    draw_weights(layer, rng)
    return layer, ids, types


def names_and_shapes(layer):
    return {v.path.split("/", 1)[1]: v.shape for v in layer.weights}


def zeros(*sublayers):
    """Make what these maps return zero."""
    for sublayer in sublayers:
        sublayer.set_weights([np.zeros_like(w) for w in sublayer.get_weights()])


def plain(*norms):
    """Make these norms what they are at the start."""
    for norm in norms:
        norm.gamma.assign(np.ones(norm.gamma.shape))
        norm.beta.assign(np.zeros(norm.beta.shape))


@every_norm
@pytest.mark.parametrize("feed_forwards", [1, 3])
def test_the_block_is_mobile_bert_one_at_every_position(rng, norm, feed_forwards):
    block, x = block_and_input(rng, normalization_type=norm, num_feedforward_networks=feed_forwards)
    weights = weights_of(block, ref.MobileBertWeights)
    output, _ = ref.mobile_bert_transformer(x, weights, relu, NORMS[norm])
    for b, t in np.ndindex(B, T):
        assert_allclose(output[b, t], ref.mobile_bert_one(x[b], t, weights, relu, NORMS[norm]), rtol=1e-11, atol=1e-12)


def test_trigram_is_trigram_one_at_every_position(rng):
    e = rng.normal(size=(B, S, WORD))
    for b, t in np.ndindex(B, S):
        assert_array_equal(ref.trigram(e)[b, t], ref.trigram_one(e[b], t))


def test_trigram_by_hand():
    """Words 1, 2 and 3 of size 1: the next, this one, the previous; zeros beyond the ends."""
    assert ref.trigram(np.array([[[1.0], [2.0], [3.0]]])).tolist() == [[[2, 1, 0], [3, 2, 1], [0, 3, 2]]]


def test_embedding_by_hand():
    """Word i has the vector (i). W reads 100 next + 10 this + 1 previous: what comes out spells the three words."""
    layer = MobileBertEmbedding(10, 1, 2, 1, 8, dtype="float64")
    layer(np.array([[0]]))
    table, w = np.arange(10.0)[:, None], np.array([[100.0], [10.0], [1.0]])
    values = {"word_embedding/embeddings": table, "embedding_projection/kernel": w}
    values |= {"position_embedding/embeddings": np.arange(8.0)[:, None] * 1000, "type_embedding/embeddings": [[0.0], [0.5]]}
    for variable in layer.weights:
        variable.assign(values.get(variable.path.split("/", 1)[1], variable))
    assert np.squeeze(layer(np.array([[3, 7, 5]]))).tolist() == [730, 1573, 2057]
    assert np.squeeze(layer(np.array([[3, 7, 5]]), np.array([[0, 0, 1]]))).tolist() == [730, 1573, 2057.5]
    assert np.squeeze(layer(np.array([[3, 7, 9]]), input_mask=np.array([[1, 1, 0]]))).tolist() == [730, 1073, 2007]


def test_a_trigram_is_a_convolution_of_width_three(rng):
    layer, ids, _ = embedding_and_ids(rng)
    weights = weights_of(layer, ref.MobileBertEmbeddingWeights)
    e, kernel = weights.word_embedding.embeddings[ids], ref.as_convolution(weights.embedding_projection.kernel)
    expected = ref.trigram(e) @ weights.embedding_projection.kernel
    assert_allclose(ref.convolve(e, kernel), expected, rtol=1e-11, atol=1e-12)
    theirs = keras.layers.Conv1D(M, 3, padding="same", dtype="float64")
    theirs.build((None, None, WORD))
    theirs.set_weights([kernel, weights.embedding_projection.bias])
    found = layer.embedding_norm(theirs(e) + weights.position_embedding.embeddings[:S])
    assert_allclose(found, layer(ids), rtol=1e-10, atol=1e-12)


def test_a_word_changes_its_neighbors_and_no_others(rng):
    layer, ids, _ = embedding_and_ids(rng)
    before = np.asarray(layer(ids))
    ids[:, 2] = ids[:, 2] % (N - 1) + 1
    changed = np.abs(layer(ids) - before).max(axis=(0, 2)) > 1e-9
    assert changed.tolist() == [False, True, True, True, False]


@every_norm
def test_without_a_mask_the_last_word_reads_the_padding_behind_it_and_with_one_it_does_not(rng, norm):
    """As published it does, and so comes out another one when the same words stand in a longer row."""
    layer, ids, types = embedding_and_ids(rng, normalization_type=norm)
    alone = np.asarray(layer(ids[:, :3], types[:, :3]))
    ids[:, 3:] = 0
    mask = np.tile([1, 1, 1, 0, 0], (B, 1))
    among = np.asarray(layer(ids, types))[:, :3]
    assert_allclose(among[:, :2], alone[:, :2], rtol=1e-11, atol=1e-12)
    assert np.abs(among[:, 2] - alone[:, 2]).max() > 1e-3
    assert_allclose(np.asarray(layer(ids, types, mask))[:, :3], alone, rtol=1e-11, atol=1e-12)
    assert_allclose(layer(ids[:, :3], types[:, :3], mask[:, :3]), alone, rtol=1e-11, atol=1e-12)


def test_a_mask_holds_on_both_sides_of_a_gap(rng):
    layer, ids, _ = embedding_and_ids(rng)
    mask = np.tile([1, 1, 0, 1, 1], (B, 1))
    before = np.asarray(layer(ids, input_mask=mask))
    ids[:, 2] = ids[:, 2] % (N - 1) + 1
    assert_array_equal(layer(ids, input_mask=mask), before)


def test_an_id_outside_the_vocabulary_is_no_word(rng):
    layer, ids, types = embedding_and_ids(rng)
    ids[0, 1], ids[1, 2] = N, -1
    mask = np.ones((B, S))
    mask[0, 1] = mask[1, 2] = 0
    assert_array_equal(layer(ids, types), layer(ids, types, mask))


def test_without_types_no_type_is_added(rng):
    layer, ids, types = embedding_and_ids(rng)
    assert np.abs(layer(ids) - layer(ids, 0 * types)).max() > 1e-3
    zeros(layer.type_embedding)
    assert_allclose(layer(ids), layer(ids, types), rtol=1e-12)


def test_no_norm_by_hand():
    norm = NoNorm(dtype="float64")
    norm.build((None, 2))
    norm.gamma.assign([2.0, 3.0])
    norm.beta.assign([1.0, -1.0])
    assert norm(np.array([[5.0, 7.0]])).numpy().tolist() == [[11, 20]]


def test_no_norm_is_affine_and_layer_norm_is_not(rng):
    """f(a + b) − f(b) = γ ⊙ a, whatever b is."""
    a, b, weights = rng.normal(size=M), rng.normal(size=M), LayerNorm(rng.normal(size=M), rng.normal(size=M))
    assert_allclose(no_norm(a + b, weights) - no_norm(b, weights), weights.gamma * a, rtol=1e-10)
    assert np.abs(layer_norm(a + b, weights) - layer_norm(b, weights) - weights.gamma * a).max() > 1e-3


def test_on_what_is_normalized_already_both_norms_are_the_same(rng):
    x = rng.normal(size=(B, M))
    weights = LayerNorm(rng.normal(size=M), rng.normal(size=M))
    x = layer_norm(x, LayerNorm(np.ones(M), np.zeros(M)))
    assert_allclose(no_norm(x, weights), layer_norm(x, weights), rtol=1e-10, atol=1e-12)


def test_a_block_whose_last_map_is_zero_is_its_last_norm(rng):
    block, x = block_and_input(rng)
    zeros(block.bottleneck_output)
    gamma, beta = (np.asarray(weight) for weight in (block.bottleneck_output_norm.gamma, block.bottleneck_output_norm.beta))
    assert_allclose(block(x), gamma * x + beta, rtol=1e-12, atol=1e-12)
    block, x = block_and_input(rng, normalization_type="layer_norm")
    zeros(block.bottleneck_output)
    assert_allclose(block(x), block.bottleneck_output_norm(x), rtol=1e-12, atol=1e-12)


def test_without_feed_forward_and_attention_only_the_bottleneck_is_left(rng):
    block, x = block_and_input(rng)
    zeros(block.attention.output_dense, *block.output_dense)
    plain(block.attention_norm, *block.output_norm)
    weights = weights_of(block, ref.MobileBertWeights)
    u = no_norm(dense(x, weights.bottleneck_input), weights.bottleneck_input_norm)
    expected = no_norm(x + dense(u, weights.bottleneck_output), weights.bottleneck_output_norm)
    assert_allclose(block(x), expected, rtol=1e-11, atol=1e-12)


def test_feed_forward_networks_follow_each_other_with_weights_of_their_own(rng):
    block, x = block_and_input(rng, num_feedforward_networks=3)
    before = np.asarray(block(x))
    for i in range(3):
        saved = block.output_dense[i].get_weights()
        zeros(block.output_dense[i])
        assert np.abs(block(x) - before).max() > 1e-3
        block.output_dense[i].set_weights(saved)
    first, second = (block.intermediate_dense[i].get_weights() for i in (0, 1))
    block.intermediate_dense[0].set_weights(second)
    block.intermediate_dense[1].set_weights(first)
    assert np.abs(block(x) - before).max() > 1e-3


def test_networks_that_add_nothing_may_be_left_out(rng):
    block, x = block_and_input(rng, num_feedforward_networks=3)
    zeros(*block.output_dense[1:])
    plain(*block.output_norm[1:])
    single, _ = block_and_input(rng, num_feedforward_networks=1)
    kept = [w for w, v in zip(block.get_weights(), block.weights) if not any(f"_{i}/" in v.path.split("/", 1)[1] for i in (1, 2))]
    single.set_weights(kept)
    assert_allclose(block(x), single(x), rtol=1e-12)


@every_norm
@pytest.mark.parametrize(("options", "query", "value"), [({}, "w", "x"), (BOTTLENECK, "u", "u"), (FULL, "x", "x")])
def test_attention_reads_what_the_two_options_say(rng, options, query, value, norm):
    """An attention layer of its own, with the same weights, on the sources that the paper names."""
    block, x = block_and_input(rng, normalization_type=norm, **options)
    u = block.bottleneck_input_norm(block.bottleneck_input(x))
    sources = {"x": x, "u": u}
    if query == "w":
        sources["w"] = block.kq_shared_bottleneck_norm(block.kq_shared_bottleneck(x))
    attention = MultiHeadAttention(H, INSIDE // H, output_shape=INSIDE, dtype="float64")
    mask = rng.random((B, T, T)) < 0.6
    attention(sources[query], sources[value], key=sources[query])
    attention.set_weights(block.attention.get_weights())
    added, scores = attention(sources[query], sources[value], sources[query], mask, return_attention_scores=True)
    zeros(*block.output_dense)
    plain(*block.output_norm)
    y = block.attention_norm(u + added) if norm == "no_norm" else None
    output, found = block(x, mask, return_attention_scores=True)
    assert_allclose(found, scores, rtol=1e-11, atol=1e-13)
    if norm == "no_norm":
        expected = block.bottleneck_output_norm(x + block.bottleneck_output(y))
        assert_allclose(output, expected, rtol=1e-11, atol=1e-12)


def test_the_residual_stream_inside_is_the_bottleneck_and_not_the_shared_one(rng):
    block, x = block_and_input(rng)
    zeros(block.attention.output_dense, *block.output_dense)
    before = np.asarray(block(x))
    zeros(block.kq_shared_bottleneck)
    assert_array_equal(block(x), before)
    zeros(block.bottleneck_input)
    assert np.abs(block(x) - before).max() > 1e-3


def test_values_come_from_the_input_even_if_queries_and_keys_say_nothing(rng):
    block, x = block_and_input(rng)
    zeros(block.kq_shared_bottleneck, block.bottleneck_input)
    plain(block.kq_shared_bottleneck_norm)
    _, scores = block(x, return_attention_scores=True)
    assert_allclose(scores, 1 / T, rtol=1e-12)
    slopes = gradients(block, x, rng)
    assert np.abs(slopes["attention/value/kernel"]).max() > 1e-3


def gradients(block, x, rng):
    cotangents = {"output": rng.normal(size=x.shape)}
    call = differentiate(lambda layer, x: layer(x), block, {"x": keras.ops.convert_to_tensor(x)}, cotangents)
    return {path.split("/", 1)[1]: np.asarray(slope) for path, slope in call[1].items()}


@pytest.mark.parametrize("options", [{}, BOTTLENECK, FULL, BOTTLENECK | FULL])
def test_no_weight_is_made_that_is_never_used(rng, options):
    block, x = block_and_input(rng, **options)
    silent = {path for path, slope in gradients(block, x, rng).items() if np.abs(slope).max() < 1e-12}
    assert silent <= {"attention/key/bias"}  # which shifts all scores of a query alike


def test_weights_are_named_and_shaped_as_documented(rng):
    block, _ = block_and_input(rng, num_feedforward_networks=2)
    d = INSIDE // H
    expected = {"bottleneck_input": (M, INSIDE), "kq_shared_bottleneck": (M, INSIDE), "bottleneck_output": (INSIDE, M)}
    expected |= {f"intermediate_{i}": (INSIDE, F) for i in (0, 1)} | {f"output_{i}": (F, INSIDE) for i in (0, 1)}
    shapes = {f"{name}/kernel": shape for name, shape in expected.items()}
    shapes |= {f"{name}/bias": shape[1:] for name, shape in expected.items()}
    heads = {"query": INSIDE, "key": INSIDE, "value": M}
    shapes |= {f"attention/{name}/kernel": (size, H, d) for name, size in heads.items()}
    shapes |= {f"attention/{name}/bias": (H, d) for name in heads}
    shapes |= {"attention/attention_output/kernel": (H, d, INSIDE), "attention/attention_output/bias": (INSIDE,)}
    norms = {"attention_norm": INSIDE, "bottleneck_input_norm": INSIDE, "kq_shared_bottleneck_norm": INSIDE}
    norms |= {"output_norm_0": INSIDE, "output_norm_1": INSIDE, "bottleneck_output_norm": M}
    shapes |= {f"{name}/{part}": (size,) for name, size in norms.items() for part in ("gamma", "beta")}
    assert names_and_shapes(block) == shapes
    layer, _, _ = embedding_and_ids(rng)
    assert names_and_shapes(layer) == {
        "word_embedding/embeddings": (N, WORD),
        "type_embedding/embeddings": (2, M),
        "position_embedding/embeddings": (S + 2, M),
        "embedding_projection/kernel": (3 * WORD, M),
        "embedding_projection/bias": (M,),
        "embedding_norm/gamma": (M,),
        "embedding_norm/beta": (M,),
    }


def test_weights_of_the_embedding_are_in_the_order_of_the_model_garden(rng):
    """The shapes of gamma and beta are equal, so in another order `set_weights` would swap them without an error."""
    layer, _, _ = embedding_and_ids(rng)
    names = [weight.path.split("/", 1)[1] for weight in layer.weights]
    assert names == [f"{name}_embedding/embeddings" for name in ("word", "type", "position")] + [
        "embedding_projection/kernel",
        "embedding_projection/bias",
        "embedding_norm/beta",
        "embedding_norm/gamma",
    ]


def test_in_files_gamma_comes_first(rng):
    """As it always has, so that files of earlier versions load."""
    norm, other, store = NoNorm(), NoNorm(), {}
    for layer in (norm, other):
        layer.build((None, M))
    norm.gamma.assign(rng.normal(size=M))
    norm.beta.assign(rng.normal(size=M))
    norm.save_own_variables(store)
    assert_array_equal(store["0"], norm.gamma)
    other.load_own_variables(store)
    assert_array_equal(other.gamma, norm.gamma)
    assert_array_equal(other.beta, norm.beta)


def test_the_published_sizes_have_the_published_number_of_parameters():
    """24 blocks and the embedding; PAPERS' table of parts. Head, pooler and bias of a language model would make 25,139,772."""
    embedding, block = MobileBertEmbedding(30522, 128, 2, 512), MobileBertTransformer()
    embedding.build((None, None))
    block.build((None, None, 512))
    assert embedding.count_params() == 30522 * 128 + (384 * 512 + 512) + 512 * 512 + 2 * 512 + 2 * 512 == 4_368_128
    assert block.count_params() == 65_920 + 65_920 + 98_688 + 16_768 + 527_872 + 67_072 == 842_240
    assert embedding.count_params() + 24 * block.count_params() == 24_581_888
    for norm in NORMS:
        other = MobileBertTransformer(normalization_type=norm)
        other.build((None, None, 512))
        assert other.count_params() == 842_240
    bottleneck = MobileBertTransformer(use_bottleneck_attention=True)
    bottleneck.build((None, None, 512))
    assert bottleneck.count_params() == 842_240 - 65_920 - (512 - 128) * 128


def test_multiply_adds_are_as_many_as_the_formula_says(rng):
    block, x = block_and_input(rng, num_feedforward_networks=3)
    with multiply_adds() as counted:
        ref.mobile_bert_transformer(x, weights_of(block, ref.MobileBertWeights))
    maps = 2 * M * INSIDE + (2 * INSIDE + M) * INSIDE + INSIDE**2 + 3 * 2 * INSIDE * F + INSIDE * M
    assert sum(counted) == B * (T * maps + 2 * T * T * INSIDE)


@pytest.mark.parametrize("dtype", POLICIES)
@every_norm
def test_masked_keys_have_no_influence_and_an_empty_row_is_no_nan(rng, dtype, norm):
    block, x = block_and_input(rng, dtype, normalization_type=norm)
    mask = np.broadcast_to(np.array([True, False, True]), (B, T, T)).copy()
    mask[1, 2] = False
    before = np.asarray(keras.ops.cast(block(x, mask), "float32"))
    x[:, 1] = 7.0
    after = np.asarray(keras.ops.cast(block(x, mask), "float32"))
    assert_array_equal(after[:, [0, 2]], before[:, [0, 2]])
    assert np.isfinite(after).all()
    assert keras.backend.standardize_dtype(block(x).dtype) == dtype.removeprefix("mixed_")


def test_no_norm_lets_numbers_grow_and_layer_norm_does_not(rng):
    """Sixteen blocks that double what they get: 2¹⁶ is beyond float16, not beyond bfloat16."""
    finite = {}
    for norm in NORMS:
        for dtype in ("float16", "bfloat16"):
            block, x = block_and_input(rng, dtype, normalization_type=norm)
            zeros(block.bottleneck_output)
            block.bottleneck_output_norm.gamma.assign(np.full(M, 2.0))
            block.bottleneck_output_norm.beta.assign(np.zeros(M))
            x = keras.ops.cast(np.sign(x) * 1.5, dtype)
            for _ in range(16):
                x = block(x)
            finite[norm, dtype] = bool(np.isfinite(keras.ops.cast(x, "float32")).all())
    expected = dict.fromkeys([("no_norm", "bfloat16"), ("layer_norm", "float16"), ("layer_norm", "bfloat16")], True)
    assert finite == expected | {("no_norm", "float16"): False}


@every_norm
def test_returning_the_scores_changes_nothing(rng, norm):
    block, x = block_and_input(rng, normalization_type=norm)
    output, scores = block(x, return_attention_scores=True)
    assert_array_equal(block(x), output)
    assert_allclose(np.sum(scores, axis=-1), 1, rtol=1e-12)


@pytest.mark.parametrize("rate", ["hidden_dropout_prob", "attention_probs_dropout_prob"])
def test_each_dropout_acts_only_while_training(rng, rate):
    rates = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    block, x = block_and_input(rng, **rates | {rate: 0.5})
    assert_array_equal(block(x), block(x, training=False))
    assert (np.abs(block(x, training=True) - block(x)) > 1e-6).any()
    silent, _ = block_and_input(rng, **rates)
    assert_array_equal(silent(x, training=True), silent(x))


def test_what_the_block_adds_is_dropped_and_its_input_never(rng):
    block, x = block_and_input(rng, hidden_dropout_prob=0.9, attention_probs_dropout_prob=0.0)
    plain(block.bottleneck_output_norm)
    x = np.tile(x, (40, 1, 1))
    change = block(x, training=True) - x
    assert 0.85 < np.mean(np.abs(change) < 1e-12) < 0.95


def test_the_embedding_drops_its_output_while_training(rng):
    layer, ids, types = embedding_and_ids(rng, dropout_rate=0.5)
    assert_array_equal(layer(ids, types), layer(ids, types, training=False))
    ratio = np.asarray(layer(np.tile(ids, (40, 1)), training=True)) / np.asarray(layer(np.tile(ids, (40, 1))))
    assert_allclose(np.unique(ratio.round(9)), [0, 2])


def test_the_maps_start_small_and_different():
    block = MobileBertTransformer(64, 2, 64, intra_bottleneck_size=64)
    block.build((None, None, 64))
    starts = [np.asarray(v) for v in block.weights if v.path.endswith("kernel") and "attention" not in v.path]
    assert all((starts[i] != starts[j]).all() for i in range(len(starts)) for j in range(i))
    assert all(0.015 < start.std() < 0.025 for start in starts)
    other = MobileBertTransformer(64, 2, 64, intra_bottleneck_size=64)
    other.build((None, None, 64))
    assert (np.asarray(other.bottleneck_input.kernel) != np.asarray(block.bottleneck_input.kernel)).all()


def test_the_initializer_is_that_of_every_table_and_map():
    embedding = MobileBertEmbedding(N, WORD, 2, M, initializer="ones")
    embedding(np.ones((B, S), int))
    block = MobileBertTransformer(M, H, F, intra_bottleneck_size=INSIDE, initializer="ones")
    block(np.ones((B, T, M)))
    for variable in (*embedding.weights, *block.weights):
        expected = 0 if variable.path.endswith(("bias", "beta")) else 1
        assert_array_equal(variable, np.full(variable.shape, expected), err_msg=variable.path)
    assert "kernel_initializer" not in block.get_config() and block.get_config()["initializer"]["class_name"] == "Ones"


def test_regularisers_and_constraints_reach_every_map(rng):
    block, x = block_and_input(rng, kernel_regularizer="l2", bias_regularizer="l1", activity_regularizer="l2")
    block(x)
    assert len(block.losses) == 3 * (3 + 4 + 2 * 4)
    block, _ = block_and_input(rng, kernel_constraint="non_neg", bias_constraint="max_norm")
    assert all(("norm" in v.path) == (v.constraint is None) for v in block.trainable_variables)


@pytest.mark.parametrize(
    ("message", "options"),
    [
        (r"hidden_size must be an integer of at least 1. Received: hidden_size=0", {"hidden_size": 0}),
        (r"num_attention_heads must be .* Received: num_attention_heads=1.0", {"num_attention_heads": 1.0}),
        (r"intermediate_size must be .* Received: intermediate_size=0", {"intermediate_size": 0}),
        (r"intra_bottleneck_size must be an integer .* Received: intra_bottleneck_size=0", {"intra_bottleneck_size": 0}),
        (r"num_feedforward_networks must be .* Received: num_feedforward_networks=0", {"num_feedforward_networks": 0}),
        (
            r"intra_bottleneck_size must be divisible by num_attention_heads. Received: intra_bottleneck_size=128, num_.*=3",
            {"num_attention_heads": 3},
        ),
        (r"hidden_dropout_prob must be at least 0 and below 1. Received: hidden_dropout_prob=1", {"hidden_dropout_prob": 1}),
        (r"attention_probs_dropout_prob must be .*=-0.1", {"attention_probs_dropout_prob": -0.1}),
        (r"intermediate_act_fn must be .* Received: intermediate_act_fn='rellu'", {"intermediate_act_fn": "rellu"}),
        (
            r"normalization_type must be one of \('no_norm', 'layer_norm'\). Received: normalization_type='batch_norm'",
            {"normalization_type": "batch_norm"},
        ),
    ],
)
def test_arguments_of_the_block_that_make_no_sense_are_rejected_by_name(message, options):
    with pytest.raises(ValueError, match=message):
        MobileBertTransformer(**options)


@pytest.mark.parametrize(
    ("message", "options"),
    [
        (r"word_vocab_size must be an integer of at least 1. Received: word_vocab_size=0", {"word_vocab_size": 0}),
        (r"word_embed_size must be .* Received: word_embed_size=0", {"word_embed_size": 0}),
        (r"type_vocab_size must be .* Received: type_vocab_size=0", {"type_vocab_size": 0}),
        (r"output_embed_size must be .* Received: output_embed_size=0", {"output_embed_size": 0}),
        (r"max_sequence_length must be .* Received: max_sequence_length=None", {"max_sequence_length": None}),
        (r"dropout_rate must be at least 0 and below 1. Received: dropout_rate=1", {"dropout_rate": 1}),
        (r"normalization_type must be one of .* Received: normalization_type=None", {"normalization_type": None}),
    ],
)
def test_arguments_of_the_embedding_that_make_no_sense_are_rejected_by_name(message, options):
    sizes = {"word_vocab_size": N, "word_embed_size": WORD, "type_vocab_size": 2, "output_embed_size": M}
    with pytest.raises(ValueError, match=message):
        MobileBertEmbedding(**sizes | options)


@pytest.mark.parametrize("shape", [(B, M), (B, T, M + 1), (B, T, S, M)])
def test_inputs_of_another_shape_are_rejected(rng, shape):
    with pytest.raises(ValueError, match=rf"input_tensor must have the shape \(b, t, {M}\). Received: \({B}, "):
        MobileBertTransformer(M, H, F, intra_bottleneck_size=INSIDE)(np.ones(shape))
    block, _ = block_and_input(rng)
    with pytest.raises(ValueError, match=rf"input_tensor must have the shape \(b, t, {M}\). Received: \({B}, "):
        block(np.ones(shape))


def test_a_mask_that_does_not_fit_is_rejected(rng):
    block, x = block_and_input(rng)
    with pytest.raises(ValueError, match=r"attention_mask must have a shape .* Received: \(2, 1, 3, 4\)"):
        block(x, np.ones((B, T, T + 1)))


@pytest.mark.parametrize(
    ("message", "call"),
    [
        (r"input_ids must have 2 axes. Received: input_ids of shape \(5,\)", lambda layer: layer(np.ones(5, int))),
        (
            r"token_type_ids must have 2 axes. Received: token_type_ids of shape \(5,\)",
            lambda layer: layer(np.ones((B, S), int), np.ones(S, int)),
        ),
        (
            r"same size of axis 1. Received: input_ids with 5, token_type_ids with 4",
            lambda layer: layer(np.ones((B, S), int), np.ones((B, S - 1), int)),
        ),
        (
            r"same size of axis 0. Received: input_ids with 2, input_mask with 1",
            lambda layer: layer(np.ones((B, S), int), input_mask=np.ones((1, S))),
        ),
        (r"input_ids must be integers.* Received: input_ids of dtype float", lambda layer: layer(np.ones((B, S)))),
        (
            r"token_type_ids must be integers.* Received: token_type_ids of dtype float",
            lambda layer: layer(np.ones((B, S), int), np.ones((B, S))),
        ),
        (r"input_ids must have at most max_sequence_length=7 tokens. Received: 8", lambda layer: layer(np.ones((B, S + 3), int))),
    ],
)
def test_ids_that_do_not_fit_are_rejected_by_name(message, call):
    with pytest.raises(ValueError, match=message):
        call(MobileBertEmbedding(N, WORD, 2, M, S + 2))


def test_an_embedding_and_blocks_are_one_saved_model(rng, tmp_path):
    ids, mask = keras.Input((None,), dtype="int32"), keras.Input((None,), dtype="int32")
    x = MobileBertEmbedding(N, WORD, 2, M, 40)(ids, input_mask=mask)
    for options in ({}, BOTTLENECK, FULL):
        x = MobileBertTransformer(M, H, F, "gelu", intra_bottleneck_size=INSIDE, **options)(x, mask[:, None, :])
    model = keras.Model([ids, mask], x)
    model.save(tmp_path / "model.keras")
    given = [rng.integers(0, N, (B, S)).astype("int32"), np.ones((B, S), "int32")]
    assert_array_equal(keras.saving.load_model(tmp_path / "model.keras")(given), model(given))


@every_norm
def test_the_teachers_activation_is_the_exact_gelu(rng, norm):
    block, x = block_and_input(rng, intermediate_act_fn="gelu", normalization_type=norm)
    expected, _ = ref.mobile_bert_transformer(x, weights_of(block, ref.MobileBertWeights), gelu, NORMS[norm])
    assert_allclose(block(x), expected, rtol=1e-10, atol=1e-12)


def test_every_way_to_call_them_is_a_case():
    assert len(find_cases(["mobile_bert"])) >= 16
