"""What a run would take: computed by hand, and compared with what small models really take."""

import io
import itertools
import json
import weakref

import numpy as np
import pytest
import torch
from peft import get_peft_model
from rich.console import Console
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, Qwen2Config

from firstlib import knowledge
from firstlib.distillation.training import TrainingRun, fine_tune
from firstlib.knowledge import KnowledgeStore, Origin, TopK, write_store
from firstlib.models import heads, loading
from firstlib.planning.anatomy import AutoConfig, anatomy_of, dissect
from firstlib.planning.machines import MACHINES, find_machines
from firstlib.planning.memory import Batch, asking_memory, training_memory
from firstlib.planning.plan import devices_needed, fits, make_scene, remedy, stages
from firstlib.planning.table import plan_table, size
from firstlib.planning.tokens import PUBLISHED, _tokenizer, plan_task, published_count
from firstlib.planning.work import flops_to_train, our_store_bytes, store_bytes, training_flops
from firstlib.runtime.errors import UserError
from firstlib.settings.data import Data
from firstlib.settings.loading import change_settings, load_preset
from firstlib.settings.schema import Model, Training
from firstlib.tasks import hub, microworld
from firstlib.tasks.encoding import Encoded, encode, encode_question, tokens_of
from firstlib.tasks.question import Example
from firstlib.tasks.source import DataSource

CLOSE = 0.15  # allowed relative difference between planned and measured values

SHAPE = {
    "hidden_size": 96, "intermediate_size": 256, "num_hidden_layers": 3, "num_attention_heads": 6,
    "num_key_value_heads": 2, "vocab_size": 512, "max_position_embeddings": 512,
}  # fmt: skip
BATCH = Batch(examples=8, length=96, positions=8 * 48)
LORA = {"rank": 8}


# -- measuring ---------------------------------------------------------------------------------------------------------


class Live(TorchDispatchMode):
    """Tracks the peak bytes of live tensors while it is active, without those that existed before."""

    def __init__(self, before):
        super().__init__()
        self.known = {tensor.untyped_storage()._cdata for tensor in before}
        self.live = self.peak = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for tensor in tree_flatten(result)[0]:
            if isinstance(tensor, torch.Tensor):
                self.note(tensor.untyped_storage())
        return result

    def note(self, storage):
        if storage._cdata not in self.known:
            self.known.add(storage._cdata)
            self.live += storage.nbytes()
            self.peak = max(self.peak, self.live)
            weakref.finalize(storage, self.forget, storage._cdata, storage.nbytes())

    def forget(self, key, count):
        self.known.discard(key)
        self.live -= count


def tensors(model):
    """Every tensor that a model holds, including the quantisation state of its weights."""
    states = [p.quant_state for p in model.parameters() if getattr(p, "quant_state", None) is not None]
    beside = [part for s in states for part in (s.absmax, s.code, s.offset, s.state2.absmax, s.state2.code)]
    return [*model.parameters(), *model.buffers(), *beside]


def bytes_of(found):
    return sum(part.nbytes for part in {t.untyped_storage()._cdata: t for t in found}.values())


def loaded(spec, tmp_path, config=None):
    """A small random model as the library loads it for training."""
    if spec.tuning == "qlora":
        folder = tmp_path / "base"
        LlamaForCausalLM(config or LlamaConfig(**SHAPE)).save_pretrained(folder)
        return loading.load_for_training(spec.model_copy(update={"base": str(folder)}), seed=0).train()
    base = AutoModelForCausalLM.from_config(config or LlamaConfig(**SHAPE)).to(getattr(torch, spec.dtype))
    return (base if spec.tuning == "full" else get_peft_model(base, loading._lora_config(spec))).train()


def saved_bytes(model, batch, mixed):
    """Bytes that autograd saves in a forward pass, without weights and logits."""
    own = {t.untyped_storage().data_ptr() for t in tensors(model)}
    found = {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            found[storage.data_ptr()] = storage
        return tensor

    ids = torch.randint(0, 512, (batch.examples, batch.length))
    mask = torch.ones_like(ids)
    mask[0, -5:] = 0
    with (
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
        torch.autocast("cpu", dtype=torch.bfloat16, enabled=mixed),
    ):
        output = heads.causal_model(model).model(input_ids=ids, attention_mask=mask, use_cache=False)
    assert output.last_hidden_state.requires_grad
    return sum(storage.nbytes() for storage in found.values())


def examples(count, batch, vocabulary=512):
    rng = np.random.default_rng(0)
    start = batch.length - batch.positions // batch.examples
    return [Encoded(f"e{i}", rng.integers(0, vocabulary, batch.length).tolist(), start) for i in range(count)]


# -- memory ------------------------------------------------------------------------------------------------------------

TUNINGS = [
    Model(base="small"),
    Model(base="small", dtype="bfloat16"),
    Model(base="small", tuning="lora", lora=LORA),
    Model(base="small", tuning="lora", dtype="bfloat16", lora=LORA),
    Model(base="small", tuning="qlora", dtype="bfloat16", lora=LORA),
]


def named(spec):
    return f"{spec.tuning}-{spec.dtype}"


@pytest.mark.parametrize("spec", TUNINGS, ids=named)
def test_planned_weights_gradients_and_moments_match_a_step(spec, tmp_path):
    config = LlamaConfig(**{**SHAPE, "hidden_size": 192, "intermediate_size": 512})
    model = loaded(spec, tmp_path, config)
    planned = training_memory(dissect(config, "test"), spec, Training(), BATCH)
    optimiser = torch.optim.AdamW(p for p in model.parameters() if p.requires_grad)
    model(input_ids=torch.zeros(1, 4, dtype=torch.long), labels=torch.zeros(1, 4, dtype=torch.long)).loss.backward()
    optimiser.step()
    moments = [s[name] for s in optimiser.state.values() for name in ("exp_avg", "exp_avg_sq")]
    assert planned.weights == pytest.approx(bytes_of(tensors(model)), rel=0.03)
    assert planned.gradients == bytes_of(p.grad for p in model.parameters() if p.grad is not None) > 0
    assert planned.optimiser == bytes_of(moments)


@pytest.mark.parametrize("mixed", [False, True], ids=["alone", "mixed"])
@pytest.mark.parametrize("spec", TUNINGS, ids=named)
def test_planned_activations_match_what_autograd_saves(spec, mixed, tmp_path):
    model = loaded(spec, tmp_path)
    training = Training(mixed_precision="bf16" if mixed else "no")
    copied = mixed and spec.tuning != "qlora" and spec.dtype == "float32"
    planned = training_memory(dissect(LlamaConfig(**SHAPE), "test"), spec, training, BATCH)
    copies = planned.weights - training_memory(dissect(LlamaConfig(**SHAPE), "test"), spec, Training(), BATCH).weights
    assert (copies > 0) == copied
    assert planned.activations + copies == pytest.approx(saved_bytes(model, BATCH, mixed), rel=0.08)


def test_planned_activations_match_for_a_family_with_grouped_keys_and_biases(tmp_path):
    config = Qwen2Config(**{**SHAPE, "hidden_size": 192, "num_attention_heads": 12, "num_key_value_heads": 2})
    spec = Model(base="small")
    planned = training_memory(dissect(config, "test"), spec, Training(), BATCH)
    assert planned.activations == pytest.approx(saved_bytes(loaded(spec, tmp_path, config), BATCH, False), rel=0.08)


@pytest.mark.parametrize("checkpointing", [False, True], ids=["whole", "checkpointed"])
@pytest.mark.parametrize("spec", [TUNINGS[0], TUNINGS[3], TUNINGS[4]], ids=named)
def test_training_memory_peaks_as_planned(spec, checkpointing, tmp_path):
    config = LlamaConfig(**SHAPE)
    model = loaded(spec, tmp_path, config)
    training = Training(
        epochs=1,
        global_batch_size=2 * BATCH.examples,
        micro_batch_size=BATCH.examples,
        gradient_checkpointing=checkpointing,
    )
    planned = training_memory(dissect(config, "test"), spec, training, BATCH)
    weights = tensors(model)
    with Live(weights) as live:  # two steps of two batches, so that moments and gradients exist
        fine_tune(model, examples(4 * BATCH.examples, BATCH), training, TrainingRun(learning_rate=1e-4, seed=0))
    assert planned.total == pytest.approx(bytes_of(weights) + live.peak, rel=CLOSE)


@pytest.mark.parametrize("vocabulary", [512, 16_384], ids=["blocks", "logits"])
@pytest.mark.parametrize("spec", TUNINGS[:4], ids=named)
def test_asking_memory_peaks_as_planned(spec, vocabulary, tmp_path):
    config = LlamaConfig(**{**SHAPE, "vocab_size": vocabulary})
    model = loaded(spec, tmp_path, config).eval()
    weights = tensors(model)
    with Live(weights) as live:
        found = list(knowledge.extract_top_k(model, examples(BATCH.examples, BATCH, vocabulary), 5, BATCH.examples))
    assert len(found) == BATCH.examples
    planned = asking_memory(dissect(config, "test"), spec, BATCH)
    assert planned.total == pytest.approx(bytes_of(weights) + live.peak, rel=CLOSE)


def test_devices_share_training_state_but_not_activations():
    shape = dissect(LlamaConfig(**{**SHAPE, "num_hidden_layers": 40}), "test")
    alone, sharded = (training_memory(shape, Model(base="small"), Training(), BATCH, n) for n in (1, 8))
    assert sharded.gradients == alone.gradients / 8
    assert sharded.optimiser == alone.optimiser / 8
    assert sharded.activations == alone.activations
    others = shape.parameters - shape.linear
    assert sharded.weights == alone.weights / 8 + 4 * (2 * shape.linear / 40 + others)  # two blocks and the rest whole


# -- operations --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("checkpointing", [False, True], ids=["whole", "checkpointed"])
@pytest.mark.parametrize("spec", TUNINGS[::2][:2], ids=named)
def test_planned_operations_of_a_training_step_match_the_counted_ones(spec, checkpointing, tmp_path):
    config = LlamaConfig(**{**SHAPE, "hidden_size": 192, "intermediate_size": 768, "tie_word_embeddings": True})
    model = loaded(spec.model_copy(update={"lora": spec.lora.model_copy(update={"rank": 1})}), tmp_path, config)
    if checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    ids = torch.zeros(4, 16, dtype=torch.long)
    with FlopCounterMode(display=False) as counter:
        model(input_ids=ids, labels=ids, use_cache=False).loss.backward()
    each = flops_to_train(spec, Training(gradient_checkpointing=checkpointing))
    assert each == {"full": 6, "lora": 4}[spec.tuning] + 2 * checkpointing
    parameters = dissect(config, "test").parameters
    planned = training_flops(parameters, ids.numel(), 1, each)
    assert planned == pytest.approx(counter.get_total_flops(), rel=CLOSE)


def test_six_operations_per_parameter_token_and_epoch():
    assert training_flops(parameters=7, tokens=11, epochs=3) == 6 * 7 * 11 * 3
    assert training_flops(7_000_000_000, 200_000_000, 3) == pytest.approx(2.52e19)


def test_every_stages_operations_by_hand(tiny_preset, base):
    settings = load_preset(str(tiny_preset))
    p, tokens = loading.parameter_count(base), {}
    for task, split in itertools.product(("csqa", "alpaca", "obqa"), ("train", "validation", "test")):
        tokens[task, split] = plan_task(settings, task, split).tokens
    trained = tokens["csqa", "train"] + tokens["alpaca", "train"]
    asked = 2 * tokens["csqa", "test"] + tokens["obqa", "test"]  # csqa is a test set of both columns
    bases = tokens["csqa", "test"] + tokens["obqa", "test"]
    validated = tokens["csqa", "validation"] + tokens["alpaca", "validation"]
    found = [stage.flops for stage in stages(settings, make_scene(settings))]
    assert found == [6 * p * trained, 2 * p * trained, 4 * 6 * p * trained, 2 * p * (5 * asked + 2 * bases + validated)]


@pytest.mark.parametrize("place", ["server=http://127.0.0.1:9/v1", "imported=answers"])
def test_a_teacher_elsewhere_is_not_counted(tiny_preset, place):
    preset, changes = str(tiny_preset), (f"knowledge.{place}", "teacher.base=/no/such/folder")
    settings = load_preset(preset, changes)
    scene, whole = make_scene(settings), load_preset(preset)
    assert [stage.name for stage in stages(settings, scene)] == ["train students", "answer"]
    here = stages(whole, make_scene(whole))
    assert stages(settings, scene)[0] == here[2]
    assert stages(settings, scene)[1].flops < here[3].flops
    console = Console(width=160, record=True, file=io.StringIO())
    console.print(plan_table(preset, changes))
    text = console.export_text()
    assert f"teacher at {place.partition('=')[2]}, which the plan does not count" in text
    assert "no/such" not in text


# -- stores ------------------------------------------------------------------------------------------------------------


def test_the_papers_store_size_by_its_own_count():
    positions = 100_000 * 2048
    assert store_bytes(positions, 5) == 12_288_000_000
    assert store_bytes(positions, 50_000) == 122_880_000_000_000  # "120 TB"


def zipf_teacher(vocabulary, k, documents=100, positions=50):
    """A teacher whose tokens follow Zipf's law independently at every position, so that nothing repeats."""
    rng = np.random.default_rng(0)
    prior = -np.log(np.arange(1, vocabulary + 1))
    for document in range(documents):
        scores = prior + rng.gumbel(size=(positions, vocabulary))
        ids = np.argpartition(-scores, k, axis=1)[:, :k]
        top = np.take_along_axis(scores, ids, axis=1)
        order = (-top).argsort(axis=1)
        weights = np.exp(2 * (scores - scores.max(axis=1, keepdims=True)))
        q = np.exp(2 * (np.take_along_axis(top, order, 1) - scores.max(axis=1, keepdims=True)))
        q /= weights.sum(axis=1, keepdims=True)
        ids = np.take_along_axis(ids, order, 1)
        yield TopK(
            f"text-{document:05d}", np.arange(90, 90 + positions), ids, q, 1 - q.sum(axis=1), np.zeros((positions, 0))
        )


@pytest.mark.parametrize("k", [1, 5, 100])
def test_our_store_takes_the_planned_size_if_nothing_repeats(k, tmp_path):
    write_store(tmp_path, zipf_teacher(2000, k), Origin("teacher", "tokenizer", "data", k))
    store = KnowledgeStore(tmp_path)
    assert our_store_bytes(store.positions, k, 2000) == pytest.approx(store.size, rel=CLOSE)


def test_our_store_is_far_smaller_than_the_papers_count():
    for vocabulary in (32_000, 152_064):
        assert our_store_bytes(1000, 5, vocabulary) < 0.4 * store_bytes(1000, 5)


# -- tokens ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", ["csqa", "alpaca"])
def test_a_plan_counts_every_token_if_the_sample_is_complete(tiny_preset, base, world, task):
    plan = plan_task(load_preset(str(tiny_preset)), task)
    tokenizer = loading.load_tokenizer(base)
    encoded = [encode(tokenizer, q.example()) for q in microworld.ask(world, task, "train", 24, 0)]
    assert (plan.task, plan.examples, plan.basis) == (task, 24, "sampled")
    assert plan.tokens == sum(len(e.token_ids) for e in encoded)
    assert plan.positions == sum(len(e.token_ids) - e.start for e in encoded)
    assert plan.longest == max(len(e.token_ids) for e in encoded)


def test_a_smaller_sample_is_scaled_up(tiny_preset):
    settings = load_preset(str(tiny_preset))
    whole, sampled = plan_task(settings, "csqa"), plan_task(settings, "csqa", sample=6)
    assert sampled.examples == 24
    assert sampled.tokens % 4 == 0
    assert sampled.tokens == pytest.approx(whole.tokens, rel=0.1)


@pytest.mark.parametrize("test", [None, 40])
@pytest.mark.parametrize("task", ["csqa", "boolq", "obqa", "alpaca"])
def test_published_rows_are_split_as_the_library_splits_them(task, test):
    settings = change_settings(load_preset("llama2-13b-7b"), sizes={"validation": 70, "test": test})
    rows = {
        split: hub.PublishedSplit([Example(f"{split}-{i}", "", "") for i in range(count)], {})
        for split, count in PUBLISHED[task].rows.items()
    }
    for split in ("train", "validation", "test"):
        count = settings.count(task, split)
        chosen = hub.choose(rows, split, seed=0, count=count, validation=70, test=test)
        assert published_count(settings, task, split) == len(chosen) > 0


def test_the_hubs_data_sets_are_planned_without_the_hub():
    plan = plan_task(load_preset("llama1-33b-7b"), "boolq")
    assert (plan.examples, plan.longest, plan.basis) == (9427 - 1000, 1024, "stated")
    assert plan.tokens == round(8427 * 216.2)
    assert plan_task(load_preset("smollm2-360m-135m-laptop"), "boolq").longest == 512


def files(folder, base_folder, **data):
    rows = [
        {"id": f"r{i}", "question": "Is it so?", "choices": ["yes", "no"], "answer": "yes"} for i in range(30)
    ]  # of letters and words that the microworld's tokenizer knows
    (folder / "own.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    return change_settings(
        load_preset("microworld"),
        data=Data(source="hub", own=str(folder / "own.jsonl"), **data).model_dump(),
        columns=[{"setting": "in-domain", "train": "own", "test": ["own"]}],
        sizes={"train": None, "validation": 5, "test": 10},
        student__base=str(base_folder),
    )


def test_a_users_own_file_is_counted(tmp_path, monkeypatch, base_folder):
    settings = files(tmp_path, base_folder)
    monkeypatch.setattr("firstlib.tasks.source.check_taught", lambda *_: None)  # another test covers it
    found = {split: plan_task(settings, "own", split) for split in ("train", "validation", "test")}
    assert {split: plan.examples for split, plan in found.items()} == {"train": 15, "validation": 5, "test": 10}
    assert found["train"].basis == "counted"
    assert found["train"].tokens == 15 * found["train"].longest  # all have the same length


def test_candidates_that_are_text_are_all_read(tmp_path, monkeypatch, bytes_folder):
    monkeypatch.setattr("firstlib.tasks.source.check_taught", lambda *_: None)
    settings = files(tmp_path, bytes_folder, candidates="text", max_length=500)
    letters, text = (
        plan_task(change_settings(settings, data__candidates=kind), "own", "test") for kind in ("letters", "text")
    )
    question = DataSource(settings, 0, lambda: loading.load_tokenizer(settings.student), lambda: None)
    stem, candidates = encode_question(loading.load_tokenizer(settings.student), question.items("own", "test")[0])
    read = sum(len(tokens_of(candidate)) for candidate in candidates)
    assert len(candidates) == 2
    assert read > 2
    assert (text.tokens, text.positions) == (10 * (len(stem) + read), 10 * read)
    assert (letters.examples, letters.longest) == (text.examples, letters.longest)


def test_a_users_own_file_needs_a_tokenizer(tmp_path, monkeypatch, base_folder):
    settings = files(tmp_path, base_folder, max_length=99)

    def missing(_):
        raise UserError("not there")

    monkeypatch.setattr(loading, "load_tokenizer", missing)
    _tokenizer.cache_clear()
    with pytest.raises(UserError, match=r"tokens of own need the tokenizer of .*not available"):
        plan_task(settings, "own")


# -- models ------------------------------------------------------------------------------------------------------------


def test_a_local_model_is_read_from_its_folder(base):
    found = anatomy_of(base)
    assert found.source == "its folder"
    assert found.parameters == loading.parameter_count(base)
    assert (found.width, found.attention, found.inner, found.layers) == (64, 64, 128, 2)


def test_an_unknown_model_without_the_hub_is_reported_in_one_line(monkeypatch):
    def missing(*_, **__):
        raise OSError

    monkeypatch.setattr(AutoConfig, "from_pretrained", missing)
    with pytest.raises(UserError, match="'nobody/nothing': its configuration is neither built in nor available"):
        anatomy_of(Model(base="nobody/nothing"))


@pytest.fixture
def commits(monkeypatch):
    """What the hub is asked for: a model that has one layer on its main branch and two at any other commit."""
    asked = []

    def found(name, local_files_only=False, **which):
        if local_files_only:
            raise OSError
        asked.append((name, which))
        return LlamaConfig(**SHAPE | {"num_hidden_layers": {"main": 1}.get(which.get("revision"), 2)})

    monkeypatch.setattr(AutoConfig, "from_pretrained", found)
    return asked


def test_a_model_is_planned_as_of_its_commit(commits):
    layers = {revision: anatomy_of(Model(base="a/pinned", revision=revision)).layers for revision in ("main", "0f1e")}
    assert layers == {"main": 1, "0f1e": 2}
    asked = [("a/pinned", {"revision": one, "trust_remote_code": False}) for one in layers]
    assert commits == asked


def test_a_models_own_code_is_run_only_where_it_is_trusted_and_with_a_warning(commits):
    anatomy_of(Model(base="a/own-code"))
    with pytest.warns(UserWarning, match="'a/own-code': trust_remote_code is set, so code from the model is run"):
        anatomy_of(Model(base="a/own-code", trust_remote_code=True))
    assert [which["trust_remote_code"] for _, which in commits] == [False, True]


# -- machines and remedies ---------------------------------------------------------------------------------------------


def test_hours_are_operations_divided_by_the_reached_speed():
    (machine,) = find_machines("a100")
    day = 312e12 * 0.40 * 3600 * 24
    assert machine.hours(day, half=True) == pytest.approx(24)
    assert machine.hours(day, half=True, devices=8) == pytest.approx(3)
    assert machine.hours(day, half=False) == pytest.approx(24 * 312 / 19.5)


def test_machines_are_found_by_part_of_their_name():
    assert find_machines(None) == MACHINES
    assert [machine.name for machine in find_machines("rtx4090")] == ["RTX 4090"]
    with pytest.raises(UserError, match=r"'TPU': not in the table; choose one of laptop CPU, RTX 4090"):
        find_machines("TPU")


@pytest.mark.parametrize(("preset", "gpu"), [("llama1-33b-7b", "4090"), ("llama2-13b-7b", "H100")])
def test_a_remedy_makes_a_run_fit_without_unnecessary_changes(preset, gpu):
    settings, (machine,) = load_preset(preset), find_machines(gpu)
    scene = make_scene(settings)
    assert not fits(stages(settings, scene), machine)
    changes = remedy(settings, scene, machine, devices=1)
    assert "teacher.tuning" in changes

    def fitting(chosen):
        changed = change_settings(settings, **{key.replace(".", "__"): value for key, value in chosen.items()})
        return fits(stages(changed, scene), machine)

    assert fitting(changes)
    for key in changes:
        assert not fitting({other: value for other, value in changes.items() if other != key})


def test_more_devices_are_a_remedy_only_if_they_suffice():
    settings, (machine,) = load_preset("llama1-33b-7b"), find_machines("A100")
    scene = make_scene(settings)
    assert devices_needed(settings, scene, machine, 1) == 8
    assert not fits(stages(settings, scene, 4), machine)
    assert devices_needed(settings, scene, find_machines("laptop")[0], 1) is None  # asking is not sharded


# -- the table ---------------------------------------------------------------------------------------------------------


def printed(*arguments, width=80, **options):
    output = io.StringIO()
    Console(file=output, width=width).print(plan_table(*arguments, **options))
    return output.getvalue()


def cells(text, name):
    line = next(line for line in text.splitlines() if line.strip().startswith(name))
    return line.strip().removeprefix(name).split()


def test_the_table_shows_every_number(tiny_preset, base):
    text = printed(str(tiny_preset), ("training.epochs=3",))
    count = f"{loading.parameter_count(base):,}"
    assert cells(text, "teacher  ")[:3] == [count, "full", count]
    plan = plan_task(load_preset(str(tiny_preset)), "csqa")
    assert cells(text, "csqa train")[:3] == ["24", f"{plan.tokens:,}", f"{plan.positions:,}"]
    paper = [f"{12 * k * plan.positions / 1000:.0f}" for k in (1, 5, 100)]
    assert cells(text, "csqa, the paper's count")[:6:2] == paper
    assert cells(text, "RTX 4090")[-1] == "yes"
    assert "sampled" in text


def test_a_plan_fits_eighty_columns_and_names_a_remedy():
    text = printed("llama1-33b-7b", gpu="4090")
    assert max(map(len, text.splitlines())) <= 80
    assert "…" not in text
    assert "the built-in table" in text
    assert cells(text, "teacher  ") == [
        "32,528,943,616", "full", "32,528,943,616", "32,000", "65", "GB",
    ]  # fmt: skip
    assert cells(text, "RTX 4090")[-1] == "no"
    help_text = " ".join(text.split())
    assert "GiB to train teacher" in help_text
    assert "can use 22 of its 24. It fits with --set" in help_text
    assert "--set teacher.tuning=qlora" in help_text
    assert "laptop" not in text


def test_several_devices_are_planned():
    text = printed("llama1-33b-7b", gpu="A100", devices=8)
    assert "Time on 8 devices" in text
    assert cells(text, "A100 80 GB")[-1] == "yes"
    with pytest.raises(UserError, match="3 devices"):
        plan_table("llama1-33b-7b", devices=3)


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1 kB"), (12_288_000_000, "12 GB"), (122_880_000_000_000, "122.9 TB")],
)
def test_sizes_are_written_in_decimal_units(count, text):
    assert size(count) == text
