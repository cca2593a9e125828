; Filling the slots of an entry (table.ll) and calling its code, for launch.ll.

declare ptr @PyErr_Occurred()
declare ptr @PyErr_NoMemory()
declare i64 @PyLong_AsLongLong(ptr)
declare double @PyFloat_AsDouble(ptr)
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
  %word.at = getelementptr %entry, ptr %entry, i64 0, i32 9
  %busy.at = load ptr, ptr %word.at
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

