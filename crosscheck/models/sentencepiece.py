"""SentencePiece models: small ones that are trained here, and any `.model` file in the form that the reference takes.

The reference imports nothing but NumPy: the `sentencepiece` package trains models, and `read` reads their files.
"""

import io
from functools import cache
from pathlib import Path

import numpy as np

from crosscheck.models.protocol_buffers import fields
from reference.sentencepiece_tokenizer.model import ALGORITHMS, Model
from reference.sentencepiece_tokenizer.normalizer import Normalizer, read_rules

LICENSE = Path(__file__).with_name("apache-2.0.txt")
SENTENCES = (
    "The quick brown fox jumps over the lazy dog, again and again; it newly found the lowest and the widest way.",
    "Zażółć gęślą jaźń. Füchse übernähmen größere Höfe. Où l’œuvre naïve s’achève, ça déçoit.",
    "Съешь же ещё этих мягких французских булок. Ξεσκεπάζω την ψυχοφθόρα βδελυγμία.",
    "我能吞下玻璃而不伤身体。 私はガラスを食べられます。 나는 유리를 먹을 수 있어요. نص حكيم له سر قاطع. דג סקרן שט בים.",
)
SYMBOLS = {"user_defined_symbols": ["[MASK]", "ﬁn"], "control_symbols": ["[CLS]", "[SEP]"], "pad_id": 3}
SMALL = {
    "unigram": {},
    "byte-pairs": {"model_type": "bpe"},
    "bytes": {"byte_fallback": True, "vocab_size": 600},
    "byte-pairs-bytes": {"model_type": "bpe", "byte_fallback": True, "vocab_size": 700},
    "symbols": SYMBOLS,
    "byte-pairs-symbols": SYMBOLS | {"model_type": "bpe"},
    "case-folding": {"normalization_rule_name": "nmt_nfkc_cf"},
    "no-rules": {"normalization_rule_name": "identity"},
    "as-it-is": {
        "normalization_rule_name": "identity",
        "remove_extra_whitespaces": False,
        "add_dummy_prefix": False,
        "byte_fallback": True,
        "vocab_size": 600,
    },
    "suffix": {"treat_whitespace_as_suffix": True},
}
"""The options of small models of every kind, by name."""

# The numbers of fields and of their values are those of `sentencepiece_model.proto`, which never change.
READ_KINDS = {1: "normal", 2: "unknown", 3: "control", 4: "user_defined", 5: "unused", 6: "byte"}
READ_ALGORITHMS = {1: "unigram", 2: "bpe", 3: "word", 4: "char"}


def license_lines():
    """The lines of the project's license, a text that never changes and is part of the package."""
    return [line.strip() for line in LICENSE.read_text(encoding="utf-8").splitlines() if line.strip()]


@cache
def small(name):
    """The bytes of one of the models in `SMALL`."""
    return train(**SMALL[name])


def train(lines=None, **options):
    """The bytes of a `.model` file, which depend only on the lines and options.

    Args:
        lines: Text to learn from; by default the license and a few sentences in other languages.
        options: Options of `sentencepiece.SentencePieceTrainer.train`.
    """
    import sentencepiece

    file = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([*license_lines(), *SENTENCES] if lines is None else lines),
        model_writer=file,
        **{"vocab_size": 400, "minloglevel": 2, "num_threads": 1} | options,
    )
    return file.getvalue()


def read(proto):
    """The reference's `Model` of a `.model` file.

    Args:
        proto: The file's bytes, or its path.

    Raises:
        ValueError: if `proto` is not such a file, or its model consists of words or characters, has rules for denormalization, or
            has no unknown piece.
    """
    return read_bytes(proto if isinstance(proto, bytes) else Path(proto).read_bytes())


@cache
def read_bytes(proto):
    try:
        file = fields(proto)
        pieces = [fields(piece) for piece in file.get(1, [])]
        trainer, normalizer, denormalizer = (fields(b"".join(file.get(number, []))) for number in (2, 3, 5))
    except (ValueError, TypeError) as error:  # a TypeError for an integer where a message should be
        raise ValueError(f"proto must be the bytes of a SentencePiece model. Received: {len(proto)} bytes") from error
    if (algorithm := READ_ALGORITHMS.get(last(trainer, 3, 1))) not in ALGORITHMS or not pieces:
        raise ValueError(f"proto must be a model of the types {ALGORITHMS}. Received: {algorithm}, {len(pieces)} pieces")
    if last(denormalizer, 2, b""):
        raise ValueError("proto must be a model whose decoding needs no rules. Received: one with a denormalizer_spec")
    return Model(
        pieces=tuple(last(piece, 1, b"").decode() for piece in pieces),
        scores=np.frombuffer(b"".join(last(piece, 2, bytes(4)) for piece in pieces), "<f4"),
        kinds=tuple(READ_KINDS[last(piece, 3, 1)] for piece in pieces),
        algorithm=algorithm,
        normalizer=Normalizer(
            read_rules(last(normalizer, 2, b"")),
            *(bool(last(normalizer, number, True)) for number in (3, 4, 5)),
            bool(last(trainer, 24, False)),
        ),
        byte_fallback=bool(last(trainer, 35, False)),
        unknown_surface=last(trainer, 44, " ⁇ ".encode()).decode(),
    )


def last(message, number, otherwise):
    """The value of a field; a field that is there twice has the last one."""
    return message.get(number, [otherwise])[-1]
