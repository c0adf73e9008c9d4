"""The card's section on how to ask a student, with code that runs."""

from collections.abc import Sequence

from firstlib.results.export.making import divided_by
from firstlib.results.export.markdown import escaped, fenced, percent
from firstlib.results.export.measured import Repeat
from firstlib.results.export.student import ExportedStudent
from firstlib.results.markup import markdown_table
from firstlib.settings.schema import CandidateScore, Reading
from firstlib.tasks.question import Question

LOADING = """\
from transformers import AutoModelForCausalLM, AutoTokenizer

model = AutoModelForCausalLM.from_pretrained({name!r})
tokenizer = AutoTokenizer.from_pretrained({name!r})"""

ASKING = """\
import torch

prompt = (
{prompt}
)
candidates = {candidates!r}
ids = [tokenizer(prompt + text).input_ids[-1] for text in candidates]
with torch.inference_mode():
    logits = model(torch.tensor([tokenizer(prompt).input_ids])).logits[0, -1, : len(tokenizer)].float()
{scaling}probabilities = logits.softmax(-1)[ids]
confidence = {confidence}
print(candidates[int(confidence.argmax())], float(confidence.max()))"""

ASKING_WORDS = """\
import torch

prompt = (
{prompt}
)
candidates = {candidates!r}

def score(text):  # the log-probability of all its tokens{per}
    start, ids = len(tokenizer(prompt).input_ids), torch.tensor([tokenizer(prompt + text).input_ids])
    with torch.inference_mode():
        logits = model(ids).logits[0, start - 1 : -1, : len(tokenizer)].float()
    {scaling}return logits.log_softmax(-1).gather(1, ids[0, start:, None]).sum(){divided}

scores = torch.stack([score(text) for text in candidates])
confidence = {confidence}
print(candidates[int(confidence.argmax())], float(confidence.max()))"""

# How the score of several tokens is divided, and what the code says of it.
DIVISORS: dict[CandidateScore, tuple[str, str]] = {
    "total": ("", ""),
    "mean": (", a token", " / (ids.shape[1] - start)"),
    "mean-by-character": (", a character", " / len(text.strip())"),
}
READINGS_OF_WORDS: dict[Reading, str] = {"candidates": "scores.softmax(0)", "vocabulary": "scores.exp()"}

SCALING = "logits = logits / {!r}  # the student's temperature, fitted after training\n"

# What confidence is, and the code that computes it.
READINGS: dict[Reading, tuple[str, str]] = {
    "candidates": ("its share among the candidates", "probabilities / probabilities.sum()"),
    "vocabulary": ("its probability in the whole vocabulary", "probabilities"),
}


def how_to_ask(student: ExportedStudent, name: str, repeat: Repeat) -> str:
    """Returns code that loads the folder and asks it one question, with the answer that it gives."""
    reading, temperature = student.settings.measures.confidence, student.temperatures[repeat.test]
    meaning, confidence = READINGS[reading]
    question, given = _example(student, repeat)
    words = repeat.found.log_probabilities is not None
    per, divided = DIVISORS[repeat.found.score] if words else ("", "")
    indent = "    " if words and temperature != 1 else ""
    code = (ASKING_WORDS if words else ASKING).format(
        prompt=_literal(question.prompt + question.lead),
        candidates=list(question.candidates),
        scaling=SCALING.format(temperature) + indent if temperature != 1 else "",
        confidence=READINGS_OF_WORDS[reading] if words else confidence,
        **({"per": per, "divided": divided} if words else {}),
    )
    scaled = f" Divide the logits by {divided_by(student)} before the softmax." if student.is_tempered else ""
    return "\n\n".join(
        [
            "Load it with transformers:",
            fenced(LOADING.format(name=name), "python"),
            f"Ask it for {'a text' if words else 'one token'}, directly after a prompt of exactly this form. The "
            f"answer is the most probable candidate, and its confidence is {meaning}.{scaled}",
            fenced(code, "python"),
            "It answers this question as follows:",
            _answers(question, given),
        ]
    )


def _example(student: ExportedStudent, repeat: Repeat) -> tuple[Question, list[float]]:
    """Returns the shortest question of a test set, and the confidence in each candidate."""
    questions, found = student.experiment.questions(repeat.test), repeat.found
    row = min(range(len(questions)), key=lambda i: len(questions[i].prompt))
    given = found.shares() if student.settings.measures.confidence == "candidates" else found.probabilities
    return questions[row], given[row][: len(questions[row].candidates)].tolist()


def _literal(text: str) -> str:
    return "\n".join(f"    {line!r}" for line in text.splitlines(keepends=True))


def _answers(question: Question, given: Sequence[float]) -> str:
    rows = [
        (escaped(candidate), escaped(choice), percent(share), "yes" if index == question.answer else "")
        for index, (candidate, choice, share) in enumerate(
            zip(question.candidates, question.choices, given, strict=True)
        )
    ]
    return markdown_table(["candidate", "stands for", "confidence, %", "right"], rows)
