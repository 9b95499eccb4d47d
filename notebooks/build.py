"""Make the notebooks in this folder; those of the models come from one template.

    python notebooks/build.py            write them
    python notebooks/build.py --check    exit with 1 when a committed notebook differs

Edit the text here, never the notebooks. Sources have no outputs; executed copies are in results/.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path
from string import Template

import nbformat
import texts_reference
import texts_scan
import texts_together as texts
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from cicy_utils import graph, models, paper, recipes

FOLDER = Path(__file__).resolve().parent


class Text(Template):
    """Text with @placeholders, or @{LSTM-448}: dollar signs are left to formulas."""

    delimiter = "@"
    braceidpattern = r"[A-Za-z][\w-]*"


@dataclass(frozen=True)
class Family:
    """What the networks of one kind have in common: two paragraphs of a report."""

    what: str
    blocks: str


LSTM_STEP = r"""Row after row, the LSTM updates a cell state $c_t$ and a hidden state $h_t$ of size
@hidden,
$$c_t = f_t \odot c_{t-1} + i_t \odot g_t, \qquad h_t = o_t \odot \tanh c_t ,$$
where the gates $i_t, f_t, o_t$ (between 0 and 1) and the proposal $g_t$ are functions of the row
$x_t$ and of $h_{t-1}$. Two such layers lie on top of each other, and the last hidden state of
the upper one is the feature vector."""

GRU_STEP = r"""Row after row, the GRU updates a hidden state $h_t$ of size @hidden,
$$h_t = (1 - z_t) \odot n_t + z_t \odot h_{t-1} ,$$
where the gate $z_t$ (between 0 and 1) and the proposal $n_t$ are functions of the row $x_t$ and
of $h_{t-1}$. Two such layers lie on top of each other, and the last hidden state of the upper one
is the feature vector."""

CNN_BLOCK = """The convolutional block sees the matrix as a picture in one colour: 128 filters of
size 4 × 4, then 64 of size 3 × 3, each followed by the maximum over 2 × 2 squares, and one ReLU at
the end. It yields 384 features, whatever the hidden size."""

RESNET_BLOCK = """The residual block sees the matrix as a picture in one colour. Three convolutions
(128, 64 and 128 filters) and a linear short-cut from the 320 entries both yield 256 numbers, which
are added. The published number of weights includes 384 of two batch normalisations that the
reference creates and never calls; they are left out here."""

HEAD = r"""Two linear layers without an activation between them turn the features into the four
numbers."""

FAMILIES = {
    "CNN-GRU": Family(
        what="a convolutional block, which reads the configuration matrix as a picture, beside a "
        "gated recurrent unit (GRU), which reads it row by row",
        blocks=f"{CNN_BLOCK}\n\n{GRU_STEP}\n\nBoth feature vectors are concatenated. {HEAD}",
    ),
    "ResNet-GRU": Family(
        what="a residual convolutional block, which reads the configuration matrix as a picture, "
        "beside a gated recurrent unit (GRU), which reads it row by row",
        blocks=f"{RESNET_BLOCK}\n\n{GRU_STEP}\n\nBoth feature vectors are concatenated. {HEAD}",
    ),
    "CNN-LSTM": Family(
        what="a convolutional block, which reads the configuration matrix as a picture, beside a "
        "long short-term memory (LSTM), which reads it row by row",
        blocks=f"{CNN_BLOCK}\n\n{LSTM_STEP}\n\nBoth feature vectors are concatenated. {HEAD}",
    ),
    "LSTM": Family(
        what="a long short-term memory (LSTM) alone, which reads the configuration matrix row by "
        "row; there is no convolution",
        blocks=f"There is no convolutional block.\n\n{LSTM_STEP}\n\n{HEAD}",
    ),
}

# What the paper found for each model; figures come from the published results.
FINDINGS = {
    "CNN-GRU-384": "The hidden size equals the number of convolutional features. In the paper it "
    "is the weakest of the four GRU hybrids: @h22 of the test values of $h^{2,2}$ are right.",
    "CNN-GRU-416": "In the paper, 32 hidden units more than in CNN-GRU-384 lift the share of right "
    "$h^{2,2}$ from @{CNN-GRU-384} to @h22.",
    "ResNet-GRU-256": "The smallest of the twelve networks. In the paper it gets @h22 of $h^{2,2}$ "
    "right, more than CNN-GRU-384 (@{CNN-GRU-384}) with far fewer weights.",
    "ResNet-GRU-400": "In the paper the best of the four GRU hybrids, with @h22 of $h^{2,2}$ right "
    "against @{ResNet-GRU-256} for the smaller ResNet-GRU-256.",
    "CNN-LSTM-256": "In the paper this light network gets @h22 of $h^{2,2}$ right, more than both "
    "heavier CNN-GRU networks (@{CNN-GRU-384} and @{CNN-GRU-416}).",
    "CNN-LSTM-384": "In the paper, 128 hidden units more than in CNN-LSTM-256 do not help on "
    "$h^{2,2}$: @h22 right on the test set against @{CNN-LSTM-256}.",
    "CNN-LSTM-400": "In the paper the best of the twelve networks at the 72 % split: @h11, @h21, "
    "@h31 and @h22 of the four Hodge numbers are right.",
    "CNN-LSTM-416": "The largest of the twelve, and the one whose training did not converge in the "
    "paper within 550 epochs: @h22 of $h^{2,2}$ right. Its MSE, MAE and $R^2$ were not published.",
    "LSTM-400": "In the paper it does as well as the hybrid CNN-LSTM-256: @h22 of $h^{2,2}$ right "
    "against @{CNN-LSTM-256}, without any convolution.",
    "LSTM-424": "In the paper the third best of the twelve networks, with @h22 of $h^{2,2}$ right.",
    "LSTM-448": "In the paper the best purely recurrent network and the second best of the twelve, "
    "with @h22 of $h^{2,2}$ right; it is also the one used for cross-validation.",
    "LSTM-456": "In the paper, 8 hidden units more than in LSTM-448 lower the share of right "
    "$h^{2,2}$ from @{LSTM-448} to @h22.",
}

# Our own network, which the paper does not have.
GRAPH = "Graph-64"
FAMILIES["Graph"] = Family(
    what="a message-passing network on a graph: rows and columns of the configuration matrix are "
    "its nodes, entries that are not zero its edges. The order of rows and columns, which has no "
    "meaning, does not enter",
    blocks=r"""Every entry that is not zero carries @hidden features. They begin as a function of
its value, and of the sum and the number of such entries in its row and in its column. Then come
@layers equivariant layers, in which each entry $x$ learns what its row, its column and the whole
matrix hold: with $y$ the normalised features,
$$x \;\leftarrow\; x + A\,\mathrm{gelu}\Big(B y + C \sum_{\text{row}} y + D \sum_{\text{column}} y
+ E \sum_{\text{matrix}} y\Big) .$$
All sums are over the entries that are not zero; that over the matrix is divided by @shrink. On a
full matrix the brackets would hold the most general linear map that commutes with all permutations
of rows and columns ([arXiv 1803.02879](https://arxiv.org/abs/1803.02879)). The pooled features are
sums of a function of every row, every column and every entry, as the exact Hodge numbers are made
of sums over rows and columns, so that the answers do not depend on the order of either. Two linear
layers turn them into the four numbers, as in the paper's networks.""",
)
GRAPH_FINDING = """The paper has no such network; *published* below means the best of its twelve,
CNN-LSTM-400. A graph needs no training to know that a permuted matrix is the same manifold; and
most entries are zero, so that there is little to compute."""

PARAMETERS = f"""{texts.SOURCE}
{texts.SUBSET}
{texts.SPLIT_SEED}
SEEDS = [42]  # initial weights and order of the batches; one training for each
{texts.HOW}
CHECKPOINT = None  # folder of a finished run whose weights to go on from; None: fresh ones
@shape_parameters
{texts.WHERE}
RUN_DIR = None  # folder for all results; None: one in results/interactive/@notebook"""

TITLE = """# @model

@model is @what.@size

@finding

A configuration matrix comes in padded with zeros to 16 rows and 20 columns and divided by 6, the
largest entry in the list; four real numbers come out, and rounding makes them the Hodge numbers
$(h^{1,1}, h^{2,1}, h^{3,1}, h^{2,2})$ of the four-fold. @follows
[arXiv 2405.17406](https://arxiv.org/abs/2405.17406); the list itself is shown in `00_data`.

## Parameters

The defaults are @defaults on the complete list. A run with anything less says so on
every table and figure."""

TRAIN_TEXT = r"""## Training

The loss of an error $e$ is Huber's: $e^2/2$ up to $|e| = \delta$ and $\delta\,(|e| - \delta/2)$
beyond, so that a few large errors do not rule; it is averaged over the four Hodge numbers, with the
weights of the recipe, or of `SETTINGS`. @schedule

Everything is saved after each epoch, so running this notebook again goes on where it stopped. The
weights of the best epoch on the validation set then answer every configuration. Predictions and
metrics go to files in the run folder; all that follows is read from them."""

PAPER_SCHEDULE = r"""In the paper's recipe $\delta = 1$ and the four weights are equal; the
optimizer is AdamW, gradient descent whose step adapts to each weight; the learning rate is divided
by ten when the validation loss stops falling, and training ends after more than `PATIENCE` epochs
without a better one.

@fast"""
FAST_SCHEDULE = r"""In the fast recipe@own_form errors are measured in standard deviations of each
Hodge number, so that this loss and the paper's are not to be compared; $\delta$ is @delta of them,
and the weights of $h^{1,1}, h^{2,1}, h^{3,1}, h^{2,2}$ are @weights. The optimizer of the matrices
between hidden features is Muon ([Jordan et al.](https://kellerjordan.github.io/posts/muon/)): it
averages the gradients of a matrix and takes a step roughly along the nearest orthogonal matrix, so
that directions to which few gradients point are learned as well. All other weights have AdamW,
gradient descent whose step adapts to each weight. The learning rate rises once, to its highest
value after a tenth of all steps, and falls to zero."""

TRAIN = """\
from cicy_utils import data, models, plots, recipes, records, retraining, seeds, splits, tables

NOTEBOOK, MODEL = "@notebook", "@model"
run_dir = records.run_directory(NOTEBOOK, recipes.variant(RECIPE, SEEDS), folder=RUN_DIR)
cicy4 = data.load_cicy4(SOURCE, layout=LAYOUT or recipes.layout(RECIPE), subset=SUBSET)
split = splits.split_of(cicy4, "72", seed=SPLIT_SEED)
changes = dict(learning_rate=LEARNING_RATE, batch_size=BATCH_SIZE, max_epochs=MAX_EPOCHS)
place = dict(device=DEVICE, precision=PRECISION, max_hours=MAX_HOURS)
config = recipes.config(RECIPE, MODEL, **changes, **place, patience=PATIENCE, others=SETTINGS)
shape = dict(@shape)
runs = dict(notebook=NOTEBOOK, recipe=RECIPE, start=retraining.start(CHECKPOINT, cicy4, split))
folders = seeds.train(MODEL, cicy4, split, config, SEEDS, run_dir, **runs, **shape)
record = records.read_metrics(run_dir)  # of the first seed, as is all that follows
label = record["label"]"""

RESULT_TEXT = """## Result

An answer counts as right when the rounded prediction is the exact Hodge number; *all four* asks
this of the whole quadruple. The last row needs no network: it answers every configuration with the
most frequent value of the training set. A trained network should be above it in every column; after
a few epochs it may be below it on exact answers and yet far nearer on average (MAE and $R^2$
below). One training is one draw: five trainings of LSTM-448 on different folds span @lowest to
@highest on $h^{2,2}$ in the paper. With a `SPLIT_SEED` the published numbers are of another test
set, drawn in the same way and, on the complete list, as large."""

SEEDS_TEXT = """Every seed of this run, with median and range where there are several:"""

COMPARISON_TEXT = """The same comparison for all published measures: mean squared and mean absolute
error and the coefficient of determination $R^2$, all of rounded predictions. Higher is better for
accuracy and $R^2$, lower for the errors. A few matrices that are far off can rule MSE and $R^2$:
there is a table of them below."""

PARTS_TEXT = """The lead of the training set over the other two tells how much less the network
knows of what it has not seen. A small one is normal; a network overfits where it grows while the
validation loss no longer falls."""

ARCHITECTURE_TEXT = """## Architecture

@blocks

The paper counts @millions million weights@counted."""

CURVE_TEXT = """## Training curve

Both losses on a logarithmic scale, and the learning rate below. The training loss is an average
over the epoch, while the weights change; the validation loss is taken after it. The ring is the
epoch whose weights were kept. Where the training curve keeps falling and the validation curve does
not, the network overfits. The learning rate is that of the first step of each epoch; that of the
fast recipe begins at nearly zero, so that its first point is far below the rest of that epoch.
Losses of the two recipes have different units, and are not to be compared."""

CURVE = """title, history = record["model"], records.read_history(run_dir)
plots.save(plots.training_curve(history, title=title, label=label), run_dir, "training_curve")"""

ERRORS_TEXT = """## Errors

Above, by how much the rounded prediction misses the exact value (logarithmic scale; the bars at
both ends collect everything beyond; where a bar is wider than one value, the middle one is not
right answers only). Below, the share of right answers against the exact value, where there are many
values in ranges of them (logarithmic axis): dark blue is right, pale grey is wrong, and where there
is neither the test set has no such configuration. Large Hodge numbers are rare in the list, so a
network has seen few of them, and a bar at the right end may stand for one or two configurations."""

ERRORS = """test = records.load_predictions(run_dir, "test")
plots.save(plots.errors(test, title=f"{title}: test set", label=label), run_dir, "errors")"""

LARGEST_TEXT = r"""Squares let a few large errors rule a mean. These are the largest ones in
$h^{2,2}$, with the quadruples $(h^{1,1}, h^{2,1}, h^{3,1}, h^{2,2})$. In the complete list the
largest $h^{3,1}$ and $h^{2,2}$ belong to the smallest matrices, of which it has few and a training
set fewer."""

DECODINGS_TEXT = r"""## Four decodings

The Hodge numbers of a four-fold are not independent, so fewer than four have to be predicted (an
idea of [arXiv 2108.02221](https://arxiv.org/abs/2108.02221): its network CICYMiner reaches
100 / 100 / 96 / 83 raw from 80 % of the list, in whole percents; for both relations its abstract
says 100 %, without the share of the list):

- *raw*: each output is rounded by itself, as in the paper. ($h^{2,2}$ is always even, by the next
  relation, so every odd answer is wrong.)
- *relation*: $h^{2,2} = 2\,(22 + 2h^{1,1} + 2h^{3,1} - h^{2,1})$ from the other three.
- *relation+chi*: the Euler number $\chi$ follows from the configuration matrix by exact arithmetic,
  so $h^{3,1} = \chi/6 - 8 - h^{1,1} + h^{2,1}$, and then $h^{2,2}$ as above. Only $h^{1,1}$ and
  $h^{2,1}$ are left to the network, and $h^{2,2} = 2\,(6 + \chi/3 + h^{2,1})$ then rests on
  $h^{2,1}$ alone.
- *consistent*: of all quadruples that obey both relations with that $\chi$ and can be Hodge
  numbers (integers, $h^{1,1} \ge 1$, the others $\ge 0$), the one nearest to the four outputs $x$.
  An output that is often far off counts for less: the distance of $h$ is
  $(x - h)^T C^{-1} (x - h)$ with a robust covariance $C$ of the residuals on the validation set,
  one that the few large errors do not rule (of a fold, on the piece that it kept out).

The gain is in the last column, in percentage points: all four right, minus the same for *raw*. As
$h^{2,1} = 0$ for most of the list, exact arithmetic alone achieves much: the constant prediction is
decoded in the same ways, with its own residuals."""

PERMUTED_TEXT = """## Rows and columns in another order

The order of the rows and columns of a configuration matrix has no meaning, but the network was
trained on one particular order. Here the rows and the columns of every test matrix are shuffled:
the manifolds are the same, and what is lost had rested on the order."""

GRAPH_PERMUTED_TEXT = """## Rows and columns in another order

The order of the rows and columns of a configuration matrix has no meaning, and this network does
not see it. Here the rows and the columns of every test matrix are shuffled, and nothing changes but
what rounding tips over."""

OWN_TEXT = r"""## A matrix of one's own

The saved weights, and the exact arithmetic of `cicy_utils.topology`, on
$$\left[\begin{array}{c|cc} 1 & 1 & 1 \\ 5 & 1 & 5 \end{array}\right].$$
Another matrix takes its place in the cell below: one list for each row, without the $n_r$. This one
is among the hardest. Few matrices of the list are as small, and few have an $h^{2,2}$ as large, so
that a network has hardly seen its like. The decodings without $\chi$ (*raw*, *relation*) may be
far off; the two others have the right Euler number, and may still be wrong, each in its own way."""

RUN_TEXT = """## The run"""


def model_notebook(number: int, name: str) -> tuple[str, nbformat.NotebookNode]:
    """File name without suffix, and notebook, of one model."""
    family, hidden = name.rsplit("-", 1)
    notebook = f"{number:02d}_{name.lower().replace('-', '_')}"
    lowest, highest = _fold_range()
    words = {
        "model": name,
        "notebook": notebook,
        "hidden": hidden,
        "what": FAMILIES[family].what,
        "lowest": lowest,
        "highest": highest,
        **(_graph_words() if name == GRAPH else _paper_words(name, hidden)),
    }
    words["blocks"] = Text(FAMILIES[family].blocks).substitute(words)
    cells = [
        _text("title", TITLE),
        _code("parameters", PARAMETERS, tags=["parameters"]),
        _text("training", TRAIN_TEXT),
        _code("train", TRAIN),
        _text("result", RESULT_TEXT),
        _code("headline", "tables.headline(record)"),
        _text("seeds-text", SEEDS_TEXT),
        _code("seeds", "tables.seeds(list(folders.values()))"),
        _text("comparison", COMPARISON_TEXT),
        _code("beside-paper", "tables.beside_paper(record)"),
        _text("parts-text", PARTS_TEXT),
        _code("parts", "tables.parts(record)"),
        _text("architecture-text", ARCHITECTURE_TEXT),
        _code("architecture", "tables.architecture(models.build_model(MODEL, **shape), label)"),
        _text("curve-text", CURVE_TEXT),
        _code("curve", CURVE),
        _text("errors-text", ERRORS_TEXT),
        _code("errors", ERRORS),
        _code("misses", "tables.misses(test, label)"),
        _text("largest-text", LARGEST_TEXT),
        _code("largest", "tables.largest_errors(test, cicy4, label)"),
        _text("decodings-text", DECODINGS_TEXT),
        _code("decodings", "tables.decodings(record)"),
        _text("permuted-text", GRAPH_PERMUTED_TEXT if name == GRAPH else PERMUTED_TEXT),
        _code("permuted", "tables.permuted(record)"),
        _text("own-text", OWN_TEXT),
        _code("own", "tables.example([[1, 1], [1, 5]], run_dir, label)"),
        _text("run-text", RUN_TEXT),
        _code("run", "tables.run_facts(record)"),
    ]
    return notebook, _notebook(cells, words)


DATA_TITLE = r"""# The list of complete intersection Calabi–Yau four-folds

A complete intersection Calabi–Yau manifold (CICY) is the common zero locus of polynomials in a
product of projective spaces. Up to the redundancies removed by Gray, Haupt and Lukas
([arXiv 1303.1832](https://arxiv.org/abs/1303.1832)) there are 905,684 configuration matrices of
four-folds of this kind that are no products; different ones may describe the same manifold. This
notebook shows what they are, what is to be learned about them, and how they are divided into
training, validation and test sets.

## Parameters"""

DATA_PARAMETERS = f"""SOURCE = "bundled"  # "bundled", or the path of another copy of the list
SUBSET = None  # number of configurations drawn from the list; None: all of it
{texts.SPLIT_SEED}
BASELINES = True  # whether to measure predictions without a neural network
BASELINE_SUBSET = None  # number of configurations for these, if SUBSET is None; None: all of it
BASELINE_TRAIN = 20_000  # configurations that the trees learn from at most
RUN_DIR = None  # folder for all results; None: results/interactive/00_data/list"""

DATA_LOAD = """from cicy_utils import baselines, evaluation, figures, plots, records, splits, tables
from cicy_utils.data import load_cicy4

run_dir = records.run_directory("00_data", "list", folder=RUN_DIR)
cicy4 = load_cicy4(SOURCE, subset=SUBSET)
all_splits = [splits.split_of(cicy4, name, seed=SPLIT_SEED) for name in splits.NAMES]
record = evaluation.record_list(cicy4, all_splits, run_dir)
label = record["label"]"""

MATRIX_TEXT = r"""## What a configuration matrix is

$$X = \left[\begin{array}{c|ccc} n_1 & q_{11} & \cdots & q_{1K} \\ \vdots & \vdots & & \vdots \\
n_m & q_{m1} & \cdots & q_{mK} \end{array}\right]$$

Each row is a projective space $\mathbb{P}^{n_r}$, each column a polynomial $p_a$, and $q_{ra}$ is
the degree of $p_a$ in the coordinates of $\mathbb{P}^{n_r}$. The zero locus has dimension
$\sum_r n_r - K = 4$, and it is Calabi–Yau when every row obeys
$$\sum_a q_{ra} = n_r + 1 ,$$
so the $n_r$ need not be stored. An example: in
$\left[\begin{array}{c|cc} 1 & 1 & 1 \\ 5 & 1 & 5 \end{array}\right]$
a polynomial of bidegree $(1, 1)$ and one of bidegree $(1, 5)$ live on
$\mathbb{P}^1 \times \mathbb{P}^5$; the rows sum to $2 = 1 + 1$ and $6 = 5 + 1$.

The Hodge numbers follow from counting polynomials, with no other input than the matrix
(`topology.hodge_numbers`; for 3.3 % of the list they rest on the ranks of maps, which are the
largest possible ones, as `cicy_utils/ranks.py` proves); the Euler number from the top Chern class,
independently. The last two rows of the table share all their numbers and are different manifolds:
the hyperplane class $H$ of $\mathbb{P}^4$ or $\mathbb{P}^5$ has $H^4 = 2$ or $6$, and replacing it
by $H + kL$, with $L$ that of $\mathbb{P}^1$, adds $20k$."""

MATRIX = """tables.exact(
    {
        "[5 | 6], the sextic": [[6]],
        "[1 | 2], [4 | 5]": [[2], [5]],
        "[1 | 1 1], [5 | 1 5]": [[1, 1], [1, 5]],
    },
    label,
)"""

DRAWN_TEXT = r"""A small, a middling and one of the largest matrices, each with its Hodge
numbers $(h^{1,1}, h^{2,1}, h^{3,1}, h^{2,2})$. Darker squares are higher degrees and empty squares
are zeros; most entries are 0 or 1."""

STATISTICS_TEXT = r"""## The list in numbers

Beside the values published with the Hodge numbers
([arXiv 1405.2073](https://arxiv.org/abs/1405.2073)). A configuration is favourable when all
divisor classes, with rational coefficients, come from the ambient space: $h^{1,1} = m$."""

FAULTS_TEXT = r"""## Exact checks

Every Calabi–Yau four-fold with $h^{1,0} = h^{2,0} = h^{3,0} = 0$, as all of the list are, obeys
$$h^{2,2} = 2\,(22 + 2h^{1,1} + 2h^{3,1} - h^{2,1}), \qquad
\chi = 4 + 2h^{1,1} - 4h^{2,1} + 2h^{3,1} + h^{2,2} .$$
All Hodge numbers are computed again from the matrices and compared with those of the list, and so
is the Euler number, from the top Chern class, by arithmetic that knows nothing of Hodge numbers.
Zeros are what should stand here. `python -m cicy_utils.data verify` checks much more."""

FIGURE_1_TEXT = r"""## Distributions (paper, Fig. 1)

How many configurations there are at each value, or in each range of values where there are more
than 60, as of $h^{3,1}$ and $h^{2,2}$: in the complete list and in the three parts of the 72 %
split. The curves run in parallel: the parts are fair samples. $h^{1,1}$ and $h^{2,1}$ take few
values; $h^{3,1}$ and $h^{2,2}$ take many, in long tails of rare large ones, which dominate mean
squared errors. They are also the hard ones to get exactly right, $h^{2,2}$ most of all: it grows by
four with $h^{1,1}$ or $h^{3,1}$, and an answer must be off by less than half."""

FIGURE_2_TEXT = r"""## The 72 % and the 80 % split (paper, Fig. 2)

The 80 % split moves 40 % of the test set to the training set; the rest stays for testing. The two
training sets nearly coincide on these logarithmic axes, and the test sets have one shape: both
moves are at random."""

FIGURE = 'plots.save(figures.distribution({0}, cicy4, SPLIT_SEED, label), run_dir, "figure_{0}")'

SPLITS_TEXT = """## Who trains on what

Sizes of the parts beside the published ones, with the first digits of their fingerprints. The five
folds cut the training and validation sets of the 72 % split into five pieces. No configuration is
in two parts."""


BASELINES_TEXT = """## What needs no neural network

Four predictions to be beaten, on the configurations that the models get, with their training,
validation and test sets:

- *constant prediction*: always the most frequent value of the training set;
- *ridge regression*: linear in the 320 entries of the matrix;
- *gradient-boosted trees*: scikit-learn's histogram kind, for each Hodge number, with at most
  `BASELINE_TRAIN` configurations to learn from;
- *look-up of shape and chi*: the most frequent Hodge numbers of the matrices in the training set
  with as many rows, as many columns and the same Euler number $\\chi$. It is the one to beat with
  the decodings that use $\\chi$, so it has these only.

The decodings are those of the model notebooks: each number by itself (raw); $h^{2,2}$ from the
other three (relation); $h^{3,1}$ and $h^{2,2}$ from $h^{1,1}$, $h^{2,1}$ and the Euler number
(relation+chi); the nearest quadruple that obeys both relations (consistent). The gain is in all
four right, in percentage points, over raw."""

BASELINES = """if BASELINES:
    sample = load_cicy4(SOURCE, subset=SUBSET or BASELINE_SUBSET)
    display(tables.baselines(baselines.record(sample, run_dir, SPLIT_SEED, BASELINE_TRAIN)))"""


def data_notebook() -> tuple[str, nbformat.NotebookNode]:
    """File name without suffix, and notebook, of the list itself."""
    cells = [
        _text("title", DATA_TITLE),
        _code("parameters", DATA_PARAMETERS, tags=["parameters"]),
        _code("load", DATA_LOAD),
        _text("matrix-text", MATRIX_TEXT),
        _code("matrix", MATRIX),
        _text("drawn-text", DRAWN_TEXT),
        _code("drawn", 'plots.save(plots.examples(cicy4, label=label), run_dir, "examples")'),
        _text("statistics-text", STATISTICS_TEXT),
        _code("statistics", "tables.list_statistics(record)"),
        _code("sizes", "tables.list_sizes(record)"),
        _text("faults-text", FAULTS_TEXT),
        _code("faults", "tables.list_faults(record)"),
        _text("figure-1-text", FIGURE_1_TEXT),
        _code("figure-1", FIGURE.format(1)),
        _text("figure-2-text", FIGURE_2_TEXT),
        _code("figure-2", FIGURE.format(2)),
        _text("splits-text", SPLITS_TEXT),
        _code("splits", "tables.splits(all_splits, label)"),
        _text("baselines-text", BASELINES_TEXT),
        _code("baselines", BASELINES),
        _text("run-text", RUN_TEXT),
        _code("run", "tables.machine_facts(record)"),
    ]
    return "00_data", _notebook(cells, {})


def cross_validation_notebook() -> tuple[str, nbformat.NotebookNode]:
    """File name without suffix, and notebook, of the five folds."""
    cells = [
        _text("title", texts.CV_TITLE),
        _code("parameters", texts.CV_PARAMETERS, tags=["parameters"]),
        _text("training", texts.CV_TRAIN_TEXT),
        _code("train", texts.CV_TRAIN),
        _text("result", texts.CV_RESULT_TEXT),
        _code("headline", "tables.headline(record)"),
        _text("parts-text", texts.CV_PARTS_TEXT),
        _code("parts", "tables.parts(record)"),
        _text("curve-text", texts.CV_CURVE_TEXT),
        _code("curve", texts.CV_CURVE),
        _text("folds-text", texts.CV_FOLDS_TEXT),
        _code("folds", texts.CV_FOLDS),
        _text("out-of-fold-text", texts.CV_OUT_TEXT),
        _code("out-of-fold", "tables.out_of_fold(found)"),
        _text("losses-text", texts.CV_LOSSES_TEXT),
        _code("losses", texts.CV_LOSSES),
        _text("run-text", RUN_TEXT),
        _code("run", "tables.run_facts(record)"),
    ]
    lowest, highest = _fold_range()
    words = {"model": "LSTM-448", "graph": GRAPH, "lowest": lowest, "highest": highest}
    name = "13_cross_validation"
    return name, _notebook(cells, words | {"notebook": name} | _recipe_words("paper"))


def retraining_notebook() -> tuple[str, nbformat.NotebookNode]:
    """File name without suffix, and notebook, of the 80 % split."""
    cells = [
        _text("title", texts.RETRAINING_TITLE),
        _code("parameters", texts.RETRAINING_PARAMETERS, tags=["parameters"]),
        _text("training", texts.RETRAINING_TRAIN_TEXT),
        _code("train", texts.RETRAINING_TRAIN),
        _text("result", texts.RETRAINING_RESULT_TEXT),
        _code("headline", "tables.headline(record)"),
        _text("comparison", COMPARISON_TEXT),
        _code("beside-paper", "tables.beside_paper(record)"),
        _text("parts-text", texts.RETRAINING_PARTS_TEXT),
        _code("parts", "tables.parts(record)"),
        _text("curve-text", texts.RETRAINING_CURVE_TEXT),
        _code("curve", texts.RETRAINING_CURVE),
        _text("largest-text", LARGEST_TEXT),
        _code("largest", texts.RETRAINING_LARGEST),
        _text("decodings-text", DECODINGS_TEXT),
        _code("decodings", "tables.decodings(record)"),
        _text("run-text", texts.RETRAINING_RUN_TEXT),
        _code("run", "tables.run_facts(record)"),
    ]
    name = "14_retraining"
    words = {"model": "LSTM-448", "notebook": name, "graph": GRAPH}
    words["published"] = paper.COUNTERPARTS[GRAPH, 80]
    return name, _notebook(cells, words | _recipe_words("paper"))


def ensembles_notebook() -> tuple[str, nbformat.NotebookNode]:
    """File name without suffix, and notebook, of the ensembles."""
    cells = [
        _text("title", texts.ENSEMBLES_TITLE),
        _code("parameters", texts.ENSEMBLES_PARAMETERS, tags=["parameters"]),
        _text("climb-text", texts.CLIMB_TEXT),
        _code("climb", texts.CLIMB),
        _text("climbed-text", texts.CLIMBED_TEXT),
        _code("climbed", "tables.climbed(record, entries)"),
        _text("weights-text", texts.WEIGHTS_TEXT),
        _code("weights", "tables.climbs(record)"),
        _code("paths", texts.PATHS),
        _text("members-text", texts.MEMBERS_TEXT),
        _code("members", "tables.members(found, label)"),
        _text("ensembles-72-text", texts.ENSEMBLES_72_TEXT),
        _code("ensembles-72", 'tables.paper_ensembles(record, entries, "72")'),
        _text("ensembles-80-text", texts.ENSEMBLES_80_TEXT),
        _code("ensembles-80", 'tables.paper_ensembles(record, entries, "80")'),
        _text("picks-text", texts.PICKS_TEXT),
        _code("picks", "tables.picks(record)"),
        _text("run-text", RUN_TEXT),
        _code("run", "tables.machine_facts(record)"),
    ]
    name = "15_ensembles"
    return name, _notebook(cells, {"notebook": name})


def scan_notebook() -> tuple[str, nbformat.NotebookNode]:
    """File name without suffix, and notebook, of the scan over hidden sizes."""
    cells = [
        _text("title", texts_scan.TITLE),
        _code("parameters", texts_scan.PARAMETERS, tags=["parameters"]),
        _text("scan-text", texts_scan.SCAN_TEXT),
        _code("scan", texts_scan.SCAN),
        _text("trials-text", texts_scan.TRIALS_TEXT),
        _code("trials", texts_scan.TRIALS),
        _text("sizes-text", texts_scan.SIZES_TEXT),
        _code("sizes", texts_scan.SIZES),
        _text("curves-text", texts_scan.CURVES_TEXT),
        _code("curves", texts_scan.CURVES),
        _text("run-text", RUN_TEXT),
        _code("run", "tables.machine_facts(record)"),
    ]
    model = "LSTM-448"
    name = "16_hidden_size_scan"
    words = {"model": model, "hidden": model.split("-")[1], "notebook": name}
    return name, _notebook(cells, words)


def reference_notebook() -> tuple[str, nbformat.NotebookNode]:
    """File name without suffix, and notebook, of the check of published weights."""
    cells = [
        _text("title", texts_reference.TITLE),
        _code("parameters", texts_reference.PARAMETERS, tags=["parameters"]),
        _code("check", texts_reference.CHECK),
        _text("result-text", texts_reference.RESULT_TEXT),
        _code("result", texts_reference.RESULT),
        _text("files-text", texts_reference.FILES_TEXT),
        _code("files", texts_reference.FILES),
        _text("run-text", RUN_TEXT),
        _code("run", "tables.machine_facts(record)"),
    ]
    name = "17_reference"
    return name, _notebook(cells, {"notebook": name})


def build() -> dict[Path, str]:
    """Path and text of every notebook."""
    notebooks = [data_notebook()]
    notebooks += [model_notebook(number, name) for number, name in enumerate(FINDINGS, start=1)]
    notebooks += [cross_validation_notebook(), retraining_notebook(), ensembles_notebook()]
    notebooks += [scan_notebook(), reference_notebook(), model_notebook(18, GRAPH)]
    return {
        FOLDER / f"{name}.ipynb": nbformat.writes(notebook, indent=1) + "\n"
        for name, notebook in notebooks
    }


def main() -> int:
    parser = argparse.ArgumentParser(description="Make the notebooks from their template.")
    parser.add_argument("--check", action="store_true", help="only compare; 1 when one differs")
    check = parser.parse_args().check
    texts = build()
    stale = [
        path
        for path, text in texts.items()
        if not path.is_file() or path.read_text("utf-8") != text
    ]
    if check:
        for path in stale:
            print(f"{path.name} is not what build.py makes: run python notebooks/build.py")
        return 1 if stale else 0
    for path in stale:
        path.write_text(texts[path], encoding="utf-8")
    print(f"{len(texts)} notebooks, {len(stale)} written")
    return 0


def _fold_range() -> tuple[str, str]:
    """Lowest and highest published accuracy on h22 of the five folds."""
    table = paper.published()
    folds = [table.loc[(f"LSTM-448-f{fold}", 72), "accuracy_h22"] for fold in range(5)]
    return _percent(min(folds)), _percent(max(folds))


def _finding(name: str) -> str:
    """The paper's finding with its figures; @{NAME} is another model's accuracy on h22."""
    table = paper.published().xs(72, level="split")
    own = {hodge: _percent(table.loc[name, f"accuracy_{hodge}"]) for hodge in paper.HODGE_NAMES}
    others = {other: _percent(table.loc[other, "accuracy_h22"]) for other in FINDINGS}
    return Text(FINDINGS[name]).substitute(own | others)


def _paper_words(name: str, hidden: str) -> dict[str, str]:
    """What a notebook of the paper's networks says that ours does not."""
    return {
        "finding": _finding(name),
        "size": f" The recurrent part has two layers of {hidden} hidden units.",
        "millions": f"{paper.published().loc[(name, 72), 'parameters_millions']:.3f}",
        "counted": "",
        "follows": "Network, data and, unless `RECIPE` is another, the recipe follow",
        "schedule": Text(PAPER_SCHEDULE).substitute(fast=_fast_schedule(name)),
        "defaults": "the recipe of the paper",
        **_recipe_words("paper"),
        "shape_parameters": f"# The network: the paper's\n{texts.SHAPE}",
        "shape": "hidden_size=HIDDEN_SIZE, num_layers=NUM_LAYERS, bidirectional=BIDIRECTIONAL",
    }


def _graph_words() -> dict[str, str]:
    """The same of our own network."""
    spec, best = models.MODELS[GRAPH], paper.COUNTERPARTS[GRAPH, 72]
    return {
        "finding": GRAPH_FINDING,
        "size": "",
        "millions": f"{paper.published().loc[(best, 72), 'parameters_millions']:.3f}",
        "counted": f" of its {best}",
        "follows": "Data and measures follow",
        "schedule": _fast_schedule(GRAPH, ", in the form that this network has of it,"),
        "shrink": str(graph.SHRINK),
        "defaults": "the fast recipe, in the form that this network has of it,",
        **_recipe_words("fast", GRAPH),
        "layers": str(spec.num_layers),
        "shape_parameters": texts.GRAPH_SHAPE.replace("@layers", str(spec.num_layers)),
        "shape": "hidden_size=HIDDEN_SIZE, num_layers=NUM_LAYERS",
    }


def _fast_schedule(model: str, own_form: str = "") -> str:
    settings = recipes.settings("fast", model)
    weights = ", ".join(f"{weight:g}" for weight in settings["loss_weights"])
    delta = f"{settings['huber_delta']:g}"
    return Text(FAST_SCHEDULE).substitute(own_form=own_form, delta=delta, weights=weights)


def _recipe_words(recipe: str, model: str = "") -> dict[str, str]:
    """What the cell of parameters says of the recipe that it names."""
    settings = recipes.settings(recipe, model)
    falls = {"plateau": "at the start, divided by 10 on a plateau", "one-cycle": "at the highest"}
    named = ("batch_size", "max_epochs", "patience")
    return {
        "recipe": recipe,
        "layout": recipes.layout(recipe),
        "optimizer": settings["optimizer"],
        "delta": f"{settings['huber_delta']:g}",
        "rate": f"{settings['learning_rate']:g} {falls[settings['schedule']]}",
        **{name: str(settings[name]) for name in named},
    }


def _percent(value: float) -> str:
    return f"{value:.2f} %"


def _text(cell_id: str, source: str) -> nbformat.NotebookNode:
    return new_markdown_cell(source, id=cell_id)


def _code(cell_id: str, source: str, tags: list[str] | None = None) -> nbformat.NotebookNode:
    return new_code_cell(source, id=cell_id, metadata={"tags": tags} if tags else {})


def _notebook(cells: list, words: dict[str, str]) -> nbformat.NotebookNode:
    for cell in cells:
        cell.source = Text(cell.source).substitute(words)
    return new_notebook(
        cells=cells,
        metadata={
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
        },
    )


if __name__ == "__main__":
    sys.exit(main())
