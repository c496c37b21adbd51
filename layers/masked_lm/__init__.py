"""The head of a masked language model (Keras 3)."""

import keras
from keras import ops

from layers.common.activations import get_activation
from layers.common.blocks import BlockLayer
from layers.common.checks import check_rank, check_same, interpreted
from layers.common.ids import check_integers, within
from layers.common.normalization import in_float32_at_least
from layers.common.projection import matrix_product
from layers.common.sizes import known

RENAMED = {"kernel_initializer": "initializer"}
OUTPUTS = ("logits", "predictions")


@keras.saving.register_keras_serializable(package="layers")
class MaskedLM(BlockLayer):
    """Predicts the token at each requested position: one logit for every token of the vocabulary.

    Computes equations (1) and (2) of `reference/masked_lm.py`, and (3) with `output="predictions"`.

    The requested vectors go through a linear map, an activation and a norm; the result is multiplied by the transposed embedding
    table, and a learned bias for each token is added.

    Axes: `b` batch, `s` position in the sequence, `t` requested position, `m` model size, `n` vocabulary.

    Args:
        embedding_table: The embedding table of the tokens, shared with this layer: a layer with a weight `embeddings` of shape
            `(n, m)`, such as `keras.layers.Embedding`, or that weight itself. Pass the layer if the model is to be saved (see
            below). The last axis of the sequences may have a different size.
        activation: Activation after the linear map, by name or as a callable. Defaults to None, no activation. BERT uses
            "gelu", which here is the exact function.
        initializer: Initializer of the linear map's kernel.
        output: "logits", or "predictions" for log-probabilities. The attribute is called `output_type`.
        bias_initializer, kernel_regularizer, bias_regularizer, activity_regularizer, kernel_constraint, bias_constraint: As in
            `ProjectingLayer`, for the linear map.

    Call arguments:
        sequence_data: The encoder's output, `(b, s, m)`.
        masked_positions: Integers of shape `(b, t)`, counted from 0. A position below 0, or at or above `s`, is outside the
            sequence: its logits are 0, its log-probabilities are −log n, and it contributes no gradient. Pad short rows with
            −1. If they are padded with 0, which is the position of the first token, leave the padding out of the loss.

    Returns:
        Tensor of shape `(b, t, n)` in the compute dtype.

    Raises:
        ValueError: if `embedding_table` is neither a layer with a weight `embeddings` nor a weight; if the activation or output
            is unknown; if the inputs have the wrong rank or different batch sizes; if the positions are not integers; or if the
            sequences are empty, or their last axis is unknown or differs from the size that the layer was built for.

    Example:

    >>> embedding = keras.layers.Embedding(100, 8)
    >>> encoded = embedding(keras.ops.array([[5, 6, 7]]))
    >>> MaskedLM(embedding, activation="gelu")(encoded, keras.ops.array([[1]])).shape
    TensorShape([1, 1, 100])

    Saving: if the table was passed as a layer, `model.save` and `load_model` keep it shared. If it was passed as a weight,
        `get_config` raises an error, because a configuration cannot say which layer owns the weight; a subclassed model, which
        creates its layers itself, can pass either. `keras.models.clone_model` and `from_config(get_config())` copy each layer
        separately, so the copy has its own table.

    Differs from the Model Garden:
        A position outside the sequence has logits of 0; there, it reads from another example. The layer can be saved and loaded;
        there, `get_config` raises. The table may be passed as a layer. "gelu" is exact. The norm is computed in at least float32.
        `build` takes the shapes of both inputs. The arguments of `ProjectingLayer` are new.

    Reference:
        [Devlin et al., 2018](https://arxiv.org/abs/1810.04805), section 3.1.
    """

    renamed_arguments = RENAMED

    integer_arguments = ("masked_positions",)

    def __init__(self, embedding_table, activation=None, initializer="glorot_uniform", output="logits", **kwargs):
        [initializer] = interpreted(keras.initializers.get, initializer=initializer)
        super().__init__(kernel_initializer=initializer, **kwargs)
        if not isinstance(embedding_table, (keras.Layer, keras.Variable)):
            raise ValueError(
                "embedding_table must be a layer with a weight `embeddings`, or that weight itself. "
                f"Received: embedding_table of type {type(embedding_table).__name__}"
            )
        if output not in OUTPUTS:
            raise ValueError(f"output must be one of {OUTPUTS}. Received: output={output!r}")
        if isinstance(embedding_table, keras.Layer) and not embedding_table.built:
            embedding_table.build((None, None))  # here, so that the weight's path starts with its own layer's name
        self.embedding_table = embedding_table
        check_rank(2, embedding_table=self.table.shape)
        self.check_table()
        self.activation = get_activation("activation", activation)
        self.initializer = self.kernel_initializer
        self.output_type = output  # Keras calls a layer's symbolic output `output`
        self.supports_masking = True  # masked_positions alone says what is padding

    def build(self, sequence_data_shape, masked_positions_shape):
        self.check_shapes(sequence_data_shape, masked_positions_shape)
        self.sequence_size = sequence_data_shape[-1]
        n, m = self.table.shape
        self.dense = self.make_dense("dense", self.sequence_size, m)
        self.layer_norm = self.make_norm("layer_norm", m)
        self.bias = self.add_weight(name="bias", shape=(n,), initializer="zeros")

    def call(self, sequence_data, masked_positions):
        check_integers(masked_positions=masked_positions)
        self.check_shapes(sequence_data.shape, masked_positions.shape, self.sequence_size)
        positions, inside = within(masked_positions, ops.shape(sequence_data)[1])
        h = self.layer_norm(self.activation(self.dense(gather(sequence_data, positions))))
        logits = matrix_product(h, ops.transpose(ops.cast(self.float_table(), self.compute_dtype)), self.bias)
        logits = ops.where(ops.expand_dims(inside, -1), logits, ops.zeros((), logits.dtype))
        if self.output_type == "logits":
            return logits
        return ops.cast(ops.log_softmax(in_float32_at_least(logits)), self.compute_dtype)

    @property
    def table(self):
        """The shared table, `(n, m)`."""
        if not isinstance(self.embedding_table, keras.Layer):
            return self.embedding_table
        if not hasattr(self.embedding_table, "embeddings"):
            raise ValueError(
                "embedding_table must be a layer with a weight `embeddings`, or that weight itself. "
                f"Received: embedding_table of type {type(self.embedding_table).__name__}, without that weight"
            )
        return self.embedding_table.embeddings

    @property
    def is_quantized(self):
        return isinstance(self.embedding_table, keras.Layer) and self.embedding_table.quantization_mode is not None

    def float_table(self):
        """The shared table in floating point: of a quantized layer, whose weight means nothing without its scale, every row."""
        self.check_table()
        return self.embedding_table.quantized_call(ops.arange(0, self.table.shape[0])) if self.is_quantized else self.table

    def check_table(self):
        dtype = keras.backend.standardize_dtype(self.table.dtype)
        if not self.is_quantized and not keras.backend.is_float_dtype(dtype):
            raise ValueError(
                "embedding_table must hold floating-point numbers; if they are quantized, pass the layer that has the table. "
                f"Received: embedding_table with a table of dtype {dtype}"
            )

    def check_shapes(self, sequence_data, masked_positions, size=None):
        check_rank(3, sequence_data=sequence_data)
        check_rank(2, masked_positions=masked_positions)
        check_same("batch size", sequence_data=sequence_data[0], masked_positions=masked_positions[0])
        if known(sequence_data[1]) == 0 or known(sequence_data[-1]) is None or sequence_data[-1] != (size or sequence_data[-1]):
            last = f"of size {size}" if size else "of known size"
            raise ValueError(
                f"sequence_data must have at least one position and a last axis {last}. "
                f"Received: sequence_data of shape {tuple(sequence_data)}"
            )

    def compute_mask(self, *args, **kwargs):
        return None

    def get_config(self):
        if not isinstance(self.embedding_table, keras.Layer):
            raise ValueError(
                "embedding_table must be a layer to have a configuration, which cannot say which layer owns a weight. "
                f"Received: embedding_table={self.embedding_table.path!r}, a weight"
            )
        config = super().get_config() | {
            "embedding_table": keras.saving.serialize_keras_object(self.embedding_table),
            "activation": keras.activations.serialize(self.activation),
            "output": self.output_type,
        }
        return {RENAMED.get(name, name): value for name, value in config.items()}

    @classmethod
    def from_config(cls, config):
        table = config["embedding_table"]
        if isinstance(table, dict):
            config = config | {"embedding_table": keras.saving.deserialize_keras_object(table)}
        return super().from_config(config)


def gather(sequences, positions):
    """The vectors of `sequences` `(b, s, m)` at `positions` `(b, t)`, all inside the sequence: `(b, t, m)`.

    One look-up in the rows of all sequences, because Keras's batched gather needs an index for each number.
    """
    b, s, m = ops.shape(sequences)
    first = ops.arange(0, b, dtype=positions.dtype) * ops.cast(s, positions.dtype)
    return ops.take(ops.reshape(sequences, (-1, m)), first[:, None] + positions, axis=0)
