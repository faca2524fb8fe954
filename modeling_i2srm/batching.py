"""Batches of about one length: posts are read in windows of several batches, and sorted by length within each."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import NoReturn, TypeVar, cast

WINDOW = 32  # batches of posts without pictures that are read together
THREADS = 4  # that read the pictures of a window
PICTURES = ("image", "objects")  # keys of a post

Item = TypeVar("Item")
Result = TypeVar("Result")


def cut_by_length(lengths: Sequence[int], cells: int, rows: int) -> list[list[int]]:
    """Cut rows into batches of about one length.

    Args:
        lengths: of each row.
        cells: most of a padded batch, its rows times the length of the longest; a longer row makes a batch by itself.
        rows: most rows of a batch.

    Returns:
        The places of the rows of each batch, the longest first; rows of one length stay in order.

    >>> cut_by_length([3, 9, 4, 3], cells=9, rows=32)
    [[1], [2, 0], [3]]
    """
    batches: list[list[int]] = []
    longest = 0
    for place in sorted(range(len(lengths)), key=lambda place: -lengths[place]):
        if not batches or len(batches[-1]) == rows or (len(batches[-1]) + 1) * longest > cells:
            batches.append([])
            longest = lengths[place]
        batches[-1].append(place)
    return batches


def has_pictures(post: object) -> bool:
    """Return whether a post (a text, a mapping or a `Post`, whose pictures may be tensors) has a picture or crops."""
    if getattr(post, "pictures", None):
        return True
    image, crops = (post.get(name) if isinstance(post, Mapping) else getattr(post, name, None) for name in PICTURES)
    return image is not None or not (crops is None or (isinstance(crops, Sequence) and not crops))


def cut_windows(items: Iterable[tuple[bool, Item]], batch_size: int, grow: bool) -> Iterator[list[Item]]:
    """Cut items into windows of `WINDOW` batches, or fewer where one batch of them has pictures, which take memory.

    Args:
        items: (whether it has pictures, the item).
        grow: the first window is one batch and each is twice as long as the one before, until they are full.

    >>> [len(window) for window in cut_windows([(False, None)] * 200, batch_size=4, grow=True)]
    [4, 8, 16, 32, 64, 76]
    >>> [len(window) for window in cut_windows([(True, None), (False, None)] * 10, batch_size=4, grow=False)]
    [7, 8, 5]
    """
    full = WINDOW * batch_size if batch_size > 1 else 1
    most = batch_size if grow else full
    window: list[Item] = []
    pictured = 0
    for has_any, item in items:
        window.append(item)
        pictured += has_any
        if len(window) == most or pictured == batch_size:
            yield window
            window, pictured, most = [], 0, min(2 * most, full)
    if window:
        yield window


def read_windows(
    posts: Iterable[Item], read: Callable[[Item], Result], batch_size: int, ahead: bool
) -> Iterator[list[Result]]:
    """Read posts and yield them in windows, in order.

    Posts with pictures are read by threads. An error, of a post or of the iterator, is raised when all posts before it
    have been yielded.

    Args:
        read: makes one post ready.
        batch_size: posts of a batch; with 1 a window is one post.
        ahead: windows are full from the first, and the pictures of the next one are read while the caller works. Else
            the first windows are short, and no post is taken before it is needed: an iterator may be slow.
    """
    pool = ThreadPoolExecutor(THREADS)  # its threads start with the first picture
    try:
        waiting: deque[list[Callable[[], Result]]] = deque()
        for window in cut_windows(_begin(posts, read, pool), batch_size, grow=not ahead):
            waiting.append(window)
            if len(waiting) > ahead:
                yield from _finish(waiting.popleft())
        while waiting:
            yield from _finish(waiting.popleft())
    finally:
        pool.shutdown(cancel_futures=True)


def _begin(
    posts: Iterable[Item], read: Callable[[Item], Result], pool: ThreadPoolExecutor
) -> Iterator[tuple[bool, Callable[[], Result]]]:
    """Yield whether each post has pictures, and what waits for it; an error of the iterator is the last one's."""
    try:
        for post in posts:
            pictured = has_pictures(post)
            yield pictured, pool.submit(read, post).result if pictured else partial(read, post)
    except Exception as error:
        yield False, partial(_fail, error)


def _fail(error: Exception) -> NoReturn:
    raise error


def _finish(window: list[Callable[[], Result]]) -> Iterator[list[Result]]:
    """Yield the posts of a window; an error follows those before it."""
    done: list[Result] = []
    try:
        for result in window:
            done.append(result())
    except Exception:
        if done:
            yield done
        raise
    yield done


class Answers:
    """The answers to posts, in order; each `iter` begins again."""

    def __init__(self, posts: Iterable, begin: Callable[[], Iterator]):
        self.posts, self.begin = posts, begin

    def __iter__(self) -> Iterator:
        return self.begin()

    def __len__(self) -> int:
        return len(cast(Sized, self.posts))


__all__ = ["Answers", "cut_by_length", "cut_windows", "has_pictures", "read_windows"]
