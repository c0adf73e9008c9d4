"""Formats a plan as tables for the terminal."""

from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from firstlib.planning.anatomy import FOLDER, Anatomy
from firstlib.planning.machines import GIB, MIB, ROOM, Machine, find_machines
from firstlib.planning.memory import tuned
from firstlib.planning.plan import Scene, Stage, devices_needed, fits, make_scene, remedy, stages
from firstlib.planning.tokens import TaskPlan
from firstlib.planning.work import BYTES_PER_ENTRY, download_bytes, our_store_bytes, store_bytes
from firstlib.settings.loading import load_preset
from firstlib.settings.schema import Model, Settings

_LEGEND = (
    "Time: operations divided by that speed. Per parameter and token: 6 to train (4 with adapters: frozen weights need "
    "no gradient), 2 more with checkpointing, 2 for inference. Attention products, padding, loading and the notebooks' "
    "extra experiments are not counted. Expect the right order of magnitude.",
    "Memory: weights, gradients and Adam's two moments by type (NF4: half a byte plus scales); activations are the "
    "tensors that autograd saves in each block of a Llama, for a batch as long as the longest example; working is the "
    "larger of the loss with its chunk of logits and one block's pass. On several devices, training shards weights, "
    "gradients and moments (FSDP or ZeRO-3), and inference runs a whole model on each.",
    f"Store: the paper counts {BYTES_PER_ENTRY} bytes per kept token. Ours takes at most log2(V) bits per token id and "
    "13 per probability or residual; real text takes less, 12 to 16 bytes per position at k = 5.",
)
_BASES = {
    "sampled": "scaled up from 200 sampled questions",
    "counted": "counted in the files",
    "stated": "published rows times mean tokens of real rows with Llama's tokenizer",
}


def plan_table(preset: str, overrides: tuple[str, ...] = (), gpu: str | None = None, devices: int = 1) -> Any:
    """Returns a printable plan of a run: models, tokens, memory, store, time, and advice where it does not fit.

    Args:
        preset: A preset's name, or a YAML file.
        overrides: Settings to change, as `key=value`.
        gpu: Part of the name of a machine in `machines.MACHINES`; None: all machines.
        devices: Number of such machines used together.

    Raises:
        UserError: The preset, a model, the data or the machine is not available, or the batch is not divisible.
    """
    settings, machines = load_preset(preset, overrides), find_machines(gpu)
    scene = make_scene(settings)
    found = stages(settings, scene, devices)
    parts: list[RenderableType] = [
        Text(f"{preset}: {settings.description}", style="bold"),
        *_bases(settings, scene),
        _models(settings, scene),
        _data(scene),
        _memory(found),
        _stores(scene),
        _time(found, machines, devices),
        *_advice(settings, scene, found, machines, devices),
        Text(),
        *(Padding(Text(text, style="dim"), (0, 0, 0, 1)) for text in (_speeds(machines, found), *_LEGEND)),
    ]
    return Group(*parts)


def _roles(settings: Settings, scene: Scene) -> tuple[tuple[str, Anatomy, Model], ...]:
    student = ("student", scene.student, settings.student)
    return (("teacher", scene.teacher, settings.teacher), student) if scene.teacher else (student,)


def _bases(settings: Settings, scene: Scene) -> list[RenderableType]:
    found: list[RenderableType] = [
        Text(f" {role} {model.base}, configuration from {part.source}") for role, part, model in _roles(settings, scene)
    ]
    kept = settings.knowledge
    elsewhere = [Text(f" teacher at {kept.server or kept.imported}, which the plan does not count")]
    return found if scene.teacher else [*elsewhere, *found]


def _models(settings: Settings, scene: Scene) -> Table:
    table = _table("Models", "", "parameters", "tuning", "tuned", "vocabulary", "download")
    for role, part, model in _roles(settings, scene):
        table.add_row(
            role,
            f"{part.parameters:,}",
            model.tuning,
            f"{tuned(part, model):,}",
            f"{part.vocabulary:,}",
            "-" if part.source == FOLDER else size(download_bytes(part.parameters)),
        )
    return table


def _data(scene: Scene) -> Table:
    tasks = [("train", task) for task in scene.train] + [("test", task) for task in scene.distinct_tests]
    basis = "; ".join(_BASES[name] for name in dict.fromkeys(task.basis for _, task in tasks))
    table = _table(f"Tokens ({basis})", "", "examples", "tokens", "of responses", "longest")
    for split, task in tasks:
        table.add_row(
            f"{task.task} {split}",
            f"{task.examples:,}",
            f"{task.tokens:,}",
            f"{task.positions:,}",
            str(task.longest),
        )
    return table


def _memory(found: list[Stage]) -> Table:
    unit, name = (GIB, "GiB") if max(stage.memory.total for stage in found) >= GIB else (MIB, "MiB")
    table = _table(
        f"Memory of a device, {name}", "", "weights", "gradients", "Adam", "activations", "working", "[bold]total"
    )
    for stage in found:
        memory = stage.memory
        numbers = (memory.weights, memory.gradients, memory.optimiser, memory.activations, memory.working)
        table.add_row(stage.name, *(_in(unit, n) for n in numbers), f"[bold]{_in(unit, memory.total)}")
    return table


def _stores(scene: Scene) -> Table:
    ks = (1, 5, 100, _stored_in(scene).vocabulary)
    table = _table("Knowledge store of a training set", "", *(f"k = {k:,}" for k in ks))
    for task in scene.train:
        table.add_row(f"{task.task}, the paper's count", *(size(store_bytes(task.positions, k)) for k in ks))
        table.add_row(f"{task.task}, ours at most", *(size(_ours(task, k, scene)) for k in ks))
    return table


def _ours(task: TaskPlan, k: int, scene: Scene) -> float:
    return our_store_bytes(task.positions, k, _stored_in(scene).vocabulary)


def _stored_in(scene: Scene) -> Anatomy:
    """The model in whose tokens the store is written."""
    return scene.teacher or scene.student


def _time(found: list[Stage], machines: tuple[Machine, ...], devices: int) -> Table:
    many = f"{devices} devices" if devices > 1 else "one device"
    names = [stage.name.replace(" ", "\n") for stage in found]
    table = _table(f"Time on {many}", "", "GiB", *names, "[bold]all", "fits")
    work = [stage.flops for stage in found]
    table.add_row("operations", "", *map(_power, work), _power(sum(work)), "")
    for machine in machines:
        hours = [machine.hours(stage.flops, stage.half, devices) for stage in found]
        enough = "yes" if fits(found, machine) else "[red]no"
        table.add_row(machine.name, str(machine.memory), *map(duration, hours), f"[bold]{duration(sum(hours))}", enough)
    return table


def _advice(
    settings: Settings, scene: Scene, found: list[Stage], machines: tuple[Machine, ...], devices: int
) -> list[RenderableType]:
    """Returns a line for each machine that is too small: what is needed, and what would help."""
    lines: list[RenderableType] = []
    for machine in machines:
        large = [stage for stage in found if stage.memory.total > machine.room]
        if large:
            needs = ", ".join(f"{_in(GIB, stage.memory.total)} GiB to {stage.name}" for stage in large)
            text = f"{machine.name}: needs {needs}, but can use {ROOM * machine.memory:.0f} of its {machine.memory}. "
            lines.append(Padding(Text(text + _help(settings, scene, machine, devices)), (0, 0, 0, 1)))
    return lines


def _help(settings: Settings, scene: Scene, machine: Machine, devices: int) -> str:
    changes = remedy(settings, scene, machine, devices)
    more = devices_needed(settings, scene, machine, devices)
    written = " ".join(f"--set {key}={str(value).lower()}" for key, value in (changes or {}).items())
    found = [f"with {written}"] if written else []
    found += [f"on {more} such devices that share a model"] if more else []
    return f"It fits {', or '.join(found)}." if found else "No setting helps: choose smaller models."


def _speeds(machines: tuple[Machine, ...], found: list[Stage]) -> str:
    half = any(stage.half for stage in found)
    each = [f"{m.name} {m.reached:.0%} of {(m.half if half else m.single) / 1e12:.3g} TFLOP/s" for m in machines]
    return f"Speed assumed: {', '.join(each)} in {'bfloat16' if half else 'float32'}."


def _table(title: str, *headings: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD, pad_edge=False)
    for index, heading in enumerate(headings):
        table.add_column(heading, justify="right" if index else "left")
    return table


def _in(unit: int, count: float) -> str:
    if not count:
        return "-"
    return f"{count / unit:,.2f}" if count < 10 * unit else f"{count / unit:,.0f}"


def _power(count: float) -> str:
    return f"{count:.1e}".replace("e+", "e")


def duration(hours: float) -> str:
    """Formats hours in a suitable unit.

    >>> [duration(hours) for hours in (1234.5, 2.5, 0.5, 0.001)]
    ['1,234 h', '2.5 h', '30 min', '4 s']
    """
    if hours >= 1:
        return f"{hours:.1f} h" if hours < 10 else f"{hours:,.0f} h"
    return f"{hours * 60:.0f} min" if hours * 60 >= 1 else f"{hours * 3600:.0f} s"


def size(count: float) -> str:
    """Formats bytes in decimal units.

    >>> size(12_288_000_000)
    '12 GB'
    """
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"
