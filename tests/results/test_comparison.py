"""The base student stands beside the methods: in a comparison, and in kept results."""

from firstlib.results import table
from firstlib.results.comparison import BASE_STUDENT, with_base_student


def test_kept_rows_get_the_base_students_on_every_test_set():
    base = {"accuracy": 0.5, "ece": 0.1, "trust": 0.4, "confidence": 0.4}
    row = {"method": "first", "accuracy": 0.6, "ece": 0.2, "trust": 0.4, "n": 70}
    run = {
        "base": [
            {"role": "teacher", "dataset": "csqa", **base, "accuracy": 0.9},
            {"role": "student", "dataset": "csqa", **base},
        ],
        "rows": [{**row, "setting": setting, "dataset": "csqa"} for setting in ("in-domain", "out-of-domain")],
    }
    found = table.of_rows(with_base_student(run)["rows"])
    assert list(found.entries) == [("in-domain", "csqa"), ("out-of-domain", "csqa")]
    for methods in found.entries.values():
        assert list(methods) == [BASE_STUDENT, "first"]
        assert methods[BASE_STUDENT]["accuracy"].text == "50.0"
    assert [one["method"] for one in run["rows"]] == ["first", "first"], "the run itself stays as it was"
