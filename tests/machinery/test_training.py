"""Training of a lesson's model: one trace, and the history that `model.fit` gives."""

import keras
import numpy as np

from crosscheck.lesson.training import fit


class Counting(keras.Sequential):
    traces = 0

    def train_step(self, data):
        type(self).traces += 1
        return super().train_step(data)


def test_the_step_is_traced_once(capsys):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(12, 3)).astype("float32")
    model = Counting([keras.layers.Dense(2)])
    model.compile(keras.optimizers.Adam(1e-2), "mse")
    history = fit(model, x, x[:, :2], batch_size=4, epochs=2)
    assert Counting.traces == 1
    assert len(history.history["loss"]) == 2
    assert capsys.readouterr().out == ""


def test_inputs_may_be_several():
    left, right = keras.Input((3,)), keras.Input((2,))
    model = keras.Model([left, right], keras.layers.Dense(1)(keras.ops.concatenate([left, right], axis=-1)))
    model.compile("sgd", "mse")
    assert fit(model, [np.ones((4, 3)), np.ones((4, 2))], np.ones((4, 1))).history["loss"]
