// What the checks found, each kind of thing at each pair of places once.
#pragma once

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <map>
#include <string>
#include <tuple>

namespace tilec::emulated {

inline bool same(const Site& a, const Site& b) {
  return a.line == b.line && (a.file == b.file || strcmp(a.file, b.file) == 0);
}

struct Finding {
  const char* kind;
  Site site, other = {};           // where it was noticed, and the other party if there is one
  s64 thread = -1, other_thread = -1;
  s64 address = -1;                // in bytes from the start of the buffer
  std::string buffer = "";         // a parameter's name, or "shared"
  u32 block[3] = {};
  std::string message = "";
};

inline std::string format(const char* text, ...) {
  char buffer[512];
  va_list values;
  va_start(values, text);
  vsnprintf(buffer, sizeof buffer, text, values);
  va_end(values);
  return buffer;
}

inline std::string quoted(const std::string& text) {
  std::string out = "\"";
  for (char c : text) {
    if (c == '"' || c == '\\') out += '\\';
    out += (unsigned char)c < 32 ? ' ' : c;
  }
  return out + '"';
}

class Findings {
 public:
  void add(Finding finding) {
    auto key = std::make_tuple(std::string(finding.kind), std::string(finding.site.file),
                               finding.site.line, finding.other.line, finding.buffer);
    auto& entry = found_[key];
    if (entry.second++ == 0) entry.first = std::move(finding);
  }

  // One JSON object a line.
  std::string json() const {
    std::string out;
    for (const auto& [key, entry] : found_) out += line(entry.first, entry.second);
    return out;
  }

 private:
  static std::string line(const Finding& f, u64 count) {
    std::string threads = std::to_string(f.thread);
    if (f.other_thread >= 0) threads += ", " + std::to_string(f.other_thread);
    return format("{\"kind\": \"%s\", \"line\": %d, \"other_line\": %d, \"threads\": [%s], ",
                  f.kind, f.site.line, f.other.line, threads.c_str()) +
           format("\"block\": [%u, %u, %u], \"address\": %lld, \"count\": %llu, ", f.block[0],
                  f.block[1], f.block[2], f.address, count) +
           "\"file\": " + quoted(f.site.file) + ", \"other_file\": " + quoted(f.other.file) +
           ", \"buffer\": " + quoted(f.buffer) + ", \"message\": " + quoted(f.message) + "}\n";
  }

  std::map<std::tuple<std::string, std::string, int, int, std::string>,
           std::pair<Finding, u64>> found_;
};

}  // namespace tilec::emulated
