"""Keeps a command: when its time is over, nothing that it started is left.

Run as a script, with nothing but the standard library:

    python keeper.py LIFELINE REPORT LIMITS COMMAND ARGUMENT...

The command has no network where the system lets its user make a namespace for that; else it has
that of this machine, and REPORT gets a first line `network REASON`.

LIFELINE is a pipe's reading end: once its other end is closed, by will or by death, the command and
all its descendants are killed, those too that went into sessions of their own. REPORT is a pipe's
writing end, to which a line goes at the end: `exit STATUS`, `signal NUMBER`, `ended`, or
`processes COUNT`.
LIMITS is JSON: bytes of memory and of a file, how many processes.
"""

import contextlib
import ctypes
import json
import os
import resource
import select
import signal
import sys
import time

LOOK = 0.2  # seconds between two looks at how many processes there are
CHILD_SUBREAPER = 36  # prctl(2)
NEWUSER, NEWNET = 0x10000000, 0x40000000  # unshare(2)


def main(lifeline: int, report: int, limits: dict[str, int], command: list[str]) -> None:
    """Run the command until it ends or must end."""
    ctypes.CDLL(None, use_errno=True).prctl(CHILD_SUBREAPER, 1, 0, 0, 0)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    child = os.fork()
    if child == 0:
        _become(command, limits, lifeline, report)
    what = _watched(child, lifeline, limits.get("processes", 0))
    _end(child)
    with contextlib.suppress(OSError):
        os.write(report, what.encode() + b"\n")


def _become(command: list[str], limits: dict[str, int], lifeline: int, report: int) -> None:
    """The child: a session of its own, no network, limits, the command."""
    try:
        os.setsid()
        if why := _leave_network():
            os.write(report, f"network {why}\n".encode())
        for fd in (lifeline, report):
            os.close(fd)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE):
            signal.signal(number, signal.SIG_DFL)
        kinds = {"memory": resource.RLIMIT_AS, "file": resource.RLIMIT_FSIZE}
        for name, kind in kinds.items():
            if limits.get(name):
                resource.setrlimit(kind, (limits[name], limits[name]))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        os.execv(command[0], command)
    finally:
        os._exit(127)


def _leave_network() -> str:
    """Enter a namespace whose network has nothing but a loopback that is down; why not, if not.

    Only root may do that as such, others in a namespace of users too, where they stay who they are.
    """
    user, group = os.geteuid(), os.getegid()
    library = ctypes.CDLL(None, use_errno=True)
    if library.unshare(NEWNET) == 0:
        return ""
    if library.unshare(NEWUSER | NEWNET) != 0:
        return os.strerror(ctypes.get_errno())
    said = {"setgroups": "deny", "uid_map": f"{user} {user} 1", "gid_map": f"{group} {group} 1"}
    for name, text in said.items():
        with open(f"/proc/self/{name}", "w") as file:
            file.write(text)
    return ""


def _watched(child: int, lifeline: int, most: int) -> str:
    """Wait for the child, for the other end of the lifeline, or for too many processes."""
    watch = select.poll()
    handle = os.pidfd_open(child)
    watch.register(lifeline, select.POLLIN)
    watch.register(handle, select.POLLIN)
    usual = len(os.listdir("/proc"))
    while True:
        ready = [fd for fd, _ in watch.poll(LOOK * 1000)]
        if handle in ready:
            _, status = os.waitpid(child, 0)
            code = os.waitstatus_to_exitcode(status)
            return f"exit {code}" if code >= 0 else f"signal {-code}"
        if lifeline in ready:
            return "ended"
        if most and len(os.listdir("/proc")) > usual + most:
            count = sum(_session(int(p)) == child for p in os.listdir("/proc") if p.isdecimal())
            if count > most:
                return f"processes {count}"


def _session(pid: int) -> int:
    try:
        return os.getsid(pid)
    except OSError:
        return 0


def _end(child: int) -> None:
    """Kill the child's group at once, then whatever comes back to this process as an orphan."""
    with contextlib.suppress(OSError):
        os.killpg(child, signal.SIGKILL)
    while True:
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return
        for pid in _children():
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.002)


def _children() -> list[int]:
    """The processes whose parent this one is, by proc(5)."""
    try:
        with open(f"/proc/self/task/{os.getpid()}/children") as file:
            return list(map(int, file.read().split()))
    except OSError:
        return [int(p) for p in os.listdir("/proc") if p.isdecimal() and _parent(p) == os.getpid()]


def _parent(pid: str) -> int:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return int(file.read().rpartition(")")[2].split()[1])
    except (OSError, ValueError, IndexError):
        return 0


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), json.loads(sys.argv[3]), sys.argv[4:])
