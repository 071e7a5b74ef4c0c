import pytest

from s1_plugin.training import steps


@pytest.mark.parametrize(
    ("rows", "batch", "want"),
    [
        (1000, (1, 1, 16), 63),  # the paper's: 62 steps of 16 rows and one of 8
        (1000, (2, 2, 4), 63),
        (1000, (1, 16, 1), 63),
        (992, (1, 1, 16), 62),
        (3, (4, 4, 1), 1),
    ],
)
def test_an_epoch_counts_its_short_step(rows, batch, want):
    assert steps.per_epoch(rows, *batch) == want


class Trainer:
    def __init__(self, rows, tmp_path, **settings):
        from transformers import TrainingArguments

        self.args = TrainingArguments(
            output_dir=str(tmp_path), use_cpu=True, report_to=[], num_train_epochs=5,
            gradient_accumulation_steps=8, max_steps=313, warmup_steps=15, **settings,
        )  # fmt: skip
        self.accelerator, self._train_batch_size = None, 2
        self.train_dataset = range(rows)


class Config(dict):
    __getattr__ = dict.get


def test_the_papers_steps_and_warming_up(tmp_path, capsys):
    trainer = Trainer(1000, tmp_path)
    steps.use_whole_epochs(Config(warmup_ratio=0.05), trainer)
    assert trainer.args.max_steps == -1
    assert trainer.args.get_warmup_steps(315) == 16
    said = capsys.readouterr().err
    assert "315 steps of 16 rows: 5 epochs of 1,000 rows; 16 of them warm up" in said


def test_steps_of_the_config_stay_and_are_compared_with_its_epochs(tmp_path, capsys):
    trainer = Trainer(1000, tmp_path)
    steps.use_whole_epochs(Config(max_steps=315), trainer)
    assert capsys.readouterr().err == "" and trainer.args.max_steps == 313
    trainer.train_dataset = range(59_029)
    steps.use_whole_epochs(Config(max_steps=315), trainer)
    assert "ends the training after 0.09 epochs of 59,029 rows" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("warm", "said"), [(15, ""), (40, "hardly reaches"), (60, "never reaches")]
)
def test_a_run_that_only_warms_up_is_told(tmp_path, capsys, warm, said):
    trainer = Trainer(160, tmp_path)  # 50 steps
    trainer.args.warmup_steps = warm
    steps.use_whole_epochs(Config(warmup_steps=warm), trainer)
    printed = capsys.readouterr().err
    assert "50 steps of 16 rows" in printed and said in printed
    assert ("warning" in printed) == bool(said)
