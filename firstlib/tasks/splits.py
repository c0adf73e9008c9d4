"""Which split a file's place tells: `train`, `validation` or `test`, from the words of its name and its folders.

A held-out file that was taken for training data would be trained on without a word. So a name tells a split only by
one of the words below; a name that tells none, or two, is never guessed.
"""

import re
from collections.abc import Mapping, Sequence

WORDS: dict[str, tuple[str, ...]] = {
    "train": ("train", "training", "trn"),
    "validation": ("validation", "validate", "valid", "val", "dev", "development", "eval", "evaluation"),
    "test": ("test", "testing", "tst", "heldout", "holdout", "devtest"),
}
KNOWN = ", ".join(f"{split} ({', '.join(words[1:])})" for split, words in WORDS.items())  # for messages

_OF_WORD = {word: split for split, words in WORDS.items() for word in words}
_AFTER = r"(?:s|ing)?(?:sets?|data|datasets?|splits?|files?|rows|examples|questions)?"
_WORD = re.compile(rf"({'|'.join(sorted(_OF_WORD, key=len, reverse=True))}){_AFTER}")
_BOUNDARY = re.compile(r"[^A-Za-z]+|(?<=[a-z])(?=[A-Z])")
_TWO_WORDS = re.compile(r"(held|hold|dev)[-_ ](out|test)", re.IGNORECASE)


def splits_in(name: str) -> set[str]:
    """Returns every split that the words of one name tell.

    >>> [sorted(splits_in(name)) for name in ("dev_rand_split", "train-00000-of-00001", "hold-out", "questions")]
    [['validation'], ['train'], ['test'], []]
    >>> [sorted(splits_in(name)) for name in ("csqaTestSet2", "contest", "latest-valves", "train_test", "test1")]
    [['test'], [], [], ['test', 'train'], ['test']]
    """
    words = _BOUNDARY.split(_TWO_WORDS.sub(r"\1\2", name))
    found = (_WORD.fullmatch(word.lower()) for word in words)
    return {_OF_WORD[match.group(1)] for match in found if match}


def split_of(parts: Sequence[str]) -> str | None:
    """Returns the split that a file's name tells, or else its folders, the innermost first; None: none of them.

    Args:
        parts: The folders inside the data set, outermost first, then the file's name without its suffix.

    Raises:
        ValueError: They tell two different splits.

    >>> split_of(["default", "validation", "0000"]), split_of(["medicine", "questions"])
    ('validation', None)
    """
    told = [found for part in reversed(parts) if (found := splits_in(part))]
    if len(set().union(*told)) > 1:
        raise ValueError(f"tells two splits, {' and '.join(sorted(set().union(*told)))}")
    return told[0].copy().pop() if told else None


def split_of_value(value: object) -> str | None:
    """Returns the split that a row's own field names; None: none is known by that name.

    >>> split_of_value("VAL"), split_of_value("indomain")
    ('validation', None)
    """
    found = splits_in(value) if isinstance(value, str) else set()
    return found.pop() if len(found) == 1 else None


def told_files(files: Mapping[str, Mapping[str, Mapping[str, int]]]) -> list[str]:
    """Returns a line for each file of a run's data sets: task, file, split and number of rows.

    >>> told_files({"own": {"eval.jsonl": {"validation": 20}}})
    ['own: eval.jsonl -> validation, 20 rows']
    """
    return [
        f"{task}: {name} -> {split}, {count} rows"
        for task, named in files.items()
        for name, splits in named.items()
        for split, count in splits.items()
    ]
