; Reading the arguments of a call, and its results: those that it gives, or that makers make, for
; launch.ll.

@PyTuple_Type = external global i8
@PyExc_SystemError = external global ptr

declare ptr @PyObject_CallFunctionObjArgs(ptr, ...)
declare ptr @PyTuple_New(i64)
declare i32 @PyTuple_SetItem(ptr, i64, ptr)
declare ptr @PyTuple_GetItem(ptr, i64)
declare i64 @PyTuple_Size(ptr)
declare void @PyErr_SetString(ptr, ptr)

; Read arguments behind `before` words of the key. Returns the words in all, or -1.
define internal i64 @read_all(ptr %registry, ptr %args, i64 %count, ptr %key, i64 %before,
                              ptr %values) {
entry:
  br label %next
next:
  %i = phi i64 [ 0, %entry ], [ %i.next, %read ]
  %words = phi i64 [ %before, %entry ], [ %words.next, %read ]
  %more = icmp slt i64 %i, %count
  br i1 %more, label %one, label %end
one:
  %at = getelementptr ptr, ptr %args, i64 %i
  %object = load ptr, ptr %at
  %out = getelementptr i64, ptr %key, i64 %words
  %value = getelementptr ptr, ptr %values, i64 %i
  %written = call i64 @classify(ptr %registry, ptr %object, ptr %out, ptr %value)
  %unknown = icmp slt i64 %written, 0
  br i1 %unknown, label %strange, label %read
read:
  %i.next = add i64 %i, 1
  %words.next = add i64 %words, %written
  br label %next
strange:
  ret i64 -1
end:
  ret i64 %words
}

; Read what a call gives for its results, an object or a tuple of at most `room`: words as above,
; behind one with their number.
define internal i64 @read_results(ptr %registry, ptr %out, ptr %key, i64 %before, ptr %values,
                                  i64 %room) {
entry:
  %items = alloca [32 x ptr]
  %type.at = getelementptr i8, ptr %out, i64 8
  %type = load ptr, ptr %type.at
  %several = icmp eq ptr %type, @PyTuple_Type
  br i1 %several, label %tuple, label %single
single:
  store ptr %out, ptr %items
  br label %sized
tuple:
  %size = call i64 @PyTuple_Size(ptr %out)
  br label %sized
sized:
  %count = phi i64 [ 1, %single ], [ %size, %tuple ]
  %many = icmp sgt i64 %count, %room
  br i1 %many, label %refuse, label %next
next:
  %i = phi i64 [ 0, %sized ], [ %i.next, %one ]
  %more = icmp slt i64 %i, %count
  %copy = and i1 %more, %several
  br i1 %copy, label %one, label %mark
one:
  %item = call ptr @PyTuple_GetItem(ptr %out, i64 %i)
  %to = getelementptr ptr, ptr %items, i64 %i
  store ptr %item, ptr %to
  %i.next = add i64 %i, 1
  br label %next
mark:
  %bits = shl i64 %count, 8
  %head = or i64 %bits, 8
  %mark.at = getelementptr i64, ptr %key, i64 %before
  store i64 %head, ptr %mark.at
  %after = add i64 %before, 1
  %words = call i64 @read_all(ptr %registry, ptr %items, i64 %count, ptr %key, i64 %after,
                              ptr %values)
  ret i64 %words
refuse:
  ret i64 -1
}

@_Py_TrueStruct = external global i8

; Whether gradients are recorded and a tensor of torch requires one; 2: a Python error is set.
define internal i32 @requires_gradients(ptr %registry, ptr %args, i64 %count) {
entry:
  %enabled.at = getelementptr %registry, ptr %registry, i64 0, i32 6
  %enabled = load ptr, ptr %enabled.at
  %name.at = getelementptr %registry, ptr %registry, i64 0, i32 7
  %name = load ptr, ptr %name.at
  %tensor.at = getelementptr %registry, ptr %registry, i64 0, i32 2
  %tensor = load ptr, ptr %tensor.at
  %parameter.at = getelementptr %registry, ptr %registry, i64 0, i32 3
  %parameter = load ptr, ptr %parameter.at
  %recorded = call ptr (ptr, ...) @PyObject_CallFunctionObjArgs(ptr %enabled, ptr null)
  %failed = icmp eq ptr %recorded, null
  br i1 %failed, label %fail, label %known
known:
  call void @Py_DecRef(ptr %recorded)
  %on = icmp eq ptr %recorded, @_Py_TrueStruct
  br i1 %on, label %next, label %no
next:
  %i = phi i64 [ 0, %known ], [ %i.next, %other ]
  %more = icmp slt i64 %i, %count
  br i1 %more, label %one, label %no
one:
  %at = getelementptr ptr, ptr %args, i64 %i
  %object = load ptr, ptr %at
  %type.at = getelementptr i8, ptr %object, i64 8
  %type = load ptr, ptr %type.at
  %is.tensor = icmp eq ptr %type, %tensor
  %is.parameter = icmp eq ptr %type, %parameter
  %of.torch = or i1 %is.tensor, %is.parameter
  br i1 %of.torch, label %ask, label %other
ask:
  %attribute = call ptr @PyObject_GetAttr(ptr %object, ptr %name)
  %lost = icmp eq ptr %attribute, null
  br i1 %lost, label %fail, label %told
told:
  call void @Py_DecRef(ptr %attribute)
  %requires = icmp eq ptr %attribute, @_Py_TrueStruct
  br i1 %requires, label %yes, label %other
other:
  %i.next = add i64 %i, 1
  br label %next
yes:
  ret i32 1
no:
  ret i32 0
fail:
  ret i32 2
}

@unread = internal constant [26 x i8] c"a result can't be written\00"

; One result of a call: a new object, whose value is kept. Null: a Python error is set.
define internal ptr @make_one(ptr %registry, ptr %maker, ptr %value) {
  %key = alloca [18 x i64]
  %object = call ptr (ptr, ...) @PyObject_CallFunctionObjArgs(ptr %maker, ptr null)
  %failed = icmp eq ptr %object, null
  br i1 %failed, label %fail, label %read
read:
  %words = call i64 @classify(ptr %registry, ptr %object, ptr %key, ptr %value)
  %unknown = icmp slt i64 %words, 0
  br i1 %unknown, label %strange, label %done
strange:
  call void @Py_DecRef(ptr %object)
  %error = load ptr, ptr @PyExc_SystemError
  call void @PyErr_SetString(ptr %error, ptr @unread)
  br label %fail
done:
  ret ptr %object
fail:
  ret ptr null
}

; What a call returns whose results an entry's makers make: the one, or a tuple.
define internal ptr @make(ptr %entry, ptr %registry, ptr %values) {
begin:
  %makers.at = getelementptr %entry, ptr %entry, i64 0, i32 11
  %makers = load ptr, ptr %makers.at
  %count.at = getelementptr %entry, ptr %entry, i64 0, i32 12
  %count = load i64, ptr %count.at
  %single = icmp eq i64 %count, 1
  br i1 %single, label %one, label %several
one:
  %maker = load ptr, ptr %makers
  %object = call ptr @make_one(ptr %registry, ptr %maker, ptr %values)
  ret ptr %object
several:
  %tuple = call ptr @PyTuple_New(i64 %count)
  %failed = icmp eq ptr %tuple, null
  br i1 %failed, label %fail, label %next
next:
  %i = phi i64 [ 0, %several ], [ %i.next, %made ]
  %more = icmp slt i64 %i, %count
  br i1 %more, label %item, label %done
item:
  %maker.at = getelementptr ptr, ptr %makers, i64 %i
  %its.maker = load ptr, ptr %maker.at
  %value = getelementptr ptr, ptr %values, i64 %i
  %its.object = call ptr @make_one(ptr %registry, ptr %its.maker, ptr %value)
  %lost = icmp eq ptr %its.object, null
  br i1 %lost, label %drop, label %made
made:
  %set = call i32 @PyTuple_SetItem(ptr %tuple, i64 %i, ptr %its.object)
  %i.next = add i64 %i, 1
  br label %next
drop:
  call void @Py_DecRef(ptr %tuple)
  br label %fail
done:
  ret ptr %tuple
fail:
  ret ptr null
}

