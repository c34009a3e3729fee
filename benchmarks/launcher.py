"""Runs one command and prints what it used: user and system CPU seconds, peak RSS as the system counts it, exit code.

CPU time is that of the process and of all processes it waited for, so a tool that starts the program once more in a
process of its own (Scalene does) is counted with it. Peak RSS is the largest of these processes, not their sum.

A process of its own, since a new process starts out with the peak RSS of the one it was started from: launched from a
process larger than itself, a child would be measured as that process.
"""

import os
import signal
import sys


def main(seconds: str, *command: str) -> None:
    """Whatever is left of the command is killed after so many seconds, and when the launcher is interrupted."""
    signal.signal(signal.SIGALRM, _too_long)
    signal.alarm(int(seconds))
    pid = os.posix_spawn(command[0], command, os.environ, setpgroup=0)
    try:
        _, status, usage = os.wait4(pid, 0)
    except BaseException:
        os.killpg(pid, signal.SIGKILL)
        raise
    print(usage.ru_utime, usage.ru_stime, usage.ru_maxrss, os.waitstatus_to_exitcode(status))


def _too_long(*_: object) -> None:
    sys.exit("took too long")


if __name__ == "__main__":
    main(*sys.argv[1:])
