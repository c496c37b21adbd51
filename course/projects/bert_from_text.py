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
# # Project: a BERT from raw text to a classifier
#
# *Part: Text. About 2 hours.* Lessons that it builds on: [BERT's tokenizer](../../notebooks/bert_tokenizer.ipynb), [Packed inputs](../../notebooks/bert_pack_inputs.ipynb),
# [BERT, whole](../../notebooks/bert.ipynb), [Masked language model](../../notebooks/masked_lm.ipynb), [Classification head](../../notebooks/classification_head.ipynb).
#
# **Task.** You get raw text in a language with adjectives that you do not know: some are praise, others blame. Only eight of them come with a label. Learn pieces from the text, pack them, hide some,
# and train a small BERT to fill the gaps. Then train a classifier on its vectors. It has to label sentences with adjectives that no label has taught, from what the raw text has taught about them.
#
# Each milestone has a cell with a stub. Replace `return None`, and run the cell: it says whether the milestone is reached, or what was expected and what came.

# %%
import keras
import numpy as np
from milestones import bert_from_text as task

import layers
from crosscheck.lesson.projects import check
from layers.bert_tokenizer.training import train_wordpiece_vocabulary

rng = np.random.default_rng(0)

# %% [markdown]
# ## The data
#
# A world has 24 adjectives, and draws which 12 of them are praise. Each review has two sentences. The first one says one or two adjectives of a thing, both praise or both blame. The second one says what the people did: after praise they kept it, after blame they returned it.
# Thing, verb form, people and marks are drawn as well. The checks write new reviews from your world; those of milestones 1 to 3 come from worlds of their own.

# %%
world = task.World(rng)
texts = world.reviews(rng, 2000)
texts[:4]

# %% [markdown]
# ## Milestone 1: pieces (15 minutes)
#
# Learn pieces from a list of texts: at most 300, without capitals, the five in `task.SPECIAL` first and in that order. No word of these texts may become [UNK], not even one in Greek letters that occurs once or twice.
# The words of the reviews are so frequent that each should be a piece of its own.


# %%
def pieces(texts):
    return None  # your turn


vocabulary = pieces(texts)
_ = check("bert_from_text/1", pieces)

# %% [markdown]
# ## Milestone 2: rows (15 minutes)
#
# Return a dictionary of three arrays, each `(len(texts), 14)`: `input_word_ids`, with [CLS] before the pieces of the text and [SEP] behind them, then 0; `input_mask`, 1 for everything but that padding; and `input_type_ids`, all 0.
# Text that is too long loses its end, but not its [SEP].


# %%
def packed(vocabulary, texts):
    return None  # your turn


_ = check("bert_from_text/2", packed)

# %% [markdown]
# ## Milestone 3: gaps (20 minutes)
#
# Hide 15 % of the pieces of each row, at least one, and none of the special ones. Of the hidden pieces, 80 % become [MASK], 10 % become a random piece, and 10 % stay as they are. Draw anew in each call.
# Return a dictionary: `token_ids`, what the model reads, of the shape of `ids`; `mask_positions` and `mask_ids`, where pieces are hidden in each row and which ones they are, `(b, k)` for a `k` of your choice; and `mask_weights`, 1 for each of them, and 0 for unused places.


# %%
def hide(ids, vocabulary):
    return None  # your turn


_ = check("bert_from_text/3", hide)

# %% [markdown]
# ## Milestone 4: filling gaps (40 minutes)
#
# Build an encoder with a masked language model on top, train it, and return it as a Keras model. It takes the dictionary of milestone 2 with `masked_positions` added, `(b, k)`, and returns the logits of all pieces there, `(b, k, len(vocabulary))`.
# The check hides the verb of new reviews, and compares the logits of "kept" and "returned". Guessing has 1/2, and the milestone is halfway from there to 1. A model of one block and 32 numbers for each piece is enough, and half a minute of one core.
#
# The loss falls soon, and then stands still for a while: the model has learned how frequent the pieces are, and not yet to look at others. Draw it.


# %%
def pretrain(texts, vocabulary):
    return None  # your turn


model = pretrain(texts, vocabulary)
_ = check("bert_from_text/4", model, packed, vocabulary, world)

# %% [markdown]
# ## Milestone 5: a classifier (30 minutes)
#
# Learn from first sentences with labels, 0 or 1. Return a function that returns the labels of other first sentences, `(len(texts),)`. Use vectors of your model's encoder. Which of them knows what the people did, and with which gap do you make the encoder tell?
# The check teaches 200 sentences with 8 adjectives, and asks for 300 with the other 16. Which label means praise is drawn. Guessing has 1/2, and the milestone is halfway from there to 1.
# The check also hands over your model with shuffled weights. What is learned from labels alone says nothing about new adjectives, so this has to fail: at most three standard errors above guessing for 16 words, 0.875.


# %%
def classify(model, texts, labels):
    return None  # your turn


_ = check("bert_from_text/5", classify, model, world)

# %% [markdown]
# ## To hand in
#
# One page on three questions. Show numbers for three seeds or more.
#
# 1. Draw the accuracy of milestone 5 against the number of training steps in milestone 4. Does it rise where the verbs are learned, or where the loss falls most?
# 2. Where in the model does it stand whether an adjective is praise? Compare classifiers on the vector of [CLS], on the mean of all vectors, and on that of a gap, with three worlds each.
# 3. Put "not" into the reviews: "The soup was not dax. They returned it." Which milestones do you still reach?
