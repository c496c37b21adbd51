"""One mechanism, one name, a file in each room; arrows run one way; one legend of axis letters."""

import ast
import re
import subprocess
from pathlib import Path

import pytest

from crosscheck.catalogue import chapters
from crosscheck.readme import beginning, claims

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
ROOMS = ("reference/{}.py", "layers/{}.py", "crosscheck/cases/{}.py", "notebooks/{}.py", "notebooks/{}.ipynb", "tests/test_{}.py")
CODE = sorted(path for room in ("reference", "layers", "crosscheck") for path in (ROOT / room).rglob("*.py"))
REFERENCES = sorted((ROOT / "reference").glob("*.py"))
ALLOWED = {
    "reference": {"reference", "numpy", "jaxtyping"},
    "layers": {"layers", "keras", "numpy"},
}
TEXT_LAYERS = {"bert_tokenizer", "bert_graph", "sentencepiece_tokenizer", "bert_pack_inputs", "text"}
STANDARD = {"collections", "dataclasses", "functools", "heapq", "itertools", "math", "typing", "unicodedata", "string", "re"}

every_chapter = pytest.mark.parametrize("chapter", chapters(), ids=lambda chapter: chapter.name)


def name_of(path):
    return str(path.relative_to(ROOT))


@every_chapter
@pytest.mark.parametrize("room", ROOMS)
def test_every_chapter_has_its_file_in_every_room(chapter, room):
    assert (ROOT / room.format(chapter.name)).is_file()


def test_every_lesson_belongs_to_a_chapter():
    lessons = {path.stem for path in (ROOT / "notebooks").glob("*.py")}
    assert lessons - {"index"} == {chapter.name for chapter in chapters()}


def test_chapters_have_places_of_their_own():
    numbers = [chapter.number for chapter in chapters()]
    assert len(set(numbers)) == len(numbers)


@every_chapter
def test_readme_has_the_chapters_row(chapter):
    """Whether what its last column claims holds is asked of every case, in test_conformance.py."""
    assert any(line.startswith(beginning(chapter)) for line in README.splitlines()), (
        f"README lacks the row that `python -m crosscheck.readme {chapter.name}` prints"
    )
    assert chapter.name in claims(README)


@pytest.mark.parametrize("path", [path for path in CODE if path.parts[-2] in ALLOWED], ids=name_of)
def test_arrows_run_one_way(path):
    room = path.parent.name
    allowed = ALLOWED[room] | STANDARD | ({"tensorflow", "tensorflow_text"} if path.stem in TEXT_LAYERS else set())
    assert imports_of(path) <= allowed


def imports_of(path):
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add((node.module or ".").split(".")[0])
    return found


@pytest.mark.parametrize("path", REFERENCES, ids=name_of)
def test_axis_letters_are_those_of_the_legend(path):
    legend = set(re.findall(r"`(\w)` [a-z]", README.split("## Axes")[1].split("\n## ")[0]))
    assert len(legend) == 13
    for axes in re.findall(r"(?:Float|Int|Bool|Shaped)\[\w+, \"([^\"]*)\"\]", path.read_text()):
        letters = {axis.lstrip("#") for axis in axes.split() if not re.fullmatch(r"\.\.\.|_|\d+|\*#?\w+|[a-z]*[+\-*].*", axis)}
        assert letters <= legend, axes


@every_chapter
def test_references_say_what_they_compute_and_where_they_differ(chapter):
    tree = ast.parse((ROOT / f"reference/{chapter.name}.py").read_text())
    text = ast.get_docstring(tree)
    for field in ("Paper\n", "Equations\n", "Axes\n", "Differs from the paper\n", f"Layer: layers/{chapter.name}.py"):
        assert field in text, field
    functions = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    assert set(chapter.functions) <= functions


@every_chapter
def test_layers_document_themselves(chapter):
    tree = ast.parse((ROOT / f"layers/{chapter.name}.py").read_text())
    classes = {node.name: ast.get_docstring(node) or "" for node in tree.body if isinstance(node, ast.ClassDef)}
    for name in chapter.classes:
        for field in (
            f"reference/{chapter.name}.py",
            "Call arguments:",
            "Returns:",
            "Example:",
            ">>> ",
            "Differs from the Model Garden:",
        ):
            assert field in classes[name], (name, field)


@pytest.mark.parametrize("path", CODE, ids=name_of)
def test_a_file_is_one_idea(path):
    assert len(path.read_text().splitlines()) <= 250


def test_files_speak_of_no_machine():
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")
    for name in filter(None, tracked):
        if name != name_of(Path(__file__)) and (ROOT / name).suffix not in {".png", ".model"}:
            assert not re.search(r"/home/|/root/|/work/|pypi\.org|pythonhosted", (ROOT / name).read_text()), name
