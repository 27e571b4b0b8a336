// Feeds corrupted programs to the verifier and the executor, for a sanitised build: executor-sanitize.test.ts compiles
// it with AddressSanitizer and UndefinedBehaviorSanitizer and runs it.
//
//   executor-fuzz RUNS SEED NAME.program NAME.model [NAME.program NAME.model ...]
//
// Each run corrupts one program, loads it on one row of the dispatch table, and, when it is not refused, runs it twice,
// over workspaces filled with different bytes and in different orders that its schedule allows: equal results show that
// nothing unwritten was read, and nothing too early. Prints one line of JSON.
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "../../native/executor/executor.h"

using namespace cloister;

namespace {

uint64_t state = 1;

uint32_t next() {  // xorshift64*, the upper half
  state ^= state >> 12;
  state ^= state << 25;
  state ^= state >> 27;
  return static_cast<uint32_t>((state * 2685821657736338717ull) >> 32);
}

std::vector<uint8_t> read_file(const char* path) {
  std::FILE* file = std::fopen(path, "rb");
  if (file == nullptr) std::abort();
  std::vector<uint8_t> bytes;
  uint8_t block[4096];
  for (size_t count; (count = std::fread(block, 1, sizeof block, file)) > 0;)
    bytes.insert(bytes.end(), block, block + count);
  std::fclose(file);
  return bytes;
}

uint32_t word_at(const std::vector<uint8_t>& bytes, size_t at) {
  uint32_t word;
  std::memcpy(&word, bytes.data() + at, 4);
  return word;
}

void put_word(std::vector<uint8_t>* bytes, size_t at, uint32_t word) { std::memcpy(bytes->data() + at, &word, 4); }

// One corruption: of a bit, of a word, or of the length.
void corrupt(std::vector<uint8_t>* bytes) {
  const size_t words = bytes->size() / 4;
  if (words == 0) return;
  const size_t at = next() % words * 4;
  const uint32_t was = word_at(*bytes, at);
  const uint32_t interesting[] = {0,    1,        2,        3,          4,          8,          64,        255,
                                  1024, 1u << 20, 1u << 30, 0x7fffffff, 0x80000000, 0xffffffff, 0x7fc00000};
  switch (next() % 8) {
    case 0: put_word(bytes, at, was ^ (1u << (next() % 32))); break;
    case 1: put_word(bytes, at, was + 1); break;
    case 2: put_word(bytes, at, was - 1); break;
    case 3: put_word(bytes, at, was + 64 * (next() % 9) - 256); break;
    case 4: put_word(bytes, at, interesting[next() % (sizeof interesting / sizeof interesting[0])]); break;
    case 5: put_word(bytes, at, word_at(*bytes, next() % words * 4)); break;
    case 6: {  // two words change places
      const size_t other = next() % words * 4;
      put_word(bytes, at, word_at(*bytes, other));
      put_word(bytes, other, was);
      break;
    }
    case 7:
      if (next() % 16 == 0)
        bytes->resize(next() % (bytes->size() + 1));
      else
        put_word(bytes, at, next() % 100);
      break;
  }
}

struct Outcome {
  std::string code;
  std::vector<uint8_t> output;
};

Outcome attempt(const std::vector<uint8_t>& program, const std::vector<uint8_t>& model, const Kernels& row,
                const ExecutorOptions& options) {
  constexpr uint64_t kLimit = 1u << 20, kWork = 1u << 23;
  // Exact copies on the heap, so that one byte too far is seen.
  Verdict verdict;
  const ModelReader reader = [&model](uint64_t offset, uint64_t length, uint8_t* to) {
    std::memcpy(to, model.data() + offset, length);
    return true;
  };
  const std::shared_ptr<Executor> executor =
      Executor::load(program.data(), program.size(), reader, model.size(), kLimit, kWork, row, options, &verdict);
  if (!verdict.ok()) return {verdict.code, {}};
  std::vector<std::vector<uint8_t>> inputs, outputs;
  std::vector<const uint8_t*> from;
  std::vector<uint8_t*> to;
  for (const Port& port : executor->program().inputs) {
    std::vector<uint8_t> bytes(port.length);
    for (size_t i = 0; i + 4 <= bytes.size(); i += 4) {
      const float value = std::sin(static_cast<float>(i));
      const uint32_t index = i / 4 % 3;  // inside what the seeds take indices of
      std::memcpy(bytes.data() + i, port.dtype == kI32 ? static_cast<const void*>(&index) : &value, 4);
    }
    inputs.push_back(std::move(bytes));
  }
  for (const Port& port : executor->program().outputs) outputs.emplace_back(port.length);
  for (const auto& bytes : inputs) from.push_back(bytes.data());
  for (auto& bytes : outputs) to.push_back(bytes.data());
  if (!executor->run(from.data(), to.data())) return {"INPUT_MISMATCH", {}};
  Outcome outcome;
  for (const auto& bytes : outputs) outcome.output.insert(outcome.output.end(), bytes.begin(), bytes.end());
  return outcome;
}

}  // namespace

int main(int count, char** arguments) {
  if (count < 5 || count % 2 == 0) return 2;
  const long runs = std::atol(arguments[1]);
  state = std::strtoull(arguments[2], nullptr, 10) * 2 + 1;
  std::vector<std::vector<uint8_t>> programs, models;
  for (int i = 3; i < count; i += 2) {
    programs.push_back(read_file(arguments[i]));
    models.push_back(read_file(arguments[i + 1]));
  }
  const Kernels* const* rows;
  const size_t row_count = supported_kernels(&rows);
  // Refusals include the handful of corruptions that only the memory limit stops.
  long refused = 0, harmless = 0;
  for (long i = 0; i < runs + static_cast<long>(programs.size() * row_count); i++) {
    const bool intact = i >= runs;
    const size_t which = intact ? (i - runs) / row_count : next() % programs.size();
    const Kernels& row = *rows[intact ? (i - runs) % row_count : next() % row_count];
    std::vector<uint8_t> program = programs[which];
    if (!intact) {
      for (uint32_t n = 1 + next() % 3; n > 0; n--) corrupt(&program);
    }
    const Outcome first = attempt(program, models[which], row, {.threads = 1, .fill = 0x00});
    if (!first.code.empty()) {
      if (intact) return std::fprintf(stderr, "intact program %zu refused: %s\n", which, first.code.c_str()), 1;
      refused++;
      continue;
    }
    const Outcome second = attempt(program, models[which], row,
                                   {.threads = 1, .fill = 0xff, .shuffle = next()});
    if (first.output != second.output) {
      std::FILE* file = std::fopen("leak.program", "wb");
      std::fwrite(program.data(), 1, program.size(), file);
      std::fclose(file);
      return std::fprintf(stderr, "run %ld, program %zu, row %s: the result depends on stale bytes or on the order\n", i, which,
                          row.isa),
             1;
    }
    if (!intact) harmless++;
  }
  std::printf("{\"runs\":%ld,\"refused\":%ld,\"harmless\":%ld}\n", runs, refused, harmless);
  return 0;
}
