"""Tables of a report: what they say, and under which label."""

import numpy as np
import pandas as pd
import pytest

from cicy_utils import tables
from cicy_utils.data import SHAPE, Cicy4
from cicy_utils.records import Predictions

# The sextic, the configuration of the tables' notation, and one too large for it.
MATRICES = [[[6]], [[1, 1], [1, 5]], np.eye(16, 20, dtype=int) + np.eye(16, 20, 1, dtype=int)]
HODGE = [(1, 0, 426, 1752), (2, 0, 350, 1452), (9, 0, 33, 212)]


@pytest.fixture
def cicy4() -> Cicy4:
    """Four entries, the first of which is never asked for."""
    matrices = np.zeros((4, *SHAPE), np.uint8)
    for padded, matrix in zip(matrices[1:], map(np.array, MATRICES), strict=True):
        padded[-matrix.shape[0] :, : matrix.shape[1]] = matrix  # zeros first
    hodge = np.array([(0, 0, 0, 0), *HODGE], np.int16)
    return Cicy4(matrices, hodge, "small", "zeros-first", "")


def answers(errors_of_h22) -> Predictions:
    """Of entries 3, 2 and 1, with these errors."""
    indices = np.array([3, 2, 1])
    labels = np.array(HODGE, np.int16)[::-1]
    predictions = labels.astype(np.float32)
    predictions[:, 3] += errors_of_h22
    return Predictions(indices, predictions, labels)


def test_largest_errors_first_with_their_shares(cicy4):
    shown = tables.largest_errors(answers([1, -300, 0]), cicy4, "quick run").data
    assert shown["configuration"].tolist() == ["[1 | 1 1], [5 | 1 5]", "16 × 17 matrix"]
    assert shown["exact"].tolist()[0] == "(2, 0, 350, 1,452)"
    assert shown["network"].tolist()[0] == "(2, 0, 350, 1,152)"
    assert shown["share (%)"].tolist() == pytest.approx([100 * 90_000 / 90_001, 100 / 90_001])


def test_largest_errors_where_there_are_few_or_none(cicy4, monkeypatch):
    found = tables.largest_errors(answers([0, 0, 0]), cicy4)
    assert found.data.empty
    assert "0.0 % together" in found.caption
    monkeypatch.setattr(tables, "FARTHEST", 1)
    assert len(tables.largest_errors(answers([0, 5, 6]), cicy4).data) == 1


def test_shares_of_errors_that_no_integer_holds_the_squares_of(cicy4):
    shown = tables.largest_errors(answers([2e9, -2e9, 2e9]), cicy4).data
    assert shown["share (%)"].tolist() == pytest.approx([100 / 3] * 3)


def test_the_label_stands_in_every_caption(cicy4):
    assert (
        "<b>quick run</b>" in tables.largest_errors(answers([1, 2, 3]), cicy4, "quick run").caption
    )
    assert "<b>" not in tables.style(pd.DataFrame({"h11": [1.0]}), "caption").caption


def test_headers_show_hodge_numbers_as_mathematics():
    frame = pd.DataFrame({"h11": [1.0], "other": ["word"]}, index=["h22"])
    page = tables.style(frame, "caption").to_html()
    assert "<i>h</i><sup>1,1</sup>" in page
    assert "<i>h</i><sup>2,2</sup>" in page
    assert "h11" not in page


def test_a_long_label_is_broken_into_lines():
    label = "quick run: " + ", ".join(f"setting {number} changed" for number in range(20))
    caption = tables.style(pd.DataFrame({"a": [1]}), "caption", label).caption
    lines = caption.removeprefix("caption<br><b>").removesuffix("</b>").split("<br>")
    assert len(lines) > 1
    assert max(map(len, lines)) <= tables.LABEL_WIDTH
    assert " ".join(lines) == label


def test_differences_have_a_sign_and_zero_has_none():
    ours = {"LSTM-448": {"accuracy_h11": 99.0, "accuracy_h21": 97.51, "accuracy_all": 1.0}}
    page = tables.published_and_ours(ours, 72, "caption").to_html()
    assert "before rounding" in page
    assert ">−0.74</td>" in page  # 99.74 are published
    assert ">0.00</td>" in page and "+0.00" not in page and "−0.00" not in page


def test_no_zero_is_negative():
    page = tables.style(pd.DataFrame({"a": [-0.001, 2.0]}), "caption").to_html()
    assert ">0.00</td>" in page and ">2.00</td>" in page


def test_missing_numbers_are_a_dash_and_thousands_have_commas():
    page = tables.style(pd.DataFrame({"a": [None, 12345.678]}), "caption", decimals=1).to_html()
    assert ">–</td>" in page
    assert ">12,345.7</td>" in page
