/* Preloaded into a process: shared-memory objects as they are on macOS.
 *
 * They have no inode, no link count and no record locks, their size is told in pages of 16 KiB, they get it once, and
 * their names are short. FIFOs and files are as always.
 */
#define _GNU_SOURCE

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define LONGEST_NAME 31
#define PAGE 16384

int shm_open(const char *name, int flags, mode_t mode) {
    int (*real)(const char *, int, mode_t) = (int (*)(const char *, int, mode_t))dlsym(RTLD_NEXT, "shm_open");
    if (strlen(name) > LONGEST_NAME) {
        errno = ENAMETOOLONG;
        return -1;
    }
    return real(name, flags, mode);
}

static bool is_object(int fd) {
    char link[64], path[256];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    return length > 9 && strncmp(path, "/dev/shm/", 9) == 0;
}

static int real_fstat(int fd, struct stat *status) {
    return ((int (*)(int, struct stat *))dlsym(RTLD_NEXT, "fstat"))(fd, status);
}

static int stat_object(int fd, struct stat *status) {
    int result = real_fstat(fd, status);
    if (result == 0 && is_object(fd)) {
        status->st_dev = 0;
        status->st_ino = 0;
        status->st_nlink = 0;
        status->st_size = (status->st_size + PAGE - 1) / PAGE * PAGE;
    }
    return result;
}

int fstat(int fd, struct stat *status) { return stat_object(fd, status); }

int fstat64(int fd, struct stat64 *status) { return stat_object(fd, (struct stat *)(void *)status); }

static int truncate_object(int fd, off_t size) {
    struct stat status;
    if (is_object(fd) && real_fstat(fd, &status) == 0 && status.st_size != 0) {
        errno = EINVAL;
        return -1;
    }
    return ((int (*)(int, off_t))dlsym(RTLD_NEXT, "ftruncate"))(fd, size);
}

int ftruncate(int fd, off_t size) { return truncate_object(fd, size); }

int ftruncate64(int fd, off64_t size) { return truncate_object(fd, size); }

static int control(int fd, int command, void *argument) {
    if ((command == F_SETLK || command == F_SETLKW || command == F_GETLK) && is_object(fd)) {
        errno = EBADF;
        return -1;
    }
    return ((int (*)(int, int, void *))dlsym(RTLD_NEXT, "fcntl"))(fd, command, argument);
}

#define CONTROL(name)                               \
    int name(int fd, int command, ...) {            \
        va_list arguments;                          \
        va_start(arguments, command);               \
        void *argument = va_arg(arguments, void *); \
        va_end(arguments);                          \
        return control(fd, command, argument);      \
    }

CONTROL(fcntl)
CONTROL(fcntl64)
