"""Classify texts: strings, BERT's tokenizer, packed rows, BERT's encoder and a head; then save, load and predict."""

import itertools
import json
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

import layers

keras.utils.set_random_seed(0)
FOLDER = Path("build")
GOOD, BAD = ["great", "lovely", "moving", "funny"], ["dull", "awful", "boring", "flat"]
THINGS = ["film", "book", "song", "play", "plot"]
VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "the", "is", "not", *GOOD, *BAD, *THINGS]

# The words' order matters: "not great" is bad, and "not dull" is good.
drawn = list(itertools.product(THINGS, ["is", "is not"], GOOD + BAD))
texts = [f"The {thing} {verb} {adjective}" for thing, verb, adjective in drawn]
labels = np.array([(adjective in GOOD) == (verb == "is") for _, verb, adjective in drawn], "int32")

# The text layers are TensorFlow's operations. In `tf.data` they serve models on either backend.
tokenize = layers.BertTokenizer(VOCABULARY, lower_case=True)
pack = layers.BertPackInputs(8, special_tokens_dict=tokenize.get_special_tokens_dict())
data = tf.data.Dataset.from_tensor_slices((texts, labels)).shuffle(len(texts), seed=0).batch(16)
data = data.map(lambda texts, labels: (pack(tokenize(texts)), labels)).cache()

inputs = {name: keras.Input((8,), dtype="int32", name=name) for name in ("input_word_ids", "input_mask", "input_type_ids")}
encoder = layers.BertEncoder(len(VOCABULARY), 32, num_layers=1, num_attention_heads=2, inner_dim=64, max_sequence_length=8)
head = layers.ClassificationHead(inner_dim=32, num_classes=2, dropout_rate=0.1)
model = keras.Model(inputs, head(encoder(inputs)["sequence_output"]))

loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
model.compile(keras.optimizers.Adam(3e-3), loss, metrics=["accuracy"])
model.fit(data, epochs=25, verbose=0)
_, accuracy = model.evaluate(data, verbose=0)
print(f"accuracy: {accuracy:.2f}")

# `import layers` is all that loading needs. The text layers are saved too, without a file of the vocabulary.
FOLDER.mkdir(exist_ok=True)
model.save(FOLDER / "classify_text.keras")
Path(FOLDER / "classify_text.json").write_text(json.dumps(keras.saving.serialize_keras_object([tokenize, pack])))
if keras.backend.backend() == "tensorflow":  # there, a model may also take the texts themselves
    strings = keras.Input((), dtype="string")
    keras.Model(strings, model(pack(tokenize(strings)))).save(FOLDER / "classify_strings.keras")

loaded = keras.saving.load_model(FOLDER / "classify_text.keras")
new = ["The play is great", "the song is not great", "The book is not dull"]
logits = loaded.predict(tf.data.Dataset.from_tensors(pack(tokenize(new))), verbose=0)
for text, c in zip(new, np.argmax(logits, axis=-1)):
    print(f"{text}: {['bad', 'good'][c]}")
