"""The hooks in what loaded libraries ask of the C library: wanted or not, and what became of that."""

from __future__ import annotations

import os

from thag_nb import _native
from thag_nb.runtime import pools
from thag_nb.units import visible

SWITCH = "THAG_NB_NATIVE"


class _State:
    """What was last said."""

    wanted: bool | None = None
    attempted = False  # at the last start
    switch = ""  # in the environment, then: a look must not ask for it, which fails badly where there is no memory
    was_taken_out = False  # while something was recorded, since the last stop


def want(native: bool | None) -> None:
    """What a start shall do from now on; None leaves it as it was said last."""
    if native is not None:
        _State.wanted = native


def is_wanted() -> bool:
    """Whether a start hooks it. The environment's 0 forbids it, its 1 is what holds until something is said."""
    switch = os.environ.get(SWITCH)
    return switch != "0" and (switch == "1" if _State.wanted is None else _State.wanted)


def attach() -> None:
    """Hook it if that is wanted; else take the hooks out again, if there are any."""
    _State.attempted = is_wanted()
    _State.switch = os.environ.get(SWITCH, "")
    if _State.attempted:
        _native.attach_native()
        pools.attach()
    else:
        pools.stop_waiting()
        _State.was_taken_out |= _native.is_recording() and _native.hooks()["native"] != "absent"
        _native.detach_native()


def follow() -> None:
    """Do at once what was said last, if something is recorded; else the next start does."""
    if _native.is_recording():
        attach()


def stop_waiting() -> None:
    """Wait for no library any longer. The native core takes the hooks out itself, with all others."""
    pools.stop_waiting()
    _State.was_taken_out = False  # the next start begins with no block at all


def forget() -> None:
    """As if nothing had been said."""
    _State.wanted = None


def problems() -> list[str]:
    """Why it is not seen though it is wanted, or is not seen whole."""
    if not _native.is_recording():
        return []
    return [*_problems_of_switch(), *_problems_of_gap(), *(_problems_of_libraries() if _State.attempted else [])]


def _problems_of_switch() -> list[str]:
    if _State.switch not in ("", "0", "1"):
        return [
            f"{SWITCH}={visible(_State.switch)} does nothing: set it to 1 to see native memory, or to 0 to forbid it"
        ]
    return [f"native memory is not seen: {SWITCH}=0 forbids it"] if _State.switch == "0" and _State.wanted else []


def _problems_of_gap() -> list[str]:
    gap = "what was freed meanwhile counts as live until its address is used again"
    return [f"native memory was turned off while recording: {gap}"] if _State.was_taken_out else []


def _problems_of_libraries() -> list[str]:
    unfit = [f"the memory of {name} is not seen: its allocator is not as thag_nb knows it" for name in unseen_pools()]
    return [*_problems_of_slots(), *unfit]


def unseen_pools() -> list[str]:
    """The libraries that are loaded, and whose own allocators are not followed."""
    return pools.unseen() if _State.attempted else []


def _problems_of_slots() -> list[str]:
    slots = _native.slots()
    if _native.hooks()["native"] == "absent":
        if slots["foreign"]:
            return ["native memory is not seen: another tool, like memray, has taken the place of malloc and free"]
        return [
            "native memory is not seen: libraries do not call the C library through slots that can be redirected here; "
            "that needs Linux with glibc"
        ]
    return [_unwritable(slots["unwritable"])] if slots["unwritable"] else []


def _unwritable(count: int) -> str:
    first = visible(_native.unwritable()) or "the program"
    others = f" and {count - 1} other libraries" if count > 2 else " and another library" if count == 2 else ""
    return f"the memory of {first}{others} is not seen: their slots for malloc and free cannot be written"
