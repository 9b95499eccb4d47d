"""Texts and cells of the notebook that scans hidden sizes: 16."""

from __future__ import annotations

import texts_together as texts

from cicy_utils.data import LAYOUTS

TITLE = """# Which hidden size?

The paper tried a few hidden sizes for each family of networks by hand. With more hidden units the
LSTM networks got better up to a size (@hidden for those without convolution) and then worse, and a
systematic scan was left for later (section 8 of
[arXiv 2405.17406](https://arxiv.org/abs/2405.17406)). Here [Optuna](https://optuna.org) makes the
scan: it draws a size, trains a network of that size, and draws the next sizes near those that did
well. Number of layers and learning rate can be scanned along.

## Parameters

Each trial follows the recipe of the paper on the complete list. A scan with anything less says so
on every table and figure. The range of sizes and the number of trials are those given here."""

OTHER_LAYOUTS = ", ".join(f'"{layout}"' for layout in LAYOUTS[1:])

PARAMETERS = f"""{texts.SOURCE}
LAYOUT = "{LAYOUTS[0]}"  # order of the rows: also {OTHER_LAYOUTS}
{texts.SUBSET}
{texts.SPLIT_SEED}
# What is tried
MODEL = "@model"  # one of models.MODELS; its sizes are replaced
LOWEST_HIDDEN = 256  # smallest hidden size
HIGHEST_HIDDEN = 512  # largest hidden size
HIDDEN_STEP = 8  # between them
LAYERS = [2]  # numbers of recurrent layers to choose from
LEARNING_RATES = [0.01]  # learning rates at the start to choose from; divided by 10 on a plateau
TRIALS = 30  # networks to train in all; run again with more to go on
SEED = 42  # of the draws; the weights of each trial have their own
# How: the paper's recipe
BATCH_SIZE = 128  # configurations a step
MAX_EPOCHS = 550  # passes through the training set at most
PATIENCE = 20  # epochs without a better validation loss before a training stops
{texts.WHERE}
RUN_DIR = None  # folder for all results; None: results/interactive/@notebook/<MODEL>"""

SCAN_TEXT = """## The scan

A trial is judged by its best loss on the validation set; the test set is not looked at. After four
complete trials, one whose best loss so far is worse than the median of the others at the same
epoch is stopped early (pruned), though not in the first tenth of the epochs. Everything is saved
after each epoch, so running this notebook again goes on where it stopped, and with a larger
`TRIALS` adds to what is there."""

SCAN = """from cicy_utils import data, plots, records, scan, splits, tables, training

NOTEBOOK = "@notebook"
run_dir = records.run_directory(NOTEBOOK, MODEL, folder=RUN_DIR)
cicy4 = data.load_cicy4(SOURCE, layout=LAYOUT, subset=SUBSET)
split = splits.split_of(cicy4, "72", seed=SPLIT_SEED)
recipe = dict(batch_size=BATCH_SIZE, max_epochs=MAX_EPOCHS, patience=PATIENCE, seed=SEED)
config = training.TrainConfig(**recipe, device=DEVICE, precision=PRECISION)
space = scan.Space(MODEL, LOWEST_HIDDEN, HIGHEST_HIDDEN, HIDDEN_STEP, LAYERS, LEARNING_RATES)
work = (cicy4, split, config, space, run_dir)
result = scan.run_scan(*work, trials=TRIALS, max_hours=MAX_HOURS)
record = scan.record_scan(result, *work, notebook=NOTEBOOK)
label = record["label"]"""

TRIALS_TEXT = """## Trials

The best first. A size that is drawn again is trained from other random weights, so that equal
sizes show how far one training is from the next."""

TRIALS = 'tables.style(scan.ranked(result.trials), "Trials of the scan", label, decimals=4)'

SIZES_TEXT = """## Size against loss

Every trial on a logarithmic scale, against its hidden size and its number of weights; a best one at
the edge of the range says that the range was too small. Crosses are
trials that were stopped early, at their best loss until then; they might have come further
down. Differences smaller than those between trials of one size mean nothing."""

SIZES = """sizes = plots.scan(result.trials, title=f"{MODEL} with other sizes", label=label)
plots.save(sizes, run_dir, "sizes")"""

CURVES_TEXT = """## The best trials

Validation loss of the best finished trials, at most five. A large marker is the best epoch of
each."""

CURVES = """best = scan.best_curves(result.trials, run_dir)
curves = plots.loss_curves(best, title="Best hidden sizes", label=label)
plots.save(curves, run_dir, "best_trials")"""
