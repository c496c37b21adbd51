"""The padding mask that a block hands on, if each call computes another number of first positions."""

import threading

import keras
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import layers

N, M, H, F = 11, 8, 2, 6
IDS = np.array([[3, 1, 4, 2, 5], [2, 7, 1, 0, 0], [0, 6, 8, 0, 2]])
PADDING = IDS != 0
KINDS = ("TransformerEncoderBlock", "Transformer", "ReZeroTransformer", "ReuseTransformer")


def embedded():
    return keras.layers.Embedding(N, M, mask_zero=True)


def first(outputs):
    return outputs[0] if isinstance(outputs, tuple) else outputs


class Seeing(keras.layers.Layer):
    """Keeps the mask that Keras fills in."""

    def __init__(self):
        super().__init__()
        self.supports_masking, self.seen = True, None

    def call(self, inputs, mask=None):
        self.seen = mask
        return inputs


def mask_of(tensor):
    """The mask that a layer after the one that made `tensor` gets to see."""
    layer = Seeing()
    layer(tensor)
    return layer.seen


def pooled(found, count):
    """The average of the tokens among the first `count` positions of outputs."""
    p = PADDING[:, :count, None]
    return (np.asarray(found) * p).sum(1) / p.sum(1)


@pytest.mark.parametrize("name", KINDS)
def test_each_call_hands_on_its_own_mask_whatever_was_called_between(name):
    block, embedding, ids = getattr(layers, name)(H, F, "relu", output_range=4), embedded(), keras.Input((None,), dtype="int32")
    x, symbol = embedding(IDS), embedding(ids)
    ranges = ({}, 4), ({"output_range": 2}, 2), ({}, 4), ({"output_range": 5}, 5)
    symbolic, eager = [], []
    for options, _ in ranges:  # one layer, shared by all branches of a model
        symbolic.append(first(block(symbol, **options)))
        eager.append(first(block(x, **options)))
    model = keras.Model(ids, [keras.layers.GlobalAveragePooling1D()(output) for output in symbolic])
    for output, mean, (_, count) in zip(eager, model(IDS), ranges):
        assert_array_equal(mask_of(output), PADDING[:, :count], err_msg=name)
        assert_allclose(mean, pooled(output, count), atol=1e-6, err_msg=name)
    block(x, output_range=2)
    assert_array_equal(block.compute_mask(x, PADDING), PADDING[:, :4], err_msg="asked for after a call with another number")


def test_calls_at_the_same_time_do_not_mix_their_masks():
    both_inside = threading.Barrier(2, timeout=30)
    block = layers.ReZeroTransformer(H, F, lambda x: (both_inside.wait(), keras.ops.relu(x))[1])
    block.build((None, None, M))
    x, found = embedded()(IDS), {}
    threads = [threading.Thread(target=lambda n=n: found.update({n: mask_of(block(x, output_range=n))})) for n in (2, 4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for count in (2, 4):
        assert_array_equal(found[count], PADDING[:, :count])


def test_a_call_that_fails_leaves_nothing_behind():
    block, x = layers.TransformerEncoderBlock(H, F, "relu"), embedded()(IDS)
    with pytest.raises(ValueError, match="output_range must be at most the length, 5"):
        block(x, output_range=6)
    assert_array_equal(block.compute_mask(x, PADDING), PADDING)
    assert_array_equal(mask_of(block(x)), PADDING)


def test_a_block_in_time_distributed_and_outside_of_it():
    block, embedding = layers.TransformerEncoderBlock(H, F, "relu", output_range=3), embedded()
    several = np.stack([IDS, IDS[::-1]], axis=1)
    inputs = keras.Input(several.shape[1:], dtype="int32")
    one = keras.Input((5,), dtype="int32")
    model = keras.Model(
        [inputs, one], [keras.layers.TimeDistributed(block)(embedding(inputs)), block(embedding(one), output_range=2)]
    )
    distributed, short = model([several, IDS])
    assert distributed.shape == (3, 2, 3, M)
    for i in range(2):
        alone = block(embedding(several[:, i]))
        assert_allclose(distributed[:, i], alone, atol=1e-6)
        assert_array_equal(mask_of(alone), several[:, i, :3] != 0)
    assert_array_equal(mask_of(block(embedding(IDS), output_range=2)), PADDING[:, :2])
    assert_allclose(short, distributed[:, 0, :2], atol=1e-6)
