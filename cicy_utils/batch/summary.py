"""The end of a run: one table of results, where to look, and what failed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from cicy_utils import paper
from cicy_utils.batch.attempt import Outcome
from cicy_utils.batch.execution import HTML_FILE
from cicy_utils.data import HODGE_NAMES
from cicy_utils.files import write_text
from cicy_utils.markdown import markdown_table
from cicy_utils.provenance import NO_CLAIM, claim_nothing, merged_labels

COLUMNS = {
    "model": "model",
    "epochs": "epochs",
    "minutes": "minutes",
    **{f"accuracy_{name}": name for name in HODGE_NAMES},
    "accuracy_all": "all four",
    **{f"published_{name}": f"{name}, paper" for name in HODGE_NAMES},
}
DECIMALS = {"epochs": 0, "minutes": 1}


def summarize(profile: str, run_dir: Path, outcomes: Sequence[Outcome]) -> str:
    """Write results.csv and results.md of a run; returns what to tell at its end."""
    table = paper.results_table(run_dir)
    page = markdown(f"Results of run {run_dir.name}", table)
    write_text(run_dir / "results.csv", table.to_csv(index=False))
    write_text(run_dir / "results.md", page)
    lines = ["", page, f"Table:     {run_dir / 'results.md'} (and results.csv)", "Notebooks:"]
    lines += [
        f"  {outcome.task.run_dir / HTML_FILE}"
        for outcome in outcomes
        if (outcome.task.run_dir / HTML_FILE).is_file()
    ]
    unfinished = 0
    for words, states in (
        ("failed", ("failed",)),
        ("were not run", ("blocked",)),
        ("were stopped before their end (run the same command again to go on)", ("partial",)),
    ):
        those = [outcome for outcome in outcomes if outcome.state in states]
        unfinished += len(those)
        if those:
            lines.append(f"{len(those)} of {len(outcomes)} notebooks {words}:")
            lines += [f"  {o.task.title}: {o.error[-1] if o.error else o.state}" for o in those]
    if not unfinished:
        lines.append(f"Every notebook asked for is done (profile {profile}).")
    return "\n".join(lines)


def markdown(title: str, table: pd.DataFrame) -> str:
    """The results table as a page of Markdown, every label of the runs in it at its head."""
    lines = [f"# {title}", ""]
    labels = [label for label in _labels(table) if label]
    lines += [f"**{label[0].upper()}{label[1:]}.**" for label in labels]
    if claim_nothing(labels):
        lines.append(NO_CLAIM)
    if table.empty:
        return "\n".join([*lines, "No model has finished.", ""])
    lines += ["" if labels else None, "Accuracies on the test set in percent, raw decoding.", ""]
    lines = [line for line in lines if line is not None]
    for (group, split), part in table.groupby(["group", "split"]):
        apart = ", other data or settings: not to be compared with the above" if group else ""
        lines += [f"## Test set of the {split} % split{apart}", "", _results(part), ""]
    return "\n".join(lines)


def _results(table: pd.DataFrame) -> str:
    shown = dict(COLUMNS)
    if len(_labels(table)) > 1:  # then every row tells its kind
        shown["label"] = "run"
        kinds = table["label"].str.split(":").str[0].replace("", "the paper's recipe")
        table = table.assign(label=kinds)
    if table["model"].duplicated().any():  # several seeds
        shown = {"model": "model", "variant": "folder"} | shown
    rows = [[_text(column, value) for column, value in row.items()] for row in _rows(table, shown)]
    return markdown_table(list(shown.values()), rows, words=["model", "folder", "run"], padded=True)


def _labels(table: pd.DataFrame) -> list[str]:
    """Of what was trained; a baseline is labelled by its data alone, which these tell as well."""
    solid = table[table["kind"] != "baseline"]
    return merged_labels((solid if len(solid) else table)["label"].dropna())


def _rows(table: pd.DataFrame, columns: dict[str, str]) -> list[dict]:
    return table[list(columns)].to_dict(orient="records")


def _text(column: str, value: object) -> str:
    if pd.isna(value):
        return ""
    return value if isinstance(value, str) else f"{value:,.{DECIMALS.get(column, 2)}f}"
