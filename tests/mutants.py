"""Small faults in the core and in what it knows of objects, and the tests that notice them.

    python tests/mutants.py [NAME ...]

Builds a copy of the tree, runs there the tests that are named below, which must pass, and then, with one fault after the
other, those that must fail. A fault that no test notices is a missing test. `tests/test_mutants.py` keeps the list from
rotting: each text stands once in its file, and each test exists.

What is built is what users run, with asserts off: a claim that a test makes is to notice, not a check of our own.

Not in the list is what nothing can notice. The Context left out of the cache's key: CPython counts its version up whenever
another one takes its place, and a thread's first one, for which it does not, begins empty. The id of the thread state, left out
of that key: whoever was in the lane has a version that no other state has. The first look for quiet before
records are given back: the second says no as well. Another interpreter's thread looked up like one of ours: our variable
is in none of its Contexts, so it is root's all the same. The heir of a context that a reset has dropped taken for a stranger
to what it frees: only a reset during the very event leaves the dropped one current. Whoever has the GIL on the
shortcut without it: what it looks up with the GIL, as anything of Python's does, closes that.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
NATIVE = Path("thag_nb/native")
CORE = NATIVE / "core"
_TIMEOUT_S = 120
_FLAGS = "-O1 -Wno-error"  # quick to compile; a fault may leave something unused
_BUILD = [sys.executable, "setup.py", "build_ext", "--inplace"]


class Mutant(NamedTuple):
    """A fault: in `file`, `old` becomes `new`, which breaks what `why` says; one of `tests` notices.

    `file` is in the core if no room is named.
    """

    name: str
    file: str
    old: str
    new: str
    why: str
    tests: tuple[str, ...]
    python: str = ""  # the only version that compiles these lines, if there is one

    @property
    def source(self) -> Path:
        return (NATIVE if "/" in self.file else CORE) / self.file


_DISPATCHER = "tests/core/test_dispatcher.py::"
_CHARGES = "tests/core/test_charges.py::"
_DETACHED = "tests/core/test_detached.py::"
_GIVEN_BACK = "tests/core/test_given_back.py::"
_FAULTS = "tests/core/test_faults.py::"
_CURRENT = "tests/core/test_current.py::"
_LOGS = "tests/core/test_logs.py::"
_LIFECYCLE = "tests/core/test_lifecycle.py::"
_NATIVE = "tests/core/test_native_memory.py::"
_NUMPY = "tests/core/test_numpy_data.py::"
_OWNERS = "tests/core/test_owners.py::"
_PAGES = "tests/core/test_pages.py::"
_VALUES = ("tests/holders/test_walk.py::test_what_a_value_is_made_of_is_found",)
_TIMELINE = "tests/core/test_timeline.py::"
_TRIAL = "tests/holders/test_release.py::"
_WALK = "tests/holders/test_walk.py::"
_CONTEXTS = "tests/runtime/test_contexts.py::"
_PROPAGATION = "tests/runtime/test_propagation.py::"
_STARTED = "tests/runtime/test_dispatcher.py::"
_TASKS = "tests/runtime/test_tasks.py::"
_CARRIER = "bindings/carrier.c"
_GUARD = "bindings/guard.c"
_HANDOVER = "bindings/handover.c"
_RESUMES = "bindings/resumes.c"
_SCOPE = "bindings/scope.c"

MUTANTS = [
    Mutant(
        "cache without the version of contextvars",
        "current.h",
        "           && tstate->context_ver == thread->contextvars_version && thread",
        "           && thread",
        "two Contexts, one after the other at one address, differ in their version alone",
        (_CURRENT + "test_a_contextvars_context_at_the_address_of_one_that_is_gone_is_not_taken_for_it",),
    ),
    Mutant(
        "cache without the generation",
        "current.h",
        "== thread->contextvars_version && thread->generation == thag_generation();",
        "== thread->contextvars_version;",
        "a guard that is left elsewhere changes nothing else that the cache could see",
        (_CURRENT + "test_a_guard_closed_elsewhere_is_passed_over_at_once_by_who_had_looked_it_up",),
    ),
    Mutant(
        "orphaning expires no cache",
        "current.c",
        "    frame->orphaned = true;\n    thag_contexts_expire_caches();\n}",
        "    frame->orphaned = true;\n}",
        "who had looked the frame up goes on with it",
        (_CURRENT + "test_a_guard_closed_elsewhere_is_passed_over_at_once_by_who_had_looked_it_up",),
    ),
    Mutant(
        "restoring stops at an orphan",
        "current.c",
        "        restore(frame, frame_in(frame->parent, here));",
        "        restore(frame, frame->parent);",
        "the nearest guard that is still open is current again, in whatever order the others were closed",
        (_CURRENT + "test_a_guard_closed_in_a_copy_while_another_is_open_above_it_is_not_returned_to",),
    ),
    Mutant(
        "orphans are not passed over",
        "current.c",
        "    while (frame != NULL && (frame->orphaned || (frame->left && frame_opener(frame) == contextvars))) {",
        "    while (frame != NULL && (frame->left && frame_opener(frame) == contextvars)) {",
        "a guard that was not innermost when it was closed is over for every flow",
        (_CURRENT + "test_a_guard_that_was_not_innermost_where_it_was_closed_is_over_also_for_who_inherited_it",),
    ),
    Mutant(
        "a frame left elsewhere is not over for its opener",
        "current.c",
        "(frame->orphaned || (frame->left && frame_opener(frame) == contextvars))",
        "frame->orphaned",
        "the flow that entered it may have another one above it, and would return to it",
        (_CURRENT + "test_a_guard_closed_in_a_copy_while_another_is_open_above_it_is_not_returned_to",),
    ),
    Mutant(
        "a frame that was left is over for all",
        "current.c",
        "(frame->left && frame_opener(frame) == contextvars)",
        "frame->left",
        "work that inherited it goes on in it",
        (_CURRENT + "test_who_inherited_a_guard_goes_on_in_it_when_it_is_closed_in_a_copy",),
    ),
    Mutant(
        "the opener's variable is left as it is",
        "current.c",
        "    restore(frame, thag_current_frame());\n    (void)contextvars_switch(own);",
        "    (void)contextvars_switch(own);",
        "what the flow starts later would inherit a frame that is over",
        (_CURRENT + "test_a_guard_closed_in_a_copy_of_its_context_is_over_where_it_was_entered",),
    ),
    Mutant(
        "restoring the opener expires no cache",
        "current.c",
        "    Py_DECREF(opener);\n    thag_contexts_expire_caches();",
        "    Py_DECREF(opener);",
        "the opener's thread may run meanwhile, and has looked the frame up",
        (_CURRENT + "test_a_thread_that_runs_meanwhile_is_charged_anew_at_once_when_its_guard_is_closed_in_a_copy",),
    ),
    Mutant(
        "Contexts are switched without telling CPython",
        "current.c",
        "    tstate->context_ver++;\n",
        "",
        "it remembers the variable's last value by the version",
        (
            _CURRENT
            + "test_a_guard_that_is_left_alone_by_another_flow_is_over_where_it_was_entered_and_changes_nothing_there",
        ),
        python="3.11",
    ),
    Mutant(
        "a parent that its opener may return to loses its parent",
        "current.c",
        "parent->left && frame_opener(parent) == NULL && parent",
        "parent->left && parent",
        "what is below it would be root's",
        (_CURRENT + "test_a_guard_closed_in_a_copy_while_another_is_open_above_it_is_not_returned_to",),
    ),
    Mutant(
        "an opener that has restored is kept",
        "current.c",
        "            Py_CLEAR(frame->opener);\n",
        "",
        "a chain of flows would grow as long as its first one lives",
        (_CURRENT + "test_a_chain_of_flows_that_are_all_kept_keeps_no_record_of_tasks_that_are_through",),
    ),
    Mutant(
        "the base is the innermost frame",
        "current.c",
        "        if (frame->detached) {",
        "        if (frame->left) {",
        "a cell restores what was current before any cell, not what the last one left open",
        (_CURRENT + "test_what_is_entered_detached_is_left_for_what_was_current_before_anything_was",),
    ),
    Mutant(
        "adopted work keeps its context open",
        "current.c",
        "        entering->frame->holds = mode != THAG_ENTER_ADOPTED;",
        "        entering->frame->holds = true;",
        "a task ends when its own block ends, not when a thread is through that it started",
        (_CURRENT + "test_work_handed_over_runs_in_its_context_and_does_not_keep_it_open",),
    ),
    Mutant(
        "a left parent keeps its parent",
        "current.c",
        "        Py_CLEAR(parent->parent);\n",
        "",
        "callbacks that schedule themselves inside a task would grow a chain for ever",
        (_CURRENT + "test_a_chain_of_flows_each_started_by_the_one_before_keeps_no_record_of_those_that_are_through",),
    ),
    Mutant(
        "the clock is not expired on leaving",
        "current.c",
        "        thag_lifecycle_release(frame->context);\n    }\n    thag_batch_expire();",
        "        thag_lifecycle_release(frame->context);\n    }",
        "what comes after a task would be drawn at its time",
        (_CHARGES + "test_what_follows_a_task_is_drawn_after_it",),
    ),
    Mutant(
        "threads that Python never saw are root's",
        "current.c",
        "    if (own == NULL) {\n        return foreground;",
        "    if (own == NULL) {\n        return thag_contexts.root;",
        "the foreground is the cell that runs",
        (_CURRENT + "test_a_thread_that_python_never_saw_is_charged_to_the_foreground",),
    ),
    Mutant(
        "the foreground stays when it is left",
        "current.c",
        "    foreground_leave(frame);\n    bool innermost",
        "    bool innermost",
        "it would be a context that has ended",
        (_CURRENT + "test_the_foreground_is_the_newest_that_is_still_open_in_whatever_order_and_flow_they_are_left",),
    ),
    Mutant(
        "the newest leaves the foreground for another",
        "current.c",
        "        if (frames[i] != frame) {",
        "        if (i < foreground.count - 1) {",
        "of two cells that run at once, either may end first",
        (_CURRENT + "test_the_foreground_is_the_newest_that_is_still_open_in_whatever_order_and_flow_they_are_left",),
    ),
    Mutant(
        "work handed over comes to the foreground",
        "current.c",
        "frame->context != context || !frame->holds || frame->left",
        "frame->context != context || frame->left",
        "it does not keep its context open",
        (_CURRENT + "test_only_what_the_flow_itself_keeps_open_comes_to_the_foreground",),
    ),
    Mutant(
        "what was left comes to the foreground",
        "current.c",
        "frame->context != context || !frame->holds || frame->left",
        "frame->context != context || !frame->holds",
        "who inherited it is inside, and does not keep it open",
        (_CURRENT + "test_only_what_the_flow_itself_keeps_open_comes_to_the_foreground",),
    ),
    Mutant(
        "what comes to the foreground again is there twice",
        "current.c",
        "    foreground_leave(frame);\n    if (foreground.count == FOREGROUND_ROOM) {",
        "    if (foreground.count == FOREGROUND_ROOM) {",
        "it would push out others",
        (_CURRENT + "test_what_was_the_foreground_comes_there_again_and_is_left_once",),
    ),
    Mutant(
        "the foreground has room for any number",
        "current.c",
        "        foreground_leave(foreground.frames[0]);\n    }\n    foreground",
        "    }\n    foreground",
        "what lies behind its frames would be overwritten",
        (_CURRENT + "test_more_in_the_foreground_than_it_has_room_for_push_out_the_oldest",),
    ),
    Mutant(
        "a free does not clear the record first",
        "dispatcher.c",
        "    thag_event_freed(&thag_this_thread, domain, block);\n    wrapped->free(wrapped->ctx, block);",
        "    wrapped->free(wrapped->ctx, block);\n    thag_event_freed(&thag_this_thread, domain, block);",
        "another thread may be handed the address in between",
        (_DISPATCHER + "test_a_record_is_gone_when_the_wrapped_allocator_frees_or_moves_its_block",),
    ),
    Mutant(
        "a failed realloc loses the record",
        "events.c",
        "        thag_owners_write(old_block, claim.owner.size, claim.owner.slot);\n",
        "        (void)old_block;\n        owner_repay(owner, claim.owner.size, false, claim.log);\n",
        "the block is still there, and still its owner's",
        (_DISPATCHER + "test_a_realloc_that_fails_changes_nothing",),
    ),
    Mutant(
        "a block resized to its own size changes hands",
        "events.c",
        "    else if (size <= claim.owner.size) {",
        "    else if (size < claim.owner.size) {",
        "only one that grows moves to the current context",
        (_DISPATCHER + "test_a_block_resized_to_its_own_size_stays_its_owners",),
    ),
    Mutant(
        "a block that moved into nobody's hands is not repaid",
        "events.c",
        "    else {\n        owner_repay(owner, claim.owner.size, is_foreign(owner, current), claim.log);\n    }\n}",
        "}",
        "its owner would be charged for ever",
        (_NUMPY + "test_a_block_that_grows_in_untracked_work_is_nobodys_any_more",),
    ),
    Mutant(
        "calloc counts one element",
        "dispatcher.c",
        "    thag_event_allocated(thread, domain, block, count * size);",
        "    thag_event_allocated(thread, domain, block, size);",
        "calloc gives count times size bytes",
        (_DISPATCHER + "test_calloc_is_charged_for_all_its_elements_and_zeroed",),
    ),
    Mutant(
        "inner calls are recorded too",
        "dispatcher.c",
        "    thread->depth++;\n    void *block = wrapped->malloc(wrapped->ctx, size);\n    if (THAG_UNLIKELY(--thread->depth != 0)) {",
        "    void *block = wrapped->malloc(wrapped->ctx, size);\n    if (THAG_UNLIKELY(thread->depth != 0)) {",
        "an object over 512 bytes goes through obj and raw, and counts once",
        (_DISPATCHER + "test_an_object_over_512_bytes_is_counted_once",),
    ),
    Mutant(
        "nobody is a stranger",
        "events.c",
        "    return owner != current && current != NULL && owner != thag_context_today(current);",
        "    return owner != current && current != NULL && owner == thag_context_today(current);",
        "a free while another context is current is a foreign one",
        (_DISPATCHER + "test_who_frees_somebody_elses_block_is_counted_as_a_stranger",),
    ),
    Mutant(
        "a stale record is not repaid",
        "events.c",
        "    owner_repay(thag_context_owner(stale.slot), stale.size, false, log);\n",
        "    (void)log;\n    (void)stale;\n",
        "a block whose free was missed would be its owner's for ever",
        (_OWNERS + "test_a_record_whose_free_was_missed_is_repaid_when_a_block_begins_on_it",),
    ),
    Mutant(
        "a slot of somebody's own is redirected",
        "objects.c",
        "    return is_known ? redirection->hook : held;",
        "    return redirection->hook;",
        "its blocks are not the C library's",
        (_NATIVE + "test_a_malloc_of_a_librarys_own_is_left_alone",),
    ),
    Mutant(
        "a slot that was never used is not known",
        "objects.c",
        "    return type == JUMP_SLOT && symbol->st_shndx == SHN_UNDEF && is_within(object->info, held);",
        "    (void)object, (void)type, (void)symbol, (void)held;\n    return false;",
        "many libraries are bound when they first call",
        (_NATIVE + "test_slots_that_were_never_used_are_redirected_and_usable_afterwards",),
    ),
    Mutant(
        "pages stay writable",
        "objects.c",
        "    slots_exchange(all, object);\n    (void)read_only_set(object, false);",
        "    slots_exchange(all, object);",
        "the linker had made them read-only",
        (_NATIVE + "test_after_stop_every_slot_and_every_page_is_what_it_was",),
    ),
    Mutant(
        "slots are not restored",
        "objects.c",
        "    if (held != redirection->hook) {\n        return held;",
        "    if (held != NULL) {\n        return held;",
        "after a stop nothing may lead to us",
        (_NATIVE + "test_after_stop_every_slot_and_every_page_is_what_it_was",),
    ),
    Mutant(
        "calls are not looked at",
        "objects.c",
        "i < object->calls_bytes / sizeof(ElfW(Rela))",
        "i < 0 * object->calls_bytes",
        "most slots are of calls",
        (_NATIVE + "test_slots_that_were_never_used_are_redirected_and_usable_afterwards",),
    ),
    Mutant(
        "words that are loaded are not looked at",
        "objects.c",
        "i < object->relocations_bytes / sizeof(ElfW(Rela))",
        "i < 0 * object->relocations_bytes",
        "those bound at once are among them in some libraries",
        (_NATIVE + "test_functions_that_are_called_by_their_addresses_are_seen",),
    ),
    Mutant(
        "what was closed counts as no change",
        "objects.c",
        "*(uint64_t *)data = info->dlpi_adds + info->dlpi_subs;",
        "*(uint64_t *)data = 0 * info->dlpi_adds;",
        "what is loaded later must be found",
        (_NATIVE + "test_what_is_loaded_while_recording_is_seen_from_the_next_task_on",),
    ),
    Mutant(
        "calloc counts one element for the C library",
        "heap.c",
        "(count, size), count * size);",
        "(count, size), size);",
        "it asks for elements",
        (_NATIVE + "test_a_block_is_charged_to_the_byte_and_repaid",),
    ),
    Mutant(
        "a block is freed before its record is cleared",
        "heap.c",
        "    gone(block);\n    REAL(FREE, void (*)(void *))(block);",
        "    REAL(FREE, void (*)(void *))(block);\n    gone(block);",
        "another thread may be handed the address in between",
        (_NATIVE + "test_a_record_is_gone_when_another_thread_is_handed_the_block",),
    ),
    Mutant(
        "a realloc to nothing is one that failed",
        "heap.c",
        "    if (block != NULL && size == 0) {",
        "    if (block == NULL && size == 0) {",
        "it frees, and gives nothing",
        (_NATIVE + "test_a_block_that_grows_is_whoever_makes_it_grow",),
    ),
    Mutant(
        "what cannot be written to is a block",
        "heap.c",
        "(flags & MAP_ANONYMOUS) != 0 && (protection & PROT_WRITE) != 0;",
        "(flags & MAP_ANONYMOUS) != 0 || (protection & PROT_WRITE) != 0;",
        "it is only addresses",
        (_NATIVE + "test_a_mapping_is_a_block_if_it_can_be_written_to",),
    ),
    Mutant(
        "only what begins there is unmapped",
        "heap.c",
        "    while (!thag_owners_has(block)) {",
        "    while (false) {",
        "a piece may begin in the middle",
        (_NATIVE + "test_what_remains_of_a_mapping_stays_its_owners",),
    ),
    Mutant(
        "what is behind an unmapped piece is lost",
        "heap.c",
        "    size_t after = size > until ? size - until : 0;",
        "    size_t after = 0 * (size > until ? size - until : 0);",
        "it is still there",
        (_NATIVE + "test_what_remains_of_a_mapping_stays_its_owners",),
    ),
    Mutant(
        "one mapping ends with a call",
        "heap.c",
        "page < unmapped.end; page += page_bytes()",
        "page < unmapped.start + page_bytes(); page += page_bytes()",
        "it may unmap several",
        (_NATIVE + "test_one_call_may_unmap_the_end_of_one_mapping_and_all_of_the_next",),
    ),
    Mutant(
        "a mapping is as long as was asked for",
        "heap.c",
        "(char *)start + ((size + page - 1) & ~(page - 1))",
        "(char *)start + size",
        "its last page is whole",
        (_NATIVE + "test_an_odd_size_is_unmapped_by_its_pages",),
    ),
    Mutant(
        "a mapping over another is one more",
        "heap.c",
        "    if (replaced.end != replaced.start) {",
        "    if (replaced.end < replaced.start) {",
        "it takes its place",
        (_NATIVE + "test_a_mapping_over_another_one_takes_its_place",),
    ),
    Mutant(
        "a mapping is moved by nobody",
        "heap.c",
        "    if (flags == MREMAP_MAYMOVE || flags == 0) {",
        "    if (flags == 0) {",
        "most are asked to move",
        (_NATIVE + "test_a_mapping_that_is_remapped_is_resized",),
    ),
    Mutant(
        "names lead past the hooks",
        "heap.c",
        "            return redirections[i].hook;",
        "            return function;",
        "ctypes calls what it finds by name",
        (_NATIVE + "test_functions_that_ctypes_finds_by_name_are_seen",),
    ),
    Mutant(
        "the interpreter's own calls are redirected",
        "heap.c",
        "        return object->is_ours ? 0 : LOADING;",
        "        return object->is_ours ? 0 : LOADING | BLOCKS | MAPPINGS;",
        "its allocators are hooked already",
        (_NATIVE + "test_the_interpreters_own_slots_are_left_alone",),
    ),
    Mutant(
        "a part of a block is nobody's",
        "events.c",
        "    if (context != NULL && record_write(part, size, context, log)) {",
        "    if (context == NULL && record_write(part, size, context, log)) {",
        "it stays its owner's",
        (_NATIVE + "test_what_remains_of_a_mapping_stays_its_owners",),
    ),
    Mutant(
        "NumPy's calloc counts one element",
        "numpy_data.c",
        "        thag_event_allocated(thread, THAG_NUMPY, block, count * size);",
        "        thag_event_allocated(thread, THAG_NUMPY, block, size);",
        "np.zeros asks for elements",
        (_NUMPY + "test_an_array_of_zeros_is_charged_for_all_its_elements",),
    ),
    Mutant(
        "NumPy's handler is hooked twice",
        "numpy_data.c",
        "    if (thag_numpy_hook() != THAG_HOOK_ABSENT) {\n        return false;",
        "    if (thag_numpy_hook() == THAG_HOOK_BURIED) {\n        return false;",
        "what it wraps would be itself, and recurse for ever",
        (_NUMPY + "test_a_handler_is_hooked_once_and_put_back_as_it_was",),
    ),
    Mutant(
        "any version of NumPy's handler will do",
        "numpy_data.c",
        "    return handler->version == 1;",
        "    return handler->version >= 1;",
        "of another version the layout is not known",
        (_NUMPY + "test_a_handler_of_another_version_is_refused_and_left_alone",),
    ),
    Mutant(
        "a batch has no highest point",
        "charges.c",
        "    return (thag_movement){live, batch->high_bytes, batch->low_bytes};",
        "    return (thag_movement){live, live > 0 ? live : 0, batch->low_bytes};",
        "a spike within a batch would be in no peak",
        (_TIMELINE + "test_a_dip_and_a_spike_within_one_reading_of_the_clock_are_drawn",),
    ),
    Mutant(
        "a batch has no lowest point",
        "charges.c",
        "    return (thag_movement){live, batch->high_bytes, batch->low_bytes};",
        "    return (thag_movement){live, batch->high_bytes, live < 0 ? live : 0};",
        "a dip within a batch would be on no timeline",
        (_TIMELINE + "test_a_dip_and_a_spike_within_one_reading_of_the_clock_are_drawn",),
    ),
    Mutant(
        "shares are not taken over before an event",
        "charges.h",
        "    return THAG_LIKELY(!thag_logs_wait()) || thag_charges_take_over();",
        "    return true;",
        "spikes in both lanes, one after the other, would be added to each other",
        (_CHARGES + "test_spikes_one_after_the_other_in_both_lanes_are_not_taken_for_one",),
    ),
    Mutant(
        "what both stand under falls and rises",
        "charges.c",
        "    both_shift(context, risen, owner, fallen, thag_movement_straight(rise - fall), batch->now_ns);",
        "    both_shift(context, risen, owner, fallen, thag_movement_then(fallen, risen), batch->now_ns);",
        "a block that moves between siblings moves nothing above them but by the difference",
        (_CHARGES + "test_a_block_that_moves_between_siblings_draws_no_dip_on_the_timeline_above",),
    ),
    Mutant(
        "a moved block is no free of its owner",
        "charges.c",
        "    counter_add(&owner->frees, 1);\n    counter_add(&owner->foreign_frees, 1);",
        "    counter_add(&owner->foreign_frees, 1);",
        "allocations less frees are the blocks that there are",
        (_CHARGES + "test_a_block_that_grows_in_somebody_elses_hands_is_a_foreign_free_of_its_owner",),
    ),
    Mutant(
        "without the GIL, nothing above is charged",
        "detached.c",
        "    for (thag_context *context = merging.context; context != NULL; context = thag_context_parent(context)) {",
        "    for (thag_context *context = merging.context; context != NULL; context = NULL) {",
        "figures include what was started under a context, in either lane",
        (_CHARGES + "test_a_spike_is_in_every_peak_and_on_every_timeline_up_to_the_root",),
    ),
    Mutant(
        "an event that is in progress is quiet",
        "detached.c",
        "    return thag_logs_turns(&occupied) == count && !occupied;",
        "    return thag_logs_turns(&occupied) == count;",
        "a thread without the GIL may be about to charge a record that is given back",
        (_NUMPY + "test_a_reset_in_the_middle_of_an_event_without_the_gil_gives_no_record_back",),
    ),
    Mutant(
        "a bucket begins as high as the last one was",
        "contexts.c",
        "        thag_store(&context->high_bytes, live_bytes);\n    }\n    context->bucket_end_ns",
        "    }\n    context->bucket_end_ns",
        "a spike would be drawn for ever",
        (_TIMELINE + "test_buckets_are_as_worked_out_by_hand_before_and_after_they_widen",),
    ),
    Mutant(
        "the generation stands still",
        "contexts.c",
        "    last_generation = last_generation == UINT32_MAX ? 1 : last_generation + 1;",
        "    last_generation = 1;",
        "no thread would look its context up again",
        (_CURRENT + "test_a_guard_closed_elsewhere_is_passed_over_at_once_by_who_had_looked_it_up",),
    ),
    Mutant(
        "the record of a dropped context counts on",
        "lifecycle.c",
        "    thag_store(&from->self_live_bytes, 0);\n    counts_zero(from);",
        "    counts_zero(from);",
        "what it held would be there twice, with its heir as well",
        (_LIFECYCLE + "test_an_heir_takes_over_what_is_live_and_a_stranger_is_repaid_there",),
    ),
    Mutant(
        "a restart keeps the own peak",
        "lifecycle.c",
        "    thag_store(&context->self_peak_bytes, thag_load(&context->self_live_bytes));\n",
        "",
        "after a reset, peaks count from what is live",
        (_LIFECYCLE + "test_a_reset_starts_counts_totals_and_peaks_of_what_is_open_from_what_is_live",),
    ),
    Mutant(
        "the second quiet check is left out",
        "lifecycle.c",
        "    thag_owners_rename(slot_today, slot_is_named);\n    if (!thag_detached_is_quiet(begun) || !thag_charges_catch_up()) {\n        return;\n    }",
        "    thag_owners_rename(slot_today, slot_is_named);\n    (void)thag_charges_catch_up();",
        "a thread without the GIL may write a dropped context's id while the table is renamed",
        (_LIFECYCLE + "test_an_event_without_the_gil_while_the_table_is_renamed_keeps_all_records",),
    ),
    Mutant(
        "retained is what the context held itself",
        "lifecycle.c",
        "    context->retained_bytes = thag_charges_figures(context).live_bytes;",
        "    context->retained_bytes = thag_charges_figures(context).self_live_bytes;",
        "figures include what was started under a context",
        (_LIFECYCLE + "test_what_is_retained_is_what_was_live_at_the_end_with_all_below",),
    ),
    Mutant(
        "a tiny block of 16 bytes takes two entries",
        "owners.h",
        "    if (size <= THAG_TINY_BYTES) {\n        if (slot >= THAG_TINY_SLOTS",
        "    if (size < THAG_TINY_BYTES) {\n        if (slot >= THAG_TINY_SLOTS",
        "its second word lies where the next block begins",
        (_OWNERS + "test_a_block_that_comes_later_begins_where_the_record_of_one_ends",),
    ),
    Mutant(
        "a stale last entry is not looked for",
        "owners.c",
        "    for (int back = 1; back < HUGE_ENTRIES && (size_t)back <= index; back++) {",
        "    for (int back = 1; back < HUGE_ENTRIES - 1 && (size_t)back <= index; back++) {",
        "a record that starts two granules below would be half overwritten",
        (
            _OWNERS + "test_a_record_whose_free_was_missed_is_repaid_when_a_block_begins_on_it",
            _OWNERS + "test_the_one_record_that_only_a_later_entry_of_a_new_one_covers_is_repaid",
        ),
    ),
    Mutant(
        "second entries are not renamed",
        "owners.c",
        "        near_rename(at + 1, slot, new_slot, THAG_NEAR_SLOTS, slot, new_slot, all);",
        "        (void)near_rename;",
        "plain and huge records would name a context whose record was given back",
        (_OWNERS + "test_records_of_every_kind_pass_to_the_heir_when_their_context_is_forgotten",),
    ),
    Mutant(
        "the last page of a leaf is not renamed",
        "owners.c",
        "            thag_pages_visit(visitor.leaf, THAG_LEAF_ENTRIES * sizeof(thag_entry), entries_page, &visitor);",
        "            thag_pages_visit(visitor.leaf, THAG_LEAF_ENTRIES * sizeof(thag_entry) - 4096, entries_page, &visitor);",
        "the owner of a block that starts at a leaf's last entry stands there",
        (_OWNERS + "test_records_of_every_kind_pass_to_the_heir_when_their_context_is_forgotten",),
    ),
    Mutant(
        "odd addresses are taken",
        "owners.h",
        "    uint64_t granule = (uint64_t)address >> THAG_GRANULE_SHIFT | (uint64_t)address << (64 - THAG_GRANULE_SHIFT);",
        "    uint64_t granule = (uint64_t)address >> THAG_GRANULE_SHIFT;",
        "two blocks in one granule would share an entry",
        (_OWNERS + "test_an_address_that_no_supported_allocator_returns_is_dropped_and_counted",),
    ),
    Mutant(
        "merged buckets lose the higher one",
        "timeline.c",
        "    bucket->high_bytes = later->high_bytes > bucket->high_bytes ? later->high_bytes : bucket->high_bytes;",
        "    bucket->high_bytes = later->high_bytes;",
        "the highest point of a timeline is the peak",
        (_TIMELINE + "test_buckets_are_as_worked_out_by_hand_before_and_after_they_widen",),
    ),
    Mutant(
        "merged buckets lose the lower one",
        "timeline.c",
        "    bucket->low_bytes = later->low_bytes < bucket->low_bytes ? later->low_bytes : bucket->low_bytes;",
        "    bucket->low_bytes = later->low_bytes;",
        "no dip is lost when buckets widen",
        (_TIMELINE + "test_buckets_are_as_worked_out_by_hand_before_and_after_they_widen",),
    ),
    Mutant(
        "merged buckets end like the earlier one",
        "timeline.c",
        "    bucket->live_bytes = later->live_bytes;\n",
        "",
        "live bytes are those at the end of a bucket",
        (_TIMELINE + "test_buckets_are_as_worked_out_by_hand_before_and_after_they_widen",),
    ),
    Mutant(
        "pages that nobody touched are visited",
        "pages.c",
        "            if (told ? (states[i] & IN_USE) != 0 : page_holds_something(page, page_bytes)) {",
        "            if (told || page_holds_something(page, page_bytes)) {",
        "looking at the table would put all of it in memory",
        (_OWNERS + "test_the_table_takes_a_page_where_a_block_is_and_none_where_none_is",),
    ),
    Mutant(
        "pages in swap are not visited",
        "pages.c",
        "static const page_state IN_USE = UINT64_C(3) << 62;",
        "static const page_state IN_USE = UINT64_C(1) << 63;",
        "the records on them would keep owners that are given back",
        (_PAGES + "test_records_on_pages_in_swap_pass_to_the_heir_and_are_repaid",),
    ),
    Mutant(
        "without the system's word nothing is visited",
        "pages.c",
        "    return all != 0;",
        "    return all == 1;",
        "a sandbox may have no /proc",
        (_PAGES + "test_where_the_system_tells_nothing_of_pages_those_with_records_are_found_all_the_same",),
    ),
    Mutant(
        "without the system's word everything is visited",
        "pages.c",
        "    return all != 0;",
        "    return true || all != 0;",
        "an empty table would be told to take 16 MiB",
        (_PAGES + "test_where_the_system_tells_nothing_of_pages_those_without_records_are_not_counted",),
    ),
    Mutant(
        "pages are not cleared",
        "pages.c",
        "    if (madvise(pages, bytes, MADV_DONTNEED) == 0) {",
        "    if (true) {",
        "what was forgotten at a restart would be repaid by whoever gets the addresses",
        (_OWNERS + "test_what_was_forgotten_is_gone_from_the_table",),
    ),
    Mutant(
        "pages locked in memory are not cleared",
        "pages.c",
        "    memset(pages, 0, bytes);\n",
        "",
        "the system refuses to throw them away",
        (_PAGES + "test_what_was_forgotten_is_gone_from_pages_that_are_locked_in_memory",),
    ),
    Mutant(
        "a cache that knows nothing is asked",
        "current.h",
        "return tstate == thread->tstate && tstate->id == thread->tstate_id",
        "return tstate->id == thread->tstate_id",
        "it is how a cache says that it knows nothing, as after a stop",
        (_DISPATCHER + "test_nothing_is_recorded_after_the_stop_though_the_hooks_are_still_called_and_guards_move",),
    ),
    Mutant(
        "whoever has the GIL is taken for oneself",
        "current.h",
        "    *is_attached = own != NULL && own == tstate;",
        "    *is_attached = own != NULL && tstate != NULL;",
        "3.11 tells the state of whoever has the GIL to a thread that has not",
        (_CURRENT + "test_without_the_gil_a_thread_is_charged_to_its_own_context_while_another_one_has_it",),
        python="3.11",
    ),
    Mutant(
        "frames are never fewer",
        "current.c",
        "int32_t before = atomic_fetch_sub(&frame->context->frames, 1);",
        "int32_t before = 1;",
        "no record would ever be given back",
        (_CONTEXTS + "test_the_records_of_dropped_contexts_are_given_back_and_their_blocks_stay_exact",),
    ),
    Mutant(
        "the clock is not expired on entering",
        "current.c",
        "            thag_lifecycle_hold(context);\n        }\n        thag_batch_expire();\n",
        "            thag_lifecycle_hold(context);\n        }\n",
        "what is in a task would be drawn with what came before it",
        (_TIMELINE + "test_what_comes_after_a_context_was_entered_or_left_is_not_drawn_with_what_was_before",),
    ),
    Mutant(
        "ended contexts are parents at any depth",
        "current.c",
        "while (context->depth > DEEP && context->ended) {",
        "while (false) {",
        "work that goes on for ever would walk an ever longer chain for each event",
        (_CONTEXTS + "test_work_that_reschedules_itself_in_a_task_does_not_nest_for_ever",),
    ),
    Mutant(
        "a realloc does not clear the record first",
        "events.c",
        "        claim.owner = thag_owners_take(block);",
        "        claim.owner = thag_owners_peek(block);",
        "another thread may be handed the address in between",
        (_DISPATCHER + "test_a_record_is_gone_when_the_wrapped_allocator_frees_or_moves_its_block",),
    ),
    Mutant(
        "an inner realloc of an owned block is not settled",
        "events.h",
        "    if (!claim.owned) {\n        if (thread->depth == 0) {",
        "    if (!claim.owned || thread->depth != 0) {\n        if (thread->depth == 0) {",
        "its record was taken, so somebody must put it back or repay",
        (_NUMPY + "test_an_owned_block_that_is_resized_inside_another_call_is_kept_or_repaid",),
    ),
    Mutant(
        "an inner realloc of no block is an allocation of its own",
        "events.h",
        "        if (thread->depth == 0) {\n            thag_event_allocated(",
        "        if (true) {\n            thag_event_allocated(",
        "what happens inside of another call is not counted once more",
        (_NUMPY + "test_what_the_wrapped_handler_takes_from_cpython_is_not_counted_once_more",),
    ),
    Mutant(
        "a large block that is resized in the lane is not counted",
        "events.c",
        "    thag_batch_resized(&thag_open_batch, claim.owner.size, size);\n",
        "",
        "who asks for more is charged for it",
        (_DISPATCHER + "test_a_block_that_its_own_context_resizes_is_charged_for_what_it_is_now",),
    ),
    Mutant(
        "a large block that moves in the lane keeps its record",
        "events.c",
        "    if (at != NULL) {\n        owner = thag_record_take(at, thag_pair_load(at));",
        "    if (at != NULL) {\n        owner = thag_owners_peek(block);",
        "another thread may be handed the address in between",
        (_DISPATCHER + "test_a_record_is_gone_when_the_wrapped_allocator_frees_or_moves_its_block",),
    ),
    Mutant(
        "an inner realloc is charged",
        "events.c",
        "    thag_context *context = outermost ? to_be_charged(current) : NULL;",
        "    (void)outermost;\n    thag_context *context = to_be_charged(current);",
        "what happens inside of another call is not counted once more",
        (_NUMPY + "test_an_owned_block_that_is_resized_inside_another_call_is_kept_or_repaid",),
    ),
    Mutant(
        "a block that shrank to where no record fits is not repaid",
        "events.c",
        "    if (!record_write(block, size, owner, claim.log)) {\n        owner_repay(owner, claim.owner.size, false, claim.log);\n    }\n",
        "    if (!record_write(block, size, owner, claim.log)) {\n        ;\n    }\n",
        "its owner would be charged for ever",
        (_NUMPY + "test_a_block_that_moves_to_where_no_record_can_be_kept_is_repaid",),
    ),
    Mutant(
        "what late events were charged for goes with the record",
        "lifecycle.c",
        "    thag_lifecycle_pass_on_late_charges();\n    thag_contexts_reclaim(is_unused);",
        "    thag_contexts_reclaim(is_unused);",
        "a thread without the GIL looks its context up, a reset drops it, and the thread charges it",
        (
            _LIFECYCLE
            + "test_what_a_thread_without_the_gil_charges_a_context_for_that_was_just_dropped_passes_to_the_heir",
        ),
    ),
    Mutant(
        "a dropped context goes on being charged",
        "current.c",
        "    thread->context = thag_context_today(context);",
        "    thread->context = context;",
        "a flow left in it is charged to the heir, whose totals it would be missing from",
        (_CONTEXTS + "test_a_flow_left_in_a_dropped_context_is_charged_to_the_heir",),
    ),
    Mutant(
        "an allocation that failed is recorded",
        "events.h",
        "    if (THAG_UNLIKELY(block == NULL)) {\n        return;\n    }\n    thag_batch *batch",
        "    thag_batch *batch",
        "there is no block",
        (_DISPATCHER + "test_an_allocation_that_fails_is_not_counted",),
    ),
    Mutant(
        "the word of a hook is trusted",
        "dispatcher.c",
        "if (THAG_LIKELY(offset < sizeof(domains[domain].slots))) {",
        "if (THAG_LIKELY(offset != 0 || true)) {",
        "CPython may read a function and a word that do not belong together",
        (_DISPATCHER + "test_a_hook_that_is_called_with_somebody_elses_word_still_finds_what_it_wraps",),
    ),
    Mutant(
        "each start takes a new slot",
        "dispatcher.c",
        "if (same_allocator(&slot->wrapped, wrapped)) {",
        "if (false && same_allocator(&slot->wrapped, wrapped)) {",
        "there are 256 of them",
        (_DISPATCHER + "test_a_domain_may_be_hooked_again_and_again_above_the_same_allocator",),
    ),
    Mutant(
        "an array is freed before its record is cleared",
        "numpy_data.c",
        "    thag_event_freed(&thag_this_thread, THAG_NUMPY, block);\n    numpy.wrapped.allocator.free(word, block, size);\n",
        "    numpy.wrapped.allocator.free(word, block, size);\n    thag_event_freed(&thag_this_thread, THAG_NUMPY, block);\n",
        "another thread may be handed the address in between",
        (_NUMPY + "test_a_record_is_gone_when_the_wrapped_handler_frees_or_moves_its_block",),
    ),
    Mutant(
        "what NumPy takes from CPython is recorded too",
        "numpy_data.c",
        "    thread->depth++;\n    void *block = numpy.wrapped.allocator.malloc(word, size);\n    thread->depth--;\n",
        "    void *block = numpy.wrapped.allocator.malloc(word, size);\n",
        "since NumPy 2.5 an array goes through the raw domain as well",
        (_NUMPY + "test_what_the_wrapped_handler_takes_from_cpython_is_not_counted_once_more",),
    ),
    Mutant(
        "an open batch goes on over detached events",
        "charges.c",
        "    batch_write();\n    path_tell(batch->context, NULL, batch->now_ns);\n    thag_batch_expire();",
        "    thag_batch_expire();",
        "a spike without the GIL would be put below what was there before it",
        (_CHARGES + "test_a_spike_without_the_gil_is_put_on_top_of_what_was_allocated_before_it",),
    ),
    Mutant(
        "without the GIL there is no highest point",
        "detached.c",
        "        high = live > high ? live : high;",
        "        high = live > 0 ? live : 0;",
        "a spike that is over before anybody looks would be in no peak",
        (_CHARGES + "test_how_far_events_without_the_gil_went_up_and_down_is_known_to_who_looks_afterwards",),
    ),
    Mutant(
        "without the GIL there is no lowest point",
        "detached.c",
        "        share->inclusive = thag_movement_then(share->inclusive, merging.moved);",
        "        thag_movement high = {merging.moved.live_bytes, merging.moved.high_bytes, merging.moved.live_bytes};\n"
        "        share->inclusive = thag_movement_then(share->inclusive, high);",
        "a dip that is over before anybody looks would be on no timeline",
        (_CHARGES + "test_how_far_events_without_the_gil_went_up_and_down_is_known_to_who_looks_afterwards",),
    ),
    Mutant(
        "a context's own peak misses what is within a batch",
        "charges.c",
        "            self_shift(own, moved);",
        "            self_shift(own, thag_movement_straight(moved.live_bytes));",
        "peaks are exact for a context alone as well",
        (_CHARGES + "test_a_spike_is_in_every_peak_and_on_every_timeline_up_to_the_root",),
    ),
    Mutant(
        "the open batch goes to the next context",
        "charges.c",
        "    thag_lane_leave();\n    batch_write();\n    uint64_t now_ns",
        "    thag_lane_leave();\n    uint64_t now_ns",
        "events are charged to the context that they happened in",
        (_CONTEXTS + "test_work_is_charged_to_the_innermost_context_and_then_to_the_one_before",),
    ),
    Mutant(
        "a reading of the clock serves for ever",
        "charges.c",
        "batch->left_bytes = THAG_BATCH_BYTES - (int64_t)size;",
        "batch->left_bytes = INT32_MAX - (int64_t)size;",
        "a timeline may draw so much too early, and no more",
        (_TIMELINE + "test_the_clock_is_read_again_after_so_many_bytes_or_events",),
    ),
    Mutant(
        "a block that grows in its owner's hands frees nothing",
        "charges.h",
        "    batch->frees++;\n    batch->allocations++;",
        "    batch->allocations++;",
        "allocations less frees are the blocks that there are",
        (_CHARGES + "test_a_block_that_grows_is_counted_as_one_free_and_one_allocation",),
    ),
    Mutant(
        "an heir gets nothing",
        "lifecycle.c",
        "    thag_store(&heir->self_live_bytes, live_bytes);",
        "",
        "what a dropped context still holds is charged to the heir",
        (_LIFECYCLE + "test_an_heir_takes_over_what_is_live_and_a_stranger_is_repaid_there",),
    ),
    Mutant(
        "a restart keeps the counts",
        "lifecycle.c",
        "    counts_zero(context);\n    context->started_ns",
        "    context->started_ns",
        "after a reset, totals and counts begin from zero",
        (_LIFECYCLE + "test_a_reset_starts_counts_totals_and_peaks_of_what_is_open_from_what_is_live",),
    ),
    Mutant(
        "a restart keeps the peak",
        "lifecycle.c",
        "    thag_store(&context->peak_bytes, live_bytes);",
        "",
        "after a reset, peaks count from what is live",
        (_LIFECYCLE + "test_a_reset_starts_counts_totals_and_peaks_of_what_is_open_from_what_is_live",),
    ),
    Mutant(
        "a record is given back below a frame",
        "lifecycle.c",
        "    return is_dropped(context) && !context->named_by_records && atomic_load(&context->frames) == 0\n           && atomic_load(&context->holds) == 0;",
        "    return is_dropped(context) && !context->named_by_records && atomic_load(&context->holds) == 0;",
        "a flow that is left in a dropped context would find zeros there",
        (_CONTEXTS + "test_a_flow_that_holds_on_to_a_dropped_context_keeps_its_record_and_is_charged_to_the_heir",),
    ),
    Mutant(
        "blocks keep the names of dropped contexts",
        "lifecycle.c",
        "    thag_owners_rename(slot_today, slot_is_named);",
        "    (void)slot_today;\n    (void)slot_is_named;",
        "their records are given back",
        (_CONTEXTS + "test_the_records_of_dropped_contexts_are_given_back_and_their_blocks_stay_exact",),
    ),
    Mutant(
        "a dropped context keeps its first heir",
        "lifecycle.c",
        "            atomic_store(&context->heir, thag_context_today(context));",
        "            ;",
        "that one may be dropped later, and its record given back",
        (_CONTEXTS + "test_a_flow_in_a_dropped_context_is_charged_to_its_last_heir_when_the_first_is_dropped_as_well",),
    ),
    Mutant(
        "a context that is entered again stays ended",
        "lifecycle.c",
        "        context->ended = false;",
        "",
        "it is open while anybody holds it",
        (_CURRENT + "test_a_context_is_open_while_anybody_holds_it_and_again_when_it_is_entered_again",),
    ),
    Mutant(
        "forgetting draws no fall",
        "lifecycle.c",
        "if (thag_load(&context->low_bytes) > 0) {",
        "if (false) {",
        "a bucket that ends with nothing would have a low above it",
        (_LIFECYCLE + "test_what_is_forgotten_falls_to_nothing_on_the_timeline",),
    ),
    Mutant(
        "a child's half events stay half",
        "lifecycle.c",
        "    thag_store(&context->self_live_bytes, found->self_bytes);\n",
        "",
        "the thread that was in the middle of one is not there to finish it",
        (_NUMPY + "test_a_child_forked_in_the_middle_of_an_event_has_sums_that_hold",),
    ),
    Mutant(
        "a size of a quarter gibibyte is large",
        "owners.h",
        "#define THAG_LARGE_BYTES (((size_t)1 << 28) - 1)",
        "#define THAG_LARGE_BYTES ((size_t)1 << 28)",
        "the first word has 30 bits for it",
        (_OWNERS + "test_a_block_of_any_size_keeps_its_size_and_its_owner_until_it_is_freed",),
    ),
    Mutant(
        "the third entry of a new record is not looked at",
        "owners.h",
        " || thag_pair_load(at + 2) != 0) {",
        ") {",
        "a record whose free was missed would be overwritten, not repaid",
        (_OWNERS + "test_the_one_record_that_only_a_later_entry_of_a_new_one_covers_is_repaid",),
    ),
    Mutant(
        "the second entry of a new record is not looked at",
        "owners.h",
        "size > THAG_LARGE_BYTES || thag_pair_load(at) != 0",
        "size > THAG_LARGE_BYTES || thag_entry_load(at) != 0",
        "a record whose free was missed would be overwritten, not repaid",
        (_OWNERS + "test_the_one_record_that_only_a_later_entry_of_a_new_one_covers_is_repaid",),
    ),
    Mutant(
        "a size has one high bit",
        "owners.c",
        "        owner.size |= thag_size_of_word(thag_pair_load(at + 4)) << 28;",
        "        owner.size |= (thag_size_of_word(thag_pair_load(at + 4)) & 1) << 28;",
        "a block may have more than two gibibytes",
        (_OWNERS + "test_a_block_of_any_size_keeps_its_size_and_its_owner_until_it_is_freed",),
    ),
    Mutant(
        "tiny records are not renamed",
        "owners.c",
        "        near_rename(at, owner.slot, slot, THAG_TINY_SLOTS, thag_tiny_word(owner.slot, size), thag_tiny_word(slot, size), all);",
        "        (void)(slot + size);",
        "they would name a context whose record was given back",
        (_OWNERS + "test_records_of_every_kind_pass_to_the_heir_when_their_context_is_forgotten",),
    ),
    Mutant(
        "merged buckets end like the earlier one, for the context alone",
        "timeline.c",
        "    bucket->self_live_bytes = later->self_live_bytes;",
        "",
        "its own live bytes are those at the end of a bucket as well",
        (_TIMELINE + "test_buckets_are_as_worked_out_by_hand_before_and_after_they_widen",),
    ),
    Mutant(
        "widening skips the second bucket",
        "timeline.c",
        "for (uint32_t i = 1; i < timeline->count; i++) {",
        "for (uint32_t i = 2; i < timeline->count; i++) {",
        "each is merged or kept",
        (_TIMELINE + "test_buckets_are_as_worked_out_by_hand_before_and_after_they_widen",),
    ),
    Mutant(
        "widening drops the last bucket",
        "timeline.c",
        "timeline->count = last_index + 1;",
        "timeline->count = last_index;",
        "each is merged or kept",
        (_TIMELINE + "test_buckets_are_as_worked_out_by_hand_before_and_after_they_widen",),
    ),
    Mutant(
        "the clock is the one on the wall",
        "clock.c",
        "clock_gettime(CLOCK_MONOTONIC, &now)",
        "clock_gettime(CLOCK_REALTIME, &now)",
        "somebody may set it back",
        (_TIMELINE + "test_time_is_that_of_the_monotonic_clock",),
    ),
    Mutant(
        "the writer of a StringIO is forgotten",
        "heap/layouts.c",
        "    if (stream->state != STRING_IO_WRITTEN) {",
        "    if (stream->state != STRING_IO_READABLE) {",
        "what was written to a StringIO would be unexplained until somebody reads it",
        _VALUES,
    ),
    Mutant(
        "memory that ctypes only looks at is its own",
        "heap/layouts.c",
        "    if (held->owns_memory) {",
        "    if (held->memory != NULL) {",
        "a buffer would count for the bytearray and for the array over it",
        _VALUES,
        "3.11",  # since 3.15 the memory of a bytearray begins within its bytes
    ),
    Mutant(
        "children of an element are always inside",
        "heap/layouts.c",
        "        visitor->block(extra->children, visitor->data);\n",
        "",
        "elements with more than four children have them in a buffer",
        _VALUES,
    ),
    Mutant(
        "types derived from a known one are not known",
        "heap/layouts.c",
        "type != NULL; type = type->tp_base) {",
        "type == Py_TYPE(object); type = type->tp_base) {",
        "a recarray is an ndarray, and every dtype is of a class of its own",
        _VALUES,
    ),
    Mutant(
        "a dtype of NumPy 2 has nothing that there was before",
        "heap/arrays.c",
        "dtype->head.number < 0 || dtype->head.number >= NUMPY_TEXT",
        "dtype->head.number != NUMPY_TEXT",
        "records would have no fields, so that nobody held their objects",
        _VALUES,
    ),
    Mutant(
        "a row of an array begins where the array does",
        "heap/arrays.c",
        "items_visit(array, dimension + 1, first + i * step_bytes, kinds, visitor)",
        "items_visit(array, dimension + 1, first, kinds, visitor)",
        "only the first row of an array of objects would be looked at",
        _VALUES,
    ),
    Mutant(
        "a field begins where its record does",
        "heap/arrays.c",
        "        column.first += PyLong_AsSsize_t(PyTuple_GET_ITEM(field, 1));",
        "        column.first += 0 * PyLong_AsSsize_t(PyTuple_GET_ITEM(field, 1));",
        "a number would be taken for an object",
        _VALUES,
    ),
    Mutant(
        "only the first part of a subarray counts",
        "heap/arrays.c",
        "    char *end = column.first + (part_bytes > 0 ? bytes : 0);",
        "    char *end = column.first + (part_bytes > 0);",
        "objects in the other parts would be unexplained",
        _VALUES,
    ),
    Mutant(
        "texts that were replaced are short",
        "heap/arrays.c",
        "(flags & (MISSING | OUTSIDE | LONG)) == (OUTSIDE | LONG)",
        "(flags & (MISSING | OUTSIDE | LONG)) == OUTSIDE",
        "a longer text that took the place of a shorter one has a block of its own",
        _VALUES,
    ),
    Mutant(
        "buckets are empty that are not",
        "heap/layouts.c",
        "        bool is_empty = table->empty[i / 32] >> i % 32 & 1;",
        "        bool is_empty = table->empty[i / 32] >> i % 31 & 1;",
        "an index that was searched has a reference to each of its labels",
        (_TRIAL + "test_labels_that_an_index_looks_up_go_with_it",),
    ),
    Mutant(
        "a record has no base",
        "heap/arrays.c",
        "held[] = {record->base, (PyObject *)record->dtype};",
        "held[] = {NULL, (PyObject *)record->dtype};",
        "one record of an array holds all of it",
        _VALUES,
    ),
    Mutant(
        "what was computed of code is forgotten",
        "heap/blocks.c",
        "visitor) && visit_cached_code(code, visitor);",
        "visitor);\n    (void)visit_cached_code;",
        "names of variables that somebody asked code for would be unexplained",
        _VALUES,
    ),
    Mutant(
        "a dict with some text among its keys is one of text",
        "heap/blocks.c",
        "->kind == KEYS_OF_ANY_KIND || visit_text_keys(object, visitor);",
        "->kind != KEYS_OF_ANY_KIND || visit_text_keys(object, visitor);",
        "the collector is shown the keys of one, and not those of the other",
        _VALUES,
    ),
    Mutant(
        "work carried to the root",
        _CARRIER,
        "flow == NULL ? thag_contexts.root : thag_context_today(flow->context);",
        "thag_contexts.root;",
        "work runs under the flow that handed it over",
        (_PROPAGATION + "test_each_piece_of_work_brings_its_own_context_and_workers_keep_none",),
    ),
    Mutant(
        "carrier charged to who hands over",
        _CARRIER,
        """    int collector_was_on = thag_bookkeeping_begin();
    thag_carrier *carrier = PyObject_GC_New(thag_carrier, type);
    thag_bookkeeping_end(collector_was_on);
""",
        "    thag_carrier *carrier = PyObject_GC_New(thag_carrier, type);\n",
        "work that waits costs its submitter nothing more",
        (_PROPAGATION + "test_what_carries_is_charged_to_nobody",),
    ),
    Mutant(
        "carrier unknown to the collector",
        _CARRIER,
        "    Py_VISIT(((thag_carrier *)self)->carried.original);\n",
        "    (void)self, (void)visit, (void)arg;\n",
        "what is carried may refer to who keeps the carrier",
        (_PROPAGATION + "test_what_is_carried_may_refer_to_who_keeps_it_and_is_collected",),
    ),
    Mutant(
        "carrier that keeps what it carried",
        _CARRIER,
        "    Py_DECREF(((thag_carrier *)self)->carried.original);\n",
        "",
        "an idle worker keeps nothing of its last work",
        (_PROPAGATION + "test_an_idle_worker_keeps_neither_the_function_nor_the_arguments_of_its_last_work",),
    ),
    Mutant(
        "items made where they are asked for",
        _CARRIER,
        "    PyObject *item = PyIter_Next(carrier->carried.original);\n    flow_leave(entering);\n",
        "    flow_leave(entering);\n    PyObject *item = PyIter_Next(carrier->carried.original);\n",
        "what an iterable makes is charged to who handed it over",
        (_PROPAGATION + "test_an_iterable_is_charged_to_who_hands_it_over_and_not_to_the_pools_maker",),
    ),
    Mutant(
        "carrier pickled as a copy of itself",
        _CARRIER,
        '    {"__reduce_ex__", function_reduce, METH_O, NULL},\n',
        "",
        "elsewhere there is no flow: the function arrives alone",
        (_PROPAGATION + "test_what_carries_a_function_arrives_elsewhere_as_the_function_alone",),
    ),
    Mutant(
        "run that stays on its thread",
        _CARRIER,
        "    int failed = run->own_entry == NULL ? PyDict_DelItem(entries, run_name)",
        "    int failed = run->own_entry == NULL ? 0",
        "a thread's `run` takes itself off before it calls what the thread has then",
        (_PROPAGATION + "test_a_subclass_that_overrides_run_and_a_timer_follow",),
    ),
    Mutant(
        "run that forgets what it took the place of",
        _CARRIER,
        "    run->own_entry = Py_XNewRef(own_entry);",
        "    run->own_entry = NULL;",
        "a `run` that was set on a thread stays set",
        (_PROPAGATION + "test_a_run_that_was_set_on_a_thread_runs_in_its_starters_context_and_stays",),
    ),
    Mutant(
        "thread that keeps its own run alive, unknown to the collector",
        _CARRIER,
        "    Py_VISIT(((thag_run *)self)->thread);\n",
        "",
        "a thread that was never begun refers to itself by its `run`",
        (_PROPAGATION + "test_what_is_carried_may_refer_to_who_keeps_it_and_is_collected",),
    ),
    Mutant(
        "run that is asked for its function and knows of none",
        _CARRIER,
        '    {"__func__", run_function, NULL, NULL, NULL},\n',
        "",
        "the function that is taken out of a thread's `run` is carried",
        (_PROPAGATION + "test_a_wrapper_of_start_that_takes_the_function_out_of_our_run_calls_it_with_the_thread",),
    ),
    Mutant(
        "run that answers for itself",
        _CARRIER,
        """    .tp_getattro = thag_stand_in_getattro,
    .tp_repr = thag_stand_in_repr,
    .tp_methods = run_methods,
""",
        "    .tp_methods = run_methods,\n",
        "it passes for the method that it took the place of",
        (_PROPAGATION + "test_our_run_on_a_thread_passes_for_the_method_that_it_took_the_place_of",),
    ),
    Mutant(
        "preparation at the user's expense",
        _HANDOVER,
        """    thag_uncharged_begin();
    PyObject *prepared = PyObject_Vectorcall(handover->prepare, arguments, count, names);
    thag_uncharged_end();
""",
        "    PyObject *prepared = PyObject_Vectorcall(handover->prepare, arguments, count, names);\n",
        "what follows the work is charged to nobody",
        (_PROPAGATION + "test_handing_over_costs_no_more_than_without_us",),
    ),
    Mutant(
        "preparation that turns the collector off",
        _HANDOVER,
        """    thag_uncharged_begin();
    PyObject *prepared = PyObject_Vectorcall(handover->prepare, arguments, count, names);
    thag_uncharged_end();
""",
        """    int collector_was_on = thag_bookkeeping_begin();
    PyObject *prepared = PyObject_Vectorcall(handover->prepare, arguments, count, names);
    thag_bookkeeping_end(collector_was_on);
""",
        "what another thread does to the collector meanwhile stays done",
        (_PROPAGATION + "test_the_collector_is_left_alone_while_work_is_handed_over",),
    ),
    Mutant(
        "preparation not undone",
        _HANDOVER,
        "    if (result == NULL && PyTuple_GET_ITEM(prepared, UNDO) != Py_None) {",
        "    if (0) {",
        "a thread that cannot start has the `run` that it had",
        (_PROPAGATION + "test_a_thread_that_cannot_start_keeps_the_run_that_was_set_on_it",),
    ),
    Mutant(
        "wrapper that cannot be bound",
        _HANDOVER,
        "object == NULL || object == Py_None ? Py_NewRef(self) : PyMethod_New(self, object);",
        "PyMethod_New(self, object == NULL ? self : object);",
        "what hands over is a function of its class",
        (_PROPAGATION + "test_what_hands_over_passes_for_the_function_that_it_wraps",),
    ),
    Mutant(
        "wrapper that says what it is",
        "bindings/stand_in.c",
        "return is_own ? PyObject_GenericGetAttr",
        "return is_own || 1 ? PyObject_GenericGetAttr",
        "whoever looks finds the function that is wrapped",
        (_PROPAGATION + "test_what_hands_over_passes_for_the_function_that_it_wraps",),
    ),
    Mutant(
        "generator resumed where it is asked",
        _RESUMES,
        "    PySendResult ending = error == NULL ? PyIter_Send(",
        "    (void)thag_current_leave((thag_entering *)entering, true);\n"
        "    PySendResult ending = error == NULL ? PyIter_Send(",
        "a decorated generator's work is its task's",
        (_TASKS + "test_what_a_caller_allocates_between_a_decorated_generators_values_is_the_callers",),
    ),
    Mutant(
        "generator that never ends its task",
        _RESUMES,
        "        Py_CLEAR(resumes->generator);\n        thag_lifecycle_release(resumes->context);\n",
        "        Py_CLEAR(resumes->generator);\n",
        "a decorated generator's task ends with the generator",
        (_TASKS + "test_what_a_caller_allocates_between_a_decorated_generators_values_is_the_callers",),
    ),
    Mutant(
        "generator that cannot be made leaves its task open",
        _RESUMES,
        "        thag_lifecycle_release(context);\n",
        "",
        "a call with the wrong arguments ends the task that was opened for it",
        (_TASKS + "test_a_decorated_generator_that_cannot_be_made_ends_its_task",),
    ),
    Mutant(
        "generator not told of what is thrown",
        _RESUMES,
        "    Py_XSETREF(resumes->error, Py_NewRef(error));\n",
        "    (void)error;\n",
        "what is thrown into the wrapper reaches the generator",
        (_TASKS + "test_throwing_into_and_closing_a_decorated_generator_reach_it",),
    ),
    Mutant(
        "generator whose value is taken apart",
        _RESUMES,
        "    PyObject *stop = PyObject_CallOneArg(PyExc_StopIteration, value);\n",
        "    PyErr_SetObject(PyExc_StopIteration, value);\n    PyObject *stop = NULL;\n",
        "a generator may return a tuple, or an exception",
        (_TASKS + "test_what_a_wrapper_yields_from_returns_whatever_the_generator_returns_on_each_way",),
    ),
    Mutant(
        "generator that is sent values through a method",
        _RESUMES,
        "    .tp_as_async = &resumes_async,\n",
        "    .tp_as_async = sizeof(resumes_async) == 0 ? &resumes_async : NULL,\n",
        "on 3.11 a recursive generator gets as deep when values are sent to it",
        (_TASKS + "test_what_is_decorated_and_recursive_gets_as_deep_as_under_any_decorator",),
    ),
    Mutant(
        "generator whose return is an error when something was thrown",
        _RESUMES,
        "    *result = value_of_stop();\n",
        "    *result = NULL;\n    (void)value_of_stop;\n",
        "a generator that something is thrown into may return",
        (_TASKS + "test_a_decorated_generator_that_something_is_thrown_into_returns_whatever_it_returns",),
    ),
    Mutant(
        "native thread with the flow of a thread of Python's",
        "events.c",
        "        thread->native = true; ",
        "        ",
        "a library's own thread that calls back works for who waits",
        (_CURRENT + "test_a_callback_on_a_native_thread_is_charged_to_what_the_main_thread_is_in_then",),
    ),
    Mutant(
        "cache of a native thread",
        "current.c",
        "thag_is_recording() && !thread->native ?",
        "thag_is_recording() ?",
        "what the main thread is in may change between two callbacks, and within one",
        (_CURRENT + "test_a_callback_on_a_native_thread_is_charged_to_what_the_main_thread_is_in_then",),
    ),
    Mutant(
        "every thread a native one",
        "current.c",
        "thread->native ? context_of_main_thread() : thag_contexts.root;",
        "context_of_main_thread();",
        "a thread that Python started in no context is the root's, whatever the main thread is in",
        (_CURRENT + "test_a_thread_that_python_started_is_no_native_thread",),
    ),
    Mutant(
        "native threads without the foreground",
        "current.c",
        "asking == thag_contexts.root ? atomic_load(&thag_flow_state.foreground) : asking;",
        "asking;",
        "a cell runs beside the main thread, in a subshell",
        (_CURRENT + "test_a_callback_on_a_native_thread_while_the_main_thread_is_in_nothing_is_the_foregrounds",),
    ),
    Mutant(
        "main thread taken for the newest",
        "current.c",
        "tstate->id < oldest->id ? tstate : oldest;",
        "tstate->id > oldest->id ? tstate : oldest;",
        "it is the main thread that waits",
        (_CURRENT + "test_a_callback_on_a_native_thread_is_charged_to_what_the_main_thread_is_in_then",),
    ),
    Mutant(
        "task of a callback under the root",
        "current.c",
        "    return context->records ? context : parent;",
        "    return parent;",
        "what a callback opens is part of the work that asked for it",
        (_CURRENT + "test_a_callback_on_a_native_thread_is_charged_to_what_the_main_thread_is_in_then",),
    ),
    Mutant(
        "names of an object: only the last one",
        "heap/release.c",
        "        .others = index,\n",
        "        .others = THAG_LABEL_NONE,\n",
        "what two names hold goes with both, not with one",
        (_TRIAL + "test_what_two_names_hold_goes_with_both",),
    ),
    Mutant(
        "labels without end",
        "heap/release.c",
        "label->count == THAG_LABEL_AT_MOST ||",
        "",
        "a set that is too large to be a line is told as such",
        (_TRIAL + "test_too_many_holders_are_not_told_one_by_one",),
    ),
    Mutant(
        "labels shared by different sets",
        "heap/release.c",
        "label->latest != THAG_LABEL_NONE && labels->items[label->latest].holder == holder",
        "label->latest != THAG_LABEL_NONE",
        "sets that begin alike may end differently",
        (_TRIAL + "test_sets_that_begin_alike_are_kept_apart",),
    ),
    Mutant(
        "every library a holder",
        "heap/release.c",
        "label->holder == holder || (is_library && label->has_library)",
        "label->holder == holder",
        "nobody lets go of a library: one is enough to say so, and names have room beside it",
        (_TRIAL + "test_a_library_that_leads_there_is_told",),
    ),
    Mutant(
        "references of several come from one",
        "heap/release.c",
        "    visit->references++;\n    if (visit->is_counted ||",
        "    visit->references = 1;\n    if (visit->is_counted ||",
        "each reference that is found counts",
        (_TRIAL + "test_what_two_names_hold_goes_with_both",),
    ),
    Mutant(
        "the list of names counts as somebody unknown",
        "heap/release.c",
        "        count_from_list(trial, object);\n",
        "        (void)count_from_list;\n",
        "what lists the names refers to them as well",
        (_TRIAL + "test_what_one_name_holds_goes_with_it",),
    ),
    Mutant(
        "a pin stays where it is",
        "heap/release.c",
        "    visit->is_pinned = true;\n    return trial_push(trial, object);",
        "    visit->is_pinned = true;\n    return true;",
        "what hangs on something that stays, stays",
        (_TRIAL + "test_what_hangs_on_something_that_stays_stays",),
    ),
    Mutant(
        "nothing is pinned",
        "heap/release.c",
        "> visit->references) {\n        (void)reach_to_pin",
        "> UINT32_MAX) {\n        (void)reach_to_pin",
        "a reference that was not found keeps its object",
        (_TRIAL + "test_what_is_held_by_something_unknown_stays",),
    ),
    Mutant(
        "cycles go at once",
        "heap/release.c",
        "object);\n    settle_all(trial, true);\n",
        "object);\n    settle_all(trial, false);\n",
        "a cycle waits for the collector, and so does its line",
        (_TRIAL + "test_a_cycle_and_what_hangs_on_it_wait_for_the_collector",),
    ),
    Mutant(
        "a collector that is shown everything",
        "heap/release.c",
        "    trial->block = ignore_block;\n    trial->is_shown_only = true;",
        "    trial->block = ignore_block;\n    trial->is_shown_only = false;",
        "a cycle through an array of objects is never collected",
        (_TRIAL + "test_a_cycle_that_the_collector_is_not_shown_stays",),
    ),
    Mutant(
        "the collector goes no further than what is held",
        "heap/release.c",
        "    visit->is_kept = true;\n    return trial_push(trial, object);",
        "    visit->is_kept = true;\n    return true;",
        "what is in front of a cycle that is held may lead into it",
        (_TRIAL + "test_a_cycle_behind_what_is_held_stays",),
    ),
    Mutant(
        "garbage holds",
        "heap/release.c",
        "    for_each_left(trial, look_along);\n    for_each_garbage(trial, groups, count);\n    trial->reach = reach_to_keep;",
        "    for_each_left(trial, look_along);\n    trial->reach = reach_to_keep;",
        "the collector is shown garbage as well",
        (_TRIAL + "test_a_cycle_is_collected_though_garbage_refers_to_it",),
    ),
    Mutant(
        "no second look",
        "heap/release.c",
        "    visit->references += is_left(visit);\n",
        "    visit->references += 0;\n",
        "references that the collector is shown are references",
        (_TRIAL + "test_what_hangs_on_a_cycle_twice_goes_with_it",),
    ),
    Mutant(
        "all waits for the collector",
        "heap/release.c",
        "    if (--visit->references == 0) {",
        "    if (--visit->references == UINT32_MAX) {",
        "most goes with its last reference",
        (_TRIAL + "test_what_is_beside_a_cycle_goes_at_once",),
    ),
    Mutant(
        "a cache is cleared with its function",
        "heap/release.c",
        "*(PyObject **)((char *)wrapper + offset) == held || PyFunction_Check(held) || PyType_Check(held)",
        "*(PyObject **)((char *)wrapper + offset) == held",
        "cache_clear() keeps the function and what that holds",
        (_TRIAL + "test_a_cache_lets_go_of_results_but_not_of_its_function",),
    ),
    Mutant(
        "results without a label",
        "heap/release.c",
        "            settle_cache_leaves(trial, group->holder);",
        "            trial_spread(trial);\n            (void)settle_cache_leaves;",
        "small results lie in their cache as leaves, and go with it",
        (_TRIAL + "test_small_results_go_with_their_cache_to_the_last_byte",),
    ),
    Mutant(
        "a trial without an end",
        "heap/release.c",
        "trial->is_late = thag_clock_read() > trial->deadline_ns;",
        "trial->is_late = false;",
        "who asks does not wait longer than they said",
        (_TRIAL + "test_a_trial_ends_when_its_time_is_up",),
    ),
    Mutant(
        "a trial goes on from the last one",
        "heap/release.c",
        "    trial_forget(&trial->walk->visited);\n    trial->has_failed",
        "    (void)trial_forget;\n    trial->has_failed",
        "objects that it knew may be gone",
        (_TRIAL + "test_a_second_trial_of_the_same_says_the_same",),
    ),
    Mutant(
        "no detours",
        "heap/release.c",
        "j < detour->count && detour->items[0] == frame",
        "j < detour->count && frame == NULL",
        "what a frame leads to by way of the shell is held by it as well",
        (_TRIAL + "test_what_a_frame_leads_to_by_a_detour_goes_with_both",),
    ),
    Mutant(
        "garbage that something refers to",
        "heap/release.c",
        "        visit->references = 1;      /* from where they lie */",
        "        visit->references = 0;",
        "the list that the collector gave refers to them",
        (_TRIAL + "test_objects_are_divided_into_those_that_something_else_refers_to_and_garbage",),
    ),
    Mutant(
        "references that the collector is not shown",
        "heap/walk.c",
        "        if (expansion.extras[i] != NULL && !visitor",
        "        if (expansion.extras[i] == NULL && !visitor",
        "arrays of objects are not the collector's",
        _VALUES,
    ),
    Mutant(
        "leaves are looked up",
        "heap/walk.c",
        "    return Py_REFCNT(object) == 1\n           && (PyLong",
        "    return Py_REFCNT(object) >= 1\n           && (PyLong",
        "what two refer to counts once",
        (_WALK + "test_what_refers_to_nothing_counts_once_as_well",),
    ),
    Mutant(
        "special twice",
        "heap/walk.c",
        "    if (visit->asked_for != follow->holder) {",
        "    if (visit->asked_for != follow->holder || true) {",
        "who decides about it is asked once for each holder",
        (_WALK + "test_a_walk_visits_each_object_once_and_gives_them_in_pieces",),
    ),
    Mutant(
        "the lane goes on when the flow changes",
        "current.c",
        "    assert(tstate->interp == thag_flow_state.interpreter);\n    thag_lane_leave();",
        "    assert(tstate->interp == thag_flow_state.interpreter);",
        "a guard moves no version: the lane is left by hand",
        (_TASKS + "test_a_decorated_function_is_charged_for_each_call",),
    ),
    Mutant(
        "the lane goes on when recording stops",
        "contexts.c",
        "    thag_lane_leave();\n    atomic_store(&thag_contexts_generation",
        "    atomic_store(&thag_contexts_generation",
        "nothing is recorded then",
        (_DISPATCHER + "test_the_very_next_event_after_the_stop_is_not_recorded",),
    ),
    Mutant(
        "two thread states may have one version",
        "events.c",
        "    tstate->context_ver = ranges << THAG_FLOW_RANGE_BITS;\n",
        "",
        "in the lane nothing else tells them apart",
        (_CURRENT + "test_threads_that_take_turns_are_each_charged_to_their_own_context",),
    ),
    Mutant(
        "the lane is any thread's that sees its state",
        "events.h",
        "        if (tstate != thread->tstate\n            || atomic_load_explicit(&thag_open_lane.thread, memory_order_relaxed) != (uintptr_t)thread) {",
        "        if (false) {",
        "CPython 3.11 shows the state of whoever holds the GIL",
        (_CURRENT + "test_without_the_gil_a_thread_is_charged_to_its_own_context_while_another_one_has_it",),
    ),
    Mutant(
        "logs one after the other",
        "logs.c",
        "    thag_log *top = log_time(other) < log_time(one) ? other : one;",
        "    thag_log *top = one;",
        "peaks are those of the order in which events were over",
        (_LOGS + "test_peaks_of_threads_that_take_turns_are_exact_in_every_order",),
    ),
    Mutant(
        "nobody is told of an event that takes the shortcut",
        "logs.h",
        "    if (thag_log_is_to_be_told_of(log)) {\n        thag_log_tell_and_let_go(log);\n        return;\n    }\n",
        "",
        "whoever reads finds it",
        (_LOGS + "test_figures_of_threads_without_the_gil_are_exact_while_others_have_it",),
    ),
    Mutant(
        "the shortcut leads to what the thread was in before",
        "current.c",
        "    thread->detached_foreground = NULL;\n",
        "",
        "a thread may enter something between two calls without the GIL",
        (_NATIVE + "test_blocks_are_charged_to_what_is_entered_though_the_thread_was_in_something_else_before",),
    ),
    Mutant(
        "the shortcut leads to what was in the foreground before",
        "current.h",
        "                    && thread->detached_foreground == atomic_load(&thag_flow_state.foreground)\n",
        "                    && thread->detached_foreground != NULL\n",
        "a library's own threads go on from cell to cell",
        (_NATIVE + "test_a_librarys_own_thread_is_charged_to_what_is_in_the_foreground_now",),
    ),
    Mutant(
        "nothing without the GIL is a stranger's",
        "events.c",
        "    return is_foreign(owner, current) ? THAG_FREED_BY_STRANGER : THAG_FREED;",
        "    (void)current;\n    return owner == NULL ? THAG_FREED_BY_STRANGER : THAG_FREED;",
        "frees by others are told apart",
        (_NATIVE + "test_blocks_that_others_give_back_are_told_apart",),
    ),
    Mutant(
        "the counter stands still",
        "clock.h",
        "        return __builtin_ia32_rdtsc();",
        "        return 1;",
        "peaks are those of the order in which events were over",
        (_LOGS + "test_peaks_of_threads_that_take_turns_are_exact_in_every_order",),
    ),
    Mutant(
        "the counter never begins anew",
        "logs.c",
        "    return THAG_UNLIKELY(time > until) && time <= thag_order_read();",
        "    return THAG_UNLIKELY(time > until);",
        "what was over is in the figures, whatever its time",
        (_LOGS + "test_what_was_logged_before_the_computer_slept_is_taken_over_though_its_time_is_still_to_come",),
    ),
    Mutant(
        "a log goes on when the other is the older one",
        "detached.c",
        "    } while (next != end && thag_log_entry_at(log, next)->time <= until);",
        "    } while (next != end);",
        "peaks are those of the order in which events were over",
        (_LOGS + "test_what_one_thread_allocates_and_another_frees_is_merged_in_turns_and_not_thread_by_thread",),
    ),
    Mutant(
        "what comes after an entry of the same context in the same log comes next",
        "detached.c",
        "    } while (next != end && entry->time <= until);",
        "    } while (next != end);",
        "peaks are those of the order in which events were over",
        (_LOGS + "test_peaks_of_threads_that_take_turns_are_exact_in_every_order",),
    ),
    Mutant(
        "a run goes on in another context",
        "detached.c",
        "        if (deed > THAG_FREED) {\n            break;\n        }\n",
        "",
        "what follows may be charged to whoever was in the foreground meanwhile",
        (_LOGS + "test_peaks_of_threads_that_take_turns_are_exact_in_every_order",),
    ),
    Mutant(
        "without the GIL, what is freed counts as allocated",
        "detached.c",
        "        total_bytes += bytes & ((int64_t)deed - 1);",
        "        total_bytes += bytes;",
        "totals are of what was allocated",
        (_LOGS + "test_figures_of_threads_without_the_gil_are_exact_while_others_have_it",),
    ),
    Mutant(
        "a log writes over what is not merged",
        "logs.c",
        "    return log->written < log->room_end;\n}",
        "    return true;\n}",
        "what is not merged is not lost",
        (_DETACHED + "test_threads_go_on_in_other_logs_while_one_merges_and_do_not_write_over_what_is_not_merged",),
    ),
    Mutant(
        "an event with the GIL does not mind who merges",
        "charges.h",
        "    return THAG_LIKELY(!thag_logs_wait()) || thag_charges_take_over();",
        "    return THAG_LIKELY(!thag_logs_wait()) || thag_charges_take_over() || true;",
        "it would be taken for one from before those that are not taken over",
        (_DETACHED + "test_an_event_with_the_gil_is_in_the_right_order_also_while_another_thread_merges",),
    ),
    Mutant(
        "a child believes that somebody merges",
        "detached.c",
        "    if (!occupied && right_get()) {\n        right_give_back();",
        "    if (!occupied) {",
        "that thread is not there to give the right back",
        (_DETACHED + "test_a_child_forked_in_the_middle_of_a_merge_has_what_is_live_and_goes_on",),
    ),
    Mutant(
        "a child has the shares of its parent",
        "detached.c",
        "        if (share != NULL) {\n            *share = (thag_share){0};\n        }\n",
        "        (void)share;\n",
        "the table of owners has told what is live, all of it",
        (_DETACHED + "test_a_child_forked_in_the_middle_of_a_merge_has_what_is_live_and_goes_on",),
    ),
    Mutant(
        "what is published waits for nobody",
        "logs.c",
        "    log_wait(log);\n    thag_lane_leave();",
        "    thag_lane_leave();",
        "whoever reads finds it",
        (_LOGS + "test_figures_of_threads_without_the_gil_are_exact_while_others_have_it",),
    ),
    Mutant(
        "only the holder of the GIL merges",
        "detached.c",
        "        logs_merge(false);",
        "        ;",
        "logs do not grow as long as nobody with the GIL allocates",
        (_DETACHED + "test_a_log_that_is_full_is_merged_and_used_again_though_nobody_with_the_gil_looks",),
    ),
    Mutant(
        "full logs without end",
        "detached.c",
        "log == NULL && full < most_full ?",
        "log == NULL ?",
        "logs are bounded",
        (_DETACHED + "test_where_nobody_merges_any_more_logs_do_not_grow_without_end_and_what_is_dropped_is_counted",),
    ),
    Mutant(
        "who reads waits for ever",
        "detached.c",
        "        if (naps == PATIENCE) {",
        "        if (false) {",
        "a thread may be stopped in the middle of a merge",
        (_DETACHED + "test_who_reads_beside_a_thread_that_is_stopped_in_a_merge_is_not_stopped_as_well",),
    ),
    Mutant(
        "a child has the logs of its parent",
        "detached.c",
        "    thag_logs_forget();\n",
        "",
        "who was in the middle of an event is not there",
        (_DETACHED + "test_a_child_forked_in_the_middle_of_a_merge_has_what_is_live_and_goes_on",),
    ),
    Mutant(
        "a share is taken twice",
        "detached.c",
        "        take(context, share, now_ns);\n        *share = (thag_share){0};\n",
        "        take(context, share, now_ns);\n        share->changed = false;\n",
        "what was taken over is not taken once more",
        (_LOGS + "test_figures_of_threads_without_the_gil_are_exact_while_others_have_it",),
    ),
    Mutant(
        "the lane is entered where no batch is open",
        "events.c",
        "    if (batch->context == NULL || thread->context",
        "    if (thread->context",
        "a thread that never looked up has no context either",
        (_DISPATCHER + "test_a_realloc_that_fails_after_stop_where_nothing_was_ever_charged_changes_nothing",),
    ),
    Mutant(
        "without the GIL, what grows is gone first",
        "events.c",
        "    else if (owner == context) {\n        thag_log_write(",
        "    else if (false) {\n        thag_log_write(",
        "no timeline sees a fall that did not happen",
        (_DISPATCHER + "test_a_block_that_grows_where_it_is_owned_never_seems_to_be_gone",),
    ),
    Mutant(
        "detached events leave the lane open",
        "logs.c",
        "    thag_lane_leave();      /* the attached lane is to take this over before its next event */\n",
        "",
        "what they moved has to be taken over before the next event",
        (_CHARGES + "test_what_is_allocated_after_a_spike_without_the_gil_is_not_put_on_top_of_it",),
    ),
    Mutant(
        "what both stand under is highest without what was freed",
        "charges.h",
        "    joint->high_bytes = high - other > joint->high_bytes ? high - other : joint->high_bytes;",
        "    joint->high_bytes = high > joint->high_bytes ? high : joint->high_bytes;",
        "another context's blocks were freed before",
        (_CHARGES + "test_a_peak_after_frees_of_another_contexts_blocks_is_no_higher_than_it_was",),
    ),
    Mutant(
        "the highest point before another context's free is forgotten",
        "charges.h",
        "    earlier->high_bytes = high > earlier->high_bytes ? high : earlier->high_bytes;",
        "    earlier->high_bytes = high;",
        "it may be the peak",
        (_CHARGES + "test_a_peak_before_frees_of_another_contexts_blocks_is_kept",),
    ),
    Mutant(
        "another branch begins before those above have heard of this one",
        "charges.c",
        "begins_bucket ? NULL : common_ancestor(batch->context, context);",
        "begins_bucket ? NULL : batch->context;",
        "what moved would be told to nobody",
        (_CHARGES + "test_a_spike_is_in_every_peak_and_on_every_timeline_up_to_the_root",),
    ),
    Mutant(
        "buckets above never end",
        "charges.c",
        "        end_ns = above->bucket_end_ns < end_ns ? above->bucket_end_ns : end_ns;\n",
        "",
        "what happens in many of them would be told in one",
        (_TIMELINE + "test_the_timelines_of_all_above_are_drawn_while_one_context_works",),
    ),
    Mutant(
        "what is untold is the last movement",
        "charges.c",
        "    context->untold = thag_movement_then(context->untold, moved);",
        "    context->untold = moved;",
        "those above hear of all of them at once",
        (_CHARGES + "test_a_spike_is_in_every_peak_and_on_every_timeline_up_to_the_root",),
    ),
    Mutant(
        "far tiny blocks have no word aside",
        "owners.c",
        "        word_store(&beside->of_entry, aside_encode(slot, size));\n        thag_entry_store(at, THAG_TINY_ASIDE);",
        "        thag_entry_store(at, (uint32_t)(THAG_TINY + slot * THAG_TINY_SIZES + size));",
        "an entry has room for the first slots alone",
        (_OWNERS + "test_blocks_of_a_context_far_from_the_first_are_told_apart_as_well",),
    ),
    Mutant(
        "far slots are cut",
        "owners.c",
        "    if (slot >= THAG_NEAR_SLOTS) {\n        word_store(&beside->of_entry, slot);\n        here = THAG_SLOT_ASIDE;\n    }",
        "    (void)beside;",
        "an entry has room for 15 bits",
        (_OWNERS + "test_blocks_of_a_context_far_from_the_first_are_told_apart_as_well",),
    ),
    Mutant(
        "a slot that records still name is used again",
        "owners.c",
        "        all->kept(slot);",
        "        ;",
        "the blocks would be the next context's",
        (_OWNERS + "test_blocks_whose_records_have_no_room_for_the_heir_are_the_heirs_as_well",),
    ),
    Mutant(
        "words aside are not renamed",
        "owners.c",
        "        word_exchange(&beside->of_entry, slot, new_slot);",
        "        ;",
        "they would name a context that is forgotten",
        (_OWNERS + "test_records_of_every_kind_pass_to_the_heir_when_their_context_is_forgotten",),
    ),
    Mutant(
        "blocks in the middle of a granule are not renamed",
        "owners.c",
        "        aside_rename(&asides[i].of_middle, data);",
        "        (void)data;",
        "they would name a context that is forgotten",
        (_OWNERS + "test_two_blocks_of_eight_bytes_may_share_a_granule",),
    ),
    Mutant(
        "slots are never used again",
        "contexts.c",
        "    first_free_word = slot / 64 < first_free_word ? slot / 64 : first_free_word;",
        "",
        "a process that lives long would run out of them",
        (_LIFECYCLE + "test_contexts_come_and_go_without_end_in_the_same_places",),
    ),
    Mutant(
        "ids have 32 bits",
        "contexts.c",
        "    context->id = thag_contexts.next_id++;",
        "    context->id = (uint32_t)thag_contexts.next_id++;",
        "a thousand tasks a second reach that in fifty days",
        (_LIFECYCLE + "test_ids_go_on_where_32_bits_end",),
    ),
    Mutant(
        "a closed guard keeps what was opened for it",
        _GUARD,
        "    if (own != NULL) {\n        thag_lifecycle_release(own);\n    }\n",
        "    (void)own;\n",
        "whoever drops a guard that was never entered ends its context",
        (_CONTEXTS + "test_a_guard_owns_its_context_from_the_beginning_and_whoever_drops_it_ends_it",),
    ),
    Mutant(
        "a guard does not keep open what was opened for it",
        _GUARD,
        "    thag_lifecycle_hold(context);\n    guard->own = context;",
        "    guard->own = NULL;",
        "a context belongs to its guard from the beginning",
        (_CONTEXTS + "test_a_guard_owns_its_context_from_the_beginning_and_whoever_drops_it_ends_it",),
    ),
    Mutant(
        "a dropped guard stays inside",
        _GUARD,
        "    thag_guard_close(guard, true);\n    Py_XDECREF(guard->context);",
        "    Py_XDECREF(guard->context);",
        "a guard that is dropped closes itself",
        (_CONTEXTS + "test_a_guard_owns_its_context_from_the_beginning_and_whoever_drops_it_ends_it",),
    ),
    Mutant(
        "entering twice is not once",
        _GUARD,
        "    if (guard->entering != NULL) {\n        return true;\n    }\n",
        "",
        "a guard is entered once",
        (_CONTEXTS + "test_a_guard_entered_twice_is_entered_once",),
    ),
    Mutant(
        "the label of another name",
        _GUARD,
        "PyTuple_GET_ITEM(label, 0) != name || PyTuple_GET_ITEM(label, 1) != kind",
        "PyTuple_GET_ITEM(label, 1) != kind",
        "only what is called alike shares its label",
        (_TASKS + "test_tasks_called_alike_and_not_are_called_what_they_are",),
    ),
    Mutant(
        "the label of another kind",
        _GUARD,
        "PyTuple_GET_ITEM(label, 0) != name || PyTuple_GET_ITEM(label, 1) != kind",
        "PyTuple_GET_ITEM(label, 0) != name",
        "a task and a system context may have one name",
        (_TASKS + "test_tasks_called_alike_and_not_are_called_what_they_are",),
    ),
    Mutant(
        "the description of an opened context is kept",
        _GUARD,
        "    PyObject *context = described(guard->id, guard->parent_id, guard->records, guard->label);",
        "    PyObject *context = described(guard->id, guard->parent_id, guard->records, guard->label);\n    Py_XSETREF(((thag_guard *)guard)->context, Py_XNewRef(context));",
        "what many flows keep has the collector busy",
        (_TASKS + "test_a_block_keeps_neither_a_frame_nor_a_description_of_the_context_for_the_collector",),
    ),
    Mutant(
        "an entered guard can be copied",
        _GUARD,
        '    if (((thag_guard *)self)->entering != NULL) {\n        return PyErr_Format(PyExc_TypeError, "a',
        '    if (false) {\n        return PyErr_Format(PyExc_TypeError, "a',
        "nobody is inside where it is copied to",
        (_CONTEXTS + "test_a_guard_that_is_not_entered_can_be_pickled_and_copied_and_one_that_is_cannot",),
    ),
    Mutant(
        "any keyword is taken",
        _GUARD,
        "    if (PyUnicode_CompareWithASCIIString(PyTuple_GET_ITEM(names, 0), name) != 0) {",
        "    if (false) {",
        "a mistyped keyword is told",
        (_CONTEXTS + "test_guards_take_keywords_only_and_no_others",),
    ),
    Mutant(
        "old contexts are never given back",
        "lifecycle.c",
        "|| thag_contexts.count <= KEPT)",
        "|| thag_contexts.count <= UINT32_MAX)",
        "who never resets lives as long",
        (_GIVEN_BACK + "test_a_day_of_tasks_without_a_reset_takes_no_more_room_than_its_first_hour",),
    ),
    Mutant(
        "only a few contexts are kept",
        "lifecycle.c",
        "    KEPT = 1 << 14, ",
        "    KEPT = 1 << 13, ",
        "the newest are listed",
        (_GIVEN_BACK + "test_the_newest_are_listed_and_their_ids_go_on",),
    ),
    Mutant(
        "tasks drive out the cell that started them",
        "lifecycle.c",
        "context->depth <= 1 ? &newer_on_top : &newer_below",
        "context->depth <= 0 ? &newer_on_top : &newer_below",
        "those right under the root are kept apart",
        (_GIVEN_BACK + "test_a_cell_is_not_driven_out_by_tasks_of_others",),
    ),
    Mutant(
        "what is above one that is kept is given back",
        "lifecycle.c",
        "            need(thag_context_parent(context));\n",
        "",
        "what points to a context keeps it",
        (_GIVEN_BACK + "test_what_is_above_one_that_is_kept_is_kept_as_long",),
    ),
    Mutant(
        "what is needed once is needed for ever",
        "lifecycle.c",
        "        context->is_needed = false;\n",
        "",
        "what nothing points to any more is given back",
        (_GIVEN_BACK + "test_what_is_above_one_that_is_kept_is_kept_as_long",),
    ),
    Mutant(
        "who is still inside does not keep it",
        "lifecycle.c",
        "    return context->ended && !is_dropped(context) && atomic_load(&context->holds) == 0\n",
        "    return !is_dropped(context)\n",
        "what is open is kept",
        (_GIVEN_BACK + "test_what_is_above_one_that_is_kept_is_kept_as_long",),
    ),
    Mutant(
        "a flow that goes on does not keep it",
        "lifecycle.c",
        "           && atomic_load(&context->frames) == 0 && thag_charges_figures(context).live_bytes == 0\n",
        "           && thag_charges_figures(context).live_bytes == 0\n",
        "what flows point to is kept",
        (_GIVEN_BACK + "test_work_that_goes_on_in_an_ended_context_is_charged_to_it",),
    ),
    Mutant(
        "an empty block does not keep it",
        "lifecycle.c",
        "           && thag_context_blocks(context) == 0;",
        "           ;",
        "records know their owner by its slot, be they of no bytes",
        (_GIVEN_BACK + "test_what_still_holds_a_block_is_kept_be_it_an_empty_one",),
    ),
    Mutant(
        "an heir does not count the blocks that it took over",
        "lifecycle.c",
        "    heir->uncounted_blocks += from->uncounted_blocks;\n",
        "",
        "a context's blocks are counted as its bytes are",
        (_GIVEN_BACK + "test_an_empty_block_keeps_it_after_a_reset_as_well",),
    ),
    Mutant(
        "blocks from before a reset are not counted",
        "lifecycle.c",
        "    context->uncounted_blocks = thag_context_blocks(context);\n",
        "",
        "a context's blocks are counted as its bytes are",
        (_GIVEN_BACK + "test_an_empty_block_keeps_it_after_a_reset_as_well",),
    ),
    Mutant(
        "what was given back below one that is given back is lost",
        "lifecycle.c",
        "    above->total_bytes += below.total_bytes + thag_load(",
        "    above->total_bytes += thag_load(",
        "what is above counts those that are not listed",
        (_GIVEN_BACK + "test_counts_go_up_and_up",),
    ),
    Mutant(
        "the frees of what was given back are lost",
        "lifecycle.c",
        "    above->frees += below.frees + thag_load(&context->frees);\n",
        "",
        "what is above counts those that are not listed",
        (_GIVEN_BACK + "test_what_is_above_counts_those_that_are_not_listed",),
    ),
    Mutant(
        "a reset counts what was given back before it",
        "lifecycle.c",
        "    context->below = (thag_counts){0};\n",
        "",
        "totals of what is open start from zero",
        (_GIVEN_BACK + "test_a_reset_counts_from_now_on_and_not_what_was_given_back",),
    ),
    Mutant(
        "a thread in the middle of an event does not keep what it found",
        "lifecycle.c",
        "    if (!thag_detached_is_quiet(begun) || !thag_charges_catch_up()) {\n        next_look_id",
        "    if (false) {\n        next_look_id",
        "nothing is forgotten that a thread without the GIL has looked up",
        (_GIVEN_BACK + "test_nothing_is_given_back_while_a_thread_without_the_gil_may_have_found_it",),
    ),
    Mutant(
        "blocks that are forgotten are still counted",
        "lifecycle.c",
        "    context->uncounted_blocks -= thag_context_blocks(context);\n",
        "",
        "a context's blocks are counted as its bytes are",
        (_STARTED + "test_blocks_from_before_a_restart_are_forgotten_and_never_negative",),
    ),
    Mutant(
        "a forked child counts blocks that its table does not have",
        "lifecycle.c",
        "    context->uncounted_blocks += found->blocks - thag_context_blocks(context);\n",
        "",
        "a context's blocks are counted as its bytes are",
        (_NUMPY + "test_a_child_forked_in_the_middle_of_an_event_has_sums_that_hold",),
    ),
    Mutant(
        "a dropped context can be entered",
        "bindings/contexts.c",
        "    if (context != NULL && atomic_load(&context->heir) != NULL) {",
        "    if (false) {",
        "what is dropped by a reset is not opened again",
        (_CONTEXTS + "test_a_guard_that_is_closed_instead_of_entered_ends_its_context_and_can_still_be_entered",),
    ),
    Mutant(
        "who leaves gets what anybody entered last",
        _SCOPE,
        "    while (*place != NULL && (*place)->caller != caller) {",
        "    while (false) {",
        "whoever leaves means what it entered itself",
        (_TASKS + "test_one_scope_in_two_generators_closes_the_one_whose_generator_ends",),
    ),
    Mutant(
        "more lists turn the guards round",
        _SCOPE,
        "        thag_guard *list = list_reversed(*list_at(&before, number));",
        "        thag_guard *list = *list_at(&before, number);",
        "a caller's newest guard is the first to be found",
        (_TASKS + "test_a_function_that_enters_one_scope_many_times_leaves_what_it_entered_last",),
    ),
    Mutant(
        "there is one list for ever",
        _SCOPE,
        "            list_push(list_of(scope, guard->caller), guard);",
        "            list_push(&scope->lists[0], guard);",
        "a caller's guards are in the list where they are looked for",
        (_TASKS + "test_one_scope_in_many_generators_closes_the_one_whose_generator_ends",),
    ),
    Mutant(
        "who leaves what others entered is not asked what it is in",
        _SCOPE,
        "is_newer && thag_guard_is_around(*place) ? place : innermost;",
        "is_newer && false ? place : innermost;",
        "a flow that leaves through somebody else leaves what it is in",
        (_TASKS + "test_leaving_what_others_entered_leaves_what_this_flow_is_in_and_then_what_was_entered_first",),
    ),
    Mutant(
        "who is in nothing leaves what was entered last",
        _SCOPE,
        "(*place)->turn < (*first)->turn ? place : first;",
        "(*place)->turn > (*first)->turn ? place : first;",
        "without any better reason, what was entered first is left first",
        (_TASKS + "test_leaving_what_others_entered_leaves_what_this_flow_is_in_and_then_what_was_entered_first",),
    ),
    Mutant(
        "a caller is known by its frame's address alone",
        _SCOPE,
        "(uint64_t)(uintptr_t)frame ^ (uint64_t)frame_code(frame) << 16;",
        "(uint64_t)(uintptr_t)frame;",
        "a frame's address is used again at once",
        (_TASKS + "test_one_scope_entered_through_a_helper_by_two_flows_closes_each_flows_own",),
    ),
    Mutant(
        "a scope that is dropped keeps its guards",
        _SCOPE,
        "            Py_DECREF((PyObject *)scope_take(scope, list_at(scope, number)));",
        "            (void)scope_take(scope, list_at(scope, number));",
        "nothing stays open when its scope is gone",
        (_TASKS + "test_a_scope_that_is_dropped_closes_what_was_entered_in_it",),
    ),
    Mutant(
        "a task starts nothing",
        _SCOPE,
        "    if (thag_recording_goes_on()) {\n        return true;\n    }",
        "    if (true) {\n        return true;\n    }",
        "the first task starts the recording",
        (_TASKS + "test_a_task_starts_the_dispatcher",),
    ),
    Mutant(
        "an async block enters before it is awaited",
        _SCOPE,
        "    return step_new(self, true);",
        "    PyObject *entered = scope_enter(self);\n    Py_XDECREF(entered);\n    return step_new(self, true);",
        "what nobody awaits does nothing",
        (_TASKS + "test_an_async_block_enters_when_it_is_awaited_and_once",),
    ),
    Mutant(
        "what is thrown into an awaited step is lost",
        _SCOPE,
        "    PyErr_SetObject(type, !is_type ? arguments[0] : count > 1 ? arguments[1] : NULL);\n    return NULL;",
        "    (void)type;\n    Py_RETURN_NONE;",
        "whoever awaits is told",
        (_TASKS + "test_an_async_block_enters_when_it_is_awaited_and_once",),
    ),
    Mutant(
        "a name of 201 letters is plain",
        _SCOPE,
        "PyUnicode_GET_LENGTH(name) > LONGEST)",
        "PyUnicode_GET_LENGTH(name) > LONGEST + 1)",
        "longer names are cut",
        (_TASKS + "test_a_task_is_called_as_names_are_cleaned",),
    ),
    Mutant(
        "a name may have what cannot be shown",
        _SCOPE,
        "letters[i] < ' ' || letters[i] > '~'",
        "letters[i] < ' '",
        "what cannot be shown is written as in Python's source",
        (_TASKS + "test_a_task_is_called_as_names_are_cleaned",),
    ),
    Mutant(
        "a name may be blank",
        _SCOPE,
        "        seen |= letters[i] != ' ';",
        "        seen = true;",
        "blank names are called unnamed",
        (_TASKS + "test_a_task_is_called_as_names_are_cleaned",),
    ),
    Mutant(
        "what a task puts back is not counted",
        "bindings/module.c",
        "    reattached += thag_is_recording() ? (hooked > 0 ? hooked : 0) + regained : 0;\n",
        "",
        "the status tells of a gap",
        ("tests/runtime/test_dispatcher.py::test_tracemalloc_stopped_under_us_removes_us_and_a_start_hooks_again",),
    ),
]


def _run(command: list[str], tree: Path) -> tuple[str, str]:
    """How a command ended: ``passed``, ``failed``, ``crashed`` or ``took too long``; and what it said."""
    environment = {**os.environ, "PYTHONPATH": str(tree), "THAG_CFLAGS": _FLAGS, "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        result = subprocess.run(
            command, cwd=tree, env=environment, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired:
        return "took too long", ""
    endings = {0: "passed", 1: "failed"}
    otherwise = f"crashed ({result.returncode})" if result.returncode < 0 else f"did not run ({result.returncode})"
    return endings.get(result.returncode, otherwise), result.stdout + result.stderr


def _test(tree: Path, tests: set[str]) -> tuple[str, str]:
    return _run([sys.executable, "-m", "pytest", "-q", "-x", "-n0", "-p", "no:cacheprovider", *sorted(tests)], tree)


def _copy(tree: Path) -> None:
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    for name in listed.stdout.decode().rstrip("\0").split("\0"):
        if (ROOT / name).is_file():
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            (tree / name).write_bytes((ROOT / name).read_bytes())


class _Commands:
    """What setup.py ran to build a tree, so that only what has changed is built again."""

    def __init__(self, tree: Path, said: str) -> None:
        self._tree = tree
        commands = [shlex.split(line) for line in said.splitlines() if " -o " in line]
        self._compile = {Path(_after("-c", words)): words for words in commands if "-c" in words}
        [self._link] = [words for words in commands if "-c" not in words]
        self._objects = [tree / _after("-o", words) for words in self._compile.values()]
        self._found = [path.read_bytes() for path in self._objects]

    def rebuild(self, source: Path) -> tuple[str, str]:
        """Build again, after a change of this source or header. The objects are those of before, afterwards."""
        commands = [self._compile[source]] if source in self._compile else list(self._compile.values())
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            endings = list(pool.map(lambda command: _run(command, self._tree), commands))
        endings.append(_run(self._link, self._tree))
        module = self._tree / _after("-o", self._link)
        shutil.copy(module, self._tree / "thag_nb" / module.name)
        for path, found in zip(self._objects, self._found, strict=True):
            path.write_bytes(found)
        return next((ending for ending in endings if ending[0] != "passed"), ("passed", ""))


def _after(option: str, words: list[str]) -> str:
    return words[words.index(option) + 1]


def _build(tree: Path, commands: _Commands, mutant: Mutant) -> tuple[str, str]:
    """Build the tree with the fault. The sources are put back, so that the module passes for one built from them."""
    path = tree / mutant.source
    source = path.read_text("utf-8")
    if source.count(mutant.old) != 1:
        return "failed", "its text does not stand there once"
    path.write_text(source.replace(mutant.old, mutant.new), "utf-8")
    try:
        return commands.rebuild(mutant.source)
    finally:
        path.write_text(source, "utf-8")


def _outcome(tree: Path, commands: _Commands, mutant: Mutant) -> str:
    """What became of a mutant."""
    built, said = _build(tree, commands, mutant)
    if built != "passed":
        return f"ERROR: it does not build: {said[-300:]}"
    ended, _ = _test(tree, set(mutant.tests))
    if ended.startswith("did not run"):
        return f"ERROR: its test {ended}"
    return "SURVIVED" if ended == "passed" else f"killed: {ended}"


def _prepare(tree: Path, mutants: list[Mutant]) -> _Commands | None:
    """Build a copy without any fault, and run there all tests; None if anything fails."""
    _copy(tree)
    built, commands = _run(_BUILD, tree)
    tests = {test for mutant in mutants for test in mutant.tests}
    ended, said = _test(tree, tests) if built == "passed" else (built, commands)
    if ended != "passed":
        print(f"without any fault, this {ended}:\n{said[-3000:]}")
        return None
    return _Commands(tree, commands)


def _run_all(tree: Path, mutants: list[Mutant]) -> int:
    commands = _prepare(tree, mutants)
    if commands is None:
        return 1
    alive = 0
    for mutant in mutants:
        outcome = _outcome(tree, commands, mutant)
        alive += not outcome.startswith("killed")
        print(f"{outcome:16}  {mutant.file:13} {mutant.name}", flush=True)
    return alive


def main(names: list[str]) -> int:
    """Run the mutants of these names, or all; 0 if every one was killed."""
    unknown = set(names) - {mutant.name for mutant in MUTANTS}
    if unknown:
        print(f"no mutant is called {sorted(unknown)}")
        return 2
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    mutants = [mutant for mutant in MUTANTS if mutant.name in (names or [mutant.name])]
    mutants = [mutant for mutant in mutants if mutant.python in ("", version)]
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as tree:
        alive = _run_all(Path(tree), mutants)
    print(f"{len(mutants) - alive} of {len(mutants)} killed in {time.monotonic() - began:.0f} s")
    return int(alive > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
