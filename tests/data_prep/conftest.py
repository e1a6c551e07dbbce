import importlib.util
from pathlib import Path

import numpy as np
import pytest
from ffcv.reader import Reader
from image_files import make_source

from hdkd_dist import cli

SCRIPTS = Path(__file__).parents[2] / "data_prep"


@pytest.fixture
def run_script(capsys):
    """Run a script of data_prep/ as its command line does; return status, stdout and stderr."""

    def run(name, *arguments):
        path = SCRIPTS / f"{name}.py"
        spec = importlib.util.spec_from_file_location(f"data_prep_{name}", path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        status = 0
        try:
            cli.run(module.prepare, [str(argument) for argument in arguments])
        except SystemExit as end:
            status = end.code
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run


@pytest.fixture
def refuse(run_script):
    """Run a script that must refuse with status 2; return its one line."""

    def run(*arguments):
        status, out, err = run_script(*arguments)
        lines = [line for line in err.splitlines() if line.startswith("error: ")]
        assert (status, out, len(lines)) == (2, "", 1)
        assert err.endswith(lines[0] + "\n")
        return lines[0]

    return run


@pytest.fixture
def raw_samples():
    """Read images (stored raw) and labels of a .beton file."""

    def read(path):
        reader = Reader(str(path))
        content = np.fromfile(path, np.uint8)
        sizes = dict(zip(reader.alloc_table["ptr"], reader.alloc_table["size"], strict=True))
        images = []
        for record in reader.metadata["f0"]:
            assert record["mode"] == 1
            start = int(record["data_ptr"])
            stored = content[start : start + int(sizes[record["data_ptr"]])]
            images.append(stored.reshape(record["height"], record["width"], 3))
        assert reader.metadata["f2"].tolist() == list(range(len(images)))
        return images, reader.metadata["f1"].tolist()

    return read


@pytest.fixture
def source(tmp_path):
    return make_source(tmp_path / "source")
