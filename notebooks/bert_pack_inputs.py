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
# # Packed inputs: sentences of any length, rows of one
#
# A model wants rows of equal length; texts come as they are. Packing says where each text ends, and what to drop when they are too long.
#
# Paper: [Devlin et al., 2018, section 3](https://arxiv.org/abs/1810.04805) · NumPy: [`reference/bert_pack_inputs.py`](../reference/bert_pack_inputs.py) · Layer:
# [`layers/bert_pack_inputs.py`](../layers/bert_pack_inputs.py) · 20 minutes · You should know: how a [tokenizer](bert_tokenizer.ipynb) makes ids of a text

# %%
import inspect
import itertools
from collections import Counter
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import tensorflow as tf

from crosscheck.case import TOLERANCE
from crosscheck.cases.bert_pack_inputs import CHAPTER
from crosscheck.lesson import figures
from crosscheck.lesson.exercises import check
from layers.bert_pack_inputs import BertPackInputs
from reference import bert_pack_inputs as ref

figures.use_style()
rng = np.random.default_rng(0)
CLS, SEP, PAD = 101, 102, 0

# %% [markdown]
# ## The question
#
# Here are eight pairs of neighboring paragraphs, from the licence of this repository, a token for each word. They are to become rows of 48 places. Most pairs are longer. **What should be cut?**

# %%
paragraphs = [text.split() for text in Path("../LICENSE").read_text().split("\n\n") if len(text.split()) > 8]
vocabulary = {word: 1000 + i for i, word in enumerate(sorted({word for text in paragraphs for word in text}))}
tokens = [[vocabulary[word] for word in text] for text in paragraphs]
pairs = [tokens[3:11], tokens[4:12]]
cuts = {"round robin": ref.round_robin, "waterfall": ref.waterfall}

fig, axes = plt.subplots(1, 2, figsize=(9, 2.8), sharey=True)
for ax, (name, cut) in zip(axes, cuts.items()):
    packed = ref.bert_pack_inputs(pairs, 48, CLS, SEP, PAD, cut)
    special = np.isin(packed.input_word_ids, (CLS, SEP))
    kind = np.where(packed.input_mask == 0, 3, np.where(special, 0, 1 + packed.input_type_ids))
    image = ax.imshow(kind, aspect="auto", vmin=0, vmax=3)
    ax.set(title=name, xlabel="position t")
    ax.grid(False)
axes[0].set_ylabel("row b")
bar = fig.colorbar(image, ax=axes, ticks=range(4))
bar.ax.set_yticklabels(["special", "first text", "second text", "padding"])
plt.show()

# %% [markdown]
# The waterfall fills the row with the first text and gives the second what is left: in three rows nothing. Round robin takes from the longer one, and both stay.

# %%
sizes = np.array([[len(row) for row in rows] for rows in pairs]).T
print("tokens of each pair:", sizes.tolist())
kept = {name: cut(sizes, 45) for name, cut in cuts.items()}
assert (sizes.sum(axis=1) > 45).mean() > 0.5
assert np.array_equal(kept["round robin"].sum(axis=1), kept["waterfall"].sum(axis=1))
assert (kept["waterfall"][:, 1] == 0).sum() == 3 and kept["round robin"].min() >= 9

# %% [markdown]
# ## The equation
#
# $$\text{ids} = \mathrm{[CLS]}\; A\; \mathrm{[SEP]}\; B\; \mathrm{[SEP]}\; \mathrm{[PAD]} \cdots \mathrm{[PAD]} \tag{1}$$
#
# with two companions: the **type** (2), which is the number of the segment, and the **mask** (3), which is 1 up to the last [SEP] and 0 at padding. The special tokens leave $\text{length} - 1 - \text{segments}$ places for tokens, the room (4). If
# there are more tokens than room, then
#
# $$\text{round robin:}\quad \text{each segment in turn keeps one token more, if it has one, until the room is full} \tag{5}$$
#
# $$\text{waterfall:}\quad \text{kept}_i = \min\big(\text{size}_i,\ \text{room} - \textstyle\sum_{j<i} \text{kept}_j\big) \tag{6}$$
#
# | what it is | name in the code | shape |
# |---|---|---|
# | ids of tokens, special ones and padding | `input_word_ids` | `(b, t)` |
# | 1 where there is a token | `input_mask` | `(b, t)` |
# | the segment's number | `input_type_ids` | `(b, t)` |
# | tokens of each segment, and how many stay | `sizes`, `kept` | `(b, segments)` |
#
# ## By hand
#
# Six tokens and four, in eight places. Three are special, so the room is 5. In turn: A, B, A, B, A. That is 3 and 2. The waterfall: 5 and 0; even so, the empty B has its [SEP].

# %%
a, b = [11, 12, 13, 14, 15, 16], [21, 22, 23, 24]
for cut in (ref.round_robin_one, ref.waterfall_one):
    packed = ref.pack_one([a, b], 8, CLS, SEP, PAD, cut)
    print(cut([6, 4], 5), packed.input_word_ids.tolist(), packed.input_type_ids.tolist())
assert ref.round_robin_one([6, 4], 5) == [3, 2] and ref.waterfall_one([6, 4], 5) == [5, 0]
assert packed.input_word_ids.tolist() == [101, 11, 12, 13, 14, 15, 102, 102] and packed.input_type_ids[-1] == 1

# %% [markdown]
# ## In NumPy
#
# One row, as it is written above:

# %%
print(inspect.getsource(ref.round_robin_one))
print(inspect.getsource(ref.pack_one))

# %% [markdown]
# Dealing tokens one by one takes a loop for each row. All rows at once need a formula. Each segment ends up at its size or at a common **level**, whichever is lower; and $\sum_i \min(\text{size}_i, x)$ is the *least* of the lines "the $j$ shortest in full, and
# $x$ for each of the others". So it is within the room as soon as one of these lines is.

# %%
print(inspect.getsource(ref.round_robin))
sizes = np.array(list(itertools.product(range(7), repeat=3)))
for room in range(20):
    assert ref.round_robin(sizes, room).tolist() == [ref.round_robin_one(row.tolist(), room) for row in sizes]
print(len(sizes) * 20, "cases: the formula is the loop")

# %% [markdown]
# ## What it does
#
# **How much of the second text survives?** For all sizes of both, in rows of 32 places:

# %%
grid = np.array(list(itertools.product(range(1, 61), repeat=2)))
fig, axes = plt.subplots(1, 2, figsize=(8, 3.2), sharey=True)
survived = {}
for ax, (name, cut) in zip(axes, cuts.items()):
    survived[name] = (cut(grid, 29)[:, 1] / grid[:, 1]).reshape(60, 60)
    image = ax.imshow(survived[name].T, origin="lower", extent=(0.5, 60.5, 0.5, 60.5), vmin=0, vmax=1)
    ax.plot([1, 28], [28, 1], color="white", linestyle="--", marker="none")
    ax.set(title=name, xlabel="tokens of the first text")
    ax.grid(False)
axes[0].set_ylabel("tokens of the second text")
fig.colorbar(image, ax=axes, label="share of the second that is kept")
plt.show()

# %% [markdown]
# Below the dashed line everything fits. Above it, a first text that fills the row leaves the waterfall's second with nothing; under round robin the second always keeps 14 tokens, or all it has, which is half of the room.

# %%
fits = (grid.sum(axis=1) <= 29).reshape(60, 60)
assert all((share[fits] == 1).all() and (share[~fits] < 1).any() for share in survived.values())
assert (survived["waterfall"][28:] == 0).all()
assert np.array_equal(ref.round_robin(grid, 29)[:, 1] >= 14, grid[:, 1] >= 14)
short = grid[:, 1] < 14
assert np.array_equal(ref.round_robin(grid, 29)[short, 1], grid[short, 1])

# %% [markdown]
# **Is round robin what BERT's published code does?** That code pops a token off the longer text until both fit, off the second at a tie. It says so for two texts, and the same rule serves for more:


# %%
def pop_the_longest(sizes, room):
    sizes = list(sizes)
    while sum(sizes) > room:
        longest = max(range(len(sizes)), key=lambda i: (sizes[i], i))
        sizes[longest] -= 1
    return sizes


for segments in (2, 3, 4):
    drawn = rng.integers(0, 30, (200, segments)).tolist()
    assert all(pop_the_longest(row, 29) == ref.round_robin_one(row, 29) for row in drawn)
print("to deal from the start and to pop at the end is the same, in 600 cases")

# %% [markdown]
# **The paper's claim.** Its section 3 wants an input that can "unambiguously represent both a single sentence and a pair of sentences". A hard test: *all* texts of up to three tokens that are a word, the token [SEP] or the token [PAD], alone and in pairs. For how many
# of them is there another that makes the same row, if one looks at some of the three arrays?

# %%
texts = [list(text) for size in range(4) for text in itertools.product((7, SEP, PAD), repeat=size)]
inputs = [[text] for text in texts] + [list(pair) for pair in itertools.product(texts, repeat=2)]
rows = [ref.pack_one(segments, 9, CLS, SEP, PAD) for segments in inputs]
views = {"ids": [0], "ids and mask": [0, 1], "ids and types": [0, 2], "all three": [0, 1, 2]}
confused = {}
for name, view in views.items():
    seen = Counter(tuple(np.concatenate([row[i] for i in view])) for row in rows)
    confused[name] = sum(count for count in seen.values() if count > 1)
print(f"of {len(inputs)} inputs, mistaken for another by:", confused)

# %% [markdown]
# The types make the claim true. The mask adds nothing to it: wherever padding starts, the last [SEP] stands before it. And so there is a way back, whatever the texts hold:

# %%
assert len(inputs) == 40 + 40**2 and confused["ids and types"] == confused["all three"] == 0
assert confused["ids"] == confused["ids and mask"] > len(inputs) / 4
assert all(ref.unpack_one(row) == segments for row, segments in zip(rows, inputs))

# %% [markdown]
# Real texts hold no [SEP], if the tokenizer keeps it out. Then the types, too, say nothing that the ids do not; they say it at every token, where a sum of embeddings can use it.
#
# ## Does the layer agree?
#
# The layer is made of TensorFlow's graph operations, so that it can stand in a data pipeline. It takes ragged tensors: tokens, or words of pieces as tokenizers return them.

# %%
pack = BertPackInputs(9, start_of_sequence_id=CLS, end_of_segment_id=SEP, padding_id=PAD)
words = tf.ragged.constant([[[11, 12], [13]], [[14]], []])
data = tf.data.Dataset.from_tensor_slices((words, words)).batch(2).map(lambda first, second: pack([first, second]))
batches = [batch["input_word_ids"].tolist() for batch in data.as_numpy_iterator()]
print(batches)
lists = words.to_list()
assert np.concatenate(batches).tolist() == ref.bert_pack_inputs([lists, lists], 9, CLS, SEP, PAD).input_word_ids.tolist()

# %%
errors = figures.agreement_plot(CHAPTER)
assert all(error == 0 for by_dtype in errors.values() for error in by_dtype.values()) and min(TOLERANCE.values()) > 0
print("ids are integers: layer and reference are equal")

# %% [markdown]
# ## Where it breaks
#
# **A mask made from ids.** "Not equal to the padding's id" looks like the mask, until a text holds that id: a vocabulary whose word 0 is a word, or text that was padded before. Those tokens would be invisible.

# %%
row = ref.pack_one([[7, PAD, 8], [PAD, PAD]], 10, CLS, SEP, PAD)
print("from lengths:", row.input_mask.tolist())
print("from ids:    ", (row.input_word_ids != PAD).astype(int).tolist())
assert row.input_mask.sum() == 8 and (row.input_word_ids != PAD).sum() == 5

# %% [markdown]
# The opposite mistake: a *dense* tensor that is padded already. The layer cannot know, and takes every entry for a token. Take the padding out first.

# %%
dense = tf.constant([[7, 8, PAD, PAD]])
careless, careful = pack(dense), pack(tf.ragged.boolean_mask(dense, dense != PAD))
print(careless["input_mask"].numpy().tolist(), careful["input_mask"].numpy().tolist())
assert careless["input_mask"].numpy().sum() == 6 and careful["input_mask"].numpy().sum() == 4

# %% [markdown]
# **An error that is returned.** Where an id is missing, the Model Garden's layer *returns* the error instead of raising it, and so is made, and fails later, elsewhere. Ours says at once what is missing, and which row is too short for its special tokens.

# %%
for attempt in (lambda: BertPackInputs(9, special_tokens_dict={"padding_id": PAD}), lambda: pack([words] * 9)):
    try:
        attempt()
    except ValueError as error:
        print(str(error).splitlines()[0])
    else:
        raise AssertionError("no error")

# %% [markdown]
# **Differs from the paper.** The paper samples texts that fit. More than two segments are packed too, with types 2, 3 and so on; but the paper's model has a vector for two.
#
# ## What it costs
#
# No parameters and no multiply-adds; three numbers of four bytes for each place. The price is paid later: attention computes every place, padded or not, and nothing brings back what was cut. **How long should rows be?**

# %%
everything = [tokens[:-1], tokens[1:]]
sizes = np.array([[len(row) for row in rows] for rows in everything]).T
lengths = np.arange(16, 513, 16)
packed = [ref.bert_pack_inputs(everything, int(length), CLS, SEP, PAD) for length in lengths]
lost = np.array([1 - ref.round_robin(sizes, length - 3).sum() / sizes.sum() for length in lengths])
padding = np.array([1 - rows.input_mask.mean() for rows in packed])
wasted = np.array([1 - (rows.input_mask.sum(axis=1) ** 2).mean() / length**2 for rows, length in zip(packed, lengths)])

fig, ax = plt.subplots()
for values, label in ((lost, "tokens cut"), (padding, "places that are padding"), (wasted, "attention scores with padding")):
    ax.plot(lengths, values, label=label, markevery=4)
ax.set(xlabel="length of a row", ylabel="share", title=f"{len(sizes)} pairs of paragraphs")
ax.legend()
plt.show()

# %% [markdown]
# No length is good for all: where one token in twenty is still cut, more than half of the scores are padding. So one sorts texts by length and pads each batch to its own longest.

# %%
at = int(np.argmax(lost < 0.05))
print(f"rows of {lengths[at]}: {lost[at]:.0%} of the tokens cut, {padding[at]:.0%} padding, {wasted[at]:.0%} of the scores")
assert (np.diff(lost) <= 0).all() and (np.diff(padding) >= 0).all() and (wasted >= padding).all()
assert wasted[at] > 0.5
assert sum(x.nbytes for x in packed[at]) == 3 * 8 * len(sizes) * lengths[at]  # 64-bit in NumPy
first = pack([tf.ragged.constant(rows) for rows in everything])
assert sum(x.numpy().nbytes for x in first.values()) == 3 * 4 * len(sizes) * 9 and not pack.weights

# %% [markdown]
# ## Exercises
#
# **1** (easy, 5 minutes). A cut that keeps both ends: of the list `tokens`, the first $\lceil n/2 \rceil$ and the last $\lfloor n/2 \rfloor$, if `n` may stay; all, if there are no more. `n` may be 0.


# %%
def both_ends(tokens, n):
    return None  # your turn


_ = check("bert_pack_inputs/1", both_ends)

# %% [markdown]
# <details><summary>Hint</summary>A slice that begins at <code>-0</code> is a whole list, not an empty one.</details>
# <details><summary>Solution</summary><code>h = n // 2; return tokens if n &gt;= len(tokens) else tokens[: n - h] + tokens[len(tokens) - h :]</code></details>
#
# **2** (medium, 10 minutes). What the waterfall keeps, for all rows at once: from `sizes` `(b, segments)` and the room, which may be 0. No loop over rows or segments.


# %%
def waterfall(sizes, room):
    return None  # your turn


_ = check("bert_pack_inputs/2", waterfall)

# %% [markdown]
# <details><summary>Hint</summary>All segments before the i-th are either whole, or the room is full.</details>
# <details><summary>Solution</summary><code>return np.clip(room - (np.cumsum(sizes, axis=1) - sizes), 0, sizes)</code></details>
#
# **3** (hard, 15 minutes). Rows of [CLS], then each segment's tokens and its [SEP], then padding: from `kept` `(b, segments)`, the tokens of each segment, make mask and type ids, `(b, seq_length)` each. [CLS] has type 0, a [SEP] that of its segment, padding 0. No loop over rows.


# %%
def mask_and_types(kept, seq_length):
    return None  # your turn


_ = check("bert_pack_inputs/3", mask_and_types)

# %% [markdown]
# <details><summary>Hint</summary>The place after each segment's [SEP] is a running sum. A token's type is how many segments have ended before it.</details>
# <details><summary>Solution</summary>
#
# ```python
# def mask_and_types(kept, seq_length):
#     place = np.arange(seq_length)
#     behind = 1 + np.cumsum(kept + 1, axis=1)
#     mask = place < behind[:, -1:]
#     types = (place >= behind[..., None]).sum(axis=1)
#     return mask.astype(int), np.where(mask, types, 0)
# ```
# </details>
#
# **To discuss.** Long documents have to be cut for a model of 512 tokens: at the end, at both ends, or into windows whose answers are combined. Which would you try first for reviews, for contracts and for news?
#
# ## Summary
#
# - A row is its ids, its mask and its types. Ids and types say what was packed; the mask says where to look.
# - Round robin is BERT's way to cut: the longest loses. The waterfall keeps the first text, and may keep nothing of the second.
# - The mask comes from lengths, never from ids.
#
# **Further reading.** [Devlin et al., 2018](https://arxiv.org/abs/1810.04805), appendix A.2: how pairs are sampled so that they fit. [Liu et al., 2019](https://arxiv.org/abs/1907.11692): rows filled with whole sentences, and no pairs. [Krell et al., 2021](https://arxiv.org/abs/2107.02027): several texts in one row, and no
# padding.
