"""Abilities that a model has by its methods, and one that follows from another."""

import torch

from genbench import Model
from genbench.capabilities import SumOfTerms, capabilities, defines


class Bounded(SumOfTerms):
    def bound_terms(self, images, labels=None):
        return {"rate": images.sum(1), "distortion": labels * 2.0}


def test_a_log_prob_is_minus_the_sum_of_the_terms():
    found = Bounded().log_prob(torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.tensor([1, -1]))
    assert found.tolist() == [-5, -5]


def test_the_mixin_makes_a_likelihood_of_terms():
    assert capabilities(Bounded) == ["likelihood", "bound terms"]


def test_a_first_stage_is_known_by_its_methods():
    class Stage(Model):
        def reconstruct(self, images, labels=None): ...
        def codes(self, images, labels=None): ...
        def codebook_size(self): ...

    assert capabilities(Stage) == ["reconstruction", "codebook"]


def test_a_classifier_is_known_by_its_method():
    class Joint(Model):
        def classify(self, images): ...

    assert capabilities(Joint) == ["classifier"]


def test_a_method_that_the_base_class_only_names_is_not_defined():
    class Samples(Model):
        def sample(self, n, labels=None): ...

    class Off(Samples):
        sample = None

    assert [defines(kind, "sample") for kind in (Model, Samples, Off)] == [False, True, False]
    assert not defines(Samples, "loss")
