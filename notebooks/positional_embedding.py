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
# # Positions: rows, waves and distances
#
# Attention sees a bag of tokens. Three ways to tell it about order: a learned row for each position, a wave for each column, a bias for each distance.
#
# Papers: [Devlin et al., 2018, section 3](https://arxiv.org/abs/1810.04805), [Vaswani et al., 2017, section 3.5](https://arxiv.org/abs/1706.03762), [Raffel et al., 2019, section 2.1](https://arxiv.org/abs/1910.10683) · NumPy:
# [`reference/positional_embedding.py`](../reference/positional_embedding.py) · Layers: [`layers/positional_embedding/`](../layers/positional_embedding/__init__.py) · 30 minutes · You should know: [attention](attention.ipynb)

# %%
import inspect
import re

import keras
import matplotlib.pyplot as plt
import numpy as np
from keras import ops

from crosscheck.case import TOLERANCE
from crosscheck.cases.positional_embedding import CHAPTER
from crosscheck.lesson import figures
from crosscheck.lesson.exercises import check
from layers.on_device_embedding import OnDeviceEmbedding
from layers.positional_embedding import PositionalEmbedding, RelativePositionBias, RelativePositionEmbedding
from reference import positional_embedding as ref
from reference.masked_softmax import masked_softmax

figures.use_style()
rng = np.random.default_rng(0)

# %% [markdown]
# ## The question
#
# "Dog bites man" and "man bites dog": **what does attention make of the word "bites" in each?** Every word gets a random vector, and attends to all of them. Once as they are, once with waves added.

# %%
words = {word: rng.normal(size=8) for word in ("dog", "bites", "man")}


def read(sentence, positions):
    """What attention gives each word, queries, keys and values being the words themselves."""
    x = np.stack([words[word] for word in sentence.split()]) + positions
    return masked_softmax(x @ x.T / np.sqrt(8)) @ x


def bites(positions):
    return [read(sentence, positions)[1] for sentence in ("dog bites man", "man bites dog")]


fig, axes = plt.subplots(1, 2, figsize=(8.5, 2.8), sharey=True)
waves = ref.interleaved(np.arange(3), 8)
for ax, positions, title in zip(axes, (0 * waves, waves), ("without positions", "with waves added")):
    for offset, output, hatch in zip((-0.2, 0.2), bites(positions), ("", "//")):
        name = "man bites dog" if hatch else "dog bites man"
        ax.bar(np.arange(8) + offset, output, 0.4, hatch=hatch, edgecolor="black", label=name)
    ax.set(title=title, xlabel="column of the output for “bites”")
axes[0].set_ylabel("value")
axes[1].legend(fontsize="small")
plt.show()

# %% [markdown]
# Without positions the bars are equal: attention cannot know who bit whom. With them it can.

# %%
assert np.allclose(*bites(0 * waves), atol=1e-12) and not np.allclose(*bites(waves), atol=0.01)

# %% [markdown]
# ## The equation
#
# $$ y_t = P_t \quad (1) \qquad y_{t,2i} = \sin \omega_i t, \quad y_{t,2i+1} = \cos \omega_i t, \quad \omega_i = 10000^{-2i/m} \quad (2) $$
#
# $$ y_t = [\sin \omega_0 t, \dots, \sin \omega_{k-1} t, \cos \omega_0 t, \dots, \cos \omega_{k-1} t], \quad k = m/2, \quad \omega_i = 10000^{-i/(k-1)} \quad (3) $$
#
# $$ \mathrm{score}_{h,t,s} = \frac{q_t \cdot k_s}{\sqrt d} + B_{\mathrm{bucket}(s - t),\, h} \quad (5) $$
#
# | symbol | in code | shape |
# |---|---|---|
# | $P$ | `embeddings` of `PositionalEmbedding` | `(max_length, m)` |
# | $\omega$ | `frequencies(...)` | `(m / 2,)` |
# | $B$ | `embeddings` of `RelativePositionBias` | `(buckets, h)` |
#
# (2) is in the paper; (3) is in the code that its authors published, Tensor2Tensor. The numbering is the reference's, where (4) is the rotation and (6) the bucket, both below.
#
# ## By hand
#
# Four columns, position 3. By (2) the timescales are 1 and 100: sin 3, cos 3, sin 0.03, cos 0.03. By (3) they are 1 and 10000.

# %%
paper, other = ref.interleaved(np.array([3]), 4)[0], ref.concatenated(np.array([3]), 4)[0]
print(np.round(paper, 4), np.round(other, 4))
assert np.allclose(paper, [np.sin(3), np.cos(3), np.sin(0.03), np.cos(0.03)])
assert np.allclose(other, [np.sin(3), np.sin(0.0003), np.cos(3), np.cos(0.0003)])

# %% [markdown]
# A bucket with pencil, 16 of them for each side: up to distance 7 each has its own, and the rest of the way to 128 is cut into 8 steps of equal ratio. Distance 16 is $8 + \lfloor 8 \log 2 / \log 16 \rfloor = 8 + 2$.

# %%
print([ref.bucket(n) for n in (0, -1, -7, -8, -16, 1, 16)])
assert ref.bucket(-16) == 10 and ref.bucket(16) == 16 + 10 and ref.bucket(-7) == 7

# %% [markdown]
# ## In NumPy

# %%
print(inspect.getsource(ref.interleaved))
print(inspect.getsource(ref.place))
table = ref.interleaved(np.arange(9), 6)
for t, i in np.ndindex(9, 3):
    assert np.allclose(table[t, 2 * i : 2 * i + 2], ref.wave(t, 10000 ** (-2 * i / 6)))
print("entry by entry and all at once agree")

# %% [markdown]
# ## What it does
#
# **Are the two conventions the same columns in another order?** We draw both.

# %%
positions, m = np.arange(64), 32
fig, axes = plt.subplots(1, 2, figsize=(8.5, 3.2), sharey=True)
for ax, form in zip(axes, (ref.interleaved, ref.concatenated)):
    image = ax.imshow(form(positions, m), aspect="auto", vmin=-1, vmax=1)
    ax.set(title=form.__name__, xlabel="column")
    ax.grid(False)
axes[0].set_ylabel("position t")
fig.colorbar(image, ax=axes, label="value")
plt.show()

# %% [markdown]
# No: apart from the order, the wavelengths differ. Tensor2Tensor's ladder reaches 10000, the paper's stops one step before. A learned map can undo the order, but not the wavelengths: weights trained with one go with that one only. The layer follows the paper, and gives
# the other with `convention="concatenated"`.

# %%
second = ref.interleaved(np.array([1]), 8)[0, 2], ref.concatenated(np.array([1]), 8)[0, 1]
print("second sine at position 1, of 8 columns:", *(f"{sine:.4f}" for sine in second))
assert np.round(second, 4).tolist() == [0.0998, 0.0464]
layer = {name: RelativePositionEmbedding(8, convention=name, dtype="float64") for name in ("interleaved", "concatenated")}
assert np.allclose(layer["interleaved"](None, length=2)[1, 2], second[0])
assert np.allclose(layer["concatenated"](None, length=2)[1, 1], second[1])

# %% [markdown]
# **Why waves?** The paper hopes that a model finds "$k$ places back" easily, because $y_{t+k}$ is a linear function of $y_t$, the same one for every $t$: each pair turns by the angle $\omega_i k$, equation (4). And so the product of two positions depends on their distance alone.

# %%
table, k = ref.interleaved(np.arange(200), m), 17
assert np.allclose(table[k:], table[:-k] @ ref.rotation(k, m).T, atol=1e-12)
assert np.allclose(ref.rotation(k, m) @ ref.rotation(k, m).T, np.eye(m), atol=1e-12)
products = table @ table.T
assert np.allclose(products[30:, 30:], products[:-30, :-30], atol=1e-10)
print("a shift by 17 is one rotation for 183 positions")

# %% [markdown]
# **Which distances can T5 tell apart?** For each distance, its bucket.

# %%
distances = np.arange(-160, 161)
fig, ax = plt.subplots()
for both_ways, label in ((True, "both ways"), (False, "looking back")):
    buckets = [ref.bucket(int(n), both_ways=both_ways) for n in distances]
    ax.plot(distances, buckets, markevery=20, drawstyle="steps-mid", label=label)
ax.set(xlabel="distance n = s − t, key position minus query position", ylabel="bucket")
ax.legend()
plt.show()

# %% [markdown]
# Fine near the query, coarse far away. "Up to 128" says the paper; as its code rounds, the last bucket begins at 91. And both ways, one of the 32 is never used: distance zero lies on the side of the keys behind.

# %%
both = {ref.bucket(int(n)) for n in distances}
assert both == set(range(32)) - {16} and {ref.bucket(int(n), both_ways=False) for n in distances} == set(range(32))
assert ref.bucket(-90) == 14 and ref.bucket(-91) == 15 == ref.bucket(-10_000)
print("buckets used:", len(both), "of 32")

# %% [markdown]
# **What happens beyond the length of the training texts?** The task: at each place, say the word before. One layer of attention trains on texts of 16 words and then reads 32, with each kind of position and with none.


# %%
class Reader(keras.Model):
    def __init__(self, kind, n=16, m=32, h=4):
        super().__init__()
        self.token = OnDeviceEmbedding(n, m)
        self.place = {"learned": PositionalEmbedding(64), "waves": RelativePositionEmbedding(m)}.get(kind)
        self.bias = RelativePositionBias(h) if kind == "T5" else None
        self.heads = [keras.layers.EinsumDense("btm,mhd->bhtd", (h, None, m // h)) for _ in range(3)]
        self.joined = keras.layers.EinsumDense("bhtd,hdm->btm", (None, m))
        self.logits = keras.layers.Dense(n)

    def call(self, ids):
        x = self.token(ids)
        if self.place is not None:
            x = x + self.place(x)
        q, k, v = (into(x) for into in self.heads)
        scores = ops.einsum("bhtd,bhsd->bhts", q, k) / q.shape[-1] ** 0.5
        if self.bias is not None:
            scores = scores + self.bias(x, x)
        return self.logits(x + self.joined(ops.einsum("bhts,bhsd->bhtd", ops.softmax(scores), v)))


# %%
kinds = {"no positions": "none", "learned rows": "learned", "waves": "waves", "T5's bias": "T5"}
texts, tests = rng.integers(0, 16, (300 * 64, 17)), rng.integers(0, 16, (400, 33))
entropy = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
right = {}
for name, kind in kinds.items():
    keras.utils.set_random_seed(0)
    model = Reader(kind)
    model.compile(keras.optimizers.Adam(1e-2), entropy, steps_per_execution=100, jit_compile=False)
    model.fit(texts[:, 1:], texts[:, :-1], batch_size=64, shuffle=False, verbose=0)
    found = {length: np.argmax(model(tests[:, 1 : length + 1]), axis=-1) for length in (16, 32)}
    # Nothing stands before the first word, so what came before it is not to be known.
    right[name] = {length: (guess == tests[:, :length])[:, 1:].mean(axis=0) for length, guess in found.items()}

# %%
fig, ax = plt.subplots(figsize=(6.5, 3.6))
for name, by_length in right.items():
    ax.plot(np.arange(1, 32), by_length[32], markevery=3, label=name)
ax.axvline(15.5, color="black", linestyle=":", marker="none")
ax.axhline(1 / 16, color="black", linewidth=0.8, marker="none")
ax.set(xlabel="position t in texts of 32 (left of the dots: seen in training; line: chance)", ylabel="fraction right")
ax.legend(fontsize="small")
plt.show()

# %% [markdown]
# All but the blind one read 16 words without fault. In 32, the learned rows beyond 15 are as random as they started, and the reader is lost there. Waves go on by a rule, but the reader has not learned the rule from so little. A bias for distances meets nothing new: one place back is one place back.

# %%
beyond = {name: by_length[32][15:].mean() for name, by_length in right.items()}
trained = {name: by_length[16].mean() for name, by_length in right.items()}
mean = {name: by_length[32].mean() for name, by_length in right.items()}
print("read without fault at 16:", [name for name, value in trained.items() if value > 0.95])
print("at 32, T5's bias leads by more than 0.2:", bool(mean["T5's bias"] > 0.2 + max(mean["learned rows"], mean["waves"])))
assert min(trained[name] for name in list(kinds)[1:]) > 0.95 and trained["no positions"] < 0.4
assert mean["T5's bias"] > 0.2 + max(mean["learned rows"], mean["waves"])
assert beyond["learned rows"] < 0.4 and beyond["T5's bias"] > 0.7

# %% [markdown]
# ## Does the layer agree?

# %%
errors = figures.agreement_plot(CHAPTER)
assert all(error <= TOLERANCE[dtype] for by_dtype in errors.values() for dtype, error in by_dtype.items())
print("layers and reference agree in", ", ".join(TOLERANCE))

# %% [markdown]
# ## Where it breaks
#
# **A text that is too long.** There is no row for it; the layer says so and takes no other.
#
# **Angles in few bits.** A wave's angle is $\omega t$, and a float32 has 24 bits for it: the further on in the text, the fewer are left behind the point. In float16 not even the positions can be counted. How far off is a sine that is taken of such an angle, and how far the layer?

# %%
try:
    PositionalEmbedding(16)(np.zeros((1, 17, 4)))
except ValueError as error:
    print(re.search("inputs must not.*length 17", str(error))[0])
else:
    raise AssertionError("a row was found for position 16")

# %%
lengths = 2 ** np.arange(4, 17)
exact = ref.interleaved(np.arange(lengths[-1]), 32)
omega = ref.frequencies(16, 16.0).astype("float32")
angles = np.arange(lengths[-1], dtype="float32")[:, None] * omega
off = np.abs(np.sin(angles) - exact[:, 0::2]).max(axis=1)
ours = np.abs(np.asarray(RelativePositionEmbedding(32)(None, length=int(lengths[-1]))) - exact).max(axis=1)

fig, ax = plt.subplots()
for error, label in ((off, "sine of an angle in float32"), (ours, "the layer in float32")):
    ax.loglog(lengths, [error[:length].max() for length in lengths], base=2, label=label)
ax.set(xlabel="length of the text", ylabel="largest error")
ax.legend()
plt.show()

# %% [markdown]
# The angle's error grows with the position. The layer's does not: it takes the sines of a position's digits from a table and *rotates* one by the other. Equation (4) is not only why the waves are there, but also how to compute them.
#
# **Corners.** Two columns are one wave, and (3) would divide zero by zero; an odd number of columns leaves a sine without its cosine; and a `min_timescale` of 2 makes everything twice as slow, where the Model Garden makes it faster.
#
# **Differs from the paper.** The timescales may be chosen. T5's buckets are counted in integers, so that no logarithm of zero is taken and none is rounded to the wrong side of 16, 32 or 64.

# %%
assert off.max() > 5e-4 and ours.max() < 4e-7
sin, cos = ref.wave(3, 0.7)
far_sin, far_cos = ref.wave(512, 0.7)
assert np.allclose(ref.wave(515, 0.7), (sin * far_cos + cos * far_sin, cos * far_cos - sin * far_sin), atol=1e-12)

# %%
for convention in ("interleaved", "concatenated"):
    columns = {m: RelativePositionEmbedding(m, convention=convention)(None, length=5) for m in (2, 3, 7)}
    assert all(table.shape == (5, m) and np.isfinite(table).all() for m, table in columns.items())
slow, fast = ref.interleaved(np.arange(10), 8, 2.0, 2e4), ref.interleaved(np.arange(5), 8)
assert np.allclose(slow[::2], fast)

# %% [markdown]
# ## What it costs
#
# Learned rows are $\mathrm{max\_length} \cdot m$ parameters, waves none, T5's bias $32 h$ for all layers together. The first two are added once, $t m$ additions; the bias is added to the scores of every layer, and is a table of $h\,t\,s$ numbers.

# %%
x, h = np.zeros((2, 20, 24)), 4
layers = PositionalEmbedding(512), RelativePositionEmbedding(24), RelativePositionBias(h)
outputs = layers[0](x), layers[1](x), layers[2](x, x)
print("parameters:", [layer.count_params() for layer in layers], " bytes:", [np.asarray(output).nbytes for output in outputs])
assert [layer.count_params() for layer in layers] == [512 * 24, 0, 32 * h]
assert [np.asarray(output).nbytes for output in outputs] == [4 * 2 * 20 * 24, 4 * 20 * 24, 4 * h * 20 * 20]
lengths = 2 ** np.arange(5, 14)
fig, ax = plt.subplots()
for cost, label in ((768 * lengths, "rows or waves, m = 768"), (12 * lengths**2, "bias, h = 12")):
    ax.loglog(lengths, 4 * cost, base=2, label=label)
ax.axvline(64, color="black", linestyle=":", marker="none", label="t = m / h")
ax.set(xlabel="length t = s", ylabel="bytes, float32")
ax.legend()
plt.show()

# %% [markdown]
# The bias grows with the square, like the scores it is added to. From $t = m / h$ on it is the larger.
#
# ## Exercises
#
# **1** (easy, 5 minutes). The `m` waves of position `t`, equation (2) as in the paper; `m` is even.


# %%
def waves_of(t, m):
    return None  # your turn


_ = check("positional_embedding/1", waves_of)

# %% [markdown]
# <details><summary>Hint</summary><code>np.stack</code> along a last axis and <code>ravel</code> interleave.</details>
# <details><summary>Solution</summary><code>a = t / 10000 ** (np.arange(0, m, 2) / m); return np.stack([np.sin(a), np.cos(a)], axis=-1).ravel()</code></details>
#
# **2** (medium, 10 minutes). The rows `y` `(t, m)` are the paper's waves at positions that you are not told. Return the rows `k` places later; a negative `k` is earlier.


# %%
def later(y, k):
    return None  # your turn


_ = check("positional_embedding/2", later)

# %% [markdown]
# <details><summary>Hint</summary>Read a pair as the complex number cos + i sin: then a turn is a product.</details>
# <details><summary>Solution</summary>
#
# ```python
# def later(y, k):
#     m = y.shape[1]
#     turned = (y[:, 1::2] + 1j * y[:, ::2]) * np.exp(1j * k / 10000 ** (np.arange(0, m, 2) / m))
#     return np.stack([turned.imag, turned.real], axis=-1).reshape(y.shape)
# ```
# </details>
#
# **3** (hard, 15 minutes). Equation (6), both ways, for an array `n` of distances: the numbers of their buckets, of which there are `buckets`, for distances up to `most`. No loop over `n`.


# %%
def buckets_of(n, buckets, most):
    return None  # your turn


_ = check("positional_embedding/3", buckets_of)

# %% [markdown]
# <details><summary>Hint</summary>Beyond <code>most</code> nothing changes, so a table of that length is enough. With a logarithm instead, mind what rounding does to 16, 32 and 64.</details>
# <details><summary>Solution</summary>
#
# ```python
# def buckets_of(n, buckets, most):
#     table = np.array([ref.place(distance, buckets // 2, most) for distance in range(most + 1)])
#     return buckets // 2 * (n > 0) + table[np.minimum(np.abs(n), most)]
# ```
# </details>
#
# **To discuss.** A model was trained on texts of 512 tokens and has to read 2,000. For learned rows, for waves and for T5's bias: what happens at position 600, and what would you change?
#
# ## Summary
#
# - Attention without positions cannot tell "dog bites man" from "man bites dog".
# - Two sinusoids go by one name, with other wavelengths; in both, a shift is a rotation.
# - Trained at 16 and tested at 32, a bias for distances goes on reading; learned rows end where training did.
#
# **Further reading.** [Shaw et al., 2018](https://arxiv.org/abs/1803.02155): the first relative positions. [Su et al., 2021](https://arxiv.org/abs/2104.09864): the rotation, applied to queries and keys. [Press et al., 2021](https://arxiv.org/abs/2108.12409): a bias without parameters, made for longer texts.
# [Relative attention](relative_attention.ipynb): waves of distances inside the scores.
