#include "cpus.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#if defined(__linux__)
#include <sched.h>
#elif !defined(_WIN32)
#include <unistd.h>
#endif

namespace cloister {
namespace {

constexpr size_t kMaxFileBytes = 1 << 20;  // mountinfo of a host full of containers is some 100 KiB

// False when the file cannot be read.
bool read_file(const std::string& path, std::string* text) {
  text->clear();
  std::FILE* file = std::fopen(path.c_str(), "re");
  if (file == nullptr) return false;
  char block[4096];
  size_t count;
  while (text->size() < kMaxFileBytes && (count = std::fread(block, 1, sizeof block, file)) > 0)
    text->append(block, count);
  std::fclose(file);
  return true;
}

std::vector<std::string_view> split(std::string_view text, char separator) {
  std::vector<std::string_view> parts;
  for (size_t from = 0; from <= text.size();) {
    const size_t to = std::min(text.find(separator, from), text.size());
    parts.push_back(text.substr(from, to - from));
    from = to + 1;
  }
  return parts;
}

bool lists(std::string_view names, std::string_view name) {
  for (const std::string_view one : split(names, ',')) {
    if (one == name) return true;
  }
  return false;
}

// mountinfo writes spaces and the like as \ooo.
std::string unescaped(std::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size(); i++) {
    if (text[i] == '\\' && i + 3 < text.size()) {
      out += static_cast<char>((text[i + 1] - '0') * 64 + (text[i + 2] - '0') * 8 + (text[i + 3] - '0'));
      i += 3;
    } else {
      out += text[i];
    }
  }
  return out;
}

// A mounted hierarchy of control groups.
struct Hierarchy {
  bool v2;
  std::string root;   // which group of the hierarchy is mounted
  std::string point;  // where
};

// proc(5), mountinfo: id parent device root point options [optional...] - type source superoptions
std::vector<Hierarchy> hierarchies(const std::string& mountinfo) {
  std::vector<Hierarchy> found;
  for (const std::string_view line : split(mountinfo, '\n')) {
    const std::vector<std::string_view> fields = split(line, ' ');
    const auto dash = std::find(fields.begin(), fields.end(), "-");
    if (dash - fields.begin() < 6 || fields.end() - dash < 4) continue;
    const bool v2 = dash[1] == "cgroup2";
    if (v2 || (dash[1] == "cgroup" && lists(dash[3], "cpu")))
      found.push_back({v2, unescaped(fields[3]), unescaped(fields[4])});
  }
  return found;
}

// cgroups(7), /proc/self/cgroup: id:controllers:path. The unified hierarchy has id 0 and no controllers.
std::string group_of(const std::string& groups, bool v2) {
  for (const std::string_view line : split(groups, '\n')) {
    const size_t first = line.find(':'), second = first == line.npos ? line.npos : line.find(':', first + 1);
    if (second == line.npos) continue;
    const std::string_view names = line.substr(first + 1, second - first - 1);
    if (v2 ? line.substr(0, second) == "0:" : lists(names, "cpu")) return std::string(line.substr(second + 1));
  }
  return "/";
}

// CPUs' worth of time that the group in `folder` allows itself; 0: no limit, or no such file.
double quota_of(const std::string& folder, bool v2) {
  std::string text;
  double quota = 0, period = 0;
  if (v2) {
    if (!read_file(folder + "/cpu.max", &text)) return 0;  // "max 100000" or "150000 100000"
    char* end = nullptr;
    quota = std::strtod(text.c_str(), &end);  // 0 for "max"
    if (end != nullptr) period = std::strtod(end, nullptr);
  } else {
    if (!read_file(folder + "/cpu.cfs_quota_us", &text)) return 0;
    quota = std::strtod(text.c_str(), nullptr);  // -1: no limit
    if (!read_file(folder + "/cpu.cfs_period_us", &text)) return 0;
    period = std::strtod(text.c_str(), nullptr);
  }
  return std::isfinite(quota) && quota > 0 && period > 0 ? quota / period : 0;
}

// The least that the group of this process and those above it allow; 0: no limit.
double quota_in(const std::string& prefix, const Hierarchy& hierarchy, std::string group) {
  // The path is that of the whole hierarchy; a container sees only what is mounted. Where it does not lie below the
  // mounted group (namespaces write "/.."), what is mounted is the nearest group that can be read.
  if (hierarchy.root != "/") {
    const bool below = group.compare(0, hierarchy.root.size(), hierarchy.root) == 0 &&
                       (group.size() == hierarchy.root.size() || group[hierarchy.root.size()] == '/');
    group = below ? group.substr(hierarchy.root.size()) : "/";
  }
  if (group.find("/..") != group.npos) group = "/";
  double least = 0;
  for (;;) {
    const double quota = quota_of(prefix + hierarchy.point + group, hierarchy.v2);
    if (quota > 0) least = least > 0 ? std::min(least, quota) : quota;
    if (group.empty() || group == "/") return least;
    group.resize(group.rfind('/'));
  }
}

uint32_t allowed_cpus() {
#if defined(__linux__)
  // The kernel refuses a mask that is smaller than its own, so it grows up to 65,536 CPUs.
  for (size_t words = 16; words <= 1024; words *= 4) {
    std::vector<unsigned long> mask(words);
    if (sched_getaffinity(0, words * sizeof(unsigned long), reinterpret_cast<cpu_set_t*>(mask.data())) == 0) {
      uint32_t count = 0;
      for (const unsigned long word : mask) count += static_cast<uint32_t>(__builtin_popcountl(word));
      return std::max(count, 1u);
    }
  }
  return 1;
#elif defined(_WIN32)
  return 1;
#else
  const long count = sysconf(_SC_NPROCESSORS_ONLN);
  return count > 1 ? static_cast<uint32_t>(count) : 1;
#endif
}

}  // namespace

Cpus find_cpus(const char* root) {
  Cpus cpus;
  cpus.affinity = allowed_cpus();
  const std::string prefix = root;
  std::string mountinfo, groups;
  if (read_file(prefix + "/proc/self/mountinfo", &mountinfo) && read_file(prefix + "/proc/self/cgroup", &groups)) {
    for (const Hierarchy& hierarchy : hierarchies(mountinfo)) {
      const double quota = quota_in(prefix, hierarchy, group_of(groups, hierarchy.v2));
      if (quota > 0) cpus.quota = cpus.quota > 0 ? std::min(cpus.quota, quota) : quota;
    }
  }
  cpus.threads = cpus.affinity;
  if (cpus.quota > 0 && cpus.quota < cpus.threads) cpus.threads = std::max(static_cast<uint32_t>(cpus.quota), 1u);
  return cpus;
}

}  // namespace cloister
