"""Exercises as data: inputs, expected results and constraints in a JSON file, their arrays in an NPZ file beside it.

There is no code in either file, and no answer: only what it returned.
"""

import dataclasses
import json
from dataclasses import dataclass
from functools import cache

import numpy as np

from crosscheck.lesson import constraints
from crosscheck.lesson.arguments import Draw, Edge

FORMAT = 1
ROUNDS = 3
"""How often inputs are drawn for the file."""

CONSTRAINTS = {kind.__name__: kind for kind in constraints.KINDS}


@dataclass(frozen=True)
class Stored:
    """An exercise without its answer.

    Attributes:
        name: Name of the function in the lesson.
        examples: Pairs of arguments and the expected result.
        constraints: As of an `Exercise`.
    """

    name: str
    examples: list
    constraints: tuple

    def cases(self, seed=None):
        """All examples, because only a few are stored."""
        return iter(self.examples)


def save(exercises, path):
    """Write what `load` needs to check these exercises; the arrays go beside `path`."""
    arrays = {}
    stored = [as_data(exercise, arrays) for exercise in exercises]
    path.write_text(json.dumps({"format": FORMAT, "exercises": stored}, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    np.savez_compressed(path.with_suffix(".npz"), **arrays)


def as_data(exercise, arrays):
    cases = [case for seed in range(ROUNDS) for case in exercise.cases(seed)]
    return {
        "name": exercise.name,
        "cases": [
            {"arguments": encode(arguments, arrays), "expected": encode(expected, arrays)} for arguments, expected in cases
        ],
        "constraints": [encode(constraint, arrays) for constraint in exercise.constraints],
    }


def load(path):
    """The exercises that `save` wrote to `path`.

    Raises:
        ValueError: if the file is of another version of the course.
    """
    return read(path, path.stat().st_mtime_ns)


@cache
def read(path, changed):
    data = json.loads(path.read_text(encoding="utf-8"))
    if data.get("format") != FORMAT:
        raise ValueError(f"{path} is of another version of the course: format {data.get('format')}, not {FORMAT}")
    with np.load(path.with_suffix(".npz"), allow_pickle=False) as file:
        arrays = dict(file)
    return tuple(as_exercise(exercise, arrays) for exercise in data["exercises"])


def as_exercise(data, arrays):
    pairs = [(decode(case["arguments"], arrays), decode(case["expected"], arrays)) for case in data["cases"]]
    return Stored(data["name"], pairs, tuple(decode(constraint, arrays) for constraint in data["constraints"]))


def encode(value, arrays):
    """`value` as JSON, its arrays added to `arrays` under a number each."""
    if value is None or isinstance(value, str | bool | int | float):
        return value.item() if isinstance(value, np.generic) else value
    if isinstance(value, np.ndarray | np.generic):
        name = str(len(arrays))
        arrays[name] = np.asarray(value)
        if arrays[name].dtype.hasobject:
            raise ValueError(f"an array of objects cannot be stored: {value!r}")
        return {"array": name}
    if isinstance(value, list):
        return [encode(item, arrays) for item in value]
    if isinstance(value, tuple):
        return {"tuple": [encode(item, arrays) for item in value]}
    if isinstance(value, dict):
        items = {key: encode(item, arrays) for key, item in value.items()}
        return {"edge": value.name, "dict": items} if isinstance(value, Edge) else {"dict": items}
    if isinstance(value, (Draw, *constraints.KINDS)):
        fields = {field.name: encode(getattr(value, field.name), arrays) for field in dataclasses.fields(value)}
        return {"kind": type(value).__name__, "fields": fields}
    raise ValueError(f"a {type(value).__name__} cannot be stored: {value!r}")


def decode(data, arrays):
    """The value that `encode` made `data` of."""
    if isinstance(data, list):
        return [decode(item, arrays) for item in data]
    if not isinstance(data, dict):
        return data
    if "array" in data:
        return arrays[data["array"]]
    if "tuple" in data:
        return tuple(decode(item, arrays) for item in data["tuple"])
    if "dict" in data:
        items = {key: decode(item, arrays) for key, item in data["dict"].items()}
        return Edge(data["edge"], items) if "edge" in data else items
    kind = Draw if data["kind"] == "Draw" else CONSTRAINTS[data["kind"]]
    return kind(**{name: decode(item, arrays) for name, item in data["fields"].items()})
