// How the host calls a kernel: by an array of pointers to its arguments, as cuLaunchKernel does.
#pragma once

namespace tilec::emulated {

// What a parameter is: p(ointer), t(ensor map), f(loat) or i(nteger), and its size.
template <class T> struct Kind {
  static constexpr char letter = T(0.5) == T(0) ? 'i' : 'f';
};
template <> struct Kind<bool> { static constexpr char letter = 'i'; };
template <class T> struct Kind<T*> { static constexpr char letter = 'p'; };
template <> struct Kind<TensorMap> { static constexpr char letter = 't'; };

template <u32...> struct Indices {};
template <u32 n, u32... rest> struct Counted : Counted<n - 1, n - 1, rest...> {};
template <u32... all> struct Counted<0, all...> { using type = Indices<all...>; };

template <class... Parameters> struct Entry {
  static constexpr char letters[] = {Kind<Parameters>::letter..., 0};
  static constexpr u32 sizes[] = {sizeof(Parameters)..., 0};
  template <u32... all>
  static void call(void (*kernel)(Parameters...), void** arguments, Indices<all...>) {
    kernel(*(Parameters*)arguments[all]...);
  }
};
template <class... Parameters> Entry<Parameters...> entry_of(void (*)(Parameters...));
template <class... Parameters>
void enter(void (*kernel)(Parameters...), void** arguments) {
  Entry<Parameters...>::call(kernel, arguments, typename Counted<sizeof...(Parameters)>::type());
}

}  // namespace tilec::emulated

// The functions by which a library of one kernel is entered; the host puts this below the kernel.
#define TILEC_ENTRY(kernel) \
  TILEC_EXPORT void tilec_enter(void** arguments) { \
    tilec::emulated::enter(kernel, arguments); \
  } \
  TILEC_EXPORT const char* tilec_letters() { \
    return decltype(tilec::emulated::entry_of(kernel))::letters; \
  } \
  TILEC_EXPORT const unsigned* tilec_sizes() { \
    return decltype(tilec::emulated::entry_of(kernel))::sizes; \
  }
