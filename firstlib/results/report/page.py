"""The run's report: one HTML file that needs neither a kernel nor a network."""

import base64
import gzip
import json
import os
from collections.abc import Callable
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
import plotly.offline

from firstlib import figures
from firstlib.evaluation.predictions import Predictions
from firstlib.experiment.experiment import Experiment
from firstlib.explorer import ExperimentSource, starting
from firstlib.results import studies
from firstlib.results.comparison import compare
from firstlib.results.report import grid, sections
from firstlib.runtime.artefacts import Artefacts
from firstlib.runtime.hashing import content_hash
from firstlib.runtime.paths import preset_name
from firstlib.settings.schema import METHODS

REPORT = "report.html"
FIGURES = {
    "coverage": (
        "Figure 2: concentrated knowledge",
        "The probability that the most probable tokens hold together, over the last column's training set.",
    ),
    "ranks": (
        "Figure 3: rank and reliability",
        "What a model gives its tokens of rank 1 to 5, and how often each is the right one. Where the left bar is "
        "higher, the model is over-confident.",
    ),
    "reliability": (
        "Figure 5: reliability diagrams",
        "A bar is the accuracy of the answers in its bin; where it ends below the diagonal, the model is "
        "over-confident.",
    ),
    "search": (
        "Figure 6, left: the search for the coefficient",
        "ECE of the teacher's targets on validation questions.",
    ),
    "effect": (
        "Figure 6, right: other coefficients",
        "Test ECE of students distilled with other coefficients than the chosen one: a line a seed of the microworld, "
        "as `make seeds` keeps them.",
    ),
    "plane": ("Accuracy against ECE", "Up and to the left is better; along a dotted line Trust is the same."),
}


def write_report(experiment: Experiment) -> Path:
    """Writes `report.html` into the run's folder, at most 6 MB; stages that are not finished are computed.

    In it: the results with intervals beside the paper's, the temperature explorer on a grid of coefficients, Figures 2,
    3, 5 and 6, the case study, every stage's time and size, settings, seed and versions. Returns its path.
    """
    used = _Used(experiment.artefacts.folder)
    looking = experiment.change()
    looking.artefacts = used
    content = _content(looking)
    path = experiment.folder / REPORT
    _put(path, _filled(content | _record(looking, used)))
    return path


def _content(experiment: Experiment) -> dict[str, str]:
    case = studies.case(experiment, experiment.main)
    drawn = _figures(experiment) | {"case": _case(case)}
    places = (sections.figure(name, *told) for name, told in FIGURES.items())
    source, tasks = ExperimentSource(experiment, ask=False), experiment.training_tasks()
    data = {
        "explorer": grid.explorer(source, tasks, starting(experiment)),
        "figures": {
            f"figure-{name}": {kind: _plain(made) for kind, made in both.items()} for name, both in drawn.items()
        },
    }
    return {
        "results": sections.results(compare(experiment)),
        "figures": "".join(places),
        "case": sections.case(case.question.prompt),
        "data": packed(data),
    }


def _record(experiment: Experiment, used: "_Used") -> dict[str, str]:
    manifests = [one for one in used.manifests() if (one["stage"], one["key"]) in used.names]
    versions = manifests[-1]["versions"] if manifests else {}
    name, settings = preset_name(experiment.preset), experiment.settings
    coefficients = ", ".join(f"{task} {experiment.coefficient(task):g}" for task in experiment.training_tasks())
    return {
        "title": escape(f"FIRST: the run {name}, seed {experiment.seed}"),
        "lead": escape(f"{settings.description} Coefficients that FIRST distilled with: {coefficients}."),
        "pipeline": sections.pipeline(manifests),
        "settings": sections.settings(
            {"preset": name, "seed": experiment.seed, **settings.model_dump(mode="json")}, versions
        ),
        "footer": "Made by firstlib; this file needs no network. The paper: arXiv 2408.12168.",
    }


def _figures(experiment: Experiment) -> dict[str, dict[str, go.Figure]]:
    """Each figure for a wide screen; those of several panels for a narrow one too."""
    tasks, task = experiment.training_tasks(), experiment.main
    found: dict[str, Predictions] = {method: experiment.predictions(method, task, task) for method in METHODS}
    ranks = {method: found[method].by_rank() for method in ("teacher", "fine-tune", "first")}
    diagrams = {method: one.reliability() for method, one in found.items()}
    coverage = figures.coverage(experiment.knowledge(tasks[-1], k=100).all_probabilities())
    return {
        "coverage": {"wide": coverage},
        "ranks": _both(lambda most: figures.rank_probabilities(ranks, most)),
        "reliability": _both(lambda most: figures.reliability_diagrams(diagrams, most)),
        "search": {"wide": figures.coefficient_search({task: experiment.search(task) for task in tasks})},
        "effect": {"wide": figures.coefficient_effect(*studies.kept_effects())},
        "plane": _both(lambda most: figures.trust_plane(experiment.rows(), min(most, 2))),
    }


def _both(draw: Callable[[int], go.Figure]) -> dict[str, go.Figure]:
    return {"wide": draw(3), "narrow": draw(1)}


def _case(case: studies.Case) -> dict[str, go.Figure]:
    return {"wide": figures.case_study(case.shares, case.question.choices, case.question.posterior)}


def packed(data: Any) -> str:
    """JSON in a quarter of its size: gzip, in letters that HTML leaves alone; equal data give equal letters."""
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    return base64.b64encode(gzip.compress(text.encode(), 9, mtime=0)).decode()


def _filled(content: dict[str, str]) -> str:
    """The template with everything in its place; what is filled in is not looked through again."""
    own = files("firstlib.results.report")
    parts = {
        **content,
        "style": own.joinpath("style.css").read_text(encoding="utf-8"),
        "script": own.joinpath("explorer.js").read_text(encoding="utf-8"),
        "plotly": plotly.offline.get_plotlyjs(),
    }
    pieces = own.joinpath("page.html").read_text(encoding="utf-8").split("{{")
    return pieces[0] + "".join(parts[name] + rest for name, rest in (piece.split("}}", 1) for piece in pieces[1:]))


def _plain(figure: go.Figure) -> dict[str, Any]:
    return json.loads(figure.to_json())


def _put(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)


class _Used(Artefacts):
    """Remembers which stages were asked for: a run's folder may hold those of earlier settings too."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        object.__setattr__(self, "names", set())

    names: set[tuple[str, str]]

    def get(self, stage: str, inputs: dict[str, Any], make: Callable[[Path], None], *, together: bool = False) -> Path:
        """The folder of a stage, as ever."""
        self.names.add((stage, content_hash(inputs)))
        return super().get(stage, inputs, make, together=together)
