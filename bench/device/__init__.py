"""Every GPU path of hessfast, proved and measured by one command on a machine with a CUDA device.

    python -m bench.device --minutes 9 --out FILE.json     with `hessfast` importable, installed or not
    python -m bench.device --dry                           without a GPU: what the compilers make

`steps` lists the steps in order of importance. Each runs within its own time limit, and whatever happens to one (an
error, a hang, a broken CUDA context) the next one runs: the rows are written to FILE.json as they come.
"""
