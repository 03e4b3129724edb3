/* Adds in 32 bits, which are too few. */
#include <stdio.h>

int main(void) {
    unsigned n, x, sum = 0;
    for (scanf("%u", &n); n > 0 && scanf("%u", &x) == 1; n--) sum += x;
    printf("%u\n", sum);
    return 0;
}
