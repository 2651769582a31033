"""Tokenizers, ours and Hugging Face's, once per session."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from transformers import AutoTokenizer

from e2rank_integrations.checkpoint import EMBEDDED, resolve
from e2rank_integrations.text.tokenizer import LiteralTokenizer, load_tokenizer
from tests.golden.freeze import reference_tokenizer
from tests.support.qwen import qwen_tokenizer, save_qwen_tokenizer

if TYPE_CHECKING:
    from pathlib import Path

    from transformers import PreTrainedTokenizerBase


@pytest.fixture(scope="session")
def qwen() -> LiteralTokenizer:
    """Our reading of Qwen's tokenizer."""
    return LiteralTokenizer(qwen_tokenizer().to_str())


@pytest.fixture(scope="session")
def hf_qwen(tmp_path_factory: pytest.TempPathFactory) -> PreTrainedTokenizerBase:
    """Hugging Face's reading of Qwen's tokenizer: control tokens are parsed wherever they stand."""
    folder: Path = tmp_path_factory.mktemp("qwen-tokenizer")
    save_qwen_tokenizer(folder)
    return reference_tokenizer(folder)


@pytest.fixture(scope="session")
def bert() -> LiteralTokenizer:
    """Our reading of the embedded model's tokenizer."""
    return load_tokenizer(resolve(EMBEDDED).folder)


@pytest.fixture(scope="session")
def hf_bert() -> PreTrainedTokenizerBase:
    """Hugging Face's reading of it; a call without arguments neither truncates nor pads."""
    return AutoTokenizer.from_pretrained(resolve(EMBEDDED).folder)
