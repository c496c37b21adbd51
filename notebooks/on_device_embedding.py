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
# [`layers/on_device_embedding.py`](../layers/on_device_embedding.py) · 20 minutes · You should know: matrix products

# %%
import inspect
import re
import timeit
from functools import partial

import jax
import jax.numpy as jnp
import keras
import matplotlib.pyplot as plt
import numpy as np
import tensorflow as tf

from crosscheck.case import TOLERANCE
from crosscheck.cases.on_device_embedding import CHAPTER
from crosscheck.lesson import figures
from crosscheck.lesson.counting import multiply_adds
from crosscheck.lesson.exercises import check
from layers.on_device_embedding import OnDeviceEmbedding
from reference import on_device_embedding as ref

figures.use_style()
rng = np.random.default_rng(0)

# %% [markdown]
# ## The question
#
# A table has three rows: 10, 20, 30. **What is row −1, and what is row 3?** Such ids come from a tokenizer that is newer than the table, or from a −1 that stands for padding.

# %%
table = np.array([[10.0], [20.0], [30.0]])
ways = {
    "NumPy": lambda i: table[i],
    "TensorFlow on a CPU": lambda i: tf.gather(table, i),
    "TensorFlow under XLA": tf.function(lambda i: tf.gather(table, i), jit_compile=True),
    "JAX, take": lambda i: jnp.take(jnp.array(table), i, axis=0),
    "JAX, indexing": lambda i: jnp.array(table)[i],
    "a product": lambda i: ref.one_hot(i, 3) @ table,
}


def answer(way, i):
    try:
        return float(way(np.array([i]))[0, 0])
    except (IndexError, tf.errors.InvalidArgumentError):
        return "stops"


answers = {name: [answer(way, i) for i in (-1, 2, 3)] for name, way in ways.items()}

# %%
fig, ax = plt.subplots(figsize=(6.5, 2.6))
for y, row in enumerate(answers.values()):
    for x, value in enumerate(row):
        text = value if isinstance(value, str) else "NaN" if np.isnan(value) else f"{value:.0f}"
        ax.text(x, y, text, ha="center", va="center", weight="normal" if x == 1 else "bold")
ax.set_yticks(range(len(answers)), answers)
ax.set_xticks(range(3), ["id −1", "id 2", "id 3"])
ax.set(xlabel="id asked for", ylabel="who is asked", xlim=(-0.5, 2.5), ylim=(5.5, -0.5))
ax.grid(False)
plt.show()

# %% [markdown]
# All agree on the row that is there. On the others there are five opinions: wrap around, clamp, NaN, stop, zero. The same program changes its answer when it is compiled, and most of the answers look like a word.

# %%
assert all(row[1] == 30 for row in answers.values())
assert answers["NumPy"] == [30, 30, "stops"] and answers["TensorFlow on a CPU"] == ["stops", 30, "stops"]
assert answers["TensorFlow under XLA"] == [10, 30, 30] and answers["JAX, indexing"] == [30, 30, 30]
assert answers["JAX, take"][0] == 30 and np.isnan(answers["JAX, take"][2]) and answers["a product"] == [0, 30, 0]

# %% [markdown]
# ## The equation
#
# $$ y_t = c\,E_{\mathrm{id}_t} \quad (1) \qquad\qquad y_t = c\, o_t E, \quad o_{tj} = [\mathrm{id}_t = j] \quad (2) \qquad\qquad \frac{\partial L}{\partial E_i} = c \sum_{t:\, \mathrm{id}_t = i} \frac{\partial L}{\partial y_t} \quad (3) $$
#
# | symbol | in code | shape |
# |---|---|---|
# | $\mathrm{id}$ | `ids` | `(b, t)` |
# | $E$ | `table`, the layer's `embeddings` | `(n, m)` |
# | $o$ | `one_hot(ids, n)` | `(b, t, n)` |
# | $c$ | `scale`, the layer's `scale_factor` | one number |
#
# (1) is a look-up, (2) a product with rows that have a single one. For an id that is nowhere in the table, (2) says zero; we let (1) say the same.
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
# Backwards: if a token occurs twice, its row is told twice. Ids 1, 1, 0 with slopes (1, 2), (3, 4), (5, 6): row 1 gets (4, 6), row 0 gets (5, 6), row 2 nothing.

# %%
slope = np.array([[1.0, 2], [3, 4], [5, 6]])
gradient = ref.gradient_by_loops(np.array([1, 1, 0]), slope, 3)
print(gradient)
assert gradient.tolist() == [[5, 6], [4, 6], [0, 0]]

# %% [markdown]
# ## In NumPy

# %%
print(inspect.getsource(ref.embed))
print(inspect.getsource(ref.embed_by_one_hot))
table, ids, slope = rng.normal(size=(9, 5)), rng.integers(-2, 11, (3, 4)), rng.normal(size=(3, 4, 5))
one_by_one = [[ref.embed_one(i, table, 2.0) for i in row] for row in ids]
assert np.array_equal(ref.embed(ids, table, 2.0), one_by_one)
assert np.allclose(ref.embed_by_one_hot(ids, table, 2.0), one_by_one)
assert np.allclose(ref.gradient_by_one_hot(ids, slope, 9), ref.gradient_by_loops(ids, slope, 9))
print("look-up, product and loop agree, forwards and backwards")

# %% [markdown]
# ## What it does
#
# **Which rows learn?** In a text, few words are frequent and most are rare. We draw one batch from such a vocabulary and see how much gradient each row gets.

# %%
n, m = 300, 16
zipf = 1 / np.arange(1, n + 1)
text = rng.choice(n, size=(8, 64), p=zipf / zipf.sum())
counts = np.bincount(text.ravel(), minlength=n)
size = np.linalg.norm(ref.gradient_by_one_hot(text, rng.normal(size=(*text.shape, m)), n), axis=1)

fig, ax = plt.subplots()
ax.plot(np.arange(1, n + 1), size, linestyle="none", markersize=4)
ax.set(xlabel="row i, frequent words first", ylabel=r"size of $\partial L / \partial E_i$", xscale="log")
plt.show()

# %% [markdown]
# Frequent words learn at every step. More than a third of the rows learn nothing from these 512 tokens: their gradient is exactly zero.

# %%
print("rows without a gradient:", int((size == 0).sum()), "of", n)
assert np.array_equal(size == 0, counts == 0) and (size == 0).mean() > 1 / 3

# %% [markdown]
# **Does a row stay where it is while its word is away?** Two steps: the first batch holds words 0 to 5, the second words 3 to 8. How far does each row move in the second step, with two optimizers and on both paths?


# %%
def moved(optimizer, use_one_hot):
    """How far each row goes in the second step."""
    keras.utils.set_random_seed(0)
    layer = OnDeviceEmbedding(9, 4, use_one_hot=use_one_hot)
    model = keras.Sequential([keras.Input((6,), dtype="int32"), layer])
    model.compile(optimizer, "mse")
    tables = []
    for words in (np.arange(6), np.arange(3, 9)):
        model.train_on_batch(words[None], np.ones((1, 6, 4)))
        tables.append(layer.get_weights()[0])
    return np.linalg.norm(tables[1] - tables[0], axis=1)


steps = {"SGD": keras.optimizers.SGD, "Adam": keras.optimizers.Adam}
distance = {(name, path): moved(kind(0.1), path) for name, kind in steps.items() for path in (False, True)}

# %%
fig, ax = plt.subplots()
for offset, name in ((-0.2, "SGD"), (0.2, "Adam")):
    hatch = "//" if name == "SGD" else None
    ax.bar(np.arange(9) + offset, distance[name, False], 0.4, label=name, hatch=hatch, edgecolor="black")
ax.axvspan(-0.5, 2.5, color="black", alpha=0.08)
ax.set(xlabel="row i (gray: its word is not in the second batch)", ylabel="distance moved", xticks=range(9))
ax.legend()
plt.show()

# %% [markdown]
# SGD moves the rows of the words that are there. Adam goes on moving the others by what it remembers, and a look-up does not keep it from that: both paths train alike.

# %%
assert (distance["SGD", False][:3] == 0).all() and (distance["SGD", False][3:] > 0).all()
assert (distance["Adam", False] > 0.01).all()
assert all(np.allclose(distance[name, False], distance[name, True], atol=1e-5) for name in steps)

# %% [markdown]
# **What is the scale for?** The paper multiplies by $\sqrt m$ and does not say why. A row of $m$ numbers of variance $1/m$ has length 1. What is added to it, a position made of $m/2$ pairs of sine and cosine, has length $\sqrt{m/2}$.
# So how long is the word beside its position?

# %%
sizes = 2 ** np.arange(4, 11)
rows = [rng.normal(size=(1000, m)) / np.sqrt(m) for m in sizes]
words = np.arange(1000)
plain, scaled = (
    [np.linalg.norm(ref.embed(words, row, c(m)), axis=1).mean() for row, m in zip(rows, sizes)] for c in (lambda m: 1.0, np.sqrt)
)

fig, ax = plt.subplots()
for lengths, label in ((plain, "word, c = 1"), (scaled, r"word, c = $\sqrt{m}$"), (np.sqrt(sizes / 2), "position")):
    ax.loglog(sizes, lengths, base=2, label=label)
ax.set(xlabel="model size m", ylabel="length of the vector")
ax.legend()
plt.show()

# %% [markdown]
# Without the scale the word is drowned, the more so the larger the model; with it, word and position stay in proportion: $\sqrt 2$ to 1.

# %%
assert np.allclose(plain, 1, atol=0.05) and np.allclose(scaled / np.sqrt(sizes / 2), np.sqrt(2), atol=0.07)

# %% [markdown]
# ## Does the layer agree?

# %%
errors = figures.agreement_plot(CHAPTER)
assert all(error <= TOLERANCE[dtype] for by_dtype in errors.values() for dtype, error in by_dtype.items())
print("layer and reference agree in", ", ".join(TOLERANCE))

# %% [markdown]
# ## Where it breaks
#
# The layer answers the question of the beginning with zeros, in both forms, compiled or not. But look-up and product are not the same in everything.
#
# **A sick row.** In a product $0 \cdot \mathrm{NaN}$ is NaN, so one broken row makes *every* token NaN. A look-up keeps the damage where it is.
#
# **A rounded table.** TPUs multiply in bfloat16 unless asked not to, with 8 bits of each number. In a product that rounds the table; a look-up copies all 24 bits of float32.
#
# **Ids as floats.** bfloat16 has no 257: an id that becomes a float under mixed precision becomes another word. The layer takes integers only.

# %%
for use_one_hot in (False, True):
    layer = OnDeviceEmbedding(3, 2, use_one_hot=use_one_hot)
    for run in (layer, tf.function(layer), tf.function(layer, jit_compile=True)):
        assert not np.any(run(tf.constant([-1, 3, 2**31 - 1])))
print("zeros everywhere")

# %%
broken = {}
for use_one_hot in (False, True):
    layer = OnDeviceEmbedding(3, 2, use_one_hot=use_one_hot)
    layer.build((None,))
    layer.set_weights([np.array([[np.nan, 0], [1, 2], [3, 4]])])
    broken[use_one_hot] = int(np.isnan(layer(np.array([0, 1, 2]))).any(axis=1).sum())
table = rng.normal(size=(1000, 16)).astype("float32")
rounded = np.asarray(keras.ops.cast(keras.ops.cast(table, "bfloat16"), "float32"))
worst = np.abs(rounded / table - 1).max()
print("NaN tokens of three, look-up and product:", *broken.values(), f" rounded by up to {worst:.4f}")
assert broken == {False: 1, True: 3} and 0.0035 < worst <= 2**-8

# %%
assert float(keras.ops.cast(keras.ops.cast(257.0, "bfloat16"), "float32")) == 256
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
# With $w$ bytes a number and $T = b t$ tokens: a look-up reads $T$ rows and writes them, $2 w T m$ bytes, and multiplies nothing. The product makes $T n$ numbers, reads them and the whole table, and writes the rows:
# $w (2 T n + n m + T m)$ bytes and $T n m$ multiply-adds. We count in NumPy, and ask a compiler for its own count.


# %%
def by_formula(tokens, n, m, width):
    """Bytes of a look-up, bytes of a product, multiply-adds of a product."""
    return 2 * width * tokens * m, width * (2 * tokens * n + n * m + tokens * m), tokens * n * m


n, m, ids = 1000, 64, rng.integers(0, 1000, (2, 8))
table = rng.normal(size=(n, m))
with multiply_adds() as by_look_up:
    rows = ref.embed(ids, table)
with multiply_adds() as by_product:
    ref.embed_by_one_hot(ids, table)
o = ref.one_hot(ids, n)
counted = (2 * rows.nbytes, 2 * o.nbytes + table.nbytes + rows.nbytes, sum(by_product))
print("look-up", counted[0], "bytes; product", counted[1], "bytes and", counted[2], "multiply-adds")
assert counted == by_formula(16, n, m, 8) and sum(by_look_up) == 0
product = jax.jit(lambda i, e: jnp.einsum("btn,nm->btm", jax.nn.one_hot(i, n), e))
compiled = product.lower(jnp.array(ids, "int32"), jnp.array(table, "float32")).compile().cost_analysis()
_, expected, products = by_formula(16, n, m, 4)
ratios = compiled["bytes accessed"] / expected, compiled["flops"] / (2 * products)
print("XLA's counts over the formula's, bytes and multiply-adds:", *(f"{ratio:.1f}" for ratio in ratios))
assert np.allclose(ratios, 1, atol=0.3)

# %% [markdown]
# How do both grow with the vocabulary? On the right, the least time of nine runs on this machine: no claim hangs on it.

# %%
vocabularies, milliseconds = 4 ** np.arange(1, 9), {False: [], True: []}
ids = tf.constant(rng.integers(0, 4, (2, 64)))
for n in vocabularies:
    for use_one_hot, times in milliseconds.items():
        run = tf.function(OnDeviceEmbedding(int(n), 64, use_one_hot=use_one_hot))
        run(ids)
        times.append(1000 * min(timeit.repeat(partial(run, ids), number=1, repeat=9)))  # what else is running only adds
moved_bytes = np.array([by_formula(128, n, 64, 4) for n in vocabularies])

fig, axes = plt.subplots(1, 2, figsize=(8.5, 3.2))
for k, label in enumerate(("look-up, bytes", "product, bytes", "product, multiply-adds")):
    axes[0].loglog(vocabularies, moved_bytes[:, k], base=2, label=label)
for use_one_hot, times in milliseconds.items():
    axes[1].loglog(vocabularies, times, base=2, label="product" if use_one_hot else "look-up")
for ax, what in zip(axes, ("bytes, or multiply-adds", "milliseconds, here, at best")):
    ax.set(xlabel="vocabulary n (128 tokens, m = 64)", ylabel=what)
    ax.legend(fontsize="small")
plt.show()

# %% [markdown]
# By count the look-up wins from a few dozen rows on, and its bytes do not depend on $n$. **Why, then, did TPUs prefer the product?** Because counts are not times. A TPU is a matrix unit with a memory that streams: the first one had
# [65,536 multipliers](https://arxiv.org/abs/1704.04760), and time for about 1,350 multiply-adds for each byte of weights that it read. Up to that many tokens share one pass over a table of bytes, and the multiply-adds come free; scattered reads of short rows,
# and the scattered sums of the gradient, have no unit of their own. BERT's published code therefore multiplies words on TPUs, and token types, of which there are two, everywhere. Later ones have [SparseCores](https://arxiv.org/abs/2304.01433) for look-ups.

# %%
assert ((moved_bytes[:, 1] > moved_bytes[:, 0]) == (vocabularies > 16)).all() and len(set(moved_bytes[:, 0])) == 1
tokens, n, m = 1350, 30522, 768
assert by_formula(tokens, n, m, 1)[2] / (n * m) == 1350  # multiply-adds for each byte of the table
print(f"a table of BERT's size has {n * m / (tokens * m):.0f} times the bytes of the rows that 1350 tokens look up")

# %% [markdown]
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
# - A look-up and a product with one-hot rows are one function, with one gradient: the sum over the tokens that a row was.
# - They part where something is wrong: ids outside, NaN in the table, fewer bits in products. Zeros for strangers, on every path, is what the product says of itself.
# - By count the look-up is cheaper, always. Which is faster is the machine's affair.
#
# **Further reading.** [Press and Wolf, 2017](https://arxiv.org/abs/1608.05859): the same table at the output. [Jouppi et al., 2017](https://arxiv.org/abs/1704.04760): the first TPU, measured. [Jouppi et al., 2023](https://arxiv.org/abs/2304.01433): the fourth, with units for embeddings.
