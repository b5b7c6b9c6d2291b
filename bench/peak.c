/* What one core of this processor can do: its clock, and its multiply-adds.
 *
 * Build: gcc -O3 -march=native -ffast-math, as bench/roofline.py does.
 */
#include <stdint.h>

/* n additions, each of which needs the one before: a cycle each. */
int64_t chain(int64_t n) {
    int64_t x = 0;
    for (int64_t i = 0; i < n; i += 16) {
        #pragma GCC unroll 16
        for (int j = 0; j < 16; j++) {
            x += i;
            __asm__ volatile("" : "+r"(x)); /* so that they are not added up beforehand */
        }
    }
    return x;
}

typedef double vector __attribute__((vector_size(64)));
enum { CHAINS = 12 };

/* 12 n multiply-adds of eight float64, which do not wait for each other. */
double multiply_adds(int64_t n) {
    vector a[CHAINS], m = {0}, c = {0}, sum = {0};
    for (int k = 0; k < CHAINS; k++) a[k] = m + (double)k;
    m += 0.999;
    c += 0.123;
    for (int64_t i = 0; i < n; i++) {
        #pragma GCC unroll 12
        for (int k = 0; k < CHAINS; k++) {
            a[k] = a[k] * m + c;
        }
    }
    for (int k = 0; k < CHAINS; k++) sum += a[k];
    return sum[0];
}
