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
# Read them in order, follow a path, or begin anywhere: the first cell of each lesson says what you need to know, and nothing is used before it is taught. `make lab` opens
# the lessons; run the cells yourself with Shift-Enter, and answer the exercises before unfolding the solutions. The [course plan](../course/PLAN.md) spreads them over
# twelve weeks, with readings and projects.

# %% tags=["hide-input"] jupyter={"source_hidden": true}
from IPython.display import Markdown

from crosscheck.lesson import course, course_map, figures, projects

figures.use_style()

# %% [markdown]
# ## What builds on what
#
# A column is a part of the course, in reading order. An arrow leads from a chapter to one that needs it; all arrows from one chapter have one color.

# %%
course_map.course_map()
figures.show()

# %% [markdown]
# ## Paths
#
# A path holds everything that its last chapters need. The time is for reading; the exercises take at least as long again.

# %%
Markdown(course.routes_as_markdown())

# %% [markdown]
# ## Chapters

# %%
Markdown(course.chapter_table())

# %% [markdown]
# ## Projects
#
# Each part ends with a project of an hour or two. Four have a statement whose milestones check themselves.

# %%
Markdown(projects.as_markdown())
