import os
import shutil

import numpy as np
import pytest
from ffcv.fields import IntField, RGBImageField
from ffcv.fields.rgb_image import SimpleRGBImageDecoder
from ffcv.loader import Loader, OrderOption
from ffcv.reader import Reader
from ffcv.writer import MIN_PAGE_SIZE, DatasetWriter
from noise_data import COUNTS, JOB, SPLITS, Broken, prepare

from hdkd_dist.data.manifest import read_manifest, verify
from hdkd_dist.data.preparing.beton import ArraySamples
from hdkd_dist.data.preparing.write import find_finished


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    return prepare(tmp_path_factory.mktemp("data") / "noise")


def never():
    raise AssertionError("read although there was nothing to do")


def test_the_manifest_describes_the_files(prepared):
    verify(prepared)
    assert prepared == read_manifest(prepared.folder)
    assert prepared.job == JOB
    assert prepared.skipped == ("bad.jpg",)
    for split, samples in COUNTS.items():
        labels = SPLITS[split].labels
        assert prepared.splits[split].samples == samples
        assert prepared.splits[split].per_class == tuple(np.bincount(labels, minlength=5))
    assert sorted(path.name for path in prepared.folder.iterdir()) == [
        "manifest.json",
        "metaval.beton",
        "test.beton",
        "train.beton",
    ]
    assert [path.name for path in prepared.folder.parent.iterdir()] == ["noise"]


@pytest.mark.parametrize("os_cache", [True, False])
def test_ffcv_reads_back_pixels_labels_and_positions(prepared, os_cache):
    loader = Loader(
        str(prepared.path("train")),
        batch_size=64,
        num_workers=1,
        os_cache=os_cache,
        order=OrderOption.RANDOM,
        seed=1,
        drop_last=False,
        pipelines={"image": [SimpleRGBImageDecoder()]},
    )
    seen = []
    for images, labels, indices in loader:
        positions = np.asarray(indices).ravel()
        assert np.array_equal(images, SPLITS["train"].images[positions])
        assert np.array_equal(np.asarray(labels).ravel(), SPLITS["train"].labels[positions])
        seen.extend(positions.tolist())
    assert seen != sorted(seen)
    assert sorted(seen) == list(range(COUNTS["train"]))


def test_no_sample_crosses_a_page(prepared):
    reader = Reader(str(prepared.path("train")))
    table = reader.alloc_table
    assert len(table) == COUNTS["train"]
    first, last = table["ptr"], table["ptr"] + table["size"] - 1
    assert np.array_equal(first // reader.page_size, last // reader.page_size)
    assert len(np.unique(first // reader.page_size)) == 3


@pytest.mark.parametrize("options", [{}, {"write_mode": "proportion", "quality": 50}])
def test_files_do_not_depend_on_the_number_of_workers(tmp_path, prepared, options):
    one = prepare(tmp_path / "one", workers=1, **options)
    three = prepare(tmp_path / "three", workers=3, **options)
    assert one.splits == three.splits
    assert (one.splits == prepared.splits) == (not options)


def test_proportion_stores_that_part_as_jpeg(tmp_path):
    found = prepare(tmp_path / "out", write_mode="proportion", proportion=0.25)
    modes = Reader(str(found.path("train"))).metadata["f0"]["mode"]
    assert set(modes) == {0, 1}
    assert 0.15 < (modes == 0).mean() < 0.35


def test_large_samples_get_larger_pages(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (2, 900, 1000, 3), np.uint8)
    splits = SPLITS | {"test": ArraySamples(images, np.array([0, 1]), range(2))}
    found = prepare(tmp_path / "out", splits=splits)
    reader = Reader(str(found.path("test")))
    assert reader.page_size == 4 << 20
    start, size = int(reader.alloc_table["ptr"][1]), int(reader.alloc_table["size"][1])
    assert found.path("test").read_bytes()[start : start + size] == images[1].tobytes()


def test_the_same_job_twice_does_nothing(tmp_path, capsys):
    first = prepare(tmp_path / "out")
    before = {path: path.stat() for path in first.folder.iterdir()}
    splits = {split: Broken(never) for split in COUNTS}
    assert prepare(tmp_path / "out", splits=splits) == first
    assert {path: path.stat() for path in first.folder.iterdir()} == before
    assert "already prepared" in capsys.readouterr().out


def test_another_job_is_refused_by_its_differences(prepared):
    job = {"data": "noise", "per_class": 4, "seed": 1, "source": {"sha256": "abc"}}
    with pytest.raises(ValueError, match="prepared otherwise") as caught:
        prepare(prepared.folder, job=job)
    message = str(caught.value)
    assert "per_class (3 there, 4 asked for), seed (None there, 1 asked for);" in message
    assert "source" not in message
    assert "choose another --out" in message
    verify(prepared)


def test_a_folder_with_other_things_is_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(ValueError, match="not a prepared data set: choose another --out"):
        prepare(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_damaged_data_set_is_named_not_taken(tmp_path, prepared):
    shutil.copytree(prepared.folder, tmp_path / "out")
    os.truncate(tmp_path / "out" / "train.beton", 1000)
    with pytest.raises(ValueError, match=r"train.beton is truncated"):
        prepare(tmp_path / "out")


def test_an_empty_folder_is_free(tmp_path):
    (tmp_path / "out").mkdir()
    assert prepare(tmp_path / "out").splits["train"].samples == COUNTS["train"]


def test_an_empty_split_is_refused(tmp_path):
    splits = SPLITS | {"metaval": ArraySamples(SPLITS["train"].images, np.zeros(1), [])}
    with pytest.raises(ValueError, match=r"metaval split .* would be empty"):
        prepare(tmp_path / "out", splits=splits)


def test_another_process_that_was_faster_wins(tmp_path, prepared, capsys):
    out = tmp_path / "out"
    splits = SPLITS | {
        "test": Broken(lambda: out.exists() or shutil.copytree(prepared.folder, out))
    }
    found = prepare(out, splits=splits)
    assert found.splits == prepared.splits  # theirs: ours has another test split
    assert "another process" in capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_another_process_that_was_faster_with_another_job(tmp_path, prepared):
    out = tmp_path / "out"
    splits = SPLITS | {
        "test": Broken(lambda: out.exists() or shutil.copytree(prepared.folder, out))
    }
    with pytest.raises(ValueError, match="prepared otherwise: per_class"):
        prepare(out, job=JOB | {"per_class": 9}, splits=splits)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_find_finished_tells_free_from_done(tmp_path, prepared):
    assert find_finished(tmp_path / "absent", JOB) is None
    assert find_finished(prepared.folder, JOB) == prepared


@pytest.mark.parametrize("write_mode", ["raw", "jpg"])
def test_the_file_is_what_ffcvs_own_writer_gives(tmp_path, write_mode):
    samples = SPLITS["train"]

    class Indexed:
        def __len__(self):
            return len(samples)

        def __getitem__(self, index):
            return *samples[index], int(index)

    fields = {
        "image": RGBImageField(write_mode=write_mode),
        "label": IntField(),
        "index": IntField(),
    }
    writer = DatasetWriter(str(tmp_path / "own.beton"), fields, MIN_PAGE_SIZE, num_workers=1)
    writer.from_indexed_dataset(Indexed())
    found = prepare(tmp_path / "out", write_mode=write_mode, workers=2)
    assert found.path("train").read_bytes() == (tmp_path / "own.beton").read_bytes()
