"""Files whose own numbers lead outside of them, or are not the manifest's."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from ffcv.fields import IntField, RGBImageField
from ffcv.fields.rgb_image import IMAGE_MODES
from ffcv.types import (
    ALLOC_TABLE_TYPE,
    CURRENT_VERSION,
    TYPE_ID_HANDLER,
    FieldDescType,
    HeaderType,
    get_metadata_type,
)
from noise_data import SIDE, prepare

from hdkd_dist.data import beton
from hdkd_dist.data.beton import read_tables
from hdkd_dist.data.manifest import read_manifest, write
from hdkd_dist.data.readers.opening import open_split
from hdkd_dist.data.streams import ReadOptions

METADATA = get_metadata_type([RGBImageField(), IntField(), IntField()])
RECORDS = HeaderType.itemsize + 3 * (1 + 16 + 1024)  # after header and descriptions of fields


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    return prepare(tmp_path_factory.mktemp("data") / "noise")


@pytest.fixture
def copy(tmp_path, prepared):
    shutil.copytree(prepared.folder, tmp_path / "copy")
    return read_manifest(tmp_path / "copy")


def edit(path, kind, start, number, change):
    """Change records of a file in place."""
    mapped = np.memmap(path, np.uint8, "r+")
    records = mapped[start : start + kind.itemsize * number].view(kind)
    change(records)
    mapped.flush()


def in_header(change):
    return lambda path, samples: edit(path, HeaderType, 0, 1, change)


def in_metadata(change):
    return lambda path, samples: edit(path, METADATA, RECORDS, samples, change)


def in_table(change):
    def act(path, samples):
        header = np.fromfile(path, HeaderType, 1)[0]
        edit(path, ALLOC_TABLE_TYPE, int(header["alloc_table_ptr"]), samples, change)

    return act


def put(field, index, value):
    """Set one field of one record."""

    def change(records):
        part = records
        for name in field.split("."):
            part = part[name]
        part[index] = value

    return change


FAR = (1 << 64) - 9
DAMAGES = {
    "random header": (
        lambda path, _: edit(path, np.dtype("u1"), 0, 24, put_noise),
        "does not begin as FFCV's files do",
    ),
    "more images": (in_header(put("num_samples", 0, 94)), "it says it has 94 images"),
    "a table far away": (in_header(put("alloc_table_ptr", 0, 1 << 60)), "beyond its end"),
    "a table at the end": (in_header(put("alloc_table_ptr", 0, FAR)), "beyond its end"),
    "a label too large": (in_metadata(put("f1", 3, 5)), "none of the manifest's 5 classes"),
    "a negative label": (in_metadata(put("f1", 3, -1)), "none of the manifest's 5 classes"),
    "other labels": (in_metadata(put("f1", slice(None), 2)), "not as frequent"),
    "indices": (in_metadata(put("f2", 1, 7)), "indices are not in order"),
    "a pointer": (in_metadata(put("f0.data_ptr", 1, 8)), "two lists of where images lie differ"),
    "a size": (in_table(put("size", 1, 1 << 40)), "an image reaches beyond its end"),
    "a size that overflows": (in_table(put("size", 1, FAR)), "an image reaches beyond its end"),
    "a small size": (in_table(put("size", 1, 5)), "not as large as its sides say"),
    "a width": (in_metadata(put("f0.width", 2, 60000)), "not as large as its sides say"),
    "no height": (in_metadata(put("f0.height", 2, 0)), "has no pixels"),
    "a mode": (in_metadata(put("f0.mode", 2, 9)), "neither raw nor a JPEG"),
    "fields": (
        lambda path, _: edit(path, np.dtype("u1"), HeaderType.itemsize, 9, put_noise),
        "its fields are not image, label and index",
    ),
}


def put_noise(records):
    records[:] = np.random.default_rng(0).integers(0, 256, len(records), np.uint8)


def test_a_whole_file_passes(prepared):
    for name, split in prepared.splits.items():
        read_tables(prepared.path(name), split)


@pytest.mark.parametrize("damage", DAMAGES)
def test_numbers_that_lead_outside(copy, damage):
    act, said = DAMAGES[damage]
    act(copy.path("metaval"), copy.splits["metaval"].samples)
    with pytest.raises(ValueError, match=r"metaval.beton is damaged") as caught:
        read_tables(copy.path("metaval"), copy.splits["metaval"])
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_readers_refuse_manifests_that_promise_more_than_the_file_has(copy):
    """``per_class`` raised by 64: FFCV would read 64 records past its table."""
    test = copy.splits["test"]
    counts = (test.per_class[0] + 64, *test.per_class[1:])
    larger = replace(test, samples=test.samples + 64, per_class=counts)
    write(replace(copy, splits={**copy.splits, "test": larger}))
    manifest = read_manifest(copy.folder)
    reading = ReadOptions(torch.device("cpu"))
    with pytest.raises(ValueError, match="it says it has 17 images, the manifest 81"):
        open_split(manifest, "test", image_size=SIDE, batch=8, reading=reading)


def test_a_file_that_ends_in_its_tables(copy):
    path = copy.path("test")
    path.write_bytes(path.read_bytes()[: RECORDS + 9])
    with pytest.raises(ValueError, match=r"test.beton is damaged"):
        read_tables(path, copy.splits["test"])


def test_the_format_is_ffcvs():
    assert HeaderType == beton.HEADER
    assert beton.PLACE == ALLOC_TABLE_TYPE
    assert FieldDescType == beton.FIELD
    assert beton.VERSION == CURRENT_VERSION
    ours, theirs = beton.SAMPLE.fields.values(), METADATA.fields.values()
    assert list(ours) == list(theirs)  # types and offsets; FFCV's fields have no names
    assert IMAGE_MODES == {"jpg": beton.JPEG, "raw": beton.RAW}
    kinds = {"image": RGBImageField, "label": IntField, "index": IntField}
    assert {name: TYPE_ID_HANDLER[number] for name, number in beton.FIELDS.items()} == kinds
