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
# # The transformer encoder block: mix, think, add, keep in bounds
#
# Attention mixes positions, a feed-forward network works on each position alone; what either finds is added to what was there, and a norm keeps the sum in bounds.
#
# Paper: [Vaswani et al., 2017, sections 3.1 and 3.3](https://arxiv.org/abs/1706.03762); [Xiong et al., 2020, section 3](https://arxiv.org/abs/2002.04745) · NumPy:
# [`reference/transformer_encoder.py`](../reference/transformer_encoder.py) · Layer: [`layers/transformer_encoder.py`](../layers/transformer_encoder.py) · 30 minutes ·
# You should know: [attention](attention.ipynb)

# %%
import inspect

import keras
import matplotlib.pyplot as plt
import numpy as np

from crosscheck.backends import differentiate
from crosscheck.case import TOLERANCE
from crosscheck.cases.transformer_encoder import CHAPTER
from crosscheck.lesson import figures
from crosscheck.lesson.counting import multiply_adds
from crosscheck.lesson.exercises import check
from crosscheck.weights import weights_of
from layers.transformer_encoder import TransformerEncoderBlock
from reference import transformer_encoder as ref
from reference.attention import AttentionWeights, multi_head_attention
from reference.common.normalization import LayerNorm, layer_norm
from reference.common.projection import Projection

figures.use_style()
rng = np.random.default_rng(0)

# %% [markdown]
# ## The question
#
# Why is attention not enough? Stack 16 layers with random weights and ask after each **how much of what the positions hold still differs between them**. Attention returns averages, and averages of averages
# are more and more alike.


# %%
def plain(m):
    return LayerNorm(np.ones(m), np.zeros(m))


def drawn(*shape, fan_in):
    return Projection(rng.normal(size=shape) / np.sqrt(fan_in))


def random_weights(m, h, f):
    """The weights of a block whose maps keep the size of what they are given."""
    into = [drawn(m, h, m // h, fan_in=m) for _ in range(3)]
    attention = AttentionWeights(*into, drawn(h, m // h, m, fan_in=m))
    return ref.EncoderWeights(attention, plain(m), drawn(m, f, fan_in=m), drawn(f, m, fan_in=f), plain(m))


def differing(x):
    """The share of the numbers' mean square that differs between positions."""
    return np.mean((x - x.mean(axis=1, keepdims=True)) ** 2) / np.mean(x**2)


# %%
stack = [random_weights(m=64, h=4, f=128) for _ in range(16)]
alone = added = whole = start = rng.normal(size=(4, 16, 64))
shares = [[differing(start)] * 3]
for w in stack:
    alone = multi_head_attention(alone, alone, w.self_attention)[0]
    added = added + multi_head_attention(added, added, w.self_attention)[0]
    whole = ref.transformer_encoder_block(whole, w, norm_first=True)[0]
    shares.append([differing(x) for x in (alone, added, whole)])

# %%
shares = np.array(shares)
fig, ax = plt.subplots()
for line, label in zip(shares.T, ("attention alone", "attention, added to its input", "encoder blocks (pre-norm)")):
    ax.semilogy(np.maximum(line, 1e-16), label=label)
ax.set(xlabel="layers", ylabel="share that differs\nbetween positions")
ax.legend()
plt.show()

# %% [markdown]
# Alone, attention makes all positions the same in three layers. Added to its input it still loses, but slowly; in whole blocks a good part of what the positions held is still there.

# %%
assert shares[3, 0] < 1e-9 and shares[3, 1] > 0.5
assert shares[-1, 1] < 0.01 and shares[-1, 2] > 0.15
print("after 3 layers, alone: less than a billionth; after 16, in blocks: more than 15 percent")

# %% [markdown]
# ## The equation
#
# $$\mathrm{FFN}(x) = \max(0,\, x W_1 + b_1)\, W_2 + b_2 \tag{1}$$
#
# $$\text{post-norm:}\quad y = \mathrm{LN}\big(x + \mathrm{MultiHead}(x, x, x)\big), \qquad z = \mathrm{LN}\big(y + \mathrm{FFN}(y)\big) \tag{2}$$
#
# $$\text{pre-norm:}\quad y = x + \mathrm{MultiHead}\big(\mathrm{LN}(x), \mathrm{LN}(x), \mathrm{LN}(x)\big), \qquad z = y + \mathrm{FFN}\big(\mathrm{LN}(y)\big) \tag{3}$$
#
# | symbol | name in the code | shape |
# |---|---|---|
# | $x$, $y$, $z$: the residual stream | `x`, `y`, `z` | `(b, t, m)` |
# | MultiHead | `weights.self_attention` | see [attention](attention.ipynb) |
# | $W_1, b_1$ | `weights.intermediate` | `(m, f)`, `(f,)` |
# | $W_2, b_2$ | `weights.output` | `(f, m)`, `(m,)` |
# | the two LN | `weights.self_attention_layer_norm`, `weights.output_layer_norm` | `(m,)` each for $\gamma$ and $\beta$ |
#
# (2) is what the paper writes, (3) what most models since have done. The letters are the same, the place of LN is not: in (3) nothing ever touches the sum itself.
#
# ## By hand
#
# A token $(3, 1)$ has mean 2 and standard deviation 1, so LN makes it $(1, -1)$. A feed-forward network with $W_1 = (2, -2)$ and $b_1 = (1, 1)$ takes the number 1 to $\max(0, (3, -1)) = (3, 0)$, and with
# $W_2 = (4, 5)^\top$, $b_2 = 6$ to $3 \cdot 4 + 6 = 18$.

# %%
inner = Projection(np.array([[2.0, -2.0]]), np.array([1.0, 1.0]))
outer = Projection(np.array([[4.0], [5.0]]), np.array([6.0]))
print(layer_norm(np.array([3.0, 1.0]), plain(2)).round(6), ref.feed_forward(np.array([1.0]), inner, outer))
assert np.allclose(layer_norm(np.array([3.0, 1.0]), plain(2)), [1, -1])
assert ref.feed_forward(np.array([1.0]), inner, outer).tolist() == [18]

# %% [markdown]
# ## In NumPy

# %%
print(inspect.getsource(ref.encode_one))

# %%
w, x = random_weights(m=12, h=3, f=7), rng.normal(size=(2, 5, 12))
output, _ = ref.transformer_encoder_block(x, w)
assert all(np.allclose(output[b, t], ref.encode_one(x[b], t, w)) for b, t in np.ndindex(2, 5))
print("position by position and all at once agree")

# %% [markdown]
# The order of the additions is all that pre-norm changes. Silence both sublayers, and what is left of (3) is $x$ itself; of (2), two norms.

# %%
silent = w.self_attention._replace(attention_output=Projection(np.zeros((3, 4, 12))))
silenced = w._replace(self_attention=silent, output=Projection(np.zeros((7, 12))))
assert np.array_equal(ref.transformer_encoder_block(x, silenced, norm_first=True)[0], x)
assert np.allclose(ref.transformer_encoder_block(x, silenced)[0], layer_norm(layer_norm(x, plain(12)), plain(12)))
print("pre-norm: the input itself; post-norm: the input normalized")

# %% [markdown]
# ## What it does
#
# **What happens to the size of the residual stream with depth?** The same 16 random blocks, once in each order.

# %%
sizes = []
for norm_first in (False, True):
    x, variances = start, [start.var()]
    for w in stack:
        x, _ = ref.transformer_encoder_block(x, w, norm_first=norm_first)
        variances.append(x.var())
    sizes.append(variances)

fig, ax = plt.subplots()
ax.plot(sizes[0], label="post-norm (2)")
ax.plot(sizes[1], label="pre-norm (3)")
ax.set(xlabel="blocks", ylabel="variance of the residual stream", ylim=(0, None))
ax.legend()
plt.show()

# %% [markdown]
# Post-norm resets it to 1 in every block. Pre-norm adds about the same amount each time, so it grows in a straight line, and each block is a smaller part of the whole than the one before. That is why a pre-norm stack ends
# with one more norm.

# %%
assert np.allclose(sizes[0][1:], 1, atol=1e-6)
line = np.polyfit(range(17), sizes[1], 1)
assert line[0] > 0.5 and np.corrcoef(range(17), sizes[1])[0, 1] > 0.99
print(f"pre-norm gains a variance of about {line[0]:.1f} a block")

# %% [markdown]
# **What does that do to gradients?** Xiong et al. bound the gradient of the last feed-forward network at the start of training (Theorem 1): in a post-norm stack the bound does not depend on the depth $L$, in a pre-norm stack it falls as
# $1/\sqrt L$. We measure: 16 tokens of 64 numbers each, random labels, cross-entropy.


# %%
class Stack(keras.layers.Layer):
    def __init__(self, depth, norm_first, **kwargs):
        super().__init__(**kwargs)
        options = dict(norm_first=norm_first, kernel_initializer="glorot_normal")
        self.blocks = [TransformerEncoderBlock(4, 256, "relu", **options, name=f"block_{i}") for i in range(depth)]
        self.last_norm = keras.layers.LayerNormalization(epsilon=1e-12) if norm_first else keras.layers.Identity()
        self.logits = keras.layers.Dense(64, kernel_initializer="glorot_normal")

    def call(self, x):
        for block in self.blocks:
            x = block(x)
        return self.logits(self.last_norm(x))


def gradient_norm(depth, norm_first):
    """Of the cross-entropy, with respect to the last block's W_2."""
    keras.utils.set_random_seed(1)
    model, labels = Stack(depth, norm_first), np.eye(64)[rng.integers(0, 64, (16, 16))]
    x = keras.ops.convert_to_tensor(tokens)
    cotangent = (keras.ops.convert_to_numpy(keras.ops.softmax(model(x))) - labels) / 256
    _, gradients, _ = differentiate(lambda layer, x: layer(x), model, {"x": x}, {"output": cotangent})
    return np.linalg.norm(next(g for path, g in gradients.items() if f"block_{depth - 1}/output/kernel" in path))


# %%
tokens = rng.normal(size=(16, 16, 64)).astype("float32")
depths = (2, 4, 8, 16, 32)
norms = np.array([[gradient_norm(depth, norm_first) for depth in depths] for norm_first in (False, True)])
slopes = [np.polyfit(np.log(depths), np.log(line), 1)[0] for line in norms]

# %%
fig, ax = plt.subplots()
ax.loglog(depths, norms[0], base=2, label="post-norm (2)")
ax.loglog(depths, norms[1], base=2, label="pre-norm (3)")
ax.loglog(depths, norms[1][0] * np.sqrt(2 / np.array(depths)), base=2, label=r"$\propto 1/\sqrt{L}$", marker="none")
ax.set(xlabel="blocks L", ylabel=r"$\|\partial\,\mathrm{loss} / \partial W_2\|$ of the last block")
ax.legend()
plt.show()

# %% [markdown]
# With depth the gradient at the last block of a post-norm stack does not fall, and that of a pre-norm stack does. Xiong et al. see in it why the paper's order needs a warm-up: large gradients near the output call for small steps at first.

# %%
print("slopes (post, pre):", [round(float(slope), 1) for slope in slopes])
assert slopes[0] > -0.1 and -0.6 < slopes[1] < -0.2
assert norms[0][-1] > 4 * norms[1][-1]

# %% [markdown]
# ## Does the layer agree?

# %%
errors = figures.agreement_plot(CHAPTER)

# %%
assert all(error < TOLERANCE[dtype] for by_dtype in errors.values() for dtype, error in by_dtype.items())
print("layer and reference agree in", ", ".join(TOLERANCE))

# %% [markdown]
# ## Where it breaks
#
# **The epsilon of the norm.** LN divides by $\sqrt{\text{variance} + \epsilon}$. BERT has $\epsilon = 10^{-12}$; the default of `keras.layers.LayerNormalization` is $10^{-3}$. A fresh BERT draws its embeddings with a standard
# deviation of 0.02: the variance of one, 0.0004, is *less* than that. Who forgets the argument gets tokens of the wrong size.

# %%
embedded = 0.02 * rng.normal(size=(1, 8, 512))
for epsilon in (1e-12, 1e-3):
    print(f"epsilon {epsilon:g}: standard deviation {layer_norm(embedded, plain(512), epsilon).std():.2f}")
assert abs(layer_norm(embedded, plain(512), 1e-3).std() - 0.02 / np.sqrt(0.02**2 + 1e-3)) < 0.01

# %% [markdown]
# **Two functions called GELU.** The exact one, which `"gelu"` means here, and a tanh that comes near, which BERT's own code had, and which is `"gelu_tanh"` here. Weights trained with one run with the other, a little off.

# %%
grid = np.linspace(-5, 5, 1001)
exact, near = (
    keras.ops.convert_to_numpy(TransformerEncoderBlock(1, 1, name).inner_activation(grid)) for name in ("gelu", "gelu_tanh")
)
print("largest difference between them:", f"{np.abs(exact - near).max():.1e}")
assert 4e-4 < np.abs(exact - near).max() < 5e-4

# %% [markdown]
# **Differs from the paper.** The activation is a choice; the norms may be RMS norms; keys and values may come from elsewhere; and several query heads may share one head of keys and values. Sharing is the same as repeating
# the shared heads by hand, which the tests check.
#
# ## What it costs
#
# For each example, with $n$ tokens and $h\,d = m$: attention's four projections are $4 n m^2$ multiply-adds, scores and mixture $2 n^2 m$, the feed-forward network $2 n m f$. Parameters: $4m^2 + 4m$, $2 m f + f + m$, and
# $4m$ in the norms.

# %%
n, m, h, f = 5, 12, 3, 48
block = TransformerEncoderBlock(h, f, "relu", dtype="float64")
block.build((None, None, m))
with multiply_adds() as counted:
    ref.transformer_encoder_block(rng.normal(size=(1, n, m)), weights_of(block, ref.EncoderWeights))

assert sum(counted) == 4 * n * m**2 + 2 * n**2 * m + 2 * n * m * f
assert block.count_params() == 4 * m**2 + 4 * m + 2 * m * f + f + m + 4 * m
bert = TransformerEncoderBlock(num_attention_heads=12, inner_dim=3072, inner_activation="gelu")
bert.build((None, None, 768))
print(f"a block of BERT base: {bert.count_params():,} parameters; twelve of them: {12 * bert.count_params():,}")
assert 12 * bert.count_params() == 85_054_464

# %%
n, m = 2 ** np.arange(6, 14), 768
parts = np.stack([4 * n * m**2, 2 * n**2 * m, 8 * n * m**2])
fig, ax = plt.subplots()
for part, label in zip(parts / parts.sum(axis=0), ("projections", "scores and mixture", "feed-forward, f = 4 m")):
    ax.semilogx(n, part, base=2, label=label)
ax.set(xlabel="length n", ylabel="share of the multiply-adds", ylim=(0, 1), title="a block of BERT base, m = 768")
ax.legend()
plt.show()

# %% [markdown]
# At BERT's 512 tokens three fifths of the work is the feed-forward network, the part with no attention in it at all. Scores and mixture overtake it at $n = 4m$.

# %%
shares = dict(zip(n.tolist(), (parts / parts.sum(axis=0)).T))
assert np.isclose(shares[512][2], 3 / 5)
assert 2 * (4 * m) ** 2 * m == 8 * (4 * m) * m**2

# %% [markdown]
# ## Exercises
#
# **1** (easy, 5 minutes). RMS norm: LN without the mean and without $\beta$, along the last axis of an array of any rank, with ε = 10⁻¹² below the root; `scale` is `(m,)`.


# %%
def rms_norm(x, scale):
    return None  # your turn


_ = check("transformer_encoder/1", rms_norm)

# %% [markdown]
# <details><summary>Hint</summary>Divide by the root of the mean square, along the last axis.</details>
# <details><summary>Solution</summary><code>scale * x / np.sqrt(np.mean(x**2, axis=-1, keepdims=True) + 1e-12)</code></details>
#
# **2** (medium, 15 minutes). A pre-norm stack of feed-forward blocks: for each pair `(w1, w2)` of `blocks`, add relu(LN(x) w1) w2 to `x` `(t, m)`; at the end, one more norm. LN has neither γ nor β here, and ε = 10⁻¹².


# %%
def pre_norm_stack(x, blocks):
    return None  # your turn


_ = check("transformer_encoder/2", pre_norm_stack)

# %% [markdown]
# <details><summary>Hint</summary>The sum is never normalized until the end: each block reads a normalized copy.</details>
# <details><summary>Solution</summary>
#
# ```python
# def pre_norm_stack(x, blocks):
#     def norm(x):
#         centered = x - x.mean(axis=-1, keepdims=True)
#         return centered / np.sqrt((centered**2).mean(axis=-1, keepdims=True) + 1e-12)
#
#     for w1, w2 in blocks:
#         x = x + np.maximum(norm(x) @ w1, 0) @ w2
#     return norm(x)
# ```
# </details>
#
# **3** (hard, 20 minutes). Shared key heads: `q` is `(b, t, h, d)`, `k` is `(b, s, g, d)` and `v` is `(b, s, g, e)`, with `h` a multiple of `g`; the first `h / g` heads share key head 0, and so on. Return the outputs `(b, t, h, e)` without copying keys for each head.


# %%
def grouped(q, k, v):
    return None  # your turn


_ = check("transformer_encoder/3", grouped)

# %% [markdown]
# <details><summary>Hint</summary>Split the axis <code>h</code> of <code>q</code> into <code>g</code> groups; give the place within a group a letter of its own.</details>
# <details><summary>Solution</summary>
#
# ```python
# def grouped(q, k, v):
#     b, t, h, d = q.shape
#     g = k.shape[2]
#     scores = np.einsum("btgid,bsgd->bgits", q.reshape(b, t, g, h // g, d), k) / np.sqrt(d)
#     p = np.exp(scores - scores.max(axis=-1, keepdims=True))
#     p = p / p.sum(axis=-1, keepdims=True)
#     return np.einsum("bgits,bsge->btgie", p, v).reshape(b, t, h, -1)
# ```
# </details>
#
# **To discuss.** Post-norm was in the first paper, and nearly all large models now are pre-norm. What would you measure in a stack of 48 blocks, at its start and after training, to see what has changed?
#
# ## Summary
#
# - Attention mixes positions; added to the residual stream, and followed by a feed-forward network, it does so without making them all the same.
# - Post-norm keeps the stream at one size and the last gradients large; pre-norm lets the stream grow in a line and needs a norm at the end.
# - At ordinary lengths the feed-forward network is most of the parameters and most of the work.
#
# **Further reading.** [Vaswani et al., 2017](https://arxiv.org/abs/1706.03762): the block. [Xiong et al., 2020](https://arxiv.org/abs/2002.04745): why the order matters at the start. [Dong et al.,
# 2021](https://arxiv.org/abs/2103.03404): how fast attention alone loses what differs. [Ainslie et al., 2023](https://arxiv.org/abs/2305.13245): query heads that share keys and values.
