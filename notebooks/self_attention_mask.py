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
# Papers: [Vaswani et al., 2017, section 3.2.3](https://arxiv.org/abs/1706.03762), [Devlin et al., 2018, section 3](https://arxiv.org/abs/1810.04805) · NumPy:
# [`reference/self_attention_mask.py`](../reference/self_attention_mask.py) · Layer: [`layers/self_attention_mask.py`](../layers/self_attention_mask.py) · 25 minutes · You should know: what a softmax is
#
# Attention itself is [a later lesson](attention.ipynb): here it is enough that every token shares a weight of 1 among all tokens, and takes the mixture.

# %% tags=["hide-input"] jupyter={"source_hidden": true}
import inspect

import matplotlib.pyplot as plt
import numpy as np

from crosscheck.cases.self_attention_mask import CHAPTER
from crosscheck.lesson import figures
from crosscheck.lesson.diagram import Box, diagram
from crosscheck.lesson.exercises import check
from crosscheck.models import minilm
from experiments.common import novel
from reference import self_attention_mask as ref
from reference.attention import attend, multi_head_attention

figures.use_style()
rng = np.random.default_rng(0)

# %% [markdown]
# ## The question
#
# A batch is a rectangle, so a sentence that stands beside a longer one is padded. **How much of the attention does padding take?** We use the first layer of MiniLM, a small trained model that reads a
# sentence as pieces of words, with marks `[CLS]` and `[SEP]` at its ends. It reads forty sentences of a novel, of 60 to 140 characters, each padded with `[PAD]` to a quarter, a half or three quarters padding, **without a mask**.

# %%
real = minilm.load()
weights = minilm.attention_weights(real, layer=0)
sentences = [s.replace("\n", " ").strip() for s in novel.TEXT.split(".")[200:1000] if 60 < len(s) < 140][:40]


# %%
def read(sentence, padding):
    """The outputs of the tokens, and their weights averaged over heads, with so many times [PAD] behind them."""
    pieces = minilm.wordpieces(real, sentence)
    x = minilm.embed(real, pieces + ["[PAD]"] * padding)
    output, attention = multi_head_attention(x, x, weights)
    return output[0, : len(pieces)], attention[0, :, : len(pieces)].mean(axis=0)


# %%
taken, changed = {}, {}
for share in (0.25, 0.5, 0.75):
    sizes = [len(minilm.wordpieces(real, sentence)) for sentence in sentences]
    runs = [(n, *read(sentence, round(n * share / (1 - share))), read(sentence, 0)[0]) for n, sentence in zip(sizes, sentences)]
    taken[share] = [attention[:, n:].sum(-1).mean() for n, _, attention, _ in runs]
    changed[share] = [np.linalg.norm(output - alone) / np.linalg.norm(alone) for _, output, _, alone in runs]

# %%
fig, ax = plt.subplots(figsize=(6, 3))
for share, values in taken.items():
    ax.plot([share] * len(values), values, "o", color=figures.COLORS[0], alpha=0.4)
ax.plot([0, 1], [0, 1], color="black", linestyle=":", marker="none")
ax.annotate("equal weights", (0.6, 0.62), ha="right")
ax.set(xlabel="share of the row that is padding", ylabel="weight on padding", ylim=(0, 1), xlim=(0, 1))
ax.set_title("padding takes nearly the attention that equal weights would give it")
figures.show()
for share, values in taken.items():
    print(
        f"{share:.0%} padding takes {min(values):.2f} to {max(values):.2f}; outputs change by {min(changed[share]):.0%} to {max(changed[share]):.0%}"
    )
for share, values in taken.items():
    assert share / 2 < min(values) < max(values) < share  # nearer to equal weights than to none
assert all(np.all(np.diff(each) > 0) for each in zip(*changed.values()))

# %% [markdown]
# The model gives padding less than equal weights would, but more than half of that; each sentence is one point. The outputs change more the more padding there is, in each sentence. So they depend on how long the *other* sentences of the batch are.
#
# ## The picture

# %% tags=["hide-input"] jupyter={"source_hidden": true}
boxes = {
    "scores": Box("scores", 0, 0, "data"),
    "mask": Box("mask $M$", 1.2, 0, "data"),
    "softmax": Box("masked softmax", 0.6, 1, width=1.3),
}
boxes |= {"weights": Box("weights", 0.6, 2, "data"), "tokens": Box("tokens", 1.2, -1, "data")}
arrows = [
    ("scores", "softmax", "(b, h, t, s)"),
    ("mask", "softmax", "(b, t, s)"),
    ("softmax", "weights", "(b, h, t, s)"),
    ("tokens", "mask", "(b, s)"),
]
diagram(boxes, arrows)
figures.show()

# %% [markdown]
# A mask has no weights to train. All heads share it.
#
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
figures.show()

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
# **Does padding still matter?** The same sentences with a mask, padded to half: behind the sentence, and in front of it.


# %%
def read_masked(sentence, behind, in_front=0):
    pieces = minilm.wordpieces(real, sentence)
    x = minilm.embed(real, ["[PAD]"] * in_front + pieces + ["[PAD]"] * behind)
    to_mask = np.array([[0] * in_front + [1] * len(pieces) + [0] * behind])
    output, _ = multi_head_attention(x, x, weights, mask=ref.self_attention_mask(x.shape[1], to_mask))
    return output[0, in_front : in_front + len(pieces)]


# %%
alone = [read(sentence, 0)[0] for sentence in sentences]
left = [np.abs(read_masked(sentence, n) - y).max() for n, sentence, y in zip(sizes, sentences, alone)]
moved = [np.linalg.norm(read_masked(s, 0, n) - y) / np.linalg.norm(y) for n, s, y in zip(sizes, sentences, alone)]
print(f"padding behind: largest change of any output in {len(left)} sentences: {max(left):.12f}")
print(f"padding in front: outputs change by {min(moved):.0%} to {max(moved):.0%}")
assert max(left) < 1e-12 < min(moved)

# %% [markdown]
# Padding behind a sentence no longer has any influence. Padding in front of it has, although no word reads it: it moves the words to other positions, and MiniLM adds a vector for its position to each word. If you pad on the left, count positions from the first token.

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
# The perfect score was leakage: under the causal mask the same query does no better than chance. If a training loss is too good
# to be true, look at the mask first.

# %% [markdown]
# ## Where it breaks
#
# **Differs from the paper.** Vaswani et al. put $-\infty$ into the scores of forbidden keys. A mask only says which keys these
# are; what the softmax makes of it is [the next lesson](masked_softmax.ipynb).
#
# **Polarity.** PyTorch has both: in `torch.nn.MultiheadAttention` a boolean mask is True where a key is *blocked*, in
# `torch.nn.functional.scaled_dot_product_attention` True where it *may be attended to*
# ([documentation](https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.scaled_dot_product_attention.html)). The code of
# Transformer-XL and XLNet writes 1 for blocked. Such a mask has the right shape and the right dtype.

# %%
q, k, v = rng.normal(size=(3, 1, 12, 1, 8))
right, wrong = (attend(q, k, v, mask[None, None])[1][0, 0] for mask in (masks["causal"], ~masks["causal"]))
figures.maps((right, wrong), ("reads the past", "upside down: reads the future"), "weight")
figures.show()

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
for sizes_of_masks, shape in ((full, "(b, t, s)"), (slim, "(b, 1, s)")):
    (line,) = ax.loglog(lengths, sizes_of_masks, base=2)
    ax.annotate(shape, (lengths[-1], sizes_of_masks[-1]), (6, 0), textcoords="offset points", color=line.get_color(), va="center")
ax.set(xlabel="length t = s", ylabel="bytes", title=f"a row for each query costs the square (batch of {b})")
figures.show()

# %% [markdown]
# ## Does the layer agree?
#
# The Keras layer makes mask (1), from two arguments or from a list of them, in the compute dtype. Zeros and ones are exact in every dtype.

# %% tags=["nbval-ignore-output"]
line, agrees = figures.agreement_line(CHAPTER)
assert agrees
line

# %% [markdown]
# ## Today
#
# Few programs still store a mask `(b, t, s)`. FlashAttention is told "causal", or where each text begins, and skips blocks in which nothing is allowed ([Dao, 2023](https://arxiv.org/abs/2307.08691)). Training packs several
# texts into a row, as in the picture above ([Krell et al., 2021](https://arxiv.org/abs/2107.02027)). FlexAttention in PyTorch compiles a rule for one pair, such as `may_attend`, into a kernel
# ([Dong et al., 2024](https://arxiv.org/abs/2412.05496)).
#
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
# - Under it padding behind a text has no influence, and a causal model cannot read its answer.
# - A mask that is upside down raises no error. Test that what is forbidden has no influence.
#
# **Further reading.** [Vaswani et al., 2017](https://arxiv.org/abs/1706.03762), section 3.2.3: why the decoder needs the causal
# mask. [Devlin et al., 2018](https://arxiv.org/abs/1810.04805), section 3: BERT's two segments share a row and do see each
# other. [Krell et al., 2021](https://arxiv.org/abs/2107.02027): unrelated texts packed into a row, which must not.
# [Dai et al., 2019](https://arxiv.org/abs/1901.02860): causal masks when the keys reach into the past.
