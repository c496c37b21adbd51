"""SentencePiece models: small ones that are trained here, and any `.model` file in the form that the reference takes.

The reference imports nothing but NumPy, so the `sentencepiece` package trains models and reads files.
"""

import io
from functools import cache
from pathlib import Path

import numpy as np

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
    from google.protobuf.message import DecodeError
    from sentencepiece import sentencepiece_model_pb2

    try:
        said = sentencepiece_model_pb2.ModelProto.FromString(proto)
    except DecodeError as error:
        raise ValueError(f"proto must be the bytes of a SentencePiece model. Received: {len(proto)} bytes") from error
    trainer, spec = said.trainer_spec, said.normalizer_spec
    if (algorithm := READ_ALGORITHMS[trainer.model_type]) not in ALGORITHMS or not said.pieces:
        raise ValueError(f"proto must be a model of the types {ALGORITHMS}. Received: {algorithm}, {len(said.pieces)} pieces")
    if said.denormalizer_spec.precompiled_charsmap:
        raise ValueError("proto must be a model whose decoding needs no rules. Received: one with a denormalizer_spec")
    return Model(
        pieces=tuple(piece.piece for piece in said.pieces),
        scores=np.array([piece.score for piece in said.pieces], "float32"),
        kinds=tuple(READ_KINDS[piece.type] for piece in said.pieces),
        algorithm=algorithm,
        normalizer=Normalizer(
            read_rules(spec.precompiled_charsmap),
            spec.add_dummy_prefix,
            spec.remove_extra_whitespaces,
            spec.escape_whitespaces,
            trainer.treat_whitespace_as_suffix,
        ),
        byte_fallback=trainer.byte_fallback,
        unknown_surface=trainer.unk_surface,
    )
