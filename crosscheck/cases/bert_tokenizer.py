"""BertTokenizer beside reference/bert_tokenizer/."""

from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from crosscheck.case import Case
from crosscheck.catalogue import Chapter
from crosscheck.models import minilm
from crosscheck.tree import Ragged
from layers.bert_tokenizer import BertTokenizer
from reference.bert_tokenizer import bert_tokenizer

COUNT = 5
SMALL = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    "un",
    "##aff",
    "##able",
    "##a",
    "e",
    "οδος",
    "##σ",
    "中",
    "i",
    "-",
    "É",
    "##te",
]
BITS = [
    "unaffable",
    "UNA",
    "É",
    "e\u0301te",
    "ΟΔΟΣ",
    "ΟΔΟΣΣ",
    "中",
    "각",
    "İ",
    "-",
    "\u200b",
    "\0",
    "ﬁ",
    "😀",
    "a\u302f\u302e",
    "ß²",
]
SKIPS = {
    "gradient": "ids have no gradient",
    "xla": "XLA compiles no strings",
    "mixed": "ids are integers, so there is nothing to round",
}


class NoWeights(NamedTuple):
    """The vocabulary is given, not learned."""


def texts(rng):
    """Strings of up to nine parts, some of them followed by a space."""
    counts = rng.integers(0, 10, COUNT)
    drawn = ["".join(rng.choice(BITS) + rng.choice(["", " ", "\t"]) for _ in range(count)) for count in counts]
    return {"inputs": np.array(drawn, object)}


def real_vocabulary():
    """The path of a file with BERT's 30,522 pieces."""
    return minilm.default_folder() / "vocab.txt"


def layer(vocabulary, dtype, **options):
    return BertTokenizer(vocabulary(), dtype=dtype, **options)


def reference(weights, inputs, vocabulary, lower_case, tokenize_with_offsets=False, max_input_chars_per_word=200):
    pieces = vocabulary()
    pieces = pieces.read_text(encoding="utf-8").splitlines() if isinstance(pieces, Path) else pieces
    ids = {piece: i for i, piece in enumerate(pieces)}
    tokens = bert_tokenizer(list(inputs), ids, lower_case, max_input_chars_per_word)
    ragged = tuple(Ragged(part, 3, dtype) for part, dtype in zip(tokens, ("int32", "int64", "int64")))
    return ragged if tokenize_with_offsets else ragged[0]


def case(variant, vocabulary=lambda: SMALL, **options):
    return Case(
        f"bert_tokenizer/{variant}",
        partial(layer, vocabulary, **options),
        texts,
        NoWeights,
        partial(reference, vocabulary=vocabulary, **options),
        batch=COUNT,
        dtypes=("float64",),
        skips=SKIPS,
    )


CHAPTER = Chapter(
    number=26,
    name="bert_tokenizer",
    title="BERT's tokenizer",
    part="Text",
    sentence="From text to the ids that BERT was trained on, with the bytes of the text that each id covers.",
    paper="Devlin et al., 2018, §3; Song et al., 2021, §3",
    link="https://arxiv.org/abs/1810.04805",
    classes=("BertTokenizer",),
    functions=("split_words", "split_words_with_bytes", "wordpieces", "bert_tokenizer"),
    cases=(
        case("uncased", lower_case=True),
        case("cased", lower_case=False),
        case("offsets", lower_case=True, tokenize_with_offsets=True),
        case("cased-offsets", lower_case=False, tokenize_with_offsets=True),
        case("short-words", lower_case=True, tokenize_with_offsets=True, max_input_chars_per_word=4),
        case("real-vocabulary", real_vocabulary, lower_case=True, tokenize_with_offsets=True),
    ),
)
