import pytest
from axolotl.utils.dict import DictDefault

from s1_plugin.training import before


@pytest.fixture
def cfg(nano_base, tmp_path):
    (tmp_path / "file").write_text("")
    return DictDefault(
        base_model=str(nano_base),
        output_dir=str(tmp_path / "file" / "model"),
        dataset_prepared_path=str(tmp_path / "prepared"),
    )


def test_the_first_rank_finds_what_cannot_be_written(cfg):
    for check in (before.check_output, before.check):
        with pytest.raises(ValueError, match="file is a file; move it away"):
            check(cfg)


def test_other_ranks_leave_it_to_the_first(cfg, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    before.check_output(cfg)
    before.check(cfg)


def test_what_is_fine_passes_and_what_is_not_known_is_said(cfg, tmp_path, capsys):
    cfg.output_dir = str(tmp_path / "model")
    before.check_output(cfg)
    before.check(cfg)
    assert capsys.readouterr().err == ""
    cfg.optimizer = "unheard_of"
    before.check(cfg)
    assert "is not known" in capsys.readouterr().err
