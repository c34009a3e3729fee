"""Runs one command and prints what it used: user and system CPU seconds, peak RSS as the system counts it, exit code.

A process of its own, since a new process starts out with the peak RSS of the one it was started from: launched from a
process larger than itself, a child would be measured as that process.
"""

import os
import sys


def main(command: list[str]) -> None:
    pid = os.posix_spawn(command[0], command, os.environ)
    _, status, usage = os.wait4(pid, 0)
    print(usage.ru_utime, usage.ru_stime, usage.ru_maxrss, os.waitstatus_to_exitcode(status))


if __name__ == "__main__":
    main(sys.argv[1:])
