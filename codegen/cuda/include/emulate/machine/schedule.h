// Which thread runs next. With seed 0 threads take turns; with another seed chance decides.
#pragma once

namespace tilec::emulated {

inline Thread* next_thread() {
  auto& ready = machine->ready;
  if (machine->launch.seed != 0) {
    machine->random = machine->random * 6364136223846793005ull + 1442695040888963407ull;
    std::swap(ready.front(), ready[(machine->random >> 33) % ready.size()]);
  }
  Thread* next = ready.front();
  ready.pop_front();
  return next;
}

inline void enter(Context& from, Thread& to) {
  machine->current = &to;
  position = &to.position;
  from.leave_for(to.context);
}

// Leave the running thread, which comes back when someone wakes it. If none is left to run, the
// host decides.
inline void leave() {
  Thread& self = *machine->current;
  if (machine->ready.empty()) {
    self.context.leave_for(machine->host);
    return;
  }
  Thread* next = next_thread();
  if (next != &self) enter(self.context, *next);
}

inline void park(Waiting waiting) {
  machine->current->waiting = waiting;
  leave();
}

inline void wake(Thread* thread) {
  machine->ready.push_back(thread);
  machine->idle = 0;
}

// Let the others run.
inline void yield(const char* what, Site site) {
  Thread& self = *machine->current;
  self.waiting = {what, site};
  machine->ready.push_back(&self);
  leave();
}

// Let the others run and look again. Where all do nothing but this for long, nothing will change,
// and the host takes over as if none could run.
inline void spin(const char* what, Site site) {
  machine->current->waiting = {what, site};
  if (++machine->idle > 10000 + 1000 * machine->ready.size())
    machine->current->context.leave_for(machine->host);
  yield(what, site);
}

// Something changed that another thread may wait for.
inline void progress() { machine->idle = 0; }

}  // namespace tilec::emulated
