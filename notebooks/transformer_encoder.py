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
# # The transformer encoder block
#
# Attention mixes positions, and a feed-forward network works on each position alone. What either finds is added to what was there; a norm, before or after, keeps the numbers at one size.
#
# Paper: [Vaswani et al., 2017, sections 3.1 and 3.3](https://arxiv.org/abs/1706.03762); [Xiong et al., 2020, section 3](https://arxiv.org/abs/2002.04745) · NumPy:
# [`reference/transformer_encoder.py`](../reference/transformer_encoder.py) · Layer: [`layers/transformer_encoder`](../layers/transformer_encoder/__init__.py) · 40 minutes ·
# You should know: [attention](attention.ipynb)

# %% tags=["hide-input"] jupyter={"source_hidden": true}
import inspect

import keras
import matplotlib.pyplot as plt
import numpy as np

from crosscheck.cases.transformer_encoder import CHAPTER
from crosscheck.lesson import figures
from crosscheck.lesson.counting import multiply_adds
from crosscheck.lesson.diagram import Box, diagram
from crosscheck.lesson.exercises import check
from crosscheck.models import minilm
from crosscheck.weights import weights_of
from experiments import transformer_encoder as experiment
from experiments.common import reader
from experiments.common.results import stored
from experiments.transformer_encoder import learning, stacks
from layers.transformer_encoder import TransformerEncoderBlock
from reference import transformer_encoder as ref
from reference.attention import multi_head_attention
from reference.common.normalization import layer_norm
from reference.common.projection import Projection

figures.use_style()
rng = np.random.default_rng(0)
results = stored("transformer_encoder")

# %% [markdown]
# ## The question
#
# Why is attention not enough? Attention returns averages of values, and averages of averages are more and more alike. We let random vectors, 16 tokens of 64 numbers, go through 16 attention layers with random weights, and measure after
# each layer **what share of the numbers' mean square still differs between tokens**. Then the same with whole blocks.


# %%
def differing(x):
    return np.mean((x - x.mean(axis=1, keepdims=True)) ** 2) / np.mean(x**2)


layers = [stacks.draw_block(rng, m=64, h=4, f=128) for _ in range(16)]
alone = blocks = rng.normal(size=(4, 16, 64))
shares = [(differing(alone), differing(blocks))]
for w in layers:
    alone = multi_head_attention(alone, alone, w.self_attention)[0]
    blocks = ref.transformer_encoder_block(blocks, w, norm_first=True)[0]
    shares.append((differing(alone), differing(blocks)))

# %%
shares = np.maximum(shares, 1e-16)
fig, ax = plt.subplots(figsize=(6.5, 2.8))
for line, label, up in zip(shares.T, ("attention alone", "encoder blocks, norms first"), (8, -14)):
    (drawn,) = ax.semilogy(line)
    ax.annotate(label, (10, line[10]), (0, up), textcoords="offset points", color=drawn.get_color(), ha="center")
ax.set(xlabel="layers", ylabel="share that differs\nbetween tokens", ylim=(1e-17, 10))
ax.set_title("attention alone makes all tokens alike in a few layers (1e-16: rounding)")
figures.show()
print("after 1, 2, 3 layers of attention alone:", *(f"{share:.0e}" for share in shares[1:4, 0]))
print(f"after 16 blocks: {shares[-1, 1]:.2f}")

# %% [markdown]
# Alone, attention leaves nothing after a few layers: no later layer can tell the tokens apart. A block has three more parts: residual connections, norms, and a feed-forward network. Which of them keeps tokens different? We come
# back to that under "What it does"; the answer is not the obvious one.
#
# ## The picture


# %% tags=["hide-input"] jupyter={"source_hidden": true}
def column(order, at, *texts):
    """Boxes one above the other, from the block's input to its output."""
    kinds = {"x": "data", "z": "data", "MultiHead": "map", "FFN": "map"}
    return {f"{order}{row}": Box(text, at, row, kinds.get(text, "op"), width=0.85) for row, text in enumerate(texts)}


boxes = column("post", 0, "x", "MultiHead", "+", "LN", "FFN", "+", "LN", "z")
boxes |= column("pre", 2.0, "x", "LN", "MultiHead", "+", "LN", "FFN", "+", "z")
boxes |= {"left": Box("post-norm, the paper's", 0, 7.6, "data"), "right": Box("pre-norm", 2.0, 7.6, "data")}
boxes["edge"] = Box("", 2.5, 0, "data")
arrows = [(f"{o}{row}", f"{o}{row + 1}", "(b, t, m)" if row == 6 else "") for o in ("post", "pre") for row in range(7)]
arrows += [("post0", "post2", "(b, t, m)", 1.4), ("post3", "post5", "(b, t, m)", 1.4)]
arrows += [("pre0", "pre3", "(b, t, m)", 0.8), ("pre3", "pre6", "(b, t, m)", 0.8)]
diagram(boxes, arrows)
figures.show()

# %% [markdown]
# Every arrow is an array `(b, t, m)`. On the right, a path leads from the input to the output that only additions touch: the **residual stream**. On the left, two norms interrupt it. LN (layer norm) subtracts a token's mean, divides by its standard
# deviation, and has a trained scale γ and shift β.
#
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
# | $x$, $y$, $z$ | `x`, `y`, `z` | `(b, t, m)` |
# | MultiHead | `weights.self_attention` | see [attention](attention.ipynb) |
# | $W_1, b_1$ | `weights.intermediate` | `(m, f)`, `(f,)` |
# | $W_2, b_2$ | `weights.output` | `(f, m)`, `(m,)` |
# | the two LN | `weights.self_attention_layer_norm`, `weights.output_layer_norm` | `(m,)` each for $\gamma$ and $\beta$ |
#
# (2) is what the paper writes, and (3) what most models since have done. A stack of (3) ends with one more LN.
#
# ## By hand
#
# A token $(3, 1)$ has mean 2 and standard deviation 1, so LN makes it $(1, -1)$. A feed-forward network with $W_1 = (2, -2)$ and $b_1 = (1, 1)$ takes the number 1 to $\max(0, (3, -1)) = (3, 0)$, and with
# $W_2 = (4, 5)^\top$, $b_2 = 6$ to $3 \cdot 4 + 6 = 18$.

# %%
inner = Projection(np.array([[2.0, -2.0]]), np.array([1.0, 1.0]))
outer = Projection(np.array([[4.0], [5.0]]), np.array([6.0]))
normed = layer_norm(np.array([3.0, 1.0]), stacks.plain(2))
print("LN:", normed.round(6), " FFN:", ref.feed_forward(np.array([1.0]), inner, outer))
assert np.allclose(normed, [1, -1]) and ref.feed_forward(np.array([1.0]), inner, outer).tolist() == [18]

# %% [markdown]
# ## In NumPy
#
# **The feed-forward network** of one token is two matrix products with a ReLU between them. All tokens go through the same one, so a matrix of tokens is no more work to write.

# %%
w, x = stacks.draw_block(rng, m=12, h=3, f=7), rng.normal(size=(2, 5, 12))


def ffn(x):
    return np.maximum(x @ w.intermediate.kernel, 0) @ w.output.kernel


one_by_one = np.stack([ffn(token) for token in x[0]])
print("a token", ffn(x[0, 0]).shape, " all tokens", ffn(x).shape)
assert np.allclose(one_by_one, ffn(x)[0])

# %% [markdown]
# **A norm** works on each token by itself, too.


# %%
def norm(x):
    centered = x - x.mean(axis=-1, keepdims=True)
    return centered / np.sqrt((centered**2).mean(axis=-1, keepdims=True) + 1e-12)


print("mean of a token", norm(x)[0, 0].mean().round(6) + 0, "variance", norm(x)[0, 0].var().round(6))

# %% [markdown]
# **Attention** is the only part in which tokens meet. With it, equations (2) and (3) are two lines each.


# %%
def attention(x):
    return multi_head_attention(x, x, w.self_attention)[0]


y = norm(x + attention(x))
post = norm(y + ffn(y))
y = x + attention(norm(x))
pre = y + ffn(norm(y))

# %%
found = {first: ref.transformer_encoder_block(x, w, norm_first=first)[0] for first in (False, True)}
error = max(np.abs(found[False] - post).max(), np.abs(found[True] - pre).max())
print("largest difference to the reference: below", figures.power_above(max(error, 1e-16)))
assert np.allclose(found[False], post, atol=1e-12) and np.allclose(found[True], pre, atol=1e-12)

# %% [markdown]
# The reference is this, with trained norms, masks and other activations; and a definition for one position.

# %%
source = inspect.getsource(ref.transformer_encoder_block)
print(source[source.index("    if norm_first:") :])

# %%
assert all(np.allclose(found[False][b, t], ref.encode_one(x[b], t, w)) for b, t in np.ndindex(2, 5))
silent = w._replace(
    self_attention=w.self_attention._replace(attention_output=Projection(np.zeros((3, 4, 12)))),
    output=Projection(np.zeros((7, 12))),
)
pre, post = (ref.transformer_encoder_block(x, silent, norm_first=first)[0] for first in (True, False))
print(
    f"both sublayers silent: pre-norm changes x by {np.abs(pre - x).max():.0f}, post-norm by up to {np.abs(post - x).max():.1f}"
)
assert np.array_equal(pre, x)

# %% [markdown]
# With nothing added, a pre-norm block is the identity. A post-norm block is not: it still normalizes.
#
# ## What it does
#
# **What keeps tokens different?** We remove the residual connections, the feed-forward network, and the norms, each alone and together, and put the norms in either place: twelve kinds of block, 16 of each with random weights as
# our layer draws them, five seeds. [Dong et al., 2021](https://arxiv.org/abs/2103.03404) write in their abstract that residual connections and feed-forward networks stop the collapse.
#
# There is something to compare with that has no fitted number. Suppose that attention gives equal weights and that all sizes are large. Then two numbers say everything: the mean square of a token, $q$, and the mean
# product of two tokens, $p$. Attention adds the same vector to every token, so both grow by $q/t + p(t-1)/t$. A norm divides both by $q$. A ReLU network adds to $q$ and, less, to $p$, by a known function of $p/q$. This is `expected`:

# %%
print(inspect.getsource(stacks.expected).split('"""')[-1])

# %%
distinct = results["distinct"]
fig, ax = plt.subplots(figsize=(7.5, 4.2))
for row, (arm, kind) in enumerate(stacks.KINDS.items()):
    ends = np.maximum(distinct.values("end", arm), 1e-16)
    ax.plot(ends, [row] * len(ends), "o", color=figures.COLORS[0], linestyle="none", clip_on=False)
    ax.plot(max(stacks.expected(kind)[-1], 1e-16), row, "|", color="black", markersize=14, clip_on=False)
ax.set_yticks(range(len(stacks.KINDS)), [arm.replace("no-norm", "no norm") for arm in stacks.KINDS])
ax.set(xscale="log", xlim=(1e-16, 1), ylim=(11.5, -0.5), xlabel="share that differs between tokens after 16 blocks")
ax.set_title("with Glorot's kernels, only norms that come first help\n(points: seeds; bars: expected; left edge: 1e-16 or less)")
figures.show()

# %%
for arm in ("no-norm", "post-norm", "pre-norm"):
    for removed in ("", ", no feed-forward"):
        low, _, high = distinct.spread("end", arm + removed)
        print(f"{arm + removed:28}{low:.2g} to {high:.2g}   expected {stacks.expected(stacks.KINDS[arm + removed])[-1]:.2g}")
first = [distinct.values("end", arm) for arm, kind in stacks.KINDS.items() if kind.norm == "pre" and kind.residual]
rest = [distinct.values("end", arm) for arm, kind in stacks.KINDS.items() if kind.norm != "pre" or not kind.residual]
assert np.min(first) > np.max(rest)

# %% [markdown]
# Residual connections are necessary: without them nothing is left, whatever else a block has. They are not sufficient. **The paper's own block makes its tokens nearly alike**, with a feed-forward network even more than without. The
# reason is in the equation. In a post-norm block attention adds about as much as the tokens have in common already, and the norm then shrinks the sum: once tokens are alike, what differs is halved in *every* block. In a pre-norm block
# the same is added to a stream that has grown, so each block matters less than the one before. The feed-forward network helps only there.
#
# **Does that depend on the weights?** The kernels were as large as Glorot's rule makes them. Here are both orders with smaller and larger ones; and beside them a real model. MiniLM has six blocks, all post-norm, and it
# reads sentences of a novel, eight for each of five seeds. The null is the same model with the entries of each kernel shuffled.


# %%
def over_sizes(ax, norm, color, label, at):
    ends = np.array([results["sizes"].values("end", f"{norm}-norm, × {size}") for size in experiment.SIZES])
    ax.semilogy(experiment.SIZES, ends, "o", color=color, linestyle="none")
    fine = np.linspace(0.25, 1.4, 47)
    ax.plot(fine, [stacks.expected(stacks.Kind(norm), size)[-1] for size in fine], color=color, marker="none", linestyle="-")
    ax.annotate(label, at, color=color)


# %%
fig, axes = plt.subplots(1, 2, figsize=(8.5, 3.2))
over_sizes(axes[0], "pre", figures.COLORS[2], "pre-norm", (0.95, 0.35))
over_sizes(axes[0], "post", figures.COLORS[0], "post-norm", (0.45, 1e-4))
axes[0].set(
    xlabel="kernels times so much", ylabel="share that differs after 16 blocks", title="small kernels keep tokens different, too"
)
for arm, color in (("trained", figures.COLORS[0]), ("shuffled", figures.COLORS[4])):
    layers, curves = results["trained"].curves("shares", arm)
    axes[1].plot(layers, curves.T, color=color, marker="none", linestyle="-")
    axes[1].annotate(arm, (layers[4], np.median(curves[:, 4])), (4, 6), textcoords="offset points", color=color)
axes[1].set(xlabel="blocks of MiniLM", ylabel="share that differs", ylim=(0, 1), title="and so does what a model has learned")
figures.show()

# %%
for size in experiment.SIZES:
    low, _, high = results["sizes"].spread("end", f"post-norm, × {size}")
    print(
        f"post-norm, kernels × {size:<6}{low:.2g} to {high:.2g}   expected {stacks.expected(stacks.Kind('post'), size)[-1]:.2g}"
    )
own, null = (results["trained"].values("end", arm) for arm in ("trained", "shuffled"))
print(
    f"MiniLM {own.min():.2f} to {own.max():.2f}, shuffled {null.min():.2f} to {null.max():.2f}; halfway {experiment.HALFWAY:.2f}"
)
assert (
    results["sizes"].values("end", "post-norm, × 1.0").max()
    < experiment.HALFWAY
    < results["sizes"].worst("end", "post-norm, × 0.5")
)
assert own.min() > null.max()

# %% [markdown]
# So it is neither the place of the norm alone nor the residual connection alone. What counts is how much a sublayer adds, compared with what is there. Norms that come first make that smaller with depth; small kernels make it small from the start
# ([Noci et al., 2022](https://arxiv.org/abs/2206.03126), scale the residual branches for the same reason); and training finds kernels that keep tokens different. MiniLM has post-norm blocks and keeps most of what
# differs.
#
# **What does that do to gradients?** Xiong et al. bound the gradient for $W_2$ of the last block at the start of training (Theorem 1): with norms after the sum the bound does not depend on the number of blocks $L$, with
# norms first it falls as $1/\sqrt L$. We measure it on random vectors with random labels, for five seeds: first the gradient itself, then what its norm would be if the parts of different tokens were at right
# angles, $\sqrt{\sum_t \|h_t g_t^\top\|^2}$ in place of $\|\sum_t h_t g_t^\top\|$ ($h_t$ is what $W_2$ reads, $g_t$ the gradient for what it adds).

# %%
gradients = results["gradients"]
colors = {"post-norm": figures.COLORS[0], "pre-norm": figures.COLORS[2], "post-norm, halved": figures.COLORS[4]}
fig, axes = plt.subplots(1, 2, figsize=(8.5, 3.3), sharey=True)
for ax, what in zip(axes, ("norm", "apart")):
    for arm, color in colors.items():
        depths, norms = gradients.curves(what, arm)
        ax.loglog(depths, norms.T, base=2, color=color, marker="none", linestyle="-", alpha=0.6)
        ax.annotate(arm, (depths[-1], np.median(norms[:, -1])), (4, 0), textcoords="offset points", color=color, va="center")
    ax.set(xlabel="blocks L", xticks=depths, xticklabels=depths.astype(int), xlim=(2, 130))
axes[0].set(ylabel="norm of the last gradient", title="post-norm: it grows with depth")
axes[1].set_title("tokens at right angles: as the bounds say")
figures.show()

# %%
print(f"{'slope over depth':20}the gradient       at right angles    bound")
for arm, bound in zip(colors, ("0", "-1/2", "0")):
    (a, _, b), (c, _, d) = gradients.spread("slope", arm), gradients.spread("slope apart", arm)
    print(f"{arm:20}{a:5.2f} to {b:5.2f}     {c:5.2f} to {d:5.2f}     {bound}")
flat = np.abs(gradients.values("slope apart", "post-norm")).max()
assert gradients.values("slope", "post-norm").min() > gradients.values("slope", "post-norm, halved").max()
assert gradients.values("slope", "post-norm, halved").min() > flat

# %% [markdown]
# For tokens at right angles the slopes are close to those of the bounds. The gradient as a whole is steeper, and in a post-norm stack it **grows** with depth, because the more alike the tokens are, the more their parts add up. With halved kernels
# tokens stay different, and it grows less. The fall with norms first comes from the last norm, which divides by the standard deviation of a stream that has grown; that is where the $1/\sqrt L$ of the bound comes from.

# %%
x, variances = rng.normal(size=(4, 16, 64)), []
for w in [stacks.draw_block(rng) for _ in range(16)]:
    x, _ = ref.transformer_encoder_block(x, w, norm_first=True)
    variances.append(x.var())
print("variance of a pre-norm stream after 1, 4, 8, 16 blocks:", np.round(variances, 1)[[0, 3, 7, 15]])
deep = np.arange(2, 17)
print(f"slope of its standard deviation over depth: {stacks.slope(deep, np.sqrt(variances[1:])):.2f}")

# %% [markdown]
# **Do deep stacks learn?** Xiong et al. report that pre-norm models train without the warm-up (a learning rate that starts at zero) that post-norm models need. Eight blocks have to say eight random symbols backwards. There are four arms: both
# orders, post-norm with a warm-up over half the steps, and post-norm with **halved kernels** at the start. Each has three learning rates, three seeds and 200 steps.

# %%
reverse = results["reverse"]
fig, axes = plt.subplots(1, 3, figsize=(9, 2.9), sharey=True)
for ax, rate in zip(axes, reverse.experiment.rates):
    for row, arm in enumerate(learning.ARMS):
        found = reverse.values("accuracy", arm, rate)
        ax.plot(found, [row] * len(found), "o", color=figures.COLORS[0], linestyle="none", clip_on=False, alpha=0.6)
    ax.axvline(1 / learning.SYMBOLS, color="black", linestyle=":", marker="none")
    ax.set(xlim=(0, 1), ylim=(3.5, -0.5), xlabel="accuracy", title=f"rate {rate:g}")
axes[0].set_yticks(range(4), learning.ARMS)
fig.suptitle("in 200 steps, eight post-norm blocks learn only if their kernels start small (dotted: chance)", fontsize="medium")
figures.show()

# %%
for arm in learning.ARMS:
    low, _, high = reverse.spread("accuracy", arm)
    print(f"{arm:22} best rate {reverse.best_rate(arm):<7g}{low:.2f} to {high:.2f}")
halfway = (1 + 1 / learning.SYMBOLS) / 2
texts = rng.integers(0, learning.SYMBOLS, (5000, learning.T))
bag = np.mean([np.bincount(text).max() for text in texts]) / learning.T
print(f"chance {1 / learning.SYMBOLS:.4f}, halfway to no fault {halfway:.2f}")
print(f"the most frequent symbol of a text, at every place: {bag:.2f}")
assert max(reverse.values("accuracy", arm).max() for arm in ("post-norm", "post-norm, warm-up")) < bag
assert min(reverse.worst("accuracy", arm) for arm in ("pre-norm", "post-norm, halved")) > halfway > bag

# %% [markdown]
# With norms first the stack learns. With norms after the sum it does not in these 200 steps, and a warm-up does not change that: it does no better than a guess that knows *which* symbols a text has and not *where*, all
# that tokens alike can say. With the same norms and kernels of half the size it learns. Here the obstacle is that tokens start alike, not the place of the norm as such. This is about the start, not the
# end: with eight times as many steps the plain post-norm stack learned the task too, with a longer warm-up and without one. Those runs are not stored; to repeat one, call `learning.train_reverser("post-norm", 1e-3, seed=11, steps=1600)`.
#
# All stored runs can be made again with `make experiments NAME=transformer_encoder`. One arm, live: the gradients of post-norm stacks of 2 to 32 blocks.

# %%
live = stacks.gradients("post-norm", rate=0.0, seed=0)
print(f"slope {live['slope']:.2f}, at right angles {live['slope apart']:.2f}, computed just now")
assert all(gradients.contains(live[what], what, "post-norm") for what in ("slope", "slope apart"))

# %% [markdown]
# ## Where it breaks
#
# **The epsilon of the norm.** LN divides by $\sqrt{\text{variance} + \epsilon}$. BERT has $\epsilon = 10^{-12}$, and our layers too; the default of `keras.layers.LayerNormalization` is $10^{-3}$. BERT's first norm sees the
# sum of three embeddings, each drawn with a standard deviation of 0.02. The variance of the sum, 0.0012, is about as large as Keras's $\epsilon$: forget the argument and the tokens have the wrong size.

# %%
fresh = sum(0.02 * rng.normal(size=(8, 512)) for _ in range(3))
tensors = minilm.load().tensors
tables = [tensors[f"embeddings.{name}_embeddings.weight"].astype("float64") for name in ("word", "position", "token_type")]
ids = [minilm.load().vocabulary[piece] for piece in reader.sentences()[0]]
real = tables[0][ids] + tables[1][: len(ids)] + tables[2][0]
for name, x in (("three fresh embeddings", fresh), ("MiniLM's, trained", real)):
    sizes = [layer_norm(x, stacks.plain(x.shape[-1]), epsilon).std() for epsilon in (1e-12, 1e-3)]
    print(f"{name:24} standard deviation {x.std():.3f}; after LN {sizes[0]:.2f}, and with Keras's epsilon {sizes[1]:.2f}")
assert abs(sizes[0] - 1) < 1e-6

# %% [markdown]
# **Two functions are called GELU**: the exact one, which is `"gelu"` here, and BERT's approximation by a tanh, `"gelu_tanh"`. Weights that were trained with one run with the other, a little off.

# %%
grid = np.linspace(-5, 5, 1001)
exact, near = (
    keras.ops.convert_to_numpy(TransformerEncoderBlock(1, 1, name).inner_activation(grid)) for name in ("gelu", "gelu_tanh")
)
print(f"largest difference between them: {np.abs(exact - near).max():.1e}")

# %% [markdown]
# ## What it costs
#
# For a sequence of $n$ tokens, with $h\,d = m$: attention's four projections are $4 n m^2$ multiply-adds, scores and mixture $2 n^2 m$, and the feed-forward network $2 n m f$.

# %%
n, m, h, f = 5, 12, 3, 48
block = TransformerEncoderBlock(h, f, "relu", dtype="float64")
block.build((None, None, m))
with multiply_adds() as counted:
    ref.transformer_encoder_block(rng.normal(size=(1, n, m)), weights_of(block, ref.EncoderWeights))
print("multiply-adds counted:", sum(counted), " by the formula:", 4 * n * m**2 + 2 * n**2 * m + 2 * n * m * f)
assert sum(counted) == 4 * n * m**2 + 2 * n**2 * m + 2 * n * m * f

# %%
m, f = 768, 3072
bert = TransformerEncoderBlock(num_attention_heads=12, inner_dim=f, inner_activation="gelu")
bert.build((None, None, m))
for n in (128, 512, 4 * m):
    parts = np.array([4 * n * m**2, 2 * n**2 * m, 2 * n * m * f])
    print(f"BERT base, {n:5} tokens: projections, scores and mixture, feed-forward:", (parts / parts.sum()).round(2))
print(f"parameters of a block: {bert.count_params():,}, of which {2 * m * f + f + m:,} in the feed-forward network")

# %% [markdown]
# At BERT's 512 tokens most of the work is the feed-forward network, the part without attention. Scores and mixture catch up with it at $n = 4m$.
#
# ## Does the layer agree?

# %% tags=["nbval-ignore-output"]
line, agrees = figures.agreement_line(CHAPTER)
assert agrees
line

# %% [markdown]
# ## Today
#
# Nearly every large model puts its norms first, and most use RMS norms ([Zhang and Sennrich, 2019](https://arxiv.org/abs/1910.07467); exercise 1), gated feed-forward networks ([Shazeer, 2020](https://arxiv.org/abs/2002.05202)), no biases, and query
# heads that share keys and values ([Ainslie et al., 2023](https://arxiv.org/abs/2305.13245); exercise 3). BERT and its descendants, such as MiniLM, are post-norm. Very deep post-norm stacks were trained
# with scaled residuals and small initial kernels ([Wang et al., 2022](https://arxiv.org/abs/2203.00555)), the cure found above. The blocks' growing stream has a price, too: late pre-norm
# blocks change little ([Sun et al., 2025](https://arxiv.org/abs/2502.05795)).
#
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
# - A block mixes tokens by attention and works on each by a feed-forward network; both add to what is there.
# - Tokens stay different if what a block adds is small beside what is there: with norms first, with small kernels, or after training. A residual connection alone is not enough, and the paper's block with Glorot's kernels makes tokens alike.
# - With tokens at right angles, the last gradient follows the bounds of Xiong et al.; summed over tokens that grow alike, it rises with depth in a post-norm stack.
#
# **Further reading.** [Vaswani et al., 2017](https://arxiv.org/abs/1706.03762): the block. [Xiong et al., 2020](https://arxiv.org/abs/2002.04745): why the order matters at the start. [Dong et al.,
# 2021](https://arxiv.org/abs/2103.03404): how fast attention alone loses what differs. [Noci et al., 2022](https://arxiv.org/abs/2206.03126): what alike tokens do to training.
