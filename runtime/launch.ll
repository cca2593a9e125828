; The launcher: one Python function for all kernels. It reads its arguments (arguments.ll), which
; forms a key of words, finds the compiled entry of that key (table.ll), and calls it. Whatever it
; does not know goes to the Python callable of the table, which may add an entry.

declare void @Py_IncRef(ptr)
declare ptr @PyErr_Occurred()
declare ptr @PyErr_NoMemory()
declare ptr @PyObject_CallFunctionObjArgs(ptr, ...)
declare ptr @PyLong_FromLongLong(i64)
declare i64 @PyLong_AsLongLong(ptr)
declare double @PyFloat_AsDouble(ptr)
declare ptr @PyTuple_New(i64)
declare i32 @PyTuple_SetItem(ptr, i64, ptr)
declare ptr @PyTuple_GetItem(ptr, i64)
declare ptr @PyBytes_FromStringAndSize(ptr, i64)
declare ptr @PyEval_SaveThread()
declare void @PyEval_RestoreThread(ptr)
declare i32 @posix_memalign(ptr, i64, i64)
declare void @free(ptr)

; Fill one slot. 0: done, 1: the value does not fit its type, 2: a Python error is set.
define internal i32 @fill(ptr %slot, ptr %values, ptr %to) {
  %operation = load i64, ptr %slot
  %argument.at = getelementptr %slot, ptr %slot, i64 0, i32 1
  %argument = load i64, ptr %argument.at
  %value.at = getelementptr ptr, ptr %values, i64 %argument
  %value = load ptr, ptr %value.at
  switch i64 %operation, label %pointer [
    i64 1, label %component
    i64 2, label %int
    i64 3, label %float
    i64 4, label %float
    i64 5, label %constant
  ]
constant:
  %constant.at = getelementptr %slot, ptr %slot, i64 0, i32 3
  %constant.i = load i64, ptr %constant.at
  store i64 %constant.i, ptr %to
  ret i32 0
pointer:
  store ptr %value, ptr %to
  ret i32 0
component:
  %component.at = getelementptr %slot, ptr %slot, i64 0, i32 2
  %component.i = load i64, ptr %component.at
  %place = add i64 %component.i, 4
  %address.at = getelementptr ptr, ptr %value, i64 %place
  %address = load ptr, ptr %address.at
  store ptr %address, ptr %to
  ret i32 0
int:
  %i = call i64 @PyLong_AsLongLong(ptr %value)
  %low.at = getelementptr %slot, ptr %slot, i64 0, i32 3
  %high.at = getelementptr %slot, ptr %slot, i64 0, i32 4
  %low = load i64, ptr %low.at
  %high = load i64, ptr %high.at
  %above = icmp sge i64 %i, %low
  %below = icmp sle i64 %i, %high
  %inside = and i1 %above, %below
  store i64 %i, ptr %to
  %suspect = icmp eq i64 %i, -1
  br i1 %suspect, label %overflow, label %judge
overflow:
  %raised = call ptr @PyErr_Occurred()
  %fine = icmp eq ptr %raised, null
  br i1 %fine, label %judge, label %outside
outside:
  call void @PyErr_Clear()
  ret i32 1
judge:
  %verdict = select i1 %inside, i32 0, i32 1
  ret i32 %verdict
float:
  %f = call double @PyFloat_AsDouble(ptr %value)
  %odd = fcmp oeq double %f, -1.0
  br i1 %odd, label %error, label %store
error:
  %set = call ptr @PyErr_Occurred()
  %unset = icmp eq ptr %set, null
  br i1 %unset, label %store, label %fail
store:
  %wide = icmp eq i64 %operation, 3
  br i1 %wide, label %f64, label %f32
f64:
  store double %f, ptr %to
  ret i32 0
f32:
  %narrow = fptrunc double %f to float
  store i64 0, ptr %to
  store float %narrow, ptr %to
  ret i32 0
fail:
  ret i32 2
}

define internal i32 @fill_all(ptr %entry, ptr %values, ptr %slots) {
begin:
  %count.at = getelementptr %entry, ptr %entry, i64 0, i32 5
  %count = load i64, ptr %count.at
  %first.at = getelementptr %entry, ptr %entry, i64 0, i32 6
  %first = load ptr, ptr %first.at
  br label %next
next:
  %i = phi i64 [ 0, %begin ], [ %i.next, %filled ]
  %more = icmp ult i64 %i, %count
  br i1 %more, label %one, label %end
one:
  %slot = getelementptr %slot, ptr %first, i64 %i
  %to = getelementptr i64, ptr %slots, i64 %i
  %status = call i32 @fill(ptr %slot, ptr %values, ptr %to)
  %ok = icmp eq i32 %status, 0
  br i1 %ok, label %filled, label %failed
filled:
  %i.next = add i64 %i, 1
  br label %next
failed:
  ret i32 %status
end:
  %last = getelementptr i64, ptr %slots, i64 %count
  store ptr null, ptr %last
  ret i32 0
}

define internal i64 @enter(ptr %function, ptr %slots, i1 %answers) alwaysinline {
  br i1 %answers, label %ask, label %run
ask:
  %status = call i64 %function(ptr %slots)
  ret i64 %status
run:
  call void %function(ptr %slots)
  ret i64 0
}

; The status of a function that returns one; 0 of any other.
define internal i64 @call(ptr %entry, ptr %slots) {
  %function.at = getelementptr %entry, ptr %entry, i64 0, i32 4
  %function = load ptr, ptr %function.at
  %how.at = getelementptr %entry, ptr %entry, i64 0, i32 10
  %how = load i64, ptr %how.at
  %free.bit = and i64 %how, 1
  %release = icmp ne i64 %free.bit, 0
  %answer.bit = and i64 %how, 2
  %answers = icmp ne i64 %answer.bit, 0
  br i1 %release, label %free, label %hold
free:
  %thread = call ptr @PyEval_SaveThread()
  %status.free = call i64 @enter(ptr %function, ptr %slots, i1 %answers)
  call void @PyEval_RestoreThread(ptr %thread)
  ret i64 %status.free
hold:
  %status = call i64 @enter(ptr %function, ptr %slots, i1 %answers)
  ret i64 %status
}

; Call with a workspace: the entry's own or, when another thread is using that, one of this call.
; -1: a Python error is set.
define internal i64 @call_with_workspace(ptr %entry, ptr %slots) {
begin:
  %bytes.at = getelementptr %entry, ptr %entry, i64 0, i32 7
  %bytes = load i64, ptr %bytes.at
  %none = icmp eq i64 %bytes, 0
  br i1 %none, label %plain, label %needed
plain:
  %answer = call i64 @call(ptr %entry, ptr %slots)
  ret i64 %answer
needed:
  %count.at = getelementptr %entry, ptr %entry, i64 0, i32 5
  %count = load i64, ptr %count.at
  %last = getelementptr i64, ptr %slots, i64 %count
  %busy.at = getelementptr %entry, ptr %entry, i64 0, i32 9
  %busy = load i64, ptr %busy.at
  %idle = icmp eq i64 %busy, 0
  br i1 %idle, label %own, label %temporary
own:
  %own.at = getelementptr %entry, ptr %entry, i64 0, i32 8
  %own.buffer = load ptr, ptr %own.at
  store ptr %own.buffer, ptr %last
  store i64 1, ptr %busy.at
  %answer.own = call i64 @call(ptr %entry, ptr %slots)
  store i64 0, ptr %busy.at
  ret i64 %answer.own
temporary:
  %refused = call i32 @posix_memalign(ptr %last, i64 64, i64 %bytes)
  %got = icmp eq i32 %refused, 0
  br i1 %got, label %run, label %fail
run:
  %buffer = load ptr, ptr %last
  %answer.temporary = call i64 @call(ptr %entry, ptr %slots)
  call void @free(ptr %buffer)
  ret i64 %answer.temporary
fail:
  %raised = call ptr @PyErr_NoMemory()
  ret i64 -1
}

; Hand the call to Python: miss(key bytes or None, tuple of the arguments), and after those the
; status that a function returned if that is not 0.
define internal ptr @miss(ptr %table, ptr %args, i64 %count, ptr %key, i64 %words, i64 %status)
    noinline {
entry:
  %tuple = call ptr @PyTuple_New(i64 %count)
  %failed = icmp eq ptr %tuple, null
  br i1 %failed, label %fail, label %next
next:
  %i = phi i64 [ 0, %entry ], [ %i.next, %one ]
  %more = icmp slt i64 %i, %count
  br i1 %more, label %one, label %named
one:
  %at = getelementptr ptr, ptr %args, i64 %i
  %object = load ptr, ptr %at
  call void @Py_IncRef(ptr %object)
  %set = call i32 @PyTuple_SetItem(ptr %tuple, i64 %i, ptr %object)
  %i.next = add i64 %i, 1
  br label %next
named:
  %keyless = icmp slt i64 %words, 0
  br i1 %keyless, label %none, label %keyed
none:
  call void @Py_IncRef(ptr @_Py_NoneStruct)
  br label %call
keyed:
  %bytes = shl i64 %words, 3
  %text = call ptr @PyBytes_FromStringAndSize(ptr %key, i64 %bytes)
  %lost = icmp eq ptr %text, null
  br i1 %lost, label %drop, label %call
call:
  %name = phi ptr [ @_Py_NoneStruct, %none ], [ %text, %keyed ]
  %miss.at = getelementptr %table, ptr %table, i64 0, i32 1
  %callable = load ptr, ptr %miss.at
  %well = icmp eq i64 %status, 0
  br i1 %well, label %tell, label %number
number:
  %integer = call ptr @PyLong_FromLongLong(i64 %status)
  br label %tell
tell:
  %third = phi ptr [ null, %call ], [ %integer, %number ]
  %result = call ptr (ptr, ...) @PyObject_CallFunctionObjArgs(ptr %callable, ptr %name,
                                                             ptr %tuple, ptr %third, ptr null)
  call void @Py_DecRef(ptr %third)                   ; which may be null
  call void @Py_DecRef(ptr %name)
  call void @Py_DecRef(ptr %tuple)
  ret ptr %result
drop:
  call void @Py_DecRef(ptr %tuple)
  ret ptr null
fail:
  ret ptr null
}

; The struct PyMethodDef (name, function, METH_FASTCALL, doc) of every function made from it. It is
; here, in memory that is never freed, because the garbage collector may free what a function
; refers to before the function, and that reads its definition to the last.
@name = internal constant [7 x i8] c"launch\00"
@tilec_method = constant { ptr, ptr, i32, ptr } { ptr @name, ptr @tilec_launch, i32 128, ptr null }

; self is the tuple (address of the table, its owner).
define internal ptr @tilec_launch(ptr %self, ptr %args, i64 %count) {
entry:
  %key = alloca [576 x i64]                          ; 32 arguments of 2 + 2 * 8 words
  %values = alloca [32 x ptr]
  %slots = alloca [129 x i64], align 64              ; 128 slots and the workspace
  %address = call ptr @PyTuple_GetItem(ptr %self, i64 0)
  %table = call ptr @PyLong_AsVoidPtr(ptr %address)
  %registry = load ptr, ptr %table
  %many = icmp sgt i64 %count, 32
  br i1 %many, label %strange, label %next
next:
  %i = phi i64 [ 0, %entry ], [ %i.next, %read ]
  %words = phi i64 [ 0, %entry ], [ %words.next, %read ]
  %more = icmp slt i64 %i, %count
  br i1 %more, label %one, label %look
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
look:
  %entry.at = call ptr @find(ptr %table, ptr %key, i64 %words)
  %new = icmp eq ptr %entry.at, null
  br i1 %new, label %unseen, label %fill
fill:
  %filled = call i32 @fill_all(ptr %entry.at, ptr %values, ptr %slots)
  switch i32 %filled, label %fail [
    i32 0, label %run
    i32 1, label %unseen
  ]
run:
  %status = call i64 @call_with_workspace(ptr %entry.at, ptr %slots)
  switch i64 %status, label %trouble [
    i64 0, label %done
    i64 -1, label %fail
  ]
trouble:
  %told = call ptr @miss(ptr %table, ptr %args, i64 %count, ptr %key, i64 %words, i64 %status)
  ret ptr %told
done:
  call void @Py_IncRef(ptr @_Py_NoneStruct)
  ret ptr @_Py_NoneStruct
unseen:
  %made = call ptr @miss(ptr %table, ptr %args, i64 %count, ptr %key, i64 %words, i64 0)
  ret ptr %made
strange:
  %answer = call ptr @miss(ptr %table, ptr %args, i64 %count, ptr %key, i64 -1, i64 0)
  ret ptr %answer
fail:
  ret ptr null
}
