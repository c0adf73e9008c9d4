"""A reader's own question, asked of all models: a widget, and its answer without one."""

from html import escape

import ipywidgets

from firstlib.experiment import Experiment
from firstlib.explorer.questions import Case, ask_all, case, lettered_task
from firstlib.runtime.errors import UserError


class QuestionAsker(ipywidgets.VBox):
    """A text, its choices and a button; below it every model's answer and confidence, side by side."""

    def __init__(self, experiment: Experiment, text: str | None = None, choices: str | None = None) -> None:
        """Opens with the first test question that has lettered choices.

        Args:
            experiment: Whose models are asked.
            text: A question.
            choices: Its choices, one per line.
        """
        self.experiment = experiment
        start, offered = _first_question(experiment)
        wide = ipywidgets.Layout(width="min(700px, 100%)")
        self.text = ipywidgets.Text(value=text or start, description="question", layout=wide)
        self.choices = ipywidgets.Textarea(value=choices or offered, description="choices", rows=5, layout=wide)
        self.button = ipywidgets.Button(description="Ask all models", button_style="primary")
        self.answers = ipywidgets.HTML()
        self.button.on_click(lambda _: self.ask())
        super().__init__([self.text, self.choices, self.button, self.answers])

    def ask(self) -> None:
        """Asks all models what the fields say, and shows their answers, or in one line what is wrong."""
        try:
            self.answers.value = answers_table(self.answer())
        except UserError as error:
            self.answers.value = f"<p>{escape(str(error))}</p>"

    def answer(self) -> Case:
        """Returns every model's shares of the choices in the fields.

        Where no task has lettered choices, this is the first test question of the main task.

        Raises:
            UserError: The fields hold no question that these models can be asked.
        """
        if lettered_task(self.experiment) is None:
            return case(self.experiment, self.experiment.main_task)
        return ask_all(self.experiment, self.text.value, self.choices.value.splitlines())


def _first_question(experiment: Experiment) -> tuple[str, str]:
    """The text and the choices of the first lettered test question; empty where there is none."""
    task = lettered_task(experiment)
    if task is None:
        return "", ""
    question = experiment.questions(task.test)[0]
    text = next(line for line in question.prompt.splitlines() if "Q: " in line).partition("Q: ")[2]
    return text, "\n".join(question.choices)


def answers_table(found: Case) -> str:
    """Returns an HTML table: a line per model with its answer, its confidence, and its share of every choice."""
    choices = found.question.choices
    head = "".join(f"<th>{escape(name)}</th>" for name in ("model", "answer", "confidence", *choices))
    rows = ""
    for name, shares in found.shares.items():
        cells = [escape(name), escape(choices[int(shares.argmax())]), f"<b>{shares.max():.1%}</b>"]
        cells += [f"{share:.1%}" for share in shares]
        rows += "<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"
    return f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
