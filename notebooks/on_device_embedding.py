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
# # Token embedding: a row, or a product
#
# A token arrives as a number and leaves as a row of a table. The row can be looked up, or multiplied out of the table.
#
# Paper: [Vaswani et al., 2017, section 3.4](https://arxiv.org/abs/1706.03762) · NumPy: [`reference/on_device_embedding.py`](../reference/on_device_embedding.py) · Layer:
# [`layers/on_device_embedding.py`](../layers/on_device_embedding.py) · 25 minutes · You should know: matrix products

# %% tags=["hide-input"] jupyter={"source_hidden": true}
import inspect
import re

import jax
import jax.numpy as jnp
import keras
import matplotlib.pyplot as plt
import numpy as np

from crosscheck.backends import compiled_step
from crosscheck.cases.on_device_embedding import CHAPTER
from crosscheck.lesson import figures
from crosscheck.lesson.counting import multiply_adds
from crosscheck.lesson.diagram import Box, diagram
from crosscheck.lesson.exercises import check
from crosscheck.models import minilm
from experiments import on_device_embedding as experiment
from experiments.common import novel, reader
from experiments.common.results import stored
from layers.on_device_embedding import OnDeviceEmbedding
from reference import on_device_embedding as ref

figures.use_style()
rng = np.random.default_rng(0)
results = stored("on_device_embedding")

# %% [markdown]
# ## The question
#
# A table has three rows: 10, 20, 30. **What is row −1, and what is row 3?** Such ids come from a tokenizer that is newer than the table, or from a −1 that stands for padding.


# %%
table = np.array([[10.0], [20.0], [30.0]], "float32")


def take(ids):
    return keras.ops.take(table, ids, axis=0)


ways = {
    "NumPy": lambda ids: table[ids],
    "Keras, take": take,
    "Keras, take, compiled": lambda ids: compiled_step(take, [], [ids], xla=True)()[0],
    "JAX, take": lambda ids: jnp.take(jnp.array(table), ids, axis=0),
    "JAX, indexing": lambda ids: jnp.array(table)[ids],
    "a product": lambda ids: ref.one_hot(ids, 3) @ table,
}


# %%
def answer(way, i):
    try:
        value = float(np.asarray(way(np.array([i], "int32")))[0, 0])
    except Exception:  # each library has an error of its own
        return "error"
    return "NaN" if np.isnan(value) else f"{value:.0f}"


answers = {name: [answer(way, i) for i in (-1, 2, 3)] for name, way in ways.items()}

# %%
fig, ax = plt.subplots(figsize=(6.5, 2.6))
for y, row in enumerate(answers.values()):
    for x, text in enumerate(row):
        ax.text(x, y, text, ha="center", va="center", weight="normal" if x == 1 else "bold")
ax.set_yticks(range(len(answers)), answers)
ax.set_xticks(range(3), ["row −1", "row 2", "row 3"])
ax.set(
    xlim=(-0.5, 2.5),
    ylim=(5.5, -0.5),
    title=f"row 3 does not exist: {len({row[2] for row in answers.values()})} different answers",
)
ax.grid(False)
figures.show()

# %% tags=["nbval-ignore-output"]
print({name: {row[column] for row in answers.values()} for name, column in (("row −1", 0), ("row 2", 1), ("row 3", 2))})
assert all(row[1] == "30" for row in answers.values())
assert answers["NumPy"] == ["30", "30", "error"] and answers["a product"] == ["0", "30", "0"]
assert answers["JAX, take"] == ["30", "30", "NaN"] and answers["JAX, indexing"] == ["30", "30", "30"]

# %% [markdown]
# All agree on the row that is there. For the others a library may wrap around, clamp, return NaN, stop or return zero, and most of these values look like a word. This lesson's layer always returns **zeros**, as the product does.
#
# ## The picture

# %% tags=["hide-input"] jupyter={"source_hidden": true}
boxes = {"ids": Box("ids", 0.7, 0, "data"), "take": Box("look rows up", -0.5, 2), "hot": Box("one-hot rows", 1.9, 1)}
boxes |= {"product": Box("product", 1.9, 2), "table": Box("table $E$", 0.7, 2, "map"), "scale": Box("×", 0.7, 3)}
boxes |= {"c": Box("scale $c$", 1.9, 3, "data"), "y": Box("output", 0.7, 4, "data")}
arrows = [("ids", "take", "(b, t)"), ("ids", "hot", "(b, t)"), ("hot", "product", "o (b, t, n)"), ("table", "take", "(n, m)")]
arrows += [("table", "product", "(n, m)"), ("take", "scale", "(b, t, m)"), ("product", "scale", "(b, t, m)"), ("c", "scale", "")]
diagram(boxes, [*arrows, ("scale", "y", "(b, t, m)")])
figures.show()

# %% [markdown]
# Two ways to the same output; a layer takes one of them. The table is trained.
#
# ## The equation
#
# $$ y_t = c\,E_{\mathrm{id}_t} \tag{1}$$
#
# $$ y_t = c\, o_t E, \qquad o_{tj} = [\mathrm{id}_t = j] \tag{2}$$
#
# $$ \frac{\partial L}{\partial E_i} = c \sum_{t:\, \mathrm{id}_t = i} \frac{\partial L}{\partial y_t} \tag{3} $$
#
# | symbol | what it is | in code | shape |
# |---|---|---|---|
# | $\mathrm{id}$ | numbers of tokens | `ids` | `(b, t)` |
# | $E$ | the table | `table`, the layer's `embeddings` | `(n, m)` |
# | $o$ | one-hot rows | `one_hot(ids, n)` | `(b, t, n)` |
# | $c$ | scale; $\sqrt m$ in the paper | `scale`, the layer's `scale_factor` | one number |
#
# For an id that is nowhere in the table, (2) gives zero; (1) is defined to give the same.
#
# ## By hand
#
# Rows (1, 2), (3, 4), (5, 6), and the ids 2, 0, 3. With pencil: (5, 6), (1, 2), and (0, 0). Below them the one-hot rows, whose product with the table is the same.

# %%
table, ids = np.array([[1.0, 2], [3, 4], [5, 6]]), np.array([2, 0, 3])
found = np.stack([ref.embed_one(i, table) for i in ids])
print(found)
print(ref.one_hot(ids, 3))
assert found.tolist() == [[5, 6], [1, 2], [0, 0]]
assert np.array_equal(ref.one_hot(ids, 3) @ table, found)

# %% [markdown]
# Backwards: if a token occurs twice, its row gets the sum of both gradients. Ids 1, 1, 0 with gradients (1, 2), (3, 4), (5, 6): row 1 gets (4, 6), row 0 gets (5, 6), row 2 nothing.

# %%
slope = np.array([[1.0, 2], [3, 4], [5, 6]])
gradient = ref.gradient_by_loops(np.array([1, 1, 0]), slope, 3)
print(gradient)
assert gradient.tolist() == [[5, 6], [4, 6], [0, 0]]

# %% [markdown]
# ## In NumPy
#
# **All ids at once**: indexing looks rows up, and does something else for ids outside. So these are replaced by 0 first, and their rows by zeros afterwards.

# %%
table, ids = rng.normal(size=(9, 5)), rng.integers(-2, 11, (3, 4))
known = (ids >= 0) & (ids < 9)
rows = np.where(known[..., None], table[np.where(known, ids, 0)], 0)
print("ids\n", ids, "\nlengths of their rows\n", np.linalg.norm(rows, axis=-1).round(2))
assert np.array_equal(rows, [[ref.embed_one(i, table) for i in row] for row in ids])

# %% [markdown]
# **The product** needs no such care: an id outside has no 1 in its row.

# %%
hot = (ids[..., None] == np.arange(9)).astype(float)
print("ones in each row\n", hot.sum(axis=-1))
assert np.allclose(hot @ table, rows)

# %% [markdown]
# **The gradient** of the product is a product with the transpose, and the same as the loop that adds token by token.

# %%
slope = rng.normal(size=(3, 4, 5))
gradient = np.einsum("btn,btm->nm", hot, slope)
print("row 0 gets", gradient[0].round(2), "from", (ids == 0).sum(), "tokens")
assert np.allclose(gradient, ref.gradient_by_loops(ids, slope, 9))

# %% [markdown]
# With the scale these are the references:

# %%
print(inspect.getsource(ref.embed))
print(inspect.getsource(ref.embed_by_one_hot))
assert np.array_equal(ref.embed(ids, table, 2.0), 2 * rows) and np.allclose(ref.embed_by_one_hot(ids, table, 2.0), 2 * rows)
assert np.allclose(ref.gradient_by_one_hot(ids, slope, 9, 2.0), 2 * gradient)

# %% [markdown]
# ## What it does
#
# **Which rows learn?** Only those whose token occurs. A batch of 512 tokens can reach at most 512 of the 30,522 rows of MiniLM's vocabulary. How many does real text reach? We read the sentences of a novel, in wordpieces.

# %%
vocabulary = minilm.load().vocabulary
text = np.array([vocabulary[piece] for pieces in reader.sentences() for piece in pieces[1:-1]])
batches = text[: len(text) // 512 * 512].reshape(-1, 512)
reached = np.array([len(set(batch)) for batch in batches])
places = np.unique(np.geomspace(1, len(text), 60).astype(int))
rows = np.array([len(set(text[:place])) for place in places])

# %%
fig, ax = plt.subplots()
ax.loglog(places, rows, marker="none")
ax.loglog(places, places, color="black", linestyle=":", marker="none")
ax.axhline(len(vocabulary), color="black", linestyle="--", marker="none")
ax.annotate("all rows", (1, len(vocabulary)), (0, -3), textcoords="offset points", va="top")
ax.annotate("if no token came twice", (600, 600), (-6, 6), textcoords="offset points", ha="right")
ax.annotate(
    "the novel", (places[-1], rows[-1]), (0, -16), textcoords="offset points", ha="right", va="top", color=figures.COLORS[0]
)
ax.set(xlabel="tokens read", ylabel="rows with a gradient", ylim=(1, 1e5), title="most rows never learn from this text")
figures.show()

# %%
often = np.bincount(text).max()
print(f"a batch of 512 tokens reaches {reached.min()} to {reached.max()} rows of {len(vocabulary)} ({len(batches)} batches)")
print(f"all {len(text)} tokens reach {rows[-1]}; the most frequent token occurs {often} times")
assert reached.max() <= 512 and rows[-1] < len(vocabulary) / 2

# %% [markdown]
# So a table's gradient is mostly zeros, and has few rows that occur **many times**. Libraries use the first: TensorFlow keeps the gradient of a look-up as a list of entries, one for each token, not yet summed as (3) says. That is safe as long as whoever reads the list sums it.
#
# **What does Adam do with a token that occurs several times?** [Adam](https://arxiv.org/abs/1412.6980) keeps averages $m$ of the gradient and $v$ of its square, and moves a number by rate $\cdot\, \hat m / \sqrt{\hat v}$. In the first step that is rate $\cdot\, g / |g|$: the rate itself, however large $g$ is
# (in section 2.1 of the paper, about the most that any step can be). Let a token occur $k$ times, each time with the gradient $g$. Summed, it moves by $k g / |k g| = 1$ rate. But if a library adds the *squares of the entries*, where the square of their sum belongs, it moves by
#
# $$\frac{k g}{\sqrt{k g^2}} = \sqrt k \text{ rates.} \tag{4}$$
#
# We measure it in Keras 3, with five random tables: [this layer](../layers/on_device_embedding.py), which hands Adam the sum, in both its forms; and `keras.layers.Embedding`.

# %%
step = results["step"]
moved = {arm: step.values("moved", arm) for arm in experiment.KINDS}  # on TensorFlow

# %%
fig, ax = plt.subplots()
for arm, shift, color in (("our layer", -8, figures.COLORS[0]), ("Keras's layer", 8, figures.COLORS[1])):
    ax.loglog(experiment.TIMES, moved[arm].T, "o", base=2, color=color)
    place = {"textcoords": "offset points", "va": "center", "ha": "right"}
    ax.annotate(f"{arm} on TensorFlow", (4, moved[arm][0, 1]), (0, shift), color=color, **place)
ax.loglog(experiment.TIMES, np.sqrt(experiment.TIMES), base=2, color="black", linestyle=":", marker="none")
ax.annotate("formula (4)", (64, 8), (-8, 0), textcoords="offset points", ha="right")
ax.axhline(1, color="black", linestyle=":", marker="none")
ax.set(
    xlabel="times that the token occurs",
    ylabel="moved in one step of Adam, in rates",
    ylim=(0.5, 16),
    title="squares of entries make frequent tokens move too far",
)
figures.show()

# %%
sqrt = np.sqrt(experiment.TIMES)
for arm, found in moved.items():
    print(f"{arm:20} on TensorFlow, {experiment.TIMES} times: {found.min(0).round(3)} to {found.max(0).round(3)}")
_, on_jax = step.elsewhere("moved")
print("our layer            on JAX", on_jax.round(3), "  formula (4):", sqrt)
for arm, wanted in (("our layer", 1), ("our layer, one-hot", 1), ("Keras's layer", sqrt)):
    assert np.allclose(moved[arm], wanted, rtol=0.01)
assert np.allclose(on_jax, 1, rtol=0.01)

# %% [markdown]
# On TensorFlow, a token that occurs 64 times, each time with the same gradient, moves eight times as far with Keras's layer as Adam's rule allows. Where its gradients differ it is less: $|\sum g| / \sqrt{\sum g^2}$ is largest, $\sqrt k$, if all are equal. On JAX, whose gradient is one array, Keras's layer does what the rule says. Live, on whatever backend this lesson runs:

# %% tags=["nbval-ignore-output"]
here = {arm: experiment.step_of(arm, seed=0).mean(axis=1) for arm in experiment.KINDS}
print(keras.backend.backend(), {arm: found.round(3).tolist() for arm, found in here.items()})
assert np.allclose(here["our layer"], 1, rtol=0.01) and np.allclose(here["our layer, one-hot"], 1, rtol=0.01)
assert np.allclose(here["Keras's layer"], sqrt if keras.backend.backend() == "tensorflow" else 1, rtol=0.01)

# %% [markdown]
# **Does it matter for what a model learns?** The smallest model of characters is one table: the row of a character is the logits of the next one. Trained to the end, it can do what counting does, so its bound is known. [The experiment](../experiments/on_device_embedding.py)
# trains it on TensorFlow with both layers, four learning rates and three seeds, 600 steps of 1,024 characters each.

# %%
characters = results["characters"]
bound = novel.bits_of_counts(1)
fig, ax = plt.subplots()
for arm, color in (("our layer", figures.COLORS[0]), ("Keras's layer", figures.COLORS[1])):
    bits = np.array([characters.values("bits", arm, rate) for rate in characters.experiment.rates])
    ax.semilogx(characters.experiment.rates, bits, "o", color=color, alpha=0.6)
    ax.semilogx(characters.experiment.rates, np.median(bits, axis=1), color=color, marker="none")
    ax.annotate(arm, (characters.experiment.rates[0], bits[0, 0]), (10, 5), textcoords="offset points", color=color)
ax.axhline(bound, color="black", linestyle=":", marker="none")
ax.annotate("what counts achieve", (1e-1, bound), (0, -12), textcoords="offset points", ha="right")
ax.set(
    xlabel="learning rate",
    ylabel="bits a character, held out",
    title="the layers differ most where the rate is small",
    ylim=(3.4, None),
)
figures.show()

# %%
best = {arm: characters.values("bits", arm) for arm in experiment.READERS}
slow = {arm: characters.values("bits", arm, characters.experiment.rates[0]) for arm in experiment.READERS}
print(f"counts {bound:.3f}; best rates", {arm: characters.best_rate(arm) for arm in experiment.READERS})
for arm in experiment.READERS:
    print(
        f"{arm:14} best rate {best[arm].min():.3f} to {best[arm].max():.3f}, smallest rate {slow[arm].min():.3f} to {slow[arm].max():.3f}"
    )
assert slow["Keras's layer"].max() < slow["our layer"].min()

# %% [markdown]
# At the smaller rates the same rate gives different models: with Keras's layer the loss falls faster, because frequent characters move farther than Adam's rule allows. At its best rate each layer comes close to what counts achieve, Keras's a little closer. So the squares of entries are no handicap on this task. They act
# like a learning rate for each token, which is larger the more often the token occurs in a batch with gradients that agree. What breaks is the comparison: one program trains differently on two backends, and a rate that was found with one layer is not the right one for the other. The experiments of this course embed tokens with the layer of this chapter.
#
# One of these runs, live:

# %% tags=["nbval-ignore-output"]
rate = characters.best_rate("our layer")
live = experiment.train_reader("our layer", rate, seed=0)
print(f"our layer, rate {rate:g}: {live['bits']:.3f} bits")
assert characters.contains(live["bits"], "bits", "our layer")

# %% [markdown]
# **Does a row stay where it is while its word is away?** Two steps: the first batch holds words 0 to 5, the second words 3 to 8. How far does each row move in the second step?


# %%
def second_step(optimizer, use_one_hot):
    """How far each row goes in the second step."""
    layer = OnDeviceEmbedding(9, 4, initializer=keras.initializers.RandomNormal(seed=0), use_one_hot=use_one_hot)
    model = keras.Sequential([keras.Input((6,), dtype="int32"), layer])
    model.compile(optimizer, "mse", run_eagerly=True)
    tables = []
    for words in (np.arange(6), np.arange(3, 9)):
        model.train_on_batch(words[None].astype("int32"), np.ones((1, 6, 4), "float32"))
        tables.append(layer.get_weights()[0])
    return np.linalg.norm(tables[1] - tables[0], axis=1)


# %%
distance = {}
for name, kind in (("SGD", keras.optimizers.SGD), ("Adam", keras.optimizers.Adam)):
    distance[name], by_product = (second_step(kind(0.1), use_one_hot) for use_one_hot in (False, True))
    print(f"{name:5} words away {distance[name][:3].round(3)}, words there {distance[name][3:].round(3)}")
    assert np.allclose(distance[name], by_product, atol=1e-5)
assert not distance["SGD"][:3].any() and (distance["SGD"][3:] > 0).all() and (distance["Adam"] > 0).all()

# %% [markdown]
# SGD moves the rows of the words that are there. Adam goes on moving the others by the average that it keeps, and a look-up does not prevent that: both forms train alike.
#
# **What is the scale for?** The paper multiplies by $\sqrt m$ and does not say why. A row of $m$ random numbers of variance $1/m$ has about length 1. What is added to it, a position made of $m/2$ pairs of sine and cosine, has length $\sqrt{m/2}$. Then the scale keeps word and position in the
# proportion $\sqrt 2$ to 1, whatever $m$ is. That holds only for rows that start so. This layer starts with Glorot's distribution, of variance $2 / (n + m)$, and then the proportion depends on the vocabulary: for a variance of $1/m$ pass `initializer=keras.initializers.RandomNormal(stddev=m**-0.5)`. A model whose positions are trained too may do without: here are the lengths in MiniLM, which has no scale.

# %%
for m in (64, 1024):
    row = np.linalg.norm(rng.normal(size=(1000, m)) / np.sqrt(m), axis=1).mean()
    print(f"random rows, m = {m}: word {row:.2f}, scaled {np.sqrt(m) * row:.1f}, position {np.sqrt(m / 2):.1f}")
for n, m in ((1000, 64), (30522, 64), (30522, 512)):
    layer = OnDeviceEmbedding(n, m)
    row = np.linalg.norm(layer(np.arange(1000, dtype="int32")), axis=1).mean()
    print(f"as the layer starts, n = {n}, m = {m}: word {row:.2f}, scaled {np.sqrt(m) * row:.1f}, position {np.sqrt(m / 2):.1f}")
    assert np.isclose(row, np.sqrt(2 * m / (n + m)), rtol=0.02)
tensors = minilm.load().tensors
lengths = {kind: np.linalg.norm(tensors[f"embeddings.{kind}_embeddings.weight"], axis=1) for kind in ("word", "position")}
print(
    "MiniLM, m = 384:",
    {kind: f"{np.quantile(found, 0.1):.2f} to {np.quantile(found, 0.9):.2f}" for kind, found in lengths.items()},
)
assert np.median(lengths["word"]) > np.median(lengths["position"])

# %% [markdown]
# (The middle eight tenths of the rows.) With this layer's own start and a large vocabulary, scaled words are shorter than positions. In MiniLM words are longer than positions without a scale.
#
# ## Where it breaks
#
# The layer answers the question of the beginning with zeros, in both forms, compiled or not.

# %%
outside = np.array([-1, 3, 2**31 - 1], "int32")
for use_one_hot in (False, True):
    layer = OnDeviceEmbedding(3, 2, use_one_hot=use_one_hot)
    rows = [np.asarray(layer(outside)), np.asarray(compiled_step(layer, layer.variables, [outside], xla=True)()[0])]
    print(
        f"use_one_hot={use_one_hot}: largest number in rows outside, eager and compiled:",
        [float(np.abs(row).max()) for row in rows],
    )
    assert not np.any(rows)

# %% [markdown]
# But look-up and product are not the same in everything.
#
# **A broken row.** In a product $0 \cdot \mathrm{NaN}$ is NaN, so one broken row makes *every* token NaN. A look-up keeps the damage where it is.
#
# **A rounded table.** TPUs multiply in bfloat16 unless told not to, with 8 bits of each number. In a product that rounds the table; a look-up copies all 24 bits of float32.

# %%
broken = {}
for use_one_hot in (False, True):
    layer = OnDeviceEmbedding(3, 2, use_one_hot=use_one_hot)
    layer.build((None,))
    layer.set_weights([np.array([[np.nan, 0], [1, 2], [3, 4]])])
    broken[use_one_hot] = int(np.isnan(np.asarray(layer(np.array([0, 1, 2], "int32")))).any(axis=1).sum())
table = rng.normal(size=(1000, 16)).astype("float32")
rounded = np.asarray(keras.ops.cast(keras.ops.cast(table, "bfloat16"), "float32"))
print(
    f"NaN tokens of three: look-up {broken[False]}, product {broken[True]}; bfloat16 rounds by up to {np.abs(rounded / table - 1).max():.4f}"
)
assert broken == {False: 1, True: 3} and 0 < np.abs(rounded / table - 1).max() <= 2**-8

# %% [markdown]
# **Ids as floats.** bfloat16 has no 257: an id that becomes a float under mixed precision becomes another word. The layer takes integers only.

# %%
print("257 in bfloat16:", float(keras.ops.cast(keras.ops.cast(257.0, "bfloat16"), "float32")))
try:
    OnDeviceEmbedding(300, 4)(np.array([[257.0]]))
except ValueError as error:
    print(re.search("inputs must be.*float32", str(error))[0])
else:
    raise AssertionError("a float was taken for an id")

# %% [markdown]
# **Differs from the paper.** The scale is yours to give, and ids outside the table are zeros instead of undefined.
#
# ## What it costs
#
# With $w$ bytes a number and $T = b t$ tokens: a look-up reads $T$ rows and writes them, $2 w T m$ bytes, and multiplies nothing. The product writes $T n$ numbers, reads them and the whole table, and writes the rows:
# $w (2 T n + n m + T m)$ bytes, and $T n m$ multiply-adds. We count in NumPy, and ask a compiler for its own count.


# %%
def by_formula(tokens, n, m, width=4):
    """Bytes of a look-up, bytes of a product, multiply-adds of a product."""
    return 2 * width * tokens * m, width * (2 * tokens * n + n * m + tokens * m), tokens * n * m


n, m, ids = 1000, 64, rng.integers(0, 1000, (2, 8))
table = rng.normal(size=(n, m)).astype("float32")
with multiply_adds() as by_look_up:
    rows = ref.embed(ids, table)
with multiply_adds() as by_product:
    ref.embed_by_one_hot(ids, table)
print("multiply-adds of a look-up", sum(by_look_up), "and of a product", sum(by_product))
assert sum(by_look_up) == 0 and (2 * rows.nbytes, sum(by_product)) == by_formula(16, n, m)[::2]

# %%
product = jax.jit(lambda i, e: jnp.einsum("btn,nm->btm", jax.nn.one_hot(i, n, dtype="float32"), e))
counted = product.lower(jnp.array(ids, "int32"), jnp.array(table)).compile().cost_analysis()
_, expected, products = by_formula(16, n, m)
ratios = counted["bytes accessed"] / expected, counted["flops"] / (2 * products)
print("XLA's counts over the formula's, bytes and multiply-adds:", *(f"{ratio:.1f}" for ratio in ratios))
assert np.allclose(ratios, 1, atol=0.3)

# %% [markdown]
# The product never has fewer multiply-adds. It does move fewer **bytes** if the table is small enough: the difference is $w\,(n (2T + m) - T m)$, so the look-up moves fewer from $n > T m / (2 T + m)$ on. For BERT's batches of 256 rows of 512 tokens:

# %%
tokens, m = 256 * 512, 768
sizes = 2 ** np.arange(0, 16)
look_up, by_one_hot, _ = by_formula(tokens, sizes, m)
border = tokens * m / (2 * tokens + m)
fig, ax = plt.subplots()
for bytes_moved, name, shift in ((np.full(len(sizes), look_up), "look-up", -10), (by_one_hot, "product", 8)):
    (curve,) = ax.loglog(sizes, bytes_moved / 1e9, base=2, marker="none")
    at = sizes[11], bytes_moved[11] / 1e9
    ax.annotate(name, at, (-4, shift), textcoords="offset points", color=curve.get_color(), ha="right", va="center")
for n, name, side in ((2, "BERT's token types", "left"), (30522, "BERT's words", "right")):
    ax.axvline(n, color="black", linestyle=":", marker="none")
    ax.annotate(name, (n, 1.2), (3 if side == "left" else -3, 0), textcoords="offset points", rotation=90, ha=side, va="bottom")
ax.set(xlabel="vocabulary n", ylabel="GB moved", title="a product moves fewer bytes for small tables only", ylim=(0.2, None))
figures.show()

# %%
types, words = (by_formula(tokens, n, m)[1] / look_up for n in (2, 30522))
print(f"the border is at n = {border:.0f}; product over look-up: token types {types:.2f}, words {words:.0f}")
assert types < 1 < words and (by_one_hot > look_up).tolist() == (sizes > border).tolist()

# %% [markdown]
# BERT's published code multiplies token types on every device ("always faster for a small vocabulary", says a comment in its [`modeling.py`](https://github.com/google-research/bert/blob/master/modeling.py)), which agrees with the count. For words it has a flag, `use_one_hot_embeddings`, which its scripts set on TPUs. That does not agree with the count, and
# bytes and multiply-adds alone do not explain it: what a device does fast has to be measured on that device, forwards and backwards.
#
# ## Does the layer agree?

# %% tags=["nbval-ignore-output"]
line, agrees = figures.agreement_line(CHAPTER)
assert agrees
line

# %% [markdown]
# ## Today
#
# Language models look rows up. Large tables have their own hardware: the fourth TPU has SparseCores for them ([Jouppi et al., 2023](https://arxiv.org/abs/2304.01433)). Many models use the table twice, the second time transposed for the logits ([Press and Wolf, 2017](https://arxiv.org/abs/1608.05859)); then every row gets a gradient
# at every step. ALBERT splits the table into two narrow factors ([Lan et al., 2019](https://arxiv.org/abs/1909.11942)). Byte-level models have a table of a few hundred rows ([Xue et al., 2021](https://arxiv.org/abs/2105.13626)).
#
# ## Exercises
#
# **1** (easy, 5 minutes). Look the rows of `ids`, of any shape, up in `table`, `(n, m)`. An id outside the vocabulary, below 0 too, has zeros.


# %%
def rows_of(ids, table):
    return None  # your turn


_ = check("on_device_embedding/1", rows_of)

# %% [markdown]
# <details><summary>Hint</summary>One comparison for each end; <code>np.where</code> twice.</details>
# <details><summary>Solution</summary><code>known = (ids &gt;= 0) &amp; (ids &lt; len(table)); return np.where(known[..., None], table[np.where(known, ids, 0)], 0)</code></details>
#
# **2** (medium, 10 minutes). The gradient (3) for `ids` `(t,)` and `slope` `(t, m)`, without a loop and without one-hot rows. Some ids occur twice, and some are outside the vocabulary of `n`: they change nothing.


# %%
def gradient_of(ids, slope, n):
    return None  # your turn


_ = check("on_device_embedding/2", gradient_of)

# %% [markdown]
# <details><summary>Hint</summary><code>gradient[ids] += slope</code> keeps one of the tokens that share a row. <code>np.add.at</code> keeps all.</details>
# <details><summary>Solution</summary>
#
# ```python
# def gradient_of(ids, slope, n):
#     known = (ids >= 0) & (ids < n)
#     gradient = np.zeros((n, slope.shape[1]))
#     np.add.at(gradient, ids[known], slope[known])
#     return gradient
# ```
# </details>
#
# **3** (hard, 15 minutes). A table too large for one device is cut into `parts` of equally many rows, one on each device. Every device may see all ids, but its own part alone, and only sums travel between devices: there is no room for the whole table. Embed; ids outside have zeros.


# %%
def from_parts(ids, parts):
    return None  # your turn


_ = check("on_device_embedding/3", from_parts)

# %% [markdown]
# <details><summary>Hint</summary>To a device, the ids of the others are outside the vocabulary.</details>
# <details><summary>Solution</summary><code>sum(ref.embed(ids - k * len(part), part) for k, part in enumerate(parts))</code></details>
#
# **To discuss.** Half of a small model's parameters can be its embedding table, and most of its rows are hardly ever read. What would you do about it, and how would you see whether rare words suffer?
#
# ## Summary
#
# - A look-up and a product with one-hot rows are one function, with one gradient: the sum over the tokens that a row was. They differ for ids outside, NaN in the table, and rounded products.
# - Adam needs that sum before it squares. Where a library hands it one entry for each token, a token that occurs $k$ times with the same gradient moves $\sqrt k$ times too far in the first step.
# - A look-up multiplies nothing, and moves fewer bytes unless the table is small. Which form is faster depends on the device.
#
# **Further reading.** [Kingma and Ba, 2014](https://arxiv.org/abs/1412.6980): Adam, and how far it moves. [Press and Wolf, 2017](https://arxiv.org/abs/1608.05859): the same table at the output. [Jouppi et al., 2023](https://arxiv.org/abs/2304.01433): hardware for embeddings.
