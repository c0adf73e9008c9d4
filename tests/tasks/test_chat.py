"""Prompts in a model's chat format: the same on every day, and asked where an answer stands."""

import datetime

import pytest
from small_tokenizers import byte_level

from firstlib.runtime.errors import UserError
from firstlib.tasks.chat import in_chat
from firstlib.tasks.question import Example, Question

TURNS = "{% for m in messages %}<|{{m['role']}}|>{{m['content']}}\n{% endfor %}"
OPENED = TURNS + "{% if add_generation_prompt %}<|assistant|>"
ITEM = Example("e", "Is a cat red?", " The answer is (b).")


def rendered(template, item=ITEM, **variables):
    tokenizer = byte_level()
    tokenizer.chat_template = template
    try:
        return in_chat(tokenizer, item, variables)
    finally:
        tokenizer.chat_template = None


def test_a_plain_template_is_rendered_as_it_is():
    found = rendered(OPENED + "{% endif %}")
    assert found == Example("e", "<|user|>Is a cat red?\n<|assistant|>", "The answer is (b).")


@pytest.mark.parametrize("opening", ["<think>", "<think>\n", "<think>\nOkay, "])
def test_open_thoughts_are_closed(opening):
    prompt = rendered(OPENED + opening + "{% endif %}").prompt
    assert prompt.endswith("\n\n</think>\n\n")
    assert prompt.count("<think>") == 1


def test_thoughts_in_the_question_are_left_alone():
    item = Example("e", "What does <think> mean?", " A tag.")
    assert rendered(OPENED + "{% endif %}", item).prompt.endswith("<|assistant|>")


@pytest.mark.parametrize(
    ("template", "end"),
    [
        (OPENED + "[THINK]{% endif %}", "[/THINK]\n\n"),
        ("{{messages[0]['content']}}<|start|>assistant", "<|start|>assistant<|channel|>final<|message|>"),
    ],
)
def test_other_families_thoughts_are_closed_in_their_own_way(template, end):
    assert rendered(template).prompt.endswith(end)


def test_models_that_think_unless_told_otherwise_are_told_otherwise():
    switch = "{% if enable_thinking is defined and enable_thinking is false %}<think>\n\n</think>\n\n{% endif %}"
    template = OPENED + switch + "{% endif %}"
    assert rendered(template).prompt.endswith("<think>\n\n</think>\n\n")
    assert rendered(template, enable_thinking=True).prompt.endswith("<|assistant|>")


DATED = "Today: {{ strftime_now('%d %b %Y %H:%M:%S.%f') }}\n" + OPENED + "{% endif %}"


def test_a_date_is_the_same_every_day():
    first = rendered(DATED).prompt
    assert first.startswith("Today: 26 Jul 2024 00:00:00.000000\n")
    assert str(datetime.date.today().year) not in first
    assert rendered(DATED).prompt == first


def test_a_template_s_variables_can_be_set():
    template = "{% if not date_string is defined %}{% set date_string = strftime_now('%d') %}{% endif %}{{date_string}}"
    assert rendered(template).prompt == "26"
    assert rendered(template, date_string="1 Jan").prompt == "1 Jan"


@pytest.mark.parametrize("what", ["{{ raise_exception('System role required') }}", "{{ messages[1]['content'] }}"])
def test_a_template_that_refuses_costs_one_line(what):
    with pytest.raises(UserError, match=r"data\.chat_template: the template of .* refuses a lone user turn") as error:
        rendered(what)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 500


def test_a_question_loses_the_space_before_its_answer():
    question = Question("q", "Red?", " The answer is (", ("a", "b"), ").", 0, ("yes", "no"))
    assert rendered(OPENED + "{% endif %}", question).lead == "The answer is ("
