"""What came of an indexing job."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class IndexReport:
    """What came of an indexing job. `rows` is `written` + `skipped_before` + `errors`.

    Attributes:
        rows: Of the corpus, blank lines left out.
        written: Put into the store now.
        skipped_before: In the store since an earlier run of the job.
        errors: That could not be used, those of earlier runs included; the manifest lists them.
        parts: That were done now.
        seconds: That took.
        tokens: That went through the model now.
        cut: Rows of now whose text is longer than the model's cap, and was cut for its vector; it is stored whole.
        left_out: Names of fields, met now, that a store cannot keep as metadata, such as lists.
        stored: Records in the store, those of other origin included.
        replaced: Records that were in the store when the job began, and are not: rows of the same ids replaced them,
            unless somebody deleted records since.
    """

    rows: int
    written: int
    skipped_before: int
    errors: int
    parts: int
    seconds: float
    tokens: int
    cut: int
    left_out: tuple[str, ...]
    stored: int
    replaced: int

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> list[str]:
        seconds = max(self.seconds, 1e-9)
        rate = f"{self.written / seconds:,.0f} rows/s, {self.tokens / seconds:,.0f} tokens/s"
        lines = [f"{self.written:,} rows indexed in {self.seconds:,.1f} s ({rate}); {self.stored:,} records stored"]
        if self.skipped_before:
            lines.append(f"{self.skipped_before:,} rows were indexed before")
        if self.cut:
            lines.append(f"{self.cut:,} texts are longer than the model's cap; their vectors lack the end")
        if self.left_out:
            names = ", ".join(map(repr, self.left_out))
            lines.append(f"not kept as metadata, being no text, number or truth value, or by their names: {names}")
        foreign = self.stored - self.written - self.skipped_before
        if foreign > 0:
            lines.append(f"{foreign:,} of the records are not of this corpus as it is now")
        if self.replaced:
            lines.append(f"{self.replaced:,} records of before were replaced by rows of the same ids, or deleted")
        if self.errors:
            lines.append(f"{self.errors:,} of {self.rows:,} rows could not be used")
        return lines
