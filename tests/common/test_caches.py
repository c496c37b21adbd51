"""A cache for a batch whose size is not known yet, of every layer that has a cache."""

import keras
import numpy as np
import pytest
from numpy.testing import assert_allclose

import layers
from crosscheck.tree import leaves
from layers.common.caches import for_each_example, rows_for

M, T = 12, 2


def attention():
    return layers.CachedAttention(3, 4), lambda layer, x, cache: layer(x, x, cache=cache, decode_loop_step=1), (5,)


def block():
    layer = layers.TransformerDecoderBlock(3, 16, "relu")
    layer.build([(None, T, M), (None, T, M)])
    return layer, lambda layer, x, cache: layer([x, x], cache=cache, decode_loop_step=1), (5,)


def kernel(transform, **options):
    count = 0 if transform == "elu" else 8
    layer = layers.KernelAttention(num_heads=3, key_dim=4, feature_transform=transform, num_random_features=count, **options)
    return layer, lambda layer, x, cache: layer(x, x, cache=cache), ()


MADE = {"attention": attention, "block": block}
for name in ("elu", "exp", "rfa"):
    MADE[f"kernel-{name}"] = lambda name=name: kernel(name)
    MADE[f"kernel-{name}-windowed"] = lambda name=name: kernel(name, use_causal_windowed=True, causal_window_length=3)


@pytest.mark.parametrize("name", MADE)
def test_a_cache_for_an_open_batch_stands_in_a_functional_model(rng, name, tmp_path):
    layer, call, sizes = MADE[name]()
    x = keras.Input((T, M))
    outputs = leaves(call(layer, x, layer.init_cache(None, *sizes)))
    assert all(y.shape[0] is None for y in outputs.values())
    model = keras.Model(x, outputs)
    model.save(tmp_path / "model.keras")
    for some in (model, keras.saving.load_model(tmp_path / "model.keras")):
        for b in (1, 3):
            given = rng.normal(size=(b, T, M)).astype("float32")
            expected = leaves(call(layer, keras.ops.convert_to_tensor(given), layer.init_cache(b, *sizes)))
            found = some(given)
            for where, leaf in expected.items():
                assert_allclose(found[where], leaf, atol=1e-6, err_msg=where)


@pytest.mark.parametrize("name", MADE)
def test_texts_that_begin_alike_share_the_cache_of_the_beginning(rng, name):
    layer, call, sizes = MADE[name]()
    beginning, rest = rng.normal(size=(1, T, M)).astype("float32"), rng.normal(size=(3, T, M)).astype("float32")
    _, shared = call(layer, beginning, layer.init_cache(1, *sizes))
    _, apart = call(layer, np.repeat(beginning, 3, axis=0), layer.init_cache(3, *sizes))
    for found, expected in zip(leaves(call(layer, rest, shared)).values(), leaves(call(layer, rest, apart)).values()):
        assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("name", MADE)
def test_a_cache_of_another_batch_is_rejected(rng, name):
    layer, call, sizes = MADE[name]()
    x = rng.normal(size=(3, T, M)).astype("float32")
    call(layer, x, layer.init_cache(3, *sizes))
    with pytest.raises(ValueError, match=r"cache\[.* must have the shape \(3, .* Received: \(2, "):
        call(layer, x, layer.init_cache(2, *sizes))


@pytest.mark.parametrize("batch", [0, -1, 1.5, "2", True])
def test_a_batch_that_is_none_is_rejected_by_name(batch):
    attention, kernel = layers.CachedAttention(3, 4), layers.KernelAttention(num_heads=3, key_dim=4)
    for layer, name, sizes in ((attention, "batch", (5,)), (kernel, "batch_size", ())):
        with pytest.raises(ValueError, match=f"^{name} must be an integer of at least 1. Received: {name}={batch!r}"):
            layer.init_cache(batch, *sizes)


def test_only_a_cache_of_one_row_is_repeated():
    x = keras.ops.ones((3, 2))
    many, mixed = {"key": keras.ops.ones((2, 4))}, {"key": keras.ops.ones((1, 4)), "value": keras.ops.ones((2, 4))}
    assert for_each_example(many, x) is many and for_each_example(mixed, x) is mixed
    one = {"key": keras.ops.ones((1, 4))}
    assert for_each_example(one, x[:1]) is one
    assert for_each_example(one, x)["key"].shape == (3, 4)
    assert rows_for(None) == 1 and rows_for(4) == 4
