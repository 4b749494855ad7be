"""An engine within this process, in a thread of its own, so that tests may give it other parts and block as clients do."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pullthrough.engine.pull.blobs.blobs import Patience
from pullthrough.server import running
from pullthrough.settings import load_settings

#: A thread that does not answer within this time is stuck; tests then fail rather than hang.
_STUCK_SECONDS = 60


@dataclass(frozen=True)
class Inside:
    url: str


@contextmanager
def serving(folder: Path, config: str, patience: Patience) -> Iterator[Inside]:
    file = folder / "pullthrough.toml"
    file.write_text(config)
    flags = {"serve.listen": "127.0.0.1:0", "serve.data": str(folder / "data")}
    settings = load_settings(file, {}, flags, folder=folder).settings
    found: list[Inside | BaseException] = []
    begun = threading.Event()
    stop: list[asyncio.Event] = []
    loop = asyncio.new_event_loop()

    async def serve() -> None:
        stop.append(asyncio.Event())
        async with running(settings, patience=patience) as engine:
            found.append(Inside(engine.url))
            begun.set()
            await stop[0].wait()

    def work() -> None:
        with asyncio.Runner(loop_factory=lambda: loop) as runner:
            try:
                runner.run(serve())
            except BaseException as error:  # raised again where pytest sees it
                found.append(error)
            finally:
                begun.set()

    thread = threading.Thread(target=work, name="engine", daemon=True)
    thread.start()
    assert begun.wait(_STUCK_SECONDS), "the engine does not start"
    try:
        if isinstance(found[0], BaseException):
            raise found[0]
        yield found[0]
    finally:
        if thread.is_alive():
            loop.call_soon_threadsafe(stop[0].set)
        thread.join(_STUCK_SECONDS)
        assert not thread.is_alive(), "the engine does not end"
    if isinstance(found[-1], BaseException):
        raise found[-1]
