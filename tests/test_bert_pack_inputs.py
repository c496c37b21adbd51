"""The definition, worked numbers, truncation, what is unambiguous, tensorflow-text. Layer and reference: tests/conformance."""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_text as text
from numpy.testing import assert_array_equal

from layers.bert_pack_inputs import BertPackInputs
from reference import bert_pack_inputs as ref

pytestmark = pytest.mark.slow

CLS, SEP, PAD = 101, 102, 0
IDS = {"start_of_sequence_id": CLS, "end_of_segment_id": SEP, "padding_id": PAD}
NAMES = ("input_word_ids", "input_mask", "input_type_ids")
TRUNCATORS = {"round_robin": (ref.round_robin, ref.round_robin_one), "waterfall": (ref.waterfall, ref.waterfall_one)}
every_truncator = pytest.mark.parametrize("truncator", TRUNCATORS)


def ragged(rows, rank=2, dtype="int32"):
    return tf.ragged.constant(rows, dtype, ragged_rank=rank - 1)


def draw(rng, rows, longest=9):
    """Rows of tokens, those of [SEP] and [PAD] among them; some are empty."""
    return [rng.choice([7, 8, 9, SEP, PAD], rng.integers(0, longest)).tolist() for _ in range(rows)]


def in_words(rng, row):
    """A row's tokens as words of 0 to 3 pieces."""
    ends = np.cumsum(rng.integers(0, 4, len(row) + 2)).tolist()
    return [row[start:end] for start, end in zip([0, *ends], [*ends, len(row)])]


def pack(segments, seq_length, **options):
    """The layer's three arrays for segments given as lists of rows."""
    layer = BertPackInputs(seq_length, **IDS, **options)
    return ref.Packed(**{name: x.numpy() for name, x in layer([ragged(rows) for rows in segments]).items()})


@every_truncator
@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_each_row_is_pack_one(rng, truncator, count):
    many, one = TRUNCATORS[truncator]
    for seq_length in (count + 1, count + 2, 11, 40):
        segments = [draw(rng, 9) for _ in range(count)]
        found = ref.bert_pack_inputs(segments, seq_length, CLS, SEP, PAD, many)
        for b in range(9):
            expected = ref.pack_one([rows[b] for rows in segments], seq_length, CLS, SEP, PAD, one)
            for name in NAMES:
                assert_array_equal(getattr(found, name)[b], getattr(expected, name), err_msg=name)


@every_truncator
def test_the_formula_is_the_loop_for_all_small_sizes(truncator):
    many, one = TRUNCATORS[truncator]
    for count in (1, 2, 3):
        sizes = np.array(list(itertools.product(range(6), repeat=count)))
        for room in range(17):
            assert_array_equal(many(sizes, room), [one(row.tolist(), room) for row in sizes])


def test_worked_example():
    """Six and four tokens in eight places: three are special, so five are left. In turn: A B A B A, 3 + 2. A first: 5 + 0."""
    segments = [[[11, 12, 13, 14, 15, 16]], [[21, 22, 23, 24]]]
    for packed in (pack(segments, 8), ref.bert_pack_inputs(segments, 8, CLS, SEP, PAD)):
        assert packed.input_word_ids.tolist() == [[CLS, 11, 12, 13, SEP, 21, 22, SEP]]
        assert packed.input_type_ids.tolist() == [[0, 0, 0, 0, 0, 1, 1, 1]]
    for packed in (pack(segments, 8, truncator="waterfall"), ref.bert_pack_inputs(segments, 8, CLS, SEP, PAD, ref.waterfall)):
        assert packed.input_word_ids.tolist() == [[CLS, 11, 12, 13, 14, 15, SEP, SEP]]
        assert packed.input_type_ids.tolist() == [[0, 0, 0, 0, 0, 0, 0, 1]]
    for packed in (pack(segments, 15), ref.bert_pack_inputs(segments, 15, CLS, SEP, PAD)):
        assert packed.input_word_ids.tolist() == [[CLS, 11, 12, 13, 14, 15, 16, SEP, 21, 22, 23, 24, SEP, PAD, PAD]]
        assert packed.input_mask.tolist() == [[1] * 13 + [0, 0]]
        assert packed.input_type_ids.tolist() == [[0] * 8 + [1] * 5 + [0, 0]]


def test_round_robin_by_hand_for_three():
    """Room for 7 among (1, 5, 9): one each, then the last two in turn: 3 and 3. With room for 8 the second gets one more."""
    for room, kept in ((7, [1, 3, 3]), (8, [1, 4, 3]), (0, [0, 0, 0]), (2, [1, 1, 0]), (99, [1, 5, 9])):
        assert ref.round_robin_one([1, 5, 9], room) == kept
        assert ref.round_robin(np.array([[1, 5, 9]]), room).tolist() == [kept]


def test_round_robin_is_to_shorten_the_longest_until_all_fit(rng):
    """What BERT's published code does to a pair; at a tie the later one loses."""
    for _ in range(200):
        sizes, room = rng.integers(0, 9, rng.integers(1, 5)).tolist(), int(rng.integers(0, 20))
        left = list(sizes)
        while sum(left) > room:
            left[max(range(len(left)), key=lambda i: (left[i], i))] -= 1
        assert ref.round_robin_one(sizes, room) == left


@every_truncator
def test_no_place_is_wasted_and_no_token_lost_without_need(rng, truncator):
    many, _ = TRUNCATORS[truncator]
    for room in range(20):
        sizes = rng.integers(0, 9, (20, 3))
        kept = many(sizes, room)
        assert_array_equal(kept.sum(axis=1), np.minimum(sizes.sum(axis=1), room))
        assert (kept <= sizes).all() and (kept >= 0).all()


def test_for_one_segment_or_enough_room_both_truncators_are_the_same(rng):
    sizes = rng.integers(0, 9, (20, 3))
    assert_array_equal(ref.round_robin(sizes, 24), ref.waterfall(sizes, 24))
    for room in range(12):
        assert_array_equal(ref.round_robin(sizes[:, :1], room), ref.waterfall(sizes[:, :1], room))


@every_truncator
@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("rank", [2, 3])
def test_the_layer_is_the_reference_in_every_row_and_type(rng, truncator, count, rank):
    many, _ = TRUNCATORS[truncator]
    for seq_length, dtype in ((count + 1, "int32"), (9, "int64"), (16, "int32"), (40, "int64")):
        segments = [draw(rng, 20) for _ in range(count)]
        if rank == 3:
            segments = [[in_words(rng, row) for row in rows] for rows in segments]
        inputs = [ragged(rows, rank, dtype) for rows in segments]
        found = BertPackInputs(seq_length, **IDS, truncator=truncator)(inputs if count > 1 else inputs[0])
        expected = ref.bert_pack_inputs(segments, seq_length, CLS, SEP, PAD, many)
        assert set(found) == set(NAMES)
        for name in NAMES:
            assert_array_equal(found[name], getattr(expected, name), err_msg=name)
            assert found[name].dtype == "int32" and found[name].shape == (20, seq_length)


def test_words_are_packed_piece_by_piece(rng):
    rows = draw(rng, 20)
    words = [in_words(rng, row) for row in rows]
    assert_array_equal(*(ref.bert_pack_inputs([x], 7, CLS, SEP, PAD).input_word_ids for x in (rows, words)))
    layer = BertPackInputs(7, **IDS)
    assert_array_equal(layer(ragged(rows))["input_word_ids"], layer(ragged(words, 3))["input_word_ids"])


@every_truncator
@pytest.mark.parametrize("count", [1, 2, 3])
def test_tensorflow_text_packs_the_same(rng, truncator, count):
    inputs = [ragged(draw(rng, 50)) for _ in range(count)]
    kind = {"round_robin": text.RoundRobinTrimmer, "waterfall": text.WaterfallTrimmer}[truncator]
    trimmed = kind(13 - 1 - count).trim(inputs)
    ids, types = text.combine_segments(trimmed, start_of_sequence_id=CLS, end_of_segment_id=SEP)
    found = BertPackInputs(13, **IDS, truncator=truncator)(inputs)
    assert_array_equal(found["input_word_ids"], text.pad_model_inputs(ids, 13, PAD)[0])
    assert_array_equal(found["input_mask"], text.pad_model_inputs(ids, 13, PAD)[1])
    assert_array_equal(found["input_type_ids"], text.pad_model_inputs(types, 13, 0)[0])


def test_all_segments_come_back_whatever_their_tokens(rng):
    """Also where they hold the ids of [SEP] and [PAD], or nothing."""
    for count in (1, 2, 3):
        segments = [draw(rng, 20) for _ in range(count)]
        packed = pack(segments, 40)
        for b in range(20):
            row = ref.Packed(*(x[b] for x in packed))
            assert ref.unpack_one(row) == [rows[b] for rows in segments]


def test_the_mask_counts_tokens_and_not_ids_that_are_no_padding():
    packed = pack([[[7, PAD, PAD], []]], 6)
    assert packed.input_mask.tolist() == [[1, 1, 1, 1, 1, 0], [1, 1, 0, 0, 0, 0]]


def test_padding_has_its_id_and_type_zero():
    layer = BertPackInputs(7, 1, 2, 3)
    packed = layer([ragged([[9]]), ragged([[8]])])
    assert packed["input_word_ids"].numpy().tolist() == [[1, 9, 2, 8, 2, 3, 3]]
    assert packed["input_type_ids"].numpy().tolist() == [[0, 0, 0, 1, 1, 0, 0]]


@every_truncator
def test_an_empty_segment_still_has_its_end(truncator):
    packed = pack([[[]], [[7]], [[]]], 6, truncator=truncator)
    assert packed.input_word_ids.tolist() == [[CLS, SEP, 7, SEP, SEP, PAD]]
    assert packed.input_type_ids.tolist() == [[0, 0, 1, 1, 2, 0]]


def test_more_than_two_segments_have_types_of_their_own():
    assert pack([[[7]], [[8]], [[9]], [[7]]], 9).input_type_ids.tolist() == [[0, 0, 0, 1, 1, 2, 2, 3, 3]]


def test_one_segment_is_a_tensor_or_a_list_of_one():
    layer, rows = BertPackInputs(5, **IDS), ragged([[7, 8], [9]])
    for name in NAMES:
        assert_array_equal(layer(rows)[name], layer([rows])[name])


def test_of_a_dense_tensor_every_entry_is_a_token():
    layer = BertPackInputs(6, **IDS)
    assert layer(np.array([[7, 0], [8, 9]]))["input_word_ids"].numpy().tolist() == [
        [CLS, 7, 0, SEP, 0, 0],
        [CLS, 8, 9, SEP, 0, 0],
    ]
    assert layer(np.array([[[7, 8], [9, 7]]]))["input_word_ids"].numpy().tolist() == [[CLS, 7, 8, 9, 7, SEP]]
    found = layer([tf.constant([[7], [8]]), ragged([[], [9, 9, 9]])])
    assert found["input_word_ids"].numpy().tolist() == [[CLS, 7, SEP, SEP, 0, 0], [CLS, 8, SEP, 9, 9, SEP]]


def test_a_batch_of_no_rows_is_packed_into_none():
    found = BertPackInputs(5, **IDS)([ragged([]), ragged([])])
    assert all(found[name].shape == (0, 5) for name in NAMES)


@pytest.mark.parametrize("rank", [2, 3])
def test_it_runs_in_a_data_pipeline(rng, rank):
    segments = [draw(rng, 7), draw(rng, 7)]
    inputs = [ragged(rows if rank == 2 else [in_words(rng, row) for row in rows], rank) for rows in segments]
    layer = BertPackInputs(9, **IDS)
    data = tf.data.Dataset.from_tensor_slices(tuple(inputs)).batch(3).map(lambda a, b: layer([a, b]))
    assert all(spec.shape.as_list() == [None, 9] and spec.dtype == tf.int32 for spec in data.element_spec.values())
    batches = list(data.as_numpy_iterator())
    assert [len(batch["input_mask"]) for batch in batches] == [3, 3, 1]
    expected = ref.bert_pack_inputs(segments, 9, CLS, SEP, PAD)
    for name in NAMES:
        assert_array_equal(np.concatenate([batch[name] for batch in batches]), getattr(expected, name))


def test_it_is_saved_with_a_model(rng, tmp_path):
    inputs = [keras.Input((None, None), dtype="int32", ragged=True), keras.Input((None, None), dtype="int32", ragged=True)]
    tokens = {"vocab_size": 30522, "mask_id": 103} | IDS
    packed = BertPackInputs(9, special_tokens_dict=tokens, truncator="waterfall")(inputs)
    embedded = keras.layers.Embedding(200, 4)(packed["input_word_ids"])
    model = keras.Model(inputs, [*packed.values(), embedded])
    given = [ragged([in_words(rng, row) for row in draw(rng, 5)], 3) for _ in inputs]
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    for found, expected in zip(loaded(given), model(given)):
        assert_array_equal(found, expected)


def test_its_graph_is_exported_without_the_layer(tmp_path):
    layer, spec = BertPackInputs(7, **IDS), tf.RaggedTensorSpec([None, None], tf.int32, ragged_rank=1)
    module = tf.Module()
    module.pack = tf.function(lambda a, b: layer([a, b]), input_signature=[spec, spec])
    tf.saved_model.save(module, tmp_path / "exported")
    found = tf.saved_model.load(tmp_path / "exported").pack(ragged([[7, 8, 9]]), ragged([[9]]))
    assert found["input_word_ids"].numpy().tolist() == [[CLS, 7, 8, 9, SEP, 9, SEP]]
    assert found["input_type_ids"].numpy().tolist() == [[0, 0, 0, 0, 0, 1, 1]]


@pytest.mark.parametrize("name", IDS)
def test_a_missing_id_is_rejected_when_the_layer_is_made(name):
    ids = {key: value for key, value in IDS.items() if key != name}
    message = f"{name} must be given, as an argument or in special_tokens_dict. Received: {name}=None"
    for options in (ids, {"special_tokens_dict": ids}, {"special_tokens_dict": ids | {name: None}}):
        with pytest.raises(ValueError, match=message):
            BertPackInputs(8, **options)


def test_ids_may_come_from_a_dict_from_arguments_or_from_both():
    tokens = {"vocab_size": 30522, "mask_id": 103, "padding_id": np.int64(0)} | {name: IDS[name] for name in list(IDS)[:2]}
    both = IDS | {"special_tokens_dict": tokens}
    for options in ({"special_tokens_dict": tokens}, both, {"special_tokens_dict": IDS}, IDS):
        layer = BertPackInputs(8, **options)
        assert {name: getattr(layer, name) for name in IDS} == IDS
        assert all(type(getattr(layer, name)) is int for name in IDS)
        again = BertPackInputs.from_config(layer.get_config())
        assert again.get_config() == layer.get_config() and type(again.get_config()["special_tokens_dict"]) in (dict, type(None))


@pytest.mark.parametrize("value", [-1, 1.5, "7", True, 100, 2**31])
def test_an_id_that_is_none_or_two_is_rejected(value):
    message = (
        "start_of_sequence_id must be one integer from 0 to 2³¹ − 1. "
        f"Received: start_of_sequence_id={value!r}, and 101 in special_tokens_dict"
    )
    with pytest.raises(ValueError, match=message):
        BertPackInputs(8, special_tokens_dict=IDS, start_of_sequence_id=value)


@pytest.mark.parametrize(
    ("message", "options"),
    [
        (r"seq_length must be an integer of at least 2. Received: seq_length=1", {"seq_length": 1}),
        (r"seq_length must be an integer of at least 2. Received: seq_length=8.0", {"seq_length": 8.0}),
        (r"truncator must be one of \('round_robin', 'waterfall'\). Received: truncator='longest'", {"truncator": "longest"}),
    ],
)
def test_arguments_that_make_no_sense_are_rejected_by_name(message, options):
    with pytest.raises(ValueError, match=message):
        BertPackInputs(**{"seq_length": 8} | IDS | options)


@pytest.mark.parametrize("count", [2, 3])
def test_a_row_too_short_for_the_special_tokens_is_rejected(count):
    message = f"seq_length must be at least {1 + count}, for .* {count} segments. Received: seq_length={count}"
    with pytest.raises(ValueError, match=message):
        pack([[[]]] * count, count)
    with pytest.raises(ValueError, match=message):
        BertPackInputs(count, **IDS)([keras.Input((None,), dtype="int32", ragged=True)] * count)
    with pytest.raises(ValueError, match=f"seq_length must be at least 1 \\+ {count}, .* Received: seq_length={count}"):
        ref.bert_pack_inputs([[[]]] * count, count, CLS, SEP, PAD)
    assert pack([[[7]]] * count, count + 1).input_word_ids.tolist() == [[CLS] + [SEP] * count]


@pytest.mark.parametrize(
    ("message", "inputs"),
    [
        (r"inputs must be at least one segment. Received: inputs=\[\]", lambda: []),
        (r"inputs\[0\] must have at least 2 axes. Received: inputs\[0\] of shape \(1,\)", lambda: tf.constant([1])),
        (
            r"the same number of axes. Received: inputs\[0\] with 2, inputs\[1\] with 3",
            lambda: [ragged([[1]]), ragged([[[1]]], 3)],
        ),
        (r"inputs\[0\] must be integers.* Received: .* dtype float32", lambda: ragged([[1.0]], dtype="float32")),
        (r"inputs\[1\] must be integers.* Received: .* dtype string", lambda: [ragged([[1]]), ragged([["a"]], dtype="string")]),
        (r"inputs\[0\] must be integers.* Received: .* dtype bool", lambda: ragged([[True]], dtype="bool")),
        (
            r"must have the same number of rows. Received: inputs\[0\] with 1, .*with 2",
            lambda: [ragged([[1]]), ragged([[1], [2]])],
        ),
    ],
)
def test_inputs_that_do_not_fit_are_rejected_by_name(message, inputs):
    with pytest.raises(ValueError, match=message):
        BertPackInputs(8, **IDS)(inputs())


def test_numbers_of_rows_that_only_the_graph_knows_are_compared_there():
    layer = BertPackInputs(8, **IDS)
    spec = tf.RaggedTensorSpec([None, None], tf.int32, ragged_rank=1)
    graph = tf.function(lambda a, b: layer([a, b]), input_signature=[spec, spec])
    assert graph(ragged([[7]]), ragged([[8]]))["input_word_ids"].numpy().tolist() == [[CLS, 7, SEP, 8, SEP, 0, 0, 0]]
    for unequal in (ragged([[1], [2]]), ragged([])):
        with pytest.raises(tf.errors.InvalidArgumentError, match="all of inputs must have the same number of rows"):
            graph(ragged([[7]]), unequal)


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "graph"])
@pytest.mark.parametrize(
    ("dtype", "value"),
    [("int64", 2**31), ("int64", 2**32 + 3), ("int64", -(2**31) - 1), ("uint32", 2**32 - 1), ("uint64", 2**64 - 1)],
)
def test_a_token_that_int32_cannot_hold_is_an_error_not_another_token(dtype, value, compiled):
    layer = BertPackInputs(8, **IDS)
    run = tf.function(layer) if compiled else layer
    assert run(ragged([[7, 2**31 - 1]], dtype=dtype))["input_word_ids"].numpy().tolist() == [[CLS, 7, 2**31 - 1, SEP, 0, 0, 0, 0]]
    with pytest.raises(tf.errors.InvalidArgumentError, match="inputs must be ids in the range of int32"):
        run(ragged([[7, value]], dtype=dtype))


def test_a_special_id_that_int32_cannot_hold_is_rejected():
    with pytest.raises(ValueError, match="padding_id must be one integer from 0 to 2³¹ − 1. Received: padding_id=2147483648"):
        BertPackInputs(8, **IDS | {"padding_id": 2**31})
