"""The rows of some files scored block by block, and the metrics of those that have labels."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import click
import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys_assets.arrays import Array, number_values, slices
from recsys_assets.datasets.duck import connect_without_lake
from recsys_assets.datasets.label import label_rule
from recsys_assets.datasets.profile import Profile
from recsys_assets.datasets.profile_parts import Column
from recsys_assets.metrics import ranker_metrics
from recsys_assets.tzrec.scorers import PROBABILITY, Scorer
from recsys_assets.tzrec.shares import Share
from recsys_assets.tzrec.table_files import Format, UnreadableTable, blocks, column_names
from recsys_assets.tzrec.typed_rows import Faults, labels, raw_names, typed

ALL_COLUMNS = "ALL_COLUMNS"


class UnknownColumn(ValueError):
    """A column is asked for that the output cannot have; the message says which it can."""


@dataclass
class Predictions:
    """The outputs of a model for this process's share of the rows.

    Attributes:
        scorer: the model.
        files: the tables, all of the format `kind`.
        reserved: the columns of the files that the output keeps unchanged, or `ALL_COLUMNS`.
        batch: rows that are scored at once.
        labelled: labels, probabilities and users of the rows with a label that were scored, block by block.
        faults: those of the rows that were scored.
    """

    scorer: Scorer
    files: Sequence[Path]
    kind: Format
    reserved: Sequence[str]
    batch: int
    share: Share
    labelled: list[tuple[Array, Array, pa.Array]] = field(default_factory=list)
    faults: Faults = field(default_factory=Faults)

    def tables(self) -> Iterator[pa.Table]:
        """The output, block by block: what the model gives, then the reserved columns.

        Raises:
            LandedFileError, UnreadableTable: a file cannot be used, or there are no rows.
            UnknownColumn: a reserved column has the name of the output.
        """
        rows = 0
        with connect_without_lake() as connection:
            for file in self.files:
                for table in self._tables_of(connection, file):
                    rows += len(table)
                    yield table
        if not sum(self.share.gather(rows)):
            raise UnreadableTable(f"there are no rows in {self.files[0]}" + (" and the others" * (len(self.files) > 1)))

    def report(self) -> None:
        """Print the faults of rows and, if there are labels, the metrics: those of all processes."""
        faults = Faults()
        for each in self.share.gather(self.faults):
            faults.rows += each.rows
            faults.examples = each.examples | faults.examples
        if faults.rows:
            self.share.say(f"scored in spite of faults, with what cannot be read as missing: {faults}")
        found = [block for each in self.share.gather(self.labelled) for block in each]
        if found and self.share.is_first:
            _print_metrics(found)

    def _tables_of(self, connection: duckdb.DuckDBPyConnection, file: Path) -> Iterator[pa.Table]:
        there, before = column_names(file, self.kind), 0
        reserved = there if list(self.reserved) == [ALL_COLUMNS] else self.reserved
        if self.scorer.output in reserved:
            raise UnknownColumn(f"{file} has a column {self.scorer.output}, as the output has: reserve other columns")
        label = self._label_columns(there)
        profile = self._profile_of(label)
        for raw in blocks(file, self.kind, list(dict.fromkeys([*raw_names(profile), *reserved]))):
            part = self.share.of(len(raw))
            mine = raw.slice(part.start, part.stop - part.start)
            if len(mine):
                rows = typed(connection, profile, file, mine, before + part.start)
                scores = self._score(rows)
                self.faults.note(file, rows)
                if label:
                    self._note_labels(rows, scores, labels(connection, profile, rows))
                yield pa.table({self.scorer.output: scores, **{name: mine[name] for name in reserved}})
            before += len(raw)

    def _score(self, rows: pa.Table) -> pa.Array:
        parts = [self.scorer.score(rows.slice(part.start, self.batch)) for part in slices(len(rows), self.batch)]
        return pa.concat_arrays(parts)

    def _label_columns(self, there: Sequence[str]) -> dict[str, Column]:
        """The columns that the label of a ranking model follows from, if the file has them all."""
        profile = self.scorer.pipeline.profile
        if self.scorer.output != PROBABILITY or not profile.has_label_rule:
            return {}
        found = {name: profile.tables["interactions"][name] for name in sorted(label_rule(profile).columns)}
        return found if all((spec.column or name) in there for name, spec in found.items()) else {}

    def _profile_of(self, label: dict[str, Column]) -> Profile:
        """The profile of the columns that are read."""
        profile = self.scorer.pipeline.profile
        columns = {name: profile.tables["interactions"][name] for name in self.scorer.columns}
        return profile.model_copy(update={"tables": {"interactions": {**columns, **label}}})

    def _note_labels(self, rows: pa.Table, scores: pa.Array, found: pa.Array) -> None:
        known = found.is_valid()
        if not pc.any(known).as_py():
            return
        users = rows["user_id"].combine_chunks().cast(pa.string()) if "user_id" in self.scorer.columns else None
        users = pa.nulls(len(rows), pa.string()) if users is None else pc.fill_null(users, "")
        self.labelled.append((found.filter(known).to_numpy(), scores.filter(known).to_numpy(), users.filter(known)))


def _print_metrics(blocks: Sequence[tuple[Array, Array, pa.Array]]) -> None:
    """Print the AUC and the other metrics of labelled rows."""
    labels, scores, users = zip(*blocks, strict=True)
    everyone = pa.chunked_array(list(users), pa.string())
    numbers = None if everyone.null_count else number_values(everyone)[1]
    found, absent = ranker_metrics(np.concatenate(labels), np.concatenate(scores), numbers)
    for name, value in found.items():
        click.echo(f"{name}: {value:.6f}")
    for name, reason in absent.items():
        click.echo(f"no {name}: {reason}", err=True)
