import pytest
from axolotl.utils.dict import DictDefault

from s1_plugin.config import S1Config
from s1_plugin.training import before, record


@pytest.fixture
def cfg(nano_base, tmp_path):
    (tmp_path / "file").write_text("")
    return DictDefault(
        base_model=str(nano_base),
        output_dir=str(tmp_path / "file" / "model"),
        dataset_prepared_path=str(tmp_path / "prepared"),
    )


def test_the_first_rank_finds_what_cannot_be_written(cfg):
    for check in (before.check_output, lambda cfg: before.check(cfg, S1Config())):
        with pytest.raises(ValueError, match="file is a file; move it away"):
            check(cfg)


def test_other_ranks_leave_it_to_the_first(cfg, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    before.check_output(cfg)
    before.check(cfg, S1Config())


def test_what_is_fine_passes_and_what_is_not_known_is_said(cfg, tmp_path, capsys):
    cfg.output_dir = str(tmp_path / "model")
    before.check_output(cfg)
    before.check(cfg, S1Config())
    assert capsys.readouterr().err == ""
    cfg.optimizer = "unheard_of"
    before.check(cfg, S1Config())
    assert "is not known" in capsys.readouterr().err


@pytest.fixture
def begun(cfg, tmp_path):
    """A run that has left a checkpoint and its record."""
    cfg |= {
        "output_dir": str(tmp_path / "model"),
        "auto_resume_from_checkpoints": True,
        "learning_rate": 1e-5,
        "num_epochs": 5,
    }
    (tmp_path / "model" / "checkpoint-8").mkdir(parents=True)

    def write(**changed):
        found = {"config": record.without_secrets({**cfg.to_dict(), "total_num_tokens": 7})}
        record.write(tmp_path / "model" / record.FILE_NAME, {**found, **changed})

    return write


@pytest.mark.parametrize("rank", ["0", "1"])
def test_a_finished_run_is_left_alone_by_all_ranks(cfg, begun, monkeypatch, capsys, rank):
    monkeypatch.setenv("RANK", rank)
    begun(finished=True)
    with pytest.raises(SystemExit) as end:
        before.check(cfg, S1Config())
    assert end.value.code == 0
    assert ("nothing is trained" in capsys.readouterr().err) == (rank == "0")
    cfg.num_epochs = 6
    with pytest.raises(ValueError, match=r"finished run with other settings: `num_epochs`"):
        before.check(cfg, S1Config())


def test_what_the_checkpoint_would_replace_cannot_be_changed(cfg, begun):
    begun(finished=False)
    assert record.check_resumed(cfg) is False
    cfg.learning_rate = 2e-5
    with pytest.raises(ValueError, match=r"`learning_rate` was 1e-05 and is 2e-05, .* set it back"):
        before.check(cfg, S1Config())
