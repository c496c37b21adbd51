"""The course as a whole: what each lesson needs and how long it takes, as its first cell says; paths; and a plan of weeks.

`python -m crosscheck.lesson.course` writes the table of `course/PLAN.md` anew.
"""

import json
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from crosscheck.catalogue import PARTS, chapters
from crosscheck.lesson import projects
from crosscheck.lesson.backends import BACKENDS, GUIDES, runs_on
from crosscheck.lesson.paths import ROUTES, WEEKS
from crosscheck.report.command import as_program, refuse

ROOT = Path(__file__).parents[2]
PLAN = ROOT / "course" / "PLAN.md"
LESSONS = ROOT / "notebooks" if (ROOT / "notebooks").is_dir() else Path()
"""The folder of the lessons: that of the clone, or, beside an installed package, the one in which a lesson runs."""

MINUTES = re.compile(r"(\d+)\s+minutes")
EXERCISE = re.compile(r"\*\*\d\*\* \(\w+, (\d+) minutes\)\.")
NEEDS = re.compile(r"You\s+should\s+know:(.*?)(?:\n\n|\Z)", re.DOTALL)
LINK = re.compile(r"\]\((\w+)\.ipynb\)")
LATER = re.compile(r"\[a\s+later\s+lesson\]\((\w+)\.ipynb\)")
"""What a lesson shows before it is taught, and says so."""

OPENING = re.compile(r"# (?P<title>.*)\n\n(?P<sentence>(?:.+\n)+)")
"""A first cell begins with the title and one paragraph."""

TABLE = re.compile(r"(?:^\|.*\|\n)+", re.MULTILINE)


@dataclass(frozen=True)
class Taught:
    """A lesson as the index lists it. Attributes:

    place: Its place in the reading order.
    number: That of its chapter; empty for a chapter's further lesson.
    name, title, part, sentence, paper, link: As of a `Chapter`.
    """

    place: int
    number: int | str
    name: str
    title: str
    part: str
    sentence: str
    paper: str
    link: str


@cache
def lessons():
    """Every lesson, in reading order."""
    found = [
        (each.number if each is chapter else "", each.name, each.title, chapter.part, each.sentence, each.paper, each.link)
        for chapter in chapters()
        for each in (chapter, *chapter.further_lessons)
    ]
    return tuple(Taught(place, *each) for place, each in enumerate(found))


@dataclass(frozen=True)
class Guide:
    """A notebook that belongs to no chapter, with the title and the sentence of its first cell."""

    name: str
    title: str
    sentence: str


def guides():
    """The guides that are written, in the order of `GUIDES`."""
    found = []
    for name in GUIDES:
        if (LESSONS / f"{name}.ipynb").is_file():
            opening = OPENING.match(markdown(name)[0])
            found.append(Guide(name, opening["title"], " ".join(opening["sentence"].split())))
    return tuple(found)


@cache
def markdown(name):
    """The Markdown cells of a lesson, as made by `crosscheck.lesson.make`."""
    cells = json.loads((LESSONS / f"{name}.ipynb").read_text(encoding="utf-8"))["cells"]
    return tuple("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")


def minutes(name):
    """How long reading a lesson takes, as its first cell says."""
    return int(MINUTES.search(markdown(name)[0])[1])


def minutes_of_exercises(name):
    return sum(int(found) for cell in markdown(name) for found in EXERCISE.findall(cell))


def needs(name):
    """The lessons that a lesson's first cell asks for, after "You should know"."""
    return tuple(LINK.findall(NEEDS.search(markdown(name)[0])[1]))


def shown_early(name):
    """The lessons of which a lesson's first cell says that they come later."""
    return tuple(LATER.findall(markdown(name)[0]))


def all_needs(names):
    """The lessons `names`, and everything that they need, directly or not."""
    found, waiting = set(), list(names)
    while waiting:
        if (name := waiting.pop()) not in found:
            found.add(name)
            waiting += needs(name)
    return found


def direct_needs(name):
    """The needs of a lesson without those that another of its needs asks for already."""
    return tuple(need for need in needs(name) if all(need not in all_needs([other]) for other in needs(name) if other != need))


def lessons_of(route):
    """The lessons of a path, in reading order."""
    wanted = all_needs(route.goals)
    return [lesson for lesson in lessons() if lesson.name in wanted]


def link(lesson, folder=""):
    return f"[{lesson.title}]({folder}{lesson.name}.ipynb)"


def duration(total):
    """Minutes as hours and minutes."""
    return f"{total // 60} h {total % 60:02d} min" if total >= 60 else f"{total} min"


def routes_as_markdown():
    """A line for each path: its minutes, and its chapters in reading order."""
    lines = []
    for route in ROUTES:
        found = lessons_of(route)
        total = duration(sum(minutes(lesson.name) for lesson in found))
        line = f"- **{route.title}** ({total}): {' → '.join(map(link, found))}."
        if route.to_come:
            line += f" Not written yet: {', '.join(title for _, title in route.to_come)}."
        lines.append(line)
    return "\n".join(lines)


def chapter_table():
    """The table of all lessons, under the names of the parts, and of the guides."""
    lines = ["| # | chapter | minutes | what it is for | paper | runs on |", "|---|---|---|---|---|---|"]
    for part in PARTS:
        rows = [lesson for lesson in lessons() if lesson.part == part]
        lines += [f"| | **{part}** | | | | |"] * bool(rows)
        lines += [
            f"| {c.number} | {link(c)} | {minutes(c.name)} | {c.sentence} | [{c.paper}]({c.link}) | {backends_of(c.name)} |"
            for c in rows
        ]
    rows = [f"| | {link(each)} | {minutes(each.name)} | {each.sentence} | | {backends_of(each.name)} |" for each in guides()]
    lines += ["| | **Guides** | | | | |"] * bool(rows) + rows
    return "\n".join(lines)


def backends_of(name):
    """The backends that a lesson or a guide runs on, as readers call them."""
    return ", ".join(BACKENDS[backend] for backend in GUIDES.get(name, runs_on(name)))


def shown_by_index():
    """What the index shows beside the map."""
    return [routes_as_markdown(), chapter_table(), projects.as_markdown()]


def weeks():
    """The lessons of each week."""
    found = []
    for lesson in lessons():
        if lesson.name in WEEKS:
            found.append([])
        found[-1].append(lesson)
    return found


def plan_table():
    """The table of the plan: for each week its lessons, readings, minutes and project."""
    last = {lesson.part: lesson for lesson in lessons()}
    lines = ["| week | lessons | readings | lessons and exercises | project |", "|---|---|---|---|---|"]
    for number, week in enumerate(weeks(), 1):
        reading, doing = (sum(map(of, (c.name for c in week))) for of in (minutes, minutes_of_exercises))
        papers = "; ".join(dict.fromkeys(f"[{c.paper}]({c.link})" for c in week))
        links = ", ".join(link(each, "../notebooks/") for each in week)
        ending = ", ".join(project_of(c.part) for c in week if c == last[c.part]) or "–"
        lines.append(f"| {number} | {links} | {papers} | {duration(reading)} + {duration(doing)} | {ending} |")
    return "\n".join(lines) + "\n"


def project_of(part):
    """Links to what the plan says of a part's project, and to its statement if it has one."""
    statement = projects.link(part, "projects/")
    return f"[{part}](#{projects.anchor(part)})" + (f": {statement}" if statement else "")


def main():
    """Write the table of the plan. Returns the exit status."""
    if not PLAN.is_file():
        return refuse(f"the plan is not part of the installed package; write it in a clone. Missing: {PLAN}")
    PLAN.write_text(TABLE.sub(lambda _: plan_table(), PLAN.read_text(encoding="utf-8"), count=1), encoding="utf-8")
    print(f"Written: {PLAN.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    as_program(main)
