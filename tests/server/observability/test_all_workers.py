"""`/metrics` while workers start and die."""

from prometheus_client.mmap_dict import MmapedDict, mmap_key

from siglip_edge.server.observability.metrics import AllWorkers


def test_the_empty_file_of_a_starting_worker_is_left_out(tmp_path):
    """A worker makes a file, then fills it; whoever asks for /metrics in between gets the counts of the others."""
    filled = MmapedDict(str(tmp_path / "counter_1.db"))
    filled.write_value(mmap_key("runs_total", "runs_total", [], [], "Runs."), 3.0, 0.0)
    filled.close()
    (tmp_path / "counter_2.db").touch()
    (metric,) = AllWorkers(tmp_path).collect()
    assert [sample.value for sample in metric.samples] == [3.0]
