/* Preloaded into a process of the tests: makes one call of a system function fail. `refuse` says which, `refused`
 * whether it has come to that. Calls that are about something else than the layer's files are left alone. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static char wanted[32];
static int countdown, error_number;
static bool has_refused;

void refuse(const char *function, int number, int error);
int refused(void);

void refuse(const char *function, int number, int error) {
    strncpy(wanted, function, sizeof wanted - 1);
    countdown = number;
    error_number = error;
    has_refused = false;
}

int refused(void) { return has_refused; }

static bool fails(const char *function) {
    if (countdown == 0 || strcmp(function, wanted) != 0 || --countdown > 0)
        return false;
    has_refused = true;
    errno = error_number;
    return true;
}

/* The portable core's objects have a short name. */
static bool is_ours(const char *path) { return strstr(path, "hybrid_layer.") != NULL || strstr(path, "/hl.") != NULL; }

static bool is_our_file(int fd) {
    char link[64], path[256];
    int error = errno;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = countdown == 0 ? -1 : readlink(link, path, sizeof path - 1);
    errno = error;
    if (length < 0)
        return false;
    path[length] = '\0';
    return is_ours(path);
}

static void *next(const char *function) {
    void *found = dlsym(RTLD_NEXT, function);
    if (found == NULL)
        abort();
    return found;
}

/* The same function under each of its names. */
#define WRAP(type, name, as, parameters, arguments, condition) \
    type name parameters;                                      \
    type name parameters {                                     \
        static type(*real) parameters;                         \
        if ((condition) && fails(as))                          \
            return (type) - 1;                                 \
        if (real == NULL)                                      \
            *(void **)&real = next(#name);                     \
        return real arguments;                                 \
    }

WRAP(int, shm_open, "shm_open", (const char *path, int flags, mode_t mode), (path, flags, mode), is_ours(path))
WRAP(int, shm_unlink, "shm_unlink", (const char *path), (path), is_ours(path))
WRAP(int, ftruncate, "ftruncate", (int fd, off_t size), (fd, size), is_our_file(fd))
WRAP(int, ftruncate64, "ftruncate", (int fd, off_t size), (fd, size), is_our_file(fd))
WRAP(void *, mmap, "mmap", (void *at, size_t size, int prot, int flags, int fd, off_t offset),
     (at, size, prot, flags, fd, offset), fd >= 0 ? is_our_file(fd) : size == 4096)
WRAP(void *, mmap64, "mmap", (void *at, size_t size, int prot, int flags, int fd, off_t offset),
     (at, size, prot, flags, fd, offset), fd >= 0 ? is_our_file(fd) : size == 4096)
WRAP(int, madvise, "madvise", (void *at, size_t size, int advice), (at, size, advice), advice == MADV_WIPEONFORK)
WRAP(int, fstat, "fstat", (int fd, struct stat *status), (fd, status), is_our_file(fd))
WRAP(int, fstat64, "fstat", (int fd, struct stat64 *status), (fd, status), is_our_file(fd))
WRAP(int, stat, "stat", (const char *path, struct stat *status), (path, status), is_ours(path))
WRAP(int, stat64, "stat", (const char *path, struct stat64 *status), (path, status), is_ours(path))
WRAP(int, lstat, "stat", (const char *path, struct stat *status), (path, status), is_ours(path))
WRAP(int, lstat64, "stat", (const char *path, struct stat64 *status), (path, status), is_ours(path))
WRAP(int, fstatat, "stat", (int at, const char *path, struct stat *status, int flags), (at, path, status, flags),
     is_ours(path))
WRAP(int, fstatat64, "stat", (int at, const char *path, struct stat64 *status, int flags), (at, path, status, flags),
     is_ours(path))
WRAP(int, chmod, "chmod", (const char *path, mode_t mode), (path, mode), is_ours(path))
WRAP(int, fchmod, "chmod", (int fd, mode_t mode), (fd, mode), is_our_file(fd))
WRAP(int, fchmodat, "chmod", (int at, const char *path, mode_t mode, int flags), (at, path, mode, flags), is_ours(path))
WRAP(int, mkdir, "mkdir", (const char *path, mode_t mode), (path, mode), is_ours(path))
WRAP(int, mkdirat, "mkdir", (int at, const char *path, mode_t mode), (at, path, mode), is_ours(path))
WRAP(int, rmdir, "rmdir", (const char *path), (path), is_ours(path))
WRAP(int, mkfifo, "mkfifo", (const char *path, mode_t mode), (path, mode), is_ours(path))
WRAP(int, mkfifoat, "mkfifo", (int at, const char *path, mode_t mode), (at, path, mode), is_ours(path))
WRAP(int, unlink, "unlink", (const char *path), (path), is_ours(path))
WRAP(int, unlinkat, "unlink", (int at, const char *path, int flags), (at, path, flags), is_ours(path))
WRAP(int, rename, "rename", (const char *from, const char *to), (from, to), is_ours(from))
WRAP(int, epoll_ctl, "epoll_ctl", (int epoll, int operation, int fd, struct epoll_event *event),
     (epoll, operation, fd, event), operation == EPOLL_CTL_ADD && is_our_file(fd))
WRAP(ssize_t, write, "write", (int fd, const void *from, size_t size), (fd, from, size), is_our_file(fd))
WRAP(ssize_t, read, "read", (int fd, void *to, size_t size), (fd, to, size), is_our_file(fd))

#define WRAP_RESERVE(name)                               \
    int name(int fd, off_t from, off_t size) {           \
        int (*real)(int, off_t, off_t);                  \
        if (is_our_file(fd) && fails("posix_fallocate")) \
            return error_number;                         \
        *(void **)&real = next(#name);                   \
        return real(fd, from, size);                     \
    }

WRAP_RESERVE(posix_fallocate)
WRAP_RESERVE(posix_fallocate64)

void *opendir(const char *path) {
    void *(*real)(const char *);
    if ((is_ours(path) || strcmp(path, "/dev/shm") == 0) && fails("opendir"))
        return NULL;
    *(void **)&real = next("opendir");
    return real(path);
}

#define WRAP_OPEN(name)                                                              \
    int name(const char *path, int flags, ...) {                                     \
        int (*real)(const char *, int, mode_t);                                      \
        va_list rest;                                                                \
        va_start(rest, flags);                                                       \
        mode_t mode = flags & (O_CREAT | O_TMPFILE) ? (mode_t)va_arg(rest, int) : 0; \
        va_end(rest);                                                                \
        if (is_ours(path) && fails("open"))                                          \
            return -1;                                                               \
        *(void **)&real = next(#name);                                               \
        return real(path, flags, mode);                                              \
    }

WRAP_OPEN(open)
WRAP_OPEN(open64)

#define WRAP_FCNTL(name)                       \
    int name(int fd, int command, ...) {       \
        int (*real)(int, int, void *);         \
        va_list rest;                          \
        va_start(rest, command);               \
        void *argument = va_arg(rest, void *); \
        va_end(rest);                          \
        if (is_our_file(fd) && fails("fcntl")) \
            return -1;                         \
        *(void **)&real = next(#name);         \
        return real(fd, command, argument);    \
    }

WRAP_FCNTL(fcntl)
WRAP_FCNTL(fcntl64)
