"""Tables for the notebooks, as pandas frames: numbers in, one frame out."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd
from transformers import PreTrainedTokenizerBase

from firstlib.distillation.recalibration import Map, label_smoothing, temperature
from firstlib.evaluation.predictions import Predictions
from firstlib.evaluation.scores import Row, scores
from firstlib.experiment.experiment import Experiment
from firstlib.knowledge import KnowledgeStore, TopK
from firstlib.metrics import bootstrap_ece, ece, noise_floor
from firstlib.planning import BYTES_PER_ENTRY, store_bytes
from firstlib.results.seeds import kept, spread
from firstlib.runtime.paths import PAPER_TABLE
from firstlib.settings.schema import METHODS, Task

Pairs = dict[str, tuple[float, float]]

PAPER_METHODS = {
    "Teacher": "teacher",
    "Fine-tune": "fine-tune",
    "Distill": "distill",
    "Distill w/ LS": "label-smoothing",
    "FIRST w/ TS": "first",
}


def results(rows: Iterable[Row]) -> pd.DataFrame:
    """Method by column: accuracy, ECE and Trust in percent."""
    frame = pd.DataFrame([asdict(row) for row in rows])
    return _by_column(frame.assign(**{name: 100 * frame[name] for name in ("accuracy", "ece", "trust")}))


def paper(family: str | None = None) -> pd.DataFrame:
    """The paper's own Table 1, in the same shape; without a family, the mean over its three."""
    frame = pd.read_csv(PAPER_TABLE).rename(columns={"acc": "accuracy"})
    if family is not None:
        frame = frame[frame["family"] == family]
    names = frame["method"].str.replace(r"\s\d+B", "", regex=True).map(PAPER_METHODS)
    frame = frame.assign(method=names, dataset=frame["dataset"].str.lower())
    numbers = ["accuracy", "ece", "trust"]
    return _by_column(frame.groupby(["setting", "dataset", "method"], sort=False)[numbers].mean().reset_index())


def _by_column(frame: pd.DataFrame) -> pd.DataFrame:
    wide = frame.pivot_table(
        index="method", columns=["setting", "dataset"], values=["accuracy", "ece", "trust"], sort=False
    )
    wide = wide.reorder_levels([1, 2, 0], axis=1)
    columns = [
        (s, d, n) for s, d in dict.fromkeys((c[0], c[1]) for c in wide.columns) for n in ("accuracy", "ece", "trust")
    ]
    return wide.loc[list(METHODS), columns].round(1)


def before_after(experiment: Experiment) -> pd.DataFrame:
    """The teacher on its own tasks before and after fine-tuning: accuracy, ECE, mean confidence, in percent."""
    lines = []
    for column in experiment.settings.columns:
        for test in column.test:
            base, tuned = (
                experiment.base_predictions("teacher", test),
                experiment.predictions("teacher", column.train, test),
            )
            for when, found in (("base", base), ("fine-tuned", tuned)):
                lines.append({"trained on": column.train, "tested on": test, "teacher": when, **outcome(found)})
    return pd.DataFrame(lines)


def before_after_pairs(experiment: Experiment) -> tuple[Pairs, Pairs]:
    """For each test set, accuracy and ECE (fractions) of the teacher before and after fine-tuning."""
    before: Pairs = {}
    after: Pairs = {}
    for column in experiment.settings.columns:
        for test in column.test:
            name = f"{column.train} to {test}" if column.train != test else test
            for pairs, found in (
                (before, experiment.base_predictions("teacher", test)),
                (after, experiment.predictions("teacher", column.train, test)),
            ):
                correct = found.correct()
                pairs[name] = (float(correct.mean()), ece(found.confidence(), correct))
    return before, after


def outcome(found: Predictions) -> dict[str, float]:
    """Accuracy, mean confidence and ECE under both readings, in percent."""
    correct, confidence = found.correct(), found.confidence()
    return {
        "n": len(found),
        "accuracy": round(100 * float(correct.mean()), 1),
        "confidence": round(100 * float(confidence.mean()), 1),
        "ECE": round(100 * ece(confidence, correct), 1),
        "ECE (vocabulary)": round(100 * ece(found.confidence("vocabulary"), correct), 1),
    }


def variants(group: str) -> pd.DataFrame:
    """FIRST's student in every `tuning` or `reading`: the kept results of `make seeds`, mean and spread in percent."""
    measures = {"accuracy": "accuracy", "ECE": "ece", "Trust": "trust"}
    found = [row for run in kept("variants") for row in run["rows"] if row["group"] == group]
    lines: dict[str, dict[str, Any]] = {}
    for name in dict.fromkeys(row["name"] for row in found):
        rows = [row for row in found if row["name"] == name]
        means = {title: spread([row[measure] for row in rows]) for title, measure in measures.items()}
        lines[name] = {"seeds": len(rows), "n of each": rows[0]["n"], **means}
    return pd.DataFrame.from_dict(lines, orient="index")


def stored(item: TopK, tokenizer: PreTrainedTokenizerBase, token_ids: Sequence[int]) -> pd.DataFrame:
    """What the store holds on one example: a line a position, the top tokens with their probabilities."""
    lines = []
    for position, ids, probabilities, residual in zip(
        item.position, item.token_ids, item.probabilities, item.residual, strict=True
    ):
        ranked = {
            f"top {rank}": f"{tokenizer.decode([i])!r} {p:.3f}"
            for rank, (i, p) in enumerate(zip(ids, probabilities, strict=True), 1)
        }
        right = tokenizer.decode([token_ids[position]])
        lines.append({"position": position, "right token": repr(right), **ranked, "residual": f"{residual:.4f}"})
    return pd.DataFrame(lines).set_index("position")


def coverage(probabilities: Mapping[str, np.ndarray], ks: Sequence[int] = (1, 2, 5, 10, 100)) -> pd.DataFrame:
    """Mean mass of the top k, in percent; a line a task. Each array is `(positions, 100)`, most probable first."""
    return pd.DataFrame(
        {
            f"top {k}": {task: round(100 * float(p[:, :k].sum(1).mean()), 2) for task, p in probabilities.items()}
            for k in ks
        }
    )


def full_size(measured: float | None = None) -> pd.DataFrame:
    """The paper's storage example by its own count of 12 bytes an entry; beside it a measured number of bytes."""
    positions, vocabulary = 100_000 * 2048, 50_000
    entries = {"top 1": 1, "top 5": 5, "top 100": 100, "full distribution": vocabulary}
    lines = {name: (float(k * BYTES_PER_ENTRY), store_bytes(positions, k) / 1e9) for name, k in entries.items()}
    if measured is not None:
        lines["top 5, at the bytes measured here"] = (measured, measured * positions / 1e9)
    return pd.DataFrame(lines, index=["bytes a position", "gigabytes"]).T.round(1)


def compare(found: Mapping[str, Predictions], posterior: bool = True) -> pd.DataFrame:
    """One line a model: accuracy, confidence and ECE, and how far its shares are from the true posterior."""
    lines = {}
    for name, predictions in found.items():
        lines[name] = outcome(predictions)
        if posterior:
            lines[name]["KL from truth"] = round(divergence_from_truth(predictions), 3)
    return pd.DataFrame.from_dict(lines, orient="index")


def divergence_from_truth(found: Predictions) -> float:
    """Mean `sum_c truth_c log(truth_c / model_c)` over questions, in nats: 0 for a model that knows what is known.

    NaN where the truth of a question is not known.
    """
    truth, model = found.posterior, np.clip(found.shares(), 1e-12, None)
    terms = np.where(truth == 0, 0, truth * np.log(np.where(truth == 0, 1, truth) / model))
    return float(terms.sum(axis=1).mean())


def stores(found: Mapping[str, KnowledgeStore]) -> pd.DataFrame:
    """What each task's store holds and takes."""
    lines = {}
    for task, store in found.items():
        mass = store.all_probabilities().sum(axis=1)
        lines[task] = {
            "examples": len(store),
            "positions": store.positions,
            "mean mass kept, %": round(100 * float(mass.mean()), 2),
            "least mass kept, %": round(100 * float(mass.min()), 1),
            "kB": round(store.size / 1000, 1),
            "bytes a position": round(store.bytes_per_position, 1),
        }
    return pd.DataFrame.from_dict(lines, orient="index")


def mapped(probabilities: Sequence[Sequence[float]] | np.ndarray, coefficients: Sequence[float]) -> pd.DataFrame:
    """One stored position `(1, K)` before and after Eq. 4 under several coefficients."""
    before = np.asarray(probabilities, dtype=np.float64)
    lines = {"stored": before[0], **{f"c = {c:g}": temperature(before, c)[0] for c in coefficients}}
    names = [f"top {rank}" for rank in range(1, before.shape[1] + 1)]
    return pd.DataFrame(lines, index=names).T.round(3)


def searches(experiment: Experiment) -> pd.DataFrame:
    """Each task's chosen coefficient, and what it does on validation and on test; ECE in percent."""
    lines = {}
    for task in experiment.training_tasks():
        search, kind = experiment.search(task), Map(experiment.settings.recalibration.first_map)
        lines[task] = {"coefficient": experiment.coefficient(task), "at the edge": search.at_the_edge}
        for split in ("validation", "test"):
            raw, new = (experiment.target_ece(task, split, m, experiment.coefficient(task)) for m in (Map.NONE, kind))
            lines[task] |= {
                f"{split}, as stored": round(100 * raw, 2),
                f"{split}, recalibrated": round(100 * new, 2),
            }
    return pd.DataFrame.from_dict(lines, orient="index")


def maps(experiment: Experiment, task: Task) -> pd.DataFrame:
    """ECE of the teacher's targets on its own task under each map, in percent."""
    lines = {}
    for kind in Map:
        coefficient = _coefficient_of(experiment, task, kind)
        lines[kind.value] = {"coefficient": "" if kind is Map.NONE else f"{coefficient:g}"}
        for split in ("validation", "test"):
            lines[kind.value][split] = f"{100 * experiment.target_ece(task, split, kind, coefficient):.2f}"
    return pd.DataFrame.from_dict(lines, orient="index")


def _coefficient_of(experiment: Experiment, task: Task, kind: Map) -> float:
    if kind is Map.LABEL_SMOOTHING:
        return experiment.settings.recalibration.label_smoothing
    if kind is Map.NONE:
        return 1.0
    return experiment.change(recalibration__first_map=kind.value).search(task).best


def smoothing_side_effects(experiment: Experiment) -> pd.DataFrame:
    """At how many stored positions label smoothing swaps the first rank, or finds less than d to move."""
    lines = {}
    for task in experiment.training_tasks():
        done = label_smoothing(
            experiment.knowledge(task).all_probabilities(), experiment.settings.recalibration.label_smoothing
        )
        lines[task] = {
            "positions": len(done.targets),
            "first rank swapped": int(done.swapped.sum()),
            "less than d to move": int(done.limited.sum()),
        }
    return pd.DataFrame.from_dict(lines, orient="index")


def uncertainty(experiment: Experiment) -> pd.DataFrame:
    """ECE of every method and column with its bootstrap interval and its noise floor, in percent."""
    lines = []
    bins = experiment.settings.measures.bins
    for column in experiment.settings.columns:
        for test in column.test:
            for method in METHODS:
                found = experiment.predictions(method, column.train, test)
                lines.append({"setting": column.setting, "dataset": test, "method": method, **_interval(found, bins)})
    return pd.DataFrame(lines)


def intervals(experiment: Experiment) -> list[dict[str, Any]]:
    """Every method and column, the untuned student first: n, accuracy, ECE with its 95 % interval, Trust; fractions."""
    lines = []
    for column in experiment.settings.columns:
        for test in column.test:
            base = {"base student": experiment.base_predictions("student", test)}
            found = base | {method: experiment.predictions(method, column.train, test) for method in METHODS}
            place = {"setting": column.setting, "dataset": test}
            lines += [{**place, "method": name, **_measured(of, experiment)} for name, of in found.items()]
    return lines


def _measured(found: Predictions, experiment: Experiment) -> dict[str, float]:
    measures = experiment.settings.measures
    interval = bootstrap_ece(found.confidence(measures.confidence), found.correct(), measures.bins)
    return {"n": len(found), **scores(found, measures), "low": interval.low, "high": interval.high}


def _interval(found: Predictions, bins: int) -> dict[str, str | float]:
    confidence, correct = found.confidence(), found.correct()
    interval = bootstrap_ece(confidence, correct, bins)
    floor = noise_floor(confidence, bins)
    return {
        "ECE": round(100 * ece(confidence, correct, bins), 1),
        "95 % interval": f"{100 * interval.low:.1f} to {100 * interval.high:.1f}",
        "floor": round(100 * floor.mean, 1),
    }


def hopeless(shares: Mapping[str, np.ndarray]) -> pd.DataFrame:
    """Mean confidence of each model on questions to which no choice is right, and what would be honest; in percent."""
    lines = {
        method: {"questions": len(s), "mean confidence": 100 * s.max(1).mean(), "honest": 100 / s.shape[1]}
        for method, s in shares.items()
    }
    return pd.DataFrame.from_dict(lines, orient="index").round(1)
