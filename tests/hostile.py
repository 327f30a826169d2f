"""What the tests of hostile files share: a process with little memory that reads them, and TIFF files made by hand."""

import json
import struct
import subprocess
import sys

from runs import CHECKOUT

MEMORY = 1500  # MB of address space, most of it for the libraries themselves
LONGEST = 20  # s, of one file; most take milliseconds
READ = """
import json, resource, sys, time
import numpy
from ed2d import {module}
from ed2d.errors import InputError

opened, told = [], {{}}
sys.addaudithook(lambda event, given: opened.append(str(given[0])) if event == "open" else None)
resource.setrlimit(resource.RLIMIT_AS, ({memory} * 2**20,) * 2)
for path in json.loads(sys.argv[1]):
    opened.clear()
    start = time.monotonic()
    try:
        {module}.{call}(path)
        outcome = "read"
    except InputError as error:
        outcome = str(error)
    told[path] = [outcome, time.monotonic() - start, sorted(set(opened) - {{path}})]
print(json.dumps(told))
"""


def told(paths, module, call):
    """What a process with MEMORY says of each file, by its path: "read" or the text of the InputError.

    Asserts that it ends, says nothing on stderr, is quick, opens no other file and says one line that names the file.
    """
    paths = [str(path) for path in paths]
    command = [sys.executable, "-c", READ.format(module=module, call=call, memory=MEMORY), json.dumps(paths)]
    done = subprocess.run(
        command,
        env={"PYTHONPATH": str(CHECKOUT / "workflow/scripts"), "OPENBLAS_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=LONGEST * len(paths),
    )
    assert done.returncode == 0 and done.stderr == "", done.stderr
    outcomes = {}
    for path, (outcome, seconds, opened) in json.loads(done.stdout).items():
        assert seconds < LONGEST, (path, seconds)
        assert not [name for name in opened if not name.endswith((".py", ".pyc", ".so"))], (path, opened)
        assert outcome == "read" or (outcome.startswith(f"{path}: ") and len(outcome.splitlines()) == 1), outcome
        assert len(outcome) < len(path) + 400, outcome
        outcomes[path] = outcome
    return outcomes


TYPES = {"H": 3, "I": 4, "i": 9, "Q": 16, "s": 2}


class Tiff:
    """The bytes of a TIFF file made by hand: `data` stands at `at`, pages are added behind it."""

    def __init__(self, data=b"", *, order="<", big=False):
        self.order, self.big = order, big
        self.offset, self.number, self.entry = ("Q", "Q", "HHQ") if big else ("I", "H", "HHI")
        mark = {"<": b"II", ">": b"MM"}[order] + struct.pack(order + "H", 43 if big else 42)
        self.head = mark + (struct.pack(order + "HH", 8, 0) if big else b"")
        self.at = len(self.head) + struct.calcsize(self.offset)
        self.body = data

    @property
    def end(self):
        """Where the next bytes will stand."""
        return self.at + len(self.body)

    def put(self, data):
        """Adds bytes, and returns where they stand."""
        place = self.end
        self.body += data
        return place

    def page(self, tags, *, following=0):
        """Adds a directory of tags, (code, type, values) or (code, type, count, offset); returns where it stands."""
        entries, size = [], struct.calcsize(self.offset)
        for code, kind, *given in tags:
            if len(given) == 2:
                count, value = given[0], struct.pack(self.order + self.offset, given[1])
            elif kind == "s":
                count, value = len(given[0]), given[0]
            else:
                values = given[0] if isinstance(given[0], (list, tuple)) else [given[0]]
                count, value = len(values), struct.pack(f"{self.order}{len(values)}{kind}", *values)
            if len(value) > size:
                value = struct.pack(self.order + self.offset, self.put(value))
            entries.append(struct.pack(self.order + self.entry, code, TYPES[kind], count) + value.ljust(size, b"\0"))
        number = struct.pack(self.order + self.number, len(entries))
        return self.put(number + b"".join(entries) + struct.pack(self.order + self.offset, following))

    def write(self, path, first):
        """Writes the file; `first`: offset of its first page."""
        path.write_bytes(self.head + struct.pack(self.order + self.offset, first) + self.body)
        return path


def grey(width, length, offsets, counts, *, bits=16, compression=1, rows=None, kind="I", extra=()):
    """Tags of a grey image in strips of `rows` rows, all by default."""
    tags = [(256, "I", width), (257, "I", length), (258, "H", bits), (259, "H", compression), (262, "H", 1)]
    tags += [(273, kind, offsets), (277, "H", 1), (278, "I", rows or length), (279, kind, counts)]
    return tags + list(extra)
