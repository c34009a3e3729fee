"""Contexts follow work that is handed over."""

import asyncio
import concurrent.futures
import contextvars
import inspect
import multiprocessing
import multiprocessing.pool
import sys
import textwrap
import threading
import types
from collections.abc import Callable, Iterable, Iterator

import pytest
from blocks import SIZE
from figures import assert_sums_hold, of
from processes import python

import thag_nb

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


def test_work_that_waits_costs_its_submitter_less_than_a_hundred_bytes_more():
    def waiting_bytes(task: str, submit: Callable[..., object]) -> int:
        with thag_nb.task(task):
            keep = [submit(pool, len, "") for _ in range(1000)]
        return of(task).self_live_bytes * bool(keep)

    go, submit = threading.Event(), concurrent.futures.ThreadPoolExecutor.submit
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        pool.submit(go.wait)
        bare, carried = waiting_bytes("bare", submit.__wrapped__), waiting_bytes("carried", submit)
        go.set()
    assert carried - bare < 1000 * 100


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


def test_what_following_threads_imports_is_charged_to_nobody():
    code = """
        import sys, thag_nb
        with thag_nb.task("first"):
            imported = "multiprocessing.pool" in sys.modules
        recording = thag_nb.read()
        print(imported, sum(record.total_bytes for record in recording.contexts) < 100_000)
    """
    assert python(code) == "True True\n"


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
