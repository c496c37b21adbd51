"""The definition, the forms that agree with it, the limits, and every trap. Features alone: tests/test_kernel_features.py."""

import keras
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from crosscheck.case import B, D, E, H, M, S, T
from crosscheck.weights import draw_weights, weights_of
from layers.attention import MultiHeadAttention
from layers.kernel_attention import KernelAttention, linear_sums
from layers.kernel_attention.features import TRANSFORMS
from reference import kernel_attention as ref
from reference.kernel_attention.structure import gate_structure, window_structure
from reference.self_attention_mask import causal_mask

pytestmark = pytest.mark.slow

R, LONG = 9, 300
SIZES = {"num_heads": H, "key_dim": D, "value_dim": E, "num_random_features": R}
LINEAR = {"feature_transform": "elu", "num_random_features": 0}
WINDOWED = {"use_causal_windowed": True, "causal_chunk_length": 2, "causal_window_length": 2, "causal_window_decay": 0.7}
POLICIES = ("float64", "float32", "mixed_bfloat16", "mixed_float16", "float16", "bfloat16")
CAUSAL = [name for name in TRANSFORMS if name != "expplus"]
POSITIVE = [name for name in TRANSFORMS if name != "identity"]
MODES = {
    "bidirectional": ({}, {}),
    "causal": ({}, {"use_causal_mask": True}),
    "gated": ({"use_gate": True}, {"use_causal_mask": True}),
    "windowed": (WINDOWED, {}),
    "windowed bands": (WINDOWED | {"num_random_features": 70}, {}),  # so many that pairs cost less than sums
    "exact": ({"is_short_seq": True}, {}),
    "causal exact": ({"is_short_seq": True, "use_gate": True}, {"use_causal_mask": True}),
    "begin": ({"begin_kernel": 3}, {}),
}
every_mode = pytest.mark.parametrize("mode", MODES)


def made(dtype="float64", like=None, shape=(B, 6, M), **options):
    """A built layer, with drawn weights or those of `like`."""
    layer = KernelAttention(**{**SIZES, **options}, dtype=dtype)
    layer.build(shape, shape)
    draw_weights(layer, np.random.default_rng(1))
    if like is not None:
        theirs = {weight.path.split("/", 1)[1]: weight for weight in like.trainable_weights}
        for weight in layer.trainable_weights:
            weight.assign(theirs.get(weight.path.split("/", 1)[1], weight))
    return layer


def of_mode(mode, dtype="float64", transform="exp", **options):
    arguments, call = MODES[mode]
    layer = made(dtype, feature_transform=transform, **arguments | options)
    return layer, lambda x, value=None, **more: np.asarray(
        keras.ops.cast(layer(x, x if value is None else value, **call, **more), "float64")
    )


def drawn(rng, t=6, s=None, r=R):
    s = t if s is None else s
    return rng.random((B, t, H, r)), rng.random((B, s, H, r)), rng.normal(size=(B, s, H, E))


def ones(*shape):
    return np.ones((1, 1, *shape))


# The reference against its definition


def test_attend_is_attend_one_for_every_query(rng):
    phi_q, phi_k, v = drawn(rng, T, S)
    w = rng.random((B, H, T, S))
    output, p = ref.attend(ref.kernel_of(phi_q, phi_k), v, w)
    for b, t, h in np.ndindex(B, T, H):
        assert_allclose(output[b, t, h], ref.attend_one(phi_q[b, t, h], phi_k[b, :, h], v[b, :, h], w[b, h, t]), rtol=1e-12)
    assert_allclose(p.sum(-1), 1, rtol=1e-12)
    assert (p >= 0).all()


def test_worked_example():
    """elu + 1 of 0 is 1, of 2 is 3: two keys weigh 1/4 and 3/4, values 8 and 4 mix to 5."""
    phi = [ref.features.generalized_features(np.array(x).reshape(1, -1, 1, 1), "elu", None) for x in ([0.0], [0.0, 2.0])]
    output, p = ref.attend(ref.kernel_of(*phi), np.array([8.0, 4.0]).reshape(1, 2, 1, 1), ones(1, 2))
    assert_allclose(p.ravel(), [1 / 4, 3 / 4])
    assert_allclose(output.item(), 5)


def test_sums_of_all_keys_are_the_kernel_matrix(rng):
    phi_q, phi_k, v = drawn(rng, T, S)
    expected, _ = ref.attend(ref.kernel_of(phi_q, phi_k), v, ones(T, S))
    assert_allclose(ref.factored(phi_q, phi_k, v)[0], expected, rtol=1e-12)


def test_linear_attention_is_a_recurrent_network(rng):
    phi_q, phi_k, v = drawn(rng)
    output, state, z = ref.recurrent(phi_q, phi_k, v)
    expected, _ = ref.attend(ref.kernel_of(phi_q, phi_k), v, ones(6, 6) * causal_mask(6, 6))
    assert_allclose(output, expected, rtol=1e-12)
    _, whole, whole_z = ref.factored(phi_q, phi_k, v)
    assert_allclose(state, whole, rtol=1e-12)
    assert_allclose(z, whole_z, rtol=1e-12)


def test_gates_unrolled_are_products(rng):
    phi_q, phi_k, v = drawn(rng)
    gate = rng.random((B, 6, H))
    expected, _ = ref.attend(ref.kernel_of(phi_q, phi_k), v, gate_structure(gate, np.ones((B, 6), bool)))
    assert_allclose(ref.recurrent(phi_q, phi_k, v, gate)[0], expected, rtol=1e-12)


def test_equal_gates_and_equal_kernels_are_a_moving_average(rng):
    _, _, v = drawn(rng)
    one = np.ones((B, 6, H, 1))
    output, _, _ = ref.recurrent(one, one, v, np.full((B, 6, H), 0.8))
    weights = 0.8 ** np.arange(5, -1, -1)
    assert_allclose(output[:, -1], np.einsum("s,bshe->bhe", weights / weights.sum(), v), rtol=1e-12)


def test_gates_that_close_slowly_are_no_gates(rng):
    phi_q, phi_k, v = drawn(rng)
    output, _, _ = ref.recurrent(phi_q, phi_k, v, np.full((B, 6, H), 1 - 1e-9))
    assert_allclose(output, ref.recurrent(phi_q, phi_k, v)[0], rtol=1e-7)


@pytest.mark.parametrize(("size", "window", "decay"), [(1, 3, 1.0), (2, 2, 0.7), (4, 2, 0.5), (3, 1, 0.5), (2, 9, 0.9)])
def test_windows_are_their_loops(rng, size, window, decay):
    phi_q, phi_k, v = drawn(rng, 7)
    expected = ref.windowed_by_loops(phi_q, phi_k, v, size, window, decay)
    assert_allclose(ref.windowed(phi_q, phi_k, v, size, window, decay), expected, rtol=1e-12)
    w = window_structure(7, size, window, decay)[None, None]
    assert_allclose(ref.attend(ref.kernel_of(phi_q, phi_k), v, w)[0], expected, rtol=1e-12)


# The layer's sums against the reference, over more than one chunk


def tensors(*arrays):
    """`(b, t, h, …)` as tensors `(b, h, t, …)`, with a one beside each value."""
    phi_q, phi_k, v = (np.moveaxis(x, 1, 2) for x in arrays)
    return [keras.ops.convert_to_tensor(x) for x in (phi_q, phi_k, np.concatenate([v, np.ones_like(v[..., :1])], axis=-1))]


def quotient(sums):
    sums = np.asarray(sums)
    return np.moveaxis(sums[..., :-1] / sums[..., -1:], 1, 2)


@pytest.mark.parametrize("t", [5, linear_sums.CHUNK, LONG])
@pytest.mark.parametrize("gated", [False, True])
def test_sums_in_chunks_are_the_recurrent_network(rng, t, gated):
    arrays = drawn(rng, t)
    gate = rng.random((B, t, H)) if gated else None
    expected, state, z = ref.recurrent(*arrays, gate)
    phi_q, phi_k, u = tensors(*arrays)
    log_gate = None
    if gated:
        u, log_gate = u * np.moveaxis(1 - gate, 1, 2)[..., None], keras.ops.convert_to_tensor(np.moveaxis(np.log(gate), 1, 2))
    sums, after = linear_sums.causal(phi_q, phi_k, u, log_gate)
    assert_allclose(quotient(sums), expected, rtol=1e-11, atol=1e-13)
    assert_allclose(np.asarray(after)[..., :-1], state, rtol=1e-11, atol=1e-12)
    assert_allclose(np.asarray(after)[..., -1], z, rtol=1e-11)


@pytest.mark.parametrize(("size", "window"), [(1, 3), (2, 70), (5, 2), (40, 1), (64, 3), (30, 7), (100, 99)])
@pytest.mark.parametrize("left", [False, True])
@pytest.mark.parametrize("r", [3, 70])
def test_windows_of_the_layer_are_the_references(rng, size, window, left, r):
    """Both ways to compute them: sums of chunks, and bands of pairs."""
    arrays = drawn(rng, 130, r=r)
    w = window_structure(130, size, window, 0.9, left)[None, None]
    expected, _ = ref.attend(ref.kernel_of(*arrays[:2]), arrays[2], w)
    sums, _ = linear_sums.windowed(*tensors(*arrays), size, window, 0.9, left)
    assert_allclose(quotient(sums), expected, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("window", [1, 2, 3, 4, 5, 6, 7, 8, 11])
def test_window_sums_do_not_cancel(window):
    """[10⁸, 1, 1, …] in float32: a difference of running sums would make the later sums 0."""
    x = np.ones(12, "float32")
    x[0] = 1e8
    found = linear_sums.window_sum(
        keras.ops.convert_to_tensor(x.reshape(1, 1, -1, 1, 1)), window, linear_sums.shifted, keras.ops.add
    )
    assert_array_equal(np.ravel(found)[window:], np.full(12 - window, window))


def test_running_sums_do_not_cancel():
    x = keras.ops.convert_to_tensor(np.array([1e8, 1, 1], "float32").reshape(1, 1, 3, 1, 1))
    assert_array_equal(np.ravel(linear_sums.running(x, None))[:3], np.array([0, 1e8, 1e8 + 1], "float32"))
    ones = keras.ops.ones((1, 1, 3, 1, 1))
    assert_array_equal(np.ravel(linear_sums.decaying(ones, x, None))[:3], np.array([0, 1e8, 1e8 + 1], "float32"))


LINEAR_MODES = [*MODES][:5]


@pytest.mark.parametrize("transform", ["elu", "exp"])
@pytest.mark.parametrize("mode", LINEAR_MODES)
def test_nothing_that_a_call_or_its_gradient_makes_grows_faster_than_the_length(mode, transform):
    tf = pytest.importorskip("tensorflow")
    layer, _ = of_mode(mode, "float32", transform)

    def largest(t):
        def loss(x):
            with tf.GradientTape() as tape:
                tape.watch(x)
                total = tf.reduce_sum(layer(x, x, **MODES[mode][1]) ** 2)
            return tape.gradient(total, [x, *layer.trainable_weights])

        graph = tf.function(loss).get_concrete_function(tf.TensorSpec((1, t, M))).graph
        shapes = [output.shape for operation in graph.get_operations() for output in operation.outputs]
        return max(np.prod(shape, dtype=float) for shape in shapes if shape.rank is not None and None not in shape)

    assert largest(8192) <= 2 * largest(4096)


# The layer: what every mode promises


@pytest.mark.parametrize("dtype", POLICIES)
@every_mode
def test_masked_keys_have_no_influence(rng, mode, dtype):
    mask = np.array([[1, 0, 1, 1, 0, 1], [0, 1, 1, 0, 1, 1]], bool)
    x, value = rng.normal(size=(B, 6, M)), rng.normal(size=(B, 6, M))
    for transform in CAUSAL if dtype == "float64" else ("exp",):
        _, call = of_mode(mode, dtype, transform)
        before, changed = call(x, value, attention_mask=mask), value.copy()
        changed[~mask] = 100.0
        assert_array_equal(call(x, changed, attention_mask=mask), before)
        changed[~mask] = np.nan
        assert_array_equal(call(x, changed, attention_mask=mask), before)


@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("mode", ["bidirectional", "exact"])
def test_padding_changes_nothing(rng, mode, transform):
    _, call = of_mode(mode, transform=transform)
    x = rng.normal(size=(B, 6, M))
    longer = np.concatenate([x, 5 * rng.normal(size=(B, 3, M))], axis=1)
    mask = np.repeat(np.arange(9)[None] < 6, B, axis=0)
    assert_allclose(call(longer, attention_mask=mask)[:, :6], call(x), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("dtype", POLICIES)
@every_mode
def test_a_query_without_keys_gets_the_output_bias(rng, mode, dtype):
    layer, call = of_mode(mode, dtype)
    mask = np.ones((B, 6), bool)
    mask[1] = False
    found = call(rng.normal(size=(B, 6, M)), attention_mask=mask)
    assert np.isfinite(found).all()
    bias = keras.ops.cast(keras.ops.cast(layer.output_dense.bias, layer.compute_dtype), "float64")
    assert_array_equal(found[1], np.broadcast_to(bias, (6, M)))


@pytest.mark.parametrize("transform", POSITIVE)
@every_mode
def test_weights_sum_to_one_at_every_size_of_the_inputs(rng, mode, transform):
    """Values of one mix to one. Sines and cosines may need their guard, which lets weights sum to less."""
    if transform == "expplus" and mode not in ("bidirectional", "exact", "begin"):
        pytest.skip("has statistics of the whole sequence")
    arguments = {"num_random_features": 2000} if transform == "rfa" else {}
    layer, call = of_mode(mode, "float32", transform, **arguments)
    layer.value_dense.kernel.assign(np.zeros((M, H, E)))
    layer.value_dense.bias.assign(np.ones((H, E)))
    mask = np.array([[1, 0, 1, 1, 0, 1], [1, 1, 1, 0, 1, 1]], bool)
    expected = np.sum(layer.output_dense.kernel, axis=(0, 1)) + layer.output_dense.bias
    # Products of elu + 1 of far negative numbers may underflow, and gates become 1, which let nothing in.
    for size in (0.1, 1.0, 10.0) if transform == "elu" or "use_gate" in MODES[mode][0] else (0.1, 1.0, 10.0, 300.0):
        x = size * rng.normal(size=(B, 6, M))
        assert_allclose(call(x, attention_mask=mask), np.broadcast_to(expected, (B, 6, M)), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("transform", CAUSAL)
@pytest.mark.parametrize("mode", ["causal", "gated", "causal exact"])
def test_a_later_token_does_not_change_an_earlier_output(rng, mode, transform):
    _, call = of_mode(mode, transform=transform)
    x = rng.normal(size=(B, 6, M))
    before = call(x)
    x[:, 4:] += 1
    after = call(x)
    assert_allclose(after[:, :4], before[:, :4], rtol=1e-9, atol=1e-12)
    assert (after[:, 4:] != before[:, 4:]).all()


@pytest.mark.parametrize("transform", ["elu", "exp", "rfa"])
@pytest.mark.parametrize("mode", ["windowed", "windowed bands"])
def test_a_later_chunk_does_not_change_an_earlier_one_but_a_chunk_sees_itself(rng, mode, transform):
    _, call = of_mode(mode, transform=transform)
    x = rng.normal(size=(B, 6, M))
    before = call(x)
    x[:, 3] += 1
    changed = np.abs(call(x) - before).max(axis=(0, 2)) > 1e-9
    assert changed.tolist() == [False, False, True, True, True, True]


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("transform", CAUSAL)
@pytest.mark.parametrize("mode", ["causal", "gated", "windowed", "windowed bands", "causal exact"])
def test_no_later_key_however_large_or_small_changes_a_bit_of_an_earlier_output(rng, mode, transform, dtype):
    """Exponents of later keys must not be what is taken out of earlier ones: of those, nothing would be left."""
    _, call = of_mode(mode, dtype, transform)
    x = rng.normal(size=(B, LONG, M)) * rng.choice([1.0, 30.0], size=(B, LONG, 1))
    before = call(x)
    assert np.isfinite(before).all()
    for size in (0.001, 1.0, 1000.0):
        x[:, 140:] = size * rng.normal(size=(B, LONG - 140, M))
        assert_array_equal(call(x)[:, :140], before[:, :140])


def test_shuffled_keys_change_nothing(rng):
    _, call = of_mode("bidirectional")
    x, value = rng.normal(size=(B, 6, M)), rng.normal(size=(B, 6, M))
    assert_allclose(call(x, value[:, ::-1]), call(x, value), rtol=1e-11)


# Streams


@pytest.mark.parametrize("pieces", [[1] * 6, [2, 0, 4], [6], [4, 2]])
@pytest.mark.parametrize("transform", CAUSAL)
@pytest.mark.parametrize("mode", ["causal", "gated", "windowed", "windowed bands"])
def test_a_stream_equals_the_whole(rng, mode, transform, pieces):
    if mode.startswith("windowed") and pieces[0] == 1:
        pieces = [2, 2, 2]
    layer, call = of_mode(mode, transform=transform)
    x, mask = rng.normal(size=(B, 6, M)), np.array([[0, 0, 1, 1, 0, 1], [1, 1, 1, 0, 1, 1]], bool)
    x[:, 3:] *= 4  # larger exponents later: what is kept must be rescaled
    cache, outputs, start = layer.init_cache(B), [], 0
    for length in pieces:
        part = slice(start, start + length)
        output, cache = layer(x[:, part], x[:, part], attention_mask=mask[:, part], cache=cache)
        outputs.append(np.asarray(output))
        start += length
    assert_allclose(np.concatenate(outputs, axis=1), call(x, attention_mask=mask), rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16", "float16"])
@pytest.mark.parametrize("transform", ["exp", "rfa"])
def test_a_cache_keeps_float32_and_is_not_changed(rng, policy, transform):
    layer = made(policy, feature_transform=transform)
    x, cache = rng.normal(size=(B, 2, M)), layer.init_cache(B)
    start = {name: np.array(value) for name, value in cache.items()}
    _, after = layer(x, x, attention_mask=np.zeros((B, 2), bool), cache=cache)
    _, after = layer(x, x, cache=after)
    assert {keras.backend.standardize_dtype(value.dtype) for state in (cache, after) for value in state.values()} == {"float32"}
    assert all(np.isfinite(value).all() for value in after.values())
    assert {name: value.shape for name, value in after.items()} == {name: value.shape for name, value in cache.items()}
    for name, value in cache.items():
        assert_array_equal(value, start[name])


@pytest.mark.parametrize("transform", ["exp", "expmod"])
def test_a_masked_key_takes_nothing_out_of_the_exponents_of_keys_whose_kernel_is_tiny(rng, transform):
    """A key of zeros, which is what masked ones become, has an exponent of 0; those of keys that are large are far below it."""
    layer = made("float64", feature_transform=transform)
    query, value = rng.normal(size=(B, 2, M)), 1000 * rng.normal(size=(B, 4, M))
    masked = layer(query, value, attention_mask=np.array([[True, True, True, False]] * B))
    assert_allclose(masked, layer(query, value[:, :3]), rtol=1e-9)


@pytest.mark.parametrize("policy", ["float32", "float16"])
def test_a_cache_that_was_stored_in_float16_is_taken(rng, policy):
    window = {"use_causal_windowed": True, "causal_chunk_length": 2, "causal_window_length": 5}
    layer = made(policy, feature_transform="exp", **window)
    x, cache = rng.normal(size=(B, 2, M)), layer.init_cache(B)
    stored = {name: keras.ops.cast(value, "float16") for name, value in cache.items()}  # its lowest exponents are minus infinity
    masked = {"attention_mask": np.array([[False, False]] + [[True, False]] * (B - 1))}
    (expected, _), (found, after) = (layer(x, x, cache=state, **masked) for state in (cache, stored))
    assert_array_equal(found, expected)
    assert all(np.isfinite(value).all() for value in after.values())


def test_a_streams_state_has_the_same_size_whatever_went_before():
    assert made(**LINEAR).init_cache(B)["kv"].shape == (B, H, D, E)
    assert made(feature_transform="rfa").init_cache(B)["kv"].shape == (B, H, 2 * R, E)
    assert made(**LINEAR, **WINDOWED).init_cache(B)["k_sum"].shape == (B, H, 1, D)


# Limits


def softmax_of(layer, **options):
    attention = MultiHeadAttention(num_heads=H, key_dim=D, value_dim=E, dtype="float64", **options)
    attention.build((B, 6, M), (B, 6, M))
    attention.set_weights([np.asarray(w) for w in layer.trainable_weights[:8]])
    return attention


@pytest.mark.parametrize("transform", ["exp", "expplus"])
@pytest.mark.parametrize("causal", [False, True])
def test_the_exact_kernel_is_softmax_attention(rng, transform, causal):
    if causal and transform == "expplus":
        transform = "exp"
    layer, x = made(feature_transform=transform, is_short_seq=True), rng.normal(size=(B, 6, M))
    mask = np.array([[1, 0, 1, 1, 0, 1], [1, 1, 1, 0, 1, 1]], bool)
    expected = softmax_of(layer)(x, x, attention_mask=mask[:, None], use_causal_mask=causal)
    assert_allclose(layer(x, x, attention_mask=mask, use_causal_mask=causal), expected, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("transform", ["elu", "rfa", "exp"])
def test_beginning_with_every_query_is_softmax_attention(rng, transform):
    layer, x = made(feature_transform=transform, begin_kernel=9), rng.normal(size=(B, 6, M))
    assert_allclose(layer(x, x), softmax_of(layer)(x, x), rtol=1e-11, atol=1e-13)


def test_the_first_queries_are_softmax_and_the_others_are_not_touched(rng):
    layer, x = made(**LINEAR, begin_kernel=2), rng.normal(size=(B, 6, M))
    found, linear = np.asarray(layer(x, x)), made(**LINEAR, like=layer)(x, x)
    assert_allclose(found[:, :2], softmax_of(layer)(x, x)[:, :2], rtol=1e-11, atol=1e-13)
    assert_array_equal(found[:, 2:], linear[:, 2:])


@pytest.mark.parametrize("transform", ["elu", "relu", "square"])
def test_without_anything_to_estimate_the_exact_kernel_is_the_same(rng, transform):
    layer, x = made(feature_transform=transform, is_short_seq=True), rng.normal(size=(B, 6, M))
    assert_allclose(made(feature_transform=transform, like=layer)(x, x), layer(x, x), rtol=1e-11)


def test_gates_count_the_same_in_pairs_and_in_sums(rng):
    mask = np.array([[1, 0, 1, 1, 0, 1], [1, 1, 1, 0, 1, 1]], bool)
    summed, paired = (made(feature_transform="elu", use_gate=True, is_short_seq=exact) for exact in (False, True))
    paired.set_weights(summed.get_weights())
    x = rng.normal(size=(B, 6, M))
    one, other = (layer(x, x, attention_mask=mask, use_causal_mask=True) for layer in (summed, paired))
    assert_allclose(one, other, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(("transform", "scale"), [("exp", None), ("expplus", None), ("expmod", None), ("rfa", 0.5)])
def test_more_features_come_closer_to_the_exact_kernel(rng, transform, scale):
    """Sixteen times the features, a quarter of the error."""
    x, errors = 0.5 * rng.normal(size=(B, 6, M)), []
    exact = made(feature_transform=transform, is_short_seq=True, scale=scale)
    for r in (64, 1024):
        some = [made(feature_transform=transform, num_random_features=r, seed=seed, scale=scale) for seed in range(20)]
        errors.append(np.sqrt(np.mean([np.square(layer(x, x) - exact(x, x)) for layer in some])))
    assert 2.5 < errors[0] / errors[1] < 6.5


def test_favor_plus_plus_is_scaled_once(rng):
    """Scaled twice, as in the Model Garden, it would estimate the softmax of q·k/d."""
    x = rng.normal(size=(B, 6, M))
    layer = made(feature_transform="expplus", num_random_features=4096)
    once, twice = (made(feature_transform="exp", is_short_seq=True, scale=D**power)(x, x) for power in (-0.5, -1.0))
    assert np.abs(layer(x, x) - once).mean() < np.abs(layer(x, x) - twice).mean() / 4


def test_one_chunk_of_everything_is_bidirectional_and_many_chunks_of_one_are_causal(rng):
    x = rng.normal(size=(B, 6, M))
    whole = made(**LINEAR, use_causal_windowed=True, causal_chunk_length=6)
    plain = made(**LINEAR)
    assert_allclose(whole(x, x), plain(x, x), rtol=1e-11)
    single = made(**LINEAR, use_causal_windowed=True, causal_chunk_length=1, causal_window_length=6)
    assert_allclose(single(x, x), plain(x, x, use_causal_mask=True), rtol=1e-11)


def test_elu_is_the_papers_without_projection_or_scale(rng):
    layer = KernelAttention("elu", num_heads=H, key_dim=D, value_dim=E, dtype="float64")
    x = rng.normal(size=(B, 6, M))
    layer(x, x)
    assert layer.num_random_features == 0 and layer.projection is None
    w = weights_of(layer, ref.KernelAttentionWeights)
    q, k, v = (ref.into_heads(x, part) for part in (w.query, w.key, w.value))
    heads, _, _ = ref.factored(*(np.where(y > 0, y + 1, np.exp(y)) for y in (q, k)), v)
    assert_allclose(layer(x, x), ref.out_of_heads(heads, w.attention_output), rtol=1e-11)


def test_random_features_are_256_unless_told_otherwise():
    layer = KernelAttention(num_heads=H, key_dim=D)
    assert layer.num_random_features == 256 == KernelAttention.from_config(layer.get_config()).num_random_features
    assert KernelAttention.from_config(KernelAttention("elu", num_heads=H, key_dim=D).get_config()).num_random_features == 0


def test_the_guard_bounds_what_sines_and_cosines_estimate_below_zero(rng):
    """With two frequencies many denominators are negative; without a guard outputs would have any size."""
    layer = made(feature_transform="rfa", num_random_features=2, use_bias=False, shape=(B, 400, M))
    x = rng.normal(size=(B, 400, M))
    w = weights_of(layer, ref.KernelAttentionWeights)
    q, k, v = (ref.into_heads(x, part) for part in (w.query, w.key, w.value))
    phi_q, phi_k = (ref.features.fourier_features(y / np.linalg.norm(y, axis=-1, keepdims=True), w.projection) for y in (q, k))
    kernel = ref.kernel_of(phi_q, phi_k)[:, :, :, :2]  # two keys
    assert (kernel.sum(-1) < 0).any()
    heads, _ = ref.attend(kernel, v[:, :2], ones(400, 2), np.exp(-2.0))
    assert np.abs(heads).max() <= np.exp(2) * np.abs(v[:, :2]).max()
    assert np.abs(ref.attend(kernel, v[:, :2], ones(400, 2))[0]).max() > 100 * np.abs(v[:, :2]).max()
    assert_allclose(layer(x, x[:, :2]), ref.out_of_heads(heads, w.attention_output), rtol=1e-9, atol=1e-11)


def test_the_scale_of_rfa_is_an_inverse_square_bandwidth(rng):
    fixed = made(feature_transform="rfa", scale=2.5)
    learned = made(feature_transform="rfa", scale=2.5, trainable_bandwidth=True, like=fixed)
    learned.inverse_bandwidth.assign(np.full((H, D), np.sqrt(2.5)))
    x = rng.normal(size=(B, 6, M))
    assert_allclose(fixed(x, x), learned(x, x), rtol=1e-11)
    start = KernelAttention("rfa", num_heads=H, key_dim=D, scale=2.5, trainable_bandwidth=True)
    start.build((B, 6, M), (B, 6, M))
    assert_allclose(start.inverse_bandwidth, np.full((H, D), np.sqrt(2.5)), rtol=1e-6)


def test_lengths_of_queries_and_keys_do_not_matter_to_rfa(rng):
    layer = made(feature_transform="rfa", use_bias=False)
    x, value = rng.normal(size=(B, 6, M)), rng.normal(size=(B, 6, M))
    assert_allclose(layer(7 * x, value, 0.1 * value), layer(x, value, value), rtol=1e-10)


# State, randomness, arguments


@pytest.mark.parametrize("begin", [0, 2])
def test_redrawn_features_change_only_while_training(rng, begin):
    layer, x = made(redraw=True, begin_kernel=begin), rng.normal(size=(B, 6, M))
    weight, fixed = np.asarray(layer.projection).copy(), layer(x, x)
    training = [np.asarray(layer(x, x, training=True))[:, begin:] for _ in range(3)]
    assert np.abs(training[0] - training[1]).min() > 0 and np.abs(training[1] - training[2]).min() > 0
    assert_array_equal(layer(x, x), fixed)
    assert_array_equal(layer.projection, weight)


def test_fixed_features_are_the_same_while_training(rng):
    layer, x = made(), rng.normal(size=(B, 6, M))
    assert_array_equal(layer(x, x, training=True), layer(x, x))


def test_the_projection_is_a_weight_that_does_not_train():
    layer = made()
    assert [w.path.split("/")[-1] for w in layer.non_trainable_weights] == ["projection"]
    assert layer.projection.shape == (R, D)
    assert np.abs(np.asarray(layer.projection) - np.asarray(made(seed=1).projection)).min() > 0


def test_the_projection_keeps_its_digits_under_mixed_precision(rng):
    layer = made("mixed_bfloat16")
    assert keras.backend.standardize_dtype(layer.rows().dtype) == "float32"
    assert_allclose(layer.rows(), made().projection, rtol=1e-6)


def test_dropout_falls_on_heads_while_training(rng):
    layer, x = made(dropout=0.5), rng.normal(size=(B, 6, M))
    assert_array_equal(layer(x, x), made(like=layer)(x, x))
    assert (np.asarray(layer(x, x, training=True)) != np.asarray(layer(x, x))).any()


def test_the_mask_is_boolean(rng):
    layer, x, ids = made(), rng.normal(size=(B, 6, M)), np.array([[7, 0, 2, 1, 0, 3]])
    assert_array_equal(layer(x, x, attention_mask=ids), layer(x, x, attention_mask=np.repeat(ids != 0, B, axis=0)))


def test_regularisers_reach_the_gate():
    layer = made(use_gate=True, kernel_regularizer="l2", bias_regularizer="l1")
    assert len(layer.losses) == 5 * 2


@pytest.mark.parametrize(
    ("message", "options"),
    [
        (
            r"feature_transform must be one of elu, .*, rfa. Received: feature_transform='softmax'",
            {"feature_transform": "softmax"},
        ),
        (r"num_random_features must be an integer of at least 1. Received: .*=0", {"num_random_features": 0}),
        (r"num_random_features must be an integer of at least 0", {"feature_transform": "relu", "num_random_features": -1}),
        (r"begin_kernel must be an integer of at least 0. Received: begin_kernel=-1", {"begin_kernel": -1}),
        (r"causal_chunk_length must be an integer of at least 1", {"causal_chunk_length": 0}),
        (r"causal_window_length must be an integer of at least 1", {"causal_window_length": 1.5}),
        (r"scale must be above 0. Received: scale=0", {"scale": 0.0}),
        (r"causal_window_decay must be above 0 and at most 1. Received: causal_window_decay=1.5", {"causal_window_decay": 1.5}),
        (r"causal_padding must be 'left', 'right' or None. Received: causal_padding='both'", {"causal_padding": "both"}),
        (r"redraw must be False with .*: redraw=True, .*num_random_features': 0", {**LINEAR, "redraw": True}),
        (r"trainable_bandwidth must be False with these other arguments", {"trainable_bandwidth": True}),
        (r"scale_by_length must be False with .*'rfa'", {"feature_transform": "rfa", "scale_by_length": True}),
        (
            r"scale_by_length must be False with .*'use_causal_windowed': True",
            {"use_causal_windowed": True, "scale_by_length": True},
        ),
        (r"use_gate must be False with .*'use_causal_windowed': True", {"use_causal_windowed": True, "use_gate": True}),
        (r"use_causal_windowed must be False with .*'expplus'", {"feature_transform": "expplus", "use_causal_windowed": True}),
        (r"num_heads must be an integer of at least 1", {"num_heads": 0}),
    ],
)
def test_arguments_out_of_range_or_without_meaning_are_rejected_by_name(message, options):
    with pytest.raises(ValueError, match=message):
        KernelAttention(**{**SIZES, **options})


@pytest.mark.parametrize(
    ("message", "options", "value", "call"),
    [
        (r"query must have 3 axes. Received: .* \(2, 6, 2, 11\)", {}, (2, 6, 2, 11), {}),
        (
            r"use_causal_mask must be False and cache must be None with .*'expplus'",
            {"feature_transform": "expplus"},
            (2, 6, 11),
            {"use_causal_mask": True},
        ),
        (r"use_causal_mask must be False with .*'use_causal_windowed': True", WINDOWED, (2, 6, 11), {"use_causal_mask": True}),
        (
            r"use_causal_mask must be False and cache must be None with .*'scale_by_length': True",
            {"scale_by_length": True},
            (2, 6, 11),
            {"use_causal_mask": True},
        ),
        (r"use_causal_mask must be True with .*'use_gate': True", {"use_gate": True}, (2, 6, 11), {}),
        (r"cache must be None with .*'is_short_seq': True", {"is_short_seq": True}, (2, 6, 11), {"cache": {}}),
        (r"cache must be None with .*'begin_kernel': 1", {"begin_kernel": 1}, (2, 6, 11), {"cache": {}}),
        (r"must have the same length if attention is causal. .* 6, value with 5", {}, (2, 5, 11), {"use_causal_mask": True}),
        (
            r"a multiple of causal_chunk_length=4, unless causal_padding is given and cache is None. Received: value of length 6",
            WINDOWED | {"causal_chunk_length": 4},
            (2, 6, 11),
            {},
        ),
        (r"attention_mask .* \(2, 6\). Received: \(2, 1, 6\)", {}, (2, 6, 11), {"attention_mask": np.ones((2, 1, 6))}),
        (r"attention_mask .* \(2, 6\). Received: \(2, 5\)", {}, (2, 6, 11), {"attention_mask": np.ones((2, 5))}),
        (r"cache must have the entries kv, k_sum, peak.*Received: kv", {}, (2, 6, 11), {"cache": {"kv": np.ones((2, 4, 9, 13))}}),
        (
            r"cache\['kv'\] must have the shape \(2, 4, 7, 13\). Received: \(3, 4, 7, 13\)",
            LINEAR,
            (2, 6, 11),
            {"cache": {"kv": np.ones((3, 4, 7, 13)), "k_sum": np.ones((3, 4, 7))}},
        ),
    ],
)
def test_calls_that_do_not_fit_are_rejected_by_name(message, options, value, call):
    layer = KernelAttention(**{**SIZES, **options})
    query = value if len(value) == 4 else (2, 6, 11)
    with pytest.raises(ValueError, match=message):
        layer(np.ones(query, "float32"), np.ones(value, "float32"), **call)
