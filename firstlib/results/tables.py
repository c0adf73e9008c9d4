"""Tables for the notebooks, as pandas frames: numbers in, one frame out."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from firstlib.distillation.recalibration import Map, label_smoothing, recalibrate
from firstlib.distillation.search import GRIDS
from firstlib.evaluation.predictions import Predictions
from firstlib.evaluation.scores import evaluate
from firstlib.evaluation.truth import against_truth
from firstlib.experiment import Experiment, coefficients
from firstlib.knowledge import KnowledgeStore, TopK
from firstlib.metrics import bootstrap_ece, ece, noise_floor, paired_bootstrap_difference
from firstlib.planning.work import BYTES_PER_ENTRY, store_bytes
from firstlib.results.comparison import BASELINE
from firstlib.settings.methods import Method
from firstlib.settings.schema import Measures, Task

if TYPE_CHECKING:  # transformers takes seconds to import, and a finished run needs none of it
    from transformers import PreTrainedTokenizerBase

Pairs = dict[str, tuple[float, float]]


# -- accuracy and confidence -------------------------------------------------------------------------------------


def outcome(found: Predictions, measures: Measures) -> dict[str, float]:
    """Returns accuracy and mean confidence, and ECE under both readings, in percent."""
    scores = evaluate(found, measures)
    other = "vocabulary" if measures.confidence == "candidates" else "candidates"
    return {
        "n": scores.n,
        "accuracy": _percent(scores.accuracy),
        "confidence": _percent(scores.confidence),
        "ECE": _percent(scores.ece),
        f"ECE ({other})": _percent(evaluate(found, measures, other).ece),  # type: ignore[arg-type]
    }


def side_by_side(experiment: Experiment, found: Mapping[str, Predictions]) -> pd.DataFrame:
    """Returns a line per model: its outcome, and the KL divergence from the exact posterior where that is known."""
    lines = {}
    for name, predictions in found.items():
        lines[name] = outcome(predictions, experiment.settings.measures)
        if truth := against_truth(predictions):
            lines[name]["KL from truth"] = round(truth.kl, 3)
    return pd.DataFrame.from_dict(lines, orient="index")


def before_after(experiment: Experiment) -> pd.DataFrame:
    """Returns the teacher's outcome on each test set before and after fine-tuning."""
    lines = []
    for train, test in _columns(experiment):
        base, tuned = _teacher_before_after(experiment, train, test)
        for when, found in (("base", base), ("fine-tuned", tuned)):
            place = {"trained on": train, "tested on": test, "teacher": when}
            lines.append({**place, **outcome(found, experiment.settings.measures)})
    return pd.DataFrame(lines)


def before_after_pairs(experiment: Experiment) -> tuple[Pairs, Pairs]:
    """Returns, for each test set, the teacher's accuracy and ECE (fractions) before and after fine-tuning."""
    before: Pairs = {}
    after: Pairs = {}
    for train, test in _columns(experiment):
        name = f"{train} to {test}" if train != test else test
        for pairs, found in zip((before, after), _teacher_before_after(experiment, train, test), strict=True):
            scores = evaluate(found, experiment.settings.measures)
            pairs[name] = (scores.accuracy, scores.ece)
    return before, after


def _columns(experiment: Experiment) -> list[tuple[Task, Task]]:
    return [(column.train, test) for column in experiment.settings.columns for test in column.test]


def _teacher_before_after(experiment: Experiment, train: Task, test: Task) -> tuple[Predictions, Predictions]:
    return experiment.base_predictions("teacher", test), experiment.predictions("teacher", train, test)


def uncertainty(experiment: Experiment) -> pd.DataFrame:
    """Returns each method's ECE with its bootstrap interval, its noise floor, and its difference to fine-tuning's.

    In percent. The difference is paired by question; an interval that excludes 0 is more than luck.
    """
    lines, measures = [], experiment.settings.measures
    for column in experiment.settings.columns:
        for test in column.test:
            found = {name: experiment.predictions(name, column.train, test) for name in experiment.methods}
            for name, answers in found.items():
                place = {"setting": column.setting, "dataset": test, "method": name}
                baseline = found.get(BASELINE) if name != BASELINE else None
                lines.append({**place, **_with_interval(answers, measures), **_difference(answers, baseline, measures)})
    return pd.DataFrame(lines)


def _with_interval(found: Predictions, measures: Measures) -> dict[str, str | float]:
    confidence, correct = found.confidence(measures.confidence), found.correct()
    interval = bootstrap_ece(confidence, correct, measures.bins)
    return {
        "ECE": _percent(ece(confidence, correct, measures.bins)),
        "95 % interval": f"{100 * interval.low:.1f} to {100 * interval.high:.1f}",
        "floor": _percent(noise_floor(confidence, measures.bins).mean),
    }


def _difference(found: Predictions, baseline: Predictions | None, measures: Measures) -> dict[str, str]:
    heading = f"less {BASELINE}'s"
    if baseline is None or len(baseline) != len(found):
        return {heading: ""}
    (a, right_a), (b, right_b) = ((x.confidence(measures.confidence), x.correct()) for x in (found, baseline))
    of = paired_bootstrap_difference(a, right_a, b, right_b, bins=measures.bins)
    return {heading: f"{100 * of.estimate:+z.1f} ({100 * of.low:.1f} to {100 * of.high:.1f})"}


def confidence_without_right_choice(shares: Mapping[str, np.ndarray]) -> pd.DataFrame:
    """Returns each model's mean confidence on questions without a right choice, beside the honest one; in percent."""
    lines = {
        method: {"questions": len(s), "mean confidence": 100 * s.max(1).mean(), "honest": 100 / s.shape[1]}
        for method, s in shares.items()
    }
    return pd.DataFrame.from_dict(lines, orient="index").round(1)


def shares_of_choices(shares: Mapping[str, np.ndarray], choices: Sequence[str]) -> pd.DataFrame:
    """Returns each model's answer to one question, its confidence, and its share of every choice, in percent."""
    lines = {}
    for name, of in shares.items():
        told = {choice: _percent(float(share)) for choice, share in zip(choices, of, strict=True)}
        lines[name] = {"answer": choices[int(of.argmax())], "confidence": _percent(float(of.max())), **told}
    return pd.DataFrame.from_dict(lines, orient="index")


# -- knowledge ---------------------------------------------------------------------------------------------------


def one_example(item: TopK, tokenizer: "PreTrainedTokenizerBase", token_ids: Sequence[int]) -> pd.DataFrame:
    """Returns what a store holds on one example: a line per position, the top tokens with their probabilities."""
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
    """Returns the mean mass of the top k in percent, a line per task; arrays are `(positions, K)`, sorted."""
    return pd.DataFrame(
        {
            f"top {k}": {task: round(100 * float(p[:, :k].sum(1).mean()), 2) for task, p in probabilities.items()}
            for k in ks
        }
    )


def store_sizes(found: Mapping[str, KnowledgeStore]) -> pd.DataFrame:
    """Returns what each task's store holds, and the bytes that it takes."""
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


def full_size(measured: float | None = None) -> pd.DataFrame:
    """Returns the paper's storage example at its own 12 bytes an entry, and at a measured number of bytes."""
    positions, vocabulary = 100_000 * 2048, 50_000
    entries = {"top 1": 1, "top 5": 5, "top 100": 100, "full distribution": vocabulary}
    lines = {name: (float(k * BYTES_PER_ENTRY), store_bytes(positions, k) / 1e9) for name, k in entries.items()}
    if measured is not None:
        lines["top 5, at the bytes measured here"] = (measured, measured * positions / 1e9)
    return pd.DataFrame(lines, index=["bytes a position", "gigabytes"]).T.round(1)


# -- recalibration -----------------------------------------------------------------------------------------------


def by_coefficient(
    probabilities: Sequence[Sequence[float]] | np.ndarray,
    coefficients: Sequence[float],
    kind: Map | str = Map.TEMPERATURE,
) -> pd.DataFrame:
    """Returns one stored position `(1, K)` before and after a map under several coefficients."""
    before = np.asarray(probabilities, dtype=np.float64)
    lines = {"stored": before[0], **{f"c = {c:g}": recalibrate(before, kind, c)[0] for c in coefficients}}
    names = [f"top {rank}" for rank in range(1, before.shape[1] + 1)]
    return pd.DataFrame(lines, index=names).T.round(3)


def searches(experiment: Experiment) -> pd.DataFrame:
    """Returns each task's chosen coefficient, and the targets' ECE with and without it, in percent."""
    lines: dict[str, dict[str, Any]] = {}
    name = experiment.settings.recalibrated
    for task in experiment.tasks if name else ():
        method, chosen = experiment.settings.all_methods[str(name)], experiment.coefficient(task)
        lines[task] = {"coefficient": chosen, "at the edge": experiment.search(task).at_the_edge}
        as_stored = method.model_copy(update={"map": "none", "coefficient": None})
        for split in ("validation", "test"):
            raw, new = (
                coefficients.target_ece(experiment.run, each, task, split, chosen) for each in (as_stored, method)
            )
            lines[task] |= {
                f"{split}, as stored": round(100 * raw, 2),
                f"{split}, recalibrated": round(100 * new, 2),
            }
    return pd.DataFrame.from_dict(lines, orient="index")


def ece_by_map(experiment: Experiment, task: Task) -> pd.DataFrame:
    """Returns the ECE of the teacher's targets on its own task under each map of the top k, in percent."""
    lines = {}
    for kind in (Map.NONE, Map.LABEL_SMOOTHING, *GRIDS):
        method = Method(learns="top-k", map=kind.value)
        chosen = method.fixed_coefficient
        if chosen is None:
            chosen = coefficients.search_for(experiment.run, method, task).best
        lines[kind.value] = {"coefficient": "" if kind is Map.NONE else f"{chosen:g}"}
        for split in ("validation", "test"):
            found = coefficients.target_ece(experiment.run, method, task, split, chosen)
            lines[kind.value][split] = f"{100 * found:.2f}"
    return pd.DataFrame.from_dict(lines, orient="index")


def smoothing_side_effects(experiment: Experiment, moved: float = 0.1) -> pd.DataFrame:
    """Returns at how many stored positions label smoothing swaps the first rank, or finds less than d to move."""
    lines = {}
    for task in experiment.tasks:
        done = label_smoothing(experiment.knowledge(task).all_probabilities(), moved)
        lines[task] = {
            "positions": len(done.targets),
            "first rank swapped": int(done.swapped.sum()),
            "less than d to move": int(done.limited.sum()),
        }
    return pd.DataFrame.from_dict(lines, orient="index")


def method_data(experiment: Experiment) -> pd.DataFrame:
    """Returns every method of the preset as it is written there, a line each."""
    lines = {
        name: {"learns": method.learns, **_in_words(method)} for name, method in experiment.settings.methods.items()
    }
    return pd.DataFrame.from_dict(lines, orient="index").fillna("")


def _in_words(method: Method) -> dict[str, str]:
    given = method.as_written()
    if method.rule:
        given["coefficient"] = method.rule
    return {key: str(value) for key, value in given.items() if key != "learns"}


def _percent(fraction: float) -> float:
    return round(100 * fraction, 1)
