"""The arguments of an exercise: plain data, from which each call gets arguments of its own."""

import copy
import inspect
import warnings
from dataclasses import dataclass

import numpy as np


class Edge(dict):
    """Arguments that have a name, because they are an edge case, such as "no key is allowed"."""

    def __init__(self, name, arguments):
        super().__init__(arguments)
        self.name = name


def edge(name, /, **arguments):
    return Edge(name, arguments)


@dataclass(frozen=True)
class Draw:
    """An array that is drawn when it is needed, so that a large one need not be stored.

    Attributes:
        shape: Its shape.
        kind: "normal", "positive" (uniform, from 0.1 to 1), "signs" (±1) or "integers" (from 0 to `below` − 1).
        below: For integers.
    """

    shape: tuple[int, ...]
    kind: str = "normal"
    below: int = 0

    def array(self, rng):
        if self.kind == "normal":
            return rng.normal(size=self.shape)
        if self.kind == "positive":
            return rng.uniform(0.1, 1, size=self.shape)
        if self.kind == "signs":
            return rng.choice([-1.0, 1.0], size=self.shape)
        return rng.integers(self.below, size=self.shape)


class ReadOnce:
    """An iterator over rows, which are copies: whoever needs a row later has to keep it, and then it counts as memory."""

    def __init__(self, name, rows):
        self.name, self.rows, self.length, self.place = name, rows, len(rows[0]) if isinstance(rows, tuple) else len(rows), 0

    def __iter__(self):
        if self.length and self.place == self.length:
            raise RuntimeError(f"{self.name} can be read only once")
        return self

    def __next__(self):
        if self.place == self.length:
            raise StopIteration
        place, self.place = self.place, self.place + 1
        if isinstance(self.rows, tuple):
            return tuple(copy.copy(array[place]) for array in self.rows)
        return copy.copy(self.rows[place])


def prepared(arguments, once=(), seed=0):
    """{name: value} for one call: copies, in which `Draw` is an array and the arguments named in `once` can be read only once.

    Such an argument is an array, whose rows are read, or a tuple of arrays, whose rows are read side by side.
    """
    rng = np.random.default_rng(seed)
    values = {name: drawn(value, rng) for name, value in arguments.items()}
    return {name: ReadOnce(name, value) if name in once else value for name, value in values.items()}


def quietly(mine, arguments):
    """What `mine` returns, without the warnings of NumPy about overflow and the like."""
    return bound(mine, arguments)()


def bound(mine, arguments):
    """A function that calls `mine` with these arguments: by their names, or in their order if it has other names for them."""
    try:
        inspect.signature(mine).bind(**arguments)
        positional, named = (), arguments
    except (TypeError, ValueError):  # ValueError: a function of C may not say what its arguments are
        positional, named = tuple(arguments.values()), {}

    def call():
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return mine(*positional, **named)

    return call


def drawn(value, rng):
    if isinstance(value, Draw):
        return value.array(rng)
    if isinstance(value, tuple) and any(isinstance(part, Draw) for part in value):
        return tuple(drawn(part, rng) for part in value)
    return value.item() if isinstance(value, np.generic) else copy.deepcopy(value)


def described(arguments):
    """The arguments in a few words: small ones as they are, others by their shapes."""
    text = ", ".join(f"{name} {brief(value)}" for name, value in arguments.items())
    return text if len(text) <= 200 else text[:197] + "..."


def brief(value):
    if isinstance(value, Draw):
        return f"of shape {value.shape}"
    if isinstance(value, np.ndarray):
        if value.size <= 6 and value.ndim == 1:
            return "= " + np.array2string(value, precision=3, separator=", ").replace("\n", "")
        return f"of shape {value.shape}"
    if isinstance(value, tuple) and value and all(isinstance(part, np.ndarray | Draw) for part in value):
        return "of shapes " + ", ".join(str(part.shape) for part in value)
    text = str(value) if isinstance(value, np.generic) else repr(value)
    return "= " + (text if len(text) <= 60 else text[:57] + "...")
