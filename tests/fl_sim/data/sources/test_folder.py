import numpy as np
import pydicom
import pydicom.data
import pytest
from PIL import Image

from fl_sim.data import DataError, load
from fl_sim.data.errors import DataWarning


def save(path, value=100, size=(12, 10), colour=False):
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = (*size, 3) if colour else size
    array = np.full(shape, value, dtype=np.uint8)
    if colour:
        array[..., 1:] = 0
    Image.fromarray(array).save(path)


@pytest.fixture
def labelled(tmp_path):
    for i in range(6):
        save(tmp_path / "sick" / f"{i}.{'png' if i % 2 else 'PNG'}", value=10 * i)
        save(tmp_path / "healthy" / "deeper" / f"{i}.jpg", value=20 * i)
    (tmp_path / "README.txt").write_text("not an image")
    (tmp_path / "sick" / ".hidden.png").write_text("not an image")
    return tmp_path


def read(path, **arguments):
    return load(
        "folder",
        **{"path": str(path), "image_size": 8, "public": 2, "test_fraction": 0, **arguments},
    )


def test_sub_folders_are_labels(labelled):
    splits = read(labelled)
    data = splits.private
    assert data.label_names == ("healthy", "sick")
    assert len(data) == 10
    assert splits.public.labels.tolist() == [0, 1]
    for name, label, image in zip(data.names, data.labels.tolist(), data.images, strict=True):
        assert name.startswith(data.label_names[label])
        number = int(name[-5])
        assert (image.int() - (20, 10)[label] * number).abs().max() <= 2


def test_dicom_files_name_their_patients(tmp_path):
    original = pydicom.dcmread(pydicom.data.get_testdata_file("CT_small.dcm"))
    for label in ("a", "b"):
        for i in range(4):
            (tmp_path / label).mkdir(exist_ok=True)
            original.PatientID = f"{label}{i // 2}"
            original.save_as(tmp_path / label / f"{i}.dcm")
    splits = read(tmp_path)
    assert len(splits.public) == 2
    assert len(set(splits.private.patients)) == 3
    assert not set(splits.private.patients) & set(splits.public.patients)


def csv(folder, text, images=6):
    for i in range(images):
        save(folder / "img" / f"{i}.png", value=10 * i)
    (folder / "list.csv").write_text(text)
    return folder / "list.csv"


def table(header, row, n=6):
    return header + "\n" + "".join(row.format(i=i, j=i % 2, k=i // 2) + "\n" for i in range(n))


def test_csv_with_label_patients_and_splits(tmp_path):
    text = (
        "path,label,patient_id,split,age\n"
        "img/0.png,10,p0,train,1\nimg/1.png,9,p0,private,1\nimg/2.png,9,p1,,1\n"
        "img/3.png,10,p2,public,1\nimg/4.png,9,p3,public,1\nimg/5.png,9,p4,test,1\n"
    )
    splits = read(csv(tmp_path, text), test_fraction=0.2)
    assert splits.private.label_names == ("9", "10")
    assert splits.private.labels.tolist() == [1, 0, 0]
    assert splits.private.patients == ("p0", "p0", "p1")
    assert splits.public.names == ("img/3.png", "img/4.png")
    assert splits.test.names == ("img/5.png",)
    assert splits.private.images[:, 0, 0, 0].tolist() == [0, 10, 20]


def test_csv_with_a_column_a_label(tmp_path):
    text = table("path,patient_id,Mass,Edema", "img/{i}.png,p{k},{j},1")
    data = read(csv(tmp_path, text)).private
    assert data.label_names == ("Mass", "Edema")
    assert data.labels.tolist() == [[0, 1], [1, 1]] * 2
    assert data.labels.is_floating_point()


def test_without_patient_ids_each_image_is_a_patient(tmp_path):
    data = read(csv(tmp_path, table("path,label", "img/{i}.png,{j}"))).private
    assert len(set(data.patients)) == len(data) == 4


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (table("where,label", "img/{i}.png,{j}"), r"has no column 'path'; its columns are 'where'"),
        (table("path", "img/{i}.png"), r"no labels; allowed are a column 'label' or one column"),
        (table("path,patient_id", "img/{i}.png,{i}"), r"no labels"),
        (table("path,age", "img/{i}.png,6{i}"), r"column 'age' holds '60' in row 2"),
        (table("path,label", "img/{i}.png,"), r"row 2 has no label"),
        (table("path,label", "img/{i}.png,x"), r"the only label is 'x'; at least 2"),
        (table("path,label", "img/0.png,{j}"), r"path 'img/0\.png' is listed twice"),
        (table("path,label", "img/1{i}.png,{j}"), r"path 'img/10\.png': no such file"),
        (table("path,label", "../{i}.png,{j}"), r"path '\.\./0\.png' leads out of the folder"),
        (table("path,label", "/etc/{i},{j}"), r"path '/etc/0' leads out of the folder"),
        (table("path,label,split", "img/{i}.png,{j},late"), r"split 'late' in row 2; allowed are"),
        (
            table("path,label,patient_id,split", "img/{i}.png,{j},p,private")
            + "img/x.png,1,p,test",
            r"path 'img/x\.png': no such file",
        ),
        ("path,label\n", r"has no rows"),
        ("", r"cannot be read as CSV"),
        ('path,label\n"a,b\n', r"cannot be read as CSV"),
    ],
)
def test_bad_tables_are_named(tmp_path, text, message):
    with pytest.raises(DataError, match=rf"list\.csv: {message}") as caught:
        read(csv(tmp_path, text))
    assert "\n" not in str(caught.value)


def test_a_patient_in_two_splits_is_named(tmp_path):
    text = "path,label,patient_id,split\nimg/0.png,0,p,test\nimg/1.png,1,p,private\n"
    with pytest.raises(DataError, match=r"list: patient 'p' has images in 'private' and in 'test'"):
        read(csv(tmp_path, text))


def test_a_link_out_of_the_tables_folder_is_refused(tmp_path):
    save(tmp_path / "secret.png")
    path = csv(tmp_path / "data", table("path,label", "img/{i}.png,{j}"))
    (tmp_path / "data/img/0.png").unlink()
    (tmp_path / "data/img/0.png").symlink_to(tmp_path / "secret.png")
    with pytest.raises(DataError, match="leads out of the folder"):
        read(path)


def test_a_folder_without_labels_is_named(tmp_path):
    save(tmp_path / "0.png")
    with pytest.raises(DataError, match=r"0\.png: has no label; each image belongs into a sub-fol"):
        read(tmp_path)


def test_a_folder_with_one_label_is_named(tmp_path):
    save(tmp_path / "only" / "0.png")
    with pytest.raises(DataError, match=r"the only label is 'only'; at least 2 are needed"):
        read(tmp_path)


def test_a_folder_without_images_is_named(tmp_path):
    with pytest.raises(DataError, match=r"no images; allowed are files that end in \.png"):
        read(tmp_path)


def test_a_file_that_is_no_table_is_named(labelled):
    with pytest.raises(DataError, match=r"README\.txt': allowed are a folder or a \.csv file"):
        read(labelled / "README.txt")


def test_an_unreadable_image_is_named(labelled):
    (labelled / "sick" / "3.png").write_bytes(b"broken")
    with pytest.raises(
        DataError, match=r"sick/3\.png: cannot be read as PNG, JPEG, TIFF, BMP, GIF, WebP or DICOM"
    ):
        read(labelled)


def test_an_image_that_may_not_be_opened_is_named(labelled, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pathlib.Path.read_bytes", refuse)
    with pytest.raises(DataError, match=r"\.(png|jpg): cannot be read \(Permission denied\)"):
        read(labelled)


def test_colour_is_converted_with_one_warning_for_all_splits(tmp_path):
    for i in range(4):
        for label in "ab":
            save(tmp_path / label / f"{i}.png", value=200, colour=True)
    with pytest.warns(DataWarning, match="8 of 8 images are in colour") as caught:
        data = read(tmp_path, test_fraction=0.25).private
    assert len(caught) == 1
    assert data.images.eq(60).all()  # 0.299 * 200
    assert read(tmp_path, channels=3).private.images.amax((0, 2, 3)).tolist() == [200, 0, 0]


def test_16_bit_images_keep_their_brightness(tmp_path):
    for i, label in enumerate("aabb"):
        (tmp_path / label).mkdir(exist_ok=True)
        Image.fromarray(np.full((9, 9), 32768, dtype=np.uint16)).save(tmp_path / label / f"{i}.png")
    assert read(tmp_path).private.images.eq(128).all()


CHEXPERT = (
    "Path,Sex,Age,Mass,Edema\n"
    "{name}/img/patient00001/0.png,Female,68,1.0,0.0\n"
    "{name}/img/patient00001/1.png,Female,68,-1.0,\n"
    "{name}/img/patient00002/2.png,Male,7,,1.0\n"
    "{name}/img/patient00003/3.png,Male,9,0.0,-1.0\n"
)


@pytest.fixture
def chexpert(tmp_path):
    for number, patient in enumerate((1, 1, 2, 3)):
        save(tmp_path / "img" / f"patient0000{patient}" / f"{number}.png", value=10 * number)
    (tmp_path / "train.csv").write_text(CHEXPERT.format(name=tmp_path.name))
    return tmp_path / "train.csv"


@pytest.mark.parametrize(
    ("uncertain", "labels"),
    [("zeros", [[1, 0], [0, 0], [0, 1], [0, 0]]), ("ones", [[1, 0], [1, 0], [0, 1], [0, 1]])],
)
def test_uncertain_labels_count_as_asked_and_blank_ones_as_absent(chexpert, uncertain, labels):
    data = read(chexpert, labels="Mass, Edema", uncertain=uncertain, public=0).private
    assert data.label_names == ("Mass", "Edema")
    assert data.labels.tolist() == labels
    assert data.images[:, 0, 0, 0].tolist() == [0, 10, 20, 30]
    assert data.patients == ("patient00001", "patient00001", "patient00002", "patient00003")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, r"train\.csv: column 'Sex' holds 'Female' in row 2; .* unless data\.labels names"),
        (
            {"labels": "Mass,Edema"},
            r"column 'Mass' holds '-1\.0' in row 3, which is uncertain; data\.uncertain = 'refuse'",
        ),
        ({"labels": "Edema"}, r"column 'Edema' holds '' in row 3, which is uncertain"),
        ({"labels": "Edma"}, r"data\.labels = 'Edma': .*train\.csv has no column 'Edma'; its colu"),
        ({"uncertain": "maybe"}, r"data\.uncertain = 'maybe': allowed are refuse, zeros, ones"),
    ],
)
def test_uncertain_and_unknown_columns_are_named(chexpert, arguments, message):
    with pytest.raises(DataError, match=message) as caught:
        read(chexpert, **arguments)
    assert "\n" not in str(caught.value)


def test_columns_cannot_be_chosen_where_there_are_none(labelled):
    with pytest.raises(DataError, match=r"data\.labels = 'a': the sub-folders of .* are the lab"):
        read(labelled, labels="a")
    with pytest.raises(DataError, match=r"data\.labels = 'a': the data set 'phantom' has no col"):
        load("phantom", labels="a")
