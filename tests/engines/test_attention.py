"""Attention within packed sequences: what torch's own says, for every length, block and prefix."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import scaled_dot_product_attention
from transformers import BertConfig, BertModel, Qwen3Model

from e2rank_integrations.engines import attention
from e2rank_integrations.engines.attention import attend, is_causal, packs
from e2rank_integrations.engines.forward import Forward
from tests.support.models import qwen3_config

if TYPE_CHECKING:
    from collections.abc import Sequence

HEADS, KEY_HEADS, WIDTH = 4, 2, 8


def states(tokens: int, seen: int, dtype: torch.dtype = torch.float32) -> tuple[torch.Tensor, ...]:
    """Queries of some tokens, keys and values of as many or more, laid out as transformers does."""
    generator = torch.Generator().manual_seed(tokens * 10_000 + seen)
    shapes = [(1, tokens, HEADS, WIDTH), (1, seen, KEY_HEADS, WIDTH), (1, seen, KEY_HEADS, WIDTH)]
    return tuple(torch.randn(shape, generator=generator).to(dtype).transpose(1, 2) for shape in shapes)


def expected(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *, causal: bool) -> torch.Tensor:
    """The formula, written out in float64: shape (1, tokens, heads, width)."""
    query, key, value = (tensor.double() for tensor in (query, key, value))
    key, value = (tensor.repeat_interleave(HEADS // KEY_HEADS, dim=1) for tensor in (key, value))
    scores = query @ key.transpose(2, 3) * WIDTH**-0.5
    if causal:
        tokens, seen = scores.shape[2:]
        scores = scores + torch.full((tokens, seen), -torch.inf).triu(1 + seen - tokens)
    return (scores.softmax(-1) @ value).transpose(1, 2)


def attended(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *, causal: bool, **options) -> torch.Tensor:
    return attend(SimpleNamespace(is_causal=causal), query, key, value, None, scaling=WIDTH**-0.5, **options)[0]


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("tokens", [1, 2, 63, 64, 65, 128, 200, 1023, 1024, 1025, 1300])
def test_one_sequence(tokens: int, causal: bool) -> None:
    """Every length around the edges of a block, and on both sides of where torch's own kernel takes over."""
    parts = states(tokens, tokens)
    torch.testing.assert_close(
        attended(*parts, causal=causal).double(), expected(*parts, causal=causal), rtol=0, atol=1e-5
    )


@pytest.mark.parametrize(
    ("tokens", "seen"), [(1, 2), (1, 1500), (3, 66), (64, 128), (70, 300), (80, 1400), (600, 1900)]
)
def test_after_a_prefix(tokens: int, seen: int) -> None:
    """The last tokens of a longer sequence see all of the prefix, and of their own only what came before."""
    parts = states(tokens, seen)
    torch.testing.assert_close(attended(*parts, causal=True).double(), expected(*parts, causal=True), rtol=0, atol=1e-5)


@pytest.mark.parametrize("causal", [True, False])
@given(lengths=st.lists(st.integers(1, 150), min_size=1, max_size=6))
@settings(deadline=None, max_examples=30)
def test_packed_sequences_do_not_see_each_other(causal: bool, lengths: Sequence[int]) -> None:
    """Laid end to end, each sequence gets what it gets alone."""
    ends = torch.tensor(lengths).cumsum(0)
    query, key, value = states(int(ends[-1]), int(ends[-1]))
    found = attended(query, key, value, causal=causal, cu_seq_lens_q=torch.cat([torch.tensor([0]), ends]))
    for start, end in zip((ends - torch.tensor(lengths)).tolist(), ends.tolist(), strict=True):
        alone = [part[:, :, start:end] for part in (query, key, value)]
        torch.testing.assert_close(found[:, start:end].double(), expected(*alone, causal=causal), rtol=0, atol=1e-5)


@pytest.mark.parametrize("sharpness", [1, 3, 8])
@pytest.mark.parametrize(("tokens", "seen"), [(90, 90), (1500, 1500), (40, 700)])
def test_half_precision_rounds_no_more_than_torch_s_own_kernel(tokens: int, seen: int, sharpness: float) -> None:
    """Scores stay in float32: however peaked attention is, bfloat16 costs at most half as much again as in torch's."""
    query, key, value = states(tokens, seen, torch.bfloat16)
    parts = (query * sharpness, key, value)
    exact = expected(*parts, causal=True)
    visible = torch.ones(tokens, seen, dtype=torch.bool).tril(seen - tokens)
    own = scaled_dot_product_attention(*parts, attn_mask=visible, scale=WIDTH**-0.5, enable_gqa=True).transpose(1, 2)
    found = attended(*parts, causal=True)
    assert found.dtype == torch.bfloat16
    assert (found.double() - exact).norm() <= 1.5 * (own.double() - exact).norm()


def test_the_states_given_are_not_written_to() -> None:
    """Keys of a prefix are kept for the next query."""
    parts = states(70, 200)
    before = [part.clone() for part in parts]
    attended(*parts, causal=True)
    assert all(torch.equal(part, old) for part, old in zip(parts, before, strict=True))


def small(kind: type, config: object) -> object:
    with torch.device("meta"):
        return kind(config)


BERT = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16, "vocab_size": 9}


def test_models_that_read_otherwise_are_left_alone() -> None:
    """A sliding window, a Qwen3 that reads both ways, a decoder of BERT: neither packed nor taken for causal."""
    sliding, both_ways = qwen3_config(), qwen3_config()
    sliding.layer_types = ["full_attention", "sliding_attention"]
    both_ways.is_causal = False
    decoder = BertConfig(is_decoder=True, **BERT)
    for model in (small(Qwen3Model, sliding), small(Qwen3Model, both_ways), small(BertModel, decoder)):
        before = model.config._attn_implementation
        assert not is_causal(model)
        assert not packs(model)
        assert model.config._attn_implementation == before


def test_qwen3_is_causal_and_packed_on_a_cpu() -> None:
    """The model that the package is for runs without padding."""
    model = Qwen3Model(qwen3_config(layers=1, width=16, vocabulary=9)).eval()
    forward = Forward.of(model, "last")
    assert (forward.causal, forward.packed) == (True, True)
    assert model.config._attn_implementation == attention.NAME


def test_a_model_whose_attention_cannot_be_set_is_padded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Transformers only warns then; packed all the same, documents would read each other."""
    model = BertModel(BertConfig(**BERT)).eval()
    monkeypatch.setattr(model, "set_attn_implementation", lambda _: None)
    assert not packs(model)


def test_rows_and_masks_are_refused() -> None:
    """Attention that ignores a mask must not be given one."""
    query, key, value = states(4, 4)
    with pytest.raises(ValueError, match="need another attention"):
        attend(SimpleNamespace(is_causal=True), query, key, value, torch.ones(1, 1, 4, 4), scaling=1.0)
    pair = [torch.cat([part, part]) for part in (query, key, value)]
    with pytest.raises(ValueError, match="need another attention"):
        attended(*pair, causal=True)


def test_another_model_keeps_its_attention() -> None:
    """Packing one model changes no other of the process."""
    first, second = (Qwen3Model(qwen3_config(layers=1, width=16, vocabulary=9)).eval() for _ in range(2))
    Forward.of(first, "last")
    assert second.config._attn_implementation != attention.NAME


@pytest.mark.parametrize("tokens", [60, 300])
def test_bfloat16_stays_near_float32_at_full_width(tokens: int) -> None:
    """With two layers of the 0.6B's width, a vector in bfloat16 has a cosine of .9998 to transformers' in float32."""
    config = qwen3_config(layers=2, width=1024, vocabulary=512)
    config.update({"num_attention_heads": 16, "num_key_value_heads": 8, "head_dim": 128, "intermediate_size": 3072})
    torch.manual_seed(0)
    exact = Qwen3Model(config).eval()
    rounded = Qwen3Model(config).eval()
    for target, source in zip(rounded.parameters(), exact.parameters(), strict=True):
        source.data = source.data.bfloat16().float()
        target.data = source.data.bfloat16()  # not `.to()`, which would round the rotary frequencies, too
    ids = [torch.randint(512, (tokens,), generator=torch.Generator().manual_seed(1)).tolist()]
    with torch.inference_mode():
        hidden = exact(input_ids=torch.tensor(ids)).last_hidden_state[:, -1]
    expected = torch.nn.functional.normalize(hidden, dim=-1)
    assert float((Forward.of(rounded, "last").rows(ids) * expected).sum()) >= 0.9998
