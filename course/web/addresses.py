"""Where a file of the repository is on the site, and links between files turned into links between pages."""

import posixpath
import re
from functools import cache
from pathlib import Path

from crosscheck.lesson.course import lessons
from crosscheck.lesson.projects import BUILT

ROOT = Path(__file__).parents[2]

DOCUMENTS = {
    "README.md": "readme",
    "notebooks/index.ipynb": "index",
    "course/PLAN.md": "plan",
    "course/projects/README.md": "projects/index",
    "experiments/README.md": "claims",
    "MIGRATION.md": "migration",
    "EXPORT.md": "export",
    "CONTRIBUTING.md": "contributing",
    "CHANGELOG.md": "changelog",
}
"""{file: page} of what is written for people and is no lesson."""

ROOMS = ("reference", "layers", "crosscheck/cases", "experiments", "examples", "tests")
"""Folders whose programs all have a page with their source. A file elsewhere has one if a page links to it."""

KEPT = re.compile(
    r"```.*?```|~~~.*?~~~|(?<!`)(?P<ticks>`+)(?!`).*?(?<!`)(?P=ticks)(?!`)|\$\$.*?\$\$|(?<!\\)\$[^$\n]+\$", re.DOTALL
)
"""Code and formulas, in which no link stands."""

LINK = re.compile(rf"(?P<kept>{KEPT.pattern})|(?P<image>!\[[^\]]*)?\]\((?P<target>[^()\s]+)\)", re.DOTALL)
OUTSIDE = re.compile(r"[a-z]+:")


class Broken(Exception):
    """A link leads to a file that is not there."""


@cache
def documents():
    """{file: page} of every lesson, project and other document."""
    found = {f"notebooks/{lesson.name}.ipynb": lesson.name for lesson in lessons()}
    found |= {f"course/projects/{name}.ipynb": f"projects/{name}" for name, _ in BUILT.values()}
    found |= {path: page for path, page in DOCUMENTS.items() if (ROOT / path).is_file()}
    if len(set(found.values())) != len(found):
        raise ValueError(f"two documents must not have one address. Received: {sorted(found.values())}")
    return found


@cache
def sources():
    """The files that have a page with their source whether a page links to them or not."""
    found = (path for room in ROOMS for path in sorted((ROOT / room).rglob("*.py")))
    return tuple(path.relative_to(ROOT).as_posix() for path in found if "web" not in path.parts)


class Addresses:
    """Turns links between files into links between pages, and remembers what else the site has to show for them.

    Attributes:
        shown: Files that need a page with their source.
        images: Pictures that pages show.
        broken: A sentence on each link to a file that is not there.
    """

    def __init__(self):
        self.broken = []
        self.shown = set(sources())
        self.images = set()

    def page(self, path):
        """The page of a file of the repository; a folder leads to the file that opens it.

        Raises:
            Broken: if there is no such file.
        """
        if (ROOT / path).is_dir():
            opened = (f"{path}/{name}" for name in ("README.md", "__init__.py"))
            path = next((name for name in opened if (ROOT / name).is_file()), path)
        if path in documents():
            return documents()[path]
        if not (ROOT / path).is_file():
            raise Broken(path)
        self.shown.add(path)
        return f"source/{path}"

    def rewrite(self, text, file):
        """The Markdown `text` of a file of the repository, with links to pages, as `page:NAME`."""
        return LINK.sub(lambda found: self.of_link(found, file), text)

    def of_link(self, found, file):
        target = found["target"]
        if found["image"] and OUTSIDE.match(target):  # nothing is fetched from outside, so its text stands for it
            return found["image"].removeprefix("![")
        if found["kept"] or OUTSIDE.match(target) or target.startswith("#"):
            return found[0]
        target, _, anchor = target.partition("#")
        path = posixpath.normpath(posixpath.join(posixpath.dirname(file), target))
        start = found["image"] or ""
        if start:
            if not (ROOT / path).is_file():
                self.broken.append(f"{file} shows {target}, which is not there")
            self.images.add(path)
            return f"{start}](/{path})"
        try:
            page = self.page(path)
        except Broken:
            self.broken.append(f"{file} links to {target}, which is not there")
            return found[0]
        return f"](page:{page}{'#' + anchor if anchor else ''})"
