"""`first audit`: how honest a model is that one already has."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from firstlib.runtime.errors import UserError, on_one_line
from firstlib.settings.limits import MOST_BINS

if TYPE_CHECKING:
    from firstlib.evaluation.audit.differences import Difference

_FEWEST_SHARED = 0.5  # share of the questions by which `--fail-over` judges

HELP = """Measure how honest a model is: from a log, a table of answers, or by asking it.

WHAT is a log of lm-evaluation-harness (--log_samples) or its results folder, a log of inspect-ai, a table (CSV, JSON
Lines, Parquet; - for standard input), the folder, GGUF file or hub name of a model with --task, or the folder of a run.
Several are set side by side."""

What = Annotated[list[str], typer.Argument(metavar="WHAT...", help="logs, tables, models or runs")]
Against = Annotated[str | None, typer.Option(metavar="WHAT", help="compare the others with this one")]
FailOver = Annotated[
    float | None, typer.Option(min=0, help="exit with status 1 if an ECE exceeds that of --against by more than this")
]
To = Annotated[Path, typer.Option("--to", metavar="FOLDER", help="where audit.json and audit.html go")]
Bins = Annotated[int, typer.Option(min=1, max=MOST_BINS, help="equal-width bins of the ECE")]
Reading = Annotated[str | None, typer.Option(help="of confidence: candidates (or acc), acc_norm or vocabulary")]
Filter = Annotated[str | None, typer.Option(help="of a log of lm-evaluation-harness that has several")]
Column = Annotated[str | None, typer.Option(metavar="COLUMN", help="the table's column, if it has another name")]
Columns = Annotated[
    str | None, typer.Option(metavar="COLUMNS", help="a table's column of lists, or one column a choice: p1,p2,...")
]
By = Annotated[str | None, typer.Option(metavar="COLUMN", help="what holds each question's subject")]
Task = Annotated[str | None, typer.Option(help="what to ask a model: csqa, boolq, obqa or own")]
Data = Annotated[str | None, typer.Option(metavar="PLACE", help="the task's file or folder, or `microworld`")]
Split = Annotated[str, typer.Option(help="the split to ask a model")]
Limit = Annotated[int | None, typer.Option(min=1, help="questions to ask a model, at most")]
BatchSize = Annotated[int, typer.Option(min=1, help="questions in one forward pass of a model")]
Dtype = Annotated[str, typer.Option(help="of a model's weights: float32, bfloat16 or float16")]
Chat = Annotated[bool, typer.Option("--chat", help="ask in the model's own chat format")]
Candidates = Annotated[str, typer.Option(help="what a model is scored on: letters, or the choices' own text")]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="how the task's file is read: tasks.own.answers=from-1; repeatable"
    ),
]
MaxUnusable = Annotated[
    float | None,
    typer.Option(min=0, max=1, help="share of rows that may be left out  [default: 0.01; of a data set 0.02]"),
]


def audit(
    what: What,
    against: Against = None,
    fail_over: FailOver = None,
    to: To = Path(),
    bins: Bins = 10,
    reading: Reading = None,
    filter: Filter = None,  # noqa: A002 the option's name
    confidence: Column = None,
    correct: Column = None,
    probabilities: Columns = None,
    answer: Column = None,
    id: Column = None,  # noqa: A002 the option's name
    by: By = None,
    task: Task = None,
    data: Data = None,
    split: Split = "test",
    limit: Limit = None,
    batch_size: BatchSize = 16,
    dtype: Dtype = "float32",
    chat: Chat = False,
    candidates: Candidates = "letters",
    max_unusable: MaxUnusable = None,
    set: Set = None,  # noqa: A002 the option's name
) -> None:
    """What `HELP` says."""
    if fail_over is not None and against is None:
        raise UserError("--fail-over: compares with --against; name the earlier log or table there")
    from firstlib.results.audit import audit as measured  # here: a second, which a mistake need not cost
    from firstlib.results.audit.terminal import rendered

    found = measured(
        *what, against=against, bins=bins, reading=reading, filter=filter, confidence=confidence, correct=correct,
        probabilities=probabilities.split(",") if probabilities else None, answer=answer, id=id, by=by, task=task,
        data=data, split=split, limit=limit, batch_size=batch_size, dtype=dtype, chat=chat, candidates=candidates,
        max_unusable=max_unusable, settings=set or (),
    )  # fmt: skip
    console = Console()
    console.print(rendered(found.inputs, found.differences), highlight=False)
    for name, path in zip(("numbers", "page"), found.save(to), strict=True):
        console.print(f"{name:10} {path}", soft_wrap=True, highlight=False, markup=False)
    if fail_over is not None:
        _check_shared(found.differences)
    risen = [one for one in found.differences if fail_over is not None and one.ece.estimate > fail_over]
    for one in risen:
        told = f"{one.name}: its ECE rose by {one.ece.estimate:.4f} from {one.baseline}'s, more than {fail_over:g}"
        Console(stderr=True).print(
            f"first: {on_one_line(told)}", style="red", highlight=False, markup=False, soft_wrap=True
        )
    if risen:
        raise typer.Exit(1)


def _check_shared(differences: Sequence["Difference"]) -> None:
    """Refuses to judge a build by a few questions of many, as where ids have changed."""
    for one in differences:
        if one.paired and one.n < _FEWEST_SHARED * max(one.of):
            raise UserError(
                f"--fail-over: {one.name} and {one.baseline} share {one.n:,} questions of {one.of[0]:,} and "
                f"{one.of[1]:,}, too few to judge by; ask both the same questions under the same ids"
            )
