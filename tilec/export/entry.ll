; What an exported library has beside the kernel and the thread pool: the start of the pool, and the
; reading of TVM-FFI's arguments. The entries themselves are written for each kernel (abi.py).

%want = type { i64, i64, i64, i64, i64, i64, ptr }  ; 0 kind, 1 dimensions, 2 DLPack dtype, 3 bytes,
                                                    ; 4 and 5 the range of a number, 6 the extents
; kinds: 0 a tensor, 1 bytes in any tensor, 2 an integer, 3 an f64, 4 an f32

declare ptr @mmap(ptr, i64, i32, i32, i32, i64)
declare i32 @madvise(ptr, i64, i32)
declare i32 @sched_getaffinity(i32, i64, ptr)
declare void @abort()
declare i64 @llvm.ctpop.i64(i64)
declare i64 @llvm.umin.i64(i64, i64)
declare i32 @posix_memalign(ptr, i64, i64)
declare void @free(ptr)
declare ptr @dlopen(ptr, i32)
declare ptr @dlsym(ptr, ptr)

@llvm.global_ctors = appending global [1 x { i32, ptr, ptr }]
    [{ i32, ptr, ptr } { i32 65535, ptr @tilec_start, ptr null }]

; Runs when the library is loaded: a pool of as many threads as there are processors, at most those
; that the code is for. Where a fork does not wipe the pool's state (Linux before 4.14), one.
define internal void @tilec_start() {
entry:
  %mask = alloca [16 x i64]
  %size = call i64 @tilec_pool_bytes()
  %memory = call ptr @mmap(ptr null, i64 %size, i32 3, i32 34, i32 -1, i64 0)
  %failed = icmp eq ptr %memory, inttoptr (i64 -1 to ptr)
  br i1 %failed, label %fail, label %wipe
wipe:
  %refused = call i32 @madvise(ptr %memory, i64 %size, i32 18)      ; MADV_WIPEONFORK
  %wiped = icmp eq i32 %refused, 0
  br i1 %wiped, label %ask, label %start
ask:
  call void @llvm.memset.p0.i64(ptr %mask, i8 0, i64 128, i1 false)
  %unknown = call i32 @sched_getaffinity(i32 0, i64 128, ptr %mask)
  %known = icmp eq i32 %unknown, 0
  br i1 %known, label %next, label %start
next:
  %i = phi i64 [ 0, %ask ], [ %i.next, %one ]
  %sum = phi i64 [ 0, %ask ], [ %sum.next, %one ]
  %more = icmp ult i64 %i, 16
  br i1 %more, label %one, label %counted
one:
  %at = getelementptr i64, ptr %mask, i64 %i
  %word = load i64, ptr %at
  %bits = call i64 @llvm.ctpop.i64(i64 %word)
  %sum.next = add i64 %sum, %bits
  %i.next = add i64 %i, 1
  br label %next
counted:
  %most = call i64 @llvm.umin.i64(i64 %sum, i64 $THREADS)
  br label %start
start:
  %threads64 = phi i64 [ 1, %wipe ], [ 1, %ask ], [ %most, %counted ]
  %threads = trunc i64 %threads64 to i32
  call void @tilec_pool_init(ptr %memory, i32 %threads, i32 2000)
  ret void
fail:
  call void @abort()
  unreachable
}

; Call the kernel with a workspace behind its slots. 0, or -1 without memory.
define internal i32 @tilec_call(ptr %slots, ptr %last) {
  store ptr null, ptr %last
  br i1 $NEEDS, label %get, label %plain
plain:
  call void @$ENTRY(ptr %slots)
  ret i32 0
get:
  %refused = call i32 @posix_memalign(ptr %last, i64 64, i64 $WORKSPACE)
  %got = icmp eq i32 %refused, 0
  br i1 %got, label %run, label %fail
run:
  %workspace = load ptr, ptr %last
  call void @$ENTRY(ptr %slots)
  call void @free(ptr %workspace)
  ret i32 0
fail:
  ret i32 -1
}

@tilec_ffi = internal constant [14 x i8] c"libtvm_ffi.so\00"
@tilec_raiser = internal constant [29 x i8] c"TVMFFIErrorSetRaisedFromCStr\00"
@tilec_kind = internal constant [11 x i8] c"ValueError\00"

; Tell TVM-FFI of an error. The library that called is in the process, but may not be seen by all,
; and a C program has none.
define internal void @tilec_raise(ptr %message) {
  %library = call ptr @dlopen(ptr @tilec_ffi, i32 5)  ; RTLD_LAZY | RTLD_NOLOAD
  %none = icmp eq ptr %library, null
  br i1 %none, label %done, label %look
look:
  %raise = call ptr @dlsym(ptr %library, ptr @tilec_raiser)
  %lost = icmp eq ptr %raise, null
  br i1 %lost, label %done, label %tell
tell:
  call void %raise(ptr @tilec_kind, ptr %message)
  br label %done
done:
  ret void
}

; A contiguous tensor on the CPU (struct DLTensor of DLPack 1): its address.
define internal i1 @tilec_tensor(ptr %tensor, ptr %want, ptr %to) {
entry:
  %device.at = getelementptr i8, ptr %tensor, i64 8
  %device = load i32, ptr %device.at
  %ndim.at = getelementptr i8, ptr %tensor, i64 16
  %ndim32 = load i32, ptr %ndim.at
  %ndim = sext i32 %ndim32 to i64
  %type.at = getelementptr i8, ptr %tensor, i64 20
  %type32 = load i32, ptr %type.at
  %type = zext i32 %type32 to i64
  %dims.at = getelementptr i8, ptr %tensor, i64 24
  %dims = load ptr, ptr %dims.at
  %strides.at = getelementptr i8, ptr %tensor, i64 32
  %strides = load ptr, ptr %strides.at
  %kind = load i64, ptr %want
  %loose = icmp eq i64 %kind, 1
  %its.ndim.at = getelementptr %want, ptr %want, i64 0, i32 1
  %its.ndim = load i64, ptr %its.ndim.at
  %its.type.at = getelementptr %want, ptr %want, i64 0, i32 2
  %its.type = load i64, ptr %its.type.at
  %its.dims.at = getelementptr %want, ptr %want, i64 0, i32 6
  %its.dims = load ptr, ptr %its.dims.at
  %cpu = icmp eq i32 %device, 1
  %same.ndim = icmp eq i64 %ndim, %its.ndim
  %same.type = icmp eq i64 %type, %its.type
  %same = and i1 %same.ndim, %same.type
  %like = or i1 %same, %loose
  %fine = and i1 %like, %cpu
  br i1 %fine, label %next, label %no
next:                                                ; from the last dimension to the first
  %i = phi i64 [ %ndim, %entry ], [ %last, %step ]
  %elements = phi i64 [ 1, %entry ], [ %elements.next, %step ]
  %more = icmp sgt i64 %i, 0
  br i1 %more, label %one, label %sized
one:
  %last = sub i64 %i, 1
  %extent.at = getelementptr i64, ptr %dims, i64 %last
  %extent = load i64, ptr %extent.at
  br i1 %loose, label %stride, label %extents
extents:
  %its.extent.at = getelementptr i64, ptr %its.dims, i64 %last
  %its.extent = load i64, ptr %its.extent.at
  %as.long = icmp eq i64 %extent, %its.extent
  br i1 %as.long, label %stride, label %no
stride:
  %implied = icmp eq ptr %strides, null
  %single = icmp eq i64 %extent, 1
  %free = or i1 %implied, %single
  br i1 %free, label %step, label %measured
measured:
  %stride.at = getelementptr i64, ptr %strides, i64 %last
  %length = load i64, ptr %stride.at
  %dense = icmp eq i64 %length, %elements
  br i1 %dense, label %step, label %no
step:
  %elements.next = mul i64 %elements, %extent
  br label %next
sized:
  %bits.16 = lshr i64 %type, 8
  %bits = and i64 %bits.16, 255
  %lanes = lshr i64 %type, 16
  %wide = mul i64 %bits, %lanes
  %all = mul i64 %wide, %elements
  %up = add i64 %all, 7
  %bytes = lshr i64 %up, 3
  %its.bytes.at = getelementptr %want, ptr %want, i64 0, i32 3
  %its.bytes = load i64, ptr %its.bytes.at
  %as.many = icmp eq i64 %bytes, %its.bytes
  br i1 %as.many, label %place, label %no
place:
  %data = load i64, ptr %tensor
  %offset.at = getelementptr i8, ptr %tensor, i64 40
  %offset = load i64, ptr %offset.at
  %address = add i64 %data, %offset
  store i64 %address, ptr %to
  ret i1 true
no:
  ret i1 false
}

; One argument of TVM-FFI (struct TVMFFIAny: a type, 8 bytes) as what the kernel's entry takes.
define internal i1 @tilec_argument(ptr %any, ptr %want, ptr %to) {
  %type = load i32, ptr %any
  %value.at = getelementptr i8, ptr %any, i64 8
  %value = load i64, ptr %value.at
  %kind = load i64, ptr %want
  switch i64 %kind, label %number [
    i64 0, label %tensor
    i64 1, label %tensor
    i64 2, label %integer
  ]
tensor:
  switch i32 %type, label %no [
    i32 7, label %pointer                            ; kTVMFFIDLTensorPtr
    i32 70, label %object                            ; kTVMFFITensor: behind a header of 24 bytes
  ]
pointer:
  %here = inttoptr i64 %value to ptr
  %fine = call i1 @tilec_tensor(ptr %here, ptr %want, ptr %to)
  ret i1 %fine
object:
  %inside = add i64 %value, 24
  %there = inttoptr i64 %inside to ptr
  %fine.object = call i1 @tilec_tensor(ptr %there, ptr %want, ptr %to)
  ret i1 %fine.object
integer:
  switch i32 %type, label %no [
    i32 1, label %range                              ; kTVMFFIInt
    i32 2, label %range                              ; kTVMFFIBool
  ]
range:
  store i64 %value, ptr %to
  ret i1 true
number:
  switch i32 %type, label %no [
    i32 1, label %whole
    i32 3, label %float                              ; kTVMFFIFloat
  ]
whole:
  %converted = sitofp i64 %value to double
  store double %converted, ptr %to
  ret i1 true
float:
  store i64 %value, ptr %to
  ret i1 true
no:
  ret i1 false
}
