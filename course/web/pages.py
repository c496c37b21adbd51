"""Pages that are no file of the repository: the front page, the API's and sources' lists, glossary, and what was measured."""

import io
import re
from html import escape
from pathlib import Path

import matplotlib.pyplot as plt

from course.web import api
from course.web.addresses import DOCUMENTS, ROOT
from course.web.beside import files_of
from crosscheck.lesson import course, course_map, figures, projects
from crosscheck.lesson.projects import BUILT

HERE = Path(__file__).parent
MEASURED = {
    "compare.html": ("Every layer beside its reference, case by case", "make compare"),
    "bench.html": ("How long every layer takes beside its matrix products alone, and how it grows with the length", "make bench"),
}
"""{page in `build`: (what it shows, what makes it)}"""


def front():
    """The front page: where to begin, the map, paths, lessons, weeks and projects."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    title, _, rest = readme.partition("\n")
    intro = re.sub(r"\]\((?!http)", "](../", rest.split("\n## ")[0].split("\n![")[0].strip())
    return "\n\n".join(
        [
            f"{title}\n\n{intro}",
            'Begin with [masks](self_attention_mask.ipynb) and follow "next" at the foot of each page, take one of the paths, or '
            "begin anywhere: each lesson says what you should know. Each lesson ends with the paper's equations beside the code "
            "and the tests. The letters of the axes, and the words, are in the [glossary](page:glossary).",
            "## What builds on what\n\nA column is a part of the course, in reading order. An arrow leads from a lesson to one "
            "that needs it; all arrows from one lesson have one color. Each box is a link.",
            f'<div class="map">{map_with_links()}</div>',
            "## Paths\n\nA path holds everything that its last lessons need. The time is for reading; the exercises take at "
            f"least as long again.\n\n{course.routes_as_markdown()}",
            f"## Lessons\n\n{course.chapter_table()}",
            f"## Twelve weeks\n\nThe [course plan](../course/PLAN.md) says more.\n\n{course.plan_table()}".replace(
                "](#", "](../course/PLAN.md#"
            ).replace("](projects/", "](../course/projects/"),
            f"## Projects\n\n{projects.as_markdown()}",
        ]
    )


def map_with_links():
    """The map of the course as SVG, in which the name of each lesson leads to its page."""
    figures.use_style()
    fig = course_map.course_map()
    names = {lesson.title: lesson.name for lesson in course.lessons()}
    for text in fig.axes[0].texts:
        if name := names.get(" ".join(text.get_text().split())):
            text.set_url(f"{name}.html")
    drawn = io.StringIO()
    with plt.rc_context({"svg.hashsalt": "map"}):
        fig.savefig(drawn, format="svg", metadata={"Date": None, "Creator": None})
    plt.close(fig)
    svg = drawn.getvalue()
    text = f"{course_map.reading()}. What each lesson needs is also in its first lines."
    svg = svg[svg.index("<svg") :].replace("<svg ", f'<svg role="img" aria-label="{escape(text)}" ', 1)
    return re.sub(r"\n\s*\n", "\n", svg)


def glossary():
    """The axes, each with the lessons whose references have it, and the words."""
    letters = re.findall(r"`(\w)` ([a-z -]+\w)", course_readme_axes())
    lines = ["# Glossary", "", "## Axes", "", course_sentence(), "", "| letter | axis | in the references of |", "|---|---|---|"]
    for letter, axis in letters:
        found = [lesson for lesson in course.lessons() if lesson.number and letter in letters_of(lesson.name)]
        shown = ", ".join(course.link(lesson, "../notebooks/") for lesson in found)
        lines.append(f"| `{letter}` | {axis} | {shown if len(found) <= 12 else f'{len(found)} lessons'} |")
    return "\n".join(lines) + "\n\n" + (HERE / "glossary.md").read_text(encoding="utf-8")


def course_readme_axes():
    return (ROOT / "README.md").read_text(encoding="utf-8").split("## Axes")[1].split("\n## ")[0]


def course_sentence():
    return course_readme_axes().strip().split("\n")[0]


def letters_of(name):
    """The axis letters in the annotations of a chapter's references."""
    text = "".join((ROOT / file).read_text(encoding="utf-8") for file in files_of("reference", name))
    found = re.findall(r"(?:Float|Int|Bool|Shaped)\[\w+, \"([^\"]*)\"\]", text)
    return {axis.lstrip("#*") for axes in found for axis in axes.split()}


def measured(build):
    """The page of what was measured: links to the pages that are there, and how to make those that are not."""
    lines = ["# Comparison and speed", ""]
    for name, (what, command) in MEASURED.items():
        there = (build / name).is_file()
        lines += [
            f'- {what}: <a href="{name}">{name}</a>.' if there else f"- {what}: not made for this edition; `{command}` makes it."
        ]
    return "\n".join([*lines, "", "What can be exported, quantized and saved is in [EXPORT](../EXPORT.md).", ""])


def api_index():
    lines = ["# API", "", "The public classes and functions of `layers`, by lesson.", ""]
    for folder, names in api.by_chapter().items():
        shown = ", ".join(f"[`{name}`](page:api/{folder}#{name.lower()})" for name in names)
        lines.append(f"- {shown}")
    return "\n".join([*lines, "", toctree([f"/api/{folder}" for folder in api.by_chapter()], hidden=True)])


def toctree(pages, caption=None, hidden=False, titles=None):
    """A list of pages, in the order of "previous" and "next"."""
    options = ":hidden:\n" * hidden + (f":caption: {caption}\n" if caption else "")
    rows = (f"{titles[page]} <{page}>" if titles and page in titles else page for page in pages)
    return f"```{{toctree}}\n{options}:maxdepth: 1\n\n" + "\n".join(rows) + "\n```"


def contents():
    """The order of all pages: the front page's hidden lists."""
    parts = dict.fromkeys(lesson.part for lesson in course.lessons())
    titles = {f"/{lesson.name}": lesson.title for lesson in course.lessons()}
    titles |= {f"/projects/{name}": f"{title[0].upper()}{title[1:]}" for name, title in BUILT.values()}
    lists = [
        toctree([f"/{each.name}" for each in course.lessons() if each.part == part], part, hidden=True, titles=titles)
        for part in parts
    ]
    lists.append(toctree([f"/projects/{name}" for name, _ in BUILT.values()], "Projects", hidden=True, titles=titles))
    others = ["plan", "glossary", "measured", "api/index", "source/index", "claims", "export", "migration", "readme"]
    others += ["projects/index", "contributing", "changelog"]
    known = {*DOCUMENTS.values(), "glossary", "measured", "api/index", "source/index"}
    missing = {page for path, page in DOCUMENTS.items() if not (ROOT / path).is_file()}
    lists.append(toctree([f"/{page}" for page in others if page in known - missing], "Reference", hidden=True))
    return "\n\n".join(lists)
