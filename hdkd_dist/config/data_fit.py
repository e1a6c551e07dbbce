"""Whether a configuration can train on a data set."""

from __future__ import annotations

from hdkd_dist.config.settings import Settings
from hdkd_dist.data.manifest import METAVAL, Manifest


def check_metaval(settings: Settings, manifest: Manifest) -> None:
    """Refuse to learn γ on data that have no meta-validation split.

    Raises:
        ValueError: saying how to mend it.
    """
    if settings.gamma_learns and METAVAL not in manifest.splits:
        raise ValueError(
            f"{settings.method} learns γ, but {manifest.folder} has no meta-validation split (it "
            "was prepared with --metaval_per_class 0): prepare it with some, or train a method "
            "with fixed weights, such as naive_dkd"
        )
