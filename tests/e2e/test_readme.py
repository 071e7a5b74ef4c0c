"""Every command in the README is run by a test, or named here with what covers it."""

import re
import shlex

import pytest

from tests.conftest import ROOT
from tests.e2e.commands import run

pytestmark = pytest.mark.e2e

#: Commands of the README (each on one line) and where they are run, as they stand or with the
#: nano model in place of a 32B one.
COVERED = {
    "axolotl train axolotl_configs/s1.yaml": "test_configs (validated), test_nano (run with nano)",
    "lm_eval --model hf --model_args pretrained=outputs/s1/model --tasks s1_aime "
    "--apply_chat_template": "test_real_input",
    "make demo": "test_nano runs the same `s1 demo`",
    "pip install .": "test_install",
    'pip install ".[eval]"': "make setup installs the extras",
    "s1 doctor": "here",
    "s1 configs": "here",
    "s1 doctor axolotl_configs/s1.yaml": "test_real_input (with real data and a tiny model)",
    "s1 plan axolotl_configs/s1.yaml --rate 2.50": "tests/commands/test_plan",
    "s1 distill questions.jsonl --out traces": "test_distill, tests/vllm/test_road",
    "s1 curate traces/traces.jsonl --out curated": "test_curate, tests/vllm/test_road",
    "s1 data stats curated/train.jsonl": "tests/data/test_stats",
    "torchrun --nnodes 2 --node_rank $NODE --nproc_per_node 8 --rdzv_endpoint $HEAD:29500 "
    "-m axolotl.cli.train axolotl_configs/s1.yaml": "test_configs (validated): needs 16 GPUs",
    "lm_eval --model hf --model_args pretrained=outputs/s1/model --tasks s1_aime "
    "--apply_chat_template "
    "--gen_kwargs max_tokens_thinking=auto,thinking_n_ignore=2,thinking_n_ignore_str=Wait "
    "--batch_size 8 --output_path results --log_samples": "here, with nano",
    "s1 curve results --out curve": "here",
    's1 ask outputs/nano/model "Last digit of the sum: a2 b6 c2 d2 e4 f7 g6" --waits 2': "here",
    "lm_eval run --model vllm --tasks s1_aime --apply_chat_template --batch_size auto "
    '--model_args \'{"pretrained": "outputs/s1/model", "tensor_parallel_size": 8, '
    '"logits_processors": ["s1_plugin.forcing.vllm:BudgetForcingProcessor"]}\' '
    '--gen_kwargs \'{"max_tokens_thinking": [500, 1000, 2000, "auto"], '
    '"thinking_n_ignore": [2, 4]}\' '
    "--output_path results --log_samples": "tests/vllm/test_lm_eval (make test-vllm)",
    "lm_eval run --model local-completions --tasks s1_aime --apply_chat_template --model_args "
    "base_url=http://localhost:8000/v1/completions,model=outputs/s1/model,num_concurrent=32 "
    "--gen_kwargs max_tokens_thinking=auto,thinking_n_ignore=2 --output_path results "
    "--log_samples": "tests/vllm/test_lm_eval_server (make test-vllm), tests/e2e/test_servers",
}


def commands():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for block in re.findall(r"```bash\n(.*?)```", readme, re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            line = re.sub(r"\s+", " ", re.sub(r"\s+#.*|^#.*", "", line)).strip()
            if line:
                yield line


def test_no_command_is_left_untested():
    assert set(commands()) == set(COVERED)


def test_configs_are_copied_and_the_installation_is_sound(tmp_path):
    run("s1", "configs", cwd=tmp_path)
    assert (tmp_path / "axolotl_configs" / "s1.yaml").is_file()
    assert "all well" in run("s1", "doctor", cwd=tmp_path).stdout
    nano = run("s1", "doctor", "axolotl_configs/s1_nano.yaml", cwd=tmp_path)
    assert "all well" in nano.stdout


def test_the_commands_are_axolotls_too(tmp_path):
    said = run("axolotl", "s1", "--help", cwd=tmp_path).stdout
    assert "doctor" in said and "curve" in said


def test_the_authors_command_and_the_curve(demo):
    command = next(c for c in commands() if "thinking_n_ignore_str" in c)
    command = command.replace("outputs/s1/model", "outputs/nano/model")
    command = command.replace("s1_aime", "s1_nano").replace("--batch_size 8", "--batch_size 300")
    run(*command.split(), cwd=demo)
    said = run("s1", "curve", "results", "--out", "curve", cwd=demo).stdout
    assert "auto+2xWait" in said
    assert (demo / "curve" / "curve.html").is_file()


def test_the_nano_model_answers_in_the_terminal(demo):
    command = next(c for c in commands() if c.startswith("s1 ask"))
    done = run(*shlex.split(command), cwd=demo)
    assert "[[Wait]]" in done.stdout and "Answer" in done.stdout
    assert re.search(r"thinking: \d+ tokens, 2 Waits", done.stderr)


def test_the_python_example_runs(demo, capsys):
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)
    folder = demo / "outputs" / "nano" / "model"
    scope = {
        "tokenizer": AutoTokenizer.from_pretrained(folder),
        "model": AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32),
    }
    # The nano model's context is 1,024 tokens and its questions are sums.
    example = example.replace("4096", "512").replace("2000", "200")
    exec(example.replace("How many r in raspberry?", "Last digit of the sum: a7 b3 c2 d8"), scope)
    assert re.search(r"\d", capsys.readouterr().out)
