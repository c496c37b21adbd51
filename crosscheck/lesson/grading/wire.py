"""How the grader and a student's process talk: frames of JSON and raw arrays over a socket.

Nothing is pickled, since reading a pickle runs what it says. Whatever arrives is taken for hostile: it becomes plain data of a
bounded size, or a `Forged`.
"""

import json
import math
import struct

import ml_dtypes  # noqa: F401 (it makes "bfloat16" a dtype)
import numpy as np

from crosscheck.lesson.arguments import ReadOnce

MOST_TEXT = 8_000_000
"""Bytes of JSON in a frame."""
MOST_NUMBERS = 64_000_000
"""Bytes of arrays in a frame."""
DTYPES = {
    "bool",
    *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)),
    *("float16", "bfloat16", "float32", "float64"),
}
MOST_KEYS = 1_000
"""Keys of a dictionary: more of them, made to collide, would take very long."""
LENGTH = struct.Struct("!I")


class Forged(Exception):
    """What arrived is no frame of this protocol."""


class Opaque:
    """Stands for a value that is neither text, numbers, nor a list, tuple or dictionary of these: its type and its text."""

    def __init__(self, text):
        self.text = text

    def __repr__(self):
        return self.text


class Channel:
    """One end of a socket, which sends and receives messages: dictionaries of what `encode` takes."""

    def __init__(self, socket):
        self.socket = socket

    def send(self, **message):
        """Send a message.

        Raises:
            ValueError: if it is too large. Nothing has been sent then.
        """
        arrays = []
        body = encode(message, arrays)
        head = [[array.dtype.name, array.shape] for array in arrays]
        text = json.dumps({"body": body, "arrays": head}).encode("ascii")
        if len(text) > MOST_TEXT or sum(array.nbytes for array in arrays) > MOST_NUMBERS:
            raise ValueError("a result is too large to be handed in")
        self.socket.sendall(b"".join([LENGTH.pack(len(text)), text, *(array.tobytes() for array in arrays)]))

    def receive(self):
        """The next message, {name: value}.

        Raises:
            EOFError: if the other end is closed.
            Forged: if it is none.
        """
        (length,) = LENGTH.unpack(self.read(LENGTH.size))
        if length > MOST_TEXT:
            raise Forged(f"a message of {length} bytes")
        text = self.read(length)
        try:
            frame = json.loads(text)
            kinds = [layout(*each) for each in frame["arrays"]]
            if sum(size for _, _, size in kinds) > MOST_NUMBERS:
                raise Forged("too many numbers")
            arrays = [np.frombuffer(self.read(size), dtype).reshape(shape) for dtype, shape, size in kinds]
            message = decode(frame["body"], arrays)
        except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError, OverflowError) as error:
            raise Forged(f"{type(error).__name__} in a message") from None
        if not isinstance(message, dict):
            raise Forged("a message that is no dictionary")
        return message

    def read(self, size):
        """So many bytes, in an array that can be written to."""
        found, place = bytearray(size), 0
        while place < size:
            count = self.socket.recv_into(memoryview(found)[place:])
            if not count:
                raise EOFError("the other end is closed")
            place += count
        return found


def layout(name, shape):
    """The dtype, shape and bytes of an array that is announced."""
    if name not in DTYPES or len(shape) > 32 or not all(type(length) is int and length >= 0 for length in shape):
        raise Forged("an array of no known kind")
    dtype = np.dtype(name)
    return dtype, tuple(shape), dtype.itemsize * math.prod(shape)


def encode(value, arrays):
    """`value` as JSON, its arrays appended to `arrays`."""
    if isinstance(value, np.ndarray | np.generic):
        return encode_array(value, arrays)
    if value is None or isinstance(value, bool | float):
        return value if value is None else (bool if isinstance(value, bool) else float)(value)
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int):
        return int(value) if abs(int(value)) < 2**4096 else encode_opaque(value)
    if isinstance(value, list | tuple):
        return {"list" if isinstance(value, list) else "tuple": [encode(item, arrays) for item in value]}
    if isinstance(value, dict):
        return {"pairs": [[encode(key, arrays), encode(item, arrays)] for key, item in value.items()]}
    if isinstance(value, ReadOnce):
        return {"once": value.name, "rows": encode(value.rows, arrays)}
    return encode_tensor(value, arrays)


def encode_array(value, arrays):
    array = np.asarray(value)
    if array.dtype.kind in "UO":
        inside = array.tolist()
        return encode(inside, arrays) if not isinstance(inside, np.ndarray) else encode_opaque(value)
    if array.dtype.kind == "f" and array.dtype.name not in DTYPES:
        array = array.astype("float64")
    array = array.astype(array.dtype.newbyteorder("="))
    if array.dtype.name not in DTYPES:
        return encode_opaque(value)
    arrays.append(array)
    return {"array": len(arrays) - 1, "scalar": isinstance(value, np.generic)}


def encode_tensor(value, arrays):
    """What NumPy can read, such as a tensor of TensorFlow, as an array; of anything else its name."""
    try:
        array = np.asarray(value)
    except Exception:
        return encode_opaque(value)
    return encode_opaque(value) if array.dtype.kind in "OUSVMmc" else encode_array(array, arrays)


def encode_opaque(value):
    try:
        text = repr(value)[:100]
    except Exception:
        text = "…"
    return {"opaque": type(value).__name__[:40], "text": text}


def decode(data, arrays):
    """The value that `encode` made `data` of."""
    if not isinstance(data, dict):
        if isinstance(data, list):
            raise Forged("a bare list")
        return data
    if "array" in data:
        array = arrays[data["array"]]
        return array[()] if data["scalar"] and not array.ndim else array
    if "list" in data:
        return [decode(item, arrays) for item in data["list"]]
    if "tuple" in data:
        return tuple(decode(item, arrays) for item in data["tuple"])
    if "pairs" in data:
        if len(data["pairs"]) > MOST_KEYS:
            raise Forged("a dictionary with too many keys")
        return {decode(key, arrays): decode(item, arrays) for key, item in data["pairs"]}
    if "once" in data:
        return ReadOnce(str(data["once"]), decode(data["rows"], arrays))
    name = str(data["opaque"])[:40]
    return type(name if name.isidentifier() else "object", (Opaque,), {})(str(data["text"])[:100])
