"""The chapters, found by walking `crosscheck/cases/`."""

import difflib
import pkgutil
from dataclasses import dataclass
from functools import cache
from importlib import import_module

from crosscheck import cases
from crosscheck.case import Case

PARTS = ("Attention", "Long sequences", "Blocks", "Embeddings and heads", "Knowing what it does not know", "Text")


@dataclass(frozen=True)
class Chapter:
    """Attributes:

    number: Place in the reading order.
    name: Name of its file in every room.
    title: As a reader would say it.
    part: One of `PARTS`.
    sentence: What the mechanism is for, for the index.
    paper: Authors, year and section.
    link: Where the paper is.
    classes: Public classes of `layers/NAME.py`.
    functions: Functions of `reference/NAME.py`.
    cases: Ways to call both.
    """

    number: int
    name: str
    title: str
    part: str
    sentence: str
    paper: str
    link: str
    classes: tuple[str, ...]
    functions: tuple[str, ...]
    cases: tuple[Case, ...]

    def __post_init__(self):
        if self.part not in PARTS:
            raise ValueError(f"part must be one of {PARTS}. Received: part={self.part!r}")
        if strangers := [case.name for case in self.cases if case.name.split("/")[0] != self.name]:
            raise ValueError(f"case names must start with {self.name}/. Received: {strangers}")


@cache
def chapters():
    """Every chapter, in reading order."""
    modules = [import_module(f"{cases.__name__}.{module.name}") for module in pkgutil.iter_modules(cases.__path__)]
    return tuple(sorted((module.CHAPTER for module in modules), key=lambda chapter: chapter.number))


def all_cases():
    """Every case of every chapter, in reading order."""
    return [case for chapter in chapters() for case in chapter.cases]


def find_cases(names):
    """The cases that `names` ask for, each a chapter or a case; all of them for no names.

    Raises:
        KeyError: for a name that is neither, with the nearest names.
    """
    if not names:
        return all_cases()
    known = {case.name: [case] for case in all_cases()} | {chapter.name: chapter.cases for chapter in chapters()}
    for name in names:
        if name not in known:
            nearest = difflib.get_close_matches(name, known, cutoff=0.4) or sorted({n.split("/")[0] for n in known})
            raise KeyError(f"no chapter or case is called {name!r}. The nearest: {', '.join(nearest)}")
    return list({case.name: case for name in names for case in known[name]}.values())
