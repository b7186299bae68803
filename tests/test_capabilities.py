"""Abilities that a model has by its methods, and one that follows from another."""

import copy

import torch

from genbench import DataSpec, Likelihood, Model, field
from genbench.capabilities import BoundTerms, SumOfTerms, capabilities, defines, without


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


class Bound(Bounded, Model):
    """A model with terms of a bound, which an option takes away."""

    class Config(Model.Config):
        bounded: bool = field(True, "train", "whether the bound means anything")

    def __init__(self, data, config):
        super().__init__(data, config)
        if not config.bounded:
            without(self, "log_prob", "bound_terms")

    def sample(self, n, labels=None):
        return torch.zeros(n, *self.data.shape)


def test_an_option_takes_methods_away_from_one_model():
    data = DataSpec("toy", (1, 8, 8))
    have, lack = (Bound(data, Bound.Config(bounded=bounded)) for bounded in (True, False))
    assert isinstance(have, Likelihood) and isinstance(have, BoundTerms)
    for model in (lack, copy.deepcopy(lack), type(lack)(data, lack.config)):
        assert not isinstance(model, Likelihood | BoundTerms) and isinstance(model, Bound)
        assert capabilities(type(model)) == [] and model.sample(1).shape == (1, 1, 8, 8)
        assert (type(model).__qualname__, type(model).__module__) == (Bound.__qualname__, Bound.__module__)
    assert capabilities(Bound) == capabilities(type(have)) == ["likelihood", "bound terms"], "the class is as it was"
