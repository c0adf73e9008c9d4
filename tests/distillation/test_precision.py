"""`mixed_precision: auto` takes the faster format, says which, and leaves nothing else behind."""

import json

import pytest
import torch

from firstlib.distillation import precision, training
from firstlib.distillation.training import TrainingRun, fine_tune
from firstlib.models.loading import load_base
from firstlib.runtime.progress import PROGRESS_FILE
from firstlib.settings.schema import Training
from firstlib.tasks.encoding import Encoded

EXAMPLES = [Encoded(str(i), [1, 5, 6 + i, 7, 2], 3) for i in range(4)]


@pytest.fixture
def model(base):
    return load_base(base)


@pytest.mark.parametrize("faster", ["no", "bf16"])
def test_the_faster_format_trains_and_is_named(model, base, faster, tmp_path, monkeypatch):
    seconds = {"no": 2.0, "bf16": 3.0} if faster == "no" else {"no": 3.0, "bf16": 2.0}
    monkeypatch.setattr(training, "try_formats", lambda model, loss: seconds)
    monkeypatch.setenv(PROGRESS_FILE, str(tmp_path / "progress"))
    run = TrainingRun(1e-3, 0, save_to=tmp_path / "trained")
    (tmp_path / "trained").mkdir()
    settings = Training(epochs=1, global_batch_size=2, mixed_precision="auto")
    losses = fine_tune(model, EXAMPLES, settings, run)
    assert json.loads((tmp_path / "trained" / "mixed_precision.json").read_text()) == seconds
    assert f"({faster}: 1.5 x as fast)" in (tmp_path / "progress").read_text()
    by_name = settings.model_copy(update={"mixed_precision": faster})
    assert losses == fine_tune(load_base(base), EXAMPLES, by_name, TrainingRun(1e-3, 0))


def test_a_training_that_resumes_keeps_its_format(model, tmp_path, monkeypatch):
    (tmp_path / "mixed_precision.json").write_text('{"no": 1.0, "bf16": 5.0}')
    monkeypatch.setattr(training, "try_formats", lambda model, loss: pytest.fail("tried again"))
    settings = Training(epochs=1, global_batch_size=2, mixed_precision="auto")
    assert len(fine_tune(model, EXAMPLES, settings, TrainingRun(1e-3, 0, checkpoints=tmp_path))) == 2


def test_a_trial_times_both_formats_and_changes_neither_weights_nor_random_numbers(model, monkeypatch):
    formats = []

    def loss():
        formats.append(torch.is_autocast_enabled("cpu"))
        return model(input_ids=torch.tensor([[1, 2, 3]])).logits.sum() + torch.rand(())

    torch.manual_seed(3)
    expected = torch.rand(())
    torch.manual_seed(3)
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    found = precision.try_formats(model, loss)
    assert found.keys() == {"no", "bf16"}
    assert all(seconds > 0 for seconds in found.values())
    assert formats == [False] * (1 + precision.PASSES) + [True] * (1 + precision.PASSES)
    assert torch.rand(()) == expected
    assert all(torch.equal(weight, before[name]) for name, weight in model.state_dict().items())
    assert all(weight.grad is None for weight in model.parameters())
