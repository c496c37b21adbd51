# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Masks: which keys a query may see
#
# Attention lets every position read every other. A mask takes away what must not be read: padding, the future, another text.
#
# Papers: [Vaswani et al., 2017, section 3.2.3](https://arxiv.org/abs/1706.03762),
# [Devlin et al., 2018, section 3](https://arxiv.org/abs/1810.04805) ·
# NumPy: [`reference/self_attention_mask.py`](../reference/self_attention_mask.py) ·
# Layer: [`layers/self_attention_mask.py`](../layers/self_attention_mask.py) ·
# 20 minutes · You should know: what a softmax is

# %%
import inspect

import matplotlib.pyplot as plt
import numpy as np

from crosscheck.case import TOLERANCE
from crosscheck.cases.self_attention_mask import CHAPTER
from crosscheck.lesson import figures
from crosscheck.lesson.exercises import check
from reference import self_attention_mask as ref
from reference.attention import attend

figures.use_style()
rng = np.random.default_rng(0)

# %% [markdown]
# ## The question
#
# A batch is a rectangle, so a sentence of four words that stands beside a longer one is padded. Here padding is vectors of zeros:
# as keys they score 0 with every query, and $e^0$ is not nothing. **How much of the attention does padding take?**

# %%
words = ["the", "cat", "sat", "down"]
x = 0.7 * rng.normal(size=(1, 4, 1, 8))


def weights_when_padded_to(length):
    padded = np.pad(x, [(0, 0), (0, length - 4), (0, 0), (0, 0)])
    return attend(padded, padded, padded)[1][0, 0, :4]


lengths = np.arange(4, 33)
stolen = np.array([weights_when_padded_to(length)[:, 4:].sum(axis=1) for length in lengths])

fig, (left, right) = plt.subplots(1, 2, figsize=(9, 3))
image = figures.attention_map(left, weights_when_padded_to(12), words, words + ["[PAD]"] * 8, "attention, padded to 12")
fig.colorbar(image, ax=left, label="weight")
right.plot(lengths, stolen, label=words, markevery=4)
right.set(xlabel="length after padding", ylabel="weight on padding", title="what padding takes")
right.legend(title="query")
plt.show()

# %% [markdown]
# Padded to 12, every word spends more than 40 % of its attention on words that are not there. And the longer the *other*
# sentence of the batch, the more.

# %%
assert (stolen[lengths == 12] > 0.4).all()
assert (np.diff(stolen, axis=0) > 0).all()
print("weight on padding at length 12:", dict(zip(words, stolen[8].round(2).tolist())))

# %% [markdown]
# ## The equation
#
# $$M_{bts} = \begin{cases}1 & \text{query } t \text{ of example } b \text{ may attend to key } s\\ 0 & \text{it may not}\end{cases}$$
#
# | mask | allowed are | name in the code | shape |
# |---|---|---|---|
# | (1) self-attention | keys that are tokens | `self_attention_mask(t, to_mask)` | `(b, t, s)` |
# | (2) causal | keys $s \le t$ | `causal_mask(t, s)` | `(t, s)` |
# | (3) padding | keys $s <$ length | `padding_mask(lengths, s)` | `(b, s)` |
# | (4) segment | keys of the query's segment | `segment_mask(from_ids, to_ids)` | `(b, t, s)` |
#
# In the reference a mask is boolean, and `True` means "may attend". Every mask has a veto, so masks combine with `&`.

# %% [markdown]
# ## By hand
#
# Two tokens and one padding position: `to_mask = [1, 1, 0]`. Whatever the query, keys 0 and 1 are allowed and key 2 is not.

# %%
to_mask = np.array([[1, 1, 0]])
by_hand = [[ref.may_attend(to_mask, 0, t, s) for s in range(3)] for t in range(2)]
print(by_hand)
assert by_hand == [[True, True, False], [True, True, False]]

# %% [markdown]
# Let all scores be equal. Without the mask each key weighs $1/3$; with it the two tokens share, and padding gets exactly 0.

# %%
q, k = np.zeros((1, 1, 1, 2)), np.zeros((1, 3, 1, 2))
free, masked = (attend(q, k, k, mask)[1].ravel() for mask in (None, np.array(by_hand[:1])[None, None]))
print("without:", free.round(3), " with:", masked)
assert np.allclose(free, 1 / 3, atol=1e-15) and masked.tolist() == [0.5, 0.5, 0]

# %% [markdown]
# ## In NumPy
#
# The definition asks for one query and one key; the batched form writes the same row for every query.

# %%
print(inspect.getsource(ref.may_attend))
print(inspect.getsource(ref.self_attention_mask))
print(inspect.getsource(ref.causal_mask))

# %%
to_mask = rng.integers(0, 2, (2, 5))
mask = ref.self_attention_mask(3, to_mask)
assert all(mask[b, t, s] == ref.may_attend(to_mask, b, t, s) for b, t, s in np.ndindex(mask.shape))
print("batched and one by one agree on all", mask.size, "pairs")

# %% [markdown]
# ## What it does
#
# **What is left when all masks have to agree?** Two texts, of 6 and of 4 tokens, packed into one row with two positions of padding.

# %%
segments = np.array([[1] * 6 + [2] * 4 + [0] * 2])
masks = {
    "padding": ref.self_attention_mask(12, segments)[0],
    "causal": ref.causal_mask(12, 12),
    "segment": ref.segment_mask(segments, segments)[0],
}
masks["all three"] = masks["padding"] & masks["causal"] & masks["segment"]
fig, axes = plt.subplots(1, 4, figsize=(9, 2.6))
for ax, (name, mask) in zip(axes, masks.items()):
    figures.mask_picture(ax, mask, name)
plt.show()

# %% [markdown]
# Two triangles, one for each text: no future, no padding, and neither text sees the other. The segment mask alone would let
# padding attend to padding, which has a segment of its own here: the corner at the lower right.

# %%
triangles = np.zeros((12, 12), bool)
triangles[:6, :6], triangles[6:10, 6:10] = np.tri(6), np.tri(4)
assert (masks["all three"] == triangles).all()
assert masks["segment"][10:, 10:].all()
print("allowed pairs:", masks["all three"].sum(), "of", 12 * 12)


# %% [markdown]
# **Does padding still matter?** The four words again, padded to more and more, now with large noise instead of zeros.


# %%
def outputs_when_padded_to(length):
    noise = 100 * np.random.default_rng(1).normal(size=(1, length - 4, 1, 8))
    padded = np.concatenate([x, noise], axis=1)
    mask = ref.self_attention_mask(length, ref.padding_mask(np.array([4]), length))
    return attend(padded, padded, padded, mask[:, None])[0][:, :4]


differences = [np.abs(outputs_when_padded_to(length) - outputs_when_padded_to(4)).max() for length in (5, 8, 16, 64)]
print("the words' outputs change by less than 1e-14 at every length:", max(differences) < 1e-14)
assert max(differences) < 1e-14

# %% [markdown]
# **How well can a model cheat that sees the future?** It has to predict the next token of a random sequence over 10 tokens, so
# no honest model beats 1 in 10. But a query that asks for "one position later" finds the answer there, if it may look.

# %%
length, vocabulary = 400, 10
ids = rng.integers(0, vocabulary, length)
position = 20 * np.eye(length)
k, q, v = (a[None, :, None] for a in (position, np.roll(position, 1, axis=1), np.eye(vocabulary)[ids]))


def accuracy(mask):
    guesses = attend(q, k, v, mask)[0][0, :-1, 0].argmax(axis=-1)
    return (guesses == ids[1:]).mean()


seeing, causal = accuracy(None), accuracy(ref.causal_mask(length, length)[None, None])
print(f"right, seeing everything: {seeing:.0%}; under the causal mask: {causal:.0%}")
assert seeing == 1 and abs(causal - 1 / vocabulary) < 0.05

# %% [markdown]
# The perfect score was leakage: under the causal mask the same query guesses like everybody else. A training loss that is too
# good to be true usually is: look for the mask.

# %% [markdown]
# ## Does the layer agree?
#
# The Keras layer makes mask (1), from two arguments or from a list of them, in the compute dtype. Zeros and ones are exact in
# every dtype, so all points should be at the left edge.

# %%
errors = figures.agreement_plot(CHAPTER)
assert all(error <= TOLERANCE[dtype] for by_dtype in errors.values() for dtype, error in by_dtype.items())
assert all(error == 0 for by_dtype in errors.values() for error in by_dtype.values())
print("exact in", ", ".join(TOLERANCE))

# %% [markdown]
# ## Where it breaks
#
# **Differs from the paper.** Vaswani et al. put $-\infty$ into the scores of forbidden keys. A mask only says which keys these
# are; what the softmax makes of it is [the next lesson](masked_softmax.ipynb).
#
# **Polarity.** The code of Transformer-XL and XLNet writes 1 for *blocked*. Such a mask has the right shape and the right dtype.

# %%
q, k, v = rng.normal(size=(3, 1, 12, 1, 8))
right, wrong = (attend(q, k, v, mask[None, None])[1][0, 0] for mask in (masks["causal"], ~masks["causal"]))
fig, axes = plt.subplots(1, 2, figsize=(7, 2.8))
for ax, weights, title in zip(axes, (right, wrong), ("1 = may attend", "the same, 1 = blocked")):
    figures.attention_map(ax, weights, title=title, largest=1)
plt.show()

# %% [markdown]
# Nothing failed. Eleven of the twelve queries read the future and only the future; the last had nothing to read and got zeros.

# %%
assert np.triu(right, 1).sum() == 0
assert np.allclose(np.triu(wrong, 1).sum(axis=1), [1] * 11 + [0]) and not np.tril(wrong).any()
print("weight on the future, query by query:", np.triu(wrong, 1).sum(axis=1).round(6).tolist())

# %% [markdown]
# **Token ids as a mask.** The layer takes any non-zero `to_mask` for a token, so ids will do – where padding has the id 0.
# RoBERTa's padding is 1, and 0 is `<s>`, with which every text begins. A text of four ids, padded to six:

# %%
ids = np.array([[0, 31414, 232, 2, 1, 1]])
careless, right = (ref.self_attention_mask(1, to_mask)[0, 0] for to_mask in (ids, ids != 1))
print("ids     ", careless.astype(int), "\nids != 1", right.astype(int))
assert not careless[0] and careless[4:].all()

# %% [markdown]
# **Only keys are masked.** A padded query attends to the tokens like any other and comes out as a plausible vector. Later
# layers mask it as a key; the loss has to leave it out.

# %%
assert (masks["padding"][10:] == masks["padding"][0]).all()
print("keys that a padded query may attend to:", masks["padding"][11].sum(), "of 12")

# %% [markdown]
# ## What it costs
#
# No parameters and no multiply-adds, but memory: $b\,t\,s$ booleans of a byte each, as many as one head has scores. Until it
# meets the scores a padding mask needs only one row per example, `(b, 1, s)`.

# %%
b, lengths = 8, np.array([64, 128, 256, 512, 1024])
full = [ref.self_attention_mask(n, np.ones((b, n), int)).nbytes for n in lengths]
slim = [ref.padding_mask(np.full(b, n), n)[:, None].nbytes for n in lengths]
assert full == list(b * lengths**2) and slim == list(b * lengths)
assert not CHAPTER.cases[0].make()[0].weights

fig, ax = plt.subplots()
ax.loglog(lengths, full, label="(b, t, s)", base=2)
ax.loglog(lengths, slim, label="(b, 1, s)", base=2)
ax.set(xlabel="length t = s", ylabel="bytes", title=f"a mask for a batch of {b}")
ax.legend(title="shape")
plt.show()

# %% [markdown]
# ## Exercises
#
# **1** (easy, 5 minutes). For decoding, texts are padded on the left: of `s` keys, the last `lengths[b]` are tokens. Return the mask, `(b, s)`. A length may be 0. No loop.


# %%
def left_padding_mask(lengths, s):
    return None  # your turn


_ = check("self_attention_mask/1", left_padding_mask)

# %% [markdown]
# <details><summary>Hint</summary>Where does each text begin? Compare a row of positions with a column of beginnings.</details>
# <details><summary>Solution</summary><code>np.arange(s) &gt;= s - lengths[:, None]</code></details>
#
# **2** (medium, 10 minutes). A prefix language model sees all of the first `prefix[b]` keys, and is causal after that. Return `(b, t, t)`; a prefix may be longer than the text. No loop.


# %%
def prefix_mask(prefix, t):
    return None  # your turn


_ = check("self_attention_mask/2", prefix_mask)

# %% [markdown]
# <details><summary>Hint</summary>Vetoes combine with "and"; a permission is added with "or".</details>
# <details><summary>Solution</summary><code>ref.causal_mask(t, t) | (np.arange(t) &lt; prefix[:, None, None])</code></details>
#
# **3** (hard, 15 minutes). Texts of these lengths stand one after the other in a row of `t` positions; what is left is padding. Each token sees its own text, up to itself. Padding sees nothing and is not seen. Return `(t, t)`. No loop.


# %%
def packed_mask(lengths, t):
    return None  # your turn


_ = check("self_attention_mask/3", packed_mask)

# %% [markdown]
# <details><summary>Hint</summary>Give every position the number of its text: <code>np.repeat</code> writes a number as often as its text is long.</details>
# <details><summary>Solution</summary>
#
# ```python
# def packed_mask(lengths, t):
#     text = np.zeros(t, int)
#     text[: lengths.sum()] = np.repeat(np.arange(len(lengths)) + 1, lengths)
#     return ref.causal_mask(t, t) & (text == text[:, None]) & (text > 0)
# ```
# </details>
#
# **To discuss.** A mask that is upside down often trains without an error, and its loss may even be lower. What would you look at, in training and after it, to find out?
#
# ## Summary
#
# - A mask says which keys a query may see. True means "may attend", and masks combine with "and".
# - Under it padding has no influence, and a causal model cannot read its answer.
# - A mask that is upside down raises no error. Test that what is forbidden has no influence.
#
# **Further reading.** [Vaswani et al., 2017](https://arxiv.org/abs/1706.03762), section 3.2.3: why the decoder needs the causal
# mask. [Devlin et al., 2018](https://arxiv.org/abs/1810.04805), section 3: BERT's two segments share a row and do see each
# other. [Krell et al., 2021](https://arxiv.org/abs/2107.02027): unrelated texts packed into a row, which must not.
# [Dai et al., 2019](https://arxiv.org/abs/1901.02860): causal masks when the keys reach into the past.
