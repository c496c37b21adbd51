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
# # Masked language model: both sides of a hidden word
#
# A word is hidden, and the model says what it was. Unlike a model that reads from left to right, it may look at what comes after.
#
# Paper: [Devlin et al., 2018, section 3.1](https://arxiv.org/abs/1810.04805) · NumPy: [`reference/masked_lm.py`](../reference/masked_lm.py) · Layer:
# [`layers/masked_lm/`](../layers/masked_lm/__init__.py) · 30 minutes · You should know: what a [transformer block](transformer_encoder.ipynb) is, [token embedding](on_device_embedding.ipynb); entropy

# %%
import inspect
import tempfile
from pathlib import Path

import keras
import matplotlib.pyplot as plt
import numpy as np

from crosscheck.case import TOLERANCE
from crosscheck.cases.masked_lm import CHAPTER
from crosscheck.lesson import figures
from crosscheck.lesson.counting import multiply_adds
from crosscheck.lesson.exercises import check
from crosscheck.lesson.training import fit
from layers.masked_lm import MaskedLM
from layers.transformer_encoder import TransformerEncoderBlock
from reference import masked_lm as ref
from reference.common.activations import linear
from reference.common.normalization import LayerNorm
from reference.common.projection import Projection

figures.use_style()
rng = np.random.default_rng(0)

# %% [markdown]
# ## The question
#
# Our language has twelve words, and each word depends on the one before it alone: a Markov chain, with probabilities $P_{ij}$ of word $j$ after word $i$. **How well can a hidden word be guessed** from nothing, from the word to its left, and from both
# its neighbors?
#
# That is known exactly. From the left the guess is $P_{ij}$; from both sides it is $P_{ij} P_{jk} / \sum_{j'} P_{ij'} P_{j'k}$. No model that sees the same can have a lower loss.

# %%
n, length, middle = 12, 24, 12
chain = rng.dirichlet(np.full(n, 0.15), n)
steady = np.linalg.matrix_power(chain, 10_000)[0]
assert np.allclose(steady @ chain, steady)

# %%
paths = chain[:, :, None] * chain  # [i, j, k]: from i over j to k
both_sides = paths / paths.sum(axis=1, keepdims=True)
with np.errstate(divide="ignore", invalid="ignore"):
    floors = {"nothing": -np.nansum(steady * np.log(steady)), "the left": -np.nansum(steady[:, None] * chain * np.log(chain))}
    floors["both sides"] = -np.nansum(steady[:, None, None] * paths * np.log(both_sides))

# %%
i, j, k = max(np.ndindex(n, n, n), key=lambda at: steady[at[0]] * paths[at] * (both_sides[at] - chain[at[0], at[1]]))
fig, axes = plt.subplots(1, 2, figsize=(8.5, 3.2))
for step, (name, guess) in enumerate({"nothing": steady, "the left": chain[i], "both sides": both_sides[i, :, k]}.items()):
    axes[0].bar(np.arange(n) + 0.27 * (step - 1), guess, 0.27, label=name, color=figures.COLORS[step])
    axes[1].bar(name, floors[name], color=figures.COLORS[step])
axes[0].set(xlabel=f"hidden word j, between {i} and {k}", ylabel="probability")
axes[0].legend(title="known")
axes[1].set(xlabel="known", ylabel="least loss (entropy)")
plt.show()

# %% [markdown]
# The right neighbor rules out words that the left one still allows; the least loss falls by a third, and then by almost half.

# %%
print({name: round(float(floor), 2) for name, floor in floors.items()})
assert floors["both sides"] < 0.75 * floors["the left"] < 0.75 * floors["nothing"]

# %% [markdown]
# ## The equation
#
# $$h_t = \mathrm{LN}(\varphi(x_{p_t} W + b_W)) \tag{1}$$
#
# $$\mathrm{logits}_t = E h_t + b \tag{2}$$
#
# $$\log P(\cdot \mid t) = \log \mathrm{softmax}(\mathrm{logits}_t) \tag{3}$$
#
# | symbol | what it is | name in the code | shape |
# |---|---|---|---|
# | $x$ | the encoder's output | `x` | `(b, s, m)` |
# | $p_t$ | the positions that are asked for | `positions` | `(b, t)` |
# | $W, b_W$ | a map, activated by $\varphi$, in BERT GELU | `weights.dense` | `(m, m)`, `(m)` |
# | $E$ | the table in which words are looked up, shared | `weights.embeddings` | `(n, m)` |
# | $b$ | a bias for each word | `weights.bias` | `(n)` |
#
# For training, 15 words of a hundred are chosen; 80 in 100 of these are hidden, 10 become a random word and 10 stay (4).
#
# ## By hand
#
# Let position 1 hold $(1, 3)$; take $W$ for the identity and $\varphi$ for none. LN makes it $(-1, 1)$. The words $(1, 2)$, $(5, 0)$ and $(0, 0)$ score $1$, $-5$ and $0$, and with $b = (0, 1, 2)$: $1$, $-4$, $2$.

# %%
x, norm = np.array([[9.0, 9.5], [1.0, 3.0]]), LayerNorm(np.ones(2), np.zeros(2))
words = np.array([[1.0, 2.0], [5.0, 0.0], [0.0, 0.0]])
weights = ref.MaskedLMWeights(Projection(np.eye(2), np.zeros(2)), norm, np.array([0.0, 1.0, 2.0]), words)
logits = ref.predict_one(x, 1, weights, linear)
print(logits.round(6))
assert np.allclose(logits, [1, -4, 2])

# %% [markdown]
# ## In NumPy

# %%
print(inspect.getsource(ref.predict_one))
print(inspect.getsource(ref.masked_lm).split('"""')[2])

# %%
sequences, positions = rng.normal(size=(2, 5, 2)), np.array([[0, 4, 2], [3, 3, 5]])
found, _ = ref.masked_lm(sequences, positions, weights)
each = [[ref.predict_one(row, int(at), weights) for at in asked] for row, asked in zip(sequences, positions)]
assert np.allclose(found, each)
print("position by position and all at once agree")

# %% [markdown]
# ## What it does
#
# **Does a model that sees both sides get below what any left-to-right model can?** Two encoders of two layers, alike but for their masks. One reads sentences in which (4) has hidden words; the other may look at no word to the right, and predicts
# the next one everywhere. Both heads share the table in which the words were looked up.


# %%
class Reader(keras.Model):
    def __init__(self, causal, m=32):
        super().__init__()
        self.words, self.places = keras.layers.Embedding(n + 1, m), keras.layers.Embedding(length, m)
        self.blocks = [TransformerEncoderBlock(4, 2 * m, "gelu") for _ in range(2)]
        self.head = MaskedLM(self.words, "gelu", output="predictions")
        self.visible = np.tri(length, dtype="int32") if causal else np.ones((length, length), "int32")

    def call(self, inputs):
        ids, positions = inputs
        x = self.words(ids) + self.places(keras.ops.arange(length))
        mask = keras.ops.ones_like(ids)[:, :, None] * self.visible
        for block in self.blocks:
            x = block([x, mask])
        return self.head(x, positions)


# %%
def sentences(count):
    ids = np.empty((count, length), "int32")
    ids[:, 0] = rng.choice(n, count, p=steady)
    reach = chain.cumsum(axis=1)
    for t in range(1, length):
        ids[:, t] = (rng.random((count, 1)) > reach[ids[:, t - 1]]).sum(axis=1).clip(0, n - 1)
    return ids


# %%
def hide(ids, most=10):
    """What the model reads, the positions that are asked for (−1 where there are fewer), the words that stood there."""
    draws = rng.random(ids.shape), rng.random(ids.shape), rng.integers(0, n, ids.shape)
    read, chosen = ref.corrupt(ids, *draws, mask_id=n)
    positions = np.argsort(~chosen, axis=1, kind="stable")[:, :most]
    inside = np.take_along_axis(chosen, positions, axis=1)
    return read, np.where(inside, positions, -1).astype("int32"), np.take_along_axis(ids, positions, axis=1), inside


# %%
steps, batch = 100, 64
ids, test = sentences(6000), sentences(3000)
print(hide(ids[:1])[0], "with", n, "for [MASK]")

# %%
left, answer, right = test[:, middle - 1], test[:, middle], test[:, middle + 1]
hidden = np.where(np.arange(length) == middle, n, test).astype("int32")
one = np.ones((len(test), 1), "int32")
questions = {"both sides": (hidden, middle * one), "the left": (test, (middle - 1) * one)}  # it predicts the next one


# %%
def train(kind, rounds):
    """The loss on the middle word of each test sentence, after every hundred steps."""
    keras.utils.set_random_seed(0)
    model, losses = Reader(causal=kind == "the left"), []
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(3e-3), loss, jit_compile=False)
    for _ in range(rounds):
        some = ids[rng.choice(len(ids), steps * batch)]
        everywhere = np.tile(np.arange(length - 1, dtype="int32"), (len(some), 1))
        read, positions, words, weight = hide(some) if kind == "both sides" else (some, everywhere, some[:, 1:], everywhere >= 0)
        fit(model, [read, positions], words, batch_size=batch, sample_weight=weight.astype("float32"), shuffle=False)
        guesses = model.predict(questions[kind], batch_size=500, verbose=0)[:, 0]
        losses.append(-guesses[np.arange(len(test)), answer].mean())
    return losses, guesses


runs = {"both sides": train("both sides", rounds=7), "the left": train("the left", rounds=3)}

# %%
exact = {"both sides": both_sides[left, answer, right], "the left": chain[left, answer]}
floor = {kind: -np.log(values).mean() for kind, values in exact.items()}  # on these very sentences
fig, ax = plt.subplots(figsize=(6.5, 3.6))
for kind, (losses, _) in runs.items():
    (line,) = ax.plot(steps * np.arange(1, len(losses) + 1), losses, label=f"model, {kind}")
    ax.axhline(floor[kind], color=line.get_color(), linestyle=":", marker="none", label=f"least loss, {kind}")
ax.set(xlabel="training steps", ylabel="loss on the hidden word", ylim=(0, None))
fig.legend(loc="outside right center", frameon=False)
plt.show()

# %% [markdown]
# The left-to-right model is at its floor after a hundred steps, and can be no better. The bidirectional one by then knows little more than how often each word occurs: it gets a loss from 15 words in a hundred, where the
# other has one from every word. Later it finds the neighbors, and goes where no left-to-right model can. It cannot quite arrive: in training a neighbor may itself be hidden or false, so it never trusts one fully.

# %%
first, last = ({kind: losses[at] for kind, (losses, _) in runs.items()} for at in (0, -1))
print("below the floor of the left:", {kind: bool(value < floor["the left"] - 0.1) for kind, value in last.items()})
assert first["the left"] < 1.15 * floor["the left"] and first["both sides"] > 0.8 * floors["nothing"]
assert floor["the left"] - 0.02 < last["the left"] < 1.1 * floor["the left"]
assert floor["both sides"] - 0.02 < last["both sides"] < floor["the left"] - 0.2
assert all(abs(floor[kind] - floors[kind]) < 0.1 for kind in floor)

# %% [markdown]
# **Has it learned the probabilities, or only the likeliest word?** We hold each guess of each model against the exact probability.

# %%
fig, axes = plt.subplots(1, 2, figsize=(7.5, 3.5), sharey=True)
truth = {"both sides": both_sides[left, :, right], "the left": chain[left]}
for ax, (kind, (_, guesses)) in zip(axes, runs.items()):
    ax.plot(truth[kind][:300].ravel(), np.exp(guesses[:300, :n]).ravel(), ".", markersize=3, rasterized=True)
    ax.plot([0, 1], [0, 1], color="black", linestyle=":", marker="none")
    ax.set(title=kind, xlabel="exact probability")
axes[0].set_ylabel("the model's")
plt.show()

# %% [markdown]
# Both follow the diagonal, the left-to-right model closely, the other more loosely: probabilities, not only winners.

# %%
likeness = {}
for kind, (_, guesses) in runs.items():
    likeness[kind] = np.corrcoef(truth[kind].ravel(), np.exp(guesses[:, :n]).ravel())[0, 1]
    print(f"{kind}: correlation above 0.9:", bool(likeness[kind] > 0.9))
    assert likeness[kind] > 0.9 and np.allclose(np.exp(guesses).sum(axis=1), 1, atol=1e-4)
assert likeness["the left"] > likeness["both sides"]

# %% [markdown]
# ## Does the layer agree?

# %%
errors = figures.agreement_plot(CHAPTER)
assert all(error <= TOLERANCE[dtype] for by_dtype in errors.values() for dtype, error in by_dtype.items())
print("layer and reference agree in", ", ".join(TOLERANCE))

# %% [markdown]
# ## Where it breaks
#
# **A position outside the sequence.** To look up all sequences at once, they are laid end to end, and position $p$ of row $r$ is at $r s + p$. Position 5 of a sequence of 4 is then position 1 of the next one, and nothing complains. Here it reads nothing:
# its logits are 0, and every word is as likely as any other.

# %%
sequences, outside = rng.normal(size=(2, 4, 2)), np.array([[5], [-1]])
laid = sequences.reshape(-1, 2)[np.arange(2)[:, None] * 4 + outside]
print("laid end to end, row 0 reads row 1:", bool((laid[0, 0] == sequences[1, 1]).all()))
assert (laid[0, 0] == sequences[1, 1]).all() and (laid[1, 0] == sequences[0, 3]).all()

# %%
head = MaskedLM(keras.layers.Embedding(3, 2), output="predictions")
print("every word has the probability of one in three:", bool(np.allclose(head(sequences, outside), -np.log(3))))
assert np.allclose(head(sequences, outside), -np.log(3))

# %% [markdown]
# **A table in two places.** Given the embedding layer itself, the head keeps sharing it after `save` and `load_model`. `clone_model` copies layer by layer, and then there are two tables, which training moves apart.

# %%
words, at = keras.Input((5,), dtype="int32"), keras.Input((2,), dtype="int32")
embedding = keras.layers.Embedding(9, 4, name="embedding")
model = keras.Model([words, at], MaskedLM(embedding, name="head")(embedding(words), at))

# %%
with tempfile.TemporaryDirectory() as folder:
    model.save(Path(folder) / "model.keras")
    copies = {"loaded": keras.saving.load_model(Path(folder) / "model.keras"), "cloned": keras.models.clone_model(model)}
shared = {name: copy.get_layer("head").embedding_table is copy.get_layer("embedding") for name, copy in copies.items()}
print("one table:", shared)
assert shared == {"loaded": True, "cloned": False}

# %% [markdown]
# **Differs from the paper.** The text has a softmax over the vocabulary; the map, norm and bias before it are in the authors' code. **From the Model Garden:** there positions outside do read other examples, and `get_config` raises.
#
# ## What it costs
#
# For each position asked for, $m^2 + m n$ multiply-adds; in parameters, $m^2 + m$ of the map, $2m$ of the norm, $n$ of the bias, and nothing for the table, which is there already. With BERT's $m = 768$ and $n = 30{,}522$ it is the table that counts.

# %%
m = 6
drawn = ref.MaskedLMWeights(
    Projection(rng.normal(size=(m, m)), np.zeros(m)), LayerNorm(np.ones(m), np.zeros(m)), np.zeros(9), rng.normal(size=(9, m))
)
with multiply_adds() as counted:
    logits, _ = ref.masked_lm(rng.normal(size=(2, 5, m)), np.zeros((2, 3), int), drawn)
own = sum(array.size for array in (*drawn.dense, *drawn.layer_norm, drawn.bias))
print(sum(counted), "multiply-adds,", own, "numbers beside the table,", logits.nbytes, "bytes of logits")
assert sum(counted) == 2 * 3 * (m * m + m * 9) and own == m * m + m + 2 * m + 9 and logits.nbytes == 8 * 2 * 3 * 9
assert 768**2 + 768 + 2 * 768 + 30_522 == 622_650

# %%
lengths, m, vocabulary = 2 ** np.arange(5, 12), 768, 30_522
fig, ax = plt.subplots()
ax.loglog(lengths, 12 * (12 * lengths * m**2 + 2 * lengths**2 * m), base=2, label="twelve encoder layers")
ax.loglog(lengths, lengths * (m**2 + m * vocabulary), base=2, label="head, every position")
ax.loglog(lengths, 0.15 * lengths * (m**2 + m * vocabulary), base=2, label="head, 15 positions in 100")
ax.set(xlabel="length s", ylabel="multiply-adds", title="one sequence of BERT-base")
ax.legend()
plt.show()
assert 0.24 < (m + vocabulary) / (12 * (12 * m + 2 * 512)) < 0.26

# %% [markdown]
# Asked everywhere, the head would cost a quarter of the encoder at 512 tokens. That is what `masked_positions` is for.
#
# ## Exercises
#
# **1** (easy, 5 minutes). BERT's corruption of tokens `ids` `(t,)`. Where `chosen` is True, a number `u` from 0 to 1 decides: below 0.8 the token becomes `mask`, from there to below 0.9 it becomes that of `others`, and else it stays. What is not chosen stays too.


# %%
def corrupted(ids, chosen, u, others, mask):
    return None  # your turn


_ = check("masked_lm/1", corrupted)

# %% [markdown]
# <details><summary>Hint</summary>Two <code>np.where</code>, one inside the other.</details>
# <details><summary>Solution</summary><code>np.where(chosen &amp; (u &lt; 0.8), mask, np.where(chosen &amp; (u &lt; 0.9), others, ids))</code></details>
#
# **2** (medium, 10 minutes). What stands at `positions` `(b, t)` of `x` `(b, s, m)`, and zeros for a position outside, below 0 too. No loop over texts.


# %%
def safe_gather(x, positions):
    return None  # your turn


_ = check("masked_lm/2", safe_gather)

# %% [markdown]
# <details><summary>Hint</summary>Read position 0 in its place, then put zeros there.</details>
# <details><summary>Solution</summary>
#
# ```python
# def safe_gather(x, positions):
#     inside = (positions >= 0) & (positions < x.shape[1])
#     found = x[np.arange(len(x))[:, None], np.where(inside, positions, 0)]
#     return np.where(inside[..., None], found, 0)
# ```
# </details>
#
# **3** (hard, 15 minutes). Two neighboring words are hidden, between the words `first` and `last`. Return the exact probabilities of each pair, `(n, n)`, the first of the two words in the rows, given the chain `p` `(n, n)`: `p[i, j]` is the probability that j follows i.


# %%
def two_hidden(p, first, last):
    return None  # your turn


_ = check("masked_lm/3", two_hidden)

# %% [markdown]
# <details><summary>Hint</summary>Three steps of the chain, multiplied; divided by the sum.</details>
# <details><summary>Solution</summary><code>a = p[first][:, None] * p * p[:, last]; return a / a.sum()</code></details>
#
# **To discuss.** BERT predicts each of two hidden words for itself, as if they were independent; that is XLNet's complaint. When does it matter, and why is BERT good at so many tasks all the same?
#
# ## Summary
#
# - What is known of a hidden word has an exact floor; both sides lie far below the left side alone, and a model gets there.
# - The head compares with the table in which words are looked up: one table, in two places.
# - A position outside the sequence must read nothing, and here does.
#
# **Further reading.** [Devlin et al., 2018](https://arxiv.org/abs/1810.04805): section 5.1 takes both sides away again. [Press and Wolf, 2016](https://arxiv.org/abs/1608.05859): why the table can be shared.
# [Wang and Cho, 2019](https://arxiv.org/abs/1902.04094): what language a masked model describes. [Yang et al., 2019](https://arxiv.org/abs/1906.08237): XLNet, and words hidden together.
