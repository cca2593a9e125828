; Reading arguments where numpy, torch and packed tensors keep them, for launch.ll, which this text
; is put in front of. An argument gives words of the launch key (arguments.py writes the same):
;   numpy   1 | ndim << 8 | odd << 16 | flags << 32, address of the dtype, dims, strides in bytes
;   torch   2 | ndim << 8 | odd << 16 | DLPack dtype << 32, DLPack device, dims, strides in elements
;   packed  3 | components << 8, format, layout
;   int 4, float 5, bool 6, None 7
;   8 | results << 8: the arguments behind are given for results
; where odd is 1 for an address that is no multiple of 16.

%registry = type { ptr, ptr, ptr, ptr, ptr, ptr, ptr, ptr }
    ; 0 ndarray, 1 memmap, 2 Tensor, 3 Parameter, 4 the DLPack reader, 5 name of the handle
    ; attribute, 6 torch.is_grad_enabled, 7 name of the attribute requires_grad
%dltensor = type { ptr, i64, i32, i32, ptr, ptr, i64 }

@PyLong_Type = external global i8
@PyFloat_Type = external global i8
@PyBool_Type = external global i8
@_Py_NoneStruct = external global i8

declare void @Py_DecRef(ptr)
declare void @PyErr_Clear()
declare ptr @PyObject_GetAttr(ptr, ptr)
declare ptr @PyLong_AsVoidPtr(ptr)

define internal void @copy(ptr %to, ptr %from, i64 %count) alwaysinline {
entry:
  br label %next
next:
  %i = phi i64 [ 0, %entry ], [ %i.next, %one ]
  %more = icmp slt i64 %i, %count
  br i1 %more, label %one, label %end
one:
  %source = getelementptr i64, ptr %from, i64 %i
  %target = getelementptr i64, ptr %to, i64 %i
  %word = load i64, ptr %source
  store i64 %word, ptr %target
  %i.next = add i64 %i, 1
  br label %next
end:
  ret void
}

; Write a tensor's words; returns how many, or -1 with too many dimensions.
define internal i64 @tensor(ptr %out, i64 %kind, ptr %data, i64 %ndim, i64 %type, i64 %second,
                            ptr %dims, ptr %strides) alwaysinline {
  %few = icmp ule i64 %ndim, 8
  br i1 %few, label %write, label %refuse
write:
  %ndim.bits = shl i64 %ndim, 8
  %type.bits = shl i64 %type, 32
  %address = ptrtoint ptr %data to i64
  %rest = and i64 %address, 15
  %odd = icmp ne i64 %rest, 0
  %odd.bit = select i1 %odd, i64 65536, i64 0
  %kind.bits = or i64 %kind, %odd.bit
  %low = or i64 %kind.bits, %ndim.bits
  %head = or i64 %low, %type.bits
  store i64 %head, ptr %out
  %out.1 = getelementptr i64, ptr %out, i64 1
  store i64 %second, ptr %out.1
  %out.dims = getelementptr i64, ptr %out, i64 2
  call void @copy(ptr %out.dims, ptr %dims, i64 %ndim)
  %out.strides = getelementptr i64, ptr %out.dims, i64 %ndim
  call void @copy(ptr %out.strides, ptr %strides, i64 %ndim)
  %twice = shl i64 %ndim, 1
  %words = add i64 %twice, 2
  ret i64 %words
refuse:
  ret i64 -1
}

; PyArrayObject: data, nd, dimensions, strides, base, descr, flags after the 16-byte object head.
define internal i64 @numpy(ptr %array, ptr %out, ptr %value) {
  %data.at = getelementptr i8, ptr %array, i64 16
  %ndim.at = getelementptr i8, ptr %array, i64 24
  %dims.at = getelementptr i8, ptr %array, i64 32
  %strides.at = getelementptr i8, ptr %array, i64 40
  %descr.at = getelementptr i8, ptr %array, i64 56
  %flags.at = getelementptr i8, ptr %array, i64 64
  %data = load ptr, ptr %data.at
  store ptr %data, ptr %value
  %ndim32 = load i32, ptr %ndim.at
  %ndim = zext i32 %ndim32 to i64
  %dims = load ptr, ptr %dims.at
  %strides = load ptr, ptr %strides.at
  %descr = load i64, ptr %descr.at
  %flags32 = load i32, ptr %flags.at
  %flags.used = and i32 %flags32, 1280                ; ALIGNED | WRITEABLE
  %flags = zext i32 %flags.used to i64
  %words = call i64 @tensor(ptr %out, i64 1, ptr %data, i64 %ndim, i64 %flags, i64 %descr,
                            ptr %dims, ptr %strides)
  ret i64 %words
}

define internal i64 @torch(ptr %registry, ptr %object, ptr %out, ptr %value) {
  %t = alloca %dltensor
  %read.at = getelementptr %registry, ptr %registry, i64 0, i32 4
  %read = load ptr, ptr %read.at
  %failed32 = call i32 %read(ptr %object, ptr %t)
  %failed = icmp ne i32 %failed32, 0
  br i1 %failed, label %error, label %known
known:
  %ndim.at = getelementptr %dltensor, ptr %t, i64 0, i32 2
  %ndim32 = load i32, ptr %ndim.at
  %ndim = zext i32 %ndim32 to i64
  %strides.at = getelementptr %dltensor, ptr %t, i64 0, i32 5
  %strides = load ptr, ptr %strides.at
  %implied = icmp eq ptr %strides, null
  %ranked = icmp ne i32 %ndim32, 0
  %missing = and i1 %implied, %ranked
  br i1 %missing, label %refuse, label %write
write:
  %data = load ptr, ptr %t
  %offset.at = getelementptr %dltensor, ptr %t, i64 0, i32 6
  %offset = load i64, ptr %offset.at
  %first = getelementptr i8, ptr %data, i64 %offset
  store ptr %first, ptr %value
  %device.at = getelementptr %dltensor, ptr %t, i64 0, i32 1
  %device = load i64, ptr %device.at
  %type.at = getelementptr %dltensor, ptr %t, i64 0, i32 3
  %type32 = load i32, ptr %type.at
  %type = zext i32 %type32 to i64
  %dims.at = getelementptr %dltensor, ptr %t, i64 0, i32 4
  %dims = load ptr, ptr %dims.at
  %words = call i64 @tensor(ptr %out, i64 2, ptr %first, i64 %ndim, i64 %type, i64 %device,
                            ptr %dims, ptr %strides)
  ret i64 %words
error:
  call void @PyErr_Clear()
  br label %refuse
refuse:
  ret i64 -1
}

; An object whose handle attribute is the address of { magic, format, layout, count, pointers }.
define internal i64 @packed(ptr %registry, ptr %object, ptr %out, ptr %value) {
  %name.at = getelementptr %registry, ptr %registry, i64 0, i32 5
  %name = load ptr, ptr %name.at
  %attribute = call ptr @PyObject_GetAttr(ptr %object, ptr %name)
  %none = icmp eq ptr %attribute, null
  br i1 %none, label %error, label %found
found:
  %type.at = getelementptr i8, ptr %attribute, i64 8
  %type = load ptr, ptr %type.at
  %int = icmp eq ptr %type, @PyLong_Type
  br i1 %int, label %address, label %other
address:
  %handle = call ptr @PyLong_AsVoidPtr(ptr %attribute)
  call void @Py_DecRef(ptr %attribute)
  %null = icmp eq ptr %handle, null
  br i1 %null, label %error, label %check
check:
  %magic = load i64, ptr %handle
  %ours = icmp eq i64 %magic, 7235965614134421876     ; see packed.py
  br i1 %ours, label %write, label %refuse
write:
  store ptr %handle, ptr %value
  %format.at = getelementptr i64, ptr %handle, i64 1
  %count.at = getelementptr i64, ptr %handle, i64 3
  %count = load i64, ptr %count.at
  %count.bits = shl i64 %count, 8
  %head = or i64 %count.bits, 3
  store i64 %head, ptr %out
  %out.1 = getelementptr i64, ptr %out, i64 1
  call void @copy(ptr %out.1, ptr %format.at, i64 2)
  ret i64 3
other:
  call void @Py_DecRef(ptr %attribute)
  ret i64 -1
error:
  call void @PyErr_Clear()
  br label %refuse
refuse:
  ret i64 -1
}

; Write an argument's words and its value (an address; for a scalar, the object itself).
define internal i64 @classify(ptr %registry, ptr %object, ptr %out, ptr %value) {
entry:
  %type.at = getelementptr i8, ptr %object, i64 8
  %type = load ptr, ptr %type.at
  %ndarray = load ptr, ptr %registry
  %is.ndarray = icmp eq ptr %type, %ndarray
  br i1 %is.ndarray, label %numpy, label %torch.1
torch.1:
  %tensor.at = getelementptr %registry, ptr %registry, i64 0, i32 2
  %tensor = load ptr, ptr %tensor.at
  %is.tensor = icmp eq ptr %type, %tensor
  br i1 %is.tensor, label %torch, label %torch.2
torch.2:
  %parameter.at = getelementptr %registry, ptr %registry, i64 0, i32 3
  %parameter = load ptr, ptr %parameter.at
  %is.parameter = icmp eq ptr %type, %parameter
  br i1 %is.parameter, label %torch, label %memmap
memmap:
  %memmap.at = getelementptr %registry, ptr %registry, i64 0, i32 1
  %memmap.type = load ptr, ptr %memmap.at
  %is.memmap = icmp eq ptr %type, %memmap.type
  br i1 %is.memmap, label %numpy, label %scalar
scalar:
  %is.int = icmp eq ptr %type, @PyLong_Type
  %is.float = icmp eq ptr %type, @PyFloat_Type
  %is.bool = icmp eq ptr %type, @PyBool_Type
  %is.none = icmp eq ptr %object, @_Py_NoneStruct
  %kind.none = select i1 %is.none, i64 7, i64 0
  %kind.bool = select i1 %is.bool, i64 6, i64 %kind.none
  %kind.float = select i1 %is.float, i64 5, i64 %kind.bool
  %kind = select i1 %is.int, i64 4, i64 %kind.float
  %known = icmp ne i64 %kind, 0
  br i1 %known, label %write, label %packed
write:
  store i64 %kind, ptr %out
  store ptr %object, ptr %value
  ret i64 1
numpy:
  %words.numpy = call i64 @numpy(ptr %object, ptr %out, ptr %value)
  ret i64 %words.numpy
torch:
  %words.torch = call i64 @torch(ptr %registry, ptr %object, ptr %out, ptr %value)
  ret i64 %words.torch
packed:
  %words.packed = call i64 @packed(ptr %registry, ptr %object, ptr %out, ptr %value)
  ret i64 %words.packed
}
