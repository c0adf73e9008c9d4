"""A second field that reads as answers agrees with the first, or the preset says which one counts."""

import json

import pytest

from firstlib.runtime.errors import UserError
from firstlib.settings.data import Data, Fields, TaskData
from firstlib.tasks import hub

CHOICES = ["a chair", "some tea", "the sea", "a hat"]


def read(tmp_path, rows, **said):
    (tmp_path / "mine.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return hub.read("own", Data(source="hub"), tmp_path / "mine.jsonl", lambda items: [None] * len(items),
                    TaskData(**said))["train"]  # fmt: skip


def rows(second, **more):
    """Twelve questions whose answers are letters, with a second field."""
    return [
        {"question": f"What? {at}", "choices": CHOICES, "answer": "ABCD"[at % 4], **second(at), **more}
        for at in range(12)
    ]


@pytest.mark.parametrize(
    "second",
    [
        lambda at: {"label": at % 4},
        lambda at: {"answer_idx": at % 4 + 1},
        lambda at: {"gold": CHOICES[at % 4]},
        lambda at: {"label": "hard" if at % 2 else "easy"},
        lambda at: {"target": None},
        lambda at: {"label": 17 * at},
    ],
)
def test_a_field_that_repeats_the_answers_or_is_about_something_else_is_left_alone(tmp_path, second):
    assert [item.answer for item in read(tmp_path, rows(second)).items] == [at % 4 for at in range(12)]


@pytest.mark.parametrize(
    ("second", "count"),
    [
        (lambda at: {"label": 0}, 9),
        (lambda at: {"gold": "ABCD"[at % 4] if at else "B"}, 1),
        (lambda at: {"label": "A"} if at < 6 else {}, 4),
        (lambda at: {"correct_answer": CHOICES[(at + 1) % 4]}, 12),
    ],
)
def test_a_field_that_says_other_answers_is_refused_with_the_setting_that_decides(tmp_path, second, count):
    with pytest.raises(UserError, match=rf"differ in {count} of \d+ rows; say which is right with tasks\.own\.fields"):
        read(tmp_path, rows(second))
    chosen = read(tmp_path, rows(second), fields=Fields(answer="answer"))
    assert [item.answer for item in chosen.items] == [at % 4 for at in range(12)]


@pytest.mark.parametrize(("label", "refused"), [(lambda at: int(at % 2 == 0), False), (lambda at: 1, True)])
def test_yes_and_no_are_compared_too(tmp_path, label, refused):
    given = [
        {"question": f"Is it? {at}", "passage": "It is.", "answer": at % 2 == 0, "label": label(at)} for at in range(6)
    ]
    if refused:
        with pytest.raises(UserError, match="differ in 3 of 6 rows"):
            read(tmp_path, given)
    else:
        assert len(read(tmp_path, given).items) == 6


@pytest.mark.parametrize(
    ("choices", "refused"), [(["yes", "no"], True), (["no", "yes"], False), (["red", "blue"], False)]
)
def test_one_may_be_yes_or_the_second_choice(tmp_path, choices, refused):
    lines = [{"question": f"Is it {at}?", "choices": choices, "answer": at % 2} for at in range(12)]
    if refused:
        with pytest.raises(UserError, match=r"numbers from 0 .* or true or false .*tasks\.own\.answers=truth"):
            read(tmp_path, lines)
        lines = [{**line, "question": line["question"] + "!"} for line in lines]
        assert [item.answer for item in read(tmp_path, lines, answers="truth").items] == [
            1 - at % 2 for at in range(12)
        ]
    else:
        assert [item.answer for item in read(tmp_path, lines).items] == [at % 2 for at in range(12)]
