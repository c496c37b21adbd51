"""Grades as a table for a spreadsheet and as a page. Whatever a student wrote is escaped in both."""

import csv
import io
from html import escape
from importlib.resources import files

from crosscheck.lesson.grading.marking import VERDICTS

COLUMNS = ("student", "lesson", "exercise", "verdict", "points", "message", "seconds")
FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""With what a cell of a spreadsheet begins that is computed."""
MARKS = {"right": "✓", "wrong": "✗", "not begun": "–", "missing": "–", "failed": "!", "not graded": "?"}

PAGE = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>Grades</title>
<style>
{style}</style>
</head>
<body>
<h1>Grades</h1>
<p>{summary}</p>
<p class="soft">{legend}</p>
{problems}
<h2>Points</h2>
<div class="scroll"><table>
<thead><tr><th>student</th><th>together</th>{lessons}</tr></thead>
<tbody>
{points}
</tbody></table></div>
<h2>Answers</h2>
{students}
</body>
</html>
"""

STYLE = """\
.answers td, .answers th { text-align: left; vertical-align: top; }
.answers td.message { white-space: normal; overflow-wrap: anywhere; min-width: 14rem; }
details { border-bottom: 1px solid var(--line); padding: .3rem 0; }
summary { cursor: pointer; overflow-wrap: anywhere; }
.scroll th:first-child { max-width: 40vw; overflow: hidden; text-overflow: ellipsis; }
.problems { padding: .5rem .75rem; border-left: 4px solid var(--bad); background: var(--alarm); overflow-wrap: anywhere; }
"""


def as_csv(rows):
    """A table of all rows, with the mark by which Excel knows UTF-8."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(COLUMNS)
    for row in rows:
        table.writerow([harmless(getattr(row, name)) for name in COLUMNS])
    return "\ufeff" + text.getvalue().encode("utf-8", "replace").decode("utf-8")


def harmless(value):
    """Text that no spreadsheet takes for a formula."""
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value


def as_page(rows, summary):
    """The same as a page that needs nothing but itself."""
    lessons = sorted({row.lesson for row in rows if row.lesson})
    by_student = {}
    for row in rows:
        by_student.setdefault(row.student, []).append(row)
    page = PAGE.format(
        style=files("crosscheck.report").joinpath("page", "page.css").read_text(encoding="utf-8") + STYLE,
        summary=text(summary),
        legend=text("; ".join(f"{MARKS[name]} {name}: {what}" for name, what in VERDICTS.items())),
        problems=problems(rows),
        lessons="".join(f"<th>{text(lesson)}</th>" for lesson in lessons),
        points="\n".join(points_of(student, own, lessons) for student, own in by_student.items()),
        students="\n".join(answers_of(student, own) for student, own in by_student.items()),
    )
    return page.encode("utf-8", "replace").decode("utf-8")


def text(value):
    return escape(str(value))


def problems(rows):
    """The notebooks that somebody has to look at."""
    found = {(row.student, row.lesson, row.message): None for row in rows if row.verdict == "failed"}
    lines = [f"<li>{text(student)}, {text(lesson or 'unknown lesson')}: {text(why)}</li>" for student, lesson, why in found]
    return f'<div class="problems">To be looked at:<ul>{"".join(lines)}</ul></div>' if lines else ""


def points_of(student, rows, lessons):
    """A student's line: the marks of each lesson."""
    cells = ["".join(mark(row) for row in rows if row.lesson == lesson) for lesson in lessons]
    total = sum(row.points for row in rows)
    marks = "".join(f"<td>{cell}</td>" for cell in cells)
    return f'<tr><th scope="row">{text(student)}</th><td>{total:g}</td>{marks}</tr>'


def mark(row):
    kind = {"right": "good", "wrong": "bad", "failed": "bad"}.get(row.verdict, "soft")
    what = text(f"{row.exercise}: {row.verdict}")
    return f'<span class="{kind}" role="img" title="{what}" aria-label="{what}">{MARKS[row.verdict]}</span>'


def answers_of(student, rows):
    head = "".join(f"<th>{name}</th>" for name in ("lesson", "exercise", "verdict", "points", "seconds", "message"))
    lines = [
        f"<tr><th>{text(row.lesson)}</th><td>{text(row.exercise)}</td><td>{mark(row)} {text(row.verdict)}</td>"
        f'<td>{row.points:g}</td><td>{row.seconds:g}</td><td class="message">{text(row.message)}</td></tr>'
        for row in rows
    ]
    total = f"{sum(row.points for row in rows):g} of {sum(bool(row.exercise) for row in rows)}"
    table = f'<div class="scroll answers"><table><thead><tr>{head}</tr></thead><tbody>{"".join(lines)}</tbody></table></div>'
    return f"<details><summary>{text(student)}: {total}</summary>{table}</details>"
