"""What a broken kernel does to the process that measures it: `config` says where and what."""

import os
import signal
import sys
import time

from tilec.tune.measure.child import serve


def loop():
    while True:
        pass


def memory():
    held = []
    while True:
        held.append(bytearray(64 << 20))


def forks():
    while True:
        try:
            os.fork()
        except OSError:
            time.sleep(0.01)


def output():
    while True:
        os.write(1, b"x" * (1 << 20))


def escaped():
    """A grandchild in a session of its own, with the end of this process."""
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            time.sleep(1000)
        os._exit(0)
    os._exit(0)


def lies():
    os.write(int(ANSWERS), b"no json\n")
    time.sleep(1000)


FAULTS = {
    "loop": loop, "memory": memory, "forks": forks, "output": output, "escaped": escaped,
    "lies": lies, "segfault": lambda: os.kill(os.getpid(), signal.SIGSEGV), "abort": os.abort,
    "exit": lambda: os._exit(0), "ptxas": lambda: (os.write(2, b"ptxas died"), os._exit(139)),
    "raises": lambda: 1 / 0,
}  # fmt: skip
ANSWERS = sys.argv[-1]


def opened(request):
    def answer(asked):
        config = asked["config"]
        if config.get("at") == asked["do"]:
            FAULTS[config["fault"]]()
        if config.get("wrong") and asked["do"] == "check":
            return {"failure": "wrong_result", "detail": "other"}
        if asked["do"] != "burst":
            return {"seconds": 0.001}
        return {"samples": [config.get("time", 1.0) * 1e-3] * 3}

    if request["default"].get("opens") is False:
        sys.exit(3)
    return answer


if __name__ == "__main__":
    serve(opened)
