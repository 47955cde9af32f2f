"""A GPU that the CPU simulates: tensors that say CUDA, and the errors that a real one would raise.

`python -m pytest -n 0 -m gpu -p tests.simulated_gpu.plugin` runs the tests that need a GPU without one. It finds

- operations on tensors of two devices, and random numbers of a generator of the other device;
- what makes the host wait for the device, where a test asks for that by `torch.cuda.set_sync_debug_mode("error")`.

It needs Linux, a C++ compiler and a PyTorch built without CUDA, and stands on parts of PyTorch that are not public.
What it does not find: errors of a CUDA kernel; values that are read before a copy with `non_blocking=True` has ended;
waits within a kernel; weights that are saved without moving them to the CPU, since they are read as the CPU's. It says
nothing of speed, knows neither CUDA graphs nor `torch.compile`, and lets optimisers iterate over parameters. Random
numbers drawn without a generator are the CPU's.
"""
