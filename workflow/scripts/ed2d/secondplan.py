"""The second plan of a run: images whose lattice the first has searched are measured, where that can be."""

import json
from dataclasses import dataclass
from pathlib import Path

from .atomic import replacing

SECOND = "ED2D_SECOND"  # the variable that makes a run the second plan of one: the path of its order


@dataclass(frozen=True)
class Order:
    """What a second plan is to measure, and whether something has failed in the first."""

    images: list
    failed: bool

    @classmethod
    def read(cls, path):
        """The order in a file, which is removed: no other run is to follow it."""
        order = cls(**json.loads(Path(path).read_text(encoding="utf-8")))
        Path(path).unlink(missing_ok=True)
        return order

    def write(self, path):
        """Writes it for `read`."""
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary:
            temporary.write_text(json.dumps(vars(self)), encoding="utf-8")


@dataclass(frozen=True)
class Outcome:
    """Names of the images that were to be searched: which can be measured, which wait for the user, which failed."""

    sure: list
    waiting: list
    failed: list

    @classmethod
    def of(cls, project, names):
        """What has become of images of these names, as the Project `project` finds them now."""
        found = cls([], [], [])
        for name in sorted(names):
            reading = project.reading(name)
            if project.outdated_search(name, reading) or reading.error:
                found.failed.append(name)
            else:
                (found.sure if reading.measurable else found.waiting).append(name)
        return found

    def line(self, measured):
        """The same in one line for people; measured: whether the sure ones are measured now."""
        said = []
        if self.sure:
            said.append(
                f"{len(self.sure)} {'is' if len(self.sure) == 1 else 'are'} sure" + " and measured now" * bool(measured)
            )
        if self.waiting:
            said.append(f"{len(self.waiting)} wait{'s' * (len(self.waiting) == 1)} for verification")
        if self.failed:
            said.append(f"{len(self.failed)} failed")
        number = len(self.sure) + len(self.waiting) + len(self.failed)
        return f"{number} image{'s' * (number != 1)} searched: {', '.join(said)}"
