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

// e^x as 2^n (1 + m), where 1 + m is not rounded yet. With n = round(x / ln 2) and r = x - n ln 2 (ln 2 in two parts, the
// first with 9 zero bits at its end, so that n times it is exact): m = r + r^2 q(r). Polynomial: 3e-9 relative on
// |r| <= 0.3475.
struct Power {
  F n, r, q, m;
};
constexpr float kLn2 = 0.693145752f, kLn2Rest = 1.42860677e-6f;

inline F halvings(F x) { return round_even(x * broadcast(1.44269504f)); }
inline Power power_from(F n, F r) {
  const F q = horner(r, broadcast(1.381869894e-03f), 8.368715644e-03f, 4.166829214e-02f, 1.666652113e-01f,
      4.999999404e-01f);
  return {n, r, q, fma(r * r, q, r)};
}
inline Power power_of(F x) {
  const F n = halvings(x);
  return power_from(n, fma(n, broadcast(-kLn2Rest), fma(n, broadcast(-kLn2), x)));
}
// The same of x + rest, where rest is what the rounding of x lost.
inline Power power_of(F x, F rest) {
  const F n = halvings(x);
  return power_from(n, fma(n, broadcast(-kLn2Rest), rest) + fma(n, broadcast(-kLn2), x));
}

// e^x.
inline F exp_within(F x) {
  const Power e = power_of(x);
  return scale(broadcast(1) + e.m, e.n);
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

// e^v - 1 for v <= 0: 2^n (e^r - 1) + (2^n - 1) with n and r as in power_of; 2^n - 1 is exact where it matters.
inline F expm1_below(F v) {
  const F x = max_second(broadcast(-30.0f), v), n = halvings(x);  // below: -1
  const F r = fma(n, broadcast(-kLn2Rest), fma(n, broadcast(-kLn2), x));
  const F q = horner(r, broadcast(1.974563056e-04f), 1.393546234e-03f, 8.333564736e-03f, 4.166645929e-02f,
      1.666666567e-01f, 0.5f);
  const F power = scale(broadcast(1), n);
  const F value = fma(power, fma(r * r, q, r), power - broadcast(1));
  return v == broadcast(0) ? v : value;
}

// ln(1 + e^v). With t = e^-|v|: ln(1 + t) = t + t^2 q(t) (polynomial: 2e-10 relative), and v more where v is above 0.
inline F softplus_of(F v) {
  const F t = exp_below(-absolute(v));
  const F q = horner(t, broadcast(-1.230503549e-03f), 8.816656657e-03f, -2.957477793e-02f, 6.325159967e-02f,
      -1.006584242e-01f, 1.339812577e-01f, -1.644438058e-01f, 1.996385753e-01f, -2.499650419e-01f, 3.333316147e-01f,
      -4.999999702e-01f);
  return max_second(broadcast(0), v) + fma(t * t, q, t);
}

// Beyond these bounds v e^x and the like are zero: what they multiply counts as no more, so that nothing infinite meets it.
constexpr float kFar = 170, kLarge = 1e27f;

// v / (1 + e^-x), where |x| is `size` and what its rounding lost. With t = e^-|x| it is w + w p, where w is v and
// p = -t / (1 + t), or, lest p be large, w is v / 2 and p = (1 - t) / (1 + t); and t times that where x is below 0; v is then
// at most kLarge in size.
inline F gate(F v, I below, F size, F lost) {
  const Power e = power_of(-size, -lost);
  const F t = scale(broadcast(1) + e.m, e.n);
  const I small = (I)(t < broadcast(0.33f));
  const F p = (small ? -t : broadcast(1) - t) / (broadcast(1) + t), u = v * (small ? broadcast(1) : broadcast(0.5f));
  const F w = below ? fma(u, e.m, u) : u, most = broadcast(3.40282347e38f);
  // An infinity times a p of 0 is none.
  return copy_sign(scale(fma(clip(w, -most, most), p, w), below ? e.n : broadcast(0)), v);
}

// v sigmoid(a v).
inline F swish_of(F v, F a) {
  const F x = a * v, size = min_second(broadcast(kFar), absolute(x));
  const F lost = fma(absolute(a), absolute(v), -size);
  const I below = (I)(x < broadcast(0));
  const F bounded = below ? clip(v, broadcast(-kLarge), broadcast(kLarge)) : v;
  return gate(bounded, below, size, size < broadcast(kFar) ? lost : broadcast(0));
}

// v (1 + tanh(sqrt(2 / pi) (v + 0.044715 v^3))) / 2, which is v sigmoid(x) with x = v (a + b v^2). The first part of a has
// so few bits that what the rounding of a + b v^2 lost is found exactly.
inline F gelu_tanh_of(F v) {
  const F a = broadcast(1.595768929f), b = broadcast(0.0713548139f);
  const F a_rest = broadcast(1.93077890e-7f), b_rest = broadcast(2.39883240e-9f);
  const F t = min_second(broadcast(12.7f), absolute(v)), square = t * t;
  const F p = fma(b, square, a), x = t * p;
  const F lost = fma(b, square, a - p) + fma(fma(t, t, -square), b, fma(square, b_rest, a_rest));
  return gate(max_second(broadcast(-kLarge), v), (I)(v < broadcast(0)), x, fma(t, lost, fma(t, p, -x)));
}

// v tanh(ln(1 + e^v)). With e = e^v and h = e + e^2 / 2 it is w + w p, where w is v / 2 and p = (h - 1) / (h + 1). Below 0 it is e
// times that with p = (1 - e^2 / 2) / (h + 1), or, lest p be large, with w = v and p = -(e + e^2) / 2 / (h + 1).
inline F mish_of(F v) {
  const I below = (I)(v < broadcast(0));
  const Power power = power_of(min_second(broadcast(20), max_second(broadcast(-kFar), v)));  // from 20 on it is v
  const F e = scale(broadcast(1) + power.m, power.n), e_half = e * broadcast(0.5f), h = fma(e_half, e, e);
  const I small = (I)(e < broadcast(0.33f));
  const F top = small ? fma(-e_half, e, -e_half) : (below ? fma(-e_half, e, broadcast(1)) : h - broadcast(1));
  const F p = top / (h + broadcast(1));
  const F u = max_second(broadcast(-kLarge), v) * (small ? broadcast(1) : broadcast(0.5f));
  const F w = below ? fma(u, power.m, u) : u, rest = below ? fma(u, power.m, u - w) : broadcast(-0.0f);
  return copy_sign(scale(w + fma(w, p, rest), below ? power.n : broadcast(0)), v);
}

// v P(v), P the distribution function of the standard normal. With t = |v|, r = 1 / (t + c) and q = 2 c r, P(-t) is
// e^(-t^2/2) g q, where g is a polynomial in 1 - q (4e-9 relative up to t = 14.5, beyond which P(-t) rounds to zero). A
// rounded q belongs to another t, which a term of the exponent brings back: the derivative of ln(g q) is near -r (0.7 + 10.8 r).
// Products are kept in two parts up to the last.
inline F gelu_of(F v) {
  const F c = broadcast(4.234375f), twice = broadcast(8.46875f);
  const F t = min_second(broadcast(14.5f), absolute(v));
  const F sum = t + c, r = broadcast(1) / sum, q = twice * r, y = broadcast(1) - q;
  const F shift = fma(fma(-sum, q, twice), broadcast(0.118081181f), (sum - c - t) * r);  // relative to t + c
  const F half = t * broadcast(-0.5f), x = half * t;
  const Power e = power_of(x, fma(shift, fma(broadcast(10.8f), r, broadcast(0.7f)), fma(half, t, -x)));
  const F first = broadcast(8.965974301e-02f);
  const F p = horner(y, broadcast(-2.703568862e-05f), -3.842830847e-05f, 2.556600957e-04f, -1.170035757e-04f,
      -2.189391525e-03f, 9.880513884e-03f, -2.579227276e-02f, 4.916555807e-02f, -7.369657606e-02f);
  const F g = fma(y, p, first), g_rest = fma(y, p, first - g);
  const F h = g * q, h_rest = fma(g_rest, q, fma(g, q, -h));
  const F f = t * h, f_rest = fma(t, h_rest, fma(t, h, -f));
  const F more = fma(f, e.r, fma(f * e.q, e.r * e.r, f_rest));  // f m, whose m is not rounded
  return max_second(broadcast(-0.0f), v) - scale(f + more, e.n);
}

}  // namespace
}  // namespace cloister
