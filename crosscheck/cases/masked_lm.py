"""MaskedLM beside reference/masked_lm.py."""

from functools import partial

import keras
import numpy as np

from crosscheck.case import B, Case, M, S, T
from crosscheck.catalogue import Chapter
from layers.masked_lm import MaskedLM
from reference.common.activations import ACTIVATIONS
from reference.masked_lm import MaskedLMWeights, log_softmax, masked_lm

N = 17
NO_OWNER = "the table is a weight of another layer, to which a configuration cannot refer"


def sequences(rng, width=M):
    return {"sequence_data": rng.normal(size=(B, S, width)), "masked_positions": rng.integers(0, S, (B, T))}


def outside(rng):
    """Positions before the sequence, after it, and where the data of another example would be read."""
    return sequences(rng) | {"masked_positions": np.array([[1, S, -1], [-S, 10**9, S - 1]])}


def small_integers(rng):
    return sequences(rng) | {"masked_positions": np.array([[0, 4, 127], [-128, 3, 3]], "int8")}


def unsigned(rng):
    return sequences(rng) | {"masked_positions": np.array([[0, 4, 2**32 - 1], [1, 3, 2**31]], "uint32")}


def wider(rng):
    return sequences(rng, M + 2)


def head(dtype, activation=None, output="logits", as_weight=False, **options):
    table = keras.layers.Embedding(N, M, dtype=dtype)
    table.build(None)
    return MaskedLM(table.embeddings if as_weight else table, activation, output=output, dtype=dtype, **options)


def reference(weights, sequence_data, masked_positions, activation, output):
    logits, _ = masked_lm(sequence_data, masked_positions.astype("int64"), weights, ACTIVATIONS[activation or "linear"])
    return log_softmax(logits) if output == "predictions" else logits


def case(variant, activation, inputs=sequences, output="logits", skips=(), **options):
    return Case(
        f"masked_lm/{variant}",
        partial(head, activation=activation, output=output, **options),
        inputs,
        MaskedLMWeights,
        partial(reference, activation=activation, output=output),
        unknown=(S, T),
        skips={check: NO_OWNER for check in skips},
    )


CHAPTER = Chapter(
    number=20,
    name="masked_lm",
    title="Masked language model",
    part="Embeddings and heads",
    sentence="Hidden words are predicted from the text on both sides of them.",
    paper="Devlin et al., 2018, §3.1",
    link="https://arxiv.org/abs/1810.04805",
    classes=("MaskedLM",),
    functions=("predict_one", "masked_lm", "log_softmax", "corrupt"),
    cases=(
        case("gelu", "gelu"),
        case("linear", None),
        case("relu", "relu"),
        case("gelu-tanh", "gelu_tanh"),
        case("predictions", "gelu", output="predictions"),
        case("outside", "gelu", outside),
        case("outside-predictions", "gelu", outside, output="predictions"),
        case("small-integers", "tanh", small_integers),
        case("unsigned", "tanh", unsigned),
        case("wider", "gelu", wider),
        case("weight", "gelu", as_weight=True, skips=("config", "copy", "save")),
    ),
)
