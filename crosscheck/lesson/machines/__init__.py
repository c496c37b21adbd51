"""The same training on one device, on several devices of a machine, and on several machines; the guide `notebooks/scale` runs it.

task            the model, its data, and what a run reports
on_tensorflow   a program: tf.distribute.MirroredStrategy, or MultiWorkerMirroredStrategy
on_jax          a program: arrays that lie on the devices of all processes
arguments       the options of both programs
launch          starts such programs on this machine, within a bound of time, and ends them
"""
