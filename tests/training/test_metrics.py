import math

import pytest
import torch

from featurewise.training.errors import DivergedError, ExperimentError
from featurewise.training.metrics import Meter, MetricsLog, read_metrics


def test_meter_means():
    meter = Meter()
    meter.add({"loss": torch.tensor(1.0, requires_grad=True), "n": 1.0})
    meter.add({"loss": 2.0, "n": 4.0})
    assert meter.means(2) == {"loss": 1.5, "n": 2.5}
    again = Meter()
    again.load_state(meter.state(2))
    assert again.means(2) == meter.means(2)
    meter.clear()
    assert meter.state(2) == []


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_metrics_must_be_finite(bad):
    meter = Meter()
    meter.add({"loss": torch.tensor(bad)})
    with pytest.raises(DivergedError, match=r"loss is .* by step 7: training diverged"):
        meter.state(7)


def test_the_log_is_truncated_on_resume(tmp_path):
    path = tmp_path / "metrics.jsonl"
    log = MetricsLog(path, 0)
    log.write(1, "train", {"loss": 0.1})
    length = log.sync()
    log.write(2, "train", {"loss": 0.2})
    log.close()
    log = MetricsLog(path, length)
    log.write(2, "evaluate", {"accuracy": 1.0})
    log.close()
    assert read_metrics(path) == [
        {"step": 1, "kind": "train", "loss": 0.1},
        {"step": 2, "kind": "evaluate", "accuracy": 1.0},
    ]
    with pytest.raises(ExperimentError, match=r"metrics\.jsonl: is shorter than the 9999 bytes"):
        MetricsLog(path, 9999)


def test_errors_name_the_line(tmp_path):
    path = tmp_path / "metrics.jsonl"
    with pytest.raises(ExperimentError, match=r"metrics\.jsonl: cannot be read"):
        read_metrics(path)
    for text, complaint in [
        ('{"step": 1, "kind": "train"}\n{\n', "line 2: is not JSON"),
        ("[]\n", "line 1: expected an object"),
        ("{}\n", 'line 1: key "step" is missing'),
    ]:
        path.write_text(text)
        with pytest.raises(ExperimentError, match=complaint):
            read_metrics(path)
    path.write_bytes(b"\xff\xfe\n")
    with pytest.raises(ExperimentError, match="line 1: is not JSON: is not UTF-8"):
        read_metrics(path)
