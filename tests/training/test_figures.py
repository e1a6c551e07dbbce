"""The two pictures of a run."""

from __future__ import annotations

import matplotlib.image
from recorded_run import record_run, settings

from hdkd_dist.training.figures import draw_figures


def test_pictures_show_something_whether_gamma_learns_or_not(tmp_path):
    for method in ("hdkd", "dbt"):
        folder = record_run(tmp_path / method, settings(method))
        drawn = draw_figures(folder, test_images=200)
        assert drawn == sorted((folder / "figures").iterdir())
        for file in drawn:
            assert matplotlib.image.imread(file)[..., :3].std() > 0.05  # not one colour
