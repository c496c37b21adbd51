"""A SavedModel whose inputs are ragged."""


def archive_of_ragged(model, given, folder):
    """Write `model` to `folder` as a SavedModel whose inputs are as ragged as those of `given`, {name: ragged tensor}."""
    import keras
    import tensorflow as tf

    signature = {
        name: tf.RaggedTensorSpec([None] * len(x.shape), x.dtype, x.ragged_rank, x.row_splits.dtype) for name, x in given.items()
    }
    serve = tf.function(lambda inputs: model(inputs), input_signature=[signature])
    serve.get_concrete_function()
    archive = keras.export.ExportArchive()
    archive.track(model)
    archive.add_endpoint("serve", serve)
    archive.write_out(folder, verbose=False)
