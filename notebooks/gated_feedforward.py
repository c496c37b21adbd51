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
# In an ordinary feed-forward network each unit looks once and passes on what it found. With a gate it looks twice, and multiplies.
#
# Paper: [Shazeer, 2020, section 2](https://arxiv.org/abs/2002.05202) · NumPy: [`reference/gated_feedforward.py`](../reference/gated_feedforward.py) · Layer:
# [`layers/gated_feedforward.py`](../layers/gated_feedforward.py) · 25 minutes · You should know: the feed-forward half of a [transformer block](transformer_encoder.ipynb)

# %%
import inspect

import keras
import matplotlib.pyplot as plt
import numpy as np
from scipy.stats import spearmanr

from crosscheck.case import TOLERANCE
from crosscheck.cases.gated_feedforward import CHAPTER
from crosscheck.lesson import figures
from crosscheck.lesson.counting import multiply_adds
from crosscheck.lesson.exercises import check
from crosscheck.lesson.training import fit
from crosscheck.weights import weights_of
from layers.attention import MultiHeadAttention
from layers.gated_feedforward import GatedFeedforward
from reference import gated_feedforward as ref
from reference.common.activations import ACTIVATIONS, gelu, relu
from reference.common.projection import Projection

figures.use_style()
rng = np.random.default_rng(0)

# %% [markdown]
# ## The question
#
# A unit computes $\max(0, w \cdot x)$: flat, then a slope. How well can such units say **"as much as $x_1$, if there is $x_2$"**, that is, the product $x_1 x_2$? We give sixteen of them the directions in which a
# product bends, four offsets each and the best output weights that there are. One gated unit stands beside them.

# %%
line = np.linspace(-3, 3, 121)
x = np.stack(np.meshgrid(line, line), axis=-1)
product = x[..., 0] * x[..., 1]
directions = np.array([[1, 1, -1, -1], [1, -1, 1, -1]]) / np.sqrt(2)
hinges = relu((x @ directions)[..., None] - np.array([0.0, 0.5, 1.0, 1.5])).reshape(*x.shape[:2], 16)
inside = np.abs(x).max(axis=-1) <= 1.5  # where the sixteen are fitted
found = hinges @ np.linalg.lstsq(hinges[inside], product[inside], rcond=None)[0]
units = ref.feed_forward(x, Projection(np.eye(2)[:, :1]), Projection(np.eye(2)[:, 1:]), Projection(np.ones((1, 2))), lambda a: a)
gated = units[0][..., 0]

fig, axes = plt.subplots(1, 3, figsize=(8.5, 2.9), sharey=True)
for ax, values, title in zip(axes, (product, found, gated), ("wanted: $x_1 x_2$", "sixteen ReLU units", "one gated unit")):
    image = ax.contourf(line, line, values, levels=np.arange(-9, 9.1, 1.5), cmap="cividis")
    ax.add_patch(plt.Rectangle((-1.5, -1.5), 3, 3, fill=False, linestyle="--"))
    ax.set(title=title, xlabel="$x_1$", aspect="equal")
    ax.grid(False)
axes[0].set_ylabel("$x_2$")
fig.colorbar(image, ax=axes, label="value")
plt.show()

# %% [markdown]
# Inside the dashed square, where they were fitted, sixteen units come near. Outside they go on straight ahead, and are wrong. The gated unit is the product, everywhere.

# %%
error = np.abs(found - product)
print(f"largest error of the sixteen: {error[inside].max():.2f} inside, {error.max():.1f} outside")
assert error[inside].max() < 0.15 and error.max() > 2
assert np.array_equal(gated, product)

# %% [markdown]
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
# | $V$ | the gate, which is linear | `weights.gate` | `(m, f)` |
# | $W_2$ | what each unit writes | `weights.output` | `(f, m)` |
# | $\varphi$ | the activation | `phi` | |
#
# The activation names the variant: $\sigma$ makes GLU, the identity Bilinear, and ReLU, GELU and Swish make ReGLU, GEGLU and SwiGLU.
#
# ## By hand
#
# Let $x = (1, 2)$, and two units with $xW = (3, -1)$ and $xV = (2, 5)$. Under ReLU the first passes 3 and the second nothing, so the gate leaves $(3 \cdot 2,\ 0 \cdot 5) = (6, 0)$: the first unit writes its row of $W_2$ six
# times. Without the gate it writes it three times.

# %%
x, w, v = np.array([1.0, 2.0]), np.array([[1.0, 1.0], [1.0, -1.0]]), np.array([[0.0, 1.0], [1.0, 2.0]])
w2 = np.array([[1.0, 0.5], [7.0, 7.0]])
print("gated:", ref.feed_forward_one(x, w, v, w2, relu), " not gated:", ref.feed_forward_one(x, w, None, w2, relu))
assert (x @ w).tolist() == [3, -1] and (x @ v).tolist() == [2, 5]
assert ref.feed_forward_one(x, w, v, w2, relu).tolist() == [6, 3]
assert ref.feed_forward_one(x, w, None, w2, relu).tolist() == [3, 1.5]

# %% [markdown]
# ## In NumPy

# %%
print(inspect.getsource(ref.feed_forward_one))
print(inspect.getsource(ref.feed_forward))

# %%
x, w, v, w2 = (rng.normal(size=size) for size in ((2, 3, 5), (5, 7), (5, 7), (7, 5)))
output, _ = ref.feed_forward(x, Projection(w), Projection(v), Projection(w2), gelu)
assert all(np.allclose(output[b, t], ref.feed_forward_one(x[b, t], w, v, w2, gelu)) for b, t in np.ndindex(2, 3))
print("unit by unit and all at once agree")

# %% [markdown]
# ## What it does
#
# **How does a unit answer as what it looks for grows?** Let both maps look in the same direction, so that a unit sees $s$ and answers $\varphi(s)$ without a gate, $\varphi(s)\,s$ with one.

# %%
s = np.linspace(-3, 3, 121)
names = {"sigmoid": "GLU", "linear": "Bilinear", "relu": "ReGLU", "gelu": "GEGLU", "swish": "SwiGLU"}
fig, axes = plt.subplots(1, 2, figsize=(9, 3.2), sharey=True)
for name, label in names.items():
    phi = ACTIVATIONS[name]
    axes[0].plot(s, phi(s), markevery=20, label=f"{name}: {label}")
    axes[1].plot(s, phi(s) * s, markevery=20)
for ax, title in zip(axes, (r"without a gate: $\varphi(s)$", r"with one: $\varphi(s)\,s$")):
    ax.set(title=title, xlabel="what the unit sees, s", ylim=(-3.2, 9.2))
axes[0].set_ylabel("strength of the unit")
fig.legend(loc="outside right center", frameon=False)
plt.show()

# %% [markdown]
# Four of the five gated units grow with the square: twice the input, four times the answer. GLU's σ saturates, so it stays a line. Bilinear alone cannot tell $s$ from $-s$.

# %%
growth = {
    name: float(ACTIVATIONS[name](np.array([40.0])).item() * 2 / ACTIVATIONS[name](np.array([20.0])).item()) for name in names
}
print({name: round(value, 3) for name, value in growth.items()})
assert np.isclose(growth.pop("sigmoid"), 2) and np.allclose(list(growth.values()), 4)
answers = {name: np.allclose(ACTIVATIONS[name](-s) * -s, ACTIVATIONS[name](s) * s) for name in names}
assert [name for name, even in answers.items() if even] == ["linear"]

# %% [markdown]
# **What is a fair comparison?** Three maps instead of two, so two thirds of the units: then the parameters are the same, up to a few biases.


# %%
def network(m, f, activation, gated, **options):
    """A feed-forward network; a gated one has two thirds of the units."""
    return GatedFeedforward(f * 2 // 3 if gated else f, activation, use_gate=gated, **options)


sizes = []
for gated in (False, True):
    layer = network(24, 72, "relu", gated, apply_output_layer_norm=False)
    layer.build((None, None, 24))
    sizes.append(sum(weight.shape[0] * weight.shape[1] for weight in layer.weights if len(weight.shape) == 2))
print("numbers in the kernels, without and with a gate:", sizes)
assert sizes[0] == sizes[1] == 2 * 24 * 72

# %% [markdown]
# **Do the variants rank as in the paper?** Its Table 1 pre-trains T5 with each of eight kinds. We train a language model of one layer, on a language where a word follows from the two before it,
# $x_t = 2 x_{t-1} + 3 x_{t-2}$ modulo 11, and one word in ten is random. No model can have a loss below the entropy of that noise.

# %%
n, length, noise = 11, 12, 0.1
kinds = {"ReLU": ("relu", False), "GELU": ("gelu", False), "Swish": ("swish", False), "GLU": ("sigmoid", True)}
kinds |= {"Bilinear": ("linear", True), "GEGLU": ("gelu", True), "SwiGLU": ("swish", True), "ReGLU": ("relu", True)}


def sentences(count):
    words = rng.integers(0, n, (count, length + 1))
    random = rng.random(words.shape) < noise
    for t in range(2, length + 1):
        words[:, t] = np.where(random[:, t], words[:, t], (2 * words[:, t - 1] + 3 * words[:, t - 2]) % n)
    return words[:, :-1], words[:, 1:]


class LanguageModel(keras.Model):
    def __init__(self, kind, m=32):
        super().__init__()
        self.word, self.place = keras.layers.Embedding(n, m), keras.layers.Embedding(length, m)
        self.attention, self.norm = MultiHeadAttention(4, m // 4), keras.layers.LayerNormalization()
        self.network, self.logits = network(m, 3 * m, *kinds[kind]), keras.layers.Dense(n)

    def call(self, ids):
        x = self.word(ids) + self.place(keras.ops.arange(length))
        return self.logits(self.network(self.norm(x + self.attention(x, x, use_causal_mask=True))))


# %%
words, test = sentences(300 * 64), sentences(1000)
entropy = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
losses = {}
for kind in kinds:
    keras.utils.set_random_seed(0)
    model = LanguageModel(kind)
    model.compile(keras.optimizers.Adam(3e-3), entropy, steps_per_execution=50, jit_compile=False)
    fit(model, *words, batch_size=64, shuffle=False)
    losses[kind] = float(entropy(test[1][:, 1:], model(test[0])[:, 1:]))

likely = 1 - noise + noise / n
floor = -likely * np.log(likely) - (1 - likely) * np.log(noise / n)
paper = {"ReLU": 1.997, "GELU": 1.983, "Swish": 1.994, "GLU": 1.982}
paper |= {"Bilinear": 1.960, "GEGLU": 1.942, "SwiGLU": 1.944, "ReGLU": 1.953}

# %%
fig, ax = plt.subplots(figsize=(6.5, 3.6))
for kind, (_, gated) in kinds.items():
    label = {"ReLU": "no gate", "GLU": "gate"}.get(kind)
    ax.plot(paper[kind], losses[kind], "o" if gated else "s", color=figures.COLORS[not gated], markersize=8, label=label)
    offset = (-4, -15) if kind == "GEGLU" else (7, 4)
    ax.annotate(kind, (paper[kind], losses[kind]), xytext=offset, textcoords="offset points")
ax.axhline(floor, color="black", linestyle=":", label="entropy of the noise")
ax.set(xlabel="the paper: log-perplexity after 65,536 steps", ylabel="ours: loss after 300 steps", xlim=(1.935, 2.005))
ax.legend(loc="upper left")
plt.show()

# %% [markdown]
# The four that answer with the square lead in both, by far. The rest does **not** agree: GLU, which beats ReLU in the paper, stays behind it here, and the four leaders are too close together to be put in order. A rank correlation says
# little more than that: with the same four ahead it is at least 0.52, however the two halves are shuffled.

# %%
rho = spearmanr([losses[kind] for kind in kinds], [paper[kind] for kind in kinds]).statistic
leaders, others = sorted(losses, key=losses.get)[:4], sorted(losses, key=losses.get)[4:]
print("rank correlation with the paper above 0.5:", bool(rho > 0.5), " leaders:", sorted(leaders))
assert losses["GLU"] > losses["ReLU"] and round(spearmanr(range(8), [3, 2, 1, 0, 7, 6, 5, 4]).statistic, 2) == 0.52
assert rho > 0.5 and set(leaders) == {"Bilinear", "GEGLU", "SwiGLU", "ReGLU"} == set(sorted(paper, key=paper.get)[:4])
assert losses[leaders[-1]] - losses[leaders[0]] < 0.05 < losses[others[0]] - losses[leaders[-1]]
assert min(losses.values()) > floor

# %% [markdown]
# **Does a gate always help?** We let networks of equal size learn two functions: a product of two linear maps, and another ReLU network.

# %%
m, f, count = 24, 96, 400 * 128
x = rng.normal(size=(count + 2000, m)).astype("float32")
a, b, inner, outer = (rng.normal(size=size) for size in ((m, m), (m, m), (m, 32), (32, m)))
targets = {"a product": (x @ a) * (x @ b), "a ReLU network": relu(x @ inner) @ outer}
targets = {name: target / target.std() for name, target in targets.items()}
left = {name: {} for name in targets}
for name, target in targets.items():
    for kind in ("ReLU", "GELU", "SwiGLU", "Bilinear"):
        keras.utils.set_random_seed(0)
        model = keras.Sequential([network(m, f, *kinds[kind], apply_output_layer_norm=False)])
        model.compile(keras.optimizers.Adam(3e-3), "mse", steps_per_execution=100, jit_compile=False)
        fit(model, x[:count], (x + target)[:count], batch_size=128, shuffle=False)
        left[name][kind] = np.mean((model(x[count:]) - (x + target)[count:]) ** 2)

# %%
fig, ax = plt.subplots()
for name, errors in left.items():
    ax.semilogy(list(errors), list(errors.values()), linestyle="none", markersize=8, label=f"to learn: {name}")
ax.set(ylabel="squared error / variance", xlabel="kind of network, 4,608 numbers in its kernels each")
ax.legend()
plt.show()

# %% [markdown]
# Each network learns best what it is made of. A gate is a bet on products, which language seems to reward; it is no law.

# %%
assert list(left["a product"].values()) == sorted(left["a product"].values(), reverse=True)
assert min(left["a ReLU network"], key=left["a ReLU network"].get) == "ReLU"
assert left["a product"]["ReLU"] > 3 * left["a product"]["Bilinear"]
assert left["a ReLU network"]["Bilinear"] > 1.5 * left["a ReLU network"]["ReLU"]

# %% [markdown]
# ## Does the layer agree?

# %%
errors = figures.agreement_plot(CHAPTER)
assert all(error <= TOLERANCE[dtype] for by_dtype in errors.values() for dtype, error in by_dtype.items())
print("layer and reference agree in", ", ".join(TOLERANCE))

# %% [markdown]
# ## Where it breaks
#
# **A switch that takes more than its name says.** In the Model Garden, `apply_output_layer_norm=False` also takes the residual connection out. What is left of a token after twelve such blocks, with small weights to start with?

# %%
x = rng.normal(size=(1, 5, 24))
small = keras.initializers.RandomNormal(stddev=0.05)
layer = GatedFeedforward(48, apply_output_layer_norm=False, num_blocks=12, kernel_initializer=small, dtype="float64")
kept = np.linalg.norm(layer(x)) / np.linalg.norm(x)
weights, alone = weights_of(layer, ref.GatedFeedforwardWeights), x
for maps in zip(weights.intermediate, weights.gate, weights.output):
    alone, _ = ref.feed_forward(alone, *maps, gelu)
print(
    f"with the residual connection {kept:.2f} of the token; without it less than 1e-100: {bool(np.linalg.norm(alone) < 1e-100)}"
)
assert 0.8 < kept < 1.25 and np.linalg.norm(alone) < 1e-100

# %% [markdown]
# Each block multiplies what little there is by itself. Ours keeps the connection, and writes the switch into its configuration.
#
# **Squares leave float16.** It ends at 65,504, and $300^2$ is beyond it. What comes next, such as the norm's $\infty - \infty$, is not a number. bfloat16 reaches as far as float32.

# %%
large = keras.ops.convert_to_tensor(np.full((1, 2), 300.0))
finite = {}
for dtype in ("float16", "bfloat16"):
    layer = GatedFeedforward(2, "linear", kernel_initializer="identity", apply_output_layer_norm=False, dtype=dtype)
    finite[dtype] = bool(np.isfinite(keras.ops.cast(layer(large), "float32")).all())
print("finite:", finite)
assert finite == {"float16": False, "bfloat16": True}

# %% [markdown]
# **Differs from the paper.** The maps may have biases; residual connection and norm are part of the block, with the norm last; and nobody takes a third of your units away: `inner_dim` is what you say.
#
# ## What it costs
#
# A token costs $3 m f$ multiply-adds with a gate and $2 m f$ without, as many as the kernels have numbers; between the maps, $f$ numbers wait (with a gate, $2f$ before they are multiplied).

# %%
m, f, tokens = 24, 72, 10
x, counted_by_gate = rng.normal(size=(2, 5, m)), {}
for gated in (False, True):
    layer = network(m, f, "relu", gated, dtype="float64")
    layer(x)
    with multiply_adds() as counted:
        _, (strengths,) = ref.gated_feedforward(x, weights_of(layer, ref.GatedFeedforwardWeights), relu)
    units = layer.inner_dim
    counted_by_gate[gated] = sum(counted)
    assert layer.count_params() == (3 if gated else 2) * m * units + (2 if gated else 1) * units + m + 2 * m
    assert strengths.nbytes == 8 * tokens * units
print("multiply-adds, without and with a gate:", counted_by_gate)
assert 2 * m * (4 * m) == 4 * m**2 + 2 * (2 * m) * m  # a token's share of both halves of a block, at n = 2 m
assert counted_by_gate == {False: tokens * 2 * m * f, True: tokens * 3 * m * (2 * f // 3)}

# %%
m, lengths = 512, 2 ** np.arange(5, 14)
fig, ax = plt.subplots()
ax.loglog(lengths, lengths * 2 * m * 4 * m, base=2, label="feed-forward, f = 4 m")
ax.loglog(lengths, 4 * lengths * m**2 + 2 * lengths**2 * m, base=2, label="attention, h d = m")
ax.axvline(2 * m, color="black", linestyle=":", marker="none", label="n = 2 m")
ax.set(xlabel="length n", ylabel="multiply-adds", title=f"one block, m = {m}")
ax.legend()
plt.show()

# %% [markdown]
# Up to $n = 2m$ tokens, the feed-forward network is the dearer half of a block, and it alone grows with the length and not its square.
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
# - A gated unit multiplies two looks at the token: one unit is a product, which ReLU units only approach.
# - At equal parameters, the four variants that answer with a square lead, here as in the paper; where the target is made of ReLUs, ReLU wins.
# - The residual connection is not the norm: dropping one must not drop the other.
#
# **Further reading.** [Shazeer, 2020](https://arxiv.org/abs/2002.05202): the paper, whose conclusion attributes the success "to divine benevolence". [Dauphin et al., 2016](https://arxiv.org/abs/1612.08083): gates
# in convolutional language models, where GLU comes from. [Geva et al., 2020](https://arxiv.org/abs/2012.14913): feed-forward units as keys and values. [So et al., 2021](https://arxiv.org/abs/2109.08668): the square, found by search.
