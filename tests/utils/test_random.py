import torch

from src.utils.random import uniform_table, uniform_table_operator


def test_uniform_table_is_one_operator_for_compilers():
    seed = torch.tensor([1, -2, 2**62])
    compiled = torch.compile(uniform_table, backend="eager", fullgraph=True)
    assert torch.equal(compiled(seed, 9, "a"), uniform_table(seed, 9, "a"))
    torch.library.opcheck(uniform_table_operator, (seed, 9, "a"))


def test_rows_and_numbers_are_functions_of_seed_and_index():
    table = uniform_table(torch.arange(4), 1000, "a")
    assert torch.equal(table[2:, :10], uniform_table(torch.arange(2, 4), 10, "a"))
    assert not torch.equal(table, uniform_table(torch.arange(4), 1000, "b"))
    assert table.min() >= 0 and table.max() < 1
    torch.testing.assert_close(table.mean(), torch.tensor(0.5).double(), atol=0.02, rtol=0)
