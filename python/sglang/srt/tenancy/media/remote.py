"""Fetch what a request names by address: all of it in one time, or nothing."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Mapping

from sglang.srt.tenancy.errors import RequestError, bad_field
from sglang.srt.tenancy.media.fetch import Fetched, Fetcher
from sglang.srt.tenancy.media.references import Key, RequestMedia
from sglang.srt.tenancy.media.slots import FetchSlots

# Seconds. What fails is answered at a whole number of these, so that the time in which a name or an
# address is refused does not tell it from one that does not exist, or does not answer.
FAILURE_STEP = 1.0


class RemoteMedia:
    """Fetches media for the requests of one HTTP process.

    ``where``: they may be, in words. ``seconds``: for all media of a request, time in the queue
    included.
    """

    def __init__(
        self,
        fetcher: Fetcher,
        where: str,
        seconds: float,
        most_bytes: int,
        logger: logging.Logger,
        failure_step: float = FAILURE_STEP,
    ):
        self._fetcher = fetcher
        self._where = where
        self._seconds = seconds
        self._most_bytes = most_bytes
        self._logger = logger
        self._failure_step = failure_step
        self._slots = FetchSlots()
        # Cancelled ones end when the thread that looks their name up does.
        self._fetching: set[asyncio.Task[Fetched]] = set()

    async def bring(self, media: RequestMedia, user: str) -> None:
        """Fetch all that the request names, and put it into the request.

        Raises RequestError 400 where one is not to be had, which does not say why: else a client
        would learn what there is in the server's network. Cancelling it ends the fetches.
        """
        if not media.remote:
            return
        began = time.monotonic()
        tasks = {key: self._start(media, key, user) for key in media.remote}
        try:
            await asyncio.wait(
                tasks.values(), timeout=self._seconds, return_when=asyncio.FIRST_EXCEPTION
            )
            failed = _first_failed(tasks)
        finally:
            for task in tasks.values():
                task.cancel()
        if failed is None:
            fetched = {key: task.result() for key, task in tasks.items()}
            await asyncio.to_thread(media.bring, fetched)
            return
        self._log(tasks[failed])
        spent = time.monotonic() - began
        steps = max(1, math.ceil(spent / self._failure_step))
        await asyncio.sleep(steps * self._failure_step - spent)
        raise self._refusal(failed[0])

    def _start(self, media: RequestMedia, key: Key, user: str) -> asyncio.Task[Fetched]:
        task = asyncio.get_running_loop().create_task(self._fetch(media, key, user))
        self._fetching.add(task)
        task.add_done_callback(self._end)
        return task

    def _end(self, task: asyncio.Task[Fetched]) -> None:
        self._fetching.discard(task)
        if not task.cancelled():
            task.exception()  # of a second one that fails nobody asks

    async def _fetch(self, media: RequestMedia, key: Key, user: str) -> Fetched:
        async with self._slots.one_of(user):
            return await self._fetcher.fetch(media.remote[key], media.room)

    def _log(self, task: asyncio.Task[Fetched]) -> None:
        """Tell the operator why, but not what was asked for."""
        error = task.exception() if task.done() and not task.cancelled() else None
        why = "it took too long" if error is None else type(error).__name__
        self._logger.info("A medium was not fetched: %s", why)

    def _refusal(self, field: str) -> RequestError:
        return bad_field(
            field,
            f"what it names could not be fetched: it must be at {self._where}, and come with 200, "
            f"within {self._seconds:g} s and in {self._most_bytes} bytes together; or send the "
            "medium itself, as a data: URI",
        )


def _first_failed(tasks: Mapping[Key, asyncio.Task[Fetched]]) -> Key | None:
    """Return which fetch failed or, if none did, which has not come in time."""
    for key, task in tasks.items():
        if task.done() and (task.cancelled() or task.exception() is not None):
            return key
    return next((key for key, task in tasks.items() if not task.done()), None)
