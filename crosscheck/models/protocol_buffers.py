"""Reads messages in the format of Protocol Buffers.

Code that is generated for a message needs the `protobuf` of its day or a newer one, and an older TensorFlow allows none so new.
The format itself does not change: https://protobuf.dev/programming-guides/encoding/
"""

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
"""How a field is written."""


def fields(message):
    """{number of a field: its values, in their order}, each an integer, or the bytes of a text, a message or a float.

    Raises:
        ValueError: for bytes that are no message.
    """
    found, place = {}, 0
    while place < len(message):
        key, place = varint(message, place)
        if key & 7 == VARINT:
            value, place = varint(message, place)
        else:
            size, place = size_of(message, place, key & 7)
            value, place = message[place : place + size], place + size
        if place > len(message) or key < 8:
            raise ValueError(f"message must be whole. Received: {len(message)} bytes, of which a field needs {place}")
        found.setdefault(key >> 3, []).append(value)
    return found


def size_of(message, place, kind):
    """How many bytes a field takes, and where they begin."""
    if kind == BYTES:
        return varint(message, place)
    if kind not in (FIXED64, FIXED32):
        raise ValueError(f"message must have fields of the kinds {VARINT}, {FIXED64}, {BYTES} and {FIXED32}. Received: {kind}")
    return (8 if kind == FIXED64 else 4), place


def varint(message, place):
    """The integer whose groups of seven bits begin at `place`, the lowest first, and where they end."""
    value = 0
    for count in range(10):
        if place + count >= len(message):
            break
        byte = message[place + count]
        value |= (byte & 127) << 7 * count
        if byte < 128:
            return value, place + count + 1
    raise ValueError(f"message must have integers of at most 10 bytes. Received: one that does not end at byte {place}")
