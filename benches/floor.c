/* The floor: what one step costs when nothing but its system calls is done.
 *
 * The same calls, in the same order, as a step of runner makes (docs: ARCHITECTURE.md): a stage is prepared once, then N
 * sandboxes are made one after the other: cgroups, clone3 with five namespaces, id maps, a cgroup namespace, an overlay
 * root, /proc, /sys, /dev, masks, pivot_root, an init that forks the payload, seccomp filters, no capabilities, execve.
 * No policy, no logs, no records, no errors worth reading: whoever is below these figures leaves something out.
 *
 * usage: floor LOWER UPPERS FILTER... -- COUNT PAUSE_MS OUT PROGRAM [ARGUMENT...]
 *   LOWER    root filesystem, never written to; needs proc sys dev tmp
 *   UPPERS   directory on disk for upper and work directories
 *   FILTER   files of struct sock_filter, loaded one after the other
 *   OUT      gets a line per sandbox: microseconds until the end is reported, until init is reaped
 * Root only. Linux 5.14 or newer. cgroup v1 (hybrid) or v2, whichever is mounted.
 *
 * `floor time COUNT PAUSE_MS OUT PROGRAM [ARGUMENT...]` runs a program so many times and writes microseconds from its spawn
 * to its end; `{}` in an argument becomes a number nobody else has.
 * `floor rss OUT PROGRAM [ARGUMENT...]` runs a program and writes its peak resident set, and its children's, in KiB.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/mount.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <net/if.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* Declared by <sys/mount.h>, which does not go together with <linux/mount.h> everywhere. */
int mount(const char *, const char *, const char *, unsigned long, const void *);
int umount2(const char *, int);
int unshare(int); /* of <sched.h>, which does not go together with <linux/sched.h> */
enum { RDONLY = 1, NOSUID = 2, NODEV = 4, NOEXEC = 8, REC = 0x4000, PRIVATE = 1 << 18, DETACH = 2 };
enum { CLONE_TREE = 1, RECURSIVE = 0x8000, EMPTY_PATH = 0x1000 };

#define FIRST_ID "805306368" /* the private id range; any that nobody uses */

static void die(const char *what) { fprintf(stderr, "floor: %s: %s\n", what, strerror(errno)); _exit(70); }
#define TRY(call) ((call) < 0 ? die(#call) : (void)0)

static double now_us(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1e6 + t.tv_nsec / 1e3;
}

static int put(const char *path, const char *text) {
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0) return -1;
    ssize_t n = write(fd, text, strlen(text));
    close(fd);
    return n < 0 ? -1 : 0;
}

static int tree(const char *path, unsigned flags) { return syscall(SYS_open_tree, AT_FDCWD, path, CLONE_TREE | O_CLOEXEC | flags); }
static int attach(int fd, const char *path) { return syscall(SYS_move_mount, fd, "", AT_FDCWD, path, MOVE_MOUNT_F_EMPTY_PATH); }

static int set(int fd, unsigned long long flags, int userns) {
    struct mount_attr attr = { .attr_set = flags | (userns >= 0 ? MOUNT_ATTR_IDMAP : 0), .userns_fd = userns >= 0 ? userns : 0 };
    return syscall(SYS_mount_setattr, fd, "", EMPTY_PATH | RECURSIVE, &attr, sizeof attr);
}

static int filesystem(const char *kind, const char *options[][2], unsigned attributes) {
    int fs = syscall(SYS_fsopen, kind, FSOPEN_CLOEXEC);
    if (fs < 0) return -1;
    for (; options && (*options)[0]; options++)
        if (syscall(SYS_fsconfig, fs, FSCONFIG_SET_STRING, (*options)[0], (*options)[1], 0) < 0) return -1;
    if (syscall(SYS_fsconfig, fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0) return -1;
    int fd = syscall(SYS_fsmount, fs, FSMOUNT_CLOEXEC, attributes);
    close(fs);
    return fd;
}

/* Clones a tree, sets flags, attaches it. */
static int graft(const char *from, const char *to, unsigned long long flags) {
    int fd = tree(from, 0);
    if (fd < 0) return -1;
    int done = flags ? set(fd, flags, -1) : 0;
    if (done == 0) done = attach(fd, to);
    close(fd);
    return done;
}

static const char *const NODES[] = { "null", "zero", "full", "random", "urandom", "tty", NULL };
static const char *const READ_ONLY[] = { "proc/bus", "proc/fs", "proc/irq", "proc/sys", "proc/sysrq-trigger", NULL };
static const char *const MASKED_FILES[] = { "proc/interrupts", "proc/kcore", "proc/keys", "proc/kmsg", "proc/kpagecgroup",
    "proc/kpagecount", "proc/kpageflags", "proc/latency_stats", "proc/sched_debug", "proc/slabinfo", "proc/timer_list",
    "proc/timer_stats", "proc/vmallocinfo", NULL };
static const char *const MASKED_DIRECTORIES[] = { "proc/acpi", "proc/asound", "proc/scsi", NULL };
static const char *const MASKED_SYS[] = { "sys/firmware", "sys/fs/bpf", "sys/kernel/debug", "sys/kernel/security",
    "sys/kernel/tracing", "sys/module", "sys/devices/virtual/powercap", NULL };

/* ---- cgroups ---- */

static const char *const V1[] = { "memory", "cpu", "cpuacct", "pids", "blkio", "unified", NULL };
static int is_v2, cgroup_root = -1;
static char v2_parent[512];

/* The stage keeps a handle of the hierarchies, for its own mounts hide them. */
static void open_cgroups(void) {
    is_v2 = access("/sys/fs/cgroup/cgroup.controllers", F_OK) == 0;
    cgroup_root = open("/sys/fs/cgroup", O_PATH | O_DIRECTORY | O_CLOEXEC);
    TRY(cgroup_root);
    if (!is_v2) return;
    /* A parent that holds only the floor's own leaves; its controllers are whatever may be had. */
    snprintf(v2_parent, sizeof v2_parent, "floor-%d", getpid());
    TRY(mkdirat(cgroup_root, v2_parent, 0755));
    char path[600];
    snprintf(path, sizeof path, "/sys/fs/cgroup/%s/cgroup.subtree_control", v2_parent);
    put("/sys/fs/cgroup/cgroup.subtree_control", "+cpu +memory +pids +io");
    put(path, "+cpu +memory +pids +io");
}

static void put_at(int directory, const char *name, const char *text) {
    int fd = openat(directory, name, O_WRONLY | O_CLOEXEC);
    if (fd < 0) return;
    if (write(fd, text, strlen(text)) < 0) die(name);
    close(fd);
}

/* `unified` is the v2 directory: all there is on v2, on a hybrid machine a leaf that exists for `cgroup.kill`. */
struct cgroups { char names[8][600]; int directories[8], tasks[8], count, unified; };

static void make_cgroups(struct cgroups *made, int number) {
    made->count = 0, made->unified = -1;
    for (int i = 0; is_v2 ? i < 1 : V1[i] != NULL; i++) {
        char *name = made->names[made->count];
        if (is_v2) snprintf(name, 600, "%s/%d", v2_parent, number);
        else snprintf(name, 600, "%s/floor-%d-%d", V1[i], getpid(), number);
        if (mkdirat(cgroup_root, name, 0755) < 0) { if (errno == ENOENT) continue; die(name); }
        int directory = openat(cgroup_root, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        TRY(directory);
        if (is_v2) {
            put_at(directory, "memory.max", "1073741824");
            put_at(directory, "memory.swap.max", "0");
            put_at(directory, "memory.oom.group", "1");
            put_at(directory, "pids.max", "4096");
            put_at(directory, "cpu.max", "200000 100000");
        } else if (!strcmp(V1[i], "memory")) put_at(directory, "memory.limit_in_bytes", "1073741824");
        else if (!strcmp(V1[i], "pids")) put_at(directory, "pids.max", "4096");
        else if (!strcmp(V1[i], "cpu")) put_at(directory, "cpu.cfs_quota_us", "200000");
        /* Into v2 by clone3: after a pause a write to cgroup.procs waits 15 ms for RCU. */
        int unified = is_v2 || !strcmp(V1[i], "unified");
        if (unified) made->unified = directory;
        made->tasks[made->count] = unified ? -1 : openat(directory, "tasks", O_WRONLY | O_CLOEXEC);
        made->directories[made->count++] = directory;
    }
}

static void remove_cgroups(struct cgroups *made) {
    for (int i = 0; i < made->count; i++) {
        close(made->directories[i]);
        if (made->tasks[i] >= 0) close(made->tasks[i]);
        while (unlinkat(cgroup_root, made->names[i], AT_REMOVEDIR) < 0 && errno == EBUSY) usleep(200);
    }
}

/* ---- the stage: once ---- */

static void write_maps(pid_t pid) {
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/uid_map", pid);
    TRY(put(path, "0 " FIRST_ID " 65536"));
    snprintf(path, sizeof path, "/proc/%d/gid_map", pid);
    TRY(put(path, "0 " FIRST_ID " 65536"));
}

/* A user namespace with the private range, for idmapped mounts. */
static int mapped_namespace(void) {
    int ends[2];
    char byte, path[64];
    TRY(pipe2(ends, O_CLOEXEC));
    pid_t pid = fork();
    if (pid == 0) {
        TRY(unshare(CLONE_NEWUSER));
        if (write(ends[1], "", 1) < 0) die("write");
        pause();
    }
    if (read(ends[0], &byte, 1) != 1) die("the namespace's holder");
    write_maps(pid);
    snprintf(path, sizeof path, "/proc/%d/ns/user", pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    TRY(fd);
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    close(ends[0]), close(ends[1]);
    return fd;
}

static void loopback_up(void) {
    struct ifreq request = { .ifr_name = "lo" };
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    TRY(fd);
    request.ifr_flags = IFF_UP;
    TRY(ioctl(fd, SIOCSIFFLAGS, &request));
    close(fd);
}

static void stage(const char *lower, const char *uppers) {
    char path[64], from[64];
    open_cgroups();
    TRY(unshare(CLONE_NEWNS | CLONE_NEWNET));
    TRY(mount(NULL, "/", NULL, REC | PRIVATE, NULL));
    loopback_up();
    int userns = mapped_namespace();
    int layer = tree(lower, 0), upper = tree(uppers, 0), nodes[6], sys, proc;
    TRY(layer);
    TRY(upper);
    TRY(set(layer, MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV, userns));
    TRY(set(upper, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV, userns));
    for (int i = 0; NODES[i]; i++) {
        snprintf(from, sizeof from, "/dev/%s", NODES[i]);
        TRY(nodes[i] = tree(from, 0));
    }
    TRY(sys = filesystem("sysfs", NULL, MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC));
    TRY(proc = tree("/proc", RECURSIVE));

    TRY(mount("stage", "/tmp", "tmpfs", NOSUID | NODEV, "mode=755"));
    TRY(chdir("/tmp"));
    const char *const directories[] = { "l", "l/0", "up", "m", "ws", "proc", "sys", "dev", "empty", NULL };
    for (int i = 0; directories[i]; i++) TRY(mkdir(directories[i], 0755));
    TRY(attach(layer, "l/0"));
    TRY(attach(upper, "up"));
    TRY(attach(proc, "proc"));
    TRY(attach(sys, "sys"));
    for (int i = 0; NODES[i]; i++) {
        snprintf(path, sizeof path, "dev/%s", NODES[i]);
        close(open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0644));
        TRY(attach(nodes[i], path));
        close(nodes[i]);
    }
    TRY(mount("empty", "empty", "tmpfs", RDONLY | NOSUID | NODEV | NOEXEC, "mode=555,nr_inodes=1"));
    for (int i = 0; MASKED_SYS[i]; i++)
        if (access(MASKED_SYS[i], F_OK) == 0) TRY(graft("empty", MASKED_SYS[i], 0));
    TRY(syscall(SYS_pivot_root, ".", "."));
    TRY(umount2(".", DETACH));
    TRY(chdir("/"));
    close(layer), close(upper), close(proc), close(sys), close(userns);
}

/* ---- the sandbox ---- */

struct filters { struct sock_fprog programs[4]; int count; };

static void mounts(int number) {
    char options[256], upper[64], work[64], path[64], from[64];
    snprintf(path, sizeof path, "/up/%d", number);
    snprintf(upper, sizeof upper, "/up/%d/u", number);
    snprintf(work, sizeof work, "/up/%d/w", number);
    TRY(mkdir(path, 0755));
    TRY(mkdir(upper, 0755));
    TRY(mkdir(work, 0755));
    snprintf(options, sizeof options, "lowerdir=/l/0,upperdir=%s,workdir=%s,userxattr,volatile,index=off,xino=off", upper, work);
    TRY(mount("overlay", "/m", "overlay", NOSUID | NODEV, options));
    struct statfs state;
    TRY(statfs("/m", &state));
    if (state.f_flags & RDONLY) die("the overlay is read-only");
    TRY(chdir("/m"));

    int proc = filesystem("proc", NULL, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC);
    TRY(proc);
    TRY(attach(proc, "proc"));
    close(proc);
    for (int i = 0; READ_ONLY[i]; i++)
        if (graft(READ_ONLY[i], READ_ONLY[i], MOUNT_ATTR_RDONLY) < 0 && errno != ENOENT) die(READ_ONLY[i]);
    for (int i = 0; MASKED_FILES[i]; i++)
        if (graft("/dev/null", MASKED_FILES[i], 0) < 0 && errno != ENOENT) die(MASKED_FILES[i]);
    for (int i = 0; MASKED_DIRECTORIES[i]; i++)
        if (graft("/empty", MASKED_DIRECTORIES[i], 0) < 0 && errno != ENOENT) die(MASKED_DIRECTORIES[i]);

    int sys = tree("/sys", RECURSIVE);
    TRY(sys);
    TRY(attach(sys, "sys"));
    close(sys);

    TRY(mount("dev", "dev", "tmpfs", NOSUID | NOEXEC, "mode=755,size=1m,nr_inodes=64"));
    for (int i = 0; NODES[i]; i++) {
        snprintf(path, sizeof path, "dev/%s", NODES[i]);
        snprintf(from, sizeof from, "/dev/%s", NODES[i]);
        close(open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0666));
        TRY(graft(from, path, 0));
    }
    TRY(mkdir("dev/pts", 0755));
    TRY(mkdir("dev/shm", 01777));
    TRY(mkdir("dev/mqueue", 01777));
    TRY(mount("devpts", "dev/pts", "devpts", NOSUID | NOEXEC, "newinstance,ptmxmode=0666,mode=0620"));
    TRY(mount("shm", "dev/shm", "tmpfs", NOSUID | NODEV, "mode=1777,size=64m"));
    TRY(mount("mqueue", "dev/mqueue", "mqueue", NOSUID | NODEV | NOEXEC, NULL));
    TRY(symlink("pts/ptmx", "dev/ptmx"));
    TRY(symlink("/proc/self/fd", "dev/fd"));
    TRY(symlink("/proc/self/fd/0", "dev/stdin"));
    TRY(symlink("/proc/self/fd/1", "dev/stdout"));
    TRY(symlink("/proc/self/fd/2", "dev/stderr"));
    TRY(mount("tmp", "tmp", "tmpfs", NOSUID | NODEV, "mode=1777,size=64m"));
    if (mkdir("workspace", 0755) < 0 && errno != EEXIST) die("workspace");
    TRY(graft("/ws", "workspace", 0));

    TRY(syscall(SYS_pivot_root, ".", "."));
    TRY(umount2(".", DETACH));
    TRY(chdir("/"));
}

static void payload(struct filters *filters, char **argv) {
    sigset_t none;
    sigemptyset(&none);
    setsid();
    for (int number = 1; number < 32; number++) signal(number, SIG_DFL);
    sigprocmask(SIG_SETMASK, &none, NULL);
    umask(022);
    TRY(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
    for (int i = 0; i < filters->count; i++) TRY(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &filters->programs[i]));
    int null = open("/dev/null", O_RDWR);
    dup2(null, 0), dup2(null, 1);
    struct rlimit core = { 0, 0 }, files = { 1024, 65536 };
    setrlimit(RLIMIT_CORE, &core), setrlimit(RLIMIT_NOFILE, &files);
    syscall(SYS_close_range, 3, ~0U, 0);
    TRY(syscall(SYS_setgroups, 0, NULL));
    TRY(syscall(SYS_setresgid, 0, 0, 0));
    TRY(syscall(SYS_setresuid, 0, 0, 0));
    for (int cap = 0; cap <= CAP_LAST_CAP; cap++)
        if (cap > CAP_NET_BIND_SERVICE) prctl(PR_CAPBSET_DROP, cap, 0, 0, 0);
    struct __user_cap_header_struct header = { _LINUX_CAPABILITY_VERSION_3, 0 };
    struct __user_cap_data_struct data[2] = { { 0 } };
    TRY(syscall(SYS_capset, &header, data));
    TRY(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0));
    TRY(prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0));
    char here[64];
    if (chdir("/") < 0 || !getcwd(here, sizeof here)) die("chdir");
    char *environment[] = { "PATH=/usr/bin:/bin", NULL };
    execve(argv[0], argv, environment);
    die(argv[0]);
}

static void init(struct cgroups *cgroups, int maps, int report, int number, struct filters *filters, char **argv) {
    char byte;
    for (int i = 0; i < cgroups->count; i++)
        if (cgroups->tasks[i] >= 0 && write(cgroups->tasks[i], "0", 1) < 0) die("tasks");
    TRY(unshare(CLONE_NEWCGROUP));
    if (read(maps, &byte, 1) != 1) _exit(1);
    TRY(syscall(SYS_setresgid, 0, 0, 0));
    TRY(syscall(SYS_setresuid, 0, 0, 0));
    TRY(prctl(PR_SET_DUMPABLE, 0, 0, 0, 0));
    setsid();
    syscall(SYS_keyctl, 1 /* JOIN_SESSION_KEYRING */, NULL, 0, 0, 0);
    umask(0);
    TRY(mount(NULL, "/", NULL, REC | PRIVATE, NULL));
    mounts(number);
    TRY(sethostname("floor", 5));
    sigset_t child;
    sigemptyset(&child), sigaddset(&child, SIGCHLD);
    sigprocmask(SIG_BLOCK, &child, NULL);
    int ended = signalfd(-1, &child, SFD_CLOEXEC);
    TRY(ended);
    pid_t pid = fork();
    if (pid == 0) payload(filters, argv);
    TRY(pid);
    struct pollfd polled[2] = { { .fd = ended, .events = POLLIN }, { .fd = report, .events = 0 } };
    int status = 0;
    do poll(polled, 2, -1);
    while (waitpid(pid, &status, WNOHANG) == 0);
    kill(-1, SIGKILL);
    while (waitpid(-1, NULL, 0) > 0) {}
    if (write(report, &status, sizeof status) < 0) _exit(1);
    _exit(0);
}

static int remove_entry(const char *path, const struct stat *s, int kind, struct FTW *f) { (void)s, (void)kind, (void)f; return remove(path); }

static void one(int number, FILE *out, struct filters *filters, char **argv) {
    struct cgroups cgroups;
    int maps[2], report[2], pidfd = -1, status = -1;
    siginfo_t end;
    double started = now_us();
    make_cgroups(&cgroups, number);
    TRY(pipe2(maps, O_CLOEXEC));
    TRY(pipe2(report, O_CLOEXEC));
    struct clone_args args = {
        .flags = CLONE_PIDFD | CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWUTS | (cgroups.unified >= 0 ? CLONE_INTO_CGROUP : 0),
        .pidfd = (unsigned long long)(uintptr_t)&pidfd, .cgroup = cgroups.unified >= 0 ? (unsigned)cgroups.unified : 0 };
    pid_t pid = syscall(SYS_clone3, &args, sizeof args);
    if (pid == 0) {
        close(maps[1]), close(report[0]);
        init(&cgroups, maps[0], report[1], number, filters, argv);
    }
    TRY(pid);
    close(maps[0]), close(report[1]);
    write_maps(pid);
    if (write(maps[1], "", 1) < 0) die("maps");
    if (read(report[0], &status, sizeof status) != sizeof status || status != 0) {
        fprintf(stderr, "floor: the sandbox failed: wait status %d\n", status);
        waitid(P_PIDFD, pidfd, &end, WEXITED | __WALL);
        remove_cgroups(&cgroups);
        exit(70);
    }
    double reported = now_us();
    TRY(waitid(P_PIDFD, pidfd, &end, WEXITED | __WALL));
    double reaped = now_us();
    fprintf(out, "%.1f %.1f\n", reported - started, reaped - started);
    close(pidfd), close(maps[1]), close(report[0]);
    remove_cgroups(&cgroups);
    char path[64];
    snprintf(path, sizeof path, "/up/%d", number);
    nftw(path, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

static void read_filter(struct filters *filters, const char *path) {
    struct stat size;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    TRY(fd);
    TRY(fstat(fd, &size));
    struct sock_fprog *program = &filters->programs[filters->count++];
    program->filter = malloc(size.st_size);
    program->len = size.st_size / sizeof(struct sock_filter);
    if (read(fd, program->filter, size.st_size) != size.st_size) die(path);
    close(fd);
}

extern char **environ;

static int timed(int count, int pause_ms, const char *out, char **argv) {
    FILE *file = fopen(out, "w");
    if (!file) die(out);
    posix_spawn_file_actions_t quiet;
    posix_spawn_file_actions_init(&quiet);
    posix_spawn_file_actions_addopen(&quiet, 0, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_addopen(&quiet, 1, "/dev/null", O_WRONLY, 0);
    for (int number = 0; number < count; number++) {
        char *arguments[64], texts[64][256];
        int i = 0, status;
        for (; argv[i] && i < 63; i++) {
            char *hole = strstr(argv[i], "{}");
            arguments[i] = argv[i];
            if (!hole) continue;
            snprintf(texts[i], sizeof texts[i], "%.*s%d-%d%s", (int)(hole - argv[i]), argv[i], getpid(), number, hole + 2);
            arguments[i] = texts[i];
        }
        arguments[i] = NULL;
        if (pause_ms) usleep(pause_ms * 1000);
        pid_t pid;
        double started = now_us();
        errno = posix_spawnp(&pid, arguments[0], &quiet, NULL, arguments, environ);
        if (errno) die(arguments[0]);
        TRY(waitpid(pid, &status, 0));
        fprintf(file, "%.1f\n", now_us() - started);
        if (status != 0) { fprintf(stderr, "floor: %s: wait status %d\n", arguments[0], status); return 1; }
    }
    return fclose(file) == 0 ? 0 : 1;
}

static int rss(const char *out, char **argv) {
    struct rusage usage;
    int status;
    pid_t pid = fork();
    if (pid == 0) { execvp(argv[0], argv); die(argv[0]); }
    TRY(wait4(pid, &status, 0, &usage));
    FILE *file = fopen(out, "w");
    if (!file) die(out);
    fprintf(file, "%ld\n", usage.ru_maxrss);
    fclose(file);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

int main(int argc, char **argv) {
    if (argc > 3 && !strcmp(argv[1], "rss")) return rss(argv[2], argv + 3);
    if (argc > 5 && !strcmp(argv[1], "time")) return timed(atoi(argv[2]), atoi(argv[3]), argv[4], argv + 5);
    int at = 3;
    struct filters filters = { .count = 0 };
    while (at < argc && strcmp(argv[at], "--") && filters.count < 4) read_filter(&filters, argv[at++]);
    if (argc - at < 5) { fprintf(stderr, "usage: floor LOWER UPPERS FILTER... -- COUNT PAUSE_MS OUT PROGRAM [ARGUMENT...]\n"); return 2; }
    int count = atoi(argv[at + 1]), pause_ms = atoi(argv[at + 2]);
    FILE *out = fopen(argv[at + 3], "w");
    if (!out) die(argv[at + 3]);
    stage(argv[1], argv[2]);
    for (int number = 0; number < count; number++) {
        if (pause_ms) usleep(pause_ms * 1000);
        one(getpid() * 1000 + number, out, &filters, argv + at + 4);
    }
    if (is_v2) unlinkat(cgroup_root, v2_parent, AT_REMOVEDIR);
    return fclose(out) == 0 ? 0 : 1;
}
