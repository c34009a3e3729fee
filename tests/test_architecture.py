"""Imports go down only, from room to room, and each library is met in one room."""

import ast
import re
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

PACKAGE = Path(__file__).parent.parent / "thag_nb"

_DATA = {"ground", "recordings"}
_TECHNIQUES = {"plotting", "browser"}
_FEATURES = {"costs", "comparison", "holders", "sites"}

# What each room may import besides itself.
ROOMS = {
    "ground": set(),
    "recordings": {"ground"},
    "runtime": {*_DATA, "_native"},
    "plotting": _DATA,
    "browser": _DATA,
    "costs": {*_DATA, *_TECHNIQUES, "runtime"},
    "comparison": {*_DATA, *_TECHNIQUES, "runtime"},
    "holders": {*_DATA, *_TECHNIQUES, "runtime"},
    "sites": {*_DATA, *_TECHNIQUES},
    "notebook": {*_DATA, *_TECHNIQUES, *_FEATURES, "runtime"},
    "face": {*_DATA, *_TECHNIQUES, *_FEATURES, "runtime", "notebook"},
}
# What single modules may import besides.
MODULES = {
    "costs.page": {"holders", "comparison", "sites"},  # gathers what there is to show of a session
    "holders.foreign.asked": {"_native"},  # where a block begins
    "holders.foreign.behind": {"_native"},
    "holders.foreign.memory": {"_native"},
    "holders.foreign.pillow": {"_native"},
    "holders.walk": {"_native"},
    "native_build": {"_native"},
}
OUTSIDE = {  # modules that do not lie in a folder
    "ground": {"errors", "light_typing", "units", "palette", "mimebundle"},
    "face": {"__init__", "native_build"},
}
# Where alone a library is imported: a room, or a module.
LIBRARIES = {
    "matplotlib": "plotting",
    "pandas": "recordings.frames",
    "IPython": "notebook",
    "ipywidgets": "notebook",
    "anywidget": "notebook",
    "traitlets": "notebook",
}
# What the C files of each folder may include besides those of their own.
NATIVE = {"core": set(), "heap": {"core"}, "bindings": {"core", "heap"}}


def _module(path: Path) -> str:
    """``costs.rows``; a room is called by its folder."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if len(parts) > 1 and parts[-1] == "__init__" else parts)


SOURCES = {_module(path): ast.parse(path.read_text("utf-8")) for path in PACKAGE.rglob("*.py")}
# The public functions are annotated with what rooms below import. All other imports for type checkers count.
SOURCES["__init__"].body = [
    node
    for node in SOURCES["__init__"].body
    if not (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")
]


def _room(module: str) -> str:
    outside = {name: room for room, names in OUTSIDE.items() for name in names}
    return outside.get(module, module.partition(".")[0])


def _imports(module: str) -> Iterator[str]:
    """What a module imports, wherever in it: modules of ours without ``thag_nb.``, others as they are called."""
    for node in ast.walk(SOURCES[module]):
        if isinstance(node, ast.Import):
            yield from (alias.name.removeprefix("thag_nb.") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{module} imports relatively; the name of the room says more"
            yield from (_target(node.module or "", alias.name) for alias in node.names)


def _target(package: str, name: str) -> str:
    """The module that ``from package import name`` is about."""
    whole = f"{package}.{name}"
    ours = package == "thag_nb" or package.startswith("thag_nb.")
    if ours and whole.removeprefix("thag_nb.") in {*SOURCES, "_native"}:
        return whole.removeprefix("thag_nb.")
    return package.removeprefix("thag_nb.")


OURS = {module: {name for name in _imports(module) if name in {*SOURCES, "_native"}} for module in SOURCES}


def test_every_room_has_a_rule() -> None:
    files = (path for path in PACKAGE.rglob("*") if path.is_file() and path.parent != PACKAGE)
    folders = {path.relative_to(PACKAGE).parts[0] for path in files if path.parent.name != "__pycache__"}
    assert folders == {*ROOMS, "native"} - {*OUTSIDE}
    assert {_room(module) for module in SOURCES} == {*ROOMS}


def test_rooms_import_what_is_below_them() -> None:
    breaches = [
        f"{module} imports {name}"
        for module, names in OURS.items()
        for name in names
        if _room(name) not in {_room(module), *ROOMS[_room(module)], *MODULES.get(module, ())}
    ]
    assert breaches == []


def test_nobody_imports_the_package_itself() -> None:
    assert [module for module in SOURCES if "thag_nb" in _imports(module)] == []


def test_a_library_is_imported_in_one_room() -> None:
    breaches = [
        f"{module} imports {name}"
        for module in SOURCES
        for name in _imports(module)
        if LIBRARIES.get(name.partition(".")[0], module) not in (module, _room(module))
    ]
    assert breaches == []


def test_no_imports_go_round_in_a_circle() -> None:
    rooms: dict[str, set[str]] = {}
    for module, names in OURS.items():
        rooms.setdefault(_room(module), set()).update({_room(name) for name in names} - {_room(module)})
    TopologicalSorter(rooms).prepare()
    TopologicalSorter(OURS).prepare()


def test_entering_a_room_loads_nothing() -> None:
    rooms = [module for module in SOURCES if "." not in module and module not in OUTSIDE["ground"] | OUTSIDE["face"]]
    assert [room for room in rooms if len(SOURCES[room].body) > 1 or not ast.get_docstring(SOURCES[room])] == []


C_SOURCES = {path: path.read_text("utf-8") for path in (PACKAGE / "native").rglob("*.[ch]")}
HEADERS = {path.name: path for path in C_SOURCES if path.suffix == ".h"}


def _unit(path: Path) -> str:
    """``core/contexts``: a C file and its header are one."""
    return f"{path.parent.name}/{path.stem}"


def _included(source: str) -> set[str]:
    """The units of our own whose headers a C file includes."""
    return {_unit(HEADERS[name]) for name in re.findall(r'^\s*#\s*include\s*"(.+)"', source, re.MULTILINE)}


def test_c_files_include_what_is_below_them() -> None:
    breaches = [
        f"{_unit(path)} includes {name}"
        for path, source in C_SOURCES.items()
        for name in _included(source)
        if Path(name).parent.name not in {path.parent.name, *NATIVE[path.parent.name]}
    ]
    assert breaches == []


def test_no_includes_go_round_in_a_circle() -> None:
    units: dict[str, set[str]] = {}
    for path, source in C_SOURCES.items():
        units.setdefault(_unit(path), set()).update(_included(source) - {_unit(path)})
    TopologicalSorter(units).prepare()


def test_arguments_are_parsed_in_the_bindings_alone() -> None:
    parsing = re.compile(r"\b(PyArg_|METH_FASTCALL|METH_VARARGS|PyModuleDef)")
    assert {path.parent.name for path, source in C_SOURCES.items() if parsing.search(source)} == {"bindings"}


def test_everything_public_is_named_once_and_exists():
    import thag_nb

    assert thag_nb.__all__ == sorted(thag_nb.__all__)
    assert all(hasattr(thag_nb, name) for name in thag_nb.__all__)


def test_the_public_names_are_these():
    import thag_nb

    names = (
        "Allocator AllocatorContext ContextGuard ContextRecord ContextRegistry Mark Recording ResidentSize Status "
        "TaskGuard TaskMemoryContext ThagError TimelineBucket collapsed_stacks compare contexts current_context "
        "dashboard flame lines mark plot_comparison plot_stack plot_timeline push_allocator_context read report reset "
        "retained speedscope start status stop task timeline untracked with_system_allocator with_task_allocator"
    )
    assert thag_nb.__all__ == names.split()


def test_completion_offers_what_is_public():
    import thag_nb

    thag_nb.contexts()  # which loads more of it
    assert dir(thag_nb) == thag_nb.__all__


def test_the_stub_names_what_the_native_module_has():
    from thag_nb import _native

    stub = ast.parse((PACKAGE / "_native.pyi").read_text())
    named = {node.name for node in stub.body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    named |= {node.target.id for node in stub.body if isinstance(node, ast.AnnAssign)} - {"Row", "Description"}
    assert named == {name for name in dir(_native) if not name.startswith("__")}
