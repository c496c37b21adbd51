"""Loads what the examples saved in the current folder, after `import layers` alone: {example: outputs}, as JSON.

On TensorFlow, texts go into a model that holds the text layers. On JAX a model holds no strings, so the text layers, which are
saved beside it, come before it.
"""

import json
from pathlib import Path

import keras
import numpy as np

import layers


def load(name):
    return keras.saving.load_model(f"build/{name}.keras")


def kept(name):
    return json.loads(Path(f"{name}.json").read_text())


def classify_text():
    import tensorflow as tf

    texts = tf.constant(kept("classify_text")["new"])
    if keras.backend.backend() == "tensorflow":
        return load("classify_strings").predict(texts, verbose=0)
    tokenize, pack = keras.saving.deserialize_keras_object(json.loads(Path("build/classify_text.json").read_text()))
    data = tf.data.Dataset.from_tensor_slices(texts).batch(2).map(lambda texts: pack(tokenize(texts)))
    outputs = load("classify_text").predict(data, verbose=0)
    packed = {name: np.asarray(x) for name, x in pack(tokenize(texts)).items()}  # or called before the model
    np.testing.assert_allclose(load("classify_text").predict(packed, verbose=0), outputs, atol=1e-5)
    return outputs


def continue_text():
    decoder = load("continue_text").get_layer("decoder")
    return layers.generate(decoder, kept("continue_text")["prompts"], length=14, end_id=3, pad_id=0)


def masked_language_model():
    model = load("masked_language_model")
    inputs = {name: np.array(x, "int32") for name, x in kept("masked_language_model")["inputs"].items()}
    assert model.get_layer("masked_lm").embedding_table is model.get_layer("on_device_embedding")
    return np.argmax(model.predict(inputs, verbose=0)[:, 0], axis=-1)


def transformer_xl_memory():
    return load("transformer_xl_memory").predict(np.array(kept("transformer_xl_memory")["given"], "int32"), verbose=0)


def uncertain_classifier():
    outputs = load("uncertain_classifier")(np.array(kept("uncertain_classifier")["places"]))
    return {name: np.asarray(x).tolist() for name, x in outputs.items()}


if __name__ == "__main__":
    loaded = (classify_text, continue_text, masked_language_model, transformer_xl_memory, uncertain_classifier)
    outputs = {function.__name__: function() for function in loaded}
    print(json.dumps({name: x if isinstance(x, dict) else x.tolist() for name, x in outputs.items()}))
