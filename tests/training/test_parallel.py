import pytest

from s1_plugin.training import parallel


@pytest.mark.parametrize(
    ("cfg", "world", "said"),
    [
        ({"context_parallel_size": 4}, "16", "set `dp_shard_size: 4`"),
        ({"context_parallel_size": 4, "dp_shard_size": 4}, "8", "set `dp_shard_size: 2`"),
        ({"context_parallel_size": 4}, "", "needs `dp_shard_size`"),
        ({"tensor_parallel_size": 2}, "1", "needs `dp_shard_size`"),
    ],
)
def test_groups_that_do_not_fill_the_processes_are_refused(monkeypatch, cfg, world, said):
    monkeypatch.setenv("WORLD_SIZE", world)
    with pytest.raises(ValueError, match=said):
        parallel.check(cfg)


def test_others_are_not_looked_at(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "16")
    parallel.check({})
    parallel.check({"context_parallel_size": 1})
    parallel.check({"context_parallel_size": 4, "dp_shard_size": 4})
    parallel.check({"context_parallel_size": 4, "dp_shard_size": 2, "dp_replicate_size": 2})
