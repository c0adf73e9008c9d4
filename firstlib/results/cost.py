"""What a model cost: the seconds and operations of every stage that it rests on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from firstlib.experiment import Experiment
from firstlib.experiment.run import Run
from firstlib.planning.work import FLOPS_TO_ASK, flops_to_train, training_flops
from firstlib.results.provenance import Recorder, folder_name
from firstlib.settings.schema import Model, Task, Training

Manifest = Mapping[str, Any]


@dataclass(frozen=True)
class Cost:
    """Seconds as measured, operations by arithmetic: 6 per parameter and token of full training, shared tokens too.

    Attributes:
        seconds: Of the model's last stage alone, its own training; not of stages that other methods share.
        total_seconds: Of all stages that the model rests on: teachers, extraction, validation answers, its training.
        flops: Of all trainings and extractions among them; answers to validation questions are not counted.
        knowledge_bytes: Of the teacher's knowledge that is learned from, on disk, per response position; 0: none.
    """

    seconds: float
    total_seconds: float
    flops: float
    knowledge_bytes: float = 0.0


def cost(experiment: Experiment, name: str, task: Task) -> Cost:
    """Returns what the teacher, or a method's student, cost on a task.

    Seconds are those of the machine that computed each stage, and of what else ran on it.
    """
    recorder = Recorder()
    watched = recorder.watch(experiment)
    folder = watched.teacher(task) if name == "teacher" else watched.student(name, task)
    manifests = recorder.manifests()
    run = _run_of(experiment, name)
    _, positions = _counts(run, task)
    own = next(one for one in manifests if folder_name(one) == folder.name)
    return Cost(
        seconds=own["seconds"],
        total_seconds=round(sum(one["seconds"] for one in manifests), 2),
        flops=sum(_flops(run, task, one, _readers(experiment, name)) for one in manifests),
        knowledge_bytes=_stored(manifests, task) / positions,
    )


def _stored(manifests: Sequence[Manifest], task: Task) -> int:
    return sum(one["bytes"] for one in manifests if one["stage"].startswith(f"knowledge-{task}-train"))


def _counts(run: Run, task: Task) -> tuple[int, int]:
    """The tokens of the training examples, and how many of them are predicted."""

    def count() -> tuple[int, int]:
        encoded = run.data.encoded(task, "train", run.data.knowledge_role)
        tokens = sum(len(one.token_ids) for one in encoded)
        return tokens, tokens - sum(one.start for one in encoded)

    return run.data.once(("training tokens", task), count)


def _run_of(experiment: Experiment, name: str) -> Run:
    """The run with the method's own teacher, where it has one."""
    run, method = experiment.run, experiment.settings.all_methods.get(name)
    return run.under(run.settings.under(method)) if method else run


def _readers(experiment: Experiment, name: str) -> int:
    """How many teachers read each training example: all of an ensemble, else one, a fold's own if cross-fitted."""
    method = experiment.settings.all_methods.get(name)
    return method.members if method and method.knowledge == "ensemble" else 1


def _flops(run: Run, task: Task, manifest: Manifest, readers: int) -> float:
    stage, inputs = manifest["stage"], manifest["inputs"]
    tokens, _ = _counts(run, task)
    if stage.startswith("knowledge-"):  # of validation questions none is counted, nor a fold's part of the whole
        return FLOPS_TO_ASK * _parameters(run, "teacher") * tokens * readers * (f"-{task}-train-" in stage)
    if "training" not in inputs:
        return 0.0
    role = "teacher" if stage.startswith("teacher") else "student"
    training, model = Training(**inputs["training"]), Model(base="any", **_known(inputs["model"]))
    data = inputs["data"]
    share = 1 - 1 / data["folds"] if isinstance(data, dict) else 1.0  # a fold's teacher leaves its fold out
    return training_flops(
        _parameters(run, role), round(share * tokens), training.epochs, flops_to_train(model, training)
    )


def _known(model: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in model.items() if key in Model.model_fields}


def _parameters(run: Run, role: Any) -> int:
    from firstlib.models import loading  # here: it needs transformers, and a report asks for no cost

    return run.data.once(("parameters", role), lambda: loading.parameter_count(run.data.model(role)))
