"""One configuration file: validated, overridden, resolved; faults in one line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hdkd_dist.config.load import load_config, parse_settings
from hdkd_dist.method.weights import METHODS
from hdkd_dist.models import resolve

SHIPPED = Path(__file__).parents[2] / "ds_configs"


@pytest.fixture
def file(tmp_path):
    content = {
        "train_batch_size": 64,
        "optimizer": {"type": "SGD", "params": {"momentum": 0.9}},
        "hdkd": {
            "model": {"preset": "msdnet-digits"},
            "schedule": {
                "epochs": 30,
                "base_lr": 0.1,
                "base_batch": 64,
                "milestones": [15, 20],
                "warmup_epochs": 3,
            },
        },
    }
    path = tmp_path / "small.json"
    path.write_text(json.dumps(content))
    return path


@pytest.mark.parametrize("path", sorted(SHIPPED.glob("*.json")), ids=lambda path: path.stem)
@pytest.mark.parametrize("method", METHODS)
def test_shipped_configurations_work_with_every_method(path, method):
    config = load_config(path, {"hdkd.method": method}, world_size=2)
    assert config.hdkd.method == method
    assert config.share.world_size == 2
    assert resolve(config.hdkd.model.preset, config.hdkd.model.overrides)
    assert not config.hdkd.model.overrides


def test_resolved_configuration_repeats_the_run(file, tmp_path):
    config = load_config(file, {"hdkd.gamma.lr": 0.02}, world_size=2, epochs=10)
    again = tmp_path / "again.json"
    again.write_text(json.dumps(config.as_json()))
    assert load_config(again, {}, world_size=2) == config


def test_section_is_split_off(file):
    config = load_config(file, {}, world_size=1)
    assert "hdkd" not in config.deepspeed
    assert config.deepspeed["optimizer"]["params"] == {"momentum": 0.9}


def test_epochs_scale_the_schedule_along(file):
    schedule = load_config(file, {}, 1, epochs=6).hdkd.schedule
    assert (schedule.epochs, schedule.milestones) == (6, (3.0, 4.0))
    assert schedule.warmup_epochs == 0.6
    schedule = load_config(file, {}, 1, epochs=7).hdkd.schedule
    assert schedule.milestones == (3.5, 4.666667)  # as people write them


@pytest.mark.parametrize(
    "by_hand",
    [{"hdkd.schedule.milestones": [1]}, {"hdkd.schedule.milestones": [1], "hdkd.gamma.lr": 1}],
)
def test_what_is_set_by_hand_is_taken_as_it_is(file, by_hand):
    schedule = load_config(file, by_hand, 1, epochs=6).hdkd.schedule
    assert schedule.milestones == (1,)
    assert schedule.warmup_epochs == 0.6
    schedule = load_config(file, {}, 1, epochs=7).hdkd.schedule
    assert schedule.milestones == (3.5, 4.666667)  # as people write them
    with pytest.raises(ValueError, match="are both given"):
        load_config(file, {**by_hand, "hdkd.schedule.epochs": 5}, 1, epochs=6)


def test_a_linked_run_folder_is_followed(file, tmp_path):
    (tmp_path / "disk").mkdir()
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "disk")
    assert load_config(file, {"hdkd.run.out": str(link)}, 1).out == str(tmp_path / "disk")
    (tmp_path / "disk").rmdir()
    with pytest.raises(ValueError, match=r"link is a link to .*disk, which is not there"):
        load_config(file, {"hdkd.run.out": str(link)}, 1)


def test_run_folder_names_the_run(file):
    config = load_config(file, {"hdkd.method": "dbt", "hdkd.run.seed": 3}, 1)
    assert config.hdkd.run.out == "runs/small-dbt-seed3"


@pytest.mark.parametrize(
    ("given", "ranks", "expected"),
    [
        ({}, 1, (64, 1)),
        ({}, 4, (16, 1)),
        ({"gradient_accumulation_steps": 4}, 2, (8, 4)),
        ({"train_micro_batch_size_per_gpu": 8}, 2, (8, 4)),
        ({"train_micro_batch_size_per_gpu": 8}, 16, (4, 1)),  # more ranks than it needs
        ({"train_micro_batch_size_per_gpu": 24}, 1, (16, 4)),  # the most that divides the batch
        ({"train_micro_batch_size_per_gpu": 8, "gradient_accumulation_steps": 8}, 1, (8, 8)),
    ],
)
def test_batch_is_split_among_ranks_and_accumulation(file, given, ranks, expected):
    config = load_config(file, given, ranks)
    share = config.share
    assert (share.batch, share.world_size) == (64, ranks)
    assert (share.micro_batch, share.accumulation) == expected
    assert config.deepspeed["train_micro_batch_size_per_gpu"] == expected[0]


@pytest.mark.parametrize("ranks", [1, 8, 16, 32, 128, 1024])
def test_imagenet_runs_on_any_number_of_gpus_that_divides_its_batch(ranks):
    config = load_config(SHIPPED / "imagenet.json", {}, ranks)
    assert config.share.world_size == ranks
    assert config.share.micro_batch == min(256, 1024 // ranks)


def test_other_keys_and_optimizers_of_deepspeed_are_its_own(file):
    given = {
        "flops_profiler": {"enabled": False},
        "dump_state": False,
        "optimizer": {"type": "AdamW", "params": {"torch_adam": True}},
    }
    config = load_config(file, {**given, "hdkd.method": "dbt"}, 1)
    assert given.items() <= config.deepspeed.items()


def test_fixed_weights_allow_any_optimizer(file):
    given = {"hdkd.gamma.init": "fixed:runs/one", "optimizer": {"type": "AdamW"}}
    assert load_config(file, given, 1).hdkd.method == "hdkd"


def test_settings_on_the_command_line():
    words = ["hdkd.gamma.lr=0.5", "hdkd.method=dbt", "hdkd.run.test=false", "x.y=[1, 2]"]
    assert parse_settings(words) == {
        "hdkd.gamma.lr": 0.5,
        "hdkd.method": "dbt",
        "hdkd.run.test": False,
        "x.y": [1, 2],
    }


FAULTS = {
    "unknown setting": (
        {"hdkd.gamma.learning_rate": 1},
        "hdkd.gamma.learning_rate is not a setting: did you mean hdkd.gamma.lr",
    ),
    "misspelt section": ({"hdkd.scedule": {}}, "hdkd.scedule .*did you mean hdkd.schedule"),
    "unknown method": ({"hdkd.method": "hdkt"}, "hdkd.method is 'hdkt' .*did you mean hdkd"),
    "wrong type": ({"hdkd.schedule.epochs": "many"}, "hdkd.schedule.epochs is 'many'"),
    "out of bounds": ({"hdkd.gamma.alpha": 2}, "hdkd.gamma.alpha is 2: .*less than or equal to 1"),
    "union": ({"hdkd.loss.temperature": "hot"}, "hdkd.loss.temperature is 'hot'"),
    "unknown gamma start": ({"hdkd.gamma.init": "zeros"}, "hdkd.gamma.init is 'zeros'"),
    "missing": ({"hdkd.schedule": {"epochs": 1, "base_lr": 1}}, "schedule.base_batch is missing"),
    "ZeRO 3": ({"zero_optimization.stage": 3}, "ZeRO stage 3 shards the parameters"),
    "pure bf16": ({"bf16.enabled": True}, "pure bf16 engine .*torch_autocast"),
    "pure fp16": ({"fp16.enabled": True}, "pure fp16 engine .*torch_autocast"),
    "fp16 autocast": (
        {"torch_autocast": {"enabled": True, "dtype": "float16"}},
        "torch_autocast.dtype is 'float16' but must be bfloat16",
    ),
    "autocast without a type": ({"torch_autocast": {"enabled": True}}, "dtype is None"),
    "ZeRO 3 as text": ({"zero_optimization": {"stage": "3"}}, "stage is '3' but must be 0, 1 or 2"),
    "old bf16": ({"bfloat16.enabled": True}, "pure bfloat16 engine"),
    "apex": ({"amp.enabled": True}, "amp is not a key of DeepSpeed that is passed on"),
    "no object": ({"zero_optimization": 2}, "zero_optimization is 2 but must be a JSON object"),
    "no section": ({"hdkd": []}, 'section "hdkd" is .* but must be an object'),
    "forgotten prefix": ({"gamma.lr": 0.3}, "gamma is a setting of this project: write hdkd.gamma"),
    "unknown preset": ({"hdkd.model.preset": "msdnet-cifar-9"}, "hdkd.model: unknown preset"),
    "unknown override": ({"hdkd.model.overrides": {"grwth": 1}}, "did you mean growth"),
    "classes": ({"hdkd.model.overrides": {"num_classes": 5}}, "the data set has its classes"),
    "second learning rate": ({"optimizer.params.lr": 1}, "optimizer.params.lr would be ignored"),
    "second schedule": ({"scheduler": {"type": "WarmupLR"}}, "belongs into hdkd.schedule"),
    "automatic batch": ({"train_batch_size": "auto"}, "train_batch_size is 'auto' but must be"),
    "online with Adam": (
        {"hdkd.gamma.lookahead": "online", "optimizer": {"type": "Adam"}},
        "cannot work with the optimizer Adam",
    ),
    "online with clipping": (
        {"hdkd.gamma.lookahead": "online", "gradient_clipping": 1.0},
        "cannot work with gradient_clipping",
    ),
    "retired kind of look-ahead": (
        {"hdkd.gamma.lookahead": "lookahead_keep_graph"},
        "hdkd.gamma.lookahead is 'lookahead_keep_graph' but must be one of auto, online, lookahead",
    ),
    "retired part of the batch": (
        {"hdkd.gamma.train_part": 0.5},
        "hdkd.gamma.train_part is no longer a setting: leave it out",
    ),
    "retired solver": (
        {"hdkd.gamma.solver": "second_order"},
        "hdkd.gamma.solver is no longer a setting: leave it out",
    ),
    "retired choice of passes": (
        {"hdkd.gamma.autocast": ["validation"]},
        r"hdkd.gamma.autocast is \['validation'\]: input should be a valid boolean",
    ),
    "no batch": ({"train_batch_size": None}, "needs train_batch_size"),
    "no accumulation": ({"gradient_accumulation_steps": 0}, "steps is 0 but must be a positive"),
    "negative micro-batch": (
        {"train_micro_batch_size_per_gpu": -1},
        "is -1 but must be a positive",
    ),
    "batch not divided": ({"train_batch_size": 63}, "batch of 63 cannot be divided among 2 rank"),
    "sizes that contradict": (
        {"train_micro_batch_size_per_gpu": 16, "gradient_accumulation_steps": 4},
        "64 is not train_micro_batch_size_per_gpu 16 × 4 accumulation",
    ),
    "misspelt key of DeepSpeed": (
        {"gradient_cliping": 1.0},
        "gradient_cliping is not a key .*: did you mean gradient_clipping",
    ),
    "misspelt optimizer": (
        {"optimizer.type": "SDG"},
        "optimizer.type is 'SDG', which neither .*: did you mean SGD",
    ),
    "optimizer in small letters": ({"optimizer.type": "sgd"}, "'sgd', .*: did you mean SGD"),
    "removed section": (
        {"elasticity": {"enabled": False}},
        "elasticity is not a key of DeepSpeed that is passed on",
    ),
    "section that takes over": ({"autotuning.enabled": True}, "autotuning is not a key of Deep"),
    "setting without its section": (
        {"temperature": 2},
        r"temperature is not a key .*: did you mean hdkd\.loss\.temperature\?",
    ),
    "no printing": ({"steps_per_print": 0}, "steps_per_print is 0 but must be a positive"),
    "rounded gradients": ({"communication_data_type": "fp16"}, "is 'fp16' but must be fp32"),
    "negative clipping": ({"gradient_clipping": -1}, "gradient_clipping is -1 but must be"),
    "seed beyond 63 bits": ({"hdkd.run.seed": 2**63}, "hdkd.run.seed is 9223372036854775808: "),
    "infinite rate": ({"hdkd.schedule.base_lr": float("inf")}, "base_lr is inf but must be a fin"),
    "not a number": ({"hdkd.gamma.lr": float("nan")}, "hdkd.gamma.lr is nan but must be a finite"),
    "not a number for DeepSpeed": (
        {"optimizer.params": {"weight_decay": float("nan")}},
        "optimizer.params.weight_decay is nan but must be a finite number",
    ),
    "infinite in a list": ({"hdkd.schedule.milestones": [1, float("inf")]}, "milestones is inf"),
    "value that torch refuses": (
        {"optimizer.params.momentum": -1},
        "torch refuses optimizer.params of SGD: Invalid momentum value: -1",
    ),
    "text for a number": ({"optimizer.params.momentum": "high"}, "torch refuses optimizer.params"),
    "no section of DeepSpeed": ({"flops_profiler": 1}, "flops_profiler is 1 but must be a JSON o"),
    "no switch": ({"prescale_gradients": "x"}, "gradients is 'x' but must be true or false"),
    "factor of 0": ({"gradient_predivide_factor": 0}, "factor is 0 but must be a positive number"),
    "value that Adam refuses": (
        {"optimizer": {"type": "Adam", "params": {"betas": "x"}}, "hdkd.method": "dbt"},
        "torch refuses optimizer.params of Adam",
    ),
    "current folder": ({"hdkd.run.out": "."}, r"'\.' is the folder you are in, or holds it"),
    "no folder": ({"hdkd.run.out": ""}, "an empty path"),
    "misspelt argument": (
        {"optimizer.params.momentun": 0.9},
        "params.momentun is no argument of SGD: did you mean momentum",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_are_named_in_one_line(file, fault):
    overrides, message = FAULTS[fault]
    with pytest.raises(ValueError, match=message) as caught:
        load_config(file, overrides, world_size=2)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "online"),
        ({"optimizer.params.nesterov": True}, "online"),
        ({"optimizer.type": "AdamW", "optimizer.params": {}}, "lookahead"),
        ({"gradient_clipping": 1.0}, "lookahead"),
    ],
)
def test_look_ahead_is_online_where_that_is_exact(file, changes, expected):
    assert load_config(file, changes, world_size=1).hdkd.gamma.lookahead == expected


@pytest.mark.parametrize("content", [None, "{", "[]", "{}"])
def test_unreadable_files(tmp_path, content):
    path = tmp_path / "broken.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ValueError, match=r"broken\.json"):
        load_config(path, {}, 1)


@pytest.mark.parametrize("word", ["nonsense", "=1", "hdkd..lr=1", ".=1", "a=" + "[" * 100_000])
def test_malformed_settings(word):
    with pytest.raises(ValueError, match=r"^--set "):
        parse_settings([word])


def test_a_setting_is_given_once():
    with pytest.raises(ValueError, match=r"--set a\.b is given twice: 1 and 2"):
        parse_settings(["a.b=1", "a.b=2"])
