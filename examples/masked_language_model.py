"""A masked language model: it reads a text of which one word is hidden, and says which word that was."""

from pathlib import Path

import keras
import numpy as np

import layers

keras.utils.set_random_seed(0)
FOLDER = Path("build")
FACTS = ["the cat eats fish", "the dog eats meat", "a bird eats seeds", "a cow drinks water", "the baby drinks milk"]
WORDS = sorted({word for fact in FACTS for word in fact.split()})
VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]

tokenize = layers.BertTokenizer(VOCABULARY, lower_case=True)
special = tokenize.get_special_tokens_dict()
pack = layers.BertPackInputs(7, special_tokens_dict=special)


def hide(texts):
    """Each text once for each of its words, with [MASK] in its place; the places of the masks; and the words."""
    ids = np.array(pack(tokenize(texts))["input_word_ids"])
    rows, places = np.nonzero(ids > special["mask_id"])
    hidden = ids[rows]
    hidden[np.arange(len(rows)), places] = special["mask_id"]
    return {"ids": hidden, "places": places[:, None].astype("int32")}, ids[rows, places][:, None]


ids = keras.Input((7,), dtype="int32", name="ids")
places = keras.Input((None,), dtype="int32", name="places")
embedding = layers.OnDeviceEmbedding(len(VOCABULARY), 32)
x = embedding(ids)
x = keras.layers.LayerNormalization()(x + layers.PositionalEmbedding(7)(x))
allowed = layers.SelfAttentionMask()(x, ids)  # [PAD] is 0
x = layers.TransformerEncoderBlock(num_attention_heads=2, inner_dim=64, inner_activation="gelu")([x, allowed])
logits = layers.MaskedLM(embedding, activation="gelu")(x, places)  # the table of the embedding is that of the output
model = keras.Model({"ids": ids, "places": places}, logits)

loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
model.compile(keras.optimizers.Adam(1e-2), loss, metrics=["accuracy"])
inputs, words = hide(FACTS)
model.fit(inputs, words, epochs=60, batch_size=len(words), verbose=0)
_, accuracy = model.evaluate(inputs, words, verbose=0)
print(f"accuracy: {accuracy:.2f} of {len(words)} hidden words")

FOLDER.mkdir(exist_ok=True)
model.save(FOLDER / "masked_language_model.keras")
loaded = keras.saving.load_model(FOLDER / "masked_language_model.keras")
inputs, words = hide(["A cow drinks water"])
guesses = np.argmax(loaded.predict(inputs, verbose=0)[:, 0], axis=-1)
for row, guess in zip(inputs["ids"], guesses):
    print(" ".join(VOCABULARY[i] for i in row[1:-2]), "→", VOCABULARY[guess])
