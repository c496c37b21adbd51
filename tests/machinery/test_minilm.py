"""What a model's files say arrives where it belongs, and broken files are named."""

import importlib.util
import json
import subprocess
import sys

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from safetensors.numpy import save_file

from crosscheck.models import minilm
from crosscheck.models.bert_checkpoint import load_bert

CONFIG = {
    "model_type": "bert",
    "hidden_size": 6,
    "num_attention_heads": 2,
    "num_hidden_layers": 2,
    "vocab_size": 9,
    "max_position_embeddings": 7,
    "type_vocab_size": 2,
    "layer_norm_eps": 1e-3,
}
PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "walk", "##ed", "##e", ".", "wal"]
LINEAR = ("self.query", "self.key", "self.value", "output.dense")


@pytest.fixture
def folder(tmp_path, rng):
    """A small model of our own."""
    m, shapes = 6, {"word": (9, 6), "position": (7, 6), "token_type": (2, 6)}
    tensors = {f"embeddings.{name}_embeddings.weight": rng.normal(size=shape) for name, shape in shapes.items()}
    tensors |= {f"embeddings.LayerNorm.{part}": rng.normal(size=m) for part in ("weight", "bias")}
    for layer in range(2):
        where = f"encoder.layer.{layer}.attention"
        tensors |= {f"{where}.{name}.weight": rng.normal(size=(m, m)) for name in LINEAR}
        tensors |= {f"{where}.{name}.bias": rng.normal(size=m) for name in LINEAR}
    write(tmp_path, CONFIG, PIECES, {name: value.astype("float32") for name, value in tensors.items()})
    return tmp_path


def write(folder, config=None, pieces=None, tensors=None):
    if config is not None:
        (folder / "config.json").write_text(json.dumps(config))
    if pieces is not None:
        (folder / "vocab.txt").write_text("\n".join(pieces) + "\n")
    if tensors is not None:
        save_file(tensors, folder / "model.safetensors")


def test_weights_are_the_files_transposed_and_split_into_heads(folder):
    model = minilm.load(folder)
    weights = minilm.attention_weights(model, 1)
    for name, projection in zip(LINEAR[:3], weights):
        kernel, bias = (model.tensors[f"encoder.layer.1.attention.{name}.{part}"] for part in ("weight", "bias"))
        for m, h, d in np.ndindex(6, 2, 3):
            assert projection.kernel[m, h, d] == kernel[h * 3 + d, m]
            assert projection.bias[h, d] == bias[h * 3 + d]
    kernel = model.tensors["encoder.layer.1.attention.output.dense.weight"]
    for h, d, m in np.ndindex(2, 3, 6):
        assert weights.attention_output.kernel[h, d, m] == kernel[m, h * 3 + d]
    assert_array_equal(weights.attention_output.bias, model.tensors["encoder.layer.1.attention.output.dense.bias"])
    assert {array.dtype for projection in weights for array in projection} == {np.dtype("float64")}


def test_embeddings_are_word_position_and_type_normalized(folder):
    model = minilm.load(folder)
    pieces = ["[CLS]", "walk", "##ed", "[SEP]"]
    found = minilm.embed(model, pieces)
    gamma, beta = (model.tensors[f"embeddings.LayerNorm.{part}"].astype("float64") for part in ("weight", "bias"))
    word, place, kind = (model.tensors[f"embeddings.{n}_embeddings.weight"] for n in ("word", "position", "token_type"))
    for t, i in enumerate((2, 4, 5, 3)):
        x = np.float64(word[i]) + place[t] + kind[0]
        assert_allclose(found[0, t], gamma * (x - x.mean()) / np.sqrt(x.var() + 1e-3) + beta, rtol=1e-12)
    assert found.shape == (1, 4, 6) and found.dtype == "float64"


def test_wordpieces_are_the_longest_first(folder):
    model = minilm.load(folder)
    assert minilm.wordpieces(model, "walked wale.") == ["[CLS]", "walk", "##ed", "wal", "##e", ".", "[SEP]"]


@pytest.mark.parametrize(
    ("sentence", "pieces"),
    [("WALK\twálked", ["walk", "walk", "##ed"]), ("walks walk", ["[UNK]", "walk"]), ("中.", ["[UNK]", "."]), ("", [])],
)
def test_any_text_has_wordpieces(folder, sentence, pieces):
    assert minilm.wordpieces(minilm.load(folder), sentence) == ["[CLS]", *pieces, "[SEP]"]


@pytest.mark.parametrize("name", ["config.json", "vocab.txt", "model.safetensors"])
def test_a_missing_file_is_named_and_how_to_get_it(folder, name, monkeypatch):
    (folder / name).unlink()
    monkeypatch.setenv("MINILM", str(folder))
    with pytest.raises(FileNotFoundError, match=f"{name} is missing: `make compare` installs the package {minilm.PACKAGE}"):
        minilm.load()


@pytest.mark.parametrize("name", ["config.json", "vocab.txt", "model.safetensors"])
def test_a_file_missing_in_a_given_folder_is_named_beside_what_the_folder_holds(folder, name):
    (folder / name).rename(folder / "pytorch_model.bin")
    with pytest.raises(
        FileNotFoundError, match=rf"{name} is missing: folder must hold .* which holds .*pytorch_model.bin"
    ) as error:
        load_bert(folder)
    assert "make compare" not in str(error.value) and "MINILM" not in str(error.value)


def test_a_given_folder_that_is_none_is_named(folder, tmp_path):
    for where, what in ((folder / "nowhere", "no folder"), (folder / "vocab.txt", "a file")):
        with pytest.raises(FileNotFoundError, match=rf"must hold .*Received: folder='{where}', which is {what}"):
            load_bert(where)
    empty, full = tmp_path / "empty", tmp_path / "full"
    for where in (empty, full):
        where.mkdir()
    for i in range(12):
        (full / f"{i:02}").touch()
    for where, what in ((empty, "no files"), (full, "00, .*, 09, …")):
        with pytest.raises(FileNotFoundError, match=f"which holds {what}$"):
            minilm.load(str(where))


@pytest.mark.parametrize("text", [b"{", b"", b"\xff"])
def test_a_config_that_is_no_json_is_named(folder, text):
    (folder / "config.json").write_bytes(text)
    with pytest.raises(ValueError, match="config.json is not valid JSON"):
        minilm.load(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "gpt2"}, "must have the model_type bert. Received: gpt2"),
        ({"position_embedding_type": "relative_key"}, "position_embedding_type absolute. Received: relative_key"),
        ({"vocab_size": None}, "must have vocab_size, an integer of at least 1. Received: None"),
        ({"hidden_size": "6"}, "must have hidden_size, .*Received: 6"),
        ({"num_hidden_layers": 0}, "must have num_hidden_layers, .*Received: 0"),
        ({"num_attention_heads": 4}, "a multiple of num_attention_heads. Received: 6 and 4"),
        ({"layer_norm_eps": None}, "must have layer_norm_eps, a number above 0. Received: None"),
    ],
)
def test_a_config_that_does_not_fit_is_named(folder, change, message):
    write(folder, config=CONFIG | change)
    with pytest.raises(ValueError, match=f"config.json {message}" if message.startswith("must") else message):
        minilm.load(folder)


@pytest.mark.parametrize("name", sorted(CONFIG))
def test_a_config_that_lacks_a_key_says_which(folder, name):
    write(folder, config={key: value for key, value in CONFIG.items() if key != name})
    with pytest.raises(ValueError, match=f"config.json must have .*{name}.*Received: None"):
        minilm.load(folder)


def test_a_config_that_is_a_list_is_rejected(folder):
    write(folder, config=[1])
    with pytest.raises(ValueError, match="config.json must have the model_type bert. Received: None"):
        minilm.load(folder)


@pytest.mark.parametrize(
    ("pieces", "message"),
    [
        ([*PIECES, "more"], "different pieces, at most the 9 of vocab_size in config.json. Received: 10 pieces, 10 different"),
        ([*PIECES[:-1], "walk"], "Received: 9 pieces, 8 different"),
        (["sep" if piece == "[SEP]" else piece for piece in PIECES], r"Missing: \[SEP\]"),
    ],
)
def test_a_vocabulary_that_is_not_the_configs_is_named(folder, pieces, message):
    write(folder, pieces=pieces)
    with pytest.raises(ValueError, match=f"vocab.txt must have .*{message}"):
        minilm.load(folder)


def test_a_table_may_have_more_rows_than_the_vocabulary_has_pieces(folder):
    """Many models pad their table, for example to a multiple of 64 rows."""
    write(folder, pieces=PIECES[:-1])
    model = minilm.load(folder)
    assert model.vocabulary == {piece: i for i, piece in enumerate(PIECES[:-1])} and model.config["vocab_size"] == 9
    assert minilm.embed(model, ["walk"]).shape == (1, 1, 6)


def test_a_vocabulary_that_is_no_text_is_named(folder):
    (folder / "vocab.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match="vocab.txt is not valid UTF-8"):
        minilm.load(folder)


@pytest.mark.parametrize("damage", [lambda data: data[:-9], lambda data: data[:5], lambda data: b"", lambda data: b"PK" * 500])
def test_a_damaged_tensor_file_is_named(folder, damage):
    file = folder / "model.safetensors"
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(ValueError, match="model.safetensors cannot be read: "):
        minilm.load(folder)


@pytest.mark.parametrize("lent", [False, True])
def test_a_dtype_that_numpy_lacks_is_an_error_that_names_the_file(folder, lent):
    if lent:
        importlib.import_module("ml_dtypes")  # as every backend of Keras does; from then on NumPy knows a bfloat16
    header = json.dumps({"a": {"dtype": "BF16", "shape": [2], "data_offsets": [0, 4]}}).encode()
    (folder / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))
    with pytest.raises(ValueError, match="model.safetensors cannot be read: .*bfloat16"):
        minilm.load(folder)


def test_a_missing_or_misshapen_tensor_is_named(folder):
    tensors = minilm.load(folder).tensors
    missing = "encoder.layer.0.attention.self.key.bias"
    bent = "embeddings.position_embeddings.weight"
    other = {name: value for name, value in tensors.items() if name != missing} | {bent: np.zeros((8, 6), "float32")}
    write(folder, tensors=other)
    minilm.read.cache_clear()
    model = minilm.load(folder)
    complaint = rf"model.safetensors must have {missing} of shape \(6,\). Received: no tensor of that name"
    with pytest.raises(ValueError, match=complaint):
        minilm.attention_weights(model, 0)
    with pytest.raises(ValueError, match=rf"{bent} of shape \(7, 6\). Received: \(8, 6\)"):
        minilm.embed(model, ["walk"])


def test_layers_pieces_and_lengths_that_the_model_lacks_are_rejected(folder):
    model = minilm.load(folder)
    for layer in (-1, 2):
        with pytest.raises(ValueError, match=f"layer must be from 0 to 1. Received: layer={layer}"):
            minilm.attention_weights(model, layer)
    with pytest.raises(ValueError, match="vocab.txt. Received: 'run'"):
        minilm.embed(model, ["walk", "run"])
    for count in (0, 8):
        with pytest.raises(ValueError, match=f"1 to 7. Received: {count} pieces"):
            minilm.embed(model, ["walk"] * count)


def test_minilm_names_the_folder(folder, monkeypatch):
    monkeypatch.setenv("MINILM", str(folder))
    assert minilm.load().config == CONFIG
    monkeypatch.setenv("MINILM", str(folder / "nowhere"))
    with pytest.raises(FileNotFoundError, match=r"nowhere.config.json is missing"):
        minilm.load()


def test_without_the_package_the_error_says_how_to_get_it(monkeypatch):
    monkeypatch.delenv("MINILM", raising=False)
    monkeypatch.setattr(minilm, "PACKAGE", "no_such_package")
    with pytest.raises(FileNotFoundError, match="model.safetensors is missing: `make compare` installs"):
        minilm.load()


def test_the_cases_are_found_without_reading_the_model():
    program = (
        "from crosscheck import catalogue; from crosscheck.models import minilm;"
        "catalogue.all_cases(); print(minilm.read.cache_info().misses)"
    )
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.strip() == "0"


@pytest.fixture
def real(monkeypatch):
    monkeypatch.delenv("MINILM", raising=False)
    if importlib.util.find_spec(minilm.PACKAGE) is None:
        pytest.skip(f"needs the package {minilm.PACKAGE}")
    return minilm.load()


def test_the_real_model_has_the_sizes_it_is_known_for(real):
    sizes = [real.config[name] for name in ("num_hidden_layers", "hidden_size", "num_attention_heads")]
    assert sizes == [6, 384, 12] and len(real.vocabulary) == 30522
    for layer in range(6):
        weights = minilm.attention_weights(real, layer)
        assert weights.query.kernel.shape == (384, 12, 32) and weights.attention_output.kernel.shape == (12, 32, 384)


def test_the_real_vocabulary_splits_what_it_lacks(real):
    """A word that is not in the vocabulary, and punctuation inside one."""
    pieces = minilm.wordpieces(real, "the unaffable cat, isn't it?")
    assert pieces == ["[CLS]", "the", "una", "##ffa", "##ble", "cat", ",", "isn", "'", "t", "it", "?", "[SEP]"]
    assert [real.vocabulary[piece] for piece in ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "the")] == [0, 100, 101, 102, 1996]


def test_real_embeddings_are_normalized_before_gamma_and_beta(real):
    gamma, beta = (real.tensors[f"embeddings.LayerNorm.{part}"].astype("float64") for part in ("weight", "bias"))
    x = (minilm.embed(real, minilm.wordpieces(real, "a cat sat .")) - beta) / gamma
    assert_allclose(x.mean(axis=-1), 0, atol=1e-12)
    assert_allclose(x.var(axis=-1), 1, rtol=1e-9)
