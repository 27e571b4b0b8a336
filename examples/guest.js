// A script for `cloister sandbox run examples/guest.js --lend log,clock`.
const began = lent.clock();
const primes = [];
for (let n = 2; primes.length < 1_000; n++) {
  if (primes.every(prime => n % prime !== 0)) primes.push(n);
}
lent.log(`the thousandth prime after ${lent.clock() - began} ms`);
primes.at(-1);
