"""What the devices of a compiled program send to each other: its collective operations, read from the text of XLA's program."""

import math
import re
from typing import NamedTuple

KINDS = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")
OPERATION = re.compile(
    rf"^\s*(?:ROOT )?%?[\w.-]+ = (?P<result>.*?) (?P<kind>{'|'.join(KINDS)})(?P<start>-start)?\(", re.MULTILINE
)
ARRAY = re.compile(r"\b(?P<dtype>pred|[a-z]+\d+\w*)\[(?P<sizes>[\d,]*)\]")
NAME = re.compile(r'op_name="([^"]*)"')
GROUPS = (
    (re.compile(r"replica_groups=\[\d+,(\d+)\]<="), lambda found: int(found[1])),
    (re.compile(r"replica_groups=\{\{([\d,]*)\}"), lambda found: found[1].count(",") + 1),
    (re.compile(r"replica_groups=mesh\[([^\]]*)\] \{([^}]*)\}"), lambda found: of_mesh(found[1], found[2])),
)
"""The ways to write which devices take part, each with the number of devices in a group."""


class Collective(NamedTuple):
    """Attributes:

    kind: One of `KINDS`.
    arrays: ((dtype, shape), …) of the results on one device; several if XLA made one operation of them.
    devices: The number of devices that exchange numbers; None if all do, or if it does not say.
    name: What it was in the Python program, as JAX names it.
    """

    kind: str
    arrays: tuple
    devices: int | None
    name: str

    @property
    def bytes(self):
        """The bytes of the results on one device."""
        return sum(math.prod(shape) * bits(dtype) // 8 for dtype, shape in self.arrays)


def collectives(text):
    """Every `Collective` of a program, in order.

    Args:
        text: The program, as of `jax.jit(f).lower(…).compile().as_text()`.

    Raises:
        ValueError: if this is no text of a compiled program.
    """
    if "HloModule" not in text:
        raise ValueError(f"text must be a compiled program, which begins with HloModule. Received: {text[:60]!r}")
    found = []
    for operation in OPERATION.finditer(text):
        rest = text[operation.end() :].split("\n", 1)[0]
        name = NAME.search(rest)
        found.append(Collective(operation["kind"], results(operation), group(rest), name[1] if name else ""))
    return found


def results(operation):
    """The arrays that an operation returns. Some that are only started list their operands before them."""
    arrays = [
        (array["dtype"], tuple(int(size) for size in array["sizes"].split(",") if size))
        for array in ARRAY.finditer(operation["result"])
    ]
    if operation["start"] and operation["kind"] == "collective-permute":
        arrays = arrays[1:2]
    elif operation["start"] and operation["kind"] != "all-reduce":
        arrays = arrays[len(arrays) // 2 :]
    return tuple(arrays)


def group(text):
    """The number of devices in a group, or None."""
    for pattern, size in GROUPS:
        if found := pattern.search(text):
            return size(found)
    return None


def of_mesh(axes, chosen):
    """The devices of a group of the chosen axes of a mesh, such as "'a'=2,'b'=4" and "'b'", or "'b':(1)2" for a part of it."""
    sizes = {name: int(size) for name, size in re.findall(r"'(\w+)'=(\d+)", axes)}
    parts = re.findall(r"'(\w+)'(?::\(\d+\)(\d+))?", chosen)
    return math.prod(int(part) if part else sizes[name] for name, part in parts)


def bits(dtype):
    """The size of a number, which XLA's names of dtypes begin with: f32, bf16, s8, f8e4m3fn; pred is a byte."""
    return 8 if dtype == "pred" else int(re.search(r"\d+", dtype)[0])
