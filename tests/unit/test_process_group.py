import pytest
import torch

from medseg.errors import ConfigError
from medseg.process_group import ProcessGroup, check_batch, device_of_rank, joined


@pytest.mark.parametrize(("n", "size"), [(8, 2), (5, 2), (7, 3), (4, 4)])
def test_shares_are_as_even_as_can_be_and_make_up_the_whole(n: int, size: int) -> None:
    shares = [list(range(n))[ProcessGroup(rank, size).share(n)] for rank in range(size)]
    assert [i for share in shares for i in share] == list(range(n))
    assert {len(share) for share in shares} <= {n // size, n // size + 1}


def test_a_process_group_of_one_needs_no_torch_distributed() -> None:
    with joined("cpu") as processes:
        assert processes == ProcessGroup(0, 1)
        assert not torch.distributed.is_initialized()
        assert processes.first(lambda: 3) == 3
        assert processes.gather("a") == ["a"]
        assert processes.any(True)
        assert not processes.any(False)


def test_fewer_samples_than_processes_are_refused() -> None:
    check_batch(ProcessGroup(1, 2), 2)
    with pytest.raises(ConfigError, match="a batch of 2 cannot be shared by 3 processes"):
        check_batch(ProcessGroup(1, 3), 2)


def test_each_process_of_a_machine_takes_its_own_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [device_of_rank(name) for name in ("auto", "cpu", "cuda:1")] == ["auto", "cpu", "cuda:1"]
    monkeypatch.setenv("WORLD_SIZE", "4")
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert [device_of_rank(name) for name in ("auto", "cpu", "cuda")] == ["cuda:1", "cpu", "cuda:1"]
    with pytest.raises(ConfigError, match="cuda:1: each of several processes takes its own"):
        device_of_rank("cuda:1")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert device_of_rank("auto") == "auto"  # which will be the processor
