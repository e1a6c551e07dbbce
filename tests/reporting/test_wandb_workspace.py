"""The W&B workspace: its panels show what runs log."""

from __future__ import annotations

import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest
from recorded_run import record_run, settings

from hdkd_dist import cli
from hdkd_dist.reporting import wandb_workspace
from hdkd_dist.runs.metrics import read_metrics

K = 3


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run that W&B has recorded offline, and the names that W&B itself holds of it."""
    folder = tmp_path_factory.mktemp("dashboard") / "run"
    seen = []
    with pytest.MonkeyPatch.context() as patch:
        import wandb

        patch.setenv("WANDB_SILENT", "true")
        finish = wandb.Run.finish
        patch.setattr(
            wandb.Run,
            "finish",
            lambda self, *rest, **more: (seen.append(dict(self.summary)), finish(self, *rest))[1],
        )
        record_run(folder, settings(run={"wandb": "offline"}), exits=K)
    return folder, seen[0]


@pytest.fixture(scope="module")
def specification(run):
    return wandb_workspace.workspace(
        "us", "ours", wandb_workspace.logged_names(read_metrics(run[0]))
    )


def metrics_of(panel):
    return [metric.name for metric in getattr(panel, "y", None) or panel.metrics]


def test_every_logged_value_has_a_panel_and_every_panel_shows_logged_values(run, specification):
    logged = {name for name in run[1] if not name.startswith("_")} - {"step", "epoch"}
    shown = [m for section in specification.sections for p in section.panels for m in metrics_of(p)]
    assert set(shown) == logged
    assert {"val/top1/exit_3", "test/top1/exit_1", "gamma/kd_3_to_1", "wait_fraction"} <= logged


def test_sections(specification):
    panels = {section.name: section.panels for section in specification.sections}
    assert list(panels) == [
        "Comparison of methods",
        "Accuracy per exit",
        "γ",
        "Losses",
        "Throughput and health",
    ]
    assert metrics_of(panels["Accuracy per exit"][0]) == [f"val/top1/exit_{k}" for k in (1, 2, 3)]
    assert [metrics_of(panel) for panel in panels["Losses"]] == [
        ["loss/ce_1", "loss/ce_2", "loss/ce_3"],
        ["loss/kd_2_to_1", "loss/kd_3_to_1"],
        ["loss/kd_3_to_2"],
    ]
    assert [metrics_of(panel) for panel in panels["Accuracy per exit"]][-1] == [
        "test/top5/exit_1",
        "test/top5/exit_2",
        "test/top5/exit_3",
    ]
    assert all(len(metrics_of(panel)) == 1 for panel in panels["Comparison of methods"])


def test_what_is_sent_groups_by_the_method_of_the_configuration(run, specification):
    """In W&B's own form, where a nested setting has "value" after its first name."""
    sent = json.loads(specification._to_model().spec.model_dump_json(by_alias=True))
    text = json.dumps(sent)
    assert text.count('"hdkd.value.method"') == 2 * K + 1
    config = json.loads((run[0] / "config.json").read_text())
    assert config["hdkd"]["method"] == "hdkd"
    assert '"xAxis": "step"' in text


def test_runs_of_different_networks_share_a_workspace():
    logged = wandb_workspace.logged_names(
        [{"event": "step", "step": 1, "loss/ce_1": 1}, {"event": "step", "loss/ce_2": 1, "new": 1}]
    )
    assert logged == ["loss/ce_1", "loss/ce_2", "new"]
    names = [s.name for s in wandb_workspace.workspace("us", "ours", logged).sections]
    assert names == ["Losses", "Throughput and health"]


class Server(ThreadingHTTPServer):
    """Stands for W&B's server: takes what its client sends, or refuses it."""

    def __init__(self, refuses: bool):
        super().__init__(("127.0.0.1", 0), Answer)
        self.refuses = refuses
        self.saved = []


class Answer(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        query = json.loads(body) if self.path == "/graphql" else {"query": ""}
        answer = {"data": {"viewer": {"entity": "us", "username": "us", "flags": "{}"}}}
        if "upsertView" in query["query"]:
            view = {"view": {"id": "1", "name": "nw-abc-v"}, "inserted": True}
            answer = {"data": {"upsertView": view}}
            self.server.saved.append(query["variables"])
            if self.server.refuses:
                answer = {"data": None, "errors": [{"message": "permission denied"}]}
        data = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *words):
        pass


def call(run, server, monkeypatch, tmp_path, key):
    monkeypatch.setenv("HOME", str(tmp_path))  # without ~/.netrc
    monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    if key:
        monkeypatch.setenv("WANDB_API_KEY", key)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        words = ["--entity", "us", "--project", "ours", "--runs", str(run[0])]
        cli.run(wandb_workspace.main, words)
    finally:
        server.shutdown()
        server.server_close()


def test_the_workspace_is_sent_through_wandbs_client(
    run, tmp_path, monkeypatch, fresh_wandb, capfd
):
    server = Server(refuses=False)
    call(run, server, monkeypatch, tmp_path, key="0" * 40)
    assert capfd.readouterr().out.endswith("/us/ours?nw=abc\n")
    [saved] = server.saved
    assert (saved["entityName"], saved["projectName"]) == ("us", "ours")
    sections = json.loads(saved["spec"])["section"]["panelBankConfig"]["sections"]
    assert "Comparison of methods" in [section["name"] for section in sections]


@pytest.mark.parametrize(
    ("key", "message"), [(None, "No API key configured"), ("0" * 40, "permission denied")]
)
def test_failure_is_one_line_and_status_2(
    run, tmp_path, monkeypatch, fresh_wandb, capfd, key, message
):
    with pytest.raises(SystemExit) as stop:
        call(run, Server(refuses=True), monkeypatch, tmp_path, key)
    assert stop.value.code == 2
    [said] = [line for line in capfd.readouterr().err.splitlines() if line]
    assert said.startswith("error: cannot save the workspace to us/ours: ")
    assert message in said
