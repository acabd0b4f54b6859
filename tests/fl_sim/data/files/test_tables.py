"""Tables as people and published sets write them."""

from __future__ import annotations

import gzip
import io
import json
import zipfile

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from fl_sim.data import DataError, load
from fl_sim.data.files.tables import read_table

PLAIN = "path,label,patient_id\n0.png,normal,7\n1.png,sick,7\n2.png,normal,8\n3.png,sick,9\n"


def picture(path, value=100):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.linspace(0, value, 64, dtype=np.uint8).reshape(8, 8)).save(path)


@pytest.fixture
def four(tmp_path):
    for i in range(4):
        picture(tmp_path / f"{i}.png", 100 + i)
    return tmp_path


def read(folder, content, name="list.csv", **arguments):
    data = content if isinstance(content, bytes) else content.encode()
    (folder / name).write_bytes(data)
    given = {"path": str(folder / name), "image_size": 8, "public": 0, "test_fraction": 0}
    return load("folder", **{**given, **arguments})


def rows(splits):
    data = splits.private
    if data.labels.ndim == 1:
        labels = [data.label_names[label] for label in data.labels.tolist()]
    else:
        labels = data.labels.int().tolist()
    return list(zip(data.names, labels, data.patients, strict=True))


EXPECTED = [
    ("0.png", "normal", "7"),
    ("1.png", "sick", "7"),
    ("2.png", "normal", "8"),
    ("3.png", "sick", "9"),
]


@pytest.mark.parametrize(
    "content",
    [
        PLAIN.replace(",", ";"),
        PLAIN.replace(",", "\t"),
        PLAIN.replace(",", "|"),
        PLAIN.replace(",", " , ").replace("\n", " \n"),
        PLAIN.replace("\n", "\r\n"),
        PLAIN.replace("\n", "\r"),
        "sep=;\n" + PLAIN.replace(",", ";"),
        "\n\n" + PLAIN.replace("\n", "\n\n") + ",,\n",
        PLAIN.replace("normal", '"normal"').replace("sick", "sick\u00a0"),
        PLAIN.replace("\n", ",\n"),  # the head too has one comma more
        PLAIN.replace("path", ",path", 1).replace("\n", "\n5,").removesuffix("5,"),  # pandas' index
        PLAIN.replace("path,label,patient_id", "Path,LABEL,Patient ID"),
        PLAIN.replace("path,label,patient_id", "Image Index,Finding,subject_id").replace(
            "Finding", "class"
        ),
        PLAIN.replace("path,label,patient_id", "filename,diagnosis,PatientID"),
        PLAIN.replace("path,label,patient_id", "image_path,target,patientid"),
        PLAIN.replace("0.png", "./0.png").replace("1.png", "x/../1.png").replace("3", ".//3"),
        PLAIN.replace("2.png", ".\\2.png"),
        PLAIN + "./0.png,normal ,7.0\n",
        PLAIN.replace(",7", ",7.0").replace(",8", ",8.0").replace(",9", ",9.0"),
        PLAIN.encode("utf-16"),
        PLAIN.encode("utf-16-le"),
        PLAIN.encode("utf-8-sig"),
        PLAIN.encode("utf-32"),
    ],
)
def test_every_way_of_writing_it_is_read_alike(four, content):
    assert rows(read(four, content)) == EXPECTED


@pytest.mark.parametrize("name", ["LIST.CSV", "list.tsv"])
def test_endings_of_tables(four, name):
    assert rows(read(four, PLAIN, name)) == EXPECTED


def test_a_packed_table(four):
    assert rows(read(four, gzip.compress(PLAIN.encode()), "list.csv.gz")) == EXPECTED
    with pytest.raises(DataError, match=r"list\.csv\.gz: cannot be read as CSV"):
        read(four, gzip.compress(PLAIN.encode())[:-9], "list.csv.gz", seed=2)


def test_the_encoding_of_windows(tmp_path):
    picture(tmp_path / "Müller.png")
    picture(tmp_path / "1.png")
    content = "path,label\nMüller.png,gesund\n1.png,krank\n".encode("cp1252")
    assert rows(read(tmp_path, content))[0] == ("Müller.png", "gesund", "Müller.png")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (PLAIN.replace("sick,", "sick,,"), r"row 3 has 4 cells, more than the 3 of the head"),
        (PLAIN.replace("\n", ",\n").replace("_id,", "_id"), r"row 2 has 4 cells, more than"),
        (PLAIN.replace("1.png", "1.p\0ng"), r"cannot be read as CSV \(a NUL character in line 3\)"),
        (PLAIN.replace("1.png", ""), r"row 3 has no path"),
        (PLAIN.replace("label", "path"), r"column 'path' is there twice"),
        (PLAIN + "./0.png,sick,7\n", r"path '0\.png' is listed twice, with different labels"),
        (PLAIN + "0.png,normal,8\n", r"path '0\.png' is listed twice, with different labels, pat"),
        (
            PLAIN.replace("2.png,normal", "2.png,Normal"),
            r"labels 'Normal' and 'normal' differ in capital",
        ),
        ("\n \n", r"cannot be read as CSV \(it is empty\)"),
        (b"\xff\xfe\x00", r"cannot be read as CSV"),
    ],
)
def test_what_would_be_misread_is_a_line(four, content, message):
    with pytest.raises(DataError, match=rf"list\.csv: {message}") as caught:
        read(four, content)
    assert "\n" not in str(caught.value)


def test_numbers_as_labels_are_compared_as_numbers(four):
    content = "path,label\n0.png,0\n1.png,1.0\n2.png,1\n3.png,0.0\n"
    assert [label for _, label, _ in rows(read(four, content))] == ["0", "1", "1", "0"]


@pytest.mark.parametrize("words", [("0", "1"), ("0.0", "1.0"), ("False", "TRUE"), ("0.00", "1.")])
def test_ways_of_writing_0_and_1(four, words):
    no, yes = words
    content = f"path,Mass,Edema,Patient ID\n0.png,{no},{yes},1\n1.png,{yes},{yes},1\n"
    splits = read(four, content)
    assert splits.private.label_names == ("Mass", "Edema")
    assert rows(splits) == [("0.png", [0, 1], "1"), ("1.png", [1, 1], "1")]


def test_blank_patients_are_told(four):
    content = PLAIN.replace(",8", ", ").replace(",9", ",nan")
    splits = read(four, content)
    assert [who for *_, who in rows(splits)] == ["7", "7", "2.png", "3.png"]
    told = "patients: 1, told by column 'patient_id'; 2 images name none, and count as one each"
    assert told in splits.private.notes
    unknown = read(four, "path,label\n0.png,a\n1.png,b\n", seed=1).private.notes
    assert "patients: not known, each image counts as one" in unknown


def test_what_was_read_is_told(four):
    content = PLAIN.replace("patient_id", "split").replace(",7", ",train").replace(",8", ",val")
    splits = read(four, content.replace(",9", ",test"), public=1, test_fraction=0.2)
    assert splits.private.notes == (
        "read 4 images of 'list': normal 2, sick 2",
        "columns: path 'path', split 'split', label 'label'; labels: column 'label'",
        "patients: not known, each image counts as one",
        "splits: 2 private (normal 1, sick 1), 1 public (normal 1, sick 0), 1 test (normal 0, "
        "sick 1)",
    )


def test_columns_can_be_told(four):
    content = "Scan,Group,Who,When\n0.png,a,x,1\n1.png,b,x,2\n"
    told = "path = Scan, label=Group, patient = Who"
    assert rows(read(four, content, columns=told)) == [("0.png", "a", "x"), ("1.png", "b", "x")]
    for columns, message in [
        ("path=Sca", r"data\.columns = 'path=Sca': .*list\.csv has no column 'Sca'; its columns"),
        ("way=Scan", r"data\.columns = 'way=Scan': 'way=Scan' is not ROLE = COLUMN; roles are pa"),
    ]:
        with pytest.raises(DataError, match=message):
            read(four, content, columns=columns)


def test_one_label_column_may_be_chosen_among_several(four):
    content = "path,label,stage\n0.png,a,early\n1.png,b,late\n"
    assert [label for _, label, _ in rows(read(four, content, labels="stage"))] == ["early", "late"]


NIH = (
    "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
    "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y],\n"
    "00000001_000.png,Cardiomegaly|Effusion,0,1,58,M,PA,2682,2749,0.143,0.143,\n"
    "00000001_001.png,No Finding,1,1,58,M,PA,2894,2729,0.143,0.143,\n"
    "00000002_000.png,Effusion,0,2,81,M,PA,2500,2048,0.171,0.171,\n"
)


def test_the_table_of_chestxray14_as_it_comes(tmp_path):
    for number, name in enumerate(("00000001_000", "00000001_001", "00000002_000")):
        picture(tmp_path / f"images_00{number}" / "images" / f"{name}.png")
    splits = read(tmp_path, NIH, "Data_Entry_2017.csv")
    assert splits.private.label_names == ("Cardiomegaly", "Effusion")
    assert rows(splits) == [
        ("00000001_000.png", [1, 1], "1"),
        ("00000001_001.png", [0, 0], "1"),
        ("00000002_000.png", [0, 1], "2"),
    ]
    picture(tmp_path / "copy" / "00000002_000.png")
    with pytest.raises(DataError, match=r"path '00000002_000\.png' is that of 2 files, 'copy/0000"):
        read(tmp_path, NIH, "Data_Entry_2017.csv", seed=1)


def test_the_lists_of_chestxray14_beside_its_table(tmp_path):
    images = ("00000001_000.png", "00000001_001.png", "00000002_000.png")
    for name in images:
        picture(tmp_path / "images" / name)
    (tmp_path / "test_list.txt").write_text("00000002_000.png\r\n")
    for given in ("00000001_000.png\n00000001_001.png", None):  # the one, or both
        if given:
            (tmp_path / "train_val_list.txt").write_text(given)
        else:
            (tmp_path / "train_val_list.txt").unlink()
        splits = read(tmp_path, NIH, "Data_Entry_2017.csv", test_fraction=0.2, seed=bool(given))
        assert splits.private.names == images[:2]
        assert splits.test.names == images[2:]
        assert any(note.startswith("splits: from t") for note in splits.private.notes)
    for train, message in [
        (
            "00000001_000.png",
            r"'00000001_001\.png' in row 3 is in neither of train_val_list",
        ),
        ("\n".join(images), r"test_list\.txt: '00000002_000\.png' is in train_val_list\.txt too"),
    ]:
        (tmp_path / "train_val_list.txt").write_text(train)
        with pytest.raises(DataError, match=message):
            read(tmp_path, NIH, "Data_Entry_2017.csv", seed=len(train))
    (tmp_path / "test_list.txt").write_text("00000001_000.png\n")
    (tmp_path / "train_val_list.txt").write_text("\n".join(images[1:]))
    with pytest.raises(DataError, match="patient '1' has images in 'private' and in 'test'"):
        read(tmp_path, NIH, "Data_Entry_2017.csv", seed=9)


def test_rows_whose_files_are_missing_can_be_skipped_and_are_told(tmp_path):
    for name in ("00000001_000", "00000002_000"):
        picture(tmp_path / f"{name}.png")
    with pytest.raises(DataError, match=r"path '00000001_001\.png': no such file"):
        read(tmp_path, NIH)
    splits = read(tmp_path, NIH, on_error="skip")
    assert [name for name, *_ in rows(splits)] == ["00000001_000.png", "00000002_000.png"]
    assert any(n.startswith("skipped: 1 rows whose files cannot") for n in splits.private.notes)


CHEXPERT_LABELS = (
    "No Finding,Enlarged Cardiomediastinum,Cardiomegaly,Lung Opacity,Lung Lesion,Edema,"
    "Consolidation,Pneumonia,Atelectasis,Pneumothorax,Pleural Effusion,Pleural Other,Fracture,"
    "Support Devices"
)


def values(first):
    return ",".join([first, *["0.0", ""] * 6, "1.0"])


def test_the_table_of_chexpert_in_a_folder_of_any_name(tmp_path):
    lines = [f"Path,Sex,Age,Frontal/Lateral,AP/PA,{CHEXPERT_LABELS}"]
    for patient, first in ((1, "1.0"), (1, "-1.0"), (2, "")):
        name = f"train/patient0000{patient}/study{len(lines)}/view1_frontal.jpg"
        picture(tmp_path / name)
        lines.append(f"CheXpert-v1.0-small/{name},Female,68,Frontal,AP,{values(first)}")
    text = "\n".join(lines)
    with pytest.raises(DataError, match=r"column 'No Finding' holds '-1\.0' in row 3, which is un"):
        read(tmp_path, text, "train.csv")
    splits = read(tmp_path, text, "train.csv", uncertain="ones")
    assert splits.private.label_names == tuple(CHEXPERT_LABELS.split(","))
    assert splits.private.labels[:, 0].tolist() == [1, 1, 0]
    assert splits.private.labels[:, 13].tolist() == [1, 1, 1]
    assert splits.private.patients == ("patient00001", "patient00001", "patient00002")


PLUS = (
    "path_to_image,path_to_dcm,frontal_lateral,ap_pa,deid_patient_id,patient_report_date_order,"
    "report,section_findings,section_impression,age,sex,race,deceased,split"
)


@pytest.fixture
def plus(tmp_path):
    """CheXpert Plus as it is published: .jpg in the table, .png on disk, labels apart."""
    lines = [PLUS]
    for patient, split in ((1, "train"), (2, "train"), (3, "valid")):
        name = f"{split}/patient0000{patient}/study1/view1_frontal"
        picture(tmp_path / "PNG" / "PNG" / f"{name}.png")
        report = '"IMPRESSION:\n1. ""CLEAR"", NO CHANGE."'
        lines.append(
            f"{name}.jpg,{name}.dcm,Frontal,AP,patient0000{patient},1,{report},,{report},68.0,"
            f"Female,White,No,{split}"
        )
    return tmp_path, "\n".join(lines)


def labelled(value, paths=((1, "train"), (2, "train"), (3, "valid"))):
    """Return labels as CheXbert's are published: an object a line."""
    names = CHEXPERT_LABELS.split(",")
    return "".join(
        json.dumps(
            {
                "path_to_image": f"{split}/patient0000{patient}/study1/view1_frontal.jpg",
                **dict.fromkeys(names, None),
                "Edema": value,
                "Support Devices": 1.0,
            }
        )
        + "\n"
        for patient, split in paths
    )


CSV_NAME = "df_chexpert_plus_240401.csv"


def test_the_files_of_chexpert_plus_as_they_come(plus):
    folder, text = plus
    with pytest.raises(DataError, match=r"has no labels; those of CheXpert Plus lie apart: "):
        read(folder, text, CSV_NAME, uncertain="zeros")
    (folder / "chexbert_labels").mkdir()
    for section, value in (("report", 0.0), ("impression", 1.0), ("findings", -1.0)):
        (folder / "chexbert_labels" / f"{section}_fixed.json").write_text(labelled(value))
    splits = read(folder, text, CSV_NAME, uncertain="zeros", public=1, seed=1)
    data = splits.private
    assert data.label_names == tuple(CHEXPERT_LABELS.split(","))
    assert data.labels[:, data.label_names.index("Edema")].tolist() == [1, 1]  # of impressions
    assert data.labels[:, 13].tolist() == [1, 1]
    assert data.patients == ("patient00001", "patient00002")
    assert splits.public.patients == ("patient00003",)
    notes = " | ".join(data.notes)
    assert (
        "labels: from chexbert_labels/impression_fixed.json, not from chexbert_labels/rep" in notes
    )
    assert (
        "found: 3 images as 'PNG/PNG/train/patient00001/study1/view1_frontal.png' for 't" in notes
    )


@pytest.mark.parametrize("form", ["archive", "csv"])
def test_other_forms_of_the_labels_of_chexpert_plus(plus, form):
    folder, text = plus
    if form == "archive":
        with zipfile.ZipFile(folder / "chexbert_labels.zip", "w") as archive:
            archive.writestr("chexbert_labels/report_fixed.json", labelled(1.0))
    else:
        frame = pd.read_json(io.StringIO(labelled(1.0)), lines=True)
        frame.to_csv(folder / "impression_labels.csv", index=False)
    data = read(folder, text, CSV_NAME, uncertain="zeros", public=1).private
    assert data.labels.sum(dim=1).tolist() == [2, 2]


def test_labels_of_chexpert_plus_that_do_not_fit(plus):
    folder, text = plus
    file = folder / "report_fixed.json"
    file.write_text(labelled(1.0, [(1, "train"), (2, "train")]))
    data = read(folder, text, CSV_NAME, uncertain="zeros").private
    assert len(data) == 2
    assert any("1 images have none and are left out" in note for note in data.notes)
    for content, message in [
        (
            labelled(1.0) + labelled(0.0),
            r"/patient00001/study1/view1_frontal\.jpg' is listed",
        ),
        (labelled(1.0) + "{", r"line 4 is not a JSON object"),
        ("[1]\n", r"line 1 is not a JSON object"),
        ('{"path_to_image": "a.jpg", "Edema": 1}\n', r"needs path_to_image and the 14 labels"),
        (labelled(1.0, [(7, "train")]), r"has no image in common with .*report_fixed\.json"),
    ]:
        file.write_text(content)
        with pytest.raises(DataError, match=message) as caught:
            read(folder, text, CSV_NAME, uncertain="zeros", seed=len(content))
        assert "\n" not in str(caught.value)


def test_an_image_below_two_folders_is_not_guessed(plus):
    folder, text = plus
    (folder / "report_fixed.json").write_text(labelled(1.0))
    picture(folder / "copy/train/patient00001/study1/view1_frontal.png")
    with pytest.raises(DataError, match=r"view1_frontal\.jpg' is that of 2 files, '"):
        read(folder, text, CSV_NAME, uncertain="zeros")


def test_a_table_of_chexpert_plus_with_labels_added(plus):
    folder, text = plus
    head, *rest = text.replace("\n1.", " 1.").splitlines()
    joined = [f"{head},{CHEXPERT_LABELS}", *(f"{row},{values('0.0')}" for row in rest)]
    splits = read(folder, "\n".join(joined), uncertain="zeros", public=1)
    assert splits.private.patients == ("patient00001", "patient00002")
    assert splits.public.patients == ("patient00003",)


def test_the_tables_of_mimic_cxr_as_they_come(tmp_path):
    labels = [f"subject_id,study_id,{CHEXPERT_LABELS}"]
    split = ["dicom_id,study_id,subject_id,split"]
    for patient, study, part in ((10000032, 5, "train"), (10000764, 6, "validate")):
        labels.append(f"{patient},5000000{study},{values('1.0')}")
        for view in "ab":
            dicom = f"{view}{study}-02aa804e-bde0afdd"
            split.append(f"{dicom},5000000{study},{patient},{part}")
            picture(tmp_path / f"files/p10/p{patient}/s5000000{study}/{dicom}.jpg")
    text = "\n".join([*labels, f"10000980,50000009,{values('1.0')}"])
    name = "mimic-cxr-2.0.0-chexpert.csv.gz"
    with pytest.raises(DataError, match=r"lists studies and no images; MIMIC-CXR's table of split"):
        read(tmp_path, gzip.compress(text.encode()), name)
    packed = gzip.compress("\n".join(split).encode())
    (tmp_path / "mimic-cxr-2.0.0-split.csv.gz").write_bytes(packed)
    splits = read(tmp_path, gzip.compress(text.encode()), name, uncertain="zeros", public=2, seed=1)
    assert splits.private.patients == ("10000032", "10000032")
    assert splits.public.patients == ("10000764", "10000764")
    assert splits.private.labels[:, 0].tolist() == [1, 1]
    assert any("1 studies have none" in note for note in splits.private.notes)


def test_a_common_folder_that_is_there_is_not_taken_off(tmp_path):
    picture(tmp_path / "a/0.png", 100)
    picture(tmp_path / "0.png", 200)
    picture(tmp_path / "a/1.png", 100)
    splits = read(tmp_path, "path,label\na/0.png,x\na/1.png,y\n")
    assert splits.private.images.max() <= 100
    (tmp_path / "a/1.png").unlink()
    picture(tmp_path / "1.png")
    with pytest.raises(DataError, match=r"path 'a/1\.png': no such file"):
        read(tmp_path, "path,label\na/0.png,x\na/1.png,y\n", seed=1)


def test_row_numbers_count_empty_rows(tmp_path):
    (tmp_path / "x.csv").write_text("a,b\n1,2\n\n,\n3,4\n")
    assert list(read_table(tmp_path / "x.csv", ["a"]).index + 2) == [2, 5]
