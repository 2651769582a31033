"""The objective (paper, section 3.3): InfoNCE on plain queries, RankNet on listwise prompts.

All vectors are unit rows, so that a product is a cosine.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn.functional import cross_entropy, softplus

from e2rank_integrations.training.settings import LISTWISE_TEMPERATURE, QUERY_TEMPERATURE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor


def info_nce(
    queries: Tensor, documents: Tensor, positives: Tensor, *, temperature: float = QUERY_TEMPERATURE
) -> Tensor:
    """How surely each query picks its positive among all documents of the batch.

    Args:
        queries: Unit rows, shape (queries, width).
        documents: Unit rows, shape (documents, width); another query's documents are negatives of this one.
        positives: The row of each query's positive, shape (queries,).
        temperature: What cosines are divided by.

    Returns:
        The mean over the queries, a scalar of at least 0.
    """
    return cross_entropy(queries @ documents.T / temperature, positives)


def multi_positive_info_nce(
    query: Tensor, documents: Tensor, positives: Tensor, *, temperature: float = QUERY_TEMPERATURE
) -> Tensor:
    """As `info_nce` for one query that may have several positives: none of them is a negative of another.

    Args:
        query: A unit row, shape (width,).
        documents: Unit rows, shape (documents, width).
        positives: Rows of the relevant documents, shape (positives,), at least one.
        temperature: What cosines are divided by.

    Returns:
        -log of the share of the probability that falls on the positives, a scalar of at least 0.
    """
    logits = documents @ query / temperature
    return logits.logsumexp(dim=0) - logits[positives].logsumexp(dim=0)


def rank_net(cosines: Sequence[Tensor], *, temperature: float = LISTWISE_TEMPERATURE) -> Tensor:
    """How surely the documents of each slate are in the order of its label.

    Args:
        cosines: For each slate the cosines of its documents to its listwise prompt in the label's order, best first,
            shape (documents,).
        temperature: What cosines are divided by.

    Returns:
        The mean of `log(1 + exp(worse - better))` over all pairs of all slates, each pair once; a scalar of at least 0.
    """
    return torch.cat([_pairs(scores / temperature) for scores in cosines]).mean()


def _pairs(scores: Tensor) -> Tensor:
    """The losses of all pairs of scores that should fall."""
    better, worse = torch.triu_indices(len(scores), len(scores), offset=1, device=scores.device)
    return softplus(scores[worse] - scores[better])
