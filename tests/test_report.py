"""The report of a run, as files and in a browser."""

import json
import os
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
import run_folder

from cicy_utils import metrics
from cicy_utils.batch import __main__ as command
from cicy_utils.batch import report
from cicy_utils.batch.status import Status

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--enable-logging=stderr",
    "--v=0",
)
WIDTHS = (1280, 400)
# Put into a copy of the page: it tells the page around it how it looks from inside.
PROBE = """<script>
const faults = [];
addEventListener("error", event => faults.push(event.message || event.target.outerHTML), true);
addEventListener("load", () => parent.postMessage({
  width: innerWidth,
  needed: document.documentElement.scrollWidth,
  images: [...document.images].map(image => image.naturalWidth),
  anchors: [...document.querySelectorAll("a[href^='#']")].filter(
    link => !document.getElementById(link.hash.slice(1))).map(link => link.hash),
  faults
}, "*"));
</script>"""
AROUND = """<!DOCTYPE html><meta charset="utf-8"><link rel="icon" href="data:,">
<pre id="told"></pre>
<script>
const told = [];
addEventListener("message", event => {
  told.push(event.data);
  document.getElementById("told").textContent = JSON.stringify(told);
});
</script>
"""


class Page(HTMLParser):
    """Addresses, anchors and text of a page."""

    def __init__(self, path: Path):
        super().__init__()
        self.folder = path.parent
        self.links, self.images, self.anchors, self.words = [], [], set(), []
        self.feed(path.read_text(encoding="utf-8"))
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        self.anchors.add(values.get("id"))
        if tag == "a":
            self.links.append(values["href"])
        if tag == "img":
            self.images.append(values["src"])
        assert tag != "script"

    def handle_data(self, data):
        self.words.append(data)

    def broken(self) -> list[str]:
        """Addresses in this folder that lead nowhere."""
        return [address for address in self.links + self.images if not self._leads(address)]

    def _leads(self, address: str) -> bool:
        parts = urlsplit(address)
        if parts.scheme:
            return address == "https://arxiv.org/abs/2405.17406"
        if not parts.path:
            return parts.fragment in self.anchors
        return (self.folder / unquote(parts.path)).is_file()


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The report of a run folder with some of everything, in a place with special signs."""
    place = tmp_path_factory.mktemp("a {b} c & d #1") / "results" / "try"
    return report.build(run_folder.make(place))


@pytest.fixture(scope="module")
def page(site):
    return Page(site)


def test_every_link_leads_somewhere(page):
    assert page.broken() == []
    assert len(page.links) > 100


def test_every_table_has_its_number_and_its_file(page, site):
    for number in range(1, 25):
        assert f"table-{number}" in page.anchors
        assert f"Table {number}: " in page.text
        assert (site.parent / "tables" / f"table_{number:02d}.csv").is_file()


def test_figures_have_their_numbers(page, site):
    drawn = {anchor for anchor in page.anchors if anchor and anchor.startswith("figure-")}
    assert {"figure-19", "figure-21", "figure-45"} <= drawn
    assert len(drawn) == len(list((site.parent / "figures").glob("*.png")))
    assert len(page.images) == len(drawn) + 1  # of the scan


def test_decodings_stand_beside_each_other_with_their_gain(tmp_path):
    def decoded(*right):
        rows = dict(zip(metrics.DECODINGS, right, strict=False))
        test = {
            name: run_folder.measures(0)["raw"] | {"accuracy_all": v} for name, v in rows.items()
        }
        return {"test": test, "validation": run_folder.measures(4)}

    for place, name, values in (
        ("11_lstm_448/seed-42", "LSTM-448", (75.0, 80.0, 90.0, 92.5)),
        ("10_lstm_424/seed-42", "LSTM-424", (70.0, 71.0, 72.0)),  # without the last one
    ):
        run_folder.write(tmp_path / "try", place, run_folder.record(name, metrics=decoded(*values)))
    other = run_folder.record("LSTM-448-d80", split="80", metrics=decoded(60.0, 61.0, 62.0, 63.0))
    run_folder.write(tmp_path / "try", "14_retraining/lstm_448", other)
    text = report.build(tmp_path / "try").read_text(encoding="utf-8")
    table = text[text.index('id="decodings"') :]
    assert "gain of consistent over" in table
    rows = {}
    for name in ("LSTM-448", "LSTM-424"):
        row = table[table.index(f">{name}<") :]
        rows[name] = re.findall(r"<td[^>]*>([^<]*)<", row[: row.index("</tr>")])
    assert rows["LSTM-448"][:14:3] == ["100.00"] * 4 + ["+17.50"]
    assert rows["LSTM-448"][11:14] == ["92.50", "+17.50", "+2.50"]
    assert rows["LSTM-424"][8:14] == ["72.00"] + ["–"] * 5
    for name, split in (("LSTM-448", "72 %"), ("LSTM-448-d80", "80 %")):  # two test sets
        row = table[table.index(f">{name}<") :]
        assert split in row[: row.index("<td")]


def test_a_scan_shows_its_best_trials_and_its_figure(site, page):
    text = site.read_text(encoding="utf-8")
    table = text[text.index('id="scan-LSTM-448"') :]
    table = table[: table.index("</section>")]
    assert re.findall(r"trial \d: \w+", table) == [
        "trial 1: finished",
        "trial 0: pruned",
        "trial 2: unfinished",
    ]
    row = table[table.index(">128 hidden units<") :]
    cells = re.findall(r"<td[^>]*>([^<]*)<", row[: row.index("</tr>")])
    assert cells[:7] == ["2", "0.345", "0.001", "3", "90 s", "3", "8.645"]
    assert "–" in table[table.index("trial 2") :]  # nothing is known of its loss
    place = "16_hidden_size_scan/LSTM-448"
    assert f'href="{place}/trials.csv"' in table
    assert f'href="{place}/trials/001/history.csv"' in table
    assert f"{place}/figures/sizes.png" in page.images
    assert "#scan-LSTM-448" in page.links


def test_a_scan_without_its_files_is_still_told(tmp_path):
    record = run_folder.record("x") | {"scan": {"model": "LSTM-448"}}
    del record["model"]
    run_folder.write(tmp_path, "16_hidden_size_scan/LSTM-448", record)
    made = Page(report.build(tmp_path))
    assert made.broken() == []
    assert "The best 0 of 0 trials" in made.text


def test_published_weights_stand_beside_what_was_measured_again(site, page):
    text = site.read_text(encoding="utf-8")
    table = text[text.index('id="published-weights"') :]
    row = table[table.index("11_lstm_448/fast-42, raw") :]
    cells = re.findall(r"<td[^>]*>([^<]*)<", row[: row.index("</tr>")])
    assert cells[:3] == cells[12:15] == ["90.00", "87.50", "−2.50"]
    assert "as measured here, on 20 of 40 test configurations." in page.text
    assert "#published-weights" in page.links


def test_published_ours_difference_and_range(site):
    text = site.read_text(encoding="utf-8")
    table = text[text.index('id="table-4"') : text.index('id="table-5"')]
    row = table[table.index(">LSTM-448<") :]
    row = row[: row.index("</tr>")]
    cells = re.findall(r"<td[^>]*>([^<]*)<", row)
    assert cells[:3] == ["99.74", "85.00", "−14.74"]
    assert "<small>80.00–90.00</small>" in row
    assert cells[-1] == "2"
    sources = re.findall(r'href="([^"]*)"', row)
    assert sources == [
        "11_lstm_448/seed-42/metrics.json",
        "11_lstm_448/seed-43/metrics.json",
    ]


def test_zero_has_no_sign_and_hours_have_no_difference(site):
    assert report._number(-0.0001, "mse_h11", signed=True) == "0.000"
    assert report._number(0.0006, "mse_h11", signed=True) == "+0.001"
    table = report.Report(site.parent).table(1)
    sides = {str(measure): list(shown) for measure, shown in table.heads}
    assert [shown for shown in sides.values() if "difference" not in shown] == [
        ["published", "ours"]
    ]
    assert any("P100" in note for note in table.notes)


def test_hodge_numbers_are_symbols(site):
    text = site.read_text(encoding="utf-8")
    assert "<i>h</i><sup>1,1</sup>" in text
    assert not re.search(r">\s*h(11|21|31|22)\s*<", text)


def test_quick_is_said_everywhere(page, site):
    assert "A quick run shows that everything works; its accuracies claim nothing." in page.text
    assert "Rows with the same numbers are of networks that have learned one answer" in page.text
    text = site.read_text(encoding="utf-8")
    for part in re.split(r'<(?=section class="grid"|figure id)', text)[1:]:
        if "no result yet" not in part:
            assert 'class="badge quick">quick' in part
            assert run_folder.LABEL in part


def test_failed_missing_and_apart_are_told(page):
    assert "RuntimeError: <no> memory" in page.text
    assert "12_lstm_456/seed-42 failed" in page.text
    assert "01_cnn_gru_384/seed-42 pending" in page.text
    assert re.search(r"Notebooks not run: [^.]*02_cnn_gru_416", page.text)
    assert re.search(r"Results of the paper that are not there: [^.]*LSTM-456 \(72 %\)", page.text)
    assert "Figures not drawn: 1, 2" in page.text
    assert "The results rest on different configurations, so these are not compared" in page.text
    assert "apart-1-72" in page.anchors
    assert (
        "Of its folders 11 are done and 2 unfinished or failed; 8 notebooks were not run"
        in page.text
    )


def test_own_choices_stand_beside_the_papers(page, site):
    text = site.read_text(encoding="utf-8")
    assert "0.75 × LSTM-448, 0.25 × LSTM-424" in text
    assert {"table-10-ours", "table-11-ours", "table-12-ours", "own-ensembles"} <= page.anchors


def test_versions_and_hardware(page):
    assert "a processor, 2 cores" in page.text
    assert "Python 3.11.2, torch 2.13.0" in page.text
    assert "dada" in page.text


@pytest.mark.parametrize(
    ("labels", "word"),
    [
        ([], "none"),
        ([""], "full"),
        (["", "changed recipe: batch size 64 instead of 128"], "changed"),
        (["", "changed recipe: x", "quick run: y"], "quick"),
        (["changed recipe: x; quick run: y"], "quick"),
    ],
)
def test_one_word_for_labels(labels, word):
    assert report.kind(labels) == word


def test_an_empty_folder_has_a_report(tmp_path):
    made = Page(report.build(tmp_path))
    assert made.broken() == []
    assert "No model has finished." in made.text
    assert "Table 24: " in made.text


def test_a_full_run_is_called_full(tmp_path):
    run_folder.write(tmp_path, "11_lstm_448/seed-42", run_folder.record("LSTM-448", label=""))
    text = report.build(tmp_path).read_text(encoding="utf-8")
    assert 'class="badge quick"' not in text
    assert 'class="badge full">full' in text
    assert "whole list, the paper’s recipe" in text


def test_what_cannot_be_read_is_told(tmp_path):
    (run_folder.write(tmp_path, "11_lstm_448/seed-42", {}) / "metrics.json").write_text("{")
    text = Page(report.build(tmp_path)).text
    assert "11_lstm_448/seed-42 failed" in text
    assert "there is no readable metrics.json" in text


def test_folders_of_further_seeds_tell_how_far_they_are(tmp_path):
    """They have no status of their own."""
    first = run_folder.write(tmp_path, "11_lstm_448/seed-42", run_folder.record("LSTM-448"))
    training = {"epochs": 3, "best_epoch": 2, "seconds": 60.0, "stop_reason": "time_limit"}
    short = run_folder.record("LSTM-448", seed=43, training=training)
    for seed, content in (("43", json.dumps(short)), ("44", "{")):
        folder = first.with_name(f"seed-{seed}")
        folder.mkdir()
        (folder / "metrics.json").write_text(content)
    text = Page(report.build(tmp_path)).text
    assert "11_lstm_448/seed-43 partial stopped by the time limit after 3 epochs" in text
    assert re.search("11_lstm_448/seed-44 unknown metrics.json (?!whole list)", text)


def test_a_killed_notebook_is_stopped_not_running(tmp_path):
    Status("10_lstm_424", "seed-42", "running", started=1.0).write(
        tmp_path / "10_lstm_424" / "seed-42"
    )
    assert "10_lstm_424/seed-42 stopped" in Page(report.build(tmp_path)).text


def test_the_newest_run_is_the_default(tmp_path, capsys):
    results = tmp_path / "results"
    for age, name in enumerate(("replaced/new-20260101-000000", "new", "old"), start=1):
        folder = run_folder.write(results / name, "00_data/list", run_folder.record("LSTM-448"))
        for path in folder.iterdir():
            os.utime(path, (10_000 - age, 10_000 - age))
    assert report.newest_run(results) == "new"
    assert command.main(["report"], tmp_path) == 0
    assert str(results / "new" / "index.html") in capsys.readouterr().out
    assert not (results / "old" / "index.html").exists()
    assert command.main(["report", "--run", "old"], tmp_path) == 0
    assert (results / "old" / "index.html").is_file()


def test_what_was_begun_last_is_the_newest(tmp_path):
    ages = {"finished": (2, 2), "begun": (3, 1)}  # of status.json and metrics.json
    for name, written in ages.items():
        folder = run_folder.write(tmp_path / name, "00_data/list", run_folder.record("LSTM-448"))
        for file, at in zip(("status.json", "metrics.json"), written, strict=True):
            os.utime(folder / file, (at, at))
    assert report.newest_run(tmp_path) == "begun"


def test_what_comes_with_the_project_is_the_newest_only_alone(tmp_path):
    """A checkout gives its files the time of day."""
    place = "11_lstm_448/fast-42"
    run_folder.write(tmp_path / "reference", place, run_folder.record("LSTM-448-fast"))
    assert report.newest_run(tmp_path) == "reference"
    folder = run_folder.write(tmp_path / "mine", place, run_folder.record("LSTM-448-fast"))
    for path in folder.iterdir():
        os.utime(path, (1, 1))
    assert report.newest_run(tmp_path) == "mine"


def test_no_run_and_unknown_runs_are_refused(tmp_path, capsys):
    assert command.main(["report"], tmp_path) == 2
    assert "nothing has been run" in capsys.readouterr().err
    assert command.main(["report", "--run", "other"], tmp_path) == 2
    assert "there is no run folder" in capsys.readouterr().err
    with pytest.raises(SystemExit) as stop:
        command.main(["report", "--run", "../elsewhere"], tmp_path)
    assert stop.value.code == 2


def browser() -> str:
    """A Chromium; the test is skipped where there is none."""
    found = filter(None, map(shutil.which, BROWSERS))
    return next(found, None) or pytest.skip("there is no Chromium here")


def test_in_a_browser(site, tmp_path):
    """Nothing is missing, nothing complains and nothing sticks out, on a wide and a narrow one."""
    text = site.read_text(encoding="utf-8")
    probed = site.with_name("probed.html")
    probed.write_text(text.replace("<head>", f"<head>{PROBE}", 1), encoding="utf-8")
    frames = [
        f'<iframe src="probed.html" width="{width}" height="900" style="border:0"></iframe>'
        for width in WIDTHS
    ]
    around = site.with_name("around.html")
    around.write_text(AROUND + "".join(frames), encoding="utf-8")
    profile = f"--user-data-dir={tmp_path / 'profile'}"
    wait = "--virtual-time-budget=20000"
    done = subprocess.run(
        [browser(), *FLAGS, profile, wait, "--dump-dom", around.as_uri()],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "CONSOLE" not in done.stderr
    told = json.loads(re.search(r'<pre id="told">(.*?)</pre>', done.stdout, re.DOTALL)[1])
    assert sorted(one["width"] for one in told) == sorted(WIDTHS)
    for one in told:
        assert one["needed"] <= one["width"]
        assert len(one["images"]) == text.count("<img ")
        assert all(one["images"])
        assert one["faults"] == []
        assert one["anchors"] == []
