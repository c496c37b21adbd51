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
# # Transformer-XL: read on, and remember
#
# A long text is read in segments. Every layer keeps what it was given for the segment before, and attends to that too.
#
# Papers: [Dai et al., 2019, section 3](https://arxiv.org/abs/1901.02860), [Yang et al., 2019, section 2](https://arxiv.org/abs/1906.08237) · NumPy:
# [`reference/transformer_xl.py`](../reference/transformer_xl.py) · Layer: [`layers/transformer_xl/`](../layers/transformer_xl/__init__.py) · 40 minutes · You should know:
# [relative attention](relative_attention.ipynb), [the encoder block](transformer_encoder.ipynb)

# %%
import inspect

import keras
import matplotlib.pyplot as plt
import numpy as np
import tensorflow as tf

from crosscheck.case import TOLERANCE
from crosscheck.cases.transformer_xl import CHAPTER
from crosscheck.lesson import figures
from crosscheck.lesson.counting import multiply_adds
from crosscheck.lesson.exercises import check
from crosscheck.weights import draw_weights, weights_of
from layers.transformer_xl import TransformerXL
from reference import transformer_xl as ref
from reference.relative_attention import Terms, relative_position_encoding

figures.use_style()
rng = np.random.default_rng(0)


# %% [markdown]
# ## The question
#
# Sixteen tokens are read by two layers in segments of four. **Which tokens can an output know of?** Change one token after the other, and see which outputs change: first with segments on their own, then with a memory of four positions.


# %%
def make_weights(layers, m=16, h=2, f=32):
    """Random weights of a stack, in the form that the reference takes."""
    stack = TransformerXL(100, layers, m, h, m // h, f, 0.0, 0.0, "glorot_uniform", dtype="float64")
    stack.build((1, 4, m), (1, 8, m))
    draw_weights(stack, rng)
    return weights_of(stack, ref.XLWeights)


def encode(t, s, m=16):
    """Encodings of distances that look back."""
    return relative_position_encoding(t, s, m, causal=True)


def dependency(x, weights, memory_length):
    """Which outputs change with which tokens, in segments of four."""
    changed = [x, *(x + np.eye(16)[None, :, [s]] for s in range(16))]
    before, *after = (ref.by_segments(each, weights, encode, 4, memory_length)[0] for each in changed)
    return np.stack([np.abs(output - before).max(axis=-1) > 1e-9 for output in after], axis=-1)


# %%
weights, x = make_weights(layers=2), rng.normal(size=(1, 16, 16))
known = {"segments alone": dependency(x, weights, None), "with a memory of 4": dependency(x, weights, 4)}
fig, axes = plt.subplots(1, 2, figsize=(7.5, 3.6), sharey=True)
for ax, (title, picture) in zip(axes, known.items()):
    figures.mask_picture(ax, picture, title=title, queries="output t", keys="token s")
    ax.label_outer()
plt.show()

# %% [markdown]
# On its own, a segment begins without any context: token 4 is read as if nothing had come before. With a memory, two layers reach two segments back, because what the second layer remembers had its own memory: each layer adds the memory's length, and $N$ layers reach $N \cdot M$.

# %%
t = np.arange(16)
causal, start = t[None, :] <= t[:, None], (t // 4 * 4)[:, None]
assert np.array_equal(known["segments alone"], causal & (t >= start))
assert np.array_equal(known["with a memory of 4"], causal & (t >= start - 2 * 4))
print("reach before the segment: 0 without memory, 2 · 4 with it")

# %% [markdown]
# ## The equation
#
# $$\tilde h = [\mathrm{memory} \circ h] \tag{1}$$
#
# $$y = \mathrm{LN}\big(h + \mathrm{Attention}(h, \tilde h, \tilde h)\big), \qquad z = \mathrm{LN}\big(y + \mathrm{FFN}(y)\big) \tag{2}$$
#
# $$\mathrm{memory}' = \mathrm{SG}\big(\text{the last } M \text{ of } [\mathrm{memory} \circ h]\big) \tag{3}$$
#
# | symbol | what it is | name in the code | shape |
# |---|---|---|---|
# | $h$ | the block's input for this segment | `content` | `(b, t, m)` |
# | $\circ$ | one after the other, along positions | `after_memory` | `(b, s, m)` |
# | $M$ | how many positions are kept | `memory_length` | |
# | SG | as it is, but no gradient goes back through it | `remember` | `(b, M, m)` |
# | Attention | with [distances](relative_attention.ipynb) in its scores | `weights.layer[i].self_attention` | |
#
# Queries come from $h$ alone; only keys and values come from $\tilde h$. Distances are what makes this right: with absolute positions, memory and segment would both begin at 0.
#
# ## By hand
#
# The memory holds tokens 1 and 2, the segment tokens 3 to 6. With $M = 4$ the next memory is 3, 4, 5, 6. XLNet predicts the end of a segment and keeps only its beginning: of two tokens reused, 1, 2, 3, 4 remain.

# %%
tokens = np.arange(1.0, 7).reshape(1, 6, 1)
for reuse_length in (None, 2):
    print("reuse", reuse_length, "→", ref.remember(tokens[:, :2], tokens[:, 2:], 4, reuse_length).ravel())
assert ref.remember(tokens[:, :2], tokens[:, 2:], 4).ravel().tolist() == [3, 4, 5, 6]
assert ref.remember(tokens[:, :2], tokens[:, 2:], 4, 2).ravel().tolist() == [1, 2, 3, 4]

# %% [markdown]
# ## In NumPy

# %%
print(inspect.getsource(ref.remember))
print(inspect.getsource(ref.transformer_xl).split('"""')[2])

# %%
block, (u, v) = weights.layer[0], rng.normal(size=(2, 2, 8))
x, memory = rng.normal(size=(1, 4, 16)), rng.normal(size=(1, 3, 16))
z, _ = ref.transformer_xl_block(x, block, encode(4, 7), Terms(u, v), memory)
assert all(np.allclose(z[0, i], ref.block_at(x[0], i, memory[0], block, encode(4, 7)[0], u, v)) for i in range(4))
print("all tokens at once and one by one agree")

# %% [markdown]
# ## What it does
#
# **Is anything lost by reading in segments?** With a memory that holds all that came before, nothing: any segments give the numbers of one long pass, in which no token sees a later one.

# %%
x = rng.normal(size=(2, 24, 16))
whole = ref.transformer_xl(x, weights, encode(24, 24)).content
for length in (1, 5, 8):
    assert np.abs(ref.by_segments(x, weights, encode, length, memory_length=24) - whole).max() < 1e-12
print("segments of 1, 5 and 8 tokens: less than 1e-12 from one pass over 24")

# %% [markdown]
# **Is the memory used?** The paper's claim is that a model with memory knows of what lies beyond its segment, the more the longer the memory, at test too. Here is a text that only a memory can predict: with probability 0.95 each token is
# the one twenty places back, else any of 16. Segments have 16 tokens, so the answer is never in the segment. A perfect reader has a perplexity of 1.37, one who knows nothing 16.

# %%
n, size, lag = 16, 48, 20
right = 0.95 + 0.05 / n
floor = np.exp(-right * np.log(right) - (1 - right) * np.log(0.05 / n))


def write(texts, length):
    ids = rng.integers(0, n, (texts, length))
    copied = rng.random((texts, length)) < 0.95
    for t in range(lag, length):
        ids[:, t] = np.where(copied[:, t], ids[:, t - lag], ids[:, t])
    return ids.astype("int32")


# %%
class Reader(keras.Model):
    def __init__(self):
        super().__init__()
        normal = keras.initializers.RandomNormal(stddev=1.0)
        self.token, self.logits = keras.layers.Embedding(n, size, normal), keras.layers.Dense(n)
        self.xl = TransformerXL(n, 2, size, 4, 12, 96, 0.0, 0.0, "glorot_uniform", memory_length=32)

    def call(self, ids, state=None):
        s = ids.shape[1] + (state[0].shape[1] if state else 0)
        h, memories = self.xl(self.token(ids), encode(ids.shape[1], s, size), state=state)
        return self.logits(h), memories


# %%
def nll(ids, logits):
    return keras.ops.mean(keras.losses.sparse_categorical_crossentropy(ids[:, 1:], logits, from_logits=True))


def make_step(model):
    """One step of training on a segment; it returns the memories."""
    optimizer = keras.optimizers.Adam(5e-3)
    model(np.zeros((1, 16), "int32"))
    optimizer.build(model.trainable_variables)

    @tf.function
    def step(ids, state):
        with tf.GradientTape() as tape:
            logits, memories = model(ids[:, :-1], state)
            loss = nll(ids, logits)
        optimizer.apply(tape.gradient(loss, [v.value for v in model.trainable_variables]))
        return memories

    return step


# %%
def train(keep, rounds=40):
    keras.utils.set_random_seed(0)
    model = Reader()
    step = make_step(model)
    for _ in range(rounds):
        ids, state = tf.constant(write(32, 8 * 16 + 1)), None
        for start in range(0, 8 * 16, 16):
            memories = step(ids[:, start : start + 17], state)
            state = memories if keep else None
    return model


# %%
def perplexity(model, memory_length, segments=9):
    """On new texts, where the memory is full."""
    ids, state, losses = write(64, segments * 16 + 1), None, []
    for start in range(0, segments * 16, 16):
        logits, memories = model(ids[:, start : start + 16], state)
        losses.append(float(nll(ids[:, start : start + 17], logits)))
        state = [memory[:, -memory_length:] for memory in memories] if memory_length else None
    return np.exp(np.mean(losses[3:]))


# %%
lengths = (0, 8, 16, 32)
models = {"trained with memory 32": train(keep=True), "trained without": train(keep=False)}
measured = {name: [perplexity(model, length) for length in lengths] for name, model in models.items()}

# %%
fig, ax = plt.subplots()
for name, values in measured.items():
    ax.semilogy(lengths, values, base=2, label=name)
ax.axhline(n, color="black", linestyle=":", marker="none", label="knows nothing: 16")
ax.axhline(floor, color="black", linestyle="--", marker="none", label="floor: 1.37")
ax.set(xlabel="memory length M at test", ylabel="perplexity", xticks=lengths)
fig.legend(loc="outside upper center", ncols=2, frameon=False)
plt.show()

# %% [markdown]
# With its full memory the model reads nearly as well as one can. Take the memory away and it knows nothing at all. With 16 positions most tokens are still within reach: the later ones of a segment directly, the earlier ones through both layers. Trained without, it never learns where to look, and a memory at test is of no use.

# %%
with_memory, without = (np.array(values) for values in measured.values())
assert (np.diff(with_memory) < 0).all() and with_memory[-1] < 1.6 and with_memory[0] > 10
assert without.min() > 10
print(f"floor {floor:.2f}; with memory 32: below 1.6; without: above 10")

# %% [markdown]
# **What do two streams buy?** Yang et al.'s example is "New York": BERT masks both words and predicts each **by itself**, as if they were independent. In our texts `c a a d`, the two in the middle are the same, one of $K = 8$. Both
# models below are the same two-stream stack; only the masks differ. By ranks: a token is predicted from those of lower rank.

# %%
K = 8


class Pair(keras.Model):
    def __init__(self):
        super().__init__()
        self.token, self.logits = keras.layers.Embedding(K + 2, 32), keras.layers.Dense(K)
        self.xl = TransformerXL(K + 2, 2, 32, 2, 16, 64, 0.0, 0.0, "glorot_uniform", two_stream=True)
        self.asked = self.add_weight(shape=(32,), initializer="normal")

    def call(self, inputs):
        ids, rank = inputs
        h = self.token(ids)
        g = keras.ops.ones_like(h[:, :2]) * self.asked
        targets = keras.ops.ones_like(h[:, :1, :1]) * np.eye(4, dtype="float32")[[1, 2]]
        masks = rank[:, None, :] <= rank[:, :, None], rank[:, None, :] < rank[:, :, None]
        named = {"content_attention_mask": masks[0], "query_attention_mask": masks[1], "target_mapping": targets}
        return self.logits(self.xl(h, relative_position_encoding(4, 4, 32), query_stream=g, **named)[0])


# %%
ids = rng.integers(0, K, (64 * 200 + 512, 1)) * [0, 1, 1, 0] + [K, 0, 0, K + 1]
orders = np.array([[0, 2, 3, 1], [0, 3, 2, 1]])[rng.integers(0, 2, len(ids))]
joint = {}
for name, rank in {"each by itself": np.tile([0, 2, 2, 1], (len(ids), 1)), "in a random order": orders}.items():
    keras.utils.set_random_seed(0)
    model = Pair()
    model.compile(keras.optimizers.Adam(5e-3), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit((ids[:-512], rank[:-512]), ids[:-512, 1:3], batch_size=64, verbose=0)
    joint[name] = 2 * model.evaluate((ids[-512:], rank[-512:]), ids[-512:, 1:3], verbose=0)

# %%
fig, ax = plt.subplots(figsize=(6.5, 2.2))
ax.barh(list(joint), list(joint.values()), color=figures.COLORS[0])
for bound, name in ((2 * np.log(K), "2 ln K"), (np.log(K), "ln K")):
    ax.axvline(bound, color="black", linestyle="--", marker="none")
    ax.text(bound + 0.05, 1.55, name)
ax.set(xlabel="−log p of both tokens", xlim=(0, 5))
plt.show()
assert abs(joint["each by itself"] - 2 * np.log(K)) < 0.15 and abs(joint["in a random order"] - np.log(K)) < 0.15

# %% [markdown]
# Each by itself pays $\ln K$ twice. In an order, the second of them is known from the first, in the content stream, and only the first costs anything: that is the whole of what there is to know.
#
# ## Does the layer agree?

# %%
errors = figures.agreement_plot(CHAPTER)
assert all(error <= TOLERANCE[dtype] for by_dtype in errors.values() for dtype, error in by_dtype.items())
print("layer and reference agree in", ", ".join(TOLERANCE))

# %% [markdown]
# ## Where it breaks
#
# **Remembering the wrong thing.** A block's memory is its **input** for the segment before: what its keys and values were made of. Keep its output instead, which has the same shape, and nothing complains.

# %%
first, second = x[:, :12], x[:, 12:]
right, wrong = [], []
h = first
for i, block in enumerate(weights.layer):
    z, _ = ref.transformer_xl_block(h, block, encode(12, 12), ref.terms_of_layer(i, weights, None, None))
    right, wrong, h = [*right, h], [*wrong, z], z
error = {}
for name, state in (("inputs", right), ("outputs", wrong)):
    error[name] = np.abs(ref.transformer_xl(second, weights, encode(12, 24), tuple(state)).content - whole[:, 12:]).max()
print({name: "as one long pass" if value < 1e-12 else "something else" for name, value in error.items()})
assert error["inputs"] < 1e-12 and error["outputs"] > 0.1

# %% [markdown]
# **A memory that is learned through.** Gradients stop at the memory. Without that, each step would have to keep, and go back through, everything since the first segment.

# %%
stack = TransformerXL(100, 2, 16, 2, 8, 32, 0.0, 0.0, "glorot_uniform", memory_length=12)
segment_1, segment_2 = tf.constant(first, "float32"), tf.constant(second, "float32")
with tf.GradientTape() as tape:
    tape.watch(segment_1)
    _, memories = stack(segment_1, encode(12, 12))
    output, _ = stack(segment_2, encode(12, 24), state=memories)
assert tape.gradient(output, segment_1) is None
print("the second segment's loss has no gradient in the first segment")

# %% [markdown]
# **Differs from the paper.** Only the first tokens of a segment may be kept, and each layer may have biases $u$ and $v$ of its own. Elsewhere, leaving `reuse_length` out has been a TypeError, and the rate behind attention has been the one for its weights; here each rate is where its name says.
#
# ## What it costs
#
# One block and one example, with $s = t + M$ keys and $l = s + 1$ rows: $(2t + 2s + l)\,m^2$ for attention's maps, as $h\,d = m$; $t\,(2s + l)\,m$ for scores and mixture; $2\,t\,m\,f$ for the feed-forward network. The memory is $M\,m$ numbers.

# %%
t, memory_length, m, f = 4, 12, 16, 32
s, rows = t + memory_length, t + memory_length + 1
x, memory = rng.normal(size=(1, t, m)), rng.normal(size=(1, memory_length, m))
with multiply_adds() as counted:
    ref.transformer_xl_block(x, weights.layer[0], encode(t, s), Terms(u, v), memory)
parameters = sum(part.size for part in keras.tree.flatten(tuple(weights.layer[0])) if part is not None)
formula = (2 * t + 2 * s + rows) * m**2 + t * (2 * s + rows) * m + 2 * t * m * f, 5 * m**2 + 2 * m * f + f + m + 4 * m
assert (sum(counted), parameters) == formula
print(f"multiply-adds, parameters: {formula}")

# %% [markdown]
# **Reading a text at test.** Without memory, a model that shall always see $L$ tokens has to read $L$ tokens for each one that it predicts. With memory each token is read once. The paper's Table 9 reports that its vanilla model is 363 times slower at $L = 800$ and 1874 times at $L = 3800$.

# %%
context, paper = np.array([800, 1800, 2800, 3800]), np.array([363, 773, 1409, 1874])
fig, ax = plt.subplots()
ax.plot(context, context, label="tokens read for each prediction, without memory")
ax.plot(context, np.ones(4), label="with memory")
ax.plot(context, paper, label="slowdown in the paper's Table 9")
ax.set(xlabel="attention length L", ylabel="tokens, or times", yscale="log")
ax.legend()
plt.show()
ratio = paper / context
assert 0.4 < ratio.min() and ratio.max() < 0.55

# %% [markdown]
# The reported slowdown grows as the count does, at about half of it.
#
# ## Exercises
#
# **1** (easy, 10 minutes). The next memory: the last `length` positions of the old one, `memory` `(b, _, m)`, followed by the first `reuse` positions of the block's input `h` `(b, t, m)`. The old memory may have no positions, and `length` may be 0.


# %%
def next_memory(memory, h, length, reuse):
    return None  # your turn


_ = check("transformer_xl/1", next_memory)

# %% [markdown]
# <details><summary>Hint</summary>First cut <code>h</code>, then put it behind, then cut from the end. <code>[-0:]</code> is everything.</details>
# <details><summary>Solution</summary>
#
# ```python
# def next_memory(memory, h, length, reuse):
#     both = np.concatenate([memory, h[:, :reuse]], axis=1)
#     return both[:, max(both.shape[1] - length, 0):]
# ```
# </details>
#
# **2** (medium, 15 minutes). How far back do tokens `t` (an array) see, in segments of `length` tokens with a memory of `m` positions, through `layers` blocks? Return, for each, the first token that its output depends on. The memory may be longer or shorter than a segment. No loop over tokens.


# %%
def first_token(t, length, m, layers):
    return None  # your turn


_ = check("transformer_xl/2", first_token)

# %% [markdown]
# <details><summary>Hint</summary>One layer reaches from the start of a token's segment back by the memory. What it finds there was computed in an earlier segment, with a memory of its own.</details>
# <details><summary>Solution</summary>
#
# ```python
# def first_token(t, length, m, layers):
#     for _ in range(layers):
#         t = np.maximum(0, t // length * length - m)
#     return t
# ```
# </details>
#
# **3** (hard, 25 minutes). XLNet predicts only some of `t` tokens, in the order of `targets`; all others are context, which every token sees. A target also sees the targets before it, and in the content stream itself. In the query stream no token sees itself. Return the masks of content and query stream, `(t, t)` each.


# %%
def partial_masks(t, targets):
    return None  # your turn


_ = check("transformer_xl/3", partial_masks)

# %% [markdown]
# <details><summary>Hint</summary>Give the context rank 0 and the targets 1, 2, … Whoever sees a token has at least its rank.</details>
# <details><summary>Solution</summary>
#
# ```python
# def partial_masks(t, targets):
#     rank = np.zeros(t, int)
#     rank[targets] = np.arange(1, len(targets) + 1)
#     content = rank[None, :] <= rank[:, None]
#     return content, content & ~np.eye(t, dtype=bool)
# ```
# </details>
#
# **To discuss.** Gradients do not flow into the memory. What can a model therefore not learn about the past, although it reads it? How would you test whether that matters?
#
# ## Summary
#
# - Each block remembers its own input for the segment before, without gradients; $N$ blocks reach $N \cdot M$ tokens back.
# - With a long enough memory, segments are one long pass, and each token is read once.
# - Two streams predict tokens in any order, so what belongs together is learned together.
#
# **Further reading.** [Dai et al., 2019](https://arxiv.org/abs/1901.02860): how far a model really looks back, in section 4.3. [Yang et al., 2019](https://arxiv.org/abs/1906.08237): "New York" in section 2.6.
# [Rae et al., 2019](https://arxiv.org/abs/1911.05507): memories that are compressed instead of forgotten.
