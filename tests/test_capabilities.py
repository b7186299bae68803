"""Abilities that a model has by its methods, and one that follows from another."""

import torch

from genbench.capabilities import SumOfTerms, capabilities


class Bounded(SumOfTerms):
    def bound_terms(self, images, labels=None):
        return {"rate": images.sum(1), "distortion": labels * 2.0}


def test_a_log_prob_is_minus_the_sum_of_the_terms():
    found = Bounded().log_prob(torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.tensor([1, -1]))
    assert found.tolist() == [-5, -5]


def test_the_mixin_makes_a_likelihood_of_terms():
    assert capabilities(Bounded) == ["likelihood", "bound terms"]
