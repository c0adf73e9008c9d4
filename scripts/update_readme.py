"""Writes the blocks of README.md and docs/ from kept results: `make seeds`, `make beyond`, `make map`, `make real`.

A block stands between two comments that name it. A block whose results are not kept yet says which command computes
them.
"""

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from firstlib import Experiment
from firstlib.results import study, table
from firstlib.results.comparison import compare, with_base_student
from firstlib.results.markup import with_block
from firstlib.results.study import KEPT
from firstlib.runtime.files import write_json, write_text
from firstlib.runtime.paths import PROJECT
from scripts import choose_adapter, choose_settings, mutants, scale
from scripts.blocks import beyond, claims, pretrained, seeds
from scripts.blocks.common import Results
from scripts.blocks.pretrained import task_of

README, FINDINGS, PROTOCOL = PROJECT / "README.md", PROJECT / "docs" / "findings.md", PROJECT / "docs" / "protocol.md"


def main() -> None:
    """Rewrites every block whose results are kept."""
    for (page, name), (command, block) in BLOCKS.items():
        text = page.read_text(encoding="utf-8")
        write_text(page, replaced(text, name, block() or f"Not computed yet: `{command}`."))


def real(seed: int = 0) -> None:
    """Runs small Llamas on real data, one seed with intervals over questions, and rewrites their block."""
    experiment = Experiment("real-small", seed)
    results = experiment.results()
    results["unusable"] = {t: {s: len(rows) for s, rows in of.items()} for t, of in results["unusable"].items()}
    results["intervals"] = [one.flat() for one in compare(experiment)]
    write_json(KEPT / f"real-small-seed-{seed}.json", results)
    main()


def replaced(text: str, name: str, block: str) -> str:
    """Returns a page with one of its blocks replaced."""
    start, end = f"<!-- {name}: written by scripts/update_readme.py -->", f"<!-- end of {name} -->"
    return with_block(text, start, end, block)


def settings_block() -> str:
    """Returns the settings nearest to the paper's baselines."""
    done = choose_settings.kept_cells()
    return choose_settings.table(done, choose_settings.ranked(done)[:6])


def adapters_block() -> str:
    """Returns the accuracy of adapters by rate and rank, beside full tuning's."""
    done = choose_adapter.kept_cells()
    return choose_adapter.table(done) if choose_adapter.finished(done) else ""


def real_block(results: Results) -> str:
    """Returns the table on real data, with what was chosen and left out."""
    coefficients = ", ".join(f"{c:g} ({task})" for task, c in results["coefficients"].items())
    masses = ", ".join(f"{100 * of['top-5']:.1f} % ({task})" for task, of in results["coverage"].items())
    lost = sum(sum(of.values()) for of in results["unusable"].values())
    notes = (
        f"Seed {results['seed']}, in percent, with 95 % bootstrap intervals over questions. Coefficients chosen on "
        f"validation: {coefficients}. Mass of the teacher's top 5: {masses}. {lost} rows of the data sets are unusable "
        "(two choices that read the same, or no answer); the run's `results.json` lists them by id."
    )
    return f"{table.of_intervals(results['intervals']).markdown()}\n\n{notes}"


def _kept(
    group: str, block: Callable[[Sequence[Results]], str], least: int = 1, base: bool = False
) -> Callable[[], str]:
    """A block of a group's kept results, with the base student's if wanted; empty while fewer than `least` are kept."""

    def make() -> str:
        runs = study.kept(group)
        runs = [with_base_student(run) for run in runs] if base else runs
        return block(runs) if len(runs) >= least else ""

    return make


def _pair_seeds() -> str:
    """The pretrained pair's first column over its seeds; empty while there is only the first."""
    kept = [*study.kept("pretrained"), *study.kept("pretrained-seeds")]
    runs = [run for run in kept if (run["preset"], task_of(run)) == (study.PAIR, study.PRETRAINED_TASKS[0])]
    return pretrained.seeds_block(runs, study.PRETRAINED_SEEDS) if len(runs) > 1 else ""


def _real() -> str:
    file = KEPT / "real-small-seed-0.json"
    return real_block(json.loads(file.read_text(encoding="utf-8"))) if file.is_file() else ""


BLOCKS: dict[tuple[Path, str], tuple[str, Callable[[], str]]] = {
    (README, "headline"): ("make pretrained", _kept("pretrained", pretrained.headline_block)),
    (README, "results"): ("make seeds", _kept("seeds", seeds.results_block, base=True)),
    (README, "findings"): ("make seeds", _kept("seeds", seeds.sentences_block, least=3, base=True)),
    (FINDINGS, "claims"): ("make seeds", _kept("seeds", claims.claims_block)),
    (FINDINGS, "differences"): ("make seeds", _kept("seeds", seeds.differences_block, least=3, base=True)),
    (FINDINGS, "mechanism"): ("make seeds", _kept("seeds", seeds.mechanism_block)),
    (FINDINGS, "truth"): ("make seeds", _kept("seeds", seeds.truth_block)),
    (FINDINGS, "cost"): ("make seeds", _kept("seeds", seeds.cost_block)),
    (FINDINGS, "spread"): ("make seeds", _kept("spread", seeds.spread_block, least=4)),
    (FINDINGS, "following"): ("make map", _kept("map", beyond.following_block, least=20)),
    (FINDINGS, "map"): ("make map", _kept("map", beyond.map_block, least=20)),
    (FINDINGS, "variants"): ("make beyond", _kept("beyond", beyond.variants_block, least=2)),
    (FINDINGS, "variants out of domain"): ("make beyond", _kept("out-of-domain", beyond.variants_block, least=2)),
    (FINDINGS, "exact temperature"): ("make beyond", _kept("exact", beyond.variants_block, least=2)),
    (FINDINGS, "pretrained"): ("make pretrained", _kept("pretrained", pretrained.pretrained_block)),
    (FINDINGS, "pretrained seeds"): ("make pretrained", _pair_seeds),
    (FINDINGS, "pretrained mechanism"): ("make pretrained", _kept("pretrained", pretrained.pretrained_mechanism_block)),
    (FINDINGS, "real data"): ("make real", _real),
    (PROTOCOL, "settings"): ("make choose-settings", settings_block),
    (PROJECT / "docs" / "reliability.md", "mutants"): ("make mutants", mutants.kept),
    (scale.PAGE, "scale"): ("python -m benchmarks.growth", scale.block),
    (PROTOCOL, "adapters"): ("make choose-adapter", adapters_block),
}


if __name__ == "__main__":
    real() if "real" in sys.argv[1:] else main()
