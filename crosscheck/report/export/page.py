"""What EXPORT.md says around its tables."""

import inspect

from crosscheck.report.export.onnx_programs import with_erf
from crosscheck.report.export.ragged import archive_of_ragged
from crosscheck.report.training import Recomputed

INTRODUCTION = """# What can be exported

Made by `python -m crosscheck.report.export`, which exports one case of each class in float32, runs the result, and compares
its numbers with those of the layer. ✓ means that they agree to 2·10⁻⁵; elsewhere is what happened instead, or "not tried here".
`python -m crosscheck.report.export --check` measures all of it again and says where this page differs; tests do the same.

- **SavedModel**: `model.export` on TensorFlow, with open batch and lengths, loaded with `tf.saved_model.load`.
- **TFLite**: `tf.lite.TFLiteConverter.from_saved_model` with built-in operations alone, for fixed sizes.
- **TFLite, open lengths**: the same with open batch and lengths.
- **ONNX**: `model.export(path, format="onnx")` on TensorFlow, with open batch and lengths, run by ONNX Runtime.
- **jax.export**: on JAX, with a symbolic batch, serialized and loaded.
- **ONNX from JAX**: `model.export(path, format="onnx", input_signature=…)` on JAX, for fixed sizes, run by ONNX Runtime.
"""

MODELS = """
## Whole models

Exported as above. The SavedModel is run by a new process, which gets the texts as bytes and has TensorFlow, or TensorFlow and
tensorflow-text, but no code of these layers. What it should give is computed otherwise: each layer called by itself, or, for one
token with caches, one causal pass over all tokens.
"""

NOTES = f"""
## Quantized, and with less memory

- `model.quantize` with "int8", "int4" or "float8" quantizes the linear maps of every layer, and a quantized model can be saved
  and loaded, on TensorFlow and on JAX. Tables, norms and the Gaussian process stay in floating point, and Keras warns of each.
  `SpectralNormalization` takes no kernel of int4. A quantized policy as `dtype` is an error. int8 changes the outputs of
  the case that `tests/conformance/test_quantization.py` measures of each class by at most 2 %; other sizes may change more: the
  pooler and head of a real model (`classification_head/minilm`) changed by 4.3 %. int8 has one scale for all numbers of a token,
  and one number of the token that they read is 18 times the root mean square of all, so that the others lose digits; without
  it, the change is less than 1 %.
- What is quantized to int8 cannot be converted for TFLite (ConverterError) if it has linear maps other than those of attention,
  as have `TransformerEncoderBlock`, `GatedFeedforward` and `ClassificationHead`; nor can Keras's own `Dense`. Quantize to int4,
  or have the converter of TFLite quantize.
- A `keras.dtype_policies.DTypePolicyMap` as `dtype` is saved with the model if its default is not None and its values are
  policies, `keras.DTypePolicy("mixed_bfloat16")`: without a default, Keras 3.15 loses the policies of the parts when it saves
  (those of `keras.layers.MultiHeadAttention` too), and it takes no names of policies as values.
- `enable_lora` of any linear map trains the addition alone; `model.save` merges it into the kernel.
- `keras.RematScope("activations")` trains as without, on TensorFlow and on JAX. The modes that recompute whole layers, "full",
  "larger_than" and "list_of_layers", fail within Keras 3.15: on TensorFlow for a `keras.layers.Dense` too, on JAX for layers that
  hand `training` to their sublayers. This layer trains as the one that it wraps on both, with the same dropout. A bare
  `keras.remat` around a call has other dropout masks in its second computation on TensorFlow, so that its gradient is
  wrong, and fails on JAX. On a CPU, XLA undoes the recomputation of JAX's programs, and nothing is saved.

```python
{inspect.getsource(Recomputed).rstrip()}
```

## On several devices

Two steps of `fit` with an encoder's block gave the losses and weights of one device (`tests/conformance/test_devices.py`, on
virtual devices of a processor), and need no change to the layers:

- `keras.distribution.DataParallel` on JAX, with 8 devices.
- `keras.distribution.ModelParallel` on JAX, with 2 × 4 devices and the layout of `layers/layouts.py`, which splits attention by
  head, the feed-forward network by its inner size, and tables by the vocabulary.
- `tf.distribute.MirroredStrategy` with 2 devices. Keras 3.15 gives all replicas one seed, so each drops the same units in its
  part of the batch. [More than one machine](notebooks/scale.ipynb) shows that, and how to give each a seed of its own.

Under `tf.distribute.MultiWorkerMirroredStrategy`, `fit` fails within Keras 3.15, for a `keras.layers.Dense` too. A loop of one's
own works: with `strategy.run`, `tf.nn.compute_average_loss`, `optimizer.build` within the scope and `optimizer.apply` in the
step, two workers came to the losses and weights of one. [More than one machine](notebooks/scale.ipynb) does so, on JAX too.

## Where it fails, and what to do instead

- **Ragged inputs** (`BertPackInputs`): `model.export` describes every input as a dense tensor, in which each entry would be a
  token, and takes no `tf.RaggedTensorSpec`. A `keras.export.ExportArchive` takes a function that describes its inputs itself:

```python
{inspect.getsource(archive_of_ragged).rstrip()}
```

  A model that begins with texts, as the first two of the table above, has no ragged inputs and needs none of this.
- **Strings and ragged rows** exist neither in TFLite's built-in operations nor in JAX, and ONNX has no such tokenizers. Export
  what follows `BertPackInputs`, whose outputs are dense, and tokenize before.
- **ONNX** needs packages that are not among the requirements: `pip install onnx tf2onnx onnxruntime`, and on JAX
  `pip install onnx jax2onnx onnxruntime`.
- **Exact "gelu" to ONNX** from TensorFlow: TensorFlow computes it with `Erfc`, which ONNX does not have. Export, then write it
  as 1 − erf with the function below; or use "gelu_tanh", or export from JAX.

```python
{inspect.getsource(with_erf).rstrip()}
```

- **Gaussian process to ONNX** from TensorFlow: ONNX has no Cholesky factor. Convert from JAX, which computes the factor before,
  or with `return_gp_cov=False` the logits alone.
- **Caches with slots to ONNX** from TensorFlow: Keras writes into a slot with `XlaDynamicUpdateSlice`, which ONNX does not have.
  Convert from JAX, or append to caches that begin with 0 slots, as the case of `CachedAttention` does.
- **ONNX from JAX with an open batch or open lengths**: jax2onnx cannot reshape a symbolic size, and Keras names the lengths of
  each input by themselves, so that equal ones are not equal. Give fixed sizes as `input_signature`, as in the table.
- **TFLite broadcasts `logical_and` over at most four axes**, and ends the process without a word beyond that; so does any model
  of Keras. The layers keep to four. "ends the process" in a table would be such a case.
- **Other formats of Keras**: `format="litert"` converts on TensorFlow, as the columns for TFLite do; `format="openvino"` needs
  the package openvino, and `format="torch"` the PyTorch backend, which these layers do not support. None of them is tried here.
"""
