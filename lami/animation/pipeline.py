"""Reading ahead and writing behind, so that files are decoded and encoded while the model works."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager, suppress
from functools import partial
from queue import Empty, Full, Queue
from threading import Event, Thread
from typing import Generic, ParamSpec, TypeVar

Arguments = ParamSpec("Arguments")
Item = TypeVar("Item")

_PATIENCE = 0.1
"""Seconds between looks at whether the other side has given up."""


class _End:
    """After the last item; `error` is what ended it early."""

    def __init__(self, error: BaseException | None = None) -> None:
        self.error = error


class _Pipe(Generic[Item]):
    """A queue of at most `depth` items between two threads, each of which may leave early."""

    def __init__(self, depth: int) -> None:
        self._queue: Queue[Item | _End] = Queue(depth)
        self.abandoned = Event()
        """The reader takes no more."""

    def put(self, item: Item | _End) -> bool:
        """Whether there is still somebody to take it."""
        while not self.abandoned.is_set():
            try:
                self._queue.put(item, timeout=_PATIENCE)
                return True
            except Full:
                continue
        return False

    def replace(self, item: Item) -> bool:
        """As `put`, in the place of an item that was not taken yet."""
        with suppress(Empty):
            self._queue.get_nowait()
        return self.put(item)

    def __iter__(self) -> Iterator[Item]:
        while not self.abandoned.is_set():
            try:
                item = self._queue.get(timeout=_PATIENCE)
            except Empty:
                continue
            if isinstance(item, _End):
                if item.error is not None:
                    raise item.error
                return
            yield item


def read_ahead(items: Generator[Item, None, None], depth: int, newest: bool = False) -> Generator[Item, None, None]:
    """The same items, made by a thread that is up to `depth` of them ahead; its errors are raised here in their turn.

    newest: items come by themselves, and those that are not taken before the next is there are left out; for depth 1.

    The thread ends with the generator, and closes the given one: when the last item is taken, or when it is closed.
    """
    pipe: _Pipe[Item] = _Pipe(depth)
    put = pipe.replace if newest else pipe.put

    def work() -> None:
        end = _End()
        try:
            with closing(items):
                for item in items:
                    if not put(item):
                        return
        except BaseException as error:
            end = _End(error)
        pipe.put(end)

    thread = Thread(target=work, name="read ahead", daemon=True)
    thread.start()
    try:
        yield from pipe
    finally:
        pipe.abandoned.set()
        thread.join()


@contextmanager
def write_behind(write: Callable[Arguments, object], depth: int) -> Iterator[Callable[Arguments, None]]:
    """A function like `write` that leaves the work to a thread, which is up to `depth` calls behind.

    At the end of the `with` all calls are done. The first error of `write` is raised by the next call, or at the
    end; after an error inside the `with`, calls not begun are left out. Either way the thread is gone then.
    """
    pipe: _Pipe[Callable[[], object]] = _Pipe(depth)
    errors: list[BaseException] = []

    def work() -> None:
        try:
            for call in pipe:
                call()
        except BaseException as error:
            errors.append(error)
            pipe.abandoned.set()

    def hand_over(*arguments: Arguments.args, **keywords: Arguments.kwargs) -> None:
        if not pipe.put(partial(write, *arguments, **keywords)):
            raise errors[0]

    thread = Thread(target=work, name="write behind", daemon=True)
    thread.start()
    try:
        yield hand_over
        pipe.put(_End())
        thread.join()
        if errors:
            raise errors[0]
    finally:
        pipe.abandoned.set()
        thread.join()
