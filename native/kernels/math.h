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
// times it is exact): e^v = 2^n (1 + r + r^2 q(r)). Polynomial: 3e-9 relative on |r| <= 0.3475.
inline F exp_within(F x) {
  const F n = round_even(x * broadcast(1.44269504f));
  F r = fma(n, broadcast(-0.693145752f), x);
  r = fma(n, broadcast(-1.42860677e-6f), r);
  const F q = horner(r, broadcast(1.381869894e-03f), 8.368715644e-03f, 4.166829214e-02f, 1.666652113e-01f,
      4.999999404e-01f);
  return scale(broadcast(1) + fma(r * r, q, r), n);
}

// Beyond these bounds everything is infinite or rounds to zero; a NaN is the second operand of both, and stays one.
inline F exp_of(F v) { return exp_within(min_second(broadcast(89.0f), max_second(broadcast(-104.5f), v))); }
// The same for v <= 0.
inline F exp_below(F v) { return exp_within(max_second(broadcast(-104.5f), v)); }

// ln v. v = 2^e (1 + f) with 1 + f in [sqrt(1/2), sqrt(2)): ln v = e ln 2 + f - f^2/2 + f^3 q(f). Polynomial: 8e-10
// relative.
inline F log_of(F v) {
  const I tiny = (I)(v < broadcast(1.17549435e-38f));
  const F x = tiny ? v * broadcast(8388608.0f) : v;  // denormals: 2^23 makes them normal
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
  value = v == infinity ? v : value;
  value = v == broadcast(0) ? -infinity : value;
  // Neither of a negative number nor of a NaN.
  return v >= broadcast(0) ? value : broadcast(__builtin_nanf(""));
}

// tanh v: v + v^3 q(v^2) below 0.625 (polynomial: 2e-10 relative), else 1 - 2 / (e^(2|v|) + 1) with the sign of v.
inline F tanh_of(F v) {
  const F size = absolute(v), square = v * v;
  const F q = horner(square, broadcast(2.141449833e-03f), -8.178789169e-03f, 2.170290612e-02f, -5.394759029e-02f,
                     1.333321780e-01f, -3.333333135e-01f);
  const F small = fma(v * square, q, v);
  const F large = broadcast(1) - broadcast(2) / (exp_of(size + size) + broadcast(1));
  return copy_sign(size < broadcast(0.625f) ? small : large, v);
}

// 1 / (1 + e^-v). With t = e^-|v|, the larger half is 1 / (1 + t) and the smaller t / (1 + t); the rounding of 1 + t
// and of the quotient is put right by one Newton step, so that the error of t is the only one that grows.
inline F sigmoid_of(F v) {
  const F t = exp_below(-absolute(v)), one = broadcast(1);
  const F sum = one + t;
  const F lost = t - (sum - one);
  F r = one / sum;
  r = fma(r, fma(-r, lost, fma(-r, sum, one)), r);
  return v < broadcast(0) ? t * r : r;
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
  const F large = broadcast(1) - exp_below(-fma(t, p, t));
  return copy_sign(size < broadcast(0.925f) ? small : large, v);
}

// e^v - 1 = 2^n (e^r - 1) + (2^n - 1) with n and r as in exp_of; 2^n - 1 is exact where it matters.
inline F expm1_of(F v) {
  const F x = min_second(broadcast(89.0f), max_second(broadcast(-30.0f), v));  // below: -1
  const F n = round_even(x * broadcast(1.44269504f));
  F r = fma(n, broadcast(-0.693145752f), x);
  r = fma(n, broadcast(-1.42860677e-6f), r);
  const F q = horner(r, broadcast(1.974563056e-04f), 1.393546234e-03f, 8.333564736e-03f, 4.166645929e-02f,
      1.666666567e-01f, 0.5f);
  const F rest = fma(r * r, q, r);
  // 2^128 is no float: one halving less, and one doubling more.
  const F half = scale(broadcast(0.5f), n);
  const F value = fma(half, rest, half - broadcast(0.5f));
  return v == broadcast(0) ? v : value + value;
}

// ln(1 + v) for 0 <= v <= 1: the rounding of 1 + v is put back as the first term of the series.
inline F log1p_of(F v) {
  const F sum = broadcast(1) + v, lost = v - (sum - broadcast(1));
  return log_of(sum) + lost / sum;
}

// v sigmoid(a v); what the rounding of a v loses comes back by the derivative of sigmoid.
inline F swish_of(F v, F a) {
  const F u = a * v, rest = fma(a, v, -u), s = sigmoid_of(u);
  return v * fma(s * rest, broadcast(1) - s, s);
}

// v P(v), P the distribution function of the standard normal. With t = |v|, P(-t) = e^(-t^2/2) g / (t + 3.5), where g is
// a polynomial in (t - 3.5) / (t + 3.5) (2.4e-8 relative up to t = 14.5, beyond which P(-t) rounds to zero). The square
// is kept in two parts.
inline F gelu_of(F v) {
  const F t = min_second(broadcast(14.5f), absolute(v));
  const F square = t * t, rest = fma(t, t, -square);
  const F power = exp_below(square * broadcast(-0.5f));
  const F r = broadcast(1) / (t + broadcast(3.5f)), y = (t - broadcast(3.5f)) * r;
  const F g = horner(y, broadcast(9.443544695e-05f), 4.061796062e-04f, -4.733428359e-04f, -3.155598883e-03f,
      6.483577192e-03f, 1.739894040e-02f, -1.160513684e-01f, 3.154259324e-01f, -5.655618310e-01f, 7.444160581e-01f);
  const F rough = t * power * (g * r);  // in this order nothing is denormal before the result is
  const F tail = fma(rough, rest * broadcast(-0.5f), rough);
  const F value = v > broadcast(0) ? v - tail : -tail;
  return v == v ? value : v;
}

}  // namespace
}  // namespace cloister
