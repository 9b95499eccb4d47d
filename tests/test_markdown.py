import pytest

from cicy_utils.markdown import markdown_table

HEADS = ["model", "h11"]
ROWS = [["LSTM-448", "99.54"], ["GRU", "7.1"]]


def test_words_are_set_left_and_numbers_right():
    assert markdown_table(HEADS, ROWS, words=["model"]).splitlines() == [
        "| model | h11 |",
        "| --- | ---: |",
        "| LSTM-448 | 99.54 |",
        "| GRU | 7.1 |",
    ]


def test_padded_columns_stand_below_each_other():
    assert markdown_table(HEADS, ROWS, words=["model"], padded=True).splitlines() == [
        "| model    |   h11 |",
        "| -------- | ----: |",
        "| LSTM-448 | 99.54 |",
        "| GRU      |   7.1 |",
    ]


def test_a_column_of_short_texts_is_as_wide_as_its_rule_needs():
    assert markdown_table(["a", "b"], [["x", "1"]], words=["a"], padded=True).splitlines()[1] == (
        "| --- | ---: |"
    )


def test_a_row_with_a_cell_too_few_is_refused():
    with pytest.raises(ValueError, match="a row of 1 columns below 2 heads"):
        markdown_table(HEADS, [["LSTM-448"]])
