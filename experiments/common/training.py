"""Train a model on batches that are drawn as it goes, on either backend."""

import keras
import numpy as np


def loss_of_ids():
    """Cross-entropy of logits and ids, in nats, averaged over everything that is predicted."""
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def train(model, batches, rate, steps, loss=None, points=50, optimizer=None, watch=None):
    """Train with Adam, without a schedule, and measure the loss of training on the way.

    Args:
        model: A Keras model that is not compiled.
        batches: A function of no arguments that returns (inputs, answers).
        rate: The learning rate.
        steps: How many steps; a multiple of `points`.
        loss: A Keras loss; cross-entropy of logits and ids unless given.
        points: On how many stretches of equal length the loss is averaged.
        optimizer: In place of Adam.
        watch: Called after each stretch with the number of steps so far.

    Returns:
        [(step, mean loss of the stretch that ends there)].
    """
    if steps % points:
        raise ValueError(f"steps must be a multiple of points. Received: steps={steps}, points={points}")
    inputs, _ = batches()
    model(inputs)  # makes the variables before the step is traced
    model.compile(optimizer or keras.optimizers.Adam(rate), loss or loss_of_ids())
    model.optimizer.build(model.trainable_variables)
    stretch = steps // points
    callback = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: watch and watch((epoch + 1) * stretch))

    def endless():
        while True:
            yield batches()

    history = model.fit(endless(), steps_per_epoch=stretch, epochs=points, shuffle=False, verbose=0, callbacks=[callback])
    return [(stretch * (i + 1), float(loss)) for i, loss in enumerate(history.history["loss"])]


def train_again(model, start, inputs, answers, rate, batch=64, points=10, loss=None, watch=None):
    """Train with Adam over all examples once, from other weights. A model that was trained so before is not traced again.

    Args:
        model: A Keras model that is built.
        start: Another one of the same kind, whose weights are copied.
        inputs, answers: Arrays, or tuples of arrays, with examples first.
        rate: The learning rate.
        batch: Examples in a step.
        points: On how many stretches of equal length the loss is averaged.
        loss: As of `train`.
        watch: As of `train`.

    Returns:
        [(step, mean loss of the stretch that ends there)].
    """
    if not model.compiled:
        # XLA compiles longer than such a training takes on TensorFlow. On JAX, Keras would run each operation by itself.
        jit = keras.backend.backend() == "jax"
        model.compile(keras.optimizers.Adam(rate), loss or loss_of_ids(), jit_compile=jit)
        model.optimizer.build(model.trainable_variables)
    model.set_weights(start.get_weights())
    forget(model.optimizer, rate)
    count = len(keras.tree.flatten(inputs)[0]) // points
    curve = []
    for end in range(count, points * count + 1, count):
        part = keras.tree.map_structure(lambda array, end=end: array[end - count : end], (inputs, answers))
        history = model.fit(*part, batch_size=batch, shuffle=False, verbose=0)
        curve.append((end // batch, float(history.history["loss"][0])))
        if watch:
            watch(curve[-1][0])
    return curve


def forget(optimizer, rate=0.0):
    """An optimizer begins anew, with this learning rate: its averages and its number of steps are 0."""
    for variable in optimizer.variables:
        variable.assign(keras.ops.zeros(variable.shape, variable.dtype))
    optimizer.learning_rate = rate


def draw_uniform(model, rng):
    """Draw the matrices among a model's weights as Glorot does, from a uniform distribution; set its vectors to 0."""
    for variable in model.trainable_variables:
        drawn = rng.uniform(-1, 1, variable.shape) * np.sqrt(6 / sum(variable.shape))
        variable.assign(drawn if len(variable.shape) == 2 else np.zeros(variable.shape))


def draw_normal(model, rng, width):
    """Draw a model's kernels as Glorot does, from a normal distribution, and its tables with standard deviation 1.

    Args:
        model: A built Keras model of blocks and embeddings. Its scales are set to 1, its biases to 0.
        rng: A generator of NumPy.
        width: What heads read and write, all together.
    """
    for variable in model.trainable_variables:
        shape = variable.shape
        if variable.path.endswith("embeddings"):
            drawn = rng.normal(size=shape)
        elif "kernel" in variable.path:
            drawn = rng.normal(size=shape) * np.sqrt(2 / (sum(shape) if len(shape) == 2 else 2 * width))
        else:
            drawn = np.full(shape, 1.0 if "gamma" in variable.path else 0.0)
        variable.assign(drawn)


class Stretches(keras.callbacks.Callback):
    """Sets the learning rate before each stretch of training, and notes its mean loss.

    A stretch is what a compiled program does at a time, `steps_per_execution`; one step, unless the model says otherwise.

    Args:
        rate_after: A function of the number of stretches so far: the learning rate of the next one.
        look: Called after each stretch with the number of stretches so far.
    """

    def __init__(self, rate_after, look=None):
        super().__init__()
        self.rate_after, self.look, self.sums = rate_after, look, [0.0]

    def on_train_batch_begin(self, batch, logs=None):
        self.model.optimizer.learning_rate.assign(self.rate_after(len(self.sums) - 1))

    def on_train_batch_end(self, batch, logs=None):
        self.sums.append(logs["loss"] * len(self.sums))  # Keras reports the mean since the beginning
        if self.look:
            self.look(len(self.sums) - 1)

    @property
    def losses(self):
        """The mean loss of each stretch."""
        return np.diff(self.sums)


def in_stretches(losses, points):
    """[(step, mean loss of the stretch that ends there)] for so many stretches, from the loss of each step."""
    stretch = len(losses) // points
    return [(end, np.mean(losses[end - stretch : end])) for end in range(stretch, len(losses) + 1, stretch)]


def accuracy(logits, answers):
    """The share of the answers that get the largest logit."""
    return float(np.mean(np.argmax(keras.ops.convert_to_numpy(logits), axis=-1) == answers))
