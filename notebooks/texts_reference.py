"""Texts and cells of the notebook that checks the published weights: 17."""

from __future__ import annotations

TITLE = """# The project’s weights

Weights that come with the project, in `results/reference`, with the numbers that were published
for them. This notebook measures them again on the test set, which none of them has seen, or on a
random part of it, and sets both side by side.

## Parameters

With `PART` set, configurations are drawn at random from the 181,137 of the test set. The fewer, the
further the shares may be from those of the whole set: of 20,000 answers, a share of 90 % has a
standard error of 0.2 percentage points."""

PARAMETERS = """PART = None  # test configurations that are drawn, 20_000 say; None: all 181,137
PART_SEED = 0  # which ones
DEVICE = "auto"  # "cpu", "cuda", or "auto": the GPU if there is one
RUN_DIR = None  # folder for all results; None: results/interactive/@notebook/weights"""

CHECK = """from cicy_utils import records, reference, tables

run_dir = records.run_directory("@notebook", "weights", folder=RUN_DIR)
found = reference.check(reference.find(), PART, PART_SEED, DEVICE)
record = reference.record_check(found, run_dir, notebook="@notebook")"""

RESULT_TEXT = """## Result

Shares of right answers in percent, for the four decodings that the model notebooks explain: as the
file of the weights tells them for the whole test set, and as measured here."""

RESULT = "tables.published_weights(record)"

FILES_TEXT = """## The files"""

FILES = "tables.published_files(record)"
