# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Transformer layers, three times
#
# Each chapter is one mechanism: a lesson here, a NumPy reference to read beside the paper (`reference/`), and a production Keras layer (`layers/`). The lesson asks what
# goes wrong without the mechanism, works one case by hand, measures the paper's claim at small scale, and checks that reference and layer compute the same numbers.
#
# Read them in order, or begin anywhere: the first cell of each lesson says what you need to know. `make lab` opens them; run the cells
# yourself with Shift-Enter, and answer the exercises before unfolding the solutions.

# %%
from IPython.display import Markdown

from crosscheck.catalogue import PARTS, chapters

lines = ["| # | chapter | what it is for | paper |", "|---|---|---|---|"]
for part in PARTS:
    rows = [chapter for chapter in chapters() if chapter.part == part]
    lines += [f"| | **{part}** | | |"] * bool(rows)
    for chapter in rows:
        for number, row in ((chapter.number, chapter), *(("", lesson) for lesson in chapter.further_lessons)):
            lines.append(f"| {number} | [{row.title}]({row.name}.ipynb) | {row.sentence} | [{row.paper}]({row.link}) |")
Markdown("\n".join(lines))
