"""The graph, the definition against both other forms, the limits, and what a sparse layer can get wrong.

Layer against reference: tests/conformance.
"""

import keras
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from crosscheck.agreement import largest_error
from crosscheck.backends import differentiate
from crosscheck.case import B, D, E, H, M
from crosscheck.catalogue import find_cases
from crosscheck.lesson.counting import multiply_adds
from crosscheck.weights import draw_weights, weights_of
from layers.attention import MultiHeadAttention
from layers.bigbird_attention import BigBirdAttention, BigBirdMasks
from layers.bigbird_attention.blocks import seen_blocks
from reference import attention
from reference import bigbird_attention as ref

pytestmark = pytest.mark.slow

BLOCK, RANDOM, ROWS = 3, 2, 10
SPARSE, RAGGED, SHORT, LONG = 27, 29, 21, 46
LENGTHS = (1, 2, 3, 4, SHORT, SHORT + 1, SPARSE, RAGGED, LONG)
POLICIES = ("float64", "float32", "mixed_bfloat16", "mixed_float16", "float16", "bfloat16")
OPTIONS = {"num_rand_blocks": RANDOM, "from_block_size": BLOCK, "to_block_size": BLOCK, "max_rand_mask_length": BLOCK * ROWS}


def draws_of(rng, r=RANDOM):
    return ref.draw(rng, H, ROWS, r)


def qkv(rng, length):
    return tuple(rng.normal(size=(B, length, H, size)) for size in (D, D, E))


def made(rng, length=RAGGED, dtype="float64", **options):
    """A layer with numbers of its own, and a query and a value."""
    layer = BigBirdAttention(**OPTIONS | {"seed": 3} | options, num_heads=H, key_dim=D, value_dim=E, dtype=dtype)
    query, value = rng.normal(size=(B, length, M)), rng.normal(size=(B, length, M))
    layer(query, value)
    draw_weights(layer, rng)
    return layer, query, value


def padding(rng, length):
    """Other tokens in each example, both ends among them."""
    mask = rng.random((B, length)) < 0.6
    mask[0, : -(-length // 3)] = False
    mask[1, length - length // 3 :] = False
    return mask


# The graph


def test_a_graph_worked_by_hand():
    """Row 4 of 9 blocks sees 0, 3, 4, 5, 8, and two more: of 1, 2, 6, 7 in place 6 mod 4, then of 1, 2, 7 in place 5 mod 3."""
    assert ref.random_blocks(4, 9, np.array([6, 5])) == [6, 7]
    assert ref.seen_blocks(4, 9, np.tile([6, 5], (10, 1))) == {0, 3, 4, 5, 6, 7, 8}
    assert ref.seen_blocks(1, 9, np.tile([6, 5], (10, 1))) == {0, 1, 2, 8, 4, 5}  # of 3, 4, 5, 6, 7 the 4; of 3, 5, 6, 7 the 5
    assert ref.seen_blocks(7, 9, np.tile([0, 0], (10, 1))) == {0, 6, 7, 8, 1, 2}


@pytest.mark.parametrize("blocks", [8, 9, 10, 17, 40])
def test_rows_see_global_window_and_random_blocks_and_no_block_twice(rng, blocks):
    draws = draws_of(rng)
    for h, i in np.ndindex(H, blocks):
        chosen = ref.random_blocks(i, blocks, draws[h, i % ROWS]) if 0 < i < blocks - 1 else []
        assert len(set(chosen)) == len(chosen) and not set(chosen) & ref.fixed_blocks(i, blocks)
    sizes = ref.block_graph(blocks, draws).sum(axis=-1)
    assert (sizes[:, [0, -1]] == blocks).all()
    assert (sizes[:, [1, -2]] == 4 + RANDOM).all() and (sizes[:, 2:-2] == 5 + RANDOM).all()


def test_first_and_last_block_see_all_and_are_seen_by_all(rng):
    graph = ref.block_graph(12, draws_of(rng))
    assert graph[:, [0, -1]].all() and graph[:, :, [0, -1]].all()
    assert all(graph[:, range(12 - abs(step)), range(abs(step), 12)].all() for step in (0, 1))
    assert graph[:, range(1, 12), range(11)].all()


def test_every_block_left_is_equally_likely(rng):
    """Row 5 of 16 blocks leaves 11 of them; two are taken."""
    draws = ref.draw(rng, 1, 20_000, RANDOM)[0]
    taken = np.bincount(np.ravel([ref.random_blocks(5, 16, numbers) for numbers in draws]), minlength=16)
    left = sorted(set(range(16)) - {0, 4, 5, 6, 15})
    assert_array_equal(np.flatnonzero(taken), left)
    assert_allclose(taken[left], 20_000 * RANDOM / 11, rtol=0.06)


@pytest.mark.parametrize("r", [0, 1, 2, 5])
@pytest.mark.parametrize("known", [True, False])
def test_the_layers_graph_is_the_references_for_every_number_of_blocks(rng, r, known):
    draws = ref.draw(rng, H, ROWS, r)
    for n in range(2, 26):
        seen, counts = map(
            np.asarray, seen_blocks(keras.ops.convert_to_tensor(draws), n if known else keras.ops.convert_to_tensor(n))
        )
        assert seen.min(initial=0) >= 0 and seen.max(initial=0) < n  # nothing for a gather to clamp
        if known and n <= 5 + r:
            continue
        for h, i in np.ndindex(H, n - 2):
            row = seen[h, i][counts[h, i]].tolist()
            assert len(set(row)) == len(row) and set(row) == ref.seen_blocks(i + 1, n, draws[h])


def test_any_two_tokens_are_two_steps_apart(rng):
    graph = ref.block_graph(40, draws_of(rng))
    assert (np.einsum("hij,hjk->hik", graph.astype(int), graph.astype(int)) > 0).all()


# The three forms of the reference


@pytest.mark.parametrize("length", LENGTHS)
def test_dense_mask_and_blocks_are_the_definition(rng, length):
    (q, k, v), draws = qkv(rng, length), draws_of(rng)
    dense, _ = ref.attend(q, k, v, BLOCK, draws)
    for b, h in np.ndindex(B, H):
        assert_allclose(
            dense[b, :, h], ref.attend_by_loops(q[b, :, h], k[b, :, h], v[b, :, h], BLOCK, draws[h]), rtol=1e-12, atol=1e-14
        )
    assert_allclose(ref.attend_by_blocks(q, k, v, BLOCK, draws), dense, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("length", LENGTHS)
def test_dense_mask_and_blocks_agree_under_padding(rng, length):
    (q, k, v), draws, mask = qkv(rng, length), draws_of(rng), padding(rng, length)
    dense, weights = ref.attend(q, k, v, BLOCK, draws, mask)
    assert_allclose(ref.attend_by_blocks(q, k, v, BLOCK, draws, mask), dense, rtol=1e-12, atol=1e-14)
    assert not weights.transpose(1, 0, 2, 3)[:, ~mask].any() and not weights.transpose(1, 0, 3, 2)[:, ~mask].any()
    assert not dense[~mask].any()


def test_blocks_compute_no_score_that_the_graph_leaves_out(rng):
    """Rows of 9 blocks of 3 with r = 2: two see 9, two see 6, five see 7."""
    (q, k, v), draws = qkv(rng, SPARSE), draws_of(rng)
    with multiply_adds() as counted:
        ref.attend_by_blocks(q, k, v, BLOCK, draws)
    assert sum(counted) == B * H * (2 * 9 + 2 * 6 + 5 * 7) * BLOCK**2 * (D + E)


# The layer


def test_equals_multi_head_attention_under_the_dense_mask(rng):
    for dtype, limit in (("float64", 1e-12), ("float32", 1e-5)):
        for length in (SHORT, SPARSE, RAGGED, LONG):
            layer, query, value = made(rng, length, dtype)
            full = MultiHeadAttention(num_heads=H, key_dim=D, value_dim=E, dtype=dtype)
            full(query, value)
            full.set_weights([weight for weight in layer.weights if weight is not layer.random_draws])
            mask = padding(rng, length)
            seen = ref.dense_mask(length, BLOCK, np.asarray(layer.random_draws))[None]
            assert largest_error(layer(query, value), full(query, value, attention_mask=seen)) < limit
            seen = seen & mask[:, None, :, None] & mask[:, None, None, :]
            assert largest_error(layer(query, value, attention_mask=mask), full(query, value, attention_mask=seen)) < limit


@pytest.mark.parametrize("options", [{"num_rand_blocks": 8}, {"from_block_size": 9, "to_block_size": 9}])
def test_with_every_block_it_is_attention(rng, options):
    layer, query, value = made(rng, LONG // 2, **options)
    w = weights_of(layer, ref.BigBirdWeights)
    expected, _ = attention.multi_head_attention(query, value, attention.AttentionWeights(*w[:4]))
    assert_allclose(layer(query, value), expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(("length", "is_full"), [(SHORT, True), (SHORT + 1, False)])
def test_a_sequence_of_up_to_five_blocks_and_the_random_ones_gets_full_attention(rng, length, is_full):
    assert ref.dense_mask(length, BLOCK, draws_of(rng)).all() == is_full


@pytest.mark.parametrize("masked", [False, True])
def test_a_length_known_only_at_run_time_gives_the_same(rng, masked):
    layer, _, _ = made(rng)
    query, value = (keras.Input((None, M), dtype="float64") for _ in range(2))
    mask = keras.Input((None,), dtype="bool")
    model = keras.Model([query, value, mask], layer(query, value, attention_mask=mask if masked else None))
    for compiled, lengths in ((False, LENGTHS), (True, (1, SHORT, RAGGED))):
        run = at_run_time(lambda *inputs: model(list(inputs)), compiled)
        for length in lengths:
            x, y, real = rng.normal(size=(B, length, M)), rng.normal(size=(B, length, M)), padding(rng, length)
            expected = layer(x, y, attention_mask=real if masked else None)
            assert largest_error(run(x, y, real), expected) < 1e-12


def at_run_time(run, compiled):
    """`run` in a TensorFlow graph that was traced without a length."""
    import tensorflow as tf

    open_sizes = [tf.TensorSpec((None, None, M), "float64")] * 2 + [tf.TensorSpec((None, None), "bool")]
    return tf.function(run, input_signature=open_sizes, jit_compile=compiled)


def test_one_layer_takes_every_length_and_each_has_its_graph(rng):
    layer, _, _ = made(rng, SHORT)
    w = weights_of(layer, ref.BigBirdWeights)
    for length in (LONG, 200, 2, RAGGED):
        x = rng.normal(size=(B, length, M))
        assert_allclose(layer(x, x), ref.bigbird_attention(x, x, w, BLOCK)[0], rtol=1e-12, atol=1e-13)


def test_rows_beyond_the_longest_drawn_for_use_the_numbers_again(rng):
    draws = draws_of(rng)
    again = np.concatenate([draws, draws], axis=1)
    assert_array_equal(ref.block_graph(2 * ROWS, draws), ref.block_graph(2 * ROWS, again))
    assert made(rng, max_rand_mask_length=BLOCK * ROWS - 1)[0].random_draws.shape == (H, ROWS, RANDOM)


def test_random_blocks_come_from_the_whole_sequence(rng):
    graph = ref.block_graph(200, ref.draw(rng, H, 200, RANDOM))[:, 1:-1, 1:-1]
    far = np.abs(np.subtract.outer(np.arange(198), np.arange(198))) > 1
    columns = (graph & far).any(axis=(0, 1))
    assert columns[:100].mean() > 0.9 and columns[100:].mean() > 0.9


@pytest.mark.parametrize("length", [SHORT, SPARSE, RAGGED])
@pytest.mark.parametrize("dtype", POLICIES)
def test_padding_has_no_influence(rng, dtype, length):
    layer, query, value = made(rng, length, dtype)
    mask = padding(rng, length)
    before = np.asarray(keras.ops.cast(layer(query, value, attention_mask=mask), "float32"))
    value[~mask] = 100.0
    query[~mask] = 100.0
    assert_array_equal(keras.ops.cast(layer(query, value, attention_mask=mask), "float32"), before)


@pytest.mark.parametrize("length", [SHORT, SPARSE, RAGGED])
@pytest.mark.parametrize("dtype", POLICIES)
def test_padding_gets_the_output_bias_and_so_does_an_empty_example(rng, dtype, length):
    layer, query, value = made(rng, length, dtype)
    layer.output_dense.bias.assign(np.ones(M))
    mask = padding(rng, length)
    mask[0] = False
    output = np.asarray(keras.ops.cast(layer(query, value, attention_mask=mask), "float32"))
    assert_array_equal(output[~mask], np.ones(((~mask).sum(), M)))
    assert (output[1, mask[1]] != 1).any(axis=-1).all()


def test_the_mask_is_boolean_and_one_for_all_examples_may_be_given_once(rng):
    layer, query, value = made(rng)
    ids = np.arange(RAGGED)[None] % 3
    expected = layer(query, value, attention_mask=np.repeat(ids > 0, B, axis=0))
    assert_array_equal(layer(query, value, attention_mask=ids), expected)


@pytest.mark.parametrize("length", LENGTHS)
def test_the_list_of_masks_means_the_mask_it_was_made_of(rng, length):
    layer, query, value = made(rng)
    query, value, mask = query[:, :length], value[:, :length], padding(rng, RAGGED)[:, :length]
    masks = BigBirdMasks(BLOCK, dtype="float64")(query, mask)
    assert_array_equal(layer(query, value, attention_mask=masks), layer(query, value, attention_mask=mask))


def test_masks_have_the_shapes_of_the_model_garden(rng):
    """Its shapes hold for lengths of whole blocks, at least 5 of them."""
    masks = BigBirdMasks(BLOCK)(rng.normal(size=(B, SPARSE, M)), np.ones((B, SPARSE), int))
    assert [tuple(mask.shape) for mask in masks] == [(B, 1, 5, 3, 9), (B, 1, SPARSE, 1), (B, 1, 1, SPARSE), (B, 9, 3)]


def test_a_window_mask_is_what_queries_and_keys_of_the_dense_mask_say(rng):
    mask = padding(rng, SPARSE)
    windows, queries, keys, _ = ref.masks(mask, BLOCK)
    pairs = (queries & keys)[:, 0]
    for i in range(2, 7):
        assert_array_equal(windows[:, 0, i - 2], pairs[:, 3 * i : 3 * i + 3, 3 * i - 3 : 3 * i + 6])


def test_more_padding_moves_the_last_block_and_so_changes_the_graph(rng):
    """The last block is the batch's, not the example's: a trap that the lesson shows."""
    layer, query, value = made(rng)
    longer = [np.pad(x, ((0, 0), (0, 9), (0, 0))) for x in (query, value)]
    mask = np.arange(RAGGED + 9)[None] < RAGGED
    padded = np.asarray(layer(*longer, attention_mask=mask))[:, :RAGGED]
    assert (np.abs(padded - np.asarray(layer(query, value))) > 1e-6).any()


def test_filling_up_the_last_block_changes_nothing(rng):
    layer, query, value = made(rng)
    longer = [np.pad(x, ((0, 0), (0, 1), (0, 0)), constant_values=9.0) for x in (query, value)]
    padded = np.asarray(layer(*longer, attention_mask=np.arange(RAGGED + 1)[None] < RAGGED))
    assert_allclose(padded[:, :RAGGED], layer(query, value), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("length", [SHORT, SPARSE, RAGGED])
def test_the_gradient_of_padding_is_zero_and_no_gradient_is_nan(rng, length):
    layer, query, value = made(rng, length)
    mask = padding(rng, length)
    mask[1] = False
    inputs = {"query": keras.ops.convert_to_tensor(query), "value": keras.ops.convert_to_tensor(value)}
    cotangents = {"output": rng.normal(size=(B, length, M))}
    call = lambda layer, **x: layer(**x, attention_mask=mask)  # noqa: E731
    _, by_variable, by_input = differentiate(call, layer, inputs, cotangents)
    assert not any(np.asarray(gradient)[~mask].any() for gradient in by_input.values())
    assert all(np.asarray(gradient)[0].any() for gradient in by_input.values())
    assert all(np.isfinite(gradient).all() for gradient in by_variable.values())


def test_no_array_of_all_pairs_is_made():
    """The largest array for 256 blocks of 16 tokens holds the scores of 254 rows with 5 + 3 blocks: 1/32 of all pairs."""
    import tensorflow as tf

    layer, length = BigBirdAttention(num_heads=1, key_dim=2, from_block_size=16, to_block_size=16), 4096
    program = tf.function(lambda x: layer(x, x)).get_concrete_function(tf.TensorSpec((1, length, 3)))
    graphs = [program.graph, *(function.graph for function in program.graph._functions.values() if hasattr(function, "graph"))]
    sizes = [out.shape.num_elements() or 0 for graph in graphs for op in graph.get_operations() for out in op.outputs]
    assert max(sizes) == 254 * 16 * 8 * 16


def test_no_logical_operation_has_more_than_four_axes(rng):
    """TFLite's `logical_and` ends the process where it would have to broadcast five."""
    layer, *_ = made(rng)
    run = at_run_time(lambda query, value, mask: layer(query, value, attention_mask=mask), False)
    ranks = [each.outputs[0].shape.rank for each in run.get_concrete_function().graph.get_operations() if "Logical" in each.type]
    assert max(rank or 0 for rank in ranks) == 4


def test_dropout_drops_weights_only_while_training(rng):
    for length in (SHORT, SPARSE):
        layer, query, value = made(rng, length, dropout=0.5)
        still, dropped = np.asarray(layer(query, value)), np.asarray(layer(query, value, training=True))
        assert_array_equal(layer(query, value, training=False), still)
        assert (dropped != still).any(axis=(0, 2)).all()  # in the edge rows as well as in the inner ones


def test_dropout_keeps_the_mean(rng):
    layer, query, value = made(rng, SPARSE, dropout=0.3)
    mean = np.mean([np.asarray(layer(query, value, training=True)) for _ in range(400)], axis=0)
    still = np.asarray(layer(query, value))
    assert np.abs(mean - still).max() < 0.15 * np.abs(still).max()


# Randomness


def test_a_seed_gives_the_numbers_of_the_reference_and_other_heads_other_blocks(rng):
    layer, _, _ = made(rng, seed=7)
    draws = np.asarray(layer.random_draws)
    assert_array_equal(draws, ref.draw(np.random.default_rng(7), H, ROWS, RANDOM))
    assert draws.dtype == "int32" and not any(variable is layer.random_draws for variable in layer.trainable_variables)
    graph = ref.block_graph(12, draws)
    assert all((graph[h] != graph[0]).any() for h in range(1, H))


def test_without_a_seed_layers_differ_and_set_random_seed_repeats_them(rng):
    def draws():
        return np.asarray(made(rng, seed=None)[0].random_draws)

    keras.utils.set_random_seed(5)
    first, second = draws(), draws()
    keras.utils.set_random_seed(5)
    assert (first != second).any()
    assert_array_equal(draws(), first)


def test_numpys_global_generator_is_left_alone(rng):
    np.random.seed(11)  # noqa: NPY002
    expected = np.random.random()  # noqa: NPY002
    np.random.seed(11)  # noqa: NPY002
    made(rng)
    made(rng, seed=None)
    assert np.random.random() == expected  # noqa: NPY002


def test_a_saved_layer_keeps_its_blocks_though_it_has_no_seed(rng, tmp_path):
    x = keras.Input((LONG, M))
    layer = BigBirdAttention(**OPTIONS, num_heads=H, key_dim=D)
    model = keras.Model(x, layer(x, x))
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    given = rng.normal(size=(B, LONG, M)).astype("float32")
    assert_array_equal(loaded(given), model(given))
    assert (np.asarray(type(layer).from_config(layer.get_config())(x, x).shape) == (None, LONG, M)).all()


# Errors


@pytest.mark.parametrize(
    ("message", "options"),
    [
        (r"num_rand_blocks must be an integer of at least 0. Received: num_rand_blocks=-1", {"num_rand_blocks": -1}),
        (r"from_block_size must be an integer of at least 1. Received: from_block_size=0", {"from_block_size": 0}),
        (r"to_block_size must be an integer of at least 1. Received: to_block_size=1.5", {"to_block_size": 1.5}),
        (r"max_rand_mask_length must be an integer of at least 1. .*=0", {"max_rand_mask_length": 0}),
        (r"seed must be an integer of at least 0. Received: seed=-3", {"seed": -3}),
        (r"from_block_size and to_block_size must have the same value. .* with 3, to_block_size with 4", {"to_block_size": 4}),
        (r"dropout must be at least 0 and below 1. Received: dropout=1", {"dropout": 1}),
    ],
)
def test_arguments_that_make_no_sense_are_rejected_by_name(rng, message, options):
    with pytest.raises(ValueError, match=message):
        made(rng, **options)


@pytest.mark.parametrize(
    ("message", "shapes"),
    [
        (r"query must have 3 axes. Received: query of shape \(2, 4, 9, 11\)", [(2, 4, 9, 11), (2, 4, 9, 11)]),
        (r"value must have 3 axes. Received: value of shape \(9, 11\)", [(2, 9, 11), (9, 11)]),
        (r"query and value must have the same length. Received: query with 9, value with 10", [(2, 9, 11), (2, 10, 11)]),
        (r"key and value must have the same shape .* \(2, 8\), value with \(2, 9\)", [(2, 9, 11), (2, 9, 11), (2, 8, 11)]),
        (r"query and value must have the same size of axis 0", [(2, 9, 11), (3, 9, 11)]),
    ],
)
def test_inputs_that_do_not_fit_are_rejected_by_name(message, shapes):
    with pytest.raises(ValueError, match=message):
        BigBirdAttention(num_heads=H, key_dim=D)(*map(np.ones, shapes))


@pytest.mark.parametrize("length", [SHORT - 1, SPARSE + 1, RAGGED + 9])
def test_another_length_of_the_value_is_rejected_in_a_later_call_too(rng, length):
    layer, query, value = made(rng)
    with pytest.raises(ValueError, match=f"query and key and value must have the same length. Received: query with {length}"):
        layer(np.ones((B, length, M)), value)
    with pytest.raises(ValueError, match="the same batch. Received: query with 1"):
        layer(query[:1], value)


@pytest.mark.parametrize(
    ("message", "mask"),
    [
        (r"attention_mask must have a shape that broadcasts to \(2, 29\). Received: \(2, 28\)", np.ones((2, 28))),
        (r"attention_mask must have a shape that broadcasts to \(2, 29\). Received: \(2, 29, 29\)", np.ones((2, 29, 29))),
        (r"attention_mask must be \(b, t\), or the list of 4 masks .* Received: a list of 2", [np.ones((2, 29))] * 2),
    ],
)
def test_a_mask_that_does_not_fit_is_rejected_by_name(rng, message, mask):
    layer, query, value = made(rng)
    with pytest.raises(ValueError, match=message):
        layer(query, value, attention_mask=mask)


def test_masks_for_other_blocks_are_rejected(rng):
    layer, query, value = made(rng)
    masks = BigBirdMasks(BLOCK + 1)(query, np.ones((B, RAGGED)))
    with pytest.raises(ValueError, match="the same block size. Received: from_block_size with 3, attention_mask with 4"):
        layer(query, value, attention_mask=masks)


@pytest.mark.parametrize(
    ("message", "block", "shape"),
    [
        (r"block_size must be an integer of at least 1. Received: block_size=0", 0, (2, 9)),
        (r"mask must have 2 axes. Received: mask of shape \(2, 9, 9\)", 3, (2, 9, 9)),
        (r"inputs and mask must have the same length. Received: inputs with 9, mask with 8", 3, (2, 8)),
        (r"inputs and mask must have the same batch. Received: inputs with 2, mask with 1", 3, (1, 9)),
    ],
)
def test_what_masks_cannot_be_made_of_is_rejected_by_name(message, block, shape):
    with pytest.raises(ValueError, match=message):
        BigBirdMasks(block)(np.ones((2, 9, M)), np.ones(shape))


def test_every_way_to_call_it_is_a_case():
    assert len(find_cases(["bigbird_attention"])) >= 12
