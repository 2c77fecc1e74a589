import pytest
import torch

from recon.methods import CAGrad, GramianMethod, create_method, list_methods, register_method
from recon.methods.base.registry import method_name, registered_name


def first_task(scale: float = 1.0) -> type[GramianMethod]:
    class FirstTask(GramianMethod):
        def weights(self, gramian: torch.Tensor, losses: torch.Tensor | None = None) -> torch.Tensor:
            return scale * torch.eye(len(gramian), dtype=torch.float64)[0]

    return FirstTask


def test_lists_the_methods_of_the_paper() -> None:
    assert {"joint", "mgda", "pcgrad", "cagrad", "graddrop"} <= set(list_methods())
    assert list_methods() == sorted(list_methods())


@pytest.mark.parametrize("name", ["cagrad", "CAGrad", "CA-Grad", "ca_grad", "ca grad"])
def test_case_and_separators_do_not_matter(name: str) -> None:
    assert isinstance(create_method(name), CAGrad)


def test_hyperparameters_reach_the_method() -> None:
    method = create_method("cagrad", c=0.25, rescale=0)
    assert isinstance(method, CAGrad)
    assert (method.c, method.rescale) == (0.25, 0)


def test_an_unknown_method_suggests_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"unknown method 'cagrat'; nearest: 'cagrad'"):
        create_method("cagrat")


@pytest.mark.parametrize("name", [3, None, CAGrad()])
def test_a_name_that_is_no_string_is_refused(name: object) -> None:
    with pytest.raises(TypeError, match="a method is wanted by name, such as 'cagrad', got"):
        create_method(name)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="a method is wanted by name"):
        create_method("psmgd", method=name)


def test_names_are_given_as_registered() -> None:
    register_method("First-Task")(cls := first_task())
    assert method_name(" first task") == registered_name(cls) == "First-Task"
    assert registered_name(first_task()) == "FirstTask"
    with pytest.raises(ValueError, match="unknown method 'cagrat'; nearest: 'cagrad'"):
        method_name("cagrat")


def test_an_unknown_hyperparameter_names_the_method_and_suggests_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"unknown hyperparameter 'rescael' in method 'cagrad'; nearest: 'rescale'"):
        create_method("CAGrad", rescael=1)


def test_a_registered_class_is_created_and_listed_by_its_name() -> None:
    register_method("First-Task")(first_task())
    assert "First-Task" in list_methods()
    assert create_method("first_task").combine(torch.tensor([[1.0, 2.0], [3.0, 4.0]])).tolist() == [1, 2]


def test_a_method_without_hyperparameters_takes_none() -> None:
    register_method("first")(first_task())
    with pytest.raises(ValueError, match="unknown hyperparameter 'seed' in method 'first'"):
        create_method("first", seed=1)


@pytest.mark.parametrize("name", ["cagrad", "CA_Grad"])
def test_a_taken_name_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=rf"'{name}' is taken: 'cagrad' is recon.methods.cagrad.CAGrad"):
        register_method(name)(first_task())


def test_the_same_class_defined_again_replaces_its_old_version() -> None:
    register_method("first")(first_task())
    register_method("first")(first_task(scale=2.0))
    assert create_method("first").combine(torch.tensor([[1.0], [3.0]])).tolist() == [2]


@pytest.mark.parametrize("name", ["", "-_ "])
def test_a_name_without_letters_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="needs a name"):
        register_method(name)


def test_only_methods_can_be_registered() -> None:
    with pytest.raises(TypeError, match=r"derive a class from recon\.Method"):
        register_method("linear")(torch.nn.Linear)
