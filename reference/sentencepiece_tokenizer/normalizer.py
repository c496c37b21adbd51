"""The normalization that a SentencePiece model contains: rules, white space, and the origin of each character.

Section 3.2 of Kudo & Richardson (2018). A model file holds its rules as an automaton, so that the same model normalizes
text in the same way everywhere, independent of the installed Unicode version.
"""

from collections.abc import Collection
from typing import NamedTuple

SPACE = "\N{LOWER ONE EIGHTH BLOCK}"
"""▁ stands for a space inside a piece, so that the spaces of a text can be restored from its pieces."""

UNREADABLE = "\N{REPLACEMENT CHARACTER}"

HAS_VALUE, IS_VALUE, WIDE = 1 << 8, 1 << 31, 1 << 9


class Rules(NamedTuple):
    """Replacement rules: an automaton that reads bytes, and the replacements, each terminated by a zero byte.

    The automaton is a double array. The unit at p holds a label, an offset and whether a rule ends there. The byte c leads from
    it to the unit at p ^ offset ^ c, if the label of that unit is c. The zero byte leads to the start of the rule's replacement.
    """

    units: tuple[int, ...]
    replacements: bytes


class Normalizer(NamedTuple):
    """How a model prepares text: its rules, if any, and its treatment of white space."""

    rules: Rules | None = None
    add_dummy_prefix: bool = True
    remove_extra_whitespaces: bool = True
    escape_whitespaces: bool = True
    treat_whitespace_as_suffix: bool = False


class Normalized(NamedTuple):
    """Text, and for each of its characters the byte of the original where it starts, followed by the end of the text."""

    text: str
    starts: list[int]


def read_rules(charsmap: bytes) -> Rules | None:
    """The rules in a model's `precompiled_charsmap`: the size of the automaton in 4 bytes, its units, and the replacements.

    Raises:
        ValueError: if it is shorter than the size that it states.
    """
    if not charsmap:
        return None
    end = 4 + int.from_bytes(charsmap[:4], "little")
    if end % 4 or not 4 < end < len(charsmap):
        raise ValueError(f"charsmap must hold the automaton whose size it starts with. Received: {len(charsmap)} bytes")
    units = tuple(int.from_bytes(charsmap[place : place + 4], "little") for place in range(4, end, 4))
    return Rules(units, charsmap[end:])


def children_from(place: int, unit: int) -> int:
    """p ^ offset. The offset is 22 bits of the unit, times 256 if the bit `WIDE` is set."""
    return place ^ (unit >> 10 << (8 if unit & WIDE else 0))


def replacement(rules: Rules, base: int) -> str:
    start = rules.units[base] & ~IS_VALUE
    return rules.replacements[start : rules.replacements.index(b"\0", start)].decode()


def longest_rule(rules: Rules, data: bytes, start: int) -> tuple[bytes, str] | None:
    """The bytes that the longest matching rule replaces in `data` at `start`, and their replacement; None if no rule matches."""
    base, found = children_from(0, rules.units[0]), None
    for end in range(start, len(data)):
        place = base ^ data[end]
        if place >= len(rules.units) or rules.units[place] & (IS_VALUE | 0xFF) != data[end]:
            break
        base = children_from(place, rules.units[place])
        if rules.units[place] & HAS_VALUE:
            found = data[start : end + 1], replacement(rules, base)
    return found


def list_rules(rules: Rules) -> dict[str, str]:
    """All rules as {text: replacement}; `longest_rule` finds them without this table."""
    children: dict[int, list[int]] = {}
    for place, unit in enumerate(rules.units):
        if 0 < unit & (IS_VALUE | 0xFF) <= 0xFF:
            children.setdefault(place ^ (unit & 0xFF), []).append(place)
    listed, reached = {}, [(b"", children_from(0, rules.units[0]))]
    while reached:
        key, base = reached.pop()
        for place in children.get(base, []):
            unit = rules.units[place]
            reached.append((key + bytes([unit & 0xFF]), children_from(place, unit)))
            if unit & HAS_VALUE:
                listed[reached[-1][0].decode()] = replacement(rules, reached[-1][1])
    return listed


def first_character(data: bytes, start: int) -> tuple[bytes, str]:
    """The bytes of the character at `start`, and the character; U+FFFD for a byte that starts no character."""
    for end in range(start + 1, min(start + 4, len(data)) + 1):
        try:
            return data[start:end], data[start:end].decode()
        except UnicodeDecodeError:
            continue
    return data[start : start + 1], UNREADABLE


def replace(data: bytes, rules: Rules | None, verbatim: Collection[bytes]) -> list[tuple[bytes, str]]:
    """`data` in parts, each with its replacement: the longest verbatim symbol, else the longest rule, else a character."""
    parts, start = [], 0
    while start < len(data):
        kept = max((symbol for symbol in verbatim if data.startswith(symbol, start)), key=len, default=None)
        if kept is not None:
            part = kept, kept.decode()
        else:
            part = (rules and longest_rule(rules, data, start)) or first_character(data, start)
        parts.append(part)
        start += len(part[0])
    return parts


def as_bytes(text: str | bytes) -> bytes:
    """The text in UTF-8; bytes are returned unchanged.

    Raises:
        ValueError: if the text has half a surrogate pair, which UTF-8 cannot encode.
    """
    try:
        return text.encode() if isinstance(text, str) else text
    except UnicodeEncodeError as error:
        raise ValueError(f"text must be valid in UTF-8. Received: {text[error.start]!r}") from error


def normalize(text: str | bytes, normalizer: Normalizer, verbatim: Collection[str] = ()) -> Normalized:
    """The normalized `text`, which the pieces of the model then cover.

    Args:
        text: Each byte that is not valid UTF-8 becomes U+FFFD.
        normalizer: The normalizer of the model.
        verbatim: The user-defined symbols of the model, to which no rule is applied.
    """
    parts, start = replace(as_bytes(text), normalizer.rules, [as_bytes(symbol) for symbol in verbatim]), 0
    if normalizer.remove_extra_whitespaces:
        while parts and parts[0][1] == " ":
            start += len(parts.pop(0)[0])
    if not parts:
        return Normalized("", [start])

    space = SPACE if normalizer.escape_whitespaces else " "
    suffix = normalizer.treat_whitespace_as_suffix
    made: list[tuple[str, int]] = []
    if normalizer.add_dummy_prefix and not suffix:
        made.append((space, start))
    after_space = normalizer.remove_extra_whitespaces
    for old, new in parts:
        if after_space:
            new = new.lstrip(" ")
        made += [(space if character == " " else character, start) for character in new]
        if new:
            after_space = normalizer.remove_extra_whitespaces and new.endswith(" ")
        start += len(old)
    while normalizer.remove_extra_whitespaces and made and made[-1][0] == space:
        start = made.pop()[1]
    if normalizer.add_dummy_prefix and suffix:
        made.append((space, start))
    return Normalized("".join(character for character, _ in made), [begin for _, begin in made] + [start])
