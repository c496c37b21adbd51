"""Every notebook has the cell that installs what is missing, which does nothing here; and badges, where there is an address."""

import ast
import os
import subprocess
import sys
from types import SimpleNamespace

import jupytext
import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from course.web import notebooks as site
from crosscheck.lesson import colab, editions, make, rules

ADDRESS = "https://github.com/someone/something"
NOTEBOOKS = sorted(path for folder in colab.FOLDERS for path in (colab.ROOT / folder).glob("*.ipynb"))


@pytest.fixture
def root(tmp_path):
    """A repository with an address, a README, a lesson and its notebook."""

    def with_address(address):
        folder = tmp_path / "a clone"
        (folder / "notebooks").mkdir(parents=True, exist_ok=True)
        text = (colab.ROOT / "pyproject.toml").read_text()
        (folder / "pyproject.toml").write_text(f'{text}\n[project.urls]\nRepository = "{address}"\n' if address else text)
        (folder / "README.md").write_text("# A title\n\nText.\n")
        (folder / "notebooks" / "lesson.py").write_text("# %% [markdown]\n# # One\n#\n# Text.\n\n# %%\n1 + 1\n\n# %%\nprint(2)\n")
        notebook = jupytext.read(folder / "notebooks" / "lesson.py")
        notebook.metadata = make.METADATA
        for number, cell in enumerate(rules.code_cells(notebook), 1):
            cell.execution_count = number
        result = {"text/plain": "2"}
        notebook.cells[1].outputs = [new_output("execute_result", data=result, execution_count=1)]
        nbformat.write(notebook, folder / "notebooks" / "lesson.ipynb")
        return folder

    return with_address


def test_every_notebook_has_the_cell_in_front_of_its_other_code():
    assert len(NOTEBOOKS) > 30
    for path in NOTEBOOKS:
        (found, *others) = rules.code_cells(rules.read(path))
        assert found.source == colab.source() and found.metadata == colab.METADATA, path
        assert not found.outputs and not any(map(colab.installs, others)), path


def test_the_cell_needs_no_module_before_it_has_looked_for_the_course():
    tree = ast.parse(colab.source())
    assert [type(node).__name__ for node in tree.body] == ["FunctionDef", "Expr", "ImportFrom", "Expr"]
    nodes = [node for node in ast.walk(tree.body[0]) if isinstance(node, ast.Import | ast.ImportFrom)]
    imported = {node.module if isinstance(node, ast.ImportFrom) else node.names[0].name for node in nodes}
    assert {name.split(".")[0] for name in imported} <= sys.stdlib_module_names


def test_the_cell_does_nothing_where_everything_is_there(monkeypatch, capsys):
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("a program was started"))
    before = list(sys.path), os.environ.get("PYTHONPATH")
    exec(colab.source(), {})
    assert (list(sys.path), os.environ.get("PYTHONPATH")) == before
    assert capsys.readouterr() == ("", "")


def test_the_cell_and_the_badge_are_put_in_and_taken_out(root, monkeypatch, capsys):
    folder = root(ADDRESS)
    monkeypatch.setattr(colab, "ROOT", folder)
    script, path = folder / "notebooks/lesson.py", folder / "notebooks/lesson.ipynb"
    assert colab.main([]) == 0 and colab.main([]) == 0
    notebook, readme = rules.read(path), (folder / "README.md").read_text()
    link = "https://colab.research.google.com/github/someone/something/blob/main/notebooks/{}.ipynb)"
    assert notebook.cells[0].source.endswith(link.format("lesson")) and notebook.cells[0].source.startswith(
        "# One\n\nText.\n\n[!["
    )
    assert readme.startswith("# A title\n\n[![Open in Colab](") and readme.endswith(f"{link.format('index')}\n\nText.\n")
    assert f'bring_course("{ADDRESS}")' in notebook.cells[1].source
    assert rules.executed(notebook) == [] and notebook.cells[2].outputs[0].execution_count == 2
    assert capsys.readouterr().out == "Changed: 1 of 1 notebooks\nChanged: 0 of 1 notebooks\n"
    nbformat.validate(notebook)

    root_without = (folder / "pyproject.toml").read_text().split("\n[project.urls]\nRepository")[0]
    (folder / "pyproject.toml").write_text(root_without)
    assert "an old one: run make badges" in rules.paired(script, notebook)[0]
    assert colab.main([]) == 0
    assert "bring_course(None)" in path.read_text() and "Open in Colab" not in path.read_text()
    assert (folder / "README.md").read_text() == "# A title\n\nText.\n"
    assert "No badges" in capsys.readouterr().out
    assert rules.paired(script, rules.read(path)) == [] and rules.executed(rules.read(path)) == []


def test_a_script_that_has_the_cell_too_is_seen(root):
    script = root(None) / "notebooks/lesson.py"
    jupytext.write(colab.dressed(jupytext.read(script)), script, fmt="py:percent")
    assert "lesson.py has the cell" in rules.paired(script, rules.read(script.with_suffix(".ipynb")))[0]


def test_executions_out_of_order_stay_out_of_order():
    cells = [new_markdown_cell("# One"), new_code_cell("1", execution_count=3), new_code_cell("2", execution_count=2)]
    notebook = colab.dressed(new_notebook(cells=cells, metadata=make.METADATA))
    assert [cell.execution_count for cell in rules.code_cells(notebook)] == [1, 4, 3]
    assert cells[1].execution_count == 3, "the notebook that was given has changed"


@pytest.mark.parametrize("address", ["https://gitlab.com/me/mine", "file:///a/b", "https://github.com/me", None])
def test_colab_opens_nothing_that_is_not_on_github(address):
    assert colab.badge(address, "notebooks/attention.ipynb") == ""


@pytest.mark.parametrize("address", ["github.com/me/mine", "https://github.com/me/mi ne", "", 'https://a\\"b'])
def test_what_is_no_address_is_refused(address, root, monkeypatch, capsys):
    monkeypatch.setattr(colab, "ROOT", root(None))
    with open(colab.ROOT / "pyproject.toml", "a") as file:
        file.write(f"\n[project.urls]\nRepository = '{address}'\n")
    assert colab.main([]) == 2
    assert f"must be an address, as https://github.com/me/mine. Received: {address}" in capsys.readouterr().err


def test_an_edition_has_the_cell_and_no_badge(root, monkeypatch, tmp_path):
    monkeypatch.setattr(colab, "ROOT", root(ADDRESS))
    editions.student(tmp_path / "student", ["masked_softmax"])
    notebook = rules.read(tmp_path / "student" / "masked_softmax.ipynb")
    assert colab.installs(rules.code_cells(notebook)[0]) and ADDRESS in rules.code_cells(notebook)[0].source
    assert "Open in Colab" not in notebook.cells[0].source


def test_help_says_where_the_address_stands(said_by_help):
    said = said_by_help(colab.main)
    assert all(part in said for part in ("usage: crosscheck.lesson.colab", "pyproject.toml", "examples:", "exit status:")), said


def test_a_page_of_the_site_has_no_badge_and_leaves_the_cell_out(root, monkeypatch):
    folder = root(ADDRESS)
    monkeypatch.setattr(colab, "ROOT", folder)
    monkeypatch.setattr(site, "ROOT", folder)
    assert colab.main([]) == 0 and "Open in Colab" in (folder / "notebooks/lesson.ipynb").read_text()
    (folder / "lesson.ipynb").write_text((folder / "notebooks/lesson.ipynb").read_text())
    addresses = SimpleNamespace(rewrite=lambda source, file: source)
    notebook, _, _ = site.prepared("lesson.ipynb", addresses)
    assert notebook["cells"][0]["source"] == "# One\n\nText."
    assert "remove-cell" in notebook["cells"][1]["metadata"]["tags"]
