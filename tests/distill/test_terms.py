import pytest

from s1_plugin.distill import terms


@pytest.mark.parametrize(
    ("model", "host", "whose", "allowed"),
    [
        ("deepseek-reasoner", "api.deepseek.com", "DeepSeek", True),
        ("deepseek-ai/DeepSeek-R1", "localhost", "DeepSeek", True),
        ("deepseek-ai/DeepSeek-R1-Distill-Llama-70B", "local", "DeepSeek-R1-Distill", True),
        ("gemini-2.5-pro", "generativelanguage.googleapis.com", "Gemini", False),
        ("google/gemini-2.5-pro", "openrouter.ai", "Gemini", False),
        ("o3", "api.openai.com", "OpenAI", False),
        ("openai/gpt-5", "openrouter.ai", "OpenAI", False),
        ("claude-opus", "api.anthropic.com", "Anthropic", False),
        ("openai/gpt-oss-120b", "localhost", "openai/gpt-oss-120b", None),
        ("qwen3", "localhost", "qwen3", None),
        ("chatgpt-4o-latest", "openrouter.ai", "OpenAI", False),
        ("mine", "deepseek-mine.openai.azure.com", "OpenAI", False),
        ("claude-deepseek-distill", "localhost", "Anthropic", False),
        ("mine", "us-central1-aiplatform.googleapis.com", "Gemini", False),
        ("mine", "deepseek.example.com", "mine", None),
        ("mine", "api.deepseek.com.example.com", "mine", None),
        ("mine", "api.deepseek.com", "DeepSeek", True),
        ("deepseek/deepseek-r1-0528", "openrouter.ai", "DeepSeek", True),
        ("deepseek-ai/DeepSeek-R1-0528-Qwen3-8B", "local", "DeepSeek-R1-Distill", True),
        ("deepseek-ai/DeepSeek-V3-0324", "localhost", "DeepSeek", True),
        ("deepseek/deepseek-v3.1", "openrouter.ai", "DeepSeek", True),
        *(
            (name, "localhost", name, None)
            for name in ("deepseek-ai/DeepSeek-V2", "deepseek-coder", "DeepSeek-V3", "DeepSeek-R12")
        ),
    ],
)
def test_whose_terms(model, host, whose, allowed):
    assert terms.of(model, host)[:2] == (whose, allowed)


def test_r1s_licence_is_r1s_alone():
    assert "R1" not in terms.of("deepseek-ai/DeepSeek-V3-0324", "localhost").said
    assert "R1 is MIT" in terms.of("deepseek-r1", "localhost").said


def test_what_is_said():
    said = terms.sentence(terms.of("gemini-2.5-pro", "h"), "h")
    assert "RESTRICT" in said and "compete" in said and "https://ai.google.dev" in said
    assert "read the model's licence" in terms.sentence(terms.of("mine", "h"), "h")
    assert "h may add terms" in terms.sentence(terms.of("deepseek-r1", "h"), "h")
