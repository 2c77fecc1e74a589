"""The programs of a branched network: one per way of calling it, and per Python state."""

from collections import Counter
from collections.abc import Callable, Collection

from recon.branching.call import Call
from recon.branching.graph.program import Program, Refusal
from recon.branching.layers import join
from recon.branching.reads.guard import Guard
from recon.branching.reads.reads import OUTSIDE, Name

Write = Callable[[Collection[Name]], Program | Refusal]

_VERSIONS = 8  # programs of one way of calling the network
_CALLS = 64


class Programs:
    """Finds the right program for a call, and tells when one must be written.

    A state that returns finds its program again. A number that has changed twice, such as a
    temperature that follows a schedule, is read at every call from then on.

    A way of calling the network loses its programs if something else has changed eight times, or a
    number that decides the path of the forward.
    """

    def __init__(self) -> None:
        self._versions: dict[Call, list[Program | Refusal]] = {}
        self._changes: Counter[Name] = Counter()
        self._opened: set[Name] = set()
        self._decisive: set[Name] = set()  # numbers that cannot be read at every call

    @property
    def calls(self) -> list[Call]:
        """The known ways of calling the network."""
        return list(self._versions)

    def find(self, call: Call) -> Program | Refusal | None:
        """The program or refusal for a call in the present state; None if it is not known yet."""
        for version in self._versions.get(call, ()):
            if version.guard.holds():
                return version
        return None

    def latest(self, call: Call) -> Program | Refusal:
        """The program or refusal that was written last for a call."""
        return self._versions[call][-1]

    def add(self, call: Call, write: Write) -> Program | Refusal:
        """Write the missing program for a call in the present state.

        Args:
            call: The way of calling the network.
            write: Writes the program, given the numbers among the attributes to read at every call.
        """
        name = self._changed(call)
        if name and self._is_schedule(call, name):
            written = write({*self._opened, name})
            if isinstance(written, Program):
                self._opened.add(name)
                self._versions[call] = [written]
                return written
            self._decisive.add(name)
        written = write(self._opened)
        versions = self._versions.setdefault(call, [])
        if len(versions) >= _VERSIONS:
            written = Refusal(Guard(), f"{_described(name)} changes from call to call")
            versions.clear()
        versions.append(written)
        if len(self._versions) > _CALLS:
            del self._versions[next(iter(self._versions))]
        return written

    def drop_constants(self) -> None:
        """Forget programs with tensors that the forward made on the parameters' earlier device."""
        for call, versions in self._versions.items():
            self._versions[call] = [own for own in versions if isinstance(own, Refusal) or not own.constants]

    def _changed(self, call: Call) -> Name | None:
        """The attribute that is not as the last program for a call expects it."""
        versions = self._versions.get(call)
        if not versions:
            return None
        name = versions[-1].guard.changed()
        if name:
            self._changes[name] += 1
        else:
            versions.clear()  # a module or hook was exchanged, and will not return
        return name

    def _is_schedule(self, call: Call, name: Name) -> bool:
        if name[0] == OUTSIDE:
            return False
        is_number = self._versions[call][-1].guard.expects_number(name)
        return is_number and self._changes[name] > 1 and name not in self._decisive


def _described(name: Name | None) -> str:
    if name is None:
        return "it"
    return f"the variable {name[1]!r}" if name[0] == OUTSIDE else f"its attribute {join(*name)!r}"
