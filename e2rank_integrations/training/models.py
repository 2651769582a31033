"""The encoder with an objective on top: a batch of token ids in, one loss out.

Each is a plain module whose `forward` does all passes of a step, so that the trainer's own means of running on several
devices see one forward.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from e2rank_integrations.engines.pooling import pooled
from e2rank_integrations.training.losses import info_nce, multi_positive_info_nce, rank_net

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from e2rank_integrations.profiles import Pooling
    from e2rank_integrations.training.settings import TrainSettings
    from e2rank_integrations.values import Matrix

Tokens = dict[str, Tensor]
"""`ids` and `mask`, both of shape (sequences, longest)."""


class _Trained(nn.Module):
    """What both objectives share: the encoder, and how a sequence becomes a unit row."""

    def __init__(self, encoder: PreTrainedModel, pooling: Pooling, settings: TrainSettings) -> None:
        super().__init__()
        self.encoder = encoder
        self.pooling = pooling
        self.settings = settings

    def embed(self, tokens: Tokens) -> Tensor:
        """Unit rows, shape (sequences, width), float32."""
        mask = tokens["mask"]
        hidden = self.encoder(input_ids=tokens["ids"], attention_mask=mask.long()).last_hidden_state
        return normalize(pooled(hidden.float(), mask, self.pooling), dim=-1)

    def _summed(self, info: Tensor, ranks: Tensor | None) -> dict[str, Tensor]:
        """The loss and its parts."""
        if ranks is None:
            return {"loss": self.settings.infonce_weight * info, "infonce": info.detach()}
        loss = self.settings.infonce_weight * info + self.settings.ranknet_weight * ranks
        return {"loss": loss, "infonce": info.detach(), "ranknet": ranks.detach()}


class JointModel(_Trained):
    """The paper's objective: every vector is the trained model's. Without prompts it is stage I."""

    def forward(
        self, documents: Tokens, queries: Tokens, members: Tensor, prompts: Tokens | None = None
    ) -> dict[str, Tensor]:
        """The loss of a batch.

        Args:
            documents: The batch's distinct documents.
            queries: A plain query for each slate.
            members: For each slate the rows of its documents, best first, then -1, shape (slates, most).
            prompts: A listwise prompt for each slate; None for stage I.

        Returns:
            `loss`, and its parts without gradients: `infonce` and, with prompts, `ranknet`.
        """
        rows, plain = self.embed(documents), self.embed(queries)
        listwise = None if prompts is None else self.embed(prompts)
        with _in_float32(rows):
            info = info_nce(plain, rows, members[:, 0], temperature=self.settings.query_temperature)
            if listwise is None:
                return self._summed(info, None)
            cosines = [rows[_given(of)] @ prompt for of, prompt in zip(members, listwise, strict=True)]
            return self._summed(info, rank_net(cosines, temperature=self.settings.listwise_temperature))


class ListwiseModel(_Trained):
    """Only the listwise side learns; the vectors of documents and queries are constants.

    The query vector is the blend `normalise(w·e_q + (1−w)·e_q̂)`, w being the settings' `blend`. InfoNCE is over all
    documents of the slate's source, since their vectors cost nothing, with every positive as one.

    Args:
        documents: Unit rows of all sources' documents, shape (documents, width).
        queries: Unit rows of the slates' plain queries, shape (slates, width).
    """

    def __init__(
        self,
        encoder: PreTrainedModel,
        pooling: Pooling,
        settings: TrainSettings,
        *,
        documents: Matrix,
        queries: Matrix,
    ) -> None:
        super().__init__(encoder, pooling, settings)
        # They move with the model and stay out of its saved states.
        self.register_buffer("documents", torch.from_numpy(documents), persistent=False)
        self.register_buffer("queries", torch.from_numpy(queries), persistent=False)

    def forward(
        self, prompts: Tokens, slates: Tensor, members: Tensor, positives: Tensor, source: Tensor
    ) -> dict[str, Tensor]:
        """The loss of a batch.

        Args:
            prompts: A listwise prompt for each slate.
            slates: Rows of the plain queries, shape (slates,).
            members: For each slate the rows of its documents, best first, then -1, shape (slates, most).
            positives: For each slate the rows of its relevant documents, then -1, shape (slates, most).
            source: First row and the row after the last one of the documents of each slate's source, shape (slates, 2).

        Returns:
            `loss`, and its parts without gradients: `infonce` and `ranknet`.
        """
        plain, rows = self.get_buffer("queries")[slates], self.get_buffer("documents")
        weight, listwise = self.settings.blend, self.embed(prompts)
        with _in_float32(rows):
            blends = normalize(weight * plain + (1 - weight) * listwise, dim=-1)
            info = [
                self._info_nce(blend, rows[start:stop], _given(of) - start)
                for blend, of, (start, stop) in zip(blends, positives, source.tolist(), strict=True)
            ]
            cosines = [rows[_given(of)] @ blend for blend, of in zip(blends, members, strict=True)]
            ranks = rank_net(cosines, temperature=self.settings.listwise_temperature)
            return self._summed(torch.stack(info).mean(), ranks)

    def _info_nce(self, blend: Tensor, rows: Tensor, positives: Tensor) -> Tensor:
        return multi_positive_info_nce(blend, rows, positives, temperature=self.settings.query_temperature)


def _in_float32(rows: Tensor) -> torch.autocast:
    """Keep the losses out of bfloat16, whose steps of .004 in a cosine are .13 once divided by a temperature of .03."""
    return torch.autocast(rows.device.type, enabled=False)


def _given(rows: Tensor) -> Tensor:
    """The rows without their filling."""
    return rows[rows >= 0]
