"""A method is data: what a student learns from, and how the teacher's probabilities become its targets."""

import re
from typing import Any, Literal, Self, get_args

from pydantic import Field, field_validator, model_validator

from firstlib.settings.base import Part
from firstlib.settings.limits import LARGEST_COUNT

Tuning = Literal["full", "lora", "qlora"]
MapName = Literal["none", "stored", "label-smoothing", "temperature", "logit-temperature", "exact-temperature"]
Rule = Literal[
    "validation-ece", "validation-nll", "validation-smooth-ece", "cross-fitted-ece", "cross-fitted-nll", "student-ece"
]
Source = Literal["teacher", "cross-fitted", "ensemble", "sampled"]
Where = Literal["everywhere", "answers", "uncertain"]
Afterwards = Literal["student-temperature", "agreement-temperature", "base-weights"]
Softmax = Literal["full", "renormalised"]
TailName = Literal["drop", "renormalise", "ghost", "smooth", "gold"]

RULES: tuple[str, ...] = get_args(Rule)
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+_-]{0,39}")
RESERVED = ("teacher", "knowledge", "base-student", "base-teacher")
WITHOUT_COEFFICIENT = ("none", "stored")
LEAVES_A_TAIL = ("stored", "label-smoothing", "exact-temperature")  # under the other maps targets sum to 1
_DEFAULT_SMOOTHING = 0.1  # the paper's d
_FOLDS = 4
_MEMBERS = 4


class Method(Part):
    """How one student is made.

    >>> Method(learns="top-k", map="temperature").rule
    'validation-ece'
    >>> Method(learns="top-k", map="label-smoothing").fixed_coefficient
    0.1
    """

    learns: Literal["answers", "top-k"] = Field(
        description="the right answers (with `map: label-smoothing`, smoothed over the vocabulary), or the teacher's "
        "stored top k"
    )
    map: MapName = Field(
        default="none",
        description="recalibration of the stored probabilities: `none` renormalises them, as the paper's direct "
        "distillation does; `stored` leaves them as they are, with a tail; `temperature` is Eq. 4 of the paper, "
        "`label-smoothing` Eq. 3, `logit-temperature` q ~ p^(1/T) over the top k, `exact-temperature` the same over "
        "the whole vocabulary",
    )
    coefficient: float | Rule | None = Field(
        default=None,
        description="of the map: a number, or what the search minimises: a measure of the targets on validation "
        "questions (`validation-...`); on training questions, answered by teachers that were not trained on them "
        "(`cross-fitted-...`); or of a pilot student on validation questions (`student-ece`). null: validation-ece, "
        "for label smoothing 0.1",
    )
    where: Where = Field(
        default="everywhere",
        description="positions that the map applies to; the others keep the stored probabilities. `answers`: the token "
        "that names the choice (in free text every token); `uncertain`: where the teacher's entropy is over 0.1 nats",
    )
    tail: TailName = Field(
        default="drop",
        description="what becomes of the probability outside the k tokens; only `stored`, `label-smoothing` and "
        "`exact-temperature` leave any",
    )
    student: Softmax = Field(
        default="full", description="Eq. 5's student probability: over the whole vocabulary, or over the k tokens"
    )
    knowledge: Source = Field(
        default="teacher",
        description="`cross-fitted`: each training example's top k comes from a teacher that was not trained on it; "
        "`ensemble`: the top k of the mean distribution of several LoRA teachers; `sampled`: k tokens drawn from the "
        "teacher's distribution instead of its top k (arXiv 2503.16870)",
    )
    folds: int = Field(default=_FOLDS, ge=2, le=20, description="teachers of cross-fitted knowledge")
    members: int = Field(default=_MEMBERS, ge=2, le=20, description="teachers of an ensemble")
    k: int | None = Field(default=None, ge=1, le=LARGEST_COUNT, description="instead of `knowledge.k`")
    teacher: str | None = Field(default=None, description="base model of the teacher, instead of `teacher.base`")
    tuning: Tuning | None = Field(default=None, description="instead of `student.tuning`")
    afterwards: Afterwards | None = Field(
        default=None,
        description="`student-temperature`: divide the student's logits by one T, chosen on the training task's "
        "validation questions by negative log-likelihood (Guo et al. 2017). `agreement-temperature`: a T for each test "
        "set, chosen without labels where student and base model agree (arXiv 2505.16690). `base-weights`: weights "
        "between the base model's and the student's, the share chosen on validation questions (arXiv 2510.17426)",
    )

    @field_validator("coefficient", mode="before")
    @classmethod
    def _a_number_or_a_rule(cls, value: Any) -> Any:
        if value is not None and value not in RULES and not isinstance(value, int | float):
            raise ValueError(f"must be a number, or one of {', '.join(RULES)}")
        return value

    @model_validator(mode="after")
    def _fields_fit_together(self) -> Self:
        if self.learns == "answers":
            self._refuse_for_answers()
        if self.student == "renormalised" and self.tail not in ("drop", "renormalise"):
            raise ValueError(f"a renormalised student has no mass where tail: {self.tail} puts some; use tail: drop")
        if self.tail != "drop" and self.map not in LEAVES_A_TAIL:
            raise ValueError(
                f"tail: with map: {self.map} the targets sum to 1, so there is none; use map: stored, or leave it out"
            )
        self._check_knowledge()
        if self.where != "everywhere" and self.map in WITHOUT_COEFFICIENT:
            raise ValueError("where: means something only with a map; leave it out")
        self._check_coefficient()
        return self

    def _refuse_for_answers(self) -> None:
        if self.map not in ("none", "label-smoothing"):
            raise ValueError(f"map: {self.map} means something only with learns: top-k; leave it out")
        fields = ("where", "tail", "student", "knowledge", "k", "teacher")
        for name in fields:
            if getattr(self, name) != type(self).model_fields[name].default:
                raise ValueError(f"{name}: means something only with learns: top-k; leave it out")

    def _check_knowledge(self) -> None:
        if self.knowledge != "cross-fitted" and self.folds != _FOLDS:
            raise ValueError("folds: means something only with knowledge: cross-fitted; leave it out")
        if self.knowledge != "ensemble" and self.members != _MEMBERS:
            raise ValueError("members: means something only with knowledge: ensemble; leave it out")
        if self.knowledge == "sampled" and self.map not in WITHOUT_COEFFICIENT:
            raise ValueError(f"map: {self.map} needs the most probable tokens, which sampled knowledge may lack")
        if self.knowledge == "ensemble" and self.map == "exact-temperature":
            raise ValueError("map: an ensemble's mean has no logits; use logit-temperature")
        if self.map == "label-smoothing" and self.k == 1:
            raise ValueError("k: label smoothing needs at least two tokens to move mass between")

    def _check_coefficient(self) -> None:
        chosen = self.coefficient
        if self.map in WITHOUT_COEFFICIENT and chosen is not None:
            raise ValueError("coefficient: means something only with a map; leave it out")
        if self.map == "label-smoothing" and (isinstance(chosen, str) or not 0 <= (chosen or 0) <= 1):
            raise ValueError(f"coefficient: label smoothing moves a mass from 0 to 1, not {chosen!r}")
        if self.map.endswith("temperature") and isinstance(chosen, float) and not chosen > 0:
            raise ValueError(f"coefficient: a temperature must be greater than 0, not {chosen:g}")

    @property
    def distils(self) -> bool:
        """Whether the student learns from a teacher's stored probabilities."""
        return self.learns == "top-k"

    @property
    def smoothing(self) -> float:
        """Mass that label-smoothed fine-tuning spreads over the vocabulary; 0 for other methods."""
        return (self.fixed_coefficient or 0.0) if not self.distils else 0.0

    def as_written(self) -> dict[str, Any]:
        """Returns what a preset needs to say of the method: the settings that differ from their defaults.

        >>> Method(learns="top-k", map="none", tail="drop").as_written()
        {'learns': 'top-k'}
        """
        return self.model_dump(mode="json", exclude_defaults=True)

    @property
    def rule(self) -> str | None:
        """The measure that chooses the coefficient; None where it is given or there is none."""
        if not self.map.endswith("temperature") or isinstance(self.coefficient, float):
            return None
        return self.coefficient or "validation-ece"

    @property
    def fixed_coefficient(self) -> float | None:
        """The coefficient where the preset gives it; None where it is searched for. 0 for no map."""
        if self.map in WITHOUT_COEFFICIENT:
            return 0.0
        if self.map == "label-smoothing":
            return _DEFAULT_SMOOTHING if self.coefficient is None else float(self.coefficient)
        return self.coefficient if isinstance(self.coefficient, float) else None


# The paper's methods (arXiv 2408.12168, Table 1), beside the teacher itself.
PAPER_METHODS: dict[str, dict[str, Any]] = {
    "fine-tune": {"learns": "answers"},
    "distill": {"learns": "top-k"},
    "label-smoothing": {"learns": "top-k", "map": "label-smoothing", "coefficient": 0.1},
    "first": {"learns": "top-k", "map": "temperature", "coefficient": "validation-ece"},
}


def paper_methods() -> dict[str, Method]:
    """The methods of a preset that lists none."""
    return {name: Method(**content) for name, content in PAPER_METHODS.items()}


def check_names(methods: dict[str, Method], beyond: dict[str, Method]) -> None:
    """Checks method names: usable as folder names, not reserved, each used once.

    Raises:
        ValueError: One is not; names it.
    """
    for name in (*methods, *beyond):
        if not NAME.fullmatch(name) or name in RESERVED:
            raise ValueError(
                f"methods: {name!r} cannot be a method's name; use up to 40 letters, digits and . + _ -, and none of "
                f"{', '.join(RESERVED)}"
            )
    if twice := sorted(methods.keys() & beyond.keys()):
        raise ValueError(f"methods and beyond: {twice[0]!r} is in both; leave one out")
