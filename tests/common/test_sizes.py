"""Sizes that are unknown until a layer runs."""

import os
import subprocess
import sys

import keras
import pytest
import tensorflow as tf

from layers.common.checks import check_broadcastable, check_length, check_same, check_shape
from layers.common.sizes import at_least, comparable, in_whole, joined_length, known, known_shape, product

EXPORTED_FROM_JAX = '''
import jax
import keras
import numpy as np
from jax import export

import layers

rng = np.random.default_rng(0)
(t,) = export.symbolic_shape("t")


def compare(name, call, *lengths):
    """One program, exported for every length, gives what the call gives for each length."""
    shapes = call.shapes(t)
    program = export.export(jax.jit(call))(*(jax.ShapeDtypeStruct(shape, "float32") for shape in shapes))
    for length in lengths:
        inputs = [rng.normal(size=shape).astype("float32") for shape in call.shapes(length)]
        found, expected = program.call(*inputs), jax.jit(call)(*inputs)
        for x, y in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
            np.testing.assert_allclose(x, y, rtol=2e-5, atol=2e-5, err_msg=f"{name} {length}")
    return program


def self_attention(layer, width=8, **options):
    def call(x):
        return layer(x, x, **options)

    call.shapes = lambda length: [(2, length, width)]
    call(np.ones((2, 6, width), "float32"))
    return call


bigbird = layers.BigBirdAttention(num_heads=2, key_dim=4, from_block_size=3, to_block_size=3, num_rand_blocks=1, seed=0)
compare("bigbird", self_attention(bigbird), 1, 31)
window = {"use_causal_windowed": True, "causal_chunk_length": 2, "causal_window_length": 2, "causal_padding": "left"}
compare("windowed", self_attention(layers.KernelAttention("elu", num_heads=2, key_dim=4, **window)), 31)
gated = layers.KernelAttention("elu", num_heads=2, key_dim=4, use_gate=True)
compare("gated", self_attention(gated, use_causal_mask=True), 131)

positions = layers.PositionalEmbedding(max_length=5)
positions(np.ones((1, 2, 8), "float32"))


def positions_of(x):
    return positions(x)


positions_of.shapes = lambda length: [(2, length, 8)]
program = compare("positions", positions_of, 5)
beyond = np.isnan(program.call(np.ones((2, 7, 8), "float32"))).all(axis=(0, 2))
assert beyond.tolist() == [False] * 5 + [True] * 2, beyond

cached = layers.CachedAttention(num_heads=2, key_dim=4)
cached(np.ones((2, 1, 8), "float32"), np.ones((2, 1, 8), "float32"), cache=cached.init_cache(2, 5), decode_loop_step=0)


def written(x, keys, values):
    return cached(x, x, cache={"key": keys, "value": values}, decode_loop_step=keras.ops.array(3))


written.shapes = lambda length: [(2, length, 8), (2, 5, 2, 4), (2, 5, 2, 4)]
program = compare("written", written, 2)
inputs = [rng.normal(size=shape).astype("float32") for shape in written.shapes(4)]
_, cache = program.call(*inputs)
np.testing.assert_array_equal(cache["key"], inputs[1], "tokens that do not fit leave the cache unchanged")
'''


@pytest.mark.slow
def test_programs_that_jax_exports_for_every_length_give_the_numbers_of_each_length():
    environment = os.environ | {"KERAS_BACKEND": "jax", "PYTHONWARNINGS": "ignore"}
    done = subprocess.run([sys.executable, "-c", EXPORTED_FROM_JAX], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]


class Symbolic:
    """Like a symbolic dimension of JAX: neither None nor an integer, and an error to compare."""

    def __lt__(self, other):
        raise TypeError("inconclusive")

    __gt__ = __le__ = __ge__ = __lt__


def test_a_size_is_known_only_if_it_is_an_integer():
    assert known(3) == 3
    assert known(0) == 0
    assert known_shape((2, None, Symbolic(), tf.constant(5))) == (2, None, None, None)


@pytest.mark.parametrize("unknown", [None, Symbolic()])
def test_checks_take_an_unknown_size_to_fit_and_compare_the_known_sizes_of_a_shape(unknown):
    check_length("x", unknown, most=2)
    check_same("length", x=unknown, y=3)
    check_same("shape", x=(unknown, 3), y=(2, unknown))
    check_broadcastable("x", (unknown, 3), (2, unknown))
    with pytest.raises(ValueError, match="x and y must have the same shape"):
        check_same("shape", x=(unknown, 3), y=(unknown, 4))
    with pytest.raises(ValueError, match="x and y must have the same shape"):
        check_same("shape", x=(unknown, 3), y=(unknown, 3, 1))
    with pytest.raises(ValueError, match="x must have a shape that broadcasts"):
        check_broadcastable("x", (unknown, 3), (unknown, 4))
    with pytest.raises(ValueError, match="x must have the shape"):
        check_shape("x", keras.KerasTensor((None, 3)), (unknown, 4))


def test_parts_that_hold_a_size():
    assert in_whole(7, 3) == (3, 2)
    assert in_whole(6, 3) == (2, 0)
    assert in_whole(0, 3) == (0, 0)
    count, lacking = in_whole(tf.constant(7), 3)
    assert (int(count), int(lacking)) == (3, 2)


def test_the_number_of_parts_is_found_without_negative_numbers():
    """A program in ONNX divides integers toward zero, so that the quotient of a negative number would be one too large."""
    traced = tf.function(lambda size: in_whole(size, 3)).get_concrete_function(tf.TensorSpec((), "int32"))
    kinds = {operation.type for operation in traced.graph.get_operations()}
    assert "FloorDiv" in kinds and "Neg" not in kinds


def test_arithmetic_of_sizes():
    assert product([2, 3]) == 6
    assert int(product([2, tf.constant(3)])) == 6
    assert at_least(2, 1) == 2
    assert int(at_least(2, tf.constant(5))) == 5
    assert comparable(4) == 4
    assert comparable(tf.constant(4)).dtype == "int32"
    x = keras.KerasTensor((2, 3, 5))
    assert joined_length(None, x, x) == 6
    assert joined_length(keras.KerasTensor((2, None, 5)), x) is None
