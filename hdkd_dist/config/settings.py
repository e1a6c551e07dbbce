"""The section "hdkd" of a run's configuration: every setting, its default and its bounds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from hdkd_dist.data.streams import ReaderName
from hdkd_dist.method.meta_objective import AverageOf
from hdkd_dist.method.weights import METHODS, Constraint, KdShare, Pattern

Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]
# The keys of METHODS and OPTIMIZERS in method/weights.py, for type checkers.
MethodName = Literal["msdnet", "dbt", "impr", "naive_dkd", "hmsdnet", "hdbt", "hdkd"]
Optimizer = Literal["sgd", "adam"]
STARTS = r"ds_like|dbt_like|random|random_same_sum|fixed:.+"  # of γ


class Section(BaseModel):
    """A group of settings; unknown names are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


class ModelSettings(Section):
    """Network that is trained: a preset, or a factory of the user's own."""

    preset: str | None = None
    overrides: dict[str, Any] = {}  # fields of the preset, such as {"growth": 8}
    factory: str | None = None  # "package.module:callable", called with num_classes and kwargs
    kwargs: dict[str, Any] = {}  # of the factory
    input_size: Count | None = None  # the side of the factory's images, in pixels
    init_from: str | None = None  # a run's folder or a file of weights to start from
    # Evaluate and export a moving average of the weights with this decay; None: the last weights.
    ema_decay: Annotated[float, Field(ge=0, lt=1)] | None = None
    gradient_equilibrium: bool | None = None  # None: as the method has it (only impr)
    compile: bool = False  # the training step's passes, by torch.compile


class DataSettings(Section):
    """Prepared data set, and how it is read."""

    path: str = "digits"  # a folder that data_prep wrote; "digits" is prepared on first use
    metaval_batch_size: Count | None = None  # None: the train batch
    workers: Count = 1  # threads (FFCV) or processes (torch) per rank and stream
    os_cache: bool = True
    local_copy: str | None = None  # a folder on the node's own disk to read a copy from
    reader: ReaderName = "ffcv"  # or torch's DataLoader, also where FFCV cannot be imported
    randaugment: Annotated[int, Field(ge=0, le=30)] | None = None  # magnitude M; None: left out
    randaugment_operations: Annotated[int, Field(ge=1, le=10)] = 2  # N
    colour_jitter: Fraction = 0.0  # brightness, contrast and saturation change by up to this share


class ScheduleSettings(Section):
    """Epochs and learning rate; milestones and warm-up scale along when epochs are overridden."""

    kind: Literal["steps", "cosine", "linear"] = "steps"  # how the rate falls
    epochs: Count
    base_lr: Positive  # at a batch of base_batch; scaled linearly to the run's
    base_batch: Count
    milestones: tuple[Positive, ...] = ()  # in epochs; there the rate is multiplied by decay
    decay: Positive = 0.1
    warmup_epochs: NonNegative = 0.0
    warmup_start: Fraction | None = None  # of the rate; None: from base_lr, for large batches alone

    @model_validator(mode="after")
    def _drops_belong_to_steps(self) -> ScheduleSettings:
        if self.milestones and self.kind != "steps":
            raise ValueError(f'kind "{self.kind}" has no milestones: set milestones to []')
        return self


class LossSettings(Section):
    """Losses and their initial weights."""

    temperature: Positive | Literal["anneal"] = 3.0
    kd_weight: NonNegative = 1.0  # λ
    kd_share: KdShare = "per_pair"
    # Who teaches whom: a pattern's name or a matrix [K, K]; None: as the method has it.
    teachers: Pattern | tuple[tuple[NonNegative, ...], ...] | None = None
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0  # of the cross-entropies of L_train
    terms: dict[str, NonNegative] = {}  # "package.module:function" of a further loss → its γ₀

    @property
    def term_names(self) -> tuple[str, ...]:
        """Name the further losses by their functions, in the order of their entries in γ."""
        return tuple(path.rpartition(":")[2] for path in self.terms)

    @model_validator(mode="after")
    def _terms_have_names(self) -> LossSettings:
        names = self.term_names
        if len(set(names)) < len(names):
            raise ValueError(f"terms must be functions of different names, not {', '.join(names)}")
        return self


class GammaSettings(Section):
    """Start of γ, and how it learns."""

    init: Annotated[str, Field(pattern=f"^({STARTS})$")] = "ds_like"
    optimizer: Optimizer = "adam"
    lr: Positive | None = None  # ε; None: Adam's, by the length of the training
    constraint: Constraint = "nonnegative"
    # The step of θ that judges γ; auto: online where it is exact, otherwise lookahead.
    lookahead: Literal["auto", "online", "lookahead"] = "auto"
    every: Count = 2  # γ moves at each N-th step
    scope: Literal["global", "local"] = "global"  # whose batch the hypergradient belongs to
    alpha: Fraction = 0.5  # α of Eq. 10
    average_momentum: Fraction = 0.9  # m of Eq. 9
    average_of: AverageOf = "metaval"  # the batch whose CE_k Eq. 9 averages
    autocast: bool = True  # run the γ step's passes in bf16 where torch_autocast is on
    replay_sum: str | None = None  # a run whose Σγ/Σγ₀ multiplies γ₀ step by step, as a control


class RunSettings(Section):
    """Output of a run, its seed, and how long it may stand still."""

    out: str | None = None  # None: runs/<configuration>-<method>-seed<seed>
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    log_every: Count = 20  # steps between measurements
    test: bool = True  # evaluate the test split at the end
    wandb: Literal["offline", "online", "disabled"] = "offline"
    wandb_project: str = "hdkd_dist"
    tf32: bool = True  # on a GPU: convolutions in float32 may round to TF32, as torch has it
    deterministic: bool = False  # on a GPU: the same bits at every run, more slowly
    # On a GPU: start each pass of the network by one call. None: where a preset is not compiled.
    cuda_graphs: bool | None = None
    hang_timeout_s: Positive = 1800.0  # without a step on some rank, the run is given up


class CheckpointSettings(Section):
    """Times at which the run's state is saved, besides at a request to stop and at the end."""

    every_minutes: Positive | None = 10.0
    every_steps: Count | None = None
    keep: Count = 2  # the last ones; the best is kept besides


class Settings(Section):
    """All settings of the section."""

    method: MethodName = "hdkd"
    model: ModelSettings
    data: DataSettings = DataSettings()
    schedule: ScheduleSettings
    loss: LossSettings = LossSettings()
    gamma: GammaSettings = GammaSettings()
    checkpoint: CheckpointSettings = CheckpointSettings()
    run: RunSettings = RunSettings()

    @model_validator(mode="after")
    def _captured_or_compiled(self) -> Settings:
        if self.run.cuda_graphs and self.model.compile:
            raise ValueError("run.cuda_graphs and model.compile exclude each other: choose one")
        return self

    @model_validator(mode="after")
    def _descent_has_a_rate(self) -> Settings:
        if self.gamma_learns and self.gamma.optimizer == "sgd" and self.gamma.lr is None:
            raise ValueError(
                'gamma.lr must be given with gamma.optimizer "sgd": on CIFAR 0.1 to 0.3 worked at '
                "every 4th step"
            )
        return self

    @property
    def gamma_learns(self) -> bool:
        """Tell whether γ moves: as the method says, unless it is fixed at a finished run's."""
        return METHODS[self.method].learns and not self.gamma.init.startswith("fixed:")


# Settings that earlier versions had: their defaults, and what to do now.
RETIRED: dict[str, tuple[Any, str]] = {
    "gamma.train_part": (1.0, "leave it out: γ's derivative is taken on the whole training batch"),
    "gamma.solver": ("jvp", "leave it out: γ's derivative is exact, by forward mode"),
}


def without_retired(section: Mapping[str, Any]) -> dict[str, Any]:
    """Bring an earlier version's section "hdkd" up to date where that changes nothing."""
    gamma = dict(section.get("gamma", {}))
    for name, (neutral, _) in RETIRED.items():
        key = name.removeprefix("gamma.")
        if gamma.get(key) == neutral:
            del gamma[key]
    if isinstance(passes := gamma.get("autocast"), list) and len(passes) in (0, 3):
        gamma["autocast"] = bool(passes)  # which passes ran in bf16: all three, or none
    return {**section, "gamma": gamma}
