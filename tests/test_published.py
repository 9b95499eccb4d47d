"""The Oxford text: what is read, what is tolerated, what is refused and where."""

from __future__ import annotations

import io
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cicy_utils import published, scanner
from cicy_utils.archives import Refused
from cicy_utils.data import crop
from cicy_utils.published import parse, read_text, write_text
from cicy_utils.validation import rule_of, validate

SEXTIC = "{1, 1, 1, {{6}}, 2610, False, 1, 0, 426, 1752, Null, False}"
SECOND = "{2, 2, 2, {{1, 1}, {1, 5}}, 2160, Null, 2, 0, 350, 1452}"


def read(text: str | bytes):
    return parse(io.BytesIO(text.encode() if isinstance(text, str) else text), "text")


def fault(text: str) -> str:
    """What validation says of the only entry."""
    report = validate(read("{" + text + "}"), "text")
    assert len(report.faults) >= 1
    return report.sentence(report.faults.iloc[0])


def test_documented_example():
    found = read(f"{{{SEXTIC}, {SECOND}}}")
    assert len(found) == 2
    assert found.matrices[0].nonzero()[0].tolist() == [0]
    assert found.matrices[0, 0, 0] == 6
    assert found.matrices[1, :2, :2].tolist() == [[1, 1], [1, 5]]
    assert found.hodge.tolist() == [[1, 0, 426, 1752], [2, 0, 350, 1452]]
    assert found.euler.tolist() == [2610, 2160]
    assert not found.faults.any()
    assert not found.product.any()


@pytest.mark.parametrize("suffix", [".txt", ".zip"])
def test_written_is_read(tmp_path, cicy4_sample, suffix):
    path = tmp_path / f"list{suffix}"
    write_text(path, cicy4_sample)
    found = read_text(path)
    assert (found.matrices == cicy4_sample.matrices).all()
    assert (found.hodge == cicy4_sample.hodge).all()
    assert found.lines.tolist() == list(range(1, 301))
    assert not found.faults.any()


def test_zeros_in_front_are_padding_too(tmp_path, cicy4_few):
    turned = replace(cicy4_few, matrices=cicy4_few.matrices[:, ::-1, ::-1])
    write_text(tmp_path / "list.txt", turned)
    found = read_text(tmp_path / "list.txt")
    assert not found.faults.any()
    for matrix, written in zip(turned.matrices, found.matrices, strict=True):
        assert (crop(written) == crop(matrix)).all()


@pytest.mark.parametrize("size", [1, 7, 100, 1000])
def test_any_size_of_pieces_gives_the_same(cicy4_few, monkeypatch, size):
    stream = io.BytesIO()
    published.write_entries(stream, cicy4_few)
    monkeypatch.setattr(published, "_CHUNK_BYTES", size)
    monkeypatch.setattr(published, "_BLOCK", 4)
    found = read(stream.getvalue())
    assert (found.matrices == cicy4_few.matrices).all()
    assert (found.hodge == cicy4_few.hodge).all()
    assert found.lines.tolist() == list(range(1, len(cicy4_few) + 1))


def test_white_space_does_not_matter():
    spread = SEXTIC.replace("{", " {\r\n\t").replace(",", "\n,\f ").replace("}", "\n }")
    found = read(f"\ufeff \n{{\n{spread}\n,{SECOND}}}\n\n")
    assert found.hodge.tolist() == [[1, 0, 426, 1752], [2, 0, 350, 1452]]
    assert found.lines[0] == 3
    dense = read(f"{{{SEXTIC},{SECOND}}}".replace(" ", ""))
    assert (dense.matrices == found.matrices).all()


@pytest.mark.parametrize(
    "tail",
    [
        "",
        ", True",
        ", {{1, 2}, {{}}}, Null",
        ', "a } b \\" ,", False',
        ", 1.5*^-8, Missing[{1, 2}], 3/4",
        ', f[x_, y__] := (x + y), "\u00e9"',
    ],
)
def test_unknown_fields_do_not_matter(tail):
    first = '{"no. 1, {", 1, 1, {{6}}, Indeterminate, False, 1, 0, 426, 1752' + tail + "}"
    found = read(f"{{{first}, {SECOND}}}")
    assert found.hodge.tolist() == [[1, 0, 426, 1752], [2, 0, 350, 1452]]
    assert not found.faults.any()


def test_products_are_marked_and_their_labels_ignored():
    text = "{1, 2, 2, {{3, 0}, {0, 5}}, 0, True, Null, x, -5, 99999, Null}"
    found = read(f"{{{text}, {SEXTIC}}}")
    assert found.product.tolist() == [True, False]
    assert not found.faults.any()
    report = validate(found, "text")
    assert report.products == 1
    assert report.kept.tolist() == [1]
    assert not len(report.faults)


def test_empty_list():
    assert len(read("{}")) == 0
    assert len(read(" { \n } \n")) == 0


def test_nothing_is_evaluated(tmp_path):
    victim = tmp_path / "victim"
    code = f"__import__('pathlib').Path({str(victim)!r}).touch()"
    found = read(f"{{{{{code}, 1, 1, {{{{6}}}}, {code}, False, 1, 0, 426, {code}}}}}")
    assert found.hodge.tolist() == [[1, 0, 426, -1]]
    assert not victim.exists()


@pytest.mark.parametrize(
    ("text", "where", "what"),
    [
        ("", "line 1", "truncated"),
        ("1, 2", "line 1, column 1", "does not begin with '{'"),
        ("{1, 2}", "line 1, column 2", "an entry does not begin"),
        (f"{{{SEXTIC}\n {SECOND}}}", "line 2, column 2", "neither ',' nor '}' follows an entry"),
        (f"{{{SEXTIC}}}\n\n  x", "line 3, column 3", "something follows the end"),
        (f"{{{SEXTIC},\n}}", "line 2, column 1", "an entry does not begin"),
        (f"{{{SEXTIC},\n{{1,, 2}}}}", "line 2, column 4", "a field is empty"),
        (f"{{{SEXTIC},\n{{1, 2,}}}}", "line 2, column 7", "a field is empty"),
        (f"{{{SEXTIC},\n{{}}}}", "line 2, column 2", "a field is empty"),
        ("{{1, 2)}}", "line 1, column 7", "a bracket does not match"),
        ("{{1, [2}]}}", "line 1, column 8", "a bracket does not match"),
        ("{\n{1, \x01}}", "line 2, column 5", "no printable ASCII"),
        ("{\n{1,\n \u00e9}}", "line 3, column 2", "no printable ASCII"),
        ("{{" + "(" * 40 + "}}", "line 1, column 33", "nested too deeply"),
        ("{{1, 1, 1, {{6}\n {5}}}}", "line 2, column 2", "follows a row of the matrix"),
        ("{{1, 1, 1, {{6}} 7}}", "line 1, column 18", "of the matrix, or the matrix"),
        ("{{1" + " " * 70_000 + "}}", "line 1, column 2", "longer than 65,536 bytes"),
        (f"{{{SEXTIC},\n{SECOND[:-9]}", "line 2:", "truncated"),
        (f"{{{SEXTIC},\n{SECOND}", "line 2:", "truncated"),
    ],
)
def test_wrong_structure_is_refused_with_its_position(text, where, what):
    with pytest.raises(Refused) as caught:
        read(text)
    message = str(caught.value)
    assert f"text, {where}" in message
    assert what in message
    assert "\n" not in message


def test_position_after_many_pieces(monkeypatch):
    monkeypatch.setattr(published, "_CHUNK_BYTES", 50)
    text = "{" + f"{SEXTIC},\n" * 40 + "   {1,, 2}}"
    with pytest.raises(Refused, match=r"line 41, column 7: in entry 40 \(counted from 0\)"):
        read(text)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-32"])
def test_other_encodings(encoding):
    with pytest.raises(Refused, match="not in ASCII"):
        read(f"{{{SEXTIC}}}".encode(encoding))


def test_too_many_entries(monkeypatch):
    monkeypatch.setattr(published, "_BLOCK", 2)
    monkeypatch.setattr(published, "MAX_ENTRIES", 5)
    with pytest.raises(Refused, match="more than 5 entries"):
        read("{" + ",".join([SEXTIC] * 8) + "}")


@pytest.mark.parametrize(
    ("entry", "what"),
    [
        ("{1, 2, 3}", "it has 3 fields"),
        ("{1, 1, 1, 6, 2610, False, 1, 0, 426, 1752}", "field 3 is no list of rows"),
        ("{1, 1, 1, {}, 2610, False, 1, 0, 426, 1752}", "field 3 is no list of rows"),
        ("{1, 1, 1, {{}}, 2610, False, 1, 0, 426, 1752}", "field 3 is no list of rows"),
        ("{1, 2, 1, {{6}, 5}, 2610, False, 1, 0, 426, 1752}", "of degrees (row 1)"),
        ("{1, 2, 2, {{1, 1}, {1}}, 0, False, 1, 0, 426, 1752}", "row 1 has 1 columns"),
        ("{1, 1, 1, {{-6}}, 0, False, 1, 0, 426, 1752}", "row 0, column 0 is no integer"),
        ("{1, 1, 1, {{256}}, 0, False, 1, 0, 426, 1752}", "row 0, column 0 is no integer"),
        ("{1, 1, 1, {{6.0}}, 0, False, 1, 0, 426, 1752}", "row 0, column 0 is no integer"),
        ("{1, 1, 1, {{NaN}}, 0, False, 1, 0, 426, 1752}", "row 0, column 0 is no integer"),
        (f"{{1, 1, 1, {{{{{'9' * 40}}}}}, 0, False, 1, 0, 426, 1752}}", "is no integer"),
        (f"{{1, 1, 21, {{{{{'1,' * 20}1}}}}, 0, False, 1, 0, 42, 17}}", "outside 16 x 20"),
        ("{1, 2, 1, {{6}, {0}}, 2610, False, 1, 0, 426, 1752}", "row 1 is zero"),
        ("{1, 1, 2, {{6, 0}}, 2610, False, 1, 0, 426, 1752}", "column 1 is zero"),
        ("{1, 2, 1, {{6}}, 2610, False, 1, 0, 426, 1752}", "field 1 does not say 1"),
        ("{1, 1, x, {{6}}, 2610, False, 1, 0, 426, 1752}", "field 2 does not say 1"),
        ("{1, 1, 1, {{6}}, 2610, Maybe, 1, 0, 426, 1752}", "mark of products"),
        ("{1, 1, 1, {{6}}, 2610, False, 1, 0, 426, Null}", "h22 is no integer"),
        ("{1, 1, 1, {{6}}, 2610, False, 1, -1, 426, 1752}", "h21 is no integer"),
        ("{1, 1, 1, {{6}}, 2610, False, 1, 0, 99999, 1752}", "h31 is no integer"),
    ],
)
def test_wrong_content_is_noted_with_the_entry(entry, what):
    assert fault(entry).startswith("entry 0 (line 1): ")
    assert what in fault(entry)
    found = read(f"{{{entry}, {SEXTIC}}}")
    assert found.faults[:, 0].astype(bool).tolist() == [True, False]
    assert found.hodge[1].tolist() == [1, 0, 426, 1752]
    assert rule_of(int(found.faults[0, 0]))


def test_leading_zeros_and_signs():
    found = read("{{1, +1, 01, {{" + "0" * 30 + "6}}, -0, False, 1, 0, 426, 1752}}")
    assert found.matrices[0, 0, 0] == 6
    assert found.euler.tolist() == [0]
    assert not found.faults.any()


def test_text_in_a_zip_file(tmp_path):
    path = tmp_path / "a.zip"
    cases = {
        ("cicy4list.txt", "readme.txt"): None,
        ("folder/other.txt",): None,
        ("a.txt", "b.txt"): "2 texts",
        ("a.dat",): "0 texts",
    }
    for names, message in cases.items():
        with zipfile.ZipFile(path, "w") as archive:
            for name in names:
                archive.writestr(name, "?" if name == "readme.txt" else f"{{{SEXTIC}}}")
        if message is None:
            assert read_text(path).hodge.tolist() == [[1, 0, 426, 1752]]
        else:
            with pytest.raises(Refused, match=message):
                read_text(path)


def test_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="no file"):
        read_text(tmp_path / "none.txt")


def test_entries_are_longer_than_those_of_the_list(cicy4):
    """The limit on the length of an entry leaves room for anything published."""
    largest = int(np.argmax(cicy4.matrices.any(axis=2).sum(axis=1)))
    assert len(str(cicy4.matrices[largest].tolist())) * 10 < scanner.MAX_ENTRY_BYTES


@pytest.mark.long
def test_complete_list_in_less_than_2_gib(tmp_path, cicy4):
    """Read, validated and cached, in a process of its own."""
    write_text(tmp_path / "cicy4list.zip", cicy4)
    code = (
        "import sys; from cicy_utils.sources import read_list;"
        "from cicy_utils.stopwatch import peak_memory;"
        "found = read_list(sys.argv[1]); print(len(found.matrices), peak_memory())"
    )
    finished = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "cicy4list.zip")],
        cwd=Path(published.__file__).parents[1],
        check=True,
        capture_output=True,
        text=True,
    )
    count, peak = map(int, finished.stdout.split())
    assert count == 905684
    assert peak < 2 << 30
