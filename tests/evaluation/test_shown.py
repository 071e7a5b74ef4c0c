from s1_plugin.evaluation import shown


def test_ties_round_away_from_zero_as_in_the_page():
    assert [shown.fixed(x) for x in (6.25, 6.75, -6.25, 0.05, 12.35)] == [
        *("6.3", "6.8", "-6.3", "0.1", "12.3")  # 0.05 is a hair above, 12.35 a hair below
    ]
    assert shown.fixed(0.0005, 3) == "0.001"


def test_no_standard_error_where_all_answers_are_alike():
    assert shown.accuracy(0.5, 0.0912870929) == "50.0 ± 9.1"
    assert shown.accuracy(1.0, 0.0) == "100.0"
    assert shown.accuracy(0.0, 0.0) == "0.0"
