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
# # Masks: which keys a query may see
#
# Attention lets every position read every other. A mask takes away what must not be read: padding, the future, another text.
#
# Paper: [Vaswani et al., 2017, section 3.2.3](https://arxiv.org/abs/1706.03762) and [BERT, section 3](https://arxiv.org/abs/1810.04805) · NumPy:
# [`reference/self_attention_mask.py`](../reference/self_attention_mask.py) · Layer: [`layers/self_attention_mask.py`](../layers/self_attention_mask.py) · 15 minutes ·
# You should know: what a softmax is

# %%
import inspect

import matplotlib.pyplot as plt
import numpy as np

from crosscheck import figures
from crosscheck.case import TOLERANCE
from crosscheck.cases.self_attention_mask import CHAPTER
from crosscheck.exercises import check
from reference import self_attention_mask as ref
from reference.attention import attend

figures.use_style()
rng = np.random.default_rng(0)

# %% [markdown]
# ## The question
#
# A batch holds a sentence of 4 tokens, padded to 12 so that it fits beside a longer one. Padding is zeros, and a zero key scores 0 with every query. **How much of the attention does padding take?**

# %%
tokens, length = 4, 12
x = np.zeros((1, length, 1, 8))
x[0, :tokens] = 0.7 * rng.normal(size=(tokens, 1, 8))
_, weights = attend(x, x, x)
stolen = weights[0, 0, :tokens, tokens:].sum(axis=-1)

fig, ax = plt.subplots(figsize=(6, 3))
figures.attention_map(ax, weights[0, 0, :tokens], title="without a mask: keys 4 to 11 are padding")
plt.show()

# %% [markdown]
# Every token spends weight on keys that are not there, more than a third of it; and the amount depends on how long the *other* sentence of the batch happens to be.

# %%
print("share taken by padding, token by token:", np.round(stolen, 2))
assert (stolen > 1 / 3).all()

# %% [markdown]
# ## The equation
#
# $$M_{bts} = 1 \text{ where query } t \text{ of example } b \text{ may attend to key } s, \text{ else } 0$$
#
# | symbol | what is allowed | name in the code | shape |
# |---|---|---|---|
# | (1) self-attention | keys that are tokens | `self_attention_mask(t, to_mask)` | `(b, t, s)` |
# | (2) causal | keys at or before the query | `causal_mask(t, s)` | `(t, s)` |
# | (3) padding | the first `length` keys | `padding_mask(lengths, s)` | `(b, s)` |
# | (4) segment | keys of the same segment | `segment_mask(from_ids, to_ids)` | `(b, t, s)` |

# %% [markdown]
# A mask is boolean: `True` means "may attend". Masks combine with `&`, because every one of them has to agree.
#
# ## By hand
#
# Two tokens and one padding position, `to_mask = [1, 1, 0]`. Whatever the query, keys 0 and 1 are allowed and key 2 is not.

# %%
to_mask = np.array([[1, 1, 0]])
by_hand = [[ref.may_attend(to_mask, 0, t, s) for s in range(3)] for t in range(2)]
print(by_hand)
assert by_hand == [[True, True, False], [True, True, False]]

# %% [markdown]
# ## In NumPy
#
# The batched form repeats that row for every query.

# %%
print(inspect.getsource(ref.self_attention_mask))

# %%
to_mask = rng.integers(0, 2, (2, 5))
mask = ref.self_attention_mask(3, to_mask)
assert all(mask[b, t, s] == ref.may_attend(to_mask, b, t, s) for b, t, s in np.ndindex(mask.shape))
print("batched and one by one agree for all", mask.size, "pairs")

# %%
print(inspect.getsource(ref.causal_mask))

# %% [markdown]
# ## What it does
#
# **What do the masks look like, and what is left when all three must agree?** Two texts are packed into one row of 10, then two positions of padding.

# %%
segments = np.array([[1] * 6 + [2] * 4 + [0] * 2])
masks = {
    "padding": ref.self_attention_mask(12, segments)[0],
    "causal": ref.causal_mask(12, 12),
    "segment": ref.segment_mask(segments, segments)[0],
}
masks["all three"] = np.logical_and.reduce(list(masks.values()))
fig, axes = plt.subplots(1, 4, figsize=(9, 2.6))
for ax, (name, picture) in zip(axes, masks.items()):
    figures.mask_picture(ax, picture, name)
plt.show()

# %% [markdown]
# What is left are two triangles, one for each text: no future, no padding, and neither text sees the other.

# %%
assert not masks["all three"][6:10, :6].any() and not masks["all three"][:, 10:].any()
assert masks["all three"].sum() == 6 * 7 / 2 + 4 * 5 / 2
print("allowed pairs:", masks["all three"].sum(), "of", 12 * 12)

# %% [markdown]
# **Does padding now change anything?** The same four tokens, padded to more and more.


# %%
def attended(length):
    """The four tokens' outputs when they are padded to `length` with noise."""
    padded = np.concatenate([x[:, :tokens], np.random.default_rng(1).normal(size=(1, length - tokens, 1, 8))], axis=1)
    mask = ref.self_attention_mask(length, ref.padding_mask(np.array([tokens]), length))
    return attend(padded, padded, padded, mask[:, None])[0][:, :tokens]


differences = [np.abs(attended(length) - attended(tokens)).max() for length in (5, 8, 16, 64)]
assert max(differences) < 1e-15
print("outputs of the tokens change by less than 1e-15 at every length")

# %% [markdown]
# **How much does a model that sees the future cheat?** Predict the next token of a random sequence: nothing can be learned from the past, so no honest model beats guessing. A query that looks for
# "one position later" finds the answer, if it is allowed to.

# %%
length, vocabulary = 40, 10
ids = rng.integers(0, vocabulary, length)
place = 8 * np.eye(length)
q, k, v = (a[None, :, None] for a in (np.roll(place, 1, axis=1), place, np.eye(vocabulary)[ids]))


def accuracy(mask):
    guesses = attend(q, k, v, mask)[0][0, :-1, 0].argmax(axis=-1)
    return (guesses == ids[1:]).mean()


everything, past = np.ones((1, 1, length, length), bool), ref.causal_mask(length, length)[None, None]
print(f"accuracy seeing everything: {accuracy(everything):.2f}, under the causal mask: {accuracy(past):.2f}")
assert accuracy(everything) == 1 and accuracy(past) < 0.4

# %% [markdown]
# The perfect score was leakage: under the causal mask the same query does about as well as guessing.
#
# ## Does the layer agree?

# %%
errors = figures.agreement_plot(CHAPTER)

# %%
assert all(error <= TOLERANCE[dtype] for by_dtype in errors.values() for dtype, error in by_dtype.items())
print("layer and reference agree in", ", ".join(TOLERANCE))

# %% [markdown]
# ## Where it breaks
#
# **Polarity.** Transformer-XL's and XLNet's code write 1 for *blocked*. Such a mask has the right shape and the right dtype, and does the opposite.

# %%
blocked = ~masks["causal"]
q, k, v = rng.normal(size=(3, 1, 12, 1, 8))
right, wrong = (attend(q, k, v, mask[None, None])[1][0, 0] for mask in (masks["causal"], blocked))
print("weight on the future, right:", np.triu(right, 1).sum(), " wrong:", np.triu(wrong, 1).sum().round(2))
assert np.triu(right, 1).sum() == 0 and np.allclose(np.triu(wrong, 1).sum(), 11)

# %% [markdown]
# Nothing failed: 11 of 12 queries read the future alone. The last one had nothing left to read and got zeros.
#
# **Only keys are masked.** A padded query still attends to the tokens and comes out as a plausible vector. Its output is for the loss to ignore.

# %%
padding = ref.self_attention_mask(12, segments)[0]
assert padding[10:].any(axis=1).all()
print("padded queries that may attend to something:", padding[10:].any(axis=1).sum(), "of 2")

# %% [markdown]
# **Differs from the paper.** Vaswani et al. put $-\infty$ into forbidden scores. A mask only says which they are; what the softmax makes of it is [the next lesson](masked_softmax.ipynb).
#
# ## What it costs
#
# A mask is $b\,t\,s$ booleans, a byte each: as many as one head has scores. Kept as `(b, 1, s)` until it meets the scores, a padding mask is only $b\,s$.

# %%
b, lengths = 8, np.array([64, 128, 256, 512, 1024])
full = [ref.self_attention_mask(n, np.ones((b, n), int)).nbytes for n in lengths]
slim = [ref.padding_mask(np.full(b, n), n)[:, None].nbytes for n in lengths]
assert full == list(b * lengths**2) and slim == list(b * lengths)
fig, ax = plt.subplots()
ax.loglog(lengths, full, label="(b, t, s)")
ax.loglog(lengths, slim, label="(b, 1, s)")
ax.set(xlabel="length t = s", ylabel="bytes", title="a mask for a batch of 8")
ax.legend()
plt.show()

# %% [markdown]
# ## Exercises
#
# **1** (easy, 5 minutes). Allow each query the keys at most `width` positions away, on either side.


# %%
def window_mask(t, s, width):
    return None  # your turn


_ = check(lambda t, s, width: np.abs(np.arange(s) - np.arange(t)[:, None]) <= width, window_mask, {"t": 5, "s": 7, "width": 2})

# %% [markdown]
# <details><summary>Hint</summary>Subtract the positions as a column and a row.</details>
# <details><summary>Solution</summary><code>np.abs(np.arange(s)[None, :] - np.arange(t)[:, None]) &lt;= width</code></details>
#
# **2** (medium, 5 minutes). A prefix language model sees all of the first `prefix` keys, and is causal after that.


# %%
def prefix_mask(t, prefix):
    return None  # your turn


_ = check(lambda t, prefix: ref.causal_mask(t, t) | (np.arange(t) < prefix), prefix_mask, {"t": 6, "prefix": 3})

# %% [markdown]
# <details><summary>Hint</summary>Two masks; here one of them is enough.</details>
# <details><summary>Solution</summary><code>ref.causal_mask(t, t) | (np.arange(t) &lt; prefix)[None, :]</code></details>
#
# **3** (harder, 10 minutes). With a cache of `past` earlier keys, the `t` new queries stand after them. Write their causal mask.


# %%
def cached_causal_mask(t, past):
    return None  # your turn


_ = check(lambda t, past: ref.causal_mask(past + t, past + t)[past:], cached_causal_mask, {"t": 3, "past": 4})

# %% [markdown]
# <details><summary>Hint</summary>The new queries are the last rows of a longer causal mask.</details>
# <details><summary>Solution</summary><code>ref.causal_mask(past + t, past + t)[past:]</code></details>
#
# ## Summary
#
# - A mask says which keys a query may see; True means "may attend", and masks combine with "and".
# - With it, padding has no influence and a causal model cannot read its answer.
# - It is easy to get upside down without any error: test that forbidden keys have no influence.
#
# **Further reading.** [Vaswani et al., 2017](https://arxiv.org/abs/1706.03762): the causal mask. [Devlin et al., 2018](https://arxiv.org/abs/1810.04805): segments and padding in
# practice. [Dai et al., 2019](https://arxiv.org/abs/1901.02860): masks when the keys reach into the past.
