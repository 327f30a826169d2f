"""Python reads this at its start where this directory is in PYTHONPATH: jobs stop themselves at certain events.

STOPS in the environment: JSON, a list of [words that the command line has, audit event, end of its first argument].
"""

import json
import os
import signal
import sys

waiting = json.loads(os.environ.get("STOPS", "[]"))


def stop(event, arguments):
    for one in waiting:
        words, wanted, end = one
        if event == wanted and str(arguments[0]).endswith(end) and all(word in " ".join(sys.argv) for word in words):
            waiting.remove(one)
            os.kill(os.getpid(), signal.SIGSTOP)
            return


if waiting:
    sys.addaudithook(stop)
