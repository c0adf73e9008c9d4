"""The card's section on how to ask a student, with code that runs."""

from collections.abc import Sequence

from firstlib.results.export.markdown import escaped, fenced, percent, table
from firstlib.results.export.measured import Repeat
from firstlib.results.export.student import ExportedStudent
from firstlib.settings.schema import Reading
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

SCALING = "logits = logits / {!r}  # the student's temperature, fitted after training\n"

# What confidence is, and the code that computes it.
READINGS: dict[Reading, tuple[str, str]] = {
    "candidates": ("its share among the candidates", "probabilities / probabilities.sum()"),
    "vocabulary": ("its probability in the whole vocabulary", "probabilities"),
}


def how_to_ask(student: ExportedStudent, name: str, repeat: Repeat) -> str:
    """Returns code that loads the folder and asks it one question, with the answer that it gives."""
    reading, temperature = student.settings.measures.confidence, student.temperature
    meaning, confidence = READINGS[reading]
    question, given = _example(student, repeat)
    code = ASKING.format(
        prompt=_literal(question.prompt + question.lead),
        candidates=list(question.candidates),
        scaling=SCALING.format(temperature) if temperature != 1 else "",
        confidence=confidence,
    )
    scaled = f" Divide the logits by T = {temperature:g} before the softmax." if temperature != 1 else ""
    return "\n\n".join(
        [
            "Load it with transformers:",
            fenced(LOADING.format(name=name), "python"),
            "Ask it for one token, directly after a prompt of exactly this form. The answer is the most probable "
            f"candidate, and its confidence is {meaning}.{scaled}",
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
    return table(["candidate", "stands for", "confidence, %", "right"], rows)
