/*
 * Loops of system calls on files with nothing between them, so that what is measured is the file system. Files are called
 * 0000000, 0000001, ... Each loop ends after COUNT files or when SECONDS are over, whichever is first.
 *
 *     file-loop create DIRECTORY COUNT BYTES SYNC SECONDS   open(O_CREAT | O_EXCL), write, with SYNC 1 fsync, close; then all of
 *                                                           them unlinked, which is a loop of its own
 *     file-loop fill DIRECTORY COUNT BYTES                  the same without taking them away again
 *     file-loop stat DIRECTORY COUNT SECONDS                stat, from the first again after the last; until time is over
 *     file-loop pass DIRECTORY COUNT SECONDS                stat, each once
 *     file-loop read DIRECTORY COUNT DIRECT SECONDS         open, read, close, over and over; DIRECT 1: past the page cache
 *     file-loop rename A B COUNT                            rename A to B, B to A, ...; the median time of one
 *
 * Prints `LOOP OPERATIONS NANOSECONDS` for each loop; NANOSECONDS is the time of all of its operations.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { BYTES_MAX = 1 << 20, ALIGNMENT = 4096, CLOCK_EVERY = 16 };

static char *buffer;
static char path[4096];

static void fail(const char *what) {
  fprintf(stderr, "%s %s: %s\n", what, path, strerror(errno));
  exit(1);
}

static long long now_ns(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return time.tv_sec * 1000000000LL + time.tv_nsec;
}

static void name(const char *directory, long index) {
  snprintf(path, sizeof path, "%s/%07ld", directory, index);
}

static void report(const char *loop, long operations, long long started_ns) {
  printf("%s %ld %lld\n", loop, operations, now_ns() - started_ns);
}

/* The clock is cheap, but not beside a stat that the kernel answers. */
static int is_over(long done, long long end_ns) {
  return done % CLOCK_EVERY == 0 && now_ns() >= end_ns;
}

static long create(const char *directory, long count, long bytes, int sync, long long end_ns) {
  long done = 0;
  for (; done < count && !(done > 0 && now_ns() >= end_ns); done++) {
    name(directory, done);
    int file = open(path, O_CREAT | O_EXCL | O_WRONLY, 0644);
    if (file < 0) fail("open");
    if (write(file, buffer, bytes) != bytes) fail("write");
    if (sync && fsync(file) != 0) fail("fsync");
    if (close(file) != 0) fail("close");
  }
  return done;
}

static void unlink_all(const char *directory, long count) {
  for (long index = 0; index < count; index++) {
    name(directory, index);
    if (unlink(path) != 0) fail("unlink");
  }
}

static long stat_all(const char *directory, long count, int again, long long end_ns) {
  struct stat status;
  long done = 0;
  for (; (again || done < count) && !(done > 0 && is_over(done, end_ns)); done++) {
    name(directory, done % count);
    if (stat(path, &status) != 0) fail("stat");
  }
  return done;
}

static long read_all(const char *directory, long count, int direct, long long end_ns) {
  long done = 0;
  for (; !(done > 0 && is_over(done, end_ns)); done++) {
    name(directory, done % count);
    int file = open(path, O_RDONLY | (direct ? O_DIRECT : 0));
    if (file < 0) fail("open");
    if (read(file, buffer, BYTES_MAX) <= 0) fail("read");
    if (close(file) != 0) fail("close");
  }
  return done;
}

static int by_number(const void *a, const void *b) {
  long long first = *(const long long *)a, second = *(const long long *)b;
  return first < second ? -1 : first > second;
}

static long long median_rename_ns(const char *a, const char *b, long count) {
  long long *times = calloc(count, sizeof *times);
  if (times == NULL) fail("calloc");
  for (long index = 0; index < count; index++) {
    long long started_ns = now_ns();
    if (rename(index % 2 == 0 ? a : b, index % 2 == 0 ? b : a) != 0) fail("rename");
    times[index] = now_ns() - started_ns;
  }
  qsort(times, count, sizeof *times, by_number);
  return times[count / 2];
}

static long number(char **words, int count, int index) {
  return index < count ? atol(words[index]) : 0;
}

static long long end_after(char **words, int count, int index) {
  return now_ns() + (long long)(atof(index < count ? words[index] : "0") * 1e9);
}

int main(int words_count, char **words) {
  if (words_count < 4) {
    fprintf(stderr, "file-loop LOOP DIRECTORY ...\n");
    return 2;
  }
  const char *loop = words[1], *directory = words[2];
  long count = number(words, words_count, 3);
  if (posix_memalign((void **)&buffer, ALIGNMENT, BYTES_MAX) != 0) fail("posix_memalign");
  memset(buffer, 'a', BYTES_MAX);
  long long started_ns = now_ns();
  if (strcmp(loop, "create") == 0) {
    long long end_ns = end_after(words, words_count, 6);
    long made = create(directory, count, number(words, words_count, 4), (int)number(words, words_count, 5), end_ns);
    report("create", made, started_ns);
    started_ns = now_ns();
    unlink_all(directory, made);
    report("unlink", made, started_ns);
  } else if (strcmp(loop, "fill") == 0) {
    report("fill", create(directory, count, number(words, words_count, 4), 0, started_ns + 600000000000LL), started_ns);
  } else if (strcmp(loop, "stat") == 0 || strcmp(loop, "pass") == 0) {
    int again = strcmp(loop, "stat") == 0;
    report(loop, stat_all(directory, count, again, end_after(words, words_count, 4)), started_ns);
  } else if (strcmp(loop, "read") == 0) {
    int direct = (int)number(words, words_count, 4);
    report("read", read_all(directory, count, direct, end_after(words, words_count, 5)), started_ns);
  } else if (strcmp(loop, "rename") == 0) {
    /* An even number, so that the first name is there again. */
    count = number(words, words_count, 4) / 2 * 2;
    if (count <= 0) return 2;
    printf("rename 1 %lld\n", median_rename_ns(words[2], words[3], count));
  } else {
    fprintf(stderr, "no loop %s\n", loop);
    return 2;
  }
  return 0;
}
