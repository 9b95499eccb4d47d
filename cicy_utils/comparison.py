"""Whether two lists are the same: their matrices up to permutations, and their labels."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cicy_utils.canonical import canonical_forms
from cicy_utils.data import as_keys
from cicy_utils.sources import SourceList, read_list

_SHOWN = 5


@dataclass(frozen=True)
class Comparison:
    """Two lists side by side; entries are counted from 0 in their own sources.

    Attributes:
        names: the two sources.
        sizes: numbers of configurations.
        distinct: numbers of configurations that are no permutations of each other.
        common: how many distinct configurations are in both.
        missing: for each list, the entries of it that are not in the other (int64).
        unlike: int64 (n, 2), entries of the first and the second list that are the same
            configuration with other Hodge numbers.
        labels: int16 (n, 2, 4), those Hodge numbers.
    """

    names: tuple[str, str]
    sizes: tuple[int, int]
    distinct: tuple[int, int]
    common: int
    missing: tuple[np.ndarray, np.ndarray]
    unlike: np.ndarray
    labels: np.ndarray

    @property
    def same_configurations(self) -> bool:
        """Whether each configuration of one list is in the other, and equally often: once."""
        return self.sizes == self.distinct and not any(map(len, self.missing))

    @property
    def same(self) -> bool:
        """Whether the configurations are the same and all labels agree."""
        return self.same_configurations and not len(self.unlike)

    def text(self) -> str:
        """A few lines that say what is the same and what is not."""
        lines = []
        for name, size, distinct in zip(self.names, self.sizes, self.distinct, strict=True):
            twice = f", {size - distinct:,} of them permutations of others" * (size > distinct)
            lines.append(f"{name}: {size:,} configurations{twice}")
        lines.append(f"{self.common:,} are in both, up to permutations of rows and of columns")
        for name, entries in zip(self.names, self.missing, strict=True):
            if len(entries):
                lines.append(f"{len(entries):,} only in {name}: entries {_listed(entries)}")
        if len(self.unlike):
            lines.append(f"{len(self.unlike):,} have different Hodge numbers:")
            for (first, second), (one, other) in zip(
                self.unlike[:_SHOWN].tolist(), self.labels[:_SHOWN].tolist(), strict=True
            ):
                lines.append(f"  entry {first}: {one}, entry {second}: {other}")
        elif self.common:
            first = ", of each the first" * (self.sizes != self.distinct)
            lines.append(f"their Hodge numbers agree{first}")
        lines.append(
            "the lists are the same"
            if self.same
            else "the lists hold the same configurations with different labels"
            if self.same_configurations
            else "the lists are not the same"
        )
        return "\n".join(lines)


def compare(first: str | Path, second: str | Path, *, drop: bool = False) -> Comparison:
    """Compare two sources; about a minute for two complete lists.

    Args:
        first, second: what ``load_cicy4`` takes.
        drop: leave out entries that break a rule; otherwise they are an error.

    Raises:
        FileNotFoundError, ValueError: a source is missing, damaged, or has broken entries.
    """
    lists = [read_list(source, drop=drop) for source in (first, second)]
    (keys, entries), (other_keys, other_entries) = map(_distinct, lists)
    _, shared, other_shared = np.intersect1d(
        keys, other_keys, assume_unique=True, return_indices=True
    )
    in_first, in_second = entries[shared], other_entries[other_shared]
    labels = np.stack([lists[0].hodge[in_first], lists[1].hodge[in_second]], axis=1)
    unlike = np.flatnonzero((labels[:, 0] != labels[:, 1]).any(axis=1))
    unlike = unlike[np.argsort(in_first[unlike])]
    positions = [found.positions for found in lists]
    return Comparison(
        names=(str(first), str(second)),
        sizes=(len(lists[0].matrices), len(lists[1].matrices)),
        distinct=(len(keys), len(other_keys)),
        common=len(in_first),
        missing=(
            positions[0][np.setdiff1d(entries, in_first)],
            positions[1][np.setdiff1d(other_entries, in_second)],
        ),
        unlike=np.stack([positions[0][in_first[unlike]], positions[1][in_second[unlike]]], axis=1),
        labels=labels[unlike],
    )


def _distinct(found: SourceList) -> tuple[np.ndarray, np.ndarray]:
    """Sorted keys of the distinct canonical forms, and where each is first in the list."""
    return np.unique(as_keys(canonical_forms(found.matrices)), return_index=True)


def _listed(entries: np.ndarray) -> str:
    shown = ", ".join(map(str, entries[:_SHOWN].tolist()))
    return shown + (f" and {len(entries) - _SHOWN:,} more" if len(entries) > _SHOWN else "")
