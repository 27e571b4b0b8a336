// cloister-launch: closes every door that a worker does not need, then becomes it. Linux only.
//
//   cloister-launch --parent PID [--read PATH]... [--run PATH]... [--group LAYER=FOLDER]... [--keep FD]... [--env NAME=VALUE]...
//                   [--require LAYER]... (--probe | -- FILE [ARGUMENT]...)
//
// It takes nothing from its environment. The doors have to be closed before the worker's program starts: Landlock holds for the
// thread that asks and for what comes of it, and a Node that runs has threads already (docs/adr/0028-launcher-before-the-worker.md).
//
// Standard output carries the report, one line a layer: `LAYER <tab> active|unavailable <tab> WHAT`. It is complete when it ends,
// which it does when FILE is started; FILE has the null device there. A layer that is required and fails is one line on standard
// error, and the exit code 69; a command line of another form is 64, a FILE that does not start 71, a parent that is gone 75.
//
// It allocates on no heap but through the C library's start, is linked statically where that is possible, and runs once per worker.
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <linux/securebits.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <initializer_list>

#include "syscalls.h"

namespace cloister {
namespace {

enum Exit : int { kUsage = 64, kLayer = 69, kNoStart = 71, kOrphan = 75 };

enum Layer : int {
  kNoNewPrivileges,
  kFilesystem,
  kSystemCalls,
  kNetwork,
  kNamespaces,
  kResourceLimits,
  kParentDeath,
  kMemoryCap,
  kTaskCap,
  kCpuShare,
  kLayers,
};

constexpr const char* kNames[kLayers] = {
    "noNewPrivileges", "filesystem",  "systemCalls", "network", "namespaces",
    "resourceLimits",  "parentDeath", "memoryCap",   "taskCap", "cpuShare",
};

constexpr int kMaxItems = 256;
constexpr int kMaxKept = 16;
constexpr int kReportBytes = 4096;

struct Text {
  const char* items[kMaxItems];
  int count = 0;
};

struct Description {
  pid_t parent = 0;
  Text reads;
  Text runs;
  Text environment;
  const char* groups[kLayers] = {};
  int keep[kMaxKept];
  int kept = 0;
  bool required[kLayers] = {};
  bool active[kLayers] = {};  // what was told so far
  bool probe = false;
  char** command = nullptr;  // FILE and its arguments, ends with null
};

Description description;
char report[kReportBytes];
int report_length = 0;
// Above every descriptor that the worker may have: see limit_resources().
int report_fd = -1;
int program_fd = -1;

[[noreturn]] void fail(int code, const char* format, ...) {
  char line[1024];
  int length = snprintf(line, sizeof line, "cloister-launch: ");
  va_list arguments;
  va_start(arguments, format);
  length += vsnprintf(line + length, sizeof line - static_cast<size_t>(length) - 1, format, arguments);
  va_end(arguments);
  if (length > static_cast<int>(sizeof line) - 2) length = sizeof line - 2;
  line[length++] = '\n';
  if (write(STDERR_FILENO, line, static_cast<size_t>(length)) < 0) _exit(code);
  _exit(code);
}

void tell(Layer layer, bool active, const char* what) {
  if (!active && description.required[layer]) fail(kLayer, "%s: %s", kNames[layer], what);
  description.active[layer] = active;
  const int length = snprintf(report + report_length, sizeof report - static_cast<size_t>(report_length), "%s\t%s\t%s\n", kNames[layer],
                              active ? "active" : "unavailable", what);
  report_length += length;
  if (report_length >= kReportBytes) fail(kUsage, "the report does not fit %d bytes", kReportBytes);
}

// ---- the description ------------------------------------------------------------------------------------------------------

long number(const char* text, long low, long high, const char* option) {
  char* end = nullptr;
  errno = 0;
  const long value = strtol(text, &end, 10);
  if (errno != 0 || end == text || *end != '\0' || value < low || value > high) {
    fail(kUsage, "%s: expected an integer from %ld to %ld", option, low, high);
  }
  return value;
}

const char* absolute(const char* path, const char* option) {
  if (path[0] != '/') fail(kUsage, "%s: expected an absolute path", option);
  return path;
}

Layer layer_of(const char* name, size_t length, const char* option) {
  for (int layer = 0; layer < kLayers; layer++) {
    if (strlen(kNames[layer]) == length && strncmp(kNames[layer], name, length) == 0) return static_cast<Layer>(layer);
  }
  fail(kUsage, "%s: expected the name of a layer", option);
}

void add(Text* list, const char* item, const char* option) {
  if (list->count >= kMaxItems - 1) fail(kUsage, "%s: more than %d", option, kMaxItems - 1);
  list->items[list->count++] = item;
  list->items[list->count] = nullptr;
}

void add_group(const char* value) {
  const char* equals = strchr(value, '=');
  if (equals == nullptr) fail(kUsage, "--group: expected LAYER=FOLDER");
  description.groups[layer_of(value, static_cast<size_t>(equals - value), "--group")] = absolute(equals + 1, "--group");
}

void add_environment(const char* value) {
  const char* equals = strchr(value, '=');
  if (equals == nullptr || equals == value || strncmp(value, "LD_", 3) == 0) {
    fail(kUsage, "--env: expected NAME=VALUE, and no setting of the loader");
  }
  add(&description.environment, value, "--env");
}

void keep(const char* value) {
  if (description.kept >= kMaxKept) fail(kUsage, "--keep: more than %d", kMaxKept);
  const int fd = static_cast<int>(number(value, 3, 31, "--keep"));
  if (fcntl(fd, F_GETFD) < 0) fail(kUsage, "--keep %d: no such descriptor", fd);
  description.keep[description.kept++] = fd;
}

void parse(int count, char** words) {
  for (int i = 1; i < count; i++) {
    const char* option = words[i];
    if (strcmp(option, "--") == 0) {
      description.command = words + i + 1;
      break;
    }
    if (strcmp(option, "--probe") == 0) {
      description.probe = true;
      continue;
    }
    if (i + 1 >= count) fail(kUsage, "expected a value after the last option");
    const char* value = words[++i];
    if (strcmp(option, "--parent") == 0) description.parent = static_cast<pid_t>(number(value, 1, 1 << 30, option));
    else if (strcmp(option, "--read") == 0) add(&description.reads, absolute(value, option), option);
    else if (strcmp(option, "--run") == 0) add(&description.runs, absolute(value, option), option);
    else if (strcmp(option, "--group") == 0) add_group(value);
    else if (strcmp(option, "--keep") == 0) keep(value);
    else if (strcmp(option, "--env") == 0) add_environment(value);
    else if (strcmp(option, "--require") == 0) description.required[layer_of(value, strlen(value), option)] = true;
    else fail(kUsage, "no such option");
  }
  if (description.parent == 0) fail(kUsage, "--parent is missing");
  const bool command = description.command != nullptr && description.command[0] != nullptr;
  if (command == description.probe) fail(kUsage, "expected either --probe or -- and a file");
  if (command) absolute(description.command[0], "--");
}

// ---- descriptors ----------------------------------------------------------------------------------------------------------

void close_from(unsigned first, unsigned last) {
  if (first > last) return;
#ifdef SYS_close_range
  if (syscall(SYS_close_range, first, last, 0) == 0) return;
#endif
  struct rlimit files;
  getrlimit(RLIMIT_NOFILE, &files);
  for (unsigned fd = first; fd <= last && fd < files.rlim_cur; fd++) close(static_cast<int>(fd));
}

// Leaves 0, 1, 2 and what is to be kept. A key or a ledger that the caller has open does not come along.
void close_others() {
  unsigned next = 3;
  for (int fd = 3; fd < 32; fd++) {
    bool kept = false;
    for (int i = 0; i < description.kept; i++) kept |= description.keep[i] == fd;
    if (!kept) continue;
    close_from(next, static_cast<unsigned>(fd) - 1);
    next = static_cast<unsigned>(fd) + 1;
  }
  close_from(next, ~0U);
}

// Moves a descriptor to the number `wanted`; it closes when the worker starts.
int place(int fd, int wanted) {
  if (fd == wanted) return fd;
  const int placed = dup3(fd, wanted, O_CLOEXEC);
  close(fd);
  return placed;
}

// The two descriptors that outlive the limits lie above what the worker will be able to have.
void open_own(int first) {
  report_fd = dup3(STDOUT_FILENO, first, O_CLOEXEC);
  if (report_fd < 0) fail(kUsage, "standard output: %s", strerror(errno));
  const int null = open("/dev/null", O_RDWR | O_CLOEXEC);
  if (null < 0 || dup2(null, STDOUT_FILENO) < 0) fail(kNoStart, "/dev/null: %s", strerror(errno));
  close(null);
  if (description.probe) return;
  const int program = open(description.command[0], O_PATH | O_CLOEXEC);
  if (program < 0) fail(kNoStart, "the worker's program: %s", strerror(errno));
  program_fd = place(program, first + 1);
  if (program_fd < 0) fail(kNoStart, "the worker's program: %s", strerror(errno));
}

// ---- layers ---------------------------------------------------------------------------------------------------------------

// Ends with whoever started it. The kernel forgets this wish when rights change, so it is asked for after that.
void die_with_parent() {
  if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0) return tell(kParentDeath, false, strerror(errno));
  if (getppid() != description.parent) fail(kOrphan, "the supervisor is gone");
  tell(kParentDeath, true, "SIGKILL when its supervisor ends");
}

void enter_group(Layer layer) {
  const char* folder = description.groups[layer];
  if (folder == nullptr) return;  // the supervisor knows why
  char path[4096];
  char pid[16];
  snprintf(path, sizeof path, "%s/cgroup.procs", folder);
  const int length = snprintf(pid, sizeof pid, "%d", getpid());
  const int fd = open(path, O_WRONLY | O_CLOEXEC);
  const bool entered = fd >= 0 && write(fd, pid, static_cast<size_t>(length)) == length;
  tell(layer, entered, entered ? "control group" : strerror(errno));
  if (fd >= 0) close(fd);
}

// Namespaces of its own: no network interface, no host name, no shared memory of others. In a user namespace without a
// mapping it is nobody, and has no way to become somebody. No process namespace: see the ADR.
bool enter_namespaces(bool* network) {
  constexpr int kOthers = CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS;
  const bool user = unshare(CLONE_NEWUSER | kOthers) == 0;
  const int why = errno;
  const bool others = user || unshare(kOthers) == 0;
  *network = others;
  // Its count of tasks, and with it a limit on them, is its own in a user namespace; elsewhere it is that of the user.
  if (others) sethostname("worker", 6);
  if (others) tell(kNamespaces, true, user ? "user, network, IPC, UTS" : "network, IPC, UTS");
  else tell(kNamespaces, false, strerror(why));
  return user;
}

void drop_privileges() {
  syscall(SYS_setgroups, 0, nullptr);  // root only; in a user namespace nobody may
  prctl(PR_SET_SECUREBITS, SECBIT_NOROOT | SECBIT_NOROOT_LOCKED | SECBIT_NO_CAP_AMBIENT_RAISE | SECBIT_NO_CAP_AMBIENT_RAISE_LOCKED, 0, 0, 0);
  for (unsigned long capability = 0; prctl(PR_CAPBSET_READ, capability, 0, 0, 0) >= 0; capability++) {
    prctl(PR_CAPBSET_DROP, capability, 0, 0, 0);
  }
  __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct none[2] = {};
  const bool empty = syscall(SYS_capset, &header, none) == 0;
  if (!empty) return tell(kNoNewPrivileges, false, strerror(errno));
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return tell(kNoNewPrivileges, false, strerror(errno));
  tell(kNoNewPrivileges, true, "no capability, and none can be gained");
}

// V8 reserves address space by the gigabyte, so there is no limit on that: memory is the control group's and the watch's.
void limit_resources(bool counts_tasks, int files) {
  const struct {
    __rlimit_resource resource;
    rlim_t value;
  } limits[] = {
      {RLIMIT_CORE, 1},  // 1 and not 0: a core_pattern that is a pipe ignores 0, and refuses 1
      {RLIMIT_FSIZE, 0},
      {RLIMIT_NOFILE, static_cast<rlim_t>(files)},
      {RLIMIT_MEMLOCK, 0},
      {RLIMIT_MSGQUEUE, 0},
      {RLIMIT_SIGPENDING, 64},
      {RLIMIT_NICE, 0},
      {RLIMIT_RTPRIO, 0},
      {RLIMIT_NPROC, 256},
  };
  for (const auto& [resource, value] : limits) {
    if (resource == RLIMIT_NPROC && !counts_tasks) continue;
    struct rlimit limit = {value, value};
    struct rlimit now;
    if (getrlimit(resource, &now) == 0 && now.rlim_max < value) limit = {now.rlim_max, now.rlim_max};
    if (setrlimit(resource, &limit) != 0) return tell(kResourceLimits, false, strerror(errno));
  }
  tell(kResourceLimits, true, counts_tasks ? "no core, no file growth, descriptors, tasks" : "no core, no file growth, descriptors");
}

// landlock(7); the numbers are those of linux/landlock.h, whose older copies lack half of them.
namespace landlock {
constexpr uint64_t kExecute = 1 << 0, kReadFile = 1 << 2, kReadDir = 1 << 3;
constexpr uint64_t kFiles1 = (1 << 13) - 1;  // everything of the first ABI
constexpr uint64_t kRefer2 = 1 << 13, kTruncate3 = 1 << 14, kIoctl5 = 1 << 15;
constexpr uint64_t kTcp4 = 3, kScopes6 = 3;  // bind and connect; abstract sockets and signals
constexpr int kCreate = 444, kAddRule = 445, kRestrict = 446;

struct Ruleset {
  uint64_t files, network, scopes;
};
struct __attribute__((packed)) Beneath {
  uint64_t allowed;
  int32_t parent;
};

const char* allow(int ruleset, const char* path, uint64_t file_rights, uint64_t folder_rights) {
  const int fd = open(path, O_PATH | O_CLOEXEC);
  if (fd < 0) return errno == ENOENT ? nullptr : strerror(errno);  // what is not there needs no right
  struct stat info;
  const bool folder = fstat(fd, &info) == 0 && S_ISDIR(info.st_mode);
  const Beneath rule = {folder ? folder_rights : file_rights, fd};
  const char* why = syscall(kAddRule, ruleset, 1, &rule, 0) == 0 ? nullptr : strerror(errno);
  close(fd);
  return why;
}

const char* restrict_self(long abi) {
  Ruleset handled = {kFiles1, 0, 0};
  if (abi >= 2) handled.files |= kRefer2;
  if (abi >= 3) handled.files |= kTruncate3;
  if (abi >= 4) handled.network = kTcp4;
  if (abi >= 5) handled.files |= kIoctl5;
  if (abi >= 6) handled.scopes = kScopes6;
  const size_t size = abi >= 6 ? 24 : abi >= 4 ? 16 : 8;
  const int ruleset = static_cast<int>(syscall(kCreate, &handled, size, 0));
  if (ruleset < 0) return strerror(errno);
  const char* why = nullptr;
  for (int i = 0; why == nullptr && i < description.reads.count; i++) {
    why = allow(ruleset, description.reads.items[i], kReadFile, kReadFile | kReadDir);
  }
  for (int i = 0; why == nullptr && i < description.runs.count; i++) {
    why = allow(ruleset, description.runs.items[i], kReadFile | kExecute, 0);
  }
  if (why == nullptr && syscall(kRestrict, ruleset, 0) != 0) why = strerror(errno);
  close(ruleset);
  return why;
}
}  // namespace landlock

// Returns whether TCP is closed too.
bool restrict_files() {
  const long abi = syscall(landlock::kCreate, nullptr, 0, 1 /* which ABI */);
  if (abi < 1) {
    tell(kFilesystem, false, errno == EOPNOTSUPP ? "Landlock is switched off in this kernel" : "this kernel has no Landlock");
    return false;
  }
  const char* why = landlock::restrict_self(abi);
  char what[64];
  snprintf(what, sizeof what, "Landlock, ABI %ld", abi);
  tell(kFilesystem, why == nullptr, why == nullptr ? what : why);
  return why == nullptr && abi >= 4;
}

// ---- system calls ---------------------------------------------------------------------------------------------------------

#if defined(__x86_64__)
constexpr uint32_t kArch = AUDIT_ARCH_X86_64;
#elif defined(__aarch64__)
constexpr uint32_t kArch = AUDIT_ARCH_AARCH64;
#else
#error "cloister-launch knows the system calls of x86-64 and arm64"
#endif

constexpr uint32_t kAllow = SECCOMP_RET_ALLOW;
constexpr uint32_t kDeny = SECCOMP_RET_ERRNO | EPERM;
constexpr uint32_t kEnd = SECCOMP_RET_KILL_PROCESS;

// A classic BPF program, written from top to bottom: every block ends in a return, or falls through to the next.
struct Filter {
  sock_filter code[1024];
  unsigned short length = 0;

  void put(uint16_t op, uint32_t value, uint8_t yes = 0, uint8_t no = 0) {
    if (length >= 1024) fail(kNoStart, "the filter is too long");
    code[length++] = {op, yes, no, value};
  }
  void load(uint32_t offset) { put(BPF_LD | BPF_W | BPF_ABS, offset); }
  void argument(int index, bool high = false) {
    load(static_cast<uint32_t>(offsetof(seccomp_data, args)) + 8 * static_cast<uint32_t>(index) + (high ? 4 : 0));
  }
  void give(uint32_t verdict) { put(BPF_RET | BPF_K, verdict); }
  // Goes on if the value is `value`, else returns `verdict`.
  void expect(uint32_t value, uint32_t verdict = kDeny) {
    put(BPF_JMP | BPF_JEQ | BPF_K, value, 1, 0);
    give(verdict);
  }
  void refuse_bits(uint32_t bits) {
    put(BPF_JMP | BPF_JSET | BPF_K, bits, 0, 1);
    give(kDeny);
  }
  void allow_if(uint32_t value) {
    put(BPF_JMP | BPF_JEQ | BPF_K, value, 0, 1);
    give(kAllow);
  }
};

void add_check(Filter* filter, const Call& call) {
  switch (call.check) {
    case Check::kAny:
      return filter->give(call.error != 0 ? SECCOMP_RET_ERRNO | static_cast<uint32_t>(call.error) : kAllow);
    case Check::kNoneOf:
      filter->argument(call.index);
      filter->refuse_bits(call.values[0]);
      return filter->give(kAllow);
    case Check::kOneOf:
      filter->argument(call.index);
      for (const uint32_t value : call.values) {
        if (value != 0) filter->allow_if(value);
      }
      return filter->give(kDeny);
    case Check::kPrctl: {
      filter->argument(0);
      for (const uint32_t value : call.values) {
        if (value != 0) filter->allow_if(value);
      }
      filter->expect(PR_SET_DUMPABLE);
      filter->argument(1);
      filter->expect(0);
      filter->argument(1, true);
      filter->expect(0);
      return filter->give(kAllow);
    }
    case Check::kSelf:
      filter->argument(call.index);
      filter->expect(static_cast<uint32_t>(getpid()));
      return filter->give(kAllow);
    case Check::kThread:
      filter->argument(0);
      filter->refuse_bits(kCloneForbidden);
      filter->put(BPF_ALU | BPF_AND | BPF_K, kCloneRequired);
      filter->expect(kCloneRequired);
      return filter->give(kAllow);
    case Check::kNullPointer:
      filter->argument(call.index);
      filter->expect(0);
      filter->argument(call.index, true);
      filter->expect(0);
      return filter->give(kAllow);
    case Check::kLaunch:
      // Its number is above the limit on descriptors, and it closes with the launch: nobody can make this call twice.
      filter->argument(0);
      filter->expect(static_cast<uint32_t>(program_fd));
      filter->argument(4);
      filter->expect(AT_EMPTY_PATH);
      return filter->give(kAllow);
  }
}

// Which number a call has depends on the architecture that it is made for, so those of any other end the process.
void restrict_calls() {
  static Filter filter;
  filter.load(offsetof(seccomp_data, arch));
  filter.expect(kArch, kEnd);
  filter.load(offsetof(seccomp_data, nr));
#if defined(__x86_64__)
  filter.put(BPF_JMP | BPF_JGE | BPF_K, 0x40000000, 0, 1);  // x32
  filter.give(kEnd);
#endif
  for (const Call& call : kCalls) {
    const unsigned short jump = filter.length;
    filter.put(BPF_JMP | BPF_JEQ | BPF_K, static_cast<uint32_t>(call.number), 0, 0);
    add_check(&filter, call);
    filter.code[jump].jf = static_cast<uint8_t>(filter.length - jump - 1);
  }
  for (const int number : kAbsurd) {
    filter.put(BPF_JMP | BPF_JEQ | BPF_K, static_cast<uint32_t>(number), 0, 1);
    filter.give(kEnd);
  }
  filter.give(kDeny);
  const sock_fprog program = {filter.length, filter.code};
  const bool active = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) == 0;
  char what[64];
  snprintf(what, sizeof what, "seccomp, %zu calls allowed", sizeof kCalls / sizeof kCalls[0]);
  tell(kSystemCalls, active, active ? what : strerror(errno));
}

void tell_network(bool own_namespace, bool no_tcp, bool no_socket) {
  char what[96];
  snprintf(what, sizeof what, "%s%s%s", own_namespace ? ", namespace without interfaces" : "", no_tcp ? ", no TCP by Landlock" : "",
           no_socket ? ", no socket call" : "");
  const bool active = what[0] != '\0';
  tell(kNetwork, active, active ? what + 2 : "neither a namespace, nor Landlock of ABI 4, nor seccomp");
}

int launch(int count, char** words) {
  parse(count, words);
  struct rlimit files;
  getrlimit(RLIMIT_NOFILE, &files);
  // The last two descriptors that may be opened now are ours; what the worker may have ends below them.
  const int highest = files.rlim_cur > 512 ? 512 : static_cast<int>(files.rlim_cur);
  const int allowed = highest - 2 < 256 ? highest - 2 : 256;
  if (allowed < 32) fail(kUsage, "expected at least 34 descriptors, the limit is %d", highest);
  close_others();
  open_own(highest - 2);

  for (const Layer layer : {kMemoryCap, kTaskCap, kCpuShare}) enter_group(layer);
  bool own_network = false;
  const bool own_user = enter_namespaces(&own_network);
  drop_privileges();
  die_with_parent();
  limit_resources(own_user, allowed);
  const bool no_tcp = restrict_files();
  restrict_calls();
  tell_network(own_network, no_tcp, description.active[kSystemCalls]);
  for (int layer = 0; layer < kLayers; layer++) {
    if (description.required[layer] && !description.active[layer]) fail(kLayer, "%s: nothing to bring it up with", kNames[layer]);
  }

  if (write(report_fd, report, static_cast<size_t>(report_length)) != report_length) _exit(kOrphan);
  if (description.probe) return 0;
  char* const* environment = const_cast<char* const*>(description.environment.items);
  syscall(SYS_execveat, program_fd, "", description.command, environment, AT_EMPTY_PATH);
  fail(kNoStart, "the worker's program does not start: %s", strerror(errno));
}

}  // namespace
}  // namespace cloister

int main(int count, char** words) { return cloister::launch(count, words); }
