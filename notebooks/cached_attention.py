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
# A model that writes adds one token at a time. What it computed for earlier tokens has not changed, so it is kept.
#
# Paper: [Shazeer, 2019, section 2.4](https://arxiv.org/abs/1911.02150) · NumPy: [`reference/cached_attention.py`](../reference/cached_attention.py) · Layer:
# [`layers/cached_attention.py`](../layers/cached_attention.py) · 25 minutes · You should know: [attention](attention.ipynb) and the causal [mask](self_attention_mask.ipynb)

# %%
import inspect
import re
import time

import keras
import matplotlib.pyplot as plt
import numpy as np

from crosscheck.backends import differentiate
from crosscheck.case import TOLERANCE
from crosscheck.cases.cached_attention import CHAPTER
from crosscheck.lesson import figures
from crosscheck.lesson.counting import multiply_adds
from crosscheck.lesson.exercises import check
from crosscheck.lesson.training import fit
from crosscheck.weights import weights_of
from layers.cached_attention import CachedAttention
from reference import cached_attention as ref
from reference.attention import AttentionWeights, attend, multi_head_attention
from reference.common.projection import Projection

figures.use_style()
rng = np.random.default_rng(0)

# %% [markdown]
# ## The question
#
# To write token $t$, a model runs over tokens $0 \dots t$; to write the next, over $0 \dots t+1$. **How often is each token made into a key and a value?** We mark every token that the
# projections are given, at each of 16 steps.

# %%
steps = 16
again, once = (np.zeros((steps, steps), bool) for _ in range(2))
for t in range(steps):
    again[t, : t + 1] = True  # a pass over all tokens so far
    once[t, t] = True  # the new token alone
assert again.sum() == steps * (steps + 1) // 2 and once.sum() == steps

# %%
fig, axes = plt.subplots(1, 2, figsize=(6.5, 3.2), sharey=True)
for ax, projected, title in zip(axes, (again, once), ("read again at each step", "kept")):
    ax.imshow(projected, cmap="gray_r", vmin=0, vmax=1.4)
    ax.set(title=f"{title}: {projected.sum()} projections", xlabel="token s", ylabel="step t")
    ax.grid(False)
    ax.label_outer()
plt.show()

# %% [markdown]
# The first token is projected 16 times, each time to the same key and value: it sees only itself, whatever comes later. All but the diagonal is wasted.
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

# %% [markdown]
# ## By hand
#
# Let all sizes be 1, with $q = x$, $k = x \ln 3$, $v = 8x$, and tokens 1, then 2. The first is alone, so $y = 8$. The second finds the key $\ln 3$ in the cache and adds $2\ln 3$. Its scores
# are $2\ln 3$ and $4\ln 3$: weights 1 to 9. The values 8 and 16 mix to $15.2$.

# %%
one = np.ones((1, 1, 1))
weights = AttentionWeights(Projection(one), Projection(np.log(3) * one), Projection(8 * one), Projection(one))
cache, answers = ref.Cache(np.zeros((0, 1, 1)), np.zeros((0, 1, 1))), []
for x in ([1.0], [2.0]):
    y, cache = ref.next_token(np.array(x), cache, weights)
    answers.append(y.item())
print("outputs:", np.round(answers, 3), " cached values:", cache.value.ravel())
assert np.allclose(answers, [8, 15.2])

# %% [markdown]
# ## In NumPy

# %%
print(inspect.getsource(ref.next_token))
print(inspect.getsource(ref.append))
print(inspect.getsource(ref.write))

# %% [markdown]
# Nothing here is approximate, so three ways must agree: one causal pass over the whole text, one pass per token over all tokens so far, and one token at a time with a cache.

# %%
layer, x = CachedAttention(num_heads=4, key_dim=7, dtype="float64"), rng.normal(size=(2, 12, 11))
layer.build(x.shape, x.shape)
weights = weights_of(layer, AttentionWeights)
parallel, _ = multi_head_attention(x, x, weights, mask=ref.up_to_itself(12, 12, 0)[None])
assert np.allclose(ref.decode(x, weights), parallel, rtol=1e-12, atol=1e-14)
assert np.allclose(ref.decode_by_recomputing(x, weights), parallel, rtol=1e-12, atol=1e-14)
print("one pass, recomputing and the cache agree")

# %% [markdown]
# ## What it does
#
# **Does it matter how the tokens come?** A prompt comes all at once, its answer token by token; a cache grows or has its slots from the start. When several tokens come at once, the one that comes $i$-th after
# $p$ others stands at position $p + i$ and attends to everything up to itself.


# %%
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
ways = {
    "one by one": [1] * 12,
    "a prompt of 5, then one by one": [5] + [1] * 7,
    "blocks of 3, 2, 6 and 1": [3, 2, 6, 1],
    "all at once": [12],
}
for way, sizes in ways.items():
    for slots in (None, 12, 20):
        assert np.allclose(in_blocks(sizes, slots), parallel, rtol=1e-12, atol=1e-14)
    print(f"{way:>30}: appended, 12 slots and 20 slots all give the causal pass")

# %% [markdown]
# **Does a model write the same text with a cache?** We teach a small GPT an old rhyme in which each verse takes up the last. With an empty cache, all tokens appended at once, it is the causal model that one trains;
# with a static cache it writes.

# %%
parts = ["the house that jack built", "the malt that lay in", "the rat that ate", "the cat that killed", "the dog that worried"]
parts += ["the cow with the crumpled horn that tossed", "the maiden all forlorn that milked"]
verses = ["this is " + " ".join(parts[last::-1]) + " ." for last in range(len(parts))]
words = " ".join(verses).split()
vocabulary = sorted(set(words))
rhyme = np.array([[vocabulary.index(word) for word in words]])
print(f"{len(words)} words, {len(vocabulary)} different ones; the last verse:", verses[-1], sep="\n")


# %%
class Writer(keras.Model):
    def __init__(self, n, length, m=32, heads=4, blocks=2):
        super().__init__()
        self.token, self.place = keras.layers.Embedding(n, m), keras.layers.Embedding(length, m)
        self.attention = [CachedAttention(heads, m // heads) for _ in range(blocks)]
        self.inner = [keras.layers.Dense(4 * m, activation="gelu") for _ in range(blocks)]
        self.outer = [keras.layers.Dense(m) for _ in range(blocks)]
        self.norms = [keras.layers.LayerNormalization() for _ in range(2 * blocks + 1)]
        self.logits = keras.layers.Dense(n)

    def call(self, ids, caches=None, start=None):
        x = self.token(ids) + self.place((start or 0) + keras.ops.arange(ids.shape[1]))
        caches = caches or [attention.init_cache(keras.ops.shape(ids)[0], 0) for attention in self.attention]
        new = []
        for i, (attention, cache) in enumerate(zip(self.attention, caches)):
            y = self.norms[2 * i](x)
            y, cache = attention(y, y, cache=cache, decode_loop_step=start)
            x = x + y
            x = x + self.outer[i](self.inner[i](self.norms[2 * i + 1](x)))
            new.append(cache)
        logits = self.logits(self.norms[-1](x))
        return logits if start is None else (logits, new)


# %%
keras.utils.set_random_seed(0)
model = Writer(len(vocabulary), len(words))
model.compile(keras.optimizers.Adam(1e-2), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
fit(model, np.repeat(rhyme[:, :-1], 120, axis=0), np.repeat(rhyme[:, 1:], 120, axis=0), batch_size=1)
learned = np.mean(np.argmax(model(rhyme[:, :-1]), axis=-1) == rhyme[:, 1:])
print(f"next words that it gets right: {learned:.0%}")
assert learned > 0.98

# %% [markdown]
# Both ways start from the first three words and always take the most likely next one.

# %%
prompt, length = rhyme[:, :3], 80

recomputed = prompt
while recomputed.shape[1] < length:
    logits = model(recomputed)  # over all words so far
    recomputed = np.concatenate([recomputed, np.argmax(logits[:, -1:], axis=-1)], axis=1)

# %%
cached, new = prompt, prompt
caches = [attention.init_cache(batch=1, length=length) for attention in model.attention]
while cached.shape[1] < length:
    logits, caches = model(new, caches, start=cached.shape[1] - new.shape[1])  # over the prompt, then over one word
    new = np.argmax(logits[:, -1:], axis=-1)
    cached = np.concatenate([cached, new], axis=1)

print(" ".join(vocabulary[i] for i in cached[0]).replace(" . ", ".\n"))
assert np.array_equal(recomputed, cached)
print("\nword for word the same, both ways")

# %% [markdown]
# The loop with the cache looked at each word once; the other one read the beginning 77 times.
#
# **Is it faster?** The time for each token, in NumPy, for one layer of 8 heads. Times depend on the machine; what is counted below does not.

# %% tags=["nbval-ignore-output"]
layer = CachedAttention(num_heads=8, key_dim=32, use_bias=False)
x = rng.normal(size=(1, 192, 256)).astype("float32")
layer.build(x.shape, x.shape)
weights = AttentionWeights(*(Projection(w.kernel.astype("float32")) for w in weights_of(layer, AttentionWeights)))
cache, seconds = ref.empty_cache(1, 192, weights), {"read again": [], "cached": []}
for t in range(192):
    start = time.perf_counter()
    y, _, cache = ref.cached_attention(x[:, t : t + 1], x[:, t : t + 1], weights, cache=cache, step=t)
    middle = time.perf_counter()
    z, _, _ = ref.cached_attention(x[:, : t + 1], x[:, : t + 1], weights, mask=ref.up_to_itself(t + 1, t + 1, 0)[None])
    seconds["cached"].append(middle - start)
    seconds["read again"].append(time.perf_counter() - middle)
    assert np.allclose(z[:, -1:], y, atol=1e-4)

# %% tags=["nbval-ignore-output"]
fig, ax = plt.subplots()
for name, taken in seconds.items():
    medians = np.median(np.reshape(taken, (12, 16)), axis=1)
    ax.semilogy(np.arange(8, 192, 16), 1e3 * medians, label=name)
ax.set(xlabel="position t", ylabel="milliseconds per token")
ax.legend()
plt.show()

# %% [markdown]
# Reading again takes longer with every token (the axis is logarithmic); with the cache, a token late in the text takes about as long as the first.
#
# ## Does the layer agree?
#
# Every form of the call, with the step as a number and as a tensor.

# %%
errors = figures.agreement_plot(CHAPTER)
assert all(error <= TOLERANCE[dtype] for by_dtype in errors.values() for dtype, error in by_dtype.items())
print("layer and reference agree in", ", ".join(TOLERANCE))

# %% [markdown]
# ## Where it breaks
#
# **Slots that hold nothing.** A zero key has the score 0, which is a score like any other. If nobody masks the slots that are not filled yet, they take their share: weight that pulls the output toward zero.

# %%
k, v = np.zeros((1, 16, 1, 8)), np.zeros((1, 16, 1, 8))
maps = {"unmasked": np.zeros((16, 16)), "ours": np.zeros((16, 16))}
for t in range(16):
    q, k[:, t], v[:, t] = rng.normal(size=(3, 1, 1, 1, 8))
    for name, mask in (("unmasked", None), ("ours", ref.up_to_itself(1, 16, t)[None, None])):
        maps[name][t] = attend(q[:, 0][:, None], k, v, mask)[1].ravel()

empty = ~np.tri(16, dtype=bool)
wasted = (maps["unmasked"] * empty).sum(axis=1)
print("weight on empty slots, unmasked, at steps 0, 4, 8:", wasted[[0, 4, 8]].round(1))
assert wasted[0] > 0.8 and wasted[4] > 0.4 and not (maps["ours"] * empty).any()

# %%
fig, axes = plt.subplots(1, 2, figsize=(6.8, 3.2), sharey=True)
for ax, (name, weights) in zip(axes, maps.items()):
    figures.attention_map(ax, weights, title=name, largest=0.5)
    ax.plot([0.5, 15.5], [-0.5, 14.5], color="white", marker="none", linewidth=2)
    ax.set(xlabel="slot s (right of the line: not filled yet)", ylabel="step t")
    ax.label_outer()
plt.show()

# %% [markdown]
# **A slot that is written twice.** Some implementations write by adding $\mathrm{onehot}(t)\, k_t$. That is right while the slot is zero. Go back a step, as beam search or an editor does, and the slot holds the
# sum of two keys.

# %%
first, second = rng.normal(size=(2, 1, 1, 4, 7))
cache = ref.Cache(np.zeros((1, 6, 4, 7)), np.zeros((1, 6, 4, 7)))
onehot, added = np.eye(6)[2][None, :, None, None], cache.key
for k in (first, second):
    added = added + onehot * k
    cache = ref.write(cache, k, k, step=2)
assert np.allclose(added[:, 2], first[:, 0] + second[:, 0]) and np.array_equal(cache.key[:, 2], second[:, 0])
print("added: the sum of both keys; replaced: the second key")

# %% [markdown]
# **A slot that is not there.** Updates of slices clamp their index silently: with 6 slots, a write to slot 9 hits slot 5, and the model goes on with a wrong past. Our layer raises an error where it can know the
# step. Inside a compiled program it cannot; there it writes nothing and attends to nothing, so the cache stays right.

# %%
clamped = keras.ops.slice_update(keras.ops.zeros((1, 6, 4, 7)), (0, 9, 0, 0), keras.ops.ones((1, 1, 4, 7)))
print("slice_update wrote to slot", np.flatnonzero(np.any(clamped, axis=(0, 2, 3))))
layer, token = CachedAttention(num_heads=4, key_dim=7), keras.ops.ones((1, 1, 11))
cache = layer.init_cache(batch=1, length=6)
try:
    layer(token, token, cache=cache, decode_loop_step=9)
except ValueError as error:
    print("the layer:", re.search("decode_loop_step must.*slots", str(error))[0])

# %%
outputs, _, _ = differentiate(
    lambda layer, step: layer(token, token, cache=cache, decode_loop_step=step),
    layer, {"step": keras.ops.convert_to_tensor(9)}, {"output[0]": np.ones((1, 1, 11))}, compiled=True,
)  # fmt: skip
assert not any(np.any(outputs[name]) for name in ("output[0]", "output[1].key", "output[1].value"))
print("compiled: nothing written, nothing attended to")

# %% [markdown]
# **Differs from the paper.** Scores are divided by $\sqrt d$, projections may have biases, several tokens may come at once, and a cache may have its slots from the start.
#
# ## What it costs
#
# For $T$ tokens, without and with a cache:
#
# | | read again | cached |
# |---|---|---|
# | tokens projected | $T(T+1)/2$ | $T$ |
# | products $q \cdot k$, per head | $\sum_t t^2 = T(T+1)(2T+1)/6$ | $T(T+1)/2$ |
# | numbers kept | none | $T h (d + e)$ |
#
# A token projected costs $4\,m\,h\,d$ multiply-adds (with $e = d$), a product and its share of the mixture $2\,d$.

# %%
m, h, d, T = 24, 3, 8, 20
layer, x = CachedAttention(h, d), rng.normal(size=(1, T, m))
layer.build(x.shape, x.shape)
weights = weights_of(layer, AttentionWeights)
tokens = {"read again": T * (T + 1) // 2, "cached": T}
products = {"read again": T * (T + 1) * (2 * T + 1) // 6, "cached": T * (T + 1) // 2}
for name, run in (("read again", ref.decode_by_recomputing), ("cached", ref.decode)):
    with multiply_adds() as counted:
        run(x, weights)
    formula = 4 * m * h * d * tokens[name] + 2 * h * d * products[name]
    assert sum(counted) == formula
    print(f"{name:>10}: {tokens[name]} tokens projected, {products[name]} products a head, {formula} multiply-adds")
assert sum(part.nbytes for part in ref.empty_cache(1, T, weights)) == 8 * 2 * T * h * d

# %%
m, h, d = 768, 12, 64
T = 2 ** np.arange(4, 13)
again = 4 * m * h * d * T * (T + 1) // 2 + 2 * h * d * (T * (T + 1) * (2 * T + 1) // 6)
cached = 4 * m * h * d * T + 2 * h * d * (T * (T + 1) // 2)
fig, ax = plt.subplots()
ax.loglog(T, again, base=2, label="read again")
ax.loglog(T, cached, base=2, label="cached")
ax.loglog(T, 2 * h * d * T, base=2, label="numbers in the cache")
ax.set(xlabel="tokens written T", ylabel="multiply-adds (or numbers)", title="one attention layer with m = 768")
ax.legend()
plt.show()
saved = again / cached
assert (np.diff(saved) > 0).all() and saved[-1] > 1000

# %% [markdown]
# The cache turns squares into lines and cubes into squares: it saves a factor that grows with the text. What remains is memory. Each new token must read the whole cache to do little arithmetic with it; that,
# not multiplication, is what limits decoding (section 2.4.1 of the paper), and why it shares keys and values among heads.
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
# - Under a causal mask the past does not change: its keys and values are computed once, and decoding with them is exactly one causal pass.
# - $T(T+1)/2$ projections become $T$, and cubes of the length become squares; the price is memory that grows with the text.
# - A slot is replaced, an empty one is never attended, and a slot that is not there is no other slot.
#
# **Further reading.** [Shazeer, 2019](https://arxiv.org/abs/1911.02150): why reading the cache is what takes time, and one set of keys for all heads. [Katharopoulos et al., 2020](https://arxiv.org/abs/2006.16236): a cache that does not grow, for another
# attention than softmax. [Dai et al., 2019](https://arxiv.org/abs/1901.02860): a cache of what a whole block computed, across segments.
