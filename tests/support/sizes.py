"""How much work there is in a test: less of it where each access to memory is watched."""

import os

_DIVISOR = int(os.environ.get("THAG_TESTS_DIVISOR", "1"))


def fewer(count: int) -> int:
    """As many as given, or a part of them: for tests whose claim holds of any large number."""
    return max(count // _DIVISOR, 10)
