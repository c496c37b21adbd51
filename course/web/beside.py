"""The paper beside the code: for each equation of a chapter the functions that compute it and the tests that ask them.

Everything is read from the repository: what a reference's docstring cites, which functions say that they compute an equation, and
which tests use these functions. Lines are found in the syntax tree.
"""

import ast
import re
import textwrap
from dataclasses import dataclass, field
from functools import cache
from html import escape

from course.web.addresses import ROOT
from crosscheck.report.readme import home

EQUATION = re.compile(r"^ {4}\((\d+)\)\s", re.MULTILINE)
FIELD = r"(?:^|\n){}[^\n]*\n((?:(?: {{4}}.*)?\n)+)"
ENTRY = re.compile(r"\n(?= {4}[A-Z][^\n(]{2,80}\(\d{4}\))")
"""Where the next paper begins: at its authors and year."""

CITED = re.compile(r"(?:[Ee]quation|[Rr]ule)s?\s+(\(\d+\).*?)(?:[:.](?:\s|$)|\Z)", re.DOTALL)
NUMBERS = re.compile(r"\((\d+)\)(?:\s+to\s+\((\d+)\))?")
CONFORMANCE = "tests/conformance/test_conformance.py"
AGREES = "test_layer_agrees_with_its_reference"
MOST = 4
"""Tests that are shown for an equation; the others are counted."""


@dataclass
class Equation:
    """An equation of a reference.

    Attributes:
        number: As in the docstring.
        text: As it stands there.
        place: File and line of it.
        code: (name, file, line) of each function that computes it.
        tests: The same for each test of one of these.
    """

    number: int
    text: str
    place: tuple[str, int]
    code: list = field(default_factory=list)
    tests: list = field(default_factory=list)


@cache
def tree_of(file):
    return ast.parse((ROOT / file).read_text(encoding="utf-8"))


def part(docstring, name):
    """A field of a reference's docstring, without its heading."""
    found = re.search(FIELD.format(name), docstring + "\n")
    return found[1].rstrip("\n") if found else ""


def cited(docstring):
    """The numbers of the equations that a docstring says its function computes, in its first such sentence."""
    found = CITED.search(docstring or "")
    if not found:
        return []
    numbers = []
    for first, last in NUMBERS.findall(found[1]):
        numbers += range(int(first), int(last or first) + 1)
    return numbers


def files_of(room, name):
    """The files of a chapter in a room: the one that opens it first."""
    first = home(room, name)
    others = sorted((ROOT / first).parent.glob("[!_]*.py")) if first.endswith("__init__.py") else []
    return [first, *(path.relative_to(ROOT).as_posix() for path in others)]


def tests_of(name):
    """The files with a chapter's tests."""
    alone, folder = ROOT / "tests" / f"test_{name}.py", ROOT / "tests" / name
    found = [alone] if alone.is_file() else sorted(folder.glob("test_*.py"))
    return [path.relative_to(ROOT).as_posix() for path in found]


def stated(file):
    """The equations that the docstring of a file states."""
    tree = tree_of(file)
    docstring = ast.get_docstring(tree) or ""
    text = part(docstring, "Equations")
    lines = (ROOT / file).read_text(encoding="utf-8").splitlines()
    starts = [found.start() for found in EQUATION.finditer(text)]
    found = []
    for start, end in zip(starts, [*starts[1:], len(text)]):
        whole = text[start:end].rstrip()
        first = whole.splitlines()[0]
        place = next(number for number, line in enumerate(lines, 1) if line.rstrip() == first.rstrip())
        indented = "\n".join(line[4:] for line in whole.splitlines())
        found.append(Equation(int(EQUATION.match(first + " ")[1]), indented, (file, place)))
    return found


def functions_of(file):
    """Every function of a file that has a docstring, methods too."""
    return [node for node in ast.walk(tree_of(file)) if isinstance(node, ast.FunctionDef) and ast.get_docstring(node)]


def names_used(tree):
    """What a function or a file calls or names: f for f and for x.f."""
    nodes = list(ast.walk(tree))
    return {node.id for node in nodes if isinstance(node, ast.Name)} | {
        node.attr for node in nodes if isinstance(node, ast.Attribute)
    }


@cache
def equations(name):
    """Every equation of a chapter, with its code and tests.

    A part of the chapter that numbers its own equations is asked for these; any other part cites those of the file that opens the
    chapter.
    """
    files = files_of("reference", name)
    by_file = {file: {each.number: each for each in stated(file)} for file in files}
    for file in files:
        numbered = by_file[file] or by_file[files[0]]
        for function in functions_of(file):
            for number in cited(ast.get_docstring(function)):
                if number in numbered:
                    numbered[number].code.append((function.name, file, function.lineno))
    found = [each for file in files for each in by_file[file].values()]
    tests = [test for file in tests_of(name) for test in tests_in(file)]
    cases = names_used(tree_of(f"crosscheck/cases/{name}.py"))
    for each in found:
        names = {function for function, *_ in each.code}
        each.tests = using(names, tests) or using(names, every_test())
        if names & cases:
            each.tests.append(agreement())
    return tuple(found)


def using(names, tests):
    """(name, file, line) of the tests that use one of the names."""
    return [(test, file, line) for test, file, line, used in tests if used & names]


@cache
def every_test():
    """Every test, for what is tested in another chapter's folder."""
    files = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "tests").rglob("test_*.py"))
    return [test for file in files if file != CONFORMANCE and "web" not in file for test in tests_in(file)]


def tests_in(file):
    """(name, file, line, names used) of each test; what a helper of the same file uses counts too."""
    functions = {node.name: node for node in tree_of(file).body if isinstance(node, ast.FunctionDef)}
    used = {name: names_used(node) for name, node in functions.items()}
    for _ in functions:
        grown = {name: found.union(*(used[helper] for helper in found & set(used))) for name, found in used.items()}
        if grown == used:
            break
        used = grown
    return [(name, file, node.lineno, used[name]) for name, node in functions.items() if name.startswith("test_")]


@cache
def agreement():
    """The test that compares every case of a chapter with its layer."""
    node = next(node for node in tree_of(CONFORMANCE).body if getattr(node, "name", "") == AGREES)
    return AGREES, CONFORMANCE, node.lineno


def papers(name):
    """What the references of a chapter cite, each paper once, as lines of text."""
    found = []
    for file in files_of("reference", name):
        text = part(ast.get_docstring(tree_of(file)) or "", "Paper")
        entries = re.split(ENTRY, text) if text else []
        found += [" ".join(entry.split()) for entry in entries]
    return list(dict.fromkeys(found))


def anchor(file, line, text):
    return f'<a href="source/{escape(file)}.html#L{line}">{escape(text)}</a>'


def markdown(chapter):
    """The section that stands under a lesson, as Markdown with a table in HTML, for a page at the root of the site."""
    lines = ["## The paper beside the code", ""]
    lines += [f"- {linked(entry)}" for entry in papers(chapter.name)]
    layer, case = files_of("layers", chapter.name)[0], f"crosscheck/cases/{chapter.name}.py"
    counted = f"{len(chapter.cases)} cases" if len(chapter.cases) > 1 else "1 case"
    lines += [
        "",
        f"The equations are numbered as in [the reference](page:source/{home('reference', chapter.name)}).",
        f"[The layer](page:source/{layer}) is compared with it in [{counted}](page:source/{case}),",
        f"by [these tests](page:source/{CONFORMANCE}).",
        "",
        '<div class="table-wrapper"><table class="beside">',
        "<thead><tr><th>equation</th><th>code</th><th>tests</th></tr></thead><tbody>",
    ]
    lines += [row(each) for each in equations(chapter.name)]
    return "\n".join([*lines, "</tbody></table></div>"])


def row(each):
    """One equation of the table."""
    code = "<br>".join(anchor(file, line, f"{name}, line {line}") for name, file, line in each.code)
    shown = each.tests[:MOST] + [test for test in each.tests[MOST:] if test[0] == AGREES]
    more = len(each.tests) - len(shown)
    shown = [anchor(file, line, name.removeprefix("test_").replace("_", " ")) for name, file, line in shown]
    tests = "<br>".join(shown + [f"and {more} more"] * bool(more))
    stated_at = anchor(*each.place, f"({each.number})")
    bare = re.sub(r"\A\(\d+\)", lambda found: " " * len(found[0]), each.text)
    text = escape(textwrap.dedent(bare)).replace("\n", "&#10;")
    return f"<tr><td>{stated_at}<pre>{text}</pre></td><td>{code or '–'}</td><td>{tests or '–'}</td></tr>"


def linked(entry):
    """An entry of a paper with its address as a link."""
    return re.sub(r"https?://[^\s>)]+[^\s>).,;]", lambda found: f"<{found[0]}>", entry.replace("<", "").replace(">", ""))
