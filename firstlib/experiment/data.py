"""A run's texts, tokens and hashes, each computed once."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from firstlib.knowledge import Origin
from firstlib.knowledge.servers.candidates import too_many
from firstlib.knowledge.servers.logprobs import unanswered
from firstlib.models.places import base_identity
from firstlib.runtime import distributed
from firstlib.runtime.errors import UserError
from firstlib.runtime.hashing import stream_hash
from firstlib.runtime.paths import project_path
from firstlib.runtime.sequences import select
from firstlib.settings.schema import Model, Role, Settings, Task
from firstlib.tasks.encoding import Encoded, EncodedQuestion, encode_on_disk, encode_questions
from firstlib.tasks.question import Item, Question
from firstlib.tasks.source import DataSource

if TYPE_CHECKING:  # transformers takes seconds to import, and a finished run needs none of it
    from transformers import PreTrainedTokenizerBase

T = TypeVar("T")


class RunData:
    """What every stage of a run reads: questions, examples, tokenizers, and the hashes that identify them."""

    def __init__(self, settings: Settings, seed: int, whole: bool = False) -> None:
        """Reads nothing yet; `whole` keeps the questions that an imported teacher has not answered."""
        self.settings, self.seed, self.whole = settings, seed, whole
        drawn = seed if settings.data.seed is None else settings.data.seed
        self.source = DataSource(settings, drawn, lambda: self.tokenizer("student"), self.context_length)
        self._kept: dict[Any, Any] = {}

    def changed(self, settings: Settings) -> "RunData":
        """Returns the data under other settings; shares everything read so far if the same texts and models remain."""
        if _reads(settings) != _reads(self.settings):
            return RunData(settings, self.seed)
        other = RunData(settings, self.seed)
        other.source, other._kept = self.source, self._kept
        return other

    def once(self, key: Any, make: Callable[[], T]) -> T:
        """Returns what `make` gave for this key the first time."""
        if key not in self._kept:
            self._kept[key] = make()
        return self._kept[key]

    # -- texts -------------------------------------------------------------------------------------------------

    def items(self, task: Task, split: str = "test") -> Sequence[Item]:
        """Returns one task's split: questions, or plain examples where answers are free text.

        Validation and test questions that an imported teacher has not answered are left out, for every method.
        """
        return self.once(("items", task, split), lambda: self._answered_items(task, split))

    def _answered_items(self, task: Task, split: str) -> Sequence[Item]:
        items, missing = self.source.items(task, split), set(self.unanswered(task, split))
        if too_many(len(missing), len(items), self.settings.data.max_unusable):
            raise UserError(
                f"{self.imported(task, split)}: {len(missing)} of {len(items)} questions have no answer, first "
                f"{min(missing)!r}; ask the teacher about them again, or raise data.max_unusable"
            )
        return select(items, [at for at, item in enumerate(items) if item.id not in missing]) if missing else items

    def unanswered(self, task: Task, split: str) -> tuple[str, ...]:
        """Returns the ids of the validation or test questions that an imported teacher has not answered."""
        if self.whole or not self.settings.knowledge.imported or split == "train":
            return ()
        return self.once(("unanswered", task, split), lambda: unanswered(self.imported(task, split)))

    def imported(self, task: Task, split: str) -> Path:
        """Returns the folder of a split's imported store; a live server is asked first, if there is none yet."""
        place = project_path(self.settings.knowledge.imported or "") / f"{task}-{split}"
        if self.settings.knowledge.server and not distributed.broadcast(place.exists()):
            from firstlib.experiment.served import serve  # here: it reads the data through this class

            serve(self.unserved(), task, split, place.parent)
        return place

    def unserved(self) -> "RunData":
        """Returns the whole data, of which nothing is left out: what a server is asked."""
        whole = RunData(self.settings, self.seed, whole=True)
        whole.source = self.source
        return whole

    def questions(self, task: Task, split: str = "test") -> list[Question]:
        """Returns the questions of one task's `train`, `validation` or `test` split.

        Raises:
            UserError: The task's answers are free text.
        """
        found = [item for item in self.items(task, split) if isinstance(item, Question)]
        if not found:
            raise UserError(f"{task}: its answers are free text, so it has no questions with candidates")
        return found

    def has_candidates(self, task: Task, split: str = "test") -> bool:
        """Whether the task's items are questions with candidates rather than free text."""
        return isinstance(self.items(task, split)[0], Question)

    def is_several_tokens(self, task: Task, split: str = "test") -> bool:
        """Whether some of a split's candidates are several tokens."""
        if not self.has_candidates(task, split):
            return False
        role = self.knowledge_role
        return any(isinstance(each[0], tuple) for _, each in self.encoded_questions(task, split, role))

    def hash(self, task: Task, split: str) -> str:
        """Returns a hash of a split's texts."""
        return self.once(("hash", task, split), lambda: stream_hash(map(vars, self.items(task, split))))

    def whole_hash(self, task: Task, split: str) -> str:
        """Returns a hash of a split's texts with those that an imported teacher has not answered: what it was asked."""
        if not self.unanswered(task, split):
            return self.hash(task, split)
        return self.once(("whole", task, split), lambda: stream_hash(map(vars, self.source.items(task, split))))

    def imported_origin(self, task: Task, split: str, k: int, teacher: str) -> Origin:
        """Returns whose knowledge an imported store holds: it is written in the student's tokens."""
        return Origin(teacher, self.base_identity("student"), self.whole_hash(task, split), k)

    # -- tokens ------------------------------------------------------------------------------------------------

    def tokenizer(self, role: Role = "student") -> "PreTrainedTokenizerBase":
        """Returns the tokenizer of teacher or student."""
        from firstlib.models.loading import load_tokenizer  # here, as below: it needs transformers

        return self.once(("tokenizer", role), lambda: load_tokenizer(self.model(role)))

    def encoded(self, task: Task, split: str, role: Role = "student") -> Sequence[Encoded]:
        """Returns a split's items with their right responses, as token ids."""
        make = lambda: encode_on_disk(self.tokenizer(role), self.items(task, split))  # noqa: E731
        return self.once(("encoded", task, split, role), make)

    def encoded_questions(self, task: Task, split: str, role: Role) -> list[EncodedQuestion]:
        """Returns each question's token ids up to the answer, and its candidates' ids."""
        make = lambda: encode_questions(self.tokenizer(role), self.questions(task, split))  # noqa: E731
        return self.once(("encoded questions", task, split, role), make)

    def vocabulary(self, role: Role) -> int:
        """Returns how many rows of a model's output head are tokens."""
        from firstlib.models.loading import vocabulary_size

        make = lambda: min(len(self.tokenizer(role)), vocabulary_size(self.model(role)))  # noqa: E731
        return self.once(("vocabulary", role), make)

    def shared_vocabulary(self) -> int:
        """Returns how many rows of both models' output heads are tokens: stored knowledge is about no others."""
        return min(self.vocabulary(role) for role in self.roles())

    # -- models ------------------------------------------------------------------------------------------------

    def model(self, role: Role) -> Model:
        """Returns the settings of teacher or student."""
        return self.settings.teacher if role == "teacher" else self.settings.student

    def roles(self) -> tuple[Role, ...]:
        """Returns the roles whose weights are available."""
        return ("student",) if self.settings.knowledge.imported else ("teacher", "student")

    @property
    def knowledge_role(self) -> Role:
        """Whose tokens stored knowledge is written in: the teacher's, or the student's where it was imported."""
        return "student" if self.settings.knowledge.imported else "teacher"

    def base_identity(self, role: Role) -> str:
        """Returns what identifies a base model: a hash of its folder, or its hub name with the commit."""
        return self.once(("identity", role), lambda: base_identity(self.model(role)))

    def context_length(self) -> int | None:
        """Returns how many tokens both models can read at once; None if no configuration says so."""
        from firstlib.models.loading import context_length

        known = [length for role in self.roles() if (length := context_length(self.model(role)))]
        return min(known, default=None)

    def check_same_tokens(self) -> None:
        """Checks, before anything costly, that teacher and student share token ids and that k fits.

        Raises:
            UserError: They do not, or `knowledge.k` exceeds the vocabulary.
        """
        if self.settings.knowledge.imported:
            return
        from firstlib.models.loading import check_same_tokens

        self.once("tokens", lambda: check_same_tokens(self.tokenizer("teacher"), self.tokenizer("student")))
        k, words = self.settings.knowledge.k, self.shared_vocabulary()
        if k > words:
            raise UserError(f"knowledge.k: {k}, but the teacher has {words} tokens that the student shares; lower it")

    def check_same_encoding(self, task: Task, split: str) -> None:
        """Checks that teacher and student split every example into the same tokens.

        One vocabulary does not ensure it: merges and pre-tokenizers may differ.

        Raises:
            UserError: They do not; names the first example.
        """
        if not self.settings.knowledge.imported:
            self.once(("same encoding", task, split), lambda: self._check_same_encoding(task, split))

    def _check_same_encoding(self, task: Task, split: str) -> None:
        pairs = zip(self.encoded(task, split, "teacher"), self.encoded(task, split, "student"), strict=True)
        for ours, theirs in pairs:
            if (ours.token_ids, ours.start) != (theirs.token_ids, theirs.start):
                raise UserError(
                    f"teacher and student: example {ours.id} of {task} is {len(ours.token_ids)} tokens to the teacher "
                    f"and {len(theirs.token_ids)} to the student, split differently; choose a pair with one tokenizer"
                )


def _reads(settings: Settings) -> tuple[Any, ...]:
    """The settings that decide what is read."""
    models = [(model.base, model.revision, model.trust_remote_code) for model in (settings.teacher, settings.student)]
    return (
        settings.data,
        tuple(settings.tasks.items()),
        settings.sizes,
        settings.columns,
        settings.knowledge.imported,
        settings.knowledge.server,
        *models,
    )
