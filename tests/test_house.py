"""A chapter is a file, or a folder of the same name; what two chapters share is in `common/`; arrows run one way."""

import ast
import re
import subprocess
from functools import cache
from pathlib import Path

import pytest

from crosscheck.catalogue import chapters, lessons
from crosscheck.lesson.backends import GUIDES
from crosscheck.lesson.projects import projects
from crosscheck.report.changes import imported_names
from crosscheck.report.readme import beginning, claims, home

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
FILES = ("crosscheck/cases/{}.py", "notebooks/{}.py", "notebooks/{}.ipynb", "exercises/{}.py")
CODE = sorted(
    path
    for room in ("reference", "layers", "crosscheck", "exercises", "experiments", "course")
    for path in (ROOT / room).rglob("*.py")
)
MECHANISMS = [path for path in CODE if path.relative_to(ROOT).parts[0] in ("reference", "layers")]
REFERENCES = [path for path in MECHANISMS if path.relative_to(ROOT).parts[0] == "reference"]
NAMES = {chapter.name for chapter in chapters()}
TO_BE_CHAPTERS = {"grouped_query_attention"}
"""A mechanism of its own that has no lesson yet."""

FOR_USERS = {"reference": set(), "layers": {"layouts"}}
"""What users import, and no chapter: the layout of all layers over several devices."""

ALLOWED = {
    "reference": {"reference", "numpy", "jaxtyping"},
    "layers": {"layers", "keras", "numpy"},
}
TEXT_CHAPTERS = {"bert_tokenizer", "sentencepiece_tokenizer", "bert_pack_inputs"}
STANDARD = {
    "collections",
    "contextvars",
    "dataclasses",
    "functools",
    "heapq",
    "itertools",
    "math",
    "typing",
    "unicodedata",
    "string",
    "re",
    "inspect",
    "warnings",
}
BRIDGE = {"__init__", "__main__", "agreement", "backends", "case", "catalogue", "tree", "weights"}
PURPOSES = {"bench", "cases", "lesson", "models", "report"}
SYMBOLS = set("qkv xyz gpuw ij _")
"""Queries, keys, values; inputs, outputs, features; a gate or second stream, a probability, a vector, a weight; indices."""
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
LEGEND = set(re.findall(r"`(\w)` [a-z]", README.split("## Axes")[1].split("\n## ")[0]))

every_chapter = pytest.mark.parametrize("chapter", chapters(), ids=lambda chapter: chapter.name)


def name_of(path):
    return str(path.relative_to(ROOT))


def chapter_of(path):
    """`layers/kernel_attention/features.py` and `layers/kernel_attention.py` both belong to "kernel_attention"."""
    return path.relative_to(ROOT).parts[1].removesuffix(".py")


@cache
def modules_imported_by(path):
    """Files of `reference/` and `layers/` that a file imports."""
    found = set()
    for name in imported_names(path):
        parts = name.split(".")
        stems = [ROOT.joinpath(*parts[:length]) for length in (len(parts), len(parts) - 1) if length > 1]
        files = [file for stem in stems for file in (stem.with_suffix(".py"), stem / "__init__.py") if file in MECHANISMS]
        found |= set(files[:1])  # what is taken may be a module itself; else it stands in the module before it
    return found


@every_chapter
def test_every_chapter_is_in_every_room(chapter):
    rooms = [file.format(chapter.name) for file in FILES] + [home("reference", chapter.name), home("layers", chapter.name)]
    assert [file for file in rooms if not (ROOT / file).is_file()] == []
    name = f"test_{chapter.name}.py"
    assert (ROOT / "tests" / name).is_file() or (ROOT / "tests" / chapter.name / name).is_file()


@pytest.mark.parametrize("room", ALLOWED)
def test_a_room_shows_chapters_and_what_they_share_and_nothing_else(room):
    found = {path.stem for path in (ROOT / room).iterdir() if not path.name.startswith("__")}
    assert found == NAMES | TO_BE_CHAPTERS | FOR_USERS[room] | {"common"}


@pytest.mark.parametrize("room", ALLOWED)
def test_what_is_for_users_is_imported_by_no_chapter_and_imports_none(room):
    for name in FOR_USERS[room]:
        (path,) = ROOT.joinpath(room).glob(f"{name}.py")
        assert {chapter_of(module) for module in modules_imported_by(path)} <= {"common"}
        assert [name_of(user) for user in MECHANISMS if path in modules_imported_by(user)] == []


@every_chapter
@pytest.mark.parametrize("room", ALLOWED)
def test_a_chapter_is_a_file_or_a_folder_never_both(room, chapter):
    file, folder = ROOT / room / f"{chapter.name}.py", ROOT / room / chapter.name
    assert file.is_file() != folder.is_dir()
    assert not folder.is_dir() or len(list(folder.glob("*.py"))) > 1, "a folder of one file is a file"


@pytest.mark.parametrize("room", ALLOWED)
def test_a_part_is_imported_by_its_own_chapter_alone(room):
    parts = [path for path in MECHANISMS if path.relative_to(ROOT).parts[0] == room and is_part(path)]
    assert parts
    found = {
        (name_of(user), name_of(part))
        for part in parts
        for user in MECHANISMS
        if part in modules_imported_by(user) and chapter_of(user) not in ("__init__", chapter_of(part))
    }
    assert found == set()


def is_part(path):
    """Whether a file belongs to a chapter's folder without being the file that opens it."""
    place = path.relative_to(ROOT).parts
    return len(place) == 3 and place[1] != "common" and place[2] != "__init__.py"


@pytest.mark.parametrize("path", [path for path in MECHANISMS if chapter_of(path) == "common"], ids=name_of)
def test_what_is_common_is_imported_by_two_chapters_or_more(path):
    if path.name == "__init__.py":
        return
    users = users_of(path)
    assert len(users) >= 2, users


def users_of(path):
    """The chapters that need a common file, directly or through other common files."""
    found, waiting, seen = set(), [path], set()
    while waiting:
        needed = waiting.pop()
        seen.add(needed)
        for user in MECHANISMS:
            if needed in modules_imported_by(user):
                if chapter_of(user) != "common":
                    found.add(chapter_of(user))
                elif user not in seen:
                    waiting.append(user)
    return found


@pytest.mark.parametrize("path", [path for path in MECHANISMS if chapter_of(path) == "common"], ids=name_of)
def test_what_is_common_imports_no_chapter(path):
    assert {chapter_of(module) for module in modules_imported_by(path)} <= {"common"}


def test_imports_of_mechanisms_run_in_no_circle():
    below = {path: modules_imported_by(path) - {path} for path in MECHANISMS}
    while leaves := [path for path, needed in below.items() if not needed & set(below)]:
        for path in leaves:
            del below[path]
    assert sorted(map(name_of, below)) == []


def test_crosscheck_has_the_bridge_at_its_top_and_a_folder_for_each_purpose():
    entries = [path for path in (ROOT / "crosscheck").iterdir() if path.name != "__pycache__"]
    assert {path.stem for path in entries if path.is_file()} == BRIDGE
    assert {path.name for path in entries if path.is_dir()} == PURPOSES
    assert {path.stem for path in (ROOT / "crosscheck" / "cases").glob("*.py")} == NAMES | {"__init__"}


def test_every_lesson_belongs_to_a_chapter_and_a_chapter_has_the_further_ones_that_it_declares():
    for kind in ("py", "ipynb"):
        assert {path.stem for path in (ROOT / "notebooks").glob(f"*.{kind}")} - {"index", *GUIDES} == set(lessons())
    assert len(set(lessons())) == len(lessons()) > len(NAMES)


@pytest.mark.parametrize("name", GUIDES)
def test_a_guide_is_a_script_and_its_notebook_and_no_chapter(name):
    files = [ROOT / "notebooks" / f"{name}.{kind}" for kind in ("py", "ipynb")]
    assert [file for file in files if not file.is_file()] == []
    assert name not in {*lessons(), *NAMES}
    assert not (ROOT / "exercises" / f"{name}.py").exists()
    assert f"](notebooks/{name}.ipynb)" in README, "README has no link to it"


def test_experiments_are_a_program_and_its_results_for_a_lesson_and_what_they_share():
    entries = {path.name for path in (ROOT / "experiments").iterdir()} - {
        "__pycache__",
        "__init__.py",
        "__main__.py",
        "README.md",
        "common",
    }
    results = {name for name in entries if name.endswith(".json")}
    assert {name.removesuffix(".py") for name in entries - results} == {name.removesuffix(".json") for name in results}
    assert {name.removesuffix(".json") for name in results} <= set(lessons())
    folders = [path for path in (ROOT / "experiments").iterdir() if path.is_dir() and path.name in entries]
    for part in (part for folder in folders for part in folder.glob("[!_]*.py")):
        name = ".".join(part.relative_to(ROOT).with_suffix("").parts)
        users = [
            path
            for path in (ROOT / "experiments").rglob("*.py")
            if any(f"{used}.".startswith(f"{name}.") for used in imported_names(path))
        ]
        assert users and {path.parent for path in users} == {part.parent}


def test_exercises_stand_in_a_file_for_each_lesson_and_import_no_layer():
    files = [path for path in (ROOT / "exercises").iterdir() if path.name != "__pycache__"]
    assert {path.suffix for path in files} == {".py"}
    assert {path.stem for path in files} == set(lessons())
    for path in files:
        imported = imported_names(path)
        assert {name.split(".")[0] for name in imported} <= {"crosscheck", "reference", "numpy"} | STANDARD, path
        assert all(name.startswith("crosscheck.lesson") for name in imported if name.startswith("crosscheck")), path


def test_a_project_is_a_statement_its_notebook_what_its_milestones_ask_and_a_solution():
    folder = ROOT / "course" / "projects"
    assert {path.name for path in (ROOT / "course").iterdir()} - {"__pycache__"} == {
        *("GRADING.md", "PLAN.md", "projects"),
        *("__init__.py", "requirements.txt", "browser", "web"),
    }
    names = {path.stem for path in folder.glob("*.py")}
    assert names == set(projects())
    assert {path.name for path in folder.iterdir()} - {"__pycache__", "README.md"} == {
        *("milestones", "solutions"),
        *(f"{name}.{kind}" for name in names for kind in ("py", "ipynb")),
    }
    for part in ("milestones", "solutions"):
        assert {path.stem for path in (folder / part).iterdir() if path.suffix} == names
    assert {path.stem for path in (ROOT / "tests" / "projects").glob("test_*.py")} == {f"test_{n}" for n in {*names, "projects"}}


def test_tests_stand_in_folders_like_what_they_test():
    entries = {path.stem.removeprefix("test_") for path in (ROOT / "tests").iterdir() if path.suffix in ("", ".py")}
    assert entries - {"__pycache__"} <= NAMES | {
        "common",
        "machinery",
        "smoke",
        "conformance",
        "examples",
        "projects",
        "web",
        "house",
        "conftest",
    }


@pytest.mark.parametrize("path", EXAMPLES, ids=name_of)
def test_an_example_is_short_uses_layers_alone_and_is_shown_first(path):
    assert len(path.read_text().splitlines()) <= 60
    assert {name.split(".")[0] for name in imported_names(path)} <= ALLOWED["layers"] | STANDARD | {
        "json",
        "pathlib",
        "tensorflow",
    }
    assert f"]({name_of(path)})" in README.split("## Start")[1].split("\n## ")[0]


def test_chapters_have_places_of_their_own():
    numbers = [chapter.number for chapter in chapters()]
    assert len(set(numbers)) == len(numbers)


@every_chapter
def test_readme_has_the_chapters_row(chapter):
    """Whether what its last column claims holds is asked of every case, in tests/conformance."""
    assert any(line.startswith(beginning(chapter)) for line in README.splitlines()), (
        f"README lacks the row that `python -m crosscheck.report.readme {chapter.name}` prints"
    )
    assert chapter.name in claims(README)


@pytest.mark.parametrize("path", MECHANISMS, ids=name_of)
def test_arrows_run_one_way(path):
    room = path.relative_to(ROOT).parts[0]
    is_text = chapter_of(path) in TEXT_CHAPTERS or path == ROOT / "layers/common/text.py"
    allowed = ALLOWED[room] | STANDARD | ({"tensorflow", "tensorflow_text"} if room == "layers" and is_text else set())
    if path == ROOT / "layers/__init__.py":
        allowed |= {"importlib", "sys"}
    assert {name.split(".")[0] for name in imported_names(path)} <= allowed


@pytest.mark.parametrize("path", REFERENCES, ids=name_of)
def test_axis_letters_are_those_of_the_legend(path):
    assert len(LEGEND) == 13
    for axes in re.findall(r"(?:Float|Int|Bool|Shaped)\[\w+, \"([^\"]*)\"\]", path.read_text()):
        letters = {axis.lstrip("#") for axis in axes.split() if not re.fullmatch(r"\.\.\.|_|\d+|\*#?\w+|[a-z]*[+\-*].*", axis)}
        assert letters <= LEGEND, axes


@every_chapter
def test_references_say_what_they_compute_and_where_they_differ(chapter):
    tree = ast.parse((ROOT / home("reference", chapter.name)).read_text())
    text = ast.get_docstring(tree)
    layer = home("layers", chapter.name).removesuffix("__init__.py")
    for field in ("Paper\n", "Equations\n", "Axes\n", "Differs from the paper\n", f"Layer: {layer}"):
        assert field in text, field
    functions = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    assert set(chapter.functions) <= functions


@every_chapter
def test_layers_document_themselves(chapter):
    file = ROOT / home("layers", chapter.name)
    files = sorted(file.parent.glob("*.py")) if file.name == "__init__.py" else [file]
    nodes = [node for path in files for node in ast.parse(path.read_text()).body]
    classes = {node.name: ast.get_docstring(node) or "" for node in nodes if isinstance(node, ast.ClassDef)}
    reference = home("reference", chapter.name).removesuffix("__init__.py")
    fields = (f"`{reference}`", "Call arguments:", "Returns:", "Example:", ">>> ", "Differs from the Model Garden:")
    for name in chapter.classes:
        for field in fields:
            assert field in classes[name], (name, field)


@pytest.mark.parametrize("path", CODE, ids=name_of)
def test_a_file_is_one_idea(path):
    assert len(path.read_text().splitlines()) <= 250


@pytest.mark.parametrize("path", CODE, ids=name_of)
def test_a_function_is_seen_at_once(path):
    functions = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.FunctionDef)]
    assert [f.name for f in functions if f.end_lineno - f.lineno + 1 - lines_of_docstring(f) > 60] == []


def lines_of_docstring(function):
    first = function.body[0]
    is_text = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str)
    return first.end_lineno - first.lineno + 1 if is_text else 0


@pytest.mark.parametrize("path", CODE, ids=name_of)
def test_a_name_of_one_letter_is_an_axis_or_a_symbol(path):
    nodes = list(ast.walk(ast.parse(path.read_text())))
    names = {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    names |= {node.arg for node in nodes if isinstance(node, ast.arg)}
    assert {name for name in names if len(name) == 1 and name.islower()} <= LEGEND | SYMBOLS


def test_files_speak_of_no_machine():
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")
    for name in filter(None, tracked):
        if name != name_of(Path(__file__)) and (ROOT / name).is_file() and (ROOT / name).suffix not in {".png", ".model"}:
            assert not re.search(r"/home/|/root/|/work/|pypi\.org|pythonhosted", (ROOT / name).read_text()), name
