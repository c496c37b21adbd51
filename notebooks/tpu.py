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
# # The same layer on a TPU, a GPU and a pod
#
# How many digits a device keeps, how fast it is beside what it could do, and how one model is trained on several devices with the numbers of one.
#
# A guide · Layouts: [`layers/layouts.py`](../layers/layouts.py) · Paper: [Shoeybi et al., 2019, section 3](https://arxiv.org/abs/1909.08053) (Megatron-LM) · 35 minutes · You should know:
# the [encoder block](transformer_encoder.ipynb) and the [decoder block](transformer_decoder.ipynb)
#
# It runs on what is there: a TPU or a GPU of Colab, or a CPU, which is divided into eight virtual devices. It needs JAX: TensorFlow is not on Colab's TPU runtimes, and Keras splits
# weights over devices on JAX alone. The next cell chooses JAX, whatever `KERAS_BACKEND` says outside. It must run first, because Keras and JAX read these variables as they are imported.

# %%
import os
import sys

if "keras" in sys.modules or "jax" in sys.modules:
    raise RuntimeError("This guide sets up JAX before it is imported. Restart the kernel, and run this cell first.")
os.environ["KERAS_BACKEND"] = "jax"
os.environ["JAX_ENABLE_X64"] = "1"  # allows float64
flags = os.environ.get("XLA_FLAGS", "")
if "device_count" not in flags:
    os.environ["XLA_FLAGS"] = f"{flags} --xla_force_host_platform_device_count=8"

# %% tags=["hide-input"] jupyter={"source_hidden": true}
from contextlib import nullcontext
from dataclasses import replace
from functools import partial

import jax
import keras
import matplotlib.pyplot as plt
import numpy as np
from keras import distribution

import layers
from crosscheck.agreement import Trial
from crosscheck.backends import compiled_step
from crosscheck.bench import layers as bench_layers
from crosscheck.bench import probe
from crosscheck.bench.case import SIZES
from crosscheck.bench.cases import CASES
from crosscheck.bench.floors import multiply_adds
from crosscheck.case import TOLERANCE
from crosscheck.cases.attention import CHAPTER
from crosscheck.lesson import figures
from crosscheck.lesson.collectives import collectives
from layers.layouts import bytes_on_devices, check_layout, model_parallel, transformer_layout

figures.use_style()
rng = np.random.default_rng(0)

# %% tags=["nbval-ignore-output"]
devices = jax.devices()
print(
    f"Keras {keras.__version__} on {keras.backend.backend()}: {len(devices)} × {devices[0].device_kind} ({devices[0].platform})"
)
assert keras.backend.backend() == "jax"

# %% [markdown]
# ## How many digits
#
# A number in `bfloat16` has 8 bits of significand, in TF32 11, in `float32` 24. Matrix units multiply short numbers and add the products up in `float32`. A TPU has a unit for `bfloat16`; a GPU has
# one for TF32. So a product of `float32` matrices may keep fewer digits than its dtype has, **and its result still says `float32`**.
#
# To keep more, a TPU splits each `float32` number into a sum of `bfloat16` numbers, 8 bits each, and multiplies the parts: one product of the first parts alone, three products, or six.
# This can be done by hand, with rounding as the only ingredient.


# %%
def rounded(x, bits):
    """x with so many bits of significand."""
    fraction, exponent = np.frexp(x)
    return np.ldexp(np.round(np.ldexp(fraction, bits)), exponent - bits)


def parts(x):
    """Three numbers of 8 bits whose sum is x, to 24 bits."""
    first = rounded(x, 8)
    second = rounded(x - first, 8)
    return first, second, rounded(x - first - second, 8)


x = rounded(np.array([np.pi]), 24)
print([float(part) for part in np.concatenate(parts(x))], float(sum(parts(x))[0]))
assert sum(parts(x)) == x

# %%
a, b = rounded(rng.normal(size=(64, 512)), 24), rounded(rng.normal(size=(512, 64)), 24)
exact = a @ b
(a1, a2, a3), (b1, b2, b3) = parts(a), parts(b)
by_hand = {
    "1 pass": a1 @ b1,
    "TF32": rounded(a, 11) @ rounded(b, 11),
    "3 passes": a1 @ b1 + a1 @ b2 + a2 @ b1,
    "6 passes": a1 @ b1 + a1 @ b2 + a2 @ b1 + a2 @ b2 + a1 @ b3 + a3 @ b1,
}
bits_by_hand = {way: -np.log2(np.abs(y - exact).max() / np.abs(exact).max()) for way, y in by_hand.items()}
for way, bits in bits_by_hand.items():
    print(f"{way:>8}: {bits:4.0f} bits")
assert 8 < bits_by_hand["1 pass"] < bits_by_hand["TF32"] < bits_by_hand["3 passes"] < bits_by_hand["6 passes"]
assert bits_by_hand["TF32"] - bits_by_hand["1 pass"] > 2  # 11 bits in place of 8, but for the last

# %% [markdown]
# On a TPU, JAX calls one, three and six passes `"default"`, `"high"` and `"highest"`. They are a property of the program, set by `jax.default_matmul_precision`. Now the layer: multi-head attention of 8 heads,
# beside its reference, which computes in float64 from the same rounded numbers.

# %%
case = replace(
    CHAPTER.cases[0],
    layer=partial(layers.MultiHeadAttention, num_heads=8, key_dim=32),
    inputs=lambda rng: {"query": rng.normal(size=(4, 32, 256)), "value": rng.normal(size=(4, 32, 256))},
    prepare=lambda layer, rng: [v.assign(rng.normal(size=v.shape) / v.shape[0] ** 0.5) for v in layer.trainable_variables],
)


def error(dtype, precision):
    """The largest difference between layer and reference, relative to the largest number."""
    with jax.default_matmul_precision(precision):
        return Trial(case).agreement(dtype)


settings = [("bfloat16", "default"), ("float32", "default"), ("float32", "high"), ("float32", "highest")]
errors = {setting: error(*setting) for setting in settings}

# %% tags=["nbval-ignore-output"]
for (dtype, precision), found in errors.items():
    print(f"{dtype:>8}, {precision:>7}: {found:.1e}, {-np.log2(found):.0f} bits; the limit of {dtype} is {TOLERANCE[dtype]:.0e}")
assert errors["bfloat16", "default"] < TOLERANCE["bfloat16"]
assert errors["float32", "highest"] < TOLERANCE["float32"]

# %% tags=["nbval-ignore-output"]
is_equal = errors["float32", "default"] == errors["float32", "highest"]
fig, ax = plt.subplots(figsize=(6.5, 2.6))
names = [*bits_by_hand, *(f"{dtype}, {precision}" for dtype, precision in settings)]
values = [*bits_by_hand.values(), *(-np.log2(found) for found in errors.values())]
ax.barh(names, values, color=[figures.COLORS[5]] * 4 + [figures.COLORS[0]] * 4)
for bits in (8, 11, 24):
    ax.axvline(bits, color="black", marker="none", linewidth=1)
ax.set_xlabel("bits that are right (lines: 8, 11 and 24 bits of significand)")
ax.invert_yaxis()
found = "is the same at every precision" if is_equal else "depends on the precision"
ax.set_title(f"float32 {found} here (light: by hand)")
figures.show()

# %% [markdown]
# A sum of many products rounds at random, so that the result, beside the largest number, keeps a bit or more beyond its inputs; and a layer, with several products in a row, loses some.
#
# **Read your own figure.** If the three bars of `float32` are equal, this device multiplies `float32` as it is: so does a CPU, where the precision changes nothing. If the default has the bits of
# `1 pass` or of `TF32`, the device took the short cut, and a difference from a paper's number, or from the reference, may be no fault of the layer. Then ask for the highest precision before comparing,
# and for the default before training.

# %% [markdown]
# ## How fast, beside what is possible
#
# Two rates bound every program: multiply-adds, and bytes that come from memory. Both are measured here: with a large product of two matrices, and with a large matrix times a vector, which reads every number once
# for one multiply-add.

# %% tags=["nbval-ignore-output"]
on_cpu = devices[0].platform == "cpu"
n = 1024 if on_cpu else 4096


def seconds(run):
    """The shortest time of a program, after a first call that does not count."""
    run()
    return min(probe.in_turn([run], 1.5)[0])


square, large = np.ones((n, n), "float32"), np.ones((4 * n, 4 * n), "float32")
peak = n**3 / seconds(compiled_step(keras.ops.matmul, (), [square, square], xla=True))
bandwidth = large.nbytes / seconds(compiled_step(keras.ops.matmul, (), [large, large[:, :1]], xla=True))
print(f"{peak / 1e9:,.0f} billion multiply-adds a second, {bandwidth / 1e9:,.0f} GB a second")
assert peak > 0 and bandwidth > 0

# %% [markdown]
# `crosscheck.bench` times a layer in turn with its *floor*: the matrix products alone that it cannot avoid. The roof is what the two rates allow for these products and for the bytes of weights, inputs
# and output.

# %%
sizes = SIZES["bench"]._replace(b=2, t=128) if on_cpu else SIZES["bench"]._replace(b=32, t=512)


def timed(name, size):
    """Multiply-adds of a layer's products, bytes that come and go, and seconds of the layer and of its floor."""
    case = CASES[name](size, bench_layers)
    case.call(case.layer, *(keras.KerasTensor(x.shape, x.dtype.name) for x in case.inputs))
    program = {"xla": probe.layer_program(case, False, "xla")}
    times = probe.measure_times(program, probe.floor_programs(case, "forward"), 0.5)
    moved = sum(x.nbytes for x in case.inputs) + case.inputs[0].nbytes + sum(v.value.nbytes for v in case.layer.variables)
    return multiply_adds(case.products), moved, *(times[what]["xla"] / 1e3 for what in ("layer", "floor"))


names = "MultiHeadAttention", "TransformerEncoderBlock", "GatedFeedforward"
found = {name: timed(name, sizes) for name in names}
found["GatedFeedforward, one token"] = timed("GatedFeedforward", sizes._replace(b=1, t=1))

# %% tags=["nbval-ignore-output"]
peak = max(peak, *(work / floor for work, _, _, floor in found.values()))  # a floor is a rate of products too
points, roofs = {}, {}
for name, (work, moved, taken, floor) in found.items():
    points[name] = work / moved, work / taken
    roofs[name] = max(work / peak, moved / bandwidth)
    print(f"{name:>27}: {1e3 * taken:6.1f} ms; floor {1e3 * floor:6.1f} ms; roof {1e3 * roofs[name]:6.1f} ms")
assert all(rate > 0 for _, rate in points.values())

# %% tags=["nbval-ignore-output"]
fig, ax = plt.subplots(figsize=(8.5, 3.0))
intensity = np.geomspace(0.05, 1000, 200)
ax.loglog(intensity, np.minimum(peak, bandwidth * intensity) / 1e9, color="black", marker="none", label="roof")
for number, (name, (of_bytes, rate)) in enumerate(points.items()):
    ax.loglog(of_bytes, rate / 1e9, figures.MARKERS[number], linestyle="none", color=figures.COLORS[number], label=name)
shares = [roofs[name] / found[name][2] for name in names]
waits = "memory" if points["GatedFeedforward, one token"][0] < peak / bandwidth else "products, too"
ax.set_title(f"many tokens reach {min(shares):.0%} to {max(shares):.0%} of the roof; one token waits for {waits}")
ax.set(xlabel="multiply-adds for each byte of weights, inputs and output", ylabel="billion multiply-adds a second")
fig.legend(loc="outside right upper", frameon=False)
figures.show()

# %% [markdown]
# A layer under the sloping part waits for memory. A model that writes a text token by token is far to the left, since it reads every weight for one token; a larger batch reads the same weights for more work, and
# moves to the right. Under the flat part a layer waits for its products, and what is missing is time for softmax, norms and activations, and for results in between that are written and read again. A point above
# the roof has its weights in a cache, or the two rates were measured while the device did something else.
#
# ## A pod
#
# From here on a *pod* is the real devices if there are two or more, else the eight virtual devices of the CPU, which are slow together, but compute and send what a pod would. The pod is a mesh of two
# axes: a batch is split over `batch`, weights over `model`.

# %% tags=["nbval-ignore-output"]
pod = distribution.list_devices() if len(devices) > 1 else distribution.list_devices("cpu")
count = max(size for size in (1, 2, 4, 8) if size <= len(pod))
shape = {1: (1, 1), 2: (1, 2), 4: (2, 2), 8: (2, 4)}[count]
pod = pod[:count]
mesh = distribution.DeviceMesh(shape, ("batch", "model"), pod)
is_virtual = pod[0].startswith("cpu")
dtype = "float32" if pod[0].startswith("tpu") else "float64"  # a TPU has no unit for float64
limit = TOLERANCE[dtype]
keras.config.set_floatx(dtype)
print(mesh, dtype, f"limit {limit:.0e}")

# %% [markdown]
# Two stacks: an encoder of two blocks, and a decoder of one, whose table of tokens is also its last linear map.

# %%
B, T, N, M, H, F = 16, 8, 64, 32, 4, 128
ids, targets = rng.integers(0, N, (2, B, T))


def encoder():
    tokens = keras.Input((T,), dtype="int32")
    x = layers.OnDeviceEmbedding(N, M)(tokens)
    for number in range(2):
        x = layers.TransformerEncoderBlock(H, F, "gelu_tanh", name=f"layer_{number}")(x)
    return keras.Model(tokens, keras.layers.Dense(N, name="logits")(x))


def decoder():
    tokens = keras.Input((T,), dtype="int32")
    logits, _ = layers.TransformerDecoder(N, M, 1, H, F, name="decoder")(tokens)
    return keras.Model(tokens, logits)


# %% [markdown]
# The same step of training for every way to distribute it. **The model is made inside the distribution's scope**: that is when Keras places its weights. `set_distribution` is for the whole process, until
# `set_distribution(None)`; a `scope()` ends by itself.


# %%
def step_of(model, optimizer):
    state = [variable.value for variable in model.non_trainable_variables]

    def loss_of(weights, ids, targets):
        logits, _ = model.stateless_call(weights, state, ids)
        return keras.losses.sparse_categorical_crossentropy(targets, logits, from_logits=True).mean()

    def step(weights, slots, ids, targets):
        loss, slopes = jax.value_and_grad(loss_of)(weights, ids, targets)
        after, slots = optimizer.stateless_apply(slots, slopes, weights)
        return {"loss": loss, "gradient": slopes, "step": after}

    return step


# %%
def trained(build, way=None):
    """A model, its compiled step, and what the step gives."""
    keras.utils.clear_session()  # it names layers from the first again; it also ends a distribution
    keras.utils.set_random_seed(0)
    first = jax.devices(pod[0].split(":")[0])[0]  # draws the weights, so that they are the same in every way
    with jax.default_device(first), way.scope() if way else nullcontext():
        model, optimizer = build(), keras.optimizers.SGD(0.1, momentum=0.9)
        optimizer.build(model.trainable_variables)
        data = [np.asarray(x, "int32") for x in (ids, targets)]
        if way is not None:
            data = [jax.device_put(x, way.get_data_layout(x.shape).backend_layout) for x in data]
        values = [[v.value for v in part] for part in (model.trainable_variables, optimizer.variables)]
        program = jax.jit(step_of(model, optimizer)).lower(*values, *data).compile()
        return model, program, program(*values, *data)


# %%
ways = {
    "one device": lambda: None,
    "data parallel": lambda: distribution.DataParallel(devices=pod),
    "model parallel": lambda: model_parallel(transformer_layout(mesh)),
}


def in_every_way(build):
    """{way: what `trained` returns}."""
    with jax.default_matmul_precision("highest"):
        return {way: trained(build, make()) for way, make in ways.items()}


# %%
runs = {"encoder": in_every_way(encoder)}

# %%
runs["decoder"] = in_every_way(decoder)
assert distribution.distribution() is None

# %% tags=["nbval-ignore-output"]
print(f"{'':22} {'largest error':>16} {'split weights':>15} {'kB on a device':>16} {'kB sent in a step':>19}")
for stack, by_way in runs.items():
    alone = jax.tree.leaves(by_way["one device"][2])
    for way, (model, program, results) in by_way.items():
        pairs = zip(jax.tree.leaves(results), alone)
        worst = max(float(np.abs(np.asarray(x) - np.asarray(y)).max()) for x, y in pairs)
        split = sum(not v.value.sharding.is_fully_replicated for v in model.variables)
        held = max(bytes_on_devices(model).values()) / 1e3
        sent = sum(each.bytes for each in collectives(program.as_text())) / 1e3
        print(f"{stack}, {way:<14} {worst:16.0e} {split:15} {held:16.1f} {sent:19.1f}")
        assert worst < limit, (stack, way, worst)

# %% [markdown]
# Loss, gradients and new weights are those of one device, up to the order of sums. Data parallelism copies all weights to every device; model parallelism leaves each device its part of the large ones.
#
# ## What is sent
#
# Megatron-LM splits the first linear map of each sublayer by columns: each device has some of the heads, or some of the units of the feed-forward network, and needs nothing from the others up to the second
# map, which is split by rows. Its output is a sum over devices. The paper counts for a block **two all-reduces in the forward pass** (the outputs of both sublayers) **and two in the backward pass** (the
# gradients of both inputs), each of $b\,t\,m$ numbers ([section 3 and Figure 4](https://arxiv.org/abs/1909.08053)).
#
# The layout says where weights are, and nothing of what to send. XLA's partitioner finds that out. The compiled program shows what it found.

# %%
layout = transformer_layout(mesh)
for pattern, layout_of in layout.items():
    print(f"{layout_of.axes!s:>24}  {pattern}")

# %% tags=["nbval-ignore-output"]
model, program, _ = runs["encoder"]["model parallel"]
found = [each for each in collectives(program.as_text()) if each.devices == shape[1]] if count > 1 else []
passes = {"forward": ([], 2), "backward": ([], 2)}
for each in found:
    if "layer_1" in each.name:
        passes["backward" if "transpose" in each.name else "forward"][0].append(each)
one_sum = B // shape[0] * T * M * np.dtype(dtype).itemsize
for name, (sent, of_paper) in passes.items():
    arrays = sum(len(each.arrays) for each in sent)
    print(
        f"block, {name:>8}: {len(sent)} operations (paper: {of_paper}) of {arrays} arrays, {sum(e.bytes for e in sent)} bytes",
        end="",
    )
    print(f" (paper: {of_paper * one_sum})")
if is_virtual and shape[1] > 1:
    assert [len(sent) for sent, _ in passes.values()] == [2, 2]
    assert sum(each.bytes for each in passes["forward"][0]) == 2 * one_sum
    assert sum(each.bytes for each in passes["backward"][0]) == 4 * one_sum
    assert {each.kind for each in found} == {"all-reduce"}

# %% tags=["nbval-ignore-output"]
fig, ax = plt.subplots(figsize=(6.5, 2.6))
for number, (label, values) in enumerate(
    {
        "paper": [of_paper for _, of_paper in passes.values()],
        "this program": [sum(each.bytes for each in sent) / one_sum for sent, _ in passes.values()],
    }.items()
):
    ax.bar(np.arange(2) + 0.4 * number, values, 0.36, color=figures.COLORS[number], label=label)
    for place, value in enumerate(values):
        ax.annotate(f"{label}: {value:.0f}", (place + 0.4 * number, value), (0, 2), textcoords="offset points", ha="center")
ax.set(xticks=np.arange(2) + 0.2, xticklabels=list(passes), ylabel="sums of b·t·m numbers a block", ylim=(0, 5))
ax.grid(False, axis="x")
ratio = sum(each.bytes for sent, _ in passes.values() for each in sent) / one_sum / 4
ax.set_title(f"a block sends {ratio:.3g} times what the paper counts" if count > 1 else "one device sends nothing")
figures.show()

# %% [markdown]
# If your figure shows more than two sums in the backward pass, look at the names: query, key and value each read the input of attention, so that its gradient is a sum of three parts. The paper has *one* matrix
# for all three and sends one sum. Here they are three layers, and XLA sends three sums **in one operation**: as many operations as in the paper, and twice the bytes backward. A compiler that adds the three
# before it sends them gets the paper's number.

# %% tags=["nbval-ignore-output"]
for each in passes["backward"][0]:
    print(each.kind, [shape for _, shape in each.arrays], each.name.split("transpose(jvp(layer_1))")[-1])

# %% [markdown]
# ## The table, twice
#
# The decoder's table has a row for each token, and is also its last linear map. Split by the vocabulary, each device finds the rows that it has, and one sum completes the input. At the end each device
# has the logits of its part of the vocabulary. The paper warns of gathering them, $b\,t\,n$ numbers, and computes the loss from the parts: then only a few numbers for each token are sent. Does XLA do so?

# %% tags=["nbval-ignore-output"]
model, program, _ = runs["decoder"]["model parallel"]
outside = (
    [each for each in collectives(program.as_text()) if each.devices == shape[1] and "layer_" not in each.name]
    if count > 1
    else []
)
for each in outside:
    print(f"{each.kind:>12}: {[shape for _, shape in each.arrays]}  {each.name.removeprefix('jit(step)/')[:80]}")
logits = B // shape[0] * T * N
largest = max((np.prod(shape) for each in outside for _, shape in each.arrays), default=0)
print(f"largest array sent: {largest} numbers; logits of a device's examples: {logits}")
if is_virtual and shape[1] > 1:
    assert largest <= B // shape[0] * T * M < logits and {each.kind for each in outside} == {"all-reduce"}

# %% [markdown]
# ## Which of the two
#
# Data parallelism sends the gradients: for a block with $f = 4m$ these are $12m^2$ numbers (4 of $m^2$ in attention, 8 in the network). Model parallelism sends $4\,b\,t\,m$ by the paper's count. They are
# equal at $b\,t = 3m$ tokens a device. What was counted here gives another factor. The same with several processes or machines is in [another guide](scale.ipynb).

# %% tags=["nbval-ignore-output"]
sums = sum(each.bytes for sent, _ in passes.values() for each in sent) / one_sum
for who, factor in (("paper", 4), ("this program", sums)):
    if factor:
        tokens = {m: 12 * m / factor for m in (768, 4096)}
        print(f"{who}: {factor:.0f} sums; equal at " + " and ".join(f"{t:,.0f} tokens for m = {m}" for m, t in tokens.items()))
for stack, by_way in runs.items():
    model, program, _ = by_way["data parallel"]
    sent = sum(each.bytes for each in collectives(program.as_text()))
    weights = sum(v.value.nbytes for v in model.trainable_variables)
    print(f"data parallel, {stack}: {sent} bytes for {weights} bytes of weights")
    if is_virtual and count > 1:
        twice = N * M * np.dtype(dtype).itemsize if stack == "decoder" else 0
        assert sent == weights + twice + np.dtype(dtype).itemsize  # the last is the loss

# %% [markdown]
# The decoder sends its table's gradient twice: once for the rows that were looked up, once for the last linear map.
#
# With more tokens than that on each device, data parallelism sends less. Model parallelism is for what does not fit: it divides the weights. That is why its axis is kept inside one machine, where sending is
# fast, and the batch axis spans machines; a second guide is on those.
#
# ## What is refused
#
# Keras takes a layout that matches no weight without a word, and JAX says which array does not divide, but not which weight that is. `model_parallel` and `check_layout` name it. A layout can be checked before there
# is a pod: the mesh below has devices that are only names.


# %%
def refusal(act):
    try:
        act()
    except ValueError as error:
        return str(error)
    raise AssertionError("there was no error")


def planned(*shape):
    names = [f"tpu:{number}" for number in range(int(np.prod(shape)))]
    return transformer_layout(distribution.DeviceMesh(shape, ("batch", "model"), names))


model = runs["decoder"]["one device"][0]
table = layers.OnDeviceEmbedding(30522, 2, name="word_embeddings")
table.build((None, None))
print(refusal(lambda: check_layout(model, planned(1, 3))), "\n")
print(refusal(lambda: check_layout(table, planned(2, 4))), "\n")
print(refusal(lambda: transformer_layout(mesh, model_axis="heads")))
assert len(check_layout(model, planned(16, 2))) == 11

# %% [markdown]
# Heads, inner size and vocabulary have to be multiples of the devices on the model axis. BERT's 30,522 tokens are not one of 4: the paper pads its vocabulary, and `tables="width"` or `None` are other ways.
#
# A batch that does not divide is refused too. Leave the last one out, or pad it and give its padding a weight of 0.

# %%
way = model_parallel(transformer_layout(mesh))
with way.scope():
    decoder()
if shape[0] > 1:
    message = refusal(lambda: way.get_data_layout((B + 1, T)))
    assert "must be a multiple of" in message and str((B + 1, T)) in message
late = model_parallel(transformer_layout(mesh))  # the model was made before it
assert "no weight was made there" in refusal(lambda: late.get_data_layout((B, T)))
assert distribution.distribution() is None

# %% [markdown]
# ## Summary
#
# - A matrix unit may multiply `float32` in fewer bits. The result does not show it; `jax.default_matmul_precision("highest")` does. Compare with it, train without it.
# - A layer is fast if it is near the roof that its device allows for its products and bytes; the floor of `crosscheck.bench` says how near a layer of its kind can come.
# - `model_parallel(transformer_layout(mesh))` trains every stack of the course on several devices with the numbers of one; make the model inside its scope. The partitioner finds the two sums forward of
#   Megatron-LM by itself; read the compiled program to see what it sends backward.
