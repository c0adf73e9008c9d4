"""Properties that hold for every input: measures, maps, the store and the sparse loss, each against its definition."""

import math
import string
from contextlib import contextmanager, nullcontext
from itertools import pairwise, product

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from firstlib import metrics
from firstlib.distillation import losses
from firstlib.distillation.losses import top_k_kl
from firstlib.distillation.recalibration import (
    DIRECT_FLOOR,
    Map,
    direct,
    label_smoothing,
    logit_temperature,
    recalibrate,
    temperature,
)
from firstlib.knowledge import KnowledgeStore, Origin, TopK, write_store
from firstlib.metrics import Binning

few = settings(max_examples=250, deadline=None)
BINNINGS = st.sampled_from(list(Binning))
BINS = st.integers(1, 30)

# On bin edges, just below them, at both ends, and anywhere.
CONFIDENCES = st.one_of(
    st.floats(0, 1),
    st.integers(0, 30).map(lambda i: i / 30),
    st.integers(0, 10).map(lambda i: float(np.nextafter(i / 10, 0))).filter(lambda c: c >= 0),
)
PREDICTIONS = st.lists(st.tuples(CONFIDENCES, st.booleans()), min_size=1, max_size=60)


def columns(predictions):
    """Splits predictions into confidences and outcomes."""
    return np.array([c for c, _ in predictions]), np.array([right for _, right in predictions])


# -- measures ----------------------------------------------------------------------------------------------------


def bins_by_definition(confidence, edges):
    """Yields the rows in each bin (low, high]; 0 is in the first bin."""
    for number, (low, high) in enumerate(pairwise(edges)):
        yield [row for row, c in enumerate(confidence) if low < c <= high or (number == 0 and c == 0)]


def ece_by_definition(confidence, correct, edges):
    total = 0.0
    for rows in bins_by_definition(confidence, edges):
        if rows:
            gap = math.fsum(correct[row] for row in rows) - math.fsum(confidence[row] for row in rows)
            total += abs(gap)
    return total / len(confidence)


def debiased_by_definition(confidence, correct, edges):
    """Kumar, Liang and Ma: each bin's squared gap minus its chance variance, for bins with two rows or more."""
    total = 0.0
    for rows in bins_by_definition(confidence, edges):
        if len(rows) > 1:
            accuracy = math.fsum(correct[row] for row in rows) / len(rows)
            gap = accuracy - math.fsum(confidence[row] for row in rows) / len(rows)
            total += len(rows) / len(confidence) * (gap**2 - accuracy * (1 - accuracy) / (len(rows) - 1))
    return math.sqrt(max(total, 0.0))


@few
@given(PREDICTIONS, BINS, BINNINGS)
def test_ece_is_its_definition_and_lies_between_0_and_1(predictions, bins, binning):
    confidence, correct = columns(predictions)
    found = metrics.ece(confidence, correct, bins, binning)
    edges = metrics.reliability(confidence, correct, bins, binning).edges
    assert 0 <= found <= 1
    assert found == pytest.approx(ece_by_definition(confidence, correct, edges), abs=1e-12)


@few
@given(PREDICTIONS, BINS, BINNINGS)
def test_debiased_ece_is_its_definition_and_lies_between_0_and_1(predictions, bins, binning):
    confidence, correct = columns(predictions)
    found = metrics.debiased_ece(confidence, correct, bins, binning)
    edges = metrics.reliability(confidence, correct, bins, binning).edges
    assert 0 <= found <= 1
    assert found**2 == pytest.approx(debiased_by_definition(confidence, correct, edges) ** 2, abs=1e-12)


@few
@given(PREDICTIONS, BINS, BINNINGS, st.randoms(use_true_random=False))
def test_no_measure_depends_on_the_order_of_rows(predictions, bins, binning, random):
    shuffled = random.sample(predictions, len(predictions))
    for measure in (metrics.ece, metrics.mce, metrics.debiased_ece):
        one, other = (measure(*columns(each), bins, binning) for each in (predictions, shuffled))
        assert one**2 == pytest.approx(other**2, abs=1e-12)


@few
@given(PREDICTIONS, BINS, st.integers(2, 5))
def test_repeating_all_rows_changes_no_measure(predictions, bins, times):
    one, many = columns(predictions), columns(predictions * times)
    for measure in (metrics.ece, metrics.mce):
        assert measure(*one, bins) == pytest.approx(measure(*many, bins), abs=1e-12)
    split = metrics.calibration_refinement
    assert split(*one, bins).total == pytest.approx(split(*many, bins).total, abs=1e-12)
    assert metrics.smooth_ece(*one) == pytest.approx(metrics.smooth_ece(*many), abs=1e-3)  # it has a density floor


@few
@given(PREDICTIONS, BINS)
def test_confidence_equal_to_its_bins_accuracy_has_no_error(predictions, bins):
    confidence, correct = columns(predictions)
    found = metrics.reliability(confidence, correct, bins)
    levels = np.nan_to_num(found.accuracy)[metrics.bins.bin_index(confidence, found.edges)]
    assert metrics.ece(levels, correct, bins) <= 1e-12
    assert metrics.mce(levels, correct, bins) <= 1e-12


@few
@given(PREDICTIONS)
def test_ece_lies_between_the_one_bin_ece_and_the_mean_absolute_gap(predictions):
    confidence, correct = columns(predictions)
    least, most = abs(correct.mean() - confidence.mean()), np.abs(correct - confidence).mean()
    for bins in (1, 2, 10, 25):
        assert least - 1e-12 <= metrics.ece(confidence, correct, bins) <= most + 1e-12


@few
@given(PREDICTIONS)
def test_smooth_ece_lies_between_0_and_1_and_is_continuous(predictions):
    confidence, correct = columns(predictions)
    found = metrics.smooth_ece(confidence, correct)
    assert 0 <= found <= 1
    moved = np.clip(confidence + 1e-7, 0, 1)
    assert metrics.smooth_ece(moved, correct) == pytest.approx(found, abs=2e-3)


def chances(confidence):
    """Yields every possible outcome with its probability if the confidences are right."""
    for outcome in product([False, True], repeat=len(confidence)):
        yield math.prod(c if right else 1 - c for c, right in zip(confidence, outcome, strict=True)), outcome


@settings(max_examples=60, deadline=None)
@given(st.lists(CONFIDENCES, min_size=1, max_size=6), BINS, BINNINGS, st.integers(0, 2**32 - 1))
def test_the_noise_floor_is_the_mean_over_all_outcomes(confidence, bins, binning, seed):
    found = metrics.noise_floor(confidence, bins, draws=2000, seed=seed, binning=binning)
    assert 0 <= found.mean <= 1
    assert 0 <= found.percentile_95 <= 1
    errors = [(chance, metrics.ece(confidence, outcome, bins, binning)) for chance, outcome in chances(confidence)]
    mean = math.fsum(chance * error for chance, error in errors)
    variance = math.fsum(chance * (error - mean) ** 2 for chance, error in errors)
    bound = math.sqrt(60 * variance / 2000) + 30 / 2000  # Bernstein's inequality: exceeded once in 10^12 times
    assert found.mean == pytest.approx(mean, abs=bound)


@settings(max_examples=60, deadline=None)
@given(PREDICTIONS, st.integers(0, 100))
def test_the_bootstrap_interval_contains_its_estimate(predictions, seed):
    found = metrics.bootstrap_ece(*columns(predictions), resamples=50, seed=seed)
    assert 0 <= found.low <= found.estimate <= found.high
    assert found.estimate == pytest.approx(metrics.ece(*columns(predictions)), abs=1e-12)


# -- maps --------------------------------------------------------------------------------------------------------


@st.composite
def tops(draw, least=0.0):
    """Rows of k probabilities in descending order; some are 0, some tiny, some leave no residual."""
    shape = draw(st.integers(1, 4)), draw(st.integers(2, 12))
    weight = st.one_of(st.floats(least, 1), st.sampled_from([1e-30, 1e-9, 1.0]) if least == 0 else st.just(1.0))
    found = np.array([[draw(weight) for _ in range(shape[1])] for _ in range(shape[0])])
    found[:, 0] += 1e-6  # the first is never 0
    found /= found.sum(axis=1, keepdims=True) * draw(st.sampled_from([1.0, 1.001, 1.5, 20.0]))
    return -np.sort(-found, axis=1)


COEFFICIENTS = st.one_of(st.floats(0.02, 5), st.sampled_from([1e-300, 1e-6, 1e6, 1e300]))


def falls(rows):
    return (np.diff(rows, axis=1) <= 1e-12).all()


@few
@given(tops(), st.sampled_from([Map.NONE, Map.TEMPERATURE, Map.LOGIT_TEMPERATURE]), COEFFICIENTS)
def test_targets_are_complete_distributions_in_the_teachers_order(p, kind, coefficient):
    q = recalibrate(p, kind, coefficient)
    np.testing.assert_allclose(q.sum(axis=1), 1, atol=1e-9)
    assert (q >= 0).all()
    assert falls(q)


@few
@given(tops(), st.floats(0, 1))
def test_smoothing_keeps_the_sum_and_reports_what_it_swaps(p, moved):
    found = label_smoothing(p, moved)
    np.testing.assert_allclose(found.targets.sum(axis=1), p.sum(axis=1), atol=1e-12)
    assert (found.targets >= 0).all()
    assert falls(found.targets[:, 1:])
    assert found.swapped.tolist() == [row[1:].max() > row[0] for row in found.targets]
    assert found.limited.tolist() == (p[:, 0] < moved).tolist()
    assert (found.targets[found.limited, 0] == 0).all()


@few
@given(tops(least=0.05))
def test_extreme_temperatures_give_equal_shares_or_one_token(p):
    k, clear = p.shape[1], p[:, 0] > p[:, 1] + 1e-3
    for scale in (temperature, logit_temperature):
        np.testing.assert_allclose(scale(p, 1e9), 1 / k, atol=1e-6)
        np.testing.assert_allclose(scale(p, 1e-6)[clear, 0], 1)
    np.testing.assert_allclose(logit_temperature(p, 1.0), p / p.sum(axis=1, keepdims=True))


@few
@given(tops(), st.floats(0.02, 2), st.floats(1.01, 3))
def test_a_larger_coefficient_never_raises_the_first_target(p, coefficient, factor):
    for scale in (temperature, logit_temperature):
        assert (scale(p, coefficient * factor)[:, 0] <= scale(p, coefficient)[:, 0] + 1e-12).all()


@few
@given(tops(), st.floats(0.02, 5))
def test_eq_4_is_bounded_by_its_value_for_a_certain_teacher(p, coefficient):
    k = p.shape[1]
    most = 1 / (1 + (k - 1) * math.exp(-1 / coefficient))
    assert (temperature(p, coefficient) <= most + 1e-12).all()


@few
@given(tops())
def test_direct_targets_keep_ratios_up_to_the_floor(p):
    q = direct(p)
    lifted = p.sum(axis=1, keepdims=True) + DIRECT_FLOOR * p.shape[1]
    np.testing.assert_allclose(q * lifted, p + DIRECT_FLOOR, rtol=1e-12)


# -- the store ---------------------------------------------------------------------------------------------------

IDS = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12),
    st.sampled_from(
        ["../../etc/passwd", "a\nb", "\x00", "NaN", "None", "tea 🍵", "e\u0301", "\u00e9", " ", "1", "1.0"]
    ),
)


@st.composite
def knowledge(draw):
    """Items with one k and any lengths, like a teacher's top k."""
    k, normalisers = draw(st.integers(1, 8)), draw(st.integers(0, 2))
    lengths = draw(st.dictionaries(IDS, st.integers(1, 7), min_size=1, max_size=8))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    tiny = draw(st.sampled_from([1.0, 1e-7, 1e-30]))

    def item(name, length):
        p = -np.sort(-random.dirichlet(np.ones(k + 1) * 0.3, length), axis=1)
        residual = p[:, -1] * tiny
        ids = np.array([random.permutation(2**31 - 1 - np.arange(50))[:k] for _ in range(length)])
        start = int(random.integers(0, 1000))
        logs = random.normal(0, 50, (length, normalisers)).astype(np.float32)
        return TopK(name, np.arange(start, start + length), ids, p[:, :k], residual, logs)

    return k, normalisers, [item(name, length) for name, length in lengths.items()]


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(knowledge(), st.sampled_from([1, 3, 2**17]))
def test_a_store_returns_every_example_by_name(tmp_path_factory, monkeypatch, kept, rows):
    k, normalisers, items = kept
    monkeypatch.setattr("firstlib.knowledge.store.ROW_GROUP_SIZE", rows)
    folder = tmp_path_factory.mktemp("store")
    origin = Origin("t", "v", "d", k, tuple(float(i + 1) for i in range(normalisers)))
    write_store(folder, items, origin)
    store = KnowledgeStore(folder, origin)
    assert [item.example_id for item in store] == [item.example_id for item in items]
    for item in items:
        found = store[item.example_id]
        np.testing.assert_array_equal(found.position, item.position)
        np.testing.assert_array_equal(found.token_ids, item.token_ids)
        np.testing.assert_array_equal(found.log_normalisers, item.log_normalisers)
        for before, after in ((item.probabilities, found.probabilities), (item.residual, found.residual)):
            np.testing.assert_allclose(after, before, rtol=2**-11 + 2**-24, atol=2**-126)
            assert (after <= 1).all()
        assert (np.diff(found.probabilities, axis=1) <= 0).all()


@few
@given(st.text(string.printable, min_size=1))
def test_a_store_contains_only_the_names_written(store_of_one, name):
    assert (name in store_of_one) == (name == "only")


@pytest.fixture(scope="module")
def store_of_one(tmp_path_factory):
    folder = tmp_path_factory.mktemp("one")
    one = TopK("only", np.arange(1), np.array([[1, 2]]), np.array([[0.5, 0.25]]), np.array([0.25]), np.zeros((1, 0)))
    write_store(folder, [one], Origin("t", "v", "d", 2))
    return KnowledgeStore(folder)


# -- the sparse loss ---------------------------------------------------------------------------------------------


@st.composite
def positions(draw):
    """Hidden states, a head, and the teacher's tokens with their masses; the student may be very confident."""
    n, d, v = draw(st.integers(1, 4)), draw(st.integers(1, 5)), draw(st.integers(3, 12))
    k = draw(st.integers(1, v))
    rng = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    hidden = torch.randn(n, d, generator=rng, dtype=torch.float64) * draw(st.sampled_from([0.1, 1.0, 30.0]))
    head = torch.randn(v, d, generator=rng, dtype=torch.float64)
    ids = torch.stack([torch.randperm(v, generator=rng)[:k] for _ in range(n)])
    q = torch.rand(n, k, generator=rng, dtype=torch.float64)
    q *= torch.rand(n, k, generator=rng) > draw(st.sampled_from([0.0, 0.3]))  # some have no mass
    q += (q.sum(1, keepdim=True) == 0) / k
    mass = draw(st.sampled_from([1.0, 0.9, 0.3])) if k < v else 1.0
    return hidden, head, ids, q / q.sum(1, keepdim=True) * mass


def dense(hidden, head, ids, q, tail, student):
    """Eq. 5 from all logits at once: sum q log(q / s), and for the ghost tail a bucket for the rest."""
    logits = hidden @ head.T
    log_s = (logits.gather(1, ids) if student == "renormalised" else logits).log_softmax(1)
    chosen = log_s if student == "renormalised" else log_s.gather(1, ids)
    if tail == "renormalise":
        q = q / q.sum(1, keepdim=True)
    loss = (torch.xlogy(q, q) - q * chosen).sum(1)
    if tail == "ghost":
        rest, others = 1 - q.sum(1), log_s.scatter(1, ids, -math.inf).logsumexp(1)
        loss = loss + torch.where(rest > 1e-9, torch.xlogy(rest, rest) - rest * others, 0.0)
    return loss.mean()


@contextmanager
def chunks_of(positions):
    """Forces the number of positions per chunk, whatever memory would allow."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(losses._Output, "positions", lambda self, n, numbers: positions)
        yield


READINGS = [("drop", "full"), ("renormalise", "full"), ("ghost", "full"), ("drop", "renormalised"),
            ("renormalise", "renormalised")]  # fmt: skip


@few
@given(positions(), st.sampled_from(READINGS), st.sampled_from([None, 1, 2]))
def test_the_sparse_loss_is_the_dense_one(found, reading, chunk):
    tail, student = reading
    with chunks_of(chunk) if chunk else nullcontext():
        ours = top_k_kl(*found, tail=tail, student=student)
    torch.testing.assert_close(ours, dense(*found, tail, student), rtol=1e-9, atol=1e-9)


@few
@given(positions(), st.sampled_from(READINGS))
def test_the_loss_is_never_negative_for_a_complete_target(found, reading):
    hidden, head, ids, q = found
    tail, student = reading
    whole = q if tail != "drop" else q / q.sum(1, keepdim=True)
    assert top_k_kl(hidden, head, ids, whole, tail=tail, student=student) >= -1e-12


@few
@given(positions(), st.sampled_from(READINGS))
def test_loss_and_gradient_are_0_if_the_student_equals_the_target(found, reading):
    hidden, head, ids, _ = found
    tail, student = reading
    shares = (hidden @ head.T).softmax(1)
    if tail != "ghost" and student == "full":  # then only all tokens together give a complete target
        ids = torch.arange(len(head)).expand(len(hidden), -1)
    q = shares.gather(1, ids)
    if student == "renormalised":
        q = (hidden @ head.T).gather(1, ids).softmax(1)
    hidden = hidden.clone().requires_grad_()
    loss = top_k_kl(hidden, head, ids, q, tail=tail, student=student)
    (gradient,) = torch.autograd.grad(loss, hidden)
    assert abs(loss.item()) < 1e-9
    assert gradient.abs().max() < 1e-9
