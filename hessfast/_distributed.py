"""Who shares the work: the process group of torch.distributed, if there is one."""


def ranks() -> tuple[int, int]:
    """This process's rank and the number of processes; 0 and 1 without a group."""
    from torch import distributed

    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank(), distributed.get_world_size()
    return 0, 1
