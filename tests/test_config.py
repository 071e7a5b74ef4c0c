import pytest

from s1_plugin.config import S1Config, parse


def test_an_absent_block_means_the_defaults():
    assert parse(None) == S1Config() == parse({})


def test_unknown_keys_are_refused_by_name():
    with pytest.raises(ValueError, match=r"s1\.fromat(.|\n)*known keys: .*format"):
        parse({"fromat": "s1"})


def test_nested_unknown_keys_are_refused_by_name():
    with pytest.raises(ValueError, match=r"s1\.nano\.sed"):
        parse({"nano": {"folder": "x", "sed": 1}})


def test_unknown_formats_name_the_known_ones():
    with pytest.raises(ValueError, match="think-tags"):
        parse({"format": "s2"})


@pytest.mark.parametrize("block", ["s1", 3, ["format"]])
def test_what_is_no_block_is_refused(block):
    with pytest.raises(ValueError, match="s1"):
        parse(block)


def test_every_field_is_described():
    for name, field in S1Config.model_fields.items():
        assert field.description, name


def test_a_setting_beside_the_block_is_found():
    from s1_plugin.config import outside

    assert outside({"s1": {"balance": True}, "micro_batch_size": 1}) is None
    assert "`balance:` belongs into the `s1:` block" in outside({"balance": True})
