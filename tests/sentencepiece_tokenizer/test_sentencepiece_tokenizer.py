"""The definition, cuts worked by hand, traps, the sentencepiece package. Layer against reference: tests/conformance."""

import os
import random
import subprocess
import sys
import unicodedata
from functools import cache

import keras
import numpy as np
import pytest
import sentencepiece
import tensorflow as tf
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sentencepiece import sentencepiece_model_pb2

from crosscheck.cases.sentencepiece_tokenizer import TEXTS
from crosscheck.models.sentencepiece import SMALL, license_lines, read, small, train
from layers.sentencepiece_tokenizer import SentencepieceTokenizer
from reference import sentencepiece_tokenizer as ref
from reference.sentencepiece_tokenizer.model import Model, lattice_of
from reference.sentencepiece_tokenizer.normalizer import Normalizer

pytestmark = pytest.mark.slow

SPICES = (
    *" \u3000▁\t\0abthe,.½ﬁ㍿가\u200b\u0301\ufffdÅéß日本",
    *("the", "ing", "[MASK]", "[CLS]", "ﬁn", "<s>", "<unk>", "<0x41>", "\u1112\u1161\u11ab", "👩‍👧", "lic"),
)
CODE_POINTS = [
    point
    for point in (*range(0xD800), *range(0xE000, 0x10000), *range(0x1F000, 0x20000))
    if unicodedata.category(chr(point)) != "Cn"
]
PLAIN = Normalizer(add_dummy_prefix=False)


def noisy(count, seed=0):
    """Texts of everything that is special to a tokenizer."""
    draw = random.Random(seed)
    return ["".join(draw.choice(SPICES) for _ in range(draw.randrange(14))) for _ in range(count)]


@cache
def package(name):
    return sentencepiece.SentencePieceProcessor(model_proto=small(name))


def layer_of(name, lower_case=False, **options):
    return SentencepieceTokenizer(lower_case, model_serialized_proto=small(name), **options)


def toy(scores, algorithm="unigram", **options):
    """A model of the given pieces, whose text is not changed before it is cut."""
    pieces = ("<unk>", *scores)
    kinds = ("unknown", *["normal"] * len(scores))
    options = {"normalizer": PLAIN} | options
    return Model(pieces, np.array([0.0, *scores.values()]), kinds, algorithm, **options)


def cut(text, model):
    return [model.pieces[i] for i in ref.encode([text], model).ids[0]]


HUG = {"h": -4.0, "u": -4.5, "g": -4.2, "hu": -5.0, "ug": -4.9, "hug": -9.5}


def test_worked_example():
    """hug: −9.5 whole; h|ug −4 − 4.9 = −8.9, the best; hu|g −9.2; h|u|g −12.7."""
    lattice = lattice_of(toy(HUG))
    found = {"|".join(pieces): round(ref.log_probability(pieces, lattice), 9) for pieces in ref.segmentations("hug", lattice)}
    assert found == {"hug": -9.5, "h|ug": -8.9, "hu|g": -9.2, "h|u|g": -12.7}
    assert cut("hug", toy(HUG)) == ["h", "ug"]
    assert cut("hug", toy(HUG | {"hug": -8.8})) == ["hug"]


@pytest.mark.parametrize("seed", range(40))
def test_viterbi_finds_the_best_of_all_cuts(seed):
    draw = random.Random(seed)
    pieces = {"".join(draw.choices("abc", k=draw.randint(1, 4))): -draw.uniform(1, 9) for _ in range(12)}
    lattice = lattice_of(toy(pieces))
    for text in ("".join(draw.choices("abcd", k=length)) for length in range(11)):
        best = max(ref.segmentations(text, lattice), key=lambda pieces: ref.log_probability(pieces, lattice))
        assert tuple(ref.viterbi(text, lattice)) == best


def test_of_equal_cuts_the_one_with_the_longest_last_piece_is_taken():
    assert cut("aaa", toy({"a": -2.0, "aa": -3.0})) == ["a", "aa"]


def test_an_unknown_character_costs_ten_more_than_the_rarest_piece_and_neighbors_become_one():
    model = toy(HUG)
    assert lattice_of(model).unknown_score == -19.5
    assert cut("hxyzg", model) == ["h", "<unk>", "g"]
    encoded = ref.encode(["hxé g"], model)
    assert encoded.starts == [[0, 1, 5]] and encoded.limits == [[1, 5, 6]]


def test_a_users_symbol_costs_a_tenth_and_a_control_symbol_is_not_found():
    """[X] and ] cost 0.1 + 1, less than [X]] with 1.2; where [X] is a control symbol it is what its characters are."""
    scores = {"[": -1.0, "X": -1.0, "]": -1.0, "[X": -0.5, "[X]]": -1.2}
    kinds = ("unknown", *["normal"] * 5)
    for kind, expected in (("user_defined", ["[X]", "]"]), ("control", ["[X]]"])):
        model = toy(scores)
        model = model._replace(pieces=(*model.pieces, "[X]"), scores=np.append(model.scores, 0.0), kinds=(*kinds, kind))
        assert cut("[X]]", model) == expected


def test_unused_pieces_are_not_found():
    model = toy(HUG)
    assert cut("hug", model._replace(kinds=(*model.kinds[:5], "unused", "normal"))) == ["hu", "g"]


def test_byte_fallback_spells_what_is_unknown_and_the_last_byte_has_its_place():
    model = read(small("bytes"))
    encoded = ref.encode(["a⛄"], model)
    assert [model.pieces[i] for i in encoded.ids[0]][-3:] == ["<0xE2>", "<0x9B>", "<0x84>"]
    assert encoded.starts[0][-3:] == [1, 1, 1] and encoded.limits[0][-3:] == [1, 1, 4]


def test_bytes_of_no_character_decode_to_one_replacement_each():
    model = read(small("bytes"))
    ids = [model.pieces.index(f"<0x{byte:02X}>") for byte in (0x41, 0xE2, 0x9B, 0x41, 0xE2, 0x9B, 0x84)]
    assert ref.decode(ids, model) == "A\ufffd\ufffdA⛄" == package("bytes").decode(ids)


def test_decoding_an_id_outside_the_vocabulary_is_rejected():
    for i in (-1, 400):
        with pytest.raises(ValueError, match=f"ids must be from 0 to 399. Received: {i}"):
            ref.decode([5, i], read(small("unigram")))


def test_a_model_of_half_the_kinds_is_rejected():
    with pytest.raises(ValueError, match="model must be one of .* Received: 'word'"):
        ref.encode(["a"], toy(HUG, "word"))
    with pytest.raises(ValueError, match="without unused pieces"):
        ref.encode(["a"], toy(HUG, "bpe")._replace(kinds=("unknown", *["unused"] * 6)))
    with pytest.raises(ValueError, match="one unknown piece. Received: 0"):
        ref.encode(["a"], toy(HUG)._replace(kinds=("normal",) * 7))
    with pytest.raises(ValueError, match=r"of the kinds .* Received: \['odd'\]"):
        ref.encode(["a"], toy(HUG)._replace(kinds=("unknown", "odd", *["normal"] * 5)))


# The sentencepiece package, as a third party


@pytest.mark.parametrize("name", SMALL)
def test_reference_layer_and_package_agree_on_ids_and_the_reference_decodes_as_the_package(name, capsys):
    texts = [*TEXTS, *noisy(1200)]
    model, theirs = read(small(name)), package(name)
    ours, expected = ref.encode(texts, model), [theirs.encode(text) for text in texts]
    ids, starts, limits = layer_of(name, tokenize_with_offsets=True)(tf.constant(texts))
    assert ours.ids == expected == ids.to_list()
    assert ours.starts == starts.to_list() and ours.limits == limits.to_list()
    assert [ref.decode(row, model) for row in ours.ids] == [theirs.decode(row) for row in expected]
    with capsys.disabled():
        print(f"\n{name}: {len(texts)} strings, {sum(map(len, expected))} tokens agree", end="")


@pytest.mark.parametrize("name", ["unigram", "bytes", "symbols", "as-it-is"])
def test_any_ids_decode_as_the_package_decodes_them(name):
    draw, model = random.Random(1), read(small(name))
    for _ in range(1500):
        ids = [draw.randrange(len(model.pieces)) for _ in range(draw.randrange(9))]
        assert ref.decode(ids, model) == package(name).decode(ids)


def test_where_cuts_are_equally_probable_layer_and_reference_still_agree_and_the_package_takes_one_of_equals():
    """Sums of float32 scores differ in their last digit by their order, which decides between a|aaa and aaa|a."""
    proto = train(["aaaa bbbb abab baba aab abb" * 3] * 30, vocab_size=20, hard_vocab_limit=False)
    model, theirs = read(proto), sentencepiece.SentencePieceProcessor(model_proto=proto)
    draw = random.Random(2)
    texts = ["".join(draw.choices(["a", "b", "ab", "aaa", " ", "x"], k=draw.randrange(20))) for _ in range(3000)]
    ids, lattice = ref.encode(texts, model).ids, lattice_of(model)
    layer = SentencepieceTokenizer(False, model_serialized_proto=proto)
    assert layer(tf.constant(texts)).to_list() == ids
    others = [(i, theirs.encode(text)) for i, text in enumerate(texts) if theirs.encode(text) != ids[i]]
    for i, other in others:
        score, theirs_score = (sum(lattice.scores.get(model.pieces[p], 0.0) for p in row) for row in (ids[i], other))
        assert abs(score - theirs_score) < 1e-4
    assert len(others) < 0.2 * len(texts)


def test_every_seventh_character_gets_the_same_ids_and_places_from_layer_and_reference():
    """Of all assigned code points of the basic plane and of the emoji blocks, in `a?b`."""
    texts = [f"a{chr(point)}b" for point in CODE_POINTS[::7]]
    assert len(texts) > 9000
    found = layer_of("bytes", tokenize_with_offsets=True)(tf.constant(texts))
    for rows, expected in zip(found, ref.encode(texts, read(small("bytes")))):
        assert rows.to_list() == expected


@pytest.mark.parametrize("options", [{"lower_case": True}, {"strip_diacritics": True}])
def test_every_character_is_prepared_alike_but_for_the_letters_that_tensorflow_does_not_know(options):
    texts = [f"a{chr(point)}b" for point in CODE_POINTS]
    found = layer_of("bytes", **{"lower_case": False} | options).prepare(tf.constant(texts)).numpy()
    differing = [text[1] for text, f in zip(texts, found) if f.decode() != ref.prepare(text, **options)[0]]
    assert differing == (["Ⱟ", "Ꟁ", "Ꟑ", "Ꟗ", "Ꟙ"] if "lower_case" in options else [])
    assert all(tf.strings.lower(letter, encoding="utf-8").numpy().decode() == letter for letter in differing)


# Normalization, spaces, and the way back


def test_spaces_are_characters_of_their_own():
    model = toy({"▁": -1.0, "a": -1.0, "▁a": -1.5}, normalizer=Normalizer())
    assert cut(" a  a ", model) == ["▁a", "▁a"]
    assert cut(" a  a ", model._replace(normalizer=Normalizer(remove_extra_whitespaces=False))) == ["▁", "▁a", "▁", "▁a", "▁"]
    assert cut("a a", model._replace(normalizer=Normalizer(treat_whitespace_as_suffix=True))) == ["a", "▁a", "▁"]
    assert ref.encode(["", "  "], model).ids == [[], []]


@settings(max_examples=300, deadline=None)
@given(st.text())
@example("  a ▁ \0 \u0301⛄\ud7ff ")
def test_what_is_encoded_comes_back_whole(text):
    """Without rules and with byte fallback nothing is lost but ▁ itself, which is how a space is written."""
    model = read(small("as-it-is"))
    ids = ref.encode([text], model).ids[0]
    assert ref.decode(ids, model) == text.replace("▁", " ") == package("as-it-is").decode(ids)


@settings(max_examples=150, deadline=None)
@given(st.text(alphabet=st.sampled_from(sorted({*"".join(license_lines()), "½", "ﬁ", "\u3000"}))))
def test_text_of_known_characters_comes_back_normalized(text):
    """Equation (4): what comes back is what the package calls normal, its first space taken off."""
    for name in ("unigram", "byte-pairs"):
        model, normal = read(small(name)), package(name).normalize(text)
        if not set(normal) <= set(model.pieces):
            continue
        ids = ref.encode([text], model).ids[0]
        assert ref.decode(ids, model) == normal.removeprefix("▁").replace("▁", " ")


@pytest.mark.parametrize("name", ["unigram", "byte-pairs-bytes"])
def test_pieces_lie_beside_each_other_and_cover_the_text(name):
    encoded = ref.encode(list(TEXTS), read(small(name)))
    for text, starts, limits in zip(TEXTS, encoded.starts, encoded.limits):
        assert all(start <= limit for start, limit in zip(starts, limits))
        assert all(limit == start for limit, start in zip(limits, starts[1:]))
        assert not limits or limits[-1] <= len(text.encode())


def test_half_a_surrogate_pair_is_rejected():
    with pytest.raises(ValueError, match="text must be valid in UTF-8. Received: '.ud800'"):
        ref.encode(["a\ud800"], read(small("unigram")))


def test_a_byte_that_is_no_utf8_counts_as_a_replacement_character():
    texts = [b"a\xffb", b"\xe2\x96K\xc3", b"\xf0\x9f\x98"]
    model = read(small("no-rules"))
    found = layer_of("no-rules", tokenize_with_offsets=True)(tf.constant(texts))
    expected = [ref.encode_one(text, model, lattice_of(model)) for text in texts]
    assert [rows.to_list() for rows in found] == [[row[part] for row in expected] for part in range(3)]


# The layer


def test_places_are_those_of_the_text_before_lower_case():
    """K of Kelvin has three bytes and k one; İ has two and i̇ three."""
    _, starts, limits = layer_of("bytes", lower_case=True, tokenize_with_offsets=True)(tf.constant(["\u212a\u0130, a", "", "ẞ"]))
    for text, start, limit in zip(("\u212a\u0130, a", "", "ẞ"), starts.to_list(), limits.to_list()):
        boundaries = [len(text[:i].encode()) for i in range(len(text) + 1)]
        assert set(start + limit) <= set(boundaries) and (not limit or limit[-1] == len(text.encode()))


def test_lower_case_keeps_what_follows_a_zero_byte_and_ends_words_in_final_sigma():
    for lowered, text in (("a\0b c\0", "A\0B C\0"), ("οδος", "ΟΔΟΣ"), ("ß", "ẞ")):
        found = layer_of("bytes", lower_case=True)(tf.constant([text]))
        assert found.to_list() == layer_of("bytes")(tf.constant([lowered])).to_list()


def test_stripped_korean_is_still_korean():
    found = layer_of("as-it-is", strip_diacritics=True)(tf.constant(["한국 é"]))
    assert found.to_list() == [package("as-it-is").encode("한국 e")]


def test_special_tokens_are_those_the_model_has():
    assert layer_of("unigram").get_special_tokens_dict() == {"vocab_size": 400}
    expected = {"vocab_size": 400, "start_of_sequence_id": 4, "end_of_segment_id": 5, "padding_id": 3, "mask_id": 6}
    assert layer_of("symbols").get_special_tokens_dict() == expected
    assert layer_of("symbols").vocab_size == 400


def test_control_symbols_in_a_text_are_text():
    model = read(small("symbols"))
    assert cut("[MASK]", model) == ["▁", "[MASK]"] and "[CLS]" not in cut("[CLS]", model)
    assert 4 not in layer_of("symbols")(tf.constant(["[CLS]"])).to_list()[0]


def test_it_runs_in_a_dataset():
    data = tf.data.Dataset.from_tensor_slices(list(TEXTS)).batch(7).map(layer_of("bytes"))
    assert [row for batch in data for row in batch.to_list()] == layer_of("bytes")(tf.constant(TEXTS)).to_list()


LOADED = """
import sys
import keras, tensorflow as tf
import layers.sentencepiece_tokenizer
kept, exported, text = sys.argv[1:]
for model in (keras.saving.load_model(kept), tf.saved_model.load(exported).serve):
    print(model(tf.constant([text])).to_list())
"""


def test_a_saved_model_loads_elsewhere_without_the_models_file(tmp_path):
    file = tmp_path / "small.model"
    file.write_bytes(small("bytes"))
    inputs = keras.Input((), dtype="string")
    model = keras.Model(inputs, SentencepieceTokenizer(False, model_file_path=str(file))(inputs))
    model.save(tmp_path / "kept.keras")
    model.export(str(tmp_path / "exported"), verbose=False)
    file.unlink()
    program = [sys.executable, "-c", LOADED, str(tmp_path / "kept.keras"), str(tmp_path / "exported"), "a ⛄"]
    printed = subprocess.run(program, capture_output=True, text=True, check=True).stdout.strip()
    assert printed.splitlines() == 2 * [str([package("bytes").encode("a ⛄")])]


def test_a_model_comes_from_a_file_bytes_or_hexadecimal(tmp_path):
    file = tmp_path / "small.model"
    file.write_bytes(small("unigram"))
    for options in ({"model_file_path": str(file)}, {"model_serialized_proto": small("unigram").hex()}):
        layer = SentencepieceTokenizer(False, **options)
        assert layer.model_file_path is None and layer.model_serialized_proto == small("unigram")
        assert layer(tf.constant(["the licence"])).to_list() == [package("unigram").encode("the licence")]


def test_draws_are_other_cuts_of_the_same_text():
    text = "the license of the contributors"
    for name, options in (("unigram", {"nbest_size": -1, "alpha": 0.2}), ("byte-pairs", {"nbest_size": -1, "alpha": 0.5})):
        drawn = layer_of(name, **options)(tf.constant([text] * 40)).to_list()
        assert len(set(map(tuple, drawn))) > 5
        assert {ref.decode(row, read(small(name))) for row in drawn} == {text}
    best = package("unigram").nbest_encode(text, nbest_size=3)
    drawn = layer_of("unigram", nbest_size=3, alpha=0.1)(tf.constant([text] * 60)).to_list()
    assert set(map(tuple, drawn)) == set(map(tuple, best))


def test_nothing_is_drawn_at_zero_and_one():
    for size in (0, 1):
        assert layer_of("unigram", nbest_size=size, alpha=0.1)(tf.constant(TEXTS)).to_list() == [
            package("unigram").encode(text) for text in TEXTS
        ]


@pytest.mark.parametrize(
    ("message", "options"),
    [
        (
            "exactly one of model_file_path and model_serialized_proto must be given. Received: neither",
            {"model_serialized_proto": None},
        ),
        (
            "exactly one of model_file_path and model_serialized_proto must be given. Received: both",
            {"model_file_path": "a.model"},
        ),
        ("model_serialized_proto must be a SentencePiece model. Received: 3 bytes", {"model_serialized_proto": b"abc"}),
        ("model_serialized_proto must be a SentencePiece model. Received: 0 bytes", {"model_serialized_proto": b""}),
        (
            "model_serialized_proto must be hexadecimal digits if it is a str. Received: 'a.model'",
            {"model_serialized_proto": "a.model"},
        ),
        ("model_serialized_proto must be bytes or a str .* Received: int", {"model_serialized_proto": 7}),
        ("lower_case must be True or False. Received: lower_case=None", {"lower_case": None}),
        ("strip_diacritics must be True or False. Received: strip_diacritics=1", {"strip_diacritics": 1}),
        ("tokenize_with_offsets must be True or False.", {"tokenize_with_offsets": "no"}),
        ("tokenize_with_offsets must be False with strip_diacritics", {"tokenize_with_offsets": True, "strip_diacritics": True}),
        ("nbest_size must be an integer of at most 512. Received: nbest_size=513", {"nbest_size": 513}),
        ("nbest_size must be an integer of at most 512. Received: nbest_size=True", {"nbest_size": True}),
        ("alpha must be a finite number of at least 0. Received: alpha=-0.5", {"alpha": -0.5}),
        ("alpha must be a finite number of at least 0. Received: alpha=nan", {"alpha": float("nan")}),
    ],
)
def test_arguments_that_make_no_sense_are_rejected_by_name(message, options):
    with pytest.raises(ValueError, match=message):
        SentencepieceTokenizer(**{"lower_case": False, "model_serialized_proto": small("unigram")} | options)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ("a", r"inputs must have 1 axis. Received: inputs of shape \(\)"),
        ([["a"]], r"inputs must have 1 axis. Received: inputs of shape \(1, 1\)"),
        ([1, 2], "inputs must be strings. Received: inputs of dtype int32"),
    ],
)
def test_inputs_that_are_no_row_of_texts_are_rejected(inputs, message):
    with pytest.raises(ValueError, match=message):
        layer_of("unigram")(inputs)


def test_a_list_and_an_array_of_strings_are_taken_as_a_tensor_is():
    layer, texts = layer_of("unigram"), ["the licence", ""]
    for inputs in (texts, np.array(texts, object), tf.constant(texts)):
        assert layer(inputs).to_list() == [package("unigram").encode(text) for text in texts]


def test_a_model_with_it_is_not_compiled_by_xla_where_keras_chooses():
    assert not layer_of("unigram").supports_jit


def test_on_jax_it_is_a_function_on_tensorflows_tensors():
    program = (
        "import keras, tensorflow as tf; from layers.sentencepiece_tokenizer import SentencepieceTokenizer;"
        "from crosscheck.models.sentencepiece import small;"
        "assert keras.backend.backend() == 'jax';"
        "layer = SentencepieceTokenizer(False, model_serialized_proto=small('unigram'));"
        "data = tf.data.Dataset.from_tensor_slices(['the licence', 'a']).batch(2).map(layer);"
        "print(layer(['the licence', 'a']).to_list() == next(iter(data)).to_list())"
    )
    environment = os.environ | {"KERAS_BACKEND": "jax"}
    ran = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
    assert ran.stdout.strip() == "True", ran.stderr[-2000:]


def test_without_tensorflow_text_the_error_names_it_and_the_reference(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_text", None)
    with pytest.raises(ImportError, match="needs the package tensorflow-text.*reference.sentencepiece_tokenizer.encode"):
        layer_of("unigram")


def test_importing_the_layer_does_not_import_tensorflow_text():
    program = "import sys, layers.sentencepiece_tokenizer; assert 'tensorflow_text' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)


# Reading model files


def test_models_that_the_reference_does_not_know_are_rejected():
    lines = [*license_lines()]
    for kind in ("word", "char"):
        with pytest.raises(ValueError, match=f"of the types .* Received: {kind}"):
            read(train(lines, model_type=kind, vocab_size=70, hard_vocab_limit=False))
    with pytest.raises(ValueError, match="proto must be"):
        read(b"abc")


@pytest.mark.parametrize("name", ["unigram", "byte-pairs", "as-it-is", "suffix"])
def test_a_model_may_leave_spaces_as_they_are(name):
    said = sentencepiece_model_pb2.ModelProto.FromString(small(name))
    said.normalizer_spec.escape_whitespaces = False
    proto, texts = said.SerializeToString(), noisy(300)
    model, theirs = read(proto), sentencepiece.SentencePieceProcessor(model_proto=proto)
    ids = ref.encode(texts, model).ids
    assert ids == [theirs.encode(text) for text in texts]
    assert ids == SentencepieceTokenizer(False, model_serialized_proto=proto)(tf.constant(texts)).to_list()


def test_only_the_first_space_is_the_encoders_where_a_model_keeps_all_spaces():
    said = sentencepiece_model_pb2.ModelProto.FromString(small("bytes"))
    said.normalizer_spec.remove_extra_whitespaces = False
    proto = said.SerializeToString()
    model, theirs = read(proto), sentencepiece.SentencePieceProcessor(model_proto=proto)
    for text in ("   three", " ", "⛄ a  ", "  ⛄"):
        ids = ref.encode([text], model).ids[0]
        assert ids == theirs.encode(text) and ref.decode(ids, model) == text == theirs.decode(ids)


def test_pieces_that_a_file_calls_unused_are_not_found():
    said = sentencepiece_model_pb2.ModelProto.FromString(small("unigram"))
    for piece in said.pieces[100:]:
        piece.type = said.SentencePiece.UNUSED if len(piece.piece) > 1 else piece.type
    proto, texts = said.SerializeToString(), [*license_lines()[:30], *noisy(100)]
    ids = ref.encode(texts, read(proto)).ids
    assert ids != ref.encode(texts, read(small("unigram"))).ids
    assert ids == SentencepieceTokenizer(False, model_serialized_proto=proto)(tf.constant(texts)).to_list()


def test_training_is_repeatable_and_says_what_size_is_possible():
    assert train() == small("unigram")
    with pytest.raises(RuntimeError, match="Vocabulary size too high"):
        train(["a b c"] * 9, vocab_size=400)


def test_reading_keeps_pieces_scores_and_kinds():
    model, theirs = read(small("symbols")), package("symbols")
    assert list(model.pieces) == [theirs.id_to_piece(i) for i in range(400)]
    assert model.scores.tolist() == [theirs.get_score(i) for i in range(400)]
    assert [kind == "control" for kind in model.kinds] == [theirs.is_control(i) for i in range(400)]
    assert [kind == "unknown" for kind in model.kinds] == [theirs.is_unknown(i) for i in range(400)]


def test_every_small_model_is_another_case():
    assert len({small(name) for name in SMALL}) == len(SMALL) == 10
