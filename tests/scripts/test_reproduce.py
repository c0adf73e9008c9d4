"""Kept results beside what this machine gives."""

import json
from types import SimpleNamespace

from scripts import reproduce


def row(method, trust, setting="out-of-domain"):
    return {"setting": setting, "method": method, "dataset": "csqa", "trust": trust}


def cell(tmp_path, kept):
    file = tmp_path / "cell.json"
    file.write_text(json.dumps({"rows": [row("first", 0.9, "in-domain"), row("first", kept)]}))
    return SimpleNamespace(file=file, experiment=lambda folder: SimpleNamespace(run=folder))


def test_trust_is_compared_place_by_place_and_in_the_mean(tmp_path, monkeypatch, capsys):
    kept = iter([0.30, 0.50])
    monkeypatch.setattr(reproduce.study, "cell_of", lambda name: cell(tmp_path, next(kept)))

    def rows(run, names, tasks):
        assert (run, tasks) == ("runs/reproduced", ("alpaca",))
        return [SimpleNamespace(flat=lambda: row("first", 0.40))]

    monkeypatch.setattr(reproduce.summary, "rows", rows)
    reproduce.main("alpaca", ["one", "two"])
    told = capsys.readouterr().out.splitlines()
    assert told[:2] == ["one  first on csqa: kept 30.0, here 40.0", "two  first on csqa: kept 50.0, here 40.0"]
    assert told[2] == "first on csqa: +0.0 points (-10.0 to +10.0)"
