"""The report of a run: results/<run>/index.html, which opens from disk with no network.

It is made from the files of the run folder at any moment, however much of it is there. Its text
and its looks are in report.html.j2; here is what goes into it.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import jinja2
import pandas as pd
from markupsafe import Markup

from cicy_utils import figures, paper, paper_tables, scan, tables
from cicy_utils.batch import profiles
from cicy_utils.batch.execution import HTML_FILE
from cicy_utils.batch.status import FILE_NAME as STATUS_FILE
from cicy_utils.batch.status import Status, cut_short, require_run, told
from cicy_utils.data import HODGE_NAMES
from cicy_utils.durations import duration
from cicy_utils.files import write_text
from cicy_utils.metrics import ACCURACIES, DECODINGS, EVERY_ACCURACY
from cicy_utils.places import REFERENCE
from cicy_utils.provenance import NO_CLAIM, QUICK, claim_nothing, machine_facts, merged_labels
from cicy_utils.records import (
    HISTORY_FILE,
    METRICS_FILE,
    found_metrics,
    validation_accuracy,
)

REPORT_FILE = "index.html"
TEMPLATE = "report.html.j2"

TABLE_SECTIONS = {
    "The twelve models and their ensembles": (1, 2, 3, 4, 5),
    "Cross-validation": (6, 7),
    "80 % training share": (8, 9),
    "The best results": (10, 11, 12),
    "Errors at 72 %": (13, 14, 15, 16),
    "Errors in cross-validation": (17, 18, 19, 20),
    "Errors at 80 %": (21, 22, 23, 24),
}
MEASURE_NAMES = {
    "accuracy_all": "all four",
    "mse_mean": "MSE",
    "mae_mean": "MAE",
    "r2_mean": Markup("R<sup>2</sup>"),
    "parameters_millions": "weights (millions)",
    "train_hours_p100": "training (hours)",
}
SHOWN_OF_DECODINGS = ("accuracy_h31", "accuracy_h22", "accuracy_all")
# Results that the paper lists at 80 % under names of the 72 % split: it did not train them again.
NOT_RETRAINED = (("CNN-LSTM-400", 80), ("LSTM-448-f1", 80))
SHOWN_TRIALS = 10  # of a scan; all of them are in its file
DASH = "–"


@dataclass(frozen=True)
class Cell:
    """A number, and below it in small letters the range of several."""

    text: str
    small: str = ""


@dataclass(frozen=True)
class Link:
    """Some text that may lead to a file; the address is relative to the report."""

    text: str
    address: str = ""


@dataclass(frozen=True)
class Row:
    """A row of a grid; a baseline is what needs no network."""

    name: Link
    note: str
    cells: Sequence[Cell]
    runs: Sequence[Link] = ()
    baseline: bool = False


@dataclass
class Grid:
    """A table of the report: a header of groups of columns, and rows.

    Attributes:
        anchor, title, number: number is the paper's, None for a table that is not in the paper.
        heads: name of every group of columns, and the names in it.
        labels: of the results in it, "" for the paper's recipe on the complete list.
        missing: rows without a result.
        notes: sentences below it.
        csv: the same numbers in a file.
        picture: a figure that belongs to it.
        picks: a second grid that belongs to it.
    """

    anchor: str
    title: str
    heads: Sequence[tuple[str, Sequence[str]]]
    rows: Sequence[Row]
    labels: Sequence[str] = ()
    number: int | None = None
    missing: Sequence[str] = ()
    notes: Sequence[str] = ()
    csv: Link | None = None
    picture: Link | None = None
    picks: Grid | None = None


@dataclass(frozen=True)
class Place:
    """A folder of the run: which notebook's it is and how far that has come."""

    name: Link
    state: str
    duration: str
    label: str | None  # None where nothing tells what was run
    error: str
    metrics: Link | None
    record: dict[str, Any] = field(repr=False)


def build(run_dir: Path | str) -> Path:
    """Write index.html, tables/ and figures/ into results/<run>/; returns the path of the first.

    Raises:
        FileNotFoundError: there is no such folder.
    """
    run_dir = Path(run_dir)
    require_run(run_dir)
    return Report(run_dir).write()


def newest_run(results: Path | str) -> str:
    """Name of the run in results/ in which something was finished or begun last.

    The one that comes with the project is taken where there is no other: its files are as new as
    the clone.

    Raises:
        FileNotFoundError: nothing has been run.
    """
    newest: dict[str, float] = {}
    for file in (STATUS_FILE, METRICS_FILE):
        for path in Path(results).glob(f"*/*/*/{file}"):
            name = path.parts[-4]
            newest[name] = max(newest.get(name, 0.0), path.stat().st_mtime)
    if not newest:
        raise FileNotFoundError(f"nothing has been run into {results}: bash run_all.sh does it")
    return max(newest, key=lambda name: (name != REFERENCE, newest[name]))


class Report:
    """What the report says of a run folder, part by part."""

    def __init__(self, run_dir: Path):
        self.run_dir = run_dir
        self.groups = paper.comparable(paper.collect(run_dir))
        self.main = self.groups[0] if self.groups else []
        self.places = [self._place(folder) for folder in self._folders()]

    def write(self) -> Path:
        """Write the page and all that it shows."""
        environment = jinja2.Environment(
            loader=jinja2.FileSystemLoader(Path(__file__).parent),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        shown = [record for record in self.main if record["kind"] != "baseline"]
        labels = _labels(shown or self.main)
        drawn, undrawn = self.figures()
        page = environment.get_template(TEMPLATE).render(
            run=self.run_dir.name,
            built=time.strftime("%Y-%m-%d %H:%M %Z"),
            labels=labels,
            no_claim=NO_CLAIM if claim_nothing(labels) else "",
            kind=kind,
            places=self.places,
            files=[self._link(name, self.run_dir / name) for name in ("results.md", "results.csv")],
            rankings=self.rankings(),
            sections=[
                (title, [self.table(number) for number in numbers])
                for title, numbers in TABLE_SECTIONS.items()
            ],
            beyond=self.beyond(),
            apart=self.apart(),
            figures=drawn,
            undrawn=undrawn,
            absent=self.absent(),
            unfinished=self.unfinished(),
            facts=self.facts(),
            machines=self.machines(),
        )
        path = self.run_dir / REPORT_FILE
        write_text(path, page)
        return path

    def table(self, number: int) -> Grid:
        """A table of the paper; its numbers are also written to tables/table_<number>.csv."""
        spec = paper_tables.TABLES[number]
        frame = paper_tables.build(number, self.main)
        path = self.run_dir / "tables" / f"table_{number:02d}.csv"
        write_text(path, frame.to_csv())
        grid = self._grid(frame, self.main, f"table-{number}", spec.title)
        grid.number = number
        grid.csv = self._link(path.name, path)
        if without := paper_tables.left_out(spec.rows):
            grid.notes = [without]
        if number == 1:
            grid.notes = ["Published hours are those of an NVIDIA P100; ours are told by row."]
        if spec.best:
            grid.notes = ["These are the paper's picks, made by test accuracy."]
            grid.picks = self._picks(number)
        return grid

    def rankings(self) -> list[Grid]:
        """Everything on one test set in one order, for each of the two test sets."""
        return [
            self._ranking(self.main, split, f"ranking-{split}", f"Test set of the {split} % split")
            for split in _splits(self.main)
        ]

    def apart(self) -> list[tuple[str, list[Grid]]]:
        """Results that must not stand beside the main ones: why, and their own rankings."""
        found = []
        for number, group in enumerate(self.groups[1:], start=1):
            conflict = paper.conflict([*self.main, *group])
            why = conflict[0].upper() + conflict[1:]
            reason = f"{why}, so these are not compared with the tables above."
            grids = [
                self._ranking(
                    group, split, f"apart-{number}-{split}", f"Test set of the {split} % split"
                )
                for split in _splits(group)
            ]
            found.append((reason, grids))
        return found

    def beyond(self) -> list[Grid]:
        """What the paper does not have: own ensembles, exact relations, scans, own weights."""
        grids = []
        theirs = set(paper.published().index)
        ours = [
            record
            for record in self.main
            if record["kind"] == "ensemble" and paper.key(record) not in theirs
        ]
        if ours:
            rows = [
                Row(
                    self._name(record),
                    f"{paper.key(record)[1]} %, by {record['chosen_by']}: {_members(record)}",
                    [Cell(_number(paper_tables.value(record, m), m)) for m in EVERY_ACCURACY],
                    [self._source(record)],
                )
                for record in ours
            ]
            heads = [("test accuracy (%)", [_measure(m) for m in EVERY_ACCURACY])]
            grids.append(Grid("own-ensembles", "Our own ensembles", heads, rows, _labels(ours)))
        shown = [record for record in self.main if "relation+chi" in record["metrics"]["test"]]
        if shown:
            grids.append(self._decodings(shown))
        folders = [(folder, found_metrics(folder)) for folder in self._folders()]
        grids += [self._scan(folder, record) for folder, record in folders if "scan" in record]
        grids += [
            self._published_weights(folder, record)
            for folder, record in folders
            if record.get("published")
        ]
        return grids

    def _scan(self, folder: Path, record: dict[str, Any]) -> Grid:
        """The best trials of a scan over hidden sizes, and its figure."""
        path = folder / scan.TRIALS_FILE
        trials = scan.ranked(pd.read_csv(path)) if path.is_file() else pd.DataFrame()
        rows = [
            Row(
                self._link(f"{trial['hidden size']:,} hidden units", folder / HTML_FILE),
                f"trial {trial['trial']}: {trial['state']}",
                [
                    Cell(f"{trial['layers']}"),
                    Cell(f"{trial['weights'] / 1e6:.3f}"),
                    Cell(f"{trial['learning rate']:g}"),
                    Cell(f"{trial['epochs']:,}"),
                    Cell(duration(60 * trial["minutes"])),
                    Cell(f"{trial['best epoch']:,}"),
                    Cell(_number(trial["best validation loss"], "loss")),
                ],
                [
                    self._link(
                        HISTORY_FILE, scan.trial_folder(folder, trial["trial"]) / HISTORY_FILE
                    )
                ],
            )
            for trial in trials[:SHOWN_TRIALS].to_dict("records")
        ]
        heads = [
            ("network", ["layers", "weights (millions)"]),
            ("training", ["learning rate", "epochs", "time"]),
            ("validation", ["best epoch", "best loss"]),
        ]
        model, figure = record["scan"]["model"], folder / "figures" / "sizes.png"
        grid = Grid(
            f"scan-{folder.name}",
            f"{model} with other hidden sizes",
            heads,
            rows,
            [record["label"]],
        )
        grid.notes = [
            f"The best {len(rows)} of {len(trials)} trials by validation loss; the test set is not "
            "looked at. A pruned trial was stopped early, as it was worse than the median of the "
            "others."
        ]
        grid.csv = self._link(path.name, path)
        if figure.is_file():
            grid.picture = self._link(f"{model}: validation loss by hidden size", figure)
        return grid

    def _published_weights(self, folder: Path, record: dict[str, Any]) -> Grid:
        """The project's weights: numbers of their files, and those measured here."""
        rows = []
        for entry in record["published"]:
            for decoding, here in entry["here"].items():
                cells = []
                for measure in EVERY_ACCURACY:
                    sides = (entry["published"][decoding][measure], here[measure])
                    cells += [Cell(_number(side, measure)) for side in sides]
                    cells.append(Cell(_number(sides[1] - sides[0], measure, signed=True)))
                rows.append(
                    Row(
                        self._link(entry["name"], folder / HTML_FILE),
                        f"{entry['folder']}, {decoding}",
                        cells,
                        [self._link(METRICS_FILE, folder / METRICS_FILE)],
                    )
                )
        heads = [(_measure(m), ["in its file", "here", "difference"]) for m in EVERY_ACCURACY]
        grid = Grid(
            "published-weights",
            "The project’s weights, measured again",
            heads,
            rows,
            [record["label"]],
        )
        grid.notes = [
            "Test accuracy in percent of the weights in results/reference, by decoding: as their "
            "file tells, of the whole test set, and as measured here, on "
            + "; ".join(
                dict.fromkeys(
                    f"{entry['part']:,} of {entry['test']:,} test configurations"
                    for entry in record["published"]
                )
            )
            + "."
        ]
        return grid

    def _decodings(self, shown: list[dict[str, Any]]) -> Grid:
        """What exact relations add: a group of columns for each decoding, and the gain."""
        measures, best, others = SHOWN_OF_DECODINGS, "consistent", ("raw", "relation+chi")
        rows = []
        for record in shown:
            test = record["metrics"]["test"]
            cells = [
                Cell(_number(test.get(name, {}).get(m), m)) for name in DECODINGS for m in measures
            ]
            right = {name: test.get(name, {}).get("accuracy_all", math.nan) for name in DECODINGS}
            cells += [
                Cell(_number(right[best] - right[other], "accuracy_all", signed=True))
                for other in others
            ]
            solid = record["kind"] != "baseline"
            note = _note(paper.key(record), [record], show_split=True)
            rows.append(Row(self._name(record), note, cells, [self._source(record)], not solid))
        heads = [(name, [_measure(m) for m in measures]) for name in DECODINGS]
        heads.append((f"gain of {best} over", list(others)))
        grid = Grid("decodings", "Exact relations", heads, rows, _labels(shown))
        grid.notes = [
            "Test accuracy in percent, on the test set of the split that is named: each number by "
            "itself (raw), the last from the other three "
            "(relation), the last two from the first two and the Euler number of the matrix "
            "(relation+chi), and the nearest quadruple that obeys both relations, near being "
            "measured with the residuals on validation (consistent), of a fold on what it kept "
            "out. The gain is in all four right, in percentage points. An ensemble with a member "
            "that has seen the validation set has no last decoding."
        ]
        return grid

    def figures(self) -> tuple[list[tuple[str, figures.FigureFile, str]], dict[str, str]]:
        """Number, figure and address of all that can be drawn; number and reason of the others."""
        made = figures.make_figures(self.run_dir, self.run_dir / "figures")
        drawn = [
            (number, made[number], self._address(made[number].path))
            for number in sorted(made, key=int)
        ]
        return drawn, figures.missing(made)

    def absent(self) -> tuple[list[str], list[str]]:
        """Notebooks that have not been run here, and results of the paper that are not there."""
        run = {place.record["notebook"] for place in self.places}
        notebooks = [name for name in profiles.NOTEBOOKS if name not in run]
        results = [_full_name(key) for key in paper_tables.missing(self.main)]
        return notebooks, results

    def unfinished(self) -> list[Place]:
        """Notebooks that failed, stopped, still run or have not begun."""
        return [place for place in self.places if place.state != "done"]

    def facts(self) -> list[tuple[str, str]]:
        """Which configurations and which test sets the main results rest on."""
        found: dict[str, str] = {}
        for record in self.main:
            data, split = record["data"], record["split"]
            if "configurations" in data:
                found["configurations"] = f"{data['configurations']:,} ({data['source']})"
            if data.get("fingerprint"):
                found["fingerprint of the list"] = data["fingerprint"]
            if test := split.get("fingerprints", {}).get("test"):
                found[f"test set of the {paper.key(record)[1]} % split, sha256"] = test
            if "seed" in split:
                drawn = split["seed"] is not None
                found["seed of the splits"] = str(split["seed"]) if drawn else "none: as published"
        return list(found.items())

    def machines(self) -> list[tuple[dict[str, str], int]]:
        """Hardware and versions, and how many notebooks ran with them."""
        found: dict[tuple, int] = {}
        for place in self.places:
            environment = place.record.get("environment") or {}
            if not environment.get("python"):
                continue
            row = tuple(machine_facts(environment).items())
            found[row] = found.get(row, 0) + 1
        return [(dict(row), count) for row, count in found.items()]

    def _ranking(self, records: Sequence[dict], split: int, anchor: str, title: str) -> Grid:
        frame = paper_tables.ranking(split, records)
        grid = self._grid(frame, records, anchor, title, sides=("ours", "published"))
        grid.rows = [
            replace(row, name=replace(row.name, text=f"{rank}. {row.name.text}"))
            for rank, row in enumerate(grid.rows, start=1)
        ]
        return grid

    def _grid(
        self,
        frame: pd.DataFrame,
        records: Sequence[dict],
        anchor: str,
        title: str,
        sides: Sequence[str] = ("published", "ours", "difference"),
    ) -> Grid:
        """A grid from a frame of `paper_tables.beside_published`."""
        measures = list(dict.fromkeys(frame.index.get_level_values("measure")))
        names = list(dict.fromkeys((name, split) for name, split, _ in frame.index))
        shown = {measure: _known(sides, frame.xs(measure, level="measure")) for measure in measures}
        if "train_hours_p100" in shown:  # of other hardware and other numbers of epochs
            shown["train_hours_p100"] = [s for s in shown["train_hours_p100"] if s != "difference"]
        several = len({split for _, split in names}) > 1
        rows, missing, used = [], [], []
        for name in names:
            runs = [record for record in records if paper.key(record) == name]
            used += runs
            if not runs:
                missing.append(_full_name(name) if several else name[0])
            device = _device(runs) if "train_hours_p100" in measures else ""
            rows.append(
                Row(
                    self._name(runs[0]) if runs else Link(name[0]),
                    device or _note(name, runs, several),
                    [
                        cell
                        for measure in measures
                        for cell in _cells(frame.loc[(*name, measure)], measure, shown[measure])
                    ],
                    [self._source(record) for record in runs],
                    name[0] in paper_tables.BASELINES,
                )
            )
        heads = [(_measure(measure), shown[measure]) for measure in measures]
        solid = [record for record in used if record["kind"] != "baseline"]
        return Grid(anchor, title, heads, rows, _labels(solid or used), missing=missing)

    def _picks(self, number: int) -> Grid | None:
        chosen = paper_tables.best(number, self.main)
        if not chosen:
            return None
        rows = [
            Row(
                self._name(record),
                f"{paper.key(record)[1]} %, rank {rank}",
                [
                    Cell(_number(validation_accuracy(record), "accuracy")),
                    *(Cell(_number(paper_tables.value(record, m), m)) for m in ACCURACIES),
                ],
                [self._source(record)],
            )
            for rank, record in chosen
        ]
        heads = [("validation (%)", ["mean"]), ("test (%)", [_measure(m) for m in ACCURACIES])]
        return Grid(
            f"table-{number}-ours",
            "Our own picks, made by validation accuracy",
            heads,
            rows,
            _labels([record for _, record in chosen]),
        )

    def _folders(self) -> list[Path]:
        files = (STATUS_FILE, METRICS_FILE, HTML_FILE)
        return sorted({p.parent for file in files for p in self.run_dir.glob(f"*/*/{file}")})

    def _place(self, folder: Path) -> Place:
        status, record = Status.read(folder), found_metrics(folder)
        if status:
            state, why = told(folder, status)
        elif why := cut_short(folder):  # of a further seed
            state = "partial"
        else:
            state = "done" if "label" in record else "unknown"
        seconds = status.seconds(folder) if status else 0.0
        title = f"{folder.parent.name}/{folder.name}"
        metrics = folder / METRICS_FILE
        return Place(
            name=self._link(title, folder / HTML_FILE),
            state=state,
            duration=duration(seconds) if seconds else "",
            label=record.get("label"),
            error=why,
            metrics=self._link(METRICS_FILE, metrics) if metrics.is_file() else None,
            record=record | {"notebook": folder.parent.name},
        )

    def _name(self, record: dict[str, Any]) -> Link:
        return self._link(record["model"], record["folder"] / HTML_FILE)

    def _source(self, record: dict[str, Any]) -> Link:
        """The file that the numbers of a result come from."""
        return self._link(record["folder"].name, record["folder"] / record["file"])

    def _link(self, text: str, path: Path) -> Link:
        return Link(text, self._address(path) if path.is_file() else "")

    def _address(self, path: Path) -> str:
        return quote(Path(os.path.relpath(path, self.run_dir)).as_posix())


def kind(labels: Iterable[str]) -> str:
    """In one word what the results with these labels are: "quick", "changed", "full" or "none"."""
    labels = list(labels)
    if not labels:
        return "none"
    if any(QUICK in label for label in labels):
        return "quick"
    return "changed" if any(labels) else "full"


def _labels(records: Iterable[dict[str, Any]]) -> list[str]:
    return merged_labels(record["label"] for record in records)


def _splits(records: Iterable[dict[str, Any]]) -> list[int]:
    return sorted({paper.key(record)[1] for record in records})


def _cells(row: pd.Series, measure: str, sides: Sequence[str]) -> list[Cell]:
    cells = []
    for side in sides:
        small = ""
        if side == "ours" and row["lowest"] < row["highest"]:
            small = f"{_number(row['lowest'], measure)}–{_number(row['highest'], measure)}"
        cells.append(Cell(_number(row[side], measure, signed=side == "difference"), small))
    return cells


def _known(sides: Sequence[str], frame: pd.DataFrame) -> list[str]:
    """Sides worth a column: where nothing was published, ours stand alone."""
    return [side for side in sides if side == "ours" or frame["published"].notna().any()]


def _number(number: float | None, measure: str, *, signed: bool = False) -> str:
    """As many decimals as the paper has; a dash for nothing."""
    if number is None or pd.isna(number):
        return DASH
    decimals = 2 if measure.startswith("accuracy") else 3
    number = round(number, decimals) + 0.0  # which makes a zero of -0.0
    return f"{number:{'+' if signed and number else ''},.{decimals}f}".replace("-", "−")


def _measure(measure: str) -> str:
    """Name of a column: the symbol of a Hodge number, or of a mean."""
    if measure in MEASURE_NAMES:
        return MEASURE_NAMES[measure]
    hodge = measure.rsplit("_", 1)[-1]
    return Markup(tables.SYMBOLS[hodge]) if hodge in HODGE_NAMES else measure


def _note(key: tuple[str, int], runs: Sequence[dict], show_split: bool = False) -> str:
    parts = [f"{key[1]} %"] if show_split else []
    if key in NOT_RETRAINED:
        parts.append("not retrained")
    if runs and runs[0]["kind"] == "baseline":
        learned = runs[0].get("training", {}).get("configurations")
        parts.append(f"learned from {learned:,}" if learned else "baseline")
    return ", ".join(parts)


def _full_name(key: tuple[str, int]) -> str:
    return f"{key[0]} ({key[1]} %)"


def _members(record: dict[str, Any]) -> str:
    weights = record.get("member_weights") or [1] * len(record["members"])
    if len(set(weights)) == 1:
        return ", ".join(record["members"])
    return ", ".join(
        f"{weight:.3g} × {name}" for name, weight in zip(record["members"], weights, strict=True)
    )


def _device(runs: Sequence[dict]) -> str:
    machines = [run.get("environment") or {} for run in runs]
    names = [
        machine.get("gpu") or f"{machine['processor']}, {machine['cores']} cores"
        for machine in machines
        if machine.get("gpu") or machine.get("processor")
    ]
    return "; ".join(dict.fromkeys(names))
