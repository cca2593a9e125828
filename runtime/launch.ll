; The launcher: Python functions of all kernels. They read their arguments (arguments.ll), which
; forms a key of words. `launch` finds the compiled entry of that key (table.ll), lets the entry's
; makers make the results that the call did not give, and calls it; `bound` has one entry, whose key
; must be that of the call. What they do not know goes to the Python callable of the table, which
; may add an entry.

%bound = type {
  ptr, ptr, ptr, ptr,                               ; 0 registry, 1 miss callable, 2 null, 3 entry
  i64, ptr, ptr, ptr                                ; 4 values, 5 those it was bound to, 6 the slots
}                                                   ; that they fill, 7 what it returns

declare void @Py_IncRef(ptr)
declare ptr @PyLong_FromLongLong(i64)
declare ptr @PyBytes_FromStringAndSize(ptr, i64)

; Hand the call to Python: miss(key bytes or None, tuple of the arguments, the status that a
; function returned or 0, names of the last arguments or None).
define internal ptr @miss(ptr %table, ptr %args, i64 %given, ptr %names, ptr %key, i64 %words,
                          i64 %status) noinline {
entry:
  %unnamed = icmp eq ptr %names, null
  br i1 %unnamed, label %all, label %more.args
more.args:
  %named = call i64 @PyTuple_Size(ptr %names)
  br label %all
all:
  %extra = phi i64 [ 0, %entry ], [ %named, %more.args ]
  %count = add i64 %given, %extra
  %keywords = select i1 %unnamed, ptr @_Py_NoneStruct, ptr %names
  %tuple = call ptr @PyTuple_New(i64 %count)
  %failed = icmp eq ptr %tuple, null
  br i1 %failed, label %fail, label %next
next:
  %i = phi i64 [ 0, %all ], [ %i.next, %one ]
  %more = icmp slt i64 %i, %count
  br i1 %more, label %one, label %number
one:
  %at = getelementptr ptr, ptr %args, i64 %i
  %object = load ptr, ptr %at
  call void @Py_IncRef(ptr %object)
  %set = call i32 @PyTuple_SetItem(ptr %tuple, i64 %i, ptr %object)
  %i.next = add i64 %i, 1
  br label %next
number:
  %integer = call ptr @PyLong_FromLongLong(i64 %status)
  %numberless = icmp eq ptr %integer, null
  br i1 %numberless, label %drop, label %say
say:
  %keyless = icmp slt i64 %words, 0
  br i1 %keyless, label %none, label %keyed
none:
  call void @Py_IncRef(ptr @_Py_NoneStruct)
  br label %call
keyed:
  %bytes = shl i64 %words, 3
  %text = call ptr @PyBytes_FromStringAndSize(ptr %key, i64 %bytes)
  %lost = icmp eq ptr %text, null
  br i1 %lost, label %drop.both, label %call
call:
  %name = phi ptr [ @_Py_NoneStruct, %none ], [ %text, %keyed ]
  %miss.at = getelementptr %table, ptr %table, i64 0, i32 1
  %callable = load ptr, ptr %miss.at
  %result = call ptr (ptr, ...) @PyObject_CallFunctionObjArgs(
      ptr %callable, ptr %name, ptr %tuple, ptr %integer, ptr %keywords, ptr null)
  call void @Py_DecRef(ptr %integer)
  call void @Py_DecRef(ptr %name)
  call void @Py_DecRef(ptr %tuple)
  ret ptr %result
drop.both:
  call void @Py_DecRef(ptr %integer)
  br label %drop
drop:
  call void @Py_DecRef(ptr %tuple)
  br label %fail
fail:
  ret ptr null
}

; The struct PyMethodDef (name, function, METH_FASTCALL | METH_KEYWORDS, doc) of every function made
; from it. It is here, in memory that is never freed, because the garbage collector may free what a
; function refers to before the function, and that reads its definition to the last.
@launch.name = internal constant [7 x i8] c"launch\00"
@bound.name = internal constant [6 x i8] c"bound\00"
@tilec_method = constant { ptr, ptr, i32, ptr } { ptr @launch.name, ptr @tilec_launch, i32 130,
                                                  ptr null }
@tilec_bound_method = constant { ptr, ptr, i32, ptr } { ptr @bound.name, ptr @tilec_run_bound,
                                                        i32 130, ptr null }

; self is the tuple (address of the table, its owner).
define internal ptr @tilec_launch(ptr %self, ptr %args, i64 %given, ptr %names) {
entry:
  %key = alloca [577 x i64]                          ; 32 arguments of 2 + 2 * 8 words, one more
  %values = alloca [32 x ptr]
  %slots = alloca [129 x i64], align 64              ; 128 slots and the workspace
  %address = call ptr @PyTuple_GetItem(ptr %self, i64 0)
  %table = call ptr @PyLong_AsVoidPtr(ptr %address)
  %registry = load ptr, ptr %table
  %few = icmp sle i64 %given, 32
  br i1 %few, label %begin, label %strange
begin:
  %unnamed = icmp eq ptr %names, null
  br i1 %unnamed, label %read, label %named
named:
  %keywords = call i64 @PyTuple_Size(ptr %names)
  %one = icmp eq i64 %keywords, 1
  br i1 %one, label %compare, label %strange
compare:
  %name = call ptr @PyTuple_GetItem(ptr %names, i64 0)
  %out.name.at = getelementptr %table, ptr %table, i64 0, i32 2
  %out.name = load ptr, ptr %out.name.at
  %last.at = getelementptr ptr, ptr %args, i64 %given
  %last = load ptr, ptr %last.at
  %for.results = icmp eq ptr %name, %out.name
  br i1 %for.results, label %read, label %strange
read:
  %out = phi ptr [ @_Py_NoneStruct, %begin ], [ %last, %compare ]
  %words.read = call i64 @read_all(ptr %registry, ptr %args, i64 %given, ptr %key, i64 0,
                                   ptr %values)
  %unknown = icmp slt i64 %words.read, 0
  br i1 %unknown, label %strange, label %results
results:
  %more = getelementptr ptr, ptr %values, i64 %given
  %free = icmp eq ptr %out, @_Py_NoneStruct
  br i1 %free, label %look, label %theirs
theirs:
  %room = sub i64 32, %given
  %words.out = call i64 @read_results(ptr %registry, ptr %out, ptr %key, i64 %words.read,
                                      ptr %more, i64 %room)
  %unknown.out = icmp slt i64 %words.out, 0
  br i1 %unknown.out, label %strange, label %look
look:
  %words = phi i64 [ %words.read, %results ], [ %words.out, %theirs ]
  %entry.at = call ptr @find(ptr %table, ptr %key, i64 %words)
  %new = icmp eq ptr %entry.at, null
  br i1 %new, label %unseen, label %found
found:
  %how.at = getelementptr %entry, ptr %entry.at, i64 0, i32 10
  %how = load i64, ptr %how.at
  %watched.bit = and i64 %how, 4
  %watched = icmp ne i64 %watched.bit, 0
  br i1 %watched, label %watch, label %plain
watch:
  %wanted = call i32 @requires_gradients(ptr %registry, ptr %args, i64 %given)
  switch i32 %wanted, label %fail [
    i32 0, label %plain
    i32 1, label %recorded
  ]
recorded:
  %answer.recorded = call ptr @miss(ptr %table, ptr %args, i64 %given, ptr %names, ptr %key,
                                    i64 %words, i64 -2)
  ret ptr %answer.recorded
plain:
  %makers.at = getelementptr %entry, ptr %entry.at, i64 0, i32 12
  %makers = load i64, ptr %makers.at
  %makes = icmp ne i64 %makers, 0
  br i1 %makes, label %make, label %given.result
make:
  %made = call ptr @make(ptr %entry.at, ptr %registry, ptr %more)
  %failed = icmp eq ptr %made, null
  br i1 %failed, label %fail, label %fill
given.result:
  call void @Py_IncRef(ptr %out)                     ; None, if the kernel has no results
  br label %fill
fill:
  %result = phi ptr [ %made, %make ], [ %out, %given.result ]
  %filled = call i32 @fill_all(ptr %entry.at, ptr %values, ptr %slots)
  switch i32 %filled, label %drop [
    i32 0, label %run
    i32 1, label %unfit
  ]
run:
  %status = call i64 @call_with_workspace(ptr %entry.at, ptr %slots)
  switch i64 %status, label %trouble [
    i64 0, label %done
    i64 -1, label %drop
  ]
done:
  ret ptr %result
trouble:
  call void @Py_DecRef(ptr %result)
  %told = call ptr @miss(ptr %table, ptr %args, i64 %given, ptr %names, ptr %key, i64 %words,
                         i64 %status)
  ret ptr %told
unfit:
  call void @Py_DecRef(ptr %result)
  br label %unseen
unseen:
  %answer.new = call ptr @miss(ptr %table, ptr %args, i64 %given, ptr %names, ptr %key, i64 %words,
                               i64 0)
  ret ptr %answer.new
strange:
  %answer = call ptr @miss(ptr %table, ptr %args, i64 %given, ptr %names, ptr %key, i64 -1, i64 0)
  ret ptr %answer
drop:
  call void @Py_DecRef(ptr %result)
  br label %fail
fail:
  ret ptr null
}

; Without arguments: what it was bound to. self is the tuple (address of the %bound, its owner).
define internal ptr @tilec_run_bound(ptr %self, ptr %args, i64 %given, ptr %names) {
begin:
  %key = alloca [576 x i64]
  %values = alloca [32 x ptr]
  %slots = alloca [129 x i64], align 64
  %address = call ptr @PyTuple_GetItem(ptr %self, i64 0)
  %bound = call ptr @PyLong_AsVoidPtr(ptr %address)
  %registry = load ptr, ptr %bound
  %entry.at = getelementptr %bound, ptr %bound, i64 0, i32 3
  %entry = load ptr, ptr %entry.at
  %unnamed = icmp eq ptr %names, null
  %few = icmp sle i64 %given, 32
  %usual = and i1 %unnamed, %few
  br i1 %usual, label %counted, label %strange
counted:
  %none = icmp eq i64 %given, 0
  br i1 %none, label %again, label %read
again:                                               ; each call needs a workspace of its own
  %count.at = getelementptr %entry, ptr %entry, i64 0, i32 5
  %count = load i64, ptr %count.at
  %filled.at = getelementptr %bound, ptr %bound, i64 0, i32 6
  %filled = load ptr, ptr %filled.at
  call void @copy(ptr %slots, ptr %filled, i64 %count)
  br label %run
read:
  %size.at = getelementptr %bound, ptr %bound, i64 0, i32 4
  %size = load i64, ptr %size.at
  %first.at = getelementptr %bound, ptr %bound, i64 0, i32 5
  %first = load ptr, ptr %first.at
  call void @copy(ptr %values, ptr %first, i64 %size)
  %words = call i64 @read_all(ptr %registry, ptr %args, i64 %given, ptr %key, i64 0, ptr %values)
  %unknown = icmp slt i64 %words, 0
  br i1 %unknown, label %strange, label %compare
compare:
  %words.at = getelementptr %entry, ptr %entry, i64 0, i32 2
  %its.words = load i64, ptr %words.at
  %as.many = icmp eq i64 %words, %its.words
  br i1 %as.many, label %each, label %other
each:
  %key.at = getelementptr %entry, ptr %entry, i64 0, i32 3
  %its.key = load ptr, ptr %key.at
  %equal = call i1 @same(ptr %its.key, ptr %key, i64 %words)
  br i1 %equal, label %fill, label %other
fill:
  %fits = call i32 @fill_all(ptr %entry, ptr %values, ptr %slots)
  switch i32 %fits, label %fail [
    i32 0, label %run
    i32 1, label %other
  ]
run:
  %status = call i64 @call_with_workspace(ptr %entry, ptr %slots)
  switch i64 %status, label %trouble [
    i64 0, label %done
    i64 -1, label %fail
  ]
done:
  %result.at = getelementptr %bound, ptr %bound, i64 0, i32 7
  %result = load ptr, ptr %result.at
  call void @Py_IncRef(ptr %result)
  ret ptr %result
trouble:
  %told = call ptr @miss(ptr %bound, ptr %args, i64 %given, ptr %names, ptr %key, i64 0,
                         i64 %status)
  ret ptr %told
other:
  %answer.other = call ptr @miss(ptr %bound, ptr %args, i64 %given, ptr %names, ptr %key, i64 0,
                                 i64 0)
  ret ptr %answer.other
strange:
  %answer = call ptr @miss(ptr %bound, ptr %args, i64 %given, ptr %names, ptr %key, i64 -1, i64 0)
  ret ptr %answer
fail:
  ret ptr null
}
