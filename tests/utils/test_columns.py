from src.utils.columns import in_columns


def test_cells_stand_below_each_other():
    assert in_columns([["a", "b"], ["long", ""]]) == "a     b\nlong"
    assert in_columns([["a", "b"]], narrowest=3) == "a    b"
