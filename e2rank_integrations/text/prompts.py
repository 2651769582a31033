"""Writing the three kinds of input as token ids: document, query, and the listwise prompt that fits its budget."""

from __future__ import annotations

from dataclasses import fields
from functools import cached_property
from itertools import pairwise
from string import Formatter
from typing import TYPE_CHECKING

from e2rank_integrations.errors import InputError, ProfileError, PromptBudgetError
from e2rank_integrations.text.budget import round_up, share_room
from e2rank_integrations.text.checks import expect_text
from e2rank_integrations.text.scores import SOME_SCORE, as_shown
from e2rank_integrations.text.tokenizer import merged
from e2rank_integrations.values import PromptPlan, PromptSlot, TokenInput

if TYPE_CHECKING:
    from collections.abc import Sequence

    from e2rank_integrations.profiles import Profile
    from e2rank_integrations.text.tokenizer import Line, LiteralTokenizer, Part


class InputWriter:
    """Writes a profile's inputs with a checkpoint's tokenizer. Holds no mutable state.

    Args:
        profile: Formats, caps and task strings.
        tokenizer: The checkpoint's.
        window: The most positions the model has; caps above it are lowered to it.

    Raises:
        ProfileError: a format names a control token that the tokenizer lacks, the template cannot be encoded line
            by line, or a cap leaves no room for text.
        InputError: a task string is not text.
    """

    def __init__(self, profile: Profile, tokenizer: LiteralTokenizer, window: int) -> None:
        self.profile = profile
        self.window = window
        self._tokenizer = tokenizer
        self._document_frame = self._frame(profile.document_format, "document")
        self._prompt_frame = self._frame(profile.prompt_format, "message")
        self._expect_tasks()
        self._expect_line_by_line()
        self._expect_floor(max(2, profile.num_input_docs))
        self._expect_document_cap()

    def document(self, text: str) -> Line:
        """A document's embedding input, not yet cut; `cut_document` cuts it to its cap."""
        return self._tokenizer.line(self._document_frame[0], self._rewritten(text), self._document_frame[1])

    def cut_document(self, line: Line) -> TokenInput:
        """A document's input within its cap."""
        return TokenInput(line.ids(self.document_cap), "document")

    @property
    def document_cap(self) -> int:
        """Tokens a document's embedding may have at most."""
        return min(self.profile.caps.document, self.window)

    def query(self, text: str) -> TokenInput:
        """A plain query's input.

        Raises:
            InputError: it is longer than its cap; a query is never cut.
        """
        form, task = self.profile.query_format, self.profile.tasks.query
        ids = self._tokenizer.encode(self._fill(form, task=task, query=text))
        limit = min(self.profile.caps.query, self.window)
        if len(ids) > limit:
            raise InputError(f"the query takes {len(ids)} tokens of {limit}; shorten it, since a query is never cut")
        return TokenInput(ids, "query")

    def listwise(
        self, query: str, texts: Sequence[str], asked: int, scores: Sequence[float | None] | None = None
    ) -> tuple[TokenInput, PromptPlan]:
        """The listwise prompt (paper, section 3.2 and appendix C) over the first `asked` texts that fit.

        Args:
            query: What is asked.
            texts: The candidates, best first.
            asked: How many of them to list.
            scores: The first stage's scores, one per text; read only where the template's line has a `{score}` field.

        Raises:
            PromptBudgetError: the query and the scaffold leave no room for one document.
            InputError: there is no document to list, or one to be listed lacks the score that the template shows.
            ProfileError: more are asked for than the profile lists, and the floor leaves the last one's mark no room.
        """
        if not texts or asked < 1:
            raise InputError(f"a prompt lists at least one document; {len(texts)} were given and {asked} asked for")
        if asked > self.profile.num_input_docs:
            self._expect_floor(min(asked, len(texts)))
        caps = self.profile.caps
        listed = zip(texts[:asked], self._shown_scores(len(texts), asked, scores), strict=True)
        lines = [self._line(position, text, score) for position, (text, score) in enumerate(listed, start=1)]
        tail = self._tokenizer.encode(self._tail_parts(query))
        room = self._room(len(tail))
        used, cap = share_room([len(line) for line in lines], room=room, cap=caps.listed, floor=caps.floor)
        if not used:
            raise PromptBudgetError(
                f"the query and the scaffold take {len(self._head) + len(tail)} of the prompt's {self.prompt_cap} "
                f"tokens, and a document needs up to {caps.floor} more; shorten the query or raise the prompt's cap"
            )
        cut = [line.ids(cap) for line in lines[:used]]
        ids = (*self._head, *(id_ for line in cut for id_ in line), *tail)
        plan = PromptPlan(
            slots=_slots(lines, cut, len(texts)),
            tokens=len(ids),
            max_tokens=self.prompt_cap,
            query_tokens=len(tail),
            documents_asked=len(lines),
            documents_used=used,
            cap_asked=caps.listed,
            cap_used=cap,
        )
        return TokenInput(ids, "listwise", shared=len(ids) - len(tail)), plan

    @property
    def prompt_cap(self) -> int:
        """Tokens the whole prompt may have at most."""
        return min(self.profile.caps.prompt, self.window)

    def _room(self, tail: int) -> int:
        """Tokens for the documents; the query's room is rounded up unless that would leave too few."""
        caps = self.profile.caps
        rest = self.prompt_cap - len(self._head)
        room = rest - round_up(tail, caps.query_step)
        return room if room >= caps.floor else rest - tail

    @cached_property
    def _head(self) -> tuple[int, ...]:
        tasks = self.profile.tasks
        return self._tokenizer.encode(self._head_parts(tasks.listwise, tasks.noun))

    def _head_parts(self, task: str, noun: str) -> list[Part]:
        return [*self._prompt_frame[0], *self._fill(self.profile.template.head, task=task, noun=noun)]

    def _tail_parts(self, query: str) -> list[Part]:
        tasks = self.profile.tasks
        tail = self._fill(self.profile.template.tail, query=query, task=tasks.listwise, noun=tasks.noun)
        return [*tail, *self._prompt_frame[1]]

    def _line(self, position: int, text: str, score: str = SOME_SCORE) -> Line:
        text = self._rewritten(text)
        if self.profile.template.collapse_whitespace:
            text = " ".join(text.split())
        before, after = self._line_frame(position, score)
        return self._tokenizer.line(before, text, after)

    def _line_frame(self, position: int, score: str = SOME_SCORE) -> tuple[list[Part], list[Part]]:
        template = self.profile.template
        before, after = self._frame(template.line, "document", position=str(position), score=score)
        separator = self._fill(template.separator) if position > 1 else []
        return [*separator, *before], after

    def _shown_scores(self, candidates: int, asked: int, scores: Sequence[float | None] | None) -> list[str]:
        """The scores of the candidates to be listed as the template shows them, each with room left for text."""
        given = [None] * candidates if scores is None else scores
        if len(given) != candidates:
            raise InputError(f"scores: expected one for each of {candidates} candidates, found {len(given)}")
        if not self.profile.template.shows_scores:
            return [SOME_SCORE] * min(asked, candidates)
        shown = [as_shown(position, score, self.profile.template.name) for position, score in enumerate(given[:asked])]
        for position, score in enumerate(shown):
            frame = len(self._line(position + 1, "", score))
            if frame >= self.profile.caps.floor:
                raise InputError(
                    f"candidate {position}: with its retrieval score an empty line of the prompt takes {frame} tokens, "
                    f"so the floor of {self.profile.caps.floor} leaves no room for text; scale the scores"
                )
        return shown

    def _rewritten(self, text: str) -> str:
        words = self.profile.document_words
        return text if words is None else " ".join(text.split()[:words])

    def _fill(self, form: str, **values: str) -> list[Part]:
        """A format's parts: control tokens only where the format itself names them."""
        parts: list[Part] = []
        for ours, name, _, _ in Formatter().parse(form):
            parts.extend(self._tokenizer.split(ours))
            if name is not None:
                parts.append(values[name])
        return parts

    def _frame(self, form: str, field: str, **values: str) -> tuple[list[Part], list[Part]]:
        """A format's parts before and after the one field that holds the user's text."""
        before: list[Part] = []
        after: list[Part] = []
        side = before
        for ours, name, _, _ in Formatter().parse(form):
            side.extend(self._tokenizer.split(ours))
            if name == field:
                side = after
            elif name is not None:
                side.append(values[name])
        return before, after

    def _expect_tasks(self) -> None:
        """The task strings are a user's text like any other; and filling the query's format checks that, too."""
        for entry in fields(self.profile.tasks):
            expect_text(getattr(self.profile.tasks, entry.name), f"profile {self.profile.name!r}, task {entry.name!r}")
        self._fill(self.profile.query_format, task="", query="")

    def _expect_line_by_line(self) -> None:
        """Lines may be encoded apart only where no token can reach over the joint between them."""
        lines = [[*before, " ", *after] for before, after in map(self._line_frame, (1, 2))]
        pieces = [piece for piece in (self._head_parts(" ", " "), *lines, self._tail_parts(" ")) if piece]
        joints = [(merged(left)[-1], merged(right)[0]) for left, right in pairwise(pieces)]
        if not all(_is_control_joint(*joint) or _is_line_joint(*joint) for joint in joints):
            raise ProfileError(
                f"template {self.profile.template.name!r}: each line must begin with a fixed character other than "
                f"whitespace, and what stands before it must end with a newline or a control token"
            )
        if not all(_is_control_joint(*joint) for joint in joints) and not self._tokenizer.splits_at_newline():
            raise ProfileError(
                f"template {self.profile.template.name!r}: this checkpoint's tokenizer reads over line ends; write a "
                f"template whose lines end with a control token"
            )

    def _expect_document_cap(self) -> None:
        frame = len(self.document(""))
        if frame > self.document_cap:
            raise ProfileError(
                f"profile {self.profile.name!r}: an empty document takes {frame} tokens, above the cap of "
                f"{self.document_cap}; raise it"
            )

    def _expect_floor(self, position: int) -> None:
        frame = len(self._line(position, ""))
        if frame >= self.profile.caps.floor:
            raise ProfileError(
                f"profile {self.profile.name!r}: an empty line of the prompt takes {frame} tokens, so the floor of "
                f"{self.profile.caps.floor} leaves no room for text; raise it"
            )


def _is_control_joint(left: Part, right: Part) -> bool:
    return isinstance(left, int) or isinstance(right, int)


def _is_line_joint(left: Part, right: Part) -> bool:
    return isinstance(left, str) and isinstance(right, str) and left.endswith("\n") and not right[:1].isspace()


def _slots(lines: Sequence[Line], cut: Sequence[tuple[int, ...]], candidates: int) -> tuple[PromptSlot, ...]:
    listed = [PromptSlot(True, len(line), len(ids), line.lower_bound) for line, ids in zip(lines, cut, strict=False)]
    left_out = [PromptSlot(False, len(line), 0, line.lower_bound) for line in lines[len(cut) :]]
    beyond = [PromptSlot(False)] * (candidates - len(lines))
    return (*listed, *left_out, *beyond)
