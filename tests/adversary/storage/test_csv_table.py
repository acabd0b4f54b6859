import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adversary.storage import csv_table

SCHEMA = {"name": "string", "count": "Int64", "value": "float64", "flag": "boolean"}


@pytest.fixture
def path(tmp_path):
    csv_table.create(tmp_path / "table.csv", SCHEMA)
    return tmp_path / "table.csv"


printable = st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=20)
rows = st.fixed_dictionaries(
    {
        "name": st.none()
        | printable
        | st.sampled_from(["NA", "nan", "=1+1", "'=x", "-5", 'a"b,c']),
        "count": st.none() | st.integers(-(2**62), 2**62),
        "value": st.none() | st.floats(allow_nan=False),
        "flag": st.none() | st.booleans(),
    }
)


@settings(max_examples=60, deadline=None)
@given(st.lists(rows, min_size=1, max_size=4))
def test_what_is_read_is_what_was_written(tmp_path_factory, written):
    path = tmp_path_factory.mktemp("table") / "table.csv"
    csv_table.create(path, SCHEMA)
    csv_table.append(path, SCHEMA, written)
    frame = csv_table.read(path, SCHEMA)
    assert {k: str(v) for k, v in frame.dtypes.items()} == SCHEMA
    read = frame.astype(object).where(frame.notna(), None).to_dict("records")
    assert read == written


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@x", "＝1", "\t=1", "\r\n=1"])
def test_no_cell_is_a_formula(path, text):
    csv_table.append(path, SCHEMA, [{"name": text}])
    lines = path.read_text(encoding="utf-8").splitlines()
    assert len(lines) == 2
    assert lines[1][0] in "' "


def test_lone_surrogates_of_file_names_do_not_stop_a_row(path):
    csv_table.append(path, SCHEMA, [{"name": "scan\udcff.png"}])
    assert csv_table.read(path, SCHEMA)["name"].tolist() == ["scan\\udcff.png"]


def test_half_a_row_left_by_a_killed_process_is_dropped(path):
    csv_table.append(path, SCHEMA, [{"name": "a", "count": 1}])
    with path.open("a") as file:
        file.write("b,2,0.")
    csv_table.append(path, SCHEMA, [{"name": "c", "count": 3}])
    assert csv_table.read(path, SCHEMA)["name"].tolist() == ["a", "c"]


def test_unknown_columns_are_refused_and_nothing_is_written(path):
    before = path.read_bytes()
    with pytest.raises(KeyError, match=r"table\.csv has no column nmae"):
        csv_table.append(path, SCHEMA, [{"name": "a"}, {"nmae": "b"}])
    assert path.read_bytes() == before


def test_an_empty_table_has_its_types(path):
    frame = csv_table.read(path, SCHEMA)
    assert frame.empty
    assert isinstance(frame["count"].dtype, pd.Int64Dtype)


def test_rows_are_removed_by_their_cells_and_the_others_stay(path):
    rows = [
        {"name": "=a", "count": 1, "value": 1 / 3},
        {"name": "=a", "count": 2},
        {"name": "b", "count": 1, "flag": True},
    ]
    csv_table.append(path, SCHEMA, rows)
    csv_table.remove(path, SCHEMA, {"name": "=a", "count": 1})
    left = path.read_bytes()
    csv_table.create(path, SCHEMA)
    csv_table.append(path, SCHEMA, rows[1:])
    assert path.read_bytes() == left
    csv_table.remove(path, SCHEMA, {"name": "nobody"})
    assert path.read_bytes() == left


def test_rows_are_sorted_by_number_and_by_name(path):
    given = [("b", 10), ("b", 9), ("a", 10), ("c", None), ("=x", 9)]
    csv_table.append(path, SCHEMA, [{"name": name, "count": count} for name, count in given])
    csv_table.sort(path, SCHEMA, ("count", "name"))
    read = csv_table.read(path, SCHEMA)
    assert read["name"].tolist() == ["c", "=x", "b", "a", "b"]
    assert read["count"].dropna().tolist() == [9, 9, 10, 10]
    before = path.stat().st_ino
    csv_table.sort(path, SCHEMA, ("count", "name"))
    assert path.stat().st_ino == before  # what is in order is not written again
