"""How an audit reads its inputs and measures them."""

from dataclasses import dataclass

from firstlib.evaluation.audit.answers import Reading
from firstlib.evaluation.audit.unusable import MOST_UNUSABLE


@dataclass(frozen=True)
class Columns:
    """Names of a table's columns; None: the usual names are looked for.

    Attributes:
        probabilities: One column of lists, or one column for each choice.
        by: The column, or a log's field, that holds each question's subject.
    """

    confidence: str | None = None
    correct: str | None = None
    probabilities: tuple[str, ...] = ()
    answer: str | None = None
    id: str | None = None
    by: str | None = None


@dataclass(frozen=True)
class Asked:
    """What a model is asked, where a model is audited.

    Attributes:
        task: A task of the lab.
        data: The file or folder of its questions; `microworld`: the synthetic ones; None: the hub's.
        split: The split that is asked.
        limit: Questions at most; None: all.
        batch_size: Questions in one forward pass.
        dtype: Number format of the weights.
        chat: Ask in the model's own chat format.
        candidates: What is scored: `letters` of listed choices, or the choices' own `text`.
        settings: What the files do not tell themselves, as `key=value` of a preset's `data` and `tasks`.
    """

    task: str | None = None
    data: str | None = None
    split: str = "test"
    limit: int | None = None
    batch_size: int = 16
    dtype: str = "float32"
    chat: bool = False
    candidates: str = "letters"
    settings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Options:
    """Everything that an audit can be told.

    Attributes:
        bins: Of the ECE, of equal width.
        reading: Of confidence. None: `candidates` for logs, models and runs; a table's probabilities as they are.
        filter: The filter of a log of lm-evaluation-harness that has several.
        max_unusable: Share of an input's rows that may be left out; None: one in a hundred of a log or a table, and the
            settings' default of a data set that a model is asked.
    """

    bins: int = 10
    reading: Reading | None = None
    columns: Columns = Columns()
    asked: Asked = Asked()
    filter: str | None = None
    max_unusable: float | None = None

    @property
    def allowed(self) -> float:
        """The share of a log's or a table's rows that may be left out."""
        return MOST_UNUSABLE if self.max_unusable is None else self.max_unusable
