"""Polars' objects: what its Python classes have of its Rust code, which nobody else can look into."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from typing import Any

from thag_nb.holders.foreign.arrow_data import Capsule
from thag_nb.holders.foreign.library import UNTOLD, Library, below, each
from thag_nb.holders.modules import as_type, is_static, names_of, package_of, type_name, type_package

# Series laid out so are shown as they are: numbers, truth values, text and bytes; lists, arrays and structs of these.
_SHOWN = {*(b"c C s S i I l L e f g b vu vz n _pli128 _plu128 +L +s").split()}
_SHOWN_ARRAY = b"+w:"
_PLAIN = {
    *("PyOptFlags", "PyCategories", "PyDataTypeExpr", "PySelector", "PyStringCacheHolder"),
    *("PyFileEncryptionProperties", "PyFileDecryptionProperties"),
}


def polars() -> Library | None:
    """Frames and series tell what they hold; all else that is not plain may hold anything."""
    own = names_of("polars._plr") or names_of("polars.polars")
    frame, series = as_type(own.get("PyDataFrame")), as_type(own.get("PySeries"))
    wrap = names_of("polars._utils.wrap").get("wrap_s")
    if frame is None or series is None or wrap is None:
        return None
    has_extensions = "BaseExtension" in names_of("polars")

    def of_series(shown: Any) -> Iterator[int | None]:
        if not has_extensions and "Object" in str(shown.dtype()):  # else this would ask a class of the user's
            yield UNTOLD
            return
        if not _is_shown(shown):
            shown = wrap(shown).to_physical()._s
        if _is_shown(shown):
            yield from Capsule(shown.__arrow_c_stream__(None)).addresses()
        else:
            yield UNTOLD

    def of_frame(shown: Any) -> Iterator[int | None]:
        return each(of_series, shown.get_columns())

    packages = ("polars", *{package_of(name) for name in list(sys.modules) if name.startswith("_polars_runtime")})
    return Library({frame: of_frame, series: of_series}, _hoarders(own) - {frame, series}, packages=packages)


def _is_shown(series: Any) -> bool:
    """Whether its Arrow form is the memory itself."""
    formats = Capsule(series.__arrow_c_stream__(None)).formats()
    return all(layout in _SHOWN or layout.startswith(_SHOWN_ARRAY) for layout in formats)


def _hoarders(own: Mapping[str, Any]) -> frozenset[type]:
    """Classes of Rust that say no module: those that Polars shows, and others that are called like its own."""
    shown = {kind for kind in map(as_type, own.values()) if kind is not None}
    alike = (kind for kind in below(object) if kind in shown or type_name(kind).startswith("Py"))
    return frozenset(kind for kind in alike if _is_of_rust(kind) and type_name(kind) not in _PLAIN)


def _is_of_rust(kind: type) -> bool:
    """Those of the interpreter itself are static."""
    return type_package(kind) == "builtins" and not is_static(kind) and not issubclass(kind, BaseException)
