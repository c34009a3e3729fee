import base64
import json
import zlib

import numpy as np
from handmade import MIB, MS, SECOND, busy, context, pack, recording, root

from thag_nb.browser.scene import detail_scene, packed, stack_scene
from thag_nb.palette import styles
from thag_nb.recordings.model import Mark, ResidentSize, work_names
from thag_nb.recordings.resampling import OTHERS_ID, Window

TEN = Window(0, 2 * SECOND, 10)


def test_a_scene_has_a_row_for_each_layer_and_each_curve() -> None:
    scene = stack_scene(busy(), busy().contexts[0], window=TEN)
    assert [layer["name"] for layer in scene.header["layers"]] == ["root", "load", "load", "parse"]
    assert scene.header["curves"] == ["high"]
    assert scene.values.shape == (5, 10)
    assert scene.values.dtype == np.float32
    assert scene.values[-1].max() == 14 * MIB


def test_the_header_is_ready_for_json() -> None:
    header = stack_scene(busy(), busy().contexts[0]).header
    assert json.loads(json.dumps(header)) == header


def test_a_layer_looks_as_it_does_in_every_picture() -> None:
    layers = stack_scene(busy(), busy().contexts[0]).header["layers"]
    assert (layers[1]["colour"], layers[1]["dash"]) == styles(work_names(busy()))["load"]
    assert layers[1]["colour"] == layers[2]["colour"] != layers[3]["colour"]


def test_what_has_no_layer_is_called_others() -> None:
    scene = stack_scene(busy(), busy().contexts[0], most=1)
    last = scene.header["layers"][-1]
    assert len(scene.header["layers"]) == 3
    assert (last["id"], last["name"]) == (OTHERS_ID, "others")


def test_moments_are_where_contexts_below_began_and_the_marks() -> None:
    marked = busy()._replace(
        marks=(Mark(600 * MS, 4, "epoch 3", "mark", 0), Mark(700 * MS, 4, "gc 2", "collection", 9 * MS))
    )
    moments = stack_scene(marked, marked.contexts[0]).header["moments"]
    assert [(moment["time_ns"] // MS, moment["kind"], moment["name"]) for moment in moments] == [
        (0, "cell", "load"),
        (500, "cell", "load"),
        (600, "mark", "epoch 3"),
        (700, "collection", "gc 2"),
    ]


def test_moments_outside_of_the_window_are_left_out() -> None:
    window = Window(400 * MS, SECOND, 10)
    moments = stack_scene(busy(), busy().contexts[0], window=window).header["moments"]
    assert [moment["time_ns"] for moment in moments] == [500 * MS]


def test_the_resident_size_is_the_last_reading_and_unknown_before_the_first() -> None:
    sized = busy()._replace(resident=(ResidentSize(500 * MS, 7 * MIB), ResidentSize(SECOND, 9 * MIB)))
    scene = stack_scene(sized, sized.contexts[0], window=Window(0, 2 * SECOND, 4))
    assert scene.header["curves"] == ["high", "resident"]
    sizes = scene.values[-1]
    assert list(sizes) == [7 * MIB, 9 * MIB, 9 * MIB, 9 * MIB]
    late = busy()._replace(resident=(ResidentSize(SECOND + 1, 9 * MIB),))
    assert list(np.isnan(stack_scene(late, late.contexts[0], window=TEN).values[-1])) == [True] * 5 + [False] * 5


def test_a_detail_of_a_context_is_divided_among_itself_and_what_was_started_under_it() -> None:
    load = busy().find("load")
    scene = detail_scene(busy(), load)
    assert [layer["name"] for layer in scene.header["layers"]] == ["load", "parse"]
    assert scene.header["curves"] == ["high"]
    assert scene.values.shape == (3, 200)
    assert scene.values[2].max() == 13 * MIB
    assert scene.values[:2, -1].sum() == load.live_bytes == 2 * MIB
    within = stack_scene(busy(), load, window=Window(load.started_ns, load.started_ns + load.duration_ns, 200))
    assert np.array_equal(scene.values, within.values)


def test_a_detail_of_one_without_any_is_its_own_alone_and_without_the_process() -> None:
    sized = busy()._replace(resident=(ResidentSize(500 * MS, 7 * MIB),))
    scene = detail_scene(sized, sized.find("parse"))
    assert [layer["name"] for layer in scene.header["layers"]] == ["parse"]
    assert scene.values.shape == (2, 200)


def test_a_description_says_what_the_picture_shows() -> None:
    words = stack_scene(busy(), busy().find("load")).header["description"]
    assert words == "Live bytes of load over 1.00 s: peak 13.0 MiB, 2.0 MiB live."


def test_packed_values_come_out_as_they_went_in() -> None:
    scenes = [stack_scene(busy(), busy().contexts[0], window=TEN), detail_scene(busy(), busy().find(5))]
    values = np.frombuffer(zlib.decompress(base64.b64decode(packed(scenes))), "<f4")
    assert np.array_equal(values, np.concatenate([scene.values.ravel() for scene in scenes]))


def test_a_thousand_contexts_are_still_a_small_header() -> None:
    many = recording((root(), b""), *((context(3 + n, f"t{n}"), pack((n, 0, 1, 1, 1))) for n in range(1000)))
    assert len(json.dumps(stack_scene(many, many.contexts[0]).header)) < 40_000
