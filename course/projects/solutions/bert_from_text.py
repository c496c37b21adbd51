"""A solution of the project on BERT: each cell replaces the stub of one milestone."""

import keras
import numpy as np
from milestones import bert_from_text as task

import layers
from layers.bert_tokenizer.training import train_wordpiece_vocabulary

rng = np.random.default_rng(0)
world = task.World(rng)
texts = world.reviews(rng, 2000)


# %%
def pieces(texts):
    return train_wordpiece_vocabulary(texts, task.MOST_PIECES, lower_case=True)


# %%
def packed(vocabulary, texts):
    tokenize = layers.BertTokenizer(vocabulary, lower_case=True)
    pack = layers.BertPackInputs(task.LENGTH, special_tokens_dict=tokenize.get_special_tokens_dict())
    return {name: np.array(x) for name, x in pack(tokenize(texts)).items()}


# %%
def hide(ids, vocabulary):
    special = [vocabulary.index(piece) for piece in task.SPECIAL]
    generate = layers.MaskedLMMaskGenerator(len(vocabulary), special[-1], 3, unselectable_token_ids=special[:-1])
    return {name: np.array(x) for name, x in generate(ids).items()}


# %%
def pretrain(texts, vocabulary, steps=1500):
    rows = packed(vocabulary, texts)
    inputs = {name: keras.Input((task.LENGTH,), dtype="int32", name=name) for name in rows}
    encoder = layers.BertEncoder(
        len(vocabulary),
        hidden_size=32,
        num_layers=1,
        num_attention_heads=4,
        inner_dim=64,
        max_sequence_length=task.LENGTH,
        initializer=keras.initializers.TruncatedNormal(stddev=0.2),  # that of a large BERT, 0.02, learns slowly here
        use_pooler=False,
        name="encoder",
    )
    inputs["masked_positions"] = keras.Input((None,), dtype="int32", name="masked_positions")
    x = encoder({name: inputs[name] for name in rows})["sequence_output"]
    model = keras.Model(inputs, layers.MaskedLM(encoder.word_embeddings, "gelu")(x, inputs["masked_positions"]))

    drawn = rng.integers(0, len(texts), 32 * steps)
    hidden = hide(rows["input_word_ids"][drawn], vocabulary)
    read = {name: x[drawn] for name, x in rows.items()}
    read |= {"input_word_ids": hidden["token_ids"], "masked_positions": hidden["mask_positions"]}
    rate = keras.optimizers.schedules.CosineDecay(5e-3, steps)
    model.compile(keras.optimizers.Adam(rate), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(read, hidden["mask_ids"], sample_weight=hidden["mask_weights"], verbose=0)
    return model


# %%
def classify(model, texts, labels):
    kept, gap = vocabulary.index("kept"), vocabulary.index("[MASK]")

    def vectors(texts):
        """What the encoder puts into the gap behind each text: "We [MASK] it."."""
        inputs = packed(vocabulary, [f"{text} We kept it." for text in texts])
        hidden = inputs["input_word_ids"] == kept
        inputs["input_word_ids"] = np.where(hidden, gap, inputs["input_word_ids"])
        return np.asarray(model.get_layer("encoder")(inputs)["sequence_output"])[hidden]

    head = keras.Sequential([keras.layers.BatchNormalization(), keras.layers.Dense(2)])
    head.compile(keras.optimizers.Adam(1e-2), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    head.fit(vectors(texts), labels, epochs=20, verbose=0)
    return lambda texts: np.argmax(head(vectors(texts)), axis=-1)
