"""Which names of our own modules need a package that a browser does not have, told from the code alone."""

import ast
from functools import cache
from pathlib import Path
from typing import NamedTuple

from crosscheck.lesson.absent import ABSENT

ROOT = Path(__file__).parents[2]
OWN = ("reference", "crosscheck", "experiments")


class Place(NamedTuple):
    """A name in a module; without a name, the module itself."""

    module: str
    name: str | None = None


@cache
def file_of(module):
    """The file of one of our modules, or None."""
    stem = ROOT.joinpath(*module.split("."))
    files = (stem.with_suffix(".py"), stem / "__init__.py")
    return next((file for file in files if module.split(".")[0] in OWN and file.is_file()), None)


def imported(node):
    """{name that an import statement binds: the `Place` it comes from}."""
    if isinstance(node, ast.Import):
        return {
            each.asname or each.name.split(".")[0]: Place(each.name if each.asname else each.name.split(".")[0])
            for each in node.names
        }
    return {each.asname or each.name: place_of(node.module, each.name) for each in node.names}


def place_of(module, name):
    """Where `from module import name` leads: to a module of that name if there is one, else to a name in it."""
    return Place(f"{module}.{name}") if file_of(f"{module}.{name}") else Place(module, name)


@cache
def bindings(module):
    """(names that a module imports, {other name: the statements that bind it}); both of its top level."""
    imports, others = {}, {}
    for node in statements(ast.parse(file_of(module).read_text(encoding="utf-8")).body):
        if isinstance(node, ast.Import | ast.ImportFrom):
            imports |= imported(node)
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            others.setdefault(node.name, []).append(node)
        else:
            for name in {part.id for part in ast.walk(node) if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store)}:
                others.setdefault(name, []).append(node)
    return imports, others


def statements(body):
    """The statements of a module, and those under an `if` or a `try` of it."""
    for node in body:
        yield node
        for part in ("body", "orelse", "handlers", "finalbody"):
            if not isinstance(node, ast.FunctionDef | ast.ClassDef):
                yield from statements(getattr(node, part, []))


def places_in(node, known):
    """The places that a piece of code uses, if `known` is what its names lead to; and those that it imports itself."""
    known = dict(known)
    for part in ast.walk(node):
        if isinstance(part, ast.Import | ast.ImportFrom):
            known |= imported(part)
            yield from imported(part).values()
    for part in ast.walk(node):
        if isinstance(part, ast.Name) and part.id in known:
            yield known[part.id]
        elif isinstance(part, ast.Attribute) and isinstance(part.value, ast.Name) and part.value.id in known:
            place = known[part.value.id]
            if place.name is None:
                yield place_of(place.module, part.attr)


@cache
def uses(place):
    """The places that what stands in this place uses."""
    if place.name is None or not file_of(place.module):
        return ()
    imports, others = bindings(place.module)
    if place.name in imports:
        return (imports[place.name],)
    known = imports | {name: Place(place.module, name) for name in others}
    return tuple({used for node in others.get(place.name, ()) for used in places_in(node, known)})


@cache
def lacks(place):
    """What is needed for a name, and a browser does not have: some values of `ABSENT`."""
    waiting, seen, found = [place], set(), set()
    while waiting:
        each = waiting.pop()
        if each not in seen:
            seen.add(each)
            waiting += uses(each)
            found |= {ABSENT[package] for package in [each.module.split(".")[0]] if package in ABSENT}
    return frozenset(found)


def is_value(place):
    """Whether a name of one of our modules is bound by assignments alone: it is there once the module is imported."""
    if place.name is None or not file_of(place.module):
        return False
    imports, others = bindings(place.module)
    if place.name in imports:
        return is_value(imports[place.name])
    return not any(isinstance(node, ast.FunctionDef | ast.ClassDef) for node in others.get(place.name, ()))


def lacks_in_use(place):
    """The same as `lacks` for a name that is only looked at if it is a value, as a table of models by their names."""
    return frozenset() if is_value(place) else lacks(place)
