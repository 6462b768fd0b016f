/* Moves the wall clock of a program: gcc -shared -fPIC -o moved_clock.so moved_clock.c, then LD_PRELOAD.
 *
 * The file that MOVED_CLOCK names holds the seconds to add; it is read again each second. Clocks that only measure how
 * long something takes stay as they are, so that waits take as long as they say (libfaketime moves these too, and then
 * Python's waits hang or fail). */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static long seconds_added(void) {
    static long added, read_at = -1;
    struct timespec now;
    syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &now);
    const char *name = getenv("MOVED_CLOCK");
    if (name && now.tv_sec != read_at) {
        char text[32];
        int file = open(name, O_RDONLY | O_CLOEXEC);
        ssize_t length = file < 0 ? -1 : read(file, text, sizeof text - 1);
        if (file >= 0) close(file);
        if (length > 0) {
            text[length] = 0;
            added = strtol(text, NULL, 10);
            read_at = now.tv_sec;
        }
    }
    return added;
}

int clock_gettime(clockid_t clock, struct timespec *found) {
    int failed = syscall(SYS_clock_gettime, clock, found);
    if (!failed && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) found->tv_sec += seconds_added();
    return failed;
}

int gettimeofday(struct timeval *restrict found, void *restrict zone) {
    int failed = syscall(SYS_gettimeofday, found, zone);
    if (!failed) found->tv_sec += seconds_added();
    return failed;
}

time_t time(time_t *found) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (found) *found = now.tv_sec;
    return now.tv_sec;
}

/* A deadline of the moved clock, which the kernel compares with its own; on a monotonic clock it is a small number. */
int pthread_cond_timedwait(pthread_cond_t *restrict what, pthread_mutex_t *restrict lock,
                           const struct timespec *restrict until) {
    static int (*wait)(pthread_cond_t *, pthread_mutex_t *, const struct timespec *);
    if (!wait) wait = dlvsym(RTLD_NEXT, "pthread_cond_timedwait", "GLIBC_2.3.2");
    struct timespec own = *until;
    if (own.tv_sec > 1000000000) own.tv_sec -= seconds_added();
    return wait(what, lock, &own);
}
