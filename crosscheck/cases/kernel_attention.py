"""KernelAttention beside reference/kernel_attention/."""

from functools import partial

import numpy as np

from crosscheck.case import B, Case, D, E, H, M, S, T
from crosscheck.catalogue import Chapter
from layers.kernel_attention import KernelAttention
from reference.common.projection import into_heads, out_of_heads
from reference.kernel_attention import KernelAttentionWeights, features_of, kernel_attention, recurrent
from reference.kernel_attention.structure import window_structure
from reference.self_attention_mask import causal_mask

R, LONG = 9, 6
LAYER = partial(KernelAttention, num_heads=H, key_dim=D, value_dim=E, num_random_features=R, seed=1)
LINEAR = partial(LAYER, "elu", num_random_features=0)
WINDOW = {"causal_chunk_length": 2, "causal_window_length": 2, "causal_window_decay": 0.7}
WINDOWED = WINDOW | {"use_causal_windowed": True}


def cross(rng):
    return {"query": rng.normal(size=(B, T, M)), "value": rng.normal(size=(B, S, M))}


def masked(rng):
    mask = np.array([[True, False, True, True, False], [False, True, True, True, True]])
    return cross(rng) | {"attention_mask": mask}


def with_key(rng):
    return masked(rng) | {"key": rng.normal(size=(B, S, M + 1))}


def one_row_empty(rng):
    return cross(rng) | {"attention_mask": np.array([[True, False, True, True, False], [False] * S])}


def itself(rng):
    x = rng.normal(size=(B, S, M))
    return {"query": x, "value": x + 0.1 * rng.normal(size=x.shape), "attention_mask": masked(rng)["attention_mask"]}


def causal(rng):
    return itself(rng) | {"use_causal_mask": True}


def windows(rng, length=LONG):
    mask = rng.random((B, length)) < 0.8
    return {"query": rng.normal(size=(B, length, M)), "value": rng.normal(size=(B, length, M)), "attention_mask": mask}


def stream(rng, sums=()):
    """Three tokens that follow others, whose sums are in a cache."""
    features = D if sums else R
    cache = {"kv": rng.normal(size=(B, H, *sums, features, E)), "k_sum": 1 + rng.random((B, H, *sums, features))}
    return {"query": rng.normal(size=(B, T, M)), "value": rng.normal(size=(B, T, M))} | cache


def stream_with_peak(rng):
    return stream(rng) | {"peak": rng.normal(size=(B, H, R))}


def reference(weights, query, value, key=None, attention_mask=None, use_causal_mask=False, **options):
    if use_causal_mask:
        options["structure"] = causal_mask(query.shape[1], value.shape[1]).astype(float)
    return kernel_attention(query, value, weights, key=key, mask=attention_mask, **options)[0]


def windowed_reference(weights, query, value, attention_mask, left=False, **options):
    structure = window_structure(query.shape[1], *WINDOW.values(), left)
    return kernel_attention(query, value, weights, mask=attention_mask, structure=structure, **options)[0]


def call_with_cache(layer, query, value, **cache):
    output, after = layer(query, value, cache=cache)
    return output if "peak" in cache else (output, after)  # the peak is not differentiable


def stream_reference(weights, query, value, kv, k_sum, peak=None):
    """One token at a time, starting from the sums of earlier tokens."""
    transform = "relu" if peak is None else "exp"
    scale = 0 if peak is None else peak
    x = [into_heads(side, part) * D**-0.25 for side, part in ((query, weights.query), (value, weights.key))]
    phi_q, phi_k = features_of(transform, *x, weights.projection, np.ones((B, T), bool))
    phi_k = phi_k * np.sqrt(R)  # the layer omits this factor from its features, and so from the sums
    state, z = kv * np.exp(scale)[..., None], k_sum * np.exp(scale)
    heads, state, z = recurrent(phi_q, phi_k, into_heads(value, weights.value), None, state, z)
    output = out_of_heads(heads, weights.attention_output)
    return (output, {"kv": state, "k_sum": z}) if peak is None else output


def windowed_stream_reference(weights, query, value, kv, k_sum):
    """Chunks of one token: each token sees itself, and the previous one with weight 0.7."""
    q, k = (into_heads(side, part) for side, part in ((query, weights.query), (value, weights.key)))
    phi_q, phi_k = features_of("elu", q, k, None, np.ones((B, T), bool))
    v, outputs = into_heads(value, weights.value), []
    for i in range(T):
        before, z_before = kv[:, :, 0], k_sum[:, :, 0]
        kv, k_sum = (x[:, :, None] for x in (np.einsum("bhr,bhe->bhre", phi_k[:, i], v[:, i]), phi_k[:, i]))
        state, z = kv[:, :, 0] + 0.7 * before, k_sum[:, :, 0] + 0.7 * z_before
        outputs.append(np.einsum("bhr,bhre->bhe", phi_q[:, i], state) / np.einsum("bhr,bhr->bh", phi_q[:, i], z)[..., None])
    return out_of_heads(np.stack(outputs, axis=1), weights.attention_output), {"kv": kv, "k_sum": k_sum}


def case(variant, layer, inputs, reference=reference, unknown=(T, S), **options):
    return Case(f"kernel_attention/{variant}", layer, inputs, KernelAttentionWeights, reference, unknown=unknown, **options)


def of(transform, **options):
    return partial(reference, transform=transform, **options)


def of_window(transform, **options):
    return partial(windowed_reference, transform=transform, **options)


CHAPTER = Chapter(
    number=9,
    name="kernel_attention",
    title="Kernel attention",
    part="Long sequences",
    sentence="Attention in linear time: keys and values are summed once, and every query uses the sums.",
    paper="Choromanski et al., 2021, §2; Katharopoulos et al., 2020; Peng et al., 2021",
    link="https://arxiv.org/abs/2009.14794",
    classes=("KernelAttention",),
    functions=("attend_one", "attend", "factored", "recurrent", "windowed", "windowed_by_loops", "kernel_attention"),
    cases=(
        case("elu", LINEAR, cross, of("elu")),
        case("elu-masked", LINEAR, masked, of("elu")),
        case("elu-projected", partial(LAYER, "elu", scale=0.3), masked, of("elu", scale=0.3)),
        case("relu", partial(LAYER, "relu"), masked, of("relu")),
        case("square", partial(LAYER, "square"), masked, of("square")),
        # Products of both signs may cancel in the denominators, which then have too few digits in half precision.
        case("identity", partial(LAYER, "identity"), masked, of("identity"), dtypes=("float64", "float32")),
        case("exp", partial(LAYER, "exp"), masked, of("exp")),
        case("exp-key", partial(LAYER, "exp", scale_by_length=True), with_key, of("exp", scale_by_length=True)),
        case("exp-empty", partial(LAYER, "exp"), one_row_empty, of("exp")),
        case("exp-no-bias", partial(LAYER, use_bias=False, output_shape=M + 2, dropout=0.5, redraw=True), cross, of("exp")),
        case("expmod", partial(LAYER, "expmod"), masked, of("expmod")),
        case("expplus", partial(LAYER, "expplus"), masked, of("expplus")),
        case("expplus-itself", partial(LAYER, "expplus"), itself, of("expplus")),
        case("rfa", partial(LAYER, "rfa", scale=0.5), masked, of("rfa", scale=0.5)),
        case("rfa-bandwidth", partial(LAYER, "rfa", trainable_bandwidth=True), masked, of("rfa")),
        # With so few directions, estimated denominators fall below the minimum of the exact ones.
        case("rfa-guard", partial(LAYER, "rfa", num_random_features=1), masked, of("rfa"), dtypes=("float64", "float32")),
        case("exact", partial(LAYER, "exp", is_short_seq=True), masked, of("exp", exact=True)),
        case("exact-rfa", partial(LAYER, "rfa", is_short_seq=True), masked, of("rfa", exact=True)),
        case("begin", partial(LAYER, "exp", begin_kernel=2), masked, of("exp", begin=2)),
        case("begin-rfa", partial(LAYER, "rfa", begin_kernel=2, scale=0.5), masked, of("rfa", begin=2, scale=0.5)),
        case("causal", LINEAR, causal, of("elu")),
        case("causal-exp", partial(LAYER, "exp"), causal, of("exp")),
        case("causal-begin", partial(LAYER, "exp", begin_kernel=2), causal, of("exp", begin=2)),
        case("causal-gate", partial(LAYER, "rfa", use_gate=True), causal, of("rfa")),
        case("causal-exact", partial(LAYER, "expmod", is_short_seq=True), causal, of("expmod", exact=True)),
        case("stream", partial(LAYER, "relu"), stream, stream_reference, (T,), call=call_with_cache),
        case("stream-exp", partial(LAYER, "exp"), stream_with_peak, stream_reference, (T,), call=call_with_cache),
        case("windowed", partial(LINEAR, **WINDOWED), windows, of_window("elu"), (LONG,)),
        case(
            "windowed-left",
            partial(LAYER, "rfa", causal_padding="left", **WINDOWED | {"num_random_features": 20}),  # computed in bands
            partial(windows, length=S),
            of_window("rfa", left=True),
        ),
        case(
            "windowed-exact",
            partial(LAYER, "exp", causal_padding="right", is_short_seq=True, **WINDOWED),
            partial(windows, length=S),
            of_window("exp", exact=True),
        ),
        case(
            "windowed-stream",
            partial(LINEAR, **WINDOWED | {"causal_chunk_length": 1}),
            partial(stream, sums=(1,)),
            windowed_stream_reference,
            (T,),
            call=call_with_cache,
        ),
    ),
)
