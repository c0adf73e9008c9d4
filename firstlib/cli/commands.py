"""The command line `first`: every verb is one call into the library."""

import json
import os
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from typer.exceptions import TyperException

from firstlib.cli import audit as audits
from firstlib.runtime import distributed
from firstlib.runtime.errors import UserError, on_one_line
from firstlib.runtime.files import disk_is_full
from firstlib.runtime.paths import RESULTS
from firstlib.settings.limits import LARGEST_SEED

STOPPED = 130  # typer's exit status after Ctrl-C

app = typer.Typer(add_completion=False, rich_markup_mode=None, help="FIRST, the laboratory for honest language models.")
console = Console()

Preset = Annotated[str, typer.Option(help="a preset's name, or a YAML file")]
Seed = Annotated[int, typer.Option(min=0, max=LARGEST_SEED, help="of data, training order and adapters")]
Runs = Annotated[str, typer.Option(help="the folder of all runs")]
Set = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="change one setting; may be repeated")
]
Gpu = Annotated[str | None, typer.Option("--gpu", help="a machine of the plan's table, or letters of its name")]
Devices = Annotated[int, typer.Option("--devices", min=1, help="how many of them work together")]


@app.callback(invoke_without_command=True)
def _help(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="print the version of the library")] = False,
) -> None:
    if version:
        from importlib import metadata  # here: no other verb needs it

        console.print(metadata.version("firstlib"), highlight=False)
        raise typer.Exit
    if context.invoked_subcommand is None:
        console.print(context.get_help(), markup=False, highlight=False)


@app.command()
def run(
    preset: Preset = "microworld",
    seed: Seed = 0,
    runs: Runs = "runs",
    set: Set = None,  # noqa: A002
    beyond: Annotated[bool, typer.Option("--beyond", help="also run notebook 07, on the study over seeds")] = False,
) -> None:
    """Run the numbered notebooks in order; those that would not change are skipped."""
    from firstlib.cli.notebooks import Plan  # imported here, as by every command: `first --help` needs none of it
    from firstlib.cli.notebooks import run as run_notebooks
    from firstlib.tasks.splits import told_files

    plan = Plan(preset, seed, runs, tuple(set or ()), beyond)
    executed = run_notebooks(plan, console)
    from firstlib.results.table import of_rows  # here: seconds, which a mistake in the settings need not cost

    results = plan.folder / RESULTS
    content = json.loads(results.read_text(encoding="utf-8"))
    console.print(of_rows(content["rows"]).terminal())
    for line in told_files(content.get("files", {})):
        console.print(f"data       {line}", soft_wrap=True, highlight=False, markup=False)
    for name, path in (
        ("notebooks", executed[0].parent),
        ("figures", plan.folder / "figures"),
        ("results", results),
        ("report", plan.folder / "report.html"),
    ):
        console.print(f"{name:10} {_short(path)}", soft_wrap=True, highlight=False)


@app.command()
def lab() -> None:
    """Open JupyterLab on the notebooks, on this machine only and with its token."""
    from firstlib.cli.notebooks import NOTEBOOKS

    os.execv(sys.executable, [sys.executable, "-m", "jupyterlab", "--ip=127.0.0.1", f"--notebook-dir={NOTEBOOKS}"])


@app.command()
def plan(preset: Preset = "microworld", set: Set = None, gpu: Gpu = None, devices: Devices = 1) -> None:  # noqa: A002
    """Estimate memory, time, bytes and downloads of a run, before anything runs."""
    from firstlib.planning.table import plan_table

    console.print(plan_table(preset, tuple(set or ()), gpu, devices))


@app.command()
def stage(
    name: Annotated[str, typer.Argument(metavar="STAGE", help="teacher, knowledge, or a method of the preset")],
    task: Annotated[str, typer.Argument(help="the training task, for example csqa")],
    preset: Preset = "microworld",
    seed: Seed = 0,
    runs: Runs = "runs",
    set: Set = None,  # noqa: A002
) -> None:
    """Compute one stage, on several devices with `accelerate launch -m firstlib.cli stage ...`."""
    from firstlib.experiment import Experiment

    experiment = Experiment(preset, seed, runs, tuple(set or ()))
    if distributed.rank() == 0:
        for role in experiment.run.data.roles():
            console.print(experiment.describe(role), soft_wrap=True, highlight=False)
    made = experiment.stage(name, task)
    if distributed.rank() == 0:
        console.print(f"{name:10} {_short(made)}", soft_wrap=True, highlight=False)


@app.command()
def export(
    method: Annotated[str, typer.Argument(help="a method of the preset, for example first")],
    task: Annotated[str, typer.Argument(help="what the student was trained on")],
    to: Annotated[str, typer.Option("--to", metavar="FOLDER", help="a new or empty folder, or an earlier export")],
    preset: Preset = "microworld",
    seed: Seed = 0,
    runs: Runs = "runs",
    set: Set = None,  # noqa: A002
) -> None:
    """Write a student as a plain transformers folder with its model card."""
    from firstlib.experiment import Experiment

    experiment = Experiment(preset, seed, runs, tuple(set or ()))
    from firstlib.figures import chrome

    chrome.start()  # it takes seconds, as the next import does
    from firstlib.results.export import export_student

    folder = export_student(experiment, method, task, to)
    console.print(f"exported   {_short(folder)}", soft_wrap=True, highlight=False)


@app.command()
def table(preset: Preset = "microworld", seed: Seed = 0, runs: Runs = "runs", set: Set = None) -> None:  # noqa: A002
    """Show a run's results with 95 % intervals over questions, beside the paper's."""
    from firstlib.experiment import Experiment
    from firstlib.results.comparison import compare
    from firstlib.results.table import of_comparison
    from firstlib.results.verify import check_ran

    experiment = Experiment(preset, seed, runs, tuple(set or ()))
    check_ran(experiment)
    console.print(of_comparison(compare(experiment.sealed())).terminal())


@app.command()
def report(preset: Preset = "microworld", seed: Seed = 0, runs: Runs = "runs", set: Set = None) -> None:  # noqa: A002
    """Write a run's report: one HTML file with the explorer that needs neither kernel nor network."""
    from firstlib.experiment import Experiment
    from firstlib.results.report import write_report
    from firstlib.results.verify import check_ran

    experiment = Experiment(preset, seed, runs, tuple(set or ()))
    check_ran(experiment)
    written = write_report(experiment)
    console.print(f"report     {_short(written)}", soft_wrap=True, highlight=False)


@app.command()
def verify(preset: Preset = "microworld", seed: Seed = 0, runs: Runs = "runs", set: Set = None) -> None:  # noqa: A002
    """Recompute every number of a run's results from the answers it keeps, and compare."""
    from firstlib.experiment import Experiment
    from firstlib.results.verify import verify as count_agreeing

    count = count_agreeing(Experiment(preset, seed, runs, tuple(set or ())))
    console.print(f"verified   {count} values of results.json, and every file of the run", highlight=False)


app.command("audit", help=audits.HELP)(audits.audit)


@app.command()
def requests(
    task: Annotated[str, typer.Option(help="the task whose examples are asked")],
    to: Annotated[Path, typer.Option("--to", metavar="FOLDER", help="gets TASK-SPLIT.jsonl, and for vLLM a program")],
    split: Annotated[str, typer.Option(help="train, validation or test")] = "train",
    form: Annotated[str, typer.Option("--for", help="completions (with echo), chat, or vllm")] = "completions",
    model: Annotated[str, typer.Option(help="the teacher's name on the server")] = "teacher",
    preset: Preset = "microworld",
    seed: Seed = 0,
    set: Set = None,  # noqa: A002
) -> None:
    """Write the requests that ask a served teacher for a split: JSONL in the form of OpenAI's batches."""
    from firstlib.experiment import Experiment
    from firstlib.experiment.requests import write_requests

    experiment = Experiment(preset, seed, overrides=tuple(set or ()))
    for written in write_requests(experiment.run, task, split, to, form, model):  # type: ignore[arg-type]
        console.print(f"requests   {_short(written)}", soft_wrap=True, highlight=False)


@app.command("import-logprobs")
def import_logprobs(
    file: Annotated[Path, typer.Argument(help="responses with log-probabilities: JSONL, a list, or a stream")],
    task: Annotated[str, typer.Option(help="the task whose examples were asked")],
    to: Annotated[Path, typer.Option("--to", metavar="FOLDER", help="then run with --set knowledge.imported=FOLDER")],
    split: Annotated[str, typer.Option(help="train, validation or test")] = "train",
    k: Annotated[int | None, typer.Option(min=2, help="tokens to keep at each position; default: the preset's")] = None,
    shared_ids: Annotated[
        bool, typer.Option("--shared-ids", help="teacher and student have the same token ids")
    ] = False,
    end: Annotated[list[str] | None, typer.Option("--end", help="the teacher's end token; may be repeated")] = None,
    most_lost: Annotated[float, typer.Option(help="probability that a position may lose as unmatched")] = 0.05,
    preset: Preset = "microworld",
    seed: Seed = 0,
    set: Set = None,  # noqa: A002
) -> None:
    """Import a served teacher's log-probabilities, in any server's format, into a knowledge store."""
    from firstlib.experiment import Experiment
    from firstlib.experiment.import_logprobs import import_knowledge
    from firstlib.knowledge.servers.matching import Rules

    experiment = Experiment(preset, seed, overrides=tuple(set or ()))
    rules = Rules(
        k or experiment.settings.knowledge.k, max_lost_mass=most_lost, shared_ids=shared_ids, ends=frozenset(end or ())
    )
    made, report = import_knowledge(experiment.run, file, task, split, to, rules)
    console.print(str(report), highlight=False)
    console.print(f"store      {_short(made)}", soft_wrap=True, highlight=False, markup=False)


@app.command("import-gguf")
def import_gguf(
    file: Annotated[list[Path], typer.Argument(metavar="FILE...", help="a GGUF file, or its parts in order")],
    to: Annotated[Path, typer.Option("--to", metavar="FOLDER", help="a new or empty folder, or an earlier import")],
) -> None:
    """Turn a GGUF file into a plain transformers folder that can be trained; what would be lost is refused."""
    from firstlib.models.gguf import import_gguf as imported  # here: seconds, which a mistake need not cost

    console.print(f"imported   {_short(imported(file, to))}", soft_wrap=True, highlight=False, markup=False)


@app.command()
def shrink(
    base: Annotated[str, typer.Argument(help="a folder, a GGUF file or a hub name")],
    layers: Annotated[int, typer.Option(min=1, help="how many are left")],
    text: Annotated[Path, typer.Option(metavar="FILE", help="a text in UTF-8, on which the rest is healed")],
    to: Annotated[Path, typer.Option("--to", metavar="FOLDER", help="a new folder, or one shrunk earlier")],
    passages: Annotated[int | None, typer.Option(min=10, help="the most that are read of the text")] = None,
    passage: Annotated[int, typer.Option(min=16, help="tokens of each")] = 256,
    epochs: Annotated[int, typer.Option(min=1, help="passes over the text")] = 1,
    rate: Annotated[float, typer.Option(help="peak learning rate")] = 1e-4,
) -> None:
    """Make a smaller sibling with the same tokens: drop the layers that change least, heal the rest by distillation."""
    from firstlib.experiment.shrinking import Shrinking
    from firstlib.experiment.shrinking import shrink as shrunk
    from firstlib.results.layers import layers_table

    base = str(Path(base).resolve()) if Path(base).exists() else base  # as the other paths; not from the project
    found = shrunk(Shrinking(base, layers, text, passage, passages, rate, epochs), to)
    console.print(layers_table(found))
    console.print(f"shrunk     {_short(to)}", soft_wrap=True, highlight=False, markup=False)


def _short(path: os.PathLike[str]) -> str:
    relative = os.path.relpath(path)
    return relative if not relative.startswith("..") else str(path)


def _one_line(error: TyperException) -> str:
    message = getattr(error, "format_message", error.__str__)()  # names the option, if there is one
    return f"{' '.join(message.split())} See `first --help`."


def _explained(error: Exception) -> tuple[int, str]:
    """Returns exit status and message of an error that a user can fix.

    Raises:
        Exception: The error itself, where it is a defect of the library.
    """
    if isinstance(error, TyperException):
        return 2, _one_line(error)
    if isinstance(error, UserError):
        return 2, on_one_line(str(error))
    from firstlib.cli.notebooks import NotebookError  # not above: a mistake on the command line needs none of it

    if isinstance(error, NotebookError):
        return 1, str(error)
    if disk_is_full(error):
        return 2, "no space left on the disk; free some, and run the same command again: it resumes"
    if isinstance(error, OSError) and error.filename is not None:
        told = f"{error.filename}: {error.strerror}; give another place, or change who may write there"
        return 2, on_one_line(told)
    raise error


def main() -> None:
    """Entry point. A user's mistake prints one line and exits with status 2, a failed notebook with status 1."""
    try:
        status, told = app(standalone_mode=False), ""
    except Exception as error:
        status, told = _explained(error)
    if status == STOPPED:
        told = "stopped; finished stages are kept, and the same command resumes"
    if told:
        Console(stderr=True).print(f"first: {told}", style="red", highlight=False, markup=False, soft_wrap=True)
    if status:
        sys.exit(status)
