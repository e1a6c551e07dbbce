import numpy as np
import pytest

from hdkd_dist.data.preparing.write import draw_splits

LABELS = np.random.default_rng(5).permutation(np.repeat(np.arange(4), 30))


def per_class(positions):
    return np.bincount(LABELS[positions], minlength=4).tolist()


def test_counts_include_metaval_and_splits_are_disjoint():
    train, metaval = draw_splits(LABELS, 20, 5, seed=0)
    assert per_class(train) == [15] * 4
    assert per_class(metaval) == [5] * 4
    assert not set(train) & set(metaval)
    assert (np.diff(train) > 0).all()


def test_none_takes_all():
    train, metaval = draw_splits(LABELS, None, 5, seed=0)
    assert sorted([*train, *metaval]) == list(range(120))
    assert per_class(metaval) == [5] * 4


def test_without_metaval_all_images_train():
    train, metaval = draw_splits(LABELS, None, 0, seed=0)
    assert (train.tolist(), metaval.tolist()) == (list(range(120)), [])
    train, metaval = draw_splits(LABELS, 20, 0, seed=0)
    assert (per_class(train), len(metaval)) == ([20] * 4, 0)


def test_the_seed_decides():
    first, again, other = (draw_splits(LABELS, 20, 5, seed) for seed in (1, 1, 2))
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not np.array_equal(first[0], other[0])
    assert not np.array_equal(first[1], other[1])


def test_smaller_draws_lie_within_larger_ones():
    small_train, small_metaval = draw_splits(LABELS, 12, 5, seed=3)
    large_train, large_metaval = draw_splits(LABELS, 25, 5, seed=3)
    assert set(small_train) < set(large_train)
    assert np.array_equal(small_metaval, large_metaval)


def test_a_class_does_not_depend_on_the_others():
    kept = LABELS != 3
    kept[np.flatnonzero(LABELS == 0)[::3]] = False  # fewer images of class 0, none of class 3
    names = np.flatnonzero(kept)
    train, metaval = draw_splits(LABELS, 20, 5, seed=0)
    fewer_train, fewer_metaval = draw_splits(LABELS[kept], 20, 5, seed=0)
    for label in (1, 2):
        for whole, part in ((train, fewer_train), (metaval, fewer_metaval)):
            positions = names[part]
            assert set(whole[LABELS[whole] == label]) == set(positions[LABELS[positions] == label])


def test_an_excluded_image_is_replaced_and_no_other_moves():
    train, metaval = draw_splits(LABELS, 20, 5, seed=0)
    bad = int(metaval[7])
    label = LABELS[bad]
    new_train, new_metaval = draw_splits(LABELS, 20, 5, seed=0, excluded={bad})
    assert per_class(new_train) == [15] * 4
    assert per_class(new_metaval) == [5] * 4
    (moved,) = set(new_metaval) - set(metaval)  # a train image of the class takes its place
    assert moved in set(train)
    assert LABELS[moved] == label
    (fresh,) = set(new_train) - set(train)  # and a new one takes that one's
    assert LABELS[fresh] == label
    assert fresh not in {*train, *metaval}


def test_too_few_images_name_the_class_and_the_counts():
    classes = ["cat", "dog", "eel", "fox"]
    dogs = np.flatnonzero(LABELS == 1)
    message = r"class 'dog' has 28 usable images \(2 corrupt\), but 30 are needed \(5 of them"
    with pytest.raises(ValueError, match=message):
        draw_splits(LABELS, 30, 5, 0, classes, excluded=dogs[:2].tolist())
    with pytest.raises(ValueError, match="class 'gnu' has 0 usable images, but 6"):
        draw_splits(LABELS, None, 5, 0, [*classes, "gnu"])


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ((5, 5, 0), "per_class is 5 and includes metaval_per_class = 5"),
        ((20, -1, 0), "--metaval_per_class is -1"),
        ((20, 5, -1), "--seed is -1"),
        ((2.5, 1, 0), "--per_class is 2.5"),
        (("many", 1, 0), "--per_class is 'many'"),
        ((True, 1, 0), "--per_class is True"),
    ],
)
def test_numbers_that_make_no_sense(numbers, message):
    with pytest.raises(ValueError, match=message):
        draw_splits(LABELS, *numbers)
