"""Lessons and projects as the site shows them: with their stored outputs, links to pages, and what stands beside the paper."""

import json

from course.web import beside
from course.web.addresses import ROOT
from crosscheck.catalogue import chapters
from crosscheck.lesson.course import lessons

BROWSER = "browser"
"""The folder of the edition that runs in a browser, in `build` and on the site."""


def chapter_of(name):
    """The chapter to which a lesson belongs."""
    return next(chapter for chapter in chapters() if name in (chapter.name, *(more.name for more in chapter.further_lessons)))


def prepared(file, addresses, runs_in_browser=()):
    """A notebook for the site, and the texts of its figures in the order in which they are shown.

    Args:
        file: The notebook, from the repository's root.
        addresses: Turns links between files into links between pages.
        runs_in_browser: Names of the lessons that can be run in a browser.

    Returns:
        The notebook as a dict, the texts, and how many figures have none.
    """
    notebook = json.loads((ROOT / file).read_text(encoding="utf-8"))
    name = file.split("/")[-1].removesuffix(".ipynb")
    texts = []
    for cell in notebook["cells"]:
        if cell["cell_type"] == "markdown":
            cell["source"] = addresses.rewrite("".join(cell["source"]), file)
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            if "text/markdown" in data:
                data["text/markdown"] = addresses.rewrite("".join(data["text/markdown"]), file)
            if "image/png" in data:
                texts.append(output["metadata"].get("image/png", {}).get("alt", ""))
    if file.startswith("notebooks/"):
        notebook["cells"].insert(1, markdown_cell(around(name, runs_in_browser)))
        notebook["cells"].append(markdown_cell(beside.markdown(chapter_of(name))))
    for number, cell in enumerate(notebook["cells"]):
        cell["id"] = f"cell-{number}"
    return notebook, texts, texts.count("")


def markdown_cell(source):
    return {"cell_type": "markdown", "metadata": {}, "source": source}


def around(name, runs_in_browser):
    """Links from a lesson to what the site has about it."""
    chapter = chapter_of(name)
    links = [f"[API](page:api/{chapter.name})", "[the paper beside the code](#the-paper-beside-the-code)"]
    links += ["[the runs behind the claims](page:claims)"] * (ROOT / "experiments" / "README.md").is_file()
    line = f":::{{container}} around\n{' · '.join(links)}"
    if name in runs_in_browser:
        line += (
            f'\n\n<a href="{BROWSER}/lab/index.html?path={name}.ipynb">Try it in the browser</a>: '
            "the NumPy half of this lesson, without an installation. The first time, the browser downloads Python itself "
            "and NumPy (Pyodide, some ten megabytes)."
        )
    return line + "\n:::"


def in_browser(folder):
    """The lessons that the edition in `folder` holds, by what it lists as its files; none if there is no such edition."""
    if not (folder / "lab" / "index.html").is_file():
        return ()
    found = {path.stem for path in (folder / "files").rglob("*.ipynb")}
    return tuple(lesson.name for lesson in lessons() if lesson.name in found)
