"""Names of what is tracked."""

from __future__ import annotations

from hdkd_dist.runs import names

LOGGED = ["step", "loss/ce_1", "loss/ce_2", "loss/kd_2_to_1", "loss/total", "val/top1/exit_10"]


def test_members_are_those_of_the_group_alone():
    assert names.members(names.LOSS, LOGGED) == ["loss/ce_1", "loss/ce_2", "loss/kd_2_to_1"]
    assert names.members(names.VAL_TOP1, LOGGED) == ["val/top1/exit_10"]


def test_exits_are_in_the_order_of_their_numbers():
    values = {"val/top1/exit_10": 3.0, "val/top1/exit_9": 2.0, "val/top1/exit_1": 1.0}
    assert names.exits(names.VAL_TOP1, values) == [1.0, 2.0, 3.0]


def test_losses_say_who_teaches_whom():
    assert names.losses(names.LOSS, LOGGED) == {
        "loss/ce_1": (None, 1),
        "loss/ce_2": (None, 2),
        "loss/kd_2_to_1": (2, 1),
    }


def test_gamma_is_picked_from_its_matrix():
    gamma = {"ce": [1.0, 2.0], "kd": [[0.0, 0.0], [3.0, 0.0]]}
    picked = names.gamma_by_name(gamma, ["gamma/ce_2", "gamma/kd_2_to_1"])
    assert picked == {"gamma/ce_2": 2.0, "gamma/kd_2_to_1": 3.0}


def test_flat_names_lead_to_the_leaves():
    assert names.flatten({"a": {"b": 1, "c": {"d": [2]}, "e": {}}, "f": None}) == {
        "a.b": 1,
        "a.c.d": [2],
        "f": None,
    }


def test_names_for_people():
    assert names.display("gamma/kd_3_to_1") == "KD 3→1"
    assert names.display("val/top1/exit_2") == "exit 2"


def test_numbers_are_written_as_people_write_them():
    assert names.plain([3.0, 4.6000000000000005]) == [3.0, 4.6]
    assert names.plain({"a": 1}) == {"a": 1}
