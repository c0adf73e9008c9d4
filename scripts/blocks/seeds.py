"""The microworld's results over seeds: the table, its findings, and what lies behind them."""

from collections.abc import Sequence
from statistics import mean

from firstlib.results import study, table
from firstlib.results.beyond import STAGES, cost_frame, mechanism_frame, truth_frame
from firstlib.results.comparison import BASE_STUDENT
from firstlib.results.differences import MEAN, Difference, difference_table, differences, spread_of
from firstlib.results.markup import markdown_table
from firstlib.results.paper import paper_rows
from firstlib.results.table import ResultsTable
from scripts.blocks.common import SHOWN, Results, frame_table, only, over

TRUTH = {"kl": "KL", "excess_nll": "excess NLL", "calibration_error": "|confidence - truth|", "aurc": "AURC"}


def results_block(runs: Sequence[Results], methods: Sequence[str] = SHOWN) -> str:
    """Returns the results table over seeds."""
    n = runs[0]["rows"][0]["n"]
    seeds = ", ".join(str(run["seed"]) for run in runs)
    over = (
        f"Mean over {len(runs)} seeds ({seeds}) with half the width of its 95 % interval, in percent"
        if len(runs) > 1
        else f"Seed {seeds} alone, in percent (`make seeds` computes {len(study.SEEDS)})"
    )
    intro = f"{over}; n = {n} test questions a cell and seed. Each seed draws its own questions and trains anew."
    return f"{intro}\n\n{_without_sizes(table.of_seeds(only(runs, methods))).markdown()}"


def _without_sizes(found: ResultsTable) -> ResultsTable:
    return ResultsTable(found.entries, {}, {})


def sentences_block(runs: Sequence[Results]) -> str:
    """Returns the main findings as sentences, each with its number and its command."""
    against = {name: _in_mean(differences(runs, name)) for name in (BASE_STUDENT, "fine-tune", "distill", "first")}
    of_base, of_distill = against[BASE_STUDENT], against["distill"]
    theirs = {name: f"the paper's Table 1: {_paper_gain(name):+.1f}" for name in ("fine-tune", "distill")}
    lines = [
        f"- **FIRST against fine-tuning**: {_told(against['fine-tune']['first'])}; {theirs['fine-tune']}.",
        f"- **FIRST against plain distillation**: {_told(of_distill['first'])}; {theirs['distill']}.",
        f"- **FIRST against the student before training**: {_told(of_base['first'])}.",
        f"- **A temperature on the fine-tuned student, against FIRST**: {_told(against['first']['fine-tune+T'])}; on "
        f"the distilled student, against plain distillation: {_told(of_distill['distill+T'])}.",
        "- **Weights interpolated between the base model and the distilled student, against plain distillation**: "
        f"{_told(of_distill['distill-base-weights'])}. Against the student before training: "
        f"{_told(of_base['distill-base-weights'])}: {_by_place(runs, 'distill-base-weights', BASE_STUDENT)}.",
    ]
    intro = "Differences in Trust, mean over the four test sets, paired by seed (`make seeds`):"
    return "\n".join([intro, *lines])


def _in_mean(found: Sequence[Difference]) -> dict[str, Difference]:
    return {one.method: one for one in found if one.place == MEAN}


def _paper_gain(baseline: str) -> float:
    """FIRST's Trust less a baseline's in the paper's Table 1, in points, mean over families and test sets."""
    trust = {name: [row["trust"] for row in paper_rows() if row["method"] == name] for name in ("first", baseline)}
    return 100 * (mean(trust["first"]) - mean(trust[baseline]))


def _by_place(runs: Sequence[Results], method: str, baseline: str) -> str:
    """A method's difference from a baseline on each test set, in points, without intervals."""
    found = [one for one in differences(runs, baseline) if one.method == method and one.place != MEAN]
    return ", ".join(f"{100 * one.mean.estimate:+.1f} {' '.join(one.place)}" for one in found)


def _told(one: Difference) -> str:
    mean_, low, high = (f"{100 * value:+.1f}" for value in (one.mean.estimate, one.mean.low, one.mean.high))
    verdict = ("better" if one.mean.estimate > 0 else "worse") if one.found else "no difference was found"
    detectable = "" if one.found else f", which detect {100 * one.detectable:.1f} points with 80 % probability"
    return f"{verdict}, {mean_} points ({low} to {high}; p = {one.p:.3f}, {one.seeds} seeds{detectable})"


def differences_block(runs: Sequence[Results]) -> str:
    """Returns paired differences in Trust to the baselines, and what could have been found."""
    parts = []
    for baseline in (BASE_STUDENT, "fine-tune", "distill", "first", "distill+T"):
        found = [one for one in differences(runs, baseline) if one.method != "teacher"]
        parts.append(f"Trust minus that of `{baseline}`, in points:")
        parts.append(markdown_table(*difference_table(found)))
        smallest = mean(one.detectable for one in found if one.place != MEAN)
        parts.append(
            f"A study of {len(runs)} seeds detects a true difference of {100 * smallest:.1f} points on one test set "
            "with 80 % probability (mean over methods and test sets)."
        )
    for measure, title in (("accuracy", "Accuracy"), ("ece", "ECE")):
        found = [one for one in differences(runs, "fine-tune", measure) if one.method != "teacher"]
        parts += [f"{title} minus that of `fine-tune`, in points:", markdown_table(*difference_table(found))]
    return "\n\n".join(parts)


def truth_block(runs: Sequence[Results]) -> str:
    """Returns the distances from the exact posterior, mean over seeds, for every method and test set."""
    places = list(dict.fromkeys((row["setting"], row["dataset"]) for run in runs for row in run["rows"]))
    frames = [truth_frame(runs, *place)[list(TRUTH)] for place in places]
    lines = [
        [str(method), *(" / ".join(f"{value:.3f}" for value in frame.loc[method]) for frame in frames)]
        for method in frames[0].index
    ]
    head = ["method", *(" ".join(place) for place in places)]
    return f"{' / '.join(TRUTH.values())}, {over(runs)}:\n\n{markdown_table(head, lines)}"


def cost_block(runs: Sequence[Results]) -> str:
    """Returns what each method cost on the main task: seconds and operations, mean over seeds."""
    frame = cost_frame(runs, runs[0]["rows"][0]["dataset"])
    return frame_table(frame, "method")


def spread_block(runs: Sequence[Results]) -> str:
    """Returns the standard deviation of Trust between seeds of the data alone, and of training alone."""
    place = ("in-domain", "csqa")
    of = {kind: [run for run in runs if f"-{kind}-" in run["name"]] for kind in ("data", "weights")}
    lines = [
        [method, *(f"{100 * spread_of(of[kind], method, place):.1f}" for kind in of)]
        for method in dict.fromkeys(row["method"] for row in runs[0]["rows"])
    ]
    counts = ", ".join(f"{len(of[kind])} seeds of {name}" for kind, name in (("data", "data"), ("weights", "training")))
    head = ["method", "other questions, same training seed", "same questions, other training seed"]
    return f"Standard deviation of Trust on CSQA-like questions, in points ({counts}):\n\n{markdown_table(head, lines)}"


def mechanism_block(runs: Sequence[Results]) -> str:
    """Returns confidence and accuracy from teacher to student on the main task, mean over seeds."""
    lines = [
        [
            str(method),
            f"{line['', 'coefficient']:.2f}",
            *(f"{line[title, 'confidence']:.1f} / {line[title, 'accuracy']:.1f}" for title in STAGES.values()),
        ]
        for method, line in mechanism_frame(runs).iterrows()
    ]
    head = ["method", "coefficient", *STAGES.values()]
    return f"Mean confidence / accuracy in percent, {over(runs)}:\n\n{markdown_table(head, lines)}"
