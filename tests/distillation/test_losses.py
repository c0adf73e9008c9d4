"""The sparse loss against values computed by hand, a dense reference, and the properties that Eq. 5 must have."""

import math
import weakref
from contextlib import contextmanager, nullcontext

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from firstlib.distillation import losses
from firstlib.distillation.losses import top_k_kl
from firstlib.distillation.options import Student, Tail

READINGS = [(tail, "full") for tail in Tail] + [("drop", "renormalised"), ("renormalise", "renormalised")]


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


# ---- a dense reference


def dense_target(token_ids, q, tail, gold, V):
    """The `(N, V)` distribution that a tail policy implies; for ghost and drop, only its K entries."""
    residual = 1 - q.sum(1, keepdim=True)
    if tail == "renormalise":
        q = q / q.sum(1, keepdim=True)
    target = q.new_zeros(len(q), V)
    if tail == "smooth":
        target += residual / (V - q.shape[1])
    target = target.scatter(1, token_ids, q)
    if tail == "gold":
        target = target.scatter_add(1, gold[:, None], residual)
    return target


def dense_loss(
    hidden,
    head,
    token_ids,
    q,
    *,
    tail="drop",
    student="full",
    gold=None,
    softcap=None,
    scale=1.0,
    vocabulary=None,
):
    """Eq. 5 in its simplest form, with all logits and all targets at once."""
    logits = scale * (hidden @ head[:vocabulary].T)
    if softcap:
        logits = softcap * torch.tanh(logits / softcap)
    V = logits.shape[1]
    target = dense_target(token_ids, q, tail, gold, V)
    if student == "renormalised":
        log_s = logits.gather(1, token_ids).log_softmax(1)
        target = target.gather(1, token_ids)
    else:
        log_s = logits.log_softmax(1)
    loss = (torch.xlogy(target, target) - target * log_s).sum(1)
    if tail == "ghost":
        residual = 1 - q.sum(1)
        outside = torch.ones_like(logits).scatter(1, token_ids, 0)
        loss = loss + torch.xlogy(residual, residual) - residual * (log_s.exp() * outside).sum(1).log()
    return loss.mean()


def problem(N=7, V=23, D=5, K=4, dtype=torch.float64, mass=0.8, seed=0):
    """Random hidden states, head, token ids, q with the given mass, and gold tokens (every other one among the K)."""
    torch.manual_seed(seed)
    hidden = torch.randn(N, D, dtype=dtype, requires_grad=True)
    head = torch.randn(V, D, dtype=dtype, requires_grad=True)
    token_ids = torch.stack([torch.randperm(V)[:K] for _ in range(N)])
    q = mass * torch.rand(N, K, dtype=dtype).softmax(1)
    gold = torch.where(torch.arange(N) % 2 == 0, token_ids[:, 1], torch.randint(V, (N,)))
    return hidden, head, token_ids, q, gold


def value_and_gradients(loss, *inputs):
    return [loss.detach(), *torch.autograd.grad(loss, inputs)]


def assert_same(ours, theirs, **tolerance):
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, **tolerance)


# ---- values by hand


def one_position(probabilities, q, tokens, **options):
    """The loss of a student with these probabilities; the head is the identity, the hidden states are logarithms."""
    hidden = torch.tensor([probabilities], dtype=torch.float64).log()
    return top_k_kl(
        hidden,
        torch.eye(hidden.shape[1], dtype=torch.float64),
        torch.tensor([tokens]),
        torch.tensor([q], dtype=torch.float64),
        **options,
    ).item()


STUDENT = [0.5, 0.25, 0.125, 0.125]
LOG2 = math.log(2)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        # q = (1/4, 1/2) on tokens 0 and 1, r = 1/4; s = (1/2, 1/4), t = 1/4.
        # 1/4 log((1/4) / (1/2)) + 1/2 log((1/2) / (1/4)) = (-1/4 + 1/2) log 2
        ({"tail": "drop"}, LOG2 / 4),
        # q becomes (1/3, 2/3): 1/3 log((1/3) / (1/2)) + 2/3 log((2/3) / (1/4))
        ({"tail": "renormalise"}, math.log(2 / 3) / 3 + 2 * math.log(8 / 3) / 3),
        # the bucket adds 1/4 log((1/4) / (1/4)) = 0
        ({"tail": "ghost"}, LOG2 / 4),
        # tokens 2 and 3 get 1/8 each, as they have in s: again 0
        ({"tail": "smooth"}, LOG2 / 4),
        # token 3 gets 1/4: adds 1/4 log((1/4) / (1/8)) = 1/4 log 2
        ({"tail": "gold", "gold": torch.tensor([3])}, LOG2 / 2),
        # token 0 gets 1/4 more: 1/2 log((1/2) / (1/2)) + 1/2 log((1/2) / (1/4))
        ({"tail": "gold", "gold": torch.tensor([0])}, LOG2 / 2),
        # s becomes (2/3, 1/3): 1/4 log((1/4) / (2/3)) + 1/2 log((1/2) / (1/3))
        ({"student": "renormalised"}, math.log(3 / 8) / 4 + math.log(3 / 2) / 2),
        # q = (1/3, 2/3) against s = (2/3, 1/3): -1/3 log 2 + 2/3 log 2
        ({"student": "renormalised", "tail": "renormalise"}, LOG2 / 3),
    ],
)
def test_losses_by_hand(options, expected):
    assert one_position(STUDENT, [0.25, 0.5], [0, 1], **options) == pytest.approx(expected, abs=1e-12)


def test_a_vocabulary_of_one_token_leaves_nothing_to_learn():
    # s = 1: 1 log(1 / 1) = 0, and 1/2 log(1/2 / 1) for half of the mass
    assert one_position([0.5, 0.5], [1.0], [0], vocabulary=1) == pytest.approx(0, abs=1e-12)
    assert one_position([0.5, 0.5], [0.5], [0], vocabulary=1) == pytest.approx(-LOG2 / 2, abs=1e-12)


def test_zero_probability_costs_nothing():
    # 0 log 0 + 1 log(1 / (1/4)) = 2 log 2
    assert one_position(STUDENT, [0.0, 1.0], [0, 1]) == pytest.approx(2 * LOG2, abs=1e-12)


def test_mass_below_one_can_make_the_papers_loss_negative():
    # 1/4 log((1/4) / (1/2)) = -1/4 log 2: with a dropped tail Eq. 5 is no divergence
    assert one_position(STUDENT, [0.25], [0]) == pytest.approx(-LOG2 / 4, abs=1e-12)


def test_mean_is_over_positions():
    hidden, head, token_ids, q, _ = problem()
    each = [top_k_kl(hidden[i : i + 1], head, token_ids[i : i + 1], q[i : i + 1]) for i in range(len(hidden))]
    torch.testing.assert_close(top_k_kl(hidden, head, token_ids, q), sum(each) / len(each))


@contextmanager
def chunks_of(positions):
    """Forces the number of positions per chunk, whatever memory would allow."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(losses._Output, "positions", lambda self, n, numbers: positions)
        yield


# ---- dense parity


@pytest.mark.parametrize(("tail", "student"), READINGS)
@pytest.mark.parametrize(
    "logits", [{}, {"scale": 0.7}, {"scale": 2}, {"softcap": 0.8}, {"scale": 3.0, "softcap": 2.0}, {"vocabulary": 19}]
)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
def test_same_as_dense(tail, student, logits, dtype, tolerance):
    hidden, head, token_ids, q, gold = problem(dtype=dtype, V=19 if "vocabulary" in logits else 23)
    if "vocabulary" in logits:
        head = torch.cat([head, 9 * torch.ones(4, head.shape[1], dtype=dtype)]).detach().requires_grad_()
    options = {"tail": tail, "student": student, "gold": gold} | logits
    with chunks_of(3):
        ours = value_and_gradients(top_k_kl(hidden, head, token_ids, q, **options), hidden, head)
    theirs = value_and_gradients(dense_loss(hidden, head, token_ids, q, **options), hidden, head)
    assert_same(ours, theirs, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(("tail", "student"), READINGS)
def test_gradcheck(tail, student):
    hidden, head, token_ids, q, gold = problem(N=3, V=7, D=2, K=3)
    options = {"tail": tail, "student": student, "gold": gold, "softcap": 3.0, "scale": 0.8, "vocabulary": 7}
    assert torch.autograd.gradcheck(lambda x, w: top_k_kl(x, w, token_ids, q, **options), (hidden, head))


@pytest.mark.parametrize(("tail", "student"), READINGS)
def test_every_chunk_size_gives_the_same(tail, student):
    hidden, head, token_ids, q, gold = problem()
    options = {"tail": tail, "student": student, "gold": gold}
    whole = value_and_gradients(top_k_kl(hidden, head, token_ids, q, **options), hidden, head)
    for chunk in range(1, len(hidden) + 2):
        with chunks_of(chunk):
            part = value_and_gradients(top_k_kl(hidden, head, token_ids, q, **options), hidden, head)
        assert_same(part, whole, rtol=1e-12, atol=1e-12)


def test_head_gradient_does_not_depend_on_its_blocks(monkeypatch):
    hidden, head, token_ids, q, _ = problem()
    whole = value_and_gradients(top_k_kl(hidden, head, token_ids, q), hidden, head)
    monkeypatch.setattr(losses, "HEAD_BLOCK", 5)
    assert_same(value_and_gradients(top_k_kl(hidden, head, token_ids, q), hidden, head), whole)


# ---- types


@pytest.mark.parametrize(("tail", "student"), READINGS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_stays_near_float32(tail, student, dtype):
    hidden, head, token_ids, q, gold = problem(N=32, V=200, D=16, dtype=torch.float32)
    options = {"tail": tail, "student": student, "gold": gold}
    theirs = value_and_gradients(dense_loss(hidden, head, token_ids, q, **options), hidden, head)
    low = [x.detach().to(dtype).requires_grad_() for x in (hidden, head)]
    with chunks_of(5):
        loss = top_k_kl(*low, token_ids, q, **options)
    ours = value_and_gradients(loss, *low)
    assert loss.dtype == torch.float32
    assert [gradient.dtype for gradient in ours[1:]] == [dtype, dtype]
    for a, b in zip(ours, theirs, strict=True):
        assert (a.float() - b).norm() < 0.02 * b.norm()


@pytest.mark.parametrize("student", Student)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_softmax_and_loss_of_half_precision_logits_are_float32(student, dtype):
    # logits 0 and 1: 1 log(1 / s) = log(1 + e), which has no eight bits
    head = torch.tensor([[0.0], [1.0]], dtype=dtype)
    ids, q = torch.tensor([[0, 1]]), torch.tensor([[1.0, 0.0]])
    loss = top_k_kl(torch.ones(1, 1, dtype=dtype), head, ids, q, student=student)
    assert loss.item() == pytest.approx(math.log(1 + math.e), rel=1e-6)


@pytest.mark.parametrize(("tail", "student"), READINGS)
def test_a_half_precision_target_counts_as_the_numbers_it_holds(tail, student):
    hidden, head, token_ids, q, gold = problem()
    options = {"tail": tail, "student": student, "gold": gold}
    low = q.half()
    assert top_k_kl(hidden, head, token_ids, low, **options) == top_k_kl(
        hidden, head, token_ids, low.double(), **options
    )


def test_head_gradient_is_accumulated_in_float32():
    # 400 chunks of one position each: in bfloat16 a sum stops growing at 256 times its terms
    hidden = torch.ones(400, 1, dtype=torch.bfloat16)
    head = torch.zeros(2, 1, dtype=torch.bfloat16, requires_grad=True)
    with chunks_of(1):
        loss = top_k_kl(hidden, head, torch.zeros(400, 1, dtype=torch.int64), torch.ones(400, 1))
    loss.backward()
    assert head.grad.flatten().tolist() == [-0.5, 0.5]


def test_autocast_multiplies_in_its_dtype_and_returns_gradients_in_the_inputs_dtype():
    hidden, head, token_ids, q, _ = problem(N=32, V=200, D=16, dtype=torch.float32)
    low = [x.detach().bfloat16().requires_grad_() for x in (hidden, head)]
    expected = value_and_gradients(top_k_kl(*low, token_ids, q), *low)
    with torch.autocast("cpu", torch.bfloat16):
        loss = top_k_kl(hidden, head, token_ids, q)
        mixed = top_k_kl(hidden.bfloat16(), head, token_ids, q)
    ours = value_and_gradients(loss, hidden, head)
    assert loss.dtype == ours[1].dtype == ours[2].dtype == torch.float32
    assert loss == expected[0]
    assert mixed == expected[0]
    assert_same(ours[1:], [x.float() for x in expected[1:]], rtol=0.01, atol=1e-5)


def test_autocast_leaves_float64_alone():
    hidden, head, token_ids, q, _ = problem()
    with torch.autocast("cpu", torch.bfloat16):
        assert top_k_kl(hidden, head, token_ids, q) == top_k_kl(*(x.clone() for x in (hidden, head)), token_ids, q)
        assert top_k_kl(hidden, head, token_ids, q).dtype == torch.float64


def test_confident_student_keeps_a_finite_ghost():
    # The mass on the rest is e^-200, which 1 - sum_i s_i cannot see: r log(r / e^-200) = r log r + 200 r
    hidden = torch.tensor([[200.0]], requires_grad=True)
    head = torch.tensor([[1.0], [0.0]])
    loss = top_k_kl(hidden, head, torch.tensor([[0]]), torch.tensor([[0.75]]), tail="ghost")
    loss.backward()
    expected = 0.75 * math.log(0.75) + 0.25 * math.log(0.25) + 0.25 * 200
    assert loss.item() == pytest.approx(expected, rel=1e-6)
    assert hidden.grad.item() == pytest.approx(0.25)  # T s - q = 1 - 0.75


# ---- autograd


def test_backward_through_a_retained_graph_and_a_scaled_loss():
    hidden, head, token_ids, q, _ = problem()
    once = torch.autograd.grad(top_k_kl(hidden, head, token_ids, q), (hidden, head))
    loss = top_k_kl(hidden, head, token_ids, q) / 4
    first = torch.autograd.grad(loss, (hidden, head), retain_graph=True)
    second = torch.autograd.grad(loss, (hidden, head))
    assert_same([4 * gradient for gradient in first], once)
    assert_same(second, first)
    assert all(a.data_ptr() != b.data_ptr() for a, b in zip(first, second, strict=True))


def test_a_second_backward_is_like_the_first_even_under_autocast():
    hidden, head, token_ids, q, _ = problem(dtype=torch.float32)
    loss = top_k_kl(hidden, head, token_ids, q)
    first = torch.autograd.grad(loss, (hidden, head), retain_graph=True)
    with torch.autocast("cpu", torch.bfloat16):
        second = torch.autograd.grad(loss, (hidden, head))
    assert_same(second, first, rtol=0, atol=0)


def test_gradients_accumulate_over_two_losses():
    hidden, head, token_ids, q, _ = problem()
    expected = torch.autograd.grad(top_k_kl(hidden, head, token_ids, q), (hidden, head))
    for part in (slice(0, 3), slice(3, 7)):
        loss = top_k_kl(hidden[part], head, token_ids[part], q[part]) * (part.stop - part.start) / 7
        loss.backward()
    assert_same((hidden.grad, head.grad), expected)


@pytest.mark.parametrize("student", Student)
def test_frozen_inputs_get_no_gradient(student):
    hidden, head, token_ids, q, _ = problem()
    both = torch.autograd.grad(top_k_kl(hidden, head, token_ids, q, student=student), (hidden, head))
    top_k_kl(hidden, head.detach(), token_ids, q, student=student).backward()
    top_k_kl(hidden.detach(), head, token_ids, q, student=student).backward()
    assert_same((hidden.grad, head.grad), both)
    frozen = head.detach()
    top_k_kl(hidden, frozen, token_ids, q, student=student).backward()
    assert frozen.grad is None
    assert not top_k_kl(hidden.detach(), frozen, token_ids, q, student=student).requires_grad


def test_target_is_a_constant():
    hidden, head, token_ids, q, _ = problem()
    q.requires_grad_()
    top_k_kl(hidden, head, token_ids, q, tail="renormalise").backward()
    assert q.grad is None


# ---- no positions, padding, gold


@pytest.mark.parametrize("student", Student)
def test_without_positions_there_is_no_loss(student):
    hidden, head, token_ids, q, _ = problem()
    loss = top_k_kl(hidden[:0], head, token_ids[:0], q[:0], student=student)
    loss.backward()
    assert loss.item() == 0
    assert not hidden.grad.any()
    assert not head.grad.any()


def test_padded_head_is_the_trimmed_head():
    hidden, head, token_ids, q, _ = problem()
    padded = torch.cat([head.detach(), torch.full((6, head.shape[1]), 5.0, dtype=head.dtype)]).requires_grad_()
    trimmed = value_and_gradients(top_k_kl(hidden, head, token_ids, q, tail="smooth"), hidden, head)
    ours = value_and_gradients(top_k_kl(hidden, padded, token_ids, q, tail="smooth", vocabulary=23), hidden, padded)
    assert_same(ours[:2], trimmed[:2])
    assert_same([ours[2][:23]], [trimmed[2]])
    assert not ours[2][23:].any()


def test_gold_takes_the_residual_inside_or_outside_the_top():
    hidden, head, _, q, _ = problem(N=2, V=5, K=4)
    token_ids = torch.tensor([[0, 1, 2, 4], [0, 1, 2, 4]])
    gold = torch.tensor([1, 3])
    residual = 1 - q.sum(1)
    first = q[:1] + residual[0] * torch.tensor([[0, 1, 0, 0]])
    among = top_k_kl(hidden[:1], head, token_ids[:1], first)
    outside = top_k_kl(hidden[1:], head, torch.tensor([[0, 1, 2, 4, 3]]), torch.cat([q[1:], residual[1:, None]], 1))
    ours = top_k_kl(hidden, head, token_ids, q, tail="gold", gold=gold)
    torch.testing.assert_close(ours, (among + outside) / 2)


def test_no_other_tail_reads_gold():
    hidden, head, token_ids, q, gold = problem()
    assert top_k_kl(hidden, head, token_ids, q, gold=gold - 100) == top_k_kl(hidden, head, token_ids, q)


def test_gold_if_the_k_tokens_are_the_whole_vocabulary():
    hidden, head, token_ids, q, _ = problem(V=4, K=4)
    gold = torch.arange(7) % 4
    given = q + (1 - q.sum(1, keepdim=True)) * (token_ids == gold[:, None])
    ours = top_k_kl(hidden, head, token_ids, q, tail="gold", gold=gold)
    torch.testing.assert_close(ours, top_k_kl(hidden, head, token_ids, given))


# ---- properties


def student_as_target(N=6, V=12, D=12):
    """A student whose probabilities over the whole vocabulary are known exactly."""
    torch.manual_seed(1)
    hidden = torch.randn(N, D, dtype=torch.float64, requires_grad=True)
    head = torch.randn(V, D, dtype=torch.float64, requires_grad=True)
    return hidden, head, (hidden @ head.T).detach().softmax(1)


def assert_loss_and_gradient_vanish(loss, *inputs):
    for x in value_and_gradients(loss, *inputs):
        torch.testing.assert_close(x, torch.zeros_like(x), rtol=0, atol=1e-12)


@pytest.mark.parametrize("tail", Tail)
def test_a_student_equal_to_its_complete_target_has_no_loss_or_gradient(tail):
    hidden, head, s = student_as_target()
    token_ids = torch.stack([torch.randperm(12) for _ in range(6)])
    gold = torch.zeros(6, dtype=torch.int64)
    loss = top_k_kl(hidden, head, token_ids, s.gather(1, token_ids), tail=tail, gold=gold)
    assert_loss_and_gradient_vanish(loss, hidden, head)


def test_ghost_does_not_depend_on_the_distribution_within_the_rest():
    hidden, head, s = student_as_target()
    q, token_ids = s.topk(3)
    loss = top_k_kl(hidden, head, token_ids, q, tail="ghost")
    assert_loss_and_gradient_vanish(loss, hidden, head)


def test_a_dropped_tail_scales_the_gradient_by_the_remaining_mass():
    # head = identity: the gradient in hidden is that in the logits, (sum q) softmax - scatter(q)
    hidden = torch.randn(3, 8, dtype=torch.float64, requires_grad=True)
    token_ids, q = (
        torch.tensor([[1, 4], [0, 7], [6, 2]]),
        torch.tensor([[0.5, 0.2]], dtype=torch.float64).expand(3, 2),
    )
    (ours,) = torch.autograd.grad(top_k_kl(hidden, torch.eye(8, dtype=torch.float64), token_ids, q), hidden)
    expected = (0.7 * hidden.softmax(1)).scatter_add(1, token_ids, -q) / 3
    torch.testing.assert_close(ours, expected.detach())


def test_float16_teacher_may_sum_to_slightly_more_than_one():
    hidden, head, token_ids, _, gold = problem()
    q = torch.full((7, 4), 0.25 + 2**-12, dtype=torch.float16)  # sums to 1.00098
    for tail in Tail:
        assert top_k_kl(hidden, head, token_ids, q, tail=tail, gold=gold).isfinite()


@given(
    st.integers(1, 6),
    st.lists(st.floats(-30, 30), min_size=2, max_size=8),
    st.lists(st.floats(0, 1), min_size=8, max_size=8),
)
@settings(max_examples=60, deadline=None)
def test_full_support_is_a_divergence(N, logits, weights):
    V = len(logits)
    hidden = torch.tensor([logits], dtype=torch.float64).repeat(N, 1)
    q = torch.tensor(weights[:V], dtype=torch.float64) + 1e-9
    q = (q / q.sum()).expand(N, V)
    loss = top_k_kl(hidden, torch.eye(V, dtype=torch.float64), torch.arange(V).expand(N, V), q)
    assert loss >= -1e-12


# ---- memory


class Memory(TorchDispatchMode):
    """Tracks the live bytes of tensors made while it is active, and counts matrix products."""

    def __init__(self, *inputs):
        super().__init__()
        self.known = {x.untyped_storage().data_ptr() for x in inputs}
        self.live = self.peak = self.largest = self.products = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        self.products += function.overloadpacket in (torch.ops.aten.mm, torch.ops.aten.bmm)
        for x in result if isinstance(result, tuple | list) else (result,):
            if isinstance(x, torch.Tensor) and x.untyped_storage().data_ptr() not in self.known:
                self.born(x.untyped_storage())
        return result

    def born(self, storage):
        pointer, size = storage.data_ptr(), storage.nbytes()
        self.known.add(pointer)
        self.live += size
        self.peak, self.largest = max(self.peak, self.live), max(self.largest, size)
        weakref.finalize(storage, self.died, pointer, size)

    def died(self, pointer, size):
        self.known.discard(pointer)
        self.live -= size


def measured(*, N=256, V=50_000, D=16, K=5, trainable=False, differentiate=True, chunk=None, **options):
    """The memory of a forward and backward pass; the bytes of an (N, V) and of a (V, D) tensor."""
    hidden = torch.randn(N, D).requires_grad_()
    head = torch.randn(V, D).requires_grad_(trainable)
    token_ids, q = torch.arange(N * K).view(N, K), torch.full((N, K), 0.15)
    chunks = chunks_of(chunk) if chunk else nullcontext()
    with torch.set_grad_enabled(differentiate), Memory(hidden, head, token_ids, q) as memory, chunks:
        loss = top_k_kl(hidden, head, token_ids, q, **options)
        if differentiate:
            loss.backward()
    return memory, 4 * N * V, 4 * V * D


def test_memory_counts_live_tensors():
    with Memory() as memory:
        a = torch.ones(1000)  # 4,000 bytes
        b = a + 1  # 8,000
        del a
        c = b.view(10, 100).exp()  # the view takes no memory: 8,000 again
        del b, c
    assert (memory.peak, memory.largest, memory.live) == (8000, 4000, 0)


@pytest.mark.parametrize("tail", Tail)
def test_no_tensor_is_positions_by_vocabulary(tail):
    memory, all_logits, _ = measured(tail=tail, gold=torch.zeros(256, dtype=torch.int64))
    assert memory.largest <= all_logits / 4
    assert memory.peak < 1.01 * all_logits / 4 + 2**16  # a single buffer: everything happens in place


def test_peak_follows_the_chunk():
    for chunk in (8, 32):
        memory, all_logits, _ = measured(chunk=chunk)
        assert memory.peak < 1.01 * all_logits * chunk / 256 + 2**16


def test_softcap_takes_one_more_buffer():
    memory, all_logits, _ = measured(chunk=32, softcap=30.0)
    assert memory.peak < 1.01 * 2 * all_logits * 32 / 256 + 2**16


def test_trainable_head_costs_its_gradient_and_a_block():
    memory, all_logits, head = measured(chunk=32, D=64, trainable=True)
    block = 4 * losses.HEAD_BLOCK * 64
    assert memory.peak < 1.01 * (all_logits * 32 / 256 + head + block) + 2**16


def test_renormalised_student_computes_only_k_logits():
    memory, all_logits, _ = measured(student="renormalised")
    assert memory.peak < all_logits / 256  # not even one position's worth
    assert memory.products == 2  # all positions at once: logits, and the gradient of hidden


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_default_chunk_is_bounded(dtype):
    output = losses._Output(True, None, 151_936, dtype)
    numbers = output.positions(100_000, 151_936) * 151_936
    bytes_each = 4 if dtype == torch.float32 else 6
    assert 0.9 * losses.LARGEST_CHUNK < numbers * bytes_each <= losses.LARGEST_CHUNK
    assert output.positions(1, 10**9) == 1


@pytest.mark.parametrize(
    ("dtype", "softcap", "n", "numbers", "positions"),
    [
        (torch.float32, None, 10, 1000, 2**23 // 4000),  # the least room is 8 MiB
        (torch.float32, 30.0, 10, 1000, 2**23 // 8000),  # a softcap takes a second buffer
        (torch.bfloat16, None, 10, 1000, 2**23 // 6000),  # products in half precision, then in float32
        (torch.bfloat16, 30.0, 10, 1000, 2**23 // 10_000),
        (torch.float64, None, 10, 1000, 2**23 // 8000),
        (torch.float32, None, 1003, 50_000, 250),  # a quarter of the positions
        (torch.float32, None, 100_000, 50_000, 96 * 2**20 // 200_000),  # the most is 96 MiB
        (torch.float32, None, 3, 2**21, 1),  # exactly one fits
        (torch.float32, None, 3, 2**22, 1),  # not even one
    ],
)
def test_room_decides_how_many_positions_are_done_at_once(dtype, softcap, n, numbers, positions):
    found = losses._Output(True, softcap, 100, dtype).positions(n, numbers)
    assert (found, type(found)) == (positions, int)


def test_gradients_cost_one_product_each_and_none_if_not_needed():
    assert measured(chunk=64, differentiate=False)[0].products == 4  # one per chunk: the logits
    assert measured(chunk=64)[0].products == 8  # one more per chunk: the gradient of hidden
    blocks = math.ceil(50_000 / losses.HEAD_BLOCK)
    assert measured(chunk=64, trainable=True)[0].products == 8 + 4 * blocks


# ---- errors


def refused(match, **changes):
    hidden, head, token_ids, q, _ = problem()
    given = {"hidden": hidden, "head": head, "token_ids": token_ids, "probabilities": q} | changes
    with pytest.raises(ValueError, match=match) as caught:
        top_k_kl(**given)
    assert "\n" not in str(caught.value)


def with_entry(tensor, row, column, value):
    tensor = tensor.clone()
    tensor[row, column] = value
    return tensor


_, _, IDS, Q, GOLD = problem()


@pytest.mark.parametrize(
    ("match", "changes"),
    [
        ("row 3: a probability is NaN", {"probabilities": with_entry(Q, 3, 1, math.nan)}),
        ("row 2: a probability is negative", {"probabilities": with_entry(Q, 2, 0, -0.1)}),
        ("row 6: probabilities sum to more than 1", {"probabilities": with_entry(Q, 6, 0, 0.9)}),
        ("row 0: probabilities sum to more than 1", {"probabilities": with_entry(Q, 0, 0, math.inf)}),
        ("row 5: a token id occurs twice", {"token_ids": with_entry(IDS, 5, 0, IDS[5, 3])}),
        (r"row 4: a token id is not in 0\.\.22", {"token_ids": with_entry(IDS, 4, 0, 23)}),
        (r"row 4: a token id is not in 0\.\.22", {"token_ids": with_entry(IDS, 4, 0, -100)}),
        (r"a token id is not in 0\.\.9", {"vocabulary": 10}),
        (
            "row 1: probabilities sum to 0",
            {"probabilities": with_entry(Q, 1, slice(None), 0), "tail": "renormalise"},
        ),
        (r"row 0: gold is not in 0\.\.22: leave the position out", {"tail": "gold", "gold": torch.full((7,), -1)}),
        (r"row 6: gold is not in 0\.\.22", {"tail": "gold", "gold": torch.tensor([0, 22, 0, 22, 0, 22, 23])}),
        ("token_ids are torch.int32", {"token_ids": IDS.int()}),
        (r"token_ids \(7, 4\) and probabilities \(7, 3\) must both be \(N, K\)", {"probabilities": Q[:, :3]}),
        ("must both be .* N = 7", {"token_ids": IDS[:5], "probabilities": Q[:5]}),
        (r"token_ids \(7,\) .* must both be", {"token_ids": IDS[:, 0], "probabilities": Q[:, 0]}),
        (r"token_ids \(7, 4, 1\) .* must both be", {"token_ids": IDS[..., None], "probabilities": Q[..., None]}),
        ("K at least 1", {"token_ids": IDS[:, :0], "probabilities": Q[:, :0]}),
        (r"hidden \(7, 4\) and head \(23, 5\)", {"hidden": torch.ones(7, 4)}),
        (r"hidden \(1, 7, 5\) and head", {"hidden": torch.ones(1, 7, 5)}),
        ("hidden is torch.float32 and head torch.float64: cast one", {"hidden": torch.ones(7, 5)}),
        (r"gold must be \(7,\) torch.int64", {"tail": "gold", "gold": GOLD[:, None]}),
        (r"gold must be \(7,\) torch.int64", {"tail": "gold", "gold": GOLD.int()}),
        ("^tail=gold needs the true tokens: pass gold$", {"tail": "gold"}),
        ("student=renormalised has no mass where tail=ghost", {"student": "renormalised", "tail": "ghost"}),
        ("student=renormalised has no mass where tail=smooth", {"student": "renormalised", "tail": "smooth"}),
        ("student=renormalised .* tail=gold", {"student": "renormalised", "tail": "gold", "gold": GOLD}),
        (
            "tail='spooky' is unknown: choose one of drop, renormalise, ghost, smooth, gold",
            {"tail": "spooky"},
        ),
        ("student='teacher' is unknown: choose one of full, renormalised", {"student": "teacher"}),
        (r"vocabulary=24 must be in 1\.\.23", {"vocabulary": 24}),
        ("vocabulary=0 must be", {"vocabulary": 0}),
        ("softcap=0 must be positive", {"softcap": 0}),
    ],
)
def test_errors_say_what_where_and_what_to_do(match, changes):
    refused(match, **changes)


@pytest.mark.parametrize("tail", ["ghost", "smooth"])
def test_a_residual_without_other_tokens_is_refused(tail):
    hidden, head, token_ids, q, _ = problem(V=4, K=4)
    with pytest.raises(ValueError, match=f"row 0: tail={tail} has no other token to give mass to"):
        top_k_kl(hidden, head, token_ids, q, tail=tail)


def test_sums_may_differ_from_1_by_rounding():
    hidden, head = torch.ones(1, 1), torch.ones(1, 1)
    for tail in ("drop", "ghost", "smooth"):
        for mass in (0.999, 1.001):
            loss = top_k_kl(hidden, head, torch.tensor([[0]]), torch.tensor([[mass]]), tail=tail)
            assert loss.item() == pytest.approx(mass * math.log(mass), abs=1e-7)
    with pytest.raises(ValueError, match=r"tail=ghost has no other token to give mass to: renormalise$"):
        top_k_kl(hidden, head, torch.tensor([[0]]), torch.tensor([[0.9989]]), tail="ghost")
    with pytest.raises(ValueError, match=r"sum to more than 1: divide by their sum$"):
        top_k_kl(hidden, head, torch.tensor([[0]]), torch.tensor([[1.0011]]))


@pytest.mark.parametrize(("tail", "student"), READINGS)
def test_the_default_device_of_new_tensors_does_not_matter(tail, student):
    hidden, head, token_ids, q, gold = problem()
    options = {"tail": tail, "student": student, "gold": gold}
    expected = value_and_gradients(top_k_kl(hidden, head, token_ids, q, **options), hidden, head)
    with torch.device("meta"):
        ours = value_and_gradients(top_k_kl(hidden, head, token_ids, q, **options), hidden, head)
    assert_same(ours, expected)


def test_enums_and_their_names_are_the_same():
    hidden, head, token_ids, q, _ = problem()
    by_name = top_k_kl(hidden, head, token_ids, q, tail="ghost", student="full")
    assert by_name == top_k_kl(hidden, head, token_ids, q, tail=Tail.GHOST, student=Student.FULL)
