"""The normalisation that a SentencePiece model carries in itself: rules, white space, and where each character came from.

Section 3.2 of Kudo & Richardson (2018). A model file states its rules as an automaton, so that the same model normalises in the
same way everywhere, whatever Unicode version is installed there.
"""

from collections.abc import Collection
from typing import NamedTuple

SPACE = "\N{LOWER ONE EIGHTH BLOCK}"
"""▁, which stands for a space inside a piece, so that pieces alone say how the text was spaced."""

UNREADABLE = "\N{REPLACEMENT CHARACTER}"

HAS_VALUE, IS_VALUE, WIDE = 1 << 8, 1 << 31, 1 << 9


class Rules(NamedTuple):
    """What to replace: an automaton that reads bytes, and the replacements, each ended by a zero byte.

    The automaton is a double array. A unit at p holds a label, an offset and whether a rule ends there; the byte c leads from it
    to the unit at p ^ offset ^ c, if that one's label is c, and the zero byte to where the rule's replacement starts.
    """

    units: tuple[int, ...]
    replacements: bytes


class Normalizer(NamedTuple):
    """How a model prepares text: its rules, if any, and what it does to white space."""

    rules: Rules | None = None
    add_dummy_prefix: bool = True
    remove_extra_whitespaces: bool = True
    escape_whitespaces: bool = True
    treat_whitespace_as_suffix: bool = False


class Normalized(NamedTuple):
    """Text, and for each of its characters the byte of the original where that began; one more entry says where all ended."""

    text: str
    starts: list[int]


def read_rules(charsmap: bytes) -> Rules | None:
    """The rules in a model's `precompiled_charsmap`: the size of the automaton in 4 bytes, its units, and the replacements.

    Raises:
        ValueError: if it does not hold as much as it says.
    """
    if not charsmap:
        return None
    end = 4 + int.from_bytes(charsmap[:4], "little")
    if end % 4 or not 4 < end < len(charsmap):
        raise ValueError(f"charsmap must hold the automaton whose size it starts with. Received: {len(charsmap)} bytes")
    units = tuple(int.from_bytes(charsmap[place : place + 4], "little") for place in range(4, end, 4))
    return Rules(units, charsmap[end:])


def children_from(place: int, unit: int) -> int:
    """p ^ offset: 22 bits of the unit, which count for 256 each where one more bit says so."""
    return place ^ (unit >> 10 << (8 if unit & WIDE else 0))


def replacement(rules: Rules, base: int) -> str:
    start = rules.units[base] & ~IS_VALUE
    return rules.replacements[start : rules.replacements.index(b"\0", start)].decode()


def longest_rule(rules: Rules, data: bytes, start: int) -> tuple[bytes, str] | None:
    """What the longest rule finds in `data` at `start`, and what it puts there; nothing if no rule begins so."""
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
    """{what is found: what is put}, which `longest_rule` looks up without ever writing it down."""
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
    """The bytes of the character at `start`, and the character; U+FFFD for one byte that begins none."""
    for end in range(start + 1, min(start + 4, len(data)) + 1):
        try:
            return data[start:end], data[start:end].decode()
        except UnicodeDecodeError:
            continue
    return data[start : start + 1], UNREADABLE


def replace(data: bytes, rules: Rules | None, verbatim: Collection[bytes]) -> list[tuple[bytes, str]]:
    """`data` from left to right in parts, each with what is put for it: the longest verbatim one, rule, or a character."""
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
    """UTF-8.

    Raises:
        ValueError: for half a surrogate pair, which UTF-8 cannot write.
    """
    try:
        return text.encode() if isinstance(text, str) else text
    except UnicodeEncodeError as error:
        raise ValueError(f"text must be what UTF-8 can write. Received: {text[error.start]!r}") from error


def normalize(text: str | bytes, normalizer: Normalizer, verbatim: Collection[str] = ()) -> Normalized:
    """`text` as the model's pieces are to cover it.

    Args:
        text: Bytes that are no UTF-8 become U+FFFD, each of them.
        normalizer: Of the model.
        verbatim: The model's user-defined symbols, which no rule touches.
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
