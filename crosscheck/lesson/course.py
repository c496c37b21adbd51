"""The course as a whole: what each lesson needs and how long it takes, as its first cell says; paths; and a plan of weeks.

`python -m crosscheck.lesson.course` writes the table of `course/PLAN.md` anew.
"""

import json
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from crosscheck.catalogue import PARTS, chapters
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

TABLE = re.compile(r"(?:^\|.*\|\n)+", re.MULTILINE)


@dataclass(frozen=True)
class Route:
    """A path through the course.

    Attributes:
        title: What one has at its end.
        goals: Names of chapters. What these need belongs to the path too.
        to_come: {name: title} of goals that are not written yet.
    """

    title: str
    goals: tuple[str, ...]
    to_come: tuple[tuple[str, str], ...] = ()


ROUTES = (
    Route("BERT from scratch", ("masked_lm", "classification_head", "bert")),
    Route(
        "Llama from scratch",
        ("positional_embedding", "gated_feedforward", "transformer_decoder", "sentencepiece_tokenizer"),
        to_come=(
            ("rotary_embedding", "rotary positions"),
            ("grouped_query_attention", "grouped-query attention"),
            ("byte_pair_tokenizer", "a byte-pair tokenizer"),
            ("llama", "a whole Llama"),
        ),
    ),
    Route("Long sequences", ("cached_attention", "kernel_attention", "bigbird_attention", "transformer_xl")),
    Route("Knowing what it does not know", ("gaussian_process_head",)),
    Route("Text to ids", ("sentencepiece_tokenizer", "bert_pack_inputs")),
)

WEEKS = (
    *("self_attention_mask", "on_device_embedding", "talking_heads_attention", "kernel_attention"),
    *("relative_attention", "transformer_encoder", "rezero_transformer", "transformer_xl"),
    *("masked_lm", "spectral_normalization", "bert_tokenizer", "bert_pack_inputs"),
)
"""The chapter that each week begins with. It ends before the next week's."""


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
    """The chapters that a lesson's first cell asks for, after "You should know"."""
    return tuple(LINK.findall(NEEDS.search(markdown(name)[0])[1]))


def shown_early(name):
    """The chapters of which a lesson's first cell says that they are a later lesson's."""
    return tuple(LATER.findall(markdown(name)[0]))


def all_needs(names):
    """The chapters `names`, and everything that they need, directly or not."""
    found, waiting = set(), list(names)
    while waiting:
        if (name := waiting.pop()) not in found:
            found.add(name)
            waiting += needs(name)
    return found


def direct_needs(name):
    """The needs of a lesson without those that another of its needs asks for already."""
    return tuple(need for need in needs(name) if all(need not in all_needs([other]) for other in needs(name) if other != need))


def chapters_of(route):
    """The chapters of a path, in reading order."""
    wanted = all_needs(route.goals)
    return [chapter for chapter in chapters() if chapter.name in wanted]


def link(chapter, folder=""):
    return f"[{chapter.title}]({folder}{chapter.name}.ipynb)"


def duration(total):
    """Minutes as hours and minutes."""
    return f"{total // 60} h {total % 60:02d} min" if total >= 60 else f"{total} min"


def routes_as_markdown():
    """A line for each path: its minutes, and its chapters in reading order."""
    lines = []
    for route in ROUTES:
        found = chapters_of(route)
        total = duration(sum(minutes(chapter.name) for chapter in found))
        line = f"- **{route.title}** ({total}): {' → '.join(map(link, found))}."
        if route.to_come:
            line += f" Not written yet: {', '.join(title for _, title in route.to_come)}."
        lines.append(line)
    return "\n".join(lines)


def chapter_table():
    """The table of all chapters, under the names of the parts."""
    lines = ["| # | chapter | minutes | what it is for | paper |", "|---|---|---|---|---|"]
    for part in PARTS:
        rows = [chapter for chapter in chapters() if chapter.part == part]
        lines += [f"| | **{part}** | | | |"] * bool(rows)
        lines += [f"| {c.number} | {link(c)} | {minutes(c.name)} | {c.sentence} | [{c.paper}]({c.link}) |" for c in rows]
    return "\n".join(lines)


def shown_by_index():
    """What the index shows beside the map."""
    return [routes_as_markdown(), chapter_table()]


def weeks():
    """The chapters of each week."""
    found = []
    for chapter in chapters():
        if chapter.name in WEEKS:
            found.append([])
        found[-1].append(chapter)
    return found


def plan_table():
    """The table of the plan: for each week its chapters, readings, minutes and project."""
    last = {chapter.part: chapter for chapter in chapters()}
    lines = ["| week | lessons | readings | lessons and exercises | project |", "|---|---|---|---|---|"]
    for number, week in enumerate(weeks(), 1):
        reading, doing = (sum(map(of, (c.name for c in week))) for of in (minutes, minutes_of_exercises))
        papers = "; ".join(dict.fromkeys(f"[{c.paper}]({c.link})" for c in week))
        lessons = ", ".join(link(chapter, "../notebooks/") for chapter in week)
        projects = ", ".join(f"[{c.part}](#{anchor(c.part)})" for c in week if c == last[c.part]) or "–"
        lines.append(f"| {number} | {lessons} | {papers} | {duration(reading)} + {duration(doing)} | {projects} |")
    return "\n".join(lines) + "\n"


def anchor(heading):
    """The address of a heading within its page."""
    return heading.lower().replace(" ", "-")


def main():
    """Write the table of the plan. Returns the exit status."""
    if not PLAN.is_file():
        return refuse(f"the plan is not part of the installed package; write it in a clone. Missing: {PLAN}")
    PLAN.write_text(TABLE.sub(lambda _: plan_table(), PLAN.read_text(encoding="utf-8"), count=1), encoding="utf-8")
    print(f"Written: {PLAN.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    as_program(main)
