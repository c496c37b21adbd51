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
# # Transformer decoder block: look back, look across
#
# To write the next word of a translation, look at the words that are there already, and at the text to translate.
#
# Paper: [Vaswani et al., 2017, section 3.1](https://arxiv.org/abs/1706.03762) · NumPy: [`reference/transformer_decoder`](../reference/transformer_decoder/__init__.py) · Layer:
# [`layers/transformer_decoder`](../layers/transformer_decoder/__init__.py) · 30 minutes · You should know: the [encoder block](transformer_encoder.ipynb) and [cached attention](cached_attention.ipynb)

# %%
import inspect

import keras
import matplotlib.pyplot as plt
import numpy as np

from crosscheck.case import TOLERANCE
from crosscheck.cases.transformer_decoder import CHAPTER
from crosscheck.lesson import figures
from crosscheck.lesson.counting import multiply_adds
from crosscheck.lesson.exercises import check
from crosscheck.lesson.training import fit
from crosscheck.weights import draw_weights, weights_of
from layers.cached_attention import CachedAttention
from layers.transformer_decoder import TransformerDecoderBlock
from reference import transformer_decoder as ref
from reference.attention import AttentionWeights, attend  # noqa: F401 (attend is for the exercises)
from reference.common.normalization import LayerNorm
from reference.common.projection import Projection

figures.use_style()
rng = np.random.default_rng(0)

# %% [markdown]
# ## The question
#
# **What may a translator look at while writing word $t$?** We push each input of a decoder block a little, and mark the outputs that notice.


# %%
def block_of(h=2, f=6, m=4):
    """A block with random weights, as the reference takes them."""
    block = TransformerDecoderBlock(h, f, "relu", dtype="float64")
    block.build([(None, None, m), (None, None, m)])
    draw_weights(block, rng)
    return weights_of(block, ref.DecoderWeights)


def noticed(x, memory):
    """Which positions of the output differ from those of the unchanged input."""
    return np.abs(ref.transformer_decoder_block(x, memory, weights).output - before).max(axis=-1)[0] > 1e-9


# %%
weights, x, memory = block_of(), rng.normal(size=(1, 8, 4)), rng.normal(size=(1, 10, 4))
before = ref.transformer_decoder_block(x, memory, weights).output
own = np.array([noticed(x + np.eye(8)[s][:, None], memory) for s in range(8)]).T
across = np.array([noticed(x, memory + np.eye(10)[s][:, None]) for s in range(10)]).T

# %%
fig, axes = plt.subplots(1, 2, figsize=(7, 3.2))
figures.mask_picture(axes[0], own, "words of the translation", "output t", "word s")
figures.mask_picture(axes[1], across, "words of the text to translate", "output t", "word s")
plt.show()
assert np.array_equal(own, np.tri(8, dtype=bool)) and across.all()

# %% [markdown]
# White is noticed. Each output depends on the whole source, and on the translation up to itself, never on a later word: those are what it has to find.
#
# ## The equation
#
# Three sublayers, each added to what was there. The paper normalizes after each sum; most models since then before each sublayer:
#
# $$y = \mathrm{LN}(x + \mathrm{CausalSelf}(x)), \quad z = \mathrm{LN}(y + \mathrm{MultiHead}(y, M, M)), \quad o = \mathrm{LN}(z + \mathrm{FFN}(z)) \tag{1}$$
#
# $$y = x + \mathrm{CausalSelf}(\mathrm{LN}(x)), \quad z = y + \mathrm{MultiHead}(\mathrm{LN}(y), M, M), \quad o = z + \mathrm{FFN}(\mathrm{LN}(z)) \tag{2}$$
#
# | symbol | name in the code | shape |
# |---|---|---|
# | $x$, the translation so far | `x` | `(b, t, m)` |
# | $M$, what an encoder made of the source | `memory` | `(b, s, m)` |
# | $\mathrm{CausalSelf}$ | `weights.self_attention` | as [attention](attention.ipynb) |
# | $\mathrm{MultiHead}(y, M, M)$ | `weights.encdec_attention` | the same |
# | $\mathrm{FFN}$ | `weights.intermediate`, `weights.output` | `(m, f)`, `(f, m)` |
#
# ## By hand
#
# Let $m = 2$, self-attention and FFN add nothing, and the memory be one token $(4, 0)$ that is its own value. The only token there is gets all the weight, so cross-attention adds $(4, 0)$. Pre-norm,
# $(3, 1)$ becomes $(7, 1)$. Post-norm, $(3, 1)$ is first normalized to $(1, -1)$, plus $(4, 0)$ is $(5, -1)$, which is normalized to $(1, -1)$.

# %%
zero, keep = Projection(np.zeros((2, 1, 2))), Projection(np.eye(2).reshape(2, 1, 2))
cross = AttentionWeights(zero, zero, keep, Projection(np.eye(2).reshape(1, 2, 2)))
quiet = cross._replace(attention_output=Projection(np.zeros((1, 2, 2))))
plain, flat = LayerNorm(np.ones(2), np.zeros(2)), Projection(np.zeros((2, 2)))
worked = ref.DecoderWeights(quiet, plain, cross, plain, flat, flat, plain)
x, memory = np.array([[[3.0, 1.0]]]), np.array([[[4.0, 0.0]]])
pre, post = (ref.transformer_decoder_block(x, memory, worked, norm_first=first).output for first in (True, False))
print("pre-norm:", pre.ravel().round(6), " post-norm:", post.ravel().round(6))
assert np.allclose(pre, [7, 1]) and np.allclose(post, [1, -1])

# %% [markdown]
# ## In NumPy

# %%
source = inspect.getsource(ref.transformer_decoder_block)
print(source[source.index("    def before") :])

# %%
x, memory = rng.normal(size=(2, 5, 4)), rng.normal(size=(2, 7, 4))
output = ref.transformer_decoder_block(x, memory, weights).output
for b, t in np.ndindex(2, 5):
    assert np.allclose(output[b, t], ref.decode_one(x[b], memory[b], t, weights))
print("all positions at once and one by one agree")

# %% [markdown]
# ## What it does
#
# **Does it find what to say in the memory, and where?** A task that cannot be done without looking: write eight digits of the source backwards. Real translations hold surprises, so every fifth target, on average, is a
# random digit instead. The best possible accuracy is then $0.8 + 0.2 \cdot \tfrac1{10} = 0.82$; without the source it is a guess, $0.1$. One block, one head; the memory is the source's embeddings and places.

# %%
n, length, m = 10, 8, 64


def draw(count):
    """Sources, targets with their surprises, and what the decoder reads: the targets, one place later, after a start sign."""
    source = rng.integers(0, n, (count, length))
    surprise = rng.random(source.shape) < 0.2
    target = np.where(surprise, rng.integers(0, n, source.shape), source[:, ::-1])
    return source, np.concatenate([np.full((count, 1), n), target[:, :-1]], axis=1), target


# %%
class Translator(keras.Model):
    def __init__(self, reads=1, **options):
        super().__init__()
        normal = keras.initializers.RandomNormal(stddev=1.0)
        self.token, self.place = (keras.layers.Embedding(n + 1, m, embeddings_initializer=normal) for _ in range(2))
        self.block = TransformerDecoderBlock(1, m, "relu", norm_first=True, norm_epsilon=1e-6, **options)
        self.logits, self.reads = keras.layers.Dense(n), reads

    def call(self, inputs, cache=None, step=None):
        source, written = inputs
        memory = self.token(source) + self.place(keras.ops.arange(length))
        x = self.token(written) + self.place((step or 0) + keras.ops.arange(written.shape[1]))
        mask = self.reads * keras.ops.ones((1, 1, length))  # a reader of nothing may attend to no memory
        y, cache = self.block([x, memory, mask], cache=cache, decode_loop_step=step)
        return self.logits(y) if step is None else (self.logits(y), cache)


# %%
def train(model):
    """Accuracy on new examples, at each position, while the right words so far are given."""
    source, read, target = draw(64 * 300)
    model.compile(keras.optimizers.Adam(3e-3), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    fit(model, [source, read], target, batch_size=64)
    source, read, target = draw(2000)
    return np.mean(np.argmax(model([source, read]), axis=-1) == target, axis=0)


# %%
models, given = {}, {}
for name, reads in (("reads the source", 1), ("does not", 0)):
    keras.utils.set_random_seed(0)
    models[name] = Translator(reads)
    given[name] = train(models[name])

# %% [markdown]
# Does it reach that? And where does it look? For the second, the reference takes the trained weights, because it returns the attention weights of both sublayers.

# %%
model = models["reads the source"]
source, read, _ = draw(200)
x, memory = (np.asarray(model.token(ids) + model.place(keras.ops.arange(length)), "float64") for ids in (read, source))
alone = TransformerDecoderBlock(1, m, "relu", dtype="float64")
alone.build([x.shape, memory.shape])
alone.set_weights(model.block.get_weights())
decoded = ref.transformer_decoder_block(x, memory, weights_of(alone, ref.DecoderWeights), norm_first=True, epsilon=1e-6)
looks = decoded.cross_scores.mean(axis=(0, 1))

# %%
best = 0.8 + 0.2 / n
fig, axes = plt.subplots(1, 2, figsize=(8, 3.3), width_ratios=(1.4, 1))
for name, accuracy in given.items():
    axes[0].plot(accuracy, label=name)
axes[0].axhline(best, color="black", linestyle=":", marker="none", label="the best possible, and a guess")
axes[0].axhline(1 / n, color="black", linestyle=":", marker="none")
axes[0].set(xlabel="position t", ylabel="accuracy", ylim=(0, 1))
axes[0].legend(loc="center", fontsize="small")
figures.attention_map(axes[1], looks, title="cross-attention of the first", largest=1)
axes[1].set_xlabel("source position s")
plt.show()

# %% [markdown]
# With cross-attention the block is as good as one can be at every position, and looks at the source from its end to its beginning; without it, it guesses.

# %%
print({name: round(float(accuracy.mean()), 1) for name, accuracy in given.items()})
assert np.abs(given["reads the source"] - best).max() < 0.05 and np.abs(given["does not"] - 1 / n).max() < 0.05
assert looks[::-1].diagonal().min() > 0.9 and not np.triu(decoded.self_scores[:, 0], 1).any()

# %% [markdown]
# **Does writing step by step give what the parallel pass gives?** Each written word is read in the next step, with the keys and values of the earlier ones in the cache.


# %%
def write(model, source):
    """Greedy decoding with a cache of `length` slots."""
    cache, words = model.block.init_cache(len(source), length), [np.full((len(source), 1), n)]
    for t in range(length):
        logits, cache = model([source, words[-1]], cache=cache, step=t)
        words.append(np.argmax(logits, axis=-1))
    return np.concatenate(words, axis=1)


# %%
written = write(model, source)
parallel = np.argmax(model([source, written[:, :-1]]), axis=-1)
print("source: ", source[0], "\nwritten:", written[0, 1:])
assert np.array_equal(written[:, 1:], parallel)
assert np.mean(written[:, 1:] == source[:, ::-1]) > 0.98

# %% [markdown]
# ## Does the layer agree?
#
# Both orders of the norms, masks, caches, and a memory with channels.

# %%
errors = figures.agreement_plot(CHAPTER)
assert all(error <= TOLERANCE[dtype] for by_dtype in errors.values() for dtype, error in by_dtype.items())
print("layer and reference agree in", ", ".join(TOLERANCE))

# %% [markdown]
# ## Where it breaks
#
# **A model that copies its answers.** While training, the right words stand in the input, one place late. A decoder that may look one place ahead need not read the source at all. Our block is causal by itself.
# To see what happens where the mask is an argument that can be forgotten, we build the block with a self-attention that ignores its mask.


# %%
@keras.saving.register_keras_serializable(package="lesson")
class Peeking(CachedAttention):
    def call(self, query, value, attention_mask=None, cache=None, decode_loop_step=None, training=None):
        return super().call(query, value, cache=cache, decode_loop_step=decode_loop_step, training=training)


# %%
keras.utils.set_random_seed(0)
models["peeks"] = Translator(self_attention_cls=Peeking)
given["peeks"] = train(models["peeks"])
source, _, _ = draw(500)
alone = {name: np.mean(write(model, source)[:, 1:] == source[:, ::-1]) for name, model in models.items()}

# %%
fig, ax = plt.subplots()
places = np.arange(3)
ax.bar(places - 0.2, [given[name].mean() for name in models], 0.4, label="right words so far given", color=figures.COLORS[0])
ax.bar(places + 0.2, list(alone.values()), 0.4, label="writing by itself", color=figures.COLORS[1], hatch="//")
ax.axhline(best, color="black", linestyle=":", label="the best possible when they are given")
ax.set(ylabel="accuracy", ylim=(0, 1.05))
ax.set_xticks(places, models)
fig.legend(loc="outside upper center", ncols=3, frameon=False, fontsize="small")
plt.show()

# %% [markdown]
# The model that peeks predicts surprises that nobody can predict: an accuracy **above the best possible** is the sign. Writing by itself there is nothing to copy, and it fails. (The honest one is better
# alone than with the right words given, because the reversed source has no surprises.)

# %%
print({name: (round(float(given[name].mean()), 1), round(float(alone[name]), 1)) for name in models})
assert given["peeks"].mean() > 0.95 > best and alone["peeks"] < 0.6 and alone["reads the source"] > 0.98

# %% [markdown]
# **Differs from the paper.** The activation is an argument, earlier keys and values may come from a cache, and a memory may have channels, such as several documents, mixed by
# [given weights](multi_channel_attention.ipynb).
#
# ## What it costs
#
# For $T$ words and a source of $S$ (both of size $m = h d$), written step by step, in multiply-adds:
#
# | | words | memory | scores and mixtures |
# |---|---|---|---|
# | self-attention | $4\,T m^2$ | | $2\,m\,T(T+1)/2$ |
# | cross-attention | $2\,T m^2$ | $2\,T S m^2$ | $2\,m\,T S$ |
# | feed-forward | $2\,T m f$ | | |

# %%
h, m, f, T, S = 3, 12, 20, 6, 9
weights, x, memory, cache = block_of(h, f, m), rng.normal(size=(1, T, m)), rng.normal(size=(1, S, m)), None
with multiply_adds() as counted:
    for t in range(T):
        cache = ref.transformer_decoder_block(x[:, t : t + 1], memory, weights, cache=cache).cache
own = 4 * T * m**2 + m * T * (T + 1)
across = 2 * T * m**2 + 2 * T * S * m**2 + 2 * m * T * S
print("self-attention:", own, " cross-attention:", across, " feed-forward:", 2 * T * m * f)
assert sum(counted) == own + across + 2 * T * m * f and across > own + 2 * T * m * f

# %% [markdown]
# Cross-attention costs most, for one term: the memory is projected anew for each word, though it never changes. In a loop that is compiled as a whole it can be moved out; the second exercise does so by hand.

# %%
m, S = 512, 32
T = 2 ** np.arange(2, 12)
parts = {
    "self-attention": 4 * T * m**2 + m * T * (T + 1),
    "cross-attention": 2 * T * m**2 + 2 * T * S * m**2 + 2 * m * T * S,
    "cross-attention, memory projected once": 2 * T * m**2 + 2 * S * m**2 + 2 * m * T * S,
    "feed-forward (f = 4 m)": 8 * T * m**2,
}
fig, ax = plt.subplots()
for name, cost in parts.items():
    ax.loglog(T, cost, base=2, label=name)
ax.set(xlabel="words written T", ylabel="multiply-adds", title="one block with m = 512, a source of 32 words")
ax.legend(fontsize="small")
plt.show()
assert (parts["cross-attention"] > 8 * parts["cross-attention, memory projected once"])[-4:].all()

# %% [markdown]
# Projected once, the memory makes cross-attention cost less than an eighth of that, from $T = 256$ words on.
#
# ## Exercises
#
# **1** (easy, 10 minutes). How many parameters has a block of model size `m` with `h` heads of size `d`, a feed-forward size `f` and a memory of size `s`? Every map has a bias, every norm two vectors.


# %%
def parameters(m, h, d, f, s):
    return None  # your turn


_ = check("transformer_decoder/1", parameters)

# %% [markdown]
# <details><summary>Hint</summary>Eight maps of attention, two of them from the memory; two of the feed-forward network; three norms.</details>
# <details><summary>Solution</summary><code>6 * m * h * d + 2 * s * h * d + 6 * h * d + 2 * m + (m * f + f) + (f * m + m) + 6 * m</code></details>
#
# **2** (medium, 10 minutes). Cross-attention to a memory that is projected already: `x` is `(b, t, m)`, `k` `(b, s, h, d)`, `v` `(b, s, h, e)`, `w_q` `(m, h, d)`, `w_o` `(h, e, m)`, and `mask` `(b, s)` says what there is of the memory. Return what the sublayer adds, without biases; nothing, if there is no memory.


# %%
def cross_step(x, k, v, w_q, w_o, mask):
    return None  # your turn


_ = check("transformer_decoder/2", cross_step)

# %% [markdown]
# <details><summary>Hint</summary>Three steps: queries into heads, attend, out of the heads. The mask needs axes for heads and queries.</details>
# <details><summary>Solution</summary>
#
# ```python
# def cross_step(x, k, v, w_q, w_o, mask):
#     q = np.einsum("btm,mhd->bthd", x, w_q)
#     heads, _ = attend(q, k, v, mask[:, None, None])
#     return np.einsum("bthe,hem->btm", heads, w_o)
# ```
# </details>
#
# **3** (hard, 20 minutes). One step of beam search. `scores` `(b, beams)` are log-probabilities of texts, `log_p` `(b, beams, n)` those of their next tokens. A text that is `done` `(b, beams)` goes on with token 0 at no cost, and with no other. For each row return the `k` best continuations, the best first: the beams they come from, their tokens and their scores, `(b, k)` each.


# %%
def best_beams(scores, log_p, done, k):
    return None  # your turn


_ = check("transformer_decoder/3", best_beams)

# %% [markdown]
# <details><summary>Hint</summary>Put beams and tokens into one axis of length beams · n, sort, and take the places apart with <code>//</code> and <code>%</code>.</details>
# <details><summary>Solution</summary>
#
# ```python
# def best_beams(scores, log_p, done, k):
#     b, beams, n = log_p.shape
#     ended = np.where(np.arange(n) == 0, 0.0, -np.inf)
#     total = (scores[..., None] + np.where(done[..., None], ended, log_p)).reshape(b, beams * n)
#     best = np.argsort(-total, axis=1)[:, :k]
#     return best // n, best % n, np.take_along_axis(total, best, axis=1)
# ```
# </details>
#
# **To discuss.** Beam search finds texts that are more probable than those of greedy decoding, and people often like them less. Why might that be, and how would you find out whether it is so for your model?
#
# ## Summary
#
# - A decoder block looks back at its own words, across at the source, and then works on what it found; each is added to what was there.
# - Trained in parallel and used step by step, it computes the same, because no output depends on a later word.
# - Without the causal mask it copies its answers: an accuracy above the best possible while training, and nothing to say alone.
#
# **Further reading.** [Vaswani et al., 2017](https://arxiv.org/abs/1706.03762): the paper; the decoder is the right half of its first figure. [Xiong et al., 2020](https://arxiv.org/abs/2002.04745): where to put the
# norm. [Bahdanau et al., 2015](https://arxiv.org/abs/1409.0473): the first translator that looked back at its source.
