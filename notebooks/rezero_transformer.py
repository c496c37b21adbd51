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
# # ReZero: begin as the identity
#
# Multiply what every sublayer adds by a number α that starts at zero. A new stack of blocks then returns its input, at any depth, and needs no norms.
#
# Paper: [Bachlechner et al., 2020, sections 3 and 5](https://arxiv.org/abs/2003.04887) · NumPy: [`reference/rezero_transformer.py`](../reference/rezero_transformer.py) · Layer:
# [`layers/rezero_transformer.py`](../layers/rezero_transformer.py) · 30 minutes · You should know: [the encoder block](transformer_encoder.ipynb), and singular values

# %% tags=["hide-input"] jupyter={"source_hidden": true}
import inspect

import matplotlib.pyplot as plt
import numpy as np

from crosscheck.cases.rezero_transformer import CHAPTER
from crosscheck.lesson import figures
from crosscheck.lesson.diagram import Box, diagram
from crosscheck.lesson.exercises import check
from crosscheck.weights import draw_weights, weights_of
from experiments.common.results import stored
from experiments.rezero_transformer import reverser as experiment
from layers.rezero_transformer import ReZeroTransformer
from reference import rezero_transformer as ref
from reference.transformer_encoder import feed_forward

figures.use_style()
rng = np.random.default_rng(0)
results = stored("rezero_transformer")

# %% [markdown]
# ## The question
#
# A gradient reaches the first layer of a deep network through the Jacobian $\partial x_L / \partial x_0$ of all layers. It shrinks along directions with a singular value below 1, and grows along those with one above 1. **What are
# the singular values of 64 new layers?** Three kinds, each with $F(x) = \max(0, W x)$ and random $W$ of width 64, five draws of each.


# %%
def norm(x):
    """Without γ and β, and its Jacobian."""
    centered = x - x.mean()
    size = np.sqrt((centered**2).mean())
    slope = (np.eye(64) - 1 / 64 - np.outer(centered, centered) / (64 * size**2)) / size
    return centered / size, slope


def through(kind, layers):
    """The singular values of the Jacobian of layers of one kind, from the largest down."""
    x, jacobian = rng.normal(size=64), np.eye(64)
    for w in layers:
        normed, slope = norm(x) if kind == "pre-norm" else (x, np.eye(64))
        added, step = np.maximum(w @ normed, 0), w * (w @ normed > 0)[:, None] @ slope
        skip = 0 if kind == "layers alone" else 1
        x, jacobian = skip * x + added, (skip * np.eye(64) + step) @ jacobian
    return np.linalg.svd(jacobian, compute_uv=False)


# %%
kinds, floor = ("layers alone", "residual", "pre-norm"), 1e-18
draws = [np.sqrt(2 / 64) * rng.normal(size=(64, 64, 64)) for _ in range(5)]
values = {kind: np.maximum([through(kind, layers) for layers in draws], floor) for kind in kinds}

# %%
fig, ax = plt.subplots()
for kind, place, color in zip(kinds, (8, 8, 40), figures.COLORS):
    ax.semilogy(values[kind].T, color=color, marker="none", linestyle="-", linewidth=1)
    ax.annotate(kind, (place, np.median(values[kind][:, place])), (4, 8), textcoords="offset points", color=color)
ax.axhline(1, color="black", linestyle=":", marker="none")
ax.annotate("the identity", (63, 1), (0, 4), textcoords="offset points", ha="right")
ax.set(xlabel="which singular value, from the largest", ylabel=r"singular value of $\partial x_{64} / \partial x_0$")
ax.set_title("deep stacks shrink most directions or blow some up")
figures.show()

# %%
for kind in kinds:
    print(f"{kind:13} largest {values[kind].max(1).min():.0e} to {values[kind].max():.0e}, ", end="")
    print(f"median {np.median(values[kind], axis=1).min():.0e} to {np.median(values[kind], axis=1).max():.0e}")
assert values["layers alone"].max(axis=1).max() < values["pre-norm"].max(axis=1).min() < values["residual"].max(axis=1).min()

# %% [markdown]
# Layers alone lose nearly every direction (values below 1e-18 are drawn there). Residual layers blow some up. Norms keep the values within a few powers of ten. The identity has only ones, but it computes nothing. **Can a network begin as the identity and still learn?**
#
# ## The picture

# %% tags=["hide-input"] jupyter={"source_hidden": true}
boxes = {"x": Box("x", 0, 0, "data"), "attend": Box("MultiHead", 0.8, 1, "trained"), "one": Box("× α", 0.8, 2, "map")}
boxes |= {"+": Box("+", 0, 3), "ffn": Box("FFN", 0.8, 4, "trained"), "two": Box("× α", 0.8, 5, "map")}
boxes |= {"++": Box("+", 0, 6), "z": Box("z", 0, 7, "data"), "alpha": Box("α, 0 at first", 2.0, 3.5, "map", 1.1)}

arrows = [("x", "+", "(b, t, m)"), ("x", "attend", ""), ("attend", "one", "(b, t, m)"), ("one", "+", "")]
arrows += [("+", "++", "y (b, t, m)"), ("+", "ffn", ""), ("ffn", "two", "(b, t, m)"), ("two", "++", "")]
arrows += [("++", "z", "(b, t, m)"), ("alpha", "one", "()"), ("alpha", "two", "()")]
diagram(boxes, arrows)
figures.show()

# %% [markdown]
# It is the encoder block with a number in place of both norms. At α = 0 only the two straight arrows are left.
#
# ## The equation
#
# $$x_{i+1} = x_i + \alpha_i F(x_i), \qquad \alpha_i = 0 \text{ at the start} \tag{1}$$
#
# $$y = x + \alpha\, \mathrm{MultiHead}(x, x, x), \qquad z = y + \alpha\, \mathrm{FFN}(y) \tag{2}$$
#
# | symbol | what it is | name in the code | shape |
# |---|---|---|---|
# | $\alpha$ | weight of both sublayers | `weights.rezero_alpha` | `()` |
# | | weight of the FFN, if it has its own | `weights.rezero_alpha_ffn` | `()` |
# | MultiHead | see [attention](attention.ipynb) | `weights.self_attention` | |
# | FFN | two maps with an activation between | `weights.intermediate`, `weights.output` | `(m, f)`, `(f, m)` and biases |
#
# In the paper attention and the feed-forward network share one α. A block has $4m - 1$ parameters fewer than one with two norms.
#
# ## By hand
#
# Let every layer be $F(x) = w x$ with $w = 8$. Fifty residual layers turn 1 into $9^{50}$; with $\alpha = 0$ they return 1. Two layers with $\alpha = \tfrac14$ give $(1 + \tfrac14 \cdot 8)^2 = 9$.

# %%
x = np.array([1.0])
quarter = ref.rezero(ref.rezero(x, 0.25, lambda x: 8 * x), 0.25, lambda x: 8 * x)
print("α = 1/4, twice:", quarter, " α = 0:", ref.rezero(x, 0.0, lambda x: 8 * x))
assert quarter.tolist() == [9] and ref.rezero(x, 0.0, lambda x: 8 * x).tolist() == [1]

# %% [markdown]
# **Which weights have a gradient at α = 0?** Take the loss $\ell = \tfrac12 (x_1 - y)^2$ with target $y = 3$. Then $\partial \ell / \partial w = (x_1 - y)\, \alpha\, x_0 = 0$, but
# $\partial \ell / \partial \alpha = (x_1 - y)\, w\, x_0 = -16$. The first step moves only $\alpha$. After it, $w$ has a gradient too.


# %%
def loss(alpha, w):
    return 0.5 * (ref.rezero(x, alpha, lambda x: w * x).item() - 3) ** 2


def slopes(alpha, w, step=1e-6):
    along = loss(alpha + step, w) - loss(alpha - step, w), loss(alpha, w + step) - loss(alpha, w - step)
    return np.round(np.array(along) / (2 * step), 3)


# %%
print("slope along α and w: at α = 0", slopes(0, 8), " at α = 0.01", slopes(0.01, 8))
assert np.allclose(slopes(0, 8), [-16, 0]) and slopes(0.01, 8)[1] != 0

# %% [markdown]
# ## In NumPy
#
# **Any sublayer.** Equation (1) takes one line. At α = 0 it is the identity whatever $F$ is, and the Jacobian of a stack is a product of matrices $I + \alpha F'$.

# %%
maps = rng.normal(size=(12, 6, 6)) / np.sqrt(6)
for alpha in (0.0, 0.1, 1.0):
    jacobian = np.linalg.multi_dot([np.eye(6) + alpha * w for w in maps])
    print(f"α = {alpha}: singular values of 12 layers", np.linalg.svd(jacobian, compute_uv=False).round(2))
print(inspect.getsource(ref.rezero))

# %% [markdown]
# **A block** uses it twice. First attention, here as any function of `x`:

# %%
block = ReZeroTransformer(3, 7, "gelu", dtype="float64")
block.build((None, None, 12))
draw_weights(block, rng)
weights, x = weights_of(block, ref.ReZeroWeights), rng.normal(size=(2, 5, 12))
alpha = weights.rezero_alpha
y = ref.rezero(x, alpha, lambda x: ref.multi_head_attention(x, x, weights.self_attention)[0])
print("α", alpha.round(3), " y", y.shape, " size of what attention added", np.abs(y - x).mean().round(3))

# %% [markdown]
# Then the feed-forward network, with the same α.

# %%
z = ref.rezero(y, alpha, lambda y: feed_forward(y, weights.intermediate, weights.output, ref.gelu))
output = ref.rezero_transformer(x, weights)
assert np.allclose(output.between, y) and np.allclose(output.output, z)
assert all(np.allclose(z[b, t], ref.rezero_one(x[b], t, weights)) for b, t in np.ndindex(2, 5))

# %% [markdown]
# The reference does the same, and can take keys from elsewhere, a mask, and norms behind the sums.

# %%
print(inspect.getsource(ref.rezero_transformer).split('"""')[-1].strip("\n"))
new = weights._replace(rezero_alpha=np.array(0.0))
assert np.array_equal(ref.rezero_transformer(x, new).output, x)  # to the last bit

# %% [markdown]
# ## What it does
#
# **Does a deep stack start faster?** The paper reports that twelve layers converge 56% faster on enwik8 than a post-norm transformer with warm-up (its abstract), and needs neither norms nor a warm-up. In miniature: read eight symbols and write them in
# reverse, through 4 or 12 blocks of width 24, with Adam. A guess costs $\ln 8$. We count the steps after which the loss stays below half of that. [The experiment](../experiments/rezero_transformer/reverser.py) runs each kind of block with four
# learning rates and three seeds, and with and without a warm-up, in which the rate grows linearly over the first 60 of 240 steps. That is a measure of speed, not of where training ends.


# %%
def table(arms, what, form):
    print(f"{'learning rate':31}" + "".join(f"{rate:<18g}" for rate in experiment.RATES))
    for arm in arms:
        found = [start.values(what, arm, rate) for rate in experiment.RATES]
        print(f"{arm:31}" + "".join(f"{form.format(v.min())} to {form.format(v.max())}".ljust(18) for v in found))


start = results["start"]
arms = [arm for arm in experiment.ARMS if "α" not in arm]
print(f"steps after which the loss stays below {experiment.HALF:.2f}, three seeds; {experiment.STEPS} means never")
table(arms, "steps", "{:.0f}")

# %%
styles = {"ReZero": (figures.COLORS[0], "o"), "pre-norm": (figures.COLORS[1], "s"), "post-norm": (figures.COLORS[2], "^")}


def lines(ax, depth):
    """A point for each seed, a line through the medians; dashed and white with a warm-up."""
    for arm in (arm for arm in arms if f" {depth} blocks" in arm):
        color, marker = styles[arm.split(",")[0]]
        face, dash = ("white", "--") if "warm" in arm else (color, "-")
        found = np.array([start.values("steps", arm, rate) for rate in experiment.RATES])
        ax.plot(experiment.RATES, np.median(found, axis=1), color=color, marker="none", linestyle=dash)
        ax.plot(experiment.RATES, found, marker, color=color, markerfacecolor=face, linestyle="none")
    ax.set(xscale="log", xlabel="learning rate")
    ax.set_xticks(experiment.RATES, [f"{rate:g}" for rate in experiment.RATES])
    ax.minorticks_off()


# %%
fig, axes = plt.subplots(1, 2, figsize=(9.5, 3.6), sharey=True)
lines(axes[0], experiment.SHALLOW)
lines(axes[1], experiment.DEEP)
axes[0].set(ylabel="steps to half a guess (240: never)", title="4 blocks: ReZero and pre-norm start early")
axes[1].set_title("12 blocks: ReZero first, until it diverges")
handles = [plt.Line2D([], [], color=color, marker=marker, label=kind) for kind, (color, marker) in styles.items()]
handles += [plt.Line2D([], [], color="gray", linestyle="--", marker="o", markerfacecolor="white", label="with warm-up")]
fig.legend(handles=handles, loc="outside right center", frameon=False)
figures.show()

# %%
print(
    f"loss of the last {experiment.STRETCH} steps (a guess: {experiment.GUESSING:.2f}; cut off at {10 * experiment.GUESSING:.0f})"
)
table([arm for arm in arms if f" {experiment.DEEP} blocks" in arm], "end", "{:.2g}")


# %%
def faster(arm, others, rate=None):
    """Whether the slowest seed of an arm is before the fastest of all others; at one rate, or each at its best."""
    return start.values("steps", arm, rate).max() < min(start.values("steps", other, rate).min() for other in others)


rezero, plain = f"ReZero, {experiment.DEEP} blocks", [f"{kind}, {experiment.DEEP} blocks" for kind in experiment.NORMED]
warm = [f"{arm}, warm-up" for arm in plain]
print("at one rate for all, faster than every rival:", *(rate for rate in experiment.RATES if faster(rezero, plain + warm, rate)))
for arm in (rezero, plain[0], warm[0]):
    print(
        f"{arm:31} best rate {start.best_rate(arm):<6g} {' to '.join(f'{s:.0f}' for s in start.spread('steps', arm)[::2])} steps"
    )
broken = start.values("end", rezero, experiment.RATES[-1])
assert faster(rezero, plain) and not faster(rezero, warm) and broken.min() > experiment.GUESSING

# %%
for depth in (experiment.SHALLOW, experiment.DEEP):
    steps = [start.values("steps", f"{kind}, {depth} blocks") for kind in ("pre-norm", "ReZero")]
    ratio = steps[0] / steps[1]
    print(f"{depth:2} blocks, no warm-up: pre-norm needs {ratio.min():.2f} to {ratio.max():.2f} times as many steps as ReZero")

# %% [markdown]
# **Where ReZero wins.** At the two middle rates, twelve ReZero blocks start before every rival at the same rate, the slowest seed before the fastest. Without a warm-up for anyone that is also true if each kind has its own best rate. The factor over pre-norm is near the
# paper's 1.56, which is over post-norm layers ([abstract](https://arxiv.org/abs/2003.04887)). ReZero does not need a warm-up.
#
# **Where it does not.** A warm-up lets pre-norm take the highest rate, and then it starts about as early as ReZero at its best. (Our rates are a factor of three apart, and ReZero's best one is next to a rate at which it diverges. With a rate between the two, 0.02, it was ahead of the warmed-up pre-norm blocks again, with each of three seeds. Those runs are not stored; to repeat one, call `experiment.train_reverser("ReZero, 12 blocks", 0.02, seed=11)`.) At the highest rate twelve ReZero blocks diverge, with a warm-up or without. At the lowest rate hardly any run
# has started after 240 steps. And the lead is no larger with twelve blocks than with four: in this range it has little to do with depth.
#
# **Post-norm** learns with four blocks, and a warm-up lets it take a higher rate. With twelve it has not started after 240 steps at any rate, with a warm-up or without. (In the paper twelve such layers do train; its runs are longer and its
# models larger.)
#
# **Is it the zero?** We remove it: twelve blocks without norms whose α starts at 1/12, or at 1 as in a plain residual network. The rest stays the same.

# %%
print(f"steps after which the loss stays below half a guess; {experiment.STEPS} means never")
zero, small, one = (f"{kind}, {experiment.DEEP} blocks" for kind in experiment.STARTS)
table((zero, small, one), "steps", "{:.0f}")
print(f"loss of the last {experiment.STRETCH} steps")
table((zero, small, one), "end", "{:.2g}")
assert start.values("steps", small).min() <= start.worst("steps", zero) < start.values("steps", one).min()

# %% [markdown]
# A start at 1/12 does about as well as a start at 0, and diverges at the same rate. A start at 1 never learns. So what lets these blocks train is that they add **little** at first. Zero is a way to add little at any depth; the zero itself is not needed.
#
# **How far does α go?** Adam moves a number by about the learning rate in each step, so that after $k$ steps $|\alpha|$ is at most about $k$ times the rate. That is the bound in the table.

# %%
print(f"after {experiment.STEPS} steps   largest |α|       median |α|        bound")
for rate in experiment.RATES[:3]:
    alphas = np.abs(start.values("alphas", zero, rate))
    largest, middle = alphas.max(axis=1), np.median(alphas, axis=1)
    print(
        f"rate {rate:<13g}{largest.min():.2f} to {largest.max():.2f}      {middle.min():.2f} to {middle.max():.2f}      {experiment.STEPS * rate:.2f}"
    )
    assert largest.max() < experiment.STEPS * rate

# %% [markdown]
# At the higher rates α stays far below the bound. At the lowest rate the bound is nearer. Is that why ReZero is slow there? The table above says no: blocks that start with α at 1/12 are about as slow.
#
# **What becomes of the Jacobian?** The paper draws the singular values of its transformers, too (its numbers were not at hand). Ours are those of twelve blocks at one sequence, $\partial x_{12} / \partial x_0$ with
# $8 \cdot 24 = 192$ inputs and outputs. They are measured before training, after 60 and after 240 steps at a learning rate of 0.003, where ReZero and pre-norm both learn.

# %%
names = {"ReZero": rezero, "pre-norm": plain[0], "post-norm": plain[1], "post-norm, warm-up": warm[1]}
spectra = {kind: start.values("values", name, experiment.LOOKED_AT) for kind, name in names.items()}


def bars(ax, values):
    """For each seed and step a bar of the middle 80% and a line of the whole range."""
    style = {"color": figures.COLORS[0], "marker": "none", "linestyle": "-"}
    for (seed, place), (least, low, middle, high, most) in zip(np.ndindex(3, 3), values.reshape(9, 5)):
        x = place + 0.2 * (seed - 1)
        ax.plot([x, x], [least, most], linewidth=1, **style)
        ax.plot([x, x], [low, high], linewidth=5, **style)
        ax.plot(x, middle, "o", color="black", markersize=3)


# %%
fig, axes = plt.subplots(1, 4, figsize=(10.5, 3.2), sharey=True)
titles = ("ReZero: spreads from 1", "pre-norm: spreads more", "post-norm: collapses", "post-norm, warm-up")
for ax, title, values in zip(axes, titles, spectra.values()):
    bars(ax, values)
    ax.axhline(1, color="black", linestyle=":", marker="none")
    ax.set(yscale="log", title=title, xlabel="steps")
    ax.set_xticks(range(3), experiment.LOOKS)
axes[0].set_ylabel("singular values")
figures.show()

# %%
print("after", *experiment.LOOKS, "steps: decades between the quantiles of 10% and 90%, three seeds; then the medians")
for kind, values in spectra.items():
    wide = np.log10(values[:, :, 3] / values[:, :, 1])
    widths = "   ".join(f"{least:.1f} to {most:.1f}" for least, most in zip(wide.min(0), wide.max(0)))
    print(f"{kind:19} {widths:38}", *(f"{middle:.0e}" for middle in np.median(values[:, :, 2], axis=0)))
middle = {kind: np.log10(values[:, :, 3] / values[:, :, 1]) for kind, values in spectra.items()}
assert (middle["ReZero"].max(axis=0) < np.min([middle[kind].min(axis=0) for kind in list(names)[1:]], axis=0)).all()

# %% [markdown]
# Bars are the middle 80% of the singular values, thin lines the range of all, dots the median; three seeds side by side. A new ReZero stack has only ones, by construction. In training its values spread, to more than a decade in the end, but less than those of
# pre-norm. So the isometry belongs to the start; what carries over is that the values stay within a few powers of ten. New post-norm blocks have a median far below 1, and without a warm-up most values collapse within 60 steps: little of a gradient still reaches
# the first block. (Differences in float64 have a floor: what is drawn below 1e-10 is rounding.)
#
# The stored runs can be made again with `make experiments NAME=rezero_transformer`. One of them, live:

# %%
arm = f"ReZero, {experiment.SHALLOW} blocks"
live = experiment.train_reverser(arm, start.best_rate(arm), seed=0, steps=100, xla=False)
print(f"steps until the loss stays below half a guess, trained just now: {live['steps']}; stored {start.values('steps', arm)}")
assert start.contains(live["steps"], "steps", arm)

# %% [markdown]
# ## Where it breaks
#
# **Two zeros never move.** Many programs start the last map of a sublayer at zero, so that the sublayer adds nothing at first. With ReZero, α then has no gradient, because $F(x) = 0$, and the map has none, because $\alpha = 0$. Here with the
# feed-forward network: slopes of a squared error along α, and along the size of the last map.


# %%
tokens, target = rng.normal(size=(2, 5, 12))


def error(alpha, last):
    last = weights.output._replace(kernel=last * weights.output.kernel, bias=0 * weights.output.bias)
    z = ref.rezero(tokens, alpha, lambda x: feed_forward(x, weights.intermediate, last, ref.gelu))
    return 0.5 * ((z - target) ** 2).sum()


# %%
step = 1e-4
for last, name in ((1.0, "last map drawn"), (0.0, "last map 0")):
    by_alpha = (error(step, last) - error(-step, last)) / (2 * step)
    by_map = (error(0, last + step) - error(0, last - step)) / (2 * step)
    print(f"α = 0, {name:15} slope along α {abs(by_alpha):.3f}, along the last map {abs(by_map):.3f}")
    assert by_map == 0 and (by_alpha != 0) == (last != 0)

# %% [markdown]
# One of the two may be zero, not both. A second trap is weight decay: it pulls α toward zero. `optimizer.exclude_from_weight_decay(var_names=["rezero_alpha"])` prevents that.
#
# **Differs from the paper.** The two sublayers may have an α each, keys may come from another sequence, and `use_layer_norm=True` puts norms behind the sums. A new block is then no longer the identity.
#
# ## Does the layer agree?

# %% tags=["nbval-ignore-output"]
line, agrees = figures.agreement_line(CHAPTER)
assert agrees
line

# %% [markdown]
# ## Today
#
# Large language models kept their norms: Llama is pre-norm with RMS norms ([Touvron et al., 2023](https://arxiv.org/abs/2302.13971)). The idea of a start at zero lives on where something is added to a network that already
# works, or must not disturb it at first: LoRA's second matrix ([Hu et al., 2021](https://arxiv.org/abs/2106.09685)), Flamingo's gates tanh α ([Alayrac et al., 2022](https://arxiv.org/abs/2204.14198)), ControlNet's zero convolutions
# ([Zhang et al., 2023](https://arxiv.org/abs/2302.05543)), and adaLN-Zero in diffusion transformers ([Peebles and Xie, 2022](https://arxiv.org/abs/2212.09748)). LayerScale starts a number for each channel near zero
# ([Touvron et al., 2021](https://arxiv.org/abs/2103.17239)).
#
# ## Exercises
#
# **1** (easy, 5 minutes). What do `layers` layers $x + \alpha\, w\, x$, all with the same numbers α and w, make of the vector `x`? No loop.


# %%
def deep(x, alpha, w, layers):
    return None  # your turn


_ = check("rezero_transformer/1", deep)

# %% [markdown]
# <details><summary>Hint</summary>Each layer multiplies by the same number.</details>
# <details><summary>Solution</summary><code>x * (1 + alpha * w) ** layers</code></details>
#
# **2** (medium, 10 minutes). The gradient of $\tfrac12 \lVert x + \alpha W x - y \rVert^2$ with respect to α and to $W$; return both. What is left of it at α = 0?


# %%
def slopes_of(x, y, alpha, w):
    return None  # your turn


_ = check("rezero_transformer/2", slopes_of)

# %% [markdown]
# <details><summary>Hint</summary>With e the error, a change dα moves it by dα W x, and a change dW by α dW x.</details>
# <details><summary>Solution</summary><code>e = x + alpha * w @ x - y; return e @ (w @ x), alpha * e[:, None] * x[None, :]</code></details>
#
# **3** (hard, 15 minutes). The singular values of the Jacobian of a stack of linear ReZero layers $x + \alpha_i W_i x$, from the largest down. `ws` is `(layers, m, m)`; there may be no layer.


# %%
def singular_values(alphas, ws):
    return None  # your turn


_ = check("rezero_transformer/3", singular_values)

# %% [markdown]
# <details><summary>Hint</summary>The Jacobian of a composition is a product; the layer that comes last stands first.</details>
# <details><summary>Solution</summary>
#
# ```python
# def singular_values(alphas, ws):
#     jacobian = np.eye(ws.shape[-1])
#     for alpha, w in zip(alphas, ws):
#         jacobian = (np.eye(len(w)) + alpha * w) @ jacobian
#     return np.linalg.svd(jacobian, compute_uv=False)
# ```
# </details>
#
# **To discuss.** At α = 0 every layer is the identity, and no weight inside a layer has a gradient. Why does training start at all, and what would stop it?
#
# ## Summary
#
# - With α = 0 a stack of any depth is the identity. Of the weights of a block, α alone has a gradient at the first step; after it, all have.
# - Without a warm-up, ReZero starts before blocks with norms. With one, pre-norm can take a higher rate, at which ReZero diverges, and starts about as early, as far as four rates can tell. A start at 1/12 does as well as one at 0.
# - The Jacobian is the identity only at the start. In training its singular values spread, less than those of pre-norm.
#
# **Further reading.** [Bachlechner et al., 2020](https://arxiv.org/abs/2003.04887): the paper. [Zhang et al., 2019](https://arxiv.org/abs/1901.09321): Fixup, which starts without norms by scaling the weights instead.
# [De and Smith, 2020](https://arxiv.org/abs/2002.10444): how batch norm, too, starts deep residual networks near the identity.
