"""Fresh interpreters, for what must not happen in the one that runs the tests."""

import os
import subprocess
import sys
import textwrap


def python(code: str, *options: str, **environment: str) -> str:
    """What a fresh interpreter prints; its failure is ours."""
    result = subprocess.run(
        [sys.executable, *options, "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env={**os.environ, **environment},
    )
    assert result.returncode == 0, f"exit {result.returncode}: {result.stderr}"
    return result.stdout
