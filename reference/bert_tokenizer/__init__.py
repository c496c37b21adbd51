r"""BERT's tokenizer: from text to the ids of wordpieces, and to the bytes that each of them came from.

Paper
    Devlin et al. (2018), "BERT: Pre-training of Deep Bidirectional Transformers", section 3, "Input/Output Representations":
    30,000 wordpieces. https://arxiv.org/abs/1810.04805. The rules are those that its code documents.
    Wu et al. (2016), "Google's Neural Machine Translation System", section 4.1: wordpieces. https://arxiv.org/abs/1609.08144

Equations
    (1)  clean         drop U+0000, U+FFFD and control characters (Cc, Cf); every whitespace (Zs, \t, \n, \r) becomes a space
    (2)  space CJK     a space before and after every CJK ideograph
    (3)  lower         with lower_case: str.lower() of each word between whitespace
    (4)  strip         with lower_case: NFD, then drop nonspacing marks (Mn)
    (5)  punctuation   ASCII other than letters and digits, and P*: each is a word of its own
    (6)  wordpiece     p_k = the longest prefix of the rest of the word that is in the vocabulary, written with ## for k > 1;
                       [UNK] for the whole word if there is no such prefix, and for words of more than 200 characters

Axes
    b batch; words and pieces vary in number, so results are lists of lists of lists

Differs from the paper
    - The paper's code returns strings. Here each piece also has its bytes in the original text, in UTF-8: from the first byte of
      the first character that contributed to the piece to the last byte of the last such character. Characters dropped at an end
      of a piece are outside, those dropped in the middle are inside. A character that became several, such as a Hangul syllable,
      belongs as a whole to every piece that contains a part of it.
    - Lower case and NFD follow the Unicode version of the running Python.
    - Names in brackets are ordinary text: "[MASK]" becomes "[", "mask", "]".

Layer: layers/bert_tokenizer/    Notebook: notebooks/bert_tokenizer.ipynb
"""

from collections.abc import Mapping, Sequence
from itertools import groupby, islice
from typing import NamedTuple
from unicodedata import category, combining, normalize

UNKNOWN = "[UNK]"
MAX_CHARACTERS = 200
CJK = (
    (0x4E00, 0x9FFF),
    (0x3400, 0x4DBF),
    (0x20000, 0x2A6DF),
    (0x2A700, 0x2B73F),
    (0x2B740, 0x2B81F),
    (0x2B820, 0x2CEAF),
    (0xF900, 0xFAFF),
    (0x2F800, 0x2FA1F),
)
"""The blocks whose characters BERT treats as single words. Kana and Hangul are not among them."""


class Character(NamedTuple):
    """A character, possibly normalized, and the bytes of the original text that it came from."""

    text: str
    start: int
    limit: int


class Tokens(NamedTuple):
    """For each text, word and piece: the id, the byte where it starts, and the byte after its end."""

    ids: list[list[list[int]]]
    starts: list[list[list[int]]]
    limits: list[list[list[int]]]


def is_dropped(character: str) -> bool:
    """The first half of rule (1)."""
    return character in "\0\ufffd" or (category(character) in ("Cc", "Cf") and character not in "\t\n\r")


def is_space(character: str) -> bool:
    """The second half of rule (1), and the separators Zl and Zp, at which Python also splits words."""
    return character in "\t\n\r" or category(character) in ("Zs", "Zl", "Zp")


def is_cjk(character: str) -> bool:
    return any(first <= ord(character) <= last for first, last in CJK)


def is_punctuation(character: str) -> bool:
    """Rule (5). The ASCII characters $, +, <, =, >, ^, `, | and ~ are punctuation for BERT but not in Unicode."""
    return ("!" <= character <= "~" and not character.isalnum()) or category(character).startswith("P")


def split_words(text: str, lower_case: bool) -> list[str]:
    """Rules (1) to (5) as they stand: the definition everything else must match."""
    kept = [" " if is_space(c) else c for c in text if not is_dropped(c)]
    spaced = "".join(f" {c} " if is_cjk(c) else c for c in kept)
    words = []
    for token in spaced.split():
        if lower_case:
            token = "".join(c for c in normalize("NFD", token.lower()) if category(c) != "Mn")
        words += "".join(f" {c} " if is_punctuation(c) else c for c in token).split()
    return words


def split_words_with_bytes(text: str, lower_case: bool) -> list[list[Character]]:
    """The same words, each character with the bytes that it came from."""
    characters, limit = [], 0
    for c in text:
        start, limit = limit, limit + len(c.encode())
        if not is_dropped(c):
            characters.append(Character(" " if is_space(c) else c, start, limit))
    if lower_case:
        characters = [c for c in decompose(lower(characters)) if category(c.text) != "Mn"]
    words, is_open = [], False
    for c in characters:
        alone = is_cjk(c.text) or is_punctuation(c.text)  # normalization neither adds nor removes ideographs
        if c.text != " ":
            words = words if is_open and not alone else [*words, []]
            words[-1].append(c)
        is_open = c.text != " " and not alone
    return words


def lower(characters: list[Character]) -> list[Character]:
    """Rule (3) on the whole text: Σ becomes ς or σ depending on its neighbors, and İ becomes an i and a dot above."""
    lowered = iter("".join(c.text for c in characters).lower())
    return [c._replace(text=x) for c in characters for x in islice(lowered, len(c.text.lower()))]


def decompose(characters: list[Character]) -> list[Character]:
    """NFD: decompose each character, then sort every run of consecutive marks by combining class.

    Most marks are dropped next, by rule (4); dropping them first does not change the order of the others. The marks that are kept
    may trade places within a run, so each of them gets the bytes of the whole run.
    """
    parts = [c._replace(text=x) for c in characters for x in normalize("NFD", c.text)]
    parts = [c for c in parts if not combining(c.text) or category(c.text) != "Mn"]
    ordered = []
    for is_mark, run in groupby(parts, key=lambda c: combining(c.text) > 0):
        run = list(run)
        if is_mark:
            start, limit = run[0].start, run[-1].limit
            run = [Character(c.text, start, limit) for c in sorted(run, key=lambda c: combining(c.text))]
        ordered += run
    return ordered


def wordpieces(word: str, vocabulary: Mapping[str, int], max_characters: int = MAX_CHARACTERS) -> list[str]:
    """Rule (6): greedy, longest match first. A word of n characters may take n (n + 1) / 2 look-ups."""
    pieces, start = [], 0
    while start < len(word) <= max_characters:
        end = len(word)
        while (piece := "##" * (start > 0) + word[start:end]) not in vocabulary:
            end -= 1
            if end == start:
                return [UNKNOWN]
        pieces.append(piece)
        start = end
    return pieces or [UNKNOWN]


def spans(pieces: Sequence[str], word: Sequence) -> list[tuple[int, int]]:
    """The start and end of each piece in its word, in characters."""
    if list(pieces) == [UNKNOWN]:
        return [(0, len(word))]
    found, end = [], 0
    for piece in pieces:
        start, end = end, end + len(piece) - 2 * (end > 0)
        found.append((start, end))
    return found


def bert_tokenizer(
    texts: Sequence[str], vocabulary: Mapping[str, int], lower_case: bool = True, max_characters: int = MAX_CHARACTERS
) -> Tokens:
    """Rules (1) to (6) for every text.

    Args:
        texts: `b` texts.
        vocabulary: {piece: id}, with [UNK] among the pieces.
        lower_case: Whether rules (3) and (4) apply, as in BERT's uncased models.
        max_characters: Longer words are unknown; 200 in BERT's code, 100 in some of its successors.

    Returns:
        Ids, starts and limits, each as nested lists: texts, words, pieces.
    """
    tokens = Tokens([], [], [])
    for text in texts:
        words = split_words_with_bytes(text, lower_case)
        pieces = [wordpieces("".join(c.text for c in word), vocabulary, max_characters) for word in words]
        where = [spans(parts, word) for parts, word in zip(pieces, words)]
        tokens.ids.append([[vocabulary[piece] for piece in parts] for parts in pieces])
        tokens.starts.append([[word[start].start for start, _ in parts] for parts, word in zip(where, words)])
        tokens.limits.append([[word[end - 1].limit for _, end in parts] for parts, word in zip(where, words)])
    return tokens
