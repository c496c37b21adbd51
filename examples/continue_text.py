"""A decoder-only language model, which continues a text word by word."""

from pathlib import Path

import keras
import numpy as np

import layers

keras.utils.set_random_seed(0)
FOLDER = Path("build")
RHYMES = [
    "Humpty Dumpty sat on a wall Humpty Dumpty had a great fall",
    "Jack and Jill went up the hill to fetch a pail of water",
    "Twinkle twinkle little star how I wonder what you are",
    "Row row row your boat gently down the stream",
]
WORDS = sorted({word.lower() for rhyme in RHYMES for word in rhyme.split()})
VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS]
LENGTH = 16

tokenize = layers.BertTokenizer(VOCABULARY, lower_case=True)
pack = layers.BertPackInputs(LENGTH, special_tokens_dict=tokenize.get_special_tokens_dict())
packed = {name: np.array(x) for name, x in pack(tokenize(RHYMES)).items()}
ids, weights = packed["input_word_ids"], packed["input_mask"]

inputs = keras.Input((None,), dtype="int32")
decoder = layers.TransformerDecoder(
    len(VOCABULARY), 32, num_layers=1, num_attention_heads=4, intermediate_size=64, name="decoder"
)
model = keras.Model(inputs, decoder(inputs)[0])

# Each word is predicted from those before it; padding does not count.
loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
model.compile(keras.optimizers.Adam(1e-2), loss, weighted_metrics=["accuracy"])
x, y, counted = ids[:, :-1], ids[:, 1:], weights[:, 1:]
model.fit(x, y, sample_weight=counted, epochs=60, verbose=0)
_, accuracy = model.evaluate(x, y, sample_weight=counted, verbose=0)
print(f"accuracy: {accuracy:.2f}")  # only the first word of a rhyme cannot be known

FOLDER.mkdir(exist_ok=True)
model.save(FOLDER / "continue_text.keras")
loaded = keras.saving.load_model(FOLDER / "continue_text.keras")

begun = ["Humpty Dumpty sat", "Jack", "Row row row your"]
CLS, SEP = VOCABULARY.index("[CLS]"), VOCABULARY.index("[SEP]")
prompts = [[CLS, *row] for row in tokenize(begun).merge_dims(1, 2).to_list()]
written = layers.generate(loaded.get_layer("decoder"), prompts, length=LENGTH - 2, end_id=SEP, pad_id=0)
continued = [" ".join(VOCABULARY[i] for i in row if i > SEP) for row in written]
print("\n".join(continued))
