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
# # Project: an assistant that knows when it does not know
#
# *Part: Knowing what it does not know. About 2 hours.* Lessons that it builds on: [Gaussian process head](../../notebooks/gaussian_process_head.ipynb),
# [Gaussian process on random features](../../notebooks/gaussian_process.ipynb), [Spectral normalization](../../notebooks/spectral_normalization.ipynb),
# [Classification head](../../notebooks/classification_head.ipynb).
#
# **Task.** An assistant sends each question to a desk: one for the weather, one for recipes, and so on. Questions that belong to no desk come too, and it should refuse those, not guess.
# You turn questions into vectors with MiniLM, a small trained model that reads a sentence. On them you train a head that says how much it doubts each answer. From its doubts you choose when it refuses.
#
# Each milestone has a cell with a stub. Replace `return None`, and run the cell: it says whether the milestone is reached, or what was expected and what came.

# %%
import keras
import numpy as np
from milestones import assistant as task

import layers
from crosscheck.lesson.projects import check
from crosscheck.models import minilm
from crosscheck.models.bert_checkpoint import load_bert

rng = np.random.default_rng(0)

# %% [markdown]
# ## The data
#
# There are 8 kinds of questions. Each kind has 4 ways to ask, with 3 words in each of 2 gaps: 36 questions. `task.TEXTS` has all 288 questions, `task.KIND` the number of each one's kind, and `task.FRAME` the number of its way to ask.
# Each check draws two kinds that stay unknown, and numbers the other six anew. So a question has no fixed answer: it depends on what your function is given to learn from.

# %%
for kind in range(8):
    print(task.KINDS[kind], "|", task.TEXTS[36 * kind], "|", task.TEXTS[36 * kind + 35])

# %% [markdown]
# ## Milestone 1: vectors (20 minutes)
#
# `load_bert()` returns MiniLM as our `BertEncoder`, and `minilm.load().folder / "vocab.txt"` holds its pieces; it does not tell capitals from small letters. Return a vector of length 1 for each text of a list, `(len(texts), 384)`: the mean over its tokens, without padding.
# A vector must not depend on the other texts of the list. The check also looks for pairs of sentences that say the same in other words. Guessing finds 1 in 7 of them.


# %%
def vectors(texts):
    return None  # your turn


_ = check("assistant/1", vectors)

# %% [markdown]
# ## Milestone 2: how well doubt tells unknown from known (15 minutes)
#
# Draw one question that is known and one that is not. How often is there more doubt about the unknown one? Return this share of all pairs, where equal doubts count as half.
# It is the area under the ROC curve: guessing has 0.5.


# %%
def area(known, unknown):
    return None  # your turn


_ = check("assistant/2", area)

# %% [markdown]
# ## Milestone 3: answers (25 minutes)
#
# Learn from vectors `(b, 384)` and labels `(b,)`, which are 0 to 5. Return a function: for other vectors, it returns the probabilities of the six desks, `(b, 6)`.
# The check teaches three ways to ask, and asks in the fourth. The milestone is halfway between guessing, 1/6, and 1. Training takes a second or two.


# %%
def classify(x, labels):
    return None  # your turn


_ = check("assistant/3", classify, vectors)

# %% [markdown]
# ## Milestone 4: doubt (30 minutes)
#
# Learn from the same data, and return a function that returns one number for each vector, `(b,)`: the doubt, which is larger where the model knows less. Any scale will do.
# The check compares the doubts about known questions with those about three others: questions of the two unknown kinds, random vectors of length 1, and vectors that are five times as long as any question's.
# The area of milestone 2 has to be above 0.75 for each, halfway between guessing and 1. Try one minus the largest probability of an ordinary classifier too. Which of the three does it miss, and why?


# %%
def doubt(x, labels):
    return None  # your turn


_ = check("assistant/4", doubt, vectors)

# %% [markdown]
# ## Milestone 5: when to refuse (20 minutes)
#
# You have the doubts about $n$ questions of known kinds that the model has not learned from. A new known question is as likely to fall into any of the $n + 1$ gaps between them as into any other.
# Return the smallest of these doubts for which the probability that a new one is greater is at most `share`. If there is none, return infinity: refuse nothing.


# %%
def threshold(doubts, share):
    return None  # your turn


_ = check("assistant/5", threshold)

# %% [markdown]
# ## Milestone 6: the assistant (30 minutes)
#
# Put it all together. Learn from texts, and for each the name of its desk. Return a function of other texts that returns a list: for each text the name of a desk, or `None` to refuse.
# It may refuse one known question in ten, `task.REFUSED`; the check allows three standard errors more, because it counts only 60. It has to refuse more than 0.55 of the unknown ones, halfway between 0.1 and 1.
# Keep some questions out of the training for milestone 5. Why would the doubts about learned questions mislead you?


# %%
def assistant(texts, names):
    return None  # your turn


_ = check("assistant/6", assistant, vectors)

# %% [markdown]
# ## To hand in
#
# One page on three questions. Show numbers for three seeds or more.
#
# 1. Compare four doubts: the variance of a Gaussian process, one minus the largest probability, the distance to the nearest learned vector, and a random number. Give their areas for each pair of unknown kinds.
# 2. In milestone 6 the new questions are asked in ways that were learned. Ask in a new way: what becomes of the share of known questions that are refused, and why does the argument of milestone 5 no longer hold?
# 3. Whom would you let down if you refuse more, and whom if you refuse less? Draw both shares against the threshold.
