// The system calls that a worker may make, each with the reason why it needs it. Everything that is not in this table fails
// with EPERM, or ends the process where it is in the table of absurdities below.
//
// Found by tracing workers (strace -f) that load, run, profile, draw and evaluate, on both backends, up to and past their
// limits; and by denying what was left, one by one. A call that only reads what the process knows of itself is allowed
// without further thought; a call that reaches a file, a process or the kernel's settings has its arguments checked.
//
// x86-64 and arm64. The calls that only x86-64 has are together at the end of the table: musl and older libraries use them.
#ifndef CLOISTER_OS_SYSCALLS_H_
#define CLOISTER_OS_SYSCALLS_H_

#include <fcntl.h>
#include <linux/sched.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

namespace cloister {

// What the arguments of a call must be. All are compared in their low 32 bits, for the kernel reads no more of them, but for
// a pointer that is to be null and what kPrctl sets: there all 64 count.
enum class Check : uint8_t {
  kAny,          // no condition
  kNoneOf,       // no bit of `values[0]` is set in argument `index`
  kOneOf,        // argument `index` is one of `values`
  kSelf,         // argument `index` is the number of this process
  kThread,       // clone(2): a thread of this process, in no new namespace
  kNullPointer,  // argument `index` is null
  kPrctl,        // prctl(2): option `values`, or PR_SET_DUMPABLE to 0, which nobody can then set back
  kLaunch,       // execveat(2) of the descriptor that the launcher holds, which no worker can have again
};

struct Call {
  int number;
  const char* reason;
  Check check = Check::kAny;
  int index = 0;
  uint32_t values[8] = {};
  int error = 0;  // the call fails with this error instead of EPERM, whatever its arguments
};

// Read only, and nothing that creates, truncates, or asks for signals. Which files may be read is for Landlock to say.
constexpr uint32_t kOpenForbidden = O_ACCMODE | O_CREAT | O_TRUNC | O_APPEND | (O_TMPFILE & ~O_DIRECTORY) | O_ASYNC | O_PATH;

constexpr uint32_t kCloneRequired = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD;
constexpr uint32_t kCloneForbidden = CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER | CLONE_NEWPID |
                                     CLONE_NEWNET | CLONE_PTRACE | CLONE_PARENT | CLONE_VFORK | CLONE_PIDFD;

constexpr Call kCalls[] = {
    // The channel, the report of a crash, and files that Landlock lets it open.
    {SYS_read, "the channel; files of the program"},
    {SYS_write, "the channel; standard error; waking an event loop"},
    {SYS_readv, "the channel"},
    {SYS_writev, "the channel: frames over 64 KiB leave in one piece"},
    {SYS_pread64, "the loader reads headers of libraries; Node reads modules"},
    {SYS_close, "descriptors of its own"},
    {SYS_lseek, "reading files"},
    {SYS_openat, "modules, libraries, the addons", Check::kNoneOf, 2, {kOpenForbidden}},
    {SYS_getdents64, "the addons are found by listing their folder"},
    {SYS_fstat, "sizes of open files"},
    {SYS_newfstatat, "module resolution"},
    {SYS_statx, "module resolution"},
    {SYS_faccessat, "module resolution"},
#ifdef SYS_faccessat2
    {SYS_faccessat2, "module resolution"},
#endif
    {SYS_readlinkat, "module resolution; the path of Node itself"},
    {SYS_getcwd, "Node asks once at start"},
    {SYS_fcntl,
     "flags of descriptors; never F_SETOWN or F_SETSIG, which send signals",
     Check::kOneOf,
     1,
     {F_DUPFD_CLOEXEC, F_GETFD, F_SETFD, F_GETFL, F_SETFL, 1034 /* F_GET_SEALS */}},
    {SYS_ioctl, "whether standard streams are terminals; non-blocking streams", Check::kOneOf, 1, {TCGETS, FIONBIO, FIOCLEX, FIONREAD}},
    {SYS_getsockname, "libuv asks what kind of stream a descriptor is"},
    {SYS_getsockopt, "libuv asks what kind of stream a descriptor is"},

    // Memory. V8 writes machine code and makes it executable: pages go from RW to RX and, while they are patched, to RWX.
    {SYS_mmap, "heaps, stacks, libraries, code"},
    {SYS_munmap, "heaps"},
    {SYS_mprotect, "V8 commits and protects its pages"},
    {SYS_mremap, "growing allocations"},
    {SYS_madvise, "V8 gives pages back; arenas ask for large ones"},
    {SYS_brk, "malloc"},
#ifdef SYS_pkey_mprotect
    {SYS_pkey_mprotect, "V8 guards its code where the processor has protection keys"},
    {SYS_pkey_alloc, "V8 guards its code where the processor has protection keys"},
    {SYS_pkey_free, "V8 guards its code where the processor has protection keys"},
#endif

    // Threads of this process: libuv, V8, isolates, kernels.
    {SYS_clone, "threads; no process, no namespace", Check::kThread},
    {SYS_clone3, "its flags lie in memory, where no filter reads them: the C library then takes clone", Check::kAny, 0, {}, 38 /* ENOSYS */},
    {SYS_futex, "locks"},
    {SYS_set_robust_list, "the C library, at the start of a thread"},
    {SYS_rseq, "the C library, at the start of a thread"},
    {SYS_set_tid_address, "the C library, at start"},
    {SYS_exit, "the end of a thread"},
    {SYS_exit_group, "the end of the process"},
    {SYS_sched_yield, "spinning locks"},
    {SYS_sched_getaffinity, "how many processors there are"},
    {SYS_sched_getscheduler, "the C library copies a thread's settings"},
    {SYS_sched_getparam, "the C library copies a thread's settings"},
    {SYS_getcpu, "malloc; kernels"},

    // Events.
    {SYS_epoll_create1, "event loops"},
    {SYS_epoll_ctl, "event loops"},
    {SYS_epoll_pwait, "event loops"},
    {SYS_ppoll, "waiting for a descriptor"},
    {SYS_eventfd2, "waking an event loop"},
    {SYS_pipe2, "Node's own signals"},

    // Signals of this process. A worker ends itself by SIGKILL when its supervisor is gone.
    {SYS_rt_sigaction, "handlers"},
    {SYS_rt_sigprocmask, "masks of threads"},
    {SYS_rt_sigreturn, "the end of a handler"},
    {SYS_rt_sigtimedwait, "a thread that waits for signals"},
    {SYS_sigaltstack, "handlers"},
    {SYS_restart_syscall, "a call that a signal stopped"},
    {SYS_kill, "ending itself", Check::kSelf, 0},
    {SYS_tgkill, "abort(3) and signals between its threads", Check::kSelf, 0},

    // What the process knows of itself and of time.
    {SYS_getpid, "itself"},
    {SYS_gettid, "itself"},
    {SYS_getppid, "whether its supervisor is alive"},
    {SYS_getuid, "Node asks at start"},
    {SYS_geteuid, "Node asks at start"},
    {SYS_getgid, "Node asks at start"},
    {SYS_getegid, "Node asks at start"},
    {SYS_capget, "Node asks at start"},
    {SYS_uname, "Node asks at start"},
    {SYS_sysinfo, "how much memory there is"},
    {SYS_getrusage, "what it used"},
    {SYS_getrlimit, "its limits"},
    {SYS_prlimit64, "its limits, for reading only", Check::kNullPointer, 2},
    {SYS_clock_gettime, "time, where the fast path is not there"},
    {SYS_clock_getres, "time"},
    {SYS_gettimeofday, "time, where the fast path is not there"},
    {SYS_clock_nanosleep, "waiting"},
    {SYS_nanosleep, "waiting"},
    {SYS_getrandom, "seeds of hash tables"},
    {SYS_prctl,
     "names of threads and of memory; hiding itself; never a right",
     Check::kPrctl,
     0,
     {PR_SET_NAME, PR_GET_NAME, 0x53564d41 /* PR_SET_VMA */}},

    {SYS_execveat, "the launcher's last step", Check::kLaunch},

#if defined(__x86_64__)
    {SYS_arch_prctl, "the C library, at start", Check::kOneOf, 0, {0x1002 /* ARCH_SET_FS */}},
    {SYS_open, "as openat", Check::kNoneOf, 1, {kOpenForbidden}},
    {SYS_stat, "as newfstatat"},
    {SYS_lstat, "as newfstatat"},
    {SYS_access, "as faccessat"},
    {SYS_readlink, "as readlinkat"},
    {SYS_epoll_wait, "as epoll_pwait"},
    {SYS_poll, "as ppoll"},
    {SYS_time, "time, where the fast path is not there"},
#endif
};

// Calls that nothing in a worker makes, not even by mistake: whoever makes one has taken the process over, and it ends there.
constexpr int kAbsurd[] = {
    SYS_ptrace,       SYS_process_vm_readv, SYS_process_vm_writev, SYS_kcmp,          SYS_unshare,      SYS_setns,
    SYS_mount,        SYS_umount2,          SYS_pivot_root,        SYS_chroot,        SYS_swapon,       SYS_swapoff,
    SYS_reboot,       SYS_init_module,      SYS_finit_module,      SYS_delete_module, SYS_kexec_load,   SYS_acct,
    SYS_add_key,      SYS_request_key,      SYS_keyctl,            SYS_bpf,           SYS_userfaultfd,  SYS_perf_event_open,
    SYS_quotactl,     SYS_open_by_handle_at, SYS_name_to_handle_at, SYS_settimeofday, SYS_clock_settime, SYS_adjtimex,
    SYS_sethostname,  SYS_setdomainname,    SYS_syslog,            SYS_vhangup,
#ifdef SYS_kexec_file_load
    SYS_kexec_file_load,
#endif
#ifdef SYS_fsopen
    SYS_fsopen,       SYS_fsconfig,         SYS_fsmount,           SYS_fspick,        SYS_open_tree,    SYS_move_mount,
#endif
#ifdef SYS_pidfd_getfd
    SYS_pidfd_getfd,
#endif
#if defined(__x86_64__)
    SYS_iopl,         SYS_ioperm,           SYS_modify_ldt,
#endif
};

}  // namespace cloister

#endif  // CLOISTER_OS_SYSCALLS_H_
