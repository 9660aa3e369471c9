"""What workers see of one another, with two real processes."""

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from posegen.parallel import Parallel

HELD = ([[1.0, 3.0, 5.0], [2.0, float("nan")]], [[], [7.0]], [[], []])


def worker(rank: int, folder: str) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    found = [Parallel(rank, 2).gather_uneven(torch.tensor(parts[rank])) for parts in HELD]
    torch.save(found, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


def test_rows_of_workers_who_have_more_and_less_come_in_global_order(tmp_path) -> None:
    mp.spawn(worker, (str(tmp_path),), nprocs=2)
    for rank in (0, 1):
        uneven, one, none = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        assert torch.equal(uneven.nan_to_num(-1), torch.tensor([1.0, 2.0, 3.0, -1.0, 5.0]))
        assert one.tolist() == [7.0] and none.tolist() == []


def test_a_worker_alone_sees_its_own() -> None:
    rows = torch.arange(3.0)
    assert Parallel().gather_uneven(rows) is rows
