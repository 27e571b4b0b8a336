// Random sizes, offsets and arrays through the checks of openblas.cc into a library that reads and writes all that it is
// told of: for builds with sanitisers. Arguments: the library, how many products, a seed. Prints what came of them.
#include <cstdio>
#include <cstdlib>
#include <random>
#include <vector>

#include "../../native/blas/openblas.h"

using namespace cloister;

int main(int, char** arguments) {
  const OpenedBlas opened = open_blas(arguments[1], 1);
  if (!opened.blas) {
    std::fprintf(stderr, "%s\n", opened.why.c_str());
    return 1;
  }
  std::mt19937_64 random(std::strtoull(arguments[3], nullptr, 10));
  const auto size = [&]() -> double {
    constexpr double kOdd[] = {2147483647, 2147483648, 4294967298, 1e18, 0.5, -1, 0};
    return random() % 40 == 0 ? kOdd[random() % 7] : static_cast<double>(1 + random() % 5);
  };
  const auto offset = [&]() { return size() - 1; };
  long computed = 0, refused = 0;
  for (long i = std::strtol(arguments[2], nullptr, 10); i > 0; i--) {
    // On the heap, of just that length: the sanitiser sees a step beside it.
    std::vector<float> a(random() % 30), b(random() % 30), c(random() % 30);
    const BlasProduct product = {size(), size(),   size(), random() % 2 == 0, random() % 2 == 0, offset(),
                                 size(), offset(), size(), offset(),          size(),            1,
                                 0};
    const char* wrong = multiply(*opened.blas, product, {a.data(), a.size()}, {b.data(), b.size()}, {c.data(), c.size()});
    (wrong ? refused : computed)++;
  }
  std::printf("{\"computed\": %ld, \"refused\": %ld}\n", computed, refused);
}
