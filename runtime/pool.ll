; The thread pool: tilec_parallel runs fn(args, chunk, tid) for every chunk and returns when all
; are done. Each thread owns one contiguous range of chunks and takes from its head; when it is
; empty it steals from the tails of the others. Completion is counted in chunks, so the caller
; never waits for a worker that has not woken up. A nested or concurrent launch runs inline.
;
; The state is memory that a fork wipes, so that a child starts with an idle pool without workers.
; $SYS_FUTEX and $PAUSE are filled in per processor.

%line = type { i64, [7 x i64] }                     ; a value alone in its cache line
%state = type {
  %line,                                            ; 0 generation (i32), bumped per launch
  %line,                                            ; 1 number of sleeping workers (i32)
  %line,                                            ; 2 chunks done
  { ptr, ptr, [6 x i64] },                          ; 3 fn, args of the launch
  %line,                                            ; 4 busy (i32)
  %line,                                            ; 5 workers started (i32)
  [256 x %line]                                     ; 6 per thread: low chunk << 32 | high chunk
}

@state = internal global ptr null
@threads = internal global i32 1
@spins = internal global i32 0

declare i64 @syscall(i64, ...)
declare i32 @sched_yield()
declare i32 @pthread_create(ptr, ptr, ptr, ptr)
declare i32 @pthread_detach(i64)
declare i32 @pthread_sigmask(i32, ptr, ptr)
declare void @llvm.memset.p0.i64(ptr, i8, i64, i1)
declare i32 @llvm.umin.i32(i32, i32)

define void @tilec_pool_init(ptr %memory, i32 %threads, i32 %spins) {
  store ptr %memory, ptr @state
  store i32 %threads, ptr @threads
  store i32 %spins, ptr @spins
  ret void
}

define i64 @tilec_pool_bytes() {
  %end = getelementptr %state, ptr null, i64 1
  %bytes = ptrtoint ptr %end to i64
  ret i64 %bytes
}

define i32 @tilec_threads() {
  %threads = load i32, ptr @threads
  ret i32 %threads
}

; The next chunk of thread %owner's range, from its head or tail, or -1. The range holds no launch
; number: a chunk is popped only while its launch is unfinished, and fn is read after the pop, so
; a worker that is late from an earlier launch helps with the present one.
define internal i64 @pop(ptr %state, i32 %owner, i1 %head) {
entry:
  %range = getelementptr %state, ptr %state, i64 0, i32 6, i32 %owner
  %first = load atomic i64, ptr %range acquire, align 8
  br label %try
try:
  %seen = phi i64 [ %first, %entry ], [ %now, %take ]
  %low = lshr i64 %seen, 32
  %high = and i64 %seen, 4294967295
  %some = icmp ult i64 %low, %high
  br i1 %some, label %take, label %none
take:
  %rest.head = add i64 %seen, 4294967296
  %rest.tail = sub i64 %seen, 1
  %rest = select i1 %head, i64 %rest.head, i64 %rest.tail
  %swap = cmpxchg weak ptr %range, i64 %seen, i64 %rest acq_rel acquire
  %now = extractvalue { i64, i1 } %swap, 0
  %won = extractvalue { i64, i1 } %swap, 1
  br i1 %won, label %got, label %try
got:
  %last = sub i64 %high, 1
  %chunk = select i1 %head, i64 %low, i64 %last
  ret i64 %chunk
none:
  ret i64 -1
}

; Run what is left of thread %owner's range.
define internal void @drain(ptr %state, i32 %owner, i32 %tid) {
entry:
  %head = icmp eq i32 %owner, %tid
  br label %next
next:
  %ran = phi i64 [ 0, %entry ], [ %ran.more, %run ]
  %chunk = call i64 @pop(ptr %state, i32 %owner, i1 %head)
  %some = icmp sge i64 %chunk, 0
  br i1 %some, label %run, label %empty
run:
  %fn.at = getelementptr %state, ptr %state, i64 0, i32 3, i32 0
  %args.at = getelementptr %state, ptr %state, i64 0, i32 3, i32 1
  %fn = load ptr, ptr %fn.at
  %args = load ptr, ptr %args.at
  call void %fn(ptr %args, i64 %chunk, i32 %tid)
  %ran.more = add i64 %ran, 1
  %done.at = getelementptr %state, ptr %state, i64 0, i32 2
  %counted = atomicrmw add ptr %done.at, i64 1 release, align 8
  br label %next
empty:
  ret void
}

define internal void @work(ptr %state, i32 %tid) {
entry:
  %threads = load i32, ptr @threads
  br label %next
next:
  %distance = phi i32 [ 0, %entry ], [ %distance.next, %next ]
  %sum = add i32 %tid, %distance
  %owner = urem i32 %sum, %threads
  call void @drain(ptr %state, i32 %owner, i32 %tid)
  %distance.next = add i32 %distance, 1
  %more = icmp ult i32 %distance.next, %threads
  br i1 %more, label %next, label %end
end:
  ret void
}

; A worker: spin for a while for the next generation, then sleep on it.
define internal ptr @worker(ptr %argument) {
entry:
  %tid64 = ptrtoint ptr %argument to i64
  %tid = trunc i64 %tid64 to i32
  %state = load ptr, ptr @state
  %generation = getelementptr %state, ptr %state, i64 0, i32 0
  %sleepers = getelementptr %state, ptr %state, i64 0, i32 1
  %spins = load i32, ptr @spins
  br label %look
look:
  %seen = phi i32 [ 0, %entry ], [ %seen, %pause ], [ %seen, %awake ], [ %now, %start ]
  %spun = phi i32 [ 0, %entry ], [ %spun.more, %pause ], [ 0, %awake ], [ 0, %start ]
  %now = load atomic i32, ptr %generation acquire, align 4
  %new = icmp ne i32 %now, %seen
  br i1 %new, label %start, label %wait
wait:
  %spin = icmp ult i32 %spun, %spins
  br i1 %spin, label %pause, label %sleep
pause:
  call void asm sideeffect "$PAUSE", ""()
  %spun.more = add i32 %spun, 1
  br label %look
sleep:
  %were = atomicrmw add ptr %sleepers, i32 1 seq_cst, align 4
  %again = load atomic i32, ptr %generation seq_cst, align 4
  %same = icmp eq i32 %again, %seen
  br i1 %same, label %futex, label %awake
futex:                                              ; 128 = FUTEX_WAIT_PRIVATE
  call i64 (i64, ...) @syscall(i64 $SYS_FUTEX, ptr %generation, i32 128, i32 %seen, ptr null)
  br label %awake
awake:
  %are = atomicrmw sub ptr %sleepers, i32 1 seq_cst, align 4
  br label %look
start:
  call void @work(ptr %state, i32 %tid)
  br label %look
}

; Start the workers, with all signals blocked: those are for the interpreter's threads.
; If the system refuses a thread, its chunks are stolen by the others.
define internal void @start_workers(i32 %threads) noinline {
entry:
  %all = alloca [128 x i8], align 8
  %saved = alloca [128 x i8], align 8
  %thread = alloca i64
  call void @llvm.memset.p0.i64(ptr %all, i8 -1, i64 128, i1 false)
  %masked = call i32 @pthread_sigmask(i32 2, ptr %all, ptr %saved)   ; SIG_SETMASK
  br label %next
next:
  %tid = phi i32 [ 1, %entry ], [ %tid.next, %step ]
  %more = icmp ult i32 %tid, %threads
  br i1 %more, label %create, label %end
create:
  %tid64 = zext i32 %tid to i64
  %argument = inttoptr i64 %tid64 to ptr
  %failed = call i32 @pthread_create(ptr %thread, ptr null, ptr @worker, ptr %argument)
  %ok = icmp eq i32 %failed, 0
  br i1 %ok, label %detach, label %step
detach:
  %id = load i64, ptr %thread
  %detached = call i32 @pthread_detach(i64 %id)
  br label %step
step:
  %tid.next = add i32 %tid, 1
  br label %next
end:
  %restored = call i32 @pthread_sigmask(i32 2, ptr %saved, ptr null)
  ret void
}

define internal void @run_inline(ptr %fn, ptr %args, i64 %chunks) noinline {
entry:
  br label %next
next:
  %chunk = phi i64 [ 0, %entry ], [ %chunk.next, %run ]
  %more = icmp slt i64 %chunk, %chunks
  br i1 %more, label %run, label %end
run:
  call void %fn(ptr %args, i64 %chunk, i32 0)
  %chunk.next = add i64 %chunk, 1
  br label %next
end:
  ret void
}

; Publish the launch and wake as many workers as there are chunks for.
define internal void @launch(ptr %state, i32 %threads, ptr %fn, ptr %args, i64 %chunks) {
entry:
  %fn.at = getelementptr %state, ptr %state, i64 0, i32 3, i32 0
  %args.at = getelementptr %state, ptr %state, i64 0, i32 3, i32 1
  %done.at = getelementptr %state, ptr %state, i64 0, i32 2
  store ptr %fn, ptr %fn.at
  store ptr %args, ptr %args.at
  store atomic i64 0, ptr %done.at monotonic, align 8
  %threads64 = zext i32 %threads to i64
  br label %share
share:
  %t = phi i64 [ 0, %entry ], [ %t.next, %share ]
  %low = phi i64 [ 0, %entry ], [ %high, %share ]
  %t.next = add i64 %t, 1
  %scaled = mul i64 %chunks, %t.next
  %high = udiv i64 %scaled, %threads64
  %low.bits = shl i64 %low, 32
  %range = or i64 %low.bits, %high
  %range.at = getelementptr %state, ptr %state, i64 0, i32 6, i64 %t
  store atomic i64 %range, ptr %range.at release, align 8
  %more = icmp ult i64 %t.next, %threads64
  br i1 %more, label %share, label %publish
publish:
  %generation = getelementptr %state, ptr %state, i64 0, i32 0
  %sleepers = getelementptr %state, ptr %state, i64 0, i32 1
  %old = atomicrmw add ptr %generation, i32 1 seq_cst, align 4
  %asleep = load atomic i32, ptr %sleepers seq_cst, align 4
  %any = icmp ne i32 %asleep, 0
  br i1 %any, label %wake, label %end
wake:                                               ; 129 = FUTEX_WAKE_PRIVATE
  %chunks32 = trunc i64 %chunks to i32
  %useful = call i32 @llvm.umin.i32(i32 %chunks32, i32 %threads)
  %count = sub i32 %useful, 1
  call i64 (i64, ...) @syscall(i64 $SYS_FUTEX, ptr %generation, i32 129, i32 %count)
  br label %end
end:
  ret void
}

; Wait until every chunk is done: those left are being run by a worker now.
define internal void @finish(ptr %state, i64 %chunks) {
entry:
  %done.at = getelementptr %state, ptr %state, i64 0, i32 2
  br label %look
look:
  %spun = phi i32 [ 0, %entry ], [ %spun.more, %pause ], [ %spun, %yield ]
  %done = load atomic i64, ptr %done.at acquire, align 8
  %all = icmp eq i64 %done, %chunks
  br i1 %all, label %end, label %wait
wait:
  %spin = icmp ult i32 %spun, 20000
  br i1 %spin, label %pause, label %yield
pause:
  call void asm sideeffect "$PAUSE", ""()
  %spun.more = add i32 %spun, 1
  br label %look
yield:                                              ; the worker may have lost its processor
  %yielded = call i32 @sched_yield()
  br label %look
end:
  ret void
}

define void @tilec_parallel(ptr %fn, ptr %args, i64 %chunks) {
entry:
  %threads = load i32, ptr @threads
  %state = load ptr, ptr @state
  %single = icmp ult i32 %threads, 2
  %few = icmp slt i64 %chunks, 2
  %many = icmp ugt i64 %chunks, 4294967295          ; more than a range can hold
  %serial.0 = or i1 %single, %few
  %serial = or i1 %serial.0, %many
  br i1 %serial, label %inline, label %claim
claim:
  %busy = getelementptr %state, ptr %state, i64 0, i32 4
  %swap = cmpxchg ptr %busy, i32 0, i32 1 acq_rel monotonic
  %mine = extractvalue { i32, i1 } %swap, 1
  br i1 %mine, label %claimed, label %inline
claimed:
  %started.at = getelementptr %state, ptr %state, i64 0, i32 5
  %started = load i32, ptr %started.at
  %idle = icmp eq i32 %started, 0
  br i1 %idle, label %start, label %go
start:
  store i32 1, ptr %started.at
  call void @start_workers(i32 %threads)
  br label %go
go:
  call void @launch(ptr %state, i32 %threads, ptr %fn, ptr %args, i64 %chunks)
  call void @work(ptr %state, i32 0)
  call void @finish(ptr %state, i64 %chunks)
  store atomic i32 0, ptr %busy release, align 4
  ret void
inline:
  call void @run_inline(ptr %fn, ptr %args, i64 %chunks)
  ret void
}
