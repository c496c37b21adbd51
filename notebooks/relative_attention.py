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
# # Relative attention: not where, but how far
#
# Scores are computed from the distance of two tokens. What was computed once stays right further on, and a token can be predicted in any order.
#
# Papers: [Dai et al., 2019, section 3.3](https://arxiv.org/abs/1901.02860), [Yang et al., 2019, section 2.3](https://arxiv.org/abs/1906.08237) · NumPy:
# [`reference/relative_attention.py`](../reference/relative_attention.py) · Layer: [`layers/relative_attention.py`](../layers/relative_attention.py) · 35 minutes · You should
# know: [attention](attention.ipynb)

# %%
import inspect

import keras
import matplotlib.pyplot as plt
import numpy as np

from crosscheck.case import TOLERANCE
from crosscheck.cases.relative_attention import CHAPTER
from crosscheck.lesson import figures
from crosscheck.lesson.counting import multiply_adds
from crosscheck.lesson.exercises import check
from layers.attention import MultiHeadAttention
from layers.relative_attention import MultiHeadRelativeAttention
from reference import relative_attention as ref
from reference.common.projection import Projection

figures.use_style()
rng = np.random.default_rng(0)


def draw_weights(m, h, d):
    """Random projections without biases, for model size m, h heads and size d."""
    shapes = [(m, h, d)] * 3 + [(h, d, m), (m, h, d)]
    return ref.RelativeAttentionWeights(*(Projection(rng.normal(size=shape) / np.sqrt(m)) for shape in shapes))


# %% [markdown]
# ## The question
#
# A text is read in segments of eight tokens, and the keys of the last segment are kept as memory. Positions are counted from 0 in every segment, and their encodings are what the scores see. **Which of two
# keys is nearer?** For each query, here is the part of the score that comes from positions alone: absolute ones, and distances.

# %%
t, s, m = 8, 16, 32
here = ref.sinusoid(np.arange(t), m)
absolute = here @ np.concatenate([here, here]).T
encoding = ref.relative_position_encoding(t, s, m)
q = np.broadcast_to(ref.sinusoid(np.array([0]), m), (t, m))
relative = ref.position_scores(q[None, :, None], encoding[:, :, None], s)[0, 0]

fig, axes = plt.subplots(1, 2, figsize=(8, 2.9), sharey=True)
for ax, scores, title in zip(axes, (absolute, relative), ("absolute positions", "distances")):
    figures.attention_map(ax, scores, title=title)
    ax.set_xlabel("key s (0 to 7: memory)")
    ax.label_outer()
plt.show()

# %% [markdown]
# With absolute positions, each key of the memory looks exactly like the one eight tokens later: nothing tells yesterday from today. With distances, every query has one nearest key, itself, and the picture is the same along every diagonal.

# %%
assert np.array_equal(absolute[:, :8], absolute[:, 8:])
assert relative.argmax(axis=-1).tolist() == list(range(8, 16))
assert np.allclose(relative[1:, 1:], relative[:-1, :-1])
print("absolute: two equal halves; relative: one number for each distance")

# %% [markdown]
# ## The equation
#
# $$A_{ij} = \frac{(q_i + u)^\top k_j + (q_i + v)^\top W R_{i-j} + (q_i + b)^\top s_{ij}}{\sqrt d} \tag{1}$$
#
# | symbol | what it asks | name in the code | shape |
# |---|---|---|---|
# | $q_i, k_j$ | as in attention | `q`, `k` | `(b, t, h, d)`, `(b, s, h, d)` |
# | $R_{i-j}$, $W$ | how far is the key behind the query? | `encoding`, `weights.encoding` | `(1, l, m)`, `(m, h, d)` |
# | $u, v, b$ | what would any query ask for? | `terms.u`, `terms.v`, `terms.b` | `(h, d)` |
# | $s_{ij}$ | same segment, or another one? | `terms.segment_encoding` | `(2, h, d)` |
#
# The last query stands at the last key, so with a memory of $s - t$ keys query $i$ is at position $i + s - t$. **Row $r$ of the encodings is distance $s - r$**: rows run from $s$, far behind, down to
# $1 - t$, ahead. The values know nothing of positions.
#
# ## By hand
#
# Let $d = 4$, so that sums are halved, and let $q = u = e_1$, $v = 3 e_1$. One key has $k = \ln 3\, e_1$ and an encoding of zeros: $(1 + 1) \ln 3 / 2 = \ln 3$. The other has no content and the encoding
# $\tfrac12 \ln 3\, e_1$: $(1 + 3) \cdot \tfrac12 \ln 3 / 2 = \ln 3$. Being the right thing and being in the right place weigh the same here.

# %%
one, nothing = np.eye(4)[0], np.zeros(4)
by_content = ref.score(one, np.log(3) * one, nothing, one, 3 * one)
by_place = ref.score(one, nothing, np.log(3) / 2 * one, one, 3 * one)
print("score by content:", by_content.round(4), " by place:", by_place.round(4))
assert np.allclose([by_content, by_place], np.log(3))

# %% [markdown]
# And which row does which pair read? Three queries, five keys: distance $i + 2 - j$ is row $5 - (i + 2 - j) = j + 3 - i$.

# %%
rows = np.tile(np.arange(8.0), (1, 1, 3, 1))
found = ref.relative_shift_by_loops(rows, 5)[0, 0]
print(found)
assert found.tolist() == [[3, 4, 5, 6, 7], [2, 3, 4, 5, 6], [1, 2, 3, 4, 5]]

# %% [markdown]
# ## In NumPy
#
# Encoding every pair would cost $t \cdot s$ products with $W$; but there are only $t + s$ distances. So multiply each query with all rows, and then move what it found there to the keys. The definition moves
# number by number. The trick only cuts a line of numbers anew:

# %%
print(inspect.getsource(ref.relative_shift_by_loops))
print(inspect.getsource(ref.relative_shift))
x = rng.normal(size=(2, 4, 3, 8))
assert np.array_equal(ref.relative_shift(x, 5), ref.relative_shift_by_loops(x, 5))
print("loops and trick agree")

# %%
q, k, r = rng.normal(size=(2, 3, 4, 7)), rng.normal(size=(2, 5, 4, 7)), rng.normal(size=(1, 8, 4, 7))
u, v = rng.normal(size=(2, 4, 7))
scores = (ref.content_scores(q, k, u) + ref.position_scores(q, r, 5, v)) / np.sqrt(7)
assert np.allclose(scores, ref.scores_by_loops(q, k, r, u, v))
print("all scores at once and pair by pair agree")

# %% [markdown]
# ## What it does
#
# **Does anything change if the text moves?** Put twelve other tokens before it, and mask them.

# %%
weights, (u, v) = draw_weights(32, 2, 16), rng.normal(size=(2, 2, 16))
x, before = rng.normal(size=(1, 8, 32)), rng.normal(size=(1, 12, 32))
terms = ref.Terms(u, v)
alone, _ = ref.relative_attention(x, x, weights, terms, encoding=ref.relative_position_encoding(8, 8, 32))
visible = (np.arange(20) >= 12)[None, None]
moved, _ = ref.relative_attention(x, x, weights, terms, None, ref.relative_position_encoding(8, 20, 32), before, visible)
assert np.abs(moved - alone).max() < 1e-12
print("twelve places further on, the output differs by less than 1e-12")

# %% [markdown]
# **So does what was learned at one place hold at another?** Dai et al. say that with distances, states can be reused and attention stays coherent beyond the length of training. One layer has to report the token three
# places back. It trains on 16 tokens and reads 64, always with the last 16 in view; once with distances, once with sinusoids of the position added to the tokens.

# %%
n, size, back = 16, 48, 3


class Reporter(keras.Model):
    def __init__(self, relative):
        super().__init__()
        self.relative = relative
        self.token = keras.layers.Embedding(n, size, embeddings_initializer="glorot_normal")
        layer = MultiHeadRelativeAttention if relative else MultiHeadAttention
        self.attention, self.logits = layer(num_heads=2, key_dim=24), keras.layers.Dense(n)
        if relative:
            self.u, self.v = (self.add_weight(shape=(2, 24), initializer="normal") for _ in range(2))

    def call(self, ids):
        length = ids.shape[1]
        distance = np.arange(length)[:, None] - np.arange(length)
        mask = ((0 <= distance) & (distance < 16))[None]
        if self.relative:
            x, encoding = self.token(ids), ref.relative_position_encoding(length, length, size)
            heads = self.attention(x, x, self.u, self.v, relative_position_encoding=encoding, attention_mask=mask)
        else:
            x = self.token(ids) + ref.sinusoid(np.arange(length), size)
            heads = self.attention(x, x, attention_mask=mask)
        return self.logits(heads)[:, back:]


# %%
train, test = rng.integers(0, n, (64 * 250, 16)), rng.integers(0, n, (256, 64))
accuracy = {}
for name, is_relative in {"distances": True, "absolute positions": False}.items():
    keras.utils.set_random_seed(0)
    model = Reporter(is_relative)
    model.compile(keras.optimizers.Adam(1e-2), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(train, train[:, :-back], batch_size=64, verbose=0)
    accuracy[name] = (np.argmax(model(test), axis=-1) == test[:, :-back]).mean(axis=0)

fig, ax = plt.subplots()
for name, values in accuracy.items():
    ax.plot(np.arange(back, 64), values, label=name, markevery=6)
ax.axvspan(back, 15, color="#dddddd", label="positions in training")
ax.axhline(1 / n, color="black", linestyle=":", marker="none", label="chance")
ax.set(xlabel="position t", ylabel="accuracy", ylim=(0, 1.05))
fig.legend(loc="outside upper center", ncols=4, frameon=False, fontsize="small")
plt.show()

# %% [markdown]
# Both have learned it. Past position 15 the absolute one meets positions that it has never seen: at the first four of them it is as good as chance, and what comes back further on is the luck of sinusoids that happen to line up. For the
# relative one nothing is new: the same sixteen distances.

# %%
inside, outside = slice(0, 16 - back), slice(16 - back, 20 - back)
assert all(values[inside].min() > 0.95 for values in accuracy.values())
assert accuracy["distances"].min() > 0.95 and abs(accuracy["absolute positions"][outside].mean() - 1 / n) < 0.08
assert accuracy["absolute positions"][outside.stop :].max() > 0.4
print("learned within the training length by both; beyond it, by distances only")

# %% [markdown]
# **Can a token be predicted in any order?** XLNet predicts the tokens in a random order, each from those that came before it *in that order*. The state of a token then has two uses that exclude each other: others need
# its content, and its own prediction must not know it. So there are two streams with the same weights: **content** $h$ may see itself, **query** $g$ starts from the same vector everywhere, knows its
# position by the encodings, and reads the content of its predecessors. Let us change one token after the other, and see which outputs of two such layers change.

# %%
t, m, order = 6, 32, np.array([3, 0, 5, 1, 4, 2])
stack, encoding = [draw_weights(m, 2, 16) for _ in range(2)], ref.relative_position_encoding(t, t, m)
masks = [mask[None] for mask in ref.permutation_masks(order)]


def two_layers(x):
    h, g = x, np.broadcast_to(np.cos(np.arange(m)), x.shape)
    for weights in stack:
        content, query, *_ = ref.two_stream_relative_attention(h, g, weights, encoding, terms, None, None, *masks)
        h, g = h + content, g + query
    return np.stack([h[0], g[0]])


def dependency(outputs, x):
    """For each of the outputs (…, t, m): whether output t changes with token s."""
    changes = [np.abs(outputs(x + np.eye(t)[None, :, [s]]) - outputs(x)).max(axis=-1) > 1e-9 for s in range(t)]
    return np.stack(changes, axis=-1)


content, query = dependency(two_layers, rng.normal(size=(1, t, m)))

# %%
fig, axes = plt.subplots(1, 2, figsize=(7, 3.1), sharey=True)
for ax, found, name in zip(axes, (content, query), ("content stream", "query stream")):
    figures.mask_picture(ax, found, title=name, queries="output t", keys="token s")
    ax.label_outer()
fig.suptitle("white: the output changes with the token; order 3, 0, 5, 1, 4, 2")
plt.show()

# %% [markdown]
# Exactly the masks: token 3 is predicted from nothing, 0 from token 3, 5 from 3 and 0, and so on; the diagonal is in the content stream and not in the query stream, through both layers.

# %%
assert np.array_equal(content, masks[0][0]) and np.array_equal(query, masks[1][0])
assert content.diagonal().all() and not query.diagonal().any()
print("tokens that each prediction knows, in order:", query.sum(axis=-1)[order])

# %% [markdown]
# ## Does the layer agree?

# %%
errors = figures.agreement_plot(CHAPTER)
assert all(error <= TOLERANCE[dtype] for by_dtype in errors.values() for dtype, error in by_dtype.items())
print("layer and reference agree in", ", ".join(TOLERANCE))

# %% [markdown]
# ## Where it breaks
#
# **A shift without enough rows.** A model that only looks back needs the distances $s, \dots, 0$: $s + 1$ rows. The trick still cuts its line of numbers, and where a key lies ahead it hands out the next query's. Below, the hundreds say whose number it is.

# %%
x = (100 * np.arange(3)[:, None] + np.arange(6)).ravel()
cut = x[3:].reshape(3, 5)
print(cut)
owner = cut // 100
ahead = np.arange(5) + 3 - np.arange(3)[:, None] > 5
assert np.array_equal(owner != np.arange(3)[:, None], ahead)

# %% [markdown]
# Five rows for five keys ask for still other cuts, and popular code has had the slice off by one. Our layer wants $t + s$ rows, or $s + 1$, which it takes to mean that no key ahead is attended to; every other number is an error that says so.

# %%
x, u, v = rng.normal(size=(1, 3, 8)), np.zeros((2, 4)), np.zeros((2, 4))
layer = MultiHeadRelativeAttention(num_heads=2, key_dim=4)
_, attended = layer(x, x, u, v, relative_position_encoding=np.ones((1, 4, 8)), return_attention_scores=True)
assert not np.triu(attended[0, 0], 1).any()
try:
    layer(x, x, u, v, relative_position_encoding=np.ones((1, 3, 8)))
except ValueError as error:
    complaint = str(error)
assert "t + s = 6 rows" in complaint and "s + 1 = 4 rows" in complaint and "3 rows" in complaint
print("4 rows: causal; 6 rows: both ways; 3 rows: an error")

# %% [markdown]
# **One stream with its diagonal masked.** Why not forbid each token to attend to itself, and keep one stream?

# %%
strict = masks[1]


def one_stream(x):
    for weights in stack:
        x = ref.relative_attention(x, x, weights, terms, encoding=encoding, mask=strict)[0]
    return x[0]


leak = dependency(one_stream, rng.normal(size=(1, t, m))) & ~strict[0]
print("predictions that know their own token:", np.flatnonzero(leak.diagonal()))
assert leak.diagonal().sum() == t - 2

# %% [markdown]
# It asks the question with its own content, and the answers depend on the question. Only the first two of the order are safe: with no key, or a single one, there is nothing to choose.
#
# **Differs from the paper.** The papers print equation (1) without $1/\sqrt d$. Dai et al. only look back; here distances may be negative. A query that may attend to nothing, such as the first of an order, gets zeros.
#
# ## What it costs
#
# For one example with $t$ queries, $s$ keys and $l = t + s$ rows: projections of $(2t + 2s + l)\, m\, h\, d$ multiply-adds, of which the $l$ rows serve every example of a batch; and $h\,t\,(2 s + l)\,d$ for scores and mixture.

# %%
t, s, m, h, d = 6, 10, 24, 3, 8
x, y = rng.normal(size=(1, t, m)), rng.normal(size=(1, s, m))
weights, encoding = draw_weights(m, h, d), ref.relative_position_encoding(t, s, m)
with multiply_adds() as counted:
    ref.relative_attention(x, y, weights, encoding=encoding)
rows = encoding.shape[1]
measured = sum(counted), sum(part.kernel.size for part in weights)
formula = (2 * t + 2 * s + rows) * m * h * d + h * t * (2 * s + rows) * d, 5 * m * h * d
assert measured == formula
print(f"multiply-adds, parameters: {measured}")

# %%
m, h, d = 512, 8, 64
t = 2 ** np.arange(4, 12)
costs = {
    "each pair encoded": 2 * t**2 * m * h * d,
    "each distance encoded": 3 * t * m * h * d,
    "queries with rows": 3 * h * t**2 * d,
}
fig, ax = plt.subplots()
for name, cost in costs.items():
    ax.loglog(t, cost, base=2, label=name)
ax.set(xlabel="segment length t (memory as long: s = 2 t)", ylabel="multiply-adds", title="the position term of one example")
ax.legend()
plt.show()
assert (costs["each pair encoded"] * 3 == costs["each distance encoded"] * 2 * t).all()

# %% [markdown]
# Encoding each pair costs $\tfrac23 t$ times what encoding each distance costs: the reason for the shift, and for appendix B of the paper.
#
# ## Exercises
#
# **1** (easy, 10 minutes). Which row does query `i` of `t` read for key `j` of `s`, and is it among the `rows` that there are? Return both, as arrays `(t, s)`; queries are the last `t` of the keys. No loop.


# %%
def row_of(t, s, rows):
    return None  # your turn


_ = check("relative_attention/1", row_of)

# %% [markdown]
# <details><summary>Hint</summary>The distance is <code>i + (s - t) - j</code>, and row <code>r</code> is distance <code>s - r</code>.</details>
# <details><summary>Solution</summary><code>row = t - np.arange(t)[:, None] + np.arange(s); return row, row &lt; rows</code></details>
#
# **2** (medium, 15 minutes). Shift without a loop: `x` is `(t, l)` with $l = t + s$; return `(t, s)`, whose entry `(i, j)` is `x[i, j + t - i]`.


# %%
def my_shift(x, s):
    return None  # your turn


_ = check("relative_attention/2", my_shift)

# %% [markdown]
# <details><summary>Hint</summary>Write the rows one after the other. Where is number <code>j + t - i</code> of query <code>i</code>, if a piece has one number less?</details>
# <details><summary>Solution</summary><code>return x.ravel()[len(x):].reshape(len(x), -1)[:, :s]</code></details>
#
# **3** (hard, 25 minutes). T5 has only $v^\top R_{i-j}$: one learned number for each head and distance, `bias` of shape `(h, l)` with $l = t + s$, not divided by $\sqrt d$. For `q` `(b, t, h, d)` and `k` `(b, s, h, d)` return the weights `(b, h, t, s)`, without a loop over queries or keys.


# %%
def bias_attention(q, k, bias):
    return None  # your turn


_ = check("relative_attention/3", bias_attention)

# %% [markdown]
# <details><summary>Hint</summary>Give every query the same rows, <code>(1, h, t, l)</code>, and let <code>ref.relative_shift</code> do the rest.</details>
# <details><summary>Solution</summary>
#
# ```python
# def bias_attention(q, k, bias):
#     by_row = np.repeat(bias[None, :, None], q.shape[1], axis=2)
#     scores = ref.content_scores(q, k) / np.sqrt(q.shape[-1]) + ref.relative_shift(by_row, k.shape[1])
#     exp = np.exp(scores - scores.max(axis=-1, keepdims=True))
#     return exp / exp.sum(axis=-1, keepdims=True)
# ```
# </details>
#
# **To discuss.** What can a model with positions of distances alone not know about where a token stands? When would that hurt, and what would you add?
#
# ## Summary
#
# - Scores from distances do not change when the text moves, so states can be kept and what was learned holds further on.
# - Multiply each query with every distance, then shift: $t + s$ encodings instead of $t \cdot s$, and no gather.
# - Two streams let a token be predicted in any order: others read its content, its own query never knew it.
#
# **Further reading.** [Dai et al., 2019](https://arxiv.org/abs/1901.02860): the four terms, and the shift in appendix B. [Yang et al., 2019](https://arxiv.org/abs/1906.08237): two streams and relative segments.
# [Shaw et al., 2018](https://arxiv.org/abs/1803.02155): distances as learned vectors, before either. [Raffel et al., 2019](https://arxiv.org/abs/1910.10683): exercise 3.
