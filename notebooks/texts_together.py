"""Texts and cells of the notebooks in which several models meet: 13, 14 and 15."""

from __future__ import annotations

CV_TITLE = """# Five-fold cross-validation

Training and validation set of the 72 % split, one after the other, are cut into five pieces. A
fold keeps one piece out and trains a new @model on the other four; the test set is the same for
all. In the paper the five trainings span @lowest to @highest on $h^{2,2}$, so one training is one
draw. Section 6 of [arXiv 2405.17406](https://arxiv.org/abs/2405.17406).

This notebook trains one fold, so that several machines can share the work, and then puts together
all the folds that are done in the folders beside its own.

## Parameters

The defaults are the recipe of the paper on the complete list. A run with anything less says so on
every table and figure. `MODEL = "@graph"` with `RECIPE = "fast"` is our own network."""

SOURCE = """# What is learned
SOURCE = "bundled"  # "bundled", or the path of another copy of the list"""

SUBSET = "SUBSET = None  # number of configurations drawn from the list; None: all of it"
SPLIT_SEED = "SPLIT_SEED = 42  # who is in which part; None: the published split, from SOURCE"

HOW = """# How; None: as the recipe has it
RECIPE = "@recipe"  # "paper" or "fast": cicy_utils/recipes.py tells what that is
LAYOUT = None  # order of the rows in a matrix, one of data.LAYOUTS; @recipe: "@layout"
LEARNING_RATE = None  # @recipe: @rate
BATCH_SIZE = None  # configurations a step; @recipe: @batch_size
MAX_EPOCHS = None  # passes through the training set at most; @recipe: @max_epochs
PATIENCE = None  # epochs without a better validation loss before it stops; @recipe: @patience
SETTINGS = {}  # others: recipes.py; @recipe: {"optimizer": "@optimizer", "huber_delta": @delta}"""

SHAPE = """HIDDEN_SIZE = None  # size of the recurrent layers; None: the model's own
NUM_LAYERS = 2  # recurrent layers on top of each other
BIDIRECTIONAL = False  # whether a second recurrence reads the rows from the last to the first"""

GRAPH_SHAPE = """# The network
HIDDEN_SIZE = None  # numbers that an entry of the matrix holds; None: the model's own
NUM_LAYERS = @layers  # equivariant layers, each a round of messages"""

WHERE = """# Where
PRECISION = "float32"  # faster where the device has it: "tf32" on a GPU, "bfloat16" on a CPU
DEVICE = "auto"  # "cpu", "cuda", or "auto": the GPU if there is one
MAX_HOURS = None  # stop after that many hours; run again to go on"""

CV_PARAMETERS = f"""{SOURCE}
{SUBSET}
{SPLIT_SEED}
MODEL = "@model"  # one of models.MODELS
FOLD = 0  # which piece is kept out, 0 to 4
SEED = 42  # initial weights and order of the batches
{HOW}
# The network
HIDDEN_SIZE = None  # None: the model's own
NUM_LAYERS = None  # likewise
BIDIRECTIONAL = False  # whether a second recurrence reads the rows from the last to the first
{WHERE}
RUN_DIR = None  # folder for all results; None: results/interactive/@notebook/fold-<FOLD>"""

CV_TRAIN_TEXT = """## One fold

The recipe is that of the model notebooks; the piece kept out takes the place of the validation set.
Everything is saved after each epoch, so running this notebook again goes on where it stopped."""

CV_TRAIN = """\
from cicy_utils import cross_validation, data, plots, provenance, recipes, records, tables

NOTEBOOK, VARIANT = "@notebook", recipes.fold_variant(FOLD, MODEL, RECIPE)
run_dir = records.run_directory(NOTEBOOK, VARIANT, folder=RUN_DIR)
cicy4 = data.load_cicy4(SOURCE, layout=LAYOUT or recipes.layout(RECIPE), subset=SUBSET)
changes = dict(learning_rate=LEARNING_RATE, batch_size=BATCH_SIZE, max_epochs=MAX_EPOCHS)
changes |= dict(patience=PATIENCE, seed=SEED)
place = dict(device=DEVICE, precision=PRECISION, max_hours=MAX_HOURS)
config = recipes.config(RECIPE, MODEL, **changes, **place, others=SETTINGS)
shape = dict(hidden_size=HIDDEN_SIZE, num_layers=NUM_LAYERS, bidirectional=BIDIRECTIONAL)
runs = dict(run_dir=run_dir, notebook=NOTEBOOK, split_seed=SPLIT_SEED, recipe=RECIPE)
record = cross_validation.train_fold(MODEL, FOLD, cicy4, config, **runs, **shape)
label = record["label"]"""

CV_PARTS_TEXT = """The piece *out of fold* chose the epoch and was never trained on. The validation
set of the 72 % split is a part of the piece that fold 4 keeps out; the other folds were trained on
it, so for them it validates nothing and has no row."""

CV_RESULT_TEXT = """## Result of this fold

An answer counts as right when the rounded prediction is the exact Hodge number; *all four* asks
this of the whole quadruple. *published* is this fold in the paper's Table 6, which has LSTM-448
only. The last row needs no network: it answers every configuration with the most frequent value of
the training set."""

CV_CURVE_TEXT = """Huber loss on the training data and on the piece kept out (logarithmic scale),
and the learning rate. The ring is the epoch whose weights were kept."""

CV_CURVE = """history = records.read_history(run_dir)
curve = plots.training_curve(history, title=f"{record['model']}: training", label=label)
plots.save(curve, run_dir, "training_curve")"""

CV_FOLDS_TEXT = """## All folds that are done by now

Accuracies on the test set, which all folds share. Folds that were not done when this notebook ran,
or were made with another model, list, split or recipe, are not in these tables; the notebook of the
fold that came last has all."""

CV_FOLDS = """found = cross_validation.finished(run_dir)
tables.folds(found)"""

CV_OUT_TEXT = """Accuracies on what each fold kept out. Together, once all five are done, each
configuration of training and validation set is predicted once, by a model that has not seen it: an
estimate from four times as many configurations as the test set has. A fold that is best here is
picked without a look at the test set."""

CV_LOSSES_TEXT = """The validation loss of each fold is taken on the piece that it keeps out (paper,
Fig. 22), so the curves differ by these pieces too."""

CV_LOSSES = """runs = [(one["model"], records.read_history(run)) for run, one in found.items()]
folds_label = provenance.joint_label(one["label"] for one in found.values())
losses = plots.loss_curves(runs, title=f"{MODEL}: folds", label=folds_label)
plots.save(losses, run_dir, "folds")"""

RETRAINING_TITLE = """# Retraining on the 80 % split

The best models of the 72 % split go on from their saved weights on more data: 40 % of the old test
set join the training set, the rest stays as the new test set, and the validation set does not
change. Section 7 of [arXiv 2405.17406](https://arxiv.org/abs/2405.17406) does this with LSTM-448,
LSTM-424 and CNN-LSTM-400. As CNN-LSTM-400 gets worse there, the paper also judges its old weights
by the new test set, without any retraining (`RETRAIN = False`), and those of LSTM-448-f1, fold 1 of
the cross-validation.

No weights may be judged by what they were ever trained on. Each run therefore keeps a list of all
that its weights have seen, from the first epoch of the first training on, and a checkpoint that has
seen a single configuration of the test set is refused.

## Parameters

The defaults are the recipe of the paper on the complete list. A run with anything less says so on
every table and figure. `MODEL = "@graph"` with `RECIPE = "fast"` is our own network."""

RETRAINING_PARAMETERS = f"""{SOURCE}
{SUBSET}
{SPLIT_SEED}
MODEL = "@model"  # whose weights: a model, or a fold such as "LSTM-448-f1"
RETRAIN = True  # False: only judge the weights by the test set of the 80 % split
CHECKPOINT = None  # folder of the run to start from; None: that of MODEL beside this notebook's
SEED = 42  # order of the batches
{HOW}
MIN_LEARNING_RATE = 1e-7  # where the paper's recipe ends; the fast one goes to zero
{WHERE}
RUN_DIR = None  # folder for all results; None: results/interactive/@notebook/<MODEL>-d80"""

RETRAINING_TRAIN_TEXT = """## From the checkpoint on

The optimizer starts afresh, with the learning rate of the recipe unless `LEARNING_RATE` is another.
The weights of the best epoch on the validation set are kept, as before."""

RETRAINING_TRAIN = """\
from cicy_utils import data, plots, recipes, records, retraining, splits, tables

NOTEBOOK, NAME = "@notebook", retraining.result_name(MODEL, RETRAIN, RECIPE)
run_dir = records.run_directory(NOTEBOOK, NAME, folder=RUN_DIR)
cicy4 = data.load_cicy4(SOURCE, layout=LAYOUT or recipes.layout(RECIPE), subset=SUBSET)
split = splits.split_of(cicy4, "80", seed=SPLIT_SEED)
before = recipes.result_name(MODEL, RECIPE)
folder = CHECKPOINT or retraining.find_checkpoint(run_dir.parents[1], before, cicy4)
checkpoint = retraining.load_checkpoint(folder, cicy4, split, model=before)
changes = dict(learning_rate=LEARNING_RATE, batch_size=BATCH_SIZE, max_epochs=MAX_EPOCHS)
changes |= dict(patience=PATIENCE, min_learning_rate=MIN_LEARNING_RATE, seed=SEED)
place = dict(device=DEVICE, precision=PRECISION, max_hours=MAX_HOURS)
config = recipes.config(RECIPE, checkpoint.model.name, **changes, **place, others=SETTINGS)
names = dict(retrain=RETRAIN, notebook=NOTEBOOK, recipe=RECIPE)
record = retraining.run(checkpoint, cicy4, split, config, run_dir, **names)
label = record["label"]"""

RETRAINING_RESULT_TEXT = """## Result

On the test set of the 80 % split. (@graph, which the paper does not have, is set beside
the best of its networks there, @published.) Where weights were retrained, the row *before
retraining* is the checkpoint on the same configurations; the last row answers every one with the
most frequent value of the training set."""

RETRAINING_PARTS_TEXT = """A validation set of which the weights have seen a part validates nothing
and has no row: so it is with LSTM-448-f1, whose fold was trained on all of it."""

RETRAINING_CURVE_TEXT = """## Training curve

Of the retraining; of weights that were not retrained, the training they come from. The ring is the
epoch whose weights were kept."""

RETRAINING_CURVE = """trained_in = run_dir if RETRAIN else checkpoint.folder
history = records.read_history(trained_in)
curve = plots.training_curve(history, title=f"{NAME}: training", label=label)
plots.save(curve, run_dir, "training_curve")"""

RETRAINING_LARGEST = """test = records.load_predictions(run_dir, "test")
tables.largest_errors(test, cicy4, label)"""

RETRAINING_RUN_TEXT = """## The run

The checkpoint, and who was in which part:"""

ENSEMBLES_TITLE = """# Ensembles

An ensemble averages the raw outputs of its members and rounds then. Members with different errors
correct each other: of the fourteen ensembles in [arXiv 2405.17406](https://arxiv.org/abs/2405.17406)
twelve get more $h^{2,2}$ right than any of their members. Here are these fourteen, from the
predictions that the other notebooks have saved, and, beside them, weights found by hill climbing,
which the paper left undone for lack of computing time.

Nothing is trained here. The notebook takes what is in the results folder, names what is missing,
and can be run again when there is more.

## Parameters"""

ENSEMBLES_PARAMETERS = """SOURCE = "bundled"  # "bundled", or the path of another copy of the list
SUBSET = None  # number of configurations, as in the notebooks whose results are read
SPLIT_SEED = 42  # likewise
ROUNDS = 20  # a climb ends after so many rounds without getting better
RESULTS = None  # results/<run> to read from; None: the one in which RUN_DIR lies
RUN_DIR = None  # folder for all results; None: results/interactive/@notebook/all"""

CLIMB_TEXT = """## Hill climbing

Greedy forward selection with replacement (Caruana, Niculescu-Mizil, Crew and Ksikes, *Ensemble
selection from libraries of models*, ICML 2004): start with the best member; add, round after round,
the member, perhaps one already chosen, with which the average is best; stop when that has not
helped for `ROUNDS` rounds. How often a member was added is its weight. Best means the largest
accuracy, averaged over the four Hodge numbers, and of equal ones the smaller Huber loss.

A climb sees the validation set and nothing else, and only members that were never trained on it:
the models of the 72 % split, those retrained on the 80 % split, which leaves the validation set as
it was, and fold 4 of the cross-validation, whose kept-out piece holds the whole validation set.
Folds 0 to 3 were trained on it and stay outside. Their own out-of-fold predictions are of other
configurations, and the out-of-fold predictions of all five, on the validation set, are just those
of fold 4. The validation loss has also chosen the epoch of every member, so accuracies on this set
are a little too good; the test set decides what is worth what, and this notebook reads its labels
once, after all choices."""

CLIMB = """from cicy_utils import ensembles, plots, records, tables
from cicy_utils.data import load_cicy4
from cicy_utils.splits import split_of

run_dir = records.run_directory("@notebook", "all", folder=RUN_DIR)
results = records.results_folder(RESULTS, run_dir)
cicy4 = load_cicy4(SOURCE, subset=SUBSET)
splits = [split_of(cicy4, name, seed=SPLIT_SEED) for name in ("72", "80")]
found = {split.name: ensembles.find_members(results, cicy4, split) for split in splits}
climbs = {split.name: ensembles.climb(found[split.name], split, rounds=ROUNDS) for split in splits}
names = dict(run_dir=run_dir, notebook="@notebook")
record, entries = ensembles.record_ensembles(found, climbs, cicy4, splits, **names)
label = record["label"]"""

MEMBERS_TEXT = """## Members

Who may be tested on which test set: a model whose predictions were saved and that
was never trained on any of it. Of several trainings of one model the one that is most often right
on the validation set stands in the paper's ensembles; the others have the name of their run in
brackets, and the climb may use them, too."""

WEIGHTS_TEXT = """The weights, and who was kept out of the climb; a member without a weight was
never added. In the figures, round by round: mean accuracy of the ensemble so far, its Huber loss as
in the paper (whatever recipe its members had), both on the validation set, and at the bottom the
member that was added. The dotted line marks the ensemble that is kept; what follows it did not
help. Where the two splits have the same members, their climbs are the same."""

PATHS = """for name, reached in climbs.items():
    if reached:
        title = f"Hill climbing for the test set of the {name} % split"
        figure = plots.climb(reached.path, title=title, label=reached.label)
        display(plots.save(figure, run_dir, f"climb_{name}"))"""

CLIMBED_TEXT = """What the climbs found is right this often on the test sets, in the four decodings
that the model notebooks explain: outputs are averaged first and decoded then, *consistent* with the
covariance of what the mean is off by on the validation set."""

ENSEMBLES_72_TEXT = """## The paper's ensembles, 72 % split (Tables 5 and 7)

Nine ensembles with equal weights, put together by hand."""

ENSEMBLES_80_TEXT = """## The paper's ensembles, 80 % split (Table 9)

CNN-LSTM-400 (72 % split) and LSTM-448-f1 (fold 1 of the cross-validation, 64 % of the list) were
not retrained."""

PICKS_TEXT = """## Picked by test accuracy, picked by validation

The paper picked its best models and ensembles by their accuracy on the test set, which makes that
accuracy look better than it is. Beside these picks stand those that validation makes, and the
climbs. Candidates are the paper's models and ensembles without what was trained on the validation
set, such as folds 0 to 3, of which validation tells nothing. All accuracies are on the test set;
best is the mean accuracy over the four Hodge numbers."""
