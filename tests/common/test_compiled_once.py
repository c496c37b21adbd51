"""A position that is a tensor costs no compilation: XLA's executables are counted, not traces.

XLA on TensorFlow takes some arguments of a program as constants, and then compiles the one trace anew for each value. It writes a
file for each executable if it is asked to, before the process uses it.
"""

import os
import subprocess
import sys

import pytest

TENSORFLOW = """
import glob, os, re, sys
folder = sys.argv[1]
os.environ["XLA_FLAGS"] = f"--xla_dump_to={folder} --xla_dump_hlo_as_text"
import numpy as np, keras, tensorflow as tf
import layers

def count():
    return len({re.match(r"module_(\\d+)", name).group(1) for name in os.listdir(folder) if name.startswith("module_")})

def report(name, step, gradient=False):
    @tf.function(jit_compile=True)
    def compiled(t, state):
        with tf.GradientTape() as tape:
            tape.watch(state)
            output, new = step(t, state)
        return output, tape.gradient([output, new], state) if gradient else new

    before, new = count(), states[name]
    for t in range(3):
        _, after = compiled(tf.constant(t), new)
        new = new if gradient else after
    print(name, "with gradient" if gradient else "", count() - before)

x, states = tf.random.normal((2, 1, 12)), {}
xx, ids = tf.random.normal((2, 2, 12)), tf.constant([[3], [1]])
attention = layers.CachedAttention(3, 4)
block = layers.TransformerDecoderBlock(3, 16, "relu")
decoder = layers.TransformerDecoder(20, 12, 2, 3, 16, max_length=8)
attention.build(x.shape, x.shape)
block.build([x.shape, xx.shape])
decoder.build((None, None))
states["attention"] = states["two tokens"] = attention.init_cache(2, 8)
states["block"], states["decoder"] = block.init_cache(2, 8), decoder.init_cache(2, 8)
for gradient in (False, True):
    report("attention", lambda t, cache: attention(x, x, cache=cache, decode_loop_step=t), gradient)
    report("two tokens", lambda t, cache: attention(xx, xx, cache=cache, decode_loop_step=t), gradient)
report("block", lambda t, cache: block([x, xx], cache=cache, decode_loop_step=t))
report("decoder", lambda t, cache: decoder(ids, cache=cache, decode_loop_step=t))

learned, waves, bias = layers.PositionalEmbedding(9), layers.RelativePositionEmbedding(12), layers.RelativePositionBias(3)
states["learned"] = states["waves"] = states["bias"] = tf.zeros(())
report("learned", lambda t, state: (learned(xx, offset=t), state))
report("waves", lambda t, state: (waves(xx, offset=t), state))
report("bias", lambda t, state: (bias(x, xx, offset=t), state))

for transform in ("elu", "exp"):
    kernel = layers.KernelAttention(num_heads=3, key_dim=4, feature_transform=transform)
    states[transform] = kernel.init_cache(2)
    report(transform, lambda t, cache: kernel(x, x, cache=cache))
xl = layers.TransformerXL(20, 2, 12, 3, 4, 16, 0.0, 0.0, "glorot_uniform", memory_length=2)
states["xl"] = [xx, xx]
report("xl", lambda t, state: xl(x, xx[:, :1] + tf.zeros((2, 4, 12)), state=state))

before = count()
for seed in range(3):
    layers.generate(decoder, [[3, 1, 4], [2]], 4, temperature=1.0 + seed, top_k=3, seed=seed)
print("generate", count() - before)
"""

JAX = """
import sys
import jax, numpy as np
compiled = []
jax.monitoring.register_event_duration_secs_listener(lambda event, *_, **__: compiled.append("backend_compile" in event))
import layers

def report(name, step):
    before = 0
    for t in range(4):
        step(t)
        before = before if t else sum(compiled)
    print(name, sum(compiled) - before)

x = np.ones((2, 1, 12), "float32")
attention = layers.CachedAttention(3, 4)
attention(x, x)
decoder = layers.TransformerDecoder(20, 12, 2, 3, 16, max_length=8)
decoder.build((None, None))
cache, ids = attention.init_cache(2, 8), np.array([[3], [1]])
caches = decoder.init_cache(2, 8)
program = jax.jit(lambda t: attention(x, x, cache=cache, decode_loop_step=t))
report("attention", program)
report("attention, eager", lambda t: attention(x, x, cache=cache, decode_loop_step=t))
report("decoder, eager", lambda t: decoder(ids, cache=caches, decode_loop_step=t))
for name, layer in (("learned", layers.PositionalEmbedding(9)), ("waves", layers.RelativePositionEmbedding(12))):
    report(name, jax.jit(lambda t: layer(x, offset=t)))
report("bias", jax.jit(lambda t, bias=layers.RelativePositionBias(3): bias(x, x, offset=t)))
report("generate", lambda t: layers.generate(decoder, [[3, 1, 4], [2]], 4, temperature=1.0 + t, top_k=3, seed=t))
"""


def counted(program, backend, *arguments):
    """{name: executables}, as `program` prints them."""
    environment = os.environ | {"KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [sys.executable, "-c", program, *arguments]
    ran = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr[-2000:]
    return {line.rsplit(maxsplit=1)[0]: int(line.rsplit(maxsplit=1)[1]) for line in ran.stdout.splitlines()}


@pytest.mark.slow
@pytest.mark.further
def test_on_tensorflow_every_step_runs_the_first_ones_executable(tmp_path):
    executables = counted(TENSORFLOW, "tensorflow", str(tmp_path))
    assert len(executables) == 13
    assert executables == dict.fromkeys(executables, 1)


@pytest.mark.slow
@pytest.mark.further
def test_on_jax_nothing_is_compiled_after_the_first_step():
    executables = counted(JAX, "jax")
    assert len(executables) == 7
    assert executables == dict.fromkeys(executables, 0)
