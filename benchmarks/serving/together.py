"""Start servers side by side."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import TypeVar

from server_process import ServerProcess
from tqdm import tqdm

T = TypeVar("T")

AT_ONCE = 2  # each keeps a core busy


@contextmanager
def together(servers: Sequence[AbstractContextManager[T]]) -> Iterator[list[T]]:
    """Enter the servers' contexts; what they give, in their order.

    Where one fails, or the program is interrupted, those that are starting are not waited for.
    """
    with ExitStack() as entered:
        with ThreadPoolExecutor(AT_ONCE) as threads:
            entering = [threads.submit(entered.enter_context, server) for server in servers]
            ready = tqdm(as_completed(entering), desc="servers", total=len(servers), disable=None)
            try:
                for each in ready:
                    each.result()
            except BaseException:
                threads.shutdown(wait=False, cancel_futures=True)
                for process in list(ServerProcess.starting):
                    process.kill()
                raise
        yield [each.result() for each in entering]
