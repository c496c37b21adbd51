"""The chapters, found by walking `crosscheck/cases/`."""

import difflib
import pkgutil
from dataclasses import dataclass
from functools import cache
from importlib import import_module

from crosscheck import cases
from crosscheck.case import Case

PARTS = ("Attention", "Long sequences", "Blocks", "Heads", "Knowing what it does not know", "Text")


@dataclass(frozen=True)
class Lesson:
    """A further lesson of a chapter, beside the one that has the chapter's name. Attributes:

    name: Name of its files in notebooks/ and exercises/.
    title, sentence, paper, link: As of a `Chapter`.
    """

    name: str
    title: str
    sentence: str
    paper: str
    link: str


@dataclass(frozen=True)
class Chapter:
    """Attributes:

    number: Position in the reading order.
    name: Name of its file or folder in reference/, layers/ and so on.
    title: The title that readers see.
    part: One of `PARTS`.
    sentence: The purpose of the mechanism, for the index.
    paper: Authors, year and section.
    link: Address of the paper.
    classes: Public classes of `layers/NAME.py`.
    functions: Functions of `reference/NAME.py`.
    cases: The ways to call both that are compared.
    further_lessons: What is told in a lesson of its own.
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
    further_lessons: tuple[Lesson, ...] = ()

    def __post_init__(self):
        if self.part not in PARTS:
            raise ValueError(f"part must be one of {PARTS}. Received: part={self.part!r}")
        if foreign := [case.name for case in self.cases if case.chapter != self.name]:
            raise ValueError(f"case names must start with {self.name}/. Received: {foreign}")


@cache
def chapters():
    """Every chapter, in reading order."""
    modules = [import_module(f"{cases.__name__}.{module.name}") for module in pkgutil.iter_modules(cases.__path__)]
    return tuple(sorted((module.CHAPTER for module in modules), key=lambda chapter: chapter.number))


def all_cases():
    """Every case of every chapter, in reading order."""
    return [case for chapter in chapters() for case in chapter.cases]


def lessons():
    """The name of every lesson: that of the chapter, then those of its further lessons, in reading order."""
    return [lesson.name for chapter in chapters() for lesson in (chapter, *chapter.further_lessons)]


@cache
def representatives():
    """{public class: its first case}, for what would take too long with every case."""
    found = {}
    for chapter in chapters():
        for case in chapter.cases:
            if missing := set(chapter.classes) - set(found):
                # The class is asked of the layer only where the chapter has several.
                kind = missing.pop() if len(chapter.classes) == 1 else type(case.layer(dtype="float32")).__name__
                found.setdefault(kind, case)
    return found


def find_cases(names):
    """The cases with these `names`, each of a chapter or a case; all cases without names.

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
