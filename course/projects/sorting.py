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
# # Project: a transformer that sorts
#
# *Part: Blocks. About 2 hours.* Lessons that it builds on: [Transformer decoder block](../../notebooks/transformer_decoder.ipynb),
# [Transformer encoder block](../../notebooks/transformer_encoder.ipynb), [Positions](../../notebooks/positional_embedding.ipynb),
# [Cached attention](../../notebooks/cached_attention.ipynb).
#
# **Task.** Write a language model that sorts. It reads a list of numbers and a separator, and then writes the same numbers in order, one after the other.
# Nobody tells it what order is: it sees only examples. You lay out the examples, work out how well guessing does, build and train a causal model, and let it write with its cache.
#
# Each milestone has a cell with a stub. Replace `return None`, and run the cell: it says whether the milestone is reached, or what was expected and what came.

# %%
import keras
import numpy as np
from milestones import sorting as task

import layers
from crosscheck.lesson.projects import check

rng = np.random.default_rng(0)

# %% [markdown]
# ## The data
#
# A list has 8 numbers. Each is drawn from 0 to 9, all equally likely and independent of the others, so numbers may repeat. There are $10^8$ lists.
# The checks draw lists of their own each time; your model has almost never seen them.

# %%
task.lists(rng, 3)

# %% [markdown]
# ## Milestone 1: rows (10 minutes)
#
# One row holds a list, the separator, which is the id 10, and the list in order. A causal model reads the row without its last number (*inputs*), and at each place predicts the next id (*targets*).
# *Weights* are 1 where the target is a number of the ordered list, and 0 elsewhere, because nobody can predict the next number of a random list. For the list 3 1 1:
#
# | inputs | 3 | 1 | 1 | 10 | 1 | 1 |
# |---|---|---|---|---|---|---|
# | targets | 1 | 1 | 10 | 1 | 1 | 3 |
# | weights | 0 | 0 | 0 | 1 | 1 | 1 |
#
# `given` is an array of lists, `(count, length)`. Return the three arrays, each `(count, 2 * length)`. It has to work for every length.


# %%
def rows(given):
    return None  # your turn


_ = check("sorting/1", rows)

# %% [markdown]
# ## Milestone 2: what guessing has (15 minutes)
#
# The laziest model writes the list as it is. How often is that right? Return the share of all lists of a `length` that are in order already, if each number is one of `numbers` different ones.
# The result has to be exact.


# %%
def already_sorted(length, numbers):
    return None  # your turn


_ = check("sorting/2", already_sorted)

# %% [markdown]
# ## Milestone 3: a causal model (20 minutes)
#
# Return an untrained Keras model from ids `(b, t)` to logits `(b, t, 11)`, for every length up to 16. The logits at a place depend on the ids up to that place, and on no later one.


# %%
def build():
    return None  # your turn


_ = check("sorting/3", build)

# %% [markdown]
# ## Milestone 4: training (30 minutes)
#
# Train the model on lists from `task.lists`, and return it. A minute of one core is enough. The check predicts each number of 500 new lists from the list and the right numbers before it.
# The milestone is halfway between 1 and the best that a model can do without looking at the list, from the number that it has just written. Before you train, write down which of the two you expect first.


# %%
def train(model):
    return None  # your turn


model = train(build())
_ = check("sorting/4", model)

# %% [markdown]
# ## Milestone 5: sorting (30 minutes)
#
# Now the model is on its own: each number that it writes becomes an input of the next step. Return the numbers, `(count, length)`, that it writes for an array of lists if it always takes the most probable one.
# Use a cache, so that each number passes through the model once. The milestone is halfway between milestone 2 and 1 in the share of lists without a single fault.
# The check also asks for the numbers of a model whose weights have been shuffled, which cannot sort; they have to be that model's own.


# %%
def sort(model, given):
    return None  # your turn


_ = check("sorting/5", sort, model)

# %% [markdown]
# ## To hand in
#
# One page on three questions. Show numbers for three seeds or more.
#
# 1. How does the share of lists without a fault grow with the number of training steps? Which numbers are learned first: the first ones of a row, or the last ones?
# 2. Take the positions away. Does the model still sort? Explain what you see.
# 3. Train on lists of 8 and sort lists of 4. What happens, and what would you change?
