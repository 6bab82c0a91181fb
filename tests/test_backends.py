import sys
import threading
from importlib.machinery import ModuleSpec
from types import ModuleType

import numpy as np
import pytest
import torch

from facerecon.backends import choose, threads


@pytest.fixture(autouse=True)
def _forget():
    choose.nvdiffrast_problem.cache_clear()
    yield
    choose.nvdiffrast_problem.cache_clear()


def hide_nvdiffrast(monkeypatch):
    monkeypatch.setattr(choose, "find_spec", lambda name: None)


def pretend_gpu(monkeypatch):
    """Every tensor is on an NVIDIA GPU, as far as the choice of a backend goes."""
    monkeypatch.setattr(choose, "_suits", lambda name, tensors: name != "numba")


def test_auto_takes_numba_on_the_cpu_and_torch_for_other_types():
    assert choose.choose_backend("auto", torch.zeros(2), torch.zeros(2).double()) == "numba"
    assert choose.choose_backend("auto", torch.zeros(2), torch.zeros(2).half()) == "torch"
    assert choose.choose_backend("auto", torch.zeros(2, device="meta")) == "torch"
    assert choose.choose_backend("torch", torch.zeros(2)) == "torch"


def test_auto_takes_nvdiffrast_where_it_can_be_imported(monkeypatch):
    pretend_gpu(monkeypatch)
    hide_nvdiffrast(monkeypatch)
    assert choose.choose_backend("auto", torch.zeros(2)) == "torch"
    choose.nvdiffrast_problem.cache_clear()
    monkeypatch.setattr(choose, "find_spec", lambda name: ModuleSpec(name, None))
    monkeypatch.setitem(sys.modules, "nvdiffrast", ModuleType("nvdiffrast"))
    monkeypatch.setitem(sys.modules, "nvdiffrast.torch", ModuleType("nvdiffrast.torch"))
    assert choose.choose_backend("auto", torch.zeros(2)) == "nvdiffrast"


def test_a_broken_nvdiffrast_is_left_alone_by_auto_and_explained_when_asked_for(monkeypatch):
    pretend_gpu(monkeypatch)

    def fail(name):
        raise ImportError("undefined symbol: _ZN3c10")

    monkeypatch.setattr(choose, "find_spec", lambda name: ModuleSpec(name, None))
    monkeypatch.setattr(choose, "import_module", fail)
    assert choose.choose_backend("auto", torch.zeros(2)) == "torch"
    with pytest.raises(ImportError, match=r"import fails \(undefined symbol.*docs/gpu.md"):
        choose.choose_backend("nvdiffrast", torch.zeros(2))


def test_errors(monkeypatch):
    with pytest.raises(ValueError, match="one of auto, numba, torch, nvdiffrast, got 'opengl'"):
        choose.choose_backend("opengl", torch.zeros(2))
    with pytest.raises(
        ValueError, match=r"'numba' needs float32 or float64 .* torch.float16 on cpu"
    ):
        choose.choose_backend("numba", torch.zeros(2).half())
    with pytest.raises(
        ValueError, match=r"'nvdiffrast' needs float32 on NVIDIA GPUs, got .* on cpu"
    ):
        choose.choose_backend("nvdiffrast", torch.zeros(2))
    hide_nvdiffrast(monkeypatch)
    pretend_gpu(monkeypatch)
    with pytest.raises(ImportError, match=r"'nvdiffrast': not installed; docs/gpu.md"):
        choose.choose_backend("nvdiffrast", torch.zeros(2))


def test_indices_for_kernels():
    assert threads.as_indices(torch.tensor([[0, 1, 4]]), 5).dtype == np.uint32
    assert threads.as_indices(torch.empty(0, 3, dtype=torch.int64), 0).shape == (0, 3)
    for wrong in (-1, 5):
        with pytest.raises(ValueError, match="outside of the 5 vertices"):
            threads.as_indices(torch.tensor([[0, 1, wrong]]), 5)


@pytest.mark.parametrize("count", [1, 2, 7])
def test_every_item_is_done_once(count):
    done = np.zeros(5, dtype=int)

    def kernel(start, stop, counts):
        counts[start:stop] += 1

    before = torch.get_num_threads()
    try:
        torch.set_num_threads(count)
        threads.over_batch(kernel, 5, done)
    finally:
        torch.set_num_threads(before)
    assert (done == 1).all()


def test_errors_in_threads_come_through():
    def kernel(start, stop):
        raise ZeroDivisionError

    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        with pytest.raises(ZeroDivisionError):
            threads.over_batch(kernel, 4)
    finally:
        torch.set_num_threads(before)


@pytest.fixture
def _two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("_two_threads")
def test_side_by_side_each_thread_computes_alone_and_the_caller_keeps_its_threads():
    def work(number):
        both.wait(10)  # breaks unless two run at once
        return number, torch.get_num_threads()

    both = threading.Barrier(2)
    found = threads.side_by_side(work, range(6), torch.device("cpu"))
    assert found == [(number, 1) for number in range(6)]
    assert torch.get_num_threads() == 2
    later = []
    thread = threading.Thread(target=lambda: later.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    assert later == [2]


@pytest.mark.usefixtures("_two_threads")
def test_side_by_side_the_caller_works_for_an_accelerator_and_for_a_single_item():
    caller = threading.get_ident()

    def work(_):
        return threading.get_ident() == caller, torch.get_num_threads()

    assert threads.side_by_side(work, range(3), torch.device("cuda")) == [(True, 2)] * 3
    assert threads.side_by_side(work, [0], torch.device("cpu")) == [(True, 2)]
    assert threads.side_by_side(work, [], torch.device("cpu")) == []


@pytest.mark.usefixtures("_two_threads")
def test_side_by_side_the_first_items_error_comes_through():
    def work(number):
        raise ValueError(number)

    with pytest.raises(ValueError, match="0"):
        threads.side_by_side(work, range(4), torch.device("cpu"))


@pytest.mark.usefixtures("_two_threads")
@pytest.mark.parametrize(
    ("count", "parts"),
    [(0, []), (1, [1]), (2, [1, 1]), (9, [4, 5]), (20, [5] * 4), (11, [2, 3, 3, 3])],
)
def test_parts_keep_all_threads_busy(count, parts):
    items = list(range(count))
    found = threads.balanced_parts(items, 5)
    assert [item for part in found for item in part] == items
    assert sorted(map(len, found)) == sorted(parts)
