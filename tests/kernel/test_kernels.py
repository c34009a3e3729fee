"""What drives the kernels of these tests fails soon when a cell hangs, and goes on."""

import kernels
import pytest


@pytest.mark.parametrize(
    ("source", "sentence"),
    [("import time; time.sleep(300)", "timed out"), ("import os; os._exit(1)", "Kernel died")],
    ids=["hangs", "dies"],
)
def test_a_kernel_that_never_answers_fails_its_test_and_no_other(source, sentence):
    with pytest.raises(AssertionError, match=sentence):
        kernels.run(source, seconds=2)
    assert kernels.run("print(6 * 7)")[0].text == "42\n"


def test_a_kernel_reads_no_configuration_and_keeps_no_history_of_the_persons():
    (cell,) = kernels.run("import os; print(get_ipython().ipython_dir == os.environ['IPYTHONDIR'])")
    assert cell.text == "True\n"
