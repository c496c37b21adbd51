"""What EXPORT.md says around its table."""

import inspect

from crosscheck.report.training import Recomputed

INTRODUCTION = """# What can be exported

Made by `python -m crosscheck.report.export`, which exports one case of each class in float32, runs the result, and compares
its numbers with those of the layer. ✓ means that they agree to 2·10⁻⁵; elsewhere is what happened instead.

- **SavedModel**: `model.export` on TensorFlow, with open batch and lengths, loaded with `tf.saved_model.load`.
- **TFLite**: `tf.lite.TFLiteConverter.from_saved_model` with built-in operations alone, for fixed sizes.
- **TFLite, open lengths**: the same with open batch and lengths.
- **jax.export**: on JAX, with a symbolic batch, serialized and loaded.
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

## ONNX

`model.export(path, format="onnx")` on TensorFlow needs the packages `onnx` and `tf2onnx`, which are not among the requirements.
With tf2onnx 1.17 and open lengths, ONNX Runtime 1.32 gave the numbers of a case of each class but those of text, with two
exceptions for which it has no operation: the exact "gelu" (`Erfc`; "gelu_tanh" works) and the Gaussian process (`Cholesky`).
"""
