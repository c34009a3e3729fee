#!/usr/bin/env bash
# The tests of the native core under a sanitizer: `tests/sanitize.sh address` (with undefined behaviour) or `thread`.
# Needs gcc with its sanitizer libraries, and the interpreter's environment with the test extra; PYTHON names it.
set -euo pipefail
cd "$(dirname "$0")/.."
python=$(realpath -s "${PYTHON:-.venv/bin/python}")
tests=(tests/core tests/runtime)

case ${1:-} in
address)
    flags="-fsanitize=address,undefined -fno-sanitize-recover=undefined"
    libraries="$(gcc -print-file-name=libasan.so) $(gcc -print-file-name=libubsan.so)"
    # The interpreter itself leaks on purpose, and some tests ask for more memory than there is.
    export ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1:handle_segv=0
    tests+=(tests/holders)
    run=()
    ;;
thread)
    flags="-fsanitize=thread"
    libraries="$(gcc -print-file-name=libtsan.so)"
    # CPython is not built for it: it sees races between two accesses of the native core. A report fails the run. Nothing may
    # be suppressed by a function of CPython's: one is in the stack of every call of a hook.
    # It delivers signals only at calls that it intercepts, which a loop of pure Python never makes: that test is skipped.
    reports=$(mktemp -d)/report
    export TSAN_OPTIONS="exitcode=66:die_after_fork=0:allocator_may_return_null=1:log_path=$reports"
    export THAG_TESTS_DIVISOR=20 THAG_STATEFUL_EXAMPLES=20
    # Its shadow memory wants addresses where they used to be.
    run=(setarch "$(uname -m)" --addr-no-randomize)
    ;;
*)
    echo "usage: tests/sanitize.sh address|thread" >&2
    exit 2
    ;;
esac

copy=$(mktemp -d)
trap 'rm -rf "$copy" "${reports:+${reports%/*}}"' EXIT
git ls-files -z --cached --others --exclude-standard | xargs -0 cp --parents -t "$copy"
cd "$copy"
if [ "$1" = thread ]; then
    # Without us as well, Polars crashes under it when it is imported, and DuckDB at a fork; of Arrow it reports races.
    for library in polars duckdb pyarrow; do
        echo "raise ModuleNotFoundError('$library does not bear ThreadSanitizer')" >"$library.py"
    done
fi
THAG_CFLAGS="$flags -UNDEBUG -g -O1 -fno-omit-frame-pointer" THAG_LDFLAGS="$flags" "$python" setup.py -q build_ext --inplace
LD_PRELOAD=$libraries PYTHONPATH=$copy "${run[@]}" "$python" -m pytest -q -rs -p no:cacheprovider "${@:2}" "${tests[@]}" || failed=$?
# What a process of the tests exits with is lost where another one runs it.
if [ -n "${reports:-}" ] && grep -ls 'WARNING: ThreadSanitizer' "$reports"*; then
    cat "$reports"*
    failed=66
fi
exit "${failed:-0}"
