"""Where the measuring of rows runs: here, in several processes, or on a Ray cluster.

What is measured of a row depends on that row alone, and results come back in the order of rows, so
every engine gives the same result bit for bit.
"""

from __future__ import annotations

import os
import socket
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from typing import Any, NamedTuple

from s1_plugin.data.rows import Rows

#: A batch of rows: a list (or array) per column.
Batch = Mapping[str, Sequence[Any]]
Measure = Callable[[Batch], dict[str, Any]]


class Job(NamedTuple):
    """Some rows of one group: their places in it, and what earlier stages found of them."""

    group: int
    places: list[int]
    found: dict[str, list[Any]]


def run_job(measure: Measure, rows: Rows, reads: Sequence[str], job: Job) -> dict[str, Any]:
    whole = rows.group(job.group, reads)
    return measure(
        {name: [values[at] for at in job.places] for name, values in whole.items()} | job.found
    )


class Local:
    """``workers`` processes of this machine; one is this process."""

    def __init__(self, workers: int = 1) -> None:
        self.workers = workers

    def run(
        self, measure: Measure, rows: Rows, reads: Sequence[str], jobs: Sequence[Job]
    ) -> Iterator[dict[str, Any]]:
        workers = min(self.workers, len(jobs))
        if workers <= 1:
            yield from (run_job(measure, rows, reads, job) for job in jobs)
            return
        # Spawned, not forked: Arrow and the tokenizers have threads.
        pool = ProcessPoolExecutor(
            workers, get_context("spawn"), initializer=_start, initargs=(measure, rows, reads)
        )
        try:
            yield from _in_order(
                (pool.submit(_work, job) for job in jobs), lambda f: f.result(), 4 * workers
            )
        except BrokenProcessPool:
            raise RuntimeError(
                f"one of {workers} processes was killed, likely for want of memory; give fewer "
                "--workers"
            ) from None
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def close(self) -> None:
        pass


class Ray:
    """The Ray cluster of ``RAY_ADDRESS``, or one of this machine's. The cache must lie on a file
    system that every node sees."""

    def __init__(self, workers: int = 1) -> None:
        try:
            import ray
        except ImportError:
            raise RuntimeError(
                "--engine ray needs Ray, which is not installed: pip install ray, or leave "
                "--engine out and give --workers N"
            ) from None
        self._ray = ray
        self._mine = not ray.is_initialized()
        if self._mine:
            try:
                _knock(os.environ.get("RAY_ADDRESS", ""))
                ray.init(log_to_driver=False, include_dashboard=False)
            except (ray.exceptions.RayError, OSError, RuntimeError, ValueError) as error:
                raise _one_line(error) from None
        self.workers = workers

    def run(
        self, measure: Measure, rows: Rows, reads: Sequence[str], jobs: Sequence[Job]
    ) -> Iterator[dict[str, Any]]:
        ray = self._ray
        task = ray.remote(run_job)
        shared = ray.put(measure)
        room = max(self.workers, int(ray.cluster_resources().get("CPU", 1)))
        refs = (task.remote(shared, rows, list(reads), job) for job in jobs)
        yield from _in_order(refs, self._get, 4 * room)

    def _get(self, ref: Any) -> Any:
        try:
            return self._ray.get(ref)
        except self._ray.exceptions.RayTaskError as error:
            raise error.cause from None  # what the stage said, without Ray's account of where
        except self._ray.exceptions.RayError as error:  # a node or worker that is gone
            raise _one_line(error) from None

    def close(self) -> None:
        if self._mine:
            self._ray.shutdown()


def _knock(address: str) -> None:
    """Ray tries for minutes where nobody is.

    Raises:
        OSError: if nothing listens at ``address`` (HOST:PORT, with or without ray://).
    """
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()


def _one_line(error: Exception) -> RuntimeError:
    """What Ray says at length."""
    said = (str(error).strip().splitlines() or [""])[0]
    return RuntimeError(
        f"Ray: {type(error).__name__}: {said[:200]}; look at the cluster that RAY_ADDRESS names "
        "(`ray status`), or leave --engine ray out"
    )


def _in_order(started: Iterator[Any], result: Callable[[Any], Any], room: int) -> Iterator[Any]:
    """Results in the order of starting, with at most ``room`` under way."""
    under_way: deque[Any] = deque()
    for one in started:
        under_way.append(one)
        if len(under_way) >= room:
            yield result(under_way.popleft())
    while under_way:
        yield result(under_way.popleft())


_task: tuple[Measure, Rows, Sequence[str]]


def _start(measure: Measure, rows: Rows, reads: Sequence[str]) -> None:
    global _task
    _task = measure, rows, reads


def _work(job: Job) -> dict[str, Any]:
    return run_job(*_task, job)
