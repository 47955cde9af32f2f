from __future__ import annotations

import pytest
import torch

from common.losses.info_nce import info_nce, log_sum_of_negatives, similarities, unit_vectors


def test_term_is_the_negative_log_of_the_ratio(generator: torch.Generator) -> None:
    similarity = torch.randn(4, 6, generator=generator).double()
    negatives = torch.tensor([[False, True, True, False, True, False]]).repeat(4, 1)
    positive = similarity[:, 0]
    expected = -(positive.exp() / (positive.exp() + similarity[:, [1, 2, 4]].exp().sum(1))).log()
    torch.testing.assert_close(info_nce(positive, log_sum_of_negatives(similarity, negatives)), expected)


@pytest.mark.parametrize(
    ("positive", "negative", "expected"),
    [(-1e4, 1e4, 2e4), (1e4, -1e4, 0.0), (1e4, 1e4, 0.6931472)],
    ids=["worst", "best", "even"],
)
def test_term_does_not_overflow(positive: float, negative: float, expected: float) -> None:
    similarity = torch.tensor([[positive, negative]], requires_grad=True)
    term = info_nce(similarity[:, 0], log_sum_of_negatives(similarity, torch.tensor([False, True])))
    term.sum().backward()
    assert term.item() == pytest.approx(expected)
    assert similarity.grad is not None
    assert similarity.grad.isfinite().all()


def test_positives_broadcast_over_an_anchor() -> None:
    assert info_nce(torch.zeros(5, 3), torch.zeros(5, 1)).shape == (5, 3)


def test_similarities_are_cosines_over_the_temperature() -> None:
    anchors = unit_vectors(torch.tensor([[3.0, 4.0], [0.0, 2.0]]))
    others = unit_vectors(torch.tensor([[1.0, 0.0], [-3.0, -4.0], [0.0, 0.5]]))
    expected = torch.tensor([[6.0, -10.0, 8.0], [0.0, -8.0, 10.0]])
    torch.testing.assert_close(similarities(anchors, others, 0.1), expected)


def test_similarities_are_full_precision_under_autocast(generator: torch.Generator) -> None:
    vectors = unit_vectors(torch.randn(8, 16, generator=generator))
    expected = similarities(vectors, vectors, 0.1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(similarities(vectors, vectors, 0.1), expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64], ids=str)
def test_unit_vectors_are_float32_of_length_1(dtype: torch.dtype, generator: torch.Generator) -> None:
    vectors = unit_vectors(1e3 * torch.randn(5, 64, generator=generator).to(dtype))
    assert vectors.dtype == torch.float32
    torch.testing.assert_close(vectors.norm(dim=-1), torch.ones(5))


def test_zero_vector_has_finite_gradient() -> None:
    vector = torch.zeros(1, 3, requires_grad=True)
    unit = unit_vectors(vector)
    unit.sum().backward()
    assert torch.equal(unit, torch.zeros(1, 3))
    assert vector.grad is not None
    assert vector.grad.isfinite().all()
