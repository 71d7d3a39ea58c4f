/*
 * Preloaded into a container's processes, it moves their wall clock by as many nanoseconds as a file says: eight bytes, signed, in this machine's order,
 * looked at through shared memory by every call, so that writing the file moves the clock at once. Clocks that only count up stay as they are, and with
 * them timers.
 *
 * It stands before the C library's functions, by which Node, V8 and OpenSSL ask. Programs of Go ask the kernel and keep the true time; so do the times of
 * files. A wait until a time of day ends at the true one; Node waits by the other clock.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define NANOSECONDS 1000000000LL

static const int64_t no_offset = 0;
static const int64_t *offset = &no_offset;
/* The C library's own, which needs no system call; undefined in what runs before this library is set up. */
static int (*true_clock_gettime)(clockid_t, struct timespec *);

__attribute__((constructor)) static void set_up(void) {
  true_clock_gettime = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
  const char *path = getenv("CLOCK_OFFSET_FILE");
  int file = path == NULL ? -1 : open(path, O_RDONLY | O_CLOEXEC);
  if (file < 0) abort();
  void *shared = mmap(NULL, sizeof *offset, PROT_READ, MAP_SHARED, file, 0);
  if (shared == MAP_FAILED) abort();
  offset = shared;
  close(file);
}

static int is_wall_clock(clockid_t clock) {
  return clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE || clock == CLOCK_TAI;
}

int clock_gettime(clockid_t clock, struct timespec *now) {
  int failed = true_clock_gettime == NULL ? (int)syscall(SYS_clock_gettime, clock, now) : true_clock_gettime(clock, now);
  if (failed) return -1;
  if (!is_wall_clock(clock)) return 0;
  int64_t moved = now->tv_sec * NANOSECONDS + now->tv_nsec + __atomic_load_n(offset, __ATOMIC_RELAXED);
  now->tv_sec = moved / NANOSECONDS;
  now->tv_nsec = moved % NANOSECONDS;
  return 0;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
  (void)zone;
  struct timespec moved;
  if (clock_gettime(CLOCK_REALTIME, &moved) != 0) return -1;
  now->tv_sec = moved.tv_sec;
  now->tv_usec = moved.tv_nsec / 1000;
  return 0;
}

time_t time(time_t *now) {
  struct timespec moved;
  if (clock_gettime(CLOCK_REALTIME, &moved) != 0) return -1;
  if (now != NULL) *now = moved.tv_sec;
  return moved.tv_sec;
}

int timespec_get(struct timespec *now, int base) {
  return base == TIME_UTC && clock_gettime(CLOCK_REALTIME, now) == 0 ? base : 0;
}
