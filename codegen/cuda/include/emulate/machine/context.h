// Contexts of execution: a stack, and the switch from one to another.
#pragma once

#include <stddef.h>
#include <sys/mman.h>

#if defined(TILEC_UCONTEXT) || !(defined(__x86_64__) || defined(__aarch64__))
#define TILEC_ASSEMBLY 0
#include <ucontext.h>
#else
#define TILEC_ASSEMBLY 1
#endif

namespace tilec::emulated {

#if TILEC_ASSEMBLY
// Save what a call preserves on the stack and the stack's pointer in *from; then the other way
// round from `to`. Floating-point modes are left alone: no kernel changes them.
extern "C" void tilec_switch(void** from, void* to);
#ifdef __x86_64__
asm(R"(
.text
.p2align 4
.hidden tilec_switch
.globl tilec_switch
.type tilec_switch, @function
tilec_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size tilec_switch, . - tilec_switch
)");
constexpr size_t SAVED_WORDS = 8;   // six registers, the return address, one word to align calls
constexpr size_t RETURN_WORD = 6;
#else
asm(R"(
.text
.p2align 4
.hidden tilec_switch
.globl tilec_switch
.type tilec_switch, %function
tilec_switch:
  sub sp, sp, #160
  stp x19, x20, [sp, #0]
  stp x21, x22, [sp, #16]
  stp x23, x24, [sp, #32]
  stp x25, x26, [sp, #48]
  stp x27, x28, [sp, #64]
  stp x29, x30, [sp, #80]
  stp d8, d9, [sp, #96]
  stp d10, d11, [sp, #112]
  stp d12, d13, [sp, #128]
  stp d14, d15, [sp, #144]
  mov x9, sp
  str x9, [x0]
  mov sp, x1
  ldp x19, x20, [sp, #0]
  ldp x21, x22, [sp, #16]
  ldp x23, x24, [sp, #32]
  ldp x25, x26, [sp, #48]
  ldp x27, x28, [sp, #64]
  ldp x29, x30, [sp, #80]
  ldp d8, d9, [sp, #96]
  ldp d10, d11, [sp, #112]
  ldp d12, d13, [sp, #128]
  ldp d14, d15, [sp, #144]
  add sp, sp, #160
  ret
.size tilec_switch, . - tilec_switch
)");
constexpr size_t SAVED_WORDS = 20;
constexpr size_t RETURN_WORD = 11;
#endif
#endif

class Context {
 public:
  // Make `body` start on this stack when the context is first entered. It must never return.
  void prepare(char* stack, size_t bytes, void (*body)()) {
#if TILEC_ASSEMBLY
    void** words = (void**)(stack + bytes - 64) - SAVED_WORDS;
    for (size_t i = 0; i < SAVED_WORDS; i++) words[i] = nullptr;
    words[RETURN_WORD] = (void*)body;
    pointer_ = words;
#else
    getcontext(&saved_);
    saved_.uc_stack.ss_sp = stack;
    saved_.uc_stack.ss_size = bytes;
    saved_.uc_link = nullptr;
    makecontext(&saved_, body, 0);
#endif
  }

  // Go on in `to`; comes back when this context is entered again.
  void leave_for(Context& to) {
#if TILEC_ASSEMBLY
    tilec_switch(&pointer_, to.pointer_);
#else
    swapcontext(&saved_, &to.saved_);
#endif
  }

 private:
#if TILEC_ASSEMBLY
  void* pointer_ = nullptr;
#else
  ucontext_t saved_;
#endif
};

// Stacks of one size, each with a page below it that faults: an overflow ends the process rather
// than change another thread. Pages that are not touched take no memory.
class Stacks {
 public:
  static constexpr size_t BYTES = 256 << 10, GUARD = 64 << 10;
  explicit Stacks(size_t count) : bytes_(count * (BYTES + GUARD)) {
    int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
    void* found = mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, flags, -1, 0);
    base_ = found == MAP_FAILED ? nullptr : (char*)found;
    for (size_t i = 0; base_ && i < count; i++)
      mprotect(base_ + i * (BYTES + GUARD), GUARD, PROT_NONE);
  }
  ~Stacks() {
    if (base_) munmap(base_, bytes_);
  }
  Stacks(const Stacks&) = delete;
  Stacks& operator=(const Stacks&) = delete;
  bool made() const { return base_ != nullptr; }
  char* stack(size_t i) const { return base_ + i * (BYTES + GUARD) + GUARD; }

 private:
  size_t bytes_;
  char* base_;
};

}  // namespace tilec::emulated
