"""Who trains on what: the splits of arXiv 2405.17406, section 2, as seeded index arrays.

The paper's sizes on the 905,684 configurations follow from scikit-learn's rules of rounding:

- 72 %: a fifth is put aside as test set (181,137), then a tenth of the rest as validation set
  (72,455); 652,092 stay for training.
- five folds: training and validation set of the 72 % split, one after the other, cut into five
  consecutive pieces (144,910 or 144,909). Each piece is the validation set of one fold, the other
  four its training set (579,637 or 579,638). The test set stays.
- 80 %: 40 % of the test set (72,455) join the training set (724,547), the other 60 % (108,682)
  stay as test set. The validation set stays. What joins was never seen by a model trained on
  the 72 % split, and what stays for testing was never seen by either.

The paper does not give its seeds. That of the 80 % step, 101, is in its public notebooks; 42 for
the first one is our choice, after the seed that they use elsewhere. So the sets have the published
sizes, but not the published members. These are in the Kaggle arrays of its author, whose splits
``split_of`` gives where there is no seed.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from sklearn.model_selection import KFold, train_test_split

from cicy_utils.records import LIST_SIZE

if TYPE_CHECKING:
    from cicy_utils.data import Cicy4

TEST_SHARE = 0.2
VALIDATION_SHARE = 0.1  # of what the test set leaves: 8 % of everything
ENLARGE_SHARE = 0.4  # of the 72 % split's test set
ENLARGE_SEED = 101
FOLDS = 5
NAMES = ("72", "80", *(f"fold-{number}" for number in range(FOLDS)))
SMALLEST = 10  # below this some part would be empty


def training_share(name: str) -> int:
    """The share that the training set of a split stands for in the paper's tables, in percent.

    80 or 72; folds belong to the latter.
    """
    return 80 if name == "80" else 72


@dataclass(frozen=True, eq=False)
class Split:
    """Index arrays of three disjoint parts of a list.

    Attributes:
        name: "72", "80" or "fold-0" to "fold-4".
        seed: of the first cut; None if it was not drawn here but came with the list.
        train, validation, test: int64 indices in the order drawn.
    """

    name: str
    seed: int | None
    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray

    @property
    def parts(self) -> dict[str, np.ndarray]:
        """The three index arrays by name."""
        return {"train": self.train, "validation": self.validation, "test": self.test}

    @property
    def sizes(self) -> dict[str, int]:
        """Number of configurations in each part."""
        return {part: len(indices) for part, indices in self.parts.items()}

    @property
    def fingerprints(self) -> dict[str, str]:
        """sha256 (hexadecimal) of each part, as little-endian int64 in the order drawn."""
        return {
            part: hashlib.sha256(np.ascontiguousarray(indices, dtype="<i8")).hexdigest()
            for part, indices in self.parts.items()
        }


def split_72(n: int, seed: int = 42) -> Split:
    """Train, validation and test set in the ratio 72 : 8 : 20.

    Args:
        n: number of configurations; 905,684 gives the paper's 652,092, 72,455 and 181,137.
        seed: of both cuts.

    Raises:
        ValueError: fewer than ten configurations.
    """
    if n < SMALLEST:
        raise ValueError(f"a split needs at least {SMALLEST} configurations, not {n}")
    rest, test = train_test_split(np.arange(n), test_size=TEST_SHARE, random_state=seed)
    train, validation = train_test_split(rest, test_size=VALIDATION_SHARE, random_state=seed)
    return Split("72", int(seed), train, validation, test)


def split_80(n: int, seed: int = 42) -> Split:
    """The 72 % split with 40 % of its test set moved to the training set.

    Args:
        n: number of configurations; 905,684 gives the paper's 724,547 for training and 108,682
            for testing, and the validation set of ``split_72(n, seed)``.
        seed: of the 72 % split; the move has the published seed 101.

    Raises:
        ValueError: fewer than ten configurations.
    """
    old = split_72(n, seed)
    test, joining = train_test_split(old.test, test_size=ENLARGE_SHARE, random_state=ENLARGE_SEED)
    return Split("80", old.seed, np.concatenate([old.train, joining]), old.validation, test)


def cv_folds(n: int, seed: int = 42) -> tuple[Split, ...]:
    """The five folds of cross-validation over training and validation set of ``split_72``.

    Args:
        n: number of configurations.
        seed: of the 72 % split; the folds themselves are consecutive pieces.

    Raises:
        ValueError: fewer than ten configurations.
    """
    return _folds(split_72(n, seed))


def split_of(data: Cicy4, name: str, *, seed: int | None = 42) -> Split:
    """A split of a list by its name: drawn or, without a seed, the one that the list came with.

    Args:
        data: the list, or a subset of it, of which the split then is what the subset has of it.
        name: "72", "80" or "fold-0" to "fold-4".
        seed: as of ``split_72``; None for the split in the Kaggle arrays that are the list's
            source; each is read once in a process. Folds are cut from it as from one that was
            drawn, since the arrays do not hold the paper's.

    Raises:
        ValueError: there is no such split, the list is too short for one, or there is no seed and
            the source has no split of its own, or not one of this list.
    """
    if name not in NAMES:
        raise ValueError(f"the splits are {', '.join(NAMES)}, not {name!r}")
    if name.startswith("fold"):
        return {fold.name: fold for fold in _folds(split_of(data, "72", seed=seed))}[name]
    if seed is not None:
        return {"72": split_72, "80": split_80}[name](len(data), seed)
    key = data.source, data.fingerprint, name
    if key not in _came_with:
        _came_with[key] = _published(data, name)
    return _came_with[key]


_came_with: dict[tuple[str, str, str], Split] = {}  # what was read, as it takes a minute


def require_own(source: str) -> None:
    """ValueError where a source has no split of its own for certain."""
    if source == "bundled":
        raise ValueError(
            "the bundled list has no split of its own: give a seed of the split (SPLIT_SEED), or "
            "the Kaggle arrays as the source (SOURCE)"
        )


def _published(data: Cicy4, name: str) -> Split:
    from cicy_utils.kaggle_arrays import kaggle_split  # which needs this module

    require_own(data.source)
    split = kaggle_split(data.source, data, name, drop=len(data) < LIST_SIZE)
    if empty := [part for part, size in split.sizes.items() if not size]:
        raise ValueError(
            f"of the published {name} % split these {len(data):,} configurations have nothing in "
            f"the {empty[0]} set: take more of them"
        )
    return split


def _folds(old: Split) -> tuple[Split, ...]:
    pool = np.concatenate([old.train, old.validation])
    return tuple(
        Split(f"fold-{fold}", old.seed, pool[train], pool[validation], old.test)
        for fold, (train, validation) in enumerate(KFold(FOLDS, shuffle=False).split(pool))
    )
