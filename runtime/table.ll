; The compiled entries of a kernel by the keys of calls, for launch.ll: buckets of linked entries,
; searched and added to by threads that hold the GIL.

%table = type { ptr, ptr, ptr, [256 x ptr] }        ; registry, miss callable, the keyword for
                                                    ; results or null, buckets
%slot = type { i64, i64, i64, i64, i64 }            ; operation, argument, component, low, high
%entry = type {
  ptr, i64, i64, ptr,                               ; 0 next, 1 hash, 2 words, 3 key
  ptr, i64, ptr,                                    ; 4 function, 5 slots, 6 slot descriptions
  i64, ptr, ptr, i64,                               ; 7 workspace bytes, 8 address, 9 of a word:
                                                    ; whether a call uses it, 10 how:
                                                    ; 1 without the GIL, 2 returns a status,
                                                    ; 4 tensors may require gradients
  ptr, i64                                          ; 11 makers of results: Python callables, 12
}                                                   ; how many

define internal i64 @hash(ptr %key, i64 %words) {
entry:
  br label %next
next:
  %i = phi i64 [ 0, %entry ], [ %i.next, %one ]
  %h = phi i64 [ %words, %entry ], [ %mixed, %one ]
  %more = icmp ult i64 %i, %words
  br i1 %more, label %one, label %end
one:
  %at = getelementptr i64, ptr %key, i64 %i
  %word = load i64, ptr %at
  %xor = xor i64 %h, %word
  %product = mul i64 %xor, -7046029254386353131      ; 2^64 / golden ratio, as in Fibonacci hashing
  %high = lshr i64 %product, 32
  %mixed = xor i64 %product, %high
  %i.next = add i64 %i, 1
  br label %next
end:
  ret i64 %h
}

define internal ptr @bucket(ptr %table, i64 %hash) alwaysinline {
  %index = and i64 %hash, 255
  %at = getelementptr %table, ptr %table, i64 0, i32 3, i64 %index
  ret ptr %at
}

; Add an entry in front of its bucket. The caller holds the GIL, as does every reader.
define void @tilec_insert(ptr %table, ptr %entry) {
  %words.at = getelementptr %entry, ptr %entry, i64 0, i32 2
  %key.at = getelementptr %entry, ptr %entry, i64 0, i32 3
  %words = load i64, ptr %words.at
  %key = load ptr, ptr %key.at
  %hash = call i64 @hash(ptr %key, i64 %words)
  %hash.at = getelementptr %entry, ptr %entry, i64 0, i32 1
  store i64 %hash, ptr %hash.at
  %bucket = call ptr @bucket(ptr %table, i64 %hash)
  %first = load ptr, ptr %bucket
  store ptr %first, ptr %entry
  store ptr %entry, ptr %bucket
  ret void
}

define internal i1 @same(ptr %left, ptr %right, i64 %words) {
entry:
  br label %next
next:
  %i = phi i64 [ 0, %entry ], [ %i.next, %one ]
  %more = icmp ult i64 %i, %words
  br i1 %more, label %one, label %yes
one:
  %left.at = getelementptr i64, ptr %left, i64 %i
  %right.at = getelementptr i64, ptr %right, i64 %i
  %l = load i64, ptr %left.at
  %r = load i64, ptr %right.at
  %i.next = add i64 %i, 1
  %equal = icmp eq i64 %l, %r
  br i1 %equal, label %next, label %no
yes:
  ret i1 true
no:
  ret i1 false
}

define internal ptr @find(ptr %table, ptr %key, i64 %words) {
entry:
  %hash = call i64 @hash(ptr %key, i64 %words)
  %bucket = call ptr @bucket(ptr %table, i64 %hash)
  br label %next
next:
  %from = phi ptr [ %bucket, %entry ], [ %entry.at, %look ], [ %entry.at, %compare ]
  %entry.at = load ptr, ptr %from                    ; an entry starts with the next one
  %end = icmp eq ptr %entry.at, null
  br i1 %end, label %done, label %look
look:
  %hash.at = getelementptr %entry, ptr %entry.at, i64 0, i32 1
  %its.hash = load i64, ptr %hash.at
  %words.at = getelementptr %entry, ptr %entry.at, i64 0, i32 2
  %its.words = load i64, ptr %words.at
  %same.hash = icmp eq i64 %its.hash, %hash
  %same.words = icmp eq i64 %its.words, %words
  %maybe = and i1 %same.hash, %same.words
  br i1 %maybe, label %compare, label %next
compare:
  %key.at = getelementptr %entry, ptr %entry.at, i64 0, i32 3
  %its.key = load ptr, ptr %key.at
  %equal = call i1 @same(ptr %its.key, ptr %key, i64 %words)
  br i1 %equal, label %done, label %next
done:
  ret ptr %entry.at
}
