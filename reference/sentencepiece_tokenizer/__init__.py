r"""SentencePiece: text is cut into pieces learned from raw text, spaces included, and can be restored from them.

Paper
    Kudo & Richardson (2018), "SentencePiece: A simple and language independent subword tokenizer and detokenizer for Neural
    Text Processing", section 3. https://arxiv.org/abs/1808.06226
    Kudo (2018), "Subword Regularization", section 3.2, the unigram model. https://arxiv.org/abs/1804.10959

Equations
    (1)  P(x) = Π_i p(x_i),   x = (x_1, …, x_k) pieces whose concatenation is the text
    (2)  x* = argmax_{x ∈ S(text)} P(x),   S(text) all segmentations
    (3)  best_j = max_{i < j} best_i + log p(text_{i..j}),   best_0 = 0      (Viterbi)
    (4)  decode(encode(text)) = normalize(text)

Axes
    n vocabulary

Differs from the paper
    - A character that is not a piece is unknown, with a score of 10 below the lowest log p. Adjacent unknown characters are
      joined into one. With byte fallback, each UTF-8 byte of the character is a piece instead.
    - A user-defined symbol has no probability. Its score is −0.1, which is high enough for it to be chosen. A control symbol is
      never found in text.
    - (3) keeps each best_j in the dtype of the scores. Among equal candidates it takes the one with the longest last piece, as
      the published implementation does, so that the ids are the same.
    - Pieces may also come from byte-pair merges (`merges.py` in this folder), where the scores give the order of the merges.
    - Models of whole words or of characters, and models with rules for denormalization, are not supported.

Layer: layers/sentencepiece_tokenizer.py    Notebook: notebooks/sentencepiece_tokenizer.ipynb
"""

import unicodedata
from collections.abc import Iterator
from typing import NamedTuple

from reference.sentencepiece_tokenizer.merges import merge
from reference.sentencepiece_tokenizer.model import Lattice, Model, lattice_of, symbols_of
from reference.sentencepiece_tokenizer.normalizer import SPACE, as_bytes, first_character, normalize


class Encoded(NamedTuple):
    """The ids of the pieces, and for each the bytes of the original that it covers, from `starts` to before `limits`."""

    ids: list[int]
    starts: list[int]
    limits: list[int]


def segmentations(text: str, lattice: Lattice) -> Iterator[tuple[str, ...]]:
    """S(text): every way to cut `text` into known pieces and unknown characters."""
    if not text:
        yield ()
    for end in range(1, len(text) + 1):
        if text[:end] in lattice.ids or end == 1:
            for rest in segmentations(text[end:], lattice):
                yield (text[:end], *rest)


def log_probability(pieces: tuple[str, ...], lattice: Lattice) -> float:
    """log P(x) of equation (1)."""
    return sum((lattice.scores.get(piece, lattice.unknown_score) for piece in pieces), 0.0)


def viterbi(text: str, lattice: Lattice, dtype: type = float) -> list[str]:
    """Equation (2) by (3): the best way to cut `text`, in time proportional to its length.

    Args:
        text: Normalized.
        lattice: Of the model.
        dtype: Of the numbers that are kept, best_j.
    """
    best: list[float | None] = [0.0] + [None] * len(text)
    start = [0] * (len(text) + 1)
    for i in range(len(text)):
        for j in range(i + 1, min(i + lattice.longest, len(text)) + 1):
            score = lattice.scores.get(text[i:j])
            if score is not None:
                candidate = best[i] + score
            elif j == i + 1:
                candidate = float(dtype(best[i] + lattice.unknown_score))
            else:
                continue
            if best[j] is None or candidate > best[j]:
                best[j], start[j] = float(dtype(candidate)), i
    pieces, end = [], len(text)
    while end:
        pieces.append(text[start[end] : end])
        end = start[end]
    return pieces[::-1]


def byte_pairs(text: str, model: Model, lattice: Lattice) -> list[str]:
    """Cut `text` into characters and user-defined symbols, then merge them."""
    fixed = frozenset(symbols_of(model, "user_defined"))
    symbols, start = [], 0
    while start < len(text):
        symbol = max((s for s in fixed if text.startswith(s, start)), key=len, default=text[start])
        symbols.append(symbol)
        start += len(symbol)
    return merge(symbols, lattice.scores, fixed)[0]


def encode_one(text: str | bytes, model: Model, lattice: Lattice) -> Encoded:
    """The pieces of one text, and the bytes that each of them covers: the definition that the layer must match."""
    normalized, where = normalize(text, model.normalizer, symbols_of(model, "user_defined"))
    if model.algorithm == "unigram":
        pieces = viterbi(normalized, lattice, model.scores.dtype.type)
    else:
        pieces = byte_pairs(normalized, model, lattice)
    encoded, end, after_unknown = Encoded([], [], []), 0, False
    for piece in pieces:
        begin, end = end, end + len(piece)
        known = piece in lattice.ids
        if not known and model.byte_fallback:
            for number in piece.encode()[:-1]:
                append(encoded, byte_piece(number, model), where[begin], where[begin])
            append(encoded, byte_piece(piece.encode()[-1], model), where[begin], where[end])
        elif not known and after_unknown:
            encoded.limits[-1] = where[end]
        else:
            append(encoded, lattice.ids.get(piece, lattice.unknown), where[begin], where[end])
        after_unknown = not known
    return encoded


def byte_piece(number: int, model: Model) -> int:
    return model.pieces.index(f"<0x{number:02X}>")


def append(encoded: Encoded, piece: int | list, start: int | list, limit: int | list) -> None:
    encoded.ids.append(piece)
    encoded.starts.append(start)
    encoded.limits.append(limit)


def prepare(text: str, lower_case: bool = False, strip_diacritics: bool = False) -> tuple[str, list[int]]:
    """Optional steps before the model: strip diacritics (NFD without characters of category Mn, then NFC), then lower case.

    Returns:
        The text, and for each of its bytes the byte where its source character starts, followed by the length of the source.
        With `strip_diacritics`, positions are those in the stripped text.
    """
    if strip_diacritics:
        bare = (character for character in unicodedata.normalize("NFD", text) if unicodedata.category(character) != "Mn")
        text = unicodedata.normalize("NFC", "".join(bare))
    sources, start = [], 0
    for character in text:
        made = character.lower() if lower_case else character
        sources += [start] * len(as_bytes(made))
        start += len(as_bytes(character))
    return text.lower() if lower_case else text, [*sources, start]


def encode(texts: list[str], model: Model, lower_case: bool = False, strip_diacritics: bool = False) -> Encoded:
    """The pieces of every text.

    Args:
        texts: Strings.
        model: A `.model` file, as read by `crosscheck/models/sentencepiece.py`.
        lower_case, strip_diacritics: The steps of `prepare`. With the latter, bytes are those of the stripped text.

    Returns:
        Three lists with a row for every text.

    Raises:
        ValueError: if the model is not supported, or a text cannot be encoded in UTF-8.
    """
    lattice, rows = lattice_of(model), Encoded([], [], [])
    for text in texts:
        prepared, sources = prepare(text, lower_case, strip_diacritics)
        ids, starts, limits = encode_one(prepared, model, lattice)
        append(rows, ids, [sources[start] for start in starts], [sources[limit] for limit in limits])
    return rows


def decode(ids: list[int], model: Model) -> str:
    """The text of `ids`. Equation (4) holds if no character was unknown.

    Consecutive bytes are decoded as UTF-8; each invalid byte becomes U+FFFD. Control symbols produce no text.

    Raises:
        ValueError: if an id is outside the vocabulary.
    """
    if unknown := [i for i in ids if not 0 <= i < len(model.pieces)]:
        raise ValueError(f"ids must be from 0 to {len(model.pieces) - 1}. Received: {unknown[0]}")
    normalizer, text, waiting = model.normalizer, "", b""
    opening = True
    for i in [*ids, None]:
        kind = None if i is None else model.kinds[i]
        if kind == "byte":
            waiting += bytes([int(model.pieces[i][3:5], 16)])
            continue
        while waiting:
            taken, character = first_character(waiting, 0)
            text, waiting = text + character, waiting[len(taken) :]
        opening = opening and not text
        if kind == "unknown":
            text += model.unknown_surface
        elif kind not in ("control", None):
            piece, strip = model.pieces[i], opening and (normalizer.add_dummy_prefix or normalizer.remove_extra_whitespaces)
            bare = piece.removeprefix(SPACE) if strip else piece
            opening = opening and (normalizer.remove_extra_whitespaces or bare == piece)
            text += bare.replace(SPACE, " ")
    return text
