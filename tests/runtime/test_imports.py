"""Waiting for modules to be imported."""

import importlib.util
import sys
import threading
import zipfile
from collections.abc import Callable, Iterator
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import ModuleType

import pytest
from figures import of
from processes import python

import thag_nb
from thag_nb.runtime import imports

NAME = "a_module_that_is_waited_for"
SOURCE = """
import sys, types
kind = type(__spec__).__name__
loader = __spec__.loader
found = []
"""


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where the module is, which nobody has imported yet; nobody waits any more in the end."""
    source = tmp_path / f"{NAME}.py"
    source.write_text(SOURCE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))  # for tests that change it
    yield source
    imports.stop_waiting_for([NAME, f"{NAME}.part"])
    for name in (NAME, f"{NAME}.part"):
        sys.modules.pop(name, None)


def note(name: str, module: ModuleType) -> None:
    module.found.append((name, sys.modules[name] is module))


def import_it() -> ModuleType:
    return importlib.import_module(NAME)


TOLD = [(NAME, True)]


def test_who_waits_is_told_once_for_each_import_and_no_more_when_it_does_not_wait():
    imports.wait_for([NAME], note)
    assert import_it().found == import_it().found == TOLD
    del sys.modules[NAME]
    assert import_it().found == TOLD
    imports.stop_waiting_for([NAME])
    del sys.modules[NAME]
    assert import_it().found == []


def test_who_waits_is_told_at_once_of_what_is_there_and_each_time_that_it_says_that_it_waits():
    module = import_it()
    for times in (1, 2):
        imports.wait_for([NAME], note)
        assert module.found == TOLD * times
        imports.look()
        assert module.found == TOLD * times


def test_a_module_that_fails_is_told_of_when_it_succeeds(place):
    imports.wait_for([NAME], note)
    place.write_text("1 / 0")
    with pytest.raises(ZeroDivisionError):
        import_it()
    place.write_text(f"# of another length than before\n{SOURCE}")
    assert import_it().found == TOLD


def test_a_part_of_a_package_is_told_of(place):
    package = place.with_suffix("")
    package.mkdir()
    place.rename(package / "__init__.py")
    (package / "part.py").write_text("found = []")
    imports.wait_for([f"{NAME}.part"], note)
    assert importlib.import_module(f"{NAME}.part").found == [(f"{NAME}.part", True)]


def test_what_is_imported_is_its_own_spec_and_loaders_while_it_is_loaded_and_after():
    imports.wait_for([NAME], note)
    module = import_it()
    assert (module.kind, type(module.__spec__)) == ("ModuleSpec", ModuleSpec)
    assert type(module.loader) is SourceFileLoader
    assert module.loader is module.__loader__ is module.__spec__.loader
    imports.stop_waiting_for([NAME])
    del sys.modules[NAME]
    assert vars(module.__spec__).keys() == vars(import_it().__spec__).keys()


def test_who_asks_where_a_module_would_come_from_gets_what_it_would_get_without_us():
    before = importlib.util.find_spec(NAME)
    imports.wait_for([NAME], note)
    spec = importlib.util.find_spec(NAME)
    assert (type(spec), type(spec.loader)) == (ModuleSpec, SourceFileLoader)
    assert (spec, repr(spec.loader.path)) == (before, repr(before.loader.path))
    assert NAME not in sys.modules


def test_a_module_that_is_loaded_by_hand_is_told_of_by_looking():
    imports.wait_for([NAME], note)
    spec = importlib.util.find_spec(NAME)
    module = sys.modules[NAME] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.found == []
    imports.look()
    imports.look()
    assert module.found == TOLD


def test_a_module_that_is_put_in_the_place_of_another_while_that_is_loaded_is_the_one_that_is_told_of(place):
    place.write_text(f"{SOURCE}\nsys.modules[__name__] = types.SimpleNamespace(found=[], it='the other')")
    imports.wait_for([NAME], note)
    assert (import_it().it, import_it().found) == ("the other", TOLD)


class Chained:
    """Has the other finders find, as tools do that change what is loaded, and gives their spec another loader."""

    def __init__(self) -> None:
        self.asking = False

    def find_spec(self, name: str, _path: object, _target: object = None) -> ModuleSpec | None:
        if name != NAME or self.asking:
            return None
        self.asking = True
        spec = importlib.util.find_spec(name)
        self.asking = False
        spec.loader = ChainedLoader(spec.loader.name, spec.loader.path)
        return spec


class ChainedLoader(SourceFileLoader):
    def exec_module(self, module: ModuleType) -> None:
        super().exec_module(module)
        module.chained = list(module.found)


@pytest.mark.parametrize("before", [True, False], ids=["asked before us", "asked after us"])
def test_finders_that_have_others_find_and_change_what_they_found_work_as_ever(before):
    if before:
        imports.wait_for([NAME], note)
    sys.meta_path.insert(0, finder := Chained())
    imports.wait_for([NAME], note)
    module = import_it()
    assert type(module.__loader__) is ChainedLoader
    assert (module.chained, module.found) == ([], TOLD)
    imports.stop_waiting_for([NAME])
    assert sys.meta_path[0] is finder


class OwnSpec(ModuleSpec):
    pass


class FinderOfOwnSpecs:
    @staticmethod
    def find_spec(name: str, path: object, target: object = None) -> ModuleSpec | None:
        spec = PathFinder.find_spec(name, path, target) if name == NAME else None
        if spec is not None:
            spec.__class__ = OwnSpec
        return spec


def test_a_spec_of_a_kind_of_its_own_stays_what_it_is_and_its_module_is_found_by_looking():
    sys.meta_path.insert(0, FinderOfOwnSpecs)
    imports.wait_for([NAME], note)
    module = import_it()
    assert (type(module.__spec__), module.found) == (OwnSpec, [])
    imports.look()
    assert module.found == TOLD


def test_the_finders_are_as_they_were_when_nobody_waits_any_more():
    finders, there = sys.meta_path, list(sys.meta_path)
    imports.wait_for([NAME], note)
    imports.wait_for([f"{NAME}.part"], note)
    assert sys.meta_path[1:] == there
    imports.stop_waiting_for([NAME])
    assert sys.meta_path != there
    imports.stop_waiting_for([f"{NAME}.part"])
    assert sys.meta_path is finders
    assert finders == there


def test_finders_that_came_meanwhile_stay():
    before = list(sys.meta_path)
    imports.wait_for([NAME], note)
    sys.meta_path.insert(0, first := FinderOfOwnSpecs())
    sys.meta_path.append(last := FinderOfOwnSpecs())
    imports.stop_waiting_for([NAME])
    assert sys.meta_path == [first, *before, last]


def test_finders_that_somebody_replaced_stay_and_ours_comes_back_to_whoever_waits_again():
    before = list(sys.meta_path)
    imports.wait_for([NAME], note)
    sys.meta_path = replaced = list(before)
    imports.wait_for([NAME], note)
    assert import_it().found == TOLD
    sys.meta_path = replaced
    imports.stop_waiting_for([NAME])
    assert sys.meta_path is replaced
    assert replaced == before


def test_who_goes_through_the_finders_while_ours_comes_and_goes_misses_none_and_meets_none_twice():
    for change in (lambda: imports.wait_for([NAME], note), lambda: imports.stop_waiting_for([NAME])):
        there = list(sys.meta_path)
        underway = iter(sys.meta_path)
        met = [next(underway)]
        change()
        assert [*met, *underway] == there


def started(function: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=function)
    thread.start()
    return thread


WAITS = """
from test_imports_events import begun, go
begun.set()
go.wait()
found = []
"""


@pytest.fixture
def events(place: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The module says that it has begun, and waits until it may go on."""
    place.write_text(WAITS)
    events = ModuleType("test_imports_events")
    events.begun, events.go = threading.Event(), threading.Event()
    monkeypatch.setitem(sys.modules, events.__name__, events)
    yield events
    events.go.set()


def test_a_module_that_another_thread_is_importing_is_told_of_when_it_is_there(events):
    importer = started(import_it)
    events.begun.wait()
    imports.wait_for([NAME], note)
    assert type(sys.modules[NAME].__spec__) is not ModuleSpec
    imports.look()
    events.go.set()
    importer.join()
    assert (import_it().found, type(import_it().__spec__)) == (TOLD, ModuleSpec)


def test_nobody_is_told_of_a_module_that_was_waited_for_only_when_its_import_began(events):
    imported: list[ModuleType] = []
    imports.wait_for([NAME], note)
    importer = started(lambda: imported.append(import_it()))
    events.begun.wait()
    imports.stop_waiting_for([NAME])
    events.go.set()
    importer.join()
    (module,) = imported
    assert (module.found, type(module.__spec__)) == ([], ModuleSpec)


def test_no_other_thread_gets_a_module_before_who_waits_has_been_told():
    seen: list[list[object]] = []
    threads: list[threading.Thread] = []

    def note_late(name: str, module: ModuleType) -> None:
        threads.append(started(lambda: seen.append(list(import_it().found))))
        threads[0].join(0.05)  # it would have seen it by now
        note(name, module)

    imports.wait_for([NAME], note_late)
    import_it()
    threads[0].join()
    assert seen == [TOLD]


def test_what_is_waited_for_is_charged_to_nobody_but_what_it_imports_is_the_importers():
    kept = []
    thag_nb.start(threads=False)
    thag_nb.reset()
    with thag_nb.task("importer"):
        imports.wait_for([NAME], lambda *_: kept.append(bytearray(1_000_000)))
        import_it()
        imports.stop_waiting_for([NAME])
    assert len(kept) == 1
    assert 1_000 < of("importer").peak_bytes < 500_000


def test_a_module_that_nobody_waits_for_costs_who_imports_it_nothing_more():
    thag_nb.start(threads=False)
    thag_nb.reset()
    imports.wait_for([NAME], note)
    find = sys.meta_path[0].find_spec
    with thag_nb.task("importer"):
        for _ in range(100):
            find("another", None, None)
    assert of("importer").allocations < 5


def test_a_module_in_an_archive_is_imported_and_read_from_as_ever(tmp_path, monkeypatch):
    archive = tmp_path / "archive.zip"
    with zipfile.ZipFile(archive, "w") as writer:
        writer.writestr(f"{NAME}/__init__.py", SOURCE)
        writer.writestr(f"{NAME}/data.txt", "data")
    monkeypatch.setattr(sys, "path", [str(archive), *sys.path])
    imports.wait_for([NAME], note)
    module = import_it()
    assert (type(module.__loader__).__name__, module.found) == ("zipimporter", TOLD)
    resources = importlib.import_module("importlib.resources")
    assert resources.files(NAME).joinpath("data.txt").read_text() == "data"


class Embedded:
    """A finder that is its own loader, for all that it has, as those of frozen programs are."""

    @classmethod
    def find_spec(cls, name: str, _path: object, _target: object = None) -> ModuleSpec | None:
        return ModuleSpec(name, cls, origin="embedded") if name == NAME else None

    @staticmethod
    def create_module(_spec: ModuleSpec) -> None:
        pass

    @staticmethod
    def exec_module(module: ModuleType) -> None:
        module.found = []


def test_a_module_that_is_embedded_in_a_program_is_told_of():
    sys.meta_path.insert(0, Embedded)
    imports.wait_for([NAME], note)
    assert (import_it().found, import_it().__loader__, import_it().__spec__.origin) == (TOLD, Embedded, "embedded")


def test_the_times_of_imports_name_what_they_name_without_us():
    def imported(first: str) -> list[str]:
        code = f"""
            import sys, {first}
            sys.stderr.write("|begins\\n")
            import concurrent.futures.thread, multiprocessing.pool
        """
        said = python(f"import sys; sys.stderr = sys.stdout\n{code}".replace("            ", ""), "-X", "importtime")
        return said.splitlines()

    bare, waiting = imported("thag_nb"), imported("thag_nb; thag_nb.start()")
    assert [line.rpartition("|")[2] for line in waiting] == [line.rpartition("|")[2] for line in bare]
