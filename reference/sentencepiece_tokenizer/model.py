"""The contents of a SentencePiece `.model` file, and the part of it that is needed to cut a text."""

from typing import NamedTuple

from jaxtyping import Float
from numpy import ndarray as Array

from reference.sentencepiece_tokenizer.normalizer import Normalizer

KINDS = ("normal", "unknown", "control", "user_defined", "byte", "unused")
ALGORITHMS = ("unigram", "bpe")
UNKNOWN_PENALTY, USER_DEFINED_SCORE = 10.0, -0.1


class Model(NamedTuple):
    """The contents of a `.model` file: pieces with score and kind, and how to normalize text."""

    pieces: tuple[str, ...]
    scores: Float[Array, " n"]
    kinds: tuple[str, ...]
    algorithm: str = "unigram"
    normalizer: Normalizer = Normalizer()
    byte_fallback: bool = False
    unknown_surface: str = " \N{DOUBLE QUESTION MARK} "


class Lattice(NamedTuple):
    """The pieces that text may be cut into: {piece: id} and {piece: score}, the greatest length, and id and score of unknown."""

    ids: dict[str, int]
    scores: dict[str, float]
    longest: int
    unknown: int
    unknown_score: float


def lattice_of(model: Model) -> Lattice:
    """The lattice of a model.

    Raises:
        ValueError: if the model does not have exactly one unknown piece, or its algorithm or a kind of piece is not supported.
    """
    if model.algorithm not in ALGORITHMS or (model.algorithm == "bpe" and "unused" in model.kinds):
        raise ValueError(f"model must be one of {ALGORITHMS}, the latter without unused pieces. Received: {model.algorithm!r}")
    if unknown := set(model.kinds) - set(KINDS):
        raise ValueError(f"model must have pieces of the kinds {KINDS}. Received: {sorted(unknown)}")
    if model.kinds.count("unknown") != 1:
        raise ValueError(f"model must have one unknown piece. Received: {model.kinds.count('unknown')}")
    ids, scores = {}, {}
    for i, (piece, kind) in enumerate(zip(model.pieces, model.kinds)):
        if kind in ("normal", "user_defined"):
            ids[piece], scores[piece] = i, float(model.scores[i]) if kind == "normal" else USER_DEFINED_SCORE
    lowest = min(score for score, kind in zip(model.scores, model.kinds) if kind == "normal")
    unknown_score = float(lowest - model.scores.dtype.type(UNKNOWN_PENALTY))
    return Lattice(ids, scores, max(map(len, ids)), model.kinds.index("unknown"), unknown_score)


def symbols_of(model: Model, kind: str) -> list[str]:
    return [piece for piece, piece_kind in zip(model.pieces, model.kinds) if piece_kind == kind]
