"""Common machines: peak speeds as stated by their makers, and the share assumed to be reached."""

from dataclasses import dataclass

from firstlib.runtime.errors import UserError

MIB, GIB = 2**20, 2**30
ROOM = 0.92  # usable share of a device's memory; driver, kernels and fragmentation take the rest


@dataclass(frozen=True)
class Machine:
    """One device.

    Attributes:
        name: For display, and for `first plan --gpu`.
        memory: In GiB.
        half: Peak dense floating-point operations per second in bfloat16.
        single: Peak in float32.
        reached: Share of the peak assumed to be reached; training on GPUs commonly reaches 0.3 to 0.5.
    """

    name: str
    memory: int
    half: float
    single: float
    reached: float

    @property
    def room(self) -> float:
        """Usable memory in bytes."""
        return ROOM * self.memory * GIB

    def hours(self, operations: float, half: bool, devices: int = 1) -> float:
        """Returns the time in hours for a number of operations, evenly divided over devices."""
        return operations / ((self.half if half else self.single) * self.reached * devices) / 3600


MACHINES = (
    # eight cores at 3 GHz with two 256-bit multiply-adds per cycle: 8 x 3e9 x 32; no native bfloat16
    Machine("laptop CPU", 16, 0.77e12, 0.77e12, 0.30),
    Machine("RTX 4090", 24, 165e12, 82.6e12, 0.35),
    Machine("A100 80 GB", 80, 312e12, 19.5e12, 0.40),
    Machine("H100 80 GB", 80, 989e12, 67e12, 0.35),
)


def find_machines(name: str | None) -> tuple[Machine, ...]:
    """Returns all machines, or those whose name contains `name`, ignoring case and spaces.

    >>> [machine.name for machine in find_machines("4090")]
    ['RTX 4090']

    Raises:
        UserError: No machine matches.
    """
    found = tuple(m for m in MACHINES if _letters(name or "") in _letters(m.name))
    if not found:
        raise UserError(f"--gpu {name!r}: not in the table; choose one of {', '.join(m.name for m in MACHINES)}")
    return found


def _letters(name: str) -> str:
    return "".join(name.split()).lower()
