"""What `layers/common/masks.py` says of the masks of sums."""

import keras
import numpy as np
import pytest

import layers


def test_add_keeps_a_mask_that_each_of_its_inputs_has():
    ids = np.array([[1, 2, 0, 0], [3, 0, 0, 0], [1, 1, 1, 0]])
    x = keras.layers.Embedding(9, 8, mask_zero=True)(ids)
    total = keras.layers.Add()([x, layers.PositionalEmbedding(4)(x)])
    np.testing.assert_array_equal(total._keras_mask, ids != 0)
    positions = layers.RelativePositionEmbedding(8)(x)
    assert not hasattr(x + positions, "_keras_mask")
    with pytest.raises(ValueError, match="Cannot merge tensors"):
        keras.layers.Add()([x, positions])
