"""A GPU that the CPU simulates: tensors that say CUDA, and the errors that a real one would raise.

`python -m pytest -n 0 -m gpu -p tests.simulated_gpu.plugin` runs the tests that need a GPU without one. It finds

- operations on tensors of two devices, and random numbers of a generator of the other device;
- what makes the host wait for the device, where a test asks for that with `torch.cuda.set_sync_debug_mode("error")`.

It finds no error of a CUDA kernel, says nothing of speed, and knows neither CUDA graphs nor `torch.compile`. It needs
Linux and a C++ compiler, and stands on parts of PyTorch that are not public.
"""
