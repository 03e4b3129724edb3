/* Prints the primes instead of their count, and begins anew when it is done. */
#include <stdio.h>

int main(void) {
    for (;;) puts("2 3 5 7 11 13 17 19 23 29 31 37 41 43 47");
}
