"""Ties processes to the life of their parent; run as a script, with nothing but the standard library.

`leash.py exec PARENT COMMAND…` asks the kernel to kill this process when its parent dies (prctl(2), PR_SET_PDEATHSIG),
then becomes the command. `leash.py watch` reads `+GROUP` and `-GROUP` lines from stdin and, when the writer is gone,
kills the process groups still listed: that takes the grandchildren, whom the kernel's signal does not reach.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def become(parent: int, command: list[str]) -> None:
    """Replace this process by the command, to be killed when `parent` dies."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    # A parent that died before the call above would never trigger the signal.
    if os.getppid() != parent:
        sys.exit(1)
    try:
        os.execvp(command[0], command)
    except OSError as error:
        sys.exit(f"error: {command[0]}: {error.strerror}")


def watch() -> None:
    """Keep the list of groups until stdin ends, then kill them."""
    # Ctrl-C and a stop of the service go to everybody; the list must outlive whoever writes it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    groups: set[int] = set()
    for line in sys.stdin:
        (groups.add if line[0] == "+" else groups.discard)(int(line[1:]))
    for group in groups:
        try:
            os.killpg(group, signal.SIGKILL)
        except ProcessLookupError:
            pass  # It ended by itself, or the kernel's signal was quicker.


if __name__ == "__main__":
    if sys.argv[1] == "watch":
        watch()
    else:
        become(int(sys.argv[2]), sys.argv[3:])
