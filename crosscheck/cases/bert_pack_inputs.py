"""BertPackInputs beside reference/bert_pack_inputs.py."""

from functools import partial
from typing import NamedTuple

import numpy as np

from crosscheck.case import B, Case, H, T
from crosscheck.catalogue import Chapter
from crosscheck.tree import Ragged
from layers.bert_pack_inputs import BertPackInputs
from reference.bert_pack_inputs import bert_pack_inputs, round_robin, waterfall

IDS = {"start_of_sequence_id": 101, "end_of_segment_id": 102, "padding_id": 3}
TRUNCATORS = {"round_robin": round_robin, "waterfall": waterfall}
SKIPS = {
    "gradient": "ids have no gradient",
    "xla": "XLA cannot compile ragged tensors",
}


class NoWeights(NamedTuple):
    """Packing has no weights."""


def tokens(rng, count):
    return rng.integers(0, 200, count).tolist()


def segment(rng, *lengths):
    return Ragged([tokens(rng, n) for n in lengths], 2)


def one(rng):
    """One row that is too long, and one that is not."""
    return {"first": segment(rng, 9, 2)}


def two(rng):
    """Two segments that are too long together: the first is longer in row 0, the second in row 1."""
    return {"first": segment(rng, 7, 2), "second": segment(rng, 4, 9)}


def short(rng):
    """Rows with room to spare, and an empty segment."""
    return {"first": segment(rng, 2, 0), "second": segment(rng, 0, 3)}


def three(rng):
    return {"first": segment(rng, 1, 8), "second": segment(rng, 9, 0), "third": segment(rng, 5, 7)}


def words(rng):
    """The pieces of words; some words are empty, as text cleaning may leave them."""
    first = [[tokens(rng, 2), [], tokens(rng, 3)], [tokens(rng, 1)]]
    second = [[tokens(rng, 1) for _ in range(5)], []]
    return {"first": Ragged(first, 3), "second": Ragged(second, 3)}


def wide(rng):
    """64-bit ids, as tensorflow-text's tokenizers return them."""
    return {name: Ragged(x.rows, x.axes, "int64") for name, x in two(rng).items()}


def dense(rng):
    return {"first": rng.integers(0, 200, (B, T)).astype("int32"), "second": rng.integers(0, 200, (B, H)).astype("int32")}


def call(layer, **segments):
    """With one segment, or with a list of them."""
    return layer(list(segments.values()) if len(segments) > 1 else segments["first"])


def reference(weights, truncator, seq_length, **segments):
    rows = [x.tolist() if isinstance(x, np.ndarray) else x.rows for x in segments.values()]
    return bert_pack_inputs(rows, seq_length, *IDS.values(), TRUNCATORS[truncator])._asdict()


def case(variant, inputs, truncator="round_robin", seq_length=9, unknown=(), **options):
    return Case(
        f"bert_pack_inputs/{variant}",
        partial(BertPackInputs, seq_length, truncator=truncator, **(options or IDS)),
        inputs,
        NoWeights,
        partial(reference, truncator=truncator, seq_length=seq_length),
        call,
        unknown=unknown,
        skips=SKIPS,
    )


CHAPTER = Chapter(
    number=28,
    name="bert_pack_inputs",
    title="Packed inputs",
    part="Text",
    sentence="One row of ids of fixed length from one or more sentences, truncated if they are too long.",
    paper="Devlin et al., 2018, §3",
    link="https://arxiv.org/abs/1810.04805",
    classes=("BertPackInputs",),
    functions=("round_robin_one", "waterfall_one", "pack_one", "unpack_one", "round_robin", "waterfall", "bert_pack_inputs"),
    cases=(
        case("one", one),
        case("two", two),
        case("two-waterfall", two, "waterfall"),
        case("two-short", short),
        case("two-short-waterfall", short, "waterfall"),
        case("three", three),
        case("three-waterfall", three, "waterfall"),
        case("words", words),
        case("words-waterfall", words, "waterfall"),
        case("only-special-tokens", two, seq_length=3),
        case("ids-from-a-dict", two, special_tokens_dict=IDS | {"mask_id": 103, "vocab_size": 200}),
        case("wide-ids", wide),
        case("dense", dense, unknown=(T, H)),
    ),
)
