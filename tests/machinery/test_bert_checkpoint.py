"""A checkpoint's weights arrive in the encoder, all of them and no others; what does not fit is listed."""

import json

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from safetensors.numpy import save_file
from scipy.special import erf

from crosscheck.models import minilm
from crosscheck.models.bert_checkpoint import load_bert
from crosscheck.weights import weights_of
from reference.bert import BertWeights, bert_encoder

M, H, F, N, T, LAYERS = 6, 2, 5, 9, 7, 2
CONFIG = {
    "model_type": "bert",
    "hidden_size": M,
    "num_attention_heads": H,
    "num_hidden_layers": LAYERS,
    "intermediate_size": F,
    "hidden_act": "gelu",
    "vocab_size": N,
    "max_position_embeddings": T,
    "type_vocab_size": 2,
    "layer_norm_eps": 1e-3,
}
SHAPES = {
    "attention.self.query": (M, M),
    "attention.self.key": (M, M),
    "attention.self.value": (M, M),
    "attention.output.dense": (M, M),
    "intermediate.dense": (F, M),
    "output.dense": (M, F),
}


@pytest.fixture
def tensors(rng):
    """What such a file holds, as (out, in)."""
    shapes = {"word": (N, M), "position": (T, M), "token_type": (2, M)}
    shapes = {f"embeddings.{name}_embeddings.weight": shape for name, shape in shapes.items()}
    norms, maps = ["embeddings.LayerNorm"], {"pooler.dense": (M, M)}
    for i in range(LAYERS):
        norms += [f"encoder.layer.{i}.{name}.LayerNorm" for name in ("attention.output", "output")]
        maps |= {f"encoder.layer.{i}.{name}": shape for name, shape in SHAPES.items()}
    shapes |= {f"{name}.{part}": (M,) for name in norms for part in ("weight", "bias")}
    shapes |= {f"{name}.weight": shape for name, shape in maps.items()}
    shapes |= {f"{name}.bias": shape[:1] for name, shape in maps.items()}
    return {name: rng.normal(size=shape).astype("float32") for name, shape in shapes.items()}


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *"abcde"]) + "\n")
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    return tmp_path


def load(folder, tensors, **options):
    minilm.read.cache_clear()  # the folder's files have changed
    save_file(tensors, folder / "model.safetensors")
    return load_bert(folder, **options)


def linear(x, tensors, name):
    return x @ tensors[f"{name}.weight"].T + tensors[f"{name}.bias"]


def test_the_encoder_computes_what_the_file_says(folder, tensors, rng):
    """The first block and the pooler, from the file's own tensors, heads and all."""
    encoder = load(folder, tensors, dtype="float64", return_attention_scores=True)
    ids = rng.integers(0, N, (1, 4)).astype("int32")
    found = encoder({"input_word_ids": ids, "input_mask": np.ones_like(ids), "input_type_ids": np.ones_like(ids)})
    tensors = {name: value.astype("float64") for name, value in tensors.items()}

    def norm(x, name):
        centered = x - x.mean(-1, keepdims=True)
        scaled = centered / np.sqrt((centered**2).mean(-1, keepdims=True) + 1e-3)
        return scaled * tensors[f"{name}.weight"] + tensors[f"{name}.bias"]

    x = tensors["embeddings.word_embeddings.weight"][ids[0]] + tensors["embeddings.position_embeddings.weight"][:4]
    x = norm(x + tensors["embeddings.token_type_embeddings.weight"][1], "embeddings.LayerNorm")
    q, k, v = (linear(x, tensors, f"encoder.layer.0.attention.self.{name}") for name in ("query", "key", "value"))
    heads = []
    for head in range(H):
        columns = slice(head * M // H, (head + 1) * M // H)
        weights = np.exp(q[:, columns] @ k[:, columns].T / np.sqrt(M // H))
        weights /= weights.sum(-1, keepdims=True)
        assert_allclose(found["attention_scores"][0][0, head], weights, rtol=1e-10)
        heads.append(weights @ v[:, columns])
    y = x + linear(np.concatenate(heads, axis=-1), tensors, "encoder.layer.0.attention.output.dense")
    y = norm(y, "encoder.layer.0.attention.output.LayerNorm")
    inner = linear(y, tensors, "encoder.layer.0.intermediate.dense")
    z = y + linear(inner * (1 + erf(inner / np.sqrt(2))) / 2, tensors, "encoder.layer.0.output.dense")
    assert_allclose(found["encoder_outputs"][0][0], norm(z, "encoder.layer.0.output.LayerNorm"), rtol=1e-9)
    last = np.asarray(found["sequence_output"])[0, 0]
    assert_allclose(found["pooled_output"][0], np.tanh(linear(last, tensors, "pooler.dense")), rtol=1e-10)


def test_the_reference_with_the_encoders_weights_is_the_encoder(folder, tensors, rng):
    encoder = load(folder, tensors, dtype="float64")
    ids = rng.integers(0, N, (2, 4)).astype("int32")
    found = encoder({"input_word_ids": ids, "input_mask": np.ones_like(ids), "input_type_ids": 0 * ids})
    expected = bert_encoder(ids, np.ones_like(ids), 0 * ids, weights_of(encoder, BertWeights), epsilon=1e-3)
    assert_allclose(found["sequence_output"], expected.sequence, rtol=1e-10)


def test_names_of_task_models_and_of_the_first_code_are_known(folder, tensors):
    expected = load(folder, tensors).get_weights()
    renamed = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): x
        for name, x in tensors.items()
    }
    found = load(folder, {f"bert.{name}": x for name, x in renamed.items()}).get_weights()
    for one, other in zip(found, expected):
        assert_array_equal(one, other)


def test_a_file_without_a_pooler_makes_an_encoder_without_one(folder, tensors):
    encoder = load(folder, {name: x for name, x in tensors.items() if not name.startswith("pooler")})
    assert encoder.use_pooler is False


def test_heads_are_left_over_unless_they_are_ignored(folder, tensors):
    tensors["cls.predictions.bias"] = np.zeros(N, "float32")
    with pytest.raises(ValueError, match=r"model.safetensors must .* Received: cls.predictions.bias is left over"):
        load(folder, tensors)
    assert load(folder, tensors, ignore=("cls.",)).built


def test_all_that_does_not_fit_is_listed(folder, tensors):
    del tensors["encoder.layer.1.output.dense.bias"], tensors["pooler.dense.weight"]
    tensors["encoder.layer.2.output.dense.bias"] = np.zeros(M, "float32")
    tensors["encoder.layer.0.intermediate.dense.weight"] = np.zeros((M, F), "float32")
    with pytest.raises(ValueError) as caught:
        load(folder, tensors)
    for complaint in (
        "encoder.layer.1.output.dense.bias is missing",
        "pooler.dense.weight is missing",
        "encoder.layer.2.output.dense.bias is left over",
        "encoder.layer.0.intermediate.dense.weight has the shape (6, 5), not (5, 6)",
    ):
        assert complaint in str(caught.value)


def test_positions_that_a_file_holds_must_count_from_zero(folder, tensors):
    tensors["embeddings.position_ids"] = np.arange(T)[None]
    assert load(folder, tensors).built
    tensors["embeddings.position_ids"] = np.arange(T)[None] + 2
    with pytest.raises(ValueError, match="position_ids"):
        load(folder, tensors)


@pytest.mark.parametrize(("hidden_act", "found"), [("gelu", "gelu"), ("gelu_new", "gelu_tanh"), ("relu", "relu")])
def test_activations_have_their_names_there(folder, tensors, hidden_act, found):
    (folder / "config.json").write_text(json.dumps(CONFIG | {"hidden_act": hidden_act}))
    assert load(folder, tensors).inner_activation.__name__ == found


@pytest.mark.parametrize(
    ("change", "message"),
    [({"hidden_act": "mish"}, "hidden_act .* Received: mish"), ({"intermediate_size": None}, "intermediate_size, an integer")],
)
def test_a_config_that_cannot_be_is_named(folder, tensors, change, message):
    (folder / "config.json").write_text(json.dumps(CONFIG | change))
    with pytest.raises(ValueError, match=message):
        load(folder, tensors)


def test_the_real_model_fits():
    assert load_bert().count_params() == 22_713_216
