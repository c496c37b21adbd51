"""MaskedLM and MaskedLMMaskGenerator beside reference/masked_lm.py."""

from functools import partial

import keras
import numpy as np

from crosscheck.case import B, Case, M, S, T
from crosscheck.cases.self_attention_mask import NoWeights
from crosscheck.catalogue import Chapter
from layers.masked_lm import MaskedLM
from layers.masked_lm.mask_generator import MaskedLMMaskGenerator
from reference.common.activations import ACTIVATIONS
from reference.masked_lm import MaskedLMWeights, choose, corrupt, log_softmax, masked_lm, predictions

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


LONG, SPECIAL, MASK_ID = 20, [0, 2, 3], 4


def tokens(rng, length=LONG):
    """Token ids, special ones and padding among them, and the draws; bfloat16 has all of their digits that count."""
    ids = rng.integers(0, N, (B, length))
    ids[0, length // 2 :] = 0
    ids[1, 0] = MASK_ID
    choice = rng.permuted(np.tile(np.arange(length) / 64, (B, 1)), axis=1)
    fate = rng.choice([0.0, 0.25, 0.75, 0.875, 0.96875], (B, length))
    return {"token_ids": ids, "choice": choice, "fate": fate, "random_ids": rng.integers(5, N, (B, length))}


def nothing_to_hide(rng):
    return tokens(rng) | {"token_ids": rng.choice([*SPECIAL, MASK_ID], (B, LONG))}


def hiding_reference(weights, token_ids, choice, fate, random_ids, most, rate):
    chosen = choose(~np.isin(token_ids, [*SPECIAL, MASK_ID]), choice, most, rate)
    read, _ = corrupt(token_ids, np.where(chosen, 0.0, 1.0), fate, random_ids, MASK_ID)
    positions, known, counts = predictions(token_ids, chosen, most)
    return {"token_ids": read, "mask_positions": positions, "mask_ids": known, "mask_weights": counts}


def hiding(variant, inputs=tokens, most=T, rate=0.15):
    return Case(
        f"masked_lm/hiding{variant}",
        partial(MaskedLMMaskGenerator, N, MASK_ID, most, SPECIAL, rate),
        inputs,
        NoWeights,
        partial(hiding_reference, most=most, rate=rate),
        unknown=(LONG,),
        skips={"gradient": "ids have no gradient"},
    )


CHAPTER = Chapter(
    number=20,
    name="masked_lm",
    title="Masked language model",
    part="Heads",
    sentence="Hidden words are predicted from the text on both sides of them.",
    paper="Devlin et al., 2018, §3.1",
    link="https://arxiv.org/abs/1810.04805",
    classes=("MaskedLM", "MaskedLMMaskGenerator"),
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
        hiding(""),
        hiding("-half", rate=0.5, most=12),
        hiding("-more-than-there-is-room", rate=1.0),
        hiding("-with-more-room-than-tokens", rate=1.0, most=LONG + T),
        hiding("-nothing", nothing_to_hide),
    ),
)
