"""What is shown beside the costs of contexts: of this process, as of now."""

from __future__ import annotations

from typing import NamedTuple

from thag_nb.runtime import dispatcher, rss


class Beside(NamedTuple):
    """Nothing of a recording tells this; of a saved one, nothing is shown.

    ``seen`` says whether everything is seen that could be. ``workspaces`` are the bytes that OpenBLAS keeps to work in,
    by the id of the context that is charged; ``anonymous_bytes`` are those of the resident memory that are no file's,
    None where the system does not tell.
    """

    seen: str = ""
    workspaces: tuple[tuple[int, int], ...] = ()
    anonymous_bytes: int | None = None


NOTHING = Beside()


def as_of_now() -> Beside:
    """Ask the dispatcher and the system."""
    return Beside(dispatcher.seen(), tuple(dispatcher.workspaces().items()), rss.read_anonymous())
