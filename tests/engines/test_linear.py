"""Products by oneDNN: the same numbers, in one model, only where they are faster."""

from __future__ import annotations

import copy
import weakref
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from transformers import Qwen3Model

from e2rank_integrations.engines import forward, linear
from e2rank_integrations.engines.linear import OneDNNLinear, with_faster_products
from e2rank_integrations.values import TokenInput
from tests.support.models import qwen3_config

if TYPE_CHECKING:
    from collections.abc import Callable

    from e2rank_integrations import E2RankEncoder
    from e2rank_integrations.engines.local import LocalEngine


@pytest.fixture
def faster(monkeypatch: pytest.MonkeyPatch) -> None:
    """A CPU on which oneDNN wins."""
    monkeypatch.setattr(linear, "is_faster", lambda: True)


@pytest.mark.parametrize("rows", [1, 7, 300])
@pytest.mark.parametrize("bias", [True, False])
def test_the_same_product(rows: int, bias: bool) -> None:
    """Whatever the number of rows it was laid out for, and with a bias or without."""
    layer = torch.nn.Linear(24, 40, bias=bias)
    inputs = torch.randn(2, rows, 24, generator=torch.Generator().manual_seed(rows))
    with torch.inference_mode():
        torch.testing.assert_close(OneDNNLinear(layer)(inputs), layer(inputs), rtol=0, atol=1e-5)


@pytest.mark.usefixtures("faster")
def test_an_engine_gives_the_same_vectors(make_engine: Callable[..., LocalEngine], bare_engine: LocalEngine) -> None:
    """With every linear layer exchanged, rows agree to 1e-5."""
    items = [TokenInput(tuple(range(1, n)), "document") for n in (3, 70, 200)]
    engine = make_engine()
    np.testing.assert_allclose(engine.encode(items).vectors, bare_engine.encode(items).vectors, rtol=0, atol=1e-5)
    kinds = {type(module) for module in engine._forward.model.modules()}
    assert OneDNNLinear in kinds
    assert torch.nn.Linear not in kinds


@pytest.mark.usefixtures("faster")
def test_an_adapter_beside_the_weights_goes_on_working(embedded_encoder: E2RankEncoder) -> None:
    """Prompts get the adapter's vectors, documents the base model's, as without."""
    inputs = [*embedded_encoder.document_inputs(["a b"]), embedded_encoder.listwise_input("c", ["a b", "d"])[0]]
    expected = embedded_encoder.run(inputs).vectors
    engine = type(embedded_encoder.engine)(embedded_encoder.engine.key)
    np.testing.assert_allclose(engine.encode(inputs).vectors, expected, rtol=0, atol=1e-5)
    assert any(isinstance(module, OneDNNLinear) for module in engine._forward.model.modules())


def test_the_weights_are_held_once() -> None:
    """What was laid out anew keeps no hold of what it was made from."""
    layer = torch.nn.Linear(64, 64, bias=False)
    assert OneDNNLinear(layer).weight.untyped_storage().nbytes() == 0


def test_each_layer_goes_as_soon_as_it_is_exchanged(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model never takes twice its memory: when a layer is laid out anew, those before it are gone."""
    model = Qwen3Model(qwen3_config(layers=2, width=16, vocabulary=9))
    alive = [weakref.ref(module) for module in model.modules() if type(module) is torch.nn.Linear]
    most: list[int] = []

    class Counting(OneDNNLinear):
        def __init__(self, source: torch.nn.Linear) -> None:
            super().__init__(source)
            most.append(sum(layer() is not None for layer in alive))

    monkeypatch.setattr(linear, "is_faster", lambda: True)
    monkeypatch.setattr(linear, "OneDNNLinear", Counting)
    with_faster_products(model)
    assert most == list(range(len(alive), 0, -1))


@pytest.mark.usefixtures("faster")
def test_half_precision_is_left_alone(make_engine: Callable[..., LocalEngine]) -> None:
    """Only float32 goes through MKL."""
    engine = make_engine(dtype="bfloat16")
    engine.warmup()
    assert not any(isinstance(module, OneDNNLinear) for module in engine._forward.model.modules())


def test_no_other_model_of_the_process_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The choice is this model's alone."""
    model = Qwen3Model(qwen3_config(layers=1, width=16, vocabulary=9))
    other = copy.deepcopy(model)
    monkeypatch.setattr(linear, "is_faster", lambda: True)
    with_faster_products(model)
    assert {type(module) for module in other.modules()} >= {torch.nn.Linear}


def test_where_it_is_not_faster_nothing_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tie goes to torch's own choice."""
    monkeypatch.setattr(linear, "is_faster", lambda: False)
    model = Qwen3Model(qwen3_config(layers=1, width=16, vocabulary=9))
    with_faster_products(model)
    assert not any(isinstance(module, OneDNNLinear) for module in model.modules())


@pytest.mark.parametrize("error", [AttributeError, NotImplementedError, RuntimeError, TypeError])
def test_a_torch_without_these_operators_is_no_error(monkeypatch: pytest.MonkeyPatch, error: type[Exception]) -> None:
    """They are not public: where they are gone, torch's own product stays."""

    def gone(_: torch.nn.Linear) -> None:
        raise error

    monkeypatch.setattr(linear, "_has_avx512", lambda: True)
    monkeypatch.setattr(linear, "OneDNNLinear", gone)
    assert linear.is_faster.__wrapped__() is False


@pytest.mark.parametrize(("own", "other", "faster"), [(1.0, 0.5, True), (1.0, 0.9, False), (0.5, 1.0, False)])
def test_it_must_be_clearly_faster(monkeypatch: pytest.MonkeyPatch, own: float, other: float, faster: bool) -> None:
    """What decides is how the two compare, with a margin."""
    monkeypatch.setattr(linear, "_has_avx512", lambda: True)
    monkeypatch.setattr(linear, "_seconds", lambda *_: [own, other])
    assert linear.is_faster.__wrapped__() is faster


def test_without_avx512_nothing_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """There MKL uses all that the CPU has, so the answer is the same on every run."""
    monkeypatch.setattr(linear, "_has_avx512", lambda: False)
    monkeypatch.setattr(linear, "_seconds", lambda *_: pytest.fail("measured"))
    assert linear.is_faster.__wrapped__() is False


def test_the_best_of_tries_in_turn() -> None:
    """One slow moment decides nothing: each call's time is its best, and they take turns."""
    order: list[str] = []
    first, second = linear._seconds(lambda: order.append("a"), lambda: order.append("b"))
    assert order == ["a", "b"] * linear._TRIES
    assert min(first, second) >= 0


def test_only_a_cpu_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a GPU there is nothing to choose."""
    monkeypatch.setattr(forward, "with_faster_products", lambda _: pytest.fail("asked"))
    with torch.device("meta"):
        model = Qwen3Model(qwen3_config(layers=1, width=16, vocabulary=9))
    assert not forward.Forward.of(model, "last").packed
