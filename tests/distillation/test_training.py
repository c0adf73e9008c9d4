"""Fine-tuning and distillation: the losses by hand, and their effect on a model."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers import TrainerCallback, TrainingArguments

from firstlib.distillation import training
from firstlib.distillation.loggers import check_loggers
from firstlib.distillation.targets import SoftTargets, Targets, soft_targets
from firstlib.distillation.training import Matching, TrainingRun
from firstlib.knowledge import KnowledgeStore, Origin, TopK, write_store
from firstlib.models import heads, loading
from firstlib.runtime.errors import UserError
from firstlib.settings.schema import Training
from firstlib.tasks import microworld
from firstlib.tasks.encoding import encode

ONE_STEP = Training(epochs=1, global_batch_size=8, lr_warmup_fraction=0.0)  # a warm-up would set the rate to 0
SHORT = Training(epochs=1, global_batch_size=4)


@pytest.fixture(scope="module")
def examples(base_folder, world):
    tokenizer = loading.load_tokenizer(loading.Model(base=str(base_folder)))
    return [encode(tokenizer, q.example()) for q in microworld.ask(world, "boolq", "train", 8, 0)]


@pytest.fixture
def model(base):
    return loading.load_for_training(base, seed=0)


def log_softmax(model, example):
    """The model's log-probabilities `(P, V)` at an example's response positions, from a plain forward pass."""
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([example.token_ids])).logits[0].double()
    return logits[example.start - 1 : -1].log_softmax(-1)


def random_targets(examples, vocabulary, k=5, seed=0):
    rng = np.random.default_rng(seed)
    found = []
    for example in examples:
        positions = len(example.token_ids) - example.start
        ids = np.stack([rng.permutation(vocabulary)[:k] for _ in range(positions)])
        found.append(targets_on(example, ids, rng.dirichlet(np.ones(k), positions)))
    return found


def targets_on(example, token_ids, targets):
    return Targets(example, np.arange(example.start, len(example.token_ids)), token_ids, targets)


def dense_loss(model, targets):
    """Eq. 5 at each position, from the model's own logits."""
    terms = []
    for each in targets:
        s = log_softmax(model, each.example).gather(1, torch.from_numpy(each.token_ids)).numpy()
        terms.append((each.probabilities * (np.log(each.probabilities) - s)).sum(1))
    return float(np.concatenate(terms).mean())


def make_trainer(model, folder, **matching):
    arguments = TrainingArguments(output_dir=str(folder), report_to="none")
    return training.DistillationTrainer(Matching(**matching), model=model, args=arguments)


def weights(model):
    return {name: p.detach().clone() for name, p in model.named_parameters()}


# -- targets -----------------------------------------------------------------------------------------------------


def knowledge_on(example, shift=0):
    position = np.arange(example.start, len(example.token_ids)) + shift
    ids = np.tile(np.arange(5), (len(position), 1))
    return TopK(
        example.id, position, ids, np.full(ids.shape, 0.2), np.zeros(len(position)), np.zeros((len(position), 0))
    )


def test_targets_join_an_example_with_its_knowledge(examples):
    found = soft_targets(examples[0], knowledge_on(examples[0]), lambda item: item.probabilities / 2)
    assert found.example is examples[0]
    np.testing.assert_array_equal(found.probabilities, 0.1)


def test_knowledge_of_other_positions_or_examples_is_refused(examples):
    for wrong in (knowledge_on(examples[0], shift=1), knowledge_on(examples[1])):
        with pytest.raises(ValueError, match=f"{examples[0].id}.*extract again"):
            soft_targets(examples[0], wrong, lambda item: item.probabilities)


def test_targets_are_made_from_the_store_on_demand(examples, tmp_path):
    items = [knowledge_on(example) for example in examples]
    write_store(tmp_path, items[::-1], Origin("t", "t", "d", items[0].token_ids.shape[1]))
    targets = SoftTargets(examples, KnowledgeStore(tmp_path), lambda item: 2 * item.probabilities)
    assert len(targets) == len(examples)
    for example, item, each in zip(examples, items, targets, strict=True):
        assert each.example is example
        np.testing.assert_array_equal(each.token_ids, item.token_ids)
        np.testing.assert_allclose(each.probabilities, 2 * item.probabilities, rtol=2**-11)


# -- the losses --------------------------------------------------------------------------------------------------


def test_the_head_is_applied_to_the_last_hidden_state(model, examples):
    outputs = model(input_ids=torch.tensor([examples[0].token_ids]), output_hidden_states=True)
    body, _ = heads.body_and_head(model)
    torch.testing.assert_close(heads.logits_of(model, outputs.hidden_states[-1]), outputs.logits)
    last = body(input_ids=torch.tensor([examples[0].token_ids])).last_hidden_state
    assert torch.equal(outputs.hidden_states[-1], last)


def test_loss_and_gradient_are_0_if_the_student_equals_the_target(model, examples, tmp_path):
    """If K = V and q = s, the loss and its gradient in every weight are 0."""
    targets = []
    for example in examples[:3]:
        s = log_softmax(model, example).exp().numpy()
        targets.append(targets_on(example, np.tile(np.arange(s.shape[1]), (len(s), 1)), s))
    batch = training._collate(targets)
    make_trainer(model, tmp_path).compute_loss(model, batch).backward()
    largest = max(float(p.grad.abs().max()) for p in model.parameters())
    assert make_trainer(model, tmp_path).compute_loss(model, batch).item() == pytest.approx(0, abs=1e-6)
    assert largest < 1e-6
    uniform = [replace(x, probabilities=np.full_like(x.probabilities, 1 / x.probabilities.shape[1])) for x in targets]
    model.zero_grad()
    make_trainer(model, tmp_path).compute_loss(model, training._collate(uniform)).backward()
    assert max(float(p.grad.abs().max()) for p in model.parameters()) > 1e-4  # another target gives a gradient


def test_the_distillation_loss_is_eq_5_on_the_models_own_logits(model, examples, tmp_path):
    targets = random_targets(examples, heads.body_and_head(model)[1].weight.shape[0])
    expected = dense_loss(model, targets)
    trainer, batch = make_trainer(model, tmp_path), training._collate(targets)
    assert trainer.compute_loss(model, batch).item() == pytest.approx(expected, rel=1e-5)
    assert trainer.compute_loss(model, batch, return_outputs=True)[0].item() == pytest.approx(expected, rel=1e-5)
    trainer.restore_forward()
    assert dense_loss(model, targets) == expected  # the model's own forward pass is restored


def test_a_part_of_a_batch_is_weighted_by_its_positions(model, examples, tmp_path):
    """If two parts know the whole batch's number of positions, their losses add up to its mean."""
    trainer, targets = make_trainer(model, tmp_path), random_targets(examples, 100)
    whole = trainer.compute_loss(model, training._collate(targets)).item()
    count = sum(len(each.probabilities) for each in targets)
    parts = [
        trainer.compute_loss(model, training._collate(part), num_items_in_batch=count).item()
        for part in (targets[:3], targets[3:])
    ]
    assert sum(parts) == pytest.approx(whole, rel=1e-5)


def test_the_reading_of_eq_5_reaches_the_loss(model, examples, tmp_path):
    batch = training._collate(random_targets(examples, 100))
    full, renormalised = (
        make_trainer(model, tmp_path, student=s).compute_loss(model, batch).item() for s in ("full", "renormalised")
    )
    assert full > renormalised + 1  # a random model gives the five tokens little of its mass


def test_fine_tuning_counts_only_response_tokens(model, examples):
    per_token = [
        log_softmax(model, e)[range(len(e.token_ids) - e.start), e.token_ids[e.start :]].numpy() for e in examples
    ]
    expected = -np.concatenate(per_token).mean()
    losses = training.fine_tune(model, examples, ONE_STEP, TrainingRun(1e-3, 0))
    assert losses == [pytest.approx(expected, abs=1e-3)]


def test_distilling_reports_its_loss(model, examples):
    targets = random_targets(examples, 100)
    expected = dense_loss(model, targets)
    losses = training.distill(model, targets, ONE_STEP, TrainingRun(1e-3, 0))
    assert losses == [pytest.approx(expected, abs=1e-3)]


# -- what training does ------------------------------------------------------------------------------------------


def test_fine_tuning_memorises_a_small_set(model, examples):
    losses = training.fine_tune(model, examples[:4], Training(epochs=25, global_batch_size=4), TrainingRun(1e-2, 0))
    assert len(losses) == 25
    assert losses[-1] < 0.1 * losses[0]


def test_distillation_moves_the_student_to_the_targets(model, examples):
    targets = random_targets(examples[:2], 100)
    before = dense_loss(model, targets)
    training.distill(model, targets, Training(epochs=40, global_batch_size=2), TrainingRun(1e-2, 0))
    model.eval()
    assert dense_loss(model, targets) < 0.1 * before
    for each in targets:
        s = log_softmax(model, each.example).exp().gather(1, torch.from_numpy(each.token_ids)).numpy()
        assert np.abs(s - each.probabilities).max() < 0.3


@pytest.mark.parametrize("distilled", [False, True])
def test_the_seed_determines_every_weight(base, examples, distilled):
    def train(seed):
        model = loading.load_for_training(base, seed)
        if distilled:
            targets = random_targets(examples, 100)
            training.distill(model, targets, SHORT, TrainingRun(1e-3, seed))
        else:
            training.fine_tune(model, examples, SHORT, TrainingRun(1e-3, seed))
        return weights(model)

    first, again, other = train(0), train(0), train(1)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


def test_qlora_trains_the_adapter_and_leaves_the_4_bit_weights(base, examples):
    model = loading.load_for_training(base.model_copy(update={"tuning": "qlora"}), seed=0)
    before = weights(model)
    assert any(p.dtype == torch.uint8 for p in before.values())
    targets = random_targets(examples, 100)
    losses = training.distill(model, targets, ONE_STEP, TrainingRun(1e-2, 0))
    assert len(losses) == 1
    changed = {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    assert changed == {name for name in before if ".lora_B." in name}  # A changes only once B is no longer 0
    training.distill(model, targets, ONE_STEP, TrainingRun(1e-2, 0))
    changed = {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    assert changed == {name for name in before if ".lora_" in name}


def test_lora_distils_with_the_same_loss(base, examples):
    model = loading.load_for_training(base.model_copy(update={"tuning": "lora"}), seed=0)
    targets = random_targets(examples, 100)
    expected = dense_loss(model, targets)
    losses = training.distill(model, targets, ONE_STEP, TrainingRun(1e-2, 0))
    assert losses == [pytest.approx(expected, abs=1e-3)]


def test_the_logits_include_the_bias_of_the_head(model, examples):
    head = heads.body_and_head(model)[1]
    head.bias = torch.nn.Parameter(torch.linspace(-3, 3, head.out_features))
    targets = random_targets(examples, 100)
    expected = dense_loss(model, targets)
    losses = training.distill(model, targets, ONE_STEP, TrainingRun(1e-2, 0))
    assert losses == [pytest.approx(expected, abs=1e-3)]
    assert not torch.equal(head.bias.detach(), torch.linspace(-3, 3, head.out_features))  # the bias is trained too


def test_targets_may_cover_part_of_the_response(model, examples, tmp_path):
    targets = random_targets(examples, 100)
    part = [
        replace(x, position=x.position[1:], token_ids=x.token_ids[1:], probabilities=x.probabilities[1:])
        for x in targets
    ]
    terms = []
    for x in part:
        s = log_softmax(model, x.example)[1:].gather(1, torch.from_numpy(x.token_ids)).numpy()
        terms.append((x.probabilities * (np.log(x.probabilities) - s)).sum(1))
    loss = make_trainer(model, tmp_path).compute_loss(model, training._collate(part)).item()
    assert loss == pytest.approx(float(np.concatenate(terms).mean()), rel=1e-5)


def test_accumulated_parts_of_a_batch_give_the_same_step(base, examples):
    trained = []
    for micro_batch_size in (None, 2):
        model = loading.load_for_training(base, seed=0)
        settings = Training(
            epochs=1, global_batch_size=8, lr_warmup_fraction=0.0, micro_batch_size=micro_batch_size,
            adam_epsilon=1e-4,  # Adam's first step would make a full step of a gradient that is rounding alone
        )  # fmt: skip
        training.distill(model, random_targets(examples, 100), settings, TrainingRun(1e-2, 0))
        trained.append(weights(model))
    for name, whole in trained[0].items():
        torch.testing.assert_close(trained[1][name], whole, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("micro_batch_size", "devices"), [(3, 1), (None, 64), (8, 8)])
def test_a_batch_that_cannot_be_divided_is_refused(micro_batch_size, devices):
    with pytest.raises(UserError, match=r"training\.global_batch_size: 32 examples"):
        Training(global_batch_size=32, micro_batch_size=micro_batch_size).batch_sizes(devices)


def test_a_model_is_evaluated_during_training(model, examples):
    seen = []

    def measure(tuned):
        seen.append(tuned.training)
        return {"ece": 0.5}

    settings = Training(epochs=1, global_batch_size=2, eval_steps=3)
    training.fine_tune(model, examples, settings, TrainingRun(1e-3, 0, measure=measure))
    assert seen == [False, False]  # after steps 3 and 4, the last
    assert model.training


def test_the_papers_optimiser_and_schedule():
    arguments = training._arguments(Training(), TrainingRun(2e-5, 3), "scratch")
    assert (arguments.adam_beta1, arguments.adam_beta2, arguments.adam_epsilon) == (0.9, 0.999, 1e-6)
    assert arguments.lr_scheduler_type == "cosine"
    assert arguments.get_warmup_steps(1000) == 30
    assert (arguments.learning_rate, arguments.num_train_epochs, arguments.weight_decay) == (2e-5, 3, 0)
    assert arguments.gradient_accumulation_steps == 1


class Fault(TrainerCallback):
    """Interrupts training after a number of steps, as a crash would."""

    def __init__(self, after):
        self.after = after

    def on_step_begin(self, args, state, control, **kwargs):
        if state.global_step == self.after:
            raise RuntimeError("power cut")


@pytest.mark.parametrize(
    ("tuning", "harm"),
    [
        ("full", None),
        ("lora", None),
        ("qlora", None),
        ("full", "flip the last"),
        ("lora", "leave the last half written"),
    ],
)
def test_training_resumes_from_its_last_intact_checkpoint_to_the_same_weights(
    base, examples, tmp_path, monkeypatch, tuning, harm
):
    spec = base.model_copy(update={"tuning": tuning})
    settings = Training(epochs=2, global_batch_size=2, checkpoint_minutes=1e-9)

    def train(checkpoints):
        model = loading.load_for_training(spec, seed=0)
        run = TrainingRun(1e-2, seed=0, checkpoints=checkpoints)
        losses = training.fine_tune(model, examples, settings, run)
        return losses, {name: p for name, p in weights(model).items() if p.is_floating_point()}

    expected, undisturbed = train(tmp_path / "undisturbed")
    fault, progress = (lambda at: Fault(5)), training.ProgressCallback
    monkeypatch.setattr(training, "ProgressCallback", fault)
    with pytest.raises(RuntimeError, match="power cut"):
        train(tmp_path / "kept")
    monkeypatch.setattr(training, "ProgressCallback", progress)
    last = tmp_path / "kept" / "checkpoint-5"
    assert training.last_checkpoint(tmp_path / "kept") == last
    if harm == "flip the last":
        file = next(last.glob("*.safetensors"))
        content = bytearray(file.read_bytes())
        content[-3] ^= 4
        file.write_bytes(content)
    elif harm:
        (last / "manifest.json").unlink()
    losses, resumed = train(tmp_path / "kept")
    assert losses == expected
    assert all(torch.equal(resumed[name], undisturbed[name]) for name in undisturbed)


def test_training_leaves_no_files_behind(model, examples, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    training.fine_tune(model, examples[:2], ONE_STEP, TrainingRun(1e-3, 0))
    assert list(tmp_path.iterdir()) == []


def test_training_stops_if_the_loss_is_nan(model, examples):
    with torch.no_grad():
        heads.body_and_head(model)[1].weight[3] = float("nan")
    with pytest.raises(UserError, match=r"the loss of step 1 is nan; lower the learning rate"):
        training.fine_tune(model, examples, ONE_STEP, TrainingRun(1e-3, 0))


def test_failed_training_restores_the_models_forward_pass(model, examples):
    def fail(_):
        raise RuntimeError("measure failed")

    run = TrainingRun(1e-3, 0, measure=fail)
    with pytest.raises(RuntimeError, match="measure failed"):
        training.fine_tune(model, examples, Training(epochs=1, global_batch_size=4, eval_steps=1), run)
    assert "forward" not in vars(heads.causal_model(model))
    assert model(input_ids=torch.tensor([examples[0].token_ids])).logits.shape[0] == 1


def test_padding_rows_of_the_head_get_no_mass(model, examples, tmp_path):
    """A head with more rows than tokens trains like the trimmed head."""
    targets = random_targets(examples, 100)
    weight = heads.body_and_head(model)[1].weight
    rows = len(weight)
    expected = make_trainer(model, tmp_path, vocabulary=rows - 3).compute_loss(model, training._collate(targets)).item()
    with torch.no_grad():
        weight[-3:] += 50  # the values of padding rows do not matter
    found = make_trainer(model, tmp_path, vocabulary=rows - 3).compute_loss(model, training._collate(targets)).item()
    assert found == expected
    assert make_trainer(model, tmp_path).compute_loss(model, training._collate(targets)).item() != expected


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (
            ["tensorbord"],
            r"report_to: 'tensorbord' is not a logger of transformers; choose among .*tensorboard",
        ),
        (["tensorboard", "comet_ml"], r"training\.report_to: the package of 'comet_ml' is not installed"),
    ],
)
def test_an_unusable_logger_is_refused_immediately(names, message):
    with pytest.raises(UserError, match=message) as error:
        check_loggers(names)
    assert "\n" not in str(error.value)
