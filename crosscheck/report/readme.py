"""The README's table, measured: `python -m crosscheck.report.readme [CHAPTER ...]` prints its rows."""

import math
import re
import sys
from pathlib import Path

from crosscheck.agreement import agreement
from crosscheck.catalogue import chapters

ROOT = Path(__file__).parents[2]
DIGITS, RAISED = "0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹"


def row(chapter):
    """One line of the table; the last column says how large the chapter's float64 errors are."""
    return f"{beginning(chapter)} {power_above(max(agreement(case) for case in chapter.cases))} |"


def beginning(chapter):
    """The row up to its last column, for which nothing has to be measured."""
    classes = ", ".join(f"`{name}`" for name in chapter.classes)
    reference, layer = home("reference", chapter.name), home("layers", chapter.name)
    further = "".join(f", [{lesson.title.lower()}](notebooks/{lesson.name}.ipynb)" for lesson in chapter.further_lessons)
    rooms = f"[NumPy]({reference}) | [{classes}]({layer}) | [lesson](notebooks/{chapter.name}.ipynb){further}"
    return f"| {chapter.number} | {chapter.title} | [{chapter.paper}]({chapter.link}) | {rooms} |"


def home(room, name):
    """Where a chapter is in a room, from the repository's root: its file, or what its folder opens with."""
    file, folder = f"{room}/{name}.py", f"{room}/{name}/__init__.py"
    return folder if (ROOT / folder).exists() else file


def power_above(error):
    """The power of ten above `error`, with room for another machine's rounding, as text."""
    if error == 0:
        return "exact"
    return "10⁻" + str(-math.ceil(math.log10(4 * error))).translate(str.maketrans(DIGITS, RAISED))


def claims(text):
    """{chapter: largest float64 error}, as the rows in `text` claim."""
    rows = re.findall(
        r"^\| \d+ \|.*\(reference/(\w+)(?:/__init__)?\.py\).*\| (?:10⁻([⁰¹²³⁴⁵⁶⁷⁸⁹]+)|exact) \|$", text, re.MULTILINE
    )
    return {name: 10.0 ** -int(power.translate(str.maketrans(RAISED, DIGITS))) if power else 0.0 for name, power in rows}


if __name__ == "__main__":
    wanted = sys.argv[1:]
    for chapter in chapters():
        if not wanted or chapter.name in wanted:
            print(row(chapter))
