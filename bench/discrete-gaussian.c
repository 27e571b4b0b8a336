/*
 * The discrete Gaussian sampler of Canonne, Kamath & Steinke (2020) in C: the same algorithm, trials and bits as
 * privacy/dp/noise/discrete-gaussian.ts in numbers. Prints nanoseconds of CPU time per sample, and the mean of the squares.
 *
 *     discrete-gaussian N D COUNT
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <time.h>

static uint8_t block[4096];
static size_t at = sizeof block;
static uint32_t word, held;

static uint32_t take(uint32_t count) {
  while (held < count) {
    if (at == sizeof block) {
      size_t filled = 0;
      while (filled < sizeof block) {
        ssize_t got = getrandom(block + filled, sizeof block - filled, 0);
        if (got < 0) exit(1);
        filled += (size_t)got;
      }
      at = 0;
    }
    word = (word << 8) | block[at];
    block[at++] = 0;
    held += 8;
  }
  held -= count;
  uint32_t bits = word >> held;
  word &= (1u << held) - 1;
  return bits;
}

static int64_t uniform(int64_t n) {
  uint32_t count = n == 1 ? 0 : 64 - (uint32_t)__builtin_clzll((uint64_t)(n - 1));
  for (;;) {
    int64_t value = 0;
    for (uint32_t left = count; left > 0;) {
      uint32_t piece = left < 24 ? left : 24;
      value = (value << piece) | take(piece);
      left -= piece;
    }
    if (value < n) return value;
  }
}

static int bernoulli_exp(int64_t u, int64_t t) {
  int64_t k = 1;
  while (uniform(k) == 0 && uniform(t) < u) k++;
  return k % 2 == 1;
}

static int bernoulli_exp_one(void) {
  int64_t k = 1;
  while (uniform(k) == 0) k++;
  return k % 2 == 1;
}

static int bernoulli_exp_of(int64_t n, int64_t d) {
  for (int64_t whole = n / d; whole > 0; whole--)
    if (!bernoulli_exp_one()) return 0;
  return bernoulli_exp(n % d, d);
}

static int64_t sample(int64_t n, int64_t d, int64_t t) {
  int64_t scale = 2 * n * d * t * t, step = d * t;
  for (;;) {
    int64_t u = uniform(t);
    if (!bernoulli_exp(u, t)) continue;
    int64_t v = 0;
    while (bernoulli_exp_one()) v++;
    int negative = take(1) == 1;
    int64_t y = u + t * v;
    if (negative && y == 0) continue;
    int64_t a = y * step - n;
    if (bernoulli_exp_of(a * a, scale)) return negative ? -y : y;
  }
}

int main(int argc, char **argv) {
  if (argc != 4) return 2;
  int64_t n = atoll(argv[1]), d = atoll(argv[2]), count = atoll(argv[3]), t = 1;
  while (t * t <= n / d) t++;
  struct timespec from, to;
  double squares = 0;
  for (int i = 0; i < 10000; i++) sample(n, d, t);
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &from);
  for (int64_t i = 0; i < count; i++) {
    int64_t y = sample(n, d, t);
    squares += (double)(y * y);
  }
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &to);
  double ns = 1e9 * (double)(to.tv_sec - from.tv_sec) + (double)(to.tv_nsec - from.tv_nsec);
  printf("%.3f %.6f\n", ns / (double)count, squares / (double)count);
  return 0;
}
