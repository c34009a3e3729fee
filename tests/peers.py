"""Other projects' test suites, with the dispatcher off and on: every test must end the same way.

    python tests/peers.py [--timeout SECONDS] [SUITE ...]

Runs parts of CPython's own suite, from the `test` package of the interpreter that runs this, and of NumPy's, pandas',
SciPy's and anyio's, as they are installed beside it; anyio's come from its source distribution, which pip brings. Each
suite is one child per mode, in a virtual environment made for the run: there, every interpreter that reads its
site-packages starts the dispatcher before its first line, also one that a test starts. Exits 1 if a test ends
differently, or if a child does.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest
import venv
from collections import Counter
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple


class Suite(NamedTuple):
    """Some tests of one project."""

    tests: tuple[str, ...]  # modules; of CPython's, which may be called otherwise elsewhere, the first that there is
    package: str = ""  # whose they are, run by pytest; CPython's own if empty
    sources: bool = False  # `tests` are folders in the package's source distribution
    needs: tuple[str, ...] = ()  # other packages
    tools: tuple[str, ...] = ()  # commands
    options: tuple[str, ...] = ()  # of pytest


_PANDAS = (
    "pandas.tests.apply",
    "pandas.tests.copy_view",
    "pandas.tests.frame.test_constructors",
    "pandas.tests.frame.test_reductions",
    "pandas.tests.frame.test_stack_unstack",
    "pandas.tests.groupby.test_groupby",
    "pandas.tests.internals",
    "pandas.tests.reshape.merge",
    "pandas.tests.reshape.test_pivot",
)
_SCIPY = (
    "scipy._lib.tests.test__gcutils",
    "scipy._lib.tests.test_ccallback",
    "scipy.integrate.tests.test_quadpack",
    "scipy.sparse.tests.test_construct",
    "scipy.sparse.tests.test_coo",
    "scipy.sparse.tests.test_sparsetools",
    "scipy.spatial.tests.test_kdtree",
)
_ANYIO_NEEDS = ("blockbuster", "psutil", "pytest_mock", "pytest_timeout", "trio", "trustme", "truststore", "uvloop")

SUITES = {
    "test_context": Suite(("test.test_context",)),
    "test_gc": Suite(("test.test_gc",)),
    "test_fork1": Suite(("test.test_fork1",)),
    "test_mem": Suite(("test.test_capi.test_mem", "test.test_capi.test_misc")),
    "test_tracemalloc": Suite(("test.test_tracemalloc",)),
    "test_threading": Suite(("test.test_threading",)),
    "test_asyncio": Suite(("test.test_asyncio",)),
    "test_concurrent_futures": Suite(("test.test_concurrent_futures",)),
    # It builds an extension module.
    "test_mem_policy": Suite(
        ("numpy._core.tests.test_mem_policy",), "numpy", needs=("hypothesis",), tools=("cc", "meson", "ninja")
    ),
    "test_multiarray": Suite(("numpy._core.tests.test_multiarray",), "numpy", needs=("hypothesis",)),
    "pandas": Suite(_PANDAS, "pandas", needs=("hypothesis",), options=("-m", "not slow and not network and not db")),
    "scipy": Suite(_SCIPY, "scipy", needs=("hypothesis",)),
    "anyio": Suite(("tests",), "anyio", sources=True, needs=_ANYIO_NEEDS, options=("-m", "not network")),
}

# From the weakest: a test's outcome is the strongest that its parts had. A test that a crash cut off stays unfinished.
OUTCOMES = ("unfinished", "passed", "skipped", "expected failure", "unexpected success", "failed")

# What such a test says when it fails, and why that is no wrong of ours. Shown all the same.
KNOWN: dict[str, tuple[str, str]] = {}

RERUNS = 2
RERUN_LIMIT = 20

# In the virtual environment: the dispatcher, and a task that is open until the interpreter ends.
STARTUP = """
import os
if os.environ.get("THAG_PEERS") == "on":
    try:
        import thag_nb
    except ImportError:
        pass  # in a sub-interpreter, which is not supported
    else:
        thag_nb.start()
        peers = thag_nb.task("peers")
        peers.__enter__()
"""


# ---- the child: one suite in one mode ----


class Report:
    """The lines that a child leaves: a test, its outcome and the reason. Forked children of a test write none."""

    def __init__(self, path: str) -> None:
        self._lines = Path(path).open("a", encoding="utf-8", buffering=1)  # noqa: SIM115 - open as long as the child
        self._owner = os.getpid()

    def write(self, test: str, outcome: str, reason: str = "") -> None:
        if os.getpid() == self._owner:
            self._lines.write(json.dumps([test, outcome, reason]) + "\n")


class UnittestRecorder(unittest.TestResult):
    """Writes how each test ended; a subtest counts as its test."""

    def __init__(self, report: Report) -> None:
        super().__init__()
        self._report = report

    def _write(self, test: unittest.TestCase, outcome: str, reason: str = "") -> None:
        self._report.write(getattr(test, "test_case", test).id(), outcome, reason)

    def _write_error(self, test: unittest.TestCase, error: Any) -> None:
        self._write(test, "failed", f"{error[0].__name__}: {error[1]}")

    def startTest(self, test: unittest.TestCase) -> None:  # noqa: N802 - unittest's names
        super().startTest(test)
        self._write(test, "unfinished")

    def addSuccess(self, test: unittest.TestCase) -> None:  # noqa: N802
        self._write(test, "passed")

    def addSkip(self, test: unittest.TestCase, reason: str) -> None:  # noqa: N802
        self._write(test, "skipped", reason)

    def addError(self, test: unittest.TestCase, err: Any) -> None:  # noqa: N802
        self._write_error(test, err)

    addFailure = addError  # noqa: N815

    def addSubTest(self, test: unittest.TestCase, _subtest: unittest.TestCase, err: Any) -> None:  # noqa: N802
        if err is not None:
            self._write_error(test, err)

    def addExpectedFailure(self, test: unittest.TestCase, _err: Any) -> None:  # noqa: N802
        self._write(test, "expected failure")

    def addUnexpectedSuccess(self, test: unittest.TestCase) -> None:  # noqa: N802
        self._write(test, "unexpected success")


class PytestRecorder:
    """The same as a pytest plugin."""

    def __init__(self, report: Report, only: set[str]) -> None:
        self._report = report
        self._only = only

    def pytest_collection_modifyitems(self, items: list[Any]) -> None:
        items[:] = [item for item in items if not self._only or item.nodeid in self._only]

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self._report.write(nodeid, "unfinished")

    def pytest_collectreport(self, report: Any) -> None:
        if not report.passed:
            self._report.write(report.nodeid, report.outcome, report.longreprtext)

    def pytest_runtest_logreport(self, report: Any) -> None:
        if hasattr(report, "wasxfail"):
            outcome = "unexpected success" if report.passed else "expected failure"
            self._report.write(report.nodeid, outcome, report.wasxfail)
        elif not report.passed or report.when == "call":
            self._report.write(report.nodeid, report.outcome, report.longreprtext)


def _run_pytest(suite: Suite, report: Report, only: set[str]) -> None:
    import pytest

    options = ["-q", "-p", "no:cacheprovider", *suite.options, *_where(suite)]
    pytest.main(options, plugins=[PytestRecorder(report, only)])


def _where(suite: Suite) -> list[str]:
    """How pytest is told where the tests are, and what they are configured by."""
    if not suite.sources:
        return ["--pyargs", *suite.tests, f"--rootdir={_origin(suite.package)}"]
    [folder] = Path(os.environ["THAG_PEERS_SOURCES"]).glob(f"{suite.package}-*/")
    return [*(str(folder / tests) for tests in suite.tests), f"--rootdir={folder}", f"-c{folder / 'pyproject.toml'}"]


def _run_unittest(suite: Suite, report: Report, only: set[str]) -> None:
    from test import support

    # The network is nobody's to promise.
    support.use_resources = dict.fromkeys(("cpu", "subprocess", "walltime"))
    tests = unittest.defaultTestLoader.loadTestsFromName(next(filter(_exists, suite.tests)))
    _chosen(tests, only).run(UnittestRecorder(report))


def _chosen(tests: unittest.TestSuite, only: set[str]) -> unittest.TestSuite:
    """The suite itself, or those of its tests that are wanted."""
    return unittest.TestSuite(test for test in _leaves(tests) if test.id() in only) if only else tests


def _leaves(tests: Any) -> list[unittest.TestCase]:
    if not isinstance(tests, unittest.TestSuite):
        return [tests]
    return [leaf for test in tests for leaf in _leaves(test)]


def _dispatcher_state() -> list[Any]:
    """Whether the dispatcher still records, how many allocations it has charged, and what it says about itself."""
    thag_nb = sys.modules.get("thag_nb")
    if thag_nb is None:
        return ["off", 0, []]
    allocations = sum(record.allocations for record in thag_nb.read().contexts)
    status = thag_nb.status()
    return [status.state, allocations, list(status.notes)]


def child(name: str, path: str, *only: str) -> None:
    """Runs a suite, or some of its tests; the last line of the report is the dispatcher's state."""
    report = Report(path)
    suite = SUITES[name]
    run = _run_pytest if suite.package else _run_unittest
    run(suite, report, set(only))
    report.write("", "finished", json.dumps(_dispatcher_state()))


# ---- the parent: the same suite in both modes ----


class Run(NamedTuple):
    """What a child left."""

    outcomes: dict[str, str]
    reasons: dict[str, str]
    state: str  # of the dispatcher: off, recording
    allocations: int
    notes: list[str]
    problem: str  # of the child itself, or empty


class Place(NamedTuple):
    """Where the children run, and for how long."""

    folder: Path
    timeout: int

    @property
    def python(self) -> str:
        return str(self.folder / "venv" / "bin" / "python")

    @property
    def sources(self) -> Path:
        return self.folder / "sources"


def _make_environment(folder: Path) -> None:
    """A virtual environment that sees the packages that we see, without their .pth files, and runs `STARTUP`."""
    venv.create(folder / "venv", symlinks=True)
    packages = next((folder / "venv" / "lib").glob("python*/site-packages"))
    shutil.copy(__file__, packages / "thag_peers.py")
    (packages / "thag_peers_startup.py").write_text(STARTUP)
    seen = [str(_origin("thag_nb").parent), *(path for path in sys.path if path.endswith("site-packages"))]
    (packages / "thag_peers.pth").write_text("\n".join([*seen, "import thag_peers_startup", ""]))


def _origin(package: str) -> Path:
    """The directory of a package."""
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        sys.exit(f"{package} is not installed in {sys.executable}")
    return Path(spec.origin).parent


def _run(place: Place, name: str, mode: str, only: tuple[str, ...] = ()) -> Run:
    """Runs a child, and shows on stderr that it goes on."""
    with tempfile.TemporaryDirectory(dir=place.folder, ignore_cleanup_errors=True) as folder:
        report = Path(folder) / "report"
        report.touch()
        process = subprocess.Popen(
            [place.python, "-m", "thag_peers", "--child", name, str(report), *only],
            cwd=folder,
            env={
                **os.environ,
                "THAG_PEERS": mode,
                "THAG_PEERS_SOURCES": str(place.sources),
                "NPY_AVAILABLE_MEM": "1 GB",
            },
            stdin=subprocess.DEVNULL,
            stdout=(Path(folder) / "output").open("wb"),
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        problem = _wait(process, f"{name}, dispatcher {mode}", report, place.timeout)
        return _read(report, f"{problem}: {_last_line(Path(folder) / 'output')}" if problem else "")


def _wait(process: subprocess.Popen[bytes], name: str, report: Path, timeout: int) -> str:
    """What was wrong with the child, in a few words, or nothing."""
    began = time.monotonic()
    try:
        while time.monotonic() - began < timeout:
            with contextlib.suppress(subprocess.TimeoutExpired):
                status = process.wait(10)
                return f"exited with {status}" if status else ""
            lines = report.read_bytes().count(b"\n")
            print(f"{name}: {time.monotonic() - began:.0f} s, {lines:,} events", file=sys.stderr)
        return f"did not finish in {timeout:,} s"
    finally:
        # Also what a test has left running.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _read(report: Path, problem: str) -> Run:
    outcomes: dict[str, str] = {}
    reasons: dict[str, str] = {}
    state: list[Any] = ["unknown", 0, []]
    for test, outcome, reason in map(json.loads, report.read_text(encoding="utf-8").splitlines()):
        if outcome == "finished":
            state = json.loads(reason)
        elif OUTCOMES.index(outcome) >= OUTCOMES.index(outcomes.get(test, OUTCOMES[0])):
            outcomes[test], reasons[test] = outcome, reason
    recording, allocations, notes = state
    return Run(outcomes, reasons, recording, allocations, notes, problem or ("" if outcomes else "ran no test"))


def _last_line(path: Path) -> str:
    return (path.read_text(errors="replace").splitlines() or ["it printed nothing"])[-1]


class Difference(NamedTuple):
    """A test that ended differently: its outcomes off and on, of the suite first and then of each rerun."""

    test: str
    off: list[str]
    on: list[str]
    reason: str

    @property
    def known(self) -> str:
        """Why this test fails as it does, if that is known."""
        text, why = KNOWN.get(self.test, ("", ""))
        return why if text in self.reason else ""

    @property
    def verdict(self) -> str:
        """A test is flaky if it differs from itself with the dispatcher off, or if it is the same when run again."""
        if self.known:
            return "known"
        if len(set(self.off)) > 1 or any(off == on for off, on in zip(self.off, self.on, strict=True)):
            return "flaky"
        return "differs"

    def __str__(self) -> str:
        sentence = f"  {self.verdict}: {self.test}: off {', '.join(self.off)}; on {', '.join(self.on)}"
        return "\n      ".join(filter(None, [sentence, self.known or self.reason]))


def _compare(place: Place, name: str, off: Run, on: Run) -> list[Difference]:
    tests = sorted(off.outcomes.keys() | on.outcomes.keys())
    differing = [test for test in tests if off.outcomes.get(test) != on.outcomes.get(test)]
    reruns = RERUNS if len(differing) <= RERUN_LIMIT else 0
    return [_difference(place, name, test, off, on, reruns) for test in differing]


def _difference(place: Place, name: str, test: str, off: Run, on: Run, reruns: int) -> Difference:
    """Runs a differing test again, alone, until it is the same twice or `reruns` are used up."""
    reason = on.reasons.get(test) or off.reasons.get(test, "")
    difference = Difference(test, [_outcome(off, test)], [_outcome(on, test)], _indented(reason))
    for _ in range(reruns):
        if difference.verdict == "differs":
            difference.off.append(_outcome(_run(place, name, "off", (test,)), test))
            difference.on.append(_outcome(_run(place, name, "on", (test,)), test))
    return difference


def _indented(reason: str) -> str:
    return reason.strip().replace("\n", "\n      ")


def _failures(off: Run, on: Run) -> list[str]:
    """Tests that fail in both modes: they say something about this Python or this machine, and nothing about us."""
    tests = [test for test, outcome in on.outcomes.items() if outcome == off.outcomes.get(test) == "failed"]
    return [f"  failed both: {test}\n      {_indented(off.reasons[test])}" for test in tests]


def _outcome(run: Run, test: str) -> str:
    return run.outcomes.get(test, "not run")


def _sentence(run: Run) -> str:
    """``1,234 passed, 3 skipped``, and what was wrong with the child."""
    counts = Counter(run.outcomes.values())
    parts = [f"{counts[outcome]:,} {outcome}" for outcome in OUTCOMES if counts[outcome]]
    return ", ".join([*parts, *filter(None, [run.problem])])


def _check_suite(place: Place, name: str) -> bool:
    """Runs a suite in both modes and prints what came out. False if a test or a child differs."""
    off, on = (_run(place, name, mode) for mode in ("off", "on"))
    differences = _compare(place, name, off, on)
    same = not off.problem and not on.problem and on.state == "recording"
    same = same and all(difference.verdict != "differs" for difference in differences)
    both = f"{_sentence(off)} both" if _sentence(off) == _sentence(on) else f"off {_sentence(off)}; on {_sentence(on)}"
    verdict = "DIFFERENT" if not same else "same but for what follows" if differences else "same"
    print(f"{_title(name)}: {both}; {verdict} ({on.allocations:,} allocations charged, {on.state} at the end)")
    for line in [*differences, *_failures(off, on), *(f"  note: {note}" for note in on.notes)]:
        print(line, flush=True)
    return same


# ---- what there is to run ----


def _exists(module: str) -> bool:
    """True if the module can be imported; its package is imported to find out."""
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def _missing(suite: Suite) -> str:
    """Why a suite cannot be run, or nothing."""
    packages = [suite.package, "pytest", *suite.needs] if suite.package else []
    absent = [package for package in packages if not _exists(package)]
    absent += [tool for tool in suite.tools if shutil.which(tool) is None]
    if absent:
        return f"it needs {' and '.join(absent)}"
    if not suite.sources and not any(map(_exists, suite.tests)):
        return f"there is no {' or '.join(suite.tests)} here"
    return ""


def _title(name: str) -> str:
    """The suite's name, and which version its tests are of."""
    package = SUITES[name].package
    return f"{name} ({package} {version(package)})" if package else name


def _fetch_sources(place: Place, package: str) -> str:
    """Unpacks the source distribution of the version that is installed. What was wrong, or nothing."""
    wanted = [f"{package}=={version(package)}", f"--no-binary={package}", "--no-deps", f"--dest={place.sources}"]
    pip = subprocess.run([sys.executable, "-m", "pip", "download", "-q", *wanted], capture_output=True, text=True)
    if pip.returncode:
        return (pip.stderr.splitlines() or ["pip failed"])[-1]
    [archive] = place.sources.glob(f"{package}-*.tar.gz")
    shutil.unpack_archive(archive, place.sources, filter="data")
    return ""


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Other projects' tests, with the dispatcher off and on.")
    parser.add_argument("suites", nargs="*", metavar="SUITE", help=f"some of {', '.join(SUITES)} (default: all)")
    parser.add_argument("--timeout", type=int, default=600, help="seconds for one suite in one mode (default 600)")
    options = parser.parse_args()
    unknown = sorted(set(options.suites) - SUITES.keys())
    if unknown:
        parser.error(f"no suite {', '.join(unknown)}; there are {', '.join(SUITES)}")
    return options


def main() -> None:
    options = _options()
    if not _exists("_testcapi"):
        print("This Python has no _testcapi: tests that need it are skipped.")
    # Tests interrupt themselves; children inherit a signal that is ignored, as in the background of a shell.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    alike = True
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        place = Place(Path(folder), options.timeout)
        _make_environment(place.folder)
        for name in options.suites or SUITES:
            alike &= _check_or_skip(place, name)
    sys.exit(0 if alike else 1)


def _check_or_skip(place: Place, name: str) -> bool:
    suite = SUITES[name]
    why = _missing(suite)
    if suite.sources and not why:
        why = _fetch_sources(place, suite.package)
    if why:
        print(f"{name}: skipped: {why}", flush=True)
        return True
    return _check_suite(place, name)


if __name__ == "__main__":
    child(*sys.argv[2:]) if sys.argv[1:2] == ["--child"] else main()
