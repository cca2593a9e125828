; Launches of a GPU program by a plan (plan.py) whose address is in the first slot; the arguments
; are in those behind. Returns 0 or a status: in the low half the driver's error, or -1 where the
; stream has no workspace; above it what was being done: 1 the stream, 2 the context, 3 a tensor map,
; 4 the workspace, 16 + i launch i.

%plan = type {
  ptr, ptr, ptr, ptr, ptr,                          ; 0 cuLaunchKernel, 1 cuCtxGetCurrent,
                                                    ; 2 cuCtxPushCurrent, 3 cuCtxPopCurrent,
                                                    ; 4 cuTensorMapReplaceAddress
  ptr, i32, i32,                                    ; 5 the stream's function or null, 6 the kind
                                                    ; of device, 7 its number
  ptr, i64, ptr,                                    ; 8 context, 9 launches, 10 their descriptions
  i64, ptr                                          ; 11 needs a workspace, 12 the first of those
}
%launch = type { ptr, i32, i32, i32, i32, ptr }     ; function, blocks, threads, shared bytes,
                                                    ; parameters, their sources
%source = type { i64, i64, i64 }                    ; kind, value, offset
%workspace = type { ptr, ptr, ptr }                 ; next, stream, address
%map = type { [128 x i8], ptr }                     ; encoded for an address, that address

declare void @llvm.memcpy.p0.p0.i64(ptr, ptr, i64, i1)

define internal i64 @failure(i32 %code, i64 %doing) alwaysinline {
  %low = zext i32 %code to i64
  %high = shl i64 %doing, 32
  %status = or i64 %high, %low
  ret i64 %status
}

; The current stream, as the library of the tensors has it; null is the default stream.
define internal i32 @current_stream(ptr %plan, ptr %out) alwaysinline {
  store ptr null, ptr %out
  %function.at = getelementptr %plan, ptr %plan, i64 0, i32 5
  %function = load ptr, ptr %function.at
  %none = icmp eq ptr %function, null
  br i1 %none, label %default, label %ask
default:
  ret i32 0
ask:
  %kind.at = getelementptr %plan, ptr %plan, i64 0, i32 6
  %kind = load i32, ptr %kind.at
  %device.at = getelementptr %plan, ptr %plan, i64 0, i32 7
  %device = load i32, ptr %device.at
  %code = call i32 %function(i32 %kind, i32 %device, ptr %out)
  ret i32 %code
}

; The workspace of a stream: launches on one stream follow each other, and may share it.
define internal ptr @workspace(ptr %plan, ptr %stream) alwaysinline {
entry:
  %first.at = getelementptr %plan, ptr %plan, i64 0, i32 12
  br label %next
next:
  %from = phi ptr [ %first.at, %entry ], [ %one, %look ]
  %one = load atomic ptr, ptr %from acquire, align 8  ; one starts with the next
  %end = icmp eq ptr %one, null
  br i1 %end, label %none, label %look
look:
  %its.at = getelementptr %workspace, ptr %one, i64 0, i32 1
  %its = load ptr, ptr %its.at
  %same = icmp eq ptr %its, %stream
  %any = icmp eq ptr %its, inttoptr (i64 -1 to ptr)  ; of all streams
  %fits = or i1 %same, %any
  br i1 %fits, label %found, label %next
found:
  %address.at = getelementptr %workspace, ptr %one, i64 0, i32 2
  %address = load ptr, ptr %address.at
  ret ptr %address
none:
  ret ptr null
}

; Write where a parameter's bytes are; `word` and `map` are room for those that are made now.
define internal i32 @parameter(ptr %plan, ptr %source, ptr %args, ptr %workspace, ptr %to,
                               ptr %word, ptr %map) {
  %kind = load i64, ptr %source
  %value.at = getelementptr %source, ptr %source, i64 0, i32 1
  %value = load i64, ptr %value.at
  %offset.at = getelementptr %source, ptr %source, i64 0, i32 2
  %offset = load i64, ptr %offset.at
  switch i64 %kind, label %constant [
    i64 0, label %argument
    i64 2, label %own
    i64 3, label %map.argument
    i64 4, label %map.own
  ]
argument:
  %slot = getelementptr i64, ptr %args, i64 %value
  store ptr %slot, ptr %to
  ret i32 0
constant:
  %address = inttoptr i64 %value to ptr
  store ptr %address, ptr %to
  ret i32 0
own:
  %part = getelementptr i8, ptr %workspace, i64 %offset
  store ptr %part, ptr %word
  store ptr %word, ptr %to
  ret i32 0
map.argument:
  %slot.map = getelementptr ptr, ptr %args, i64 %offset
  %tensor = load ptr, ptr %slot.map
  br label %compare
map.own:
  %part.map = getelementptr i8, ptr %workspace, i64 %offset
  br label %compare
compare:
  %memory = phi ptr [ %tensor, %map.argument ], [ %part.map, %map.own ]
  %made = inttoptr i64 %value to ptr
  store ptr %made, ptr %to
  %for.at = getelementptr %map, ptr %made, i64 0, i32 1
  %for = load ptr, ptr %for.at
  %fits = icmp eq ptr %for, %memory
  br i1 %fits, label %done, label %replace
replace:
  call void @llvm.memcpy.p0.p0.i64(ptr %map, ptr %made, i64 128, i1 false)
  store ptr %map, ptr %to
  %function.at = getelementptr %plan, ptr %plan, i64 0, i32 4
  %function = load ptr, ptr %function.at
  %code = call i32 %function(ptr %map, ptr %memory)
  ret i32 %code
done:
  ret i32 0
}

define internal i64 @one_launch(ptr %plan, ptr %launch, i64 %index, ptr %args, ptr %stream,
                                ptr %workspace) {
entry:
  %parameters = alloca [160 x ptr]
  %words = alloca [160 x ptr]
  %maps = alloca [16 x [128 x i8]], align 128
  %blocks.at = getelementptr %launch, ptr %launch, i64 0, i32 1
  %blocks = load i32, ptr %blocks.at
  %nothing = icmp eq i32 %blocks, 0                 ; a tensor has no elements
  br i1 %nothing, label %done, label %begin
begin:
  %count.at = getelementptr %launch, ptr %launch, i64 0, i32 4
  %count32 = load i32, ptr %count.at
  %count = zext i32 %count32 to i64
  %first.at = getelementptr %launch, ptr %launch, i64 0, i32 5
  %first = load ptr, ptr %first.at
  br label %next
next:
  %i = phi i64 [ 0, %begin ], [ %i.next, %placed ]
  %m = phi i64 [ 0, %begin ], [ %m.next, %placed ]
  %more = icmp ult i64 %i, %count
  br i1 %more, label %one, label %go
one:
  %source = getelementptr %source, ptr %first, i64 %i
  %to = getelementptr ptr, ptr %parameters, i64 %i
  %word = getelementptr ptr, ptr %words, i64 %i
  %map = getelementptr [128 x i8], ptr %maps, i64 %m
  %wrong = call i32 @parameter(ptr %plan, ptr %source, ptr %args, ptr %workspace, ptr %to,
                               ptr %word, ptr %map)
  %fine = icmp eq i32 %wrong, 0
  br i1 %fine, label %placed, label %no.map
placed:
  %kind = load i64, ptr %source
  %is.map = icmp uge i64 %kind, 3
  %step = zext i1 %is.map to i64
  %m.next = add i64 %m, %step
  %i.next = add i64 %i, 1
  br label %next
go:
  %function = load ptr, ptr %launch
  %threads.at = getelementptr %launch, ptr %launch, i64 0, i32 2
  %threads = load i32, ptr %threads.at
  %shared.at = getelementptr %launch, ptr %launch, i64 0, i32 3
  %shared = load i32, ptr %shared.at
  %driver = load ptr, ptr %plan
  %code = call i32 %driver(ptr %function, i32 %blocks, i32 1, i32 1, i32 %threads, i32 1, i32 1,
                           i32 %shared, ptr %stream, ptr %parameters, ptr null)
  %well = icmp eq i32 %code, 0
  br i1 %well, label %done, label %failed
failed:
  %doing = add i64 %index, 16
  %status = call i64 @failure(i32 %code, i64 %doing)
  ret i64 %status
no.map:
  %status.map = call i64 @failure(i32 %wrong, i64 3)
  ret i64 %status.map
done:
  ret i64 0
}

define internal i64 @all_launches(ptr %plan, ptr %args, ptr %stream, ptr %workspace) {
entry:
  %count.at = getelementptr %plan, ptr %plan, i64 0, i32 9
  %count = load i64, ptr %count.at
  %first.at = getelementptr %plan, ptr %plan, i64 0, i32 10
  %first = load ptr, ptr %first.at
  br label %next
next:
  %i = phi i64 [ 0, %entry ], [ %i.next, %launched ]
  %more = icmp ult i64 %i, %count
  br i1 %more, label %one, label %done
one:
  %launch = getelementptr %launch, ptr %first, i64 %i
  %status = call i64 @one_launch(ptr %plan, ptr %launch, i64 %i, ptr %args, ptr %stream,
                                 ptr %workspace)
  %well = icmp eq i64 %status, 0
  br i1 %well, label %launched, label %failed
launched:
  %i.next = add i64 %i, 1
  br label %next
failed:
  ret i64 %status
done:
  ret i64 0
}

; Launch with the plan's context as the current one; another one is put back afterwards.
define internal i64 @in_context(ptr %plan, ptr %args, ptr %stream, ptr %workspace) {
  %current = alloca ptr
  %get.at = getelementptr %plan, ptr %plan, i64 0, i32 1
  %get = load ptr, ptr %get.at
  %code.get = call i32 %get(ptr %current)
  %got = icmp eq i32 %code.get, 0
  br i1 %got, label %compare, label %lost
compare:
  %now = load ptr, ptr %current
  %context.at = getelementptr %plan, ptr %plan, i64 0, i32 8
  %context = load ptr, ptr %context.at
  %same = icmp eq ptr %now, %context
  br i1 %same, label %here, label %elsewhere
here:
  %status = call i64 @all_launches(ptr %plan, ptr %args, ptr %stream, ptr %workspace)
  ret i64 %status
elsewhere:
  %push.at = getelementptr %plan, ptr %plan, i64 0, i32 2
  %push = load ptr, ptr %push.at
  %code.push = call i32 %push(ptr %context)
  %pushed = icmp eq i32 %code.push, 0
  br i1 %pushed, label %there, label %lost
there:
  %status.there = call i64 @all_launches(ptr %plan, ptr %args, ptr %stream, ptr %workspace)
  %pop.at = getelementptr %plan, ptr %plan, i64 0, i32 3
  %pop = load ptr, ptr %pop.at
  %code.pop = call i32 %pop(ptr %current)
  ret i64 %status.there
lost:
  %code = phi i32 [ %code.get, %0 ], [ %code.push, %elsewhere ]
  %status.lost = call i64 @failure(i32 %code, i64 2)
  ret i64 %status.lost
}

define i64 @tilec_gpu(ptr %slots) {
  %stream.at = alloca ptr
  %plan = load ptr, ptr %slots
  %args = getelementptr i64, ptr %slots, i64 1
  %code = call i32 @current_stream(ptr %plan, ptr %stream.at)
  %known = icmp eq i32 %code, 0
  br i1 %known, label %streamed, label %unknown
streamed:
  %stream = load ptr, ptr %stream.at
  %needs.at = getelementptr %plan, ptr %plan, i64 0, i32 11
  %needs = load i64, ptr %needs.at
  %free = icmp eq i64 %needs, 0
  br i1 %free, label %plain, label %search
plain:
  %status = call i64 @in_context(ptr %plan, ptr %args, ptr %stream, ptr null)
  ret i64 %status
search:
  %workspace = call ptr @workspace(ptr %plan, ptr %stream)
  %missing = icmp eq ptr %workspace, null
  br i1 %missing, label %ask, label %own
own:
  %status.own = call i64 @in_context(ptr %plan, ptr %args, ptr %stream, ptr %workspace)
  ret i64 %status.own
ask:
  %status.ask = call i64 @failure(i32 -1, i64 4)
  ret i64 %status.ask
unknown:
  %status.stream = call i64 @failure(i32 %code, i64 1)
  ret i64 %status.stream
}
