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
# # Cached attention: write on without reading again
#
# A model that writes a text adds one token at a time. What it computed for earlier tokens does not change, so it can keep it.
#
# Paper: [Shazeer, 2019, section 2.4](https://arxiv.org/abs/1911.02150) · NumPy: [`reference/cached_attention.py`](../reference/cached_attention.py) · Layer:
# [`layers/cached_attention.py`](../layers/cached_attention.py) · 35 minutes · You should know: [attention](attention.ipynb), the causal [mask](self_attention_mask.ipynb) and [token embedding](on_device_embedding.ipynb)

# %% tags=["hide-input"] jupyter={"source_hidden": true}
import inspect
import re
import time
from functools import partial
from unittest.mock import patch

import keras
import matplotlib.pyplot as plt
import numpy as np

from crosscheck.backends import differentiate
from crosscheck.case import TOLERANCE
from crosscheck.cases.cached_attention import CHAPTER
from crosscheck.lesson import figures
from crosscheck.lesson.counting import multiply_adds, numbers_read
from crosscheck.lesson.diagram import Box, diagram
from crosscheck.lesson.exercises import check
from crosscheck.lesson.measuring import seconds
from crosscheck.lesson.moving import moving
from crosscheck.weights import weights_of
from experiments.common.training import train
from layers.cached_attention import CachedAttention
from layers.on_device_embedding import OnDeviceEmbedding
from reference import cached_attention as ref
from reference.attention import AttentionWeights, multi_head_attention
from reference.common.projection import Projection

figures.use_style()
rng = np.random.default_rng(0)

# %% [markdown]
# ## The question
#
# To write the token after token $t$, a model runs over tokens $0 \dots t$; to write the next one, over $0 \dots t+1$. **How often is each token made into a key and a value?** We let the reference decode 16 tokens in both ways, and note
# which tokens its key projection is given. The first number of each token is its place, so that we can recognize it.


# %%
def projected(decode, x, weights):
    """Which tokens become keys at each call of the key projection: `(calls, t)`. The first number of token t is t."""
    rows, into_heads = [], ref.into_heads

    def noting(x, projection):
        if projection is weights.key:
            rows.append(np.isin(np.arange(16), x[0, :, 0]))
        return into_heads(x, projection)

    with patch.object(ref, "into_heads", noting):
        decode(x, weights)
    return np.array(rows)


# %%
layer, x = CachedAttention(num_heads=2, key_dim=4, dtype="float64"), rng.normal(size=(1, 16, 8))
layer.build(x.shape, x.shape)
weights, x[0, :, 0] = weights_of(layer, AttentionWeights), np.arange(16)
ways = {"read again": ref.decode_by_recomputing, "with a cache": ref.decode}
marks = {name: projected(decode, x, weights) for name, decode in ways.items()}

# %%
fig, axes = plt.subplots(1, 2, figsize=(6.8, 3.4), sharey=True)
for ax, (name, tokens) in zip(axes, marks.items()):
    figures.mask_picture(ax, tokens, f"{name}: {tokens.sum()} projections", "step", "token (white: made into a key)")
    ax.label_outer()
figures.show()
assert marks["read again"].sum() == 16 * 17 // 2 and marks["with a cache"].sum() == 16

# %% [markdown]
# The first token is projected 16 times, each time to the same key and value: it sees only itself, whatever comes later. All but the diagonal is wasted.
#
# ## The picture

# %% tags=["hide-input"] jupyter={"source_hidden": true}
boxes = {
    "x": Box("token t", 1, 0, "data"),
    "q": Box("$W^Q$", 0, 1, "map"),
    "k": Box("$W^K$", 1, 1, "map"),
    "v": Box("$W^V$", 2, 1, "map"),
}
boxes |= {
    "cache": Box("cache\n(b, s, h, d), (b, s, h, e)", 3.6, 2, "data", 1.7),
    "write": Box("write to slot t", 1.5, 2, "op", 1.9),
    "new": Box("new cache", 3.6, 3, "data"),
}
boxes |= {"scores": Box("$qK^\\top/\\sqrt{d}$", 0, 3), "softmax": Box("softmax over slots 0 … t", 0.2, 4, "op", 1.9)}
boxes |= {"mix": Box("mix values", 1, 5), "o": Box("$W^O$", 1, 6, "map"), "y": Box("output", 1, 7, "data")}

arrows = [("x", "q", ""), ("x", "k", "(b, 1, m)"), ("x", "v", ""), ("k", "write", ""), ("v", "write", "(b, 1, h, e)")]
arrows += [("cache", "write", ""), ("write", "new", ""), ("q", "scores", "(b, 1, h, d)")]
arrows += [("write", "scores", "K (b, s, h, d)"), ("scores", "softmax", "(b, h, 1, s)"), ("softmax", "mix", "")]
arrows += [("write", "mix", "V (b, s, h, e)"), ("mix", "o", "(b, 1, h, e)"), ("o", "y", "(b, 1, m)")]
diagram(boxes, arrows)
figures.show()

# %% [markdown]
# Only one token goes through the blue maps. What was there before comes from the cache.
#
# ## The equation
#
# $$k_t = x_t W^K, \quad v_t = x_t W^V, \qquad K_t = [K_{t-1};\, k_t], \quad V_t = [V_{t-1};\, v_t] \tag{1}$$
#
# $$y_t = \mathrm{Concat}_i\!\left(\mathrm{softmax}\!\left(\frac{x_t W_i^Q K_{t,i}^\top}{\sqrt d}\right) V_{t,i}\right) W^O \tag{2}$$
#
# Compilers want shapes that do not grow. A **static** cache has all its slots from the start:
#
# $$\text{slot } t \text{ of } K, V \text{ becomes } k_t, v_t; \qquad y_t \text{ attends to slots } 0 \dots t \tag{3}$$
#
# | symbol | name in the code | shape |
# |---|---|---|
# | $x_t$ | `query`, `value` | `(b, t, m)`, mostly with one token |
# | $K, V$ | `cache.key`, `cache.value` | `(b, s, h, d)`, `(b, s, h, e)` |
# | $t$ in (3) | `step`; in the layer `decode_loop_step` | a number |
#
# ## By hand
#
# Let all sizes be 1, with $q = x$, $k = x \ln 3$, $v = 8x$, and tokens 1, then 2. The first is alone, so $y = 8$. The second finds the key $\ln 3$ in the cache and adds $2\ln 3$. Its scores
# are $2\ln 3$ and $4\ln 3$: weights 1 to 9. The values 8 and 16 mix to $15.2$.

# %%
one = np.ones((1, 1, 1))
small = AttentionWeights(Projection(one), Projection(np.log(3) * one), Projection(8 * one), Projection(one))
cache, answers = ref.Cache(np.zeros((0, 1, 1)), np.zeros((0, 1, 1))), []
for token in ([1.0], [2.0]):
    y, cache = ref.next_token(np.array(token), cache, small)
    answers.append(y.item())
print("outputs:", np.round(answers, 3), " cached values:", cache.value.ravel())
assert np.allclose(answers, [8, 15.2])

# %% [markdown]
# ## In NumPy
#
# **One head, a cache that grows.** Each token is projected once. Its key and value join the others, and its query meets all of them.

# %%
m, d = 8, 4
w_q, w_k, w_v = rng.normal(size=(3, m, d)) / np.sqrt(m)
tokens, keys, values, outputs = rng.normal(size=(6, m)), [], [], []
for t, token in enumerate(tokens):
    keys.append(token @ w_k)
    values.append(token @ w_v)
    scores = np.array(keys) @ (token @ w_q) / np.sqrt(d)
    p = np.exp(scores) / np.exp(scores).sum()
    outputs.append(p @ np.array(values))
    print(f"step {t}: {len(keys)} keys, weights {p.round(2)}")

# %%
scores = np.where(np.tri(6, dtype=bool), (tokens @ w_q) @ (tokens @ w_k).T / np.sqrt(d), -np.inf)
causal = np.exp(scores) / np.exp(scores).sum(axis=-1, keepdims=True) @ (tokens @ w_v)
print(f"difference from one causal pass over all tokens: below {figures.power_above(np.abs(causal - outputs).max())}")
assert np.allclose(causal, outputs, rtol=0, atol=1e-14)

# %% [markdown]
# **A static cache** has all its slots from the start. A slot that is not filled yet holds zeros; and a zero key has the score 0, which is a score like any other. So slots after $t$ must be masked. Without the mask, this much of the weight goes to empty slots:

# %%
slots, K, V, wasted = 16, np.zeros((16, d)), np.zeros((16, d)), []
for t, token in enumerate(tokens):
    K[t], V[t] = token @ w_k, token @ w_v
    scores = K @ (token @ w_q) / np.sqrt(d)
    p = np.exp(scores) / np.exp(scores).sum()  # without a mask
    p_masked = np.where(np.arange(slots) <= t, np.exp(scores), 0)
    assert np.allclose(p_masked / p_masked.sum() @ V, outputs[t])
    wasted.append(p[t + 1 :].sum())
print("weight on empty slots without the mask, steps 0 to 5:", np.round(wasted, 2))

# %% [markdown]
# **Several tokens at once**, such as a prompt: the $i$-th new token after $p$ others stands at position $p + i$, and attends to everything up to itself. Here are 3 tokens after 2 others, in 7 slots.

# %%
print(ref.up_to_itself(3, 7, 2).astype(int))

# %% [markdown]
# **All of it**, with heads, examples and both kinds of cache, is the reference.

# %%
print(inspect.getsource(ref.append))
print(inspect.getsource(ref.write))
print(inspect.getsource(ref.cached_attention))

# %% [markdown]
# Here is a static cache of 10 slots at work, in a moving picture. Above: one head's keys, slot by slot. Below: where the new token's query looks.

# %%
x = rng.normal(size=(1, 10, 8))
caches, looks, cache = [], [], ref.empty_cache(1, 10, weights)
for t in range(10):
    _, attention, cache = ref.cached_attention(x[:, t : t + 1], x[:, t : t + 1], weights, cache=cache, step=t)
    caches.append(cache.key[0, :, 0])
    looks.append(attention[0, 0, 0])
largest = np.abs(caches[-1]).max()


# %% tags=["nbval-ignore-output"]
def draw(fig, t):
    above, below = fig.subplots(2, 1, sharex=True, height_ratios=(2, 1.2))
    image = above.imshow(caches[t].T, vmin=-largest, vmax=largest, cmap="RdBu", aspect="auto")
    above.set(title=f"step {t}: slot {t} is written, slots 0 to {t} are read", ylabel="key size d")
    above.axvline(t + 0.5, color="black", marker="none")
    below.bar(range(10), looks[t], color=[figures.COLORS[0]] * t + [figures.COLORS[1]])
    below.set(xlabel="slot s", ylabel="weight", ylim=(0, 1), xticks=range(10))
    for ax in (above, below):
        ax.grid(False)
    fig.colorbar(image, ax=[above, below], label="key (0: empty)")


moving(draw, range(10), size=(5.5, 3))

# %% [markdown]
# A slot, once written, keeps its color to the end: a past that does not change is what makes a cache possible.
#
# ## What it does
#
# **Does it matter how the tokens come?** A prompt comes all at once, its answer token by token; a cache grows or has its slots from the start. Nothing here is approximate, so every way must give what one causal pass gives. We try
# the layer, in float64.

# %%
layer, x = CachedAttention(num_heads=4, key_dim=7, dtype="float64"), rng.normal(size=(2, 12, 11))
layer.build(x.shape, x.shape)
parallel, _ = multi_head_attention(x, x, weights_of(layer, AttentionWeights), mask=ref.up_to_itself(12, 12, 0)[None])


def in_blocks(sizes, slots=None):
    """Outputs of the layer for x in blocks of these sizes: appended, or written to one of the slots."""
    cache, outputs, start = layer.init_cache(batch=2, length=slots or 0), [], 0
    for size in sizes:
        block, step = x[:, start : start + size], None if slots is None else start
        y, cache = layer(block, block, cache=cache, decode_loop_step=step)
        outputs.append(y)
        start += size
    return np.concatenate(outputs, axis=1)


# %%
orders = {"one by one": [1] * 12, "a prompt of 5, then one by one": [5] + [1] * 7}
orders |= {"blocks of 3, 2, 6 and 1": [3, 2, 6, 1], "all at once": [12]}
kinds = {"appended": None, "12 slots": 12, "20 slots": 20}
errors = {
    order: [np.abs(in_blocks(sizes, slots) - parallel).max() for slots in kinds.values()] for order, sizes in orders.items()
}
largest = np.max(list(errors.values()))
below = figures.power_above(largest)
print(f"difference from one causal pass: below {below}, in {len(orders)} orders with each of:", ", ".join(kinds))
assert largest < TOLERANCE["float64"]

# %% [markdown]
# **Does a model write the same text with a cache?** In float32 the two ways round differently. The text can only differ at a word where the two largest logits are closer together than twice what rounding changes. To see how close that is, we teach a small
# GPT an old rhyme in which each verse takes up the last.

# %%
lines = ["the house that jack built", "the malt that lay in", "the rat that ate", "the cat that killed", "the dog that worried"]
lines += ["the cow with the crumpled horn that tossed", "the maiden all forlorn that milked"]
verses = ["this is " + " ".join(lines[last::-1]) + " ." for last in range(len(lines))]
words = " ".join(verses).split()
vocabulary = sorted(set(words))
rhyme = np.array([vocabulary.index(word) for word in words], "int32")
print(f"{len(words)} words, {len(vocabulary)} different ones; the last verse:", verses[-1], sep="\n")


# %%
class Writer(keras.Model):
    def __init__(self, n, length, m=32, heads=4):
        super().__init__()
        self.token, self.place = OnDeviceEmbedding(n, m), OnDeviceEmbedding(length, m)
        self.attention = CachedAttention(heads, m // heads)
        self.inner, self.outer = keras.layers.Dense(4 * m, activation="gelu"), keras.layers.Dense(m)
        self.norms = [keras.layers.LayerNormalization() for _ in range(3)]
        self.logits = keras.layers.Dense(n)

    def call(self, ids, cache=None, start=None):
        x = self.token(ids) + self.place((start or 0) + keras.ops.arange(ids.shape[1]))
        y = self.norms[0](x)
        cache = self.attention.init_cache(keras.ops.shape(ids)[0], 0) if cache is None else cache
        y, cache = self.attention(y, y, cache=cache, decode_loop_step=start)
        x = x + y
        x = x + self.outer(self.inner(self.norms[1](x)))
        logits = self.logits(self.norms[2](x))
        return logits if start is None else (logits, cache)


# %% tags=["nbval-ignore-output"]
LENGTH = 48
starts = np.arange(len(rhyme) - LENGTH)


def batch():
    pieces = rhyme[rng.choice(starts, 8)[:, None] + np.arange(LENGTH + 1)]
    return pieces[:, :-1], pieces[:, 1:]


keras.utils.set_random_seed(0)
model = Writer(len(vocabulary), LENGTH)
curve = train(model, batch, rate=1e-2, steps=120, points=4)
print(f"loss {curve[-1][1]:.2f} nats a word, at the start {np.log(len(vocabulary)):.2f} by guessing")

# %% [markdown]
# Both ways continue ten beginnings of three words, and always take the most likely next word. Reading again, the model runs over the whole text for each word. (The places that are not written yet hold zeros, which a causal model does not see.)

# %%
prompts = rhyme[starts[:: len(starts) // 10][:10, None] + np.arange(3)]
again = np.pad(prompts, ((0, 0), (0, LENGTH - 3)))
logits_again = []
for t in range(3, LENGTH):
    logits = keras.ops.convert_to_numpy(model(again))[:, t - 1]
    again[:, t] = np.argmax(logits, axis=-1)
    logits_again.append(logits)

# %%
cached, new, logits_cached = prompts, prompts, []
cache = model.attention.init_cache(batch=10, length=LENGTH)
while cached.shape[1] < LENGTH:
    logits, cache = model(new, cache, start=cached.shape[1] - new.shape[1])  # over the prompt, then over one word
    logits_cached.append(keras.ops.convert_to_numpy(logits)[:, -1])
    new = np.argmax(logits_cached[-1], axis=-1)[:, None].astype("int32")
    cached = np.concatenate([cached, new], axis=1)
print(" ".join(vocabulary[i] for i in cached[-1]).replace(" . ", ".\n"))

# %% tags=["nbval-ignore-output"]
first, second = np.array(logits_again), np.array(logits_cached)
comparable = np.cumprod(again == cached, axis=1)[:, 2:-1].T.astype(bool)  # until the texts part
rounding = np.abs(first - second)[comparable].max()
margins = np.diff(np.sort(first, axis=-1)[..., -2:], axis=-1)[comparable]
print(f"{(again == cached)[:, 3:].sum()} of {again[:, 3:].size} words are the same")
print(f"logits differ by at most {rounding:.0e}; the closest decision was won by {margins.min():.0e}")
same = (again == cached).all()
assert same or margins.min() < 2 * rounding

# %% [markdown]
# The cached run looked at each word once. Here, even the closest decision is won by far more than rounding changes.
#
# **Is it faster?** [Katharopoulos et al., 2020](https://arxiv.org/abs/2006.16236) report, in Table 5, how long a model takes to write an image on a CPU, pixel by pixel, without and with a cache ("stateful softmax"): 72.6 and 7.4 seconds for 784 pixels, 8651.4 and
# 71.9 seconds for 3,072. Ours is one layer in NumPy, so seconds do not compare; what should carry over is that the **ratio grows** with the length.

# %%
layer = CachedAttention(num_heads=4, key_dim=16, dtype="float64")
layer.build((1, 1, 64), (1, 1, 64))
weights = weights_of(layer, AttentionWeights)

# %% tags=["nbval-ignore-output"]
taken = {}
for length in (16, 32, 64, 128):
    x = rng.normal(size=(1, length, 64))
    taken[length] = [seconds(partial(decode, x, weights), 1 + 64 // length, time.perf_counter) for decode in ways.values()]
    print(
        f"{length:5} tokens: {taken[length][0]:.3f} s read again, {taken[length][1]:.4f} s with a cache, ratio {taken[length][0] / taken[length][1]:.0f}"
    )
paper = {784: (72.6, 7.4), 3072: (8651.4, 71.9)}
print(*(f"paper, {pixels} pixels: ratio {slow / fast:.0f}" for pixels, (slow, fast) in paper.items()), sep="\n")
assert taken[128][0] / taken[128][1] > taken[16][0] / taken[16][1] > 1

# %% [markdown]
# ## Where it breaks
#
# **A slot that is not there.** Updates of slices clamp their index silently, in TensorFlow's XLA and in JAX alike: with 6 slots, a write to slot 9 hits slot 5, and the model goes on with a wrong past. That happens as soon as a text is longer than its cache.

# %%
clamped = keras.ops.slice_update(keras.ops.zeros((1, 6, 4, 7)), (0, 9, 0, 0), keras.ops.ones((1, 1, 4, 7)))
written = np.flatnonzero(np.any(keras.ops.convert_to_numpy(clamped), axis=(0, 2, 3)))
print("slice_update of slot 9 wrote to slot", written)
assert written.tolist() == [5]

# %% [markdown]
# Our layer raises an error where it can know the step. Inside a compiled program it cannot; there it writes nothing and attends to nothing, so the cache stays right.

# %%
layer, token = CachedAttention(num_heads=4, key_dim=7), keras.ops.ones((1, 1, 11))
cache = layer.init_cache(batch=1, length=6)
try:
    layer(token, token, cache=cache, decode_loop_step=9)
except ValueError as error:
    message = re.search("decode_loop_step must.*slots", str(error))[0]
print("the layer:", message)

# %%
outputs, _, _ = differentiate(
    lambda layer, step: layer(token, token, cache=cache, decode_loop_step=step),
    layer, {"step": keras.ops.convert_to_tensor(9)}, {"output[0]": np.ones((1, 1, 11))}, compiled=True,
)  # fmt: skip
largest = {name: np.abs(outputs[name]).max() for name in ("output[0]", "output[1].key", "output[1].value")}
print("compiled, the largest number in output, keys and values:", *largest.values())
assert not any(largest.values())

# %% [markdown]
# **Differs from the paper.** Scores are divided by $\sqrt d$, projections may have biases, several tokens may come at once, and a cache may have its slots from the start.
#
# ## What it costs
#
# **Arithmetic.** The table says how many tokens the layer projects for token $t$ (counted from 0), and how many products $q \cdot k$ it forms in each head. $s$ is the number of slots.
#
# | | tokens projected | products $q \cdot k$ | over $T$ tokens |
# |---|---|---|---|
# | read again | $t + 1$ | $(t+1)^2$ | $T(T+1)(2T+1)/6$ products |
# | a cache that grows | $1$ | $t + 1$ | $T(T+1)/2$ |
# | a static cache | $1$ | $s$, filled or not | $T s$ |
#
# A token projected costs $4\,m\,h\,d$ multiply-adds (with $e = d$); a product and its share of the mixture, $2\,d$ in each head. We count what the reference does, token by token.

# %%
m, h, d, T, slots = 24, 3, 8, 40, 64
layer, x = CachedAttention(h, d), rng.normal(size=(1, T, m))
layer.build(x.shape, x.shape)
weights = weights_of(layer, AttentionWeights)


def count(start, t, **options):
    with multiply_adds() as counted:
        _, _, cache = ref.cached_attention(x[:, start : t + 1], x[:, start : t + 1], weights, **options)
    return sum(counted), cache


# %%
grown, static, costs = ref.empty_cache(1, 0, weights), ref.empty_cache(1, slots, weights), []
for t in range(T):
    again, _ = count(0, t, mask=ref.up_to_itself(t + 1, t + 1, 0)[None])
    growing, grown = count(t, t, cache=grown)
    fixed, static = count(t, t, cache=static, step=t)
    costs.append((again, growing, fixed))
costs, t = np.array(costs), np.arange(T)
expected = [(t + 1, (t + 1) ** 2), (1 + 0 * t, t + 1), (1 + 0 * t, slots + 0 * t)]
assert all((4 * m * h * d * p + 2 * h * d * c == cost).all() for (p, c), cost in zip(expected, costs.T))

# %%
fig, ax = plt.subplots()
for cost, name, shift in zip(costs.T, ("read again", "a cache that grows", f"a static cache of {slots} slots"), (-4, -8, 9)):
    (line,) = ax.semilogy(t, cost, marker="none")
    ax.annotate(name, (t[-1], cost[-1]), (4, shift), textcoords="offset points", color=line.get_color(), va="center")
ax.set(xlabel="position t", ylabel="multiply-adds for this token", xlim=(0, 58), ylim=(2e3, 3e5))
ax.set_title("a late token costs more, unless the cache is static")
figures.show()
print(
    "the last token beside the first:",
    *(f"{name} {last / first:.2f} times" for name, first, last in zip(("read again", "growing", "static"), costs[0], costs[-1])),
)

# %% [markdown]
# With a cache that grows, a late token is **not** as cheap as the first: it has more keys to meet. With a static one it is, but only because every token pays for all slots. A static cache that is much too large can cost more than it saves.
#
# **Memory traffic** is the paper's point (section 2.4.1). A step does little arithmetic with what it reads: each number of the cache serves for one multiply-add, and each weight for one per text. With $b$ texts, $n$ keys and $m = hd$, a step reads about
# $4m^2 + 2bnm$ numbers for $4bm^2 + 2bnm$ multiply-adds. More texts at once help with the weights, but not with the cache: each text has its own. If all heads share **one set of keys and values** (multi-query attention), the
# cache is $h$ times smaller, for the same number of products. We count numbers read by one step of the reference, and of the same step with shared keys.


# %%
def step(x, cache, weights, shared):
    """One token of each text, with a cache of keys and values for each head, or one for all heads (the weights' first)."""
    q = np.einsum("btm,mhd->bthd", x, weights.query.kernel)
    letters, heads = ("bsd", "md->btd") if shared else ("bshd", "mhd->bthd")
    new = [np.einsum(f"btm,{heads}", x, w.kernel[:, 0] if shared else w.kernel) for w in (weights.key, weights.value)]
    k, v = (np.concatenate([old[:, 1:], token], axis=1) for old, token in zip(cache, new))
    scores = np.einsum(f"bthd,{letters}->bhts", q, k) / np.sqrt(q.shape[-1])
    p = np.exp(scores - scores.max(axis=-1, keepdims=True))
    mixed = np.einsum(f"bhts,{letters}->bthd", p / p.sum(axis=-1, keepdims=True), v)
    return np.einsum("bthd,hdm->btm", mixed, weights.attention_output.kernel)


# %%
h, d, n = 8, 16, 256
layer = CachedAttention(h, d, use_bias=False)
layer.build((1, 1, h * d), (1, 1, h * d))
weights = weights_of(layer, AttentionWeights)
traffic = {}
for b in (1, 4, 16, 64):
    x = rng.normal(size=(b, 1, h * d))
    for shared in (False, True):
        cache = rng.normal(size=(2, b, n, d) if shared else (2, b, n, h, d))
        with multiply_adds() as done, numbers_read() as read:
            step(x, cache, weights, shared)
        traffic[b, shared] = sum(read) / sum(done)

# %%
fig, ax = plt.subplots()
batches = [b for b, shared in traffic if shared]
for shared, name in ((False, "keys for each head"), (True, "one set of keys")):
    (line,) = ax.loglog(batches, [traffic[b, shared] for b in batches], base=2)
    ax.annotate(
        name, (batches[-1], traffic[batches[-1], shared]), (6, 0), textcoords="offset points", color=line.get_color(), va="center"
    )
ax.set(
    xlabel="texts at once b",
    ylabel="numbers read per multiply-add",
    xlim=(0.9, 260),
    title="many texts share the weights, but not the cache",
)
ax.set_xticks(batches, batches)
ax.set_yticks([2.0**-i for i in range(6)], [f"1/{2**i}" if i else "1" for i in range(6)])
figures.show()

# %%
print(
    "numbers read per multiply-add:",
    {("shared" if shared else "own", b): round(ratio, 3) for (b, shared), ratio in traffic.items()},
)
m = h * d
floor = 2 * n * m / (4 * m**2 + 2 * n * m)  # of (4m² + 2bnm) / (4bm² + 2bnm), for many texts
print(f"with keys for each head it cannot fall below {floor:.2f}")
assert min(traffic[b, False] for b in batches) > floor > traffic[64, True]

# %% [markdown]
# Does that make a machine faster? We time the products $q \cdot k$ alone, for 4 texts and 8 heads: the same multiply-adds, with keys for each head and with one set of keys. (Keys lie in tiles of 256, a size that one core works on.) One set of keys has a second advantage: its products with the queries of all heads are one product of
# matrices. So we time it in a third way too, which takes that away: all heads read the same keys, but each has a product of its own.


# %% tags=["nbval-ignore-output"]
def times(n, b=4, h=8, d=64):
    keys = rng.normal(size=(b, h, n // 256, 256, d)).astype("float32")
    shared, q = keys[:, 0].copy(), rng.normal(size=(b, h, 1, d, 1)).astype("float32")
    together = np.moveaxis(q[..., 0], 1, -1).copy()  # the queries of all heads, side by side
    same = np.broadcast_to(shared[:, None], keys.shape)  # for each head the same keys, which are not copied
    assert np.allclose((shared @ together)[..., 0], (keys[:, 0] @ q[:, 0])[..., 0], atol=1e-4)
    return [seconds(product, 7, time.perf_counter) for product in (lambda: keys @ q, lambda: same @ q, lambda: shared @ together)]


lengths = 2 ** np.arange(8, 13)
own, same, one = np.array([times(n) for n in lengths]).T

# %% tags=["nbval-ignore-output"]
megabytes = 4 * 4 * 8 * 64 * lengths / 1e6
fig, ax = plt.subplots()
for ratio, name in ((own / one, "one set, one product"), (own / same, "one set, a product for each head")):
    (line,) = ax.semilogx(megabytes, ratio)
    ax.annotate(name, (megabytes[0], ratio[0]), (0, 8), textcoords="offset points", color=line.get_color())
ax.axhline(8, color="black", linestyle=":", marker="none")
ax.annotate("8 times fewer keys to read", (megabytes[0], 8), (0, 4), textcoords="offset points")
ax.set(xlabel="keys of 8 heads (MB)", ylabel="how many times faster", ylim=(0, max(9.5, 1.1 * np.max(own / one))))
ax.set_xticks(megabytes, megabytes.round().astype(int))
ax.minorticks_off()
ax.set_title("shared keys are faster, and not only because there is less to read")
figures.show()
print("times faster than own keys: one product", (own / one).round(1), " a product for each head", (own / same).round(1))
assert own[-1] > one[-1]

# %% [markdown]
# Even small caches gain, because one product of matrices is faster than eight with a vector each. The second curve has only the effect of reading: while the keys of all heads fit into the processor's own fast memory it is small, and on a quiet machine
# it rises as soon as they no longer fit. (The curves depend on the machine, and on what else it does.) The paper
# [reports](https://arxiv.org/abs/1911.02150) a decoder about twelve times as fast, with quality slightly lower.
#
# ## Does the layer agree?
#
# Every form of the call, with the step as a number and as a tensor.

# %% tags=["nbval-ignore-output"]
line, agrees = figures.agreement_line(CHAPTER)
assert agrees
line

# %% [markdown]
# ## Today
#
# Every language model that is served has such a cache, and most of what is built around it makes it smaller or keeps it in order. Groups of heads share keys and values ([Ainslie et al., 2023](https://arxiv.org/abs/2305.13245)), a compromise between the two curves
# above; DeepSeek's models cache one short vector from which keys and values are made again ([DeepSeek-AI, 2024](https://arxiv.org/abs/2405.04434)); keys and values are stored in a few bits ([Liu et al., 2024](https://arxiv.org/abs/2402.02750)).
# Servers cut the cache into pages, so that texts of unknown length need no slots in advance and share a common beginning ([Kwon et al., 2023](https://arxiv.org/abs/2309.06180)).
#
# ## Exercises
#
# **1** (easy, 10 minutes). A block of `t` new tokens is written to a cache of `slots` slots, the first of them to slot `step`. The first `padding[b]` slots of text b hold padding, which nobody may see. Which slots may each token attend to? Return booleans `(b, t, slots)`.


# %%
def allowed_slots(t, slots, step, padding):
    return None  # your turn


_ = check("cached_attention/1", allowed_slots)

# %% [markdown]
# <details><summary>Hint</summary>Token <code>i</code> of the block stands at <code>step + i</code>, and sees itself.</details>
# <details><summary>Solution</summary>
#
# ```python
# def allowed_slots(t, slots, step, padding):
#     slot, own = np.arange(slots), step + np.arange(t)[:, None]
#     return (slot <= own) & (slot >= padding[:, None, None])
# ```
# </details>
#
# **2** (medium, 10 minutes). Beam search: `parents` says which of the old texts each new text continues, `k` and `v` `(b, h, d)` are those of its new token. Return new keys and values, with `k` and `v` in slot `step`; leave the old arrays as they are.


# %%
def next_beams(key, value, parents, k, v, step):
    return None  # your turn


_ = check("cached_attention/2", next_beams)

# %% [markdown]
# <details><summary>Hint</summary>Indexing with an array of integers copies: choose the rows first, then write.</details>
# <details><summary>Solution</summary>
#
# ```python
# def next_beams(key, value, parents, k, v, step):
#     key, value = key[parents], value[parents]
#     key[:, step], value[:, step] = k, v
#     return key, value
# ```
# </details>
#
# **3** (hard, 20 minutes). A text without end and room for `w` tokens: token $t$ attends to itself and the $w - 1$ tokens before it. `tokens` is an iterator over `(q, k, v)` of one head that can be read once. Return the outputs `(t, e)`, and keep at most `w` keys and values. Scores may be 1,000.


# %%
def ring(tokens, w):
    return None  # your turn


_ = check("cached_attention/3", ring)

# %% [markdown]
# <details><summary>Hint</summary>Write to slot <code>t % w</code>. Attention does not care about the order of slots; only the first <code>w</code> tokens must not see empty ones.</details>
# <details><summary>Solution</summary>
#
# ```python
# def ring(tokens, w):
#     keys, values, outputs = [], [], []
#     for t, (q, k, v) in enumerate(tokens):
#         if t < w:
#             keys.append(k)
#             values.append(v)
#         else:
#             keys[t % w], values[t % w] = k, v
#         scores = np.array(keys) @ q / np.sqrt(len(q))
#         p = np.exp(scores - scores.max())
#         outputs.append(p / p.sum() @ np.array(values))
#     return np.array(outputs)
# ```
# </details>
#
# **To discuss.** A cache of keys grows with every text that is being written. What would you give up first to serve twice as many texts: heads with keys of their own, distant tokens, or digits of each number? What would you measure?
#
# ## Summary
#
# - Under a causal mask the past does not change: its keys and values are computed once, and decoding with them is one causal pass, up to rounding.
# - $T(T+1)/2$ projections become $T$, and cubes of the length become squares. A static cache pays for all its slots, filled or not.
# - What remains is memory traffic: each text reads its own cache at each step. Sharing keys among heads reads less for the same arithmetic.
#
# **Further reading.** [Shazeer, 2019](https://arxiv.org/abs/1911.02150): why reading the cache is what takes time, and one set of keys for all heads. [Katharopoulos et al., 2020](https://arxiv.org/abs/2006.16236): a cache that does not grow, for another
# attention than softmax. [Dai et al., 2019](https://arxiv.org/abs/1901.02860): a cache of what a whole block computed, across segments.
