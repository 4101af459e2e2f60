import pytest
import torch

from lyrics_lm.training.muon import Muon, orthogonal


def matrices(count, rows, columns, seed=0):
    return torch.randn(count, rows, columns, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("shape", [(6, 6), (4, 12), (12, 4)])
def test_directions_stay_and_their_strengths_become_alike(shape):
    """An update has the singular vectors of its gradient, and singular values of one size, whichever way it lies."""
    given = matrices(1, *shape)[0]
    u, strengths, v = torch.linalg.svd(given, full_matrices=False)
    inner = u.mT @ orthogonal(given[None])[0] @ v.mT
    torch.testing.assert_close(inner, torch.diag(inner.diagonal()), atol=1e-4, rtol=0)
    assert inner.diagonal().max() / inner.diagonal().min() < strengths.max() / strengths.min()
    assert inner.diagonal().max() < 1.3


def test_matrices_of_one_shape_do_not_see_each_other():
    """A step of many at once is the step of each alone."""
    given = matrices(3, 5, 8)
    torch.testing.assert_close(orthogonal(given), torch.cat([orthogonal(one[None]) for one in given]))


def test_a_step_is_torchs_own():
    """Weights go where `torch.optim.Muon` takes them, but for its lower precision within a step."""
    mine = [weight.clone().requires_grad_() for weight in (*matrices(2, 6, 9), *matrices(1, 9, 6))]
    theirs = [weight.detach().clone().requires_grad_() for weight in mine]
    settings = {"lr": 0.02, "momentum": 0.9, "weight_decay": 0.1}
    muon = Muon(mine, **settings)
    reference = torch.optim.Muon(theirs, ns_steps=3, adjust_lr_fn="match_rms_adamw", **settings)
    for step in range(5):
        for one, other, slope in zip(mine, theirs, (*matrices(2, 6, 9, step), *matrices(1, 9, 6, step)), strict=True):
            one.grad, other.grad = slope.clone(), slope.clone()
        muon.step()
        reference.step()
    for one, other, start in zip(mine, theirs, (*matrices(2, 6, 9), *matrices(1, 9, 6)), strict=True):
        assert (one - other).norm() < 0.02 * (other - start).norm()


def test_a_weight_without_a_gradient_stays():
    """A frozen matrix among others keeps its values."""
    frozen, moved = (weight.clone().requires_grad_() for weight in matrices(2, 4, 4))
    moved.grad = torch.ones(4, 4)
    Muon([frozen, moved], lr=0.1, momentum=0.9, weight_decay=0.1).step()
    assert torch.equal(frozen, matrices(2, 4, 4)[0])
    assert not torch.equal(moved, matrices(2, 4, 4)[1])
