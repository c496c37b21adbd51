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
# # Gated feed-forward: units that multiply
#
# A gated feed-forward network has two maps of each token and multiplies their results, number by number.
#
# Paper: [Shazeer, 2020, section 2](https://arxiv.org/abs/2002.05202) · NumPy: [`reference/gated_feedforward.py`](../reference/gated_feedforward.py) · Layer:
# [`layers/gated_feedforward.py`](../layers/gated_feedforward.py) · 30 minutes · You should know: the feed-forward half of a [transformer block](transformer_encoder.ipynb)

# %% tags=["hide-input"] jupyter={"source_hidden": true}
import inspect
from itertools import pairwise

import keras
import matplotlib.pyplot as plt
import numpy as np

from crosscheck.cases.gated_feedforward import CHAPTER
from crosscheck.lesson import figures
from crosscheck.lesson.diagram import Box, diagram
from crosscheck.lesson.exercises import check
from crosscheck.weights import weights_of
from experiments.common.results import stored
from experiments.gated_feedforward import functions, language, networks
from layers.gated_feedforward import GatedFeedforward
from reference import gated_feedforward as ref
from reference.common.activations import ACTIVATIONS, gelu, relu
from reference.common.normalization import layer_norm
from reference.common.projection import Projection

figures.use_style()
rng = np.random.default_rng(0)
results = stored("gated_feedforward")

# %% [markdown]
# ## The question
#
# A ReLU unit computes $\max(0, w \cdot x)$: flat on one side, a slope on the other. **How well can such units compute a product, $x_1 x_2$?** We give sixteen of them the directions in which a product bends, four offsets
# each, and the best output weights in the mean square for the points inside the dashed square. Beside them stand two *gated* ReLU units.

# %%
line = np.linspace(-3, 3, 121)
x = np.stack(np.meshgrid(line, line), axis=-1)
product = x[..., 0] * x[..., 1]
directions = np.array([[1, 1, -1, -1], [1, -1, 1, -1]]) / np.sqrt(2)
hinges = relu((x @ directions)[..., None] - np.array([0.0, 0.5, 1.0, 1.5])).reshape(*x.shape[:2], 16)
inside = np.abs(x).max(axis=-1) <= 1.5
sixteen = hinges @ np.linalg.lstsq(hinges[inside], product[inside], rcond=None)[0]
a, b = x[..., 0], x[..., 1]
gated = relu(a) * b + relu(-a) * -b

# %%
fig, axes = plt.subplots(1, 3, figsize=(8.5, 2.9), sharey=True)
titles = ("wanted: $x_1 x_2$", "sixteen ReLU units", "two gated ReLU units")
for ax, values, title in zip(axes, (product, sixteen, gated), titles):
    image = ax.contourf(line, line, values, levels=np.arange(-9, 9.1, 1.5), cmap="RdBu_r")
    ax.add_patch(plt.Rectangle((-1.5, -1.5), 3, 3, fill=False, linestyle="--"))
    ax.set(title=title, xlabel="$x_1$", aspect="equal")
    ax.grid(False)
axes[0].set_ylabel("$x_2$")
fig.colorbar(image, ax=axes, label="value")
fig.suptitle("sixteen ReLU units are too small in the corners, two gated ones are right")
figures.show()

# %%
for name, values in (("sixteen ReLU units", sixteen), ("two gated units", gated)):
    error = np.abs(values - product)
    print(f"{name:19} largest error {error[inside].max():.2f} inside the square, {error.max():.2f} outside")
assert np.array_equal(gated, product) and np.abs(sixteen - product)[~inside].max() > np.abs(sixteen - product)[inside].max()

# %% [markdown]
# Sixteen units come near inside the square. Outside they continue in straight lines and are wrong. The two gated units are the product, everywhere.
#
# ## The picture

# %% tags=["hide-input"] jupyter={"source_hidden": true}
boxes = {
    "x": Box("x", 0, 0, "data"),
    "w": Box("W", 0.9, 1, "map"),
    "v": Box("V", 1.9, 1, "map"),
    "phi": Box("φ", 0.9, 2, width=0.9),
}
boxes |= {"times": Box("×", 1.4, 3), "w2": Box("$W_2$", 1.4, 4, "map"), "sum": Box("+", 0, 5)}
boxes |= {"norm": Box("layer norm", 0, 6, "trained"), "y": Box("y", 0, 7, "data")}

arrows = [("x", "sum", "x (b, t, m)"), ("x", "w", ""), ("x", "v", ""), ("w", "phi", "(b, t, f)"), ("phi", "times", "")]
arrows += [("v", "times", "(b, t, f)"), ("times", "w2", "(b, t, f)"), ("w2", "sum", "(b, t, m)")]
arrows += [("sum", "norm", "(b, t, m)"), ("norm", "y", "(b, t, m)")]
diagram(boxes, arrows)
figures.show()

# %% [markdown]
# An ordinary feed-forward network lacks V and the product. The sum and the norm belong to the block around it.
#
# ## The equation
#
# $$\mathrm{FFN}(x) = \varphi(x W)\, W_2 \tag{1}$$
#
# $$\mathrm{FFN_{GLU}}(x) = (\varphi(x W) \odot x V)\, W_2 \tag{2}$$
#
# $$y = \mathrm{LN}(x + \mathrm{FFN}(x)) \tag{3}$$
#
# | symbol | what it is | name in the code | shape |
# |---|---|---|---|
# | $x$ | tokens | `x` | `(b, t, m)` |
# | $W$ | the map that is activated | `weights.intermediate` | `(m, f)` |
# | $V$ | the linear map | `weights.gate` | `(m, f)` |
# | $W_2$ | what each unit writes | `weights.output` | `(f, m)` |
# | $\varphi$ | the activation | `phi` | |
#
# The activation names the variant: σ makes GLU, the identity Bilinear, and ReLU, GELU and Swish ($a\,\sigma(a)$) make ReGLU, GEGLU and SwiGLU.
#
# ## By hand
#
# Let $x = (1, 2)$, and two units with $xW = (3, -1)$ and $xV = (2, 5)$. A ReLU turns the first into 3 and the second into 0, so the products are $(3 \cdot 2,\ 0 \cdot 5) = (6, 0)$. The first unit writes its row of $W_2$ six
# times; without $V$ it writes it three times.

# %%
x, w, v = np.array([1.0, 2.0]), np.array([[1.0, 1.0], [1.0, -1.0]]), np.array([[0.0, 1.0], [1.0, 2.0]])
w2 = np.array([[1.0, 0.5], [7.0, 7.0]])
print("gated:", ref.feed_forward_one(x, w, v, w2, relu), " not gated:", ref.feed_forward_one(x, w, None, w2, relu))
assert (x @ w).tolist() == [3, -1] and (x @ v).tolist() == [2, 5]
assert ref.feed_forward_one(x, w, v, w2, relu).tolist() == [6, 3]
assert ref.feed_forward_one(x, w, None, w2, relu).tolist() == [3, 1.5]

# %% [markdown]
# **Two gated units make an exact product.** Give the second unit the opposite weights of the first, in $W$ and in $V$. With $a = x \cdot w$ and $b = x \cdot v$, the sum of both is
#
# $$\varphi(a)\, b + \varphi(-a)\,(-b) = \bigl(\varphi(a) - \varphi(-a)\bigr)\, b.$$
#
# ReLU, GELU and Swish have the form $\varphi(a) = a\, g(a)$, where $g$ is a step, the normal distribution function Φ, or σ. For each of them $g(a) + g(-a) = 1$ (for the step, where $a \ne 0$; at 0 both sides are 0). Hence
# $\varphi(a) - \varphi(-a) = a\,(g(a) + g(-a)) = a$, and the sum is $a\,b$. For GLU $\varphi = \sigma$, and $\sigma(a) - \sigma(-a) = \tanh(a/2)$: for large $a$ that is only a sign.

# %%
x, w, v = rng.normal(size=(10_000, 3)) * 5, rng.normal(size=(3, 1)), rng.normal(size=(3, 1))
a, b = x @ w, x @ v
pair = Projection(np.hstack([w, -w])), Projection(np.hstack([v, -v])), Projection(np.ones((2, 1)))
errors = {}
for name in ("relu", "gelu", "swish", "sigmoid"):
    summed, _ = ref.feed_forward(x, *pair, ACTIVATIONS[name])
    errors[name] = np.abs(summed - a * b).max() / np.abs(a * b).max()
    print(f"{name:8} largest error of the pair / largest product: at most {figures.power_above(errors[name])}")
assert max(list(errors.values())[:3]) < 4 * np.finfo(float).eps and np.allclose(summed, np.tanh(a / 2) * b)

# %% [markdown]
# ## In NumPy
#
# **One unit of one token**: two numbers are found, and their product is written.

# %%
x, w, v, w2 = (rng.normal(size=size) for size in ((2, 3, 5), (5, 7), (5, 7), (7, 5)))
token = x[0, 0]
activated, linear = relu(token @ w[:, 0]), token @ v[:, 0]
print(f"unit 0: φ(xw) {activated:.2f}, xv {linear:.2f}, writes {activated * linear:.2f} of its row {w2[0].round(2)}")

# %% [markdown]
# **All units of one token** write their rows on top of each other.

# %%
strengths = relu(token @ w) * (token @ v)
written = sum(strength * row for strength, row in zip(strengths, w2))
print("strengths", strengths.round(2) + 0.0, "\nwritten  ", written.round(2))
assert np.allclose(written, ref.feed_forward_one(token, w, v, w2, relu)) and np.allclose(written, strengths @ w2)

# %% [markdown]
# **All tokens** are more rows of the same products; the reference adds biases.

# %%
all_written = (relu(x @ w) * (x @ v)) @ w2
print(inspect.getsource(ref.feed_forward).split('"""')[-1].strip("\n"))
found, _ = ref.feed_forward(x, Projection(w), Projection(v), Projection(w2), relu)
assert np.allclose(found, all_written) and np.allclose(found[0, 0], written)

# %% [markdown]
# **The block** adds the input and normalizes, several times if it is told to.

# %%
layer = GatedFeedforward(7, "gelu", num_blocks=2, dtype="float64")
layer(x)
weights, y = weights_of(layer, ref.GatedFeedforwardWeights), x
for i in range(2):
    added, _ = ref.feed_forward(y, weights.intermediate[i], weights.gate[i], weights.output[i], gelu)
    y = layer_norm(y + added, weights.output_layer_norm[i])
print(inspect.getsource(ref.gated_feedforward).split('"""')[-1].strip("\n"))
assert np.allclose(ref.gated_feedforward(x, weights)[0], y)

# %% [markdown]
# ## What it does
#
# **What is a fair comparison?** Three maps instead of two, so two thirds of the units. The kernels then have as many numbers as without a gate.

# %%
for kind in ("ReLU", "SwiGLU"):
    layer = networks.network(kind, 72)
    layer.build((None, None, 24))
    kernels = [tuple(weight.shape) for weight in layer.weights if len(weight.shape) == 2]
    print(f"{kind:7}{layer.inner_dim} units, kernels {kernels}: {sum(m * f for m, f in kernels)} numbers")
    assert sum(m * f for m, f in kernels) == 2 * 24 * 72

# %% [markdown]
# **Do the variants rank as in the paper?** Its Table 1 pre-trains T5 with eight kinds of networks. We train a language model of one layer on a made-up language of 11 words: $x_t = 2 x_{t-1} + 3 x_{t-2}$ modulo 11,
# and one word in ten is random. Each kind has three learning rates and three seeds ([the experiment](../experiments/gated_feedforward/language.py)). The rate is constant in the first half of training and then falls to zero, so that the loss settles.
#
# We measure twice: **speed**, the loss after 150 steps, and the **end**, the loss on test sentences after all 800. For speed we show every rate; in the end each kind has its best one. The bound is what a model that knows the rule and the noise gets on the
# test sentences. The paper's numbers are log-perplexities on held-out text, so only their order can be compared with ours.

# %%
runs = results["language"]
rates, early_steps, steps = runs.experiment.rates, language.EARLY, language.STEPS
found = {rate: {kind: runs.values("early", kind, rate) for kind in networks.KINDS} for rate in rates}
found["end"] = {kind: runs.values("end", kind) for kind in networks.KINDS}
others = [kind for kind in networks.TABLE if kind not in networks.LEADERS]
paper = {"ReLU": (1.997, 1.677), "GELU": (1.983, 1.679), "Swish": (1.994, 1.683), "GLU": (1.982, 1.663)}
paper |= {"Bilinear": (1.960, 1.648), "GEGLU": (1.942, 1.633), "SwiGLU": (1.944, 1.636), "ReGLU": (1.953, 1.645)}

# %%
print(f"{'loss after':16}{f'{early_steps} steps, at a rate of':45}{steps} steps,        paper, Table 1:")
print(f"{'':16}" + "".join(f"{rate:<15g}" for rate in rates) + f"{'at its best rate':19}65,536 steps  524,288 steps")
for kind in networks.KINDS:
    early = "".join(f"{found[rate][kind].min():.2f} to {found[rate][kind].max():.2f}   " for rate in rates)
    end = f"{found['end'][kind].min():.3f} to {found['end'][kind].max():.3f}"
    printed = "{:.3f}         {:.3f}".format(*paper[kind]) if kind in paper else "–"
    print(f"{kind:16}{early}{end:19}{printed}")
print(f"a guess {language.GUESS:.2f}; a model that knows the rule {language.TRUTH:.3f}")

# %%
fig, axes = plt.subplots(1, 4, figsize=(10.5, 3.6), sharey=True, sharex=True)
for ax, what in zip(axes, found):
    for row, kind in enumerate(networks.KINDS):
        color = figures.COLORS[1 if kind in networks.LEADERS else 0]
        ax.plot(found[what][kind], [row] * 3, "o", color=color, linestyle="none")
    ax.axvline(language.TRUTH, color="black", linestyle=":", marker="none")
    ax.set_title(f"{early_steps} steps, rate {what}" if what in rates else f"{steps} steps: lead gone")
axes[0].set_yticks(range(len(networks.KINDS)), networks.KINDS)
axes[0].invert_yaxis()
fig.suptitle("four gated kinds (orange) start faster, and none ends better")
fig.supxlabel("loss, nats (dotted: a model that knows the rule)", fontsize="medium")
figures.show()

# %% [markdown]
# Each dot is one seed. The orange kinds are the four gates whose product grows with the square of the input; GLU's σ is at most 1.


# %%
def span(what, kinds):
    values = np.array([found[what][kind] for kind in kinds])
    return values.min(), values.max()


for what in found:
    (low, high), (best, worst) = span(what, networks.LEADERS), span(what, others)
    name = f"{early_steps} steps, rate {what:g}" if what in rates else f"{steps} steps, best rates"
    print(f"{name:22} Bilinear, GEGLU, SwiGLU, ReGLU {low:.3f} to {high:.3f}, the other four {best:.3f} to {worst:.3f}")
apart = {what: np.ptp([np.median(found[what][kind]) for kind in networks.TABLE]) for what in found}
widest = max(np.ptp(found["end"][kind]) for kind in networks.TABLE)
print(f"medians of the eight kinds apart: {min(apart[rate] for rate in rates):.2f} or more after {early_steps} steps, ", end="")
print(f"{apart['end']:.3f} in the end; widest range of the seeds of one kind, in the end: {widest:.3f}")
assert all(span(rate, networks.LEADERS)[1] < span(rate, others)[0] for rate in rates[:2])
assert span("end", networks.LEADERS)[1] > span("end", others)[0]

# %% [markdown]
# **After 150 steps** the two groups of the paper's table are there at the two lower rates: the slowest seed of Bilinear, GEGLU, SwiGLU and ReGLU is ahead of the fastest seed of the other four. At the highest rate the seeds of a kind differ so much that the
# groups overlap.
#
# **In the end** they overlap, too. All eight kinds reach about the same loss, near the bound: their medians are a hundredth as far apart as after 150 steps, and the seeds of one kind can differ by more. So on this task the four gates buy speed and not a better model. In the paper a gap is left after 524,288 steps. That does not
# contradict ours: its text is real, and how near its models are to the best possible is not known.
#
# **Speed depends on the learning rate, and on luck.** Three of the kinds at the two higher rates, a line for each seed:

# %%
fig, axes = plt.subplots(1, 2, figsize=(9.5, 3.3), sharey=True)
for ax, rate in zip(axes, rates[1:]):
    for place, kind in enumerate(("GLU", "ReLU", "SwiGLU")):
        at, values = runs.curves("loss", kind, rate)
        style = {"color": figures.COLORS[place], "linestyle": figures.DASHES[place], "marker": "none"}
        ax.plot(at, values.T, label=[kind, "_", "_"], **style)
    ax.axhline(language.FLOOR, color="black", linestyle=":", marker="none")
    ax.set(xlabel="step (dotted: entropy of the noise)")
axes[0].set(ylabel="loss, nats", title=f"rate {rates[1]:g}: SwiGLU first, GLU uneven")
axes[1].set_title(f"rate {rates[2]:g}: less steady, the same end")
handles, names = axes[0].get_legend_handles_labels()
fig.legend(handles, names, loc="outside right center", frameon=False)
figures.show()

# %%
for after in (early_steps, 2 * early_steps):
    print(f"loss of GLU after {after} steps, seed by seed:", end="")
    for rate in rates:
        at, values = runs.curves("loss", "GLU", rate)
        print(f"   rate {rate:g}:", *(f"{loss:.2f}" for loss in values[:, at == after].ravel()), end="")
    print()
middle = found[rates[1]]
assert (
    max(networks.TABLE, key=lambda kind: np.ptp(middle[kind]))
    == max(networks.TABLE, key=lambda kind: middle[kind].max())
    == "GLU"
)

# %% [markdown]
# GLU depends most on luck here: at a rate of 0.01, its fastest seed is nearly as fast as the four leaders, and its slowest one is the slowest of all eight kinds. After 300 steps most of that is over at the middle rate. A ranking by one seed, one rate and one number of steps can come out in
# many ways. The drop in the second half comes with the falling rate.
#
# **Is it the product?** Two more rows of the table and the figure test it. *SwiGLU, added* has the three maps of SwiGLU and adds their results instead of multiplying them: $(\varphi(xW) + xV)\, W_2$. *ReLU², no gate* has two maps and the square
# $\max(0, a)^2$ as activation. Four of its units make a product too, because $4ab = (a + b)^2 - (a - b)^2$.

# %%
for kind in ("Swish", networks.ADDED, networks.SQUARED, "SwiGLU"):
    print(f"{kind:15} after {early_steps} steps", end="")
    print("".join(f"   rate {rate:g}: {found[rate][kind].min():.2f} to {found[rate][kind].max():.2f}" for rate in rates))
assert all(found[rate]["SwiGLU"].max() < found[rate][networks.ADDED].min() for rate in rates)
assert all(found[rate][networks.SQUARED].max() < found[rate]["Swish"].min() for rate in rates[:2])

# %% [markdown]
# With a sum in place of the product, SwiGLU loses its lead at every rate, so the third map alone does not make it. Squares without a gate have most of the lead at the two lower rates. What goes with speed here is units that multiply, and a gate is one way to have
# them.
#
# **Does a gate always help?** Networks of 4,608 numbers each learn two functions: products of two linear maps, and a ReLU network with 32 hidden units. ReGLU and Bilinear contain the products exactly: 24 products take 48 gated units of 64 with a
# ReLU, and 24 without an activation. ReLU and ReGLU contain the ReLU network (for ReGLU, a bias makes $xV$ the constant 1). So an error of 0 is possible there, and 1 means that nothing was learned. Each has three learning rates and three seeds.

# %%
fits = results["functions"]
fig, axes = plt.subplots(1, 2, figsize=(9.5, 3.3), sharey=True)
for ax, target in zip(axes, functions.TARGETS):
    for place, kind in enumerate(functions.FITTERS):
        at, values = fits.curves("loss", f"{kind} learns {target}")
        color, dash = figures.COLORS[place], figures.DASHES[place]
        ax.semilogy(at, values.T, color=color, linestyle=dash, marker="none", label=[kind, "_", "_"])
    ax.set(xlabel="step (best rate of each, three seeds)")
axes[0].set(ylabel="squared error / variance", title="products: Bilinear first, ReLU last")
axes[1].set(title="a ReLU network: ReLU first, Bilinear last")
handles, names = axes[0].get_legend_handles_labels()
fig.legend(handles, names, loc="outside right center", frameon=False)
figures.show()

# %%
left = {}
for target in functions.TARGETS:
    print(f"{target}, left after {functions.FITTED} steps:")
    for kind in functions.FITTERS:
        arm = f"{kind} learns {target}"
        values = left[kind, target] = fits.values("left", arm)
        print(f"    {kind:9} {values.min():.0e} to {values.max():.0e}   (best rate {fits.best_rate(arm):g})")
for target, order in zip(functions.TARGETS, (("Bilinear", "ReGLU", "ReLU"), ("ReLU", "ReGLU", "Bilinear"))):
    for better, worse in pairwise(order):
        assert left[better, target].max() < left[worse, target].min()

# %% [markdown]
# Each network is best at what it is made of. ReGLU, which has both, is in the middle twice. It could make both functions exactly, but it is not as good as the specialist after the same number of steps. (That is speed again, and not where training
# could end.) So a gate helps where the task has products, and costs something where it has none.
#
# The stored runs can be made again with `make experiments NAME=gated_feedforward`. One of them, live:

# %%
arm = "Bilinear learns products"
live = functions.train_fitter(arm, fits.best_rate(arm), seed=0)
print(f"left of the products, trained just now: {live['left']:.0e}")
assert fits.contains(live["left"], "left", arm)

# %% [markdown]
# ## Where it breaks
#
# **Products leave float16.** It ends at 65,504, and $300^2$ is beyond it. The map behind it then computes $\infty \cdot 0$, which is not a number. bfloat16 reaches as far as float32.

# %%
large = keras.ops.convert_to_tensor(np.full((1, 2), 300.0))
finite = {}
for dtype in ("float16", "bfloat16"):
    layer = GatedFeedforward(2, "linear", kernel_initializer="identity", apply_output_layer_norm=False, dtype=dtype)
    finite[dtype] = keras.ops.convert_to_numpy(keras.ops.cast(layer(large), "float32"))[0]
    print(f"{dtype:9} 300 + 300²: {finite[dtype]}")
assert not np.isfinite(finite["float16"]).any() and np.isfinite(finite["bfloat16"]).all()

# %% [markdown]
# An ordinary network of the same weights gives 600. In float16, gated networks need smaller weights, or the product in float32.
#
# **Differs from the paper.** The maps may have biases; residual connection and norm are part of the block, with the norm last. `inner_dim` is the number of units with a gate too: to have as many parameters as without one, pass two thirds. **Differs from the Model Garden.** There,
# `apply_output_layer_norm=False` also removes the residual connection; ours keeps it.
#
# ## Does the layer agree?

# %% tags=["nbval-ignore-output"]
line, agrees = figures.agreement_line(CHAPTER)
assert agrees
line

# %% [markdown]
# ## Today
#
# SwiGLU is the feed-forward network of PaLM ([Chowdhery et al., 2022](https://arxiv.org/abs/2204.02311)), of Llama, with two thirds of the usual $4m$ units ([Touvron et al., 2023](https://arxiv.org/abs/2302.13971)), and of the experts of
# Mixtral ([Jiang et al., 2024](https://arxiv.org/abs/2401.04088)); Gemma has GEGLU ([Gemma Team, 2024](https://arxiv.org/abs/2403.08295)). Primer found ReLU² without a gate by search ([So et al., 2021](https://arxiv.org/abs/2109.08668)), and
# Nemotron-4 uses it ([Parmar et al., 2024](https://arxiv.org/abs/2402.16819)). Bilinear networks are studied because their weights alone say what they compute, as in exercise 3 ([Pearce et al., 2024](https://arxiv.org/abs/2410.08417)).
#
# ## Exercises
#
# **1** (easy, 5 minutes). SwiGLU for tokens `x` `(t, m)`, with `w` and `v` `(m, f)` and `w2` `(f, m)`. Gates may be ±1,000.


# %%
def swiglu(x, w, v, w2):
    return None  # your turn


_ = check("gated_feedforward/1", swiglu)

# %% [markdown]
# <details><summary>Hint</summary>Swish is <code>a / (1 + np.exp(-a))</code>; where that overflows, it is 0.</details>
# <details><summary>Solution</summary><code>a = x @ w; return (a / (1 + np.exp(-a)) * (x @ v)) @ w2</code></details>
#
# **2** (medium, 10 minutes). One product instead of two: `wv` `(m, 2 f)` holds $W$ and then $V$. Compute ReGLU for tokens `x` `(t, m)`; `w2` is `(f, m)`.


# %%
def one_product(x, wv, w2):
    return None  # your turn


_ = check("gated_feedforward/2", one_product)

# %% [markdown]
# <details><summary>Hint</summary>Split what comes out of the product, along its last axis.</details>
# <details><summary>Solution</summary><code>a, b = np.split(x @ wv, 2, axis=-1); return (np.maximum(a, 0) * b) @ w2</code></details>
#
# **3** (hard, 15 minutes). Each output of a bilinear layer $(x W \odot x V) W_2$ is a quadratic form $x^\top A_k x$. Return the symmetric matrices $A$, the first axis being the output's $k$; `w2` may have more or fewer outputs than there are inputs.


# %%
def forms(w, v, w2):
    return None  # your turn


_ = check("gated_feedforward/3", forms)

# %% [markdown]
# <details><summary>Hint</summary>Unit j is $x^\top (w_j v_j^\top) x$; only the symmetric half of a matrix matters there.</details>
# <details><summary>Solution</summary><code>a = np.einsum("mj,nj,jk-&gt;kmn", w, v, w2); return (a + a.swapaxes(1, 2)) / 2</code></details>
#
# **To discuss.** The paper closes with "we offer no explanation as to why these architectures seem to work". Name one explanation that you could test with a small model, and what result would speak against it.
#
# ## Summary
#
# - A gated unit multiplies two numbers that it finds in the token. Two such units make an exact product with ReLU, GELU and Swish; ReLU units without a gate only approach it.
# - At equal parameters, the four gates that grow with the square learn a made-up language faster, unless the learning rate is too high. Trained to the end, all eight kinds reach about the same loss.
# - The lead goes with the product: a sum in its place loses it, and squares without a gate have most of it. On a target made of ReLUs, ReLU is best.
#
# **Further reading.** [Shazeer, 2020](https://arxiv.org/abs/2002.05202): the paper, whose conclusion attributes the success "to divine benevolence". [Dauphin et al., 2016](https://arxiv.org/abs/1612.08083): gates
# in convolutional language models, where GLU comes from. [Geva et al., 2020](https://arxiv.org/abs/2012.14913): feed-forward units as keys and values. [So et al., 2021](https://arxiv.org/abs/2109.08668): the square, found by search.
