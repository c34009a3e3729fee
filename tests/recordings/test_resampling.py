import numpy as np
import pytest
from handmade import MIB, MS, SECOND, busy, context, pack, recording, root
from hypothesis import given
from hypothesis import strategies as st

from thag_nb.recordings.model import Recording
from thag_nb.recordings.resampling import OTHERS_ID, Window, highs, lives, stack, window_of


def layered() -> Recording:
    """A root with a task that takes 4 MiB at 0.2 s and, under it, two that take 2 and 1 MiB at 0.5 s and give back."""
    return recording(
        (root(peak_bytes=7 * MIB), pack((0, 0, 4 * MIB, 4 * MIB, 0), (500 * MS, 4 * MIB, 7 * MIB, 4 * MIB, 0))),
        (
            context(3, "load", self_peak_bytes=4 * MIB, peak_bytes=7 * MIB, duration_ns=SECOND),
            pack(
                (200 * MS, 0, 4 * MIB, 4 * MIB, 4 * MIB),
                (500 * MS, 4 * MIB, 7 * MIB, 7 * MIB, 4 * MIB),
                (800 * MS, 4 * MIB, 7 * MIB, 4 * MIB, 4 * MIB),
            ),
        ),
        (
            context(4, "parse", parent_id=3, self_peak_bytes=2 * MIB),
            pack((500 * MS, 0, 2 * MIB, 2 * MIB, 2 * MIB), (800 * MS, 0, 2 * MIB, 0, 0)),
        ),
        (
            context(5, "check", parent_id=4, self_peak_bytes=MIB),
            pack((500 * MS, 0, MIB, MIB, MIB), (800 * MS, 0, MIB, 0, 0)),
        ),
        taken_ns=SECOND,
    )


def test_layers_are_self_bytes_at_the_end_of_each_column() -> None:
    made = stack(layered(), layered().find("load"), window=Window(0, SECOND, 10))
    assert [layer.name for layer in made.layers] == ["load", "parse", "check"]
    assert list(made.layers[0].live_bytes // MIB) == [0, 0, 4, 4, 4, 4, 4, 4, 4, 4]
    assert list(made.layers[1].live_bytes // MIB) == [0, 0, 0, 0, 0, 2, 2, 2, 0, 0]
    assert list(made.layers[2].live_bytes // MIB) == [0, 0, 0, 0, 0, 1, 1, 1, 0, 0]


def test_what_has_no_layer_is_others_and_the_sum_stays() -> None:
    made = stack(layered(), layered().find("load"), most=1, window=Window(0, SECOND, 10))
    assert [(layer.context_id, layer.name) for layer in made.layers] == [
        (3, "load"),
        (4, "parse"),
        (OTHERS_ID, "others"),
    ]
    assert list(sum(layer.live_bytes for layer in made.layers) // MIB) == [0, 0, 4, 4, 4, 7, 7, 7, 4, 4]


def test_the_highest_column_is_the_peak_however_short() -> None:
    newer = busy().find("load")
    for columns in (1, 7, 600):
        window = window_of(busy(), newer)._replace(columns=columns)
        assert highs(busy(), newer, window).max() == newer.peak_bytes


def test_what_was_held_before_a_column_counts_in_it() -> None:
    freed = recording(
        (root(), b""),
        (context(3, "load", duration_ns=SECOND), pack((0, 0, 8, 8, 8), (500 * MS, 0, 8, 0, 0))),
        taken_ns=SECOND,
    )
    assert list(highs(freed, freed.find(3), Window(0, SECOND, 4))) == [8, 8, 8, 0]
    assert list(lives(freed, freed.find(3), Window(0, SECOND, 4))) == [8, 8, 0, 0]
    assert list(highs(freed, freed.find(3), Window(400 * MS, 600 * MS, 2))) == [8, 8]


def test_a_bucket_at_the_last_moment_is_in_the_last_column() -> None:
    late = recording((root(), b""), (context(3, "load", duration_ns=SECOND), pack((SECOND, 0, 9, 9, 9))))
    assert list(highs(late, late.find(3), Window(0, SECOND, 2))) == [0, 9]


def test_a_window_ends_with_its_context_or_with_the_recording() -> None:
    assert window_of(busy(), busy().find("parse"))[:2] == (800 * MS, 1000 * MS)
    assert window_of(busy(), busy().find("root"))[:2] == (0, 2 * SECOND)


def test_a_window_of_no_length_has_columns_all_the_same() -> None:
    edges = Window(5, 5, 4).edges_ns
    assert list(edges) == [5, 6, 7, 8, 9]


def test_a_window_that_ends_with_the_clock_has_edges_that_never_go_back() -> None:
    edges = Window(0, 2**63 - 1, 7).edges_ns
    assert edges[0] == 0
    assert (np.diff(edges) > 0).all()


@given(st.lists(st.tuples(st.integers(0, 10**9), st.integers(0, 2**40)), min_size=1), st.integers(1, 50))
def test_no_spike_is_lost(spikes: list[tuple[int, int]], columns: int) -> None:
    starts = sorted({start for start, _ in spikes})
    buckets = [(start, 0, high, 0, 0) for start, (_, high) in zip(starts, spikes, strict=False)]
    made = recording((root(), b""), (context(3, "load", duration_ns=10**9), pack(*buckets)))
    high = highs(made, made.find(3), Window(0, 10**9, columns))
    assert high.max() == max(bucket[2] for bucket in buckets)
    assert high.dtype == np.int64


def test_a_context_without_a_bucket_is_flat() -> None:
    empty = recording((root(), b""), (context(3, "load"), b""))
    made = stack(empty, empty.find(3), window=Window(0, 10, 3))
    assert [list(layer.live_bytes) for layer in made.layers] == [[0, 0, 0]]
    assert made.high_bytes.sum() == 0


@pytest.mark.parametrize("columns", [1, 3, 600])
def test_edges_span_the_window(columns: int) -> None:
    edges = Window(100, 10_000, columns).edges_ns
    assert (edges[0], edges[-1], len(edges)) == (100, 10_000, columns + 1)
