"""The same bits on an idle and on a busy machine, with two cores and with sixteen.

Threads that share one operation cut its sums into parts, and the cut decides the last bits: with two threads, OpenBLAS
gives another Cholesky factor and other eigenvectors than with one. So every operation has one thread, and only whole
rows run side by side.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

from siglip_edge.runtime.machine.cpu import read_cpu_budget

Item = TypeVar("Item")
Result = TypeVar("Result")


@contextmanager
def one_thread_per_operation() -> Iterator[None]:
    """Hold numpy's BLAS and torch to one thread while the block runs."""
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1, user_api="blas"), _one_thread_of_torch():
        yield


@contextmanager
def _one_thread_of_torch() -> Iterator[None]:
    """Exports from ONNX graphs run without torch."""
    try:
        import torch
    except ImportError:
        yield
        return
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def side_by_side(work: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """`work` on every item, as many at a time as there are cores; results in the order of the items."""
    cores = read_cpu_budget().cores
    started: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(cores) as pool:
        for item in items:
            started.append(pool.submit(work, item))
            if len(started) > cores:
                yield started.popleft().result()
        while started:
            yield started.popleft().result()
