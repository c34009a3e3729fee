"""What speedscope's file format asks for, as far as thag_nb writes it."""

from __future__ import annotations

from typing import Any

UNITS = {"none", "nanoseconds", "microseconds", "milliseconds", "seconds", "bytes"}


def check(content: dict[str, Any]) -> None:
    """Fail on what speedscope would not take: types, what must be there, and places that nothing stands at."""
    assert content["$schema"] == "https://www.speedscope.app/file-format-schema.json"
    assert set(content) <= {"$schema", "exporter", "name", "activeProfileIndex", "shared", "profiles"}
    assert isinstance(content["exporter"], str)
    assert isinstance(content["name"], str)
    assert content["activeProfileIndex"] in range(len(content["profiles"]))
    frames = content["shared"]["frames"]
    for frame in frames:
        check_frame(frame)
    for profile in content["profiles"]:
        check_profile(profile, len(frames))


def check_frame(frame: dict[str, Any]) -> None:
    assert isinstance(frame["name"], str)
    assert isinstance(frame.get("file", ""), str)
    assert type(frame.get("line", 1)) is int
    assert frame.get("line", 1) >= 1
    assert set(frame) <= {"name", "file", "line", "col"}


def check_profile(profile: dict[str, Any], frames: int) -> None:
    assert set(profile) == {"type", "name", "unit", "startValue", "endValue", "samples", "weights"}
    assert profile["type"] == "sampled"
    assert isinstance(profile["name"], str)
    assert profile["unit"] in UNITS
    assert len(profile["samples"]) == len(profile["weights"])
    assert all(type(weight) is int and weight >= 0 for weight in profile["weights"])
    assert profile["endValue"] - profile["startValue"] == sum(profile["weights"])
    for sample in profile["samples"]:
        assert all(type(place) is int and place in range(frames) for place in sample)
