"""Contexts follow work that is handed over."""

import asyncio
import concurrent.futures
import contextvars
import copy
import functools
import gc
import inspect
import logging
import multiprocessing
import multiprocessing.pool
import pickle
import sys
import textwrap
import threading
import traceback
import types
import weakref
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from unittest import mock

import pytest
from blocks import SIZE
from figures import assert_sums_hold, of
from processes import python

import thag_nb
from thag_nb import _native

PACKAGE = str(Path(thag_nb.__file__).parent)

WRAPPED = [
    (threading.Thread, "start"),
    (concurrent.futures.ThreadPoolExecutor, "submit"),
    (concurrent.futures.Future, "add_done_callback"),
    (multiprocessing.pool.ThreadPool, "apply_async"),
    (multiprocessing.pool.ThreadPool, "_map_async"),
    (multiprocessing.pool.ThreadPool, "imap"),
    (multiprocessing.pool.ThreadPool, "imap_unordered"),
]


def found() -> list[object]:
    return [owner.__dict__.get(name) for owner, name in WRAPPED]


@pytest.fixture(autouse=True)
def following() -> Iterator[None]:
    before = found()
    thag_nb.start(threads=True)
    thag_nb.reset()
    yield
    thag_nb.stop()
    assert found() == before


def name() -> str:
    return thag_nb.current_context().name


def in_thread(function: Callable[[], object], make: Callable[..., threading.Thread] = threading.Thread) -> list[object]:
    results: list[object] = []
    thread = make(target=lambda: results.append(function()))
    thread.start()
    thread.join()
    return results


def test_a_thread_started_in_a_context_is_charged_to_it():
    with thag_nb.task("starter"):
        keep = in_thread(lambda: bytearray(SIZE))
    assert of("starter").self_live_bytes >= SIZE
    assert len(keep) == 1


def test_a_thread_belongs_to_where_it_was_started_and_not_to_where_it_was_made():
    names = []
    with thag_nb.task("made"):
        thread = threading.Thread(target=lambda: names.append(name()))
    with thag_nb.task("started"):
        thread.start()
    thread.join()
    assert names == ["started"]


def test_a_thread_keeps_its_context_for_its_whole_life_also_after_that_has_ended():
    go, done, keep = threading.Event(), threading.Event(), []

    def work() -> None:
        go.wait()
        keep.append(bytearray(SIZE))
        done.set()

    with thag_nb.task("short"):
        thread = threading.Thread(target=work)
        thread.start()
    assert of("short").state == "ended"
    with thag_nb.task("next"):
        go.set()
        done.wait()
    thread.join()
    assert of("short").live_bytes >= SIZE
    assert of("short").state == "ended"
    assert of("short").retained_bytes < SIZE
    assert of("next").live_bytes < SIZE


def test_a_thread_started_in_no_context_is_the_roots():
    assert in_thread(name) == ["root"]


def test_a_thread_of_untracked_work_is_untracked():
    with thag_nb.untracked():
        assert in_thread(name) == ["system"]


def test_a_subclass_that_overrides_run_and_a_timer_follow():
    names = []

    class Own(threading.Thread):
        def run(self) -> None:
            names.append(name())

    with thag_nb.task("subclass"):
        own = Own()
        own.start()
        timer = threading.Timer(0.01, lambda: names.append(name()))
        timer.start()
    own.join()
    timer.join()
    assert names == ["subclass", "subclass"]
    assert "run" not in own.__dict__


def test_a_thread_that_cannot_start_again_says_so_and_stays_usable():
    with thag_nb.task("twice"):
        thread = threading.Thread(target=lambda: None)
        thread.start()
        with pytest.raises(RuntimeError, match="threads can only be started once"):
            thread.start()
    thread.join()
    assert "run" not in thread.__dict__


class GuardedRun(threading.Thread):
    def __setattr__(self, attribute: str, value: object) -> None:
        assert attribute != "run"
        super().__setattr__(attribute, value)


class PropertyRun(threading.Thread):
    @property
    def run(self) -> Callable[[], None]:
        return super().run


THREADS_INHERIT = bool(getattr(sys.flags, "thread_inherit_context", 0))


@pytest.mark.parametrize(
    ("make", "where"), [(GuardedRun, "starter"), (PropertyRun, "starter" if THREADS_INHERIT else "root")]
)
def test_a_thread_whose_run_cannot_be_assigned_starts_and_follows_if_it_can(make, where):
    with thag_nb.task("starter"):
        assert in_thread(name, make) == [where]


def test_a_run_that_was_set_on_a_thread_runs_in_its_starters_context_and_stays():
    names: list[str] = []
    thread = threading.Thread()
    thread.run = own = lambda: names.append(name())
    with thag_nb.task("starter"):
        thread.start()
    thread.join()
    assert names == ["starter"]
    assert thread.__dict__["run"] is own


def test_a_thread_that_cannot_start_keeps_the_run_that_was_set_on_it(monkeypatch):
    def refuse(*_: object, **__: object) -> None:
        raise RuntimeError("can't start new thread")

    thread = threading.Thread()
    thread.run = own = lambda: None
    for function in ("_start_new_thread", "_start_joinable_thread"):
        monkeypatch.setattr(threading, function, refuse, raising=False)
    with thag_nb.task("refused"), pytest.raises(RuntimeError, match="can't start new thread"):
        thread.start()
    assert thread.__dict__["run"] is own


def test_a_wrapper_of_start_that_wraps_our_run_on_the_thread_calls_it_once():
    code = """
        import threading, thag_nb
        names, original = [], threading.Thread.start
        def theirs(thread):
            run = thread.run
            def theirs_and_run():
                names.append("theirs")
                run()
            thread.run = theirs_and_run
            original(thread)
        threading.Thread.start = theirs
        thag_nb.start(threads=True)
        with thag_nb.task("starter"):
            thread = threading.Thread(target=lambda: names.append(thag_nb.current_context().name))
            thread.start()
        thread.join()
        assert names == ["theirs", "starter"], names
    """
    assert python(code) == ""


def test_a_wrapper_of_start_that_takes_the_function_out_of_our_run_calls_it_with_the_thread():
    code = """
        import functools, threading, thag_nb
        names, original = [], threading.Thread.start
        def theirs(thread):
            function = getattr(thread.run, "__func__", thread.run)
            @functools.wraps(function)
            def theirs_and_run():
                names.append("theirs")
                function(threading.current_thread())
            thread.run = theirs_and_run
            original(thread)
        threading.Thread.start = theirs
        thag_nb.start(threads=True)
        with thag_nb.task("starter"):
            thread = threading.Thread(target=lambda: names.append(thag_nb.current_context().name))
            thread.start()
        thread.join()
        assert names == ["theirs", "starter"], names
    """
    assert python(code) == ""


def test_our_run_on_a_thread_passes_for_the_method_that_it_took_the_place_of():
    thread = threading.Thread()
    method, before = thread.run, repr(thread.run)
    with thag_nb.task("starter"):
        run = _native.carry_run(thread, _native.flow())
    assert (repr(run), run.__doc__, run.__name__) == (before, method.__doc__, "run")  # type: ignore[attr-defined]
    assert isinstance(run, types.MethodType)
    assert run.__self__ is thread
    assert run.__func__.__wrapped__ is method.__func__  # type: ignore[attr-defined]
    run.give_up()
    assert "run" not in vars(thread)


def test_start_new_thread_is_the_roots():
    import _thread

    names, done = [], threading.Event()
    with thag_nb.task("low level"):
        _thread.start_new_thread(lambda: (names.append(name()), done.set()), ())
        done.wait()
    assert names == ["root"]


def test_each_piece_of_work_brings_its_own_context_and_workers_keep_none():
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        with thag_nb.task("first"):
            first = pool.submit(name)
        with thag_nb.task("second"):
            second = pool.submit(name)
            mapped = list(pool.map(lambda _: name(), range(3)))
        last = pool.submit(name)
    assert [first.result(), second.result(), *mapped, last.result()] == ["first", *["second"] * 4, "root"]


def test_a_pools_idle_worker_belongs_to_nobody():
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        with thag_nb.task("submitter"):
            pool.submit(bytearray, SIZE).result()
        pool.submit(int).result()
        assert of("submitter").state == "ended"
        assert of("submitter").live_bytes < SIZE
    assert_sums_hold()


def test_an_exception_in_the_work_reaches_the_submitter_unchanged():
    def fail() -> None:
        raise KeyError("mine")

    with concurrent.futures.ThreadPoolExecutor(1) as pool, thag_nb.task("failing"):
        with pytest.raises(KeyError, match="mine"):
            pool.submit(fail).result()
        assert pool.submit(name).result() == "failing"


@pytest.mark.parametrize("way", ["apply", "apply_async", "map", "starmap", "imap", "imap_unordered"])
def test_a_thread_pool_of_multiprocessing_follows(way):
    def work(*_: object) -> str:
        return name()

    with multiprocessing.pool.ThreadPool(2) as pool, thag_nb.task(way):
        results = {
            "apply": lambda: [pool.apply(work)],
            "apply_async": lambda: [pool.apply_async(work).get()],
            "map": lambda: pool.map(work, range(4)),
            "starmap": lambda: pool.starmap(work, [(1, 2)] * 4),
            "imap": lambda: list(pool.imap(work, range(4))),
            "imap_unordered": lambda: list(pool.imap_unordered(work, range(4))),
        }[way]()
    assert set(results) == {way}


@pytest.mark.parametrize("way", ["apply_async", "map_async", "imap", "imap_unordered", "add_done_callback"])
def test_a_function_handed_over_by_keyword_is_taken_and_follows(way):
    def work(*_: object) -> str:
        names.append(name())

    names: list[str] = []
    future = concurrent.futures.Future()
    with multiprocessing.pool.ThreadPool(1) as pool, thag_nb.task(way):
        {
            "apply_async": lambda: pool.apply_async(func=work, args=(1,)).get(),
            "map_async": lambda: pool.map_async(func=work, iterable=[1]).get(),
            "imap": lambda: list(pool.imap(func=work, iterable=[1])),
            "imap_unordered": lambda: list(pool.imap_unordered(func=work, iterable=[1])),
            "add_done_callback": lambda: future.add_done_callback(fn=work),
        }[way]()
    future.set_result(None)
    assert names == [way]


def test_keywords_of_the_work_are_the_works_whatever_they_are_called():
    with concurrent.futures.ThreadPoolExecutor(1) as pool, thag_nb.task("keywords"):
        assert pool.submit(dict, fn=len, self=1, function=2).result() == {"fn": len, "self": 1, "function": 2}


WRONG_CALLS = {
    "start": [lambda start: start(), lambda start: start(3)],
    "submit": [lambda submit: submit(), lambda submit: submit(None), lambda submit: submit(None, fn=len)],
    "add_done_callback": [lambda add: add(concurrent.futures.Future()), lambda add: add(None, len, len, fn=len)],
    "apply_async": [lambda apply: apply(None), lambda apply: apply(None, len, func=len), lambda apply: apply(x=1)],
    "_map_async": [lambda map_async: map_async(None, len)],
    "imap": [lambda imap: imap(None, len), lambda imap: imap(None, len, [], 1, 2)],
    "imap_unordered": [lambda imap: imap(None, func=len), lambda imap: imap(None, len, [], iterable=[])],
}


@pytest.mark.parametrize(("owner", "method"), WRAPPED)
def test_a_wrong_call_gets_the_originals_complaint(owner, method):
    def complaint(function: Callable[..., object], call: Callable[[Callable[..., object]], object]) -> str:
        with pytest.raises((TypeError, AttributeError)) as raised:
            call(function)
        return repr(raised.value)

    wrapper = getattr(owner, method)
    with thag_nb.task("wrong"):
        for call in WRONG_CALLS[method]:
            assert complaint(wrapper, call) == complaint(wrapper.__wrapped__, call)


@pytest.mark.parametrize(("owner", "method"), WRAPPED)
def test_what_is_wrapped_keeps_its_name_its_doc_and_its_signature(owner, method):
    wrapper = getattr(owner, method)
    original = wrapper.__wrapped__
    assert wrapper is not original
    assert (wrapper.__qualname__, wrapper.__doc__) == (original.__qualname__, original.__doc__)
    assert inspect.signature(wrapper) == inspect.signature(original)


class AnswersEverything:
    def __getattr__(self, name: str) -> "AnswersEverything":
        return self

    def __call__(self, *_: object) -> str:
        return name()

    __hash__ = None


class AnswersNothing(AnswersEverything):
    def __getattr__(self, name: str) -> AnswersEverything:
        raise RuntimeError(name)


@pytest.mark.parametrize("make", [AnswersEverything, AnswersNothing])
def test_a_callable_is_handed_over_unasked_whatever_it_answers(make):
    with concurrent.futures.ThreadPoolExecutor(1) as pool, thag_nb.task("odd"):
        assert pool.submit(make()).result() == "odd"
        thread = threading.Thread(target=make(), name="named, for threading asks the others")
        thread.start()
        thread.join()


def test_work_that_waits_costs_its_submitter_no_more_than_without_us():
    def waiting_bytes(task: str, submit: Callable[..., object]) -> int:
        with thag_nb.task(task):
            keep = [submit(pool, len, "") for _ in range(1000)]
        return of(task).self_live_bytes * bool(keep)

    go, submit = threading.Event(), concurrent.futures.ThreadPoolExecutor.submit
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        pool.submit(go.wait)
        waiting_bytes("before", submit)  # takes what the free lists have
        bare, carried = waiting_bytes("bare", submit.__wrapped__), waiting_bytes("carried", submit)
        go.set()
    assert carried - bare < 1000 * 16


def test_what_carries_is_charged_to_nobody():
    items = _native.carried_items((), None)
    with thag_nb.task("who asks"):
        kept = [iter(items) for _ in range(1000)]
    assert of("who asks").self_live_bytes < len(kept) * 16  # the list


def test_handing_over_costs_no_more_than_without_us():
    def costs(
        task: str, submit: Callable[..., object], add_done_callback: Callable[..., object], start: Callable[..., object]
    ) -> int:
        future: concurrent.futures.Future[int] = concurrent.futures.Future()
        threads = [threading.Thread(target=int) for _ in range(20)]
        with thag_nb.task(task):
            for thread in threads:
                submit(pool, int)
                add_done_callback(future, int)
                start(thread)
        for thread in threads:
            thread.join()
        return of(task).allocations

    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        wrapped: list[Callable[..., object]] = [
            type(pool).submit,
            concurrent.futures.Future.add_done_callback,
            threading.Thread.start,
        ]
        costs("before", *wrapped)
        bare = costs("bare", *(function.__wrapped__ for function in wrapped))
        assert costs("handed over", *wrapped) - bare < 20 * 5


def test_the_collector_is_left_alone_while_work_is_handed_over():
    def prepare(*_: object) -> None:
        seen.append(gc.isenabled())
        gc.disable()  # as another thread may, for this is code of Python's

    seen: list[bool] = []
    try:
        assert _native.handover(len, prepare)("four") == 4
        assert (seen, gc.isenabled()) == ([True], False)
    finally:
        gc.enable()


def test_what_is_sent_to_another_interpreter_goes_as_it_is(monkeypatch):
    class InterpreterPoolExecutor(concurrent.futures.ThreadPoolExecutor):
        pass

    module = types.SimpleNamespace(InterpreterPoolExecutor=InterpreterPoolExecutor)
    monkeypatch.setitem(sys.modules, "concurrent.futures.interpreter", module)
    with InterpreterPoolExecutor(1) as pool, thag_nb.task("sender"):
        assert pool.submit(name).result() == "root"


def lazily() -> Iterator[bytearray]:
    for _ in range(4):
        yield bytearray(SIZE)


class Sized:
    """Has a length, and makes its items when they are asked for."""

    def __len__(self) -> int:
        return 4

    def __iter__(self) -> Iterator[bytearray]:
        return lazily()


@pytest.mark.parametrize("chunk", [1, 3])
@pytest.mark.parametrize("way", ["imap", "imap_unordered", "map"])
def test_an_iterable_is_charged_to_who_hands_it_over_and_not_to_the_pools_maker(way, chunk):
    with thag_nb.task("maker"):
        pool = multiprocessing.pool.ThreadPool(1)
    with pool, thag_nb.task("user"):
        items: Iterable[bytearray] = Sized() if way == "map" else lazily()
        keep = list(getattr(pool, way)(lambda item: item, items, chunk))
    assert len(keep) == 4
    assert of("user").self_live_bytes >= 4 * SIZE
    assert of("maker").self_live_bytes < SIZE


@pytest.mark.parametrize("way", ["imap", "imap_unordered"])
def test_an_iterable_that_fails_says_so_where_its_results_are_asked_for(way):
    def failing() -> Iterator[int]:
        yield 1
        raise KeyError("mine")

    with multiprocessing.pool.ThreadPool(1) as pool, thag_nb.task("failing"):
        results = getattr(pool, way)(abs, failing())
        assert next(results) == 1
        with pytest.raises(KeyError, match="mine"):
            next(results)
        with pytest.raises(TypeError, match="'int' object is not iterable"):
            list(getattr(pool, way)(abs, 3))


@pytest.mark.parametrize("way", ["apply_async", "map_async", "starmap_async"])
def test_a_thread_pools_callbacks_run_in_the_context_that_handed_them_over(way):
    def fail(*_: object) -> None:
        raise KeyError

    names: list[str] = []
    with thag_nb.task("maker"):
        pool = multiprocessing.pool.ThreadPool(1)
    with pool:
        for task in ("first", "second"):
            with thag_nb.task(task):
                for work in (lambda *_: None, fail):
                    callbacks = dict.fromkeys(("callback", "error_callback"), lambda _: names.append(name()))
                    getattr(pool, way)(work, [(1,)], **callbacks).wait()
        pool.close()
        pool.join()
    assert names == ["first"] * 2 + ["second"] * 2


class OwnWorkers(concurrent.futures.ThreadPoolExecutor):
    """With workers that are told of their pool, and are among its threads before they start."""

    served: list[str]

    def _adjust_thread_count(self) -> None:
        self.served = []
        worker = threading.Thread(target=OwnWorkers.serve, args=(self,))
        self._threads.add(worker)  # type: ignore[attr-defined]
        worker.start()

    def serve(self) -> None:
        self.served.append(name())
        work = self._work_queue.get()  # type: ignore[attr-defined]
        function = work.fn if sys.version_info < (3, 14) else work.task[0]
        work.future.set_result(function())
        self.served.append(name())


def test_workers_of_a_pools_own_kind_belong_to_nobody():
    with thag_nb.task("first"), OwnWorkers(1) as pool:
        assert pool.submit(name).result() == "first"
        (worker,) = pool._threads  # type: ignore[attr-defined]
        worker.join()
        assert pool.served == ["root", "root"]


def test_a_thread_that_is_only_told_of_a_pool_stays_with_its_starter():
    names: list[str] = []
    with concurrent.futures.ThreadPoolExecutor(1) as pool, thag_nb.task("starter"):
        thread = threading.Thread(target=lambda _: names.append(name()), args=(pool,))
        thread.start()
        thread.join()
    assert names == ["starter"]


class Sealed:
    """Answers no question, not even what it is."""

    @property
    def __class__(self) -> type:
        raise RuntimeError


@pytest.mark.parametrize("arguments", [(Sealed(), 2), [1, 2], iter((1, 2)), map(int, "12"), {1: "one", 2: "two"}])
def test_a_threads_arguments_reach_its_target_as_they_were_given(arguments):
    given: list[object] = []

    def work(_first: object, second: object) -> None:
        given.extend((second, name()))

    with thag_nb.task("starter"):
        thread = threading.Thread(target=work, args=arguments)
        thread.start()
    thread.join()
    assert given == [2, "starter"]


def test_a_thread_without_arguments_to_unpack_fails_where_it_would_without_us(monkeypatch):
    failed: list[str] = []
    monkeypatch.setattr(threading, "excepthook", lambda failure: failed.append(str(failure.exc_value)))
    with thag_nb.task("starter"):
        thread = threading.Thread(target=name, args=None)  # type: ignore[arg-type] # that is what is wrong with it
        thread.start()
    thread.join()
    (message,) = failed
    assert "must be an iterable" in message


class Worker(threading.Thread):
    served = ""

    def run(self) -> None:
        self.served = name()


class WorkerWithThread:
    served = ""

    def serve(self) -> None:
        self.served = name()


@pytest.mark.parametrize("module", ["anyio._backends._asyncio", "trio._core._thread_cache"])
def test_workers_of_the_pools_of_other_libraries_belong_to_nobody(module, monkeypatch):
    own, without = Worker(), WorkerWithThread()
    with_thread = threading.Thread(target=without.serve)
    with thag_nb.task("first"):
        before = Worker()
        before.start()
        for kind, worker in ((Worker, own), (WorkerWithThread, with_thread)):
            monkeypatch.setitem(sys.modules, module, types.SimpleNamespace(WorkerThread=kind))
            worker.start()
            worker.join()
        before.join()
    assert (before.served, own.served, without.served) == ("first", "root", "root")


@pytest.mark.skipif(sys.version_info < (3, 14), reason="threads are given contexts since 3.14")
def test_a_thread_that_was_given_a_context_stays_in_it():
    names: list[str] = []
    with thag_nb.task("given"):
        given = contextvars.copy_context()
        with thag_nb.task("starter"):
            for context in (given, contextvars.Context(), None):
                thread = threading.Thread(target=lambda: names.append(name()), context=context)  # type: ignore[call-arg]
                thread.start()
                thread.join()
    assert names == ["given", "root", "starter"]


def test_what_workers_of_dask_are_asked_for_is_nobodys():
    """They are there when the first of them starts a thread, and what they are asked for comes by messages."""
    code = """
        import sys, threading, types
        import thag_nb

        class Worker:
            def handle_stimulus(self, *events):
                "What it says of itself."
                return [thag_nb.current_context().name, *events]

        thag_nb.start()
        sys.modules["distributed.worker"] = module = types.ModuleType("distributed.worker")
        module.Worker = Worker
        own = Worker.handle_stimulus
        with thag_nb.task("who made the client"):
            thread = threading.Thread(target=int)
            thread.start()
            thread.join()
            print(Worker().handle_stimulus(1, 2), Worker.handle_stimulus.__doc__)
        thag_nb.stop()
        print(Worker.handle_stimulus is own)
        thag_nb.start()
        with thag_nb.task("who made another"):
            print(Worker().handle_stimulus())
    """
    assert python(code).splitlines() == ["['root', 1, 2] What it says of itself.", "True", "['root']"]


def test_the_threads_that_handle_a_thread_pool_belong_to_nobody():
    with thag_nb.task("maker"), multiprocessing.pool.ThreadPool(1) as pool:
        # Left uncarried, so that they show where the handlers are.
        imap = multiprocessing.pool.ThreadPool.imap.__wrapped__
        assert list(imap(pool, str, (name() for _ in range(2)))) == ["root"] * 2


def test_what_a_pool_of_processes_sends_back_is_charged_to_the_pools_maker():
    with thag_nb.task("maker"), multiprocessing.get_context("spawn").Pool(1) as pool:
        keep = pool.map(bytearray, [SIZE])
        assert of("maker").self_live_bytes >= SIZE
    assert len(keep) == 1


def test_to_thread_and_run_in_executor_follow():
    async def work(task: str) -> list[str]:
        with thag_nb.task(task):
            await asyncio.sleep(0)
            loop = asyncio.get_running_loop()
            return [await asyncio.to_thread(name), await loop.run_in_executor(None, name)]

    async def main() -> list[list[str]]:
        return await asyncio.gather(*(work(f"task {number}") for number in range(50)))

    assert asyncio.run(main()) == [[f"task {number}"] * 2 for number in range(50)]


def test_callbacks_run_in_the_context_that_registered_them():
    async def main() -> list[str]:
        loop, names = asyncio.get_running_loop(), []
        future = loop.create_future()
        with thag_nb.task("registering"):
            loop.call_soon(lambda: names.append(name()))
            loop.call_later(0.001, lambda: names.append(name()))
            future.add_done_callback(lambda _: names.append(name()))
        future.set_result(None)
        await asyncio.sleep(0.02)
        return names

    assert asyncio.run(main()) == ["registering"] * 3


def test_a_done_callback_of_a_concurrent_future_runs_in_the_context_that_added_it():
    names, future = [], concurrent.futures.Future()
    with thag_nb.task("adding"):
        future.add_done_callback(lambda _: names.append(name()))
    with thag_nb.task("finishing"):
        future.set_result(None)
    assert names == ["adding"]


def test_a_done_callback_added_in_no_context_is_the_roots_wherever_the_future_is_resolved():
    names, future = [], concurrent.futures.Future()
    future.add_done_callback(lambda _: names.append(name()))
    with thag_nb.task("resolving"):
        future.set_result(None)
        assert name() == "resolving"
    assert names == ["root"]


def test_run_coroutine_threadsafe_takes_the_callers_context():
    async def work() -> str:
        await asyncio.sleep(0)
        return name()

    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    with thag_nb.task("caller"):
        result = asyncio.run_coroutine_threadsafe(work(), loop).result()
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()
    assert result == "caller"


def test_a_contextvars_context_moved_over_threads_takes_its_work_along():
    with thag_nb.task("moving"):
        context = contextvars.copy_context()
    names: list[object] = []
    for _ in range(20):
        names += in_thread(lambda: context.run(name))
    assert names == ["moving"] * 20


def test_a_guard_closed_in_another_thread_leaves_neither_thread_in_the_wrong_context():
    guard = thag_nb.push_allocator_context(thag_nb.Allocator.TASK_AWARE, "handed over")
    in_thread(guard.close)
    assert name() == "root"
    with thag_nb.task("inner"):
        pass
    assert name() == "root"


def test_a_done_callback_that_runs_at_once_leaves_its_callers_context_alone():
    future, names = concurrent.futures.Future(), []
    future.set_result(None)
    with thag_nb.task("caller"):
        future.add_done_callback(lambda _: names.append(name()))
        assert name() == "caller"
    assert names == ["caller"]


def test_a_thousand_short_threads_whose_blocks_others_free_lose_no_count():
    keep: list[bytearray] = []
    with thag_nb.task("many threads"):
        for _ in range(50):
            threads = [threading.Thread(target=lambda: keep.append(bytearray(SIZE))) for _ in range(20)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
    assert 1000 * SIZE <= of("many threads").self_live_bytes < 1000 * (SIZE + 500)
    keep.clear()
    del threads, thread
    assert of("many threads").self_live_bytes < 1000 * 500
    assert_sums_hold()


def test_a_wrapper_that_came_later_stays_when_we_leave_and_we_come_back_through_it():
    code = """
        import sys, threading, thag_nb
        calls = []
        thag_nb.start(threads=True)
        ours = threading.Thread.start
        def theirs(thread):
            calls.append(thread)
            ours(thread)
        threading.Thread.start = theirs
        def run(task):
            names = []
            with thag_nb.task(task):
                thread = threading.Thread(target=lambda: names.append(thag_nb.current_context().name))
                thread.start()
            thread.join()
            return names
        assert run("on") == ["on"]
        thag_nb.start(threads=False)
        assert threading.Thread.start is theirs
        inherits = getattr(sys.flags, "thread_inherit_context", 0)
        assert run("off") == ["off" if inherits else "root"]
        thag_nb.start(threads=True)
        assert threading.Thread.start is theirs
        assert run("again") == ["again"]
        assert len(calls) == 3
    """
    assert python(code) == ""


def test_a_wrapper_that_came_earlier_is_called_and_left_in_place():
    code = """
        import threading, thag_nb
        calls, original = [], threading.Thread.start
        def theirs(thread):
            calls.append(thread)
            original(thread)
        threading.Thread.start = theirs
        thag_nb.start(threads=True)
        thread = threading.Thread(target=int)
        thread.start()
        thread.join()
        thag_nb.stop()
        assert threading.Thread.start is theirs
        assert len(calls) == 1
    """
    assert python(code) == ""


OTHER_THREAD_HOOKS = """
    import threading, types, thag_nb
    from ipykernel.ipkernel import IPythonKernel
    as_it_was = (threading.Thread.__init__, threading.Thread.run, threading.Thread.start)

    def come_theirs():
        IPythonKernel._initialize_thread_hooks(types.SimpleNamespace(_stdout=None, _stderr=None))
    def go_theirs():
        threading.Thread.__init__, threading.Thread.run = as_it_was[:2]
    def come_ours():
        thag_nb.start(threads=True)
    def go_ours():
        thag_nb.start(threads=False)
    def run(task):
        names = []
        with thag_nb.task(task):
            thread = threading.Thread(target=lambda: names.append(thag_nb.current_context().name))
            thread.start()
        thread.join()
        return names

    for come in ((come_ours, come_theirs), (come_theirs, come_ours)):
        for go in ((go_ours, go_theirs), (go_theirs, go_ours)):
            for step in come:
                step()
            assert run("both") == ["both"]
            go[0]()
            assert run("one") == [("one" if go[0] is go_theirs else "root")]
            go[1]()
            assert run("none") == ["root"]
            thag_nb.stop()
            assert (threading.Thread.__init__, threading.Thread.run, threading.Thread.start) == as_it_was
"""


def test_ipykernel_6s_thread_hooks_and_ours_come_and_go_in_any_order():
    ipykernel = pytest.importorskip("ipykernel.ipkernel")
    if not hasattr(ipykernel.IPythonKernel, "_initialize_thread_hooks"):
        pytest.skip("this ipykernel leaves threading.Thread alone")
    assert python(OTHER_THREAD_HOOKS) == ""


def test_joblibs_threading_backend_follows():
    joblib = pytest.importorskip("joblib")
    with thag_nb.task("joblib"):
        names = joblib.Parallel(n_jobs=2, backend="threading")(joblib.delayed(name)() for _ in range(8))
    assert names == ["joblib"] * 8


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_worker_processes_work_as_ever(method):
    context = multiprocessing.get_context(method)
    with thag_nb.task("processes"), concurrent.futures.ProcessPoolExecutor(2, mp_context=context) as pool:
        assert list(pool.map(abs, range(-20, 0))) == list(range(20, 0, -1))


def test_work_submitted_in_a_context_whose_record_was_given_back_is_the_nearest_open_ones():
    code = """
        import threading, thag_nb
        from concurrent.futures import ThreadPoolExecutor
        thag_nb.start(threads=True)
        go, names = threading.Event(), []
        with ThreadPoolExecutor(1) as pool, thag_nb.task("open"):
            pool.submit(go.wait)
            with thag_nb.task("ended"):
                last = pool.submit(lambda: thag_nb.current_context().name)
            for _ in range(20_000):
                with thag_nb.task("filler"):
                    pass
            thag_nb.reset()
            go.set()
            print(last.result())
    """
    assert python(code) == "open\n"


FOLLOWS = """
    import threading, thag_nb
    as_it_was = threading.Thread.start
    def follows():
        names = []
        with thag_nb.task("around"):
            thread = threading.Thread(target=lambda: names.append(thag_nb.current_context().name))
            thread.start()
        thread.join()
        return names == ["around"]
"""


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        (["follows()"], [True]),
        (["thag_nb.start()", "follows()"], [None, True]),
        (["thag_nb.start(threads=False)", "follows()"], [None, False]),
        (["thag_nb.start(threads=False)", "thag_nb.stop()", "follows()"], [None, None, False]),
        (["thag_nb.start(threads=False)", "thag_nb.start()", "follows()"], [None, None, True]),
        (["thag_nb.start()", "thag_nb.start(threads=False)", "follows()"], [None, None, False]),
        (["follows()", "thag_nb.stop()", "follows()"], [True, None, True]),
    ],
    ids=lambda steps: " ".join(map(str, steps)),
)
def test_threads_are_followed_unless_somebody_said_otherwise(steps, expected):
    code = f"""
        told = [eval(step) for step in {steps!r}]
        thag_nb.stop()
        print(told == {expected!r}, threading.Thread.start is as_it_was)
    """
    assert python(textwrap.dedent(FOLLOWS) + textwrap.dedent(code)) == "True True\n"


def test_unloading_the_extension_leaves_what_the_program_had_said_of_threads():
    code = """
        from IPython.core.interactiveshell import InteractiveShell
        shell = InteractiveShell.instance()
        thag_nb.start(threads=False)
        shell.run_line_magic("load_ext", "thag_nb")
        loaded = follows()
        shell.run_line_magic("unload_ext", "thag_nb")
        print(loaded, follows())
    """
    assert python(textwrap.dedent(FOLLOWS) + textwrap.dedent(code)) == "True False\n"


# ---- what is imported only when recording has begun ----


def test_nothing_is_imported_to_be_followed():
    code = """
        import sys, thag_nb
        before = set(sys.modules)
        thag_nb.start()
        with thag_nb.task("first"):
            pass
        print(sorted(set(sys.modules) - before), thag_nb.status().threads)
    """
    assert python(code) == "[] True\n"


def test_a_thread_brings_no_pool_along():
    code = """
        import sys, thag_nb
        with thag_nb.task("first"):
            import threading
            before = set(sys.modules)
            thread = threading.Thread(target=int)
            thread.start()
            thread.join()
        print(sorted(set(sys.modules) - before))
    """
    assert python(code) == "[]\n"


# Each imports what it needs, and says where the work was that it handed over.
LATER = {
    "thread": """
        import threading
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    """,
    "subclass": """
        from threading import Thread
        class Own(Thread):
            def run(self):
                work()
        thread = Own()
        thread.start()
        thread.join()
    """,
    "timer": """
        from threading import Timer
        timer = Timer(0, work)
        timer.start()
        timer.join()
    """,
    "submit": """
        from concurrent.futures import ThreadPoolExecutor
        with ThreadPoolExecutor(1) as pool:
            pool.submit(work)
    """,
    "submit, by its module's name": """
        from importlib import import_module
        with import_module("concurrent.futures.thread").ThreadPoolExecutor(1) as pool:
            pool.submit(work)
    """,
    "map": """
        import concurrent.futures
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            pool.map(work, [1])
    """,
    "add_done_callback": """
        from concurrent.futures import Future
        future = Future()
        future.add_done_callback(work)
        contextvars.Context().run(future.set_result, None)
    """,
    "apply": """
        from multiprocessing.pool import ThreadPool
        with ThreadPool(1) as pool:
            pool.apply(work)
    """,
    "imap": """
        from multiprocessing.dummy import Pool
        with Pool(1) as pool:
            list(pool.imap(work, [1]))
    """,
    "to_thread": """
        import asyncio
        asyncio.run(asyncio.to_thread(work))
    """,
    "run_in_executor": """
        import asyncio
        async def main():
            await asyncio.get_running_loop().run_in_executor(None, work)
        asyncio.run(main())
    """,
}

HANDS_OVER = """
import _thread, contextvars, os, sys, time, thag_nb
FOLLOWED = ("threading", "concurrent.futures._base", "concurrent.futures.thread", "multiprocessing.pool")

names = []
def work(*_):
    names.append(thag_nb.current_context().name)

def hand_over():
    with thag_nb.task("hander"):
        exec(CODE, {"work": work, "contextvars": contextvars})

def in_threads(count, function):
    def run():
        try:
            function()
        finally:
            ended.append(count)
    ended = []
    for _ in range(count):
        _thread.start_new_thread(run, ())
    while len(ended) < count:
        time.sleep(0.001)

def leave():
    # Without taking the interpreter apart, in which CPython waits now and then for ever for such threads.
    sys.stdout.flush()
    os._exit(0)
"""


def handing_over(way: str, code: str) -> str:
    """What `code` prints, which is called where nothing that hands work over is imported."""
    return python(f"CODE = {textwrap.dedent(LATER[way])!r}\n{HANDS_OVER}\n{textwrap.dedent(code)}")


@pytest.mark.parametrize("way", LATER)
def test_what_is_imported_after_the_start_is_followed_from_its_first_use_on(way):
    code = """
        thag_nb.start()
        assert not any(name in sys.modules for name in FOLLOWED)
        hand_over()
        print(names)
    """
    assert handing_over(way, code) == "['hander']\n"


@pytest.mark.parametrize("way", LATER)
def test_what_another_thread_imports_after_the_start_is_followed_from_its_first_use_on(way):
    code = """
        thag_nb.start()
        in_threads(1, hand_over)
        print(names)
        hand_over()
        print(names)
        leave()
    """
    assert handing_over(way, code) == "['hander']\n['hander', 'hander']\n"


@pytest.mark.parametrize("way", ["thread", "submit", "apply"])
def test_threads_that_import_at_the_same_time_all_find_it_followed(way):
    code = """
        sys.setswitchinterval(1e-6)
        thag_nb.start()
        in_threads(10, hand_over)
        print(len(names), set(names))
        leave()
    """
    assert handing_over(way, code) == "10 {'hander'}\n"


@pytest.mark.parametrize("way", LATER)
def test_what_is_imported_after_the_start_is_bare_again_after_the_stop(way):
    code = """
        before = sys.meta_path
        thag_nb.start()
        hand_over()
        thag_nb.stop()
        kinds = [kind for name in FOLLOWED for kind in vars(sys.modules.get(name, sys)).values() if type(kind) is type]
        print([function for kind in kinds for function in vars(kind).values()
               if type(function).__module__.startswith("thag_nb")], sys.meta_path is before)
        thag_nb.start()
        hand_over()
        print(names)
    """
    assert handing_over(way, code) == "[] True\n['hander', 'hander']\n"


@pytest.mark.parametrize("way", LATER)
def test_what_is_imported_after_a_stop_is_left_alone_until_the_next_start(way):
    code = """
        before = sys.meta_path
        thag_nb.start()
        thag_nb.stop()
        assert sys.meta_path is before
        import asyncio, multiprocessing.pool
        from threading import Thread
        from concurrent.futures import Future, ThreadPoolExecutor
        as_it_was = [Thread.start, Future.add_done_callback, ThreadPoolExecutor.submit]
        print([function for function in as_it_was if hasattr(function, "__wrapped__")])
        thag_nb.start()
        hand_over()
        thag_nb.start(threads=False)
        print(names, as_it_was == [Thread.start, Future.add_done_callback, ThreadPoolExecutor.submit])
    """
    assert handing_over(way, code) == "[]\n['hander'] True\n"


@pytest.mark.parametrize("way", ["thread", "submit", "apply"])
def test_what_is_imported_again_is_followed_and_what_was_imported_before_still_works(way):
    code = """
        thag_nb.start()
        hand_over()
        packages = ("threading", "concurrent", "multiprocessing")
        old = {name: sys.modules.pop(name) for name in list(sys.modules) if name.partition(".")[0] in packages}
        hand_over()
        print(names, all(sys.modules[name] is not old[name] for name in FOLLOWED if name in old))
        thread = old["threading"].Thread(target=work)
        thread.start()
        thread.join()
        thag_nb.stop()
        print(len(names), hasattr(old["threading"].Thread.start, "__wrapped__"))
    """
    assert handing_over(way, code) == "['hander', 'hander'] True\n3 False\n"


def test_a_module_that_is_loaded_anew_works_and_is_followed_from_the_next_start_on():
    code = """
        import importlib
        thag_nb.start()
        hand_over()
        importlib.reload(sys.modules["threading"])
        hand_over()
        thag_nb.start()
        hand_over()
        print(len(names), names[2])
        print(type(sys.modules["threading"].__spec__) is type(sys.__spec__))
    """
    assert handing_over("thread", code) == "3 hander\nTrue\n"


UNCHANGEABLE = """
class Compiled(type):
    def __setattr__(self, *_):
        raise TypeError
class Thread(metaclass=Compiled):
    def start(self):
        pass
"""


@pytest.mark.parametrize("source", ["Thread = 'spun'", "Thread = range  # whose start is a number", UNCHANGEABLE])
def test_another_module_by_a_name_that_is_waited_for_is_imported_as_it_is(source, tmp_path):
    (tmp_path / "threading.py").write_text(source)
    code = """
        import thag_nb
        thag_nb.start()
        import threading
        thag_nb.stop()
        print(threading.Thread, hasattr(getattr(threading.Thread, "start", None), "__wrapped__"))
    """
    told = {"Thread = 'spun'": "spun", UNCHANGEABLE: "<class 'threading.Thread'>"}.get(source, "<class 'range'>")
    assert python(code, PYTHONPATH=f"{tmp_path}:{Path(PACKAGE).parent}") == f"{told} False\n"


class StopsMeanwhile(type):
    """Of a class that is being wrapped when somebody stops the recording."""

    def __setattr__(cls, attribute: str, value: object) -> None:
        thag_nb.stop()
        super().__setattr__(attribute, value)


def worker_module(kind: type = type) -> types.SimpleNamespace:
    """A module as Dask has it, whose class of workers nobody else refers to."""
    return types.SimpleNamespace(Worker=kind("Worker", (), {"handle_stimulus": lambda _: None}))


def test_what_is_wrapped_while_another_thread_stops_is_bare_in_the_end(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed.worker", module := worker_module(StopsMeanwhile))
    in_thread(name)  # which looks
    assert inspect.isfunction(module.Worker.handle_stimulus)
    assert not hasattr(module.Worker.handle_stimulus, "__wrapped__")
    assert not thag_nb.status().threads


def test_a_class_that_was_wrapped_goes_with_its_module_once_recording_has_stopped(monkeypatch):
    monkeypatch.delitem(sys.modules, "distributed.worker", raising=False)
    sys.modules["distributed.worker"] = module = worker_module()
    thag_nb.start()
    wrapper = module.Worker.handle_stimulus
    assert hasattr(wrapper, "__wrapped__")
    reference = weakref.ref(module.Worker)
    del sys.modules["distributed.worker"], module, wrapper
    thag_nb.stop()
    gc.collect()
    assert reference() is None


def test_threads_are_followed_again_when_a_task_starts_what_was_stopped():
    code = """
        import threading, thag_nb
        thag_nb.start(threads=True)
        thag_nb.stop()
        assert not thag_nb.status().threads
        names = []
        with thag_nb.task("again"):
            thread = threading.Thread(target=lambda: names.append(thag_nb.current_context().name))
            thread.start()
            thread.join()
        print(names, thag_nb.status().threads)
    """
    assert python(code) == "['again'] True\n"


# ---- whoever looks finds no more than without us ----


def ours(frames: Iterable[traceback.FrameSummary]) -> list[traceback.FrameSummary]:
    return [frame for frame in frames if frame.filename.startswith(PACKAGE)]


def our_frames(*_: object) -> list[traceback.FrameSummary]:
    """Those around here; work that can be handed over."""
    return ours(traceback.extract_stack())


def called_back(add: Callable[[concurrent.futures.Future, Callable[..., object]], object]) -> object:
    seen, future = [], concurrent.futures.Future()
    add(future, lambda _: seen.append(our_frames()))
    return seen[0]


def finished(future: concurrent.futures.Future) -> concurrent.futures.Future:
    future.set_result(None)
    return future


def awaited(hand_over: Callable[[], object]) -> object:
    async def main() -> object:
        return await hand_over()

    return asyncio.run(main())


def in_pool(use: Callable[[multiprocessing.pool.ThreadPool], object]) -> object:
    with multiprocessing.pool.ThreadPool(1) as pool:
        return use(pool)


def submitted(work: Callable[..., object]) -> object:
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        return pool.submit(work).result()


WAYS: dict[str, Callable[[], object]] = {
    "thread": lambda: in_thread(our_frames)[0],
    "own run": lambda: in_thread(our_frames, GuardedRun)[0],
    "submit": lambda: submitted(our_frames),
    "to_thread": lambda: awaited(lambda: asyncio.to_thread(our_frames)),
    "run_in_executor": lambda: awaited(lambda: asyncio.get_running_loop().run_in_executor(None, our_frames)),
    "callback when done": lambda: called_back(lambda future, work: finished(future.add_done_callback(work) or future)),
    "callback at once": lambda: called_back(lambda future, work: finished(future).add_done_callback(work)),
    "apply": lambda: in_pool(lambda pool: pool.apply(our_frames)),
    "map": lambda: in_pool(lambda pool: pool.map(our_frames, [1]))[0],
    "imap": lambda: in_pool(lambda pool: list(pool.imap(our_frames, [1])))[0],
    "items": lambda: in_pool(lambda pool: list(pool.imap(lambda frames: frames, (our_frames() for _ in [1]))))[0],
}


@pytest.mark.parametrize("way", WAYS)
def test_no_frame_of_ours_is_around_work_that_was_handed_over(way):
    with thag_nb.task("looking"):
        assert WAYS[way]() == []


def fail(*_: object) -> None:
    raise KeyError("mine")


class FailingItems:
    def __len__(self) -> int:
        fail()

    def __iter__(self) -> Iterator[int]:
        fail()


def start_twice() -> None:
    thread = threading.Thread(target=int)
    thread.start()
    thread.start()


def submit_too_late() -> None:
    pool = concurrent.futures.ThreadPoolExecutor(1)
    pool.shutdown()
    pool.submit(fail)


FAILURES: dict[str, Callable[[], object]] = {
    "submit": lambda: submitted(fail),
    "apply": lambda: in_pool(lambda pool: pool.apply(fail)),
    "items of a map": lambda: in_pool(lambda pool: pool.map(abs, FailingItems())),
    "items of an imap": lambda: in_pool(lambda pool: list(pool.imap(abs, FailingItems()))),
    "an item": lambda: in_pool(lambda pool: list(pool.imap(abs, (fail() for _ in [1])))),
    "start twice": start_twice,
    "submit too late": submit_too_late,
    "not iterable": lambda: in_pool(lambda pool: pool.imap(abs, 3).next()),
}


@pytest.mark.parametrize("way", FAILURES)
def test_no_frame_of_ours_stands_in_a_traceback_of_what_was_handed_over(way):
    with thag_nb.task("failing"), pytest.raises(Exception) as raised:  # noqa: PT011 - each way has its own
        FAILURES[way]()
    assert ours(traceback.extract_tb(raised.value.__traceback__)) == []


def test_no_frame_of_ours_stands_in_what_is_logged_of_a_callback_and_printed_of_a_thread(caplog, capsys):
    future = concurrent.futures.Future()
    with thag_nb.task("failing"):
        future.add_done_callback(fail)
        thread = threading.Thread(target=fail)
        with mock.patch.object(threading, "excepthook", threading.__excepthook__), caplog.at_level(logging.ERROR):
            thread.start()
            thread.join()
            future.set_result(None)
    said = caplog.text + capsys.readouterr().err
    assert said.count("KeyError: 'mine'") == 2
    assert PACKAGE not in said


def test_what_carries_a_function_answers_as_the_function_does():
    carrier = _native.carrier(our_frames, None)
    assert type(carrier) is not types.FunctionType
    assert (carrier.__name__, carrier.__doc__, carrier.__wrapped__) == ("our_frames", our_frames.__doc__, our_frames)
    assert isinstance(carrier, types.FunctionType)
    assert (repr(carrier), inspect.signature(carrier)) == (repr(our_frames), inspect.signature(our_frames))
    with pytest.raises(AttributeError):
        _ = carrier.nothing_of_that_name


@pytest.mark.parametrize("move", [lambda carrier: pickle.loads(pickle.dumps(carrier)), copy.copy])
def test_what_carries_a_function_arrives_elsewhere_as_the_function_alone(move):
    assert move(_native.carrier(abs, _native.flow())) is abs


@pytest.mark.parametrize("make", [_native.carrier, _native.carried_items, _native.carry_run])
def test_only_a_flow_is_carried_along(make):
    with pytest.raises(TypeError, match="work is carried under what flow\\(\\) gave, not 3"):
        make(our_frames, 3)


class Thing:
    """Can be referred to weakly."""

    def work(self, *_: object) -> None:
        pass


def test_an_idle_worker_keeps_neither_the_function_nor_the_arguments_of_its_last_work():
    def handed_over(hand_over: Callable[[Thing, Thing], object]) -> list[weakref.ref[Thing]]:
        function, argument = Thing(), Thing()
        hand_over(function, argument)
        return [weakref.ref(function), weakref.ref(argument)]

    with concurrent.futures.ThreadPoolExecutor(1) as executor, multiprocessing.pool.ThreadPool(1) as pool:
        with thag_nb.task("hander"):
            references = handed_over(lambda function, argument: executor.submit(function.work, argument).result())
            references += handed_over(lambda function, argument: pool.apply(function.work, [argument]))
            references += handed_over(lambda function, argument: list(pool.imap(function.work, [argument])))
            executor.submit(int).result()  # nor does the worker itself any more, which has begun another one
            pool.apply(int)
        assert [reference() for reference in references] == [None] * 6


def test_a_thread_keeps_what_it_was_given_no_longer_than_without_us():
    go, thing = threading.Event(), Thing()
    reference = weakref.ref(thing)
    with thag_nb.task("starter"):
        first = threading.Thread(target=thing.work)
        first.start()
        waiting = threading.Thread(target=go.wait)
        waiting.start()
    first.join()
    del thing
    assert reference() is None
    assert "run" not in waiting.__dict__
    go.set()
    waiting.join()


def keep_by_callback(keeper: Thing) -> None:
    keeper.future = concurrent.futures.Future()
    keeper.future.add_done_callback(keeper.work)


def keep_by_items(keeper: Thing) -> None:
    keeper.items = _native.carried_items([keeper], _native.flow())


def keep_by_iterator(keeper: Thing) -> None:
    keeper.items = iter(_native.carried_items([keeper], _native.flow()))


def keep_by_run(keeper: Thing) -> None:
    keeper.run = keeper.work  # its own, which comes back when this one has run
    _native.carry_run(keeper, _native.flow())


@pytest.mark.parametrize("keep", [keep_by_callback, keep_by_items, keep_by_iterator, keep_by_run])
def test_what_is_carried_may_refer_to_who_keeps_it_and_is_collected(keep):
    keeper = Thing()
    reference = weakref.ref(keeper)
    with thag_nb.task("cycle"):
        keep(keeper)
    del keeper
    gc.collect()
    assert reference() is None


def test_what_hands_over_passes_for_the_function_that_it_wraps():
    wrapper = concurrent.futures.ThreadPoolExecutor.submit
    assert inspect.isfunction(wrapper)
    assert wrapper.__code__ is wrapper.__wrapped__.__code__
    assert repr(wrapper) == repr(wrapper.__wrapped__)
    assert pickle.loads(pickle.dumps(wrapper)) is wrapper
    assert functools.wraps(wrapper)(lambda: None).__wrapped__ is wrapper
    wrapper.noted = 3
    assert wrapper.__wrapped__.noted == 3
    del wrapper.noted
    assert not hasattr(wrapper, "noted")
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        assert pool.submit.__func__ is wrapper
        assert weakref.WeakMethod(pool.submit)()(int).result() == 0


def test_what_hands_over_can_be_stood_in_for_by_a_mock_of_the_same_signature():
    with mock.patch.object(threading.Thread, "start", autospec=True) as start:
        thread = threading.Thread(target=fail)
        thread.start()
        with pytest.raises(TypeError, match="too many positional arguments"):
            thread.start(3)
    start.assert_called_once_with(thread)
