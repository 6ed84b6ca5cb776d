// What the counting program asks of callgrind, and the loop by whose instructions all counts are divided.
#include "callgrind.h"

void start(void) { CALLGRIND_START_INSTRUMENTATION; }
void zero(void) { CALLGRIND_ZERO_STATS; }
void dump(const char* name) { CALLGRIND_DUMP_STATS_AT(name); }

double turns(long count) {
  double sum = 0;
  for (long i = 0; i < count; ++i) sum += 1.0 / (1.0 + (double)i * sum);
  return sum;
}
