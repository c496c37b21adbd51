"""Two steps of training on several devices, or with a block that is recomputed, compared with those of one device."""

import keras
import numpy as np

DEVICES = 8
"""Virtual devices of one processor that JAX is asked for by `--xla_force_host_platform_device_count`."""

B, T, N, M = 16, 6, 16, 8

DROPOUT = 0.3
"""The second computation has to draw the masks of the first again. Replicas of TensorFlow draw others, so they have none."""


class Recomputed(keras.layers.Layer):
    """A layer of one tensor that keeps no intermediate results for its gradient, but computes them again."""

    def __init__(self, layer, **kwargs):
        super().__init__(**kwargs)
        self.layer = layer

    def build(self, input_shape):
        self.layer.build(input_shape)

    def call(self, inputs, training=None):
        weights, state = self.layer.trainable_variables, self.layer.non_trainable_variables

        def run(inputs, *values):
            parts = values[: len(weights)], values[len(weights) :]
            output, after = self.layer.stateless_call(*parts, inputs, training=training)
            return output, *after

        values = [keras.ops.convert_to_tensor(variable) for variable in (*weights, *state)]
        output, *after = keras.remat(run)(inputs, *values)
        for variable, value in zip(state, after):
            variable.assign(value)
        return output


def train(dropout=0.0, wrap=lambda block: block, run_eagerly=False):
    """A small encoder after two steps, and what its training is known by: losses and weights.

    The optimizer is none that divides by the size of a gradient, which would hide a gradient that is twice as large.
    """
    import layers

    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    ids = keras.Input((T,), dtype="int32")
    block = layers.TransformerEncoderBlock(4, 16, "relu", name="block", output_dropout=dropout, attention_dropout=dropout)
    model = keras.Model(ids, wrap(block)(layers.OnDeviceEmbedding(N, M)(ids)))
    model.compile(keras.optimizers.SGD(0.1, momentum=0.9), "mse", run_eagerly=run_eagerly)
    x, y = rng.integers(0, N, (B, T)), rng.normal(size=(B, T, M))
    losses = model.fit(x, y, batch_size=B, epochs=2, shuffle=False, verbose=0).history["loss"]
    return model, [np.array(losses), *model.get_weights()]


def compared(alone, **options):
    """{"error": the largest difference of a loss or a weight, "cut": the weights of which each device has a part}."""
    model, found = train(**options)
    shardings = {variable.path: getattr(variable.value, "sharding", None) for variable in model.variables}
    cut = [path for path, sharding in shardings.items() if sharding is not None and not sharding.is_fully_replicated]
    return {"error": float(max(abs(x - y).max() for x, y in zip(found, alone, strict=True))), "cut": cut}


def on_tensorflow(_):
    """{way to train: what `compared` says}. Run it in a process of its own, before TensorFlow computes anything."""
    import tensorflow as tf

    (processor,) = tf.config.list_physical_devices("CPU")
    tf.config.set_logical_device_configuration(processor, [tf.config.LogicalDeviceConfiguration()] * 2)
    _, alone = train(run_eagerly=True)
    with tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).scope():
        found = {"MirroredStrategy": compared(alone)}
    _, alone = train(DROPOUT, run_eagerly=True)
    return found | {"recomputed": compared(alone, dropout=DROPOUT, wrap=Recomputed)}


def on_jax():
    """The same for JAX, which has to know of `DEVICES` devices."""
    from keras import distribution

    from layers.layouts import model_parallel, transformer_layout

    _, alone = train(DROPOUT)
    found, devices = {"recomputed": compared(alone, dropout=DROPOUT, wrap=Recomputed)}, distribution.list_devices()
    mesh = distribution.DeviceMesh((2, DEVICES // 2), ("batch", "model"), devices[:DEVICES])
    parallel = {
        "DataParallel": distribution.DataParallel(devices=devices),
        "ModelParallel": model_parallel(transformer_layout(mesh)),
    }
    for name, way in parallel.items():
        with way.scope():  # which ends: this process compares other layers, too
            found[name] = compared(alone, dropout=DROPOUT)
    return found
