"""How far rounding moves the numbers of one seed: base weights are changed by one part in ten million.

    python -m scripts.rounding PRESET DRAW... [--seed SEED]

For each draw of the noise, the teacher and FIRST's student of the out-of-domain column are trained; their accuracy and
ECE are printed in percent.
"""

import argparse
import tempfile
from pathlib import Path

import torch

from firstlib import Experiment
from firstlib.evaluation.scores import evaluate
from firstlib.models.loading import load_base, load_tokenizer
from firstlib.settings.loading import load_preset
from firstlib.settings.schema import Model

NOISE = 1e-7  # of each weight; what one rounding in float32 may change


def main() -> None:
    """Prints one line for each draw, model and test set."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("preset")
    parser.add_argument("draws", nargs="+", type=int)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    for draw in options.draws:
        with tempfile.TemporaryDirectory() as scratch:
            show(draw, changed(options.preset, draw, options.seed, Path(scratch)))


def changed(preset: str, draw: int, seed: int, folder: Path) -> Experiment:
    """The preset's experiment on base models with this draw of noise."""
    settings, bases = load_preset(preset), {}
    for role in ("teacher", "student"):
        bases[f"{role}__base"] = str(folder / role)
        with_noise(getattr(settings, role), draw, folder / role)
    return Experiment(preset, seed, str(folder / "runs")).change(**bases)


@torch.no_grad()
def with_noise(base: Model, draw: int, folder: Path) -> None:
    """Saves a base model with every weight changed a little."""
    model, generator = load_base(base).float(), torch.Generator().manual_seed(draw)
    for weight in model.parameters():
        weight.mul_(1 + NOISE * torch.randn(weight.shape, generator=generator))
    model.save_pretrained(folder)
    load_tokenizer(base).save_pretrained(folder)


def show(draw: int, experiment: Experiment) -> None:
    """Prints what the teacher and FIRST's student answer."""
    column = next(one for one in experiment.settings.columns if one.setting == "out-of-domain")
    for name in ("teacher", "first"):
        for test in column.test:
            scores = evaluate(experiment.predictions(name, column.train, test), experiment.settings.measures)
            print(f"draw {draw}  {name:8}{test}  {100 * scores.accuracy:.1f} {100 * scores.ece:.1f}", flush=True)


if __name__ == "__main__":
    main()
