"""A few machines that a reader may know, by what their makers state; and how much of it is assumed to be reached."""

from dataclasses import dataclass

from firstlib.runtime.errors import UserError

MIB, GIB = 2**20, 2**30
ROOM = 0.92  # of a device's memory; the rest is for its driver, its kernels and the allocator's gaps


@dataclass(frozen=True)
class Machine:
    """One device.

    Attributes:
        memory: In GiB.
        half: Most floating-point operations a second in bfloat16, dense.
        single: The same in float32.
        reached: Share of those assumed to be reached; training loops on GPUs commonly report 0.3 to 0.5.
    """

    name: str
    memory: int
    half: float
    single: float
    reached: float

    @property
    def room(self) -> float:
        """Bytes that a run may fill."""
        return ROOM * self.memory * GIB

    def hours(self, operations: float, half: bool, devices: int = 1) -> float:
        """How long so many operations take, evenly divided."""
        return operations / ((self.half if half else self.single) * self.reached * devices) / 3600


MACHINES = (
    # eight cores at 3 GHz with two 256-bit multiply-adds a cycle: 8 x 3e9 x 32; no bfloat16 of their own
    Machine("laptop CPU", 16, 0.77e12, 0.77e12, 0.30),
    Machine("RTX 4090", 24, 165e12, 82.6e12, 0.35),
    Machine("A100 80 GB", 80, 312e12, 19.5e12, 0.40),
    Machine("H100 80 GB", 80, 989e12, 67e12, 0.35),
)


def find_machines(name: str | None) -> tuple[Machine, ...]:
    """Every machine, or those whose name holds these letters.

    >>> [machine.name for machine in find_machines("4090")]
    ['RTX 4090']

    Raises:
        UserError: There is none.
    """
    found = tuple(m for m in MACHINES if _letters(name or "") in _letters(m.name))
    if not found:
        raise UserError(f"--gpu {name!r}: not in the table; choose one of {', '.join(m.name for m in MACHINES)}")
    return found


def _letters(name: str) -> str:
    return "".join(name.split()).lower()
