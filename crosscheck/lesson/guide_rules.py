"""The rules for guides, beside those that they share with lessons."""

import re

from crosscheck.lesson.rules import budget, code_cells, headings

MOST = {"cells": 80, "lines": 20, "median": 14, "words": 2500, "kB": 1000}
"""A guide shows whole steps of training, so its cells may be longer than those of a lesson."""


def guide(notebook, kilobytes):
    """A guide says what it is, how long it takes and what one should know; it keeps its budget, has no exercise, and sums up."""
    first = notebook.cells[0].source
    wanted = (
        (re.match(r"# .+\n\n\w.+", first), "does not begin with a title and a paragraph"),
        (re.search(r"\d+ minutes", first), "does not say how many minutes it takes"),
        (re.search(r"You\s+should\s+know:", first), 'does not say what "You should know:"'),
        (headings(notebook)[-1:] == ["Summary"], "does not end with a summary"),
        (not any("check(" in cell.source for cell in code_cells(notebook)), "has an exercise, which belongs into a lesson"),
    )
    complaints = [f"the guide {complaint}" for kept, complaint in wanted if not kept]
    return complaints + budget(notebook, kilobytes, MOST, least=10)
