"""KernelSource -> running code. Knows machine code, threads, files, Python calls and the CUDA
driver; knows no operation and no pass.

    engine = Engine(open_cache(os.environ))                         # once per process
    kernel = engine.dispatcher("axpy", slow_path)
    kernel.launch(x, y, 2.0)                                        # positional; returns None

`slow_path(arguments)` runs for arguments of unseen specialisation. It looks at them with
`describe(argument)` (dtype, shape, strides, device, ...), raises TileError or makes a KernelSource
and returns `engine.load(source)`; the result is kept for all calls with the same specialisation.

jit        host_machine(cpu="", features="") -> Machine; compile_object(text, machine) -> bytes;
           assembly(text, machine) -> str; load_object(bytes, exports, imports) -> LoadedModule,
           whose ["symbol"] is an address
pool       Pool(machine, threads=0): the threads behind `tilec_parallel` and `tilec_threads`, which
           kernels import through load_object(..., pool.symbols)
cache      Cache(directory or None): get, put, get_or_make by Key(made_by, parts)
packed     PackedHandle(format_id, layout_id, pointers): a packed tensor sets
           `tilec_handle = handle.address`; Param.place counts its pointers
arguments  describe(argument) -> TensorArgument | PackedArgument | ScalarArgument
launch     Compiled(address, params, workspace, release_gil, keep, results, bind), what a slow path
           returns; Form: names of parameters, `out=`, gradients; PythonLauncher; `bind(*arguments)`
           of a dispatcher makes a callable that has its arguments, and memory of its own
native     NativeLauncher: the same as functions of machine code
slots      what fills the argument array of a call
engine     Engine(cache, machine=None, threads=0, native=True): all of these together

On GPUs a slow path returns `Gpu(driver, machine, objects).load(program, device, dims, arguments)`:
program    Program(kernels, params, own): cubins or PTX, and what their kernels take
driver     open_driver() -> Driver: devices, modules, memory; or a table of other functions
plan       Plan: what the native code of gpu.ll needs to launch a program again
placed     DeviceTensor: a packed tensor on a GPU, in the orders of the kernels that read it
exchange   functions of DLPack's C exchange API: the reader of tensors, the current stream
"""
