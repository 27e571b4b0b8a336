// What arbitrary native code in a worker might try. Each attempt gives 0 when it succeeded, else the error of the system.
// Harmless where it does succeed: the test runs all of them unconfined as well, as a control.
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <netinet/in.h>
#include <node_api.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

namespace {

// The file that is not to be read, a folder that anybody may write, a process that has nothing to do with it, a port that is listened to.
char secret[512];
char folder[512];
char inside[600];
pid_t bystander;
int port;

int result(long value) { return value < 0 ? errno : 0; }

int opened(int fd) {
  const int error = result(fd);
  if (fd >= 0) close(fd);
  return error;
}

int read_of(pid_t pid, const char* what) {
  char path[64];
  snprintf(path, sizeof path, "/proc/%d/%s", pid, what);
  const int fd = open(path, O_RDONLY);
  char byte;
  const int error = fd < 0 ? errno : result(read(fd, &byte, 1));
  if (fd >= 0) close(fd);
  return error;
}

int socket_of(int family, int type, int protocol) { return opened(socket(family, type, protocol)); }

int tcp(bool listening) {
  const int fd = socket(AF_INET, SOCK_STREAM, 0);
  if (fd < 0) return errno;
  sockaddr_in to = {};
  to.sin_family = AF_INET;
  to.sin_port = listening ? 0 : htons(static_cast<uint16_t>(port));
  to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  auto* address = reinterpret_cast<sockaddr*>(&to);
  long value = listening ? bind(fd, address, sizeof to) : connect(fd, address, sizeof to);
  if (listening && value == 0) value = listen(fd, 1);
  const int error = result(value);
  close(fd);
  return error;
}

int ran(pid_t pid) {
  int status = 0;
  if (pid < 0) return errno;
  waitpid(pid, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : EPERM;
}

int run_shell() {
  const pid_t pid = fork();
  if (pid != 0) return ran(pid);
  execl("/bin/sh", "sh", "-c", "exit 0", nullptr);
  _exit(errno);
}

int run_from_memory() {
  const int fd = static_cast<int>(syscall(SYS_memfd_create, "x", 0));
  if (fd < 0) return errno;
  const char script[] = "#!/bin/sh\nexit 0\n";
  if (write(fd, script, sizeof script - 1) < 0) return errno;
  const pid_t pid = fork();
  if (pid != 0) return ran(pid);
  char* none[] = {nullptr};
  char* words[] = {const_cast<char*>("x"), nullptr};
  syscall(SYS_execveat, fd, "", words, none, AT_EMPTY_PATH);
  _exit(errno);
}

int mount_something() {
  const int error = result(mount("none", folder, "tmpfs", 0, ""));
  if (error == 0) umount(folder);
  return error;
}

int read_memory() {
  char here[8];
  iovec local = {here, sizeof here};
  iovec remote = {reinterpret_cast<void*>(&secret), 1};
  // Its own memory, by number: what is asked is whether the call may be made at all.
  return result(static_cast<long>(process_vm_readv(getpid(), &local, 1, &remote, 1, 0)));
}

int take_memory() {
  char here;
  iovec local = {&here, 1};
  iovec remote = {reinterpret_cast<void*>(8), 1};
  const int error = result(static_cast<long>(process_vm_readv(bystander, &local, 1, &remote, 1, 0)));
  return error == EFAULT ? 0 : error;  // nothing lies there, but it might be asked
}

int map_bpf() {
  struct {
    uint32_t type, key, value, entries, flags;
    char rest[96];
  } attributes = {2, 4, 4, 1, 0, {}};
  return opened(static_cast<int>(syscall(SYS_bpf, 0, &attributes, sizeof attributes)));
}

int set_ring() {
  char parameters[120] = {};
  return opened(static_cast<int>(syscall(SYS_io_uring_setup, 1, parameters)));
}

int count_events() {
  struct {
    uint32_t type, size;
    uint64_t rest[16];
  } attributes = {1, 128, {}};
  return opened(static_cast<int>(syscall(SYS_perf_event_open, &attributes, 0, -1, -1, 0)));
}

int raise_limit() {
  rlimit limit;
  getrlimit(RLIMIT_STACK, &limit);
  return result(setrlimit(RLIMIT_STACK, &limit));
}

int set_owner() {
  int ends[2];
  if (pipe(ends) != 0) return errno;
  const int error = result(fcntl(ends[0], F_SETOWN, bystander));
  close(ends[0]);
  close(ends[1]);
  return error;
}

int type_into_terminal() {
  const int fd = open("/dev/ptmx", O_RDWR | O_NOCTTY);
  if (fd < 0) return errno;
  close(fd);
  return 0;
}

int make(const char* path, long value) {
  const int error = result(value);
  if (error == 0) unlink(path);
  return error;
}

int new_child(unsigned long flags) {
  const pid_t pid = static_cast<pid_t>(syscall(SYS_clone, flags | SIGCHLD, nullptr, nullptr, nullptr, nullptr));
  if (pid == 0) _exit(0);
  return ran(pid);
}

int set_of(pid_t pid) {
  cpu_set_t set;
  if (sched_getaffinity(pid, sizeof set, &set) != 0) return errno;
  return result(sched_setaffinity(pid, sizeof set, &set));
}

int enter_own() {
  const int fd = open("/proc/self/ns/uts", O_RDONLY);
  const int error = fd < 0 ? errno : result(setns(fd, 0));
  if (fd >= 0) close(fd);
  // Without the file the call itself is still to be refused.
  return fd < 0 && setns(0, 0) == 0 ? 0 : error;
}

struct Attempt {
  const char* name;
  int (*run)();
};

const Attempt kAttempts[] = {
    {"read a file outside", [] { return opened(open(secret, O_RDONLY)); }},
    {"read a file outside through /proc/self/root", [] { char path[600]; snprintf(path, sizeof path, "/proc/self/root%s", secret); return opened(open(path, O_RDONLY)); }},
    {"read /etc/passwd", [] { return opened(open("/etc/passwd", O_RDONLY)); }},
    {"list /", [] { return opened(open("/", O_RDONLY | O_DIRECTORY)); }},
    {"read the supervisor's environment", [] { return read_of(getppid(), "environ"); }},
    {"read the supervisor's memory map", [] { return read_of(getppid(), "maps"); }},
    {"read another's command line", [] { return read_of(bystander, "cmdline"); }},
    {"read another's environment", [] { return read_of(bystander, "environ"); }},
    {"read another's memory map", [] { return read_of(bystander, "maps"); }},
    {"open another's memory", [] { char path[64]; snprintf(path, sizeof path, "/proc/%d/mem", bystander); return opened(open(path, O_RDONLY)); }},
    {"take another's memory", take_memory},
    {"write a new file", [] { return make(inside, open(inside, O_WRONLY | O_CREAT, 0600)); }},
    {"write the file outside", [] { return opened(open(secret, O_WRONLY)); }},
    {"truncate the file outside", [] { return result(truncate(secret, 6)); }},
    {"write /dev/shm", [] { return make("/dev/shm/cloister-probe", open("/dev/shm/cloister-probe", O_RDWR | O_CREAT, 0600)); }},
    {"write its own memory through a file", [] { return opened(open("/proc/self/mem", O_RDWR)); }},
    {"make a folder", [] { const int error = result(mkdir(inside, 0700)); if (error == 0) rmdir(inside); return error; }},
    {"make a link", [] { return make(inside, symlink("/etc/passwd", inside)); }},
    {"make a hard link", [] { return make(inside, link(secret, inside)); }},
    {"make a pipe with a name", [] { return make(inside, mkfifo(inside, 0600)); }},
    {"rename a file", [] { const int error = result(rename(secret, inside)); if (error == 0 && rename(inside, secret) != 0) return 0; return error; }},
    {"change the mode of a file", [] { return result(chmod(secret, 0644)); }},
    {"run a shell", run_shell},
    {"run from memory", run_from_memory},
    {"become another program", [] { char* none[] = {nullptr}; execve("/nonexistent/program", none, none); return errno == ENOENT ? 0 : errno; }},
    {"start a process", [] { return new_child(0); }},
    {"start a process in new namespaces", [] { return new_child(CLONE_NEWUSER | CLONE_NEWNET); }},
    {"connect", [] { return tcp(false); }},
    {"listen", [] { return tcp(true); }},
    {"open a UDP socket", [] { return socket_of(AF_INET6, SOCK_DGRAM, 0); }},
    {"open a raw socket", [] { return socket_of(AF_INET, SOCK_RAW, IPPROTO_ICMP); }},
    {"open a packet socket", [] { return socket_of(AF_PACKET, SOCK_RAW, 0); }},
    {"open a local socket", [] { return socket_of(AF_UNIX, SOCK_STREAM, 0); }},
    {"open a netlink socket", [] { return socket_of(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE); }},
    {"open a socket of virtual machines", [] { return socket_of(AF_VSOCK, SOCK_STREAM, 0); }},
    {"make a pair of sockets", [] { int ends[2]; return result(socketpair(AF_UNIX, SOCK_STREAM, 0, ends)); }},
    {"signal another process", [] { return result(kill(bystander, 0)); }},
    {"signal the supervisor", [] { return result(kill(getppid(), 0)); }},
    {"signal everybody", [] { return result(kill(0, 0)); }},
    {"queue a signal", [] { siginfo_t info = {}; info.si_code = SI_QUEUE; return result(syscall(SYS_rt_sigqueueinfo, bystander, 0, &info)); }},
    {"hold another process", [] { return opened(static_cast<int>(syscall(SYS_pidfd_open, bystander, 0))); }},
    {"have signals sent to another", set_owner},
    {"trace another process", [] { return result(ptrace(PTRACE_SEIZE, bystander, nullptr, nullptr)); }},
    {"read memory by process", read_memory},
    {"mount", mount_something},
    {"leave a namespace", [] { return result(unshare(CLONE_NEWUTS)); }},
    {"stop sharing", [] { return result(unshare(CLONE_FS)); }},
    {"enter a namespace", enter_own},
    {"change the root", [] { return result(chroot("/")); }},
    {"reach bpf", map_bpf},
    {"reach io_uring", set_ring},
    {"reach userfaultfd", [] { return opened(static_cast<int>(syscall(SYS_userfaultfd, 1 /* user mode only */))); }},
    {"reach a keyring", [] { return result(syscall(SYS_keyctl, 0 /* its id */, -3 /* session */, 1)); }},
    {"add a key", [] { return result(syscall(SYS_add_key, "user", "cloister-probe", "x", 1, -2 /* process */)); }},
    {"count hardware events", count_events},
    {"open by handle", [] { char handle[64] = {8}; return syscall(SYS_open_by_handle_at, AT_FDCWD, handle, 0) < 0 && errno == EPERM ? EPERM : 0; }},
    {"change its personality", [] { return result(personality(0x0040000)); }},
    {"ask for quotas", [] { return syscall(SYS_quotactl, 0x80000100 | 0xff, nullptr, 0, nullptr) < 0 && errno == EPERM ? EPERM : 0; }},
    {"load a kernel", [] { return syscall(SYS_kexec_load, 0, 0, nullptr, 0x80) < 0 && errno == EPERM ? EPERM : 0; }},
    {"load a module", [] { return syscall(SYS_finit_module, -1, "", 0) < 0 && errno == EPERM ? EPERM : 0; }},
    {"move another process between processors", [] { return set_of(bystander); }},
    {"change another's priority", [] { return result(setpriority(PRIO_PROCESS, static_cast<id_t>(bystander), 5)); }},
    {"change its limits", raise_limit},
    {"make anonymous files", [] { return opened(static_cast<int>(syscall(SYS_memfd_create, "x", 0))); }},
    {"share memory by key", [] { return result(syscall(SYS_shmget, 0, 4096, 01600)); }},
    {"open a terminal", type_into_terminal},
    {"be looked into by others", [] { return result(prctl(PR_SET_DUMPABLE, 1, 0, 0, 0)); }},
    {"be dumped to a file", [] { rlimit limit; getrlimit(RLIMIT_CORE, &limit); return limit.rlim_max > 1 ? 0 : EPERM; }},
    {"have a capability by user 0", [] { return result(syscall(SYS_setuid, 0)); }},
};

void fill(napi_env env, napi_value value, char* text, size_t size) { napi_get_value_string_utf8(env, value, text, size, nullptr); }

// probe(NAME, SECRET, FOLDER, BYSTANDER, PORT) -> error; without a name: the names
napi_value Probe(napi_env env, napi_callback_info info) {
  size_t count = 5;
  napi_value given[5];
  napi_get_cb_info(env, info, &count, given, nullptr, nullptr);
  napi_value out;
  if (count == 0) {
    napi_create_array(env, &out);
    uint32_t at = 0;
    for (const Attempt& attempt : kAttempts) {
      napi_value name;
      napi_create_string_utf8(env, attempt.name, NAPI_AUTO_LENGTH, &name);
      napi_set_element(env, out, at++, name);
    }
    return out;
  }
  char name[128];
  fill(env, given[0], name, sizeof name);
  fill(env, given[1], secret, sizeof secret);
  fill(env, given[2], folder, sizeof folder);
  snprintf(inside, sizeof inside, "%s/made", folder);
  napi_get_value_int32(env, given[3], &bystander);
  napi_get_value_int32(env, given[4], &port);
  int error = -1;
  for (const Attempt& attempt : kAttempts) {
    if (strcmp(attempt.name, name) == 0) error = attempt.run();
  }
  napi_create_int32(env, error, &out);
  return out;
}

}  // namespace

NAPI_MODULE_INIT() {
  napi_value probe;
  napi_create_function(env, "probe", NAPI_AUTO_LENGTH, Probe, nullptr, &probe);
  return probe;
}
