// What one core of this machine can do at most, as a table of `name value` lines: multiply-adds on registers, dot products of bytes
// on registers, copies of memory. Built by peak.ts with -O3 -march=native. Best of many short runs, so that a neighbour costs little.
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#if defined(__AVX512F__)
#define WIDTH 64
#elif defined(__AVX__)
#define WIDTH 32
#else
#define WIDTH 16
#endif

typedef float vec __attribute__((vector_size(WIDTH)));

static double seconds(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec + 1e-9 * t.tv_nsec;
}

// Twelve chains hide the latency of a multiply-add on every core that has two units of four to five cycles. Where the instruction is
// not written out, the compiler may keep some chains in memory, and the peak comes out too low.
enum { CHAINS = 12, STEPS = 1 << 16, ROUNDS = 400 };

#define TWELVE(op) op(0) op(1) op(2) op(3) op(4) op(5) op(6) op(7) op(8) op(9) op(10) op(11)
#define CLOBBERED \
  "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm14", "xmm15"

__attribute__((noinline)) static float multiply_add(void) {
#if defined(__AVX512F__)
#define ZERO(n) "vpxor %%xmm" #n ", %%xmm" #n ", %%xmm" #n "\n\t"
#define FMA(n) "vfmadd231ps %%zmm14, %%zmm15, %%zmm" #n "\n\t"
#elif defined(__FMA__)
#define ZERO(n) "vpxor %%xmm" #n ", %%xmm" #n ", %%xmm" #n "\n\t"
#define FMA(n) "vfmadd231ps %%ymm14, %%ymm15, %%ymm" #n "\n\t"
#endif
#ifdef FMA
  __asm__ volatile(TWELVE(ZERO) ZERO(14) ZERO(15)::: CLOBBERED);
  for (int step = 0; step < STEPS; step++) __asm__ volatile(TWELVE(FMA)::: CLOBBERED);
  return 0;
#else
  vec c0 = {0}, c1 = {0}, c2 = {0}, c3 = {0}, c4 = {0}, c5 = {0}, c6 = {0}, c7 = {0}, c8 = {0}, c9 = {0}, c10 = {0}, c11 = {0};
  vec a = c0 + 0.5f, b = c0 + 1.0f;
  __asm__ volatile("" ::: "memory");
#define STEP(n) c##n = c##n * a + b;
  for (int step = 0; step < STEPS; step++) {
    TWELVE(STEP)
  }
  vec sum = c0 + c1 + c2 + c3 + c4 + c5 + c6 + c7 + c8 + c9 + c10 + c11;
  return sum[0];
#endif
}

#if defined(__AVX512VNNI__)
#define HAS_DOT 1
__attribute__((noinline)) static void dot_bytes(void) {
#define DOT(n) "vpdpbusd %%zmm14, %%zmm15, %%zmm" #n "\n\t"
  for (int step = 0; step < STEPS; step++) __asm__ volatile(TWELVE(DOT)::: CLOBBERED);
}
#endif

int main(void) {
  double best = 1e9;
  float kept = 0;
  for (int round = 0; round < ROUNDS; round++) {
    double start = seconds();
    kept += multiply_add();
    double took = seconds() - start;
    if (took < best) best = took;
  }
  printf("fmaGflops %.3f\n", 2.0 * (WIDTH / 4) * CHAINS * STEPS / best / 1e9);
#ifdef HAS_DOT
  best = 1e9;
  for (int round = 0; round < ROUNDS; round++) {
    double start = seconds();
    dot_bytes();
    double took = seconds() - start;
    if (took < best) best = took;
  }
  printf("dotGops %.3f\n", 2.0 * 64 * CHAINS * STEPS / best / 1e9);
#endif
  const size_t length = 64u << 20;
  char* from = malloc(length);
  char* to = malloc(length);
  if (from == NULL || to == NULL) return 1;
  memset(from, 1, length);
  memset(to, 2, length);
  best = 1e9;
  for (int round = 0; round < 20; round++) {
    double start = seconds();
    memcpy(to, from, length);
    double took = seconds() - start;
    kept += to[(size_t)round * 4099];
    if (took < best) best = took;
  }
  printf("copyGbytes %.3f\n", 2.0 * length / best / 1e9);
  return kept == 0.5f;
}
