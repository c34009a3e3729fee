"""IPython shells in processes of their own, without a kernel."""

import json
import textwrap
from typing import Any

from processes import python

SHELL = """
    import sys, json, asyncio, thag_nb
    from IPython.core.interactiveshell import InteractiveShell
    shell = InteractiveShell.instance()
    shell.run_cell("%load_ext thag_nb")
    def run(source, **options):
        return shell.run_cell(source, **options)
    def cells():
        return [(r.name, r.state, r.parent_id) for r in thag_nb.read().contexts if r.kind == "cell"]
    def current():
        return thag_nb.current_context().name
"""


def in_shell(code: str) -> str:
    """What `code` prints beside an in-process shell with the extension loaded."""
    return python(textwrap.dedent(SHELL) + textwrap.dedent(code))


def last_line(text: str) -> Any:
    """What was printed last, after whatever the cells showed, from JSON."""
    return json.loads(text.splitlines()[-1])
