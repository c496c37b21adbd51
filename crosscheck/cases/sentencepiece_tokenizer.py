"""SentencepieceTokenizer beside reference/sentencepiece_tokenizer/."""

from functools import partial
from typing import NamedTuple

import numpy as np

from crosscheck.case import Case
from crosscheck.catalogue import Chapter
from crosscheck.models.sentencepiece import SENTENCES, SMALL, license_lines, read, small
from crosscheck.tree import Ragged
from layers.sentencepiece_tokenizer import SentencepieceTokenizer
from reference.sentencepiece_tokenizer import encode

HARD = (
    "",
    "   ",
    "\u200b",
    "two  spaces, \ttab,\nline, \u3000wide ",
    "▁ that is in the text, and <unk> <s> <0x41> [CLS]",
    "the [MASK] of ﬁnal ﬁ [mask]",
    "½ ㍿ ﷺ ① Ⅳ Å \u1112\u1161\u11ab 한국 が",
    "KAPITÄLCHEN, İstanbul, ΟΔΟΣ, ẞ, the \u212a of Kelvin",
    "e\u0301 é ę\u0308, zalgo\u0300\u0301\u0302\u0303",
    "unseen ⛄ and 👩‍👧‍👦, 𝔘nicode, Ꙗ Ꙙ",
    "NUL \0 and \x07 and \ufeff and \ufffd end \0",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa" * 3,
)


class NoWeights(NamedTuple):
    """The model is trained elsewhere, so there are no weights."""


TEXTS = (*HARD, *SENTENCES, *license_lines()[:40])


def texts(rng):
    return {"inputs": np.array(TEXTS, object)}


def reference(weights, inputs, model, lower_case=False, strip_diacritics=False, tokenize_with_offsets=False):
    encoded = encode(list(inputs), read(small(model)), lower_case, strip_diacritics)
    ids = Ragged(encoded.ids, 2)
    return (ids, *(Ragged(rows, 2, "int64") for rows in encoded[1:])) if tokenize_with_offsets else ids


def layer(model, lower_case=False, **options):
    return SentencepieceTokenizer(lower_case, model_serialized_proto=small(model), **options)


def case(variant, model, **options):
    return Case(
        f"sentencepiece_tokenizer/{variant}",
        partial(layer, model, **options),
        texts,
        NoWeights,
        partial(reference, model=model, **options),
        batch=len(TEXTS),
        skips={"gradient": "ids have no gradient", "xla": "XLA compiles no strings"},
    )


CHAPTER = Chapter(
    number=27,
    name="sentencepiece_tokenizer",
    title="SentencePiece",
    part="Text",
    sentence="Pieces learned from raw text, spaces included, so that text can be restored from its pieces.",
    paper="Kudo & Richardson, 2018, §3; Kudo, 2018, §3.2",
    link="https://arxiv.org/abs/1808.06226",
    classes=("SentencepieceTokenizer",),
    functions=("segmentations", "viterbi", "encode_one", "encode", "decode"),
    cases=(
        *(case(model, model, tokenize_with_offsets=True) for model in SMALL),
        case("ids-alone", "unigram"),
        case("lower-case", "byte-pairs-bytes", lower_case=True),
        case("lower-case-offsets", "bytes", lower_case=True, tokenize_with_offsets=True),
        case("strip-diacritics", "no-rules", strip_diacritics=True),
        case("strip-and-lower-case", "bytes", strip_diacritics=True, lower_case=True),
    ),
)
