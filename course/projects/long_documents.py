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
# # Project: a long-document reader
#
# *Part: Long sequences. About 2 hours.* Lessons that it builds on: [BigBird](../../notebooks/bigbird_attention.ipynb), [Kernel attention](../../notebooks/kernel_attention.ipynb),
# [Relative attention](../../notebooks/relative_attention.ipynb), [Positions](../../notebooks/positional_embedding.ipynb).
#
# **Task.** Somewhere in a passage of a novel stands the word "password", and behind it a color. Other colors stand elsewhere. Write a model that says which color is the password. It learns from passages of 128 words,
# reads passages of 1,024, and its memory may grow only as fast as the text. At the end, your program shows where the model has read it.
#
# Each milestone has a cell with a stub. Replace `return None`, and run the cell: it says whether the milestone is reached, or what was expected and what came.

# %%
import keras
import numpy as np
from keras import ops
from milestones import long_documents as task

import layers
from crosscheck.lesson.projects import check

rng = np.random.default_rng(0)

# %% [markdown]
# ## The data
#
# The novel is Sōseki's "Botchan", in Morri's translation of 1919. The 500 most frequent words have an id each; all others have the id 0, `task.OTHER`. `task.documents(rng, count, length)` draws passages, and for each the number of the color that answers, 0 to 7.
# The first id of a passage is always 1, the question. Then four different colors are put into it at random places, no two of them side by side. The word before one of them becomes "password". Everything is drawn anew in each check.

# %%
ids, answers = task.documents(rng, 2, 40)
for row, answer in zip(ids, answers):
    print(" ".join(task.WORDS[i] for i in row), "→", task.COLORS[answer])

# %% [markdown]
# ## Milestone 1: who sees whom (15 minutes)
#
# BigBird cuts a text into blocks. Without random blocks, a block of queries sees itself, its two neighbors, the first block and the last one. The first and the last block of queries see everything.
# Return this as a table of truth values, `(blocks, blocks)`: a row for each block of queries, a column for each block of keys.


# %%
def seen(blocks):
    return None  # your turn


_ = check("long_documents/1", seen)

# %% [markdown]
# ## Milestone 2: a reader (35 minutes)
#
# Return an untrained Keras model from ids `(b, t)` to the logits of the eight colors, `(b, 8)`, for every length `t`. Every word has to be able to change the answer.
# The check also looks at the largest array that the model computes for 2,048 and for 4,096 words. If the array has an entry for each word, it grows by a factor of 2; with one for each pair of words, by 4. The milestone is halfway, below 3.
#
# How will the model know which color stands behind the password? Attention to colors alone finds four of them. Look at milestone 3 before you decide.


# %%
def build():
    return None  # your turn


_ = check("long_documents/2", build)

# %% [markdown]
# ## Milestone 3: training (30 minutes)
#
# Train on documents of 128 words, and return the model. Half a minute of one core is enough. Who names one of the colors in the passage has 1/4; the milestone is halfway from there to 1.


# %%
def train(model):
    return None  # your turn


model = train(build())
_ = check("long_documents/3", model)

# %% [markdown]
# ## Milestone 4: reading (20 minutes)
#
# Return the number of the color for each document of an array of ids, `(b,)`. The check gives it documents of 1,024 words, eight times as long as those that the model has learned from. The milestone is the same.
# If your model fails here, find out what it cannot carry over, such as positions that it has never seen. You may change the model, or cut the documents.


# %%
def read(model, ids):
    return None  # your turn


_ = check("long_documents/4", read, model)

# %% [markdown]
# ## Milestone 5: where it has read (30 minutes)
#
# Show that the model has read the right place. Hide each word in turn, by putting 0 in its place, and look at the logit of the answer. Return for each document the place at which it falls most, `(b,)`.
# It counts as right if this is the place of the password or of its color. For a guess among the four colors, this is 1/4. The check also asks with shuffled weights: then nothing should be found, because you ask the model, and do not search the text.


# %%
def where(model, ids):
    return None  # your turn


_ = check("long_documents/5", where, model)

# %% [markdown]
# ## To hand in
#
# One page on three questions. Show numbers for three seeds or more.
#
# 1. Replace BigBird by kernel attention and by ordinary attention. Write down first which of the three will read 1,024 words. Then measure, at 128, 1,024 and 4,096 words.
# 2. Measure the time of one call at these lengths, for all three. Which grow by the factor that you expected?
# 3. Take the random and the global blocks away, so that only neighbors are seen. How many layers would the reader need, and what does milestone 2 say?
