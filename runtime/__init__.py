"""KernelSource -> running code on the CPU. Knows machine code, threads, files and Python calls;
knows no operation and no pass. The parts, lowest first:

jit       host_machine(cpu="", features="") -> Machine; compile_object(text, machine) -> bytes;
          assembly(text, machine) -> str; load_object(bytes, exports, imports) -> LoadedModule,
          whose ["symbol"] is an address
pool      Pool(machine, threads=0): the threads behind `tilec_parallel` and `tilec_threads`, which
          kernels import through load_object(..., pool.symbols)
"""
