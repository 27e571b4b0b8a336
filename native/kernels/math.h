// Elementary functions on vectors, each within 2 ulp of the exact value over all floats, with NaN, infinities, signed
// zeros and denormals as in IEEE 754. Polynomials are weighted least-squares fits at Chebyshev nodes, reweighted
// towards minimax, with each coefficient rounded to float before the next is fitted; the stated error is that of the
// polynomial alone.
#pragma once
#include "simd.h"

namespace cloister {
namespace {

inline F horner(F, F sum) { return sum; }
template <typename... Rest>
inline F horner(F x, F sum, float next, Rest... rest) {
  return horner(x, fma(sum, x, broadcast(next)), rest...);
}

// e^v. With n = round(v / ln 2) and r = v - n ln 2 (ln 2 in two parts, the first with 9 zero bits at its end, so that n
// times it is exact): e^v = 2^n (1 + r + r^2 q(r)). Polynomial: 1e-10 relative on |r| <= 0.3475.
inline F exp_of(F v) {
  // Beyond these everything is infinite or rounds to zero; a NaN is the second operand of both.
  const F x = min_second(broadcast(89.0f), max_second(broadcast(-104.5f), v));
  const F n = round_even(x * broadcast(1.44269504f));
  F r = fma(n, broadcast(-0.693145752f), x);
  r = fma(n, broadcast(-1.42860677e-6f), r);
  const F q = horner(r, broadcast(1.974563056e-04f), 1.393546234e-03f, 8.333564736e-03f, 4.166645929e-02f,
      1.666666567e-01f, 0.5f);
  const F value = scale(broadcast(1) + fma(r * r, q, r), n);
  return select(is_nan(v), v, value);
}

// ln v. v = 2^e (1 + f) with 1 + f in [sqrt(1/2), sqrt(2)): ln v = e ln 2 + f - f^2/2 + f^3 q(f). Polynomial: 8e-10
// relative.
inline F log_of(F v) {
  const I tiny = (I)(v < broadcast(1.17549435e-38f));
  const F x = select(tiny, v * broadcast(8388608.0f), v);  // denormals: 2^23 makes them normal
  const I shifted = (I)((U)bits(x) - 0x3f3504f3u);         // sqrt(1/2)
  const F e = to_float((shifted >> 23) - (tiny & each(23)));
  const F f = from_bits((shifted & 0x7fffff) + 0x3f3504f3) - broadcast(1);
  const F q = horner(f, broadcast(6.750956178e-02f), -1.167144924e-01f, 1.188356802e-01f, -1.240603179e-01f,
                     1.422032714e-01f, -1.666799635e-01f, 2.000207305e-01f, -2.500000894e-01f, 3.333331347e-01f);
  const F square = f * f;
  F value = fma(square * f, q, e * broadcast(-2.12194440e-4f));
  value = fma(square, broadcast(-0.5f), value);
  value = fma(e, broadcast(0.693359375f), f + value);
  const F infinity = broadcast(__builtin_inff());
  value = select((I)(v == infinity), v, value);
  value = select((I)(v == broadcast(0)), -infinity, value);
  return select((I)(v < broadcast(0)) | is_nan(v), broadcast(__builtin_nanf("")), value);
}

// tanh v: v + v^3 q(v^2) below 0.625 (polynomial: 2e-10 relative), else 1 - 2 / (e^(2|v|) + 1) with the sign of v.
inline F tanh_of(F v) {
  const F size = absolute(v), square = v * v;
  const F q = horner(square, broadcast(2.141449833e-03f), -8.178789169e-03f, 2.170290612e-02f, -5.394759029e-02f,
                     1.333321780e-01f, -3.333333135e-01f);
  const F small = fma(v * square, q, v);
  const F large = broadcast(1) - broadcast(2) / (exp_of(size + size) + broadcast(1));
  return copy_sign(select((I)(size < broadcast(0.625f)), small, large), v);
}

// 1 / (1 + e^-v). With t = e^-|v|, the larger half is 1 / (1 + t) and the smaller t / (1 + t); the rounding of 1 + t
// and of the quotient is put right by one Newton step, so that the error of t is the only one that grows.
inline F sigmoid_of(F v) {
  const F t = exp_of(-absolute(v)), one = broadcast(1);
  const F sum = one + t;
  const F lost = t - (sum - one);
  F r = one / sum;
  r = fma(r, fma(-r, lost, fma(-r, sum, one)), r);
  return select((I)(v < broadcast(0)), t * r, r);
}

// erf v: v + v q(v^2) below 0.925 (polynomial: 9e-10 relative), else 1 - e^-(t + t p(t)) with t = |v| (7e-10 of the
// result).
inline F erf_of(F v) {
  const F size = absolute(v), square = v * v;
  const F q = horner(square, broadcast(7.996649219e-05f), -8.049769676e-04f, 5.192405079e-03f, -2.685573138e-02f,
                     1.128362566e-01f, -3.761262894e-01f, 1.283791661e-01f);
  const F small = fma(v, q, v);
  const F t = min_second(broadcast(4), size);  // 1 - erf(4) is under a quarter of an ulp
  const F p = horner(t, broadcast(1.152186087e-05f), -3.256496566e-04f, 3.653758438e-03f, -2.378535084e-02f,
                     1.062631682e-01f, 6.351358891e-01f, 1.286521703e-01f);
  const F large = broadcast(1) - exp_of(-fma(t, p, t));
  return copy_sign(select((I)(size < broadcast(0.925f)), small, large), v);
}

}  // namespace
}  // namespace cloister
