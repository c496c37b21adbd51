"""Run tasks in worker processes, and return the results in the order of the tasks.

TensorFlow keeps every program that XLA has compiled until its process ends. So a worker that has grown beyond `FULL` is
replaced by a fresh one. On Linux that takes no time: a server imports everything once and each worker is a fork of it.
"""

import multiprocessing
import os
import signal
import sys
import time
from importlib import import_module
from multiprocessing.connection import wait

FULL = 700
"""Megabytes that a worker may hold; it is replaced after the task with which it holds more."""

PRELOAD = "crosscheck.report.preload"
"""The module that every worker has imported before its first task."""


class Worker:
    """A process that takes one task after the other, and what is known of it here."""

    def __init__(self, context, job):
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=serve, args=(theirs, job), daemon=True)
        self.process.start()
        theirs.close()
        self.task, self.start, self.usage = None, None, {}

    def give(self, number, task):
        self.task, self.start = (number, task), time.perf_counter()
        try:
            self.connection.send(task)
        except OSError:  # it has died; `take` says how
            pass

    def take(self):
        """(number, result) of its task, or (number, a Death) if the process died of it."""
        number, _ = self.task
        try:
            result, self.usage = self.connection.recv()
        except (EOFError, OSError):
            self.process.join()
            return number, Death(self.process.exitcode)
        self.task = None
        return number, result

    @property
    def is_full(self):
        """Whether it holds more memory than a worker may."""
        return self.usage["now_mb"] > FULL

    def stop(self):
        self.connection.close()
        self.process.terminate()
        self.process.join()


class Death(Exception):
    """A worker's process ended in the middle of a task."""

    def __init__(self, exitcode):
        reason = f"exit status {exitcode}"
        if exitcode is not None and exitcode < 0:
            reason = f"signal {signal.Signals(-exitcode).name}"
            reason += " (out of memory?)" if -exitcode == signal.SIGKILL else ""
        super().__init__(f"the worker process ended with {reason}")


class LastingWorker:
    """A worker for one task at a time, which is replaced once it is full or has died."""

    def __init__(self, job):
        self.job, self.worker = job, None

    def __call__(self, task):
        """What the job returns for `task`.

        Raises:
            Death: if the worker's process died of it.
        """
        if self.worker is None:
            self.worker = Worker(context_of_workers(), self.job)
        self.worker.give(0, task)
        _, result = self.worker.take()
        if isinstance(result, Death) or self.worker.is_full:
            self.stop()
        if isinstance(result, Death):
            raise result
        return result

    def stop(self):
        if self.worker is not None:
            self.worker.stop()
            self.worker = None


def run(tasks, job, jobs, watch=lambda running: None, usages=None, is_large=lambda task: False):
    """Yield (task, result) in the order of `tasks`, as soon as each and all before it are there.

    Args:
        tasks: A list of anything that can be pickled.
        job: "module:function", which a worker calls with each task. Its result is pickled too.
        jobs: How many processes; 0 runs everything in this process, where a debugger sees it.
        watch: Called several times a second with the list of (task, seconds) that are being worked on.
        is_large: Tells a task that needs so much memory that it must begin in a fresh process.
        usages: A list to which {"pid", "tasks", "peak_mb", "cpu_seconds"} of every worker is appended as it ends.

    Yields:
        The result of `job` for each task, or a `Death` if the worker's process died.
    """
    if jobs == 0:
        function = find(job)
        for task in tasks:
            watch([(task, 0.0)])
            yield task, function(task)
        return
    waiting, done, following = list(enumerate(tasks))[::-1], {}, 0
    workers, usages = [], [] if usages is None else usages
    try:
        context = context_of_workers()
        while following < len(tasks):
            while waiting and len(workers) < jobs:
                workers.append(Worker(context, job))
                workers[-1].give(*waiting.pop())
            watch([(worker.task[1], time.perf_counter() - worker.start) for worker in workers])
            for connection in wait([worker.connection for worker in workers], timeout=0.2):
                worker = next(worker for worker in workers if worker.connection is connection)
                number, result = worker.take()
                done[number] = result
                if waiting and not isinstance(result, Death) and not worker.is_full and not is_large(waiting[-1][1]):
                    worker.give(*waiting.pop())
                else:
                    retire(worker, workers, usages)
            while following in done:
                yield tasks[following], done.pop(following)
                following += 1
    finally:
        for worker in list(workers):
            retire(worker, workers, usages)


def retire(worker, workers, usages):
    workers.remove(worker)
    worker.stop()
    if worker.usage:
        usages.append({key: value for key, value in worker.usage.items() if key != "now_mb"})


def context_of_workers():
    """The multiprocessing context of the workers. The first call starts their server, with the environment of that moment."""
    context = multiprocessing.get_context("forkserver" if sys.platform == "linux" else "spawn")
    kept = dict(os.environ)
    # Each worker has a core to itself.
    os.environ |= {"TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1", "OMP_NUM_THREADS": "1"}
    try:
        if sys.platform == "linux":
            from multiprocessing.forkserver import ensure_running

            context.set_forkserver_preload([PRELOAD])
            ensure_running()
    finally:
        os.environ.clear()
        os.environ |= kept
    return context


def serve(connection, job):
    """Run in a worker: send (result, usage) for each task until the parent closes the connection."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends the workers
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # libraries that log would write between the lines of the table
    import_module(PRELOAD)
    function, count = find(job), 0
    while True:
        try:
            task = connection.recv()
        except (EOFError, OSError):
            return
        result = function(task)
        count += 1
        connection.send((result, {"pid": os.getpid(), "tasks": count, **usage()}))


def find(job):
    """The function that "module:function" names."""
    module, name = job.split(":")
    return getattr(import_module(module), name)


def usage():
    """Megabytes that this process holds now and held at most, and the seconds that it computed."""
    seconds = round(time.process_time(), 2)
    try:
        with open("/proc/self/status") as status:
            sizes = dict(line.split(":", 1) for line in status)
        now, peak = (int(sizes[name].split()[0]) // 1024 for name in ("VmRSS", "VmHWM"))
    except OSError:
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // (2**20 if sys.platform == "darwin" else 2**10)
        now = peak
    return {"now_mb": now, "peak_mb": peak, "cpu_seconds": seconds}
