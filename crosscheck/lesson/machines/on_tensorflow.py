"""`python -m crosscheck.lesson.machines.on_tensorflow`: train on one device, on several, or on several machines."""

import json
import os

import numpy as np

from crosscheck.lesson.machines import arguments
from crosscheck.report.command import as_program, prepare, refuse

DESCRIPTION = """\
Train a small classifier with tf.distribute, in float64. Prints its losses, weights, and state, and the examples that this process
read, as JSON. Several virtual devices are a MirroredStrategy, several addresses a MultiWorkerMirroredStrategy."""

MISTAKES = {
    "none": "right",
    "gradients": "each device divides its errors by the number of its own examples, not of all",
    "data": "the data are not cut into parts: each machine reads all of them",
    "state": "the Gaussian process adds the examples of the first device alone",
    "fit": "model.fit in place of a step of one's own",
}


def main(argv=None):
    """Train, and print the report. Returns the exit status."""
    options = arguments.parse("on_tensorflow", DESCRIPTION, MISTAKES, argv)
    if options.addresses and options.devices > 1:
        return refuse(f"--devices is for one machine alone. Received: --devices {options.devices} with --addresses")
    prepare("tensorflow")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    with arguments.within(options):
        import keras
        import tensorflow as tf

        keras.config.set_floatx("float64")
        try:
            strategy = strategy_for(options)  # before all else: it sets up the devices
            print(
                json.dumps({run.mistake: trained(strategy, run, arguments.say_that_it_trains) for run in options.runs}),
                flush=True,
            )
        except (tf.errors.OpError, ValueError, RuntimeError) as error:
            return refuse(f"training stopped: {type(error).__name__}: {error}") and 1
    return 0


def strategy_for(options):
    """One device, the devices of this machine, or those of several machines."""
    import tensorflow as tf

    if options.addresses:
        task = {"type": "worker", "index": options.index}
        os.environ["TF_CONFIG"] = json.dumps({"cluster": {"worker": options.addresses}, "task": task})
        return tf.distribute.MultiWorkerMirroredStrategy()
    if options.devices == 1:
        return tf.distribute.get_strategy()
    (processor,) = tf.config.list_physical_devices("CPU")
    parts = [tf.config.LogicalDeviceConfiguration() for _ in range(options.devices)]
    tf.config.set_logical_device_configuration(processor, parts)
    return tf.distribute.MirroredStrategy([f"CPU:{number}" for number in range(options.devices)])


def trained(strategy, run, started=lambda: None):
    """The report of a training. `started` is called after the first step."""
    from crosscheck.lesson.machines import task

    if run.mistake == "fit":
        return fitted(strategy, run)
    kind = {"kind": of_first_device()} if run.mistake == "state" else {}
    with strategy.scope():
        model = task.model_for(run, **kind)
        optimizer = task.optimizer_for(model)
    step = step_of(strategy, model, optimizer, is_own=run.mistake == "gradients")
    losses, read = [], []
    batches = strategy.experimental_distribute_dataset(dataset_for(run))
    for (ids, x, classes), _ in zip(batches, range(run.steps)):
        read.append([part.numpy().tolist() for part in strategy.experimental_local_results(ids)])
        losses.append(float(step(x, classes)))
        if len(losses) == 1:
            started()
    return task.report(model, losses, read)


def step_of(strategy, model, optimizer, is_own=False):
    """A step on all devices, which returns the loss.

    Args:
        strategy, model, optimizer: Both of the latter were made in the scope of the strategy.
        is_own: The mistake of dividing by the number of a device's own examples.
    """
    import tensorflow as tf

    from crosscheck.lesson.machines.task import sum_of_errors

    def on_each_device(x, classes):
        count = tf.cast(tf.shape(x)[0], x.dtype)
        if not is_own:
            count = tf.distribute.get_replica_context().all_reduce("sum", count)
        with tf.GradientTape() as tape:
            loss = sum_of_errors(model(x, training=True), classes) / count
            loss += sum(model.losses) / strategy.num_replicas_in_sync
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply(gradients, model.trainable_variables)  # it adds up the gradients of all devices
        return loss

    @tf.function(autograph=False)
    def step(*batch):
        return strategy.reduce("sum", strategy.run(on_each_device, batch), axis=None)

    return step


def dataset_for(run):
    """Batches of ids, inputs and classes, of which `experimental_distribute_dataset` gives each device its part."""
    import tensorflow as tf

    from crosscheck.lesson.machines import task

    x, classes = task.data()
    ids = np.concatenate(task.batches(run, one_pass=True))
    batches = tf.data.Dataset.from_tensor_slices((ids, x[ids], classes[ids])).batch(run.batch)
    policies, choice = tf.data.experimental.AutoShardPolicy, tf.data.Options()
    choice.experimental_distribute.auto_shard_policy = policies.OFF if run.mistake == "data" else policies.DATA
    return batches.repeat().take(run.steps).with_options(choice)


def of_first_device():
    """A Gaussian process with the mistake that the values of the first device alone are kept."""
    import layers

    class OfFirstDevice(layers.RandomFeatureGaussianProcess):
        def add_weight(self, *arguments, **options):
            return super().add_weight(*arguments, **{**options, "aggregation": "only_first_replica"})

    return OfFirstDevice


def fitted(strategy, run):
    """The report of a training by `model.fit`; its only loss is the mean of all steps."""
    import keras

    from crosscheck.lesson.machines import task

    with strategy.scope():
        model = task.model_for(run)
        model.compile(task.optimizer_for(model), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    history = model.fit(dataset_for(run).map(lambda ids, x, classes: (x, classes)), shuffle=False, verbose=0)
    return task.report(model, history.history["loss"], [])


if __name__ == "__main__":
    as_program(main)
